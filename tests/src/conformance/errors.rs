//! Errors keep their kinds across the wire, and only silence is retried.

use std::time::{Duration, Instant};

use async_std::task::sleep;
use groupcache_runtime::{Error, ErrorKind, RetrieveError};

use super::Cluster;
use super::fleet::{GroupOptions, Node, Options, chain, keys_where, within};
use super::origin::{Origin, value_of};

async fn error_of(node: &Node, key: &str) -> Error {
    match within("a get", node.group.get(key)).await {
        Ok(value) => panic!("node {} has a value for `{key}`: {value:?}", node.number),
        Err(error) => error,
    }
}

fn missing() -> Origin {
    Origin::new(|_| async { Err(RetrieveError::not_found()) })
}

fn failing() -> Origin {
    Origin::new(|_| async { Err(RetrieveError::failed("the disk is on fire")) })
}

pub async fn not_found_crosses_the_wire(cluster: &Cluster) {
    let fleet = cluster.fleet(2, Options::default(), missing()).await;
    for (owner, other) in [(0, 1), (1, 0)] {
        let key = fleet.key_of(owner, "missing");
        let error = error_of(&fleet[other], &key).await;
        assert_eq!(error.kind(), ErrorKind::NotFound, "{}", chain(&error));
        assert!(error.is_not_found());
        assert_eq!((fleet.origin.loads_at(owner, &key), fleet.origin.loads_at(other, &key)), (1, 0));
    }
}

pub async fn a_failed_origin_crosses_the_wire_with_its_words(cluster: &Cluster) {
    let fleet = cluster.fleet(2, Options::default(), failing()).await;
    for (owner, other) in [(0, 1), (1, 0)] {
        let key = fleet.key_of(owner, "failing");
        for node in [other, owner] {
            let error = error_of(&fleet[node], &key).await;
            assert_eq!(error.kind(), ErrorKind::OriginFailed, "{}", chain(&error));
            assert!(chain(&error).contains("the disk is on fire"), "{}", chain(&error));
        }
    }
}

pub async fn an_invalid_key_crosses_the_wire(cluster: &Cluster) {
    let strict = Options { max_key: Some(20), ..Options::default() };
    let origin = Origin::new(|_| async { Err(RetrieveError::invalid_key("it leads out of the directory")) });
    let fleet = cluster.fleet_of(vec![Options::default(), strict], origin).await;
    // The owner's retriever refuses it.
    let error = error_of(&fleet[0], &fleet.key_of(1, "../")).await;
    assert_eq!(error.kind(), ErrorKind::InvalidKey, "{}", chain(&error));
    assert!(chain(&error).contains("out of the directory"), "{}", chain(&error));
    // The owner itself refuses it.
    let loads = fleet.origin.loads();
    let error = error_of(&fleet[0], &fleet.key_of(1, "longer than twenty bytes")).await;
    assert_eq!(error.kind(), ErrorKind::InvalidKey, "{}", chain(&error));
    assert!(chain(&error).contains("20"), "the limit is named: {}", chain(&error));
    // Nobody is asked for the empty one.
    for node in fleet.iter() {
        assert_eq!(error_of(node, "").await.kind(), ErrorKind::InvalidKey);
        let removed = within("a removal", node.group.remove("")).await;
        assert_eq!(removed.expect_err("there is no empty key").kind(), ErrorKind::InvalidKey);
    }
    assert_eq!(fleet.origin.loads(), loads);
}

fn of_size(bytes: usize) -> Origin {
    Origin::new(move |_| async move { Ok(vec![7; bytes].into()) })
}

pub async fn a_value_too_large_for_its_owner_names_the_limit(cluster: &Cluster) {
    let strict = Options { max_value: Some(60_000), ..Options::default() };
    let fleet = cluster.fleet_of(vec![Options::default(), strict], of_size(70_000)).await;
    let key = fleet.key_of(1, "large");
    for node in fleet.iter() {
        let error = error_of(node, &key).await;
        assert_eq!(error.kind(), ErrorKind::ValueTooLarge, "{}", chain(&error));
        assert!(chain(&error).contains("60000"), "{}", chain(&error));
    }
}

pub async fn a_value_too_large_for_who_asks_names_the_limit(cluster: &Cluster) {
    // Below and above what a message may have at the node that asks.
    for bytes in [70_000, 6 << 20] {
        let strict = Options { max_value: Some(60_000), ..Options::default() };
        let fleet = cluster.fleet_of(vec![strict, Options::default()], of_size(bytes)).await;
        let key = fleet.key_of(1, "large");
        let error = error_of(&fleet[0], &key).await;
        assert_eq!(error.kind(), ErrorKind::ValueTooLarge, "{bytes} bytes: {}", chain(&error));
        assert!(chain(&error).contains("60000"), "{bytes} bytes: {}", chain(&error));
        let value =
            within("a get", fleet[1].group.get(&key)).await.expect("it is not too large for its owner");
        assert_eq!(value.len(), bytes);
    }
}

pub async fn an_owner_without_the_group_is_passed_over(cluster: &Cluster) {
    let fleet = cluster.fleet(3, Options::default(), Origin::plain()).await;
    assert!(fleet[1].destroy_group("g"));
    for key in fleet.keys_of(1, "passed over", 10) {
        for node in [0, 2] {
            assert_eq!(fleet[node].value(&key).await, value_of(&key));
        }
        assert_eq!(fleet.origin.loads_at(1, &key), 0);
        assert_eq!(fleet.origin.loads_of(&key), 1, "the successor of `{key}` loads it for both");
    }
}

pub async fn not_found_is_kept_for_its_time_and_asked_once(cluster: &Cluster) {
    const TTL: Duration = Duration::from_millis(800);
    let group = GroupOptions { negative_ttl: Some(TTL), ..GroupOptions::default() };
    let fleet = cluster.fleet(3, Options { group, ..Options::default() }, missing()).await;
    let key = fleet.key_of(1, "missing");
    let started = Instant::now();
    for _ in 0..10 {
        for node in fleet.iter() {
            assert!(error_of(node, &key).await.is_not_found());
        }
    }
    let expected = 1 + (started.elapsed().as_millis() / TTL.as_millis()) as usize;
    let loads = fleet.origin.loads();
    assert!((1..=expected).contains(&loads), "{loads} loads in {:?}", started.elapsed());
    sleep(TTL + Duration::from_millis(20)).await;
    assert!(error_of(&fleet[0], &key).await.is_not_found());
    assert_eq!(fleet.origin.loads(), loads + 1, "its time is over");
    assert_eq!(fleet.origin.loads_at(1, &key), loads + 1, "only the owner is asked");
}

pub async fn a_failure_of_the_origin_is_not_retried_elsewhere(cluster: &Cluster) {
    let fleet = cluster.fleet(3, Options::default(), failing()).await;
    for (index, key) in fleet.keys_of(1, "failing", 5).iter().enumerate() {
        let error = error_of(&fleet[2 * (index % 2)], key).await;
        assert_eq!(error.kind(), ErrorKind::OriginFailed);
        assert_eq!((fleet.origin.loads_of(key), fleet.origin.loads_at(1, key)), (1, 1));
    }
    assert!(fleet.iter().all(|node| node.stat("peer_errors") == 0));
}

pub async fn a_failure_of_the_origin_is_not_kept(cluster: &Cluster) {
    let origin = Origin::new(|call| async move {
        if call.before == 0 { Err(RetrieveError::failed("not now")) } else { Ok(value_of(&call.key).into()) }
    });
    let fleet = cluster.fleet(2, Options::default(), origin).await;
    let key =
        keys_where("flaky", 1, |key| fleet[0].group.owner(key).as_ref() == Some(&fleet.addrs[1])).remove(0);
    assert_eq!(error_of(&fleet[0], &key).await.kind(), ErrorKind::OriginFailed);
    assert_eq!(fleet[0].value(&key).await, value_of(&key));
    assert_eq!(fleet.origin.loads(), 2);
}

pub async fn a_scan_of_missing_keys_takes_no_place_from_values(cluster: &Cluster) {
    let origin = Origin::new(|call| async move {
        if call.key.contains("missing") { Err(RetrieveError::not_found()) } else { Ok(vec![7; 1000].into()) }
    });
    let group = GroupOptions { negative_ttl: Some(Duration::from_secs(60)), ..GroupOptions::default() };
    let fleet =
        cluster.fleet(1, Options { group, budget: Some(1 << 20), ..Options::default() }, origin).await;
    // They fill three quarters of the budget, and the scan would fill it twice.
    let keys: Vec<_> = (0..650).map(|index| format!("value {index}")).collect();
    for key in &keys {
        within("a get", fleet[0].group.get(key)).await.expect("a value");
    }
    let held = || keys.iter().filter(|key| fleet[0].group.peek(key).is_some()).count();
    let before = held();
    assert!(before > 600, "{before} values are held");
    for index in 0..12_000 {
        assert!(error_of(&fleet[0], &format!("missing {index}")).await.is_not_found());
    }
    assert_eq!(held(), before, "values that a scan of missing keys left in the cache");
    assert!(fleet[0].stat("evictions") > 0, "missing keys made place for missing keys");
    assert!(fleet[0].stat("bytes") <= fleet[0].stat("budget"));
}
