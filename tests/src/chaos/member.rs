//! The processes of a run: nodes of both adapters behind proxies, and their etcd.

use std::fmt;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::load::{GROUP, LOAD_TIMEOUT, World};
use super::{Plan, wait_for};
use crate::http::{self, path};
use crate::program::async_std_node;
use crate::proxy::Proxy;
use crate::{Etcd, Process, Signal, ensure, groupcache, grpc, reserve, resident};

const START: Duration = Duration::from_secs(30);
/// What a client gives a request: well above what a node gives it. Whoever is still without an answer then has met a hang.
const PATIENCE: Duration = Duration::from_secs(15);

/// Which program a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `groupcache serve`, on tokio: asked over HTTP.
    Tokio,
    /// The example node on async-std, which has only its peer side: asked over gRPC.
    AsyncStd,
}

/// Whether a node was in order at two moments, and all the time between: what a client may hold against it.
#[derive(Debug, Default)]
pub(super) struct Health {
    disturbed: AtomicBool,
    disturbances: AtomicU64,
}

impl Health {
    /// A number while the node is in order: the same number later says that it was in order throughout.
    pub(super) fn mark(&self) -> Option<u64> {
        (!self.disturbed.load(Ordering::SeqCst)).then(|| self.disturbances.load(Ordering::SeqCst))
    }

    fn disturb(&self) {
        self.disturbances.fetch_add(1, Ordering::SeqCst);
        self.disturbed.store(true, Ordering::SeqCst);
    }

    fn calm(&self) {
        self.disturbances.fetch_add(1, Ordering::SeqCst);
        self.disturbed.store(false, Ordering::SeqCst);
    }
}

/// One node.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) kind: Kind,
    /// In front of its peer side; its address is the node's name.
    pub(super) peers: Proxy,
    /// Between it and etcd.
    pub(super) registry: Proxy,
    pub(super) health: Arc<Health>,
    listen: String,
    http: Option<SocketAddr>,
    args: Vec<String>,
    process: Option<Process>,
}

impl Member {
    fn new(kind: Kind, plan: &Plan, world: &World, etcd: &str) -> Self {
        let listen = format!("127.0.0.1:{}", reserve());
        let http = (kind == Kind::Tokio).then(|| SocketAddr::from(([127, 0, 0, 1], reserve())));
        let (peers, registry) = (Proxy::start(&listen), Proxy::start(etcd));
        let mut args = vec![
            "--addr".to_owned(),
            peers.addr().to_owned(),
            "--listen".to_owned(),
            listen.clone(),
            "--etcd".to_owned(),
            format!("http://{}", registry.addr()),
            "--group".to_owned(),
            format!("{GROUP}={}", world.origin.url()),
            "--budget".to_owned(),
            plan.budget.to_string(),
            "--max-value".to_owned(),
            "64KiB".to_owned(),
            "--load-timeout".to_owned(),
            format!("{}s", LOAD_TIMEOUT.as_secs()),
        ];
        if let Some(http) = http {
            args.insert(0, "serve".to_owned());
            args.extend(["--http".to_owned(), http.to_string(), "--drain".to_owned(), "2s".to_owned()]);
        }
        let mut member =
            Self { kind, peers, registry, health: Arc::default(), listen, http, args, process: None };
        member.launch();
        member
    }

    /// Its name on the ring.
    pub(super) fn name(&self) -> &str {
        self.peers.addr()
    }

    /// Starts its process.
    pub(super) fn launch(&mut self) {
        let program = match self.kind {
            Kind::Tokio => groupcache(),
            Kind::AsyncStd => async_std_node(),
        };
        let mut process =
            Process::spawn(format!("node {}", self.name()), Command::new(program).args(&self.args));
        process.wait_line(START, |line| line.starts_with("groupcache: serving").then_some(()));
        self.process = Some(process);
        self.health.calm();
    }

    /// kill -9.
    pub(super) fn kill(&mut self) {
        self.health.disturb();
        self.process = None;
    }

    /// SIGTERM, and its orderly end.
    pub(super) fn terminate(&mut self) {
        self.health.disturb();
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::Terminate);
            process.wait_exit(START);
        }
    }

    /// SIGSTOP.
    pub(super) fn freeze(&mut self) {
        self.health.disturb();
        if let Some(process) = &mut self.process {
            process.signal(Signal::Stop);
        }
    }

    /// SIGCONT.
    pub(super) fn thaw(&mut self) {
        if let Some(process) = &mut self.process {
            process.signal(Signal::Continue);
        }
        self.health.calm();
    }

    /// A client for it.
    pub(super) fn client(&self) -> Client {
        match self.http {
            Some(http) => Client::Http(http::Client::new(http).with_timeout(PATIENCE)),
            // Not through the proxy, which the faults are for.
            None => Client::Grpc(grpc::Client::new(&self.listen, PATIENCE)),
        }
    }

    /// The members that it is connected to, itself included, sorted: for a node that says so.
    pub(super) fn sees(&self) -> Option<Vec<String>> {
        let ring = http::request(self.http?, "GET", "/-/ring").ok().map(|answer| answer.json());
        let members = ring.as_ref().and_then(|ring| ring["members"].as_array());
        let up = members.into_iter().flatten().filter(|member| member["up"] == true);
        let mut names: Vec<String> =
            up.filter_map(|member| member["name"].as_str().map(str::to_owned)).collect();
        names.sort_unstable();
        Some(names)
    }

    /// Bytes of memory that its process has resident.
    fn resident(&self) -> Option<u64> {
        resident(self.process.as_ref()?.pid()).ok()
    }
}

/// All nodes, and their etcd.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) etcd: Etcd,
    members: Vec<Member>,
}

impl Fleet {
    pub(super) fn start(plan: &Plan, world: &World) -> Self {
        let etcd = Etcd::start();
        let url = etcd.url();
        let at = url.trim_start_matches("http://");
        let kind = |index: usize| if index.is_multiple_of(2) { Kind::Tokio } else { Kind::AsyncStd };
        let members = (0..plan.nodes).map(|index| Member::new(kind(index), plan, world, at)).collect();
        Self { etcd, members }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn member(&mut self, index: usize) -> &mut Member {
        &mut self.members[index]
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.iter()
    }

    pub(super) fn members_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.members.iter_mut()
    }

    /// Everybody's name, sorted.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.members.iter().map(|member| member.name().to_owned()).collect();
        names.sort_unstable();
        names
    }

    /// What every node has resident, in bytes.
    pub(super) fn memory(&self) -> Vec<u64> {
        wait_for("every node's memory is known", || {
            let resident: Vec<u64> = self.members.iter().filter_map(Member::resident).collect();
            ensure(resident.len() == self.members.len(), || "a node is not running".to_owned())?;
            Ok(resident)
        })
    }
}

/// Asks one node.
#[derive(Debug)]
pub(super) enum Client {
    Http(http::Client),
    Grpc(grpc::Client),
}

/// Why a node gave no value.
#[derive(Debug)]
pub(super) enum NoValue {
    /// It said nothing for [`PATIENCE`].
    Hung,
    /// It could not be reached, or the connection broke.
    Broken,
    /// Its own words.
    Refused(String),
}

impl fmt::Display for NoValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hung => write!(f, "no answer in {PATIENCE:?}"),
            Self::Broken => f.write_str("the connection broke"),
            Self::Refused(words) => f.write_str(words),
        }
    }
}

impl Client {
    pub(super) fn get(&mut self, key: &str) -> Result<Vec<u8>, NoValue> {
        match self {
            Self::Http(client) => match client.request("GET", &path(GROUP, key)) {
                Ok(answer) if answer.status == 200 => Ok(answer.body),
                Ok(answer) => Err(NoValue::Refused(format!("{} {}", answer.status, answer.text()))),
                Err(error) if error.kind() == std::io::ErrorKind::TimedOut => Err(NoValue::Hung),
                Err(_) => Err(NoValue::Broken),
            },
            Self::Grpc(client) => client.get(GROUP, key).map_err(|error| match error {
                grpc::GetError::Hung => NoValue::Hung,
                grpc::GetError::Broken(_) => NoValue::Broken,
                grpc::GetError::Status(status) => NoValue::Refused(status),
            }),
        }
    }

    /// Removes a key from the fleet: whether everybody has acknowledged. `None` from a node that cannot be asked this.
    pub(super) fn remove(&mut self, key: &str) -> Option<bool> {
        let Self::Http(client) = self else { return None };
        let answer = client.request("DELETE", &path(GROUP, key)).ok()?;
        if answer.status != 200 {
            return Some(false);
        }
        Some(answer.json()["unacknowledged"].as_array().is_some_and(Vec::is_empty))
    }
}
