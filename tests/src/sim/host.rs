//! One node of the world with what a process has around it: its clock, its connections, the requests it serves, its registry client, its life.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use groupcache_core::{
    BatchId, FlightId, Instant, Node, NodeConfig, OpId, PeerId, RegistryIntent, RequestId, RingEpoch,
};

use super::clock::{Clock, Time};
use super::event::{ConnId, Event};
use super::origin::{Keys, ReadId};
use super::plan::Plan;

/// Whether a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Running,
    /// It stands still: what arrives gathers.
    Paused,
    /// There is none. Where its machine is gone as well, nobody is told so who sends to it.
    Down {
        silent: bool,
    },
}

/// A node's process.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: Arc<str>,
    pub(super) config: NodeConfig,
    /// Counts processes: from 1.
    pub(super) life: u32,
    pub(super) state: State,
    pub(super) node: Node<u64>,
    pub(super) clock: Clock,
    /// What arrived while the process stood still.
    pub(super) backlog: VecDeque<Event>,
    /// When the node wants to be woken.
    pub(super) due: Option<Time>,
    /// Wakes in a row that changed nothing.
    pub(super) idle_wakes: u32,
    /// The connection to each peer that is in use.
    pub(super) connections: BTreeMap<PeerId, ConnId>,
    /// Every connection that this process has dialled and not given up.
    pub(super) dialled: Vec<ConnId>,
    /// Every connection that this process has accepted and that is not over.
    pub(super) accepted: Vec<ConnId>,
    pub(super) served: BTreeMap<RequestId, Served>,
    pub(super) loads: Loads,
    pub(super) registry: Driver,
    /// Until when a copy of what a load read may be given out here, by this node's clock.
    pub(super) kept: BTreeMap<ReadId, Kept>,
    /// Keys that callers of this node have asked for: nothing else may be fetched.
    pub(super) asked: BTreeSet<u16>,
    pub(super) ring_epoch: RingEpoch,
    /// When the lease ends that the node may believe in, by its own clock.
    pub(super) lease_ends: Instant,
    pub(super) is_stopping: bool,
}

/// Whose request a node serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Served {
    pub(super) conn: ConnId,
    pub(super) batch: BatchId,
    pub(super) single: bool,
}

/// The ends of a copy's life: as the owner's, and as a hot one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    pub(super) main: Instant,
    pub(super) hot: Instant,
}

/// Origin loads of a node that run.
#[derive(Debug, Default)]
pub(super) struct Loads {
    by_flight: BTreeMap<FlightId, Running>,
    by_key: BTreeMap<u16, Vec<FlightId>>,
    /// When a key and a group were last removed here: what waits for a peer since before is fenced, and loads beside others when no peer answers.
    fenced_keys: BTreeMap<u16, Instant>,
    fenced_groups: BTreeMap<u32, Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    key: u16,
    /// A removal may have come since it began: then the node may begin another.
    is_fenced: bool,
}

impl Loads {
    /// Begins a load. Answers whether it is the only one of its key, but for such as a removal has fenced.
    pub(super) fn begin(&mut self, flight: FlightId, key: u16, may_be_fenced: bool) -> bool {
        let of_key = self.by_key.entry(key).or_default();
        let alone = of_key.iter().all(|other| self.by_flight.get(other).is_none_or(|load| load.is_fenced));
        of_key.push(flight);
        self.by_flight.insert(flight, Running { key, is_fenced: may_be_fenced });
        alone || may_be_fenced
    }

    /// Ends a load; answers whether it ran.
    pub(super) fn end(&mut self, flight: FlightId) -> bool {
        let Some(load) = self.by_flight.remove(&flight) else { return false };
        if let Some(of_key) = self.by_key.get_mut(&load.key) {
            of_key.retain(|&other| other != flight);
            if of_key.is_empty() {
                self.by_key.remove(&load.key);
            }
        }
        true
    }

    /// When a load of the key that began before may have been fenced, last.
    pub(super) fn fenced_at(&self, key: u16) -> Option<Instant> {
        let group = Keys::group(key).index();
        self.fenced_keys.get(&key).copied().max(self.fenced_groups.get(&group).copied())
    }

    /// Time has passed in which the node could end nothing: what was fenced lately may still be there.
    pub(super) fn hold_fences(&mut self, now: Instant) {
        self.fenced_keys.values_mut().chain(self.fenced_groups.values_mut()).for_each(|at| *at = now);
    }

    pub(super) fn fence(&mut self, now: Instant, key: u16) {
        self.fenced_keys.insert(key, now);
        for flight in self.by_key.get(&key).into_iter().flatten() {
            if let Some(load) = self.by_flight.get_mut(flight) {
                load.is_fenced = true;
            }
        }
    }

    pub(super) fn fence_group(&mut self, now: Instant, group: u32) {
        self.fenced_groups.insert(group, now);
        for load in self.by_flight.values_mut().filter(|load| Keys::group(load.key).index() == group) {
            load.is_fenced = true;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_flight.len()
    }
}

/// The registry client: what is asked for one after the other in two lanes, and one watch.
#[derive(Debug, Default)]
pub(super) struct Driver {
    pub(super) lease: Lane,
    pub(super) list: Lane,
    pub(super) watch: Option<Watch>,
    pub(super) next_call: u64,
    /// When operations were asked for, by the node's clock.
    pub(super) sent: BTreeMap<OpId, Instant>,
    /// When what etcd said last arrives.
    pub(super) last_told: Time,
}

/// Calls that run one after the other.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) waiting: VecDeque<(RegistryIntent, Instant)>,
    pub(super) running: Option<(u64, OpId)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Watch {
    pub(super) op: OpId,
    pub(super) is_open: bool,
}

impl Host {
    pub(super) fn new(index: usize, plan: &Plan) -> Self {
        let mut config = plan.node.clone();
        let name: Arc<str> = Arc::from(format!("node-{index}:1"));
        config.membership.me = Arc::clone(&name);
        config.membership.weight = plan.node_weights[index];
        let (start, drift) = plan.clocks[index];
        let mut clock = Clock::new(start, 0, drift);
        let node = node(&config, plan, plan.seed ^ index as u64, clock.read(0));
        Self {
            name,
            life: 1,
            state: State::Running,
            ring_epoch: node.ring().epoch(),
            node,
            config,
            clock,
            backlog: VecDeque::new(),
            due: None,
            idle_wakes: 0,
            connections: BTreeMap::new(),
            dialled: Vec::new(),
            accepted: Vec::new(),
            served: BTreeMap::new(),
            loads: Loads::default(),
            registry: Driver::default(),
            kept: BTreeMap::new(),
            asked: BTreeSet::new(),
            lease_ends: Instant::ZERO,
            is_stopping: false,
        }
    }

    /// A new process in the place of the one before: nothing is left but the clock.
    pub(super) fn restart(&mut self, plan: &Plan, seed: u64, now: Time) {
        // A process counts its time from its own start on.
        self.clock = Clock::new(self.clock.latest().as_nanos() / 2, now, self.clock.drift());
        self.life += 1;
        self.state = State::Running;
        self.node = node(&self.config, plan, seed, self.clock.read(now));
        self.ring_epoch = self.node.ring().epoch();
        self.due = None;
        self.forget();
    }

    /// The process is gone, and what it knew.
    pub(super) fn forget(&mut self) {
        self.backlog.clear();
        self.idle_wakes = 0;
        self.connections.clear();
        self.dialled.clear();
        self.accepted.clear();
        self.served.clear();
        self.loads = Loads::default();
        self.registry = Driver::default();
        self.kept.clear();
        self.asked.clear();
        self.lease_ends = Instant::ZERO;
        self.is_stopping = false;
    }

    pub(super) const fn is_up(&self) -> bool {
        !matches!(self.state, State::Down { .. })
    }

    pub(super) const fn is_running(&self) -> bool {
        matches!(self.state, State::Running)
    }
}

fn node(config: &NodeConfig, plan: &Plan, seed: u64, now: Instant) -> Node<u64> {
    let mut node = Node::new(config.clone(), seed, now).expect("a plan draws configurations in range");
    for (index, group) in (0..).zip(&plan.groups) {
        node.add_group(groupcache_core::GroupId::new(index), group).expect("a plan draws groups in range");
    }
    node
}
