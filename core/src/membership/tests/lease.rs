//! The record and its lease: kept alive, put again, taken back.

use super::*;

#[test]
fn keep_alives_come_every_third_of_the_lease_a_little_jittered() {
    let (mut hand, _) = watching();
    let mut waits = Vec::new();
    for turn in 1..=11 {
        let sent = hand.now;
        let asked = hand.sleep_to(sent.saturating_add(Duration::from_millis(1700)));
        let [(at, RegistryIntent::KeepAlive { op, lease })] = asked[..] else { panic!("{asked:?}") };
        assert_eq!(lease, LeaseId::new(1));
        let waited = at.saturating_since(sent);
        assert!(waited <= 5 * SECOND / 3 && waited >= 5 * SECOND / 3 * 9 / 10, "{waited:?}");
        hand.now = at;
        assert_eq!(hand.answer(op, RegistryOutcome::KeptAlive { ttl: 5 * SECOND }), Disposition::Applied);
        assert_eq!(hand.node.stats().keep_alives, turn);
        waits.push(waited);
    }
    let spread = *waits.iter().max().unwrap() - *waits.iter().min().unwrap();
    assert!(spread > 5 * SECOND / 60, "{waits:?}");
}

#[test]
fn a_keep_alive_that_is_not_answered_is_given_up_after_a_third_of_the_lease_and_tried_again() {
    let mut config = MembershipConfig::new(ME);
    config.op_timeout = 60 * SECOND;
    let (mut hand, register, list) = Hand::with(config);
    let _ = hand.registered(register, 1);
    let _ = hand.listed(list, &[ME], 1);
    hand.asked();
    let asked = hand.sleep_to(hand.now.saturating_add(5 * SECOND / 3));
    let [(sent, RegistryIntent::KeepAlive { .. })] = asked[..] else { panic!("{asked:?}") };
    assert_eq!(hand.node.next_wake(), Wake::At(sent.saturating_add(SECOND * 5 / 3)));
    let asked = hand.sleep_to(sent.saturating_add(2 * SECOND));
    assert!(matches!(asked[..], [(_, RegistryIntent::KeepAlive { .. })]), "{asked:?}");
    assert_eq!(hand.node.stats().failures, 1);
}

#[test]
fn a_keep_alive_that_is_answered_with_no_time_is_a_lost_lease() {
    let (mut hand, _) = watching();
    let asked = hand.sleep_to(hand.now.saturating_add(5 * SECOND / 3));
    let [(_, RegistryIntent::KeepAlive { op, .. })] = asked[..] else { panic!("{asked:?}") };
    assert_eq!(hand.answer(op, RegistryOutcome::KeptAlive { ttl: Duration::ZERO }), Disposition::Applied);
    assert!(!hand.node.is_registered(hand.now));
    let asked = hand.sleep_to(hand.now.saturating_add(SECOND / 10));
    assert!(matches!(asked[..], [(_, RegistryIntent::Register { .. })]), "{asked:?}");
    assert_eq!((hand.node.stats().leases_lost, hand.node.stats().keep_alives), (1, 0));
}

#[test]
fn an_answer_to_another_operation_says_nothing_of_the_one_under_way() {
    let other = OpId::new(999);
    let failed = || RegistryOutcome::Failed(None);
    let (mut hand, register, list) = Hand::started();
    assert_eq!(hand.registered(other, 1), Disposition::Stale);
    assert_eq!(hand.answer(other, failed()), Disposition::Stale);
    assert_eq!(hand.listed(other, &[A], 9), Disposition::Stale);
    assert_eq!(hand.registered(register, 1), Disposition::Applied, "it was still waited for");
    assert_eq!(hand.listed(list, &[ME], 1), Disposition::Applied, "it as well");
    hand.asked();
    let asked = hand.sleep_to(hand.now.saturating_add(5 * SECOND / 3));
    let [(_, RegistryIntent::KeepAlive { op, .. })] = asked[..] else { panic!("{asked:?}") };
    for outcome in [RegistryOutcome::KeptAlive { ttl: 5 * SECOND }, RegistryOutcome::LeaseLost, failed()] {
        assert_eq!(hand.answer(other, outcome), Disposition::Stale);
    }
    assert_eq!(hand.answer(op, RegistryOutcome::KeptAlive { ttl: 5 * SECOND }), Disposition::Applied);
    hand.node.stop(hand.now, &mut hand.out);
    let asked = hand.asked();
    let [RegistryIntent::Deregister { op, .. }] = asked[..] else { panic!("{asked:?}") };
    assert_eq!(hand.answer(other, RegistryOutcome::Deregistered), Disposition::Stale);
    assert_eq!(hand.answer(other, failed()), Disposition::Stale);
    assert_eq!(hand.answer(op, RegistryOutcome::Deregistered), Disposition::Applied);
    assert!(hand.node.is_stopped());
}

#[test]
fn a_registration_that_fails_is_tried_again_soon_and_the_list_goes_on_without_it() {
    let (mut hand, register, list) = Hand::started();
    assert_eq!(hand.answer(register, RegistryOutcome::Failed(None)), Disposition::Applied);
    let asked = hand.sleep_to(hand.now.saturating_add(SECOND / 10));
    assert!(matches!(asked[..], [(_, RegistryIntent::Register { .. })]), "{asked:?}");
    assert_eq!(hand.listed(list, &[A], 1), Disposition::Applied);
    assert_eq!(hand.node.stats().failures, 1);
}

#[test]
fn a_deregistration_that_fails_is_tried_again_soon() {
    let (mut hand, _) = watching();
    hand.node.stop(hand.now, &mut hand.out);
    let asked = hand.asked();
    let [RegistryIntent::Deregister { op, lease }] = asked[..] else { panic!("{asked:?}") };
    assert_eq!(hand.answer(op, RegistryOutcome::Failed(None)), Disposition::Applied);
    assert!(!hand.node.is_stopped());
    let asked = hand.sleep_to(hand.now.saturating_add(SECOND / 10));
    let [(_, RegistryIntent::Deregister { op, lease: again })] = asked[..] else { panic!("{asked:?}") };
    assert_eq!((lease, again), (Some(LeaseId::new(1)), Some(LeaseId::new(1))));
    let _ = hand.answer(op, RegistryOutcome::Deregistered);
    assert_eq!((hand.node.is_stopped(), hand.node.stats().failures), (true, 1));
}

/// Stopped while the registration was under way, and deregistered. Answers the registration, and until when it may still come.
fn stopped_amid_registration() -> (Hand, OpId, Instant) {
    let (mut hand, register, _) = Hand::started();
    let until = hand.now.saturating_add(2 * SECOND);
    hand.now = hand.now.saturating_add(SECOND);
    hand.node.stop(hand.now, &mut hand.out);
    let asked = hand.asked();
    let [RegistryIntent::Deregister { op, .. }] = asked[..] else { panic!("{asked:?}") };
    let _ = hand.answer(op, RegistryOutcome::Deregistered);
    assert!(!hand.node.is_stopped());
    (hand, register, until)
}

#[test]
fn a_late_registration_is_watched_out_for_as_long_as_it_may_come() {
    let (mut hand, _, until) = stopped_amid_registration();
    assert_eq!(hand.node.next_wake(), Wake::At(until));
    assert!(hand.sleep_to(until).is_empty());
    assert_eq!((hand.node.is_stopped(), hand.node.next_wake()), (true, Wake::Idle));
}

#[test]
fn a_late_registration_is_taken_back_though_the_stop_has_had_to_be_repeated() {
    let (mut hand, register, _) = Hand::started();
    hand.node.stop(hand.now, &mut hand.out);
    let asked = hand.asked();
    let [RegistryIntent::Deregister { op, .. }] = asked[..] else { panic!("{asked:?}") };
    let _ = hand.answer(op, RegistryOutcome::Failed(None));
    let asked = hand.sleep_to(hand.now.saturating_add(SECOND / 10));
    assert!(matches!(asked[..], [(_, RegistryIntent::Deregister { .. })]), "{asked:?}");
    assert_eq!(hand.registered(register, 9), Disposition::Applied);
    let asked = hand.asked();
    assert!(matches!(asked[..], [RegistryIntent::Deregister { lease: Some(_), .. }]), "{asked:?}");
}

#[test]
fn a_late_registration_that_fails_ends_the_stop() {
    let (mut hand, register, _) = stopped_amid_registration();
    assert_eq!(hand.answer(register, RegistryOutcome::LeaseLost), Disposition::Stale, "no answer to that");
    assert_eq!(hand.answer(register, RegistryOutcome::Failed(None)), Disposition::Applied);
    assert_eq!((hand.node.is_stopped(), hand.node.stats().failures), (true, 1));
}

#[test]
fn a_stop_that_is_confirmed_when_no_registration_can_come_any_more_is_over_at_once() {
    let (mut hand, _, _) = Hand::started();
    let until = hand.now.saturating_add(2 * SECOND);
    hand.now = hand.now.saturating_add(SECOND);
    hand.node.stop(hand.now, &mut hand.out);
    let asked = hand.asked();
    let [RegistryIntent::Deregister { op, .. }] = asked[..] else { panic!("{asked:?}") };
    hand.now = until;
    let _ = hand.answer(op, RegistryOutcome::Deregistered);
    assert!(hand.node.is_stopped());
}

#[test]
fn a_node_starts_and_stops_and_each_makes_a_new_ring() {
    let now = Instant::from_nanos(1);
    let (mut node, mut out) =
        (Membership::new(MembershipConfig::new(ME), 3, now).unwrap(), Effects::<()>::new());
    let state = |node: &Membership| (node.is_running(), node.is_stopped(), node.ring_epoch());
    assert_eq!((state(&node), node.has_view(), node.epoch()), ((false, false, 0), false, 0));
    node.start(now, &mut out);
    assert_eq!(state(&node), (true, false, 1));
    node.start(now, &mut out);
    assert_eq!(state(&node), (true, false, 1), "it runs already");
    let list = out.drain_intents().find_map(|intent| match intent {
        Intent::Registry(RegistryIntent::List { op }) => Some(op),
        _ => None,
    });
    let outcome =
        RegistryOutcome::Listed { records: vec![MemberRecord::new(A, 1)], revision: Revision::new(4) };
    let _ = node.handle_registry(now, list.unwrap(), outcome, &mut out);
    assert_eq!((state(&node), node.has_view(), node.epoch()), ((true, false, 2), true, 1));
    node.stop(now, &mut out);
    node.stop(now, &mut out);
    assert_eq!(state(&node), (false, false, 3), "it leaves");
    node.start(now, &mut out);
    assert_eq!(node.ring_epoch(), 3 + u64::from(node.is_running()));
}

#[test]
fn a_membership_that_is_behind_its_time_wants_to_be_called_at_once() {
    let (mut hand, _, list) = Hand::started();
    hand.now = hand.now.saturating_add(2 * SECOND);
    let _ = hand.listed(list, &[A], 1);
    assert_eq!(hand.node.next_wake(), Wake::Now, "the registration has run out of time");
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
