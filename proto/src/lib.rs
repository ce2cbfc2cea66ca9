//! groupcache on the wire: the messages and stubs of both services, and how they turn into the core's types and back.
//!
//! - [`groupcachepb`] is the Go system's service, field for field: one key a call.
//! - [`v1`] is our own, beside it: many keys a call, remaining TTL, kinds of failure, removal.
//!
//! The generated code is checked in. `UPDATE_GENERATED=1 cargo test -p groupcache-proto` writes it anew after a change of a `.proto` file, and
//! the same test fails when that was forgotten. Nobody needs `protoc`.
//!
//! Whatever bytes a peer sends, the conversions answer: with a failure or with "it did not answer", never with a panic.

#![forbid(unsafe_code)]

mod convert;
mod fetch;
mod status;

pub use convert::causes;
pub use fetch::{BadFetchRequest, FetchKey};
pub use status::{ERROR_METADATA, RemoteStatus, failure_of_status, outcome_of_status, status_of_failure};

/// The wire of the Go system: `groupcachepb.GroupCache/Get`. Generated from `protos/groupcachepb.proto`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::too_many_lines,
    clippy::use_self
)]
pub mod groupcachepb {
    include!("gen/groupcachepb.rs");
}

/// The wire between nodes of this implementation. Generated from `protos/groupcache_v1.proto`.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::too_many_lines,
    clippy::use_self
)]
pub mod v1 {
    include!("gen/groupcache.v1.rs");
}
