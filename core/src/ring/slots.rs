//! `slots/1`: a table of slots, each owned by the member with the highest score for it (rendezvous hashing over slots instead of keys).
//!
//! Rendezvous hashing: D. Thaler, C. Ravishankar, "Using name-based mappings to increase hit rates", 1998. Weights are whole tickets rather
//! than logarithms, which may differ between platforms. The exact rule is in `ARCHITECTURE.md`; every constant here is part of it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::member::Member;
use crate::canary::{self, Canary};

/// 2^16 slots: `slots/1`.
pub(super) const BITS: u32 = 16;
/// 2^18 slots: `slots/1/18`.
pub(super) const BITS_LARGE: u32 = 18;
/// 2^20 slots: `slots/1/20`.
pub(super) const BITS_HUGE: u32 = 20;
/// The most tickets that a member may have: a ticket's number fits a byte.
pub(super) const MAX_WEIGHT: u32 = 256;

/// Fewer than 16 slots a member would balance badly and build slowly; and a member's index has 16 bits.
pub(super) const fn max_members(bits: u32) -> usize {
    let members = 1 << (bits - 4);
    if members > u16::MAX as usize { u16::MAX as usize } else { members }
}

/// The first step of SplitMix64: 2^64 divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finalizer of SplitMix64 (Steele, Lea, Flood, 2014): a bijection, so different tickets never score the same in a slot.
#[inline]
const fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The hash of a slot: what SplitMix64 seeded with 0 puts out as number `slot`, counting from 0.
#[inline]
const fn slot_hash(slot: usize) -> u64 {
    mix((slot as u64 + 1).wrapping_mul(GOLDEN))
}

/// Who owns each slot, and by which ticket.
///
/// Memory: 3 bytes a slot (192 KiB for `slots/1`, 768 KiB for `slots/1/18`, 3 MiB for `slots/1/20`), 16 a ticket and 8 a member. A clone shares it.
///
/// The winning ticket is kept instead of its score: the score is one `mix` away, and the number is a byte rather than eight.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct SlotTable {
    bits: u32,
    /// By slot; empty when there are no members. Apart from the winners, so that a lookup touches nothing else.
    owners: Arc<[u16]>,
    /// By slot: the number of the owner's ticket that won.
    winners: Arc<[u8]>,
    tickets: Arc<Tickets>,
    /// By member: how many slots it owns.
    owned: Arc<[u32]>,
}

impl SlotTable {
    /// Builds the table for `members`, sorted by name. O(slots x sum of weights): about 0.1 ms for each unit of weight with 2^16 slots.
    pub(super) fn build(bits: u32, members: &[Member]) -> Self {
        let tickets = Tickets::of(members);
        let slots = if members.is_empty() { 0 } else { 1 << bits };
        Self::fill(bits, slots, tickets, |tickets, slot| tickets.best(slot_hash(slot)))
    }

    /// The table that `build` makes for `new`, from this one, which was built for `old`; both sorted by name.
    ///
    /// A slot whose winning ticket is still there is contested only by the tickets that were added; the others are contested by all. So a join
    /// costs O(slots x its weight), a leave O(slots + slots it owned x sum of weights), and nothing but ids changing costs O(members).
    pub(super) fn rebuild(&self, old: &[Member], new: &[Member]) -> Self {
        if old.is_empty() || new.is_empty() {
            return Self::build(self.bits, new);
        }
        let tickets = Tickets::of(new);
        // The table is made of tickets and of nothing else.
        if *self.tickets == tickets {
            return self.clone();
        }
        let change = Change::between(old, new, &tickets);
        Self::fill(self.bits, self.owners.len(), tickets, |tickets, slot| {
            let hash = slot_hash(slot);
            match change.survivor(self.owners[slot], self.winners[slot]) {
                Some(at) => change.added.iter().fold(tickets.score(at, hash), |best, added| {
                    best.max(tickets.best_of(added.clone(), hash))
                }),
                None => tickets.best(hash),
            }
        })
    }

    fn fill(bits: u32, slots: usize, tickets: Tickets, winner: impl Fn(&Tickets, usize) -> Best) -> Self {
        let mut owners = Vec::with_capacity(slots);
        let mut winners = Vec::with_capacity(slots);
        let mut owned = vec![0; tickets.members()];
        for slot in 0..slots {
            let ticket = tickets.all[winner(&tickets, slot).at];
            owners.push(ticket.member);
            winners.push(ticket.number);
            owned[usize::from(ticket.member)] += 1;
        }
        Self {
            bits,
            owners: owners.into(),
            winners: winners.into(),
            tickets: Arc::new(tickets),
            owned: owned.into(),
        }
    }

    /// Who owns `key`. One hash of the key and one table read.
    #[inline]
    pub(super) fn owner(&self, key: &[u8]) -> Option<u16> {
        self.owners.get(self.slot(key)).copied()
    }

    /// Starts a walk over the members in the order of their scores for the key's slot.
    pub(super) fn walk(&self, key: &[u8]) -> SlotWalk {
        SlotWalk { slot: self.slot(key), last: None }
    }

    /// The next member of the walk: the owner is read from the table, every further one is O(sum of weights).
    pub(super) fn step(&self, walk: &mut SlotWalk) -> Option<u16> {
        let hash = slot_hash(walk.slot);
        let next = match walk.last {
            None => {
                let (&owner, &winner) = (self.owners.get(walk.slot)?, self.winners.get(walk.slot)?);
                self.tickets.score(self.tickets.range(owner).start + usize::from(winner), hash)
            }
            Some(last) => self.tickets.best_after(last, hash)?,
        };
        walk.last = Some(next);
        Some(self.tickets.all[next.at].member)
    }

    /// The fraction of the slots that a member owns.
    pub(super) fn share(&self, member: u16) -> f64 {
        self.owned.get(usize::from(member)).map_or(0.0, |&owned| f64::from(owned) / self.owners.len() as f64)
    }

    /// By slot: who owns it.
    #[cfg(test)]
    pub(super) fn owners(&self) -> &[u16] {
        &self.owners
    }

    /// The slot of a key: the top bits of its hash.
    #[inline]
    fn slot(&self, key: &[u8]) -> usize {
        (xxh3_64(key) >> (64 - self.bits)) as usize
    }
}

/// How far a walk over successors has come: the slot, and the last member's best ticket.
#[derive(Clone, Debug)]
pub(super) struct SlotWalk {
    slot: usize,
    last: Option<Best>,
}

/// One of a member's entries in every slot's contest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticket {
    hash: u64,
    member: u16,
    number: u8,
}

/// All tickets, by member and then by number: the order in which equal scores are settled.
#[derive(PartialEq, Eq)]
struct Tickets {
    all: Box<[Ticket]>,
    /// By member: where its tickets start; and the end of the last one's.
    starts: Box<[u32]>,
}

impl Tickets {
    fn of(members: &[Member]) -> Self {
        let mut all = Vec::with_capacity(members.iter().map(|member| member.weight() as usize).sum());
        let mut starts = Vec::with_capacity(members.len() + 1);
        starts.push(0);
        for (index, member) in members.iter().enumerate() {
            all.extend((0..member.weight()).map(|number| Ticket {
                hash: xxh3_64_with_seed(member.name().as_bytes(), u64::from(number)),
                member: index as u16,
                number: number as u8,
            }));
            starts.push(all.len() as u32);
        }
        Self { all: all.into(), starts: starts.into() }
    }

    fn members(&self) -> usize {
        self.starts.len() - 1
    }

    /// Where a member's tickets are.
    fn range(&self, member: u16) -> Range<usize> {
        let member = usize::from(member);
        self.starts[member] as usize..self.starts[member + 1] as usize
    }

    /// The ticket at `at` with its score in the slot.
    fn score(&self, at: usize, slot_hash: u64) -> Best {
        Best { score: mix(slot_hash ^ self.all[at].hash), at }
    }

    fn best(&self, slot_hash: u64) -> Best {
        self.best_of(0..self.all.len(), slot_hash)
    }

    /// The best ticket of a range that is not empty.
    #[inline]
    fn best_of(&self, range: Range<usize>, slot_hash: u64) -> Best {
        let start = range.start;
        let mut best = self.score(start, slot_hash);
        for (at, ticket) in self.all[range].iter().enumerate().skip(1) {
            let score = mix(slot_hash ^ ticket.hash);
            // Strictly: of equal scores the earlier ticket stays.
            if score > best.score {
                best = Best { score, at: start + at };
            }
        }
        best
    }

    /// Of the members whose best ticket is worse than `last`, the best one's.
    fn best_after(&self, last: Best, slot_hash: u64) -> Option<Best> {
        (0..self.members() as u16)
            .map(|member| self.best_of(self.range(member), slot_hash))
            .filter(|best| *best < last)
            .max()
    }
}

/// A ticket that leads in a slot: greater is better, and of equal scores the earlier ticket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Best {
    score: u64,
    /// Where in [`Tickets::all`].
    at: usize,
}

impl Ord for Best {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.score.cmp(&other.score).then(other.at.cmp(&self.at))
    }
}

impl PartialOrd for Best {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// What became of an old ring's tickets in a new one.
struct Change {
    /// By old member: where its surviving tickets are in the new ring. They are always its first ones, so the numbers stay.
    survivors: Vec<Range<usize>>,
    /// Where tickets are that the old ring did not have. None of the ranges is empty.
    added: Vec<Range<usize>>,
}

impl Change {
    /// Compares two lists that are sorted by name, in one pass over both.
    fn between(old: &[Member], new: &[Member], tickets: &Tickets) -> Self {
        let mut survivors = vec![0..0; old.len()];
        let mut added = Vec::new();
        let mut before = old.iter().zip(&mut survivors).peekable();
        for (index, member) in new.iter().enumerate() {
            let mut fresh = tickets.range(index as u16);
            while before.next_if(|(old, _)| old.name() < member.name()).is_some() {}
            if let Some((old, survivor)) = before.next_if(|(old, _)| old.name() == member.name()) {
                *survivor = fresh.start..fresh.end.min(fresh.start + old.weight() as usize);
                fresh.start = survivor.end;
            }
            if !fresh.is_empty() && !canary::is(Canary::JoinForgotten) {
                added.push(fresh);
            }
        }
        Self { survivors, added }
    }

    /// Where an old member's ticket is in the new ring, if it still is.
    fn survivor(&self, member: u16, number: u8) -> Option<usize> {
        let survivors = &self.survivors[usize::from(member)];
        let at = survivors.start + usize::from(number);
        survivors.contains(&at).then_some(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tickets(hashes: &[&[u64]]) -> Tickets {
        let mut all = Vec::new();
        let mut starts = vec![0];
        for (member, hashes) in hashes.iter().enumerate() {
            all.extend(hashes.iter().enumerate().map(|(number, &hash)| Ticket {
                hash,
                member: member as u16,
                number: number as u8,
            }));
            starts.push(all.len() as u32);
        }
        Tickets { all: all.into(), starts: starts.into() }
    }

    #[test]
    fn slot_hashes_are_the_outputs_of_splitmix64_seeded_with_0() {
        let mut rng = crate::rng::SplitMix64::new(0);
        for slot in 0..100 {
            assert_eq!(slot_hash(slot), rng.next_u64());
        }
        assert_eq!(slot_hash(0), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn of_equal_scores_the_member_with_the_smaller_name_wins() {
        let tickets = tickets(&[&[9], &[5, 7], &[7, 5], &[5]]);
        for slot in 0..64 {
            let hash = slot_hash(slot);
            let mut last = tickets.best(hash);
            let mut order = vec![tickets.all[last.at].member];
            while let Some(next) = tickets.best_after(last, hash) {
                assert!(next < last);
                last = next;
                order.push(tickets.all[next.at].member);
            }
            let place = |member| order.iter().position(|&at| at == member);
            assert_eq!(order.len(), 4, "{order:?}");
            assert!(place(1) < place(2), "{order:?}");
            if mix(hash ^ 5) > mix(hash ^ 7) {
                assert!(place(2) < place(3), "{order:?}");
            }
        }
    }

    #[test]
    fn a_change_tells_survivors_from_added_tickets() {
        use crate::id::PeerId;
        let member = |name: &str, weight| Member::new(PeerId::new(0), name).with_weight(weight);
        let old = [member("b", 2), member("bb", 2), member("d", 3), member("e", 1)];
        let new = [member("a", 1), member("b", 4), member("c", 2), member("d", 1)];
        let change = Change::between(&old, &new, &Tickets::of(&new));
        assert_eq!(change.survivors, [1..3, 0..0, 7..8, 0..0]);
        assert_eq!(change.added, [0..1, 3..5, 5..7]);
        assert_eq!(change.survivor(0, 1), Some(2));
        assert_eq!((change.survivor(1, 0), change.survivor(3, 0)), (None, None));
        assert_eq!((change.survivor(2, 0), change.survivor(2, 1)), (Some(7), None));
    }
}
