//! Limits, and what is said at them: at once, with a kind, and to nobody else's harm.

use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use groupcache_runtime::ErrorKind;

use super::Cluster;
use super::fleet::{GroupOptions, Node, Options, chain, wait_for, within};
use super::limits::{is_refused_at_once, slow};
use super::origin::{Gate, Origin, value_of};

/// What a refusal may take, in the middle.
const AT_ONCE: Duration = Duration::from_millis(10);

pub async fn a_group_loads_no_more_than_its_limit_at_a_time(cluster: &Cluster) {
    let gate = Gate::default();
    let group = GroupOptions { max_loads: Some(2), ..GroupOptions::default() };
    let fleet = cluster.fleet(1, Options { group, shards: Some(1), ..Options::default() }, slow(&gate)).await;
    let other = fleet[0].add_group("other", &Origin::plain()).expect("the first of its name");
    let keys = ["slow 0", "slow 1"];
    let refused = async {
        wait_for("two loads", || fleet.origin.loads() == 2).await;
        is_refused_at_once(&fleet[0], "slow 2").await;
        // Who asks for what is being loaded joins, and other groups have limits of their own.
        let mut joined = Box::pin(fleet[0].group.get(keys[0]));
        assert!(futures_util::poll!(&mut joined).is_pending());
        let value = within("a get", other.get("quick")).await.expect("a group of its own");
        assert_eq!(value.as_bytes(), value_of("quick").as_bytes());
        gate.open();
        within("a get", joined).await.expect("a value");
    };
    join(join_all(keys.map(|key| fleet[0].value(key))), refused).await;
    assert_eq!(fleet[0].value("slow 2").await, value_of("slow 2"));
    assert_eq!(fleet.origin.loads(), 3);
}

pub async fn a_full_owner_refuses_at_once(cluster: &Cluster) {
    let gate = Gate::default();
    let full = Options { max_flights: Some(1), ..Options::default() };
    let fleet = cluster.fleet_of(vec![Options::default(), full], slow(&gate)).await;
    let held = fleet.key_of(1, "slow");
    let (known, refused) = (fleet.keys_of(1, "known", 100), fleet.keys_of(1, "refused", 100));
    for key in &known {
        assert_eq!(fleet[1].value(key).await, value_of(key));
    }
    let others = async {
        wait_for("a full owner", || fleet[1].stat("flights") == 1).await;
        let (mut usual, mut past) = (Vec::new(), Vec::new());
        for (known, refused) in known.iter().zip(&refused) {
            // The machine may be busy: what the owner has at hand takes as long as it takes.
            usual.push(timed(&fleet[0], known).await);
            // The owner's refusal crosses the wire, and the asker's own origin, which takes no time, has the value.
            past.push(timed(&fleet[0], refused).await);
        }
        let (usual, past) = (median(usual), median(past));
        assert!(past < AT_ONCE.max(4 * usual), "half of the gets past a full owner took {past:?} and more");
        assert!(fleet[1].stat("rejected") >= 100 && fleet[0].stat("peer_errors") >= 100);
        assert_eq!(fleet[0].stat("peer_failed_batches"), 0, "an owner that says so has not failed");
        gate.open();
    };
    join(fleet[1].value(&held), others).await;
    assert!(refused.iter().all(|key| fleet.origin.loads_at(0, key) == 1));
}

async fn timed(node: &Node, key: &str) -> Duration {
    let started = Instant::now();
    assert_eq!(node.value(key).await, value_of(key));
    started.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

pub async fn a_value_too_large_is_a_typed_error_both_ways_and_spoils_no_other(cluster: &Cluster) {
    // Below and above what a message may have at who has the lower limit.
    const LIMIT: usize = 60_000;
    let origin = Origin::new(|call| async move {
        let bytes = if call.key.contains("huge") { 6 << 20 } else { 70_000 };
        Ok(if call.key.contains("quick") { value_of(&call.key).into() } else { vec![7; bytes].into() })
    });
    let strict = Options { max_value: Some(LIMIT), ..Options::default() };
    let fleet = cluster.fleet_of(vec![strict, Options::default()], origin).await;
    for (owner, asker) in [(0, 1), (1, 0)] {
        for name in ["large", "huge"] {
            let key = fleet.key_of(owner, name);
            let quick = fleet.keys_of(owner, &format!("quick beside {name}"), 20);
            let gets = join_all(quick.iter().map(|key| fleet[asker].value(key)));
            let (answer, values) = join(within("a get", fleet[asker].group.get(&key)), gets).await;
            let error = answer.expect_err("it is too large for one of the two");
            assert_eq!(error.kind(), ErrorKind::ValueTooLarge, "`{key}`: {}", chain(&error));
            assert!(chain(&error).contains(&LIMIT.to_string()), "`{key}`: {}", chain(&error));
            assert!(quick.iter().zip(&values).all(|(key, value)| *value == value_of(key)));
        }
    }
    for node in fleet.iter() {
        node.is_quiet().await;
    }
}
