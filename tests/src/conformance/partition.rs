//! Nodes that cannot reach each other, in every way that a network has. A proxy stands before every node: what it does happens to who calls that
//! node, while the node itself calls the others as ever.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use groupcache_runtime::ErrorKind;

use super::Cluster;
use super::fleet::{Fleet, Options, chain, wait_for, within};
use super::origin::{Gate, Origin, behind, value_of};
use crate::Proxy;

/// Frozen connections are noticed soon, and also on a loaded machine not too soon.
fn wary() -> Options {
    Options {
        keep_alive: Some((Duration::from_millis(500), Duration::from_millis(500))),
        ..Options::default()
    }
}

/// Whether node `of` sees the one behind the proxy that is `number`ed so.
async fn is_missed(fleet: &Fleet<'_>, of: usize, number: usize) {
    let addr = &fleet.addrs[number];
    wait_for("a loss that is noticed", || !fleet[of].up().contains(addr)).await;
}

/// `break_off` happens to node 2, of three. Gets of its keys go on without an error and are bounded; once that is noticed they cost nothing, and
/// each key has one loader, its successor. Healed, it has its keys again.
async fn is_got_past(cluster: &Cluster, break_off: impl Fn(&Proxy)) {
    let (fleet, proxies) = cluster.behind_proxies(3, wary(), Origin::plain()).await;
    let askers = &fleet[..2];
    let [at_once, later, healed] = ["at once", "later", "healed"].map(|prefix| fleet.keys_of(2, prefix, 30));

    break_off(&proxies[2]);
    let started = Instant::now();
    join_all(at_once.iter().flat_map(|key| askers.iter().map(|node| node.value(key)))).await;
    let took = started.elapsed();
    assert!(took < Duration::from_secs(8), "gets at the moment of the failure took {took:?}");

    for asker in 0..2 {
        is_missed(&fleet, asker, 2).await;
    }
    let started = Instant::now();
    for key in &later {
        for node in askers {
            assert_eq!(node.value(key).await, value_of(key));
        }
        assert_eq!((fleet.origin.loads_of(key), fleet.origin.loads_at(2, key)), (1, 0), "loads of `{key}`");
    }
    let took = started.elapsed();
    assert!(took < Duration::from_secs(4), "60 gets past a peer that is known to be away took {took:?}");
    let loaders = (0..2).filter(|&node| later.iter().any(|key| fleet.origin.loads_at(node, key) > 0));
    assert_eq!(loaders.count(), 2, "its keys are spread over the others");

    proxies[2].heal();
    for node in fleet.iter() {
        node.sees(&fleet.addrs).await;
    }
    for key in &healed {
        fleet.all_have(key).await;
        assert_eq!((fleet.origin.loads_of(key), fleet.origin.loads_at(2, key)), (1, 1), "loads of `{key}`");
    }
    for node in fleet.iter() {
        node.is_quiet().await;
    }
}

pub async fn a_peer_that_freezes_is_got_past(cluster: &Cluster) {
    is_got_past(cluster, Proxy::freeze).await;
}

pub async fn a_peer_that_refuses_is_got_past(cluster: &Cluster) {
    is_got_past(cluster, Proxy::refuse).await;
}

pub async fn a_peer_that_is_cut_off_and_hangs_up_is_got_past(cluster: &Cluster) {
    is_got_past(cluster, Proxy::hang_up).await;
}

pub async fn a_cut_of_all_connections_shows_in_no_answer_and_is_mended_at_once(cluster: &Cluster) {
    let gate = Gate::default();
    let (fleet, proxies) = cluster.behind_proxies(3, wary(), behind(&gate)).await;
    let keys = fleet.keys_of(2, "cut", 10);
    let cuts = async {
        wait_for("fetches under way", || fleet.origin.loads() >= keys.len()).await;
        for _ in 0..5 {
            proxies.iter().for_each(Proxy::cut);
            async_std::task::sleep(Duration::from_millis(30)).await;
        }
        gate.open();
    };
    join(join_all(keys.iter().map(|key| fleet.all_have(key))), cuts).await;
    for node in fleet.iter() {
        node.sees(&fleet.addrs).await;
    }
    for owner in 0..3 {
        for key in fleet.keys_of(owner, "mended", 10) {
            fleet.all_have(&key).await;
            assert_eq!((fleet.origin.loads_of(&key), fleet.origin.loads_at(owner, &key)), (1, 1));
        }
    }
}

pub async fn all_gets_of_a_peers_keys_share_one_connection(cluster: &Cluster) {
    let (fleet, proxies) = cluster.behind_proxies(2, Options::default(), Origin::plain()).await;
    // The first to start may have dialled the other in vain.
    let before: Vec<_> = proxies.iter().map(Proxy::accepted).collect();
    for round in 0..3 {
        let keys: Vec<_> =
            (0..2).flat_map(|owner| fleet.keys_of(owner, &format!("round {round}"), 100)).collect();
        join_all(keys.iter().map(|key| fleet.all_have(key))).await;
    }
    assert_eq!(fleet.origin.loads(), 600);
    let after: Vec<_> = proxies.iter().map(Proxy::accepted).collect();
    assert_eq!(after, before, "connections to each node");
}

pub async fn connections_that_the_network_has_forgotten_are_replaced(cluster: &Cluster) {
    let (fleet, proxies) = cluster.behind_proxies(3, wary(), Origin::plain()).await;
    let dialled = proxies[2].accepted();
    proxies[2].strand();
    let started = Instant::now();
    let keys = fleet.keys_of(2, "forgotten", 20);
    join_all(keys.iter().flat_map(|key| fleet[..2].iter().map(|node| node.value(key)))).await;
    let took = started.elapsed();
    assert!(took < Duration::from_secs(8), "gets over forgotten connections took {took:?}");
    wait_for("new connections", || proxies[2].accepted() >= dialled + 2).await;
    for node in fleet.iter() {
        node.sees(&fleet.addrs).await;
    }
    for key in fleet.keys_of(2, "remembered", 20) {
        fleet.all_have(&key).await;
        assert_eq!((fleet.origin.loads_of(&key), fleet.origin.loads_at(2, &key)), (1, 1));
    }
}

pub async fn a_removal_past_a_frozen_owner_is_bounded_and_reaches_everybody_else(cluster: &Cluster) {
    let (fleet, proxies) = cluster.behind_proxies(3, Options::default(), Origin::plain()).await;
    let key = fleet.key_of(2, "removed");
    fleet.all_have(&key).await;
    proxies[2].freeze();
    let started = Instant::now();
    let removed = within("a removal", fleet[0].group.remove(&key)).await.expect("it is taken");
    // The removal time-out is 2 s.
    assert!(started.elapsed() < Duration::from_secs(4), "a removal took {:?}", started.elapsed());
    assert_eq!(removed.unacknowledged, [fleet.addrs[2].clone()]);
    for node in &fleet[..2] {
        assert!(node.group.peek(&key).is_none(), "node {} still has it", node.number);
    }
    proxies[2].heal();
}

pub async fn a_network_that_is_slow_is_not_taken_for_a_dead_one(cluster: &Cluster) {
    let (fleet, proxies) = cluster.behind_proxies(3, wary(), Origin::plain()).await;
    proxies.iter().for_each(|proxy| proxy.delay(Duration::from_millis(20)));
    let opened: Vec<_> = fleet.iter().map(|node| node.stat("peer_breaker_opened")).collect();
    let keys: Vec<_> = (0..3).flat_map(|owner| fleet.keys_of(owner, "slow road", 15)).collect();
    for keys in keys.chunks(15) {
        join_all(keys.iter().map(|key| fleet.all_have(key))).await;
    }
    assert!(keys.iter().all(|key| fleet.origin.loads_of(key) == 1), "owners were asked, and waited for");
    let after: Vec<_> = fleet.iter().map(|node| node.stat("peer_breaker_opened")).collect();
    assert_eq!(after, opened);
}

pub async fn a_node_that_can_call_and_not_be_called_is_served_by_the_others(cluster: &Cluster) {
    let (fleet, proxies) = cluster.behind_proxies(2, wary(), Origin::plain()).await;
    let [theirs, ours, known] =
        [(0, "theirs"), (1, "ours"), (1, "known")].map(|(owner, prefix)| fleet.keys_of(owner, prefix, 10));
    fleet.all_have(&known[0]).await;
    proxies[1].refuse();
    is_missed(&fleet, 0, 1).await;
    for key in &theirs {
        assert_eq!(fleet[1].value(key).await, value_of(key));
        assert_eq!(fleet.origin.loads_at(0, key), 1, "node 1 reaches node 0");
        fleet.all_have(key).await;
        assert_eq!(fleet.origin.loads_of(key), 1);
    }
    for key in &ours {
        assert_eq!(fleet[0].value(key).await, value_of(key));
        assert_eq!(fleet.origin.loads_of(key), 1, "node 0 does not reach node 1, and has an origin");
    }
    // Who can be told is told, and who cannot is named.
    let removed = within("a removal", fleet[0].group.remove(&known[0])).await.expect("it is taken");
    assert_eq!(removed.unacknowledged, [fleet.addrs[1].clone()]);
    let removed = within("a removal", fleet[1].group.remove(&known[0])).await.expect("it is taken");
    assert_eq!(removed.unacknowledged, Vec::<String>::new());
    proxies[1].heal();
    for node in fleet.iter() {
        node.sees(&fleet.addrs).await;
    }
    let removed = within("a removal", fleet[0].group.remove(&ours[0])).await.expect("it is taken");
    assert_eq!(removed.unacknowledged, Vec::<String>::new());
}

pub async fn nodes_that_are_apart_serve_alone_and_agree_again_when_they_meet(cluster: &Cluster) {
    let (fleet, proxies) = cluster.behind_proxies(2, wary(), Origin::plain()).await;
    proxies.iter().for_each(Proxy::refuse);
    is_missed(&fleet, 0, 1).await;
    is_missed(&fleet, 1, 0).await;
    for owner in 0..2 {
        for key in fleet.keys_of(owner, "apart", 10) {
            fleet.all_have(&key).await;
            assert_eq!(fleet.origin.loads_of(&key), 2, "each has loaded `{key}` for itself");
        }
    }
    proxies.iter().for_each(Proxy::heal);
    for node in fleet.iter() {
        node.sees(&fleet.addrs).await;
    }
    for owner in 0..2 {
        for key in fleet.keys_of(owner, "together", 10) {
            fleet.all_have(&key).await;
            assert_eq!((fleet.origin.loads_of(&key), fleet.origin.loads_at(owner, &key)), (1, 1));
        }
    }
}

pub async fn a_member_that_missed_a_removal_shows_the_old_value_for_the_hot_ttl_at_most(cluster: &Cluster) {
    let hot_ttl = Duration::from_millis(1500);
    let origin = Origin::new(|call| async move { Ok((call.before + 1).to_string().into()) });
    let (fleet, proxies) = cluster.behind_proxies(3, Options { hot_ttl, ..wary() }, origin).await;
    let key = fleet.key_of(0, "removed");
    for node in fleet.iter() {
        assert_eq!(node.value(&key).await, "1");
    }
    let copied = Instant::now();
    proxies[2].refuse();
    is_missed(&fleet, 0, 2).await;
    let removed = within("a removal", fleet[0].group.remove(&key)).await.expect("it is taken");
    assert_eq!(removed.unacknowledged, [fleet.addrs[2].clone()]);
    for node in &fleet[..2] {
        assert_eq!(node.value(&key).await, "2", "node {} was told", node.number);
    }
    wait_for("the new value", || {
        let age = copied.elapsed();
        let old = fleet[2].group.peek(&key).is_some_and(|value| value.as_bytes() == b"1");
        assert!(!old || age < hot_ttl, "a copy is given out at the age of {age:?}");
        !old
    })
    .await;
    assert_eq!(fleet[2].value(&key).await, "2", "node 2 still reaches the owner");
}

pub async fn a_stop_amid_a_partition_comes_to_an_end_and_fails_who_waits(cluster: &Cluster) {
    let drain = Duration::from_millis(300);
    let options = Options { drain, ..Options::default() };
    let (fleet, proxies) = cluster.behind_proxies(2, options, Origin::plain()).await;
    let keys = fleet.keys_of(1, "held", 5);
    proxies.iter().for_each(Proxy::freeze);
    let stopped = async {
        wait_for("callers that wait", || fleet[0].stat("waiters") == 5).await;
        let started = Instant::now();
        let report = within("a stop", fleet[0].stop()).await;
        assert!(started.elapsed() < Duration::from_secs(3), "a stop took {:?}", started.elapsed());
        assert!(report.deregistered && !report.drained, "{report:?}");
    };
    let gets = join_all(keys.iter().map(|key| fleet[0].group.get(key)));
    let (answers, ()) = join(within("gets", gets), stopped).await;
    for answer in answers {
        let error = answer.expect_err("its owner was frozen, and its node has stopped");
        assert_eq!(error.kind(), ErrorKind::Stopping, "{}", chain(&error));
    }
    let started = Instant::now();
    within("a stop", fleet[1].stop()).await;
    assert!(started.elapsed() < Duration::from_secs(3), "a stop took {:?}", started.elapsed());
}

pub async fn a_full_queue_to_a_peer_is_passed_over_at_once(cluster: &Cluster) {
    let mut options = Options::default();
    options.link.window = std::num::NonZeroU32::MIN;
    options.link.max_queue = std::num::NonZeroU32::MIN;
    let (fleet, proxies) = cluster.behind_proxies(2, options, Origin::plain()).await;
    let keys = fleet.keys_of(1, "queued", 42);
    proxies[1].freeze();
    // One is sent, with another that came before it had left or without, and one may wait its turn; for the others there is no room.
    let others = keys.len() as u64 - 3;
    let started = Instant::now();
    let asked = async {
        wait_for("gets past the full queue", || {
            fleet[0].stat("peer_refused_full") >= others && fleet[0].stat("waiters") <= 3
        })
        .await;
        let took = started.elapsed();
        assert!(took < Duration::from_secs(1), "{others} gets past a full queue took {took:?}");
        proxies[1].heal();
    };
    let (values, ()) = join(join_all(keys.iter().map(|key| fleet[0].value(key))), asked).await;
    assert_eq!(values, keys.iter().map(|key| value_of(key)).collect::<Vec<_>>());
}

/// What befalls a proxy next. The same in every run: only the machine's own pace differs.
fn misfortune(state: &mut u64, proxies: &[Proxy]) {
    // A linear congruential generator.
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
    let proxy = &proxies[(*state >> 33) as usize % proxies.len()];
    match (*state >> 40) % 9 {
        0 => proxy.freeze(),
        1 => proxy.refuse(),
        2 => proxy.hang_up(),
        3 => proxy.strand(),
        4 => proxy.delay(Duration::from_millis(15)),
        5 => proxy.cut(),
        _ => proxy.heal(),
    }
}

pub async fn whatever_befalls_the_network_shows_in_no_answer(cluster: &Cluster) {
    const MISFORTUNES: usize = 60;
    let (fleet, proxies) = cluster.behind_proxies(3, wary(), Origin::plain()).await;
    let (over, gets) = (AtomicBool::new(false), AtomicUsize::new(0));
    let callers = (0..6).map(|caller| {
        let (node, over, gets) = (&fleet[caller % 3], &over, &gets);
        async move {
            while !over.load(Ordering::SeqCst) {
                let number = gets.fetch_add(1, Ordering::SeqCst);
                let key = format!("amid misfortunes {}", number / 2);
                assert_eq!(node.value(&key).await, value_of(&key));
                if number % 50 == 0 {
                    // Whom it reaches is told, and it comes to an end.
                    within("a removal", node.group.remove(&key)).await.expect("it is taken");
                }
                async_std::task::sleep(Duration::from_millis(2)).await;
            }
        }
    });
    let misfortunes = async {
        let mut state = 0x5eed;
        for _ in 0..MISFORTUNES {
            misfortune(&mut state, &proxies);
            async_std::task::sleep(Duration::from_millis(80)).await;
        }
        over.store(true, Ordering::SeqCst);
        proxies.iter().for_each(Proxy::heal);
    };
    join(join_all(callers), misfortunes).await;
    assert!(gets.load(Ordering::SeqCst) > 300, "they were at work: {gets:?}");
    for node in fleet.iter() {
        node.sees(&fleet.addrs).await;
        node.is_quiet().await;
    }
    for owner in 0..3 {
        for key in fleet.keys_of(owner, "in better days", 10) {
            fleet.all_have(&key).await;
            assert_eq!((fleet.origin.loads_of(&key), fleet.origin.loads_at(owner, &key)), (1, 1));
        }
    }
}
