//! What is said beside a value, and values that are kept because the origin says that they have not changed.

use std::time::Duration;

use async_std::task::sleep;
use futures_util::future::join;
use groupcache_runtime::Loaded;

use super::Cluster;
use super::fleet::{Fleet, GroupOptions, Options, wait_for, within};
use super::origin::{Gate, Origin};

const TTL: Duration = Duration::from_millis(300);

pub async fn what_is_said_beside_a_value_reaches_every_node_and_is_kept_there(cluster: &Cluster) {
    // As many bytes of metadata as the key begins with, beside a value of none.
    let origin = Origin::new(|call| async move {
        let len = call.key.split(' ').next().and_then(|number| number.parse().ok()).expect("a number");
        Ok(Loaded::with_meta(b"", &vec![b'm'; len])?)
    });
    let fleet = cluster.fleet(3, Options::default(), origin).await;
    for len in [0, 1, 4096] {
        let key = fleet.key_of(1, &format!("{len} beside"));
        for _ in 0..2 {
            for node in fleet.iter() {
                let value = within("a get", node.group.get(&key)).await.expect("a value");
                assert_eq!((value.len(), value.meta().len()), (0, len), "at node {}", node.number);
            }
        }
        assert_eq!(fleet.origin.loads_of(&key), 1);
    }
}

pub async fn more_beside_a_value_than_there_may_be_is_a_failed_load(cluster: &Cluster) {
    let origin = Origin::new(|_| async move { Ok(Loaded::with_meta(b"value", &[b'm'; 4097])?) });
    let fleet = cluster.fleet(1, Options::default(), origin).await;
    let error = within("a get", fleet[0].group.get("key")).await.expect_err("too much metadata");
    assert!(super::fleet::chain(&error).contains("4097"), "{}", super::fleet::chain(&error));
}

/// Two nodes whose values expire soon and are then revalidated; the first load of a key brings "1", the second "2".
async fn revalidating<'a>(cluster: &'a Cluster, gate: &Gate, meta: &'static [u8]) -> Fleet<'a> {
    let group =
        GroupOptions { ttl: Some(TTL), revalidate_for: Duration::from_secs(600), ..GroupOptions::default() };
    let origin = Origin::new(|call| async move {
        Ok(Loaded::with_meta((call.before + 1).to_string().as_bytes(), b"unchanged")?)
    });
    cluster.fleet(2, Options { group, ..Options::default() }, origin.that_keeps(meta, gate)).await
}

pub async fn an_expired_value_that_has_not_changed_is_kept_and_one_that_has_is_replaced(cluster: &Cluster) {
    let gate = Gate::default();
    gate.open();
    for (meta, then) in [(&b"unchanged"[..], "1"), (b"something else", "2")] {
        let fleet = revalidating(cluster, &gate, meta).await;
        let key = fleet.key_of(1, "expiring");
        assert_eq!(fleet[0].value(&key).await, "1");
        sleep(TTL + Duration::from_millis(10)).await;
        assert_eq!(fleet[0].value(&key).await, then);
        // On a loaded machine a value may expire again before anybody looks.
        let (asked, loads) = (fleet.origin.revalidations(), fleet.origin.loads_of(&key));
        assert!(asked >= 1 && loads == if then == "1" { 1 } else { 1 + asked }, "{asked}, {loads}");
        assert_eq!(fleet[1].stat("revalidations"), asked as u64);
        assert_eq!(fleet[1].stat("loads"), 1 + asked as u64, "each is a load");
    }
}

pub async fn a_removal_while_the_origin_is_asked_holds_though_it_says_unchanged(cluster: &Cluster) {
    let gate = Gate::default();
    let fleet = revalidating(cluster, &gate, b"unchanged").await;
    let key = fleet.key_of(1, "removed");
    assert_eq!(fleet[0].value(&key).await, "1");
    sleep(TTL + Duration::from_millis(10)).await;
    let removed = async {
        wait_for("a revalidation", || fleet.origin.revalidations() == 1).await;
        let removed =
            within("a removal", fleet[0].group.remove(&key)).await.expect("a removal that is taken");
        assert!(removed.unacknowledged.is_empty());
        // Nothing is left to be revalidated: who comes now has it loaded.
        assert_eq!(fleet[0].value(&key).await, "2");
        gate.open();
    };
    let (before, ()) = join(fleet[0].value(&key), removed).await;
    assert_eq!(before, "1", "who waited already is served");
    fleet[1].is_quiet().await;
    for node in fleet.iter() {
        assert_ne!(node.value(&key).await, "1", "at node {}", node.number);
    }
}
