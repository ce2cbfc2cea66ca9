//! All machines of a node, composed for one thread.

mod config;
mod requests;
#[cfg(test)]
mod tests;

pub use self::config::{NodeConfig, RequestKey};
use self::requests::Requests;
use crate::compose::{Machines, forget_here, pass_on, ring_of};
use crate::config::GroupConfig;
use crate::effects::{Completion, Disposition, Effects, Intent, Invalidation, Outcome, Protocol, Removed};
use crate::error::{Cause, ConfigError, LoadError};
use crate::id::{Attempt, BatchId, DialId, FlightId, GroupId, OpId, PeerId, RemovalId, RequestId, Ticket};
use crate::link::{BatchEnd, Link};
use crate::membership::{Membership, RegistryOutcome, WatchEvent};
use crate::removal::{RemovalRequest, Removals};
use crate::ring::{Ring, RingEpoch};
use crate::rng::SplitMix64;
use crate::shard::{Answer, GroupStats, Load, LoadRequest, Refused, Route, Shard, Usage};
use crate::stats::ShardStats;
use crate::time::{Instant, Wake};
use crate::value::{HashedKey, Key};
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Who waits in the node's shards: a caller of the embedder's, or one key of a peer's request.
#[derive(Debug)]
enum Party<W> {
    Caller(W),
    Peer { request: RequestId, index: u32 },
}

/// One node, for one thread: shards, links, membership and removals, composed.
///
/// # The contract
///
/// A turn of the loop is: call the node, any number of times with the same `now`, with the same [`Effects`] buffer; then drain the buffer (intents,
/// completions, removals), and free what was evicted; then sleep until [`next_wake`](Self::next_wake) or until something happens, and hand it in. Nothing else remembers what is
/// in the buffer. Every intent is answered by the `handle_*` call that its documentation names, in any order, late, twice or never: what is
/// never answered runs into a deadline.
///
/// - **Commands**: [`start`](Self::start), [`load`](Self::load), [`cancel`](Self::cancel), [`remove`](Self::remove), [`flush`](Self::flush),
///   [`stop`](Self::stop), [`shutdown`](Self::shutdown).
/// - **Facts**: `handle_*`.
/// - **Reads**: [`get`](Self::get), [`next_wake`](Self::next_wake), [`ring`](Self::ring), [`stats`](Self::stats), [`usage`](Self::usage).
#[derive(Debug)]
pub struct Node<W> {
    config: NodeConfig,
    parts: Parts<W>,
    membership: Membership,
    ring: Arc<Ring>,
    removals: Removals<Party<W>>,
    requests: Requests,
    /// How many links were ever made.
    links: u32,
    /// What the machines emit, before it is sorted into the embedder's buffer.
    inner: Effects<Party<W>>,
    seeds: SplitMix64,
}

/// What machines are passed to each other from.
#[derive(Debug)]
struct Parts<W> {
    shards: Vec<Shard<Party<W>>>,
    links: BTreeMap<PeerId, Link>,
}

impl<W> Machines<Party<W>> for Parts<W> {
    fn shards(&self) -> u16 {
        self.shards.len() as u16
    }

    fn with_shard<T>(&mut self, index: u16, call: impl FnOnce(&mut Shard<Party<W>>) -> T) -> T {
        call(&mut self.shards[usize::from(index)])
    }

    fn with_link<T>(&mut self, peer: PeerId, call: impl FnOnce(&mut Link) -> T) -> Option<T> {
        self.links.get_mut(&peer).map(call)
    }
}

impl<W> Node<W> {
    /// A node that has not started. It serves from its own origin, as the owner of every key, until it has a view of the fleet.
    ///
    /// # Errors
    /// A setting is out of its range, or the tables do not fit in memory.
    pub fn new(config: NodeConfig, seed: u64, now: Instant) -> Result<Self, ConfigError> {
        let mut seeds = SplitMix64::new(seed);
        let ring = Arc::new(Ring::empty(config.placement, RingEpoch::new(0)));
        let shards = (0..config.shards.get())
            .map(|index| {
                let mut shard = config.shard.clone();
                shard.budget = crate::config::part_of(config.shard.budget, config.shards, index);
                Shard::new(index, shard, ME, Arc::clone(&ring), seeds.next_u64(), now)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            parts: Parts { shards, links: BTreeMap::new() },
            membership: Membership::new(config.membership.clone(), seeds.next_u64(), now)?,
            ring,
            removals: Removals::new(config.max_removals.get(), now),
            requests: Requests::new(config.max_requests.get()),
            links: 0,
            inner: Effects::new(),
            seeds,
            config,
        })
    }

    /// Registers, and looks for the others.
    pub fn start(&mut self, now: Instant, out: &mut Effects<W>) {
        self.membership.start(now, &mut self.inner);
        self.follow_view(now);
        self.sort(now, out);
    }

    /// Leaves the fleet: deregisters, so that nobody new asks this node. What is in progress goes on; [`shutdown`](Self::shutdown) ends it.
    pub fn stop(&mut self, now: Instant, out: &mut Effects<W>) {
        self.membership.stop(now, &mut self.inner);
        self.follow_view(now);
        self.sort(now, out);
    }

    /// Whether the registry has forgotten this node after a [`stop`](Self::stop).
    #[must_use]
    pub const fn has_left(&self) -> bool {
        self.membership.is_stopped()
    }

    /// Fails what is in progress, refuses new loads, forgets the peers. [`Wake::Now`] says that the bound on work was reached: call again.
    pub fn shutdown(&mut self, now: Instant, out: &mut Effects<W>) -> Wake {
        let mut wake = Wake::Idle;
        for shard in &mut self.parts.shards {
            wake = wake.earlier(shard.shutdown(now, &mut self.inner));
        }
        self.removals.shutdown(now, &mut self.inner);
        for (_, mut link) in core::mem::take(&mut self.parts.links) {
            link.close(now, &mut self.inner);
        }
        self.sort(now, out);
        wake
    }

    /// Takes on a group; see [`Shard::add_group`].
    ///
    /// # Errors
    /// A setting is out of its range.
    pub fn add_group(&mut self, group: GroupId, config: &GroupConfig) -> Result<(), ConfigError> {
        self.parts.shards.iter_mut().try_for_each(|shard| shard.add_group(group, config.clone()))
    }

    /// Drops a group; see [`Shard::remove_group`].
    pub fn remove_group(&mut self, group: GroupId) -> bool {
        let removed = self.parts.shards.iter_mut().map(|shard| shard.remove_group(group));
        removed.filter(|&removed| removed).count() > 0
    }

    /// Looks a key up; see [`Shard::get`].
    #[must_use]
    pub fn get(&self, now: Instant, key: &HashedKey<'_>) -> Option<Answer> {
        self.shard(key).get(now, key)
    }

    /// Looks a key up, and joins or starts its load; see [`Shard::load`].
    ///
    /// # Errors
    /// A limit is reached, or the request is not one that can be loaded. Nothing has changed.
    pub fn load(
        &mut self,
        now: Instant,
        request: LoadRequest<'_, W>,
        out: &mut Effects<W>,
    ) -> Result<Load<W>, Refused<W>> {
        let LoadRequest { key, waiter, deadline, route } = request;
        let index = usize::from(key.shard(self.config.shards.get()));
        let request = LoadRequest::new(key, Party::Caller(waiter), deadline).route(route);
        let load = self.parts.shards[index].load(now, request, &mut self.inner);
        self.sort(now, out);
        match load {
            Ok(Load::Wait(ticket)) => Ok(Load::Wait(ticket)),
            Ok(Load::Ready { answer, waiter: Party::Caller(waiter) }) => Ok(Load::Ready { answer, waiter }),
            Err(Refused { error, waiter: Party::Caller(waiter) }) => Err(Refused { error, waiter }),
            // A shard gives back the very waiter that it was handed.
            Ok(Load::Ready { waiter: Party::Peer { .. }, .. })
            | Err(Refused { waiter: Party::Peer { .. }, .. }) => {
                unreachable!("a caller came back as a peer")
            }
        }
    }

    /// Takes a waiter back; see [`Shard::cancel`].
    pub fn cancel(&mut self, now: Instant, ticket: Ticket, out: &mut Effects<W>) -> Option<W> {
        let shard = self.parts.shards.get_mut(usize::from(ticket.shard()))?;
        // A peer's tickets are the node's own: a ticket that was handed out is a caller's.
        let party = shard.cancel(now, ticket, &mut self.inner);
        self.sort(now, out);
        match party? {
            Party::Caller(waiter) => Some(waiter),
            Party::Peer { .. } => None,
        }
    }

    /// Forgets a key in the whole fleet: the owner first, then every member. Ends in a [`Removed`] with `waiter`.
    ///
    /// # Errors
    /// As many removals are under way as may be.
    pub fn remove(
        &mut self,
        now: Instant,
        key: &HashedKey<'_>,
        waiter: W,
        out: &mut Effects<W>,
    ) -> Result<(), Refused<W>> {
        let owner = self.ring.owner(key.as_bytes()).map(crate::Member::id).filter(|&owner| owner != ME);
        self.spread(now, Invalidation::Key(Key::from(key)), owner, waiter, out)
    }

    /// Forgets every key of a group in the whole fleet. Ends in a [`Removed`] with `waiter`.
    ///
    /// # Errors
    /// As many removals are under way as may be.
    pub fn flush(
        &mut self,
        now: Instant,
        group: GroupId,
        waiter: W,
        out: &mut Effects<W>,
    ) -> Result<(), Refused<W>> {
        self.spread(now, Invalidation::Group(group), None, waiter, out)
    }

    fn spread(
        &mut self,
        now: Instant,
        what: Invalidation,
        owner: Option<PeerId>,
        waiter: W,
        out: &mut Effects<W>,
    ) -> Result<(), Refused<W>> {
        let members = self.ring.members().iter().map(crate::Member::id).filter(|&peer| peer != ME).collect();
        let deadline = now.saturating_add(self.config.removal_timeout);
        let request = RemovalRequest::new(what, Party::Caller(waiter), members, deadline).owner(owner);
        let started = self.removals.start(now, request, &mut self.inner);
        self.sort(now, out);
        started.map_err(|refused| match refused.waiter {
            Party::Caller(waiter) => Refused { error: refused.error, waiter },
            Party::Peer { .. } => unreachable!("a caller came back as a peer"),
        })
    }

    /// A peer asks for keys. Emits an [`Intent::Reply`] at once with what is known, and more as the rest becomes known. Nothing is forwarded. The first
    /// reply is in `out` when this returns the id that it names: note the id before draining.
    ///
    /// # Errors
    /// As many requests are in progress as may be: answer the peer with [`FailureKind::Overloaded`](crate::FailureKind::Overloaded).
    pub fn handle_request(
        &mut self,
        now: Instant,
        keys: &[RequestKey<'_>],
        out: &mut Effects<W>,
    ) -> Result<RequestId, LoadError> {
        let request = self.requests.begin(keys.len())?;
        for (index, asked) in (0..).zip(keys) {
            let answer = match asked.key {
                Some(key) => self.serve(now, key, asked.deadline, (request, index)),
                None => Some(Err(LoadError::NoSuchGroup.into())),
            };
            if let Some(answer) = answer {
                self.requests.answer(request, index, answer);
            }
        }
        self.sort(now, out);
        Ok(request)
    }

    fn serve(
        &mut self,
        now: Instant,
        key: HashedKey<'_>,
        deadline: Instant,
        (request, index): (RequestId, u32),
    ) -> Option<Answer> {
        let shard = &mut self.parts.shards[usize::from(key.shard(self.config.shards.get()))];
        shard.note_served(key.group());
        if let Some(answer) = shard.get(now, &key) {
            return Some(answer);
        }
        let load = LoadRequest::new(key, Party::Peer { request, index }, deadline).route(Route::LocalOnly);
        match shard.load(now, load, &mut self.inner) {
            Ok(Load::Ready { answer, .. }) => Some(answer),
            Ok(Load::Wait(ticket)) => {
                self.requests.wait(request, index, ticket);
                None
            }
            Err(refused) => Some(Err(refused.error.into())),
        }
    }

    /// The peer has given a request up.
    pub fn handle_request_cancelled(
        &mut self,
        now: Instant,
        request: RequestId,
        out: &mut Effects<W>,
    ) -> Disposition {
        let Some(tickets) = self.requests.cancel(request) else { return Disposition::Stale };
        for ticket in tickets {
            self.parts.shards[usize::from(ticket.shard())].cancel(now, ticket, &mut self.inner);
        }
        self.sort(now, out);
        Disposition::Applied
    }

    /// A peer says to forget. Acknowledge it when this has returned.
    pub fn handle_invalidation(&mut self, now: Instant, what: &Invalidation, out: &mut Effects<W>) {
        forget_here(&mut self.parts, now, what, &mut self.inner);
        self.sort(now, out);
    }

    /// See [`Shard::handle_loaded`].
    pub fn handle_loaded(
        &mut self,
        now: Instant,
        flight: FlightId,
        attempt: Attempt,
        outcome: Outcome,
        out: &mut Effects<W>,
    ) -> Disposition {
        let Some(shard) = self.parts.shards.get_mut(usize::from(flight.shard())) else {
            return Disposition::Stale;
        };
        let disposition = shard.handle_loaded(now, flight, attempt, outcome, &mut self.inner);
        self.sort(now, out);
        disposition
    }

    /// See [`Link::handle_replies`].
    pub fn handle_replies(
        &mut self,
        now: Instant,
        (peer, batch): (PeerId, BatchId),
        replies: impl IntoIterator<Item = (u32, Outcome)>,
        out: &mut Effects<W>,
    ) -> Disposition {
        self.on_link(now, peer, out, |link, inner| link.handle_replies(now, batch, replies, inner))
    }

    /// See [`Link::handle_batch_closed`].
    pub fn handle_batch_closed(
        &mut self,
        now: Instant,
        (peer, batch): (PeerId, BatchId),
        end: BatchEnd,
        out: &mut Effects<W>,
    ) -> Disposition {
        self.on_link(now, peer, out, |link, inner| link.handle_batch_closed(now, batch, end, inner))
    }

    /// See [`Link::handle_connected`].
    pub fn handle_connected(
        &mut self,
        now: Instant,
        (peer, dial): (PeerId, DialId),
        protocol: Protocol,
        out: &mut Effects<W>,
    ) -> Disposition {
        self.on_link(now, peer, out, |link, inner| link.handle_connected(now, dial, protocol, inner))
    }

    /// See [`Link::handle_draining`].
    pub fn handle_draining(
        &mut self,
        now: Instant,
        (peer, dial): (PeerId, DialId),
        out: &mut Effects<W>,
    ) -> Disposition {
        self.on_link(now, peer, out, |link, inner| link.handle_draining(now, dial, inner))
    }

    /// See [`Link::handle_lost`].
    pub fn handle_lost(
        &mut self,
        now: Instant,
        (peer, dial): (PeerId, DialId),
        out: &mut Effects<W>,
    ) -> Disposition {
        self.on_link(now, peer, out, |link, inner| link.handle_lost(now, dial, inner))
    }

    /// See [`Link::handle_disconnected`].
    pub fn handle_disconnected(
        &mut self,
        now: Instant,
        (peer, dial): (PeerId, DialId),
        cause: Option<Cause>,
        out: &mut Effects<W>,
    ) -> Disposition {
        self.on_link(now, peer, out, |link, inner| link.handle_disconnected(now, dial, cause, inner))
    }

    fn on_link(
        &mut self,
        now: Instant,
        peer: PeerId,
        out: &mut Effects<W>,
        call: impl FnOnce(&mut Link, &mut Effects<Party<W>>) -> Disposition,
    ) -> Disposition {
        let Some(link) = self.parts.links.get_mut(&peer) else { return Disposition::Stale };
        let disposition = call(link, &mut self.inner);
        self.sort(now, out);
        disposition
    }

    /// See [`Link::handle_seen`].
    pub fn handle_seen(&mut self, now: Instant, peer: PeerId, out: &mut Effects<W>) -> Disposition {
        self.on_link(now, peer, out, |link, inner| link.handle_seen(now, inner))
    }

    /// See [`Removals::handle_invalidated`].
    pub fn handle_invalidated(
        &mut self,
        now: Instant,
        removal: RemovalId,
        peer: PeerId,
        acknowledged: bool,
        out: &mut Effects<W>,
    ) -> Disposition {
        let disposition = self.removals.handle_invalidated(now, removal, peer, acknowledged, &mut self.inner);
        self.sort(now, out);
        disposition
    }

    /// See [`Membership::handle_registry`].
    pub fn handle_registry(
        &mut self,
        now: Instant,
        op: OpId,
        outcome: RegistryOutcome,
        out: &mut Effects<W>,
    ) -> Disposition {
        let disposition = self.membership.handle_registry(now, op, outcome, &mut self.inner);
        self.follow_view(now);
        self.sort(now, out);
        disposition
    }

    /// See [`Membership::handle_watch`].
    pub fn handle_watch(
        &mut self,
        now: Instant,
        op: OpId,
        event: WatchEvent,
        out: &mut Effects<W>,
    ) -> Disposition {
        let disposition = self.membership.handle_watch(now, op, event, &mut self.inner);
        self.follow_view(now);
        self.sort(now, out);
        disposition
    }

    /// Hands every machine its time-outs. Work is bounded by the machines' own limits.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Effects<W>) -> Wake {
        for shard in &mut self.parts.shards {
            let _later = shard.handle_timeout(now, &mut self.inner);
        }
        for link in self.parts.links.values_mut() {
            let _later = link.handle_timeout(now, &mut self.inner);
        }
        let _later = self.removals.handle_timeout(now, &mut self.inner);
        let _later = self.membership.handle_timeout(now, &mut self.inner);
        self.follow_view(now);
        self.sort(now, out);
        self.next_wake()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is wanted. O(shards + links).
    pub fn next_wake(&self) -> Wake {
        let shards = self.parts.shards.iter().map(Shard::next_wake);
        let links = self.parts.links.values().map(Link::next_wake);
        let others = [self.removals.next_wake(), self.membership.next_wake()];
        shards.chain(links).chain(others).fold(Wake::Idle, Wake::earlier)
    }

    /// Builds the ring anew when the view has changed, links to who is new, and has no more asked of who has left.
    fn follow_view(&mut self, now: Instant) {
        if self.membership.ring_epoch() == self.ring.epoch().get() {
            return;
        }
        // A view that makes no ring leaves the last good one.
        let Ok(ring) = ring_of(&self.membership, &self.ring) else { return };
        let ring = Arc::new(ring);
        self.ring = Arc::clone(&ring);
        for shard in &mut self.parts.shards {
            shard.handle_ring(now, Arc::clone(&ring));
        }
        for (&peer, link) in &mut self.parts.links {
            let _ = match ring.member(peer) {
                Some(_) => link.handle_returned(now, &mut self.inner),
                None => link.handle_left(now, &mut self.inner),
            };
        }
        for member in ring.members().iter().filter(|member| member.id() != ME) {
            let Entry::Vacant(place) = self.parts.links.entry(member.id()) else { continue };
            let (name, config) = (Arc::clone(member.shared_name()), self.config.link.clone());
            self.links = self.links.wrapping_add(1);
            let (id, seed) = ((member.id(), self.links), self.seeds.next_u64());
            place.insert(if ring.members().len() <= config.dial_ahead as usize {
                Link::new(id, name, config, seed, now, &mut self.inner)
            } else {
                Link::on_demand(id, name, config, seed, now)
            });
        }
    }

    /// Passes on what is between machines, and sorts the rest into the embedder's buffer.
    fn sort(&mut self, now: Instant, out: &mut Effects<W>) {
        pass_on(&mut self.parts, now, &mut self.inner);
        for intent in &self.inner.intents {
            match intent {
                Intent::Forget { peer } => {
                    self.parts.links.remove(peer);
                }
                Intent::Invalidate { peer, .. } => {
                    // Dialled before it is told.
                    self.parts.with_link(*peer, |link| link.want_connection(now, out));
                }
                Intent::Load { .. }
                | Intent::AbortLoad { .. }
                | Intent::Fetch(_)
                | Intent::AbortFetch { .. }
                | Intent::Reply { .. }
                | Intent::Connect { .. }
                | Intent::Registry(_) => {}
            }
        }
        out.intents.append(&mut self.inner.intents);
        out.evicted.append(&mut self.inner.evicted);
        for Completion { waiter, result } in self.inner.completions.drain(..) {
            match waiter {
                Party::Caller(waiter) => out.completions.push(Completion::new(waiter, result)),
                Party::Peer { request, index } => self.requests.answer(request, index, result),
            }
        }
        for Removed { waiter, unacknowledged } in self.inner.removals.drain(..) {
            if let Party::Caller(waiter) = waiter {
                out.removals.push(Removed { waiter, unacknowledged });
            }
        }
        self.requests.take_replies(|request, results, last| {
            out.intents.push(Intent::Reply { request, results, last })
        });
    }

    fn shard(&self, key: &HashedKey<'_>) -> &Shard<Party<W>> {
        &self.parts.shards[usize::from(key.shard(self.config.shards.get()))]
    }

    /// The ring in force. Empty before the start; without this node after a stop.
    #[must_use]
    pub const fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// The membership, to read.
    #[must_use]
    pub const fn membership(&self) -> &Membership {
        &self.membership
    }

    /// The links, to read, by peer: to every other member of the ring, and to who has left it while something is in flight.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.parts.links.values()
    }

    /// What the shards have counted.
    #[must_use]
    pub fn stats(&self) -> ShardStats {
        let mut stats = ShardStats::default();
        self.parts.shards.iter().for_each(|shard| stats.add(&shard.stats()));
        stats
    }

    /// What was counted for one group, and what it holds; `None` where there never was such a group.
    #[must_use]
    pub fn group_stats(&self, group: GroupId) -> Option<GroupStats> {
        self.parts.shards.iter().filter_map(|shard| shard.group_stats(group)).reduce(|mut sum, stats| {
            sum.add(&stats);
            sum
        })
    }

    /// What the shards hold.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        self.parts.shards.iter().for_each(|shard| usage.add(&shard.usage()));
        usage
    }

    /// Recounts every charge, list, index, waiter and timer of every shard.
    ///
    /// # Errors
    /// What does not agree, in words.
    #[cfg(any(test, feature = "__invariants"))]
    pub fn check_invariants(&self) -> Result<(), alloc::string::String> {
        self.parts.shards.iter().try_for_each(Shard::check_invariants)
    }
}

/// This node's own number: [`Membership`] gives it the first.
const ME: PeerId = PeerId::new(0);
