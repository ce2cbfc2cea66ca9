//! Sets a node up: every setting with its default, checked before anything runs.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use groupcache_core::{
    ConfigError, Eviction, LinkConfig, OnAbandoned, Placement, Ring, RingEpoch, ShardConfig,
};

use crate::engine::{Control, Engine, EngineConfig, RegistryTimes};
use crate::meter::Target;
use crate::registry::{Registry, StaticRegistry};
use crate::rt::Runtime;
use crate::secure::Security;
use crate::server::{Server, StartError};
use crate::tokens::Tokens;
use crate::trace::Propagator;
use crate::transport::TransportConfig;

/// How a node learns of the others.
pub(crate) enum Discovery {
    Peers(StaticRegistry),
    Registry(Arc<dyn Registry>),
}

/// What a server keeps of its builder.
pub(crate) struct Settings {
    pub(crate) addr: String,
    listen: Option<String>,
    pub(crate) weight: u32,
    pub(crate) discovery: Discovery,
    pub(crate) join_timeout: Duration,
    pub(crate) deregister_timeout: Duration,
    pub(crate) drain: Duration,
    #[cfg(feature = "metrics")]
    pub(crate) metrics_interval: Option<Duration>,
}

impl Settings {
    pub(crate) fn listen_addr(&self) -> &str {
        self.listen.as_deref().unwrap_or(&self.addr)
    }

    /// The address that peers reach this node by, given where it listens.
    pub(crate) fn advertised(&self, bound: SocketAddr) -> Result<Arc<str>, StartError> {
        let bad = |reason| StartError::Address { addr: self.addr.clone(), reason };
        let (host, port) = self.addr.rsplit_once(':').ok_or_else(|| bad("it must be host:port"))?;
        let unspecified = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_unspecified());
        if host.is_empty() || unspecified {
            return Err(bad(
                "peers cannot reach it: advertise a host of this machine, and listen elsewhere with `listen`",
            ));
        }
        let port: u16 = port.parse().map_err(|_| bad("the port must be a number from 0 to 65535"))?;
        let port = if port == 0 { bound.port() } else { port };
        Ok(format!("{host}:{port}").into())
    }
}

/// Sets a node up. Made by [`Server::builder`].
#[must_use = "a server exists once it is built"]
pub struct ServerBuilder<R> {
    rt: Arc<dyn Runtime>,
    settings: Settings,
    placement: Placement,
    shard: ShardConfig,
    link: LinkConfig,
    shards: Option<NonZeroU16>,
    registry: RegistryTimes,
    security: Option<Arc<dyn Security>>,
    tokens: Option<Tokens>,
    max_age: Option<Duration>,
    removal_timeout: Duration,
    metrics: Target,
    tracing: Option<Arc<dyn Propagator>>,
    keep_alive: (Duration, Duration),
    hot_keys: Option<NonZeroU32>,
    /// The first setting that is out of range, where one is.
    refused: Option<ConfigError>,
    runtime: PhantomData<fn() -> R>,
}

impl<R> fmt::Debug for ServerBuilder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("addr", &self.settings.addr)
            .field("shard", &self.shard)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

/// Where a node listens unless told otherwise; the Go system's default.
pub const DEFAULT_ADDR: &str = "127.0.0.1:6324";

impl<R> ServerBuilder<R> {
    pub(crate) fn new(rt: Arc<dyn Runtime>) -> Self {
        let settings = Settings {
            addr: DEFAULT_ADDR.to_owned(),
            listen: None,
            weight: 1,
            discovery: Discovery::Peers(StaticRegistry::default()),
            join_timeout: Duration::from_secs(5),
            deregister_timeout: Duration::from_secs(3),
            drain: Duration::from_secs(5),
            #[cfg(feature = "metrics")]
            metrics_interval: None,
        };
        Self {
            rt,
            settings,
            placement: Placement::default(),
            shard: ShardConfig::default(),
            link: LinkConfig::default(),
            shards: None,
            registry: RegistryTimes { lease_ttl: Duration::from_secs(5), op_timeout: Duration::from_secs(2) },
            security: None,
            tokens: None,
            max_age: None,
            removal_timeout: Duration::from_secs(2),
            metrics: Target::default(),
            tracing: None,
            keep_alive: (Duration::from_secs(2), Duration::from_secs(1)),
            hot_keys: None,
            refused: None,
            runtime: PhantomData,
        }
    }

    /// The address that peers know this node by, `host:port`; it listens there too, unless [`listen`](Self::listen) says otherwise. Port 0
    /// takes a free one and advertises that. Default [`DEFAULT_ADDR`].
    pub fn addr(mut self, addr: impl Into<String>) -> Self {
        self.settings.addr = addr.into();
        self
    }

    /// Where to listen, where that is not the advertised address: `0.0.0.0:6324`, say.
    pub fn listen(mut self, addr: impl Into<String>) -> Self {
        self.settings.listen = Some(addr.into());
        self
    }

    /// A fixed list of members, by address; this node is added when it is missing. Every member must be given the same ones. Without a list and
    /// without a registry a node is alone.
    pub fn peers(mut self, peers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let peers = peers.into_iter().map(Into::into);
        self.settings.discovery = Discovery::Peers(StaticRegistry::new(peers));
        self
    }

    /// Where members register and find each other, in place of a fixed list.
    pub fn registry(mut self, registry: Arc<dyn Registry>) -> Self {
        self.settings.discovery = Discovery::Registry(registry);
        self
    }

    /// How keys are placed. The same on every member. Default `slots/1`.
    pub const fn placement(mut self, placement: Placement) -> Self {
        self.placement = placement;
        self
    }

    /// This node's weight: its part of the keys relative to the others'. Default 1.
    pub const fn weight(mut self, weight: u32) -> Self {
        self.settings.weight = weight;
        self
    }

    /// Bytes that all cached entries together may take, overhead included. Default 64 MiB.
    pub const fn budget(mut self, bytes: u64) -> Self {
        self.shard.budget = bytes;
        self
    }

    /// Who makes place for whom when the budget is used up.
    pub const fn eviction(mut self, eviction: Eviction) -> Self {
        self.shard.eviction = eviction;
        self
    }

    /// Thousandths of the budget for hot copies of other members' keys. Default 125.
    pub const fn hot_per_mille(mut self, per_mille: u16) -> Self {
        self.shard.hot_per_mille = per_mille;
        self
    }

    /// The largest value, in bytes: a larger one is a typed error, at its owner and over the wire. Default 16 MiB, at most 1 GiB.
    pub fn max_value(mut self, bytes: usize) -> Self {
        self.shard.max_value_len = self.above_zero("max_value", bytes, self.shard.max_value_len);
        self
    }

    /// The longest key, in bytes. Default 128 KiB.
    pub fn max_key(mut self, bytes: usize) -> Self {
        self.shard.max_key_len = self.above_zero("max_key", bytes, self.shard.max_key_len);
        self
    }

    /// The longest that a load may take, and that a `get` waits unless it says less. Default 30 s.
    pub const fn load_timeout(mut self, limit: Duration) -> Self {
        self.shard.load_timeout = limit;
        self
    }

    /// Loads in progress at most, in each of the node's [`shards`](Self::shards). Default 4,096.
    pub fn max_flights(mut self, max: u32) -> Self {
        self.shard.max_flights = self.above_zero("max_flights", max, self.shard.max_flights);
        self
    }

    /// Waiting callers at most, in each of the node's [`shards`](Self::shards). Default 16,384.
    pub fn max_waiters(mut self, max: u32) -> Self {
        self.shard.max_waiters = self.above_zero("max_waiters", max, self.shard.max_waiters);
        self
    }

    /// The longest that a hot copy lives. Also the bound on how long a member that missed a removal shows the old value. Default 30 s.
    pub const fn hot_ttl(mut self, ttl: Duration) -> Self {
        self.shard.hot_ttl = ttl;
        self
    }

    /// What happens to a load when its last caller leaves. Default: it finishes, and its value is kept.
    pub const fn on_abandoned(mut self, policy: OnAbandoned) -> Self {
        self.shard.on_abandoned = policy;
        self
    }

    /// How many independent parts the cache has: more let more threads write at once, and make the largest storable value smaller. Default: 4
    /// per core, as long as each has 8 MiB and room for a value at the limit.
    pub fn shards(mut self, shards: u16) -> Self {
        self.shards = Some(self.above_zero("shards", shards, NonZeroU16::MIN));
        self
    }

    /// Takes a limit that must not be 0; a 0 is kept for [`build`](Self::build) to refuse.
    fn above_zero<N, Z: TryFrom<N>>(&mut self, field: &'static str, limit: N, before: Z) -> Z {
        Z::try_from(limit).unwrap_or_else(|_| {
            self.refused.get_or_insert(ConfigError::OutOfRange { field, expected: "above zero" });
            before
        })
    }

    /// How peers are spoken to: batches, queue, breaker, dialling.
    pub const fn link(mut self, link: LinkConfig) -> Self {
        self.link = link;
        self
    }

    /// How connections between members are secured: with `Tls` (feature `tls`), or a [`Security`] of your own. The same on every member. Dialling
    /// includes it, so `connect_timeout` of [`link`](Self::link) bounds both; who connects to this node has 5 s for it. Default: plain text.
    pub fn security(mut self, security: Arc<dyn Security>) -> Self {
        self.security = Some(security);
        self
    }

    /// What whoever calls this node has to send, and what this node sends to its peers: every member needs the same, or some of the same. A
    /// certificate is no substitute for it. Over plain text it can be read on its way. Default: nothing.
    pub fn tokens(mut self, tokens: Tokens) -> Self {
        self.tokens = Some(tokens);
        self
    }

    /// How long a connection that a peer has made takes calls: then the peer makes another, secured as it is done by then, and what is in flight on
    /// the old one is answered. For fleets that do not want a certificate to be trusted for much longer than it is good. Should be many times the
    /// `connect_timeout` of [`link`](Self::link). Default: as long as it lasts.
    pub const fn max_connection_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// How soon a silent connection is noticed while something is asked over it: a ping after `interval` of silence, dead when it is not answered
    /// within `limit`. Default 2 s and 1 s.
    pub const fn peer_keep_alive(mut self, interval: Duration, limit: Duration) -> Self {
        self.keep_alive = (interval, limit);
        self
    }

    /// How long the registry keeps this node's record without hearing from it. Default 5 s.
    pub const fn lease_ttl(mut self, ttl: Duration) -> Self {
        self.registry.lease_ttl = ttl;
        self
    }

    /// How long the registry may take to answer before it is asked again. Default 2 s.
    pub const fn registry_timeout(mut self, limit: Duration) -> Self {
        self.registry.op_timeout = limit;
        self
    }

    /// How long a removal waits for members to acknowledge. Default 2 s.
    pub const fn removal_timeout(mut self, limit: Duration) -> Self {
        self.removal_timeout = limit;
        self
    }

    /// How long a start waits for the first view of the fleet. Default 5 s.
    pub const fn join_timeout(mut self, limit: Duration) -> Self {
        self.settings.join_timeout = limit;
        self
    }

    /// How long a stop lets what is in progress finish. Default 5 s.
    pub const fn drain(mut self, limit: Duration) -> Self {
        self.settings.drain = limit;
        self
    }

    /// Counts one look-up in `one_in`, to show in [`Server::live`] which keys are looked up most. Counting costs a lock and a walk through 128 counters, that
    /// is well below a microsecond, and the look-ups in between a countdown of their thread. Nodes of one process that are given different numbers share that
    /// countdown. Default: none is counted, and a look-up costs nothing more.
    pub fn hot_keys(mut self, one_in: u32) -> Self {
        self.hot_keys = Some(self.above_zero("hot_keys", one_in, NonZeroU32::MIN));
        self
    }

    /// Has the running node call [`Server::publish_metrics`] by itself, every `interval`: for exporters that push. Default: whoever shows metrics calls it.
    #[cfg(feature = "metrics")]
    pub const fn metrics_interval(mut self, interval: Duration) -> Self {
        self.settings.metrics_interval = Some(interval);
        self
    }

    /// Where this node's metrics go, in place of the process's recorder (`metrics::set_global_recorder`): for who has several nodes in one process, which
    /// would write over each other's.
    #[cfg(feature = "metrics")]
    pub fn metrics_recorder(mut self, recorder: Arc<dyn metrics::Recorder + Send + Sync>) -> Self {
        self.metrics = Target(Some(recorder));
        self
    }

    /// Gives spans to what is no hit, and carries the trace of a get to whoever loads for it: see [`trace`](crate::trace). A hit is not dearer for it.
    /// [`TraceIds`](crate::trace::TraceIds) makes ids itself. Default: no tracing.
    pub fn tracing(mut self, propagator: Arc<dyn Propagator>) -> Self {
        self.tracing = Some(propagator);
        self
    }

    /// Makes the node. Nothing runs yet and nothing is listened on.
    ///
    /// # Errors
    /// A setting is out of its range; the error names it and says what it takes.
    pub fn build(self) -> Result<Server<R>, ConfigError> {
        if let Some(refused) = self.refused {
            return Err(refused);
        }
        let mut link = self.link;
        // Whatever it says: the engine does.
        link.top_up = true;
        let ring = Arc::new(Ring::empty(self.placement, RingEpoch::new(0)));
        let shards = self.shards.unwrap_or_else(|| default_shards(&self.shard));
        let transport = TransportConfig {
            connect_timeout: link.connect_timeout,
            keep_alive_interval: self.keep_alive.0,
            keep_alive_timeout: self.keep_alive.1,
            security: self.security,
            tokens: self.tokens,
            max_age: self.max_age,
            drain: self.settings.drain,
            ..TransportConfig::for_values(self.shard.max_value_len.get())
        };
        let config = EngineConfig {
            shards,
            shard: self.shard,
            link,
            transport,
            removal_timeout: self.removal_timeout,
            hot_keys: self.hot_keys,
            metrics: self.metrics,
            tracing: self.tracing,
        };
        let control = Control::new(self.registry, Arc::clone(&ring));
        Ok(Server::from_parts(Engine::new(self.rt, config, control, ring)?, self.settings))
    }
}

/// The smallest part of the budget that a shard is worth having for.
const MIN_SHARD_BUDGET: u64 = 8 << 20;

/// As many shards as keep cores apart, while each can still store a value at the value limit: its main share is at least 3/4 of it, once the hot and
/// the negative share are taken off.
fn default_shards(config: &ShardConfig) -> NonZeroU16 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u64;
    let for_value = config.max_value_len.get() as u64 / 3 * 4 + (64 << 10);
    let shards = (config.budget / MIN_SHARD_BUDGET.max(for_value)).clamp(1, (4 * cores).min(256));
    NonZeroU16::MIN.saturating_add(shards as u16 - 1)
}
