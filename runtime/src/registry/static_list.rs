//! A list of members that somebody else keeps.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use groupcache_core::{Change, LeaseId, MemberRecord, Revision, WatchEvent};

use super::store::Store;
use super::{Granted, KeepAlive, Listing, Registration, Registry, RegistryError};
use crate::sync::{Mutex, MutexGuard};

/// Longer than any process lives: nothing has to be kept alive here.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A fixed list of members. [`set_peers`](Self::set_peers) replaces it while nodes run, and they see it at once.
///
/// A node that registers is on the list while it runs, whether it was named or not. Members that are down stay on it: nobody here knows.
#[derive(Clone, Debug, Default)]
pub struct StaticRegistry {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    store: Store,
    listed: BTreeMap<Arc<str>, MemberRecord>,
    registered: BTreeMap<Arc<str>, MemberRecord>,
}

impl StaticRegistry {
    /// A list of members of weight 1, by address.
    #[must_use]
    pub fn new(peers: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Self {
        let registry = Self::default();
        registry.set_peers(peers);
        registry
    }

    /// Replaces the list. Addresses that stay are not disturbed; empty ones are left out.
    pub fn set_peers(&self, peers: impl IntoIterator<Item = impl Into<Arc<str>>>) {
        self.set_records(peers.into_iter().map(|addr| MemberRecord::new(addr, 1)));
    }

    /// Replaces the list, with weights. Weights must be the same in every node's list, or the nodes disagree on owners.
    pub fn set_records(&self, records: impl IntoIterator<Item = MemberRecord>) {
        let listed = records.into_iter().filter(|record| !record.addr.is_empty());
        let listed = listed.map(|record| (Arc::clone(&record.key), record)).collect();
        let mut inner = self.lock();
        inner.listed = listed;
        inner.publish();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Brings the store to what is listed and registered, as one change. A listed record counts before a registered one.
    fn publish(&mut self) {
        let mut wanted = self.registered.clone();
        wanted.extend(self.listed.iter().map(|(key, record)| (Arc::clone(key), record.clone())));
        let mut changes = Vec::new();
        for standing in self.store.list().records {
            match wanted.remove(&standing.key) {
                Some(record) if record == standing => {}
                Some(record) => changes.push(Change::Put(record)),
                None => changes.push(Change::Delete(standing.key)),
            }
        }
        changes.extend(wanted.into_values().map(Change::Put));
        self.store.commit(changes);
    }
}

#[async_trait]
impl Registry for StaticRegistry {
    async fn register(&self, me: &Registration, _: Duration) -> Result<Granted, RegistryError> {
        let mut inner = self.lock();
        inner.registered.insert(Arc::clone(&me.addr), me.record());
        inner.publish();
        Ok(Granted { lease: LeaseId::new(1), ttl: FOR_EVER })
    }

    async fn keep_alive(&self, _: LeaseId) -> Result<KeepAlive, RegistryError> {
        Ok(KeepAlive::Alive { ttl: FOR_EVER })
    }

    async fn deregister(&self, addr: &str, _: Option<LeaseId>) -> Result<(), RegistryError> {
        let mut inner = self.lock();
        inner.registered.remove(addr);
        inner.publish();
        Ok(())
    }

    async fn list(&self) -> Result<Listing, RegistryError> {
        Ok(self.lock().store.list())
    }

    async fn watch(&self, after: Revision) -> Result<BoxStream<'static, WatchEvent>, RegistryError> {
        Ok(self.lock().store.watch(after))
    }
}
