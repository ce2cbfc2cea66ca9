//! What requests came to, counted.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Where an answer came from, in the order in which they are told. `not_found` is an answer too: that there is none.
pub(super) const OUTCOMES: [&str; 5] = ["hit", "hot", "peer", "load", "not_found"];

/// Longer latencies, in microseconds, count as a day.
const LONGEST: u64 = 86_400_000_000;

/// Requests that are over.
#[derive(Debug)]
pub(super) struct Tally {
    /// Latencies in microseconds, by outcome.
    latencies: [Histogram<u64>; OUTCOMES.len()],
    /// Failures by kind.
    pub(super) errors: BTreeMap<String, u64>,
    /// Bytes of values.
    pub(super) bytes: u64,
    /// Answers that differ from an earlier one for the same key.
    pub(super) differences: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            latencies: std::array::from_fn(|_| histogram()),
            errors: BTreeMap::new(),
            bytes: 0,
            differences: 0,
        }
    }
}

/// Three digits are kept of a latency; it grows with the longest.
fn histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new(3).expect("three digits are among those that it keeps");
    histogram.auto(true);
    histogram
}

impl Tally {
    /// An answer, `took` after it was asked for or due. False where `outcome` is none that is known.
    pub(super) fn answer(&mut self, outcome: &str, took: Duration) -> bool {
        let Some(at) = OUTCOMES.iter().position(|known| *known == outcome) else { return false };
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).clamp(1, LONGEST);
        // It grows as far as that.
        self.latencies[at].record(micros).is_ok()
    }

    pub(super) fn error(&mut self, kind: impl Into<String>) {
        *self.errors.entry(kind.into()).or_default() += 1;
    }

    pub(super) fn add(&mut self, other: Self) {
        for (sum, latencies) in self.latencies.iter_mut().zip(&other.latencies) {
            *sum += latencies;
        }
        for (kind, times) in other.errors {
            *self.errors.entry(kind).or_default() += times;
        }
        self.bytes += other.bytes;
        self.differences += other.differences;
    }

    pub(super) fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    pub(super) fn of(&self, at: usize) -> &Histogram<u64> {
        &self.latencies[at]
    }

    /// The latencies of all answers together.
    pub(super) fn all(&self) -> Histogram<u64> {
        let mut all = histogram();
        for latencies in &self.latencies {
            all += latencies;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_of_every_length_are_kept_to_three_digits_and_add_up() {
        let (mut some, mut others) = (Tally::default(), Tally::default());
        assert!(some.answer("hit", Duration::from_micros(100)) && !some.answer("guess", Duration::ZERO));
        assert!(others.answer("hit", Duration::from_secs(5)) && others.answer("load", Duration::MAX));
        others.error("deadline");
        some.error("deadline");
        some.add(others);
        assert_eq!((some.of(0).len(), some.of(3).len(), some.failed()), (2, 1, 2));
        assert_eq!(some.of(0).min(), 100);
        assert!((5_000_000..5_005_000).contains(&some.of(0).max()), "{}", some.of(0).max());
        assert_eq!(some.all().len(), 3);
    }
}
