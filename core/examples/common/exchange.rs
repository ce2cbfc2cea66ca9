//! What messages mean to the core, and what the core's intents mean as messages.
//!
//! The core names what it asks by ids of its own, which never cross the wire: here they are matched with tags and connections. Like the core this
//! does no IO. It says what to send on which connection, and is told what came.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use groupcache_core::{
    Batch, BatchEnd, BatchId, DialId, Disposition, Failure, Fetched, GroupId, HashedKey, Instant,
    Invalidation, Key, Outcome, PeerId, Protocol, RemovalId, RequestId, RequestKey, Wake,
};

use super::Core;
use super::wire::{Asked, Garbled, MAX_VALUE, Message, Reply};

/// The one group of the examples: its number on this node, and its name on the wire.
pub(crate) const GROUP: GroupId = GroupId::new(0);
pub(crate) const GROUP_NAME: &str = "scores";
/// Connections at a time: whoever dials beyond them is turned away.
const MAX_CONNECTIONS: usize = 256;
/// A connection whose other end has not said hello after this is closed.
const GREETING: Duration = Duration::from_secs(1);

/// Names a connection on this node, for as long as the process lives.
pub(crate) type ConnId = usize;

/// The connections of a node, and what is open on each of them.
#[derive(Debug)]
pub(crate) struct Exchange {
    me: String,
    /// Chosen by chance for each process: nobody can choose keys that collide in its tables.
    hasher: RandomState,
    next: ConnId,
    conns: BTreeMap<ConnId, Conn>,
    /// By which connection a peer is asked.
    links: BTreeMap<PeerId, ConnId>,
    /// Requests that the core is answering, and where the answers go.
    served: BTreeMap<RequestId, (ConnId, u64)>,
}

#[derive(Debug)]
struct Conn {
    /// Who is asked here, and the core's number for the connection; `None` where we were dialled, and are asked.
    peer: Option<(PeerId, DialId)>,
    /// `None` once the other end has said hello.
    greet_by: Option<Instant>,
    next_tag: u64,
    /// Batches that are asked here, by tag.
    asked: BTreeMap<u64, BatchId>,
    /// Removals that the peer has been told of, and when they stop to wait for it.
    told: BTreeMap<u64, (RemovalId, Instant)>,
    /// Requests that are asked of us here, by the other end's tag.
    serving: BTreeMap<u64, RequestId>,
}

/// Connections: made, greeted, lost.
impl Exchange {
    pub(crate) fn new(me: &str) -> Self {
        Self {
            me: me.to_owned(),
            hasher: RandomState::new(),
            next: 0,
            conns: BTreeMap::new(),
            links: BTreeMap::new(),
            served: BTreeMap::new(),
        }
    }

    /// The key as the core takes it.
    pub(crate) fn hashed<'a>(&self, key: &'a [u8]) -> HashedKey<'a> {
        HashedKey::new(GROUP, key, self.hasher.hash_one((GROUP, key)))
    }

    /// Somebody has dialled us. `None` turns the connection away: there are as many as may be.
    pub(crate) fn accepted(&mut self, core: &Core) -> Option<ConnId> {
        (self.conns.len() < MAX_CONNECTIONS).then(|| self.begin(core, None))
    }

    /// A peer is being dialled. Gives the new connection's id, and that of an earlier one that it replaces, to be closed: a peer that accepts and says
    /// no hello.
    pub(crate) fn dialling(&mut self, core: &Core, peer: PeerId, dial: DialId) -> (ConnId, Option<ConnId>) {
        let conn = self.begin(core, Some((peer, dial)));
        (conn, self.links.insert(peer, conn))
    }

    fn begin(&mut self, core: &Core, peer: Option<(PeerId, DialId)>) -> ConnId {
        let conn = self.next;
        self.next += 1;
        let (greet_by, next_tag) = (Some(core.now().saturating_add(GREETING)), 0);
        let (asked, told, serving) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        self.conns.insert(conn, Conn { peer, greet_by, next_tag, asked, told, serving });
        conn
    }

    /// What to say first on a connection that was dialled. Nothing where it was closed, or replaced, before it was there.
    pub(crate) fn hello(&self, conn: ConnId) -> Option<(ConnId, Message)> {
        self.conns.contains_key(&conn).then(|| (conn, Message::Hello { name: self.me.clone() }))
    }

    /// The connection is gone, could not be made, or had to be closed: everybody who waits for something on it is told.
    pub(crate) fn closed(&mut self, core: &mut Core, conn: ConnId, cause: io::Error) {
        let Some(Conn { peer, told, serving, .. }) = self.conns.remove(&conn) else { return };
        let now = core.now();
        for request in serving.into_values() {
            self.served.remove(&request);
            core.node.handle_request_cancelled(now, request, &mut core.out);
        }
        let Some((peer, dial)) = peer else { return };
        for (removal, _) in told.into_values() {
            core.node.handle_invalidated(now, removal, peer, false, &mut core.out);
        }
        // A connection that was replaced is not the peer's any more: to the core it is no news.
        if self.links.get(&peer) == Some(&conn) {
            self.links.remove(&peer);
        }
        core.node.handle_disconnected(now, (peer, dial), Some(Arc::new(cause)), &mut core.out);
    }

    /// The peer has left the ring. Gives the connection, to be closed.
    pub(crate) fn forget(&mut self, peer: PeerId) -> Option<ConnId> {
        self.links.remove(&peer)
    }

    /// When [`overdue`](Self::overdue) has something to say.
    pub(crate) fn next_wake(&self) -> Wake {
        self.conns.values().filter_map(|conn| conn.greet_by).min().map_or(Wake::Idle, Wake::At)
    }

    /// Connections whose other end has not said hello in time, to be closed.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<ConnId> {
        let is_overdue = |conn: &Conn| conn.greet_by.is_some_and(|by| by <= now);
        self.conns.iter().filter(|(_, conn)| is_overdue(conn)).map(|(&id, _)| id).collect()
    }
}

/// Intents of the core, as messages. Where there is no connection the core is told at once.
impl Exchange {
    /// [`Intent::Fetch`](groupcache_core::Intent::Fetch).
    pub(crate) fn fetch(&mut self, core: &mut Core, batch: &Batch) -> Option<(ConnId, Message)> {
        let now = core.now();
        let Some((id, conn)) = self.link(batch.peer) else {
            let end = BatchEnd::Failed(None);
            core.node.handle_batch_closed(now, (batch.peer, batch.batch), end, &mut core.out);
            return None;
        };
        // Our peers are all of our kind: `batch.protocol` is `Batched`, as `handle_connected` has said.
        let asked = |item: &groupcache_core::FetchItem| Asked {
            group: GROUP_NAME.to_owned(),
            key: item.key.as_bytes().to_vec(),
            patience: item.deadline.saturating_since(now),
        };
        let tag = conn.tag();
        conn.asked.insert(tag, batch.batch);
        Some((id, Message::Fetch { tag, keys: batch.items.iter().map(asked).collect() }))
    }

    /// [`Intent::AbortFetch`](groupcache_core::Intent::AbortFetch).
    pub(crate) fn abort_fetch(&mut self, peer: PeerId, batch: BatchId) -> Option<(ConnId, Message)> {
        let (id, conn) = self.link(peer)?;
        let (&tag, _) = conn.asked.iter().find(|&(_, &asked)| asked == batch)?;
        conn.asked.remove(&tag);
        Some((id, Message::Cancel { tag }))
    }

    /// [`Intent::Invalidate`](groupcache_core::Intent::Invalidate).
    pub(crate) fn invalidate(
        &mut self,
        core: &mut Core,
        (removal, peer): (RemovalId, PeerId),
        what: &Invalidation,
        deadline: Instant,
    ) -> Option<(ConnId, Message)> {
        let now = core.now();
        let Some((id, conn)) = self.link(peer) else {
            core.node.handle_invalidated(now, removal, peer, false, &mut core.out);
            return None;
        };
        conn.told.retain(|_, (_, until)| *until > now);
        let tag = conn.tag();
        conn.told.insert(tag, (removal, deadline));
        let key = match what {
            Invalidation::Key(key) => Some(key.as_bytes().to_vec()),
            Invalidation::Group(_) => None,
        };
        Some((id, Message::Invalidate { tag, group: GROUP_NAME.to_owned(), key }))
    }

    /// [`Intent::Reply`](groupcache_core::Intent::Reply): several messages, where the values do not fit into one.
    pub(crate) fn reply(
        &mut self,
        core: &Core,
        request: RequestId,
        results: Vec<(u32, Result<Fetched, Failure>)>,
        last: bool,
    ) -> Vec<(ConnId, Message)> {
        let Some(&(id, tag)) = self.served.get(&request) else { return Vec::new() };
        if last {
            self.served.remove(&request);
            self.conns.get_mut(&id).and_then(|conn| conn.serving.remove(&tag));
        }
        let now = core.now();
        let (mut messages, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (index, result) in results {
            let reply: Reply = result.map(|fetched| {
                let ttl = (fetched.expires < Instant::MAX).then(|| fetched.expires.saturating_since(now));
                (fetched.value, ttl)
            });
            let length = reply.as_ref().map_or(0, |(value, _)| value.len());
            if bytes + length > MAX_VALUE {
                messages
                    .push((id, Message::Replies { tag, last: false, results: std::mem::take(&mut part) }));
                bytes = 0;
            }
            bytes += length;
            part.push((index, reply));
        }
        messages.push((id, Message::Replies { tag, last, results: part }));
        messages
    }

    /// The connection by which a peer is asked.
    fn link(&mut self, peer: PeerId) -> Option<(ConnId, &mut Conn)> {
        let id = *self.links.get(&peer)?;
        Some((id, self.conns.get_mut(&id)?))
    }
}

impl Conn {
    fn tag(&mut self) -> u64 {
        self.next_tag += 1;
        self.next_tag
    }
}

/// Messages, as facts for the core.
impl Exchange {
    /// Takes a message. Gives what to answer at once on the same connection.
    ///
    /// # Errors
    /// The other end does not keep to the protocol: close the connection.
    pub(crate) fn received(
        &mut self,
        core: &mut Core,
        id: ConnId,
        message: Message,
    ) -> Result<Option<Message>, Garbled> {
        let Some(conn) = self.conns.get_mut(&id) else { return Ok(None) };
        match (conn.peer, conn.greet_by.is_some(), message) {
            (None, true, Message::Hello { name }) => {
                conn.greet_by = None;
                Ok(Some(self.welcome(core, &name)))
            }
            (Some(peer), true, Message::Hello { name }) => {
                conn.greet_by = None;
                met(core, peer, &name)?;
                Ok(None)
            }
            (None, false, Message::Fetch { tag, keys }) => self.serve(core, (id, tag), &keys),
            (None, false, Message::Cancel { tag }) => {
                if let Some(request) = conn.serving.remove(&tag) {
                    self.served.remove(&request);
                    core.node.handle_request_cancelled(core.now(), request, &mut core.out);
                }
                Ok(None)
            }
            (None, false, Message::Invalidate { tag, group, key }) => {
                self.forget_what(core, &group, key.as_deref());
                Ok(Some(Message::Forgotten { tag }))
            }
            (Some((peer, _)), false, Message::Replies { tag, last, results }) => {
                conn.take_replies(core, peer, (tag, last), results);
                Ok(None)
            }
            (Some((peer, _)), false, Message::Forgotten { tag }) => {
                if let Some((removal, _)) = conn.told.remove(&tag) {
                    core.node.handle_invalidated(core.now(), removal, peer, true, &mut core.out);
                }
                Ok(None)
            }
            _ => Err(Garbled("a message out of turn")),
        }
    }

    /// Answers a hello. A member that shows itself is up: where its link waits to redial, it need not.
    fn welcome(&self, core: &mut Core, name: &str) -> Message {
        let now = core.now();
        if let Some(peer) = core.node.ring().by_name(name).map(groupcache_core::Member::id) {
            core.node.handle_seen(now, peer, &mut core.out);
        }
        Message::Hello { name: self.me.clone() }
    }

    fn serve(
        &mut self,
        core: &mut Core,
        (id, tag): (ConnId, u64),
        keys: &[Asked],
    ) -> Result<Option<Message>, Garbled> {
        let now = core.now();
        let asked: Vec<_> = keys
            .iter()
            .map(|Asked { group, key, patience }| {
                let key = (group == GROUP_NAME).then(|| self.hashed(key));
                RequestKey::new(key, now.saturating_add(*patience))
            })
            .collect();
        let Some(conn) = self.conns.get_mut(&id) else { return Ok(None) };
        if conn.serving.contains_key(&tag) {
            return Err(Garbled("a tag that is in use"));
        }
        match core.node.handle_request(now, &asked, &mut core.out) {
            Ok(request) => {
                conn.serving.insert(tag, request);
                self.served.insert(request, (id, tag));
                Ok(None)
            }
            Err(error) => {
                let results = (0..).zip(keys).map(|(index, _)| (index, Err(error.into()))).collect();
                Ok(Some(Message::Replies { tag, last: true, results }))
            }
        }
    }

    fn forget_what(&self, core: &mut Core, group: &str, key: Option<&[u8]>) {
        // What a node does not hold it need not forget.
        if group != GROUP_NAME {
            return;
        }
        let key = key.map(|key| Invalidation::Key(Key::from(&self.hashed(key))));
        let what = key.unwrap_or(Invalidation::Group(GROUP));
        core.node.handle_invalidation(core.now(), &what, &mut core.out);
    }
}

/// The peer that was dialled has said hello: it lives, and it is who it should be.
fn met(core: &mut Core, (peer, dial): (PeerId, DialId), name: &str) -> Result<(), Garbled> {
    if core.node.ring().member(peer).is_none_or(|member| member.name() != name) {
        return Err(Garbled("somebody else answers at this address"));
    }
    match core.node.handle_connected(core.now(), (peer, dial), Protocol::Batched, &mut core.out) {
        Disposition::Stale => Err(Garbled("an answer to a dial that was given up")),
        Disposition::Applied | Disposition::Retrying => Ok(()),
    }
}

impl Conn {
    fn take_replies(
        &mut self,
        core: &mut Core,
        peer: PeerId,
        (tag, last): (u64, bool),
        results: Vec<(u32, Reply)>,
    ) {
        // An answer that was on its way when the batch was aborted.
        let Some(&batch) = self.asked.get(&tag) else { return };
        let now = core.now();
        let results = results.into_iter().map(|(index, reply)| (index, outcome_of(reply)));
        core.node.handle_replies(now, (peer, batch), results, &mut core.out);
        if last {
            self.asked.remove(&tag);
            core.node.handle_batch_closed(now, (peer, batch), BatchEnd::Complete, &mut core.out);
        }
    }
}

fn outcome_of(reply: Reply) -> Outcome {
    match reply {
        Ok((value, ttl)) => Outcome::Value { value, ttl },
        Err(failure) => Outcome::from_peer(failure),
    }
}
