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

/// A node of a fleet, on async-std.
pub type Server = groupcache_runtime::Server<AsyncStd>;

/// A namespace of keys with one origin, on async-std.
pub type Group = groupcache_runtime::Group<AsyncStd>;

/// Sets a node up, on async-std.
pub type ServerBuilder = groupcache_runtime::ServerBuilder<AsyncStd>;

/// Sets a group up, on async-std.
pub type GroupBuilder = groupcache_runtime::GroupBuilder<AsyncStd>;
