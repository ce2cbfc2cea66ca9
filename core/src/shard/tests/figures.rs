//! What a shard tells of itself.

use super::*;
use crate::stats::ShardStats;

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
fn each_group_has_its_own_figures_and_together_they_are_the_shards() {
    let other = GroupId::new(2);
    let mut bench = Bench::alone();
    bench.shard.add_group(other, GroupConfig::default()).unwrap();
    let of_other = |text: &'static str| HashedKey::new(other, text.as_bytes(), hash(text.as_bytes()) ^ 1);
    for (waiter, name) in ["a", "b"].into_iter().enumerate() {
        bench.wait(name, waiter as u32);
        let load = bench.take_load();
        bench.loaded(load, value("v"));
    }
    let request = LoadRequest::new(of_other("a"), 9, bench.now.saturating_add(SECOND));
    assert!(matches!(bench.shard.load(bench.now, request, &mut bench.out), Ok(Load::Wait(_))));
    let load = bench.take_load();
    let under_way = bench.shard.group_stats(other).unwrap();
    assert_eq!((under_way.flights, under_way.counts.misses, under_way.entries), (1, 1, 0));
    bench.loaded(load, value("longer"));
    assert_eq!(bench.hit("a"), Some(Level::Main));
    assert!(bench.shard.get(bench.now, &of_other("missing")).is_none());
    bench.shard.note_served(other);
    let nobodys = HashedKey::new(GroupId::new(7), b"a", 0);
    assert!(bench.shard.get(bench.now, &nobodys).is_none());

    let stats = |group| bench.shard.group_stats(GroupId::new(group));
    let (first, second) = (stats(0).unwrap(), stats(2).unwrap());
    assert_eq!((first.entries, first.bytes, first.flights), (2, 4 + 2 * crate::ENTRY_OVERHEAD, 0));
    assert_eq!((second.entries, second.bytes, second.flights), (1, 7 + crate::ENTRY_OVERHEAD, 0));
    let counts = ShardStats { gets: 1, main_hits: 1, misses: 2, loads: 2, ..ShardStats::default() };
    assert_eq!(first.counts, counts);
    let counts = ShardStats { gets: 1, misses: 1, loads: 1, served: 1, ..ShardStats::default() };
    assert_eq!(second.counts, counts);
    assert_eq!((stats(1), stats(7)), (Some(GroupStats::default()), None), "a number between them has none");
    let mut sum = first;
    sum.add(&second);
    let all = bench.shard.stats();
    assert_eq!(ShardStats { gets: sum.counts.gets + 1, ..sum.counts }, all, "and what names no group");
    assert_eq!(sum.entries, bench.shard.usage().entries);
}

#[test]
fn a_group_that_is_made_again_goes_on_counting_and_holds_what_is_not_reclaimed() {
    let mut bench = Bench::alone();
    bench.wait("a", 1);
    let load = bench.take_load();
    bench.loaded(load, value("v"));
    assert!(bench.shard.remove_group(G));
    let gone = bench.shard.group_stats(G).unwrap();
    assert_eq!((gone.counts.misses, gone.entries), (1, 1), "dead, and still there");
    bench.shard.add_group(G, GroupConfig::default()).unwrap();
    bench.wait("a", 2);
    let load = bench.take_load();
    bench.loaded(load, value("v"));
    let again = bench.shard.group_stats(G).unwrap();
    assert_eq!((again.counts.misses, again.entries, again.bytes), (2, 1, gone.bytes), "in place of the dead");
    assert_eq!(bench.shard.stats().misses, 2);
    bench.shard.clear(bench.now, &mut bench.out);
    let cleared = bench.shard.group_stats(G).unwrap();
    assert_eq!((cleared.counts.misses, cleared.entries, cleared.bytes), (2, 0, 0));
}

#[test]
fn what_makes_place_counts_against_the_group_that_it_was_of() {
    let other = GroupId::new(1);
    let mut bench = Bench::new(1, |config| config.budget = 4_000);
    bench.shard.add_group(other, GroupConfig::default()).unwrap();
    for number in 0..30 {
        let name = format!("key-{number}");
        bench.wait(&name, number);
        let load = bench.take_load();
        bench.loaded(load, value("v"));
    }
    let before = bench.shard.group_stats(G).unwrap();
    assert!(before.counts.evictions > 0);
    assert_eq!(before.counts.evictions + before.entries, 30);
    assert!(bench.shard.flush(bench.now, G));
    for number in 0..60 {
        let name = format!("key-{number}");
        let key = HashedKey::new(other, name.as_bytes(), hash(name.as_bytes()) ^ 1);
        let request = LoadRequest::new(key, 100 + number, bench.now.saturating_add(SECOND));
        assert!(matches!(bench.shard.load(bench.now, request, &mut bench.out), Ok(Load::Wait(_))));
        let load = bench.take_load();
        bench.loaded(load, value("v"));
    }
    let (flushed, others) = (bench.shard.group_stats(G).unwrap(), bench.shard.group_stats(other).unwrap());
    assert_eq!(flushed.counts.evictions, before.counts.evictions, "the dead are reclaimed, not evicted");
    assert_eq!(flushed.counts.reclaimed + flushed.entries, before.entries);
    assert_eq!(others.counts.evictions + others.entries, 60);
    let all = bench.shard.stats();
    assert_eq!(all.evictions, flushed.counts.evictions + others.counts.evictions);
    assert_eq!(all.reclaimed, flushed.counts.reclaimed + others.counts.reclaimed);
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
    bench.shard.note_served(G);
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
