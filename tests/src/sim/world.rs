//! The world: nodes, network, etcd and origin on one virtual clock. It goes from event to event, and sleeps exactly as long as the nodes ask for.

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use groupcache_core::{Effects, Instant, Intent, Node, OpId, Wake};

use super::clock::{Queue, Time};
use super::coverage::Coverage;
use super::etcd::{Etcd, Notices, WatchId};
use super::event::{Event, Fact};
use super::host::Host;
use super::ledger::Ledger;
use super::network::Network;
use super::origin::{Keys, Origin};
use super::plan::Plan;
use super::random::Random;
use super::trace::{Moment, Trace};
use super::transport::Conn;

/// Everything.
#[derive(Debug)]
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) now: Time,
    pub(super) steps: u64,
    pub(super) queue: Queue<Event>,
    pub(super) random: Random,
    pub(super) hosts: Vec<Host>,
    pub(super) network: Network<(usize, usize, Event)>,
    pub(super) conns: Vec<Conn>,
    pub(super) etcd: Etcd,
    pub(super) etcd_state: EtcdState,
    pub(super) notices: Notices,
    /// Whose watches there are at etcd.
    pub(super) watches: BTreeMap<WatchId, (usize, u32, OpId)>,
    pub(super) next_watch: WatchId,
    pub(super) origin: Origin,
    pub(super) keys: Arc<Keys>,
    pub(super) ledger: Ledger,
    pub(super) rings: Rings,
    /// Since when no process stood still and no clock was set.
    pub(super) steady_since: Time,
    /// What was told lately, to be told again.
    pub(super) told: Vec<(usize, u32, Fact)>,
    pub(super) trace: Trace,
    pub(super) coverage: Coverage,
    pub(super) violation: Option<String>,
    /// Counts what is not renewals of leases and the like: it has to stop when nobody asks for anything.
    pub(super) stirs: u64,
    fx: Effects<u64>,
}

/// How etcd is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EtcdState {
    Well,
    Refusing,
    Silent,
}

/// What is known of the nodes' rings.
#[derive(Debug, Default)]
pub(super) struct Rings {
    /// Since when all live nodes have had the same ring with all of them on it.
    pub(super) agreed_since: Option<Time>,
    /// The fingerprint and a key's owner, for each set of members that there ever was.
    pub(super) known: BTreeMap<Vec<(String, u32)>, (u64, String)>,
}

/// The most events that are taken to come to rest at one time: more is a loop.
const STORM: u64 = 500_000;

/// Wakes at one time that show nothing: as many as a flight has sources, for each flight that a bound on work leaves for later.
const MAX_IDLE_WAKES: u32 = 64;

impl World {
    pub(super) fn new(plan: &Plan, prints: bool) -> Self {
        let keys = Arc::new(Keys::new(plan));
        let mut world = Self {
            now: 0,
            steps: 0,
            queue: Queue::new(),
            random: Random::new(plan.seed),
            hosts: (0..plan.nodes).map(|index| Host::new(index, plan)).collect(),
            // etcd is the last end.
            network: Network::new(plan.nodes + 1, plan.network),
            conns: Vec::new(),
            etcd: Etcd::new(1),
            etcd_state: EtcdState::Well,
            notices: Vec::new(),
            watches: BTreeMap::new(),
            next_watch: 0,
            origin: Origin::new(plan, keys.len()),
            ledger: Ledger::new(keys.len()),
            keys,
            rings: Rings::default(),
            steady_since: 0,
            told: Vec::new(),
            trace: Trace::new(prints),
            coverage: Coverage::default(),
            violation: None,
            stirs: 0,
            fx: Effects::new(),
            plan: plan.clone(),
        };
        for node in 0..plan.nodes {
            world.turn(node, |node, now, out| node.start(now, out));
        }
        world
    }

    /// Notes that a promise is broken. The first one counts.
    pub(super) fn fail(&mut self, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            let what = what();
            self.trace.line(self.now, None, || format!("BROKEN: {what}"));
            self.violation = Some(format!("at {}, step {}: {what}", Moment(self.now), self.steps));
        }
    }

    pub(super) fn check(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.fail(what);
        }
    }

    pub(super) fn checked<T>(&mut self, result: Result<T, String>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(what) => {
                self.fail(|| what);
                None
            }
        }
    }

    /// Lets time pass.
    pub(super) fn run_for(&mut self, time: Time) {
        let end = self.now.saturating_add(time);
        let begun = self.steps;
        while self.violation.is_none() && self.step(end) {
            if self.steps - begun > STORM {
                self.fail(|| format!("{STORM} events in {} s: it does not come to rest", Moment(time)));
            }
        }
        self.now = end;
    }

    /// The earliest thing that happens up to `end`. Answers whether there was one.
    fn step(&mut self, end: Time) -> bool {
        let event = self.queue.next_at();
        let woken = self.hosts.iter().enumerate().filter(|(_, host)| host.is_running());
        let woken = woken.filter_map(|(index, host)| Some((host.due?, index))).min();
        let etcd = if self.etcd_state == EtcdState::Well { self.etcd.next_wake() } else { None };
        let wake = woken.map(|(at, _)| at);
        let Some(next) = [event, wake, etcd].into_iter().flatten().min() else { return false };
        if next > end {
            return false;
        }
        self.now = next.max(self.now);
        self.steps += 1;
        let is_due = |at: Option<Time>| at.is_some_and(|at| at <= next);
        // What is due at the same time comes in any order.
        let event_first = is_due(event) && (!is_due(wake) || self.random.below(2) == 0);
        match woken {
            _ if event_first => {
                if let Some(event) = self.queue.pop() {
                    self.happen(event);
                }
            }
            Some((_, node)) if is_due(wake) => self.wake(node),
            _ => {
                self.etcd.handle_timeout(self.now, &mut self.notices);
                self.send_notices();
            }
        }
        self.look_at_times();
        true
    }

    /// Hands a node its time-outs: it asked for that, so there must be something in it.
    fn wake(&mut self, index: usize) {
        let before = self.hosts[index].node.next_wake();
        let mut silent = false;
        let (now, wake) = self.turn(index, |node, now, out| {
            let wake = node.handle_timeout(now, out);
            silent = out.is_empty();
            (now, wake)
        });
        let host = &mut self.hosts[index];
        // What passes between the machines of a node is not seen: a fetch whose time is up may go on to the next peer, and from there to the origin.
        host.idle_wakes = if silent && wake.is_due(now) { host.idle_wakes + 1 } else { 0 };
        let idle = host.idle_wakes;
        self.check(idle < MAX_IDLE_WAKES, || {
            format!("node {index} is woken again and again at {now:?}, for nothing")
        });
        self.check(!silent || wake != before || !wake.is_due(now) || wake == Wake::Now, || {
            format!("node {index} does nothing about {wake:?} at {now:?}")
        });
        self.check(wake == Wake::Now || !wake.is_due(now), || {
            format!("node {index} is woken at {now:?} and wants to have been woken {wake:?}")
        });
    }

    /// One turn of a node's loop: calls, then everything that they asked for.
    pub(super) fn turn<T>(
        &mut self,
        index: usize,
        call: impl FnOnce(&mut Node<u64>, Instant, &mut Effects<u64>) -> T,
    ) -> T {
        let mut out = mem::take(&mut self.fx);
        let host = &mut self.hosts[index];
        let now = host.clock.read(self.now);
        let result = call(&mut host.node, now, &mut out);
        self.carry_out(index, &mut out);
        self.fx = out;
        result
    }

    /// Carries out what a turn asked for, and looks at what has changed in the node.
    pub(super) fn carry_out(&mut self, index: usize, out: &mut Effects<u64>) {
        self.trace.note(&[self.now, index as u64, self.hosts[index].clock.latest().as_nanos()]);
        for completion in out.drain_completions() {
            self.complete(index, completion.waiter, completion.result);
        }
        for removed in out.drain_removals() {
            self.end_removal(index, removed.waiter, &removed.unacknowledged);
        }
        let intents: Vec<Intent> = out.drain_intents().collect();
        for intent in intents {
            self.execute(index, intent);
        }
        self.check(out.is_empty(), || format!("node {index} leaves effects that nobody can carry out"));
        out.free_evicted();
        self.look_at_ring(index);
        let host = &mut self.hosts[index];
        host.due = match host.node.next_wake() {
            Wake::Now => Some(self.now),
            Wake::At(at) => host.clock.when(self.now, at),
            Wake::Idle => None,
        };
    }

    /// Runs `call` with the buffer for effects: for calls whose effects need something noted before they are carried out.
    pub(super) fn with_effects<T>(&mut self, call: impl FnOnce(&mut Self, &mut Effects<u64>) -> T) -> T {
        let mut out = mem::take(&mut self.fx);
        let result = call(self, &mut out);
        self.fx = out;
        result
    }

    /// Schedules something.
    pub(super) fn schedule(&mut self, at: Time, event: Event) {
        self.queue.push(at.max(self.now), &mut self.random, event);
    }

    /// When a node's clock shows `at`; at the end of time where it never does.
    pub(super) fn when(&self, index: usize, at: Instant) -> Time {
        self.hosts[index].clock.when(self.now, at).unwrap_or(Time::MAX)
    }
}
