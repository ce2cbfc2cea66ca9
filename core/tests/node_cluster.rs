//! Whole nodes on a virtual clock and a virtual network, through the public API only: what an embedder's loop does, for several nodes at once.

#![allow(clippy::unwrap_used, clippy::type_complexity)] // What is absent in a harness is a failed test.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::time::Duration;

use groupcache_core::{
    Attempt, BatchEnd, BatchId, Completion, Effects, Failure, FailureKind, FlightId, GroupConfig, GroupId,
    HashedKey, Instant, Intent, Invalidation, Key, LeaseId, Level, Load, LoadRequest, MemberRecord, Node,
    NodeConfig, OpId, Outcome, PeerId, Protocol, RegistryIntent, RegistryOutcome, RemovalId, RequestId,
    RequestKey, Revision, Value, Wake,
};

const G: GroupId = GroupId::new(0);
const MS: Duration = Duration::from_millis(1);
const DELAY: Duration = MS;
const ORIGIN: Duration = Duration::from_millis(500);

fn hashed(key: &[u8]) -> HashedKey<'_> {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    HashedKey::new(G, key, key.iter().fold(0xcbf2_9ce4_8422_2325, mix).rotate_left(29))
}

/// Something on its way to a node.
#[derive(Debug)]
enum Event {
    Loaded(FlightId, Attempt, Vec<u8>),
    Connected(PeerId, bool),
    Registry(OpId, RegistryOutcome),
    /// A request of node `from`, for its batch.
    Request {
        from: usize,
        batch: BatchId,
        keys: Vec<Vec<u8>>,
        deadline: Instant,
    },
    Replies {
        peer: String,
        batch: BatchId,
        replies: Vec<(u32, Outcome)>,
        last: bool,
    },
    Forget {
        from: usize,
        removal: RemovalId,
        what: Vec<u8>,
    },
    Forgotten {
        peer: String,
        removal: RemovalId,
    },
}

struct Member {
    node: Node<u64>,
    alive: bool,
    /// The node's numbers for its peers.
    peers: HashMap<PeerId, String>,
    served: HashMap<RequestId, (usize, BatchId)>,
}

/// The fleet, its network and its origin.
struct World {
    members: Vec<Member>,
    now: Instant,
    queue: BinaryHeap<Reverse<(Instant, u64, usize)>>,
    events: HashMap<u64, Event>,
    sequence: u64,
    loads: BTreeMap<Vec<u8>, u32>,
    version: u32,
    answers: Vec<(u64, Result<(Vec<u8>, Level), FailureKind>)>,
    removed: Vec<(u64, usize)>,
}

fn name(index: usize) -> String {
    format!("node-{index}:1")
}

fn index_of(name: &str) -> usize {
    name.trim_start_matches("node-").trim_end_matches(":1").parse().unwrap()
}

impl World {
    fn new(count: usize) -> Self {
        let now = Instant::from_nanos(u64::MAX / 2);
        let members = (0..count).map(|index| {
            let mut config = NodeConfig::new(name(index));
            config.shard.budget = 1 << 20;
            let mut node = Node::new(config, index as u64, now).unwrap();
            node.add_group(G, &GroupConfig::default()).unwrap();
            Member { node, alive: true, peers: HashMap::new(), served: HashMap::new() }
        });
        let mut world = Self {
            members: members.collect(),
            now,
            queue: BinaryHeap::new(),
            events: HashMap::new(),
            sequence: 0,
            loads: BTreeMap::new(),
            version: 0,
            answers: Vec::new(),
            removed: Vec::new(),
        };
        for index in 0..count {
            world.turn(index, |node, now, out| node.start(now, out));
        }
        world.run_for(100 * MS);
        for member in &world.members {
            assert_eq!(member.node.ring().len(), count);
        }
        world
    }

    fn send(&mut self, delay: Duration, to: usize, event: Event) {
        self.sequence += 1;
        self.events.insert(self.sequence, event);
        self.queue.push(Reverse((self.now.saturating_add(delay), self.sequence, to)));
    }

    /// One turn of a node's loop: a call, then everything that it asked for.
    fn turn<T>(
        &mut self,
        index: usize,
        call: impl FnOnce(&mut Node<u64>, Instant, &mut Effects<u64>) -> T,
    ) -> T {
        let mut out = Effects::new();
        let result = call(&mut self.members[index].node, self.now, &mut out);
        self.members[index].node.check_invariants_for_tests();
        for Completion { waiter, result, .. } in out.drain_completions() {
            let result = result.map(|fetched| (fetched.value.to_vec(), fetched.level));
            self.answers.push((waiter, result.map_err(|failure| failure.kind)));
        }
        for removed in out.drain_removals() {
            self.removed.push((removed.waiter, removed.unacknowledged.len()));
        }
        for intent in out.drain_intents().collect::<Vec<_>>() {
            self.execute(index, intent);
        }
        assert!(out.is_empty());
        result
    }

    fn execute(&mut self, me: usize, intent: Intent) {
        match intent {
            Intent::Load { flight, attempt, key, .. } => {
                *self.loads.entry(key.as_bytes().to_vec()).or_default() += 1;
                let value = [key.as_bytes(), format!("#{}", self.version).as_bytes()].concat();
                self.send(ORIGIN, me, Event::Loaded(flight, attempt, value));
            }
            Intent::Fetch(batch) => {
                let to = index_of(&self.members[me].peers[&batch.peer]);
                let keys = batch.items.iter().map(|item| item.key.as_bytes().to_vec()).collect();
                self.send(
                    DELAY,
                    to,
                    Event::Request { from: me, batch: batch.batch, keys, deadline: batch.deadline },
                );
            }
            Intent::Reply { request, results, last } => self.reply(me, request, results, last),
            Intent::Connect { peer, name } => {
                let alive = self.members[index_of(&name)].alive;
                self.members[me].peers.insert(peer, name.to_string());
                self.send(DELAY, me, Event::Connected(peer, alive));
            }
            Intent::Invalidate { removal, peer, what, .. } => {
                let Invalidation::Key(key) = what else { panic!("no group is flushed here") };
                let to = index_of(&self.members[me].peers[&peer]);
                self.send(DELAY, to, Event::Forget { from: me, removal, what: key.as_bytes().to_vec() });
            }
            Intent::Registry(intent) => self.registry(me, &intent),
            Intent::AbortLoad { .. } | Intent::AbortFetch { .. } | Intent::Forget { .. } => {}
        }
    }

    fn reply(
        &mut self,
        me: usize,
        request: RequestId,
        results: Vec<(u32, Result<groupcache_core::Fetched, Failure>)>,
        last: bool,
    ) {
        let (to, batch) = self.members[me].served[&request];
        let outcome = |result: Result<groupcache_core::Fetched, Failure>| match result {
            Ok(fetched) => Outcome::Value { value: fetched.value, ttl: None },
            Err(failure) => Outcome::Failed(failure),
        };
        let replies = results.into_iter().map(|(index, result)| (index, outcome(result))).collect();
        self.send(DELAY, to, Event::Replies { peer: name(me), batch, replies, last });
    }

    fn registry(&mut self, me: usize, intent: &RegistryIntent) {
        let ttl = Duration::from_secs(3600);
        let (op, outcome) = match *intent {
            RegistryIntent::Register { op, .. } => {
                (op, RegistryOutcome::Registered { lease: LeaseId::new(1), ttl })
            }
            RegistryIntent::KeepAlive { op, .. } => (op, RegistryOutcome::KeptAlive { ttl }),
            RegistryIntent::Deregister { op, .. } => (op, RegistryOutcome::Deregistered),
            RegistryIntent::List { op } => {
                let records =
                    (0..self.members.len()).map(|index| MemberRecord::new(name(index), 1)).collect();
                (op, RegistryOutcome::Listed { records, revision: Revision::new(1) })
            }
            RegistryIntent::Watch { .. } => return,
        };
        self.send(DELAY, me, Event::Registry(op, outcome));
    }

    fn deliver(&mut self, to: usize, event: Event) {
        if !self.members[to].alive {
            return;
        }
        match event {
            Event::Loaded(flight, attempt, value) => {
                let outcome = Outcome::Value { value: Value::from(value), ttl: None };
                self.turn(to, |node, now, out| node.handle_loaded(now, flight, attempt, outcome, out));
            }
            Event::Connected(peer, true) => {
                self.turn(to, |node, now, out| node.handle_connected(now, peer, Protocol::Batched, out));
            }
            Event::Connected(peer, false) => {
                self.turn(to, |node, now, out| node.handle_disconnected(now, peer, None, out));
            }
            Event::Registry(op, outcome) => {
                self.turn(to, |node, now, out| node.handle_registry(now, op, outcome, out));
            }
            Event::Request { from, batch, keys, deadline } => {
                let keys: Vec<_> =
                    keys.iter().map(|key| RequestKey::new(Some(hashed(key)), deadline)).collect();
                let mut out = Effects::new();
                let member = &mut self.members[to];
                let request = member.node.handle_request(self.now, &keys, &mut out).unwrap();
                member.served.insert(request, (from, batch));
                for intent in out.drain_intents().collect::<Vec<_>>() {
                    self.execute(to, intent);
                }
            }
            Event::Replies { peer, batch, replies, last } => {
                let peer = self.peer_id(to, &peer);
                self.turn(to, |node, now, out| node.handle_replies(now, (peer, batch), replies, out));
                if last {
                    let end = BatchEnd::Complete;
                    self.turn(to, |node, now, out| node.handle_batch_closed(now, (peer, batch), end, out));
                }
            }
            Event::Forget { from, removal, what } => {
                let what = Invalidation::Key(Key::from(&hashed(&what)));
                self.turn(to, |node, now, out| node.handle_invalidation(now, &what, out));
                self.send(DELAY, from, Event::Forgotten { peer: name(to), removal });
            }
            Event::Forgotten { peer, removal } => {
                let peer = self.peer_id(to, &peer);
                self.turn(to, |node, now, out| node.handle_invalidated(now, removal, peer, true, out));
            }
        }
    }

    fn peer_id(&self, of: usize, name: &str) -> PeerId {
        self.members[of].node.ring().by_name(name).unwrap().id()
    }

    /// Runs the fleet for `time`: to the earliest event or wake, again and again.
    fn run_for(&mut self, time: Duration) {
        let end = self.now.saturating_add(time);
        loop {
            let event = self.queue.peek().map(|Reverse((at, ..))| *at);
            let wakes =
                self.members.iter().filter(|member| member.alive).map(|member| member.node.next_wake());
            let wake = match wakes.fold(Wake::Idle, Wake::earlier) {
                Wake::Now => Some(self.now),
                Wake::At(at) => Some(at),
                Wake::Idle => None,
            };
            let next = [event, wake].into_iter().flatten().min().filter(|&at| at <= end);
            let Some(next) = next else { break };
            self.now = next.max(self.now);
            if event.is_some_and(|at| at <= self.now) {
                let Reverse((_, sequence, to)) = self.queue.pop().unwrap();
                let event = self.events.remove(&sequence).unwrap();
                self.deliver(to, event);
                continue;
            }
            for index in 0..self.members.len() {
                if self.members[index].alive && self.members[index].node.next_wake().is_due(self.now) {
                    let _later = self.turn(index, |node, now, out| node.handle_timeout(now, out));
                }
            }
        }
        self.now = end;
    }

    fn get(&mut self, at: usize, key: &str, waiter: u64) {
        let (now, found) = (self.now, self.members[at].node.get(self.now, &hashed(key.as_bytes())));
        if let Some(answer) = found {
            let answer = answer.map(|fetched| (fetched.value.to_vec(), fetched.level));
            self.answers.push((waiter, answer.map_err(|failure| failure.kind)));
            return;
        }
        let request = LoadRequest::new(hashed(key.as_bytes()), waiter, now.saturating_add(10_000 * MS));
        let load = self.turn(at, |node, now, out| node.load(now, request, out));
        assert!(matches!(load, Ok(Load::Wait(_))));
    }

    fn crash(&mut self, index: usize) {
        self.members[index].alive = false;
        for other in (0..self.members.len()).filter(|&other| other != index) {
            let peer = self.peer_id(other, &name(index));
            self.send(Duration::ZERO, other, Event::Connected(peer, false));
        }
    }

    fn owner_of(&self, key: &str) -> usize {
        index_of(self.members[0].node.ring().owner(key.as_bytes()).unwrap().name())
    }

    fn key_owned_by(&self, owner: usize) -> String {
        (0..).map(|n| format!("key-{n}")).find(|key| self.owner_of(key) == owner).unwrap()
    }

    fn take_answers(&mut self) -> Vec<(u64, Result<(Vec<u8>, Level), FailureKind>)> {
        let mut answers = std::mem::take(&mut self.answers);
        answers.sort();
        answers
    }
}

/// What of a node can be recounted through the public API.
trait CheckInvariants {
    fn check_invariants_for_tests(&self);
}

impl CheckInvariants for Node<u64> {
    fn check_invariants_for_tests(&self) {
        let usage = self.usage();
        assert!(usage.bytes <= usage.budget);
    }
}

#[test]
fn three_hundred_callers_on_three_nodes_cause_one_load() {
    let mut world = World::new(3);
    for waiter in 0..300 {
        world.get((waiter % 3) as usize, "cold", waiter);
    }
    world.run_for(1_000 * MS);
    let answers = world.take_answers();
    assert_eq!(answers.len(), 300);
    assert!(answers.iter().all(|(_, answer)| matches!(answer, Ok((value, _)) if value == b"cold#0")));
    assert_eq!(world.loads.values().sum::<u32>(), 1);
}

#[test]
fn every_key_asked_everywhere_is_loaded_once_by_its_owner() {
    let mut world = World::new(3);
    for n in 0..200 {
        for at in 0..3 {
            world.get(at, &format!("k{n}"), n * 3 + at as u64);
        }
    }
    world.run_for(2_000 * MS);
    assert_eq!(world.take_answers().len(), 600);
    assert_eq!(world.loads.len(), 200);
    assert!(world.loads.values().all(|&loads| loads == 1));
}

#[test]
fn where_a_value_comes_from_is_told() {
    let mut world = World::new(3);
    let key = world.key_owned_by(1);
    for (waiter, (at, level)) in
        [(1, Level::Origin), (0, Level::Peer), (0, Level::Hot), (1, Level::Main)].into_iter().enumerate()
    {
        world.get(at, &key, waiter as u64);
        world.run_for(1_000 * MS);
        let answers = world.take_answers();
        assert_eq!(answers[0].1.as_ref().unwrap().1, level);
    }
    assert_eq!(world.loads[key.as_bytes()], 1);
}

#[test]
fn a_crashed_owners_keys_converge_on_one_successor_and_nobody_waits_for_it() {
    let mut world = World::new(4);
    let key = world.key_owned_by(2);
    world.crash(2);
    world.run_for(10 * MS);
    let before = world.now;
    for (waiter, at) in [0, 1, 3, 0, 1, 3].into_iter().enumerate() {
        world.get(at, &key, waiter as u64);
    }
    while world.answers.len() < 6 {
        world.run_for(MS);
        assert!(world.now.saturating_since(before) < 2 * ORIGIN, "somebody waits for a dead node");
    }
    assert!(world.take_answers().iter().all(|(_, answer)| answer.is_ok()));
    assert_eq!(world.loads[key.as_bytes()], 1, "the successor is the one loader");
}

#[test]
fn an_owner_that_crashes_in_the_middle_of_a_load_costs_one_more_load() {
    let mut world = World::new(3);
    let key = world.key_owned_by(2);
    world.get(0, &key, 1);
    world.get(1, &key, 2);
    world.run_for(100 * MS);
    world.crash(2);
    world.run_for(2 * ORIGIN);
    let answers = world.take_answers();
    assert_eq!(answers.len(), 2);
    assert!(answers.iter().all(|(_, answer)| answer.is_ok()));
    assert_eq!(world.loads[key.as_bytes()], 2);
}

#[test]
fn after_an_acknowledged_removal_no_node_returns_the_older_version() {
    let mut world = World::new(3);
    let key = world.key_owned_by(1);
    for at in 0..3 {
        world.get(at, &key, at as u64);
    }
    world.run_for(1_000 * MS);
    // A load that is on its way when the removal comes.
    let other = (0..).map(|n| format!("late-{n}")).find(|key| world.owner_of(key) == 1).unwrap();
    world.get(0, &other, 10);
    world.run_for(100 * MS);
    world.version = 1;
    for (waiter, key) in [(100, &key), (101, &other)] {
        let key = key.clone();
        let removal = world.turn(2, |node, now, out| node.remove(now, &hashed(key.as_bytes()), waiter, out));
        assert!(removal.is_ok());
    }
    world.run_for(20 * MS);
    world.removed.sort_unstable();
    assert_eq!(world.removed, [(100, 0), (101, 0)]);
    world.run_for(1_000 * MS);
    let before = world.take_answers();
    assert_eq!(before.last().unwrap().1.as_ref().unwrap().0, format!("{other}#0").into_bytes());
    for at in 0..3 {
        world.get(at, &key, at as u64);
        world.get(at, &other, 10 + at as u64);
    }
    world.run_for(2_000 * MS);
    let after = world.take_answers();
    assert_eq!(after.len(), 6);
    assert!(after.iter().all(|(_, answer)| answer.as_ref().unwrap().0.ends_with(b"#1")), "{after:?}");
}

#[test]
fn a_removal_names_members_that_do_not_acknowledge() {
    let mut world = World::new(3);
    let key = world.key_owned_by(0);
    world.members[2].alive = false;
    let removal = world.turn(0, |node, now, out| node.remove(now, &hashed(key.as_bytes()), 7, out));
    assert!(removal.is_ok());
    world.run_for(3_000 * MS);
    assert_eq!(world.removed, [(7, 1)]);
}

#[test]
fn a_node_that_is_shut_down_fails_who_waits_and_has_nothing_left_to_do() {
    let mut world = World::new(2);
    let key = world.key_owned_by(0);
    world.get(0, &key, 1);
    world.turn(0, |node, now, out| node.stop(now, out));
    world.run_for(10 * MS);
    assert!(world.members[0].node.has_left());
    while world.turn(0, |node, now, out| node.shutdown(now, out)) == Wake::Now {}
    assert_eq!(world.take_answers(), [(1, Err(FailureKind::Stopping))]);
    assert_eq!(world.members[0].node.next_wake(), Wake::Idle);
}
