//! The sans-IO heart of groupcache: a peer-to-peer, read-through cache as state machines without clock, IO, thread, lock or ambient randomness.
//!
//! Each key has one owner among the members of a ring; a miss is loaded once for the whole fleet, by its owner, however many callers on however
//! many nodes ask at once. This crate decides *what* happens. An embedder carries it out: with threads, an event loop, an async runtime
//! (`groupcache-tokio`, `groupcache-async-std`), or a simulator.
//!
//! # The contract
//!
//! 1. **Call in, effects out.** Every call that can emit appends to an [`Effects`] buffer that the caller owns and reuses. There is no output queue
//!    to forget: when the call has returned, the buffer holds everything, and nothing else remembers it.
//! 2. **Carry it out, then answer.** Each [`Intent`] names the `handle_*` call that answers it. Answers may come in any order, late, twice or never:
//!    what is late, double or unknown is [`Disposition::Stale`], and what never comes runs into a deadline.
//! 3. **Sleep to the wake.** [`Node::next_wake`] says until when; after `handle_timeout(now)` it lies later than `now`, or is [`Wake::Now`] when the
//!    bound on work per call left something to do. Never earlier for nothing, never too late.
//! 4. **Time is yours.** Calls take `now`, an [`Instant`] of your own making. If it goes backwards it is clamped, and counted.
//! 5. **Waiters are yours.** A waiter is any type of your own; it comes back exactly once: in a [`Completion`], from [`Node::cancel`], or at once from a
//!    call that did not need it. No caller is a leader: a load outlives whoever started it.
//! 6. **Refusals change nothing**, and say which limit. Nothing panics on input.
//!
//! # The pieces
//!
//! [`Node`] is all of them for one thread. [`Shard`] (cache and loads), [`Link`] (one per peer: batches, breaker), [`Membership`] (registration and
//! discovery), [`Removals`] (spreads removals) and [`Ring`] (who owns a key) can be composed in other ways through [`Machines`] and [`pass_on`]: behind
//! locks, as `groupcache-runtime` does.
//!
//! # A loop
//!
//! ```
//! use groupcache_core::*;
//!
//! let (mut now, group) = (Instant::from_nanos(0), GroupId::new(0));
//! let mut node: Node<&str> = Node::new(NodeConfig::new("127.0.0.1:6324"), 42, now)?;
//! node.add_group(group, &GroupConfig::default())?;
//!
//! let mut out = Effects::new();
//! let key = HashedKey::new(group, b"Tom", 0x9e37); // any hash that is keyed per process
//! let request = LoadRequest::new(key, "the caller", now.saturating_add(core::time::Duration::from_secs(1)));
//! assert!(matches!(node.load(now, request, &mut out), Ok(Load::Wait(_))));
//!
//! let mut served = Vec::new();
//! while served.is_empty() {
//!     for intent in out.drain_intents().collect::<Vec<_>>() {
//!         match intent {
//!             Intent::Load { flight, attempt, key, .. } => {
//!                 // Ask your database here, on a thread or task of its own; hand the answer in when it comes.
//!                 let value = Value::from([b"the scores of ", key.as_bytes()].concat());
//!                 node.handle_loaded(now, flight, attempt, Outcome::Value { value, ttl: None }, &mut out);
//!             }
//!             // A node that has started has peers and a registry as well: dial, send, answer, list, watch, ...
//!             Intent::AbortLoad { .. } | Intent::Fetch(_) | Intent::AbortFetch { .. } | Intent::Reply { .. } => {}
//!             Intent::Invalidate { .. } | Intent::Connect { .. } | Intent::Forget { .. } | Intent::Registry(_) => {}
//!         }
//!     }
//!     served.extend(out.drain_completions());
//!     match node.next_wake() {
//!         Wake::At(at) if served.is_empty() => now = at, // sleep until then, or until something happens
//!         _ => {}
//!     }
//!     let _wake = node.handle_timeout(now, &mut out);
//! }
//! assert_eq!(served[0].result.as_ref().unwrap().value.as_bytes(), b"the scores of Tom");
//! assert!(node.get(now, &key).is_some());
//! # Ok::<(), ConfigError>(())
//! ```
//!
//! # Limits of this crate
//!
//! `no_std` with `alloc`; needs 8-bit and 64-bit atomics. Keys are bytes here; the wire of the Go system carries UTF-8 only.

#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::std_instead_of_core, clippy::std_instead_of_alloc, clippy::alloc_instead_of_core)]
#![cfg_attr(not(test), warn(clippy::wildcard_enum_match_arm))]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod backoff;
mod cache;
mod canary;
mod compose;
mod config;
mod effects;
mod error;
mod flight;
mod id;
mod link;
mod membership;
mod node;
mod removal;
mod ring;
mod rng;
mod shard;
mod stats;
mod time;
mod timers;
mod value;

#[cfg(feature = "__invariants")]
#[doc(hidden)]
pub use cache::probe as __cache;
#[cfg(feature = "__bench")]
#[doc(hidden)]
pub use cache::replay as __bench;
pub use cache::{ENTRY_OVERHEAD, Share, ShareUsage};
#[cfg(feature = "__canary")]
#[doc(hidden)]
pub mod __canary {
    pub use crate::canary::{Canary, set};
}
pub use compose::{Machines, forget_here, pass_on, ring_of};
pub use config::{Eviction, GroupConfig, LinkConfig, OnAbandoned, ShardConfig, part_of};
pub use effects::{
    Batch, Call, Completion, Disposition, Effects, FetchItem, Fetched, Intent, Invalidation, Level, Outcome,
    Protocol, RegistryIntent, Removed, Settled,
};
pub use error::{Cause, ConfigError, Failure, FailureKind, LoadError, RingError, in_words};
pub use id::{
    Attempt, BatchId, DialId, FlightId, GroupId, LeaseId, OpId, PeerId, RemovalId, RequestId, Revision,
    Ticket,
};
pub use link::{BatchEnd, Link, LinkRefused, LinkState, LinkStats};
pub use membership::{
    Change, MemberRecord, Membership, MembershipConfig, MembershipStats, RegistryOutcome, WatchEvent,
};
pub use node::{Node, NodeConfig, RequestKey};
pub use removal::{RemovalRequest, Removals};
pub use ring::{Member, Placement, Ring, RingEpoch, Successors};
pub use shard::{Answer, FlightView, GroupStats, Kept, Load, LoadRequest, Refused, Route, Shard, Usage};
pub use stats::ShardStats;
pub use time::{Instant, Wake};
pub use value::{HashedKey, Key, MAX_META, MetaTooLong, Value};
