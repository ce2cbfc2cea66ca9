//! How long values live, at their owners and elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_std::task::sleep;
use groupcache_runtime::{ErrorKind, Level, RetrieveError};

use super::Cluster;
use super::fleet::{GroupOptions, Options, chain, wait_for, within};
use super::origin::{Gate, Origin};

/// The first load of a key brings "1", the second "2".
fn numbered() -> Origin {
    Origin::new(|call| async move { Ok((call.before + 1).to_string().into()) })
}

fn living(ttl: Duration) -> Options {
    Options { group: GroupOptions { ttl: Some(ttl), ..GroupOptions::default() }, ..Options::default() }
}

pub async fn values_expire_after_their_time(cluster: &Cluster) {
    let ttl = Duration::from_millis(400);
    let fleet = cluster.fleet(2, living(ttl), numbered()).await;
    for (owner, asker) in [(1, 0), (1, 1)] {
        let key = fleet.key_of(owner, &format!("mortal {asker}"));
        let started = Instant::now();
        assert_eq!(fleet[asker].value(&key).await, "1");
        sleep(ttl / 4).await;
        let again = fleet[asker].value(&key).await;
        assert!(again == "1" || started.elapsed() >= ttl, "it expired after {:?}", started.elapsed());
        sleep(ttl).await;
        assert_ne!(fleet[asker].value(&key).await, "1");
    }
}

pub async fn a_hot_copy_does_not_outlive_the_owners_value(cluster: &Cluster) {
    let ttl = Duration::from_millis(600);
    let fleet = cluster.fleet(2, living(ttl), numbered()).await;
    let key = fleet.key_of(1, "mortal");
    assert_eq!(fleet[1].value(&key).await, "1");
    let loaded = Instant::now();
    sleep(ttl / 2).await;
    let asked = Instant::now();
    let copy = within("a lookup", fleet[0].group.lookup(&key)).await.expect("a value");
    // The copy cannot know how long it was under way.
    let under_way = asked.elapsed();
    if copy.value.as_bytes() == b"1" {
        assert_eq!(copy.level, Level::Peer);
        let left = copy.ttl.expect("it expires");
        assert!(left <= ttl.saturating_sub(asked - loaded) + Duration::from_millis(2), "{left:?} are left");
    }
    let end = loaded + ttl + under_way + Duration::from_millis(5);
    loop {
        let started = Instant::now();
        let value = fleet[0].value(&key).await;
        if value != "1" {
            break;
        }
        assert!(
            started < end,
            "a copy was given out {:?} after its owner's value had expired",
            started - end
        );
        sleep(Duration::from_millis(5)).await;
    }
}

pub async fn a_hot_copy_lives_for_the_hot_ttl_at_most(cluster: &Cluster) {
    let hot_ttl = Duration::from_millis(300);
    let fleet = cluster.fleet(2, Options { hot_ttl, ..Options::default() }, numbered()).await;
    let key = fleet.key_of(1, "immortal");
    let lookup = || within("a lookup", fleet[0].group.lookup(&key));
    let first = lookup().await.expect("a value");
    assert!(first.ttl.is_some_and(|ttl| ttl <= hot_ttl), "{first:?}");
    sleep(hot_ttl + Duration::from_millis(10)).await;
    assert_eq!(lookup().await.expect("a value").level, Level::Peer, "the owner is asked again");
    assert_eq!((fleet.origin.loads(), fleet[1].value(&key).await.as_str()), (1, "1"));
}

pub async fn an_expired_value_is_served_while_it_is_loaded_anew(cluster: &Cluster) {
    let gate = Gate::default();
    let shut = gate.clone();
    let origin = Origin::new(move |call| {
        let gate = shut.clone();
        async move {
            if call.before > 0 {
                gate.passed().await;
            }
            Ok((call.before + 1).to_string().into())
        }
    });
    let ttl = Duration::from_millis(300);
    let mut options = living(ttl);
    options.group.stale_while_revalidate = Duration::from_secs(60);
    let fleet = cluster.fleet(2, options, origin).await;
    let key = fleet.key_of(1, "stale");
    assert_eq!(fleet[0].value(&key).await, "1");
    sleep(ttl + Duration::from_millis(10)).await;
    // The load behind the answers hangs, and nobody waits for it.
    for _ in 0..5 {
        for node in fleet.iter() {
            assert_eq!(node.value(&key).await, "1");
        }
    }
    wait_for("a load behind the answer", || fleet.origin.loads() == 2).await;
    gate.open();
    wait_for("its end", || fleet.origin.finished() == 2).await;
    fleet[1].is_quiet().await;
    // A copy of an expired value is not kept: the next get sees the new one, or what came after it.
    for node in fleet.iter() {
        assert_ne!(node.value(&key).await, "1", "at node {}", node.number);
    }
    assert!(fleet[1].stat("stale_hits") > 0);
}

/// The first load of a key brings "1". Later ones fail while the switch is on.
fn failing_later() -> (Origin, Arc<AtomicBool>) {
    let fails = Arc::new(AtomicBool::new(true));
    let read = Arc::clone(&fails);
    let origin = Origin::new(move |call| {
        let fails = call.before > 0 && read.load(Ordering::SeqCst);
        async move {
            if fails {
                Err(RetrieveError::failed("gone home"))
            } else {
                Ok((call.before + 1).to_string().into())
            }
        }
    });
    (origin, fails)
}

pub async fn an_expired_value_is_served_when_its_reload_fails(cluster: &Cluster) {
    let ttl = Duration::from_millis(300);
    let mut options = living(ttl);
    options.group.stale_if_error = Duration::from_secs(60);
    let (origin, fails) = failing_later();
    let fleet = cluster.fleet(2, options, origin).await;
    let key = fleet.key_of(1, "stale");
    assert_eq!(fleet[0].value(&key).await, "1");
    sleep(ttl + Duration::from_millis(10)).await;
    for node in fleet.iter() {
        assert_eq!(node.value(&key).await, "1", "at node {}", node.number);
    }
    assert!(fleet.origin.loads() >= 3, "every get tries the origin anew");
    assert!(fleet[1].stat("stale_rescues") >= 2);
    fails.store(false, Ordering::SeqCst);
    for node in fleet.iter() {
        assert_ne!(node.value(&key).await, "1", "at node {}, with an origin that is back", node.number);
    }
}

pub async fn nothing_is_served_beyond_the_ceiling_of_staleness(cluster: &Cluster) {
    let (ttl, ceiling) = (Duration::from_millis(100), Duration::from_millis(200));
    let mut options = living(ttl);
    options.group.stale_if_error = ceiling;
    options.group.stale_while_revalidate = ceiling;
    let (origin, _) = failing_later();
    let fleet = cluster.fleet(2, options, origin).await;
    let key = fleet.key_of(1, "stale");
    assert_eq!(fleet[0].value(&key).await, "1");
    sleep(ttl + ceiling + Duration::from_millis(10)).await;
    for node in fleet.iter() {
        let error = within("a get", node.group.get(&key)).await.expect_err("it is too old");
        assert_eq!(error.kind(), ErrorKind::OriginFailed, "{}", chain(&error));
    }
}

pub async fn hot_copies_are_kept_without_dice_and_take_no_place_from_own_keys(cluster: &Cluster) {
    let origin = Origin::new(|_| async { Ok(vec![7; 1000].into()) });
    let fleet = cluster.fleet(2, Options { budget: Some(1 << 20), ..Options::default() }, origin).await;
    let (own, few) = (fleet.keys_of(0, "own", 500), fleet.keys_of(1, "of a peer", 60));
    for key in &own {
        within("a get", fleet[0].group.get(key)).await.expect("a value");
    }
    let held = |keys: &[String]| keys.iter().filter(|key| fleet[0].group.peek(key).is_some()).count();
    let before = held(&own);
    // As many as there is place for: each is kept at its first fetch, whatever chance would say.
    for key in &few {
        let level = || within("a lookup", fleet[0].group.lookup(key));
        assert_eq!(level().await.expect("a value").level, Level::Peer);
        assert_eq!(level().await.expect("a value").level, Level::Hot, "the second time");
    }
    assert_eq!(held(&few), few.len());
    // And ten times as many as that: they make place for each other.
    for key in fleet.keys_of(1, "more of a peer", 600) {
        within("a get", fleet[0].group.get(&key)).await.expect("a value");
    }
    assert_eq!(held(&own), before, "own keys that copies left in the cache");
    assert!(fleet[0].stat("bytes") <= fleet[0].stat("budget"));
}

pub async fn a_time_to_live_has_the_jitter_that_was_asked_for_and_no_more(cluster: &Cluster) {
    let ttl = Duration::from_secs(1000);
    for (per_mille, least) in [(0, ttl), (300, ttl * 7 / 10)] {
        let mut options = living(ttl);
        options.group.ttl_jitter_per_mille = per_mille;
        let fleet = cluster.fleet(1, options, numbered()).await;
        let started = Instant::now();
        let mut lives = Vec::new();
        for index in 0..100 {
            let found = within("a lookup", fleet[0].group.lookup(&format!("jitter {index}"))).await;
            lives.push(found.expect("a value").ttl.expect("it expires"));
        }
        let late = started.elapsed();
        lives.sort();
        let (shortest, longest) = (lives[0], lives[99]);
        assert!(shortest + late >= least && longest <= ttl, "{shortest:?} to {longest:?} of {ttl:?}");
        // A hundred draws of one range miss neither its lower nor its upper third.
        let spread = (ttl - least) / 3;
        assert!(longest - shortest >= spread, "{shortest:?} to {longest:?} of {least:?} to {ttl:?}");
    }
}
