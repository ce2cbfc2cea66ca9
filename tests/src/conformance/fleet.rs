//! Started nodes, and what a test asks of them.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_std::task::sleep;
use futures_util::FutureExt;
pub(super) use groupcache_runtime::in_words as chain;
use groupcache_runtime::trace::TraceIds;
use groupcache_runtime::{
    EtcdConfig, EtcdRegistry, GroupBuilder, GroupError, LinkConfig, MemoryRegistry, OnAbandoned, Placement,
    Runtime, ServerBuilder, StartError,
};

use super::measures::{INTERVAL, Notes};
use super::nodes::{AnyGroup, AnyServer, GroupSetting, Kind, Setting};
use super::origin::{Origin, value_of};
use super::{Cluster, SOON};
use crate::{Proxy, reserve};

/// How a node is set up; what stands in no field has its default.
#[derive(Clone, Debug)]
pub(super) struct Options {
    /// Members by address, with or without this node. `None`: all nodes of the fleet.
    pub(super) peers: Option<Vec<String>>,
    pub(super) registry: Option<Registry>,
    /// Where it listens, when that is not the address that others know it by.
    pub(super) listen: Option<String>,
    pub(super) placement: Placement,
    pub(super) link: LinkConfig,
    pub(super) keep_alive: Option<(Duration, Duration)>,
    pub(super) budget: Option<u64>,
    pub(super) load_timeout: Duration,
    pub(super) hot_ttl: Duration,
    pub(super) drain: Duration,
    pub(super) join_timeout: Option<Duration>,
    pub(super) shards: Option<u16>,
    pub(super) max_flights: Option<u32>,
    pub(super) max_waiters: Option<u32>,
    pub(super) max_value: Option<usize>,
    pub(super) max_key: Option<usize>,
    pub(super) on_abandoned: OnAbandoned,
    pub(super) tracing: bool,
    /// Where it publishes its metrics, if anywhere.
    pub(super) recorder: Option<Notes>,
    pub(super) group: GroupOptions,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            peers: None,
            registry: None,
            listen: None,
            placement: Placement::default(),
            link: LinkConfig::default(),
            keep_alive: None,
            budget: None,
            load_timeout: Duration::from_secs(30),
            hot_ttl: Duration::from_secs(30),
            drain: Duration::from_millis(500),
            join_timeout: None,
            shards: None,
            max_flights: None,
            max_waiters: None,
            max_value: None,
            max_key: None,
            on_abandoned: OnAbandoned::Finish,
            tracing: false,
            recorder: None,
            group: GroupOptions::default(),
        }
    }
}

/// Where nodes find each other.
#[derive(Clone, Debug)]
pub(super) enum Registry {
    Memory(MemoryRegistry),
    /// etcd, at this endpoint.
    Etcd(String),
}

/// How long the record of a node in etcd outlives it: the least that etcd grants.
pub(super) const LEASE: Duration = Duration::from_secs(2);

impl Registry {
    /// The registry for a node on `R`.
    fn of<R: Runtime + Default>(&self) -> Arc<dyn groupcache_runtime::Registry> {
        match self {
            Self::Memory(registry) => Arc::new(registry.clone()),
            Self::Etcd(endpoint) => {
                let made = EtcdRegistry::new(Arc::new(R::default()), EtcdConfig::new([endpoint]));
                let made = made.now_or_never().expect("it talks to nobody before the first call");
                Arc::new(made.expect("a good configuration"))
            }
        }
    }
}

/// How a group is set up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct GroupOptions {
    pub(super) ttl: Option<Duration>,
    pub(super) ttl_jitter_per_mille: u16,
    pub(super) max_loads: Option<u32>,
    pub(super) negative_ttl: Option<Duration>,
    pub(super) stale_while_revalidate: Duration,
    pub(super) stale_if_error: Duration,
}

struct ServerSetting<'a>(&'a str, &'a Options);

impl Setting for ServerSetting<'_> {
    fn server<R: Runtime + Default>(&self, mut builder: ServerBuilder<R>) -> ServerBuilder<R> {
        let Self(addr, options) = *self;
        builder = builder.addr(addr).load_timeout(options.load_timeout).hot_ttl(options.hot_ttl);
        builder =
            builder.placement(options.placement).drain(options.drain).on_abandoned(options.on_abandoned);
        builder = builder.link(options.link.clone()).lease_ttl(LEASE);
        builder = match &options.registry {
            Some(registry) => builder.registry(registry.of::<R>()),
            None => builder.peers(options.peers.iter().flatten()),
        };
        if let Some(recorder) = &options.recorder {
            builder = builder.metrics_recorder(Arc::new(recorder.clone())).metrics_interval(INTERVAL);
        }
        if options.tracing {
            builder = builder.tracing(Arc::new(TraceIds::new()));
        }
        if let Some(listen) = &options.listen {
            builder = builder.listen(listen);
        }
        if let Some((interval, limit)) = options.keep_alive {
            builder = builder.peer_keep_alive(interval, limit);
        }
        if let Some(limit) = options.join_timeout {
            builder = builder.join_timeout(limit);
        }
        if let Some(budget) = options.budget {
            builder = builder.shards(1).budget(budget);
        }
        if let Some(shards) = options.shards {
            builder = builder.shards(shards);
        }
        if let Some(max) = options.max_flights {
            builder = builder.shards(1).max_flights(max);
        }
        if let Some(max) = options.max_waiters {
            builder = builder.shards(1).max_waiters(max);
        }
        if let Some(max) = options.max_value {
            builder = builder.max_value(max);
        }
        if let Some(max) = options.max_key {
            builder = builder.max_key(max);
        }
        builder
    }
}

struct Origins<'a> {
    options: GroupOptions,
    origin: &'a Origin,
    node: usize,
    kind: Kind,
}

impl GroupSetting for Origins<'_> {
    fn group<R>(&self, mut builder: GroupBuilder<R>) -> GroupBuilder<R> {
        let (origin, node, kind) = (self.origin.clone(), self.node, self.kind);
        builder = builder.retriever(move |key| origin.clone().load(node, kind, key));
        builder = builder.stale_while_revalidate(self.options.stale_while_revalidate);
        builder = builder.stale_if_error(self.options.stale_if_error);
        builder = builder.ttl_jitter_per_mille(self.options.ttl_jitter_per_mille);
        if let Some(max) = self.options.max_loads {
            builder = builder.max_loads(max);
        }
        if let Some(ttl) = self.options.ttl {
            builder = builder.ttl(ttl);
        }
        if let Some(ttl) = self.options.negative_ttl {
            builder = builder.negative_ttl(ttl);
        }
        builder
    }
}

/// A node, with its group `g`.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) server: AnyServer,
    pub(super) group: AnyGroup,
    pub(super) number: usize,
    pub(super) kind: Kind,
}

impl Deref for Node {
    type Target = AnyServer;

    fn deref(&self) -> &AnyServer {
        &self.server
    }
}

impl Node {
    /// The counter `name`.
    #[track_caller]
    pub(super) fn stat(&self, name: &str) -> u64 {
        self.stats().get(name).unwrap_or_else(|| panic!("no counter is named {name}"))
    }

    pub(super) fn add_group(&self, name: &str, origin: &Origin) -> Result<AnyGroup, GroupError> {
        let (node, kind) = (self.number, self.kind);
        self.server.add_group(name, &Origins { options: GroupOptions::default(), origin, node, kind })
    }

    /// The members on its ring that it is connected to, itself included.
    pub(super) fn up(&self) -> BTreeSet<String> {
        self.ring().members.into_iter().filter(|member| member.up).map(|member| member.name).collect()
    }

    /// Waits until its ring has exactly these members, and it is connected to all of them.
    pub(super) async fn sees(&self, members: &[String]) {
        let wanted: BTreeSet<_> = members.iter().cloned().collect();
        let names = |node: &Self| node.ring().members.into_iter().map(|member| member.name).collect();
        let holds = || self.up() == wanted && wanted == names(self);
        wait_for(&format!("node {} to see {wanted:?}", self.number), holds).await;
    }

    /// The value of `key`, as text.
    ///
    /// # Panics
    /// When there is none, or only after the deadline.
    #[track_caller]
    pub(super) fn value(&self, key: &str) -> impl Future<Output = String> + Send {
        let (group, key) = (self.group.clone(), key.to_owned());
        let me = format!("node {} on {:?}", self.number, self.kind);
        async move {
            match within(&format!("a get of `{key}` at {me}"), group.get(&key)).await {
                Ok(value) => value.to_str().expect("the origin's values are text").to_owned(),
                Err(error) => panic!("{me} has no value for `{key}`: {}", chain(&error)),
            }
        }
    }

    /// Waits until nobody waits here and nothing is being loaded.
    pub(super) async fn is_quiet(&self) {
        let quiet = || self.stat("waiters") == 0 && self.stat("flights") == 0;
        wait_for(&format!("node {} is quiet", self.number), quiet).await;
    }
}

/// Nodes and their origin.
pub(super) struct Fleet<'a> {
    cluster: &'a Cluster,
    pub(super) nodes: Vec<Node>,
    pub(super) origin: Origin,
    pub(super) addrs: Vec<String>,
}

impl Deref for Fleet<'_> {
    type Target = [Node];

    fn deref(&self) -> &[Node] {
        &self.nodes
    }
}

impl Cluster {
    /// `count` addresses on which nothing listens.
    pub(super) fn addrs(count: usize) -> Vec<String> {
        (0..count).map(|_| format!("127.0.0.1:{}", reserve())).collect()
    }

    /// A node that is not started. Node `number` runs on the runtime that the cluster has for this number.
    pub(super) fn node(&self, number: usize, addr: &str, options: &Options, origin: &Origin) -> Node {
        let kind = self.kind(number);
        let server =
            AnyServer::build(kind, &ServerSetting(addr, options)).expect("the settings are in range");
        self.stop_later(&server);
        let setting = Origins { options: options.group, origin, node: number, kind };
        let group = server.add_group("g", &setting).expect("the first of its name");
        Node { server, group, number, kind }
    }

    /// `count` nodes that know each other and are connected.
    pub(super) async fn fleet(&self, count: usize, options: Options, origin: Origin) -> Fleet<'_> {
        self.fleet_of(vec![options; count], origin).await
    }

    /// Like [`fleet`](Self::fleet), with a proxy before every node: the others know it by its proxy's address.
    pub(super) async fn behind_proxies(
        &self,
        count: usize,
        options: Options,
        origin: Origin,
    ) -> (Fleet<'_>, Vec<Proxy>) {
        let listen = Self::addrs(count);
        let proxies: Vec<_> = listen.iter().map(|listen| Proxy::start(listen)).collect();
        let addrs: Vec<_> = proxies.iter().map(|proxy| proxy.addr().to_owned()).collect();
        let options = listen.into_iter().map(|listen| Options { listen: Some(listen), ..options.clone() });
        (self.fleet_at(addrs, options.collect(), origin).await, proxies)
    }

    /// Like [`fleet`](Self::fleet), with settings for each node.
    pub(super) async fn fleet_of(&self, options: Vec<Options>, origin: Origin) -> Fleet<'_> {
        self.fleet_at(Self::addrs(options.len()), options, origin).await
    }

    async fn fleet_at(&self, addrs: Vec<String>, options: Vec<Options>, origin: Origin) -> Fleet<'_> {
        let mut nodes = Vec::new();
        let dialled_ahead = options.iter().all(|options| options.link.dial_ahead as usize >= addrs.len());
        for (number, (addr, mut options)) in addrs.iter().zip(options).enumerate() {
            if options.registry.is_none() {
                options.peers.get_or_insert_with(|| addrs.clone());
            }
            let node = self.node(number, addr, &options, &origin);
            within("a start", node.start()).await.expect("a free port");
            nodes.push(node);
        }
        let fleet = Fleet { cluster: self, nodes, origin, addrs };
        if dialled_ahead {
            fleet.are_connected().await;
        } else {
            let whole = |node: &Node| node.is_ready() && node.ring().members.len() == fleet.addrs.len();
            wait_for("nodes that know each other", || fleet.iter().all(whole)).await;
        }
        fleet
    }
}

impl Fleet<'_> {
    /// Waits until every node is ready and connected to every member on its ring, or knows it is of no use.
    async fn are_connected(&self) {
        for node in &self.nodes {
            let all = |node: &Node| {
                let ring = node.ring().members;
                ring.iter().all(|member| member.up || !self.addrs.contains(&member.name)) && !ring.is_empty()
            };
            wait_for("nodes that are connected", || node.is_ready() && all(node)).await;
        }
    }

    /// Starts a node anew in the place of node `number`, on its address.
    pub(super) async fn restart(&mut self, number: usize, mut options: Options) -> Result<(), StartError> {
        if options.registry.is_none() {
            options.peers.get_or_insert_with(|| self.addrs.clone());
        }
        let node = self.cluster.node(number, &self.addrs[number], &options, &self.origin);
        within("a restart", node.start()).await?;
        self.nodes[number] = node;
        Ok(())
    }

    /// Stops node `number` and waits until the others have noticed.
    pub(super) async fn lose(&self, number: usize) {
        within("a stop", self[number].stop()).await;
        let addr = &self.addrs[number];
        for other in self.iter().filter(|other| other.number != number) {
            wait_for("a loss that is noticed", || !other.up().contains(addr)).await;
        }
    }

    /// Keys that node `owner` owns in the eyes of node 0, with `prefix` in their names.
    pub(super) fn keys_of(&self, owner: usize, prefix: &str, count: usize) -> Vec<String> {
        keys_where(prefix, count, |key| self[0].group.owner(key).as_deref() == Some(&*self.addrs[owner]))
    }

    /// One such key.
    pub(super) fn key_of(&self, owner: usize, prefix: &str) -> String {
        self.keys_of(owner, prefix, 1).remove(0)
    }

    /// Every node has the origin's plain value of `key`.
    pub(super) async fn all_have(&self, key: &str) {
        for node in self.iter() {
            assert_eq!(node.value(key).await, value_of(key), "at node {}", node.number);
        }
    }
}

/// The first `count` keys with `prefix` that are as wanted.
pub(super) fn keys_where(prefix: &str, count: usize, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let keys = (0..100_000).map(|index| format!("{prefix} {index}"));
    let found: Vec<_> = keys.filter(|key| wanted(key)).take(count).collect();
    assert_eq!(found.len(), count, "keys with `{prefix}` that are as wanted");
    found
}

/// Awaits `task`, for [`SOON`] at most.
///
/// # Panics
/// When time is up.
pub(super) async fn within<T>(what: &str, task: impl Future<Output = T>) -> T {
    async_std::future::timeout(SOON, task).await.unwrap_or_else(|_| panic!("{what} took more than {SOON:?}"))
}

/// Waits until `holds`, for [`SOON`] at most.
///
/// # Panics
/// When time is up.
pub(super) async fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {SOON:?} in vain for {what}");
        sleep(Duration::from_millis(3)).await;
    }
}
