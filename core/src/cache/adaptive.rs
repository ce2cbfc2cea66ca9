//! Feeds the adapter of a share: misses as they are inserted, and hits, which have only `&self`, by way of a small buffer.

use alloc::boxed::Box;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::b2a::{Adapter, Sampler};
use super::policy::Tuning;
use crate::error::ConfigError;

/// Hits that can wait to be fed. They come one in at least eight, and only while an entry's counter is not full: between two insertions more are rare,
/// and what finds no place is a sample less.
const HEARD: usize = 32;

/// An [`Adapter`], and what it has yet to hear of.
#[derive(Debug)]
pub(super) struct Adaptive {
    adapter: Adapter,
    sampler: Sampler,
    heard: Box<[Heard; HEARD]>,
    next: AtomicU32,
    budget: u64,
    /// How many entries the shadows stand for.
    entries: u32,
    seed: u64,
}

#[derive(Debug, Default)]
struct Heard {
    hash: AtomicU64,
    charge: AtomicU32,
}

impl Adaptive {
    /// For a share of `budget` bytes that is expected to hold `entries` entries.
    pub(super) fn new(budget: u64, entries: u32, seed: u64) -> Result<Self, ConfigError> {
        let adapter = Adapter::new(budget, entries, seed)?;
        let heard = Box::new(core::array::from_fn(|_| Heard::default()));
        Ok(Self {
            sampler: adapter.sampler(),
            adapter,
            heard,
            next: AtomicU32::new(0),
            budget,
            entries,
            seed,
        })
    }

    /// The memory that it occupies, in bytes; to be paid by the share.
    pub(super) fn bytes(&self) -> u64 {
        self.adapter.bytes() + size_of::<[Heard; HEARD]>() as u64
    }

    /// Takes note of a hit that was counted. Readers run side by side: each gets a place of its own, and whoever feeds excludes them all.
    pub(super) fn note_hit(&self, hash: u64, charge: u32) {
        if !self.sampler.takes(hash) {
            return;
        }
        let place = self.next.fetch_add(1, Ordering::Relaxed) as usize;
        if let Some(heard) = self.heard.get(place) {
            heard.hash.store(hash, Ordering::Relaxed);
            heard.charge.store(charge, Ordering::Relaxed);
        }
    }

    /// How many hits have yet to be fed.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> u32 {
        self.next.load(Ordering::Relaxed)
    }

    /// Takes in what was heard, and a miss that is being inserted into a share of `live` entries. Answers how to tune the share, where that changes.
    pub(super) fn note_miss(&mut self, hash: u64, charge: u32, live: u32) -> Option<Tuning> {
        self.follow_growth(live);
        let heard = (*self.next.get_mut() as usize).min(HEARD);
        *self.next.get_mut() = 0;
        let mut tuning = None;
        for index in 0..heard {
            let Heard { hash, charge } = &mut self.heard[index];
            tuning = self.adapter.feed(*hash.get_mut(), *charge.get_mut()).or(tuning);
        }
        if self.sampler.takes(hash) {
            tuning = self.adapter.feed(hash, charge).or(tuning);
        }
        tuning
    }

    /// Samples fewer keys once there are many more entries than was expected: shadows of a rate that is too high would take what they are to save.
    /// They start over then, and the tuning in force stays until they know better. Where memory is short, all stays as it is.
    fn follow_growth(&mut self, live: u32) {
        if live / 2 <= self.entries {
            return;
        }
        self.entries = live;
        if let Ok(adapter) = Adapter::new(self.budget, live, self.seed) {
            self.sampler = adapter.sampler();
            self.adapter = adapter.with_tuning(self.adapter.tuning());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;

    const BUDGET: u64 = 16 << 20;

    fn adaptive(entries: u32) -> Adaptive {
        Adaptive::new(BUDGET, entries, 1).unwrap()
    }

    /// Hashes that are in the sample, or that are not.
    fn hashes(sampler: Sampler, taken: bool) -> impl Iterator<Item = u64> {
        let mut rng = SplitMix64::new(2);
        core::iter::repeat_with(move || rng.next_u64()).filter(move |&hash| sampler.takes(hash) == taken)
    }

    #[test]
    fn hits_on_sampled_keys_wait_as_far_as_there_is_room_and_the_next_miss_takes_them_in() {
        let mut adaptive = adaptive(100_000);
        let sampler = adaptive.sampler;
        let miss = |taken| hashes(sampler, taken).next().unwrap();
        for (hits, heard) in [(0, 0), (5, 5), (HEARD, HEARD), (HEARD + 9, HEARD)] {
            for taken in [false, true] {
                let before = adaptive.adapter.fed();
                hashes(sampler, false).take(100).for_each(|hash| adaptive.note_hit(hash, 100));
                assert_eq!(adaptive.waiting(), 0);
                hashes(sampler, true).take(hits).for_each(|hash| adaptive.note_hit(hash, 100));
                assert_eq!(adaptive.waiting(), hits as u32);
                assert_eq!(adaptive.note_miss(miss(taken), 100, 0), None);
                assert_eq!(adaptive.waiting(), 0);
                assert_eq!(adaptive.adapter.fed() - before, heard as u32 + u32::from(taken));
            }
        }
    }

    #[test]
    fn a_share_of_far_more_entries_than_expected_is_sampled_anew_and_keeps_its_tuning() {
        let mut adaptive = adaptive(4_096);
        let tuning = Tuning { window_permille: 300, lenient: false };
        adaptive.adapter = Adapter::new(BUDGET, 4_096, 1).unwrap().with_tuning(tuning);
        let sampler = adaptive.sampler;
        let miss = |live, adaptive: &mut Adaptive| {
            let hash = hashes(adaptive.sampler, true).next().unwrap();
            let _tuning = adaptive.note_miss(hash, 100, live);
        };
        miss(2 * 4_096 + 1, &mut adaptive);
        assert_eq!((adaptive.sampler, adaptive.adapter.fed()), (sampler, 1), "not yet twice as many");
        miss(2 * 4_096 + 2, &mut adaptive);
        assert_ne!(adaptive.sampler, sampler);
        assert_eq!(
            (adaptive.adapter.fed(), adaptive.adapter.tuning()),
            (1, tuning),
            "the shadows start over"
        );
        let again = adaptive.sampler;
        miss(2 * 4_096 + 2, &mut adaptive);
        assert_eq!((adaptive.sampler, adaptive.adapter.fed()), (again, 2), "once");
    }

    #[test]
    fn what_waits_to_be_fed_takes_memory_besides_the_shadows() {
        let adaptive = adaptive(1_000);
        assert_eq!(adaptive.bytes() - adaptive.adapter.bytes(), 16 * HEARD as u64);
    }
}
