//! What membership counts.

use super::*;

#[test]
fn what_the_registry_answered_and_did_not_is_counted() {
    let (mut hand, register, list) = Hand::started();
    let _ = hand.registered(register, 1);
    let _ = hand.listed(list, &[ME, A, B], 10);
    let (watch, _) = watch_op(&hand.asked());
    let _ = hand.changed(watch, 11, vec![delete(A)]);
    let _ = hand.changed(watch, 11, vec![delete(A)]);
    let _ = hand.changed(watch, 3, vec![delete(A)]);
    let ended = hand.node.handle_watch(hand.now, watch, WatchEvent::Ended(None), &mut hand.out);
    assert_eq!(ended, Disposition::Applied);
    let asked: Vec<_> =
        hand.sleep_to(hand.now.saturating_add(SECOND / 10)).into_iter().map(|(_, intent)| intent).collect();
    let (watch, _) = watch_op(&asked);
    let compacted = WatchEvent::Compacted { revision: Revision::new(40) };
    let compacted = hand.node.handle_watch(hand.now, watch, compacted, &mut hand.out);
    assert_eq!(compacted, Disposition::Applied);
    let list = asked.iter().find_map(|intent| match intent {
        RegistryIntent::List { op } => Some(*op),
        _ => None,
    });
    let failed = hand.answer(list.unwrap(), RegistryOutcome::Failed(None));
    assert_eq!(failed, Disposition::Applied);
    let expected = MembershipStats {
        registrations: 1,
        failures: 1,
        lists: 1,
        watches: 2,
        watches_ended: 2,
        stale_dispositions: 1,
        ..MembershipStats::default()
    };
    assert_eq!(hand.node.stats(), expected);
}

#[test]
fn a_registry_that_has_lost_its_data_is_counted_once_for_each_time() {
    let (mut hand, watch) = watching();
    let _ = hand.changed(watch, 12, vec![delete(ME)]);
    let asked = hand.sleep_to(hand.now);
    let [(_, RegistryIntent::List { op })] = asked[..] else { panic!("{asked:?}") };
    let _ = hand.listed(op, &[ME, A, B], 3);
    let stats = hand.node.stats();
    assert_eq!((stats.revision_regressions, stats.leases_lost, stats.lists), (1, 1, 2));
    assert_eq!(hand.addrs(), [A, B], "what was seen to go stays gone, and nobody else goes");
    let asked = hand.sleep_to(hand.now.saturating_add(SECOND / 10));
    let list = asked.iter().find_map(|(_, intent)| match intent {
        RegistryIntent::List { op } => Some(*op),
        _ => None,
    });
    assert_eq!(hand.listed(list.unwrap(), &[A, B], 3), Disposition::Applied);
    assert_eq!(hand.node.stats().revision_regressions, 1, "it counts from there");
}

#[test]
fn records_that_there_is_no_room_for_are_counted() {
    let mut config = MembershipConfig::new(ME);
    config.max_members = core::num::NonZeroUsize::new(2).unwrap();
    let (mut hand, _, list) = Hand::with(config);
    let _ = hand.listed(list, &["a:1", "b:1", "c:1", "d:1", "e:1"], 5);
    assert_eq!(hand.addrs(), ["a:1", "b:1"]);
    assert_eq!(
        hand.node.stats().members_refused,
        1 + 2,
        "one that is not remembered, two that are and stand behind"
    );
    let (watch, _) = watch_op(&hand.asked());
    let _ = hand.changed(watch, 6, vec![put("f:1")]);
    assert_eq!(hand.node.stats().members_refused, 3 + 1 + 2, "no room to remember it, and the two again");
    let _ = hand.changed(watch, 7, vec![delete("a:1"), delete("b:1")]);
    assert_eq!(hand.addrs(), ["c:1", "d:1"]);
    let refused = hand.node.stats().members_refused;
    let _ = hand.changed(watch, 8, vec![put("aa:1")]);
    assert_eq!(hand.addrs(), ["aa:1", "c:1"], "what is gone makes room");
    assert_eq!(hand.node.stats().members_refused, refused + 1);
}
