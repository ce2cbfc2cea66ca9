//! Whole nodes on a virtual clock, a virtual network and a model origin, through the core's public API: what an embedder's loop does, for several
//! nodes at once.

mod network;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::time::Duration;

use groupcache_core::{
    BatchId, DialId, Effects, FailureKind, GroupConfig, GroupId, HashedKey, Instant, Level, Load,
    LoadRequest, Node, NodeConfig, PeerId, Refused, RequestId, Wake,
};

use self::network::Event;

/// The one group of a cluster.
pub const GROUP: GroupId = GroupId::new(0);
/// How long the origin takes.
pub const ORIGIN: Duration = Duration::from_millis(500);

const MS: Duration = Duration::from_millis(1);
/// How long a message takes at least.
const DELAY: Duration = MS;

/// What a waiter got: the value and where it came from.
pub type Got = Result<(Vec<u8>, Level), FailureKind>;

/// What the network and the origin do wrong. None of it by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Messages of 256 that are lost.
    pub lost: u8,
    /// Messages of 256 that come twice.
    pub doubled: u8,
    /// Whether messages of one stream may overtake each other.
    pub reordered: bool,
    /// Loads of 256 that the origin fails, and as many that it never answers.
    pub failed_loads: u8,
}

/// The fleet, its network and its origin.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Member>,
    now: Instant,
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    events: HashMap<u64, Event>,
    sequence: u64,
    random: u64,
    /// When the last message of a stream arrives, by sender, receiver and kind.
    streams: HashMap<(usize, usize, bool), Instant>,
    versions: BTreeMap<Vec<u8>, u32>,
    /// The version of keys that were not updated one by one.
    version: u32,
    disturbed: Instant,
    faults: Faults,
    /// What messages take longer than the network's least delay, at most.
    pub jitter: Duration,
    /// Origin loads, by key.
    pub loads: BTreeMap<Vec<u8>, u32>,
    /// Waiters that were served, with what they got.
    pub answers: Vec<(u64, Got)>,
    /// Removals that are over, with the number of members that did not acknowledge.
    pub removed: Vec<(u64, usize)>,
}

#[derive(Debug)]
struct Member {
    config: NodeConfig,
    node: Node<u64>,
    alive: bool,
    /// Counts restarts: what was sent to an earlier life does not arrive.
    life: u32,
    /// The node's numbers for its peers, and the last dial of each.
    peers: HashMap<PeerId, (String, DialId)>,
    served: HashMap<RequestId, Served>,
}

/// Whose request a node serves.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Served {
    from: usize,
    life: u32,
    batch: BatchId,
}

fn name(index: usize) -> String {
    format!("node-{index}:1")
}

fn index_of(name: &str) -> usize {
    let number = name.trim_start_matches("node-").trim_end_matches(":1");
    number.parse().expect("the name of a member")
}

/// A key with its table hash.
#[must_use]
pub fn hashed(key: &[u8]) -> HashedKey<'_> {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    HashedKey::new(GROUP, key, key.iter().fold(0xcbf2_9ce4_8422_2325, mix).rotate_left(29))
}

impl Cluster {
    /// A fleet of `count` nodes that know each other.
    #[must_use]
    pub fn new(count: usize, seed: u64, configure: impl Fn(&mut NodeConfig)) -> Self {
        let now = Instant::from_nanos(u64::MAX / 2);
        let members = (0..count).map(|index| {
            let mut config = NodeConfig::new(name(index));
            config.shard.budget = 1 << 20;
            configure(&mut config);
            let node = node(&config, seed.wrapping_add(index as u64), now);
            Member { config, node, alive: true, life: 0, peers: HashMap::new(), served: HashMap::new() }
        });
        let mut cluster = Self {
            members: members.collect(),
            now,
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            sequence: 0,
            random: seed | 1,
            streams: HashMap::new(),
            versions: BTreeMap::new(),
            version: 0,
            disturbed: now,
            faults: Faults::default(),
            jitter: Duration::ZERO,
            loads: BTreeMap::new(),
            answers: Vec::new(),
            removed: Vec::new(),
        };
        for index in 0..count {
            cluster.turn(index, |node, now, out| node.start(now, out));
        }
        cluster.run_for(100 * MS);
        assert!(cluster.is_calm(), "a fleet without faults comes up");
        cluster
    }

    /// The time.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// How many nodes there are, dead ones included.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.members.len()
    }

    /// Never: there is no fleet without nodes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// A node.
    #[must_use]
    pub fn node(&self, index: usize) -> &Node<u64> {
        &self.members[index].node
    }

    /// Whether a node runs.
    #[must_use]
    pub fn is_alive(&self, index: usize) -> bool {
        self.members[index].alive
    }

    /// Runs the fleet for `time`: to the earliest event or wake, again and again.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now.saturating_add(time);
        loop {
            let event = self.queue.peek().map(|Reverse((at, _))| *at);
            let alive = self.members.iter().filter(|member| member.alive);
            let wake = match alive.map(|member| member.node.next_wake()).fold(Wake::Idle, Wake::earlier) {
                Wake::Now => Some(self.now),
                Wake::At(at) => Some(at),
                Wake::Idle => None,
            };
            let next = [event, wake].into_iter().flatten().min().filter(|&at| at <= end);
            let Some(next) = next else { break };
            self.now = next.max(self.now);
            if event.is_some_and(|at| at <= self.now) {
                self.deliver_next();
            } else {
                self.wake_up();
            }
            self.note_disturbance();
        }
        self.now = end;
    }

    fn wake_up(&mut self) {
        for index in 0..self.members.len() {
            if self.members[index].alive && self.members[index].node.next_wake().is_due(self.now) {
                let wake = self.turn(index, |node, now, out| node.handle_timeout(now, out));
                assert!(wake == Wake::Now || !wake.is_due(self.now), "node {index} wakes for nothing");
            }
        }
    }

    /// One turn of a node's loop: a call, then everything that it asked for.
    pub fn turn<T>(
        &mut self,
        index: usize,
        call: impl FnOnce(&mut Node<u64>, Instant, &mut Effects<u64>) -> T,
    ) -> T {
        let mut out = Effects::new();
        let result = call(&mut self.members[index].node, self.now, &mut out);
        self.carry_out(index, &mut out);
        result
    }

    fn carry_out(&mut self, index: usize, out: &mut Effects<u64>) {
        self.members[index].node.check_invariants().expect("all counts of a node agree");
        for completion in out.drain_completions() {
            let got = completion.result.map(|fetched| (fetched.value.to_vec(), fetched.level));
            self.answers.push((completion.waiter, got.map_err(|failure| failure.kind)));
        }
        for removed in out.drain_removals() {
            self.removed.push((removed.waiter, removed.unacknowledged.len()));
        }
        for intent in out.drain_intents().collect::<Vec<_>>() {
            self.execute(index, intent);
        }
        assert!(out.is_empty());
    }

    /// Asks node `at` for a key. What the waiter gets is among [`answers`](Self::answers), now or in time.
    pub fn get(&mut self, at: usize, key: &str, waiter: u64) {
        self.get_within(at, key, waiter, 10_000 * MS);
    }

    /// As [`get`](Self::get), for a waiter that waits no longer than `time`.
    pub fn get_within(&mut self, at: usize, key: &str, waiter: u64, time: Duration) {
        let key = hashed(key.as_bytes());
        let found = self.members[at].node.get(self.now, &key);
        let deadline = self.now.saturating_add(time);
        let load = || LoadRequest::new(key, waiter, deadline);
        let answer = found.or_else(|| match self.turn(at, |node, now, out| node.load(now, load(), out)) {
            Ok(Load::Wait(_)) => None,
            Ok(Load::Ready { answer, .. }) => Some(answer),
            Err(Refused { error, .. }) => Some(Err(error.into())),
        });
        if let Some(answer) = answer {
            let got = answer.map(|fetched| (fetched.value.to_vec(), fetched.level));
            self.answers.push((waiter, got.map_err(|failure| failure.kind)));
        }
    }

    /// Removes a key from the fleet, as node `at`. Answers whether the removal was taken on; its end is among [`removed`](Self::removed).
    pub fn remove(&mut self, at: usize, key: &str, waiter: u64) -> bool {
        self.turn(at, |node, now, out| node.remove(now, &hashed(key.as_bytes()), waiter, out)).is_ok()
    }

    /// Removes all keys from the fleet, as [`remove`](Self::remove).
    pub fn flush(&mut self, at: usize, waiter: u64) -> bool {
        self.turn(at, |node, now, out| node.flush(now, GROUP, waiter, out)).is_ok()
    }

    /// Gives a key its next version at the origin, and answers it.
    pub fn update(&mut self, key: &str) -> u32 {
        let next = self.version_of(key) + 1;
        self.versions.insert(key.as_bytes().to_vec(), next);
        next
    }

    /// The version of a key at the origin; what is loaded from now on ends in `#` and this.
    #[must_use]
    pub fn version_of(&self, key: &str) -> u32 {
        self.versions.get(key.as_bytes()).copied().unwrap_or(self.version)
    }

    /// A node is gone, and everybody's connection to it breaks. What it knew and who waited there is lost.
    pub fn crash(&mut self, index: usize) {
        self.freeze(index);
        for other in (0..self.members.len()).filter(|&other| other != index) {
            let Some(peer) = self.peer_id(other, &name(index)) else { continue };
            if let Some(&(_, dial)) = self.members[other].peers.get(&peer) {
                self.send_now(other, Event::Connected(peer, dial, false));
            }
        }
    }

    /// A node stops: it takes nothing in, and nobody is told.
    pub fn freeze(&mut self, index: usize) {
        self.members[index].alive = false;
        self.note_disturbance();
    }

    /// A crashed node comes back, with nothing in it.
    pub fn restart(&mut self, index: usize) {
        let (now, seed) = (self.now, self.draw());
        let member = &mut self.members[index];
        member.node = node(&member.config, seed, now);
        (member.alive, member.life) = (true, member.life + 1);
        member.peers.clear();
        member.served.clear();
        self.turn(index, |node, now, out| node.start(now, out));
        self.note_disturbance();
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
        self.note_disturbance();
    }

    /// Whether nothing goes wrong, and everybody is connected with everybody.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        let connected = |member: &Member| {
            let links = || member.node.links();
            member.alive
                && links().count() + 1 == self.members.len()
                && links().all(|link| link.is_connected())
        };
        self.faults == Faults::default() && self.members.iter().all(connected)
    }

    /// When [`is_calm`](Self::is_calm) was last not so.
    #[must_use]
    pub const fn disturbed(&self) -> Instant {
        self.disturbed
    }

    fn note_disturbance(&mut self) {
        if !self.is_calm() {
            self.disturbed = self.now;
        }
    }

    /// Who owns a key, by the ring of node 0.
    #[must_use]
    pub fn owner_of(&self, key: &str) -> usize {
        index_of(self.members[0].node.ring().owner(key.as_bytes()).expect("a ring with members").name())
    }

    /// A key that starts with `prefix` and belongs to `owner`.
    #[must_use]
    pub fn key_owned_by(&self, owner: usize, prefix: &str) -> String {
        let mut keys = (0..).map(|n| format!("{prefix}-{n}"));
        keys.find(|key| self.owner_of(key) == owner).expect("every member owns keys")
    }

    /// Takes the answers, by waiter.
    pub fn take_answers(&mut self) -> Vec<(u64, Got)> {
        let mut answers = std::mem::take(&mut self.answers);
        answers.sort();
        answers
    }

    fn peer_id(&self, of: usize, name: &str) -> Option<PeerId> {
        self.members[of].node.ring().by_name(name).map(groupcache_core::Member::id)
    }

    /// The next number of a splitmix64.
    const fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    const fn happens(&mut self, of_256: u8) -> bool {
        (self.draw() % 256) < of_256 as u64
    }
}

fn node(config: &NodeConfig, seed: u64, now: Instant) -> Node<u64> {
    let mut node = Node::new(config.clone(), seed, now).expect("a configuration in range");
    node.add_group(GROUP, &GroupConfig::default()).expect("the defaults are in range");
    node
}
