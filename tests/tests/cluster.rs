//! Whole nodes on a virtual clock and a virtual network.

use std::time::Duration;

use groupcache_core::{FailureKind, Level, Wake};
use groupcache_tests::cluster::{Cluster, ORIGIN};

const MS: Duration = Duration::from_millis(1);

fn fleet(count: usize) -> Cluster {
    Cluster::new(count, 1, |_| {})
}

#[test]
fn three_hundred_callers_on_three_nodes_cause_one_load() {
    let mut cluster = fleet(3);
    for waiter in 0..300 {
        cluster.get((waiter % 3) as usize, "cold", waiter);
    }
    cluster.run_for(1_000 * MS);
    let answers = cluster.take_answers();
    assert_eq!(answers.len(), 300);
    assert!(answers.iter().all(|(_, answer)| matches!(answer, Ok((value, _)) if value == b"cold#0")));
    assert_eq!(cluster.loads.values().sum::<u32>(), 1);
}

#[test]
fn every_key_asked_everywhere_is_loaded_once_by_its_owner() {
    let mut cluster = fleet(3);
    for n in 0..200 {
        for at in 0..3 {
            cluster.get(at, &format!("k{n}"), n * 3 + at as u64);
        }
    }
    cluster.run_for(2_000 * MS);
    assert_eq!(cluster.take_answers().len(), 600);
    assert_eq!(cluster.loads.len(), 200);
    assert!(cluster.loads.values().all(|&loads| loads == 1));
}

#[test]
fn where_a_value_comes_from_is_told() {
    let mut cluster = fleet(3);
    let key = cluster.key_owned_by(1, "key");
    for (waiter, (at, level)) in
        [(1, Level::Origin), (0, Level::Peer), (0, Level::Hot), (1, Level::Main)].into_iter().enumerate()
    {
        cluster.get(at, &key, waiter as u64);
        cluster.run_for(1_000 * MS);
        let answers = cluster.take_answers();
        assert_eq!(answers[0].1.as_ref().unwrap().1, level);
    }
    assert_eq!(cluster.loads[key.as_bytes()], 1);
}

#[test]
fn a_crashed_owners_keys_converge_on_one_successor_and_nobody_waits_for_it() {
    let mut cluster = fleet(4);
    let key = cluster.key_owned_by(2, "key");
    cluster.crash(2);
    cluster.run_for(10 * MS);
    let before = cluster.now();
    for (waiter, at) in [0, 1, 3, 0, 1, 3].into_iter().enumerate() {
        cluster.get(at, &key, waiter as u64);
    }
    while cluster.answers.len() < 6 {
        cluster.run_for(MS);
        assert!(cluster.now().saturating_since(before) < 2 * ORIGIN, "somebody waits for a dead node");
    }
    assert!(cluster.take_answers().iter().all(|(_, answer)| answer.is_ok()));
    assert_eq!(cluster.loads[key.as_bytes()], 1, "the successor is the one loader");
}

#[test]
fn an_owner_that_crashes_in_the_middle_of_a_load_costs_one_more_load() {
    let mut cluster = fleet(3);
    let key = cluster.key_owned_by(2, "key");
    cluster.get(0, &key, 1);
    cluster.get(1, &key, 2);
    cluster.run_for(100 * MS);
    cluster.crash(2);
    cluster.run_for(2 * ORIGIN);
    let answers = cluster.take_answers();
    assert_eq!(answers.len(), 2);
    assert!(answers.iter().all(|(_, answer)| answer.is_ok()));
    assert_eq!(cluster.loads[key.as_bytes()], 2);
}

#[test]
fn after_an_acknowledged_removal_no_node_returns_the_older_version() {
    let mut cluster = fleet(3);
    let key = cluster.key_owned_by(1, "key");
    for at in 0..3 {
        cluster.get(at, &key, at as u64);
    }
    cluster.run_for(1_000 * MS);
    // A load that is on its way when the removal comes.
    let other = cluster.key_owned_by(1, "late");
    cluster.get(0, &other, 10);
    cluster.run_for(100 * MS);
    for (waiter, key) in [(100, &key), (101, &other)] {
        cluster.update(key);
        assert!(cluster.remove(2, key, waiter));
    }
    cluster.run_for(20 * MS);
    cluster.removed.sort_unstable();
    assert_eq!(cluster.removed, [(100, 0), (101, 0)]);
    cluster.run_for(1_000 * MS);
    let before = cluster.take_answers();
    assert_eq!(before.last().unwrap().1.as_ref().unwrap().0, format!("{other}#0").into_bytes());
    for at in 0..3 {
        cluster.get(at, &key, at as u64);
        cluster.get(at, &other, 10 + at as u64);
    }
    cluster.run_for(2_000 * MS);
    let after = cluster.take_answers();
    assert_eq!(after.len(), 6);
    assert!(after.iter().all(|(_, answer)| answer.as_ref().unwrap().0.ends_with(b"#1")), "{after:?}");
}

#[test]
fn a_removal_names_members_that_do_not_acknowledge() {
    let mut cluster = fleet(3);
    let key = cluster.key_owned_by(0, "key");
    cluster.freeze(2);
    assert!(cluster.remove(0, &key, 7));
    cluster.run_for(3_000 * MS);
    assert_eq!(cluster.removed, [(7, 1)]);
}

#[test]
fn a_node_that_is_shut_down_fails_who_waits_and_has_nothing_left_to_do() {
    let mut cluster = fleet(2);
    let key = cluster.key_owned_by(0, "key");
    cluster.get(0, &key, 1);
    cluster.turn(0, |node, now, out| node.stop(now, out));
    cluster.run_for(10 * MS);
    assert!(cluster.node(0).has_left());
    while cluster.turn(0, |node, now, out| node.shutdown(now, out)) == Wake::Now {}
    assert_eq!(cluster.take_answers(), [(1, Err(FailureKind::Stopping))]);
    assert_eq!(cluster.node(0).next_wake(), Wake::Idle);
}
