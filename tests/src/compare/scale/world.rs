//! A fleet without a network: whoever is sent something takes it in at once, and what that takes is counted.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use groupcache_core::{
    Attempt, Batch, BatchEnd, BatchId, Change, DialId, Effects, FlightId, GroupConfig, GroupId, HashedKey,
    Instant, Intent, Key, LeaseId, Load, LoadRequest, MemberRecord, Node, NodeConfig, OpId, Outcome as Told,
    PeerId, Protocol, RegistryIntent, RegistryOutcome, RequestId, RequestKey, Revision, Value, WatchEvent,
};
use groupcache_proto::v1::{FetchReply, FetchRequest, Item};
use prost::Message;
use rustix::time::{ClockId, clock_gettime};

use crate::compare::Outcome;
use crate::compare::random::mix;

/// Members that are real nodes.
pub(super) const REAL: usize = 10;

/// Gets of a node at a time.
const IN_FLIGHT: usize = 64;

/// In front of a message in gRPC.
const FRAME: usize = 5;

const GROUP: GroupId = GroupId::new(0);
const GROUP_NAME: &str = "group";
const VALUE: usize = 100;

/// What was counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    /// Messages between nodes.
    pub(super) messages: u64,
    /// Of all messages, the registry's included.
    pub(super) bytes: u64,
    /// Messages from and to the registry.
    pub(super) told: u64,
    /// Connections opened.
    pub(super) dials: u64,
    /// Loads of the origin.
    pub(super) loads: u64,
    /// In the core.
    pub(super) busy: Duration,
}

/// The fleet.
#[derive(Debug)]
pub(super) struct World {
    nodes: Vec<Member>,
    /// All members, the real ones first.
    names: Vec<String>,
    revision: i64,
    now: Instant,
    events: VecDeque<(usize, Event)>,
    traffic: Traffic,
    value: Value,
}

#[derive(Debug)]
struct Member {
    node: Node<()>,
    /// Which member a peer is, by the node's own number.
    peers: HashMap<PeerId, usize>,
    connected: BTreeSet<PeerId>,
    asked: BTreeSet<PeerId>,
    served: HashMap<RequestId, (usize, PeerId, BatchId)>,
    watch: Option<OpId>,
}

/// Something that a node takes in.
#[derive(Debug)]
enum Event {
    Connected(PeerId, DialId),
    Loaded(FlightId, Attempt),
    Request { from: usize, peer: PeerId, batch: BatchId, keys: Vec<Key> },
    Replies { peer: PeerId, batch: BatchId, replies: Vec<(u32, Told)>, last: bool },
    Registry(OpId, RegistryOutcome),
}

/// Processor time of this thread: others may run in between.
fn used() -> Duration {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

fn name(number: usize) -> String {
    format!("10.0.{}.{}:6324", number / 250, number % 250)
}

fn record(name: &str) -> MemberRecord {
    MemberRecord::new(name, 1)
}

/// What etcd holds of a member, and sends to who watches.
fn record_bytes(name: &str) -> usize {
    format!(r#"groupcache/{name}{{"Op":0,"Addr":"{name}","Metadata":null}}"#).len()
}

impl World {
    /// A fleet of so many members, whose real nodes have a view of all.
    pub(super) fn new(members: usize) -> Outcome<Self> {
        let names: Vec<_> = (0..members).map(name).collect();
        let now = Instant::from_nanos(1);
        let node = |number: usize| -> Outcome<Member> {
            let mut config = NodeConfig::new(&*names[number]);
            config.shard.budget = 4 << 20;
            let mut node = Node::new(config, mix(number as u64), now)?;
            node.add_group(GROUP, &GroupConfig::default())?;
            Ok(Member {
                node,
                peers: HashMap::new(),
                connected: BTreeSet::new(),
                asked: BTreeSet::new(),
                served: HashMap::new(),
                watch: None,
            })
        };
        let nodes = (0..REAL.min(members)).map(node).collect::<Outcome<Vec<_>>>()?;
        let mut world = Self {
            nodes,
            names,
            revision: 1,
            now,
            events: VecDeque::new(),
            traffic: Traffic::default(),
            value: Value::from(vec![b'v'; VALUE]),
        };
        for number in 0..world.nodes.len() {
            world.turn(number, |node, now, out| node.start(now, out))?;
        }
        world.settle()?;
        let seen = world.nodes.iter().map(|member| member.node.ring().members().len());
        if seen.clone().any(|seen| seen != members) {
            return Err(format!("rings have {:?} of {members} members", seen.collect::<Vec<_>>()).into());
        }
        world.take_traffic();
        Ok(world)
    }

    /// What was counted since the last call.
    pub(super) fn take_traffic(&mut self) -> Traffic {
        std::mem::take(&mut self.traffic)
    }

    /// Connections that a node has opened, on average.
    pub(super) fn connections(&self) -> f64 {
        let connections: usize = self.nodes.iter().map(|member| member.connected.len()).sum();
        connections as f64 / self.nodes.len() as f64
    }

    /// Peers that a node has asked, on average.
    pub(super) fn asked(&self) -> f64 {
        let asked: usize = self.nodes.iter().map(|member| member.asked.len()).sum();
        asked as f64 / self.nodes.len() as f64
    }

    /// Gets of keys, by number: dealt out to the nodes in turn, so many at a time.
    pub(super) fn gets(&mut self, keys: impl Iterator<Item = u32>) -> Outcome<()> {
        let at_a_time = IN_FLIGHT * self.nodes.len();
        for (number, key) in keys.enumerate() {
            self.get(number % self.nodes.len(), key)?;
            if number % at_a_time == at_a_time - 1 {
                self.settle()?;
            }
        }
        self.settle()
    }

    fn get(&mut self, at: usize, number: u32) -> Outcome<()> {
        let text = format!("key-{number:012}");
        let key = HashedKey::new(GROUP, text.as_bytes(), mix(u64::from(number)));
        let deadline = self.now.saturating_add(Duration::from_secs(10));
        let began = used();
        let found = self.nodes[at].node.get(self.now, &key);
        self.traffic.busy += used() - began;
        if found.is_some() {
            return Ok(());
        }
        let load = LoadRequest::new(key, (), deadline);
        let load = self.turn(at, |node, now, out| node.load(now, load, out))?;
        match load {
            Ok(Load::Wait(_) | Load::Ready { .. }) => Ok(()),
            Err(refused) => Err(refused.error.into()),
        }
    }

    /// A member joins that is no real node.
    pub(super) fn join(&mut self) -> Outcome<()> {
        let name = name(self.names.len());
        let change = Change::Put(record(&name));
        let bytes = record_bytes(&name);
        self.names.push(name);
        self.tell(&change, bytes)
    }

    /// The member that has joined last leaves.
    pub(super) fn leave(&mut self) -> Outcome<()> {
        let name = self.names.pop().ok_or("nobody is left")?;
        let bytes = "groupcache/".len() + name.len();
        self.tell(&Change::Delete(name.into()), bytes)
    }

    /// Tells every node of a change, as its watch does.
    fn tell(&mut self, change: &Change, bytes: usize) -> Outcome<()> {
        self.revision += 1;
        self.now = self.now.saturating_add(Duration::from_secs(1));
        for number in 0..self.nodes.len() {
            let op = self.nodes[number].watch.ok_or("a node does not watch the registry")?;
            let (revision, changes) = (Revision::new(self.revision), vec![change.clone()]);
            self.traffic.told += 1;
            self.traffic.bytes += bytes as u64;
            self.turn(number, |node, now, out| {
                node.handle_watch(now, op, WatchEvent::Changed { revision, changes }, out)
            })?;
        }
        self.settle()?;
        let behind = |member: &Member| member.node.ring().members().len() != self.names.len();
        if self.nodes.iter().any(behind) { Err("a ring has not followed".into()) } else { Ok(()) }
    }

    /// Delivers until nothing is on its way.
    fn settle(&mut self) -> Outcome<()> {
        while let Some((to, event)) = self.events.pop_front() {
            self.deliver(to, event)?;
        }
        Ok(())
    }

    fn deliver(&mut self, to: usize, event: Event) -> Outcome<()> {
        match event {
            Event::Connected(peer, dial) => {
                self.nodes[to].connected.insert(peer);
                self.turn(to, |node, now, out| {
                    node.handle_connected(now, (peer, dial), Protocol::Batched, out)
                })?;
            }
            Event::Loaded(flight, attempt) => {
                let told = Told::Value { value: self.value.clone(), ttl: None };
                self.turn(to, |node, now, out| node.handle_loaded(now, flight, attempt, told, out))?;
            }
            Event::Request { from, peer, batch, keys } => self.serve(to, (from, peer, batch), &keys)?,
            Event::Replies { peer, batch, replies, last } => {
                self.turn(to, |node, now, out| {
                    node.handle_replies(now, (peer, batch), replies, out);
                    if last {
                        node.handle_batch_closed(now, (peer, batch), BatchEnd::Complete, out);
                    }
                })?;
            }
            Event::Registry(op, outcome) => {
                self.turn(to, |node, now, out| node.handle_registry(now, op, outcome, out))?;
            }
        }
        Ok(())
    }

    /// A real node is asked.
    fn serve(&mut self, me: usize, asker: (usize, PeerId, BatchId), keys: &[Key]) -> Outcome<()> {
        let deadline = self.now.saturating_add(Duration::from_secs(10));
        let keys: Vec<_> = keys.iter().map(|key| RequestKey::new(Some(key.as_hashed()), deadline)).collect();
        let mut out = Effects::new();
        let began = used();
        let request = self.nodes[me].node.handle_request(self.now, &keys, &mut out)?;
        self.traffic.busy += used() - began;
        self.nodes[me].served.insert(request, asker);
        self.carry_out(me, &mut out)
    }

    /// One call of a node, and everything that it asks for.
    fn turn<T>(
        &mut self,
        number: usize,
        call: impl FnOnce(&mut Node<()>, Instant, &mut Effects<()>) -> T,
    ) -> Outcome<T> {
        let mut out = Effects::new();
        let began = used();
        let result = call(&mut self.nodes[number].node, self.now, &mut out);
        self.traffic.busy += used() - began;
        self.carry_out(number, &mut out)?;
        Ok(result)
    }

    fn carry_out(&mut self, me: usize, out: &mut Effects<()>) -> Outcome<()> {
        for completion in out.drain_completions() {
            completion.result.map_err(|failure| format!("a get failed: {failure}"))?;
        }
        for intent in out.drain_intents() {
            self.execute(me, intent)?;
        }
        out.free_evicted();
        Ok(())
    }

    fn execute(&mut self, me: usize, intent: Intent) -> Outcome<()> {
        match intent {
            Intent::Load { flight, attempt, .. } => {
                self.traffic.loads += 1;
                self.events.push_back((me, Event::Loaded(flight, attempt)));
            }
            Intent::Fetch(batch) => self.ask(me, batch)?,
            Intent::Reply { request, results, last } => {
                let (asker, peer, batch) = *self.nodes[me].served.get(&request).ok_or("nobody has asked")?;
                if last {
                    self.nodes[me].served.remove(&request);
                }
                let value =
                    |(index, result): (u32, Result<groupcache_core::Fetched, _>)| -> Outcome<(u32, Told)> {
                        let fetched =
                            result.map_err(|failure: groupcache_core::Failure| failure.to_string())?;
                        Ok((index, Told::Value { value: fetched.value, ttl: None }))
                    };
                let replies = results.into_iter().map(value).collect::<Outcome<Vec<_>>>()?;
                self.reply(asker, peer, batch, replies, last);
            }
            Intent::Connect { peer, dial, name } => {
                let member = self.names.iter().position(|of| **of == *name).ok_or("no such member")?;
                self.nodes[me].peers.insert(peer, member);
                self.traffic.dials += 1;
                self.events.push_back((me, Event::Connected(peer, dial)));
            }
            Intent::Forget { peer } => {
                self.nodes[me].connected.remove(&peer);
            }
            Intent::Registry(intent) => self.registry(me, &intent),
            Intent::AbortLoad { .. } | Intent::AbortFetch { .. } | Intent::Invalidate { .. } => {
                return Err("nothing is given up here, and nothing removed".into());
            }
        }
        Ok(())
    }

    /// A batch is on its way: to a real node, or to one that answers with values.
    fn ask(&mut self, me: usize, Batch { peer, batch, items, .. }: Batch) -> Outcome<()> {
        let mut request = FetchRequest::new(1);
        for item in &items {
            let key = item.key.as_bytes().to_vec();
            request.push(GROUP_NAME, key, Some(item.deadline.saturating_since(self.now)));
        }
        self.count(request.encoded_len());
        let member = &mut self.nodes[me];
        member.asked.insert(peer);
        let to = *member.peers.get(&peer).ok_or("a peer that was not dialled")?;
        if to < self.nodes.len() {
            let keys = items.into_iter().map(|item| item.key).collect();
            self.events.push_back((to, Event::Request { from: me, peer, batch, keys }));
        } else {
            let value = |index| (index, Told::Value { value: self.value.clone(), ttl: None });
            let replies = (0..items.len() as u32).map(value).collect();
            self.reply(me, peer, batch, replies, true);
        }
        Ok(())
    }

    fn reply(&mut self, to: usize, peer: PeerId, batch: BatchId, replies: Vec<(u32, Told)>, last: bool) {
        let item = |(index, told): &(u32, Told)| match told {
            Told::Value { value, ttl } => Some(Item::new(*index, Ok((value.clone(), *ttl)))),
            Told::Failed(_) | Told::Unreachable(_) => None,
        };
        let reply = FetchReply { items: replies.iter().filter_map(item).collect(), fingerprint: Some(1) };
        self.count(reply.encoded_len());
        self.events.push_back((to, Event::Replies { peer, batch, replies, last }));
    }

    const fn count(&mut self, bytes: usize) {
        self.traffic.messages += 1;
        self.traffic.bytes += (bytes + FRAME) as u64;
    }

    fn registry(&mut self, me: usize, intent: &RegistryIntent) {
        let ttl = Duration::from_secs(1_000_000);
        let (op, outcome) = match *intent {
            RegistryIntent::Register { op, .. } => {
                (op, RegistryOutcome::Registered { lease: LeaseId::new(1), ttl })
            }
            RegistryIntent::KeepAlive { op, .. } => (op, RegistryOutcome::KeptAlive { ttl }),
            RegistryIntent::Deregister { op, .. } => (op, RegistryOutcome::Deregistered),
            RegistryIntent::List { op } => {
                let records = self.names.iter().map(|name| record(name)).collect();
                (op, RegistryOutcome::Listed { records, revision: Revision::new(self.revision) })
            }
            RegistryIntent::Watch { op, .. } => {
                self.nodes[me].watch = Some(op);
                return;
            }
        };
        self.traffic.told += 1;
        self.events.push_back((me, Event::Registry(op, outcome)));
    }
}
