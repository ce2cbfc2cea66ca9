//! The shard's promises, one test each.

mod one_hop;
mod random;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use alloc::{format, vec};
use core::num::NonZeroU32;
use core::time::Duration;

use super::*;
use crate::effects::{Call, Disposition, Intent, Outcome};
use crate::id::{Attempt, FlightId};
use crate::ring::{Member, Placement, RingEpoch};
use crate::value::Value;

const G: GroupId = GroupId::new(0);
const ME: PeerId = PeerId::new(0);
const SECOND: Duration = Duration::from_secs(1);

/// A shard, its clock, and what it has emitted.
struct Bench {
    shard: Shard<u32>,
    out: Effects<u32>,
    now: Instant,
}

fn hash(key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(key)
}

fn key(text: &str) -> HashedKey<'_> {
    HashedKey::new(G, text.as_bytes(), hash(text.as_bytes()))
}

/// A ring of up to four members. Built once: a slot table takes its time in a debug build.
fn ring(members: u32) -> Arc<Ring> {
    static RINGS: std::sync::OnceLock<Vec<Arc<Ring>>> = std::sync::OnceLock::new();
    let build = |members| {
        let members = (0..members).map(|id| Member::new(PeerId::new(id), format!("node-{id}:1"))).collect();
        Arc::new(Ring::new(Placement::Slots, RingEpoch::new(1), members).unwrap())
    };
    Arc::clone(&RINGS.get_or_init(|| (0..5).map(build).collect())[members as usize])
}

/// A key whose owner and next successors on `ring` are `owners`.
fn key_owned_by(ring: &Ring, owners: &[PeerId]) -> String {
    let owned = |key: &String| {
        let successors = ring.successors(key.as_bytes()).map(Member::id);
        successors.zip(owners).filter(|(a, b)| a == *b).count() == owners.len()
    };
    (0..100_000).map(|n| format!("key-{n}")).find(owned).unwrap()
}

impl Bench {
    fn new(members: u32, configure: impl FnOnce(&mut ShardConfig)) -> Self {
        let mut config = ShardConfig { budget: 1 << 20, ..ShardConfig::default() };
        configure(&mut config);
        let now = Instant::from_nanos(1_000);
        let mut shard = Shard::new(3, config, ME, ring(members), 7, now).unwrap();
        shard.add_group(G, GroupConfig::default()).unwrap();
        Self { shard, out: Effects::new(), now }
    }

    fn alone() -> Self {
        Self::new(1, |_| {})
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now.saturating_add(time);
    }

    fn request(&mut self, text: &str, waiter: u32, route: Route) -> Result<Load<u32>, LoadError> {
        let deadline = self.now.saturating_add(10 * SECOND);
        self.request_until(text, waiter, route, deadline)
    }

    fn request_until(
        &mut self,
        text: &str,
        waiter: u32,
        route: Route,
        deadline: Instant,
    ) -> Result<Load<u32>, LoadError> {
        let request = LoadRequest::new(key(text), waiter, deadline).route(route);
        let load = self.shard.load(self.now, request, &mut self.out).map_err(|refused| {
            assert_eq!(refused.waiter, waiter);
            refused.error
        });
        self.shard.check_invariants().unwrap();
        load
    }

    fn wait(&mut self, text: &str, waiter: u32) -> Ticket {
        self.wait_by(text, waiter, Route::Cluster)
    }

    fn wait_by(&mut self, text: &str, waiter: u32, route: Route) -> Ticket {
        match self.request(text, waiter, route) {
            Ok(Load::Wait(ticket)) => ticket,
            other => panic!("{other:?}"),
        }
    }

    fn take_load(&mut self) -> (FlightId, Attempt) {
        match self.out.drain_intents().next() {
            Some(Intent::Load { flight, attempt, .. }) => (flight, attempt),
            other => panic!("no load, but {other:?}"),
        }
    }

    fn take_fetch(&mut self) -> (PeerId, FlightId, Attempt, Instant) {
        match self.out.drain_calls().next() {
            Some(Call::Fetch { peer, item }) => (peer, item.flight, item.attempt, item.deadline),
            other => panic!("no fetch, but {other:?}"),
        }
    }

    fn loaded(&mut self, (flight, attempt): (FlightId, Attempt), outcome: Outcome) -> Disposition {
        let disposition = self.shard.handle_loaded(self.now, flight, attempt, outcome, &mut self.out);
        self.shard.check_invariants().unwrap();
        disposition
    }

    fn fetched(&mut self, flight: FlightId, attempt: Attempt, outcome: Outcome) -> Disposition {
        let disposition = self.shard.handle_fetched(self.now, flight, attempt, outcome, &mut self.out);
        self.shard.check_invariants().unwrap();
        disposition
    }

    /// Who was served, sorted, with what.
    fn served(&mut self) -> Vec<(u32, Result<Vec<u8>, FailureKind>)> {
        let served = self.out.drain_completions().map(|completion| {
            let result =
                completion.result.map(|fetched| fetched.value.to_vec()).map_err(|failure| failure.kind);
            (completion.waiter, result)
        });
        let mut served: Vec<_> = served.collect();
        served.sort();
        served
    }

    /// Forgets `k`, by a flush or by itself, and waits for it as 9.
    fn wait_after(&mut self, flush: bool) {
        if flush {
            self.shard.flush(self.now, G);
        } else {
            self.shard.invalidate(self.now, &key("k"), &mut self.out);
        }
        self.wait("k", 9);
    }

    fn hit(&self, text: &str) -> Option<Level> {
        self.shard.get(self.now, &key(text)).and_then(|answer| answer.ok().map(|fetched| fetched.level))
    }
}

fn value(text: &str) -> Outcome {
    Outcome::Value { value: Value::from(text.as_bytes()), ttl: None }
}

fn failed(kind: FailureKind) -> Outcome {
    Outcome::Failed(Failure::new(kind))
}

#[test]
fn any_number_of_callers_of_a_cold_key_cause_one_load() {
    let mut bench = Bench::alone();
    for waiter in 0..50 {
        bench.wait("k", waiter);
    }
    let load = bench.take_load();
    assert!(bench.out.is_empty());
    assert_eq!(bench.loaded(load, value("v")), Disposition::Applied);
    let expected: Vec<_> = (0..50).map(|waiter| (waiter, Ok(b"v".to_vec()))).collect();
    assert_eq!(bench.served(), expected);
    assert_eq!(bench.hit("k"), Some(Level::Main));
    let stats = bench.shard.stats();
    assert_eq!((stats.loads, stats.loads_deduplicated, stats.main_hits), (1, 49, 1));
}

#[test]
fn a_second_result_of_a_flight_is_stale_and_changes_nothing() {
    let mut bench = Bench::alone();
    bench.wait("k", 1);
    let load = bench.take_load();
    bench.loaded(load, value("v"));
    assert_eq!(bench.loaded(load, value("other")), Disposition::Stale);
    assert_eq!(bench.served().len(), 1);
    assert_eq!(bench.shard.get(bench.now, &key("k")).unwrap().unwrap().value.as_bytes(), b"v");
    assert_eq!(bench.shard.stats().stale_dispositions, 1);
}

#[test]
fn foreign_ids_are_stale() {
    let mut bench = Bench::alone();
    let ticket = bench.wait("k", 1);
    let (flight, attempt) = bench.take_load();
    let elsewhere = FlightId::new(flight.slot(), flight.generation(), 4);
    let unborn = FlightId::new(flight.slot() + 9, 0, 3);
    for id in [elsewhere, unborn] {
        assert_eq!(bench.loaded((id, attempt), value("x")), Disposition::Stale);
    }
    let elsewhere = Ticket::new(ticket.slot(), ticket.generation(), 4);
    assert_eq!(bench.shard.cancel(bench.now, elsewhere, &mut bench.out), None);
    assert_eq!(bench.shard.stats().stale_dispositions, 3);
    assert!(bench.served().is_empty());
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
fn the_owners_not_found_is_final_and_is_kept_by_the_owner() {
    let mut bench = Bench::new(2, |_| {});
    let theirs = key_owned_by(bench.shard.ring(), &[PeerId::new(1)]);
    bench.wait(&theirs, 1);
    let (_, flight, attempt, _) = bench.take_fetch();
    assert_eq!(bench.fetched(flight, attempt, failed(FailureKind::NotFound)), Disposition::Applied);
    assert_eq!(bench.served(), [(1, Err(FailureKind::NotFound))]);

    let mine = key_owned_by(bench.shard.ring(), &[ME]);
    bench.wait(&mine, 2);
    let load = bench.take_load();
    bench.loaded(load, failed(FailureKind::NotFound));
    assert_eq!(bench.served(), [(2, Err(FailureKind::NotFound))]);
    let known =
        |bench: &Bench| bench.shard.get(bench.now, &key(&mine)).map(|answer| answer.unwrap_err().kind);
    assert_eq!(known(&bench), Some(FailureKind::NotFound));
    bench.pass(SECOND);
    assert_eq!(known(&bench), None);
}

#[test]
fn a_failed_load_is_told_to_all_and_kept_by_nobody() {
    let mut bench = Bench::alone();
    bench.wait("k", 1);
    bench.wait("k", 2);
    let load = bench.take_load();
    bench.loaded(load, failed(FailureKind::OriginFailed));
    assert_eq!(bench.served(), [(1, Err(FailureKind::OriginFailed)), (2, Err(FailureKind::OriginFailed))]);
    bench.wait("k", 3);
    bench.take_load();
}

#[test]
fn a_load_that_began_before_a_removal_serves_who_waits_and_enters_no_cache() {
    let mut bench = Bench::alone();
    bench.wait("k", 1);
    let old = bench.take_load();
    bench.shard.invalidate(bench.now, &key("k"), &mut bench.out);
    // A caller after the removal does not join the load from before it.
    bench.wait("k", 2);
    let new = bench.take_load();
    bench.loaded(new, value("new"));
    bench.loaded(old, value("old"));
    assert_eq!(bench.served(), [(1, Ok(b"old".to_vec())), (2, Ok(b"new".to_vec()))]);
    assert_eq!(bench.shard.get(bench.now, &key("k")).unwrap().unwrap().value.as_bytes(), b"new");
    assert_eq!(bench.shard.stats().fenced_dropped, 1);
}

#[test]
fn a_flush_forgets_every_key_of_the_group_and_fences_its_loads() {
    let mut bench = Bench::alone();
    bench.wait("held", 1);
    let load = bench.take_load();
    bench.loaded(load, value("v"));
    bench.wait("loading", 2);
    let old = bench.take_load();
    assert!(bench.shard.flush(bench.now, G));
    assert_eq!(bench.hit("held"), None);
    bench.wait("loading", 3);
    let new = bench.take_load();
    bench.loaded(old, value("old"));
    assert_eq!(bench.hit("loading"), None);
    bench.loaded(new, value("new"));
    assert_eq!(bench.served().len(), 3);
    assert_eq!(bench.shard.get(bench.now, &key("loading")).unwrap().unwrap().value.as_bytes(), b"new");
}

#[test]
fn clearing_forgets_all_at_once_and_fences_what_is_loading() {
    let mut bench = Bench::alone();
    bench.wait("held", 1);
    let load = bench.take_load();
    bench.loaded(load, value("v"));
    bench.wait("loading", 2);
    let load = bench.take_load();
    bench.shard.clear(bench.now, &mut bench.out);
    assert_eq!((bench.shard.usage().entries, bench.hit("held")), (0, None));
    bench.loaded(load, value("v"));
    assert_eq!((bench.served().len(), bench.hit("loading")), (2, None));
}

#[test]
fn a_removed_group_answers_nothing_and_starts_empty_when_it_comes_back() {
    let mut bench = Bench::alone();
    bench.wait("k", 1);
    let load = bench.take_load();
    bench.loaded(load, value("v"));
    assert!(bench.shard.remove_group(G));
    assert!(!bench.shard.remove_group(G));
    assert_eq!(bench.hit("k"), None);
    assert_eq!(bench.request("k", 2, Route::Cluster).unwrap_err(), LoadError::NoSuchGroup);
    bench.shard.add_group(G, GroupConfig::default()).unwrap();
    assert_eq!(bench.hit("k"), None);
}

#[test]
fn the_last_caller_that_leaves_stops_the_load_where_that_is_the_policy() {
    let mut bench = Bench::new(1, |config| config.on_abandoned = OnAbandoned::Abort);
    let (one, two) = (bench.wait("k", 1), bench.wait("k", 2));
    let (flight, _) = bench.take_load();
    assert_eq!(bench.shard.cancel(bench.now, one, &mut bench.out), Some(1));
    assert!(bench.out.is_empty());
    assert_eq!(bench.shard.cancel(bench.now, two, &mut bench.out), Some(2));
    assert!(
        matches!(bench.out.drain_intents().next(), Some(Intent::AbortLoad { flight: of }) if of == flight)
    );
    assert_eq!(bench.shard.cancel(bench.now, two, &mut bench.out), None);
    assert_eq!(bench.shard.next_wake(), Wake::Idle);
    bench.shard.check_invariants().unwrap();
}

#[test]
fn a_load_that_is_let_finish_is_kept_though_nobody_waits() {
    let mut bench = Bench::alone();
    let ticket = bench.wait("k", 1);
    let load = bench.take_load();
    bench.shard.cancel(bench.now, ticket, &mut bench.out);
    assert!(bench.out.is_empty());
    assert_eq!(bench.loaded(load, value("v")), Disposition::Applied);
    assert_eq!(bench.hit("k"), Some(Level::Main));
}

#[test]
fn a_flight_lasts_as_long_as_its_most_patient_waiter_and_no_longer_than_the_cap() {
    let mut bench = Bench::new(1, |config| config.load_timeout = 5 * SECOND);
    let start = bench.now;
    let until = |time: Duration| start.saturating_add(time);
    let _ = bench.request_until("k", 1, Route::Cluster, until(SECOND));
    assert_eq!(bench.shard.next_wake(), Wake::At(until(SECOND)));
    let _ = bench.request_until("k", 2, Route::Cluster, until(3 * SECOND));
    assert_eq!(bench.shard.next_wake(), Wake::At(until(3 * SECOND)));
    let _ = bench.request_until("k", 3, Route::Cluster, until(60 * SECOND));
    assert_eq!(bench.shard.next_wake(), Wake::At(until(5 * SECOND)));
    bench.take_load();
    bench.pass(5 * SECOND);
    assert_eq!(bench.shard.handle_timeout(bench.now, &mut bench.out), Wake::Idle);
    let expected: Vec<_> = (1..4).map(|waiter| (waiter, Err(FailureKind::Deadline))).collect();
    assert_eq!(bench.served(), expected);
    assert!(matches!(bench.out.drain_intents().next(), Some(Intent::AbortLoad { .. })));
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
fn work_per_timeout_is_bounded_and_what_is_left_wants_to_be_called_now() {
    let mut bench = Bench::new(1, |config| config.work_per_call = NonZeroU32::new(2).unwrap());
    for (waiter, k) in ["a", "b", "c"].into_iter().enumerate() {
        bench.wait(k, waiter as u32);
    }
    bench.pass(60 * SECOND);
    assert_eq!(bench.shard.handle_timeout(bench.now, &mut bench.out), Wake::Now);
    assert_eq!(bench.served().len(), 2);
    assert_eq!(bench.shard.handle_timeout(bench.now, &mut bench.out), Wake::Idle);
    assert_eq!(bench.served().len(), 1);
}

#[test]
fn limits_of_one_refuse_and_say_which_limit() {
    let one = NonZeroU32::MIN;
    let mut bench = Bench::new(1, |config| config.max_flights = one);
    bench.wait("a", 1);
    assert_eq!(bench.request("b", 2, Route::Cluster).unwrap_err(), LoadError::FlightsFull { max: 1 });
    bench.wait("a", 3);

    let mut bench = Bench::new(1, |config| config.max_waiters = one);
    bench.wait("a", 1);
    assert_eq!(bench.request("a", 2, Route::Cluster).unwrap_err(), LoadError::WaitersFull { max: 1 });
    assert_eq!(bench.shard.stats().rejected, 1);

    let mut bench = Bench::alone();
    let group = GroupConfig { max_loads: one, ..GroupConfig::default() };
    bench.shard.add_group(G, group).unwrap();
    bench.wait("a", 1);
    assert_eq!(bench.request("b", 2, Route::Cluster).unwrap_err(), LoadError::GroupLoadsFull { max: 1 });
}

#[test]
fn bad_keys_and_past_deadlines_are_refused() {
    let mut bench = Bench::new(1, |config| config.max_key_len = core::num::NonZeroUsize::new(3).unwrap());
    assert_eq!(bench.request("", 1, Route::Cluster).unwrap_err(), LoadError::EmptyKey);
    assert_eq!(
        bench.request("four", 1, Route::Cluster).unwrap_err(),
        LoadError::KeyTooLong { len: 4, max: 3 }
    );
    let now = bench.now;
    assert_eq!(bench.request_until("k", 1, Route::Cluster, now).unwrap_err(), LoadError::DeadlinePassed);
    assert!(bench.out.is_empty());
}

#[test]
fn a_value_over_the_limit_is_a_failure_that_names_the_limit() {
    let mut bench = Bench::new(1, |config| config.max_value_len = core::num::NonZeroUsize::new(4).unwrap());
    bench.wait("k", 1);
    let load = bench.take_load();
    bench.loaded(load, value("12345"));
    let completion = bench.out.drain_completions().next().unwrap();
    let failure = completion.result.unwrap_err();
    assert_eq!(failure.kind, FailureKind::ValueTooLarge);
    assert!(format!("{}", failure.cause.unwrap()).contains("limit is 4"));
    assert_eq!(bench.hit("k"), None);
}

#[test]
fn a_value_that_does_not_fit_its_share_is_delivered_and_not_stored() {
    let mut bench = Bench::new(1, |config| config.budget = 64 << 10);
    bench.wait("k", 1);
    let load = bench.take_load();
    let large = vec![7; 100 << 10];
    bench.loaded(load, Outcome::Value { value: Value::from(large.clone()), ttl: None });
    assert_eq!(bench.served(), [(1, Ok(large))]);
    assert_eq!(bench.hit("k"), None);
    assert_eq!(bench.shard.stats().not_stored, 1);
}

#[test]
fn keys_with_equal_hashes_are_kept_apart() {
    let mut bench = Bench::alone();
    let collide = |text: &'static str| HashedKey::new(G, text.as_bytes(), 42);
    for (waiter, text) in ["a", "b"].into_iter().enumerate() {
        let request = LoadRequest::new(collide(text), waiter as u32, bench.now.saturating_add(SECOND));
        assert!(matches!(bench.shard.load(bench.now, request, &mut bench.out), Ok(Load::Wait(_))));
    }
    let loads: Vec<_> = bench
        .out
        .drain_intents()
        .map(|intent| match intent {
            Intent::Load { flight, attempt, key, .. } => (flight, attempt, key),
            other => panic!("{other:?}"),
        })
        .collect();
    for (flight, attempt, key) in loads {
        bench.loaded((flight, attempt), Outcome::Value { value: Value::from(key.as_bytes()), ttl: None });
    }
    assert_eq!(bench.served(), [(0, Ok(b"a".to_vec())), (1, Ok(b"b".to_vec()))]);
    for text in ["a", "b"] {
        let held = bench.shard.get(bench.now, &collide(text)).unwrap().unwrap();
        assert_eq!(held.value.as_bytes(), text.as_bytes());
    }
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
fn time_that_goes_backwards_is_clamped_and_counted() {
    let mut bench = Bench::alone();
    bench.pass(10 * SECOND);
    bench.wait("k", 1);
    let load = bench.take_load();
    bench.now = Instant::ZERO;
    bench.loaded(load, Outcome::Value { value: Value::from(&b"v"[..]), ttl: Some(SECOND) });
    let held = bench.shard.get(Instant::ZERO, &key("k")).unwrap().unwrap();
    assert_eq!(held.expires, Instant::from_nanos(1_000).saturating_add(11 * SECOND));
    assert_eq!(bench.shard.stats().clamped_time, 1);
}

#[test]
fn a_shutdown_fails_who_waits_refuses_who_comes_and_still_serves_hits() {
    let mut bench = Bench::new(1, |config| config.work_per_call = NonZeroU32::MIN);
    bench.wait("held", 1);
    let load = bench.take_load();
    bench.loaded(load, value("v"));
    bench.served();
    bench.wait("a", 2);
    bench.wait("b", 3);
    bench.out.drain_intents();
    while bench.shard.shutdown(bench.now, &mut bench.out) == Wake::Now {}
    assert_eq!(bench.served(), [(2, Err(FailureKind::Stopping)), (3, Err(FailureKind::Stopping))]);
    assert_eq!(
        bench.out.drain_intents().filter(|intent| matches!(intent, Intent::AbortLoad { .. })).count(),
        2
    );
    assert_eq!(bench.request("c", 4, Route::Cluster).unwrap_err(), LoadError::Stopped);
    assert_eq!(bench.hit("held"), Some(Level::Main));
}

#[test]
fn jitter_takes_off_a_part_of_the_ttl_and_never_adds() {
    let mut bench = Bench::alone();
    let group = GroupConfig { ttl: Some(100 * SECOND), ttl_jitter_per_mille: 200, ..GroupConfig::default() };
    bench.shard.add_group(G, group).unwrap();
    let mut expiries = Vec::new();
    for n in 0..20 {
        let k = format!("k{n}");
        bench.wait(&k, n);
        let load = bench.take_load();
        bench.loaded(load, value("v"));
        expiries.push(bench.shard.get(bench.now, &key(&k)).unwrap().unwrap().expires);
    }
    let (low, high) = (bench.now.saturating_add(80 * SECOND), bench.now.saturating_add(100 * SECOND));
    assert!(expiries.iter().all(|&at| low <= at && at <= high));
    expiries.dedup();
    assert!(expiries.len() > 10);
}

fn lenient(bench: &mut Bench) {
    let group = GroupConfig {
        ttl: Some(10 * SECOND),
        stale_while_revalidate: 5 * SECOND,
        stale_if_error: 20 * SECOND,
        ..GroupConfig::default()
    };
    bench.shard.add_group(G, group).unwrap();
    bench.wait("k", 1);
    let load = bench.take_load();
    bench.loaded(load, value("old"));
    bench.served();
}

#[test]
fn an_expired_value_is_given_out_while_one_load_brings_the_next() {
    let mut bench = Bench::alone();
    lenient(&mut bench);
    bench.pass(12 * SECOND);
    assert_eq!(bench.hit("k"), None, "it is no hit");
    for waiter in [2, 3] {
        let Ok(Load::Ready { answer, waiter: back }) = bench.request("k", waiter, Route::Cluster) else {
            panic!()
        };
        assert_eq!((answer.unwrap().value.as_bytes(), back), (&b"old"[..], waiter));
    }
    let load = bench.take_load();
    assert!(bench.out.is_empty(), "one load, and nobody waits for it");
    bench.loaded(load, value("new"));
    assert!(bench.served().is_empty());
    assert_eq!(bench.shard.get(bench.now, &key("k")).unwrap().unwrap().value.as_bytes(), b"new");
    assert_eq!(bench.shard.stats().stale_hits, 2);
}

#[test]
fn an_expired_value_is_given_out_when_loading_it_anew_fails_or_takes_too_long() {
    let mut bench = Bench::alone();
    lenient(&mut bench);
    bench.pass(16 * SECOND);
    bench.wait("k", 2);
    let load = bench.take_load();
    bench.loaded(load, failed(FailureKind::OriginFailed));
    assert_eq!(bench.served(), [(2, Ok(b"old".to_vec()))]);
    bench.wait("k", 3);
    bench.pass(10 * SECOND);
    let _ = bench.shard.handle_timeout(bench.now, &mut bench.out);
    assert_eq!(bench.served(), [(3, Ok(b"old".to_vec()))]);
    assert_eq!(bench.shard.stats().stale_rescues, 2);
}

#[test]
fn no_expired_value_is_given_out_beyond_the_ceiling_or_against_an_answer() {
    let mut bench = Bench::alone();
    lenient(&mut bench);
    bench.pass(16 * SECOND);
    bench.wait("k", 2);
    let load = bench.take_load();
    bench.loaded(load, failed(FailureKind::NotFound));
    assert_eq!(bench.served(), [(2, Err(FailureKind::NotFound))]);

    let mut bench = Bench::alone();
    lenient(&mut bench);
    bench.pass(30 * SECOND);
    bench.wait("k", 2);
    let load = bench.take_load();
    bench.loaded(load, failed(FailureKind::OriginFailed));
    assert_eq!(bench.served(), [(2, Err(FailureKind::OriginFailed))]);
}

#[test]
fn a_removal_or_a_flush_leaves_no_expired_value_to_give_out() {
    for flush in [false, true] {
        let mut bench = Bench::alone();
        lenient(&mut bench);
        bench.pass(12 * SECOND);
        bench.wait_after(flush);
        let load = bench.take_load();
        bench.loaded(load, failed(FailureKind::OriginFailed));
        assert_eq!(bench.served(), [(9, Err(FailureKind::OriginFailed))]);
    }
}

#[test]
fn a_value_without_time_left_is_delivered_and_not_kept() {
    let mut bench = Bench::new(2, |_| {});
    let k = key_owned_by(bench.shard.ring(), &[PeerId::new(1)]);
    bench.wait(&k, 1);
    let (_, flight, attempt, _) = bench.take_fetch();
    let outcome = Outcome::Value { value: Value::from(&b"v"[..]), ttl: Some(Duration::ZERO) };
    bench.fetched(flight, attempt, outcome);
    assert_eq!(bench.served(), [(1, Ok(b"v".to_vec()))]);
    assert_eq!(bench.shard.usage().entries, 0);
}
