//! The view of the fleet: what is believed, and when.

use alloc::string::String;

use super::*;

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
fn a_list_has_the_last_word_on_its_own_revision() {
    let (mut hand, watch) = watching();
    let _ = hand.changed(watch, 11, vec![delete(ME), put("127.0.0.1:7003")]);
    let asked = hand.sleep_to(hand.now);
    let [(_, RegistryIntent::List { op })] = asked[..] else { panic!("{asked:?}") };
    let _ = hand.listed(op, &[ME, A, B], 11);
    assert_eq!(hand.addrs(), [ME, A, B]);
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
fn a_change_of_others_is_taken_and_nothing_is_asked_for() {
    let (mut hand, watch) = watching();
    let _ = hand.changed(watch, 11, vec![put("127.0.0.1:7003")]);
    let _ = hand.changed(watch, 12, vec![delete(A)]);
    assert!(hand.sleep_to(hand.now).is_empty());
    assert_eq!(hand.addrs(), [ME, B, "127.0.0.1:7003"]);
}

#[test]
fn everything_is_listed_again_in_time_and_a_watch_that_missed_nothing_goes_on() {
    let mut world = settled();
    let mut before = world.node.stats();
    for _ in 0..5 {
        world.run(45 * SECOND - SECOND / 100);
        assert_eq!(world.node.stats().lists, before.lists, "not so soon");
        world.run(15 * SECOND + SECOND / 50);
        let stats = world.node.stats();
        assert_eq!(stats.lists, before.lists + 1, "at least every `list_interval`");
        assert_eq!((stats.watches, stats.watch_missed), (before.watches, 0));
        before = stats;
        // To just behind the list.
        while world.node.stats().lists == before.lists {
            world.run(SECOND / 100);
        }
        before = world.node.stats();
    }
}

#[test]
fn a_young_watch_is_given_time_to_tell_what_a_list_knows_already() {
    for (age, reopened) in [(2 * SECOND, false), (2 * SECOND + Duration::from_nanos(1), true)] {
        let (mut hand, watch) = watching();
        hand.now = hand.now.saturating_add(age);
        // That our own record is gone makes the node list.
        let _ = hand.changed(watch, 11, vec![delete(ME)]);
        let asked = hand.sleep_to(hand.now);
        let list = asked.iter().find_map(|(_, intent)| match intent {
            RegistryIntent::List { op } => Some(*op),
            _ => None,
        });
        let _ = hand.listed(list.unwrap(), &[ME, A], 12);
        assert_eq!(hand.node.stats().watch_missed, u64::from(reopened), "{age:?}");
        assert_eq!(hand.asked().iter().any(|i| matches!(i, RegistryIntent::Watch { .. })), reopened);
        assert_eq!(hand.addrs(), [ME, A]);
    }
}

/// Ends the watch, and sleeps until another is opened. Answers how long that takes, and the new one.
fn reopened(hand: &mut Hand, watch: OpId) -> (Duration, OpId) {
    let ended = hand.now;
    let _ = hand.node.handle_watch(hand.now, watch, WatchEvent::Ended(None), &mut hand.out);
    loop {
        let at = match hand.node.next_wake() {
            Wake::Now => hand.now,
            Wake::At(at) => at,
            Wake::Idle => panic!("it is opened again"),
        };
        let opened = hand.sleep_to(at).into_iter().find_map(|(_, intent)| match intent {
            RegistryIntent::Watch { op, .. } => Some(op),
            _ => None,
        });
        if let Some(op) = opened {
            return (at.saturating_since(ended), op);
        }
    }
}

#[test]
fn a_watch_that_breaks_again_and_again_is_opened_less_and_less_often_until_one_lasts() {
    let (mut hand, mut watch) = watching();
    let mut waits = Vec::new();
    for _ in 0..8 {
        let (waited, op) = reopened(&mut hand, watch);
        waits.push(waited);
        watch = op;
        hand.now = hand.now.saturating_add(SECOND / 1000);
    }
    assert!(waits[0] <= SECOND / 10, "{waits:?}");
    // From when it was opened: as long as the longest delay, and no longer.
    hand.now = hand.now.saturating_add(3 * SECOND - SECOND / 1000);
    let (waited, watch) = reopened(&mut hand, watch);
    assert!(waited > SECOND, "it had not lasted: {waited:?}");
    hand.now = hand.now.saturating_add(3 * SECOND + Duration::from_nanos(1));
    let (waited, _) = reopened(&mut hand, watch);
    assert!(waited <= SECOND / 10, "it had lasted: {waited:?}");
}

#[test]
fn a_list_without_the_one_other_member_is_not_believed_at_once_though_the_watch_would_be() {
    let (mut hand, register, list) = Hand::started();
    let _ = hand.registered(register, 1);
    let _ = hand.listed(list, &[ME, A], 10);
    let (watch, _) = watch_op(&hand.asked());
    let _ = hand.changed(watch, 11, vec![delete(ME)]);
    let asked = hand.sleep_to(hand.now);
    let [(_, RegistryIntent::List { op })] = asked[..] else { panic!("{asked:?}") };
    let _ = hand.listed(op, &[ME], 12);
    assert_eq!(hand.addrs(), [A], "as it was seen before the list");
    assert_eq!(hand.node.stats().views_withheld, 1);
}

#[test]
fn a_lone_node_that_is_not_in_the_registry_stays_in_its_view_until_that_is_confirmed() {
    let (mut hand, register, list) = Hand::started();
    let _ = hand.registered(register, 1);
    let _ = hand.listed(list, &[ME], 10);
    let (watch, _) = watch_op(&hand.asked());
    let _ = hand.changed(watch, 11, vec![delete(ME)]);
    assert_eq!((hand.addrs(), hand.node.stats().views_withheld), ([ME].into(), 1));
}

#[test]
fn a_lone_node_has_nobody_to_lose() {
    let (mut hand, register, list) = Hand::started();
    let _ = hand.registered(register, 1);
    let _ = hand.listed(list, &[ME], 10);
    let (watch, _) = watch_op(&hand.asked());
    let _ = hand.changed(watch, 11, vec![Change::Put(MemberRecord::new(ME, 7))]);
    assert_eq!((hand.node.members()[0].weight, hand.node.stats().views_withheld), (7, 0));
}

#[test]
fn one_list_that_was_asked_for_after_the_guard_confirms_an_empty_view() {
    let (mut hand, watch) = watching();
    let withheld_at = hand.now;
    let _ = hand.changed(watch, 11, vec![delete(A), delete(B)]);
    assert_eq!(hand.addrs(), [ME, A, B]);
    let confirmed_from = withheld_at.saturating_add(10 * SECOND);
    let mut lists = 0;
    while hand.addrs().len() > 1 {
        let to = hand.now.saturating_add(SECOND);
        for (at, intent) in hand.sleep_to(to) {
            hand.now = at;
            match intent {
                RegistryIntent::KeepAlive { op, .. } => {
                    let _ = hand.answer(op, RegistryOutcome::KeptAlive { ttl: 5 * SECOND });
                }
                RegistryIntent::List { op } => {
                    lists += 1;
                    assert_eq!(at, confirmed_from);
                    let _ = hand.listed(op, &[ME], 11);
                }
                other => panic!("{other:?}"),
            }
        }
        hand.now = hand.now.max(to);
        assert!(hand.now < withheld_at.saturating_add(60 * SECOND));
    }
    assert_eq!(lists, 1);
}

#[test]
fn one_other_member_that_changes_and_then_leaves_is_believed_to_have_left() {
    let mut world = settled();
    world.etcd.put(MemberRecord::new(A, 5), None);
    world.run(SECOND);
    world.etcd.delete(A);
    world.run(SECOND);
    assert_eq!((world.addrs(), world.node.stats().views_withheld), ([ME].map(String::from).into(), 0));
}
