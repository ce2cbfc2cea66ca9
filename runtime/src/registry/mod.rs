//! Where members find each other: one trait, and what implements it.

#[cfg(feature = "dns")]
mod dns;
mod driver;
#[cfg(feature = "etcd")]
mod etcd;
mod memory;
#[cfg(any(feature = "etcd", feature = "__fuzz"))]
pub(crate) mod record;
mod static_list;
mod store;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use groupcache_core::{LeaseId, MemberRecord, Revision, WatchEvent};

#[cfg(feature = "dns")]
pub use dns::{DnsConfig, DnsRegistry};
pub(crate) use driver::{RegistryDriver, RegistryEvents};
#[cfg(feature = "etcd")]
pub use etcd::{EtcdConfig, EtcdRegistry, EtcdUser};
pub use memory::MemoryRegistry;
pub use static_list::StaticRegistry;

/// Holds the members' records, with leases and revisions, as etcd does.
///
/// The node calls it from one task at a time for each of: the lease, lists, the watch. Every call is given up by dropping its future, so each
/// method must be cancel-safe; a call that was given up may have been carried out or not. Nothing needs to retry: the node does.
#[async_trait]
pub trait Registry: fmt::Debug + Send + Sync + 'static {
    /// Grants a lease of about `ttl` and puts the record of `me` under it, over any record that stands there.
    ///
    /// # Errors
    /// What the registry says. The record may stand all the same.
    async fn register(&self, me: &Registration, ttl: Duration) -> Result<Granted, RegistryError>;

    /// Gives the lease its full time again.
    ///
    /// # Errors
    /// What the registry says. A lease that is gone is no error but [`KeepAlive::Lost`].
    async fn keep_alive(&self, lease: LeaseId) -> Result<KeepAlive, RegistryError>;

    /// Deletes the record under `addr` and ends the lease, at once. That neither exists is no error.
    ///
    /// # Errors
    /// What the registry says. The record may be gone all the same.
    async fn deregister(&self, addr: &str, lease: Option<LeaseId>) -> Result<(), RegistryError>;

    /// All records, and the revision that they are of. Must see everything that was written before the call.
    ///
    /// # Errors
    /// What the registry says.
    async fn list(&self) -> Result<Listing, RegistryError>;

    /// Follows the records from behind `after`. The stream ends after [`WatchEvent::Compacted`] or [`WatchEvent::Ended`]; dropping it ends
    /// the watch. Where the registry does not know `after` because it lost its data, it answers `Compacted`.
    ///
    /// # Errors
    /// What the registry says, when the watch could not be opened.
    async fn watch(&self, after: Revision) -> Result<BoxStream<'static, WatchEvent>, RegistryError>;
}

/// What a node registers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Registration {
    /// The address it advertises, `host:port`.
    pub addr: Arc<str>,
    /// Its weight on the ring.
    pub weight: u32,
}

impl Registration {
    /// A node at `addr` with `weight`.
    #[must_use]
    pub fn new(addr: impl Into<Arc<str>>, weight: u32) -> Self {
        Self { addr: addr.into(), weight }
    }

    /// The record that the others see.
    #[must_use]
    pub fn record(&self) -> MemberRecord {
        MemberRecord::new(Arc::clone(&self.addr), self.weight)
    }
}

/// A granted lease, with a record under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)] // Implementations of `Registry` make them.
pub struct Granted {
    /// The lease.
    pub lease: LeaseId,
    /// How long it lives: registries may round what was asked.
    pub ttl: Duration,
}

/// What became of a keep-alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum KeepAlive {
    /// The lease lives for another `ttl`.
    Alive {
        /// Its time to live, full again.
        ttl: Duration,
    },
    /// The registry does not know the lease any more.
    Lost,
}

/// All records, at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct Listing {
    /// The records, in any order.
    pub records: Vec<MemberRecord>,
    /// The registry's revision.
    pub revision: Revision,
}

/// Why a registry did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The configuration is at fault.
    #[error("registry endpoint `{endpoint}` cannot be used: {reason}")]
    Endpoint {
        /// What was configured.
        endpoint: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No endpoint could be reached.
    #[error("cannot connect to the registry at {endpoint}")]
    Connect {
        /// The endpoint that was tried last.
        endpoint: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It did not answer in time.
    #[error("the registry did not answer within {limit:?} ({operation})")]
    TimedOut {
        /// What was asked.
        operation: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// It answered with an error.
    #[error("the registry failed ({operation})")]
    Failed {
        /// What was asked.
        operation: &'static str,
        /// What it said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It answered something that makes no sense.
    #[error("the registry's answer makes no sense ({operation}): {reason}")]
    Malformed {
        /// What was asked.
        operation: &'static str,
        /// What is wrong with the answer.
        reason: &'static str,
    },
    /// Its code panicked.
    #[error("the registry's code panicked ({operation})")]
    Panicked {
        /// What was asked.
        operation: &'static str,
    },
}
