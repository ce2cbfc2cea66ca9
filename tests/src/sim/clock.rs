//! Time: one virtual clock for the world, one that is off for each node, and the queue of what is to come.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use groupcache_core::Instant;

use super::random::Random;

/// Nanoseconds of the world since the run began.
pub(super) type Time = u64;

pub(super) const MS: Time = 1_000_000;
pub(super) const SECOND: Time = 1_000 * MS;

/// A node's clock: it began somewhere, runs a little too fast or too slow, and may jump.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    base: i128,
    since: Time,
    /// Millionths by which it runs too fast.
    drift: i64,
    /// The latest reading: what a node that clamps goes by.
    latest: Instant,
    /// Until when it shows nothing later than it has shown already, since it was set back.
    still_until: Time,
}

impl Clock {
    pub(super) const fn new(start: u64, since: Time, drift: i64) -> Self {
        Self { base: start as i128, since, drift, latest: Instant::from_nanos(start), still_until: since }
    }

    fn at(&self, now: Time) -> i128 {
        let elapsed = i128::from(now - self.since);
        self.base + elapsed + elapsed * i128::from(self.drift) / 1_000_000
    }

    /// What the clock shows: it may lie before an earlier reading.
    pub(super) fn read(&mut self, now: Time) -> Instant {
        let reading = self.shows(now);
        self.latest = self.latest.max(reading);
        reading
    }

    pub(super) const fn drift(&self) -> i64 {
        self.drift
    }

    /// What the clock shows, where that is of no consequence.
    pub(super) fn shows(&self, now: Time) -> Instant {
        Instant::from_nanos(self.at(now).clamp(0, i128::from(u64::MAX)) as u64)
    }

    /// The latest that it has shown.
    pub(super) const fn latest(&self) -> Instant {
        self.latest
    }

    /// The end of the last time in which it stood still for who clamps it.
    pub(super) const fn still_until(&self) -> Time {
        self.still_until
    }

    /// Sets the clock forwards or back. Not back again before it has caught up: a node stands still for that long.
    pub(super) fn jump(&mut self, now: Time, by: i64) -> bool {
        let reading = self.at(now);
        let is_behind = reading < i128::from(self.latest.as_nanos());
        if (by < 0 && is_behind) || reading + i128::from(by) < 0 {
            return false;
        }
        (self.base, self.since) = (reading + i128::from(by), now);
        self.still_until = self.when(now, self.latest).unwrap_or(Time::MAX);
        true
    }

    /// When the clock shows `at`, at `now` or later; `None` where that is out of reach.
    pub(super) fn when(&self, now: Time, at: Instant) -> Option<Time> {
        let wanted = i128::from(at.as_nanos()) - self.base;
        if wanted > 1 << 60 {
            return None;
        }
        let elapsed = (wanted * 1_000_000 / (1_000_000 + i128::from(self.drift)) - 2).max(0);
        let mut time = now.max(self.since + elapsed as Time);
        while self.at(time) < i128::from(at.as_nanos()) {
            time += 1;
        }
        Some(time)
    }
}

/// What is to come, earliest first; what comes at the same time is ordered by chance.
#[derive(Debug)]
pub(super) struct Queue<E> {
    heap: BinaryHeap<Reverse<(Time, u32, u32)>>,
    events: Vec<Option<E>>,
    free: Vec<u32>,
}

impl<E> Queue<E> {
    pub(super) const fn new() -> Self {
        Self { heap: BinaryHeap::new(), events: Vec::new(), free: Vec::new() }
    }

    pub(super) fn push(&mut self, at: Time, random: &mut Random, event: E) {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.events.push(None);
                (self.events.len() - 1) as u32
            }
        };
        self.events[slot as usize] = Some(event);
        self.heap.push(Reverse((at, random.next() as u32, slot)));
    }

    pub(super) fn next_at(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((at, ..))| *at)
    }

    pub(super) fn pop(&mut self) -> Option<E> {
        let Reverse((_, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        self.events[slot as usize].take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_drifts_shows_a_time_exactly_when_it_says_so() {
        for drift in [-50_000, -1, 0, 7, 50_000] {
            let mut clock = Clock::new(1 << 62, 17, drift);
            for wanted in [0, 1, 999, 123_456_789, 3_600 * SECOND] {
                let at = Instant::from_nanos((1 << 62) + wanted);
                let when = clock.when(17, at).expect("in reach");
                assert!(clock.read(when) >= at && (when == 17 || clock.read(when - 1) < at));
            }
        }
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_its_latest_reading_until_it_has_caught_up() {
        let mut clock = Clock::new(SECOND, 0, 0);
        let before = clock.read(SECOND);
        assert!(clock.jump(SECOND, -(MS as i64)) && !clock.jump(SECOND, -(MS as i64)));
        assert!(clock.read(SECOND) < before);
        assert_eq!(clock.latest(), before);
        assert_eq!(clock.when(SECOND, before), Some(SECOND + MS));
    }
}
