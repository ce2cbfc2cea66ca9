//! Between membership and etcd: each process' client, which asks for one thing after the other and gives up in time, and what an outage of etcd does to
//! what it says.

use groupcache_core::{MemberRecord, OpId, RegistryIntent, RegistryOutcome, WatchEvent};

use super::event::{Ask, Asked, Event, Fact, Local, Told};
use super::host::Watch;
use super::op::EtcdOp;
use super::world::{EtcdState, World};

/// Calls that wait in one lane, at most: what finds no room is dropped.
const QUEUE: usize = 8;

const fn op_of(intent: &RegistryIntent) -> OpId {
    match intent {
        RegistryIntent::Register { op, .. }
        | RegistryIntent::KeepAlive { op, .. }
        | RegistryIntent::Deregister { op, .. }
        | RegistryIntent::List { op }
        | RegistryIntent::Watch { op, .. } => *op,
    }
}

impl World {
    /// The end that stands for etcd.
    const fn etcd_end(&self) -> usize {
        self.plan.nodes
    }

    pub(super) fn ask_registry(&mut self, index: usize, intent: RegistryIntent) {
        let op = op_of(&intent);
        let kind = match intent {
            RegistryIntent::Register { .. } => 0,
            RegistryIntent::KeepAlive { .. } => 1,
            RegistryIntent::Deregister { .. } => 2,
            RegistryIntent::List { .. } => 3,
            RegistryIntent::Watch { .. } => 4,
        };
        self.trace.note(&[9, kind, op.sequence()]);
        let limit = self.plan.node.membership.op_timeout;
        let host = &mut self.hosts[index];
        let deadline = host.clock.latest().saturating_add(limit);
        host.registry.sent.insert(op, host.clock.latest());
        if host.registry.sent.len() > 64 {
            host.registry.sent.pop_first();
        }
        match intent {
            RegistryIntent::Watch { op, after } => {
                host.registry.watch = Some(Watch { op, is_open: false });
                self.later(index, limit.as_nanos() as u64, Local::WatchLimit { op });
                self.send_to_etcd(index, 0, Asked::Watch { op, after });
                return;
            }
            RegistryIntent::Deregister { .. } => {
                if host.registry.watch.take().is_some() {
                    self.send_to_etcd(index, 0, Asked::Unwatch);
                }
            }
            RegistryIntent::Register { .. }
            | RegistryIntent::KeepAlive { .. }
            | RegistryIntent::List { .. } => {}
        }
        let lane = self.lane(index, kind == 3);
        if lane.waiting.len() < QUEUE {
            lane.waiting.push_back((intent, deadline));
        }
        self.start_call(index, kind == 3);
    }

    fn lane(&mut self, index: usize, is_list: bool) -> &mut super::host::Lane {
        let driver = &mut self.hosts[index].registry;
        if is_list { &mut driver.list } else { &mut driver.lease }
    }

    /// Begins the next call of a lane, when the one before is over.
    fn start_call(&mut self, index: usize, is_list: bool) {
        let lane = self.lane(index, is_list);
        if lane.running.is_some() {
            return;
        }
        let Some((intent, deadline)) = lane.waiting.pop_front() else { return };
        self.hosts[index].registry.next_call += 1;
        let call = self.hosts[index].registry.next_call;
        self.lane(index, is_list).running = Some((call, op_of(&intent)));
        let limit = self.when(index, deadline) - self.now;
        self.send_to_etcd(index, call, Asked::Call(intent));
        self.later(index, limit, Local::RegistryLimit { call });
    }

    fn send_to_etcd(&mut self, index: usize, call: u64, what: Asked) {
        let life = self.hosts[index].life;
        self.post(index, self.etcd_end(), Event::Ask(Ask { node: index, life, call, what }));
    }

    fn send_to_node(&mut self, index: usize, life: u32, told: Told) {
        self.post(self.etcd_end(), index, Event::Told { node: index, life, told });
    }

    /// A call has taken too long: it counts as failed, whatever etcd has done.
    pub(super) fn registry_limit(&mut self, index: usize, call: u64) {
        if let Some((is_list, op)) = self.end_registry_call(index, call) {
            self.tell(index, Fact::Registry(op, RegistryOutcome::Failed(None)));
            self.start_call(index, is_list);
        }
    }

    fn end_registry_call(&mut self, index: usize, call: u64) -> Option<(bool, OpId)> {
        for is_list in [false, true] {
            let lane = self.lane(index, is_list);
            if let Some((_, op)) = lane.running.take_if(|(running, _)| *running == call) {
                return Some((is_list, op));
            }
        }
        None
    }

    /// A watch has not opened in time.
    pub(super) fn watch_limit(&mut self, index: usize, op: OpId) {
        let watch = &mut self.hosts[index].registry.watch;
        if watch.take_if(|watch| watch.op == op && !watch.is_open).is_some() {
            self.tell(index, Fact::Watch(op, WatchEvent::Ended(None)));
        }
    }

    /// A process hears from etcd.
    pub(super) fn hear_registry(&mut self, index: usize, told: Told) {
        match told {
            Told::Granted { call, op, lease, ttl } => {
                if self.hosts[index].registry.lease.running.is_some_and(|(running, _)| running == call) {
                    self.send_to_etcd(index, call, Asked::Put { op, lease, ttl });
                }
            }
            Told::Outcome { call, op, outcome } => {
                let ended = self.end_registry_call(index, call);
                if ended.is_some() || self.random.happens(self.plan.late) {
                    self.tell(index, Fact::Registry(op, outcome));
                }
                if let Some((is_list, _)) = ended {
                    self.start_call(index, is_list);
                }
            }
            Told::WatchOpen { op } => {
                if let Some(watch) = self.hosts[index].registry.watch.as_mut().filter(|watch| watch.op == op)
                {
                    watch.is_open = true;
                }
            }
            Told::Watch { op, event } => {
                let watch = &mut self.hosts[index].registry.watch;
                let is_current = watch.is_some_and(|watch| watch.op == op);
                if is_current && !matches!(event, WatchEvent::Changed { .. }) {
                    *watch = None;
                }
                if is_current || self.random.happens(self.plan.late) {
                    self.tell(index, Fact::Watch(op, event));
                }
            }
        }
    }

    /// etcd is asked.
    pub(super) fn ask_etcd(&mut self, ask: Ask) {
        let Ask { node, life, call, what } = ask;
        match (self.etcd_state, what) {
            (EtcdState::Silent, _) => {}
            (EtcdState::Refusing, Asked::Call(intent)) => {
                let op = op_of(&intent);
                self.send_to_node(
                    node,
                    life,
                    Told::Outcome { call, op, outcome: RegistryOutcome::Failed(None) },
                );
            }
            (EtcdState::Refusing, Asked::Put { op, .. }) => {
                self.send_to_node(
                    node,
                    life,
                    Told::Outcome { call, op, outcome: RegistryOutcome::Failed(None) },
                );
            }
            (EtcdState::Refusing, Asked::Watch { op, .. }) => {
                self.send_to_node(node, life, Told::Watch { op, event: WatchEvent::Ended(None) });
            }
            (EtcdState::Refusing, Asked::Unwatch) => {}
            (EtcdState::Well, Asked::Unwatch) => self.end_watches(node),
            (EtcdState::Well, Asked::Watch { op, after }) => {
                // One watch a process: the client has ended the one before.
                self.end_watches(node);
                self.next_watch += 1;
                let id = self.next_watch;
                self.watches.insert(id, (node, life, op));
                self.send_to_node(node, life, Told::WatchOpen { op });
                self.etcd.watch(id, after, &mut self.notices);
                self.send_notices();
            }
            (EtcdState::Well, Asked::Put { op, lease, ttl }) => {
                let host = &self.hosts[node];
                let record = MemberRecord::new(host.name.clone(), host.config.membership.weight);
                let outcome = match self.etcd.put(record, lease, &mut self.notices) {
                    true => RegistryOutcome::Registered { lease, ttl },
                    false => RegistryOutcome::Failed(None),
                };
                self.send_to_node(node, life, Told::Outcome { call, op, outcome });
                self.send_notices();
            }
            (EtcdState::Well, Asked::Call(intent)) => self.call_etcd(node, life, call, &intent),
        }
    }

    fn call_etcd(&mut self, node: usize, life: u32, call: u64, intent: &RegistryIntent) {
        let op = op_of(intent);
        let outcome = match *intent {
            RegistryIntent::Register { ttl, .. } => {
                let (lease, ttl) = self.etcd.grant(self.now, ttl);
                return self.send_to_node(node, life, Told::Granted { call, op, lease, ttl });
            }
            RegistryIntent::KeepAlive { lease, .. } => match self.etcd.keep_alive(self.now, lease) {
                Some(ttl) => RegistryOutcome::KeptAlive { ttl },
                None => RegistryOutcome::LeaseLost,
            },
            RegistryIntent::Deregister { lease, .. } => {
                let name = self.hosts[node].name.clone();
                self.etcd.delete(&name, &mut self.notices);
                if let Some(lease) = lease {
                    self.etcd.revoke(lease, &mut self.notices);
                }
                RegistryOutcome::Deregistered
            }
            RegistryIntent::List { .. } => {
                let (records, revision) = self.etcd.list();
                RegistryOutcome::Listed { records, revision }
            }
            RegistryIntent::Watch { .. } => RegistryOutcome::Failed(None),
        };
        self.send_to_node(node, life, Told::Outcome { call, op, outcome });
        self.send_notices();
    }

    /// Sends what watches are told. Some of it comes twice.
    pub(super) fn send_notices(&mut self) {
        for (id, event) in std::mem::take(&mut self.notices) {
            let Some(&(node, life, op)) = self.watches.get(&id) else { continue };
            if self.random.happens(self.network.weather.doubled / 4) {
                self.coverage.count("watch batches repeated", 1);
                self.send_to_node(node, life, Told::Watch { op, event: event.clone() });
            }
            self.send_to_node(node, life, Told::Watch { op, event });
        }
    }

    fn end_watches(&mut self, of: usize) {
        let over: Vec<u64> =
            self.watches.iter().filter(|(_, (node, ..))| *node == of).map(|(&id, _)| id).collect();
        for id in over {
            self.watches.remove(&id);
            self.etcd.unwatch(id);
        }
    }

    /// Notes until when a node may believe in its lease: for the granted time from when it asked.
    pub(super) fn note_lease(&mut self, index: usize, op: OpId, outcome: &RegistryOutcome) {
        let (RegistryOutcome::Registered { ttl, .. } | RegistryOutcome::KeptAlive { ttl }) = outcome else {
            return;
        };
        let host = &mut self.hosts[index];
        if let Some(sent) = host.registry.sent.get(&op) {
            host.lease_ends = host.lease_ends.max(sent.saturating_add(*ttl));
        }
    }

    /// What happens to etcd.
    pub(super) fn change_etcd(&mut self, op: EtcdOp) {
        match op {
            EtcdOp::Refuse => self.etcd_state = EtcdState::Refusing,
            EtcdOp::Silence => self.etcd_state = EtcdState::Silent,
            EtcdOp::Recover { renew } => {
                if self.etcd_state != EtcdState::Well && renew {
                    self.etcd.renew_leases(self.now);
                }
                self.etcd_state = EtcdState::Well;
            }
            EtcdOp::LoseData => {
                self.break_watches();
                self.etcd.lose_data();
            }
            EtcdOp::Compact => self.etcd.compact(),
            EtcdOp::EndWatches => self.break_watches(),
        }
    }

    /// All of etcd's connections break: whoever watches hears of it.
    fn break_watches(&mut self) {
        for id in self.etcd.end_watches() {
            let (node, life, op) = self.watches.remove(&id).expect("a watch of somebody's");
            self.send_to_node(node, life, Told::Watch { op, event: WatchEvent::Ended(None) });
        }
    }
}
