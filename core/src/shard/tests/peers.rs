//! What is asked of peers, and what peers ask.

use super::*;

#[test]
fn the_flights_that_are_asked_for_are_told_until_they_are_carried_out() {
    let mut bench = Bench::new(2, |_| {});
    let mine = key_owned_by(bench.shard.ring(), &[ME]);
    let theirs = key_owned_by(bench.shard.ring(), &[PeerId::new(1)]);
    bench.wait(&mine, 1);
    bench.wait(&theirs, 2);
    bench.wait(&theirs, 3);
    let asked: Vec<_> = bench.out.flights_asked().collect();
    let (load, _) = bench.take_load();
    let (_, fetch, ..) = bench.take_fetch();
    assert_eq!(asked, [load, fetch], "who joins asks for nothing");
    assert_eq!(bench.out.flights_asked().count(), 0);
}

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

#[test]
fn a_late_value_is_kept_where_it_is_the_owners_and_only_delivered_where_it_is_a_successors() {
    for (late, level) in [(0, Some(Level::Hot)), (1, None)] {
        let mut bench = Bench::new(4, |config| config.peer_attempts = 3);
        let k = key_owned_by(bench.shard.ring(), &[PeerId::new(1), PeerId::new(2), PeerId::new(3)]);
        bench.wait(&k, 1);
        let attempts: Vec<_> = (0..2)
            .map(|_| {
                let (_, flight, attempt, _) = bench.take_fetch();
                bench.fetched(flight, attempt, Outcome::Unreachable(None));
                (flight, attempt)
            })
            .collect();
        bench.take_fetch();
        let (flight, attempt) = attempts[late];
        assert_eq!(bench.fetched(flight, attempt, value("late")), Disposition::Applied);
        assert_eq!(bench.served(), [(1, Ok(b"late".to_vec()))]);
        assert_eq!(bench.hit(&k), level);
    }
}

#[test]
fn whose_word_counts_as_the_owners_is_for_the_ring_in_force_to_say() {
    let (first, second) = (PeerId::new(1), PeerId::new(2));
    let mut bench = Bench::new(4, |_| {});
    let without_first = |bench: &mut Bench| {
        let members = [0, 2, 3].map(|id| Member::new(PeerId::new(id), format!("node-{id}:1")));
        let ring = bench.shard.ring().rebuild(RingEpoch::new(2), members.to_vec()).unwrap();
        bench.shard.handle_ring(bench.now, Arc::new(ring));
    };
    let k = key_owned_by(bench.shard.ring(), &[first, second]);
    bench.wait(&k, 1);
    let (_, flight, attempt, _) = bench.take_fetch();
    without_first(&mut bench);
    bench.fetched(flight, attempt, value("of who was the owner"));
    assert_eq!(bench.hit(&k), None);

    bench.shard.handle_ring(bench.now, ring(4));
    bench.wait(&k, 2);
    let (_, flight, attempt, _) = bench.take_fetch();
    bench.fetched(flight, attempt, Outcome::Unreachable(None));
    let (peer, flight, attempt, _) = bench.take_fetch();
    assert_eq!(peer, second);
    without_first(&mut bench);
    bench.fetched(flight, attempt, value("of who has become the owner"));
    assert_eq!(bench.hit(&k), Some(Level::Hot));
}

#[test]
fn a_fetch_with_a_successor_to_ask_asks_it_whatever_is_being_loaded_here() {
    let mut bench = Bench::new(4, |_| {});
    let k = key_owned_by(bench.shard.ring(), &[PeerId::new(1), PeerId::new(2)]);
    bench.wait(&k, 1);
    let (_, flight, attempt, _) = bench.take_fetch();
    bench.wait_by(&k, 2, Route::LocalOnly);
    bench.take_load();
    assert_eq!(bench.fetched(flight, attempt, Outcome::Unreachable(None)), Disposition::Retrying);
    assert_eq!(bench.take_fetch().0, PeerId::new(2));
}

#[test]
fn what_the_origin_loads_after_all_peers_were_silent_is_kept_as_a_hot_copy() {
    let mut bench = Bench::new(2, |config| config.peer_attempts = 1);
    let k = key_owned_by(bench.shard.ring(), &[PeerId::new(1)]);
    bench.wait(&k, 1);
    let (_, flight, attempt, _) = bench.take_fetch();
    bench.fetched(flight, attempt, Outcome::Unreachable(None));
    let load = bench.take_load();
    bench.loaded(load, value("v"));
    assert_eq!(bench.hit(&k), Some(Level::Hot));
}

/// A fetch of 3 s, of which the peer was told 2, that somebody waits for for 9 s by now.
fn extended() -> (Bench, FlightId, Attempt) {
    let mut bench = Bench::new(2, |config| config.deadline_margin = SECOND);
    let k = key_owned_by(bench.shard.ring(), &[PeerId::new(1)]);
    for (waiter, patience) in [(1, 3), (2, 9)] {
        let deadline = bench.now.saturating_add(patience * SECOND);
        let _ = bench.request_until(&k, waiter, Route::Cluster, deadline);
    }
    let (_, flight, attempt, _) = bench.take_fetch();
    (bench, flight, attempt)
}

#[test]
fn a_peer_is_asked_again_only_when_it_ran_out_of_time_and_there_is_more() {
    let (mut bench, flight, attempt) = extended();
    let not_found = bench.fetched(flight, attempt, failed(FailureKind::NotFound));
    assert_eq!(not_found, Disposition::Applied, "an answer is an answer");

    let (mut bench, flight, attempt) = extended();
    bench.pass(8 * SECOND);
    let late = bench.fetched(flight, attempt, failed(FailureKind::Deadline));
    assert_eq!(late, Disposition::Applied, "the margin is for something else");

    let (mut bench, flight, attempt) = extended();
    bench.pass(8 * SECOND - Duration::from_nanos(1));
    let in_time = bench.fetched(flight, attempt, failed(FailureKind::Deadline));
    assert_eq!(in_time, Disposition::Retrying);

    let mut bench = Bench::new(2, |_| {});
    let k = key_owned_by(bench.shard.ring(), &[PeerId::new(1)]);
    bench.wait(&k, 1);
    let (_, flight, attempt, _) = bench.take_fetch();
    let early = bench.fetched(flight, attempt, failed(FailureKind::Deadline));
    assert_eq!(early, Disposition::Applied, "it had all the time that there is, and gave up sooner");
}

#[test]
fn an_origin_that_ran_out_of_time_is_not_asked_again() {
    let mut bench = Bench::new(1, |config| config.deadline_margin = SECOND);
    for (waiter, patience) in [(1, 3), (2, 9)] {
        let deadline = bench.now.saturating_add(patience * SECOND);
        let _ = bench.request_until("k", waiter, Route::Cluster, deadline);
    }
    let load = bench.take_load();
    assert_eq!(bench.loaded(load, failed(FailureKind::Deadline)), Disposition::Applied);
    assert_eq!(bench.served().len(), 2);
}
