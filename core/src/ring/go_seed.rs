//! `go-seed`: the ring of the Go system that this project re-implements, point for point.
//!
//! Source of the rule: 1055373165/groupcache at 15722f1, `consistenthash.go`; the vectors in `tests/data/ring_vectors.json` come from it.

use alloc::vec::Vec;

use super::member::Member;
use super::points::Points;

/// Points of each member.
const POINTS: u8 = 50;

/// Members are numbered in 16 bits.
pub(super) const MAX_MEMBERS: usize = u16::MAX as usize;

/// 50 points a member: 508 bytes of memory each. A clone shares it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct GoSeed(Points);

impl GoSeed {
    /// Places the points of `members`, in the order in which Go's `SetPeers` was given them. O(n log n), about 2 microseconds a member.
    pub(super) fn build(members: &[Member]) -> Self {
        let mut points = Vec::with_capacity(members.len() * usize::from(POINTS));
        for (index, member) in members.iter().enumerate() {
            points.extend((0..POINTS).map(|i| (label_hash(member.name(), i), index as u16)));
        }
        Self(Points::new(points, members.len()))
    }

    #[inline]
    pub(super) fn owner(&self, key: &[u8]) -> Option<u16> {
        self.0.owner(key_hash(key))
    }

    pub(super) const fn points(&self) -> &Points {
        &self.0
    }
}

/// The hash of a key: crc32 (IEEE) of its bytes.
#[inline]
pub(super) fn key_hash(key: &[u8]) -> u32 {
    crc32fast::hash(key)
}

/// The hash of a label: the member's name with the point's number behind it, in decimal, nothing between. So `a:1` + `12` is `a:11` + `2`.
fn label_hash(name: &str, point: u8) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(name.as_bytes());
    if point >= 10 {
        hasher.update(&[b'0' + point / 10]);
    }
    hasher.update(&[b'0' + point % 10]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_the_name_and_the_number_in_decimal() {
        for (point, label) in [(0, "n:10"), (9, "n:19"), (10, "n:110"), (42, "n:142"), (49, "n:149")] {
            assert_eq!(label_hash("n:1", point), key_hash(label.as_bytes()));
        }
        assert_eq!(label_hash("localhost:800", 12), label_hash("localhost:8001", 2));
    }

    #[test]
    fn the_hash_is_the_ieee_polynomial() {
        assert_eq!(key_hash(b"123456789"), 0xcbf4_3926);
    }
}
