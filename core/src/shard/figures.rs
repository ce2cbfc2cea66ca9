//! What a shard tells of itself: counts by group and in all, and what it holds.

use super::Shard;
use crate::cache::Share;
use crate::id::GroupId;
use crate::stats::{ShardCounters, ShardStats};

/// What a shard holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Entries, of all shares.
    pub entries: u64,
    /// Bytes charged, overhead included. Never above the budget.
    pub bytes: u64,
    /// The budget.
    pub budget: u64,
    /// Loads in progress.
    pub flights: u64,
    /// Callers that wait.
    pub waiters: u64,
}

impl Usage {
    /// Adds another shard's figures.
    pub const fn add(&mut self, other: &Self) {
        self.entries += other.entries;
        self.bytes += other.bytes;
        self.budget += other.budget;
        self.flights += other.flights;
        self.waiters += other.waiters;
    }
}

/// What one group has counted in a shard, and holds there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupStats {
    /// Its counts, since the shard was made: a group that was removed and made again goes on where it was. `stale_dispositions` and `clamped_time` belong to
    /// no group, and are 0.
    pub counts: ShardStats,
    /// Entries, of all shares. Those that have expired or were flushed count until their place is reclaimed.
    pub entries: u64,
    /// Bytes charged for them, [`ENTRY_OVERHEAD`](crate::ENTRY_OVERHEAD) included. What the policies' own tables take is no group's.
    pub bytes: u64,
    /// Loads in progress.
    pub flights: u64,
}

impl GroupStats {
    /// Adds another shard's figures of the group.
    pub fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        self.entries += other.entries;
        self.bytes += other.bytes;
        self.flights += other.flights;
    }
}

impl<W> Shard<W> {
    /// What was counted, of all groups: those that were removed included, and what belongs to none. Reads no lock-protected state: figures may be a moment
    /// apart from each other. O(groups).
    pub fn stats(&self) -> ShardStats {
        let mut stats = self.groupless.snapshot();
        self.groups.iter().for_each(|group| stats.add(&group.counters.snapshot()));
        let cache = self.cache.counters();
        (stats.evictions, stats.reclaimed) = (cache.evictions, cache.reclaimed);
        stats.clamped_time = self.clock.regressions();
        stats
    }

    /// What was counted for one group, and what it holds; `None` where there never was such a group. O(1).
    ///
    /// All groups' figures sum up to [`stats`](Self::stats) and [`usage`](Self::usage), but for what belongs to none: calls that name a group that there never
    /// was, late results, times that lay before earlier ones, and the policies' tables.
    pub fn group_stats(&self, group: GroupId) -> Option<GroupStats> {
        let record = self.groups.get(group.index() as usize)?;
        let held = self.cache.held(group);
        let mut counts = record.counters.snapshot();
        (counts.evictions, counts.reclaimed) = (held.evictions, held.reclaimed);
        let (entries, bytes, flights) = (held.entries, held.bytes, u64::from(record.loads));
        Some(GroupStats { counts, entries, bytes, flights })
    }

    /// Counts a lookup made for a peer. The embedder calls it where it serves one.
    pub fn note_served(&self, group: GroupId) {
        self.counters(group).served.increment();
    }

    /// What is held now.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let shares = Share::ALL.map(|share| self.cache.usage(share));
        Usage {
            entries: shares.iter().map(|share| u64::from(share.entries)).sum(),
            bytes: shares.iter().map(|share| share.bytes).sum(),
            budget: self.config.budget,
            flights: u64::from(self.flights.live_flights()),
            waiters: u64::from(self.flights.live_waiters()),
        }
    }

    /// A group's counters; those of no group, where there never was such a one.
    pub(super) fn counters(&self, group: GroupId) -> &ShardCounters {
        self.groups.get(group.index() as usize).map_or(&self.groupless, |group| &group.counters)
    }

    /// The counters of a flight's group.
    pub(super) fn counters_of(&self, flight: u32) -> &ShardCounters {
        self.flights.get(flight).map_or(&self.groupless, |flight| self.counters(flight.key.group()))
    }

    /// Recounts every charge, list, index, waiter and timer.
    ///
    /// # Errors
    /// What does not agree, in words.
    #[cfg(any(test, feature = "__invariants"))]
    pub fn check_invariants(&self) -> Result<(), alloc::string::String> {
        self.cache.check_invariants()?;
        self.flights.check_invariants()?;
        let loads: u32 = self.groups.iter().map(|group| group.loads).sum();
        if loads != self.flights.live_flights() {
            return Err(alloc::format!(
                "groups count {loads} loads, {} are in progress",
                self.flights.live_flights()
            ));
        }
        let usage = self.usage();
        let of_groups: u64 = self.each_group().map(|group| group.entries).sum();
        if of_groups != usage.entries {
            return Err(alloc::format!("groups hold {of_groups} entries, {} are there", usage.entries));
        }
        self.check_counts()?;
        if usage.bytes > usage.budget {
            return Err(alloc::format!("{} bytes are charged, the budget is {}", usage.bytes, usage.budget));
        }
        Ok(())
    }

    #[cfg(any(test, feature = "__invariants"))]
    fn each_group(&self) -> impl Iterator<Item = GroupStats> + '_ {
        (0..self.groups.len() as u32).filter_map(|index| self.group_stats(GroupId::new(index)))
    }

    /// The groups' counts and those of no group are the shard's.
    #[cfg(any(test, feature = "__invariants"))]
    fn check_counts(&self) -> Result<(), alloc::string::String> {
        let mut sum = self.groupless.snapshot();
        sum.clamped_time = self.clock.regressions();
        self.each_group().for_each(|group| sum.add(&group.counts));
        let stats = self.stats();
        if sum != stats {
            return Err(alloc::format!("groups have counted {sum:?}, the shard {stats:?}"));
        }
        Ok(())
    }
}
