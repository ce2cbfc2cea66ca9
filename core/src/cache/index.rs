//! Where slots are found by hash: open addressing with linear probing, and deletion that shifts back.
//!
//! A place is one word of 32 bits: the number of a slot below, as many bits of the hash as are left above. So the bits that tell slots apart come
//! with the numbers: a lookup reads one cache line here, mostly, and the slot that it is for. There are no marks of what was deleted: a table that
//! holds no more than it ever did is never swept, and never grows.
//!
//! Knuth, "The Art of Computer Programming", volume 3, 6.4: algorithms L and R.

use alloc::vec::Vec;

/// A place that holds no slot: no slot has this number, since there are fewer slots than places.
const EMPTY: u32 = u32::MAX;
/// The smallest table: so many bits of a place's number.
const LEAST_BITS: u32 = 3;
/// Slot numbers have 32 bits, and the largest of them says that there is none.
const MOST_BITS: u32 = 31;

/// What a table keeps of a table hash: 32 bits that depend on all of it.
pub(super) const fn shorten(hash: u64) -> u32 {
    // Not the factor that samples keys: all keys of a sample would lie side by side.
    ((hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93) >> 32) as u32
}

/// Slot numbers by [shortened](shorten) hash. Numbers are below the count of places, which holds where slots are numbered from 0 without gaps.
#[derive(Debug)]
pub(super) struct Index {
    /// A power of two of them, or none.
    places: Vec<u32>,
    bits: u32,
    len: usize,
}

impl Index {
    pub(super) const fn new() -> Self {
        Self { places: Vec::new(), bits: LEAST_BITS, len: 0 }
    }

    #[cfg(any(test, feature = "__invariants"))]
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// The memory that it occupies.
    pub(super) const fn bytes(&self) -> usize {
        self.places.capacity() * size_of::<u32>()
    }

    /// The first slot with this hash that `is` the one.
    #[inline]
    pub(super) fn find(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        let (mask, tag) = (self.mask(), self.tag(hash));
        let mut at = self.home(hash);
        loop {
            let word = *self.places.get(at)?;
            if word == EMPTY {
                return None;
            }
            if word & !mask == tag && is(word & mask) {
                return Some(word & mask);
            }
            at = (at + 1) & mask as usize;
        }
    }

    /// Makes room for `entries` slots in all; false, and nothing changed, where there is no memory. `hash_of` tells the hash of a slot that is in.
    #[must_use]
    pub(super) fn reserve(&mut self, entries: usize, hash_of: impl Fn(u32) -> u32) -> bool {
        if entries <= most_entries(self.places.len()) {
            return true;
        }
        let bits = (LEAST_BITS..=MOST_BITS).find(|&bits| entries <= most_entries(1 << bits));
        let mut places = Vec::new();
        let Some(bits) = bits.filter(|&bits| places.try_reserve_exact(1 << bits).is_ok()) else {
            return false;
        };
        places.resize(1 << bits, EMPTY);
        let (old, mask) = (core::mem::replace(&mut self.places, places), self.mask());
        (self.bits, self.len) = (bits, 0);
        for word in old.into_iter().filter(|&word| word != EMPTY) {
            self.insert(hash_of(word & mask), word & mask);
        }
        true
    }

    /// Takes in a slot that is not in yet, for which there is [room](Self::reserve).
    pub(super) fn insert(&mut self, hash: u32, id: u32) {
        let mask = self.mask();
        debug_assert!(self.len < most_entries(self.places.len()) && id < mask, "there is room");
        let mut at = self.home(hash);
        while let Some(&word) = self.places.get(at) {
            if word == EMPTY {
                self.places[at] = self.tag(hash) | id;
                self.len += 1;
                return;
            }
            at = (at + 1) & mask as usize;
        }
    }

    /// Takes a slot out; nothing happens where it is not in. `hash_of` tells the hash of each slot that is in.
    pub(super) fn remove(&mut self, hash: u32, id: u32, hash_of: impl Fn(u32) -> u32) {
        let mask = self.mask();
        let next = |at: usize| (at + 1) & mask as usize;
        let mut hole = self.home(hash);
        loop {
            match self.places.get(hole) {
                None | Some(&EMPTY) => return,
                Some(&word) if word & mask == id => break,
                Some(_) => hole = next(hole),
            }
        }
        // Who stands behind moves up, unless it would stand before its home then.
        let mut at = next(hole);
        while self.places[at] != EMPTY {
            let home = self.home(hash_of(self.places[at] & mask));
            let (from_home, from_hole) = (at.wrapping_sub(home), at.wrapping_sub(hole));
            if from_home & mask as usize >= from_hole & mask as usize {
                self.places[hole] = self.places[at];
                hole = at;
            }
            at = next(at);
        }
        self.places[hole] = EMPTY;
        self.len -= 1;
    }

    /// Takes all slots out and keeps the memory. O(places).
    pub(super) fn clear(&mut self) {
        self.places.fill(EMPTY);
        self.len = 0;
    }

    /// Where the number of a slot stands in a word.
    const fn mask(&self) -> u32 {
        (1 << self.bits) - 1
    }

    /// What stands above it: the low bits of the hash.
    const fn tag(&self, hash: u32) -> u32 {
        hash << self.bits
    }

    /// Where a search begins: the high bits of the hash.
    const fn home(&self, hash: u32) -> usize {
        (hash >> (32 - self.bits)) as usize
    }
}

/// At three quarters a look-up that finds nothing looks at 8.5 places in the mean, and one that finds at 2.5.
const fn most_entries(places: usize) -> usize {
    places / 4 * 3
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use super::*;
    use crate::rng::SplitMix64;

    /// An index beside a map that it has to agree with. Slots are numbered as a slab numbers them: the smallest free one first.
    struct Pair {
        index: Index,
        hashes: BTreeMap<u32, u32>,
    }

    impl Pair {
        fn insert(&mut self, hash: u32) {
            let id = (0..).find(|id| !self.hashes.contains_key(id)).unwrap();
            assert!(self.index.reserve(self.hashes.len() + 1, |id| self.hashes[&id]));
            self.index.insert(hash, id);
            self.hashes.insert(id, hash);
        }

        fn remove(&mut self, nth: usize) {
            let Some((&id, &hash)) = self.hashes.iter().nth(nth) else { return };
            self.index.remove(hash, id, |id| self.hashes[&id]);
            self.hashes.remove(&id);
        }

        fn check(&self) {
            assert_eq!(self.index.len(), self.hashes.len());
            assert_eq!(self.index.places.iter().filter(|&&word| word != EMPTY).count(), self.hashes.len());
            for (&id, &hash) in &self.hashes {
                assert_eq!(self.index.find(hash, |found| found == id), Some(id));
                assert_eq!(self.index.find(!hash, |found| found == id), None);
            }
        }
    }

    #[test]
    fn every_slot_is_found_after_any_insertions_and_removals() {
        // Few different hashes make long runs, which wrap around the end of the table; equal ones are told apart by number.
        for (seed, different) in [(1, 1), (2, 3), (3, 60), (4, u64::MAX)] {
            let mut rng = SplitMix64::new(seed);
            let mut pair = Pair { index: Index::new(), hashes: BTreeMap::new() };
            for step in 0..4_000_u64 {
                // Grows to some hundred, shrinks to nothing, and again.
                let grows = step % 1_000 < 500;
                if rng.below(8) < if grows { 6 } else { 2 } {
                    pair.insert((rng.below(different) as u32).wrapping_sub(1) ^ 0xf000_0000);
                } else {
                    pair.remove(rng.below(pair.hashes.len() as u64 + 1) as usize);
                }
                if step % 16 == 0 {
                    pair.check();
                }
            }
            let bytes = pair.index.bytes();
            pair.index.clear();
            pair.hashes.clear();
            pair.check();
            assert_eq!(pair.index.bytes(), bytes, "the memory is kept");
        }
    }

    #[test]
    fn a_table_that_holds_no_more_than_it_ever_did_does_not_grow() {
        let mut rng = SplitMix64::new(9);
        let mut pair = Pair { index: Index::new(), hashes: BTreeMap::new() };
        (0..300).for_each(|_| pair.insert(rng.next_u64() as u32));
        let bytes = pair.index.bytes();
        for _ in 0..5_000 {
            pair.remove(rng.below(300) as usize);
            pair.insert(rng.next_u64() as u32);
        }
        assert_eq!((pair.index.bytes(), bytes), (512 * 4, 512 * 4));
        pair.check();
    }

    #[test]
    fn an_empty_table_finds_nothing_and_takes_no_memory() {
        let mut index = Index::new();
        assert_eq!((index.find(u32::MAX, |_| true), index.bytes()), (None, 0));
        index.remove(u32::MAX, 0, |_| 0);
        assert!(!index.reserve(usize::MAX, |_| 0), "more than there are numbers");
    }

    #[test]
    fn what_is_kept_of_a_hash_depends_on_every_bit_of_it() {
        for bit in 0..64 {
            let hashes = (0..100_u64).map(|n| shorten(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            let flipped = (0..100_u64).map(|n| shorten(n.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (1 << bit)));
            assert!(hashes.zip(flipped).all(|(one, other)| one != other), "bit {bit}");
        }
    }
}
