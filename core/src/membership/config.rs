//! How membership behaves: times, and limits on what a registry may make of us.

use alloc::sync::Arc;
use core::num::{NonZeroU32, NonZeroUsize};
use core::time::Duration;

use crate::error::ConfigError;

/// The configuration of a [`Membership`](crate::Membership).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MembershipConfig {
    /// This node's address, as it stands in the registry: `host:port`. Not empty.
    pub me: Arc<str>,
    /// This node's weight on the ring. From 1 to `max_weight`; 1 by default.
    pub weight: u32,
    /// How long the record outlives this node. From 1 s to 1 h; 5 s by default.
    pub lease_ttl: Duration,
    /// After this an operation that was not answered counts as failed. From 1 ms to 1 h; 2 s by default.
    pub op_timeout: Duration,
    /// The first delay after a failure, see [`backoff_max`](Self::backoff_max). At least 1 ms; 100 ms by default.
    pub backoff_base: Duration,
    /// Delays double up to this, and half of each is jitter. From `backoff_base` to 1 h; 3 s by default.
    pub backoff_max: Duration,
    /// A view that would lose all other members at once must stand for this long before it is believed: one list without them, or several that
    /// go within this time. As long, members are kept that a registry does not list which has lost its data. At most 1 h; 10 s by default.
    pub empty_guard: Duration,
    /// At least this often everything is listed again, watch or not; a quarter of it is jitter. From 1 s to 24 h; 60 s by default.
    pub list_interval: Duration,
    /// Weights above this in other members' records are taken as this: one bad record must not leave the fleet without a ring. 256 by default,
    /// the most that `slots/1` takes; set it to what the placement takes.
    pub max_weight: NonZeroU32,
    /// The most members of a view. Where more are registered, those first by address are taken and the rest are counted. 4096 by default, the
    /// most that `slots/1` takes.
    pub max_members: NonZeroUsize,
}

const HOUR: Duration = Duration::from_secs(3600);

impl MembershipConfig {
    /// The defaults, for a node that advertises `me`.
    #[must_use]
    pub fn new(me: impl Into<Arc<str>>) -> Self {
        Self { me: me.into(), ..Self::default() }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let refuse = |field, expected| Err(ConfigError::OutOfRange { field, expected });
        if self.me.is_empty() {
            return refuse("me", "an address, host:port");
        }
        if !(1..=self.max_weight.get()).contains(&self.weight) {
            return refuse("weight", "from 1 to max_weight");
        }
        if !(Duration::from_secs(1)..=HOUR).contains(&self.lease_ttl) {
            return refuse("lease_ttl", "from 1 s to 1 h");
        }
        if !(Duration::from_millis(1)..=HOUR).contains(&self.op_timeout) {
            return refuse("op_timeout", "from 1 ms to 1 h");
        }
        if self.backoff_base < Duration::from_millis(1) {
            return refuse("backoff_base", "at least 1 ms");
        }
        if !(self.backoff_base..=HOUR).contains(&self.backoff_max) {
            return refuse("backoff_max", "from backoff_base to 1 h");
        }
        if self.empty_guard > HOUR {
            return refuse("empty_guard", "at most 1 h");
        }
        if !(Duration::from_secs(1)..=24 * HOUR).contains(&self.list_interval) {
            return refuse("list_interval", "from 1 s to 24 h");
        }
        Ok(())
    }
}

impl Default for MembershipConfig {
    /// The defaults with an empty address, which has to be set.
    fn default() -> Self {
        Self {
            me: Arc::from(""),
            weight: 1,
            lease_ttl: Duration::from_secs(5),
            op_timeout: Duration::from_secs(2),
            backoff_base: Duration::from_millis(100),
            backoff_max: Duration::from_secs(3),
            empty_guard: Duration::from_secs(10),
            list_interval: Duration::from_secs(60),
            max_weight: NonZeroU32::MIN.saturating_add(255),
            max_members: NonZeroUsize::MIN.saturating_add(4095),
        }
    }
}
