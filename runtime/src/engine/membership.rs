//! Registration and discovery: the membership machine, its registry, and the ring that follows from its view.

use std::sync::{Arc, Weak};
use std::time::Duration;

#[cfg(feature = "metrics")]
use groupcache_core::MembershipStats;
use groupcache_core::{
    ConfigError, Instant, Link, Machines, Membership, MembershipConfig, OpId, PeerId, Placement,
    RegistryIntent, RegistryOutcome, Ring, WatchEvent, ring_of,
};

use super::{Engine, Fx, ME, lock};
#[cfg(feature = "metrics")]
use crate::metrics::RegistryFigures;
use crate::peers::Peer;
use crate::registry::{Registration, Registry, RegistryDriver, RegistryEvents};

/// How the registry is dealt with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RegistryTimes {
    /// How long a record outlives its node.
    pub(crate) lease_ttl: Duration,
    /// How long an operation may take.
    pub(crate) op_timeout: Duration,
}

/// The control plane of a node.
pub(crate) struct Control {
    times: RegistryTimes,
    ring: Arc<Ring>,
    /// Present from the start on.
    joined: Option<Joined>,
}

struct Joined {
    addr: Arc<str>,
    /// Whether the registry has ever shown this node's record.
    seen: bool,
    /// When the registry last confirmed this node's record.
    confirmed: Option<Instant>,
    membership: Membership,
    driver: Arc<RegistryDriver>,
    /// Keeps what the driver speaks to alive.
    _events: Arc<dyn RegistryEvents>,
}

impl Control {
    pub(crate) const fn new(times: RegistryTimes, ring: Arc<Ring>) -> Self {
        Self { times, ring, joined: None }
    }
}

/// Brings a registry's answers back to the engine. Weak: a node that was dropped is not kept alive by its own watch.
#[derive(Debug)]
struct Events(Weak<Engine>);

impl RegistryEvents for Events {
    fn registry(&self, op: OpId, outcome: RegistryOutcome) {
        if let Some(engine) = self.0.upgrade() {
            engine.with_membership(|membership, now, fx| {
                membership.handle_registry(now, op, outcome, fx);
            });
        }
    }

    fn watch(&self, op: OpId, event: WatchEvent) {
        if let Some(engine) = self.0.upgrade() {
            engine.with_membership(|membership, now, fx| {
                membership.handle_watch(now, op, event, fx);
            });
        }
    }
}

impl Engine {
    /// Registers under `addr`, and looks for the others.
    pub(crate) fn join(
        self: &Arc<Self>,
        addr: &Arc<str>,
        weight: u32,
        registry: Arc<dyn Registry>,
    ) -> Result<(), ConfigError> {
        {
            let mut control = lock(&self.control);
            let mut config = MembershipConfig::new(Arc::clone(addr));
            let placement: Placement = control.ring.placement();
            config.weight = weight;
            config.lease_ttl = control.times.lease_ttl;
            config.op_timeout = control.times.op_timeout;
            config.max_weight = std::num::NonZeroU32::MIN.saturating_add(placement.max_weight() - 1);
            config.max_members = std::num::NonZeroUsize::MIN.saturating_add(placement.max_members() - 1);
            let op_timeout = config.op_timeout;
            let membership = Membership::new(config, self.seed("membership"), self.clock.now())?;
            let me = Registration::new(Arc::clone(addr), weight);
            let events: Arc<dyn RegistryEvents> = Arc::new(Events(Arc::downgrade(self)));
            let driver = RegistryDriver::spawn(registry, &self.rt, me, op_timeout, Arc::downgrade(&events));
            control.joined = Some(Joined {
                addr: Arc::clone(addr),
                seen: false,
                confirmed: None,
                membership,
                driver: Arc::new(driver),
                _events: events,
            });
        }
        self.with_membership(Membership::start);
        Ok(())
    }

    /// Deregisters. [`has_left`](Self::has_left) tells when that is done.
    pub(crate) fn leave(self: &Arc<Self>) {
        self.with_membership(Membership::stop);
    }

    pub(crate) fn has_left(&self) -> bool {
        lock(&self.control).joined.as_ref().is_none_or(|joined| joined.membership.is_stopped())
    }

    /// Whether the registry was ever listed.
    pub(crate) fn has_view(&self) -> bool {
        lock(&self.control).joined.as_ref().is_some_and(|joined| joined.membership.has_view())
    }

    /// Whether this node has been seen in the registry, and has tried to reach the others. A registry that is away later changes nothing about
    /// that.
    pub(crate) fn has_joined(&self) -> bool {
        lock(&self.control).joined.as_ref().is_some_and(|joined| joined.seen) && self.links_are_settled()
    }

    /// Whether the link to a member is up; this node is always up to itself.
    pub(crate) fn is_up(&self, peer: PeerId) -> bool {
        peer == ME || self.peers.get(peer).is_some_and(|peer| lock(&peer.link).is_connected())
    }

    /// How this node stands with its registry; `None` before it has started.
    #[cfg(feature = "metrics")]
    pub(crate) fn registry_figures(&self) -> Option<(MembershipStats, RegistryFigures)> {
        let control = lock(&self.control);
        let joined = control.joined.as_ref()?;
        let now = self.clock.now();
        let age = joined.confirmed.map(|at| now.saturating_since(at).as_secs_f64());
        let is_registered = joined.membership.is_registered(now);
        Some((joined.membership.stats(), RegistryFigures { is_registered, age }))
    }

    /// The address that this node joined under; empty before.
    pub(crate) fn my_name(&self) -> Arc<str> {
        let control = lock(&self.control);
        control.joined.as_ref().map_or_else(|| Arc::from(""), |joined| Arc::clone(&joined.addr))
    }

    /// Whether every link to a member of the ring has come up, or has been tried in vain.
    fn links_are_settled(&self) -> bool {
        self.peers.all().iter().all(|peer| !lock(&peer.link).is_first_dial())
    }

    pub(super) fn membership_timeout(self: &Arc<Self>, now: Instant) {
        self.with_membership(|membership, _, fx| {
            if membership.next_wake().is_due(now) {
                let _reported = membership.handle_timeout(now, fx);
            }
        });
    }

    pub(super) fn start_registry(&self, intent: RegistryIntent) {
        let driver = lock(&self.control).joined.as_ref().map(|joined| Arc::clone(&joined.driver));
        if let Some(driver) = driver {
            driver.execute(intent);
        }
    }

    /// One call on the membership, and what follows from it: a new ring, and its wake to the alarm.
    fn with_membership(self: &Arc<Self>, call: impl FnOnce(&mut Membership, Instant, &mut Fx)) {
        let mut fx = Fx::new();
        let now = self.clock.now();
        {
            let mut control = lock(&self.control);
            let Control { ring, joined: Some(joined), .. } = &mut *control else { return };
            let confirmations = |membership: &Membership| {
                let stats = membership.stats();
                stats.registrations + stats.keep_alives
            };
            let before = confirmations(&joined.membership);
            call(&mut joined.membership, now, &mut fx);
            if confirmations(&joined.membership) != before {
                joined.confirmed = Some(now);
            }
            joined.seen =
                joined.seen || joined.membership.members().iter().any(|member| member.addr == joined.addr);
            if joined.membership.ring_epoch() != ring.epoch().get() {
                self.follow_view(&joined.membership, ring, now, &mut fx);
            }
            self.alarm.want(joined.membership.next_wake());
        }
        self.carry_out(&mut fx);
    }

    /// Takes on the ring of a new view. Under the lock of the control plane, so that rings are taken on in the order of their views; the data
    /// plane's locks are taken one at a time, and never the other way round.
    fn follow_view(
        self: &Arc<Self>,
        membership: &Membership,
        ring: &mut Arc<Ring>,
        now: Instant,
        fx: &mut Fx,
    ) {
        let before = ring.fingerprint();
        match ring_of(membership, ring) {
            Ok(new) => *ring = Arc::new(new),
            Err(error) => {
                tracing::error!(%error, "the members make no ring: keeping the one before");
                return;
            }
        }
        if ring.fingerprint() != before {
            let members: Vec<_> = ring.members().iter().map(|member| member.name()).collect();
            tracing::info!(epoch = ring.epoch().get(), ?members, "the ring has changed");
        }
        for member in ring.members().iter().filter(|member| member.id() != ME) {
            // A link that is closed may still be here, and cannot be opened again.
            let is_linked = (&**self).with_link(member.id(), |link| {
                let _ = link.handle_returned(now, fx);
                !link.is_closed()
            });
            if is_linked != Some(true) {
                let name = Arc::clone(member.shared_name());
                let id = (member.id(), self.peers.next_generation());
                let (config, seed) = (self.config.link.clone(), self.seed(member.name()));
                let link = if ring.members().len() <= config.dial_ahead as usize {
                    Link::new(id, name, config, seed, now, fx)
                } else {
                    Link::on_demand(id, name, config, seed, now)
                };
                self.peers.add(Arc::new(Peer::new(link)));
            }
        }
        self.each_shard(|shard| shard.handle_ring(now, Arc::clone(ring)));
        for peer in self.peers.all() {
            if ring.member(peer.id).is_none() {
                (&**self).with_link(peer.id, |link| link.handle_left(now, fx));
            }
        }
    }
}
