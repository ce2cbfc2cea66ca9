//! A small etcd: records under leases, revisions, a log of changes that can be compacted.

use std::collections::BTreeMap;
use std::time::Duration;

use groupcache_core::{
    Change, Instant, LeaseId, MemberRecord, RegistryIntent, RegistryOutcome, Revision, WatchEvent,
};

/// Records by key, each with the lease that it stands under.
#[derive(Debug)]
pub(super) struct Etcd {
    pub(super) revision: i64,
    pub(super) records: BTreeMap<String, (MemberRecord, Option<i64>)>,
    /// When each lease ends, and for how long it is granted.
    leases: BTreeMap<i64, (Instant, Duration)>,
    log: Vec<(i64, Change)>,
    compacted: i64,
    next_lease: i64,
}

impl Etcd {
    /// With nothing in it. Leases are numbered from `next_lease` on.
    pub(super) const fn empty(next_lease: i64) -> Self {
        Self {
            revision: 1,
            records: BTreeMap::new(),
            leases: BTreeMap::new(),
            log: Vec::new(),
            compacted: 0,
            next_lease,
        }
    }

    /// The same process with an empty data directory.
    pub(super) fn lose_data(&mut self) {
        *self = Self::empty(self.next_lease + 1_000);
    }

    pub(super) fn put(&mut self, record: MemberRecord, lease: Option<i64>) {
        self.revision += 1;
        self.log.push((self.revision, Change::Put(record.clone())));
        self.records.insert(record.key.to_string(), (record, lease));
    }

    pub(super) fn delete(&mut self, key: &str) {
        if self.records.remove(key).is_some() {
            self.revision += 1;
            self.log.push((self.revision, Change::Delete(key.into())));
        }
    }

    /// Ends every lease, and with it what stands under it.
    pub(super) fn revoke_all(&mut self) {
        self.expire(Instant::MAX);
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.leases.retain(|_, (ends, _)| *ends > now);
        let leases = &self.leases;
        let ended = |lease: &Option<i64>| lease.is_some_and(|lease| !leases.contains_key(&lease));
        let gone: Vec<String> =
            self.records.iter().filter(|(_, (_, lease))| ended(lease)).map(|(key, _)| key.clone()).collect();
        gone.iter().for_each(|key| self.delete(key));
    }

    pub(super) fn has_lease(&self, now: Instant) -> bool {
        self.leases.values().any(|(ends, _)| *ends > now)
    }

    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.leases.values().map(|(ends, _)| *ends).min()
    }

    pub(super) const fn compact(&mut self) {
        self.compacted = self.revision;
    }

    pub(super) fn listed(&self) -> RegistryOutcome {
        let records = self.records.values().map(|(record, _)| record.clone()).collect();
        RegistryOutcome::Listed { records, revision: Revision::new(self.revision) }
    }

    /// What a watch behind `after` has to tell, with the revision that it has come to then.
    pub(super) fn news(&self, after: i64) -> Vec<(i64, WatchEvent)> {
        if after < self.compacted {
            return vec![(after, WatchEvent::Compacted { revision: Revision::new(self.compacted) })];
        }
        let news = self.log.iter().filter(|(revision, _)| *revision > after);
        let event = |(revision, change): &(i64, Change)| {
            let changes = vec![change.clone()];
            (*revision, WatchEvent::Changed { revision: Revision::new(*revision), changes })
        };
        news.map(event).collect()
    }

    /// Carries an operation out.
    pub(super) fn serve(&mut self, intent: &RegistryIntent, me: &str, now: Instant) -> RegistryOutcome {
        match intent {
            RegistryIntent::Register { ttl, .. } => {
                self.next_lease += 1;
                self.leases.insert(self.next_lease, (now.saturating_add(*ttl), *ttl));
                self.put(MemberRecord::new(me, 1), Some(self.next_lease));
                RegistryOutcome::Registered { lease: LeaseId::new(self.next_lease), ttl: *ttl }
            }
            RegistryIntent::KeepAlive { lease, .. } => match self.leases.get_mut(&lease.get()) {
                Some((ends, ttl)) => {
                    *ends = now.saturating_add(*ttl);
                    RegistryOutcome::KeptAlive { ttl: *ttl }
                }
                None => RegistryOutcome::LeaseLost,
            },
            RegistryIntent::Deregister { lease, .. } => {
                self.delete(me);
                if let Some(lease) = lease {
                    self.leases.remove(&lease.get());
                    self.expire(now);
                }
                RegistryOutcome::Deregistered
            }
            RegistryIntent::List { .. } => self.listed(),
            RegistryIntent::Watch { .. } => unreachable!("a watch is no call"),
        }
    }
}
