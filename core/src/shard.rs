//! The data plane: one independent slice of a node's cache and of its loads in progress.

mod figures;
mod settle;
mod show;
mod stale;
#[cfg(test)]
mod tests;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

pub use self::figures::{GroupStats, Usage};
pub use self::show::{FlightView, Kept};
use crate::cache::{Cache, CacheConfig, Share, Stored};
use crate::canary::{self, Canary};
use crate::config::{Eviction, GroupConfig, OnAbandoned, ShardConfig};
use crate::effects::{Call, Completion, Effects, FetchItem, Fetched, Intent, Level};
use crate::error::{ConfigError, Failure, FailureKind, LoadError};
use crate::flight::{Flights, NewFlight, Reach, Source};
use crate::id::{Attempt, FlightId, GroupId, PeerId, Ticket};
use crate::ring::Ring;
use crate::rng::SplitMix64;
use crate::stats::ShardCounters;
use crate::time::{Instant, MonotonicClock, Wake};
use crate::value::{HashedKey, Key};

/// What a lookup comes to: a value, or the failure that stands for it.
pub type Answer = Result<Fetched, Failure>;

/// A lookup that may start a load.
#[derive(Debug)]
#[non_exhaustive]
pub struct LoadRequest<'a, W> {
    /// What to look up.
    pub key: HashedKey<'a>,
    /// Who waits if it is not there: given back exactly once, in a [`Completion`] or by [`Shard::cancel`].
    pub waiter: W,
    /// How long the waiter waits. The shard does not end single waiters at their deadlines, only flights at the longest of them: who wants to
    /// leave earlier calls [`Shard::cancel`].
    pub deadline: Instant,
    /// Where a load may go.
    pub route: Route,
}

impl<'a, W> LoadRequest<'a, W> {
    /// A lookup of `key` for `waiter`, by any route.
    pub const fn new(key: HashedKey<'a>, waiter: W, deadline: Instant) -> Self {
        Self { key, waiter, deadline, route: Route::Cluster }
    }

    /// Sets where a load may go.
    #[must_use]
    pub const fn route(mut self, route: Route) -> Self {
        self.route = route;
        self
    }
}

/// Where a load may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum Route {
    /// To the key's owner: what this node's own callers ask.
    #[default]
    Cluster,
    /// To the local origin only: what peers ask. A request that came from a peer is never forwarded again, whoever this node thinks the owner is.
    LocalOnly,
}

/// What [`Shard::load`] came to.
#[derive(Debug)]
#[must_use]
#[allow(clippy::exhaustive_enums)]
pub enum Load<W> {
    /// It was there after all; the waiter is given back.
    Ready {
        /// What was there.
        answer: Answer,
        /// The waiter.
        waiter: W,
    },
    /// The waiter waits; its completion will come.
    Wait(Ticket),
}

/// A refused [`Shard::load`]: nothing has changed, the waiter is given back.
#[derive(Debug)]
#[non_exhaustive]
pub struct Refused<W> {
    /// Why.
    pub error: LoadError,
    /// The waiter.
    pub waiter: W,
}

/// One independent slice of the data plane: cache entries of all groups, and the loads in progress.
///
/// A node has N of them, split by table hash; a result finds its shard by [`FlightId::shard`](crate::FlightId::shard). There is no lock inside: hits
/// take `&self`, so a reader-writer lock lets them run side by side, everything else takes `&mut self`. `W` is the embedder's waiter type.
///
/// Calls come in three kinds. Commands: [`load`](Self::load), [`cancel`](Self::cancel), [`invalidate`](Self::invalidate), [`flush`](Self::flush),
/// [`shutdown`](Self::shutdown). Facts from outside: [`handle_loaded`](Self::handle_loaded), [`handle_fetched`](Self::handle_fetched),
/// [`handle_ring`](Self::handle_ring), [`handle_timeout`](Self::handle_timeout). Reads: [`get`](Self::get), [`next_wake`](Self::next_wake),
/// [`stats`](Self::stats), [`group_stats`](Self::group_stats), [`usage`](Self::usage).
#[derive(Debug)]
pub struct Shard<W> {
    config: ShardConfig,
    me: PeerId,
    ring: Arc<Ring>,
    groups: Vec<Group>,
    cache: Cache,
    flights: Flights<W>,
    clock: MonotonicClock,
    rng: SplitMix64,
    /// What belongs to no group that there ever was.
    groupless: ShardCounters,
    stopped: bool,
    /// Where a bounded shutdown goes on.
    shutdown_from: u32,
}

#[derive(Debug, Default)]
struct Group {
    config: GroupConfig,
    /// Entries and flights of another epoch are dead: how a flush is O(1).
    epoch: u32,
    loads: u32,
    live: bool,
    counters: ShardCounters,
}

impl<W> Shard<W> {
    /// A shard, number `index` of its node, where `me` is this node in the ring.
    ///
    /// # Errors
    /// A field of the configuration is out of range, or memory for the tables cannot be had.
    pub fn new(
        index: u16,
        config: ShardConfig,
        me: PeerId,
        ring: Arc<Ring>,
        seed: u64,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let (main, hot, negative) = config.shares();
        Ok(Self {
            me,
            ring,
            groups: Vec::new(),
            cache: Cache::new(&CacheConfig {
                main,
                hot,
                negative,
                expected_entry: EXPECTED_ENTRY,
                seed,
                adaptive: config.eviction == Eviction::B2Adaptive,
            })?,
            flights: Flights::new(index, config.max_flights.get(), config.max_waiters.get())?,
            clock: MonotonicClock::new(now),
            rng: SplitMix64::new(seed),
            groupless: ShardCounters::default(),
            stopped: false,
            shutdown_from: 0,
            config,
        })
    }

    /// Takes on a group, or takes on a new configuration for one. A group that was removed starts empty.
    ///
    /// # Errors
    /// A field of the configuration is out of range, or the group's number is 65,536 or more: groups are numbered densely from 0.
    pub fn add_group(&mut self, group: GroupId, config: GroupConfig) -> Result<(), ConfigError> {
        config.validate()?;
        let index = group.index() as usize;
        if index >= MAX_GROUPS {
            return Err(ConfigError::OutOfRange {
                field: "group",
                expected: "numbered densely, below 65536",
            });
        }
        if !self.cache.admit_group(group) {
            return Err(ConfigError::OutOfMemory);
        }
        while self.groups.len() <= index {
            self.groups.push(Group::default());
        }
        let slot = &mut self.groups[index];
        slot.config = config;
        slot.live = true;
        Ok(())
    }

    /// Drops a group: its entries are dead at once and their place is reclaimed as it is needed; loads in progress still serve their waiters.
    pub fn remove_group(&mut self, group: GroupId) -> bool {
        let Some(slot) = self.groups.get_mut(group.index() as usize).filter(|group| group.live) else {
            return false;
        };
        slot.live = false;
        slot.epoch = slot.epoch.wrapping_add(1);
        true
    }

    /// Looks a key up. The hit path: no allocation, nothing emitted, at most one counter of the entry written.
    ///
    /// `None` says that nothing is known: call [`load`](Self::load). A kept "not found" is an answer.
    #[must_use]
    pub fn get(&self, now: Instant, key: &HashedKey<'_>) -> Option<Answer> {
        self.get_with(key, || now)
    }

    /// Like [`get`](Self::get), for whom it costs something to ask a clock: `now` is called only where the entry expires.
    #[inline]
    #[must_use]
    pub fn get_with(&self, key: &HashedKey<'_>, now: impl FnOnce() -> Instant) -> Option<Answer> {
        let Some(group) = self.groups.get(key.group().index() as usize) else {
            self.groupless.gets.increment();
            return None;
        };
        let answer = self.look_up(group, || now().max(self.clock.latest()), key);
        if answer.is_none() {
            // Hits are counted by share, and summed up when somebody asks.
            group.counters.gets.increment();
        }
        answer
    }

    #[inline]
    fn look_up(&self, group: &Group, now: impl FnOnce() -> Instant, key: &HashedKey<'_>) -> Option<Answer> {
        if !group.live {
            return None;
        }
        let entry = self.cache.get(key, now, group.epoch)?;
        let counters = &group.counters;
        Some(match (entry.stored, entry.share) {
            (Stored::NotFound, _) => {
                counters.negative_hits.increment();
                Err(Failure::new(FailureKind::NotFound))
            }
            (Stored::Value(value), Share::Hot) => {
                counters.hot_hits.increment();
                Ok(Fetched::new(value.clone(), Level::Hot, entry.expires))
            }
            (Stored::Value(value), Share::Main | Share::Negative) => {
                counters.main_hits.increment();
                Ok(Fetched::new(value.clone(), Level::Main, entry.expires))
            }
        })
    }

    /// Looks a key up again, and joins or starts its load where it is not there.
    ///
    /// Emits at most one intent or call. Joining allocates nothing; starting allocates the key.
    ///
    /// # Errors
    /// A limit is reached, or the request is not one that can be loaded. Nothing has changed.
    pub fn load(
        &mut self,
        now: Instant,
        request: LoadRequest<'_, W>,
        out: &mut Effects<W>,
    ) -> Result<Load<W>, Refused<W>> {
        let now = self.observe(now);
        let LoadRequest { key, waiter, deadline, route } = request;
        let group = self.groups.get(key.group().index() as usize);
        if let Some((group, answer)) = group.and_then(|it| Some((it, self.look_up(it, || now, &key)?))) {
            // The same lookup as the `get` before it.
            group.counters.gets.decrement();
            return Ok(Load::Ready { answer, waiter });
        }
        if let Some(answer) = self.revalidate(now, &key, route, out) {
            return Ok(Load::Ready { answer: Ok(answer), waiter });
        }
        match self.admit(now, &key, deadline, route) {
            Ok(Admitted::Join(flight)) => {
                self.counters(key.group()).loads_deduplicated.increment();
                Ok(Load::Wait(self.flights.join(flight, waiter, deadline)))
            }
            Ok(Admitted::Start { group_epoch }) => {
                let flight = self.start(now, &key, deadline, route, group_epoch);
                let ticket = self.flights.join(flight, waiter, deadline);
                self.ask(flight, out);
                Ok(Load::Wait(ticket))
            }
            Err(error) => {
                self.counters(key.group()).rejected.increment();
                Err(Refused { error, waiter })
            }
        }
    }

    fn admit(
        &self,
        now: Instant,
        key: &HashedKey<'_>,
        deadline: Instant,
        route: Route,
    ) -> Result<Admitted, LoadError> {
        let max = self.config.max_key_len.get();
        let group = self.groups.get(key.group().index() as usize).filter(|group| group.live);
        let group = match (group, key.as_bytes().len()) {
            _ if self.stopped => return Err(LoadError::Stopped),
            (None, _) => return Err(LoadError::NoSuchGroup),
            (_, 0) => return Err(LoadError::EmptyKey),
            (_, len) if len > max => return Err(LoadError::KeyTooLong { len, max }),
            _ if deadline <= now => return Err(LoadError::DeadlinePassed),
            (Some(group), _) => group,
        };
        let joined = self.flights.find(key, Reach::Local, group.epoch).or_else(|| match route {
            Route::Cluster => self.flights.find(key, Reach::Routed, group.epoch),
            Route::LocalOnly => None,
        });
        self.flights.check_room(joined.is_some())?;
        match joined {
            Some(flight) => Ok(Admitted::Join(flight)),
            None if group.loads >= group.config.max_loads.get() => {
                Err(LoadError::GroupLoadsFull { max: group.config.max_loads.get() })
            }
            None => Ok(Admitted::Start { group_epoch: group.epoch }),
        }
    }

    fn start(
        &mut self,
        now: Instant,
        key: &HashedKey<'_>,
        deadline: Instant,
        route: Route,
        group_epoch: u32,
    ) -> u32 {
        self.counters(key.group()).misses.increment();
        let source = match route {
            Route::LocalOnly if !canary::is(Canary::ForwardedTwice) => Source::Origin,
            Route::LocalOnly | Route::Cluster => match self.ring.owner(key.as_bytes()) {
                Some(owner) if owner.id() != self.me => Source::Peer(owner.id()),
                Some(_) | None => Source::Origin,
            },
        };
        if let Some(group) = self.groups.get_mut(key.group().index() as usize) {
            group.loads += 1;
        }
        let latest = now.saturating_add(self.config.load_timeout);
        let deadline = deadline.min(latest);
        self.flights.begin(NewFlight { key: Key::from(key), source, group_epoch, deadline, latest })
    }

    /// Emits what the flight's current attempt asks for.
    fn ask(&mut self, slot: u32, out: &mut Effects<W>) {
        let flight_id = self.flights.id(slot);
        let margin = self.config.deadline_margin;
        let stale = self.to_revalidate(slot);
        let Some(flight) = self.flights.get_mut(slot) else { return };
        let group = self.groups.get(flight.key.group().index() as usize);
        let counters = group.map_or(&self.groupless, |group| &group.counters);
        match flight.source {
            Source::Origin => {
                counters.loads.increment();
                counters.revalidations.add(u64::from(stale.is_some()));
                out.intents.push(Intent::Load {
                    flight: flight_id,
                    attempt: flight.attempt,
                    key: flight.key.clone(),
                    deadline: flight.latest,
                    stale,
                });
            }
            Source::Peer(peer) => {
                counters.peer_fetches.increment();
                flight.peers_asked = flight.peers_asked.saturating_add(1);
                flight.asked_until = flight.deadline.saturating_sub(margin);
                let item = FetchItem {
                    flight: flight_id,
                    attempt: flight.attempt,
                    key: flight.key.clone(),
                    deadline: flight.asked_until,
                };
                out.calls.push(Call::Fetch { peer, item });
            }
        }
    }

    /// Takes a waiter back: it left. `None` says that its completion has been emitted already, or that the ticket is not of this shard.
    ///
    /// What happens to a load that nobody waits for any more is [`OnAbandoned`]'s to say.
    pub fn cancel(&mut self, now: Instant, ticket: Ticket, out: &mut Effects<W>) -> Option<W> {
        self.observe(now);
        let Some((waiter, flight)) = self.flights.leave(ticket) else {
            self.groupless.stale_dispositions.increment();
            return None;
        };
        self.counters_of(flight).cancelled.increment();
        let abandoned = self.flights.get(flight).is_some_and(|flight| flight.waiters == 0);
        let abandoned = abandoned || canary::is(Canary::WaitersLostOnCancel);
        if abandoned && self.config.on_abandoned == OnAbandoned::Abort {
            self.counters_of(flight).abandoned.increment();
            self.abort(flight, out);
        }
        Some(waiter)
    }

    /// Ends a flight and tells whoever works on it to stop.
    fn abort(&mut self, slot: u32, out: &mut Effects<W>) {
        let flight_id = self.flights.id(slot);
        let Some(flight) = self.end(slot) else { return };
        match flight {
            Source::Origin => out.intents.push(Intent::AbortLoad { flight: flight_id }),
            Source::Peer(peer) => out.calls.push(Call::Cancel { peer, flight: flight_id }),
        }
    }

    fn end(&mut self, slot: u32) -> Option<Source> {
        let flight = self.flights.end(slot)?;
        let group = self.groups.get_mut(flight.key.group().index() as usize);
        if let Some(group) = group.filter(|_| !canary::is(Canary::LoadCountDrifts)) {
            group.loads = group.loads.saturating_sub(1);
        }
        Some(flight.source)
    }

    /// Forgets a key, and fences its loads in progress: they serve those who wait already, nobody joins them, and they enter no cache.
    /// Applies here only; a [`Node`](crate::Node) spreads it. Answers whether the key was held.
    pub fn invalidate(&mut self, now: Instant, key: &HashedKey<'_>, out: &mut Effects<W>) -> bool {
        self.observe(now);
        self.counters(key.group()).removals.increment();
        let Some(epoch) = self.groups.get(key.group().index() as usize).map(|group| group.epoch) else {
            return false;
        };
        for reach in [Reach::Local, Reach::Routed] {
            while let Some(flight) = self.flights.find(key, reach, epoch) {
                if canary::is(Canary::JoinedBehindRemoval) {
                    break;
                }
                self.flights.fence(flight);
            }
        }
        self.cache.remove(key, &mut out.evicted)
    }

    /// Forgets every key of a group, in O(1): entries and loads of the old epoch are dead, and their place is reclaimed as it is needed.
    pub fn flush(&mut self, now: Instant, group: GroupId) -> bool {
        self.observe(now);
        let Some(slot) = self.groups.get_mut(group.index() as usize).filter(|group| group.live) else {
            return false;
        };
        slot.epoch = slot.epoch.wrapping_add(1);
        true
    }

    /// Forgets everything here, at once: memory is short, say. O(entries). Loads in progress serve who waits, and are not kept.
    pub fn clear(&mut self, now: Instant, out: &mut Effects<W>) {
        self.observe(now);
        for group in &mut self.groups {
            group.epoch = group.epoch.wrapping_add(1);
        }
        self.cache.clear(&mut out.evicted);
    }

    /// Takes on a new ring. Entries stay where they are, and loads in progress go on as they began.
    pub fn handle_ring(&mut self, now: Instant, ring: Arc<Ring>) {
        self.observe(now);
        if canary::is(Canary::StaleRing) {
            return;
        }
        self.ring = ring;
    }

    /// Ends flights whose time is up: their waiters get [`FailureKind::Deadline`]. At most `work_per_call` of them.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Effects<W>) -> Wake {
        let now = self.observe(now);
        for _ in 0..self.config.work_per_call.get() {
            let Some(flight) = self.flights.pop_due(now) else { break };
            self.counters_of(flight).timeouts.increment();
            let answer = self.rescue(now, flight, Failure::new(FailureKind::Deadline));
            self.complete(flight, &answer, out);
            self.abort(flight, out);
        }
        self.next_wake()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is wanted. O(1).
    pub fn next_wake(&self) -> Wake {
        match self.flights.earliest_deadline() {
            Some(_) if canary::is(Canary::LostWakeup) => Wake::Idle,
            Some(at) if at <= self.clock.latest() => Wake::Now,
            Some(at) => Wake::At(at),
            None => Wake::Idle,
        }
    }

    /// Refuses new loads from now on, and fails those in progress with [`FailureKind::Stopping`]. Hits are still served.
    /// [`Wake::Now`] says that the bound on work was reached: call again.
    pub fn shutdown(&mut self, now: Instant, out: &mut Effects<W>) -> Wake {
        self.observe(now);
        self.stopped = true;
        for _ in 0..self.config.work_per_call.get() {
            let Some(flight) = self.flights.any_from(self.shutdown_from) else { return Wake::Idle };
            self.shutdown_from = flight;
            self.complete(flight, &Err(Failure::new(FailureKind::Stopping)), out);
            self.abort(flight, out);
        }
        Wake::Now
    }

    /// Serves every waiter of a flight. The flight itself is still there.
    fn complete(&mut self, flight: u32, answer: &Answer, out: &mut Effects<W>) {
        while let Some(waiter) = self.flights.pop_waiter(flight) {
            out.completions.push(Completion::new(waiter, answer.clone()));
        }
    }

    /// Whether somebody still wants the result of this flight's attempt. For an executor that is about to begin, and may have missed an abort.
    #[must_use]
    pub fn wants(&self, flight: FlightId, attempt: Attempt) -> bool {
        let live = self.flights.resolve(flight).and_then(|slot| self.flights.get(slot));
        live.is_some_and(|flight| flight.attempt == attempt)
    }

    /// The ring that owners are taken from.
    #[must_use]
    pub const fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    fn observe(&mut self, now: Instant) -> Instant {
        self.clock.observe(now)
    }

    /// A TTL with its jitter taken off.
    fn jittered(&mut self, ttl: Duration, per_mille: u16) -> Duration {
        let spread = u64::try_from(ttl.as_nanos() * u128::from(per_mille) / 1000).unwrap_or(u64::MAX);
        ttl.saturating_sub(Duration::from_nanos(self.rng.below(spread.saturating_add(1))))
    }
}

/// The charge of an average entry, in bytes: a guess that sizes the first tables.
const EXPECTED_ENTRY: u32 = 1024;

const MAX_GROUPS: usize = 1 << 16;

enum Admitted {
    Join(u32),
    Start { group_epoch: u32 },
}
