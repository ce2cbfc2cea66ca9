//! Limits: each refuses, says which it is, and changes nothing.

use super::*;

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
    bench.wait("toe", 1);
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
    bench.wait("k", 2);
    let load = bench.take_load();
    bench.loaded(load, value("1234"));
    assert_eq!(bench.served(), [(2, Ok(b"1234".to_vec()))]);
    assert_eq!(bench.hit("k"), Some(Level::Main));
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
fn groups_are_numbered_up_to_65535_and_are_told_apart() {
    let mut bench = Bench::alone();
    let refused = bench.shard.add_group(GroupId::new(65_536), GroupConfig::default());
    assert!(matches!(refused, Err(ConfigError::OutOfRange { field: "group", .. })), "{refused:?}");
    let groups = [0, 1, 65_535].map(GroupId::new);
    for group in groups {
        bench.shard.add_group(group, GroupConfig::default()).unwrap();
        let key = HashedKey::new(group, b"k", 5);
        let request = LoadRequest::new(key, 1, bench.now.saturating_add(SECOND));
        assert!(matches!(bench.shard.load(bench.now, request, &mut bench.out), Ok(Load::Wait(_))));
        let load = bench.take_load();
        bench.loaded(load, value(&format!("of group {}", group.index())));
    }
    for group in groups {
        let held = bench.shard.get(bench.now, &HashedKey::new(group, b"k", 5)).unwrap().unwrap();
        assert_eq!(held.value.as_bytes(), format!("of group {}", group.index()).as_bytes());
    }
}
