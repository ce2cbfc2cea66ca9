//! A node: built, started, stopped.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use futures_channel::oneshot;
use futures_util::FutureExt;
use futures_util::lock::Mutex;
use groupcache_core::{ConfigError, GroupConfig};

use crate::builder::{Discovery, ServerBuilder, Settings};
use crate::engine::{Engine, lock};
use crate::group::{Group, GroupBuilder};
use crate::groups::GroupEntry;
#[cfg(feature = "metrics")]
use crate::metrics::Standing;
use crate::registry::Registry;
use crate::report::{PeerView, RingView, Stats};
use crate::retriever::Retriever;
use crate::rt::{Listener, Runtime};
use crate::service::Service;
use crate::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use crate::transport::{PeerServer, PeerService};
use crate::watch::Live;

/// A node of a fleet. Cheap to clone; all clones are the same node.
///
/// Build it, make groups, [`start`](Self::start) it, `get` from its groups, [`stop`](Self::stop) it. Before the start and after the stop groups
/// answer from this node's cache; before the start they load from their own origin too.
pub struct Server<R> {
    inner: Arc<Inner>,
    runtime: PhantomData<fn() -> R>,
}

impl<R> Clone for Server<R> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), runtime: PhantomData }
    }
}

impl<R> fmt::Debug for Server<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addr", &self.addr())
            .field("state", &self.inner.state())
            .finish_non_exhaustive()
    }
}

struct Inner {
    engine: Arc<Engine>,
    settings: Settings,
    /// The address that peers know this node by, once it listens.
    addr: OnceLock<Arc<str>>,
    state: AtomicU8,
    /// The peer side, once it listens.
    peer_side: OnceLock<PeerServer>,
    /// What a stop has to end. Locked for the whole of a start or a stop: they take turns.
    life: Mutex<Life>,
}

#[derive(Default)]
struct Life {
    listening: Option<Listening>,
}

/// The running peer side.
struct Listening {
    /// Dropped to stop accepting and to drain.
    shutdown: Option<oneshot::Sender<()>>,
    /// Set when every connection is gone.
    gone: Arc<AtomicBool>,
}

/// Where a node is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// Built, not started.
    New,
    /// Listening; it may not have seen the other members yet.
    Running,
    /// Leaving: it has deregistered or is about to, and finishes what is in progress.
    Stopping,
    /// Over. A stopped node cannot be started again.
    Stopped,
}

impl Status {
    const ALL: [Self; 4] = [Self::New, Self::Running, Self::Stopping, Self::Stopped];

    /// Its name, in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
        }
    }
}

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {addr}")]
    Listen {
        /// The address.
        addr: String,
        /// What the system says.
        source: io::Error,
    },
    /// The address cannot be one that peers reach this node by.
    #[error("bad address `{addr}`: {reason}")]
    Address {
        /// The address.
        addr: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The configuration does not work with the address.
    #[error("bad configuration")]
    Config(#[from] ConfigError),
    /// The node runs already.
    #[error("the node runs already")]
    Running,
    /// The node was stopped: build a new one.
    #[error("the node was stopped: build a new one")]
    Stopped,
}

/// Why a group was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// There is a group of that name.
    #[error("there is a group `{0}` already")]
    Exists(String),
    /// The name is empty.
    #[error("a group's name must not be empty")]
    EmptyName,
    /// No retriever was given.
    #[error("a group needs a retriever")]
    NoRetriever,
    /// A setting is out of range.
    #[error("bad group configuration")]
    Config(#[from] ConfigError),
}

/// How a stop went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StopReport {
    /// Whether the registry has forgotten this node. `false` leaves that to the lease.
    pub deregistered: bool,
    /// Whether everything in progress was finished in time; what was not got a typed error.
    pub drained: bool,
}

impl<R: Runtime + Default> Server<R> {
    /// Sets a node up.
    pub fn builder() -> ServerBuilder<R> {
        ServerBuilder::new(Arc::new(R::default()))
    }
}

impl<R> Server<R> {
    pub(crate) fn from_parts(engine: Arc<Engine>, settings: Settings) -> Self {
        let inner = Inner {
            engine,
            settings,
            addr: OnceLock::new(),
            state: AtomicU8::new(Status::New as u8),
            peer_side: OnceLock::new(),
            life: Mutex::new(Life::default()),
        };
        Self { inner: Arc::new(inner), runtime: PhantomData }
    }

    /// Listens for peers, registers, and learns of the other members. Waits for the first view of the fleet for the join time-out at most: a
    /// registry that cannot be reached keeps no node from starting; the node then serves alone, is not ready, and goes on trying.
    ///
    /// # Errors
    /// The address cannot be listened on, or the node runs already or has been stopped.
    pub async fn start(&self) -> Result<(), StartError> {
        let inner = &self.inner;
        let mut life = inner.life.lock().await;
        match inner.state() {
            Status::New => {}
            Status::Running => return Err(StartError::Running),
            Status::Stopping | Status::Stopped => return Err(StartError::Stopped),
        }
        let listen = inner.settings.listen_addr();
        let failed = |source| StartError::Listen { addr: listen.to_owned(), source };
        let rt = Arc::clone(&inner.engine.rt);
        let listener = rt.listen(listen).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let addr = inner.settings.advertised(bound)?;
        if inner.engine.config.transport.security.is_none() && !bound.ip().is_loopback() {
            tracing::warn!(
                %bound,
                "peers are spoken to in plain text: whoever reaches this port can read what is cached, and remove it. \
                 Set up TLS (groupcache serve: --tls-cert, --tls-key, --tls-ca; ServerBuilder: security), or listen on loopback"
            );
        }
        inner.engine.join(&addr, inner.settings.weight, self.registry())?;
        life.listening = Some(self.serve_peers(listener));
        let _first = inner.addr.set(addr);
        rt.spawn(Box::pin(Arc::clone(&inner.engine).keep_time()));
        inner.state.store(Status::Running as u8, Ordering::Release);
        #[cfg(feature = "metrics")]
        if let Some(interval) = inner.settings.metrics_interval {
            rt.spawn(Box::pin(Arc::clone(inner).publish_every(interval)));
        }
        drop(life);
        // A stop meanwhile has nothing to wait for any more.
        let joined = || inner.engine.has_view() || inner.state() != Status::Running;
        if !self.poll(inner.settings.join_timeout, joined).await {
            tracing::warn!("no view of the fleet yet: serving alone, and trying on");
        }
        Ok(())
    }

    fn serve_peers(&self, listener: Box<dyn Listener>) -> Listening {
        let engine = &self.inner.engine;
        let service: Arc<dyn PeerService> = Arc::new(Service::new(Arc::clone(engine)));
        let server = PeerServer::new(Arc::clone(&engine.rt), service, engine.config.transport.clone());
        let (shutdown, stopping) = oneshot::channel::<()>();
        let gone = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&gone);
        let _first = self.inner.peer_side.set(server.clone());
        engine.rt.spawn(Box::pin(async move {
            let cut = server.serve(listener, stopping.map(drop)).await;
            if cut > 0 {
                tracing::warn!(connections = cut, "peers were cut off at the end of the drain time");
            }
            told.store(true, Ordering::Release);
        }));
        Listening { shutdown: Some(shutdown), gone }
    }

    fn registry(&self) -> Arc<dyn Registry> {
        match &self.inner.settings.discovery {
            Discovery::Registry(registry) => Arc::clone(registry),
            Discovery::Peers(peers) => Arc::new(peers.clone()),
        }
    }

    /// Leaves the fleet: deregisters first, so that nobody new comes; finishes what is in progress, for the drain time at most; fails what is
    /// left with [`ErrorKind::Stopping`](crate::ErrorKind::Stopping). From any state, any number of times, also when an earlier call was dropped.
    pub async fn stop(&self) -> StopReport {
        let inner = &self.inner;
        let mut life = inner.life.lock().await;
        if inner.state() == Status::Stopped {
            return StopReport { deregistered: true, drained: true };
        }
        let was_started = inner.addr.get().is_some();
        inner.state.store(Status::Stopping as u8, Ordering::Release);
        let engine = &inner.engine;
        let mut deregistered = true;
        if was_started {
            engine.leave();
            deregistered = self.poll(inner.settings.deregister_timeout, || engine.has_left()).await;
        }
        let drain = inner.settings.drain;
        let gone = life.listening.as_mut().map(|listening| {
            listening.shutdown = None;
            Arc::clone(&listening.gone)
        });
        let peers_gone = || gone.as_ref().is_none_or(|gone| gone.load(Ordering::Acquire));
        let drained = self.poll(drain, || peers_gone() && engine.is_idle()).await;
        engine.shut_down();
        life.listening = None;
        inner.state.store(Status::Stopped as u8, Ordering::Release);
        StopReport { deregistered, drained }
    }

    /// Waits until `done`, for `limit` at most.
    fn poll(&self, limit: Duration, done: impl Fn() -> bool + Send) -> impl Future<Output = bool> + Send {
        let rt = Arc::clone(&self.inner.engine.rt);
        async move {
            let started = std::time::Instant::now();
            let mut pause = Duration::from_millis(1);
            while !done() {
                if started.elapsed() >= limit {
                    return false;
                }
                rt.sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(20));
            }
            true
        }
    }

    /// Sets a group up.
    pub fn group_builder(&self, name: impl Into<String>) -> GroupBuilder<R> {
        GroupBuilder::new(self.clone(), name.into())
    }

    /// Makes a group with default settings.
    ///
    /// # Errors
    /// There is a group of that name, or the name is empty.
    pub fn new_group(
        &self,
        name: impl Into<String>,
        retriever: impl Retriever,
    ) -> Result<Group<R>, GroupError> {
        self.group_builder(name).retriever(retriever).build()
    }

    pub(crate) fn add_group(
        &self,
        name: &str,
        config: GroupConfig,
        retriever: Arc<dyn Retriever>,
    ) -> Result<Group<R>, GroupError> {
        if name.is_empty() {
            return Err(GroupError::EmptyName);
        }
        config.validate()?;
        let engine = &self.inner.engine;
        let install =
            |id| engine.each_shard(|shard| shard.add_group(id, config.clone())).into_iter().collect();
        let added = engine.groups.add(name, retriever, install).map_err(|error: ConfigError| error)?;
        let entry = added.ok_or_else(|| GroupError::Exists(name.to_owned()))?;
        Ok(Group::new(Arc::clone(engine), entry))
    }

    /// The group `name`, where there is one.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<Group<R>> {
        let entry = self.inner.engine.groups.by_name(name)?;
        Some(Group::new(Arc::clone(&self.inner.engine), entry))
    }

    /// The names of all groups, sorted.
    #[must_use]
    pub fn group_names(&self) -> Vec<Arc<str>> {
        self.inner.engine.groups.names()
    }

    /// Drops a group: its entries are dead at once, its loads in progress still serve who waits. Other groups go on. `false`: there is none.
    pub fn destroy_group(&self, name: &str) -> bool {
        let engine = &self.inner.engine;
        engine.groups.remove(name, |id| {
            engine.each_shard(|shard| shard.remove_group(id));
        })
    }

    /// Replaces the static list of peers; this node is added when it is missing. `false`: this node has a registry instead.
    pub fn set_peers(&self, peers: impl IntoIterator<Item = impl Into<String>>) -> bool {
        match &self.inner.settings.discovery {
            Discovery::Registry(_) => false,
            Discovery::Peers(registry) => {
                registry.set_peers(peers.into_iter().map(Into::into));
                true
            }
        }
    }

    /// The address that peers know this node by: with the real port once it is started.
    #[must_use]
    pub fn addr(&self) -> String {
        let settings = &self.inner.settings;
        self.inner.addr.get().map_or_else(|| settings.addr.clone(), ToString::to_string)
    }

    /// Where the node is in its life.
    #[must_use]
    pub fn status(&self) -> Status {
        self.inner.state()
    }

    /// Whether the node runs and has joined the fleet: registered, with a view of the members.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.inner.is_ready()
    }

    /// Until when the certificate is good that this node shows to its peers, as its [`Security`](crate::Security) has it; `None` without one.
    #[must_use]
    pub fn certificate_expires(&self) -> Option<SystemTime> {
        self.inner.engine.config.transport.security.as_ref().and_then(|security| security.expires())
    }

    /// The node's counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let engine = &self.inner.engine;
        let (shards, usage) = engine.stats();
        let links = engine.peers.all();
        let links = links.iter().map(|peer| lock(&peer.link).stats());
        let connections = self.inner.peer_side.get().map_or(0, PeerServer::connections);
        let further = [
            ("fingerprint_mismatches", engine.mismatches.load(Ordering::Relaxed)),
            ("peer_connections", connections as u64),
        ];
        Stats::new(&shards, &usage, links, further)
    }

    /// What each group has counted and holds, by its name. A group that was destroyed and made again goes on where it was.
    #[must_use]
    pub fn group_stats(&self) -> BTreeMap<String, Stats> {
        let engine = &self.inner.engine;
        let of = |group: Arc<GroupEntry>| {
            let stats = engine.group_stats(group.id)?;
            Some((group.name.to_string(), Stats::of_group(&stats)))
        };
        engine.groups.all().into_iter().filter_map(of).collect()
    }

    /// What was asked of each peer, and how it stands, by its address.
    #[must_use]
    pub fn peer_stats(&self) -> BTreeMap<String, PeerView> {
        let peers = self.inner.engine.peers.all();
        peers.iter().map(|peer| (peer.name.to_string(), PeerView::new(&lock(&peer.link)))).collect()
    }

    /// Publishes the node's metrics: sets every counter and gauge of [`METRICS`](crate::metrics::METRICS) to what it is now. For whoever shows them to call
    /// right before; from the first call on, what takes time is measured too. O(groups x shards + peers).
    #[cfg(feature = "metrics")]
    pub fn publish_metrics(&self) {
        self.inner.publish_metrics();
    }

    /// The ring as this node sees it.
    #[must_use]
    pub fn ring(&self) -> RingView {
        RingView::new(&self.inner.engine.ring(), |peer| self.inner.engine.is_up(peer))
    }

    /// The node at work: one look at all that [`stats`](Self::stats) and [`ring`](Self::ring) tell, at peers, loads in progress, the hottest keys and the
    /// last errors. For people and not for alarms. O(shards x loads in progress at the most, ever).
    #[must_use]
    pub fn live(&self) -> Live {
        let me = (self.addr(), self.status());
        self.inner.engine.live(me, self.ring(), self.stats(), self.group_stats())
    }
}

impl Inner {
    fn is_ready(&self) -> bool {
        self.state() == Status::Running && self.engine.has_joined()
    }

    #[cfg(feature = "metrics")]
    fn publish_metrics(&self) {
        let connections = self.peer_side.get().map_or(0, PeerServer::connections);
        self.engine.publish_metrics(&Standing { is_ready: self.is_ready(), connections });
    }

    /// Publishes until the node has stopped, and then once more.
    #[cfg(feature = "metrics")]
    async fn publish_every(self: Arc<Self>, interval: Duration) {
        loop {
            self.publish_metrics();
            if self.state() == Status::Stopped {
                return;
            }
            self.engine.rt.sleep(interval).await;
        }
    }

    fn state(&self) -> Status {
        Status::ALL[usize::from(self.state.load(Ordering::Acquire)).min(Status::ALL.len() - 1)]
    }
}
