//! Replays a trace of object ids against the eviction policy: the hidden feature `__bench`, for the example `hitrate`.

use alloc::vec;
use core::fmt;

use super::arena::{Arena, Content, NIL};
use super::b2::B2;
use super::b2a::Adapter;
use super::index::shorten;
use super::list::List;
use super::policy::{Policy, Tuning};
use crate::rng::SplitMix64;

/// What one entry is charged here: large beside its part of the sketch, so that a budget is a number of entries.
const UNIT: u32 = 1 << 16;

/// The object in a slot.
#[derive(Debug)]
struct Id(u32);

impl Content for Id {
    type Label = ();
    type Alignment = ();
}

/// The trace cannot be replayed: the tables do not fit into memory.
#[derive(Clone, Copy, Debug)]
pub struct OutOfMemory;

impl fmt::Display for OutOfMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the tables do not fit into memory")
    }
}

impl core::error::Error for OutOfMemory {}

/// A read-through cache of entries of equal charge.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Replay {
    /// How many entries fit.
    pub capacity: u32,
    /// Salts the hashes of the ids.
    pub seed: u64,
    /// The window's part in thousandths; `None` leaves the default.
    pub window: Option<u16>,
    /// Whether the window adapts.
    pub adapt: bool,
}

impl Replay {
    /// The hits on `ids`, which are best numbered densely from 0.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`] where the tables cannot be allocated.
    pub fn hits(&self, ids: &[u32]) -> Result<u64, OutOfMemory> {
        // The sketch is charged to the budget like everywhere else, so it is added to it first.
        let entries = u64::from(self.capacity) * u64::from(UNIT);
        let tables = B2::new(entries, self.capacity, 0).map_err(|_| OutOfMemory)?.table_bytes();
        let mut policy = B2::new(entries + tables, self.capacity, self.seed).map_err(|_| OutOfMemory)?;
        if let Some(window_permille) = self.window {
            policy.tune(Tuning { window_permille, lenient: false });
        }
        let mut adapter = self.adapter(entries)?;
        let mut arena = Arena::new();
        let objects = ids.iter().max().map_or(0, |&most| most as usize + 1);
        let mut slots = vec![NIL; objects];
        let mut hits = 0;
        for &id in ids {
            let slot = &mut slots[id as usize];
            let hit = *slot != NIL;
            hits += u64::from(hit);
            if hit && !arena.slot(*slot).touch(B2::MAX_HITS) {
                continue;
            }
            let hash = SplitMix64::new(u64::from(id) ^ self.seed.rotate_left(32)).next_u64();
            let adapter = adapter.as_mut().filter(|adapter| adapter.sampler().takes(hash));
            if let Some(tuning) = adapter.and_then(|adapter| adapter.feed(hash, UNIT)) {
                policy.tune(tuning);
            }
            if hit {
                continue;
            }
            *slot = arena.insert(shorten(hash), UNIT, (), Id(id)).ok_or(OutOfMemory)?;
            let mut out = List::outgoing();
            policy.insert(&mut arena, *slot, &|_| false, &mut out);
            while let Some(victim) = out.tail() {
                out.unlink(&mut arena, victim);
                if let Some(Id(id)) = arena.remove(victim) {
                    slots[id as usize] = NIL;
                }
            }
        }
        Ok(hits)
    }

    fn adapter(&self, budget: u64) -> Result<Option<Adapter>, OutOfMemory> {
        if !self.adapt {
            return Ok(None);
        }
        Adapter::new(budget, self.capacity, self.seed).map(Some).map_err(|_| OutOfMemory)
    }
}
