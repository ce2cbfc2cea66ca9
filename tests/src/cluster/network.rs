//! What is on its way: to peers, which may go wrong, and to the origin and the registry.

use std::cmp::Reverse;
use std::time::Duration;

use groupcache_core::{
    Attempt, Batch, BatchEnd, BatchId, DialId, Effects, Failure, FailureKind, Fetched, FlightId, Instant,
    Intent, Invalidation, Key, LeaseId, MemberRecord, OpId, Outcome, PeerId, Protocol, RegistryIntent,
    RegistryOutcome, RemovalId, RequestId, RequestKey, Revision, Value,
};

use super::{Cluster, DELAY, ORIGIN, Served, index_of, name};

/// Something on its way to a node.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// For a life of a node: dropped when the node has another by then.
    To {
        index: usize,
        life: u32,
        what: Box<Self>,
    },
    Loaded(FlightId, Attempt, Outcome),
    Connected(PeerId, DialId, bool),
    Registry(OpId, RegistryOutcome),
    Request {
        served: Served,
        keys: Vec<Key>,
        deadline: Instant,
    },
    RequestCancelled(Served),
    Replies {
        peer: String,
        batch: BatchId,
        replies: Vec<(u32, Outcome)>,
        last: bool,
    },
    Forget {
        from: usize,
        life: u32,
        removal: RemovalId,
        what: Invalidation,
    },
    Forgotten {
        peer: String,
        removal: RemovalId,
    },
}

impl Cluster {
    /// Sends what cannot go wrong: a node's own business.
    pub(super) fn send_now(&mut self, to: usize, event: Event) {
        self.schedule(Duration::ZERO, to, event);
    }

    fn schedule(&mut self, delay: Duration, index: usize, event: Event) {
        let life = self.members[index].life;
        self.schedule_at(self.now.saturating_add(delay), Event::To { index, life, what: Box::new(event) });
    }

    fn schedule_at(&mut self, at: Instant, event: Event) {
        self.sequence += 1;
        self.events.insert(self.sequence, event);
        self.queue.push(Reverse((at, self.sequence)));
    }

    /// Sends a message over the network to a life of a node. Removals have streams of their own.
    fn send(&mut self, from: usize, (to, life): (usize, u32), event: &Event) {
        let is_removal = matches!(event, Event::Forget { .. } | Event::Forgotten { .. });
        let copies = 1 + u32::from(self.happens(self.faults.doubled));
        for _ in 0..copies {
            if self.happens(self.faults.lost) {
                continue;
            }
            let spread = self.jitter.as_nanos() as u64 + 1;
            let mut at = self.now.saturating_add(DELAY + Duration::from_nanos(self.draw() % spread));
            if !self.faults.reordered {
                let last = self.streams.entry((from, to, is_removal)).or_insert(at);
                at = at.max(*last);
                *last = at;
            }
            self.schedule_at(at, Event::To { index: to, life, what: Box::new(event.clone()) });
        }
    }

    /// Who a message to a peer is for: the life that the sender is connected with.
    fn address(&self, from: usize, peer: PeerId) -> Option<(usize, u32)> {
        let to = index_of(&self.members[from].peers.get(&peer)?.0);
        Some((to, self.members[to].life))
    }

    pub(super) fn execute(&mut self, me: usize, intent: Intent) {
        let life = self.members[me].life;
        match intent {
            Intent::Load { flight, attempt, key, .. } => self.load(me, (flight, attempt), &key),
            Intent::Fetch(Batch { peer, batch, items, deadline, .. }) => {
                let Some(to) = self.address(me, peer) else { return };
                let keys = items.into_iter().map(|item| item.key).collect();
                let served = Served { from: me, life, batch };
                self.send(me, to, &Event::Request { served, keys, deadline });
            }
            Intent::AbortFetch { peer, batch } => {
                let Some(to) = self.address(me, peer) else { return };
                self.send(me, to, &Event::RequestCancelled(Served { from: me, life, batch }));
            }
            Intent::Reply { request, results, last } => self.reply(me, request, results, last),
            Intent::Connect { peer, dial, name } => {
                let alive = self.members[index_of(&name)].alive;
                self.members[me].peers.insert(peer, (name.to_string(), dial));
                self.schedule(DELAY, me, Event::Connected(peer, dial, alive));
            }
            Intent::Invalidate { removal, peer, what, .. } => {
                let Some(to) = self.address(me, peer) else { return };
                self.send(me, to, &Event::Forget { from: me, life, removal, what });
            }
            Intent::Registry(intent) => self.registry(me, &intent),
            Intent::AbortLoad { .. } | Intent::Forget { .. } => {}
        }
    }

    /// The origin answers with the key and its version as it is now.
    fn load(&mut self, me: usize, (flight, attempt): (FlightId, Attempt), key: &Key) {
        *self.loads.entry(key.as_bytes().to_vec()).or_default() += 1;
        if self.happens(self.faults.failed_loads) {
            return; // It hangs.
        }
        let failed = self.happens(self.faults.failed_loads);
        let text = String::from_utf8_lossy(key.as_bytes());
        let value = format!("{text}#{}", self.version_of(&text)).into_bytes();
        let outcome = match failed {
            true => Outcome::Failed(Failure::new(FailureKind::OriginFailed)),
            false => Outcome::Value { value: Value::from(value), ttl: None },
        };
        self.schedule(ORIGIN, me, Event::Loaded(flight, attempt, outcome));
    }

    fn reply(
        &mut self,
        me: usize,
        request: RequestId,
        results: Vec<(u32, Result<Fetched, Failure>)>,
        last: bool,
    ) {
        let Some(&served) = self.members[me].served.get(&request) else { return };
        if last {
            self.members[me].served.remove(&request);
        }
        let now = self.now;
        let outcome = |result: Result<Fetched, Failure>| match result {
            Ok(fetched) if fetched.expires == Instant::MAX => {
                Outcome::Value { value: fetched.value, ttl: None }
            }
            Ok(fetched) => {
                Outcome::Value { value: fetched.value, ttl: Some(fetched.expires.saturating_since(now)) }
            }
            Err(failure) => Outcome::from_peer(failure),
        };
        let replies = results.into_iter().map(|(index, result)| (index, outcome(result))).collect();
        let event = Event::Replies { peer: name(me), batch: served.batch, replies, last };
        self.send(me, (served.from, served.life), &event);
    }

    /// The registry knows everybody, from the start and for ever.
    fn registry(&mut self, me: usize, intent: &RegistryIntent) {
        let ttl = Duration::from_secs(3600);
        let (op, outcome) = match *intent {
            RegistryIntent::Register { op, .. } => {
                (op, RegistryOutcome::Registered { lease: LeaseId::new(1), ttl })
            }
            RegistryIntent::KeepAlive { op, .. } => (op, RegistryOutcome::KeptAlive { ttl }),
            RegistryIntent::Deregister { op, .. } => (op, RegistryOutcome::Deregistered),
            RegistryIntent::List { op } => {
                let records = (0..self.len()).map(|index| MemberRecord::new(name(index), 1)).collect();
                (op, RegistryOutcome::Listed { records, revision: Revision::new(1) })
            }
            RegistryIntent::Watch { .. } => return,
        };
        self.schedule(DELAY, me, Event::Registry(op, outcome));
    }

    pub(super) fn deliver_next(&mut self) {
        let Some(Reverse((_, sequence))) = self.queue.pop() else { return };
        let event = self.events.remove(&sequence);
        if let Some(Event::To { index, life, what }) = event {
            let member = &self.members[index];
            if member.alive && member.life == life {
                self.deliver(index, *what);
            }
        }
    }

    fn deliver(&mut self, to: usize, event: Event) {
        match event {
            Event::To { .. } => {}
            Event::Loaded(flight, attempt, outcome) => {
                self.turn(to, |node, now, out| node.handle_loaded(now, flight, attempt, outcome, out));
            }
            Event::Connected(peer, dial, true) => {
                let conn = (peer, dial);
                self.turn(to, |node, now, out| node.handle_connected(now, conn, Protocol::Batched, out));
            }
            Event::Connected(peer, dial, false) => {
                self.turn(to, |node, now, out| node.handle_disconnected(now, (peer, dial), None, out));
            }
            Event::Registry(op, outcome) => {
                self.turn(to, |node, now, out| node.handle_registry(now, op, outcome, out));
            }
            Event::Request { served, keys, deadline } => self.serve(to, served, &keys, deadline),
            Event::RequestCancelled(served) => {
                let given_up = self.members[to].served.iter().find(|(_, other)| **other == served);
                if let Some(request) = given_up.map(|(&request, _)| request) {
                    self.members[to].served.remove(&request);
                    self.turn(to, |node, now, out| node.handle_request_cancelled(now, request, out));
                }
            }
            Event::Replies { peer, batch, replies, last } => {
                let Some(peer) = self.peer_id(to, &peer) else { return };
                self.turn(to, |node, now, out| node.handle_replies(now, (peer, batch), replies, out));
                if last {
                    let end = BatchEnd::Complete;
                    self.turn(to, |node, now, out| node.handle_batch_closed(now, (peer, batch), end, out));
                }
            }
            Event::Forget { from, life, removal, what } => {
                self.turn(to, |node, now, out| node.handle_invalidation(now, &what, out));
                self.send(to, (from, life), &Event::Forgotten { peer: name(to), removal });
            }
            Event::Forgotten { peer, removal } => {
                let Some(peer) = self.peer_id(to, &peer) else { return };
                self.turn(to, |node, now, out| node.handle_invalidated(now, removal, peer, true, out));
            }
        }
    }

    /// A node serves a peer, and asks no peer for it.
    fn serve(&mut self, me: usize, served: Served, keys: &[Key], deadline: Instant) {
        let keys: Vec<_> = keys.iter().map(|key| RequestKey::new(Some(key.as_hashed()), deadline)).collect();
        let mut out = Effects::new();
        let member = &mut self.members[me];
        if let Ok(request) = member.node.handle_request(self.now, &keys, &mut out) {
            member.served.insert(request, served);
        }
        let intents: Vec<Intent> = out.drain_intents().collect();
        let is_forwarded = intents.iter().any(|intent| matches!(intent, Intent::Fetch(_)));
        assert!(!is_forwarded, "a peer's request is forwarded");
        for intent in intents {
            self.execute(me, intent);
        }
        self.carry_out(me, &mut out);
    }
}
