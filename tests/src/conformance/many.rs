//! Many keys in one call.

use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{join, join_all};
use groupcache_runtime::{ErrorKind, RetrieveError};

use super::Cluster;
use super::fleet::{Options, wait_for, within};
use super::origin::{Gate, Origin, behind, value_of};

pub async fn many_keys_are_answered_in_their_order(cluster: &Cluster) {
    let fleet = cluster.fleet(3, Options::default(), Origin::plain()).await;
    let mut keys: Vec<String> = (0..100).map(|number| format!("many {number}")).collect();
    // One that is there already, one that is named twice, and none at all.
    fleet[0].value(&keys[7]).await;
    keys.push(keys[3].clone());
    let wanted: Vec<String> = keys.iter().map(|key| value_of(key)).collect();
    for node in fleet.iter() {
        let answers = within("many gets", node.group.get_many(&keys)).await;
        let values: Vec<String> = answers.into_iter().map(|it| it.expect("a value").to_string()).collect();
        assert_eq!(values, wanted, "at node {}", node.number);
    }
    assert_eq!(fleet.origin.loads(), 100);
    assert!(fleet[0].group.get_many(&[] as &[String]).await.is_empty());
}

pub async fn many_keys_of_one_owner_leave_in_one_message(cluster: &Cluster) {
    let fleet = cluster.fleet(3, Options::default(), Origin::plain()).await;
    let keys = [fleet.keys_of(1, "of one", 60), fleet.keys_of(2, "of another", 60)].concat();
    let before = fleet[0].stat("peer_batches");
    let answers = within("many gets", fleet[0].group.get_many(&keys)).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(fleet[0].stat("peer_batches") - before, 2);
}

pub async fn each_of_many_keys_has_its_own_error(cluster: &Cluster) {
    let origin = Origin::new(|call| async move {
        match call.key.split(' ').next() {
            Some("missing") => Err(RetrieveError::not_found()),
            Some("broken") => Err(RetrieveError::failed("disk on fire")),
            _ => Ok(value_of(&call.key).into()),
        }
    });
    let fleet = cluster.fleet(2, Options::default(), origin).await;
    let mut keys = Vec::new();
    for owner in 0..2 {
        for kind in ["present", "missing", "broken"] {
            keys.push(fleet.key_of(owner, kind));
        }
    }
    keys.push(String::new());
    let answers = within("many gets", fleet[0].group.get_many(&keys)).await;
    for (key, answer) in keys.iter().zip(answers) {
        let wanted = match key.split(' ').next() {
            Some("missing") => ErrorKind::NotFound,
            Some("broken") => ErrorKind::OriginFailed,
            Some("") => ErrorKind::InvalidKey,
            _ => {
                assert_eq!(answer.expect("a value").to_string(), value_of(key));
                continue;
            }
        };
        assert_eq!(answer.map_err(|error| error.kind()).err(), Some(wanted), "of `{key}`");
    }
}

pub async fn of_many_keys_those_in_time_are_answered(cluster: &Cluster) {
    let gate = Gate::default();
    let shut = gate.clone();
    let origin = Origin::new(move |call| {
        let gate = shut.clone();
        async move {
            if call.key.starts_with("slow") {
                gate.passed().await;
            }
            Ok(value_of(&call.key).into())
        }
    });
    let fleet = cluster.fleet(2, Options::default(), origin).await;
    let kinds = ["slow", "swift"];
    let keys: Vec<String> =
        (0..2).flat_map(|owner| kinds.map(|kind| fleet.key_of(owner, &format!("{kind} {owner}")))).collect();
    let limit = Duration::from_millis(700);
    // Others wait longer for the same, so that it is the caller's own limit that ends its wait.
    let patient = join_all(keys.iter().map(|key| fleet[0].group.get(key)));
    let hasty = async {
        wait_for("others to wait", || fleet[0].stat("waiters") == 2).await;
        let answers = fleet[0].group.get_many_within(&keys, limit).await;
        for (key, answer) in keys.iter().zip(answers) {
            match answer {
                Ok(value) => assert_eq!((value.to_string(), key.starts_with("swift")), (value_of(key), true)),
                Err(error) => {
                    assert_eq!((error.kind(), key.starts_with("slow")), (ErrorKind::Deadline, true))
                }
            }
        }
        assert_eq!(fleet[0].stat("waiters"), 2, "who left is not waited for");
        gate.open();
    };
    let (answers, ()) = within("many gets", join(patient, hasty)).await;
    for (key, answer) in keys.iter().zip(answers) {
        assert_eq!(answer.expect("a value").to_string(), value_of(key));
    }
}

pub async fn a_dropped_get_of_many_leaves_no_waiter_and_harms_no_other(cluster: &Cluster) {
    let gate = Gate::default();
    let fleet = cluster.fleet(2, Options::default(), behind(&gate)).await;
    let keys = [fleet.keys_of(0, "left", 5), fleet.keys_of(1, "left", 5)].concat();
    let stays = fleet[0].group.get_many(&keys);
    let leaves = async {
        let mut leaving = Box::pin(fleet[0].group.get_many(&keys));
        assert!(leaving.as_mut().now_or_never().is_none());
        wait_for("both to wait", || fleet[0].stat("waiters") == 20).await;
        drop(leaving);
        assert_eq!(fleet[0].stat("waiters"), 10);
        wait_for("loads", || fleet.origin.loads() == 10).await;
        gate.open();
    };
    let (answers, ()) = within("many gets", join(stays, leaves)).await;
    let values: Vec<String> = answers.into_iter().map(|it| it.expect("a value").to_string()).collect();
    assert_eq!(values, keys.iter().map(|key| value_of(key)).collect::<Vec<_>>());
    assert_eq!(fleet.origin.loads(), 10);
}
