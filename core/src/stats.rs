//! Counters by name, readable while others count.

use core::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a shard, or a group in it, has counted since it was made.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct ShardStats { $($(#[$doc])* pub $name: u64,)* }

        impl ShardStats {
            /// Adds another shard's counts, or another group's: how a node with several shards shows one set of figures.
            pub fn add(&mut self, other: &Self) {
                $(self.$name = self.$name.saturating_add(other.$name);)*
            }

            /// Every counter with its name, for exporters.
            pub fn each(&self, mut show: impl FnMut(&'static str, u64)) {
                $(show(stringify!($name), self.$name);)*
            }
        }

        /// The counters behind [`ShardStats`], of one group or of none. Hits count through `&self`, hence atomics; relaxed, since each stands for itself.
        #[derive(Debug, Default)]
        pub(crate) struct ShardCounters { $(pub(crate) $name: Counter,)* }

        impl ShardCounters {
            pub(crate) fn snapshot(&self) -> ShardStats {
                let mut stats = ShardStats { $($name: self.$name.get(),)* };
                // `gets` counts by itself only what were no hits: a hit costs one count, not two.
                let hits = stats.main_hits + stats.hot_hits + stats.negative_hits;
                stats.gets = stats.gets.wrapping_add(hits);
                stats
            }
        }
    };
}

counters! {
    /// Lookups: hits, misses and those of peers.
    gets,
    /// Lookups answered by this node's own share.
    main_hits,
    /// Lookups answered by a hot copy.
    hot_hits,
    /// Lookups answered by a kept "not found".
    negative_hits,
    /// Lookups answered by an expired value while it is loaded anew.
    stale_hits,
    /// Waiters' answers saved by an expired value after a load had failed.
    stale_rescues,
    /// Lookups that found nothing and started a flight.
    misses,
    /// Lookups that joined a flight in progress.
    loads_deduplicated,
    /// Loads asked of the local origin.
    loads,
    /// Loads of the local origin that were given the expired value, to say whether it has changed.
    revalidations,
    /// Loads of the local origin that failed, "not found" left out.
    load_errors,
    /// "Not found" answers of the local origin.
    load_not_found,
    /// Keys asked of peers.
    peer_fetches,
    /// Keys asked of peers that got no answer and were asked elsewhere.
    peer_errors,
    /// Lookups made for peers.
    served,
    /// Entries that made place for others.
    evictions,
    /// Expired or flushed entries whose place was reclaimed.
    reclaimed,
    /// Values that were delivered and not kept: too large for their share, not admitted, out of time, or a successor's.
    not_stored,
    /// Values over the value limit.
    oversize,
    /// Calls refused at a limit.
    rejected,
    /// Waiters given back by `cancel`.
    cancelled,
    /// Flights that ran out of time.
    timeouts,
    /// Flights stopped because nobody waited any more.
    abandoned,
    /// Results of loads that began before a removal or flush, delivered and not kept.
    fenced_dropped,
    /// Keys removed, whether they were held or not.
    removals,
    /// Late, duplicate or unknown results, ignored.
    stale_dispositions,
    /// Calls whose time lay before that of an earlier call.
    clamped_time,
}

/// One relaxed counter.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    /// Takes one back. The sum of all wraps around zero, and is right in the end.
    pub(crate) fn decrement(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
