//! How long a value lives, and what an expired one is still good for.

use super::*;

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
    let middle = bench.now.saturating_add(90 * SECOND);
    let early = expiries.iter().filter(|&&at| at < middle).count();
    assert!((5..15).contains(&early), "{early} of 20 expire in the earlier half of the range");
    expiries.dedup();
    assert!(expiries.len() > 10);
}

fn lenient(bench: &mut Bench) {
    lenient_with(bench, GroupConfig::default().negative_ttl);
}

fn lenient_with(bench: &mut Bench, negative_ttl: Duration) {
    let group = GroupConfig {
        negative_ttl,
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
fn an_expired_value_that_a_peer_asks_for_is_loaded_anew_here_and_its_new_owner_is_not_asked() {
    let mut bench = Bench::alone();
    lenient(&mut bench);
    // `k` belongs to another node now.
    let ring = (2..=4).map(ring).find(|ring| ring.owner(b"k").unwrap().id() != ME).unwrap();
    bench.shard.handle_ring(bench.now, ring);
    bench.pass(12 * SECOND);
    let Ok(Load::Ready { answer, .. }) = bench.request("k", 2, Route::LocalOnly) else { panic!() };
    assert_eq!(answer.unwrap().value.as_bytes(), b"old");
    bench.take_load();
    assert!(bench.out.is_empty());
    let Ok(Load::Ready { .. }) = bench.request("k", 3, Route::Cluster) else { panic!() };
    assert!(bench.out.is_empty(), "a load is under way already");
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
    // Whether the answer is kept in the value's place or not.
    for negative_ttl in [SECOND, Duration::ZERO] {
        let mut bench = Bench::alone();
        lenient_with(&mut bench, negative_ttl);
        bench.pass(16 * SECOND);
        bench.wait("k", 2);
        let load = bench.take_load();
        bench.loaded(load, failed(FailureKind::NotFound));
        assert_eq!(bench.served(), [(2, Err(FailureKind::NotFound))]);
    }

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

#[test]
fn an_expired_hot_copy_is_given_out_to_nobody() {
    let mut bench = Bench::new(2, |_| {});
    let group = GroupConfig {
        stale_while_revalidate: 60 * SECOND,
        stale_if_error: 60 * SECOND,
        ..GroupConfig::default()
    };
    bench.shard.add_group(G, group).unwrap();
    let k = key_owned_by(bench.shard.ring(), &[PeerId::new(1)]);
    bench.wait(&k, 1);
    let (_, flight, attempt, _) = bench.take_fetch();
    bench.fetched(flight, attempt, Outcome::Value { value: Value::from(&b"v"[..]), ttl: Some(SECOND) });
    bench.served();
    bench.pass(SECOND);
    bench.wait(&k, 2);
    let (_, flight, attempt, _) = bench.take_fetch();
    bench.fetched(flight, attempt, failed(FailureKind::OriginFailed));
    assert_eq!(bench.served(), [(2, Err(FailureKind::OriginFailed))]);
}

#[test]
fn an_expired_value_is_dead_only_when_it_cannot_be_given_out_any_more() {
    for (age, dead) in [(12, false), (29, false), (30, true)] {
        let mut bench = Bench::new(1, |config| config.budget = 64 << 10);
        lenient(&mut bench);
        bench.pass(age * SECOND);
        // Fills the share until the old value has made place.
        for n in 0..200 {
            let k = format!("k{n}");
            bench.wait(&k, 2);
            let load = bench.take_load();
            bench.loaded(load, Outcome::Value { value: Value::from(vec![0; 1000]), ttl: None });
        }
        let stats = bench.shard.stats();
        assert_eq!(stats.reclaimed, u64::from(dead), "after {age} s");
        assert!(stats.evictions > 100, "live values make place, and are no dead ones: {stats:?}");
    }
}

#[test]
fn not_found_is_kept_by_the_owner_alone_and_not_at_all_where_its_time_is_zero() {
    let mut bench = Bench::new(2, |_| {});
    let theirs = key_owned_by(bench.shard.ring(), &[PeerId::new(1)]);
    bench.wait_by(&theirs, 1, Route::LocalOnly);
    let load = bench.take_load();
    bench.loaded(load, failed(FailureKind::NotFound));
    assert_eq!(bench.shard.usage().entries, 0, "the owner may have loaded the key since");

    let mine = key_owned_by(bench.shard.ring(), &[ME]);
    bench.shard.add_group(G, GroupConfig { negative_ttl: Duration::ZERO, ..GroupConfig::default() }).unwrap();
    bench.wait(&mine, 2);
    let load = bench.take_load();
    bench.loaded(load, failed(FailureKind::NotFound));
    assert_eq!(bench.shard.usage().entries, 0);
    let stats = bench.shard.stats();
    assert_eq!((stats.load_not_found, stats.load_errors, stats.not_stored), (2, 0, 0));
}

/// A group whose values live for ten seconds, and can be revalidated for thirty more.
fn revalidating(bench: &mut Bench, brought: Value) {
    let group = GroupConfig {
        ttl: Some(10 * SECOND),
        stale_while_revalidate: 5 * SECOND,
        stale_if_error: 20 * SECOND,
        revalidate_for: 30 * SECOND,
        ..GroupConfig::default()
    };
    bench.shard.add_group(G, group).unwrap();
    bench.wait("k", 1);
    let (load, stale) = bench.take_revalidation();
    assert_eq!(stale, None, "there is nothing yet");
    bench.loaded(load, Outcome::Value { value: brought, ttl: None });
    bench.served();
}

#[test]
fn a_value_that_the_origin_says_has_not_changed_lives_on_without_a_copy() {
    let mut bench = Bench::alone();
    let brought = Value::with_meta(b"old", b"etag").unwrap();
    revalidating(&mut bench, brought.clone());
    bench.pass(39 * SECOND);
    assert_eq!(bench.hit("k"), None);
    bench.wait("k", 2);
    let (load, stale) = bench.take_revalidation();
    let stale = stale.expect("it is held");
    assert_eq!((stale.as_bytes().as_ptr(), stale.meta()), (brought.as_bytes().as_ptr(), &b"etag"[..]));
    bench.loaded(load, Outcome::Value { value: stale, ttl: Some(7 * SECOND) });
    assert_eq!(bench.served(), [(2, Ok(b"old".to_vec()))]);
    let held = bench.shard.get(bench.now, &key("k")).unwrap().unwrap();
    assert_eq!(held.value.as_bytes().as_ptr(), brought.as_bytes().as_ptr());
    assert_eq!(held.expires, bench.now.saturating_add(7 * SECOND));
    let stats = bench.shard.stats();
    assert_eq!((stats.loads, stats.revalidations, bench.shard.usage().entries), (2, 1, 1));
}

#[test]
fn a_value_is_held_for_revalidation_no_longer_than_its_group_says_and_given_out_to_nobody_meanwhile() {
    let mut bench = Bench::alone();
    revalidating(&mut bench, Value::from(&b"old"[..]));
    bench.pass(31 * SECOND);
    bench.wait("k", 2);
    let (load, stale) = bench.take_revalidation();
    assert!(stale.is_some());
    bench.loaded(load, failed(FailureKind::OriginFailed));
    assert_eq!(bench.served(), [(2, Err(FailureKind::OriginFailed))], "it is too old for that");
    bench.pass(9 * SECOND);
    bench.wait("k", 3);
    assert_eq!(bench.take_revalidation().1, None);
}

#[test]
fn what_was_removed_or_flushed_meanwhile_is_not_brought_back_by_a_revalidation() {
    for flush in [false, true] {
        let mut bench = Bench::alone();
        revalidating(&mut bench, Value::from(&b"old"[..]));
        bench.pass(16 * SECOND);
        bench.wait("k", 2);
        let (load, stale) = bench.take_revalidation();
        bench.wait_after(flush);
        let (_, none) = bench.take_revalidation();
        assert_eq!(none, None, "what was forgotten is not asked for");
        bench.loaded(load, Outcome::Value { value: stale.unwrap(), ttl: None });
        assert_eq!(bench.served(), [(2, Ok(b"old".to_vec()))]);
        assert_eq!((bench.hit("k"), bench.shard.stats().fenced_dropped), (None, 1));
    }
}

#[test]
fn a_value_that_must_be_fresh_is_revalidated_and_given_out_by_no_grace() {
    let mut bench = Bench::alone();
    revalidating(&mut bench, Value::from(&b"old"[..]).fresh_only());
    bench.pass(12 * SECOND);
    bench.wait("k", 2);
    let (load, stale) = bench.take_revalidation();
    assert!(stale.is_some_and(|stale| stale.is_fresh_only()));
    bench.loaded(load, failed(FailureKind::OriginFailed));
    assert_eq!(bench.served(), [(2, Err(FailureKind::OriginFailed))]);
    let stats = bench.shard.stats();
    assert_eq!((stats.stale_hits, stats.stale_rescues), (0, 0));
}
