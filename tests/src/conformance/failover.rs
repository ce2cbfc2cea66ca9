//! Members that are dead, silent or mad.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use groupcache_core::{Member, PeerId, Placement, Ring, RingEpoch};
use groupcache_runtime::Level;

use super::Cluster;
use super::fleet::{Fleet, Options, wait_for, within};
use super::origin::{Origin, value_of};

pub async fn a_dead_owner_has_one_successor_that_loads(cluster: &Cluster) {
    let fleet = cluster.fleet(4, Options::default(), Origin::plain()).await;
    let keys = fleet.keys_of(3, "orphan", 30);
    fleet.lose(3).await;
    let gets = keys.iter().flat_map(|key| fleet[..3].iter().map(|node| node.value(key)));
    join_all(gets).await;
    for key in &keys {
        assert_eq!(fleet.origin.loads_of(key), 1, "loads of `{key}`, whose owner is dead");
    }
    let loaders = (0..3).filter(|&node| keys.iter().any(|key| fleet.origin.loads_at(node, key) > 0)).count();
    assert!(loaders > 1, "the keys of a dead owner are spread");
}

pub async fn an_owner_that_is_back_gets_its_keys_back(cluster: &Cluster) {
    let mut fleet = cluster.fleet(3, Options::default(), Origin::plain()).await;
    let keys = fleet.keys_of(2, "homecomer", 30);
    for round in 0..2 {
        fleet.lose(2).await;
        for key in &keys[..10] {
            assert_eq!(fleet[round].value(key).await, value_of(key));
            assert_eq!(fleet.origin.loads_at(2, key), 0);
        }
        fleet.restart(2, Options::default()).await.expect("its port is free again");
        let addr = fleet.addrs[2].clone();
        for node in &fleet[..2] {
            wait_for("the owner's return", || node.up().contains(&addr)).await;
        }
        for key in &keys[10 * (round + 1)..][..10] {
            for node in &fleet[..2] {
                assert_eq!(node.value(key).await, value_of(key));
            }
            assert_eq!((fleet.origin.loads_at(2, key), fleet.origin.loads_of(key)), (1, 1));
        }
    }
}

/// What a listener that is no node does with who connects.
type Manners = fn(TcpStream);

/// A fleet of two nodes and a member that is none.
async fn with_stranger(cluster: &Cluster, manners: Manners) -> Fleet<'_> {
    let stranger = Cluster::addrs(1).remove(0);
    let listener = TcpListener::bind(&stranger).expect("a free port");
    // Ends with the process: nobody joins it.
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || manners(stream));
        }
    });
    joined_by(cluster, stranger).await
}

/// A fleet of two nodes that are told of a third member.
pub(super) async fn joined_by(cluster: &Cluster, stranger: String) -> Fleet<'_> {
    let mut fleet = cluster.fleet(2, Options::default(), Origin::plain()).await;
    fleet.addrs.push(stranger);
    for node in fleet.iter() {
        assert!(node.set_peers(&fleet.addrs));
        wait_for("a ring of three", || node.ring().members.len() == 3).await;
    }
    fleet
}

/// Many gets for keys of a member that gives no answer: each has its value, and together they take little more than one time-out.
async fn is_a_burden_once(fleet: &Fleet<'_>) {
    let keys = fleet.keys_of(2, "of the stranger", 60);
    let started = Instant::now();
    join_all(keys[..20].iter().flat_map(|key| fleet.iter().map(|node| node.value(key)))).await;
    for key in &keys[20..] {
        for node in fleet.iter() {
            assert_eq!(node.value(key).await, value_of(key));
        }
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(4), "120 gets past a dead member took {took:?}");
    // Keys that were first asked while the dial was under way may be asked at both; from then on there is one loader for each.
    let twice = keys[20..].iter().filter(|key| fleet.origin.loads_of(key) != 1).count();
    assert_eq!(twice, 0, "keys that were loaded by both nodes");
    let mine = fleet.key_of(0, "of a node");
    fleet.all_have(&mine).await;
    for node in fleet.iter() {
        let dials = node.stat("peer_dials");
        assert!(dials < 20, "node {} dialled {dials} times in {:?}", node.number, started.elapsed());
    }
}

pub async fn a_silent_peer_costs_one_probe(cluster: &Cluster) {
    fn silent(mut stream: TcpStream) {
        // Reads, so that nothing at the other end is full, and never says a word.
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
    }
    is_a_burden_once(&with_stranger(cluster, silent).await).await;
}

pub async fn a_peer_that_speaks_garbage_costs_one_probe(cluster: &Cluster) {
    fn garbage(mut stream: TcpStream) {
        // Its end may have gone already.
        let _gone =
            stream.write_all(b"HTTP/1.1 418 I'm a teapot\r\ncontent-length: 3\r\n\r\nno\n\xff\x00\x17\xfe");
        let _gone = stream.shutdown(Shutdown::Write);
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
    }
    is_a_burden_once(&with_stranger(cluster, garbage).await).await;
}

pub async fn a_peer_that_hangs_up_costs_one_probe(cluster: &Cluster) {
    is_a_burden_once(&with_stranger(cluster, drop).await).await;
}

pub async fn a_member_that_never_was_costs_one_probe(cluster: &Cluster) {
    let nobody = Cluster::addrs(1).remove(0);
    is_a_burden_once(&joined_by(cluster, nobody).await).await;
}

/// The member that succeeds the owner of `key`, by number.
fn successor_of(fleet: &Fleet<'_>, key: &str) -> usize {
    let members = (0..).map(PeerId::new).zip(&fleet.addrs);
    let members = members.map(|(id, addr)| Member::new(id, addr.as_str())).collect();
    let ring = Ring::new(Placement::default(), RingEpoch::new(1), members).expect("a ring of the fleet");
    let next = ring.successors(key.as_bytes()).nth(1).expect("a successor");
    fleet.addrs.iter().position(|addr| addr == next.name()).expect("it is of the fleet")
}

pub async fn a_successor_that_is_asked_keeps_the_value_as_a_hot_copy(cluster: &Cluster) {
    let fleet = cluster.fleet(4, Options::default(), Origin::plain()).await;
    let keys = fleet.keys_of(3, "inherited", 60);
    fleet.lose(3).await;
    let of_1: Vec<_> = keys.iter().filter(|key| successor_of(&fleet, key) == 1).collect();
    assert!(of_1.len() > 5, "keys that node 1 inherits");
    for key in of_1 {
        let found = within("a lookup", fleet[0].group.lookup(key)).await.expect("a value");
        assert_eq!((found.level, fleet.origin.loads_at(1, key)), (Level::Peer, 1));
        let kept = within("a lookup", fleet[1].group.lookup(key)).await.expect("a value");
        assert_eq!(kept.level, Level::Hot, "at the successor");
        assert!(kept.ttl.is_some(), "a copy is mortal, and the owner will be back");
        assert_eq!(fleet[2].value(key).await, value_of(key));
        assert_eq!(fleet.origin.loads_of(key), 1, "the successor serves others from its copy");
    }
}

pub async fn with_owner_and_successor_gone_the_local_origin_is_asked(cluster: &Cluster) {
    let fleet = cluster.fleet(4, Options::default(), Origin::plain()).await;
    let keys = fleet.keys_of(3, "orphan", 60);
    for number in [3, 2] {
        within("a stop", fleet[number].stop()).await;
    }
    for node in &fleet[..2] {
        wait_for("losses that are noticed", || node.up().len() == 2).await;
    }
    let orphans: Vec<_> = keys.iter().filter(|key| successor_of(&fleet, key) == 2).collect();
    assert!(orphans.len() > 5, "keys whose owner and successor are gone");
    for key in orphans {
        assert_eq!(fleet[0].value(key).await, value_of(key));
        assert_eq!((fleet.origin.loads_of(key), fleet.origin.loads_at(0, key)), (1, 1));
    }
}
