//! The sans-IO heart of groupcache.

#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::std_instead_of_core, clippy::std_instead_of_alloc, clippy::alloc_instead_of_core)]
#![warn(clippy::wildcard_enum_match_arm)]

extern crate alloc;
#[cfg(test)]
extern crate std;

#[allow(dead_code)]
mod backoff;
mod effects;
mod error;
mod id;
mod membership;
#[allow(dead_code)]
mod rng;
mod time;
mod value;

pub use effects::{
    Batch, Completion, Disposition, Effects, FetchItem, Fetched, Intent, Invalidation, Level, Outcome,
    PeerCall, Protocol, RegistryIntent, Removed, Settled,
};
pub use error::{Cause, ConfigError, Failure, FailureKind, LoadError, RingError};
pub use id::{
    Attempt, BatchId, FlightId, GroupId, LeaseId, OpId, PeerId, RemovalId, RequestId, Revision, Ticket,
};
pub use membership::{
    Change, MemberRecord, Membership, MembershipConfig, MembershipStats, RegistryOutcome, WatchEvent,
};
pub use time::{Instant, Wake};
pub use value::{HashedKey, Key, Value};
