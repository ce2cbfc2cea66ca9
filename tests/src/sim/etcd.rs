//! etcd as far as membership sees it, as a machine without IO: records under leases, revisions, watches, compaction.
//!
//! What the network and an outage do to it is not its business: whoever drives it loses, delays and repeats what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use groupcache_core::{Change, LeaseId, MemberRecord, Revision, WatchEvent};

use super::clock::Time;

/// Who watches: the driver's own number.
pub(super) type WatchId = u64;

/// The machine.
#[derive(Debug)]
pub(super) struct Etcd {
    revision: i64,
    records: BTreeMap<Arc<str>, Stored>,
    leases: BTreeMap<LeaseId, Lease>,
    next_lease: i64,
    /// Every change that is still kept, oldest first: one or more of a revision.
    history: Vec<(i64, Change)>,
    /// Revisions below this are no longer kept.
    compacted: i64,
    watches: BTreeSet<WatchId>,
}

#[derive(Debug)]
struct Stored {
    record: MemberRecord,
    lease: LeaseId,
}

#[derive(Debug)]
struct Lease {
    ttl: Time,
    ends: Time,
}

/// What watches are told: in order for each of them.
pub(super) type Notices = Vec<(WatchId, WatchEvent)>;

impl Etcd {
    /// An empty store. Leases of a store that lost its data must not come again: `first_lease` sets them apart.
    pub(super) const fn new(first_lease: i64) -> Self {
        Self {
            revision: 1,
            records: BTreeMap::new(),
            leases: BTreeMap::new(),
            next_lease: first_lease,
            history: Vec::new(),
            compacted: 1,
            watches: BTreeSet::new(),
        }
    }

    pub(super) fn grant(&mut self, now: Time, ttl: Duration) -> (LeaseId, Duration) {
        // Whole seconds, rounded up.
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let ttl = Duration::from_secs(seconds.max(1));
        let lease = LeaseId::new(self.next_lease);
        self.next_lease += 1;
        let nanos = ttl.as_nanos() as Time;
        self.leases.insert(lease, Lease { ttl: nanos, ends: now + nanos });
        (lease, ttl)
    }

    /// Puts a record under a lease; answers whether there is such a lease. A record that was under another is so no longer.
    pub(super) fn put(&mut self, record: MemberRecord, lease: LeaseId, notices: &mut Notices) -> bool {
        if !self.leases.contains_key(&lease) {
            return false;
        }
        self.records.insert(Arc::clone(&record.key), Stored { record: record.clone(), lease });
        self.commit(vec![Change::Put(record)], notices);
        true
    }

    /// Answers the full time to live; `None` for a lease that is not there.
    pub(super) fn keep_alive(&mut self, now: Time, lease: LeaseId) -> Option<Duration> {
        let lease = self.leases.get_mut(&lease)?;
        lease.ends = now + lease.ttl;
        Some(Duration::from_nanos(lease.ttl))
    }

    pub(super) fn delete(&mut self, key: &str, notices: &mut Notices) {
        if let Some((key, _)) = self.records.remove_entry(key) {
            self.commit(vec![Change::Delete(key)], notices);
        }
    }

    /// Ends a lease, and with it all records under it: in one revision.
    pub(super) fn revoke(&mut self, lease: LeaseId, notices: &mut Notices) {
        if self.leases.remove(&lease).is_none() {
            return;
        }
        let keys: Vec<_> = self
            .records
            .iter()
            .filter(|(_, stored)| stored.lease == lease)
            .map(|(key, _)| Arc::clone(key))
            .collect();
        for key in &keys {
            self.records.remove(key);
        }
        if !keys.is_empty() {
            self.commit(keys.into_iter().map(Change::Delete).collect(), notices);
        }
    }

    pub(super) fn list(&self) -> (Vec<MemberRecord>, Revision) {
        let records = self.records.values().map(|stored| stored.record.clone()).collect();
        (records, Revision::new(self.revision))
    }

    /// Watches for what comes after a revision: what of that is there already is told at once.
    pub(super) fn watch(&mut self, id: WatchId, after: Revision, notices: &mut Notices) {
        let after = after.get();
        if after > self.revision || after + 1 < self.compacted {
            // The client's guard against a store that came back with less, and etcd's own answer.
            let revision = if after > self.revision { self.revision } else { self.compacted };
            notices.push((id, WatchEvent::Compacted { revision: Revision::new(revision) }));
            return;
        }
        self.watches.insert(id);
        let mut missed: BTreeMap<i64, Vec<Change>> = BTreeMap::new();
        for (revision, change) in self.history.iter().filter(|(revision, _)| *revision > after) {
            missed.entry(*revision).or_default().push(change.clone());
        }
        for (revision, changes) in missed {
            notices.push((id, WatchEvent::Changed { revision: Revision::new(revision), changes }));
        }
    }

    pub(super) fn unwatch(&mut self, id: WatchId) {
        self.watches.remove(&id);
    }

    /// Ends every watch, as the loss of all connections does; answers whose they were.
    pub(super) fn end_watches(&mut self) -> Vec<WatchId> {
        std::mem::take(&mut self.watches).into_iter().collect()
    }

    /// Forgets history before the current revision: a watch has to start here or later.
    pub(super) fn compact(&mut self) {
        self.compacted = self.revision + 1;
        self.history.clear();
    }

    /// Ends leases whose time is up.
    pub(super) fn handle_timeout(&mut self, now: Time, notices: &mut Notices) {
        let over: Vec<LeaseId> =
            self.leases.iter().filter(|(_, lease)| lease.ends <= now).map(|(&id, _)| id).collect();
        for lease in over {
            self.revoke(lease, notices);
        }
    }

    /// How many leases there are.
    pub(super) fn leases(&self) -> usize {
        self.leases.len()
    }

    /// When the next lease ends.
    pub(super) fn next_wake(&self) -> Option<Time> {
        self.leases.values().map(|lease| lease.ends).min()
    }

    /// After an outage a new leader gives every lease its full time again.
    pub(super) fn renew_leases(&mut self, now: Time) {
        for lease in self.leases.values_mut() {
            lease.ends = now + lease.ttl;
        }
    }

    /// The data is lost: revisions count from the start, and no lease is known.
    pub(super) fn lose_data(&mut self) {
        *self = Self::new(self.next_lease + 1_000_000);
    }

    fn commit(&mut self, changes: Vec<Change>, notices: &mut Notices) {
        self.revision += 1;
        self.history.extend(changes.iter().map(|change| (self.revision, change.clone())));
        for &id in &self.watches {
            let revision = Revision::new(self.revision);
            notices.push((id, WatchEvent::Changed { revision, changes: changes.clone() }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::clock::SECOND;
    use super::*;

    const TTL: Duration = Duration::from_secs(2);

    fn record(name: &str) -> MemberRecord {
        MemberRecord::new(name, 1)
    }

    fn names(etcd: &Etcd) -> Vec<String> {
        etcd.list().0.iter().map(|record| record.key.to_string()).collect()
    }

    /// The revisions that each watch was told of, in order; 0 and below for the end of a watch.
    fn told(notices: &mut Notices) -> Vec<(WatchId, i64)> {
        let told = notices.drain(..).map(|(id, event)| match event {
            WatchEvent::Changed { revision, .. } => (id, revision.get()),
            WatchEvent::Compacted { revision } => (id, -revision.get()),
            WatchEvent::Ended(_) => (id, 0),
        });
        told.collect()
    }

    #[test]
    fn a_record_lives_as_long_as_its_lease_is_kept_alive() {
        let (mut etcd, mut notices) = (Etcd::new(1), Vec::new());
        let (lease, ttl) = etcd.grant(0, Duration::from_millis(1_500));
        assert_eq!(ttl, TTL, "whole seconds, rounded up");
        assert!(etcd.put(record("a"), lease, &mut notices));
        assert_eq!(etcd.next_wake(), Some(2 * SECOND));
        assert_eq!(etcd.keep_alive(SECOND, lease), Some(TTL));
        etcd.handle_timeout(2 * SECOND, &mut notices);
        assert_eq!(names(&etcd), ["a"]);
        etcd.handle_timeout(3 * SECOND, &mut notices);
        assert!(names(&etcd).is_empty());
        assert_eq!((etcd.keep_alive(3 * SECOND, lease), etcd.next_wake()), (None, None));
        assert!(!etcd.put(record("a"), lease, &mut notices), "a lease that has ended holds nothing");
    }

    #[test]
    fn a_record_that_was_put_again_outlives_its_first_lease() {
        let (mut etcd, mut notices) = (Etcd::new(1), Vec::new());
        let (first, _) = etcd.grant(0, TTL);
        etcd.put(record("a"), first, &mut notices);
        let (second, _) = etcd.grant(SECOND, TTL);
        etcd.put(record("a"), second, &mut notices);
        etcd.handle_timeout(2 * SECOND, &mut notices);
        assert_eq!(names(&etcd), ["a"]);
        etcd.revoke(second, &mut notices);
        assert!(names(&etcd).is_empty());
    }

    #[test]
    fn a_watch_is_told_what_it_missed_and_then_what_comes_each_once_and_in_order() {
        let (mut etcd, mut notices) = (Etcd::new(1), Vec::new());
        let (lease, _) = etcd.grant(0, TTL);
        for name in ["a", "b", "c"] {
            etcd.put(record(name), lease, &mut notices);
        }
        etcd.watch(7, Revision::new(2), &mut notices);
        etcd.delete("b", &mut notices);
        etcd.delete("nobody", &mut notices);
        etcd.revoke(lease, &mut notices);
        assert_eq!(told(&mut notices), [(7, 3), (7, 4), (7, 5), (7, 6)]);
        etcd.unwatch(7);
        let (lease, _) = etcd.grant(0, TTL);
        etcd.put(record("d"), lease, &mut notices);
        assert!(notices.is_empty());
    }

    #[test]
    fn a_watch_below_the_compacted_revision_is_sent_to_list_again() {
        let (mut etcd, mut notices) = (Etcd::new(1), Vec::new());
        let (lease, _) = etcd.grant(0, TTL);
        etcd.put(record("a"), lease, &mut notices);
        etcd.put(record("b"), lease, &mut notices);
        etcd.compact();
        etcd.watch(1, Revision::new(2), &mut notices);
        assert_eq!(told(&mut notices), [(1, -4)]);
        etcd.watch(1, etcd.list().1, &mut notices);
        etcd.delete("a", &mut notices);
        assert_eq!(told(&mut notices), [(1, 4)]);
    }

    #[test]
    fn a_store_that_lost_its_data_knows_no_lease_and_tells_a_watch_from_before() {
        let (mut etcd, mut notices) = (Etcd::new(1), Vec::new());
        let (lease, _) = etcd.grant(0, TTL);
        etcd.put(record("a"), lease, &mut notices);
        etcd.watch(1, Revision::new(2), &mut notices);
        assert_eq!(etcd.end_watches(), [1]);
        etcd.lose_data();
        assert_eq!((etcd.keep_alive(0, lease), names(&etcd).len()), (None, 0));
        assert_ne!(etcd.grant(0, TTL).0, lease);
        etcd.watch(1, Revision::new(2), &mut notices);
        assert_eq!(told(&mut notices), [(1, -1)]);
    }

    #[test]
    fn after_an_outage_every_lease_has_its_full_time() {
        let (mut etcd, mut notices) = (Etcd::new(1), Vec::new());
        let (lease, _) = etcd.grant(0, TTL);
        etcd.put(record("a"), lease, &mut notices);
        etcd.renew_leases(60 * SECOND);
        etcd.handle_timeout(61 * SECOND, &mut notices);
        assert_eq!(names(&etcd), ["a"]);
        assert_eq!(etcd.next_wake(), Some(62 * SECOND));
    }
}
