//! How long a peer's answers take.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use groupcache_core::Instant;
use serde::Serialize;

/// How many answers are remembered of a peer: 8 KiB.
const KEPT: usize = 512;

/// How far back.
const WINDOW: Duration = Duration::from_secs(60);

/// How long a peer's answers took: of those of the last minute the last 512.
///
/// An answer is a message with values, or with failures, to a message that this node sent: the time is from when that was sent until it came, the
/// peer's own load where it had to make one included. Values that come in one message are one answer. The percentiles are exact, of the nearest rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Latency {
    /// How many answers these are.
    pub count: usize,
    /// Half of them took no longer, in microseconds.
    pub median_us: u64,
    /// 99 of 100 of them took no longer, in microseconds.
    pub p99_us: u64,
    /// None took longer, in microseconds.
    pub max_us: u64,
}

/// The last answers of one peer.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Mutex<Answers>);

#[derive(Debug, Default)]
struct Answers {
    /// When it came, and what it took. Of the window's oldest part the place is used again.
    kept: Vec<(Instant, Duration)>,
    next: usize,
}

impl Latencies {
    pub(super) fn note(&self, now: Instant, took: Duration) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Answers { kept, next } = &mut *answers;
        match kept.get_mut(*next) {
            Some(oldest) => *oldest = (now, took),
            None => kept.push((now, took)),
        }
        *next = (*next + 1) % KEPT;
    }

    /// What they come to; `None` where there were none in the window.
    pub(super) fn summary(&self, now: Instant) -> Option<Latency> {
        let mut took: Vec<Duration> = {
            let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let recent = |(at, _): &&(Instant, Duration)| now.saturating_since(*at) <= WINDOW;
            answers.kept.iter().filter(recent).map(|(_, took)| *took).collect()
        };
        took.sort_unstable();
        let rank = |percent: usize| {
            let rank = (took.len() * percent).div_ceil(100);
            took.get(rank.checked_sub(1)?).map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX))
        };
        Some(Latency { count: took.len(), median_us: rank(50)?, p99_us: rank(99)?, max_us: rank(100)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(n: u64) -> Instant {
        Instant::from_nanos(n * 1_000_000_000)
    }

    #[test]
    fn percentiles_are_exact_and_of_the_last_minute() {
        let latencies = Latencies::default();
        assert_eq!(latencies.summary(second(0)), None);
        (1..=100).for_each(|ms| latencies.note(second(1), Duration::from_millis(ms)));
        let all = Latency { count: 100, median_us: 50_000, p99_us: 99_000, max_us: 100_000 };
        assert_eq!(latencies.summary(second(61)), Some(all));
        latencies.note(second(61), Duration::from_millis(7));
        let last = Latency { count: 1, median_us: 7_000, p99_us: 7_000, max_us: 7_000 };
        assert_eq!(latencies.summary(second(62)), Some(last));
    }

    #[test]
    fn the_memory_is_of_a_fixed_size_and_keeps_the_newest() {
        let latencies = Latencies::default();
        (0..3 * KEPT as u64).for_each(|us| latencies.note(second(1), Duration::from_micros(us)));
        let summary = latencies.summary(second(1)).expect("there are some");
        assert_eq!((summary.count, summary.max_us), (KEPT, 3 * KEPT as u64 - 1));
        assert_eq!(summary.median_us, 5 * KEPT as u64 / 2 - 1);
    }
}
