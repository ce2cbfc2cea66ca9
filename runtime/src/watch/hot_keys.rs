//! The keys that are looked up most, out of a sample of the look-ups.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use groupcache_core::{GroupId, HashedKey, Instant};
use serde::Serialize;

use super::shown;

/// Keys that are counted at a time.
const COUNTERS: usize = 128;

/// Keys that are shown.
const SHOWN_KEYS: usize = 20;

/// How long one summary counts.
const TERM: Duration = Duration::from_secs(10);

/// The keys that were looked up most in the last 10 to 20 seconds, by this node's own callers and by peers.
///
/// One look-up in [`one_in`](Self::one_in) is counted, chosen at random, and stands for that many. The counts are those of Space-Saving (Metwally, Agrawal, El
/// Abbadi: Efficient computation of frequent and top-k elements in data streams, 2005) with 128 counters: no key that has more than 1/128 of the
/// sampled look-ups is missing, and a count is too high by [`HotKeyReport::error`] at most, apart from what chance adds to a sample. A look-up that comes
/// while another is being counted may be left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct HotKeysReport {
    /// One look-up in so many was counted.
    pub one_in: u32,
    /// What the counts are of, in milliseconds.
    pub window_ms: u64,
    /// The keys, the surest first.
    pub keys: Vec<HotKeyReport>,
}

/// A key that is looked up much.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct HotKeyReport {
    /// Its group.
    pub group: String,
    /// The key, or the beginning of it.
    pub key: String,
    /// Look-ups in the window, estimated.
    pub count: u64,
    /// By how much `count` may be too high.
    pub error: u64,
}

/// Counts look-ups by key. One look-up in `one_in` costs a lock and a walk through the counters; the others cost a countdown of their thread.
#[derive(Debug)]
pub(crate) struct HotKeys {
    one_in: NonZeroU32,
    terms: Mutex<Terms>,
}

thread_local! {
    /// Look-ups of this thread that are passed over until the next is counted, whichever node they are at.
    static COUNTDOWN: Cell<u32> = const { Cell::new(0) };
    static DICE: Cell<u64> = Cell::new(RandomState::new().hash_one(0) | 1);
}

impl HotKeys {
    pub(crate) fn new(one_in: NonZeroU32) -> Self {
        Self { one_in, terms: Mutex::default() }
    }

    /// Counts a look-up, or passes it over.
    #[inline]
    pub(crate) fn note(&self, key: &HashedKey<'_>, now: impl FnOnce() -> Instant) {
        if self.one_in.get() > 1 {
            let left = COUNTDOWN.get();
            if left > 0 {
                return COUNTDOWN.set(left - 1);
            }
            COUNTDOWN.set(self.draw());
        }
        self.count(key, now());
    }

    /// How many to pass over: `one_in - 1` on average, at random, since look-ups may come in a pattern.
    fn draw(&self) -> u32 {
        // xorshift64*, Vigna 2016. It begins odd, and is never 0.
        let mut dice = DICE.get();
        dice ^= dice >> 12;
        dice ^= dice << 25;
        dice ^= dice >> 27;
        DICE.set(dice);
        let most = u64::from(self.one_in.get()) * 2 - 1;
        let drawn = (u128::from(dice.wrapping_mul(0x2545_f491_4f6c_dd1d)) * u128::from(most)) >> 64;
        u32::try_from(drawn).unwrap_or(u32::MAX)
    }

    #[cold]
    fn count(&self, key: &HashedKey<'_>, now: Instant) {
        // Who would wait for another is no part of the sample: a hit is worth more than its count.
        if let Ok(mut terms) = self.terms.try_lock() {
            terms.turn(now);
            terms.current.add(key, u64::from(self.one_in.get()));
        }
    }

    pub(super) fn report(&self, now: Instant, group: impl Fn(GroupId) -> String) -> HotKeysReport {
        let mut terms = self.terms.lock().unwrap_or_else(PoisonError::into_inner);
        terms.turn(now);
        let window = now.saturating_since(terms.began());
        let mut keys = terms.merged();
        drop(terms);
        keys.sort_by_key(|it| std::cmp::Reverse((it.count - it.error, it.count)));
        keys.truncate(SHOWN_KEYS);
        let keys = keys.into_iter().map(|it| HotKeyReport {
            group: group(it.group),
            key: it.shown.into(),
            count: it.count,
            error: it.error,
        });
        HotKeysReport { one_in: self.one_in.get(), window_ms: super::millis(window), keys: keys.collect() }
    }
}

/// A summary of the current term, and one of the term before: what is shown is both together, so that it neither starts anew nor grows old.
#[derive(Debug, Default)]
struct Terms {
    current: Summary,
    before: Summary,
    /// When the current term began; none has before the first count.
    since: Option<Instant>,
    before_since: Option<Instant>,
}

impl Terms {
    fn turn(&mut self, now: Instant) {
        let since = *self.since.get_or_insert(now);
        let age = now.saturating_since(since);
        if age < TERM {
            return;
        }
        let ended = mem::take(&mut self.current);
        (self.before, self.before_since, self.since) = if age < 2 * TERM {
            (ended, Some(since), Some(since.saturating_add(TERM)))
        } else {
            // Nothing was looked up for a term: there is nothing to say of it.
            (Summary::default(), None, Some(now))
        };
    }

    fn began(&self) -> Instant {
        self.before_since.or(self.since).unwrap_or_default()
    }

    fn merged(&self) -> Vec<Counter> {
        let mut keys = self.current.counters.clone();
        for old in &self.before.counters {
            match keys.iter_mut().find(|new| new.is_of(old.group, old.hash)) {
                Some(new) => (new.count, new.error) = (new.count + old.count, new.error + old.error),
                None => keys.push(old.clone()),
            }
        }
        keys
    }
}

/// One key's count.
#[derive(Clone, Debug)]
struct Counter {
    group: GroupId,
    hash: u64,
    count: u64,
    error: u64,
    shown: Box<str>,
}

impl Counter {
    fn is_of(&self, group: GroupId, hash: u64) -> bool {
        self.hash == hash && self.group == group
    }
}

/// Space-Saving: a key without a counter takes over the smallest one, and with it what that has counted, as its error.
#[derive(Debug, Default)]
struct Summary {
    counters: Vec<Counter>,
}

impl Summary {
    /// O([`COUNTERS`]). Keys are told apart by their hashes, of 64 bits and keyed.
    fn add(&mut self, key: &HashedKey<'_>, weight: u64) {
        let (group, hash) = (key.group(), key.hash());
        if let Some(counter) = self.counters.iter_mut().find(|counter| counter.is_of(group, hash)) {
            counter.count += weight;
            return;
        }
        let shown = shown(key.as_bytes()).into_boxed_str();
        if self.counters.len() < COUNTERS {
            self.counters.push(Counter { group, hash, count: weight, error: 0, shown });
        } else if let Some(smallest) = self.counters.iter_mut().min_by_key(|counter| counter.count) {
            let error = smallest.count;
            *smallest = Counter { group, hash, count: error + weight, error, shown };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const G: GroupId = GroupId::new(0);

    fn at(ms: u64) -> Instant {
        Instant::from_nanos(ms * 1_000_000)
    }

    fn note(keys: &HotKeys, key: u64, now: Instant) {
        let text = key.to_string();
        keys.note(&HashedKey::new(G, text.as_bytes(), key), || now);
    }

    fn report(keys: &HotKeys, now: Instant) -> HotKeysReport {
        keys.report(now, |_| "g".to_owned())
    }

    fn every(one_in: u32) -> HotKeys {
        HotKeys::new(NonZeroU32::new(one_in).expect("not 0"))
    }

    #[test]
    fn heavy_keys_are_found_among_many_light_ones_and_no_count_is_too_low() {
        let keys = every(1);
        for round in 0..2_000 {
            note(&keys, 1, at(0));
            if round % 2 == 0 {
                note(&keys, 2, at(0));
            }
            note(&keys, 1_000 + round, at(0));
        }
        let shown = report(&keys, at(1)).keys;
        let names: Vec<&str> = shown.iter().map(|it| it.key.as_str()).take(2).collect();
        assert_eq!(names, ["1", "2"]);
        for (it, real) in shown.iter().zip([2_000, 1_000]) {
            assert!(it.count >= real && it.count - it.error <= real, "{it:?}");
        }
        assert!(shown.len() <= SHOWN_KEYS);
    }

    #[test]
    fn a_sample_stands_for_the_whole() {
        let keys = every(16);
        // A pattern whose length divides the sample's: a fixed countdown would see one of the keys only.
        (0..64_000).for_each(|n| note(&keys, n % 4, at(0)));
        let shown = report(&keys, at(1)).keys;
        assert_eq!(shown.len(), 4);
        for it in &shown {
            assert!((12_000..20_000).contains(&it.count), "16,000 look-ups are said to be {}", it.count);
        }
    }

    #[test]
    fn what_was_hot_is_forgotten_within_two_terms() {
        let keys = every(1);
        note(&keys, 1, at(0));
        note(&keys, 2, at(12_000));
        let shown = report(&keys, at(13_000));
        assert_eq!((shown.keys.len(), shown.window_ms), (2, 13_000));
        let shown = report(&keys, at(21_000));
        assert_eq!(shown.keys.iter().map(|it| it.key.as_str()).collect::<Vec<_>>(), ["2"]);
        assert_eq!(report(&keys, at(60_000)).keys, []);
    }
}
