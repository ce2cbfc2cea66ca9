//! How often a key was asked for, roughly and in little memory.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;

/// 4 rows of 32 counters of 4 bits: one cache line.
#[derive(Clone, Debug)]
#[repr(align(64))]
struct Block([u64; 8]);

const BLOCK_BYTES: u64 = 64;
/// 2 words of 64 bits for an expected entry.
const ENTRIES_PER_BLOCK: u32 = 4;
/// The period of ageing, in increments for an expected entry. Halving halves the increments counted so far as well, as in TinyLFU.
const PERIOD: u64 = 20;
const MAX_COUNT: u8 = 15;

/// A count-min sketch of 4-bit counters with conservative increments that forgets by halving.
///
/// Cormode, Muthukrishnan: "An improved data stream summary: the count-min sketch and its applications" (2005); ageing as in TinyLFU (Einziger,
/// Friedman, Manes, 2017). All counters of a key lie in one 64-byte block, so an operation costs one cache miss. An estimate is never below the
/// true count since the last halving (up to 15), and rarely far above it.
#[derive(Debug)]
pub(super) struct Sketch {
    /// A power of two of them, or none: then every estimate is 0.
    blocks: Vec<Block>,
    entries: u32,
    additions: u64,
}

impl Sketch {
    /// A sketch for `entries` expected entries, smaller where it would occupy more than `limit` bytes, and empty where not even a block fits.
    pub(super) fn new(entries: u32, limit: u64) -> Result<Self, TryReserveError> {
        let wanted = u64::from(entries.div_ceil(ENTRIES_PER_BLOCK)).next_power_of_two();
        // What rounding up has given is used up before it is doubled.
        let laid_out = u32::try_from(wanted * u64::from(ENTRIES_PER_BLOCK)).unwrap_or(u32::MAX);
        let mut blocks = wanted;
        while blocks > 0 && blocks * BLOCK_BYTES > limit {
            blocks /= 2;
        }
        // A count that does not fit an address space is refused by `try_reserve_exact`.
        let blocks = usize::try_from(blocks).unwrap_or(usize::MAX);
        let entries = if (blocks as u64) < wanted { entries.max(1) } else { laid_out };
        let mut sketch = Self { blocks: Vec::new(), entries, additions: 0 };
        sketch.blocks.try_reserve_exact(blocks)?;
        sketch.blocks.resize(blocks, Block([0; 8]));
        Ok(sketch)
    }

    /// The entries that the sketch is laid out for.
    pub(super) const fn entries(&self) -> u32 {
        self.entries
    }

    pub(super) fn bytes(&self) -> u64 {
        self.blocks.len() as u64 * BLOCK_BYTES
    }

    /// Lays the sketch out for twice the entries.
    ///
    /// A key's block in the larger table is one of two copies of its block in the smaller, so no estimate changes. Where twice the memory is over
    /// `limit`, or not to be had, only the period of ageing grows.
    pub(super) fn double(&mut self, limit: u64) {
        self.entries = self.entries.saturating_mul(2);
        if self.bytes() * 2 <= limit && self.blocks.try_reserve_exact(self.blocks.len()).is_ok() {
            self.blocks.extend_from_within(..);
        }
    }

    /// Counts `times` more requests of the key.
    pub(super) fn add(&mut self, hash: u64, times: u8) {
        if times == 0 {
            return;
        }
        let Some((block, cells)) = self.locate(hash) else { return };
        let words = &mut self.blocks[block].0;
        let least = cells.iter().map(|cell| cell.read(words)).min().unwrap_or(0);
        let count = least.saturating_add(times).min(MAX_COUNT);
        for cell in cells {
            cell.raise(words, count);
        }
        self.additions += u64::from(times);
        if self.additions >= PERIOD * u64::from(self.entries) {
            self.halve();
        }
    }

    /// How often the key was asked for, as far as the sketch remembers: 0 to 15.
    pub(super) fn estimate(&self, hash: u64) -> u8 {
        let Some((block, cells)) = self.locate(hash) else { return 0 };
        let words = &self.blocks[block].0;
        cells.iter().map(|cell| cell.read(words)).min().unwrap_or(0)
    }

    fn halve(&mut self) {
        for word in self.blocks.iter_mut().flat_map(|block| block.0.iter_mut()) {
            *word = (*word >> 1) & 0x7777_7777_7777_7777;
        }
        self.additions /= 2;
    }

    /// The block of a key, and its counter in each row. `None` in an empty sketch.
    fn locate(&self, hash: u64) -> Option<(usize, [Cell; 4])> {
        let mask = self.blocks.len().checked_sub(1)?;
        // The finaliser of SplitMix64: tables spend the bits of the table hash on buckets, tags and shards, so none is free as it stands.
        let mut bits = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        let cells = [0, 1, 2, 3].map(|row| {
            let column = (bits >> (44 + 5 * row)) as u32 & 31;
            Cell { word: 2 * row + (column >> 4) as usize, shift: 4 * (column & 15) }
        });
        Some((bits as usize & mask, cells))
    }
}

/// One counter of a block.
#[derive(Clone, Copy, Debug)]
struct Cell {
    word: usize,
    shift: u32,
}

impl Cell {
    const fn read(self, words: &[u64; 8]) -> u8 {
        (words[self.word] >> self.shift) as u8 & MAX_COUNT
    }

    /// Conservative: a counter that is higher already belongs to somebody else too, and stays.
    const fn raise(self, words: &mut [u64; 8], count: u8) {
        if self.read(words) < count {
            words[self.word] =
                words[self.word] & !((MAX_COUNT as u64) << self.shift) | (count as u64) << self.shift;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;

    #[test]
    fn an_estimate_is_never_below_the_count_and_rarely_above() {
        let mut sketch = Sketch::new(1024, u64::MAX).unwrap();
        let mut rng = SplitMix64::new(1);
        let keys: Vec<(u64, u8)> = (0..1024).map(|n| (rng.next_u64(), 1 + (n % 9) as u8)).collect();
        for &(key, count) in &keys {
            sketch.add(key, count);
        }
        assert!(keys.iter().all(|&(key, count)| sketch.estimate(key) >= count));
        let over = keys.iter().filter(|&&(key, count)| sketch.estimate(key) > count + 1).count();
        assert!(over < 50, "{over} of 1024 estimates are off by two or more");
        assert!((0..1000).filter(|_| sketch.estimate(rng.next_u64()) > 3).count() < 100);
    }

    #[test]
    fn counters_saturate_and_all_are_halved_after_the_period() {
        let mut sketch = Sketch::new(4, u64::MAX).unwrap();
        for _ in 0..26 {
            sketch.add(7, 3);
        }
        assert_eq!(sketch.estimate(7), 15);
        sketch.add(7, 2);
        assert_eq!(sketch.estimate(7), 7, "the 80th increment halves");
        sketch.add(7, 1);
        assert_eq!(sketch.estimate(7), 8);
        // What was counted before counts for half of the next period.
        for _ in 0..38 {
            sketch.add(7, 1);
        }
        assert_eq!(sketch.estimate(7), 15);
        sketch.add(7, 1);
        assert_eq!(sketch.estimate(7), 7, "the 120th as well");
    }

    #[test]
    fn a_sketch_counts_as_plain_counters_would_each_by_itself() {
        use alloc::collections::BTreeMap;
        let mut sketch = Sketch::new(24, u64::MAX).unwrap();
        let mut plain: BTreeMap<(usize, usize, u32), u8> = BTreeMap::new();
        let mut rng = SplitMix64::new(5);
        let mut additions = 0;
        for _ in 0..20_000 {
            let (key, times) = (rng.below(60) * rng.below(60), rng.below(4) as u8);
            let (block, cells) = sketch.locate(key).unwrap();
            let places = cells.map(|cell| (block, cell.word, cell.shift));
            let count = |plain: &BTreeMap<_, u8>| {
                places.iter().map(|place| *plain.get(place).unwrap_or(&0)).min().unwrap()
            };
            if times > 0 {
                let raised = (count(&plain) + times).min(15);
                for place in places {
                    let counter = plain.entry(place).or_insert(0);
                    *counter = (*counter).max(raised);
                }
                additions += u64::from(times);
            }
            if additions >= 20 * u64::from(sketch.entries()) {
                plain.values_mut().for_each(|counter| *counter /= 2);
                additions /= 2;
            }
            sketch.add(key, times);
            assert_eq!(sketch.estimate(key), count(&plain));
        }
        for (block, words) in sketch.blocks.iter().enumerate() {
            for (word, value) in words.0.iter().enumerate() {
                for shift in (0..64).step_by(4) {
                    let counter = (value >> shift) as u8 & 15;
                    assert_eq!(counter, *plain.get(&(block, word, shift)).unwrap_or(&0));
                }
            }
        }
    }

    /// How unevenly `keys` come to `places` places: the sum of squares of what is over or under, in units of what chance alone would make of it.
    fn unevenness(places: usize, keys: impl Iterator<Item = usize>) -> f64 {
        let mut counts = alloc::vec![0_u32; places];
        keys.for_each(|place| counts[place] += 1);
        let mean = f64::from(counts.iter().sum::<u32>()) / places as f64;
        let squares: f64 =
            counts.iter().map(|&count| (f64::from(count) - mean) * (f64::from(count) - mean)).sum();
        squares / mean / places as f64
    }

    type Hashing = fn(u64) -> u64;

    #[test]
    fn keys_spread_over_blocks_and_over_each_row_by_itself_however_alike_their_hashes_are() {
        let sketch = Sketch::new(64 * ENTRIES_PER_BLOCK, u64::MAX).unwrap();
        let mut rng = SplitMix64::new(9);
        let random: Vec<u64> = (0..1 << 15).map(|_| rng.next_u64()).collect();
        let alike: [(&str, Hashing); 5] = [
            ("counted up", |n| n),
            ("counted down", |n| !n),
            ("in the middle", |n| n << 24),
            ("at the top", |n| n << 49),
            ("at both ends", |n| n << 56 | n >> 8 << 3),
        ];
        let sets = alike.map(|(name, hash)| (name, (0..1 << 15).map(hash).collect::<Vec<u64>>()));
        for (name, hashes) in sets.into_iter().chain([("random", random)]) {
            let places: Vec<(usize, [usize; 4])> = hashes
                .iter()
                .map(|&hash| {
                    let (block, cells) = sketch.locate(hash).unwrap();
                    let column = |row: usize| {
                        assert_eq!(
                            (cells[row].word / 2, cells[row].shift % 4),
                            (row, 0),
                            "a row is two words"
                        );
                        (cells[row].word % 2) * 16 + cells[row].shift as usize / 4
                    };
                    (block, [0, 1, 2, 3].map(column))
                })
                .collect();
            let even = |what: &str, places: usize, keys: &mut dyn Iterator<Item = usize>| {
                let unevenness = unevenness(places, keys);
                assert!(unevenness < 1.5, "{what} of hashes {name}: {unevenness}");
            };
            for row in 0..4 {
                even(
                    "block and column",
                    64 * 32,
                    &mut places.iter().map(|(block, columns)| block * 32 + columns[row]),
                );
                for other in 0..row {
                    let pair = |(_, columns): &(usize, [usize; 4])| columns[row] * 32 + columns[other];
                    even("two columns", 32 * 32, &mut places.iter().map(pair));
                }
            }
        }
    }

    #[test]
    fn doubling_keeps_every_estimate() {
        let mut sketch = Sketch::new(64, u64::MAX).unwrap();
        let mut rng = SplitMix64::new(2);
        let keys: Vec<u64> = (0..200).map(|_| rng.next_u64()).collect();
        for (n, &key) in keys.iter().enumerate() {
            sketch.add(key, (n % 4) as u8);
        }
        let before: Vec<u8> = keys.iter().map(|&key| sketch.estimate(key)).collect();
        sketch.double(u64::MAX);
        assert_eq!(keys.iter().map(|&key| sketch.estimate(key)).collect::<Vec<_>>(), before);
        assert_eq!((sketch.bytes(), sketch.entries()), (2048, 128));
        sketch.double(4095);
        assert_eq!(
            (sketch.bytes(), sketch.entries()),
            (2048, 256),
            "the limit holds the table, not the period"
        );
    }

    #[test]
    fn a_sketch_without_room_answers_zero() {
        let mut sketch = Sketch::new(100, 63).unwrap();
        sketch.add(1, 3);
        assert_eq!((sketch.bytes(), sketch.estimate(1)), (0, 0));
        sketch.double(u64::MAX);
        assert_eq!(sketch.bytes(), 0);
        assert_eq!(Sketch::new(100, 100).unwrap().bytes(), 64);
    }
}
