//! What can be configured, with defaults that suit a service. Every limit is a number above zero: none means "unlimited".

use core::num::{NonZeroU16, NonZeroU32, NonZeroUsize};
use core::time::Duration;

use crate::error::ConfigError;

/// What happens to a load when its last waiter leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnAbandoned {
    /// Let it finish, until the deadline of its most patient waiter, and keep the value: who comes back finds it. The default.
    #[default]
    Finish,
    /// Stop it: nobody pays for work that nobody wants. For origins where a load costs more than its value is worth to the next caller.
    Abort,
}

/// Who makes place for whom. The example `hitrate` replays traces against both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Eviction {
    /// B2: a lazy W-TinyLFU with a fixed window of 7 %. The default.
    #[default]
    B2,
    /// B2 with a window that adapts to the traffic, in the main share. Better where traffic is recent rather than frequent, or drifts; its shadows take 20
    /// to 30 bytes an entry of a small shard off the budget, and at most some 200 kB of a larger one. A shard that they would
    /// take more than an eighth of does without.
    B2Adaptive,
}

/// The configuration of a [`Shard`](crate::Shard).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ShardConfig {
    /// Bytes that all entries together may take, overhead included. Above zero; default 64 MiB.
    pub budget: u64,
    /// Who makes place for whom.
    pub eviction: Eviction,
    /// Thousandths of the budget for hot copies of other nodes' keys, 0 to 900. Default 125, as in the Go systems.
    pub hot_per_mille: u16,
    /// Thousandths of the budget for "not found" answers, 0 to 500. Default 15.
    pub negative_per_mille: u16,
    /// Longest key in bytes. Default 128 KiB.
    pub max_key_len: NonZeroUsize,
    /// Largest value in bytes; a larger one is a typed failure. Default 16 MiB.
    pub max_value_len: NonZeroUsize,
    /// Loads in progress, at most. Their table is reserved up front. Default 4,096.
    pub max_flights: NonZeroU32,
    /// Waiters, at most. Their table is reserved up front. Default 16,384.
    pub max_waiters: NonZeroU32,
    /// The longest that a flight may take, whatever its waiters would grant. Default 30 s.
    pub load_timeout: Duration,
    /// How much sooner than its own deadline a flight wants a peer's answer, so that there is time to ask elsewhere. Default 20 ms.
    pub deadline_margin: Duration,
    /// Peers that a flight asks before it turns to the local origin: the owner, then successors. Default 2.
    pub peer_attempts: u8,
    /// The longest that a hot copy lives, however long the owner would keep the value. Default 30 s.
    pub hot_ttl: Duration,
    /// What happens to a load when its last waiter leaves.
    pub on_abandoned: OnAbandoned,
    /// Flights that one `handle_timeout` ends at most. Default 256.
    pub work_per_call: NonZeroU32,
}

/// A constant above zero, checked when it is compiled.
const fn above_zero(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).expect("a constant above zero")
}

const fn above_zero_len(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).expect("a constant above zero")
}

const DEFAULT_MAX_KEY_LEN: NonZeroUsize = above_zero_len(128 << 10);
const DEFAULT_MAX_VALUE_LEN: NonZeroUsize = above_zero_len(16 << 20);
const DEFAULT_MAX_FLIGHTS: NonZeroU32 = above_zero(4096);
const DEFAULT_MAX_WAITERS: NonZeroU32 = above_zero(16_384);
const DEFAULT_WORK_PER_CALL: NonZeroU32 = above_zero(256);

impl Default for ShardConfig {
    fn default() -> Self {
        Self {
            budget: 64 << 20,
            eviction: Eviction::B2,
            hot_per_mille: 125,
            negative_per_mille: 15,
            max_key_len: DEFAULT_MAX_KEY_LEN,
            max_value_len: DEFAULT_MAX_VALUE_LEN,
            max_flights: DEFAULT_MAX_FLIGHTS,
            max_waiters: DEFAULT_MAX_WAITERS,
            load_timeout: Duration::from_secs(30),
            deadline_margin: Duration::from_millis(20),
            peer_attempts: 2,
            hot_ttl: Duration::from_secs(30),
            on_abandoned: OnAbandoned::Finish,
            work_per_call: DEFAULT_WORK_PER_CALL,
        }
    }
}

impl ShardConfig {
    /// Whether every field is in its range.
    ///
    /// # Errors
    /// The first field that is not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let checks = [
            (self.budget > 0, "budget", "above zero"),
            (self.hot_per_mille <= 900, "hot_per_mille", "0 to 900"),
            (self.negative_per_mille <= 500, "negative_per_mille", "0 to 500"),
            (
                self.hot_per_mille + self.negative_per_mille.min(500) < 1000,
                "hot_per_mille",
                "below 1000 together with negative_per_mille",
            ),
            (self.max_flights.get() <= MAX_SLOTS, "max_flights", "at most 2^24"),
            (self.max_waiters.get() <= MAX_SLOTS, "max_waiters", "at most 2^24"),
            (self.max_value_len.get() <= MAX_VALUE_LEN, "max_value_len", "at most 1 GiB"),
            (!self.load_timeout.is_zero(), "load_timeout", "above zero"),
        ];
        for (holds, field, expected) in checks {
            if !holds {
                return Err(ConfigError::OutOfRange { field, expected });
            }
        }
        Ok(())
    }

    /// The budget cut into shares of bytes: main, hot, negative. They sum to the budget exactly.
    pub(crate) fn shares(&self) -> (u64, u64, u64) {
        let part = |per_mille: u16| (u128::from(self.budget) * u128::from(per_mille) / 1000) as u64;
        let (hot, negative) = (part(self.hot_per_mille), part(self.negative_per_mille));
        (self.budget - hot - negative, hot, negative)
    }
}

/// Part `index` of `parts` of a total: all parts sum to it exactly.
#[must_use]
pub fn part_of(total: u64, parts: NonZeroU16, index: u16) -> u64 {
    let (parts, index) = (u64::from(parts.get()), u64::from(index));
    total / parts + u64::from(index < total % parts)
}

const MAX_SLOTS: u32 = 1 << 24;
const MAX_VALUE_LEN: usize = 1 << 30;

/// The configuration of one group in a [`Shard`](crate::Shard).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GroupConfig {
    /// How long a loaded value lives where the loader does not say; `None` for as long as it is worth its place.
    pub ttl: Option<Duration>,
    /// Thousandths of a TTL that chance may take off, so that keys loaded together do not expire together. 0 to 500, default 0.
    pub ttl_jitter_per_mille: u16,
    /// How long the owner keeps a "not found". Zero does not keep it. Default 1 s.
    pub negative_ttl: Duration,
    /// How long after its expiry the owner still answers with a value, while it loads it anew behind the answer. Zero, the default, never does. A hard
    /// ceiling: nothing older is given out. (RFC 5861 calls it by the same name.)
    pub stale_while_revalidate: Duration,
    /// How long after its expiry the owner still answers with a value when loading it anew has failed or taken too long. Zero, the default, never
    /// does. A hard ceiling as well. "Not found" is an answer and no failure: it is passed on.
    pub stale_if_error: Duration,
    /// How long after its expiry the owner still holds a value for the origin to say that it has not changed: a load gets it as
    /// [`Intent::Load::stale`](crate::Intent::Load), and may answer with it. Nobody else gets it by this. Zero, the default, never does.
    pub revalidate_for: Duration,
    /// Loads of this group in progress in one shard, at most. Default 1,024.
    pub max_loads: NonZeroU32,
}

const DEFAULT_MAX_LOADS: NonZeroU32 = above_zero(1024);

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            ttl: None,
            ttl_jitter_per_mille: 0,
            negative_ttl: Duration::from_secs(1),
            stale_while_revalidate: Duration::ZERO,
            stale_if_error: Duration::ZERO,
            revalidate_for: Duration::ZERO,
            max_loads: DEFAULT_MAX_LOADS,
        }
    }
}

impl GroupConfig {
    /// Whether every field is in its range.
    ///
    /// # Errors
    /// The first field that is not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.ttl_jitter_per_mille > 500 {
            return Err(ConfigError::OutOfRange { field: "ttl_jitter_per_mille", expected: "0 to 500" });
        }
        if self.ttl.is_some_and(|ttl| ttl.is_zero()) {
            return Err(ConfigError::OutOfRange { field: "ttl", expected: "above zero" });
        }
        Ok(())
    }

    /// How long an entry is of any use after it has expired.
    pub(crate) fn afterlife(&self) -> Duration {
        self.stale_while_revalidate.max(self.stale_if_error).max(self.revalidate_for)
    }
}

/// The configuration of a [`Link`](crate::Link).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LinkConfig {
    /// Keys in one batch, at most. Default 256.
    pub max_batch_keys: NonZeroU32,
    /// Bytes of keys in one batch, at most; a single longer key travels alone. Default 256 KiB.
    pub max_batch_bytes: NonZeroUsize,
    /// Batches sent and not yet accepted by the peer, at most. While the window is full, fetches gather in the queue and leave as one batch:
    /// no delay when idle, large batches under load. Default 2.
    pub window: NonZeroU32,
    /// Whether whoever sends batches calls [`Link::top_up`](crate::Link::top_up) right before it does. Until then, what is to be fetched goes along rather
    /// than into a batch of its own. Default false: a batch is sent as it is.
    pub top_up: bool,
    /// Calls in flight to a peer that takes one key a call. Default 128.
    pub single_window: NonZeroU32,
    /// Batches accepted and not complete, at most. Default 1,024.
    pub max_open_batches: NonZeroU32,
    /// Fetches waiting to be sent, at most. Default 8,192.
    pub max_queue: NonZeroU32,
    /// Batches that fail in a row before the breaker opens. Default 5. A lost connection opens it at once when redialling fails.
    pub failure_threshold: NonZeroU32,
    /// The shortest wait before a peer that failed is tried again. Default 50 ms.
    pub backoff_base: Duration,
    /// The longest wait before a peer that failed is tried again. Default 2 s.
    pub backoff_max: Duration,
    /// How long dialling may take. Default 500 ms.
    pub connect_timeout: Duration,
    /// Members of a ring, at most, for each peer to be dialled as soon as it is on the ring. In a larger fleet, where a node may never ask most of the
    /// others, a peer is dialled when there is something to ask or to tell it. Default 64.
    pub dial_ahead: u32,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            max_batch_keys: above_zero(256),
            max_batch_bytes: above_zero_len(256 << 10),
            window: above_zero(2),
            top_up: false,
            single_window: above_zero(128),
            max_open_batches: above_zero(1024),
            max_queue: above_zero(8192),
            failure_threshold: above_zero(5),
            backoff_base: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
            connect_timeout: Duration::from_millis(500),
            dial_ahead: 64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The field that is refused, if one is.
    fn refused(change: impl FnOnce(&mut ShardConfig)) -> Option<&'static str> {
        let mut config = ShardConfig::default();
        change(&mut config);
        match config.validate() {
            Err(ConfigError::OutOfRange { field, .. }) => Some(field),
            Err(other) => panic!("{other:?}"),
            Ok(()) => None,
        }
    }

    #[test]
    fn a_shards_settings_are_taken_up_to_their_limits_and_refused_by_field_beyond() {
        assert_eq!((refused(|_| {}), refused(|c| c.budget = 1)), (None, None));
        assert_eq!(refused(|c| c.budget = 0), Some("budget"));
        let per_mille =
            |hot, negative| refused(|c| (c.hot_per_mille, c.negative_per_mille) = (hot, negative));
        assert_eq!((per_mille(900, 99), per_mille(499, 500), per_mille(0, 0)), (None, None, None));
        assert_eq!(
            (per_mille(901, 0), per_mille(u16::MAX, 0)),
            (Some("hot_per_mille"), Some("hot_per_mille"))
        );
        assert_eq!(
            (per_mille(0, 501), per_mille(0, u16::MAX)),
            (Some("negative_per_mille"), Some("negative_per_mille"))
        );
        assert_eq!(
            (per_mille(900, 100), per_mille(500, 500)),
            (Some("hot_per_mille"), Some("hot_per_mille"))
        );
        let slots = |slots| {
            (refused(|c| c.max_flights = above_zero(slots)), refused(|c| c.max_waiters = above_zero(slots)))
        };
        assert_eq!(slots(1 << 24), (None, None));
        assert_eq!(slots((1 << 24) + 1), (Some("max_flights"), Some("max_waiters")));
        assert_eq!(refused(|c| c.max_value_len = above_zero_len(1 << 30)), None);
        assert_eq!(refused(|c| c.max_value_len = above_zero_len((1 << 30) + 1)), Some("max_value_len"));
        assert_eq!(refused(|c| c.load_timeout = Duration::ZERO), Some("load_timeout"));
        assert_eq!(refused(|c| c.load_timeout = Duration::from_nanos(1)), None);
    }

    #[test]
    fn a_groups_settings_are_taken_up_to_their_limits_and_refused_beyond() {
        let check = |ttl_jitter_per_mille, ttl| {
            GroupConfig { ttl_jitter_per_mille, ttl, ..GroupConfig::default() }.validate().is_ok()
        };
        assert!(check(0, None) && check(500, Some(Duration::from_nanos(1))));
        assert!(!check(501, None) && !check(0, Some(Duration::ZERO)));
    }

    #[test]
    fn the_limits_that_nobody_sets_are_the_documented_ones() {
        let shard = ShardConfig::default();
        assert_eq!((shard.budget, shard.hot_per_mille, shard.negative_per_mille), (64 << 20, 125, 15));
        assert_eq!((shard.max_key_len.get(), shard.max_value_len.get()), (128 << 10, 16 << 20));
        assert_eq!((shard.max_flights.get(), shard.max_waiters.get()), (4096, 16_384));
        assert_eq!((shard.work_per_call.get(), GroupConfig::default().max_loads.get()), (256, 1024));
        let link = LinkConfig::default();
        assert_eq!((link.max_batch_keys.get(), link.max_batch_bytes.get()), (256, 256 << 10));
        assert_eq!(
            (link.window.get(), link.single_window.get(), link.max_open_batches.get()),
            (2, 128, 1024)
        );
        assert_eq!((link.max_queue.get(), link.failure_threshold.get()), (8192, 5));
    }

    #[test]
    fn shares_are_the_thousandths_that_are_asked_for_and_sum_to_the_budget() {
        let shares = |budget| ShardConfig { budget, ..ShardConfig::default() }.shares();
        assert_eq!(shares(1_000_000), (860_000, 125_000, 15_000));
        assert_eq!(shares(999), (861, 124, 14), "what does not divide is the main share's");
        assert_eq!(shares(1), (1, 0, 0));
        let (main, hot, negative) = shares(u64::MAX);
        assert_eq!(main + hot + negative, u64::MAX);
    }

    #[test]
    fn parts_of_a_total_differ_by_one_at_most_and_sum_to_it() {
        for (total, parts, expected) in
            [(10, 3, [4, 3, 3].as_slice()), (2, 3, &[1, 1, 0]), (7, 1, &[7]), (8, 2, &[4, 4])]
        {
            let parts = NonZeroU16::new(parts).expect("above zero");
            let cut: alloc::vec::Vec<_> =
                (0..parts.get()).map(|index| part_of(total, parts, index)).collect();
            assert_eq!(cut, expected, "{total} in {parts}");
        }
    }
}
