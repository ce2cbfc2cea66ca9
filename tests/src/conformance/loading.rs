//! One load, one hop.

use futures_util::future::join_all;

use super::Cluster;
use super::fleet::{Fleet, Options, keys_where, wait_for, within};
use super::origin::{Gate, Origin, behind, value_of};
use groupcache_runtime::{Level, Placement};

pub async fn one_load_for_any_number_of_callers(cluster: &Cluster) {
    const CALLERS: u64 = 30;
    for owner in 0..3 {
        let gate = Gate::default();
        let fleet = cluster.fleet(3, Options::default(), behind(&gate)).await;
        let key = fleet.key_of(owner, "shared");
        let callers = fleet.iter().flat_map(|node| (0..CALLERS).map(|_| node.value(&key)));
        let opened = async {
            wait_for("callers that wait", || fleet.iter().all(|node| node.stat("waiters") >= CALLERS)).await;
            wait_for("a load", || fleet.origin.loads_of(&key) > 0).await;
            gate.open();
        };
        let (values, ()) = futures_util::future::join(join_all(callers), opened).await;
        assert!(values.iter().all(|value| *value == value_of(&key)));
        assert_eq!((fleet.origin.loads_of(&key), fleet.origin.loads_at(owner, &key)), (1, 1));
    }
}

pub async fn every_key_is_loaded_once_and_by_its_owner(cluster: &Cluster) {
    let fleet = cluster.fleet(3, Options::default(), Origin::plain()).await;
    let keys: Vec<Vec<String>> = (0..3).map(|owner| fleet.keys_of(owner, "cold", 30)).collect();
    let gets =
        keys.iter().flatten().flat_map(|key| fleet.iter().chain(fleet.iter()).map(|node| node.value(key)));
    let values = join_all(gets).await;
    assert_eq!(values.len(), 3 * 30 * 6);
    for (owner, keys) in keys.iter().enumerate() {
        for key in keys {
            assert_eq!(fleet.origin.loads_at(owner, key), 1, "loads of `{key}` at its owner");
        }
    }
    assert_eq!(fleet.origin.loads(), 90);
}

/// Three nodes, each of which places keys by a scheme of its own, and a key of which each believes that the next node owns it.
async fn disagreeing(cluster: &Cluster, origin: Origin) -> (Fleet<'_>, String) {
    let options = Placement::ALL.map(|placement| Options { placement, ..Options::default() });
    let fleet = cluster.fleet_of(options.to_vec(), origin).await;
    let next = |number: usize| fleet.addrs[(number + 1) % 3].as_str();
    let circular =
        |key: &str| fleet.iter().all(|node| node.group.owner(key).as_deref() == Some(next(node.number)));
    let key = keys_where("circle", 1, circular).remove(0);
    (fleet, key)
}

pub async fn a_peers_request_is_served_where_it_arrives(cluster: &Cluster) {
    let (fleet, key) = disagreeing(cluster, Origin::plain()).await;
    assert_eq!(fleet[0].value(&key).await, value_of(&key));
    // Node 1 believes that node 2 owns the key, and yet does not ask it.
    let loads: Vec<_> = (0..3).map(|node| fleet.origin.loads_at(node, &key)).collect();
    assert_eq!(loads, [0, 1, 0]);
    assert_eq!(fleet[2].stat("served"), 0);
}

pub async fn disagreeing_lists_neither_loop_nor_deadlock(cluster: &Cluster) {
    let gate = Gate::default();
    let (fleet, key) = disagreeing(cluster, behind(&gate)).await;
    // Everybody asks the next node while the next waits for the one after: a circle, if a peer's request were to wait for a fetch.
    let gets = fleet.iter().flat_map(|node| [node.value(&key), node.value(&key)]);
    let opened = async {
        // At two nodes or three: who is asked by a peer before its own callers come has them join the load that it began for the peer.
        let loading = || (0..3).filter(|&node| fleet.origin.loads_at(node, &key) == 1).count();
        wait_for("loads that wait", || loading() >= 2).await;
        gate.open();
    };
    let (values, ()) = futures_util::future::join(join_all(gets), opened).await;
    assert!(values.iter().all(|value| *value == value_of(&key)));
    assert!((2..=3).contains(&fleet.origin.loads_of(&key)), "{} loads", fleet.origin.loads_of(&key));
    let noticed = fleet.iter().filter(|node| node.stat("fingerprint_mismatches") > 0).count();
    assert!(noticed >= 2, "{noticed} nodes have noticed that their peers see another ring");
}

pub async fn a_value_says_where_it_came_from(cluster: &Cluster) {
    let fleet = cluster.fleet(2, Options::default(), Origin::plain()).await;
    for (owner, other) in [(0, 1), (1, 0)] {
        let key = fleet.key_of(owner, "levels");
        let ask = |node: usize| within("a lookup", fleet[node].group.lookup(&key));
        for (node, level) in
            [(owner, Level::Origin), (owner, Level::Main), (other, Level::Peer), (other, Level::Hot)]
        {
            assert_eq!(ask(node).await.expect("a value").level, level, "owner {owner}, node {node}");
        }
    }
}

pub async fn the_empty_value_is_a_value(cluster: &Cluster) {
    let fleet = cluster.fleet(2, Options::default(), Origin::new(|_| async { Ok(Vec::new().into()) })).await;
    let key = fleet.key_of(1, "empty");
    for node in [0, 1, 0] {
        assert_eq!(fleet[node].value(&key).await, "");
    }
    assert_eq!(fleet.origin.loads(), 1);
}

pub async fn a_mismatch_of_rings_is_answered_from_cache_and_origin_and_counted(cluster: &Cluster) {
    // Node 1 knows of nobody; node 0 believes that there are two.
    let options = [Options::default(), Options { peers: Some(Vec::new()), ..Options::default() }];
    let fleet = cluster.fleet_of(options.to_vec(), Origin::plain()).await;
    let keys = fleet.keys_of(1, "mismatch", 20);
    for key in &keys[..10] {
        assert_eq!(fleet[1].value(key).await, value_of(key));
    }
    let before = fleet[1].stat("fingerprint_mismatches");
    for (asked, key) in (1..).zip(&keys) {
        assert_eq!(fleet[0].value(key).await, value_of(key));
        assert_eq!((fleet.origin.loads_of(key), fleet.origin.loads_at(1, key)), (1, 1));
        assert_eq!(fleet[1].stat("fingerprint_mismatches") - before, asked, "each request is counted");
    }
    assert_eq!(fleet[0].stat("fingerprint_mismatches"), 0, "nobody has asked it");
    // They agree, and nothing more is counted.
    assert!(fleet[1].set_peers(&fleet.addrs));
    fleet[1].sees(&fleet.addrs).await;
    fleet.all_have(&fleet.key_of(1, "agreed")).await;
    assert_eq!(fleet[1].stat("fingerprint_mismatches") - before, keys.len() as u64);
}
