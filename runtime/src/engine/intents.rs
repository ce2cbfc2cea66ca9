//! Carries out intents: origin loads, fetches, dials, invalidations. Each runs as a task of its own, so that no caller's leaving ends it.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::{AbortHandle, AbortRegistration, Abortable, Either, select};
use futures_util::{FutureExt, StreamExt, pin_mut};
use groupcache_core::{
    Attempt, Batch, BatchEnd, Cause, DialId, Disposition, Failure, FailureKind, FlightId, Instant, Intent,
    Invalidation, Key, Outcome, PeerId, Protocol, RemovalId, Value, in_words,
};
use groupcache_proto::v1::FetchRequest;

use super::{Engine, Fx, lock};
use crate::peers::Peer;
use crate::retriever::RetrieveError;
use crate::sync::Mutex;
use crate::sync::atomic::Ordering;
use crate::trace::Traced;
use crate::transport::{Closed, PeerChannel, PeerFault};
use crate::view::ByteView;

/// Origin loads that run, to stop them when nobody waits any more.
#[derive(Debug, Default)]
pub(super) struct Running(Mutex<HashMap<FlightId, (Attempt, AbortHandle)>>);

impl Engine {
    pub(super) fn execute(self: &Arc<Self>, intent: Intent) {
        match intent {
            Intent::Load { flight, attempt, key, deadline, stale } => {
                self.start_load((flight, attempt), key, deadline, stale);
            }
            Intent::AbortLoad { flight } => {
                let running = lock(&self.running.0).remove(&flight);
                if let Some((_, load)) = running {
                    load.abort();
                }
            }
            Intent::Fetch(batch) => self.start_fetch(batch),
            Intent::AbortFetch { peer, batch } => {
                if let Some(peer) = self.peers.get(peer) {
                    let running = lock(&peer.batches).remove(&batch);
                    if let Some(fetch) = running {
                        fetch.abort();
                    }
                }
            }
            Intent::Connect { peer, dial, .. } => self.start_dial(peer, dial),
            Intent::Forget { peer } => self.forget_peer(peer),
            Intent::Invalidate { removal, peer, what, deadline } => {
                self.start_invalidation(removal, peer, what, deadline);
            }
            Intent::Registry(intent) => self.start_registry(intent),
            // Only a `Node` serves peers through the core; here the gRPC service awaits the answer itself.
            Intent::Reply { request, .. } => {
                tracing::error!(?request, "a reply to a request that was never made")
            }
        }
    }

    fn start_load(
        self: &Arc<Self>,
        (flight, attempt): (FlightId, Attempt),
        key: Key,
        deadline: Instant,
        stale: Option<Value>,
    ) {
        let (handle, registration) = AbortHandle::new_pair();
        lock(&self.running.0).insert(flight, (attempt, handle));
        // An abort may have come before there was anything to abort.
        if !self.read(flight.shard()).wants(flight, attempt) {
            self.forget_load(flight, attempt);
            return;
        }
        let engine = Arc::clone(self);
        // Now: whoever started the flight may be gone when the task runs.
        let traced = self.traced_load(flight, &key);
        self.rt.spawn(Box::pin(async move {
            let began = engine.clock.now();
            let retrieving = Abortable::new(engine.retrieve(&key, deadline, stale), registration);
            let outcome = match traced {
                None => retrieving.await,
                Some(traced) => traced.run(retrieving).await,
            };
            engine.forget_load(flight, attempt);
            let Ok(outcome) = outcome else { return };
            engine.note_loaded(&key, &outcome, began);
            let mut fx = Fx::new();
            let now = engine.clock.now();
            engine.with_shard(flight.shard(), |shard| {
                shard.handle_loaded(now, flight, attempt, outcome, &mut fx)
            });
            engine.carry_out(&mut fx);
        }));
    }

    fn traced_load(&self, flight: FlightId, key: &Key) -> Option<Traced> {
        if !self.tracer.is_on() {
            return None;
        }
        self.tracer.load(flight, &self.groups.by_id(key.group())?.name, key.as_bytes())
    }

    /// Forgets the handle of a load, unless a later attempt of the flight has put its own there.
    fn forget_load(&self, flight: FlightId, attempt: Attempt) {
        let mut running = lock(&self.running.0);
        if running.get(&flight).is_some_and(|(of, _)| *of == attempt) {
            running.remove(&flight);
        }
    }

    /// Asks the group's retriever, which may panic or hang.
    async fn retrieve(&self, key: &Key, deadline: Instant, stale: Option<Value>) -> Outcome {
        let Some(group) = self.groups.by_id(key.group()) else {
            return Outcome::Failed(Failure::new(FailureKind::NoSuchGroup));
        };
        let Ok(text) = std::str::from_utf8(key.as_bytes()) else {
            return Outcome::Failed(Failure::with_message(FailureKind::InvalidKey, "the key is not UTF-8"));
        };
        // `retrieve` is called inside the guarded future: it may panic before it returns one of its own.
        let since = self.clock.now();
        let retrieving = AssertUnwindSafe(async {
            Ok::<_, RetrieveError>(match stale.map(ByteView::from) {
                None => group.retriever.retrieve(text).await?.into_outcome(),
                Some(stale) => group.retriever.revalidate(text, &stale).await?.into_outcome(stale),
            })
        });
        let retrieving = retrieving.catch_unwind();
        pin_mut!(retrieving);
        let outcome = match select(retrieving, self.rt.sleep(self.clock.until(deadline))).await {
            Either::Left((Ok(Ok(outcome)), _)) => outcome,
            Either::Left((Ok(Err(error)), _)) => Outcome::Failed(error.into_failure()),
            Either::Left((Err(panic), _)) => {
                let what = panic_message(&*panic);
                tracing::error!(group = %group.name, "the retriever panicked: {what}");
                let message = format!("the retriever panicked: {what}");
                Outcome::Failed(Failure::with_message(FailureKind::OriginFailed, message))
            }
            Either::Right(((), _)) => Outcome::Failed(Failure::new(FailureKind::Deadline)),
        };
        self.meter.loaded(self, &group, since, &outcome);
        outcome
    }

    fn start_fetch(self: &Arc<Self>, batch: Batch) {
        let Some(peer) = self.peers.get(batch.peer) else { return };
        let Some(channel) = peer.channel_of(batch.dial) else {
            self.close_batch(&peer, &batch, BatchEnd::Failed(None));
            return;
        };
        let (handle, registration) = AbortHandle::new_pair();
        lock(&peer.batches).insert(batch.batch, handle);
        if !lock(&peer.link).wants(batch.batch) {
            lock(&peer.batches).remove(&batch.batch);
            return;
        }
        // Where there are several who ask, they do at about the same time: the batch before has served them.
        let crowded = peer.asked_by_several.load(Ordering::Relaxed);
        let fetch = Fetch { engine: Arc::clone(self), peer, batch, over: false };
        channel.spawn(Box::pin(fetch.run(channel.clone(), registration)), crowded);
    }

    /// Takes along what was asked for since the batch was formed.
    fn top_up(self: &Arc<Self>, peer: &Peer, batch: &mut Batch) {
        let mut fx = Fx::new();
        let now = self.clock.now();
        let _stale = self.on_link(peer, |link| link.top_up(now, batch, &mut fx));
        peer.asked_by_several.store(batch.items.len() > 1, Ordering::Relaxed);
        self.carry_out(&mut fx);
    }

    async fn fetch_batch(self: &Arc<Self>, peer: &Peer, channel: &PeerChannel, batch: &Batch) -> BatchEnd {
        let mut request = FetchRequest::new(self.ring().fingerprint());
        let now = self.clock.now();
        // Keys of one group come together, as a rule: it is looked up once.
        let mut last = None;
        let traced = self.tracer.fetch(&peer.name, &batch.items);
        for (index, item) in batch.items.iter().enumerate() {
            let of = item.key.group();
            let (_, group) = match last.take().filter(|(id, _)| *id == of) {
                Some(known) => last.insert(known),
                None => last.insert((of, self.groups.by_id(of))),
            };
            let name = group.as_ref().map_or("", |group| &group.name);
            let left = item.deadline.saturating_since(now);
            request.push(name, Bytes::copy_from_slice(item.key.as_bytes()), Some(left));
            if let Some(context) = traced.context(index) {
                request.set_trace(context.traceparent(), context.tracestate().unwrap_or_default());
            }
        }
        // The link ends it when nobody waits any more.
        let replies = channel.fetch_each(request);
        pin_mut!(replies);
        let mut answered = 0;
        while answered < batch.items.len() {
            match replies.next().await {
                Some(Ok(reply)) => {
                    answered += reply.items.len();
                    self.meter.fetched(self, peer, now, reply.items.len(), true);
                    let outcomes = reply.items.into_iter().map(groupcache_proto::v1::Item::into_outcome);
                    let outcomes: Vec<_> = outcomes.collect();
                    self.note_fetched(peer, batch, &outcomes, now);
                    self.take_replies(peer, batch, outcomes);
                }
                Some(Err(PeerFault::Unimplemented)) => return BatchEnd::Unimplemented,
                Some(Err(fault)) => {
                    let left = batch.items.len().saturating_sub(answered);
                    self.meter.fetched(self, peer, now, left, false);
                    return BatchEnd::Failed(cause_of(fault));
                }
                None => return BatchEnd::Complete,
            }
        }
        BatchEnd::Complete
    }

    /// One key by `groupcachepb.GroupCache/Get`.
    async fn fetch_single(self: &Arc<Self>, peer: &Peer, channel: &PeerChannel, batch: &Batch) -> BatchEnd {
        let [item] = &*batch.items else { return BatchEnd::Unimplemented };
        let Some(group) = self.groups.by_id(item.key.group()) else { return BatchEnd::Complete };
        let now = self.clock.now();
        let limit = item.deadline.saturating_since(now);
        let traced = self.tracer.fetch(&peer.name, &batch.items);
        let accepted = || self.take_replies(peer, batch, []);
        let told = (limit, traced.context(0));
        let outcome = match channel.get(&group.name, item.key.as_bytes(), told, accepted).await {
            Ok(value) => Outcome::Value { value, ttl: None },
            Err(PeerFault::Unimplemented) => return BatchEnd::Unimplemented,
            Err(fault) => fault.into_outcome(),
        };
        let is_answered = !matches!(outcome, Outcome::Unreachable(_));
        self.meter.fetched(self, peer, now, 1, is_answered);
        // A peer that gave no answer has failed the batch, which the breaker counts.
        if let Outcome::Unreachable(cause) = outcome {
            return BatchEnd::Failed(cause);
        }
        let outcomes = [(0, outcome)];
        self.note_fetched(peer, batch, &outcomes, now);
        self.take_replies(peer, batch, outcomes);
        BatchEnd::Complete
    }

    fn take_replies(
        self: &Arc<Self>,
        peer: &Peer,
        batch: &Batch,
        outcomes: impl IntoIterator<Item = (u32, Outcome)>,
    ) {
        let mut fx = Fx::new();
        let now = self.clock.now();
        self.on_link(peer, |link| link.handle_replies(now, batch.batch, outcomes, &mut fx));
        self.carry_out(&mut fx);
    }

    fn close_batch(self: &Arc<Self>, peer: &Peer, batch: &Batch, end: BatchEnd) {
        self.note_batch_closed(peer, batch, &end);
        let mut fx = Fx::new();
        let now = self.clock.now();
        self.on_link(peer, |link| link.handle_batch_closed(now, batch.batch, end, &mut fx));
        self.carry_out(&mut fx);
    }

    fn start_dial(self: &Arc<Self>, peer: PeerId, dial: DialId) {
        let Some(peer) = self.peers.get(peer) else { return };
        let engine = Arc::clone(self);
        self.rt.spawn(Box::pin(async move {
            let dialled =
                PeerChannel::connect(&engine.rt, &peer.name, &engine.my_name(), &engine.config.transport)
                    .await;
            match dialled {
                Ok(channel) => engine.run_connection(&peer, dial, channel).await,
                Err(error) => {
                    let why = in_words(&error);
                    if error.is_misconfiguration(engine.config.transport.security.is_some()) {
                        tracing::warn!(peer = %peer.name, error = %why, "cannot come to terms with the peer");
                    } else {
                        tracing::debug!(peer = %peer.name, error = %why, "cannot reach the peer");
                    }
                    engine.note_unreachable(&peer, why);
                    engine.disconnected(&peer, dial, Arc::new(error));
                }
            }
        }));
    }

    /// Takes on a connection, and tells the link what becomes of it.
    async fn run_connection(self: &Arc<Self>, peer: &Arc<Peer>, dial: DialId, channel: PeerChannel) {
        let (closed, gone, protocol) = (channel.closed(), channel.gone(), channel.protocol());
        peer.connect(dial, channel);
        let mut fx = Fx::new();
        let now = self.clock.now();
        let taken = self.on_link(peer, |link| link.handle_connected(now, dial, protocol, &mut fx));
        self.carry_out(&mut fx);
        if taken == Disposition::Stale {
            return peer.lose(dial);
        }
        tracing::info!(peer = %peer.name, ?protocol, "connected to the peer");
        let Closed { cause, in_order } = closed.await;
        let now = self.clock.now();
        let told = self.on_link(peer, |link| match in_order {
            true => link.handle_draining(now, dial, &mut fx),
            false => link.handle_lost(now, dial, &mut fx),
        });
        self.carry_out(&mut fx);
        if told != Disposition::Stale {
            tracing::warn!(peer = %peer.name, %cause, in_order, "the peer's connection takes no more calls");
            if !in_order {
                self.note_unreachable(peer, in_words(&*cause));
            }
        }
        // What has come by it is handed in by who asked: each lets go of the connection then.
        peer.lose(dial);
        gone.await;
        self.disconnected(peer, dial, cause);
    }

    /// The peer has left the ring, and nothing is in flight any more. Where it is back already, another has taken its place.
    fn forget_peer(&self, peer: PeerId) {
        let Some(peer) = self.peers.get(peer) else { return };
        let is_over = lock(&peer.link).is_closed();
        if is_over {
            self.peers.remove(&peer);
            peer.disconnect();
        }
    }

    /// A member has connected to this node: it is worth a dial.
    pub(crate) fn note_seen(self: &Arc<Self>, name: &str) {
        let Some(peer) = self.ring().by_name(name).and_then(|member| self.peers.get(member.id())) else {
            return;
        };
        let mut fx = Fx::new();
        let now = self.clock.now();
        self.on_link(&peer, |link| link.handle_seen(now, &mut fx));
        self.carry_out(&mut fx);
    }

    fn disconnected(self: &Arc<Self>, peer: &Peer, dial: DialId, cause: Cause) {
        peer.tell_dialled();
        let mut fx = Fx::new();
        let now = self.clock.now();
        self.on_link(peer, |link| link.handle_disconnected(now, dial, Some(cause), &mut fx));
        self.carry_out(&mut fx);
    }

    fn start_invalidation(
        self: &Arc<Self>,
        removal: RemovalId,
        peer: PeerId,
        what: Invalidation,
        deadline: Instant,
    ) {
        let engine = Arc::clone(self);
        self.rt.spawn(Box::pin(async move {
            let acknowledged = engine.send_invalidation(peer, &what, deadline).await;
            let mut fx = Fx::new();
            let now = engine.clock.now();
            let wake = {
                let mut removals = lock(&engine.removals);
                removals.handle_invalidated(now, removal, peer, acknowledged, &mut fx);
                removals.next_wake()
            };
            engine.alarm.want(wake);
            engine.carry_out(&mut fx);
        }));
    }

    async fn send_invalidation(
        self: &Arc<Self>,
        peer: PeerId,
        what: &Invalidation,
        deadline: Instant,
    ) -> bool {
        let Some(peer) = self.peers.get(peer) else { return false };
        let Some(channel) = self.channel_to_tell(&peer, deadline).await else { return false };
        let (group, key) = match what {
            Invalidation::Key(key) => (key.group(), Some(key.as_bytes())),
            Invalidation::Group(group) => (*group, None),
        };
        let Some(group) = self.groups.by_id(group) else { return true };
        match channel.invalidate(&group.name, key, self.clock.until(deadline)).await {
            Ok(()) => true,
            Err(fault) => {
                tracing::debug!(peer = %peer.name, ?fault, "the peer did not acknowledge a removal");
                false
            }
        }
    }

    /// The connection to a peer that is to be told something. Where it is only being dialled, or was never asked for anything, that is waited for.
    async fn channel_to_tell(self: &Arc<Self>, peer: &Peer, deadline: Instant) -> Option<PeerChannel> {
        if let Some(channel) = peer.channel() {
            return Some(channel);
        }
        let mut fx = Fx::new();
        let now = self.clock.now();
        let _stale = self.on_link(peer, |link| link.want_connection(now, &mut fx));
        self.carry_out(&mut fx);
        // Asked for before the look, so that what comes in between is not missed.
        let dialled = peer.dialled();
        let is_dialling = lock(&peer.link).is_dialling();
        if is_dialling && peer.channel().is_none() {
            select(dialled, self.rt.sleep(self.clock.until(deadline))).await;
        }
        peer.channel()
    }

    /// The address of a peer, for reports.
    pub(crate) fn peer_name(&self, peer: PeerId) -> String {
        self.peers.get(peer).map_or_else(|| format!("peer {}", peer.index()), |peer| peer.name.to_string())
    }
}

/// A batch that is being fetched. Dropped before it is over, since its connection is gone, it has failed.
struct Fetch {
    engine: Arc<Engine>,
    peer: Arc<Peer>,
    batch: Batch,
    over: bool,
}

impl Fetch {
    async fn run(mut self, channel: PeerChannel, registration: AbortRegistration) {
        let end = Abortable::new(self.fetch(&channel), registration).await;
        self.over = true;
        lock(&self.peer.batches).remove(&self.batch.batch);
        // Who aborts it has forgotten it.
        if let Ok(end) = end {
            self.engine.close_batch(&self.peer, &self.batch, end);
        }
    }
}

impl Fetch {
    async fn fetch(&mut self, channel: &PeerChannel) -> BatchEnd {
        if self.batch.protocol == Protocol::Batched {
            self.engine.top_up(&self.peer, &mut self.batch);
        }
        self.engine.meter.batch_sent(&self.peer, self.batch.items.len());
        match self.batch.protocol {
            Protocol::Batched => self.engine.fetch_batch(&self.peer, channel, &self.batch).await,
            Protocol::Single => self.engine.fetch_single(&self.peer, channel, &self.batch).await,
        }
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        if !self.over {
            lock(&self.peer.batches).remove(&self.batch.batch);
            self.engine.close_batch(&self.peer, &self.batch, BatchEnd::Failed(None));
        }
    }
}

/// What lies behind a fault that answered nothing.
fn cause_of(fault: PeerFault) -> Option<Cause> {
    match fault.into_outcome() {
        Outcome::Unreachable(cause) => cause,
        Outcome::Failed(failure) => Some(Arc::new(failure)),
        Outcome::Value { .. } => None,
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a value that is not text")
}
