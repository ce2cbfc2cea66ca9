//! A registry inside one process: for nodes that share it, and for tests.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use groupcache_core::{Change, LeaseId, Revision, WatchEvent};

use super::store::Store;
use super::{Granted, KeepAlive, Listing, Registration, Registry, RegistryError};
use crate::sync::{Mutex, MutexGuard};

/// Members of one process find each other here. Clones share their content.
///
/// Leases end as in etcd. Nothing runs in the background: a lease that has ended takes effect with the next call of any node, and nodes call
/// several times a lease.
#[derive(Clone, Debug, Default)]
pub struct MemoryRegistry {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    store: Store,
    leases: BTreeMap<LeaseId, Lease>,
    last_lease: i64,
}

#[derive(Debug)]
struct Lease {
    /// `None` where the time to live is beyond all clocks.
    ends: Option<Instant>,
    ttl: Duration,
    key: Arc<str>,
}

impl MemoryRegistry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the lease now, as if its time had run out. For tests of what a node does then.
    pub fn expire(&self, lease: LeaseId) {
        self.lock().end(lease);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let ended: Vec<_> = inner
            .leases
            .iter()
            .filter(|(_, lease)| lease.ends.is_some_and(|ends| ends <= now))
            .map(|(id, _)| *id)
            .collect();
        ended.into_iter().for_each(|lease| inner.end(lease));
        inner
    }
}

impl Inner {
    /// Ends a lease; the record goes with it, unless a younger lease holds it by now.
    fn end(&mut self, lease: LeaseId) {
        let Some(Lease { key, .. }) = self.leases.remove(&lease) else { return };
        let held = self.leases.values().any(|lease| lease.key == key);
        if !held && self.store.contains(&key) {
            self.store.commit(vec![Change::Delete(key)]);
        }
    }
}

#[async_trait]
impl Registry for MemoryRegistry {
    async fn register(&self, me: &Registration, ttl: Duration) -> Result<Granted, RegistryError> {
        let mut inner = self.lock();
        inner.last_lease += 1;
        let lease = LeaseId::new(inner.last_lease);
        inner.leases.retain(|_, lease| lease.key != me.addr);
        inner
            .leases
            .insert(lease, Lease { ends: Instant::now().checked_add(ttl), ttl, key: Arc::clone(&me.addr) });
        inner.store.commit(vec![Change::Put(me.record())]);
        Ok(Granted { lease, ttl })
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<KeepAlive, RegistryError> {
        let mut inner = self.lock();
        let Some(lease) = inner.leases.get_mut(&lease) else { return Ok(KeepAlive::Lost) };
        lease.ends = Instant::now().checked_add(lease.ttl);
        Ok(KeepAlive::Alive { ttl: lease.ttl })
    }

    async fn deregister(&self, addr: &str, lease: Option<LeaseId>) -> Result<(), RegistryError> {
        let mut inner = self.lock();
        if let Some(lease) = lease {
            inner.end(lease);
        }
        inner.leases.retain(|_, lease| *lease.key != *addr);
        if inner.store.contains(addr) {
            inner.store.commit(vec![Change::Delete(Arc::from(addr))]);
        }
        Ok(())
    }

    async fn list(&self) -> Result<Listing, RegistryError> {
        Ok(self.lock().store.list())
    }

    async fn watch(&self, after: Revision) -> Result<BoxStream<'static, WatchEvent>, RegistryError> {
        Ok(self.lock().store.watch(after))
    }
}
