//! What people see a node at work by.

use futures_util::future::join;

use super::Cluster;
use super::fleet::{Options, wait_for};
use super::origin::{Gate, Origin, behind, value_of};
use groupcache_runtime::{ErrorReport, Live, RetrieveError};

/// What went wrong with keys: that a peer could not be dialled before it listened is none of it.
fn errors_of_keys(live: &Live) -> Vec<ErrorReport> {
    live.errors.iter().filter(|error| error.key.is_some()).cloned().collect()
}

pub async fn a_load_in_progress_and_what_became_of_it_are_told_by_who_asks_and_by_who_is_asked(
    cluster: &Cluster,
) {
    let gate = Gate::default();
    let fleet = cluster.fleet(2, Options::default(), behind(&gate)).await;
    let key = fleet.key_of(1, "looked at");
    let [asker, owner] = [&fleet[0], &fleet[1]];
    assert_eq!(asker.group.explain(&key).owner.as_deref(), Some(&*fleet.addrs[1]));
    let looked = async {
        wait_for("both are under way", || owner.group.explain(&key).flight.is_some()).await;
        let (fetch, load) = (asker.server.live(), owner.server.live());
        assert_eq!((fetch.flights.len(), load.flights.len()), (1, 1), "{fetch:?} {load:?}");
        assert_eq!((&fetch.flights[0].key, &fetch.flights[0].peer), (&key, &Some(fleet.addrs[1].clone())));
        assert_eq!((&load.flights[0].key, &load.flights[0].peer, load.flights[0].waiters), (&key, &None, 1));
        gate.open();
    };
    let (value, ()) = join(asker.value(&key), looked).await;
    assert_eq!(value, value_of(&key));

    let (copy, own) = (asker.group.explain(&key), owner.group.explain(&key));
    assert!(copy.flight.is_none() && !copy.owned_here && own.owned_here && own.owner_link.is_none());
    let (copy_kept, own_kept) = (copy.kept.expect("a copy"), own.kept.expect("a value"));
    assert_eq!((copy_kept.share, own_kept.share), ("hot", "main"));
    assert!(copy_kept.ttl_ms.is_some() && copy_kept.age_at_most_ms.is_some() && own_kept.ttl_ms.is_none());
    let (fetched, loaded) = (copy.last.expect("a fetch"), own.last.expect("a load"));
    assert_eq!((fetched.what, fetched.peer), ("value", Some(fleet.addrs[1].clone())));
    assert_eq!((loaded.what, loaded.peer), ("value", None));
    let live = asker.server.live();
    let latency = live.peers[0].latency.expect("an answer");
    assert!(latency.count == 1 && latency.median_us == latency.max_us && latency.max_us > 0, "{latency:?}");
    assert!(
        errors_of_keys(&live).is_empty() && live.hot_keys.is_none(),
        "nobody asked for hot keys: {live:?}"
    );
    assert_eq!(live.counters.get("gets"), Some(1), "to look is no look-up");
}

pub async fn errors_are_told_with_the_peer_and_the_key_and_a_storm_of_them_is_one(cluster: &Cluster) {
    let failing = Origin::new(|_| async { Err(RetrieveError::failed("disk on fire")) });
    let fleet = cluster.fleet(2, Options::default(), failing).await;
    let key = fleet.key_of(1, "failing");
    for _ in 0..5 {
        assert!(fleet[0].group.get(&key).await.is_err());
    }
    for (node, peer) in [(0, Some(fleet.addrs[1].clone())), (1, None)] {
        let errors = errors_of_keys(&fleet[node].server.live());
        assert_eq!(errors.len(), 1, "{errors:?}");
        let error = &errors[0];
        assert_eq!((error.kind, error.times, &error.peer), ("origin_failed", 5, &peer), "{error:?}");
        assert_eq!(error.key.as_ref(), Some(&key));
        assert!(error.text.contains("disk on fire"), "{error:?}");
        assert_eq!(fleet[node].group.explain(&key).errors, errors);
    }
}
