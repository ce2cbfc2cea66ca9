//! The peers of a node: one link and one connection each.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use futures_channel::oneshot;
use futures_util::future::AbortHandle;
use groupcache_core::{BatchId, DialId, Link, PeerId};

use crate::engine::lock;
use crate::meter::PeerMeter;
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::sync::{Mutex, RwLock};
use crate::transport::PeerChannel;
use crate::watch::Latencies;

/// One peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) name: Arc<str>,
    pub(crate) link: Mutex<Link>,
    pub(crate) meter: PeerMeter,
    /// Whether the latest batch had more than one key.
    pub(crate) asked_by_several: AtomicBool,
    /// How long its last answers took.
    pub(crate) latencies: Latencies,
    connection: Mutex<Option<(DialId, PeerChannel)>>,
    /// Who waits for a dial's result. Woken when it is dropped.
    awaiting: Mutex<Vec<oneshot::Sender<()>>>,
    /// Batches that are being fetched, to stop them.
    pub(crate) batches: Mutex<HashMap<BatchId, AbortHandle>>,
}

impl Peer {
    pub(crate) fn new(link: Link) -> Self {
        Self {
            id: link.peer(),
            name: Arc::clone(link.name()),
            link: Mutex::new(link),
            meter: PeerMeter::default(),
            asked_by_several: AtomicBool::new(false),
            latencies: Latencies::default(),
            connection: Mutex::default(),
            awaiting: Mutex::default(),
            batches: Mutex::default(),
        }
    }

    /// The connection that takes calls. What is in flight on an earlier one holds that by itself.
    pub(crate) fn channel(&self) -> Option<PeerChannel> {
        lock(&self.connection).as_ref().map(|(_, channel)| channel.clone())
    }

    /// The connection of a dial, where it still takes calls.
    pub(crate) fn channel_of(&self, dial: DialId) -> Option<PeerChannel> {
        let connection = lock(&self.connection);
        connection.as_ref().filter(|(of, _)| *of == dial).map(|(_, channel)| channel.clone())
    }

    /// Takes on the connection of a dial, in place of an earlier one.
    pub(crate) fn connect(&self, dial: DialId, channel: PeerChannel) {
        let mut connection = lock(&self.connection);
        let replaced = match &*connection {
            Some((of, _)) if *of > dial => Some((dial, channel)),
            _ => connection.replace((dial, channel)),
        };
        drop(connection);
        drop(replaced);
        self.tell_dialled();
    }

    /// Resolves when a dial has come to something: a connection, or none.
    pub(crate) fn dialled(&self) -> oneshot::Receiver<()> {
        let (told, dialled) = oneshot::channel();
        lock(&self.awaiting).push(told);
        dialled
    }

    pub(crate) fn tell_dialled(&self) {
        let awaiting = std::mem::take(&mut *lock(&self.awaiting));
        drop(awaiting);
    }

    /// Drops the connection of a dial, if no other has taken its place.
    pub(crate) fn lose(&self, dial: DialId) {
        let lost = lock(&self.connection).take_if(|(of, _)| *of == dial);
        drop(lost);
    }

    /// Drops whatever connection there is.
    pub(crate) fn disconnect(&self) {
        let connection = lock(&self.connection).take();
        drop(connection);
        for (_, batch) in lock(&self.batches).drain() {
            batch.abort();
        }
    }
}

/// All peers, by number.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    by_id: RwLock<HashMap<PeerId, Arc<Peer>>>,
    generations: AtomicU32,
}

impl Peers {
    /// Another for each link: a peer that comes back may have a new one.
    pub(crate) fn next_generation(&self) -> u32 {
        self.generations.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn get(&self, id: PeerId) -> Option<Arc<Peer>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    /// Takes on a peer. One that has left may still be here under its number, and is replaced.
    pub(crate) fn add(&self, peer: Arc<Peer>) {
        let replaced = self.by_id.write().unwrap_or_else(PoisonError::into_inner).insert(peer.id, peer);
        if let Some(replaced) = replaced {
            replaced.disconnect();
        }
    }

    /// Drops a peer, if no other has taken its place.
    pub(crate) fn remove(&self, peer: &Arc<Peer>) {
        let mut peers = self.by_id.write().unwrap_or_else(PoisonError::into_inner);
        if peers.get(&peer.id).is_some_and(|found| Arc::ptr_eq(found, peer)) {
            peers.remove(&peer.id);
        }
    }

    /// All peers, by number.
    pub(crate) fn all(&self) -> Vec<Arc<Peer>> {
        let mut peers: Vec<_> =
            self.by_id.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        peers.sort_unstable_by_key(|peer| peer.id);
        peers
    }

    pub(crate) fn take_all(&self) -> Vec<Arc<Peer>> {
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).drain().map(|(_, peer)| peer).collect()
    }
}
