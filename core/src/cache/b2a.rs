//! B2a: B2 whose window adapts to the traffic. The arms, the sampling and the rule, in one place.
//!
//! Five shadows run B2 with different windows over a sample of the keys, as lists of hashes without values. Every so often the real cache is
//! tuned a step towards the shadow that hit most. Shadows see the same requests at the same time, so no change of the traffic is mistaken for an
//! effect of tuning, and a good setting is found even when all between it and the present one are bad.
//!
//! An adapter serves one share of one shard, and is fed by it (`adaptive.rs`), so that shards stay independent of each other.

use alloc::collections::TryReserveError;
use core::mem::size_of;

use super::arena::{Arena, Slot};
use super::b2::B2;
use super::index::{Index, shorten};
use super::list::List;
use super::policy::{Policy, Tuning};
use crate::error::ConfigError;

/// What the shadows try. The second is where a cache starts from.
const ARMS: [Tuning; 5] = [
    Tuning { window_permille: 20, lenient: false },
    Tuning { window_permille: 100, lenient: false },
    Tuning { window_permille: 300, lenient: false },
    Tuning { window_permille: 800, lenient: false },
    Tuning { window_permille: 100, lenient: true },
];
const FIRST_ARM: usize = 1;
/// A shadow stands for about so many entries, within the bounds of the rate.
const SHADOW_ENTRIES: u32 = 512;
const LEAST_RATE: u32 = 8;
const MOST_RATE: u32 = 256;
/// A decision is made after so many fed requests for each entry of a shadow.
const PERIOD: u32 = 4;
/// The lead that an arm needs: more than one in so many of the fed requests.
const LEAD_PART: u32 = 500;
/// The window moves by at most so much in a step, in thousandths of the capacity.
const STEP: u16 = 250;

/// Tells which keys are in the sample: one in so many. Copied to wherever requests are served, so that the others cost no lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sampler {
    rate: u32,
}

impl Sampler {
    /// Whether the key with this table hash is in the sample.
    pub(crate) const fn takes(self, hash: u64) -> bool {
        // Other bits than index, sketch and shards use, or the sample would be a skewed one.
        let bits = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        (bits * self.rate as u64) >> 32 == 0
    }
}

/// Tunes one share of a cache while it runs.
#[derive(Debug)]
pub(crate) struct Adapter {
    sampler: Sampler,
    shadows: [Shadow; ARMS.len()],
    arm: usize,
    tuning: Tuning,
    period: u32,
    until_decision: u32,
    /// Requests since the start, halved with the shadows' hits.
    fed: u32,
}

impl Adapter {
    /// An adapter for a share of `budget` bytes, which is expected to hold `entries` entries.
    ///
    /// # Errors
    ///
    /// [`ConfigError::OutOfMemory`] where the shadows cannot be allocated.
    pub(crate) fn new(budget: u64, entries: u32, seed: u64) -> Result<Self, ConfigError> {
        let rate = (entries / SHADOW_ENTRIES).clamp(LEAST_RATE, MOST_RATE);
        let shadow_entries = (entries / rate).max(1);
        let shadow = |arm| {
            Shadow::new(budget / u64::from(rate), shadow_entries, seed, arm)
                .map_err(|_| ConfigError::OutOfMemory)
        };
        let [a, b, c, d, e] = ARMS;
        let period = shadow_entries.saturating_mul(PERIOD);
        Ok(Self {
            sampler: Sampler { rate },
            shadows: [shadow(a)?, shadow(b)?, shadow(c)?, shadow(d)?, shadow(e)?],
            arm: FIRST_ARM,
            tuning: Tuning::default(),
            period,
            until_decision: period,
            fed: 0,
        })
    }

    /// The tuning in force.
    pub(crate) const fn tuning(&self) -> Tuning {
        self.tuning
    }

    /// Goes on from a tuning that another adapter has come to.
    pub(crate) const fn with_tuning(mut self, tuning: Tuning) -> Self {
        self.tuning = tuning;
        self
    }

    /// Which keys to feed.
    pub(crate) const fn sampler(&self) -> Sampler {
        self.sampler
    }

    /// The memory that the shadows occupy, in bytes, to be taken off the share's budget: 20 to 30 bytes an entry of a small cache, at most
    /// 200 kB up to 130 000 entries, and a byte an entry from there.
    pub(crate) fn bytes(&self) -> u64 {
        self.shadows.iter().map(Shadow::bytes).sum()
    }

    /// Takes in one request for a sampled key: a miss, or a hit that was counted (of those that were not, nothing is to be learnt).
    /// `charge` is what the entry is charged. Answers how to tune the share, where that changes.
    pub(crate) fn feed(&mut self, hash: u64, charge: u32) -> Option<Tuning> {
        for shadow in &mut self.shadows {
            shadow.request(hash, charge);
        }
        self.fed += 1;
        self.until_decision -= 1;
        if self.until_decision > 0 {
            return None;
        }
        self.until_decision = self.period;
        let before = self.tuning;
        self.decide();
        (self.tuning != before).then_some(self.tuning)
    }

    /// Moves a step towards the arm that leads, and halves what was counted, so that the past fades.
    fn decide(&mut self) {
        let hits = |arm: usize| self.shadows[arm].hits;
        let best =
            (0..ARMS.len()).fold(self.arm, |best, arm| if hits(arm) > hits(best) { arm } else { best });
        if hits(best) - hits(self.arm) > self.fed / LEAD_PART {
            self.arm = best;
        }
        let (target, window) = (ARMS[self.arm], self.tuning.window_permille);
        let window_permille =
            target.window_permille.clamp(window.saturating_sub(STEP), window.saturating_add(STEP));
        self.tuning = Tuning { window_permille, lenient: target.lenient };
        for shadow in &mut self.shadows {
            shadow.hits /= 2;
        }
        self.fed /= 2;
    }
}

/// A cache of hashes: what B2 would hold with one arm's tuning.
#[derive(Debug)]
struct Shadow {
    index: Index,
    arena: Arena<()>,
    policy: B2,
    hits: u32,
}

impl Shadow {
    fn new(capacity: u64, entries: u32, seed: u64, tuning: Tuning) -> Result<Self, TryReserveError> {
        // A shadow's tables do not grow with what its entries are charged, so they come on top.
        let tables = B2::new(capacity, entries, seed)?.table_bytes();
        let mut policy = B2::new(capacity.saturating_add(tables), entries, seed)?;
        policy.tune(tuning);
        Ok(Self { index: Index::new(), arena: Arena::new(), policy, hits: 0 })
    }

    fn bytes(&self) -> u64 {
        let tables = self.arena.allocated() * size_of::<Slot<()>>() + self.index.bytes();
        tables as u64 + self.policy.table_bytes()
    }

    fn request(&mut self, hash: u64, charge: u32) {
        let Self { index, arena, policy, hits } = self;
        let hash = shorten(hash);
        if let Some(id) = index.find(hash, |id| arena.slot(id).hash == hash) {
            arena.slot(id).touch(B2::MAX_HITS);
            *hits += 1;
            return;
        }
        let fits = u64::from(charge) <= policy.capacity();
        if !fits || !index.reserve(policy.entries() as usize + 1, |id| arena.slot(id).hash) {
            return;
        }
        let Some(id) = arena.insert(hash, charge, (), ()) else { return };
        index.insert(hash, id);
        let mut out = List::outgoing();
        policy.insert(arena, id, &|_| false, &mut out);
        while let Some(victim) = out.tail() {
            out.unlink(arena, victim);
            index.remove(arena.slot(victim).hash, victim, |id| arena.slot(id).hash);
            arena.remove(victim);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;

    const UNIT: u32 = 1 << 10;

    /// Feeds an adapter for a cache of `entries` with the requests `names` and answers the last tuning.
    fn tuned(entries: u32, names: impl Iterator<Item = u32>) -> (Adapter, Tuning) {
        let mut adapter = Adapter::new(u64::from(entries) * u64::from(UNIT), entries, 1).unwrap();
        let mut last = Tuning::default();
        for name in names {
            let hash = SplitMix64::new(name.into()).next_u64();
            if !adapter.sampler().takes(hash) {
                continue;
            }
            if let Some(tuning) = adapter.feed(hash, UNIT) {
                assert!(
                    tuning.window_permille.abs_diff(last.window_permille) <= STEP,
                    "{last:?} to {tuning:?}"
                );
                assert_ne!(tuning, last, "told only of changes");
                last = tuning;
            }
        }
        (adapter, last)
    }

    /// Every name is asked for twice, 5000 others apart: a window of 80 % of 8000 entries catches the second time.
    fn recent(turns: u32) -> impl Iterator<Item = u32> {
        (0..turns).flat_map(|turn| [Some(turn), turn.checked_sub(5_000)]).flatten()
    }

    #[test]
    fn the_sample_is_one_key_in_rate() {
        for rate in [8, 100, 256] {
            let mut rng = SplitMix64::new(3);
            let taken = (0..100_000).filter(|_| Sampler { rate }.takes(rng.next_u64())).count() as u32;
            assert!(taken.abs_diff(100_000 / rate) < 100_000 / rate / 5, "{taken} at 1 in {rate}");
        }
    }

    #[test]
    fn the_window_widens_for_traffic_that_is_recent_and_never_frequent() {
        let (_, tuning) = tuned(8_000, recent(200_000));
        assert_eq!(tuning, Tuning { window_permille: 800, lenient: false });
    }

    #[test]
    fn the_window_stays_narrow_for_a_loop() {
        let (_, tuning) = tuned(8_000, (0..400_000).map(|turn| turn % 12_000));
        assert!(tuning.window_permille <= 100 && !tuning.lenient, "{tuning:?}");
    }

    #[test]
    fn what_suited_the_past_is_given_up() {
        let (_, tuning) =
            tuned(8_000, recent(150_000).chain((0..800_000).map(|turn| 1_000_000 + turn % 12_000)));
        assert!(tuning.window_permille <= 100, "{tuning:?}");
    }

    #[test]
    fn shadows_cost_little_and_keep_to_their_capacity() {
        for entries in [1, 100, 10_000, 300_000] {
            let (adapter, _) = tuned(entries, 0..2 * entries);
            assert!(adapter.bytes() < 600_000 + 5 * u64::from(entries), "{entries}: {}", adapter.bytes());
            for shadow in &adapter.shadows {
                let mut listed = 0;
                shadow.policy.check(&shadow.arena, &mut |_| listed += 1).unwrap();
                assert_eq!((shadow.index.len() as u32, shadow.arena.len()), (listed, listed));
            }
        }
    }
}
