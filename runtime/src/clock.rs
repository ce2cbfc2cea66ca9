//! The edge between the system's clock and the core's integers.

use std::time::Duration;

use groupcache_core::Instant;

#[cfg(not(shuttle))]
use std::time::Instant as Origin;

#[cfg(shuttle)]
use crate::models::time::VirtualOrigin as Origin;

/// The node's origin of time. The core counts nanoseconds from here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock(Origin);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Origin::now())
    }

    pub(crate) fn now(self) -> Instant {
        Instant::from_nanos(u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// How long until `at`; zero when that has passed.
    pub(crate) fn until(self, at: Instant) -> Duration {
        at.saturating_since(self.now())
    }
}
