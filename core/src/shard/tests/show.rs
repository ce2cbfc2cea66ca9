//! What a shard shows to people is so, and changes nothing.

use super::*;
use crate::cache::{ENTRY_OVERHEAD, Share};

#[test]
fn a_key_is_shown_where_it_is_kept_and_for_how_long_and_that_is_no_lookup() {
    let mut bench = Bench::alone();
    bench.shard.add_group(G, GroupConfig { ttl: Some(SECOND), ..GroupConfig::default() }).unwrap();
    assert_eq!(bench.shard.kept(&key("k")), None);
    bench.wait("k", 1);
    let load = bench.take_load();
    bench.loaded(load, value("five!"));
    bench.wait("none", 2);
    let load = bench.take_load();
    bench.loaded(load, Outcome::Failed(Failure::new(FailureKind::NotFound)));

    let before = bench.shard.stats();
    let kept = bench.shard.kept(&key("k")).expect("it is kept");
    assert_eq!((kept.share, kept.len), (Share::Main, 5));
    assert_eq!(kept.longest, None, "the loader may have set its TTL");
    assert_eq!(u64::from(kept.charge), 1 + 5 + ENTRY_OVERHEAD);
    assert_eq!(kept.expires, bench.now.saturating_add(SECOND));
    let none = bench.shard.kept(&key("none")).expect("that it is not there is kept");
    assert_eq!((none.share, none.len, none.longest), (Share::Negative, 0, Some(SECOND)));
    assert_eq!(bench.shard.usage_of(Share::Main).entries, 1);
    bench.pass(2 * SECOND);
    assert!(bench.shard.kept(&key("k")).expect("expired, and not reclaimed").expires < bench.now);
    assert!(bench.shard.flush(bench.now, G));
    assert_eq!(bench.shard.kept(&key("k")), None, "a flush has made an end of it");
    assert_eq!(bench.shard.stats(), before, "nothing of this was counted");
}

#[test]
fn a_load_in_progress_is_shown_with_its_age_its_waiters_and_whom_it_asks() {
    let mut bench = Bench::new(2, |_| {});
    let there = key_owned_by(&ring(2), &[PeerId::new(1)]);
    let here = key_owned_by(&ring(2), &[ME]);
    let began = bench.now;
    bench.wait(&there, 1);
    bench.pass(SECOND);
    bench.wait(&there, 2);
    bench.wait(&here, 3);
    let mut shown: Vec<_> = bench.shard.flights().collect();
    shown.sort_by_key(|flight| flight.began);
    let [fetch, load] = &*shown else { panic!("{shown:?}") };
    assert_eq!((fetch.peer, fetch.waiters, fetch.began), (Some(PeerId::new(1)), 2, began));
    assert_eq!(fetch.key.as_bytes(), there.as_bytes());
    assert_eq!((load.peer, load.waiters, load.began, load.fenced), (None, 1, bench.now, false));
    bench.shard.invalidate(bench.now, &key(&here), &mut bench.out);
    assert!(bench.shard.flights().any(|flight| flight.fenced && flight.peer.is_none()));
}
