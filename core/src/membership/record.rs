//! What the registry tells: records, answers, and what a watch brings.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::error::Cause;
use crate::id::{LeaseId, Revision};

/// One member's record, as the registry holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct MemberRecord {
    /// The address in the record's key. A deletion names only this.
    pub key: Arc<str>,
    /// The address that is dialled, and that the ring places. Nodes of the Go system may register another one than the key says.
    pub addr: Arc<str>,
    /// The member's share of the keys, relative to the others'. Brought into the configured range when the record is taken.
    pub weight: u32,
}

impl MemberRecord {
    /// The record of a member that is dialled at the address it is registered under.
    #[must_use]
    pub fn new(addr: impl Into<Arc<str>>, weight: u32) -> Self {
        let addr = addr.into();
        Self { key: Arc::clone(&addr), addr, weight }
    }

    /// The same record under another key.
    #[must_use]
    pub fn with_key(mut self, key: impl Into<Arc<str>>) -> Self {
        self.key = key.into();
        self
    }
}

/// One change of the registry's records.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum Change {
    /// A record was written.
    Put(MemberRecord),
    /// The record under this key is gone.
    Delete(Arc<str>),
}

/// What became of a [`RegistryIntent`](crate::RegistryIntent) other than `Watch`. Every operation is answered once; an answer that never comes
/// is replaced by a time limit.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum RegistryOutcome {
    /// To `Register`: a lease was granted, and this node's record stands under it.
    Registered {
        /// The lease.
        lease: LeaseId,
        /// What the registry granted: it may differ from what was asked.
        ttl: Duration,
    },
    /// To `KeepAlive`: the lease lives for another `ttl` from when the registry took the request.
    KeptAlive {
        /// The lease's time to live, full again.
        ttl: Duration,
    },
    /// To `KeepAlive`: the registry does not know the lease any more.
    LeaseLost,
    /// To `Deregister`: the record is gone.
    Deregistered,
    /// To `List`: all records, as they stood at `revision`.
    Listed {
        /// The records, in any order.
        records: Vec<MemberRecord>,
        /// The registry's revision that they are of.
        revision: Revision,
    },
    /// To any of them: it failed, or was given up. Whether the registry carried it out is not known.
    Failed(Option<Cause>),
}

/// What a watch brings.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum WatchEvent {
    /// Records changed.
    Changed {
        /// The revision of the changes: best one batch for each revision. Where a batch holds several, this is the latest, and the changes
        /// of one record stand in the order in which they happened.
        revision: Revision,
        /// The changes.
        changes: Vec<Change>,
    },
    /// The revision to start behind is no longer kept: the watch is over, and only a new list can tell what happened since.
    Compacted {
        /// The oldest revision that is still kept.
        revision: Revision,
    },
    /// The watch is over: the connection broke, or the registry ended it.
    Ended(Option<Cause>),
}
