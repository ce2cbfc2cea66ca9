//! The record and its lease: kept alive, put again, taken back.

use super::*;

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
