//! groupcache on async-std: a peer-to-peer, read-through cache that a service embeds.
//!
//! Every process of a fleet joins one ring. Each key has one owner; a miss is loaded once for the whole fleet, by its owner, however many
//! callers and nodes ask at once. Values stay as they are until they expire or are removed. There is no cache server to run.
//!
//! This crate is [`AsyncStd`], the [`Runtime`] that a node runs on, and everything of `groupcache_runtime`. No tokio runtime is entered; parts of
//! tokio that need none (its channels and IO traits) are among the dependencies. `groupcache-tokio` is the same on tokio, and nodes of both
//! join the same ring.

#![forbid(unsafe_code)]

mod rt;

pub use groupcache_runtime::*;
pub use rt::AsyncStd;
