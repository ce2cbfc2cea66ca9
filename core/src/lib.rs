//! The sans-IO heart of groupcache.

#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::std_instead_of_core, clippy::std_instead_of_alloc, clippy::alloc_instead_of_core)]
#![warn(clippy::wildcard_enum_match_arm)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod backoff;
#[allow(dead_code)] // B2a, the adaptive window, is measured by `__bench` and not yet fed by the shard.
mod cache;
mod config;
mod effects;
mod error;
mod flight;
mod id;
mod link;
mod membership;
mod removal;
mod ring;
mod rng;
mod shard;
mod stats;
mod time;
mod timers;
mod value;

pub use cache::ENTRY_OVERHEAD;
#[cfg(feature = "__bench")]
#[doc(hidden)]
pub use cache::replay as __bench;
pub use config::{GroupConfig, LinkConfig, OnAbandoned, ShardConfig};
pub use effects::{
    Batch, Call, Completion, Disposition, Effects, FetchItem, Fetched, Intent, Invalidation, Level, Outcome,
    Protocol, RegistryIntent, Removed, Settled,
};
pub use error::{Cause, ConfigError, Failure, FailureKind, LoadError, RingError};
pub use id::{
    Attempt, BatchId, FlightId, GroupId, LeaseId, OpId, PeerId, RemovalId, RequestId, Revision, Ticket,
};
pub use link::{BatchEnd, Link, LinkRefused, LinkStats};
pub use membership::{
    Change, MemberRecord, Membership, MembershipConfig, MembershipStats, RegistryOutcome, WatchEvent,
};
pub use removal::{RemovalRequest, Removals};
pub use ring::{Member, Placement, Ring, RingEpoch, Successors};
pub use shard::{Answer, Load, LoadRequest, Refused, Route, Shard, Usage};
pub use stats::ShardStats;
pub use time::{Instant, Wake};
pub use value::{HashedKey, Key, Value};
