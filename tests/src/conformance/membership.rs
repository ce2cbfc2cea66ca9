//! Groups that come and go, and members that do.

use std::collections::BTreeSet;

use groupcache_runtime::{ErrorKind, GroupError, MemoryRegistry};

use super::Cluster;
use super::fleet::{Options, Registry, chain, keys_where, wait_for, within};
use super::origin::{Origin, value_of};

pub async fn a_group_is_made_once(cluster: &Cluster) {
    let fleet = cluster.fleet(1, Options::default(), Origin::plain()).await;
    let other = Origin::plain();
    let again = fleet[0].add_group("g", &other);
    assert!(matches!(&again, Err(GroupError::Exists(name)) if name == "g"), "{again:?}");
    let unnamed = fleet[0].add_group("", &other);
    assert!(matches!(unnamed, Err(GroupError::EmptyName)), "{unnamed:?}");
    assert_eq!(fleet[0].value("key").await, value_of("key"));
    assert_eq!((fleet.origin.loads(), other.loads()), (1, 0), "the first one stays in force");
}

pub async fn a_destroyed_group_is_gone_and_can_be_made_again(cluster: &Cluster) {
    let fleet = cluster.fleet(2, Options::default(), Origin::plain()).await;
    let key = fleet.key_of(1, "key");
    fleet.all_have(&key).await;
    for node in fleet.iter() {
        assert!(node.destroy_group("g") && !node.has_group("g"));
        assert!(!node.destroy_group("g"), "it is gone already");
        let error = within("a get", node.group.get(&key)).await.expect_err("it is gone");
        assert_eq!(error.kind(), ErrorKind::NoSuchGroup, "{}", chain(&error));
        assert!(chain(&error).contains("`g`"), "{}", chain(&error));
        assert!(node.group.peek(&key).is_none());
    }
    let second = Origin::new(|_| async { Ok("second".into()) });
    let groups: Vec<_> =
        fleet.iter().map(|node| node.add_group("g", &second).expect("the name is free")).collect();
    for (node, group) in fleet.iter().zip(&groups) {
        assert!(node.has_group("g"));
        let value = within("a get", group.get(&key)).await.expect("a value");
        assert_eq!(value.as_bytes(), b"second", "at node {}", node.number);
        // A handle goes by the group's name: the old one is good again.
        assert_eq!(node.value(&key).await, "second");
    }
    assert_eq!(second.loads(), 1);
}

pub async fn a_new_list_of_peers_moves_ownership(cluster: &Cluster) {
    let apart = Options { peers: Some(Vec::new()), ..Options::default() };
    let fleet = cluster.fleet(2, apart, Origin::plain()).await;
    assert!(fleet.iter().all(|node| node.ring().members.len() == 1));
    let owns = |node: usize, key: &str| fleet[node].group.owner(key).as_ref() == Some(&fleet.addrs[node]);
    assert!(owns(0, "key") && owns(1, "key"), "each is alone");
    fleet.all_have("key").await;
    assert_eq!(fleet.origin.loads_of("key"), 2, "each has loaded it");
    for node in fleet.iter() {
        assert!(node.set_peers(&fleet.addrs));
    }
    for node in fleet.iter() {
        wait_for("a ring of two", || node.up().len() == 2).await;
    }
    for key in keys_where("together", 40, |key| owns(0, key) != owns(1, key)) {
        fleet.all_have(&key).await;
        assert_eq!(fleet.origin.loads_of(&key), 1);
    }
    for node in fleet.iter() {
        assert!(node.set_peers(&[]));
        wait_for("a ring of one", || node.ring().members.len() == 1).await;
    }
    fleet.all_have("apart").await;
    assert_eq!(fleet.origin.loads_of("apart"), 2, "each is alone again");
}

pub async fn nodes_find_each_other_through_a_registry(cluster: &Cluster) {
    let options = Options { registry: Some(Registry::Memory(MemoryRegistry::new())), ..Options::default() };
    let mut fleet = cluster.fleet(3, options.clone(), Origin::plain()).await;
    for node in fleet.iter() {
        wait_for("a ring of three", || node.up().len() == 3).await;
        assert!(!node.set_peers(&fleet.addrs), "the registry says who is a member");
    }
    for key in (0..3).map(|owner| fleet.key_of(owner, "found")) {
        fleet.all_have(&key).await;
        assert_eq!(fleet.origin.loads_of(&key), 1);
    }
    within("a stop", fleet[2].stop()).await;
    for node in &fleet[..2] {
        wait_for("a ring of two", || node.ring().members.len() == 2).await;
    }
    fleet.restart(2, options).await.expect("its port is free again");
    for node in fleet.iter() {
        wait_for("a ring of three", || node.up().len() == 3).await;
    }
}

/// Nodes that dial nobody before there is a reason to.
fn on_demand() -> Options {
    let mut options = Options::default();
    options.link.dial_ahead = 0;
    options
}

pub async fn in_a_large_fleet_a_peer_is_dialled_when_it_is_first_asked(cluster: &Cluster) {
    let fleet = cluster.fleet(3, on_demand(), Origin::plain()).await;
    for node in fleet.iter() {
        assert_eq!(node.up(), BTreeSet::from([fleet.addrs[node.number].clone()]));
    }
    for key in [fleet.key_of(1, "remote"), fleet.key_of(0, "own")] {
        assert_eq!(fleet[0].value(&key).await, value_of(&key));
    }
    assert_eq!(fleet[0].up(), BTreeSet::from([fleet.addrs[0].clone(), fleet.addrs[1].clone()]));
    assert_eq!((fleet[0].stat("peer_dials"), fleet[2].stat("peer_dials")), (1, 0));
    assert_eq!(fleet.origin.loads_at(1, &fleet.key_of(1, "remote")), 1);
}

pub async fn in_a_large_fleet_a_removal_reaches_members_that_were_never_asked(cluster: &Cluster) {
    let fleet = cluster.fleet(3, on_demand(), Origin::plain()).await;
    let key = fleet.key_of(0, "removed");
    fleet[1].value(&key).await;
    assert!(fleet[0].group.peek(&key).is_some() && fleet[1].group.peek(&key).is_some());
    // Node 2 has asked nobody, and nobody has asked it.
    let report = within("a removal", fleet[2].group.remove(&key)).await.expect("a removal");
    assert_eq!(report.unacknowledged, Vec::<String>::new());
    assert!(fleet.iter().all(|node| node.group.peek(&key).is_none()));
}
