//! Removals and flushes: what is forgotten, and what is fenced.

use super::*;

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
fn a_removal_tells_whether_the_key_was_held_and_a_flush_whether_there_is_such_a_group() {
    let mut bench = Bench::alone();
    bench.wait("k", 1);
    let load = bench.take_load();
    bench.loaded(load, value("v"));
    let mut invalidate = |key: &HashedKey<'_>| bench.shard.invalidate(bench.now, key, &mut bench.out);
    assert!(invalidate(&key("k")));
    assert!(!invalidate(&key("k")));
    let nowhere = GroupId::new(7);
    assert!(!invalidate(&HashedKey::new(nowhere, b"k", hash(b"k"))));
    assert!(bench.shard.flush(bench.now, G) && !bench.shard.flush(bench.now, nowhere));
    bench.shard.remove_group(G);
    assert!(!bench.shard.flush(bench.now, G));
    assert_eq!(bench.shard.stats().removals, 3);
}
