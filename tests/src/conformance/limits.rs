//! Overload, deadlines, callers that leave, and retrievers that misbehave.

use std::time::{Duration, Instant};

use async_std::task::sleep;
use futures_util::future::{join, join_all};
use groupcache_runtime::{ErrorKind, OnAbandoned};

use super::fleet::{Fleet, Node, Options, chain, wait_for, within};
use super::origin::{Gate, Origin, value_of};
use super::{Cluster, SOON};

/// An origin that is slow with keys that have `slow` in their names: they wait for the gate.
pub(super) fn slow(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::new(move |call| {
        let gate = gate.clone();
        async move {
            if call.key.contains("slow") {
                gate.passed().await;
            }
            Ok(value_of(&call.key).into())
        }
    })
}

/// Asks for `key` again and again: every answer is "overloaded", and half of them come within 10 ms.
pub(super) async fn is_refused_at_once(node: &Node, key: &str) {
    let mut times = Vec::new();
    for _ in 0..101 {
        let started = Instant::now();
        let error = within("a refusal", node.group.get(key)).await.expect_err("a limit is reached");
        times.push(started.elapsed());
        assert_eq!(error.kind(), ErrorKind::Overloaded, "{}", chain(&error));
        assert!(chain(&error).contains("the limit"), "{}", chain(&error));
    }
    times.sort();
    assert!(times[50] < Duration::from_millis(10), "half of the refusals took {:?} and more", times[50]);
}

pub async fn too_many_loads_are_refused_at_once(cluster: &Cluster) {
    let gate = Gate::default();
    let options = Options { max_flights: Some(1), ..Options::default() };
    let fleet = cluster.fleet(2, options, slow(&gate)).await;
    let keys = fleet.keys_of(1, "slow", 2);
    let refused = async {
        wait_for("two busy nodes", || fleet.iter().all(|node| node.stat("flights") == 1)).await;
        for node in fleet.iter() {
            is_refused_at_once(node, &keys[1]).await;
        }
        gate.open();
    };
    // Node 0's flight asks node 1, which is the owner and busy with the same key.
    let (values, ()) = join(join_all(fleet.iter().map(|node| node.value(&keys[0]))), refused).await;
    assert_eq!(values, [value_of(&keys[0]), value_of(&keys[0])]);
    fleet.all_have(&keys[1]).await;
    assert!(fleet.iter().all(|node| node.stat("rejected") >= 101));
}

pub async fn too_many_waiters_are_refused_at_once(cluster: &Cluster) {
    let gate = Gate::default();
    let options = Options { max_waiters: Some(1), ..Options::default() };
    let fleet = cluster.fleet(2, options, slow(&gate)).await;
    let key = fleet.key_of(1, "slow");
    let refused = async {
        wait_for("a caller from afar", || fleet.iter().all(|node| node.stat("waiters") == 1)).await;
        for node in fleet.iter() {
            is_refused_at_once(node, &key).await;
        }
        gate.open();
    };
    let (value, ()) = join(fleet[0].value(&key), refused).await;
    assert_eq!(value, value_of(&key));
    fleet.all_have(&key).await;
    assert_eq!(fleet.origin.loads_of(&key), 1);
}

pub async fn a_full_owner_is_passed_over(cluster: &Cluster) {
    let gate = Gate::default();
    let full = Options { max_flights: Some(1), ..Options::default() };
    let fleet = cluster.fleet_of(vec![Options::default(), full], slow(&gate)).await;
    let (slow, quick) = (fleet.key_of(1, "slow"), fleet.key_of(1, "quick"));
    let others = async {
        wait_for("a full owner", || fleet[1].stat("flights") == 1).await;
        assert_eq!(fleet[0].value(&quick).await, value_of(&quick));
        assert_eq!((fleet.origin.loads_at(0, &quick), fleet.origin.loads_at(1, &quick)), (1, 0));
        gate.open();
    };
    join(fleet[1].value(&slow), others).await;
}

async fn is_answered_in_time(fleet: &Fleet<'_>, node: usize, key: &str) {
    let limit = Duration::from_millis(200);
    let started = Instant::now();
    let error = within("a get", fleet[node].group.get_within(key, limit)).await.expect_err("it is slow");
    let took = started.elapsed();
    assert_eq!(error.kind(), ErrorKind::Deadline, "{}", chain(&error));
    // Less than the limit only where the owner's answer, "deadline", was the first to arrive.
    assert!(took > limit / 2 && took < limit * 5, "it took {took:?}");
    for node in fleet.iter() {
        node.is_quiet().await;
    }
    assert!(started.elapsed() < Duration::from_secs(10), "the load time-out is not what ended it");
    wait_for("a load that is dropped", || fleet.origin.dropped() == 1).await;
}

pub async fn a_caller_with_a_deadline_is_answered_in_time_and_leaves_nothing(cluster: &Cluster) {
    let fleet = cluster.fleet(2, Options::default(), slow(&Gate::default())).await;
    is_answered_in_time(&fleet, 1, &fleet.key_of(1, "slow")).await;
}

pub async fn a_remote_caller_with_a_deadline_is_answered_in_time_and_leaves_nothing(cluster: &Cluster) {
    let fleet = cluster.fleet(2, Options::default(), slow(&Gate::default())).await;
    is_answered_in_time(&fleet, 0, &fleet.key_of(1, "slow")).await;
    assert_eq!(fleet.origin.loads(), 1, "nobody else was asked in vain");
}

/// Begins a get at `node`, and drops it once the owner, node 1, loads.
async fn leave(fleet: &Fleet<'_>, node: usize, key: &str) {
    let before = fleet.origin.loads();
    let mut get = Box::pin(fleet[node].group.get(key));
    let loading = Box::pin(wait_for("a load", || fleet.origin.loads() > before));
    match futures_util::future::select(&mut get, loading).await {
        futures_util::future::Either::Left((answer, _)) => panic!("a slow load answered: {answer:?}"),
        futures_util::future::Either::Right(((), _)) => drop(get),
    }
}

pub async fn a_dropped_get_leaves_no_waiter(cluster: &Cluster) {
    let gate = Gate::default();
    let fleet = cluster.fleet(2, Options::default(), slow(&gate)).await;
    for node in [1, 0] {
        let key = fleet.key_of(1, &format!("slow {node}"));
        leave(&fleet, node, &key).await;
        assert_eq!(fleet[node].stat("waiters"), 0, "node {node}, after a drop");
        // Dropped before it was polled at all.
        drop(fleet[node].group.get(&key));
    }
    gate.open();
    for node in fleet.iter() {
        node.is_quiet().await;
    }
}

pub async fn a_load_that_nobody_waits_for_is_finished_by_default(cluster: &Cluster) {
    let gate = Gate::default();
    let fleet = cluster.fleet(2, Options::default(), slow(&gate)).await;
    let keys = fleet.keys_of(1, "slow", 2);
    for node in [0, 1] {
        leave(&fleet, node, &keys[node]).await;
    }
    gate.open();
    wait_for("their ends", || fleet.origin.finished() == 2).await;
    for key in &keys {
        fleet.all_have(key).await;
        assert_eq!(fleet.origin.loads_of(key), 1, "who comes back finds it");
    }
}

fn aborting() -> Options {
    Options { on_abandoned: OnAbandoned::Abort, ..Options::default() }
}

pub async fn a_load_that_nobody_waits_for_is_stopped_on_demand(cluster: &Cluster) {
    let fleet = cluster.fleet(2, aborting(), slow(&Gate::default())).await;
    leave(&fleet, 1, &fleet.key_of(1, "slow")).await;
    wait_for("a load that is dropped", || fleet.origin.dropped() == 1).await;
    fleet[1].is_quiet().await;
    assert_eq!(fleet[1].stat("abandoned"), 1);
}

pub async fn the_owner_stops_its_load_when_the_remote_caller_leaves(cluster: &Cluster) {
    let fleet = cluster.fleet(2, aborting(), slow(&Gate::default())).await;
    let opened = fleet[0].stat("peer_breaker_opened");
    for round in 1..=10 {
        let key = fleet.key_of(1, &format!("slow {round}"));
        leave(&fleet, 0, &key).await;
        wait_for("a load that is dropped", || fleet.origin.dropped() == round).await;
        for node in fleet.iter() {
            node.is_quiet().await;
        }
    }
    // Leaving is no fault of the owner's.
    assert_eq!(fleet[0].value("quick").await, value_of("quick"));
    assert_eq!((fleet[0].stat("peer_breaker_opened"), fleet[0].stat("peer_failed_batches")), (opened, 0));
}

pub async fn an_owner_that_is_slow_is_not_taken_for_dead(cluster: &Cluster) {
    let fleet = cluster.fleet(3, Options::default(), slow(&Gate::default())).await;
    let opened = fleet[0].stat("peer_breaker_opened");
    for key in fleet.keys_of(1, "slow", 10) {
        let limited = fleet[0].group.get_within(&key, Duration::from_millis(60));
        assert_eq!(within("a get", limited).await.expect_err("it is slow").kind(), ErrorKind::Deadline);
        assert!(fleet.origin.loads_of(&key) <= 1, "others were asked in vain for `{key}`");
    }
    assert_eq!((fleet[0].stat("peer_breaker_opened"), fleet[0].stat("peer_failed_batches")), (opened, 0));
    let quick = fleet.key_of(1, "quick");
    assert_eq!(fleet[0].value(&quick).await, value_of(&quick));
    assert_eq!(fleet.origin.loads_at(1, &quick), 1);
}

pub async fn the_owner_stops_its_load_when_the_remote_callers_time_is_over(cluster: &Cluster) {
    for options in [aborting(), Options::default()] {
        let fleet = cluster.fleet(2, options, slow(&Gate::default())).await;
        let key = fleet.key_of(1, "slow");
        let started = Instant::now();
        let limited = fleet[0].group.get_within(&key, Duration::from_millis(300));
        assert_eq!(within("a get", limited).await.expect_err("it is slow").kind(), ErrorKind::Deadline);
        wait_for("a load that is dropped", || fleet.origin.dropped() == 1).await;
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "the owner worked on for {:?}",
            started.elapsed()
        );
        fleet[1].is_quiet().await;
    }
}

pub async fn a_caller_that_stays_keeps_the_load_of_one_that_left(cluster: &Cluster) {
    let gate = Gate::default();
    let fleet = cluster.fleet(2, aborting(), slow(&gate)).await;
    let key = fleet.key_of(1, "slow");
    let others = async {
        wait_for("a load", || fleet.origin.loads() == 1).await;
        for node in [0, 1] {
            let limited = fleet[node].group.get_within(&key, Duration::from_millis(100));
            assert!(within("a get", limited).await.is_err());
            // A dropped get beside it.
            let mut get = Box::pin(fleet[node].group.get(&key));
            let polled = futures_util::poll!(&mut get);
            assert!(polled.is_pending());
        }
        fleet[0].is_quiet().await;
        assert_eq!(fleet.origin.dropped(), 0);
        gate.open();
    };
    let (value, ()) = join(fleet[1].value(&key), others).await;
    assert_eq!((value, fleet.origin.loads()), (value_of(&key), 1));
}

pub async fn a_panicking_retriever_harms_nothing_else(cluster: &Cluster) {
    let gate = Gate::default();
    let shut = gate.clone();
    let origin = Origin::new(move |call| {
        assert!(!call.key.contains("early"), "no future today");
        let gate = shut.clone();
        async move {
            gate.passed().await;
            assert!(!call.key.contains("late"), "no value today");
            Ok(value_of(&call.key).into())
        }
    });
    let fleet = cluster.fleet(2, Options::default(), origin).await;
    let healthy = fleet.keys_of(1, "healthy", 20);
    let (early, late) = (fleet.key_of(1, "early"), fleet.key_of(1, "late"));
    let gets = healthy.iter().flat_map(|key| fleet.iter().map(|node| node.value(key)));
    let panics = async {
        for (key, words) in [(&early, "no future today"), (&late, "no value today")] {
            if words.contains("value") {
                gate.open();
            }
            for node in [0, 1, 0] {
                let error = within("a get", fleet[node].group.get(key)).await.expect_err("a panic");
                assert_eq!(error.kind(), ErrorKind::OriginFailed, "{}", chain(&error));
                assert!(chain(&error).contains(words), "{}", chain(&error));
            }
        }
    };
    join(join_all(gets), panics).await;
    assert!(healthy.iter().all(|key| fleet.origin.loads_of(key) == 1));
    for node in fleet.iter() {
        node.is_quiet().await;
    }
}

pub async fn a_hanging_retriever_harms_nothing_else(cluster: &Cluster) {
    let options = Options { load_timeout: Duration::from_millis(700), ..Options::default() };
    let fleet = cluster.fleet(2, options, slow(&Gate::default())).await;
    let slow = fleet.keys_of(1, "slow", 10);
    let hanging = join_all(slow.iter().flat_map(|key| fleet.iter().map(|node| node.group.get(key))));
    let others = async {
        wait_for("loads that hang", || fleet.origin.loads() == slow.len()).await;
        for key in fleet.keys_of(1, "quick", 20) {
            fleet.all_have(&key).await;
        }
    };
    let (answers, ()) = join(within("the load time-out", hanging), others).await;
    for answer in answers {
        let error = answer.expect_err("it hangs");
        assert_eq!(error.kind(), ErrorKind::Deadline, "{}", chain(&error));
    }
    for node in fleet.iter() {
        node.is_quiet().await;
    }
    wait_for("loads that are dropped", || fleet.origin.dropped() == slow.len()).await;
    assert_eq!(fleet.origin.loads(), slow.len() + 20);
}

pub async fn a_retriever_that_returns_after_everyone_left_harms_nothing(cluster: &Cluster) {
    // Blocks its thread, so that nothing can drop it: it does return, and nobody is there.
    let gate = Gate::default();
    let shut = gate.clone();
    let origin = Origin::new(move |call| {
        let gate = shut.clone();
        async move {
            if call.key.contains("blocking") && call.before == 0 {
                std::thread::sleep(Duration::from_millis(400));
                gate.open();
            }
            Ok(value_of(&call.key).into())
        }
    });
    let fleet = cluster.fleet(2, aborting(), origin).await;
    let key = fleet.key_of(1, "blocking");
    let limited = fleet[0].group.get_within(&key, Duration::from_millis(100));
    // The timer may be on the thread that is blocked: then the value comes first.
    if let Err(error) = within("a get", limited).await {
        assert_eq!(error.kind(), ErrorKind::Deadline, "{}", chain(&error));
    }
    async_std::future::timeout(SOON, gate.passed()).await.expect("it returns");
    sleep(Duration::from_millis(20)).await;
    fleet.all_have(&key).await;
    for node in fleet.iter() {
        node.is_quiet().await;
    }
    let quick = fleet.key_of(1, "quick");
    fleet.all_have(&quick).await;
}
