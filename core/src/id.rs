//! Identifiers: small newtypes with private fields, so that one kind cannot be taken for another.
//!
//! Ids that name a slot carry a generation: an id outlives what it named, and is then answered with
//! [`Disposition::Stale`](crate::Disposition::Stale), never with somebody else's slot.

/// Names a group on this node. The embedder numbers its groups; the wire carries names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(u32);

impl GroupId {
    /// The group with the embedder's number `index`.
    #[must_use]
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// The embedder's number.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0
    }
}

/// Names a peer on this node, for as long as the process lives. Never on the wire: peers know each other by address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(u32);

impl PeerId {
    /// The peer with number `index`. [`Membership`](crate::Membership) numbers peers by itself; a loop without it does so here.
    #[must_use]
    pub const fn new(index: u32) -> Self {
        Self(index)
    }

    /// The peer's number.
    #[must_use]
    pub const fn index(self) -> u32 {
        self.0
    }
}

/// Names one flight: one load in progress. Its shard is part of it, so a result finds its way by id alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlightId {
    slot: u32,
    generation: u32,
    shard: u16,
}

impl FlightId {
    pub(crate) const fn new(slot: u32, generation: u32, shard: u16) -> Self {
        Self { slot, generation, shard }
    }

    pub(crate) const fn slot(self) -> u32 {
        self.slot
    }

    pub(crate) const fn generation(self) -> u32 {
        self.generation
    }

    /// The shard that the flight belongs to: where to hand its result.
    #[must_use]
    pub const fn shard(self) -> u16 {
        self.shard
    }
}

/// Which try of a flight a result belongs to: a flight asks the owner, then a successor, then the local origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(u8);

impl Attempt {
    pub(crate) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// 0 for the first source that was asked.
    #[must_use]
    pub const fn index(self) -> u8 {
        self.0
    }
}

/// A waiter's receipt, needed to [`cancel`](crate::Shard::cancel) it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    slot: u32,
    generation: u32,
    shard: u16,
}

impl Ticket {
    pub(crate) const fn new(slot: u32, generation: u32, shard: u16) -> Self {
        Self { slot, generation, shard }
    }

    pub(crate) const fn slot(self) -> u32 {
        self.slot
    }

    pub(crate) const fn generation(self) -> u32 {
        self.generation
    }

    /// The shard that the waiter waits in.
    #[must_use]
    pub const fn shard(self) -> u16 {
        self.shard
    }
}

/// Names one dial of a [`Link`](crate::Link), and the connection that it makes. Never given twice for a peer, also when its link is made anew: what is heard of an earlier dial or
/// connection is not taken for news of a later one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId {
    generation: u32,
    sequence: u64,
}

impl DialId {
    pub(crate) const fn new(generation: u32, sequence: u64) -> Self {
        Self { generation, sequence }
    }

    /// The link's own sequence number, for logs.
    #[must_use]
    pub const fn sequence(self) -> u64 {
        self.sequence
    }
}

/// Names one batch of fetches that a [`Link`](crate::Link) sent. Never given twice for a peer, also when its link is made anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId {
    generation: u32,
    sequence: u64,
}

impl BatchId {
    pub(crate) const fn new(generation: u32, sequence: u64) -> Self {
        Self { generation, sequence }
    }

    /// The link's own sequence number, for logs.
    #[must_use]
    pub const fn sequence(self) -> u64 {
        self.sequence
    }
}

/// Names one removal or flush that is being spread through the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemovalId {
    slot: u32,
    generation: u32,
}

impl RemovalId {
    pub(crate) const fn new(slot: u32, generation: u32) -> Self {
        Self { slot, generation }
    }

    pub(crate) const fn slot(self) -> u32 {
        self.slot
    }

    pub(crate) const fn generation(self) -> u32 {
        self.generation
    }
}

/// Names one request that this node serves for a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    slot: u32,
    generation: u32,
}

impl RequestId {
    pub(crate) const fn new(slot: u32, generation: u32) -> Self {
        Self { slot, generation }
    }

    pub(crate) const fn slot(self) -> u32 {
        self.slot
    }

    pub(crate) const fn generation(self) -> u32 {
        self.generation
    }
}

/// Names one operation asked of the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(u64);

impl OpId {
    pub(crate) const fn new(sequence: u64) -> Self {
        Self(sequence)
    }

    /// The membership's own sequence number, for logs.
    #[must_use]
    pub const fn sequence(self) -> u64 {
        self.0
    }
}

/// A lease that the registry granted; etcd's are 64-bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(i64);

impl LeaseId {
    /// The lease as the registry numbers it.
    #[must_use]
    pub const fn new(id: i64) -> Self {
        Self(id)
    }

    /// The registry's number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

/// A revision of the registry's data: watching starts at the listed one plus 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(i64);

impl Revision {
    /// The revision as the registry counts it.
    #[must_use]
    pub const fn new(revision: i64) -> Self {
        Self(revision)
    }

    /// The registry's number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_that_logs_show_are_those_that_ids_were_made_of() {
        for number in [0, 1, 7] {
            assert_eq!(DialId::new(3, number).sequence(), number);
            assert_eq!(BatchId::new(3, number).sequence(), number);
            assert_eq!(OpId::new(number).sequence(), number);
        }
        for number in [-7, 0, 7] {
            assert_eq!((LeaseId::new(number).get(), Revision::new(number).get()), (number, number));
        }
    }
}
