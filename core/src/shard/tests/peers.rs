//! What is asked of peers, and what peers ask.

use super::*;

#[test]
fn the_owner_is_asked_and_its_value_becomes_a_hot_copy_for_no_longer_than_the_owner_keeps_it() {
    let mut bench = Bench::new(3, |config| config.hot_ttl = 30 * SECOND);
    let k = key_owned_by(bench.shard.ring(), &[PeerId::new(1)]);
    bench.wait(&k, 1);
    let (peer, flight, attempt, _) = bench.take_fetch();
    assert_eq!(peer, PeerId::new(1));
    let outcome = Outcome::Value { value: Value::from(&b"v"[..]), ttl: Some(2 * SECOND) };
    bench.fetched(flight, attempt, outcome);
    assert_eq!(bench.served(), [(1, Ok(b"v".to_vec()))]);
    assert_eq!(bench.hit(&k), Some(Level::Hot));
    bench.pass(2 * SECOND);
    assert_eq!(bench.hit(&k), None);
}

#[test]
fn a_request_of_a_peer_is_never_forwarded() {
    let mut bench = Bench::new(3, |_| {});
    let k = key_owned_by(bench.shard.ring(), &[PeerId::new(1)]);
    bench.wait_by(&k, 1, Route::LocalOnly);
    let load = bench.take_load();
    assert!(bench.out.drain_calls().next().is_none());
    bench.loaded(load, value("v"));
    // Asked for as a successor, it is a hot copy: this node does not own the key.
    assert_eq!(bench.hit(&k), Some(Level::Hot));
}

#[test]
fn a_request_of_a_peer_does_not_wait_for_a_fetch_that_may_be_waiting_for_it() {
    let mut bench = Bench::new(3, |_| {});
    let k = key_owned_by(bench.shard.ring(), &[PeerId::new(1)]);
    bench.wait(&k, 1);
    let (_, flight, attempt, _) = bench.take_fetch();
    bench.wait_by(&k, 2, Route::LocalOnly);
    let load = bench.take_load();
    // Own callers that come now join the load that is sure to end.
    bench.wait(&k, 3);
    bench.loaded(load, value("local"));
    assert_eq!(bench.served(), [(2, Ok(b"local".to_vec())), (3, Ok(b"local".to_vec()))]);
    bench.fetched(flight, attempt, value("peer"));
    assert_eq!(bench.served(), [(1, Ok(b"peer".to_vec()))]);
}

#[test]
fn an_unreachable_owner_is_followed_by_its_successor_and_then_by_the_local_origin() {
    let mut bench = Bench::new(4, |_| {});
    let k = key_owned_by(bench.shard.ring(), &[PeerId::new(1), PeerId::new(2)]);
    bench.wait(&k, 1);
    let (peer, flight, first, _) = bench.take_fetch();
    assert_eq!(peer, PeerId::new(1));
    assert_eq!(bench.fetched(flight, first, Outcome::Unreachable(None)), Disposition::Retrying);
    let (peer, flight, second, _) = bench.take_fetch();
    assert_eq!(peer, PeerId::new(2));
    // What the first source says now is of an attempt that is over.
    assert_eq!(bench.fetched(flight, first, Outcome::Unreachable(None)), Disposition::Stale);
    assert_eq!(bench.fetched(flight, second, Outcome::Unreachable(None)), Disposition::Retrying);
    let load = bench.take_load();
    bench.loaded(load, value("v"));
    assert_eq!(bench.served(), [(1, Ok(b"v".to_vec()))]);
    assert_eq!(bench.shard.stats().peer_errors, 2);
}

#[test]
fn a_value_from_a_successor_is_delivered_and_not_kept() {
    let mut bench = Bench::new(4, |_| {});
    let k = key_owned_by(bench.shard.ring(), &[PeerId::new(1), PeerId::new(2)]);
    bench.wait(&k, 1);
    let (_, flight, attempt, _) = bench.take_fetch();
    bench.fetched(flight, attempt, Outcome::Unreachable(None));
    let (_, flight, attempt, _) = bench.take_fetch();
    bench.fetched(flight, attempt, value("v"));
    assert_eq!(bench.served(), [(1, Ok(b"v".to_vec()))]);
    assert_eq!(bench.hit(&k), None, "a removal might reach this node before the successor");
}

#[test]
fn a_successor_that_is_this_node_loads_here() {
    let mut bench = Bench::new(4, |_| {});
    let k = key_owned_by(bench.shard.ring(), &[PeerId::new(1), ME]);
    bench.wait(&k, 1);
    let (_, flight, attempt, _) = bench.take_fetch();
    bench.fetched(flight, attempt, Outcome::Unreachable(None));
    bench.take_load();
}

#[test]
fn a_value_of_an_earlier_attempt_serves_and_stops_the_attempt_in_progress() {
    let mut bench = Bench::new(4, |_| {});
    let k = key_owned_by(bench.shard.ring(), &[PeerId::new(1), PeerId::new(2)]);
    bench.wait(&k, 1);
    let (_, flight, first, _) = bench.take_fetch();
    bench.fetched(flight, first, Outcome::Unreachable(None));
    bench.take_fetch();
    assert_eq!(bench.fetched(flight, first, value("late")), Disposition::Applied);
    assert_eq!(bench.served(), [(1, Ok(b"late".to_vec()))]);
    assert!(
        matches!(bench.out.drain_calls().next(), Some(Call::Cancel { peer, .. }) if peer == PeerId::new(2))
    );
}

#[test]
fn a_fetch_that_turns_to_the_origin_joins_the_load_that_is_there() {
    let mut bench = Bench::new(2, |config| config.peer_attempts = 1);
    let k = key_owned_by(bench.shard.ring(), &[PeerId::new(1)]);
    bench.wait(&k, 1);
    let (_, flight, attempt, _) = bench.take_fetch();
    bench.wait_by(&k, 2, Route::LocalOnly);
    let load = bench.take_load();
    bench.fetched(flight, attempt, Outcome::Unreachable(None));
    assert!(bench.out.is_empty());
    bench.loaded(load, value("v"));
    assert_eq!(bench.served(), [(1, Ok(b"v".to_vec())), (2, Ok(b"v".to_vec()))]);
    assert_eq!(bench.shard.usage().flights, 0);
}

#[test]
fn a_load_whose_time_is_up_asks_nobody_else() {
    let mut bench = Bench::new(3, |_| {});
    let k = key_owned_by(bench.shard.ring(), &[PeerId::new(1)]);
    let _ = bench.request_until(&k, 1, Route::Cluster, bench.now.saturating_add(SECOND));
    let (_, flight, attempt, _) = bench.take_fetch();
    // As it is after a process was stopped: what it missed is heard before the time-outs.
    bench.pass(SECOND);
    assert_eq!(bench.fetched(flight, attempt, Outcome::Unreachable(None)), Disposition::Applied);
    assert_eq!(bench.served(), [(1, Err(FailureKind::Deadline))]);
    assert!(bench.out.is_empty());
    assert_eq!(bench.shard.usage().flights, 0);
}

#[test]
fn a_peer_is_told_less_time_than_is_left_and_is_asked_again_for_who_waits_longer() {
    let mut bench = Bench::new(2, |config| config.deadline_margin = SECOND);
    let k = key_owned_by(bench.shard.ring(), &[PeerId::new(1)]);
    let until = |bench: &Bench, time| bench.now.saturating_add(time);
    let (short, long) = (until(&bench, 3 * SECOND), until(&bench, 9 * SECOND));
    let _ = bench.request_until(&k, 1, Route::Cluster, short);
    let (_, flight, attempt, told) = bench.take_fetch();
    assert_eq!(told, until(&bench, 2 * SECOND));
    let _ = bench.request_until(&k, 2, Route::Cluster, long);
    bench.pass(2 * SECOND);
    assert_eq!(bench.fetched(flight, attempt, failed(FailureKind::Deadline)), Disposition::Retrying);
    let (peer, flight, attempt, told) = bench.take_fetch();
    assert_eq!((peer, told), (PeerId::new(1), until(&bench, 6 * SECOND)));
    bench.pass(6 * SECOND);
    assert_eq!(bench.fetched(flight, attempt, failed(FailureKind::Deadline)), Disposition::Applied);
}

#[test]
fn a_ring_that_changes_in_mid_flight_strands_nobody() {
    let mut bench = Bench::new(3, |_| {});
    let k = key_owned_by(bench.shard.ring(), &[PeerId::new(1)]);
    bench.wait(&k, 1);
    let (_, flight, attempt, _) = bench.take_fetch();
    bench.shard.handle_ring(bench.now, ring(1));
    assert_eq!(bench.fetched(flight, attempt, Outcome::Unreachable(None)), Disposition::Retrying);
    let load = bench.take_load();
    bench.loaded(load, value("v"));
    assert_eq!(bench.served(), [(1, Ok(b"v".to_vec()))]);
    // The key is this node's now.
    assert_eq!(bench.hit(&k), Some(Level::Main));
}
