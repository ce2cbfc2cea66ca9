//! A model of etcd and of a network in front of it, on a virtual clock: everything random comes from one seed.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::{Change, MemberRecord, Membership, MembershipConfig, RegistryOutcome, WatchEvent};
use crate::effects::{Disposition, Effects, Intent, RegistryIntent};
use crate::id::{LeaseId, OpId, Revision};
use crate::rng::SplitMix64;
use crate::time::{Instant, Wake};

pub(super) const ME: &str = "127.0.0.1:7000";

/// What can go wrong: chances in 1024.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) lose_request: u64,
    pub(super) lose_answer: u64,
    pub(super) double: u64,
    pub(super) slow: u64,
    pub(super) lose_batch: u64,
    pub(super) outage: u64,
    pub(super) compact: u64,
    pub(super) lose_data: u64,
}

/// etcd: records under leases, revisions, a log of changes, compaction.
#[derive(Debug, Default)]
pub(super) struct Etcd {
    pub(super) revision: i64,
    pub(super) records: BTreeMap<Arc<str>, (MemberRecord, Option<i64>)>,
    leases: BTreeMap<i64, (Instant, Duration)>,
    log: Vec<(i64, Change)>,
    compacted: i64,
    next_lease: i64,
}

impl Etcd {
    pub(super) fn put(&mut self, record: MemberRecord, lease: Option<i64>) {
        self.revision += 1;
        self.log.push((self.revision, Change::Put(record.clone())));
        self.records.insert(Arc::clone(&record.key), (record, lease));
    }

    pub(super) fn delete(&mut self, key: &str) {
        if let Some((key, _)) = self.records.remove_entry(key) {
            self.revision += 1;
            self.log.push((self.revision, Change::Delete(key)));
        }
    }

    fn grant(&mut self, ttl: Duration, now: Instant) -> i64 {
        self.next_lease += 1;
        self.leases.insert(self.next_lease, (now.saturating_add(ttl), ttl));
        self.next_lease
    }

    pub(super) fn revoke(&mut self, lease: i64) {
        self.leases.remove(&lease);
        let keys: Vec<_> =
            self.records.iter().filter(|(_, v)| v.1 == Some(lease)).map(|(k, _)| k.clone()).collect();
        keys.iter().for_each(|key| self.delete(key));
    }

    fn expire(&mut self, now: Instant) {
        let ended: Vec<_> = self.leases.iter().filter(|(_, v)| v.0 <= now).map(|(id, _)| *id).collect();
        ended.into_iter().for_each(|lease| self.revoke(lease));
    }

    pub(super) fn list(&self) -> Vec<MemberRecord> {
        self.records.values().map(|(record, _)| record.clone()).collect()
    }

    pub(super) fn has_lease(&self, now: Instant) -> bool {
        self.leases.values().any(|(ends, _)| *ends > now)
    }

    fn answer(&mut self, intent: &RegistryIntent, now: Instant) -> RegistryOutcome {
        match intent {
            RegistryIntent::Register { ttl, .. } => {
                let lease = self.grant(*ttl, now);
                self.put(MemberRecord::new(ME, 1), Some(lease));
                RegistryOutcome::Registered { lease: LeaseId::new(lease), ttl: *ttl }
            }
            RegistryIntent::KeepAlive { lease, .. } => match self.leases.get_mut(&lease.get()) {
                Some((ends, ttl)) => {
                    *ends = now.saturating_add(*ttl);
                    RegistryOutcome::KeptAlive { ttl: *ttl }
                }
                None => RegistryOutcome::LeaseLost,
            },
            RegistryIntent::Deregister { lease, .. } => {
                self.delete(ME);
                lease.iter().for_each(|lease| self.revoke(lease.get()));
                RegistryOutcome::Deregistered
            }
            RegistryIntent::List { .. } => {
                RegistryOutcome::Listed { records: self.list(), revision: Revision::new(self.revision) }
            }
            RegistryIntent::Watch { .. } => unreachable!("a watch is not a call"),
        }
    }
}

enum Delivery {
    Request(RegistryIntent),
    Answer(OpId, RegistryOutcome),
    Watch(OpId, WatchEvent),
}

/// One node, one etcd, and the network between them.
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) etcd: Etcd,
    pub(super) node: Membership,
    pub(super) faults: Faults,
    pub(super) out: Effects<()>,
    rng: SplitMix64,
    up: bool,
    watch: Option<(OpId, i64)>,
    queue: BTreeMap<(Instant, u64), Delivery>,
    sequence: u64,
    /// Whether the registry took a lease away before its time: then nobody can know in time.
    pub(super) leases_broken: bool,
    pub(super) asked: BTreeSet<&'static str>,
}

impl World {
    pub(super) fn new(seed: u64, config: MembershipConfig, now: Instant) -> Self {
        let mut rng = SplitMix64::new(seed);
        let node = Membership::new(config, rng.next_u64(), now).unwrap();
        Self {
            now,
            etcd: Etcd::default(),
            node,
            faults: Faults::default(),
            out: Effects::new(),
            rng,
            up: true,
            watch: None,
            queue: BTreeMap::new(),
            sequence: 0,
            leases_broken: false,
            asked: BTreeSet::new(),
        }
    }

    pub(super) fn start(&mut self) {
        self.node.start(self.now, &mut self.out);
        self.carry_out();
    }

    pub(super) fn stop(&mut self) {
        self.node.stop(self.now, &mut self.out);
        self.carry_out();
    }

    pub(super) fn chance(&mut self, in_1024: u64) -> bool {
        self.rng.below(1024) < in_1024
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.rng.below(bound)
    }

    /// Lets virtual time pass: jumps from event to event, and wakes the node exactly when it asked for it.
    pub(super) fn run(&mut self, duration: Duration) {
        let end = self.now.saturating_add(duration);
        let mut idle_turns = 0;
        if self.up {
            self.tell_watch();
        }
        loop {
            let wake = match self.node.next_wake() {
                Wake::Now => self.now,
                Wake::At(at) => at,
                Wake::Idle => Instant::MAX,
            };
            let event = self.queue.keys().next().map_or(Instant::MAX, |key| key.0);
            let lease = self.etcd.leases.values().map(|v| v.0).min().unwrap_or(Instant::MAX);
            let next = wake.min(event).min(if self.up { lease.max(self.now) } else { Instant::MAX });
            if next > end {
                self.now = end;
                return;
            }
            idle_turns = if next > self.now { 0 } else { idle_turns + 1 };
            assert!(idle_turns < 200, "time stands still at {:?}", self.now);
            self.wake_too_early(next.saturating_sub(Duration::from_nanos(1)), wake);
            self.now = self.now.max(next);
            self.step(wake);
            self.check();
        }
    }

    /// A time-out that comes before its time changes nothing.
    fn wake_too_early(&mut self, early: Instant, wake: Instant) {
        if self.now < early && early < wake {
            let _wake = self.node.handle_timeout(early, &mut self.out);
            assert!(self.out.is_empty(), "woken too early, the node asks for {:?}", self.out);
        }
    }

    pub(super) fn set_up(&mut self, up: bool) {
        self.up = up;
        if let (false, Some((op, _))) = (up, self.watch.take()) {
            let at = self.delay();
            self.send(at, Delivery::Watch(op, WatchEvent::Ended(None)));
        }
    }

    pub(super) fn compact(&mut self) {
        self.etcd.compacted = self.etcd.revision;
    }

    /// etcd comes back with an empty data directory.
    pub(super) fn lose_data(&mut self) {
        self.set_up(false);
        self.etcd = Etcd { next_lease: 1000 + self.etcd.next_lease, ..Etcd::default() };
        self.leases_broken = true;
        self.set_up(true);
    }

    fn step(&mut self, wake: Instant) {
        if self.up {
            self.etcd.expire(self.now);
            self.tell_watch();
        }
        if wake <= self.now {
            let wake = self.node.handle_timeout(self.now, &mut self.out);
            assert!(!wake.is_due(self.now) || !self.out.is_empty(), "a wake without progress: {wake:?}");
            self.carry_out();
            return;
        }
        let Some(entry) = self.queue.first_entry() else { return };
        if entry.key().0 > self.now {
            return;
        }
        match entry.remove() {
            Delivery::Request(intent) => self.serve(&intent),
            Delivery::Answer(op, outcome) => {
                let _: Disposition = self.node.handle_registry(self.now, op, outcome, &mut self.out);
            }
            Delivery::Watch(op, event) => {
                let _: Disposition = self.node.handle_watch(self.now, op, event, &mut self.out);
            }
        }
        self.carry_out();
    }

    fn carry_out(&mut self) {
        let intents: Vec<Intent> = self.out.drain_intents().collect();
        for intent in intents {
            let Intent::Registry(intent) = intent else { panic!("not for a registry: {intent:?}") };
            self.asked.insert(match intent {
                RegistryIntent::Register { .. } => "register",
                RegistryIntent::KeepAlive { .. } => "keep_alive",
                RegistryIntent::Deregister { .. } => "deregister",
                RegistryIntent::List { .. } => "list",
                RegistryIntent::Watch { .. } => "watch",
            });
            if !self.chance(self.faults.lose_request) {
                let at = self.delay();
                self.send(at, Delivery::Request(intent));
            }
        }
    }

    fn serve(&mut self, intent: &RegistryIntent) {
        if let RegistryIntent::Watch { op, after } = intent {
            return self.open_watch(*op, after.get());
        }
        let op = op_of(intent);
        let outcome =
            if self.up { self.etcd.answer(intent, self.now) } else { RegistryOutcome::Failed(None) };
        for _ in 0..=u8::from(self.chance(self.faults.double)) {
            if !self.chance(self.faults.lose_answer) {
                let at = self.delay();
                self.send(at, Delivery::Answer(op, outcome.clone()));
            }
        }
        self.tell_watch();
    }

    fn open_watch(&mut self, op: OpId, after: i64) {
        let at = self.delay();
        if !self.up {
            self.send(at, Delivery::Watch(op, WatchEvent::Ended(None)));
        } else if after < self.etcd.compacted {
            let revision = Revision::new(self.etcd.compacted);
            self.send(at, Delivery::Watch(op, WatchEvent::Compacted { revision }));
        } else {
            self.watch = Some((op, after));
            self.tell_watch();
        }
    }

    /// Sends the open watch what it has not been told: late, twice, in any order, or not at all.
    fn tell_watch(&mut self) {
        let Some((op, after)) = self.watch else { return };
        let news: Vec<_> = self.etcd.log.iter().filter(|(revision, _)| *revision > after).cloned().collect();
        for (revision, change) in news {
            self.watch = Some((op, revision));
            for _ in 0..=u8::from(self.chance(self.faults.double)) {
                if !self.chance(self.faults.lose_batch) {
                    let event = WatchEvent::Changed {
                        revision: Revision::new(revision),
                        changes: alloc::vec![change.clone()],
                    };
                    let at = self.delay();
                    self.send(at, Delivery::Watch(op, event));
                }
            }
        }
    }

    fn send(&mut self, at: Instant, delivery: Delivery) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), delivery);
    }

    fn delay(&mut self) -> Instant {
        let most = if self.chance(self.faults.slow) { 4_000_000 } else { 2_000 };
        let micros = 100 + self.rng.below(most);
        self.now.saturating_add(Duration::from_micros(micros))
    }

    fn check(&self) {
        if self.node.is_registered(self.now) && !self.leases_broken {
            assert!(
                self.etcd.has_lease(self.now),
                "believes to be registered past the lease at {:?}",
                self.now
            );
        }
        let members = self.node.members();
        assert!(members.windows(2).all(|pair| pair[0].addr < pair[1].addr), "not sorted: {members:?}");
        for member in members {
            let peer = self.node.peer_id(&member.addr).expect("every member has an id");
            assert_eq!(self.node.peer_addr(peer), Some(&member.addr));
        }
    }

    /// The view is what the registry holds, and we are in it.
    pub(super) fn assert_converged(&self, context: &str) {
        let held: Vec<MemberRecord> = self.etcd.list();
        assert_eq!(self.node.members(), held, "{context}");
        assert!(self.node.is_registered(self.now), "{context}: not registered");
        assert!(self.etcd.records.contains_key(ME), "{context}: no record");
    }

    pub(super) fn addrs(&self) -> Vec<String> {
        self.node.members().iter().map(|member| String::from(&*member.addr)).collect()
    }
}

fn op_of(intent: &RegistryIntent) -> OpId {
    match intent {
        RegistryIntent::Register { op, .. }
        | RegistryIntent::KeepAlive { op, .. }
        | RegistryIntent::Deregister { op, .. }
        | RegistryIntent::List { op }
        | RegistryIntent::Watch { op, .. } => *op,
    }
}
