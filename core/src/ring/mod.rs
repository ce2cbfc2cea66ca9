//! Who owns a key: a [`Ring`] is built from the fleet's members by a named [`Placement`] scheme, and never changes.
//!
//! ```
//! use groupcache_core::{Member, PeerId, Placement, Ring, RingEpoch};
//!
//! let members = ["10.0.0.1:6324", "10.0.0.2:6324", "10.0.0.3:6324"];
//! let members = members.iter().zip(1..).map(|(&name, id)| Member::new(PeerId::new(id), name)).collect();
//! let ring = Ring::new(Placement::default(), RingEpoch::new(1), members)?;
//!
//! let mut order = ring.successors(b"user:42");
//! assert_eq!(order.next(), ring.owner(b"user:42"));
//! assert_eq!(order.len(), 2); // the members to ask when the owner does not answer, best first
//! # Ok::<(), groupcache_core::RingError>(())
//! ```
//!
//! The rooms: `member` (what is placed), `placement` (the schemes by name, and the only `match` over them), `slots` and `go_seed` (one scheme a
//! file), `points` (what rings of points share), `roster` (members checked and indexed). `ARCHITECTURE.md` is the contract between nodes.

mod go_seed;
mod member;
mod placement;
mod points;
mod roster;
mod slots;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;
use core::fmt;
use core::iter::FusedIterator;

use xxhash_rust::xxh3::Xxh3;

pub use self::member::{Member, RingEpoch};
pub use self::placement::Placement;
use self::placement::{Table, Walk};
use self::roster::Roster;
use crate::error::RingError;
use crate::id::PeerId;

/// An immutable map from keys to members, and the order in which the others succeed the owner.
///
/// Two nodes that have the same members (by name and weight) and the same scheme agree on every answer, whatever ids, epochs and, but for
/// `go-seed`, order they have them in; [`fingerprint`](Self::fingerprint) tells whether that is so. A ring may be empty: then nobody owns anything.
///
/// Memory on 64 bits: 28 bytes a member besides its name, and the scheme's tables. `slots/1`: 192 KiB, `slots/1/18`: 768 KiB, `slots/1/20`: 3 MiB, each with 8 bytes
/// a member and 16 a unit of weight more; `go-seed`: 508 bytes a member. A clone shares members and tables; it copies 4 bytes a member.
#[derive(Clone, PartialEq, Eq)]
pub struct Ring {
    placement: Placement,
    epoch: RingEpoch,
    fingerprint: u64,
    roster: Roster,
    table: Table,
}

impl Ring {
    /// A ring of these members, built from scratch.
    ///
    /// `go-seed` takes the members in the order in which the Go nodes are given them; the other schemes take any order.
    ///
    /// Cost: `slots/1` O(2^16 x sum of weights), about 0.1 ms for each unit of weight, `slots/1/18` four times that, `slots/1/20` sixteen times; `go-seed` O(n log n), about
    /// 2 microseconds a member. Where there is a ring already, [`rebuild`](Self::rebuild) costs less.
    ///
    /// # Errors
    ///
    /// [`RingError`] when there are more members than [`Placement::max_members`], a name is empty, a weight lies outside
    /// 1..=[`Placement::max_weight`], or two members have the same name or the same id.
    pub fn new(placement: Placement, epoch: RingEpoch, members: Vec<Member>) -> Result<Self, RingError> {
        let roster = Roster::new(placement, members)?;
        let table = Table::build(placement, roster.members());
        Ok(Self::assemble(placement, epoch, roster, table))
    }

    /// The ring without members.
    #[must_use]
    pub fn empty(placement: Placement, epoch: RingEpoch) -> Self {
        Self::assemble(placement, epoch, Roster::empty(), Table::build(placement, &[]))
    }

    /// The ring that [`new`](Self::new) makes of these members with this ring's scheme, at the cost of what changed.
    ///
    /// Slots: a join or a greater weight costs O(slots x weight added); a leave or a smaller weight O(slots + slots lost x sum of weights),
    /// which for one of n equal members is 1/n of a full build. Measured at weight 1 on `slots/1`, 10 to 1000 members: about 0.5 ms either
    /// way. Changed ids alone cost O(n) and share the tables. `go-seed` builds anew.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new). This ring stays as it is in any case.
    pub fn rebuild(&self, epoch: RingEpoch, members: Vec<Member>) -> Result<Self, RingError> {
        let roster = Roster::new(self.placement, members)?;
        let table = self.table.rebuild(self.members(), roster.members());
        Ok(Self::assemble(self.placement, epoch, roster, table))
    }

    fn assemble(placement: Placement, epoch: RingEpoch, roster: Roster, table: Table) -> Self {
        Self { placement, epoch, fingerprint: fingerprint(placement, &roster), roster, table }
    }

    /// The member that owns `key`; none when the ring is empty. Never allocates.
    ///
    /// Slots: one xxh3 of the key and one read of the table, about 4 ns for a short key. `go-seed`: one crc32 and a binary search, 15 to 30 ns.
    #[inline]
    #[must_use]
    pub fn owner(&self, key: &[u8]) -> Option<&Member> {
        self.at(self.table.owner(key)?)
    }

    /// Every member once, in the order in which they succeed each other for `key`: the owner first. Never allocates.
    ///
    /// Removing any members from the ring leaves the others in the same order, so who comes second now owns the key once the owner is gone.
    ///
    /// The first step costs a lookup. Slots: each further step is O(sum of weights), 3 to 9 ns for each unit, so a whole walk over n members is
    /// O(n x sum of weights): meant for the few members that are asked when the owner is away. `go-seed`: O(50 n) for all steps together, and
    /// mostly a few points for one.
    #[must_use]
    pub fn successors(&self, key: &[u8]) -> Successors<'_> {
        Successors { ring: self, walk: self.table.walk(key), left: self.len() }
    }

    /// The members, in the order that the scheme works with: by name for slots, as given for `go-seed`.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        self.roster.members()
    }

    /// The member with this id. O(log n).
    #[must_use]
    pub fn member(&self, id: PeerId) -> Option<&Member> {
        self.at(self.roster.index_of_id(id)?)
    }

    /// The member with exactly this name. O(log n).
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Member> {
        self.at(self.roster.index_of_name(name)?)
    }

    /// How many members there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members().is_empty()
    }

    /// The scheme.
    #[must_use]
    pub const fn placement(&self) -> Placement {
        self.placement
    }

    /// Which ring of this node it is.
    #[must_use]
    pub const fn epoch(&self) -> RingEpoch {
        self.epoch
    }

    /// A digest of all that decides about owners: the scheme's name, and the members' names and weights; for `go-seed` also their order.
    ///
    /// Two nodes with equal fingerprints agree on every owner, but for accidents of 1 in 2^64. Neither ids nor the epoch are part of it. The encoding
    /// is part of the contract between nodes, see `ARCHITECTURE.md`. O(1).
    #[must_use]
    pub const fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The fraction of the key space that a member owns, from 0 to 1; 0 for an id that is not on the ring. O(log n).
    ///
    /// Exact for the table: the members' shares add up to 1. Which part of the requests that makes depends on the keys that are asked for.
    #[must_use]
    pub fn share(&self, id: PeerId) -> f64 {
        self.roster.index_of_id(id).map_or(0.0, |index| self.table.share(index))
    }

    #[inline]
    fn at(&self, index: u16) -> Option<&Member> {
        self.members().get(usize::from(index))
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("placement", &self.placement)
            .field("epoch", &self.epoch)
            .field("fingerprint", &format_args!("{:016x}", self.fingerprint))
            .field("members", &self.members())
            .finish_non_exhaustive()
    }
}

/// See [`Ring::fingerprint`]. Numbers are 64 bits, little-endian; a length before each string keeps neighbours apart.
fn fingerprint(placement: Placement, roster: &Roster) -> u64 {
    let mut digest = Xxh3::new();
    let number = |digest: &mut Xxh3, number: u64| digest.update(&number.to_le_bytes());
    number(&mut digest, placement.name().len() as u64);
    digest.update(placement.name().as_bytes());
    number(&mut digest, roster.members().len() as u64);
    // Sorted already where the scheme does not care for the order.
    for member in roster.members() {
        number(&mut digest, member.name().len() as u64);
        digest.update(member.name().as_bytes());
        number(&mut digest, u64::from(member.weight()));
    }
    digest.digest()
}

/// The members of a ring in the order in which they succeed each other for one key. Made by [`Ring::successors`].
#[derive(Clone)]
pub struct Successors<'a> {
    ring: &'a Ring,
    walk: Walk,
    left: usize,
}

impl<'a> Iterator for Successors<'a> {
    type Item = &'a Member;

    fn next(&mut self) -> Option<&'a Member> {
        // Knowing when all were named spares the walk to the end.
        self.left = self.left.checked_sub(1)?;
        self.ring.at(self.ring.table.step(&mut self.walk)?)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Successors<'_> {}

impl FusedIterator for Successors<'_> {}

impl fmt::Debug for Successors<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Successors")
            .field("walk", &self.walk)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}
