//! Behaviour of [`Membership`]: single stories told by hand, then random ones against the model.

mod figures;
mod lease;
mod random;
mod view;

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::time::Duration;

use super::model::{Faults, ME, World};
use super::*;
use crate::effects::{Intent, RegistryIntent};
use crate::id::LeaseId;

const SECOND: Duration = Duration::from_secs(1);
const A: &str = "127.0.0.1:7001";
const B: &str = "127.0.0.1:7002";

fn world(seed: u64) -> World {
    World::new(seed, MembershipConfig::new(ME), Instant::from_nanos(1 << 40))
}

fn settled() -> World {
    let mut world = world(1);
    world.etcd.put(MemberRecord::new(A, 1), None);
    world.start();
    world.run(SECOND);
    world.assert_converged("at first");
    world
}

/// A membership without a network: the test answers.
struct Hand {
    node: Membership,
    out: Effects<()>,
    now: Instant,
}

impl Hand {
    fn started() -> (Self, OpId, OpId) {
        Self::with(MembershipConfig::new(ME))
    }

    fn with(config: MembershipConfig) -> (Self, OpId, OpId) {
        let now = Instant::from_nanos(1_000_000_000);
        let node = Membership::new(config, 3, now).unwrap();
        let mut hand = Self { node, out: Effects::new(), now };
        hand.node.start(now, &mut hand.out);
        let asked = hand.asked();
        let [RegistryIntent::Register { op: register, .. }, RegistryIntent::List { op: list }] = asked[..]
        else {
            panic!("{asked:?}")
        };
        (hand, register, list)
    }

    fn asked(&mut self) -> Vec<RegistryIntent> {
        let registry = |intent| match intent {
            Intent::Registry(intent) => intent,
            other => panic!("{other:?}"),
        };
        self.out.drain_intents().map(registry).collect()
    }

    fn answer(&mut self, op: OpId, outcome: RegistryOutcome) -> Disposition {
        self.node.handle_registry(self.now, op, outcome, &mut self.out)
    }

    fn registered(&mut self, op: OpId, lease: i64) -> Disposition {
        self.answer(op, RegistryOutcome::Registered { lease: LeaseId::new(lease), ttl: 5 * SECOND })
    }

    fn listed(&mut self, op: OpId, addrs: &[&str], revision: i64) -> Disposition {
        let records = addrs.iter().map(|addr| MemberRecord::new(*addr, 1)).collect();
        self.answer(op, RegistryOutcome::Listed { records, revision: Revision::new(revision) })
    }

    fn changed(&mut self, op: OpId, revision: i64, changes: Vec<Change>) -> Disposition {
        let event = WatchEvent::Changed { revision: Revision::new(revision), changes };
        self.node.handle_watch(self.now, op, event, &mut self.out)
    }

    /// Sleeps to each wake in turn until `to`, and answers all that was asked for on the way.
    fn sleep_to(&mut self, to: Instant) -> Vec<(Instant, RegistryIntent)> {
        let mut asked = Vec::new();
        loop {
            let at = match self.node.next_wake() {
                Wake::Now => self.now,
                Wake::At(at) => at,
                Wake::Idle => Instant::MAX,
            };
            if at > to {
                self.wake_too_early(to);
                self.now = to;
                return asked;
            }
            self.wake_too_early(at.saturating_sub(Duration::from_nanos(1)));
            self.now = at;
            let wake = self.node.handle_timeout(at, &mut self.out);
            assert!(!wake.is_due(at), "{wake:?} at {at:?}");
            asked.extend(self.asked().into_iter().map(|intent| (at, intent)));
        }
    }

    /// A time-out that comes before its time changes nothing.
    fn wake_too_early(&mut self, early: Instant) {
        let wake = self.node.next_wake();
        if !wake.is_due(early) {
            assert_eq!(self.node.handle_timeout(early.max(self.now), &mut self.out), wake);
            assert!(self.out.is_empty(), "{:?}", self.out);
        }
    }

    fn addrs(&self) -> Vec<&str> {
        self.node.members().iter().map(|member| &*member.addr).collect()
    }
}

fn put(addr: &str) -> Change {
    Change::Put(MemberRecord::new(addr, 1))
}

fn delete(addr: &str) -> Change {
    Change::Delete(Arc::from(addr))
}

fn watch_op(asked: &[RegistryIntent]) -> (OpId, i64) {
    let found = asked.iter().find_map(|intent| match intent {
        RegistryIntent::Watch { op, after } => Some((*op, after.get())),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no watch in {asked:?}"))
}

/// Registered, listed [ME, A, B] at revision 10, watching.
fn watching() -> (Hand, OpId) {
    let (mut hand, register, list) = Hand::started();
    assert_eq!(hand.registered(register, 1), Disposition::Applied);
    assert_eq!(hand.listed(list, &[ME, A, B], 10), Disposition::Applied);
    let (op, after) = watch_op(&hand.asked());
    assert_eq!(after, 10);
    (hand, op)
}

#[test]
fn a_configuration_out_of_range_is_refused_by_field() {
    let bad = |change: &dyn Fn(&mut MembershipConfig)| {
        let mut config = MembershipConfig::new(ME);
        change(&mut config);
        match Membership::new(config, 0, Instant::ZERO).map(|_| ()) {
            Err(ConfigError::OutOfRange { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(bad(&|c| c.me = Arc::from("")), "me");
    assert_eq!(bad(&|c| c.weight = 0), "weight");
    assert_eq!(bad(&|c| c.weight = 257), "weight");
    assert_eq!(bad(&|c| c.lease_ttl = Duration::from_millis(999)), "lease_ttl");
    assert_eq!(bad(&|c| c.op_timeout = Duration::ZERO), "op_timeout");
    assert_eq!(bad(&|c| c.backoff_base = Duration::ZERO), "backoff_base");
    assert_eq!(bad(&|c| c.backoff_max = Duration::from_millis(1)), "backoff_max");
    assert_eq!(bad(&|c| c.empty_guard = 3601 * SECOND), "empty_guard");
    assert_eq!(bad(&|c| c.list_interval = Duration::ZERO), "list_interval");
    assert_eq!(bad(&|c| c.lease_ttl = 3601 * SECOND), "lease_ttl");
    assert_eq!(bad(&|c| c.op_timeout = 3601 * SECOND), "op_timeout");
    assert_eq!(bad(&|c| c.backoff_max = 3601 * SECOND), "backoff_max");
    assert_eq!(bad(&|c| c.list_interval = 24 * 3600 * SECOND + SECOND), "list_interval");
}

#[test]
fn a_configuration_at_its_limits_is_taken() {
    let (least, hour) = (Duration::from_millis(1), 3600 * SECOND);
    let mut config = MembershipConfig::new(ME);
    (config.weight, config.lease_ttl, config.op_timeout) = (256, SECOND, least);
    (config.backoff_base, config.backoff_max) = (least, least);
    (config.empty_guard, config.list_interval) = (Duration::ZERO, SECOND);
    assert!(Membership::new(config.clone(), 0, Instant::ZERO).is_ok());
    (config.weight, config.lease_ttl, config.op_timeout) = (1, hour, hour);
    (config.backoff_base, config.backoff_max) = (hour, hour);
    (config.empty_guard, config.list_interval) = (hour, 24 * hour);
    assert!(Membership::new(config, 0, Instant::ZERO).is_ok());
}

#[test]
fn a_node_registers_lists_watches_and_sees_others_come_and_go() {
    let mut world = settled();
    world.etcd.put(MemberRecord::new(B, 7), None);
    world.run(SECOND);
    assert_eq!(world.addrs(), [ME, A, B]);
    assert_eq!(world.node.members()[2].weight, 7);
    let epoch = world.node.epoch();
    world.etcd.delete(A);
    world.run(SECOND);
    assert_eq!(world.addrs(), [ME, B]);
    assert_eq!(world.node.epoch(), epoch + 1);
}

#[test]
fn a_peer_keeps_its_id_when_it_leaves_and_returns_and_no_other_gets_it() {
    let (hand, ..) = Hand::started();
    assert_eq!(hand.node.peer_id(ME), Some(PeerId::new(0)), "this node's, before anybody is known");
    let (mut hand, watch) = watching();
    let ids = [ME, A, B].map(|addr| hand.node.peer_id(addr).unwrap());
    let _ = hand.changed(watch, 11, vec![delete(A), put("127.0.0.1:7003")]);
    let new = hand.node.peer_id("127.0.0.1:7003").unwrap();
    assert!(!ids.contains(&new));
    let _ = hand.changed(watch, 12, vec![put(A)]);
    assert_eq!([ME, A, B].map(|addr| hand.node.peer_id(addr).unwrap()), ids);
    assert_eq!(hand.node.peer_id("127.0.0.1:9999"), None);
    assert_eq!(hand.node.peer_addr(ids[1]).map(|addr| &**addr), Some(A));
    assert_eq!(hand.node.peer_addr(PeerId::new(99)), None);
}

#[test]
fn answers_that_are_late_unknown_or_of_the_wrong_kind_change_nothing_but_a_counter() {
    let (mut hand, register, list) = Hand::started();
    assert_eq!(hand.answer(list, RegistryOutcome::LeaseLost), Disposition::Stale);
    assert_eq!(hand.answer(register, RegistryOutcome::Deregistered), Disposition::Stale);
    let asked = hand.sleep_to(hand.now.saturating_add(2 * SECOND));
    assert!(asked.is_empty(), "{asked:?}");
    assert_eq!(hand.registered(register, 1), Disposition::Stale);
    assert_eq!(hand.listed(list, &[A], 3), Disposition::Stale);
    assert_eq!(hand.changed(list, 3, vec![put(A)]), Disposition::Stale);
    assert_eq!(hand.node.stats().stale_dispositions, 5);
    assert!(!hand.node.has_view() && !hand.node.is_registered(hand.now));
}

#[test]
fn time_that_goes_backwards_is_clamped() {
    let (mut hand, register, _) = Hand::started();
    hand.now = Instant::from_nanos(5);
    let _ = hand.registered(register, 1);
    assert_eq!(hand.node.stats().clamped_time, 1);
    assert!(hand.node.is_registered(Instant::ZERO));
}

#[test]
fn the_cause_of_a_failure_is_kept() {
    let (mut hand, register, _) = Hand::started();
    let cause: Cause = Arc::new(ConfigError::OutOfRange { field: "x", expected: "y" });
    let _ = hand.answer(register, RegistryOutcome::Failed(Some(cause)));
    assert!(alloc::format!("{}", hand.node.last_error().unwrap()).contains("`x`"));
}
