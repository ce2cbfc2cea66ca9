//! The placement schemes by name, and the one place that tells them apart.
//!
//! A new scheme is one file with a table type, one variant here, and one arm in each `match` below; nothing else knows.

use core::fmt;
use core::str::FromStr;

use alloc::string::ToString;

use super::go_seed::{self, GoSeed};
use super::member::Member;
use super::points::PointWalk;
use super::slots::{self, SlotTable, SlotWalk};
use crate::error::RingError;

/// How keys are placed on members. The name is part of the contract between nodes: all nodes of a fleet run one scheme.
///
/// `ARCHITECTURE.md` defines each scheme precisely enough to write it again in another language.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Placement {
    /// `slots/1`: a rendezvous table of 2^16 slots, the default. The busiest node carries about 1.02 times the mean among 10 nodes,
    /// 1.09 times among 100.
    #[default]
    Slots,
    /// `slots/1/18`: the same with 2^18 slots, for fleets above some 100 nodes. Four times the memory and the time to build.
    SlotsLarge,
    /// `slots/1/20`: the same with 2^20 slots, for fleets of a thousand nodes. Sixteen times the memory (3 MiB) and the time to build.
    SlotsHuge,
    /// `go-seed`: the ring of the Go system, for fleets in which both run. Worse balance (about 1.6 times the mean among 10 nodes), no weights.
    GoSeed,
}

impl Placement {
    /// Every scheme.
    pub const ALL: [Self; 4] = [Self::Slots, Self::SlotsLarge, Self::SlotsHuge, Self::GoSeed];

    /// The scheme's name, as in configurations and on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Slots => "slots/1",
            Self::SlotsLarge => "slots/1/18",
            Self::SlotsHuge => "slots/1/20",
            Self::GoSeed => "go-seed",
        }
    }

    /// The scheme that has exactly this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scheme| scheme.name() == name)
    }

    /// The largest weight of a member; the smallest is 1.
    #[must_use]
    pub const fn max_weight(self) -> u32 {
        match self {
            Self::Slots | Self::SlotsLarge | Self::SlotsHuge => slots::MAX_WEIGHT,
            Self::GoSeed => 1,
        }
    }

    /// The most members that a ring takes: 4096 for `slots/1`, 16,384 for `slots/1/18` (16 slots each), 65,535 for `slots/1/20` and `go-seed`.
    #[must_use]
    pub const fn max_members(self) -> usize {
        match self {
            Self::Slots => slots::max_members(slots::BITS),
            Self::SlotsLarge => slots::max_members(slots::BITS_LARGE),
            Self::SlotsHuge => slots::max_members(slots::BITS_HUGE),
            Self::GoSeed => go_seed::MAX_MEMBERS,
        }
    }

    /// Whether the order in which members are listed can change who owns a key. Only `go-seed` has this flaw: where points of two members
    /// coincide, the one listed last owns the point.
    #[must_use]
    pub const fn depends_on_order(self) -> bool {
        match self {
            Self::Slots | Self::SlotsLarge | Self::SlotsHuge => false,
            Self::GoSeed => true,
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Placement {
    type Err = RingError;

    /// As [`Placement::from_name`].
    ///
    /// # Errors
    ///
    /// [`RingError::UnknownScheme`] for any other name.
    fn from_str(name: &str) -> Result<Self, RingError> {
        Self::from_name(name).ok_or_else(|| RingError::UnknownScheme(name.to_string()))
    }
}

/// What a scheme computed from the members. Members are known by their index in the list that it was built from.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Table {
    Slots(SlotTable),
    GoSeed(GoSeed),
}

impl Table {
    /// Builds the table for `members`, which are valid for `placement` and, where order does not matter, sorted by name.
    pub(super) fn build(placement: Placement, members: &[Member]) -> Self {
        match placement {
            Placement::Slots => Self::Slots(SlotTable::build(slots::BITS, members)),
            Placement::SlotsLarge => Self::Slots(SlotTable::build(slots::BITS_LARGE, members)),
            Placement::SlotsHuge => Self::Slots(SlotTable::build(slots::BITS_HUGE, members)),
            Placement::GoSeed => Self::GoSeed(GoSeed::build(members)),
        }
    }

    /// The table that `build` makes for `new`, at the cost of what changed since `old`, which `self` was built from.
    pub(super) fn rebuild(&self, old: &[Member], new: &[Member]) -> Self {
        match self {
            Self::Slots(table) => Self::Slots(table.rebuild(old, new)),
            Self::GoSeed(_) => Self::GoSeed(GoSeed::build(new)),
        }
    }

    /// Who owns `key`.
    #[inline]
    pub(super) fn owner(&self, key: &[u8]) -> Option<u16> {
        match self {
            Self::Slots(table) => table.owner(key),
            Self::GoSeed(table) => table.owner(key),
        }
    }

    /// Starts the walk over the successors of `key`.
    pub(super) fn walk(&self, key: &[u8]) -> Walk {
        match self {
            Self::Slots(table) => Walk::Slots(table.walk(key)),
            Self::GoSeed(table) => Walk::Points(table.points().walk(go_seed::key_hash(key))),
        }
    }

    /// The next member of a walk that this table started.
    pub(super) fn step(&self, walk: &mut Walk) -> Option<u16> {
        match (self, walk) {
            (Self::Slots(table), Walk::Slots(walk)) => table.step(walk),
            (Self::GoSeed(table), Walk::Points(walk)) => table.points().step(walk),
            (Self::Slots(_), Walk::Points(_)) | (Self::GoSeed(_), Walk::Slots(_)) => None,
        }
    }

    /// The fraction of the key space that a member owns.
    pub(super) fn share(&self, member: u16) -> f64 {
        match self {
            Self::Slots(table) => table.share(member),
            Self::GoSeed(table) => table.points().share(member),
        }
    }
}

/// How far a walk over successors has come.
#[derive(Clone, Debug)]
pub(super) enum Walk {
    Slots(SlotWalk),
    Points(PointWalk),
}
