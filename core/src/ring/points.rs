//! A ring of 32-bit points, each owned by a member: what the crc32 schemes have in common.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use crate::canary::{self, Canary};

/// The size of the hash space.
const SPACE: u64 = 1 << 32;

/// Points in ascending order; a key belongs to the first point at or after its hash, and past the last one to the first.
///
/// Memory: 10 bytes a point and 8 a member. A clone shares it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Points {
    /// Ascending. Apart from the rest, so that the search touches nothing else.
    hashes: Arc<[u32]>,
    /// Whose point it is.
    owners: Arc<[u16]>,
    /// How many points back, round the ring, the same member's previous point lies: 1 up to the number of points.
    gaps: Arc<[u32]>,
    /// By member: how many of the 2^32 hashes are its.
    owned: Arc<[u64]>,
}

impl Points {
    /// A ring of these points of `members` members, given as (hash, member).
    ///
    /// Of equal points the one of the greater member owns the hashes before it. The others stay: they own nothing, but a walk comes by them,
    /// so no member is ever missing from the successors. O(p log p) for p points.
    pub(super) fn new(mut points: Vec<(u32, u16)>, members: usize) -> Self {
        points.sort_unstable_by_key(|&(hash, member)| (hash, core::cmp::Reverse(member)));
        if canary::is(Canary::PointTieTurned) {
            points.sort_unstable();
        }
        Self {
            hashes: points.iter().map(|&(hash, _)| hash).collect(),
            owners: points.iter().map(|&(_, member)| member).collect(),
            gaps: gaps(&points, members).into(),
            owned: owned(&points, members).into(),
        }
    }

    /// Who owns the hash. O(log p).
    #[inline]
    pub(super) fn owner(&self, hash: u32) -> Option<u16> {
        self.owners.get(self.first(hash)).copied()
    }

    /// Starts a walk at the owner of the hash.
    pub(super) fn walk(&self, hash: u32) -> PointWalk {
        PointWalk { start: self.first(hash), taken: 0 }
    }

    /// The next member that the walk has not come by yet. O(p) for a whole walk.
    ///
    /// A point is its member's first on the walk exactly where that member's previous point lies before the start: so nothing need be remembered.
    pub(super) fn step(&self, walk: &mut PointWalk) -> Option<u16> {
        let len = self.hashes.len();
        while walk.taken < len {
            // Both are below `len`, so one subtraction brings the sum back onto the ring.
            let sum = walk.start + walk.taken;
            let at = if sum < len { sum } else { sum - len };
            let first = self.gaps[at] as usize > walk.taken;
            walk.taken += 1;
            if first {
                return Some(self.owners[at]);
            }
        }
        None
    }

    /// The fraction of the hashes that a member owns.
    pub(super) fn share(&self, member: u16) -> f64 {
        self.owned.get(usize::from(member)).map_or(0.0, |&owned| owned as f64 / SPACE as f64)
    }

    /// Where the first point at or after `hash` is; 0 past the last one.
    #[inline]
    fn first(&self, hash: u32) -> usize {
        let at = self.hashes.partition_point(|&point| point < hash);
        if at < self.hashes.len() { at } else { 0 }
    }
}

/// See [`Points::gaps`]. Going twice round meets each point's predecessor, also where that lies beyond the wrap.
fn gaps(points: &[(u32, u16)], members: usize) -> Box<[u32]> {
    let mut gaps = vec![0; points.len()].into_boxed_slice();
    let mut last_seen = vec![0; members];
    for round in 0..2 {
        for (at, (gap, &(_, member))) in gaps.iter_mut().zip(points).enumerate() {
            let now = round * points.len() + at;
            let seen = &mut last_seen[usize::from(member)];
            *gap = (now - *seen) as u32;
            *seen = now;
        }
    }
    gaps
}

/// See [`Points::owned`]: each point owns the hashes after the point before it, up to its own.
fn owned(points: &[(u32, u16)], members: usize) -> Vec<u64> {
    let mut owned = vec![0; members];
    let Some(&(last, _)) = points.last() else { return owned };
    // The first point's stretch starts beyond the wrap, at the last point.
    let mut before = i64::from(last) - SPACE as i64;
    for &(hash, member) in points {
        owned[usize::from(member)] += (i64::from(hash) - before) as u64;
        before = i64::from(hash);
    }
    owned
}

/// How far a walk has come: where it started, and how many points it has passed.
#[derive(Clone, Debug)]
pub(super) struct PointWalk {
    start: usize,
    taken: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(points: &Points, hash: u32) -> Vec<u16> {
        let mut walk = points.walk(hash);
        core::iter::from_fn(|| points.step(&mut walk)).collect()
    }

    #[test]
    fn a_hash_belongs_to_the_first_point_at_or_after_it_and_wraps_past_the_last() {
        let points = Points::new(vec![(30, 2), (10, 0), (20, 1), (u32::MAX, 1)], 3);
        let owners = [0, 10, 11, 20, 21, 30, 31, u32::MAX].map(|hash| points.owner(hash));
        assert_eq!(owners, [0, 0, 1, 1, 2, 2, 1, 1].map(Some));
        let points = Points::new(vec![(10, 0), (20, 1)], 2);
        assert_eq!(points.owner(21), Some(0));
    }

    #[test]
    fn of_equal_points_the_greater_member_owns_and_the_others_come_next() {
        let points = Points::new(vec![(10, 0), (10, 2), (10, 1), (40, 0)], 3);
        assert_eq!(walk(&points, 5), [2, 1, 0]);
        assert_eq!(walk(&points, 11), [0, 2, 1]);
        assert_eq!(points.share(1), 0.0);
        assert_eq!(points.share(0) * SPACE as f64, 30.0);
        assert_eq!(points.share(0) + points.share(2), 1.0);
    }

    #[test]
    fn one_point_owns_everything_and_no_point_owns_nothing() {
        let one = Points::new(vec![(7, 0)], 1);
        assert_eq!((one.owner(0), one.owner(7), one.owner(8)), (Some(0), Some(0), Some(0)));
        assert_eq!((walk(&one, 9), one.share(0)), (vec![0], 1.0));
        let none = Points::new(vec![], 0);
        assert_eq!((none.owner(0), walk(&none, 9), none.share(0)), (None, vec![], 0.0));
    }

    #[test]
    fn a_walk_names_each_member_once_in_the_order_of_its_first_point() {
        let mut rng = crate::rng::SplitMix64::new(1);
        for members in 1..12_u16 {
            let list: Vec<_> = (0..members * 7)
                .map(|i| {
                    (rng.below(60) as u32, if i < members { i } else { rng.below(u64::from(members)) as u16 })
                })
                .collect();
            let points = Points::new(list, usize::from(members));
            for hash in 0..62 {
                let at = points.first(hash);
                let mut naive: Vec<u16> = Vec::new();
                for &owner in points.owners[at..].iter().chain(&points.owners[..at]) {
                    if !naive.contains(&owner) {
                        naive.push(owner);
                    }
                }
                assert_eq!(walk(&points, hash), naive);
                assert_eq!(naive.len(), usize::from(members));
            }
        }
    }
}
