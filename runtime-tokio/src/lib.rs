//! groupcache on tokio: a peer-to-peer, read-through cache that a service embeds.
//!
//! Every process of a fleet joins one ring. Each key has one owner; a miss is loaded once for the whole fleet, by its owner, however many
//! callers and nodes ask at once. Values stay as they are until they expire or are removed. There is no cache server to run.
//!
//! This crate is [`Tokio`], the [`Runtime`] that a node runs on, and everything of `groupcache_runtime`. `groupcache-async-std` is the same on
//! async-std, and nodes of both join the same ring.

#![forbid(unsafe_code)]

mod rt;

pub use groupcache_runtime::*;
pub use rt::Tokio;

/// A node of a fleet, on tokio.
pub type Server = groupcache_runtime::Server<Tokio>;

/// A namespace of keys with one origin, on tokio.
pub type Group = groupcache_runtime::Group<Tokio>;

/// Sets a node up, on tokio.
pub type ServerBuilder = groupcache_runtime::ServerBuilder<Tokio>;

/// Sets a group up, on tokio.
pub type GroupBuilder = groupcache_runtime::GroupBuilder<Tokio>;
