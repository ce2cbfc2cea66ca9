//! The core's machines behind locks, and the loop that carries out what they ask for.
//!
//! No lock is held while another is taken, across an await, or while user code runs: a machine is locked for one call, the lock is released, then
//! its effects are carried out by the task that caused them.

mod callers;
mod intents;
mod membership;
mod wait;

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use ahash::RandomState;
use futures_channel::oneshot;
use groupcache_core::{
    ConfigError, Effects, Failure, FailureKind, GroupId, GroupStats, HashedKey, Invalidation, Link,
    LinkConfig, Machines, PeerId, RemovalRequest, Removals, Ring, Shard, ShardConfig, ShardStats, Usage,
    Wake, forget_here, part_of, pass_on,
};

use crate::alarm::Alarm;
use crate::clock::Clock;
use crate::groups::Groups;
use crate::meter::{Meter, Target};
use crate::peers::{Peer, Peers};
use crate::rt::Runtime;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use crate::trace::{Propagator, Tracer};
use crate::transport::TransportConfig;
use crate::watch::{HotKeys, Watch};

pub(crate) use self::callers::{LookUp, Waiting};
use self::intents::Running;
pub(crate) use self::membership::{Control, RegistryTimes};
use self::wait::Waiter;

pub(crate) type Fx = Effects<Waiter>;

/// What the engine needs to know beside the core's own configuration.
#[derive(Clone, Debug)]
pub(crate) struct EngineConfig {
    pub(crate) shards: NonZeroU16,
    pub(crate) shard: ShardConfig,
    pub(crate) link: LinkConfig,
    pub(crate) transport: TransportConfig,
    pub(crate) removal_timeout: Duration,
    /// One look-up in so many is counted, to find the keys that are looked up most; none where it is not given.
    pub(crate) hot_keys: Option<NonZeroU32>,
    pub(crate) metrics: Target,
    pub(crate) tracing: Option<Arc<dyn Propagator>>,
}

/// One node: its shards, links, removals and membership.
pub(crate) struct Engine {
    pub(crate) rt: Arc<dyn Runtime>,
    pub(crate) clock: Clock,
    pub(crate) config: EngineConfig,
    pub(crate) groups: Groups,
    pub(crate) peers: Peers,
    pub(crate) mismatches: AtomicU64,
    pub(crate) meter: Meter,
    pub(crate) tracer: Tracer,
    hasher: RandomState,
    shards: Box<[RwLock<Shard<Waiter>>]>,
    removals: Mutex<Removals<Waiter>>,
    pub(crate) control: Mutex<Control>,
    alarm: Alarm,
    running: Running,
    pub(crate) watch: Watch,
    stopped: AtomicBool,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("groups", &self.groups)
            .field("shards", &self.shards.len())
            .finish_non_exhaustive()
    }
}

/// This node's number among its peers.
pub(crate) const ME: PeerId = PeerId::new(0);

const MAX_REMOVALS: u32 = 4096;

impl Engine {
    pub(crate) fn new(
        rt: Arc<dyn Runtime>,
        config: EngineConfig,
        control: Control,
        ring: Arc<Ring>,
    ) -> Result<Arc<Self>, ConfigError> {
        let clock = Clock::start();
        let hasher = RandomState::new();
        let shards = (0..config.shards.get())
            .map(|index| {
                let mut shard_config = config.shard.clone();
                shard_config.budget = part_of(config.shard.budget, config.shards, index);
                let seed = hasher.hash_one(("shard", index));
                Shard::new(index, shard_config, ME, Arc::clone(&ring), seed, clock.now()).map(RwLock::new)
            })
            .collect::<Result<_, _>>()?;
        Ok(Arc::new(Self {
            rt,
            clock,
            meter: Meter::new(config.metrics.clone()),
            tracer: Tracer::new(config.tracing.clone()),
            groups: Groups::default(),
            peers: Peers::default(),
            mismatches: AtomicU64::new(0),
            hasher,
            shards,
            removals: Mutex::new(Removals::new(MAX_REMOVALS, clock.now())),
            control: Mutex::new(control),
            alarm: Alarm::new(),
            running: Running::default(),
            watch: Watch::new(config.hot_keys.map(HotKeys::new)),
            stopped: AtomicBool::new(false),
            config,
        }))
    }

    pub(crate) fn hashed<'a>(&self, group: GroupId, key: &'a [u8]) -> HashedKey<'a> {
        HashedKey::new(group, key, self.hasher.hash_one((group.index(), key)))
    }

    /// A random number for whoever needs a seed.
    pub(crate) fn seed(&self, purpose: &str) -> u64 {
        self.hasher.hash_one(purpose)
    }

    /// Spreads a removal: the owner first, then everybody. Answers who did not acknowledge. After the stop it applies here only, and is an error.
    pub(crate) async fn remove(self: &Arc<Self>, what: Invalidation) -> Result<Vec<PeerId>, Failure> {
        if self.stopped.load(Ordering::Acquire) {
            // Nobody can be told any more, but this node still answers from its cache.
            self.invalidate(&what);
            return Err(Failure::new(FailureKind::Stopping));
        }
        let (sender, receiver) = oneshot::channel();
        let now = self.clock.now();
        let ring = self.ring();
        let members = ring.members().iter().map(|member| member.id()).filter(|&peer| peer != ME).collect();
        let owner = match &what {
            Invalidation::Key(key) => {
                ring.owner(key.as_bytes()).map(|owner| owner.id()).filter(|&peer| peer != ME)
            }
            Invalidation::Group(_) => None,
        };
        let group = match &what {
            Invalidation::Key(key) => key.group(),
            Invalidation::Group(group) => *group,
        };
        let deadline = now.saturating_add(self.config.removal_timeout);
        let request = RemovalRequest::new(what, Waiter::Removed(sender), members, deadline).owner(owner);
        let mut fx = Fx::new();
        let (started, wake) = {
            let mut removals = lock(&self.removals);
            (removals.start(now, request, &mut fx), removals.next_wake())
        };
        self.alarm.want(wake);
        self.carry_out(&mut fx);
        if let Err(refused) = started {
            return Err(refused.error.into());
        }
        let unacknowledged =
            receiver.await.map_err(|oneshot::Canceled| Failure::new(FailureKind::Stopping))?;
        if let Some(group) = self.groups.by_id(group) {
            group.meter.removed(unacknowledged.len());
        }
        Ok(unacknowledged)
    }

    /// Forgets here, and only here.
    pub(crate) fn invalidate(&self, what: &Invalidation) {
        let mut fx = Fx::new();
        forget_here(&mut &*self, self.clock.now(), what, &mut fx);
        fx.free_evicted();
    }

    /// Runs `change` on every shard, one after the other.
    pub(crate) fn each_shard<T>(&self, mut change: impl FnMut(&mut Shard<Waiter>) -> T) -> Vec<T> {
        (0..self.config.shards.get()).map(|index| self.with_shard(index, &mut change)).collect()
    }

    /// Carries out what machines have asked for, and what follows from it between machines. Spawns; waits for nothing.
    pub(crate) fn carry_out(self: &Arc<Self>, fx: &mut Fx) {
        while !fx.is_empty() {
            // What this node itself has to forget comes first: by the time others are told, or a caller hears that all have forgotten, it has.
            pass_on(&mut &**self, self.clock.now(), fx);
            for completion in fx.drain_completions() {
                completion.waiter.answer(completion.result);
            }
            for removed in fx.drain_removals() {
                if let Waiter::Removed(sender) = removed.waiter {
                    // Who waited may have gone meanwhile.
                    let _gone = sender.send(removed.unacknowledged);
                }
            }
            for intent in fx.drain_intents() {
                self.execute(intent);
            }
        }
        fx.free_evicted();
    }

    /// The node's timer task: hands every machine its time-outs, until the node has stopped.
    pub(crate) async fn keep_time(self: Arc<Self>) {
        while !self.stopped.load(Ordering::Acquire) {
            self.alarm.wait(&*self.rt, self.clock).await;
            self.alarm.disarm();
            let mut fx = Fx::new();
            let now = self.clock.now();
            for index in 0..self.config.shards.get() {
                // A look under the shared lock: most shards have nothing due.
                let wake = self.read(index).next_wake();
                if wake.is_due(now) {
                    let _reported = self.with_shard(index, |shard| shard.handle_timeout(now, &mut fx));
                } else {
                    self.alarm.want(wake);
                }
                self.carry_out(&mut fx);
            }
            for peer in self.peers.all() {
                let _reported = self.on_link(&peer, |link| link.handle_timeout(now, &mut fx));
                self.carry_out(&mut fx);
            }
            let wake = lock(&self.removals).handle_timeout(now, &mut fx);
            self.alarm.want(wake);
            self.carry_out(&mut fx);
            self.membership_timeout(now);
        }
    }

    /// Fails what is in progress, refuses what is new, closes links, ends the timer task.
    pub(crate) fn shut_down(self: &Arc<Self>) {
        let now = self.clock.now();
        let mut fx = Fx::new();
        for index in 0..self.config.shards.get() {
            while self.with_shard(index, |shard| shard.shutdown(now, &mut fx)) == Wake::Now {
                self.carry_out(&mut fx);
            }
            self.carry_out(&mut fx);
        }
        lock(&self.removals).shutdown(now, &mut fx);
        for peer in self.peers.take_all() {
            self.on_link(&peer, |link| link.close(now, &mut fx));
            self.carry_out(&mut fx);
            peer.disconnect();
        }
        self.stopped.store(true, Ordering::Release);
        self.alarm.ring();
    }

    /// Whether any load is in progress or anybody waits.
    pub(crate) fn is_idle(&self) -> bool {
        (0..self.config.shards.get()).all(|index| self.read(index).usage().flights == 0)
    }

    pub(crate) fn stats(&self) -> (ShardStats, Usage) {
        let mut stats = ShardStats::default();
        let mut usage = Usage::default();
        for index in 0..self.config.shards.get() {
            let shard = self.read(index);
            stats.add(&shard.stats());
            usage.add(&shard.usage());
        }
        (stats, usage)
    }

    /// What was counted for a group, and what it holds; `None` where there never was such a group.
    pub(crate) fn group_stats(&self, group: GroupId) -> Option<GroupStats> {
        let of_shards = (0..self.config.shards.get()).filter_map(|index| self.read(index).group_stats(group));
        of_shards.reduce(|mut sum, stats| {
            sum.add(&stats);
            sum
        })
    }

    /// The ring in force.
    pub(crate) fn ring(&self) -> Arc<Ring> {
        Arc::clone(self.read(0).ring())
    }

    pub(crate) fn shard_of(&self, key: &HashedKey<'_>) -> u16 {
        key.shard(self.config.shards.get())
    }

    pub(crate) fn read(&self, index: u16) -> RwLockReadGuard<'_, Shard<Waiter>> {
        self.shards[usize::from(index)].read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, index: u16) -> RwLockWriteGuard<'_, Shard<Waiter>> {
        self.shards[usize::from(index)].write().unwrap_or_else(PoisonError::into_inner)
    }

    /// One call on a shard, and its wake to the alarm.
    fn with_shard<T>(&self, index: u16, call: impl FnOnce(&mut Shard<Waiter>) -> T) -> T {
        let mut shard = self.write(index);
        let result = call(&mut shard);
        let wake = shard.next_wake();
        drop(shard);
        self.alarm.want(wake);
        result
    }

    /// One call on a link, and its wake to the alarm.
    pub(crate) fn on_link<T>(&self, peer: &Peer, call: impl FnOnce(&mut Link) -> T) -> T {
        let mut link = lock(&peer.link);
        let result = call(&mut link);
        let wake = link.next_wake();
        drop(link);
        self.alarm.want(wake);
        result
    }
}

impl Machines<Waiter> for &Engine {
    fn shards(&self) -> u16 {
        self.config.shards.get()
    }

    fn with_shard<T>(&mut self, index: u16, call: impl FnOnce(&mut Shard<Waiter>) -> T) -> T {
        Engine::with_shard(self, index, call)
    }

    fn with_link<T>(&mut self, peer: PeerId, call: impl FnOnce(&mut Link) -> T) -> Option<T> {
        let peer = self.peers.get(peer)?;
        Some(self.on_link(&peer, call))
    }
}

/// Locks, also after a panic elsewhere: the machines keep no invariant broken across a call that can panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
