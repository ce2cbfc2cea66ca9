//! Who is on a ring, and which ring it is.

use alloc::sync::Arc;
use core::fmt;

use crate::id::PeerId;

/// One node of the fleet, as the ring knows it: this process' id for it, its name, its weight.
///
/// Only the name and the weight place keys. The id is local, so two nodes that number their peers differently still agree on every owner.
/// Names are compared exactly, byte for byte: `localhost:80` and `127.0.0.1:80` are two members.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    id: PeerId,
    name: Arc<str>,
    weight: u32,
}

impl Member {
    /// A member of weight 1. `name` is the address that the node advertises, the same on every node.
    #[must_use]
    pub fn new(id: PeerId, name: impl Into<Arc<str>>) -> Self {
        Self { id, name: name.into(), weight: 1 }
    }

    /// The same member with another weight: with weight 2 it owns twice the keys that it owns with weight 1.
    ///
    /// The range is the scheme's, see [`Placement::max_weight`](crate::Placement::max_weight), and [`Ring::new`](crate::Ring::new) checks it.
    #[must_use]
    pub fn with_weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    /// What this process calls the member.
    #[must_use]
    pub const fn id(&self) -> PeerId {
        self.id
    }

    /// The member's name, which places its keys.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same name, to keep without a copy.
    #[must_use]
    pub const fn shared_name(&self) -> &Arc<str> {
        &self.name
    }

    /// How many shares of the keys it takes.
    #[must_use]
    pub const fn weight(&self) -> u32 {
        self.weight
    }
}

/// Counts the rings that this node has had. Local: nodes compare fingerprints, never epochs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RingEpoch(u64);

impl RingEpoch {
    /// The epoch with this number.
    #[must_use]
    pub const fn new(epoch: u64) -> Self {
        Self(epoch)
    }

    /// The epoch's number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The epoch after this one. The last epoch is followed by itself: 2^64 rings are never built.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for RingEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}
