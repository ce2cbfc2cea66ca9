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
