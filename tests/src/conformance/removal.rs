//! Fenced removal, and flush.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use futures_util::future::{join, join_all};

use super::Cluster;
use super::fleet::{Fleet, Options, wait_for, within};
use super::origin::{Gate, Origin, value_of};

/// An origin whose values are versions, and what sets them.
fn versions() -> (Origin, Arc<AtomicUsize>) {
    let version = Arc::new(AtomicUsize::new(1));
    let read = Arc::clone(&version);
    let origin = Origin::new(move |_| {
        let version = read.load(Ordering::SeqCst);
        async move { Ok(version.to_string().into()) }
    });
    (origin, version)
}

/// An origin whose first load of a key reads version 1 and then waits for the gate; later loads read version 2.
fn slow_at_first(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::new(move |call| {
        let gate = gate.clone();
        async move {
            if call.before > 0 {
                return Ok("2".into());
            }
            gate.passed().await;
            Ok("1".into())
        }
    })
}

async fn remove(fleet: &Fleet<'_>, node: usize, key: &str) -> Vec<String> {
    let removed = within("a removal", fleet[node].group.remove(key)).await;
    removed.expect("a removal that is taken").unacknowledged
}

pub async fn a_removal_reaches_every_node(cluster: &Cluster) {
    let (origin, version) = versions();
    let fleet = cluster.fleet(3, Options::default(), origin).await;
    let mut current = 1;
    for owner in 0..3 {
        let key = fleet.key_of(owner, "removed");
        for remover in 0..3 {
            for node in fleet.iter() {
                assert_eq!(node.value(&key).await, current.to_string());
            }
            current = version.fetch_add(1, Ordering::SeqCst) + 1;
            assert_eq!(remove(&fleet, remover, &key).await, Vec::<String>::new());
            for node in fleet.iter() {
                assert!(node.group.peek(&key).is_none(), "node {} still has `{key}`", node.number);
            }
        }
    }
}

pub async fn a_load_under_way_at_a_removal_serves_who_waits_and_enters_no_cache(cluster: &Cluster) {
    for remover in 0..3 {
        let gate = Gate::default();
        let fleet = cluster.fleet(3, Options::default(), slow_at_first(&gate)).await;
        let key = fleet.key_of(1, "fenced");
        let waiting = join_all(fleet.iter().map(|node| node.value(&key)));
        let removed = async {
            // The owner's own caller, and one from each of the others.
            wait_for("callers that wait", || fleet[1].stat("waiters") == 3).await;
            assert_eq!(remove(&fleet, remover, &key).await, Vec::<String>::new());
            gate.open();
        };
        let (values, ()) = join(waiting, removed).await;
        assert_eq!(values, ["1", "1", "1"], "who waited gets what was loaded");
        for node in fleet.iter() {
            assert!(node.group.peek(&key).is_none(), "node {} keeps what was removed", node.number);
        }
        for node in fleet.iter() {
            assert_eq!(node.value(&key).await, "2");
        }
        assert_eq!(fleet.origin.loads(), 2);
        assert!(fleet[1].stat("fenced_dropped") > 0);
    }
}

pub async fn nobody_joins_a_load_that_began_before_a_removal(cluster: &Cluster) {
    let gate = Gate::default();
    let fleet = cluster.fleet(3, Options::default(), slow_at_first(&gate)).await;
    let key = fleet.key_of(1, "fenced");
    let waiting = join_all(fleet.iter().map(|node| node.value(&key)));
    let removed = async {
        wait_for("callers that wait", || fleet[1].stat("waiters") == 3).await;
        assert_eq!(remove(&fleet, 0, &key).await, Vec::<String>::new());
        // The old load still hangs.
        for node in fleet.iter() {
            assert_eq!(node.value(&key).await, "2", "at node {}", node.number);
        }
        gate.open();
    };
    let (values, ()) = join(waiting, removed).await;
    assert_eq!(values, ["1", "1", "1"]);
    for node in fleet.iter() {
        assert_eq!(node.value(&key).await, "2", "at node {}, after the old load has ended", node.number);
    }
    assert_eq!(fleet.origin.loads(), 2);
}

pub async fn no_node_returns_a_removed_version_after_the_acknowledgement(cluster: &Cluster) {
    const ROUNDS: usize = 60;
    let (origin, version) = versions();
    let fleet = cluster.fleet(3, Options::default(), origin).await;
    let key = fleet.key_of(1, "contended");
    let acknowledged = AtomicUsize::new(1);
    let over = AtomicBool::new(false);
    let readers = fleet.iter().chain(fleet.iter()).map(|node| {
        let (key, acknowledged, over) = (&key, &acknowledged, &over);
        async move {
            let mut reads = 0;
            while !over.load(Ordering::SeqCst) {
                let least = acknowledged.load(Ordering::SeqCst);
                let read: usize = node.value(key).await.parse().expect("a version");
                assert!(read >= least, "node {} returned version {read} after {least}", node.number);
                reads += 1;
                async_std::task::yield_now().await;
            }
            reads
        }
    });
    let writer = async {
        for round in 0..ROUNDS {
            let new = version.fetch_add(1, Ordering::SeqCst) + 1;
            assert_eq!(remove(&fleet, round % 3, &key).await, Vec::<String>::new());
            acknowledged.store(new, Ordering::SeqCst);
            for node in fleet.iter() {
                let read = node.value(&key).await;
                assert_eq!(read, new.to_string(), "node {} after removal {round}", node.number);
            }
        }
        over.store(true, Ordering::SeqCst);
    };
    let (reads, ()) = join(join_all(readers), writer).await;
    assert!(reads.iter().all(|reads: &usize| *reads > 0), "{reads:?}");
}

pub async fn a_removal_names_the_member_that_is_down(cluster: &Cluster) {
    let fleet = cluster.fleet(3, Options::default(), Origin::plain()).await;
    let keys: Vec<_> = (0..3).map(|owner| fleet.key_of(owner, "down")).collect();
    for key in &keys {
        fleet.all_have(key).await;
    }
    fleet.lose(2).await;
    for key in &keys {
        let started = Instant::now();
        assert_eq!(remove(&fleet, 0, key).await, [fleet.addrs[2].clone()]);
        assert!(started.elapsed().as_secs() < 5, "a removal is bounded: {:?}", started.elapsed());
        assert!(fleet[0].group.peek(key).is_none() && fleet[1].group.peek(key).is_none());
    }
    let flushed = within("a flush", fleet[1].group.flush()).await.expect("a flush that is taken");
    assert_eq!(flushed.unacknowledged, [fleet.addrs[2].clone()]);
}

pub async fn a_flush_forgets_all_keys_of_its_group_and_of_no_other(cluster: &Cluster) {
    let fleet = cluster.fleet(3, Options::default(), Origin::plain()).await;
    let other = Origin::plain();
    let others: Vec<_> =
        fleet.iter().map(|node| node.add_group("other", &other).expect("the first of its name")).collect();
    let keys: Vec<_> = (0..3).flat_map(|owner| fleet.keys_of(owner, "flushed", 10)).collect();
    for key in &keys {
        fleet.all_have(key).await;
        for group in &others {
            let value = within("a get", group.get(key)).await.expect("a value");
            assert_eq!(value.as_bytes(), value_of(key).as_bytes());
        }
    }
    let flushed = within("a flush", fleet[0].group.flush()).await.expect("a flush that is taken");
    assert_eq!(flushed.unacknowledged, Vec::<String>::new());
    for key in &keys {
        assert!(fleet.iter().all(|node| node.group.peek(key).is_none()), "`{key}` is still there");
        assert!(others.iter().all(|group| group.peek(key).is_some()), "`{key}` of the other group is gone");
        fleet.all_have(key).await;
    }
    assert_eq!((fleet.origin.loads(), other.loads()), (2 * keys.len(), keys.len()));
}

pub async fn a_flush_fences_loads_under_way(cluster: &Cluster) {
    let gate = Gate::default();
    let fleet = cluster.fleet(3, Options::default(), slow_at_first(&gate)).await;
    let key = fleet.key_of(1, "fenced");
    let waiting = join_all(fleet.iter().map(|node| node.value(&key)));
    let flushed = async {
        wait_for("callers that wait", || fleet[1].stat("waiters") == 3).await;
        within("a flush", fleet[2].group.flush()).await.expect("a flush that is taken");
        for node in fleet.iter() {
            assert_eq!(node.value(&key).await, "2", "at node {}, while the old load hangs", node.number);
        }
        gate.open();
    };
    let (values, ()) = join(waiting, flushed).await;
    assert_eq!(values, ["1", "1", "1"]);
    for node in fleet.iter() {
        assert_eq!(node.value(&key).await, "2", "at node {}", node.number);
    }
}
