//! Behaviour of [`Membership`]: single stories told by hand, then random ones against the model.

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
                self.now = to;
                return asked;
            }
            self.now = at;
            let wake = self.node.handle_timeout(at, &mut self.out);
            assert!(!wake.is_due(at), "{wake:?} at {at:?}");
            asked.extend(self.asked().into_iter().map(|intent| (at, intent)));
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
    let (mut hand, watch) = watching();
    let ids = [ME, A, B].map(|addr| hand.node.peer_id(addr).unwrap());
    let _ = hand.changed(watch, 11, vec![delete(A), put("127.0.0.1:7003")]);
    let new = hand.node.peer_id("127.0.0.1:7003").unwrap();
    assert!(!ids.contains(&new));
    let _ = hand.changed(watch, 12, vec![put(A)]);
    assert_eq!([ME, A, B].map(|addr| hand.node.peer_id(addr).unwrap()), ids);
    assert_eq!(hand.node.peer_id("127.0.0.1:9999"), None);
}

#[test]
fn keep_alives_come_every_third_of_the_lease_a_little_jittered() {
    let (mut hand, _) = watching();
    for _ in 0..20 {
        let sent = hand.now;
        let asked = hand.sleep_to(sent.saturating_add(Duration::from_millis(1700)));
        let [(at, RegistryIntent::KeepAlive { op, lease })] = asked[..] else { panic!("{asked:?}") };
        assert_eq!(lease, LeaseId::new(1));
        let waited = at.saturating_since(sent);
        assert!(waited <= 5 * SECOND / 3 && waited >= 5 * SECOND / 3 * 9 / 10, "{waited:?}");
        hand.now = at;
        assert_eq!(hand.answer(op, RegistryOutcome::KeptAlive { ttl: 5 * SECOND }), Disposition::Applied);
        if hand.node.stats().keep_alives > 10 {
            break; // before the list is due
        }
    }
}

#[test]
fn keep_alives_that_fail_are_retried_while_the_lease_lives_and_then_the_node_registers_anew() {
    let (mut hand, _) = watching();
    let ends = hand.now.saturating_add(5 * SECOND);
    let asked = hand.sleep_to(ends);
    let keep_alives = asked.iter().filter(|(_, i)| matches!(i, RegistryIntent::KeepAlive { .. })).count();
    assert!(keep_alives >= 2, "{asked:?}");
    assert!(matches!(asked.last(), Some((at, RegistryIntent::Register { .. })) if *at == ends), "{asked:?}");
    assert_eq!(hand.node.stats().leases_lost, 1);
}

#[test]
fn registration_is_believed_no_longer_than_the_lease_counted_from_the_request() {
    let (mut hand, register, _) = Hand::started();
    let sent = hand.now;
    hand.now = sent.saturating_add(SECOND);
    let _ = hand.registered(register, 1);
    let before_end = sent.saturating_add(5 * SECOND).saturating_sub(Duration::from_nanos(1));
    assert!(hand.node.is_registered(before_end));
    assert!(!hand.node.is_registered(sent.saturating_add(5 * SECOND)));
}

#[test]
fn an_answer_that_took_longer_than_the_lease_is_no_registration() {
    let mut config = MembershipConfig::new(ME);
    config.op_timeout = 20 * SECOND;
    let (mut hand, register, _) = Hand::with(config);
    hand.now = hand.now.saturating_add(6 * SECOND);
    assert_eq!(hand.registered(register, 1), Disposition::Applied);
    assert!(!hand.node.is_registered(hand.now));
    let asked = hand.sleep_to(hand.now.saturating_add(SECOND / 5));
    assert!(matches!(asked[..], [(_, RegistryIntent::Register { .. })]), "{asked:?}");
}

#[test]
fn a_registry_that_never_answers_is_asked_again_for_ever_with_bounded_delays() {
    let (mut hand, _, _) = Hand::started();
    let asked = hand.sleep_to(hand.now.saturating_add(600 * SECOND));
    let registers: Vec<_> = asked
        .iter()
        .filter(|(_, i)| matches!(i, RegistryIntent::Register { .. }))
        .map(|(at, _)| *at)
        .collect();
    let gaps: Vec<_> = registers.windows(2).map(|pair| pair[1].saturating_since(pair[0])).collect();
    assert!(gaps.iter().all(|gap| *gap <= 5 * SECOND && *gap >= 2 * SECOND), "{gaps:?}");
    assert!(registers.len() > 100);
    assert!(!hand.node.has_view() && !hand.node.is_registered(hand.now));
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
fn batches_that_are_late_doubled_or_out_of_order_do_not_turn_the_view_back() {
    let (mut hand, watch) = watching();
    assert_eq!(hand.changed(watch, 10, vec![delete(A)]), Disposition::Stale, "the list was younger");
    let _ = hand.changed(watch, 14, vec![delete(B)]);
    let _ = hand.changed(watch, 13, vec![put(B)]);
    assert_eq!(hand.addrs(), [ME, A], "13 was older than 14");
    let _ = hand.changed(watch, 12, vec![put("127.0.0.1:7003")]);
    let _ = hand.changed(watch, 14, vec![delete(B)]);
    assert_eq!(hand.addrs(), [ME, A, "127.0.0.1:7003"], "12 was news all the same");
    assert_eq!(hand.node.revision(), Revision::new(14));
}

#[test]
fn a_list_that_is_older_than_the_watch_does_not_turn_the_view_back() {
    let (mut hand, watch) = watching();
    // A deletion of our own record makes the node list at once; before the answer comes, the watch tells more.
    let _ = hand.changed(watch, 11, vec![delete(ME)]);
    let asked = hand.sleep_to(hand.now);
    let [(_, RegistryIntent::List { op })] = asked[..] else { panic!("{asked:?}") };
    let _ = hand.changed(watch, 13, vec![delete(A)]);
    let _ = hand.listed(op, &[ME, A, B], 12);
    assert_eq!(hand.addrs(), [ME, B]);
    assert!(hand.node.is_registered(hand.now));
}

#[test]
fn a_watch_that_ends_is_opened_again_behind_the_last_seen_revision_and_a_list_goes_with_it() {
    let (mut hand, watch) = watching();
    let _ = hand.changed(watch, 17, vec![delete(A)]);
    assert_eq!(
        hand.node.handle_watch(hand.now, watch, WatchEvent::Ended(None), &mut hand.out),
        Disposition::Applied
    );
    let asked = hand.sleep_to(hand.now.saturating_add(SECOND / 5));
    let intents: Vec<_> = asked.into_iter().map(|(_, intent)| intent).collect();
    assert_eq!(watch_op(&intents).1, 17);
    assert!(intents.iter().any(|intent| matches!(intent, RegistryIntent::List { .. })), "{intents:?}");
    assert_eq!(hand.changed(watch, 18, vec![put(A)]), Disposition::Stale, "the old watch is over");
}

#[test]
fn a_compacted_watch_is_replaced_by_a_list_and_a_watch_behind_it() {
    let (mut hand, watch) = watching();
    let event = WatchEvent::Compacted { revision: Revision::new(50) };
    assert_eq!(hand.node.handle_watch(hand.now, watch, event, &mut hand.out), Disposition::Applied);
    let asked = hand.sleep_to(hand.now.saturating_add(SECOND / 5));
    let [(_, RegistryIntent::List { op })] = asked[..] else { panic!("{asked:?}") };
    let _ = hand.listed(op, &[ME, B], 60);
    assert_eq!(watch_op(&hand.asked()).1, 60);
    assert_eq!(hand.addrs(), [ME, B]);
}

#[test]
fn a_watch_that_is_silent_is_found_out_by_the_slow_list_and_opened_anew() {
    let (mut hand, _) = watching();
    let mut reopened = None;
    let end = hand.now.saturating_add(61 * SECOND);
    while hand.now < end && reopened.is_none() {
        for (_, intent) in hand.sleep_to(hand.now.saturating_add(SECOND / 10)) {
            match intent {
                RegistryIntent::KeepAlive { op, .. } => {
                    let _ = hand.answer(op, RegistryOutcome::KeptAlive { ttl: 5 * SECOND });
                }
                RegistryIntent::List { op } => {
                    let _ = hand.listed(op, &[ME, A], 90);
                    reopened = Some(watch_op(&hand.asked()).1);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(reopened, Some(90));
    assert_eq!(hand.node.stats().watch_missed, 1);
    assert_eq!(hand.addrs(), [ME, A]);
}

#[test]
fn a_record_that_is_missing_while_registered_is_put_again_but_only_once_a_younger_list_says_so() {
    let (mut hand, register, list) = Hand::started();
    let _ = hand.registered(register, 1);
    let _ = hand.listed(list, &[A], 5);
    assert!(hand.node.is_registered(hand.now), "the list was asked for before the record stood");
    let (watch, _) = watch_op(&hand.asked());
    let _ = hand.changed(watch, 6, vec![put(ME)]);
    let _ = hand.changed(watch, 7, vec![delete(ME)]);
    let asked = hand.sleep_to(hand.now);
    let [(_, RegistryIntent::List { op })] = asked[..] else { panic!("{asked:?}") };
    let _ = hand.listed(op, &[A], 7);
    assert!(!hand.node.is_registered(hand.now));
    let asked = hand.sleep_to(hand.now.saturating_add(SECOND / 5));
    assert!(asked.iter().any(|(_, i)| matches!(i, RegistryIntent::Register { .. })), "{asked:?}");
    assert_eq!(hand.node.stats().record_missing, 1);
}

#[test]
fn a_view_without_any_other_member_is_not_believed_before_a_list_confirms_it_after_the_guard() {
    let mut world = settled();
    world.etcd.put(MemberRecord::new(B, 1), None);
    world.run(SECOND);
    world.etcd.delete(B);
    world.run(SECOND);
    world.etcd.delete(A);
    world.run(9 * SECOND);
    assert_eq!(world.addrs(), [ME, A], "withheld");
    world.run(2 * SECOND);
    assert_eq!(world.addrs(), [ME], "confirmed");
    assert_eq!(world.node.stats().views_withheld, 1);
}

#[test]
fn the_one_other_member_that_leaves_is_believed_to_have_left() {
    let mut world = settled();
    world.etcd.delete(A);
    world.run(SECOND);
    assert_eq!(world.addrs(), [ME]);
    assert_eq!(world.node.stats().views_withheld, 0);
}

#[test]
fn a_view_that_recovers_within_the_guard_is_taken_at_once() {
    let mut world = settled();
    world.etcd.put(MemberRecord::new(B, 1), None);
    world.run(SECOND);
    world.etcd.delete(B);
    world.run(SECOND);
    let epoch = world.node.epoch();
    world.etcd.delete(A);
    world.run(3 * SECOND);
    world.etcd.put(MemberRecord::new(A, 1), None);
    world.run(SECOND);
    world.etcd.put(MemberRecord::new(B, 1), None);
    world.run(SECOND);
    assert_eq!(world.addrs(), [ME, A, B]);
    assert_eq!(world.node.epoch(), epoch + 1);
    world.run(30 * SECOND);
    world.assert_converged("later");
}

#[test]
fn the_last_view_stays_through_an_outage_and_the_record_is_back_after_it() {
    let mut world = settled();
    world.set_up(false);
    world.run(30 * SECOND);
    assert_eq!(world.addrs(), [ME, A]);
    assert!(!world.node.is_registered(world.now));
    world.set_up(true);
    world.run(6 * SECOND);
    world.assert_converged("after the outage");
}

#[test]
fn a_registry_that_lost_its_data_is_listed_again_and_registered_with_again() {
    let mut world = settled();
    for port in 7003..7020 {
        world.etcd.put(MemberRecord::new(alloc::format!("127.0.0.1:{port}"), 1), None);
    }
    world.run(SECOND);
    world.lose_data();
    world.etcd.put(MemberRecord::new(B, 1), None);
    world.run(5 * SECOND);
    assert!(world.addrs().iter().any(|addr| addr == B), "who comes is seen at once");
    world.run(8 * SECOND);
    world.assert_converged("after the loss");
    assert_eq!(world.addrs(), [ME, B]);
    assert_eq!(world.node.stats().revision_regressions, 1);
}

#[test]
fn members_that_register_again_after_a_loss_of_data_have_never_left() {
    let mut world = settled();
    // All but one of them: that nobody is left is guarded against besides.
    for member in [B, "127.0.0.1:7003", "127.0.0.1:7004"] {
        world.etcd.put(MemberRecord::new(member, 1), None);
    }
    world.run(SECOND);
    let (members, epoch) = (world.addrs(), world.node.epoch());
    world.lose_data();
    world.etcd.put(MemberRecord::new(B, 1), None);
    for member in [A, "127.0.0.1:7003", "127.0.0.1:7004"] {
        world.run(2 * SECOND);
        assert_eq!(world.addrs(), members, "before {member} is back");
        world.etcd.put(MemberRecord::new(member, 1), None);
    }
    world.run(30 * SECOND);
    world.assert_converged("when all are back");
    assert_eq!(world.addrs(), members);
    assert_eq!(world.node.stats().revision_regressions, 1);
    // At most this node's own record has gone and come.
    assert!(world.node.epoch() <= epoch + 2, "from epoch {epoch} to {}", world.node.epoch());
}

#[test]
fn a_revoked_lease_is_granted_anew() {
    let mut world = settled();
    world.leases_broken = true;
    world.etcd.revoke(1);
    world.run(5 * SECOND);
    world.assert_converged("after the revocation");
    assert_eq!(world.node.stats().leases_lost, 1);
}

#[test]
fn stop_takes_the_record_back_at_once_and_asks_for_nothing_more() {
    let mut world = settled();
    world.stop();
    world.stop();
    world.run(SECOND / 10);
    assert!(world.node.is_stopped());
    assert!(!world.etcd.records.contains_key(ME));
    assert_eq!(world.node.next_wake(), Wake::Idle);
    assert_eq!(world.node.members().len(), 2, "the last view stays");
    world.asked.clear();
    world.run(300 * SECOND);
    assert!(world.asked.is_empty(), "{:?}", world.asked);
}

#[test]
fn stop_before_start_is_stopped_and_start_after_stop_registers_again() {
    let mut world = world(4);
    world.stop();
    assert!(world.node.is_stopped() && world.asked.is_empty());
    world.start();
    assert!(!world.node.is_stopped());
    world.run(SECOND);
    world.assert_converged("started after a stop");
    world.stop();
    world.start();
    world.run(70 * SECOND);
    world.assert_converged("started while stopping");
}

#[test]
fn a_registration_that_succeeds_after_stop_is_taken_back() {
    let (mut hand, register, _) = Hand::started();
    hand.node.stop(hand.now, &mut hand.out);
    let asked = hand.asked();
    let [RegistryIntent::Deregister { op, lease: None }] = asked[..] else { panic!("{asked:?}") };
    let _ = hand.answer(op, RegistryOutcome::Deregistered);
    assert!(!hand.node.is_stopped(), "the registration may still arrive");
    assert_eq!(hand.registered(register, 9), Disposition::Applied);
    let asked = hand.asked();
    let [RegistryIntent::Deregister { op, lease: Some(lease) }] = asked[..] else { panic!("{asked:?}") };
    assert_eq!(lease, LeaseId::new(9));
    let _ = hand.answer(op, RegistryOutcome::Deregistered);
    assert!(hand.node.is_stopped());
}

#[test]
fn stop_gives_up_on_a_dead_registry_once_the_record_cannot_be_there_any_more() {
    let (mut hand, _) = watching();
    let stopped_at = hand.now;
    hand.node.stop(hand.now, &mut hand.out);
    let mut tries = hand.asked().len();
    while !hand.node.is_stopped() {
        tries += hand.sleep_to(hand.now.saturating_add(SECOND / 10)).len();
        assert!(hand.now.saturating_since(stopped_at) < 15 * SECOND);
    }
    assert!(tries >= 3, "{tries}");
}

#[test]
fn records_that_no_ring_could_be_built_of_are_made_fit() {
    let mut config = MembershipConfig::new(ME);
    config.max_members = core::num::NonZeroUsize::new(3).unwrap();
    let (mut hand, _, list) = Hand::with(config);
    let records = vec![
        MemberRecord::new(A, 0),
        MemberRecord::new(B, 9999),
        MemberRecord::new(B, 5).with_key("another"),
        MemberRecord::new("", 1).with_key("empty"),
        MemberRecord::new("c:1", 1).with_key("d:1"),
        MemberRecord::new("z:1", 1),
    ];
    let _ = hand.answer(list, RegistryOutcome::Listed { records, revision: Revision::new(9) });
    let members: Vec<_> = hand.node.members().iter().map(|m| (&*m.addr, m.weight)).collect();
    assert_eq!(members, [(A, 1), (B, 256), ("c:1", 1)]);
    assert_eq!(hand.node.stats().members_refused, 1);
    let (watch, _) = watch_op(&hand.asked());
    let _ = hand.changed(watch, 10, vec![delete("d:1")]);
    assert_eq!(hand.addrs(), [A, B, "z:1"], "a deletion names the key, not the address");
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

fn draw_faults(world: &mut World, lose_data: bool) -> Faults {
    let mut chance = |most| if world.chance(512) { world.below(most) } else { 0 };
    Faults {
        lose_request: chance(400),
        lose_answer: chance(400),
        double: chance(512),
        slow: chance(512),
        lose_batch: chance(200),
        outage: chance(300),
        compact: chance(300),
        lose_data: if lose_data { chance(100) } else { 0 },
    }
}

fn meddle(world: &mut World) {
    let port = 7001 + world.below(4);
    let addr = alloc::format!("127.0.0.1:{port}");
    match world.below(3) {
        0 => world.etcd.delete(&addr),
        _ => {
            let weight = 1 + u32::try_from(world.below(3)).unwrap();
            world.etcd.put(MemberRecord::new(addr, weight), None);
        }
    }
    if world.chance(world.faults.outage) {
        let up = world.chance(512);
        world.set_up(up);
    }
    if world.chance(world.faults.compact) {
        world.compact();
    }
    if world.chance(world.faults.lose_data) {
        world.lose_data();
    }
}

/// Faults, then health, then a stop.
fn story(seed: u64, lose_data: bool) -> World {
    let start = if seed % 2 == 0 { Instant::ZERO } else { Instant::from_nanos(u64::MAX / 2) };
    let mut world = World::new(seed, MembershipConfig::new(ME), start);
    world.start();
    world.faults = draw_faults(&mut world, lose_data);
    for _ in 0..60 {
        meddle(&mut world);
        let pause = Duration::from_millis(world.below(4000));
        world.run(pause);
    }
    world
}

#[test]
fn when_faults_end_the_view_is_the_registrys_and_the_node_is_in_it() {
    for seed in 0..400 {
        let mut world = story(seed, seed % 4 == 0);
        world.faults = Faults::default();
        world.set_up(true);
        world.run(140 * SECOND);
        world.assert_converged(&alloc::format!("seed {seed}"));
        world.stop();
        world.run(SECOND / 10);
        assert!(world.node.is_stopped(), "seed {seed}");
        assert!(!world.etcd.records.contains_key(ME), "seed {seed}");
    }
}

#[test]
fn a_stop_amid_faults_comes_to_an_end_and_leaves_no_record() {
    for seed in 1000..1300 {
        let mut world = story(seed, false);
        world.stop();
        world.run(20 * SECOND);
        assert!(world.node.is_stopped(), "seed {seed}");
        world.set_up(true);
        world.run(15 * SECOND);
        assert!(!world.etcd.records.contains_key(ME), "seed {seed}");
    }
}

#[test]
fn one_seed_tells_one_story() {
    let trace = |seed| {
        let world = story(seed, true);
        (world.node.stats(), world.now, world.etcd.revision, world.node.epoch())
    };
    assert_eq!(trace(77), trace(77));
    assert_ne!(trace(77), trace(78));
}
