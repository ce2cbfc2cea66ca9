//! A real etcd that dies, forgets, freezes, cuts off and compacts: an outage of the registry is not one of the cache.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_std::task::sleep;
use futures_util::future::{join, join_all};
use groupcache_runtime::{ErrorKind, Status};

use super::Cluster;
use super::fleet::{LEASE, Node, Options, chain, wait_for, within};
use super::origin::{Gate, Origin, behind, value_of};
use super::realm::{Callers, Realm, is_whole};
use crate::{Etcd, Proxy, Signal};

/// Longer than any record outlives its node.
const OUTAGE: Duration = Duration::from_secs(3);

/// Looks at the rings of `nodes` for a while: nobody may be missing.
async fn rings_stay_whole(nodes: &[Node], members: usize, time: Duration) {
    let started = Instant::now();
    while started.elapsed() < time {
        for node in nodes {
            let seen = node.ring().members.len();
            assert_eq!(seen, members, "on the ring of node {}, after {:?}", node.number, started.elapsed());
            assert!(node.is_ready(), "node {} is not ready, after {:?}", node.number, started.elapsed());
        }
        sleep(Duration::from_millis(20)).await;
    }
}

pub async fn an_etcd_that_dies_and_comes_back_is_missed_by_no_caller(cluster: &Cluster) {
    let realm = Realm::start(cluster).await;
    let mut fleet = cluster.fleet(3, realm.direct(), Origin::plain()).await;
    is_whole(&fleet).await;
    let callers = Callers::of(&fleet);
    realm.with(Etcd::kill).await;
    rings_stay_whole(&fleet, 3, OUTAGE).await;
    realm.with(Etcd::restart).await;
    // Longer than a lease: who did not keep it alive again would be gone at the end.
    rings_stay_whole(&fleet, 3, LEASE + LEASE / 2).await;
    realm.holds(&fleet.addrs).await;
    callers.end().await;
    // And it is of use again.
    within("a leave", fleet[2].stop()).await;
    for node in &fleet[..2] {
        node.sees(&fleet.addrs[..2]).await;
    }
    fleet.restart(2, realm.direct()).await.expect("its port is free again");
    is_whole(&fleet).await;
}

pub async fn an_etcd_that_lost_its_data_gets_the_records_back_and_empties_no_ring(cluster: &Cluster) {
    let realm = Realm::start(cluster).await;
    let mut fleet = cluster.fleet(3, realm.direct(), Origin::plain()).await;
    is_whole(&fleet).await;
    // So that the new etcd's revisions begin far below the old one's.
    for round in 0..5 {
        realm.ctl(&["put", "somebody else", &round.to_string()]).await;
    }
    let callers = Callers::of(&fleet);
    let lost = realm.with(|etcd| {
        etcd.lose_everything();
        etcd.restart();
    });
    join(lost, rings_stay_whole(&fleet, 3, OUTAGE)).await;
    realm.holds(&fleet.addrs).await;
    callers.end().await;
    is_whole(&fleet).await;
    // Changes in the new etcd are seen.
    within("a leave", fleet[2].stop()).await;
    for node in &fleet[..2] {
        node.sees(&fleet.addrs[..2]).await;
    }
    fleet.restart(2, realm.direct()).await.expect("its port is free again");
    is_whole(&fleet).await;
}

pub async fn an_etcd_that_freezes_is_missed_by_no_caller(cluster: &Cluster) {
    let realm = Realm::start(cluster).await;
    let fleet = cluster.fleet(3, realm.direct(), Origin::plain()).await;
    is_whole(&fleet).await;
    let callers = Callers::of(&fleet);
    realm.with(|etcd| etcd.signal(Signal::Stop)).await;
    rings_stay_whole(&fleet, 3, OUTAGE).await;
    realm.with(|etcd| etcd.signal(Signal::Continue)).await;
    // An etcd that wakes may end leases before it takes the keep-alives: then the records are put again.
    realm.holds(&fleet.addrs).await;
    callers.end().await;
    is_whole(&fleet).await;
}

pub async fn a_watch_that_is_cut_again_and_again_misses_nothing(cluster: &Cluster) {
    let realm = Realm::start(cluster).await;
    let mut options = vec![realm.direct(); 3];
    options[0] = realm.proxied();
    let mut fleet = cluster.fleet_of(options, Origin::plain()).await;
    is_whole(&fleet).await;
    let over = AtomicBool::new(false);
    let cuts = async {
        while !over.load(Ordering::SeqCst) {
            realm.proxy.cut();
            sleep(Duration::from_millis(70)).await;
        }
    };
    let first = fleet[0].clone();
    let changes = async {
        for _ in 0..3 {
            within("a leave", fleet[2].stop()).await;
            first.sees(&fleet.addrs[..2]).await;
            fleet.restart(2, realm.direct()).await.expect("its port is free again");
            first.sees(&fleet.addrs).await;
        }
        over.store(true, Ordering::SeqCst);
    };
    join(cuts, changes).await;
    is_whole(&fleet).await;
    realm.holds(&fleet.addrs).await;
}

/// Node 0 loses etcd, the others change, and `meanwhile` happens; then it has etcd back.
async fn members_change_behind_the_back_of_one(
    cluster: &Cluster,
    break_off: impl Fn(&Proxy),
    meanwhile: impl AsyncFn(&Realm),
) {
    let realm = Realm::start(cluster).await;
    let mut options = vec![realm.direct(); 3];
    options[0] = realm.proxied();
    let fleet = cluster.fleet_of(options, Origin::plain()).await;
    is_whole(&fleet).await;
    break_off(&realm.proxy);
    // One leaves and another one comes. The records of both go and come in etcd, and node 0 hears nothing of it.
    within("a leave", fleet[2].stop()).await;
    let addr = Cluster::addrs(1).remove(0);
    let newcomer = cluster.node(3, &addr, &realm.direct(), &fleet.origin);
    within("a start", newcomer.start()).await.expect("a free port");
    wait_for("a newcomer", || fleet[1].ring().members.iter().any(|member| member.name == addr)).await;
    meanwhile(&realm).await;
    let names: Vec<_> = fleet[0].ring().members.into_iter().map(|member| member.name).collect();
    assert_eq!(names.len(), 3, "the last good ring stays: {names:?}");
    assert!(!names.contains(&addr), "it could not hear of the newcomer: {names:?}");
    // It knows two thirds of the fleet, and serves what it is asked for.
    for index in 0..30 {
        let key = format!("meanwhile {index}");
        assert_eq!(fleet[0].value(&key).await, value_of(&key));
    }
    realm.proxy.heal();
    let members = [fleet.addrs[0].clone(), fleet.addrs[1].clone(), addr];
    for node in [&fleet[0], &fleet[1], &newcomer] {
        node.sees(&members).await;
    }
    realm.holds(&members).await;
}

pub async fn members_that_change_while_etcd_is_away_for_one_node_are_seen_after(cluster: &Cluster) {
    members_change_behind_the_back_of_one(cluster, Proxy::refuse, async |_| sleep(LEASE).await).await;
}

pub async fn members_that_change_while_etcd_is_frozen_for_one_node_are_seen_after(cluster: &Cluster) {
    members_change_behind_the_back_of_one(cluster, Proxy::freeze, async |_| sleep(LEASE).await).await;
}

pub async fn a_watch_that_comes_back_behind_a_compaction_lists_again(cluster: &Cluster) {
    members_change_behind_the_back_of_one(cluster, Proxy::hang_up, async |realm| {
        for round in 0..3 {
            realm.ctl(&["put", "somebody else", &round.to_string()]).await;
        }
        let status = realm.ctl(&["get", "somebody else", "-w", "json"]).await;
        let status: serde_json::Value = serde_json::from_str(&status).expect("etcdctl speaks JSON");
        let revision = status["header"]["revision"].to_string();
        realm.ctl(&["compact", &revision]).await;
    })
    .await;
}

pub async fn a_member_whose_lease_is_revoked_puts_its_record_again(cluster: &Cluster) {
    let realm = Realm::start(cluster).await;
    let fleet = cluster.fleet(3, realm.direct(), Origin::plain()).await;
    is_whole(&fleet).await;
    realm.holds(&fleet.addrs).await;
    let callers = Callers::of(&fleet);
    for _ in 0..2 {
        let leases = realm.ctl(&["lease", "list"]).await;
        let leases: Vec<_> = leases.lines().skip(1).map(str::trim).collect();
        assert!(leases.len() >= 3, "{leases:?}");
        for lease in leases {
            realm.ctl(&["lease", "revoke", lease]).await;
        }
        realm.holds(&fleet.addrs).await;
        is_whole(&fleet).await;
    }
    callers.end().await;
}

pub async fn records_that_are_deleted_all_at_once_empty_no_ring(cluster: &Cluster) {
    let realm = Realm::start(cluster).await;
    let fleet = cluster.fleet(3, realm.direct(), Origin::plain()).await;
    is_whole(&fleet).await;
    let callers = Callers::of(&fleet);
    let deleted = async {
        for _ in 0..3 {
            realm.ctl(&["del", crate::PREFIX, "--prefix"]).await;
            realm.holds(&fleet.addrs).await;
        }
    };
    let watched = async {
        let started = Instant::now();
        while started.elapsed() < OUTAGE {
            for node in fleet.iter() {
                let members = node.ring().members.len();
                assert!(members > 1, "node {} lost all others at once", node.number);
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    join(deleted, watched).await;
    callers.end().await;
    is_whole(&fleet).await;
}

pub async fn a_node_that_starts_without_etcd_serves_alone_and_joins_when_it_comes(cluster: &Cluster) {
    let realm = Realm::reserved(cluster);
    let options = Options { join_timeout: Some(Duration::from_millis(300)), ..realm.direct() };
    let origin = Origin::plain();
    let addrs = Cluster::addrs(2);
    let nodes: Vec<_> = addrs
        .iter()
        .enumerate()
        .map(|(number, addr)| cluster.node(number, addr, &options, &origin))
        .collect();
    for node in &nodes {
        within("a start", node.start()).await.expect("a registry that is away keeps nobody from starting");
        assert_eq!(node.status(), Status::Running);
        assert!(!node.is_ready(), "it has not joined");
        assert_eq!(node.value("alone").await, value_of("alone"));
    }
    assert_eq!(origin.loads_of("alone"), 2, "each is alone");
    realm.with(Etcd::restart).await;
    for node in &nodes {
        node.sees(&addrs).await;
        wait_for("a node that is ready", || node.is_ready()).await;
    }
    realm.holds(&addrs).await;
    for index in 0..20 {
        let key = format!("together {index}");
        for node in &nodes {
            assert_eq!(node.value(&key).await, value_of(&key));
        }
        assert_eq!(origin.loads_of(&key), 1);
    }
}

pub async fn a_node_stops_whatever_has_become_of_etcd(cluster: &Cluster) {
    for fault in [Etcd::kill as fn(&mut Etcd), |etcd| etcd.signal(Signal::Stop)] {
        let realm = Realm::start(cluster).await;
        let fleet = cluster.fleet(2, realm.direct(), Origin::plain()).await;
        is_whole(&fleet).await;
        fleet.all_have("kept").await;
        realm.with(fault).await;
        let started = Instant::now();
        for report in within("two stops", join_all(fleet.iter().map(|node| node.stop()))).await {
            assert!(report.drained, "{report:?}");
        }
        // What deregistering may take is 3 s.
        assert!(started.elapsed() < Duration::from_secs(8), "stopping took {:?}", started.elapsed());
        for node in fleet.iter() {
            assert_eq!(node.status(), Status::Stopped);
            assert_eq!(node.value("kept").await, value_of("kept"));
            let again = within("another stop", node.stop()).await;
            assert!(again.drained, "{again:?}");
        }
    }
}

pub async fn a_node_that_starts_and_stops_without_etcd_comes_to_an_end(cluster: &Cluster) {
    let realm = Realm::reserved(cluster);
    let node = cluster.node(0, &Cluster::addrs(1)[0], &realm.direct(), &Origin::plain());
    let started = Instant::now();
    let (start, report) = within("a start and a stop", join(node.start(), node.stop())).await;
    assert!(start.is_ok() || node.status() == Status::Stopped, "{start:?}");
    assert!(report.drained, "{report:?}");
    assert!(started.elapsed() < Duration::from_secs(12), "it took {:?}", started.elapsed());
    assert_eq!(node.status(), Status::Stopped);
}

pub async fn a_node_that_stops_leaves_etcd_first_and_then_drains(cluster: &Cluster) {
    let realm = Realm::start(cluster).await;
    let gate = Gate::default();
    let options = Options { drain: Duration::from_secs(20), ..realm.direct() };
    let fleet = cluster.fleet(2, options, behind(&gate)).await;
    is_whole(&fleet).await;
    let key = fleet.key_of(1, "slow");
    let left = async {
        wait_for("a load", || fleet.origin.loads_at(1, &key) == 1).await;
        let gone = async {
            realm.holds(&fleet.addrs[..1]).await;
            fleet[0].sees(&fleet.addrs[..1]).await;
            assert_eq!(fleet[1].status(), Status::Stopping, "it drains after it has left");
            let leases = realm.ctl(&["lease", "list"]).await;
            assert!(leases.starts_with("found 1 leases"), "its lease is revoked, too: {leases}");
            gate.open();
        };
        join(fleet[1].stop(), gone).await.0
    };
    let (value, report) = join(fleet[1].value(&key), left).await;
    assert_eq!(value, value_of(&key));
    assert!(report.deregistered && report.drained, "{report:?}");
    let error = within("a get", fleet[1].group.get("after the stop")).await.expect_err("it has stopped");
    assert_eq!(error.kind(), ErrorKind::Stopping, "{}", chain(&error));
}

pub async fn an_etcd_that_hangs_up_on_everybody_is_dialled_with_patience(cluster: &Cluster) {
    let realm = Realm::start(cluster).await;
    let fleet = cluster.fleet(1, realm.proxied(), Origin::plain()).await;
    fleet[0].sees(&fleet.addrs).await;
    realm.proxy.hang_up();
    let before = realm.proxy.accepted();
    let started = Instant::now();
    sleep(2 * OUTAGE).await;
    let (dials, took) = (realm.proxy.accepted() - before, started.elapsed());
    // Three things are retried, each after a pause that doubles up to 3 s: some twenty dials, where a loop without pauses has thousands.
    assert!((3..=15 * took.as_secs() as usize).contains(&dials), "{dials} dials in {took:?}");
    assert_eq!(fleet[0].value("meanwhile").await, value_of("meanwhile"));
    realm.proxy.heal();
    realm.holds(&fleet.addrs).await;
}
