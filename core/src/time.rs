//! The core's own time: integers handed in by the embedder, never read from a clock.

use core::time::Duration;

use crate::canary::{self, Canary};

/// A point in time: nanoseconds since an origin that the embedder chose.
///
/// The core never asks what time it is. An adapter picks an origin once (`std::time::Instant::now()` at start-up), and passes
/// `Instant::from_nanos(origin.elapsed().as_nanos() as u64)` into every call. Arithmetic saturates: 2^64 ns are 584 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The embedder's origin.
    pub const ZERO: Self = Self(0);
    /// The end of time: used for "never expires".
    pub const MAX: Self = Self(u64::MAX);

    /// The instant `nanos` nanoseconds after the origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This instant plus `duration`, or [`Instant::MAX`] where that does not fit.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// This instant less `duration`, or the origin where that lies before it.
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The time from `earlier` to this instant; zero where `earlier` is later.
    #[must_use]
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// When a machine wants its `handle_timeout` called next.
///
/// Every machine answers `next_wake()` in O(1). After `handle_timeout(now)` the answer is later than `now`, or [`Wake::Now`] when the
/// bound on work per call left something to do. There is no sentinel instant.
#[must_use = "a deadline that nobody sleeps on is a hang"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)] // A loop that ignores one of these hangs: it must not compile.
pub enum Wake {
    /// Work is left: call again without sleeping.
    Now,
    /// Nothing to do before this instant.
    At(Instant),
    /// Nothing to do until something happens.
    Idle,
}

impl Wake {
    /// The earlier of two wakes: how several machines share one timer.
    pub fn earlier(self, other: Self) -> Self {
        match (self, other) {
            (Self::Now, _) | (_, Self::Now) => Self::Now,
            (Self::Idle, wake) | (wake, Self::Idle) => wake,
            (Self::At(a), Self::At(b)) => Self::At(a.min(b)),
        }
    }

    /// Whether the machine wants a call at `now`.
    #[must_use]
    pub fn is_due(self, now: Instant) -> bool {
        match self {
            Self::Now => true,
            Self::At(at) => at <= now,
            Self::Idle => false,
        }
    }
}

/// Makes an embedder's time monotonic: a regression is clamped to the latest instant seen, and counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MonotonicClock {
    latest: Instant,
    regressions: u64,
}

impl MonotonicClock {
    pub(crate) const fn new(now: Instant) -> Self {
        Self { latest: now, regressions: 0 }
    }

    /// Takes the embedder's `now` and answers the instant to work with.
    pub(crate) fn observe(&mut self, now: Instant) -> Instant {
        if now < self.latest && !canary::is(Canary::RegressionBelieved) {
            self.regressions += 1;
        } else {
            self.latest = now;
        }
        self.latest
    }

    pub(crate) const fn latest(&self) -> Instant {
        self.latest
    }

    pub(crate) const fn regressions(&self) -> u64 {
        self.regressions
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_that_regresses_is_clamped_and_counted() {
        let mut clock = MonotonicClock::new(Instant::from_nanos(10));
        assert_eq!(clock.observe(Instant::from_nanos(5)), Instant::from_nanos(10));
        assert_eq!(clock.observe(Instant::from_nanos(12)), Instant::from_nanos(12));
        assert_eq!((clock.regressions(), clock.latest()), (1, Instant::from_nanos(12)));
    }

    #[test]
    fn an_instant_is_as_far_from_the_origin_as_it_was_said_to_be() {
        for nanos in [0, 1, 7, u64::MAX] {
            assert_eq!(Instant::from_nanos(nanos).as_nanos(), nanos);
        }
    }

    #[test]
    fn the_earlier_wake_wins() {
        let (one, two) = (Wake::At(Instant::from_nanos(1)), Wake::At(Instant::from_nanos(2)));
        assert_eq!(one.earlier(two), one);
        assert_eq!(two.earlier(Wake::Idle), two);
        assert_eq!(Wake::Idle.earlier(Wake::Now), Wake::Now);
        assert!(one.is_due(Instant::from_nanos(1)) && !two.is_due(Instant::from_nanos(1)));
        assert!(Wake::Now.is_due(Instant::ZERO) && !Wake::Idle.is_due(Instant::MAX));
    }
}
