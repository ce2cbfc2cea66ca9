//! How long to wait before trying again: doubling, bounded, jittered by a seed.

use core::time::Duration;

use crate::rng::SplitMix64;

/// Exponential backoff with "equal jitter": half of each delay is fixed, half is drawn, so that a fleet that failed together does not
/// come back together, and nobody comes back at once (M. Brooker, "Exponential Backoff And Jitter", 2015).
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    base: Duration,
    max: Duration,
    failures: u32,
    rng: SplitMix64,
}

impl Backoff {
    pub(crate) const fn new(base: Duration, max: Duration, seed: u64) -> Self {
        Self { base, max, failures: 0, rng: SplitMix64::new(seed) }
    }

    /// Notes a failure and answers how long to wait: between half and all of `min(base * 2^failures, max)`.
    pub(crate) fn fail(&mut self) -> Duration {
        let full = self.base.saturating_mul(1u32 << self.failures.min(20)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        let half = full / 2;
        let spread = u64::try_from((full - half).as_nanos()).unwrap_or(u64::MAX);
        half + Duration::from_nanos(self.rng.below(spread.saturating_add(1)))
    }

    pub(crate) const fn succeed(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_and_start_over_after_a_success() {
        let (base, max) = (Duration::from_millis(100), Duration::from_millis(500));
        let mut backoff = Backoff::new(base, max, 7);
        for full in [100, 200, 400, 500, 500].map(Duration::from_millis) {
            let delay = backoff.fail();
            assert!(full / 2 <= delay && delay <= full, "{delay:?} of {full:?}");
        }
        backoff.succeed();
        assert!(backoff.fail() <= base);
    }

    #[test]
    fn seeds_make_delays_differ() {
        let delay = |seed| Backoff::new(Duration::from_secs(1), Duration::from_secs(1), seed).fail();
        assert_eq!(delay(1), delay(1));
        assert_ne!(delay(1), delay(2));
    }
}
