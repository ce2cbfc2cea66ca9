//! What a shard tells of itself.

use super::*;

#[test]
fn a_shard_tells_what_it_holds_and_what_is_under_way() {
    let mut bench = Bench::new(2, |_| {});
    let empty = bench.shard.usage();
    assert_eq!((empty.entries, empty.budget, empty.flights, empty.waiters), (0, 1 << 20, 0, 0));
    let mine = key_owned_by(bench.shard.ring(), &[ME]);
    let theirs = key_owned_by(bench.shard.ring(), &[PeerId::new(1)]);
    bench.wait(&mine, 1);
    bench.wait(&mine, 2);
    bench.wait(&theirs, 3);
    let usage = bench.shard.usage();
    assert_eq!((usage.flights, usage.waiters, usage.bytes), (2, 3, empty.bytes));
    let load = bench.take_load();
    bench.loaded(load, value("v"));
    let (_, flight, attempt, _) = bench.take_fetch();
    bench.fetched(flight, attempt, value("v"));
    let usage = bench.shard.usage();
    assert_eq!((usage.entries, usage.flights, usage.waiters), (2, 0, 0));
    let charged = (mine.len() + theirs.len() + 2) as u64 + 2 * crate::ENTRY_OVERHEAD;
    assert_eq!(usage.bytes - empty.bytes, charged);
}

#[test]
fn the_usage_of_shards_adds_up() {
    let mut sum = Usage { entries: 1, bytes: 20, budget: 300, flights: 4000, waiters: 50_000 };
    sum.add(&Usage { entries: 2, bytes: 30, budget: 400, flights: 5000, waiters: 60_000 });
    assert_eq!(sum, Usage { entries: 3, bytes: 50, budget: 700, flights: 9000, waiters: 110_000 });
}

#[test]
fn an_executor_that_is_late_can_ask_whether_its_load_is_still_wanted() {
    let mut bench = Bench::new(2, |_| {});
    let k = key_owned_by(bench.shard.ring(), &[PeerId::new(1)]);
    bench.wait(&k, 1);
    let (_, flight, first, _) = bench.take_fetch();
    assert!(bench.shard.wants(flight, first));
    bench.fetched(flight, first, Outcome::Unreachable(None));
    let (_, second) = bench.take_load();
    assert!(!bench.shard.wants(flight, first), "its turn is over");
    assert!(bench.shard.wants(flight, second));
    bench.loaded((flight, second), value("v"));
    assert!(!bench.shard.wants(flight, second));
}

#[test]
fn each_thing_that_happens_is_counted_under_its_name() {
    let mut bench = Bench::new(2, |config| config.on_abandoned = OnAbandoned::Abort);
    let mine = key_owned_by(bench.shard.ring(), &[ME]);
    let theirs = key_owned_by(bench.shard.ring(), &[PeerId::new(1)]);
    bench.wait(&mine, 1);
    let left = bench.wait(&mine, 2);
    bench.shard.cancel(bench.now, left, &mut bench.out);
    let load = bench.take_load();
    bench.loaded(load, value("v"));
    bench.wait(&theirs, 3);
    let (_, flight, attempt, _) = bench.take_fetch();
    bench.fetched(flight, attempt, Outcome::Unreachable(None));
    let load = bench.take_load();
    bench.loaded(load, failed(FailureKind::OriginFailed));
    bench.wait(&theirs, 4);
    let (_, flight, attempt, _) = bench.take_fetch();
    bench.fetched(flight, attempt, value("v"));
    assert_eq!((bench.hit(&mine), bench.hit(&theirs)), (Some(Level::Main), Some(Level::Hot)));
    bench.shard.note_served();
    let left = bench.wait("abandoned", 5);
    bench.shard.cancel(bench.now, left, &mut bench.out);
    bench.wait("late", 6);
    bench.pass(60 * SECOND);
    let _ = bench.shard.handle_timeout(bench.now, &mut bench.out);
    let stats = bench.shard.stats();
    let expected = ShardStats {
        gets: 2,
        main_hits: 1,
        hot_hits: 1,
        misses: 5,
        loads_deduplicated: 1,
        loads: stats.loads,
        peer_fetches: stats.peer_fetches,
        load_errors: 1,
        peer_errors: 1,
        served: 1,
        cancelled: 2,
        timeouts: 1,
        abandoned: 1,
        ..ShardStats::default()
    };
    assert_eq!(stats, expected);
    assert_eq!(stats.loads + stats.peer_fetches, 6, "each flight asked once, and one twice");
}
