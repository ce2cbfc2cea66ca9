//! The shard's promises, one test each.

mod expiry;
mod figures;
mod limits;
mod peers;
mod random;
mod removal;
mod show;

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

    /// A load, and what it takes along to be revalidated.
    fn take_revalidation(&mut self) -> ((FlightId, Attempt), Option<Value>) {
        match self.out.drain_intents().next() {
            Some(Intent::Load { flight, attempt, stale, .. }) => ((flight, attempt), stale),
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
fn ids_of_what_is_over_do_not_reach_what_has_taken_its_place() {
    let mut bench = Bench::alone();
    let over = bench.wait("k", 1);
    let old = bench.take_load();
    bench.loaded(old, failed(FailureKind::OriginFailed));
    bench.served();
    let ticket = bench.wait("other", 2);
    let new = bench.take_load();
    assert_eq!((ticket.slot(), new.0.slot()), (over.slot(), old.0.slot()), "their places are taken");
    assert_eq!(bench.shard.cancel(bench.now, over, &mut bench.out), None);
    assert_eq!(bench.loaded(old, value("late")), Disposition::Stale);
    assert!(!bench.shard.wants(old.0, old.1));
    bench.loaded(new, value("v"));
    assert_eq!(bench.served(), [(2, Ok(b"v".to_vec()))]);
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
    let _ = bench.request_until("k", 0, Route::Cluster, until(2 * SECOND));
    assert_eq!(bench.shard.next_wake(), Wake::At(until(3 * SECOND)), "who is in a hurry hurries nobody else");
    let _ = bench.request_until("k", 3, Route::Cluster, until(60 * SECOND));
    assert_eq!(bench.shard.next_wake(), Wake::At(until(5 * SECOND)));
    bench.take_load();
    bench.pass(5 * SECOND);
    assert_eq!(bench.shard.handle_timeout(bench.now, &mut bench.out), Wake::Idle);
    let expected: Vec<_> = (0..4).map(|waiter| (waiter, Err(FailureKind::Deadline))).collect();
    assert_eq!(bench.served(), expected);
    assert!(matches!(bench.out.drain_intents().next(), Some(Intent::AbortLoad { .. })));
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
