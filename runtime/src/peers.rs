//! The peers of a node: one link and one connection each.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};

use futures_util::future::AbortHandle;
use groupcache_core::{BatchId, Link, PeerId};

use crate::engine::lock;
use crate::sync::{Mutex, RwLock};
use crate::transport::PeerChannel;

/// One peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) name: Arc<str>,
    pub(crate) link: Mutex<Link>,
    connection: Mutex<Connected>,
    /// Batches that are being fetched, to stop them.
    pub(crate) batches: Mutex<HashMap<BatchId, AbortHandle>>,
}

/// The connection, with a number: what is heard of an earlier connection must not be taken for news of this one.
#[derive(Debug, Default)]
struct Connected {
    channel: Option<PeerChannel>,
    number: u64,
}

impl Peer {
    pub(crate) fn new(link: Link) -> Self {
        Self {
            id: link.peer(),
            name: Arc::clone(link.name()),
            link: Mutex::new(link),
            connection: Mutex::default(),
            batches: Mutex::default(),
        }
    }

    pub(crate) fn channel(&self) -> Option<PeerChannel> {
        lock(&self.connection).channel.clone()
    }

    /// Takes on a connection, in place of the one before. Answers its number.
    pub(crate) fn connect(&self, channel: PeerChannel) -> u64 {
        let (number, replaced) = {
            let mut connection = lock(&self.connection);
            connection.number += 1;
            (connection.number, connection.channel.replace(channel))
        };
        drop(replaced);
        number
    }

    /// Drops connection `number`. `false` says that another has taken its place.
    pub(crate) fn lose(&self, number: u64) -> bool {
        let mut connection = lock(&self.connection);
        if connection.number != number {
            return false;
        }
        let channel = connection.channel.take();
        drop(connection);
        channel.is_some()
    }

    /// Drops whatever connection there is.
    pub(crate) fn disconnect(&self) {
        let channel = lock(&self.connection).channel.take();
        drop(channel);
        for (_, batch) in lock(&self.batches).drain() {
            batch.abort();
        }
    }
}

/// All peers, by number.
#[derive(Debug, Default)]
pub(crate) struct Peers(RwLock<HashMap<PeerId, Arc<Peer>>>);

impl Peers {
    pub(crate) fn get(&self, id: PeerId) -> Option<Arc<Peer>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(crate) fn add(&self, peer: Arc<Peer>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(peer.id, peer);
    }

    pub(crate) fn remove(&self, id: PeerId) -> Option<Arc<Peer>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }

    /// All peers, by number.
    pub(crate) fn all(&self) -> Vec<Arc<Peer>> {
        let mut peers: Vec<_> =
            self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        peers.sort_unstable_by_key(|peer| peer.id);
        peers
    }

    pub(crate) fn take_all(&self) -> Vec<Arc<Peer>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).drain().map(|(_, peer)| peer).collect()
    }
}
