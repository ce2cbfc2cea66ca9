//! Start and stop, from any state.

use std::net::TcpListener;
use std::time::Duration;

use futures_util::future::{Either, join, join_all, select};
use groupcache_runtime::{ErrorKind, StartError, Status};

use super::Cluster;
use super::fleet::{Node, Options, chain, wait_for, within};
use super::origin::{Gate, Origin, value_of};

fn alone(cluster: &Cluster, origin: &Origin) -> Node {
    cluster.node(0, &Cluster::addrs(1)[0], &Options::default(), origin)
}

fn behind(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::new(move |call| {
        let gate = gate.clone();
        async move {
            gate.passed().await;
            Ok(value_of(&call.key).into())
        }
    })
}

pub async fn a_node_that_never_started_stops(cluster: &Cluster) {
    let node = alone(cluster, &Origin::plain());
    assert_eq!(node.status(), Status::New);
    let report = within("a stop", node.stop()).await;
    assert!(report.deregistered && report.drained, "{report:?}");
    assert_eq!(node.status(), Status::Stopped);
}

pub async fn stopping_twice_is_stopping_once(cluster: &Cluster) {
    let fleet = cluster.fleet(2, Options::default(), Origin::plain()).await;
    for _ in 0..2 {
        let report = within("a stop", fleet[0].stop()).await;
        assert!(report.deregistered && report.drained, "{report:?}");
        assert_eq!(fleet[0].status(), Status::Stopped);
        assert!(!fleet[0].is_ready());
    }
}

pub async fn stops_at_the_same_time_all_return(cluster: &Cluster) {
    let fleet = cluster.fleet(2, Options::default(), Origin::plain()).await;
    let stops = (0..5).flat_map(|_| fleet.iter().map(|node| node.stop()));
    for report in within("ten stops", join_all(stops)).await {
        assert!(report.deregistered && report.drained, "{report:?}");
    }
}

pub async fn a_stop_lets_a_load_finish(cluster: &Cluster) {
    let gate = Gate::default();
    let options = Options { drain: Duration::from_secs(20), ..Options::default() };
    let fleet = cluster.fleet(2, options, behind(&gate)).await;
    let key = fleet.key_of(1, "slow");
    let stopped = async {
        // The owner has a caller of its own and one from afar.
        wait_for("two callers", || fleet[1].stat("waiters") == 2).await;
        let opened = async {
            wait_for("a node that stops", || fleet[1].status() == Status::Stopping).await;
            gate.open();
        };
        join(within("a stop", fleet[1].stop()), opened).await.0
    };
    let (values, report) = join(join_all(fleet.iter().map(|node| node.value(&key))), stopped).await;
    assert!(report.drained, "{report:?}");
    assert_eq!(values, [value_of(&key), value_of(&key)]);
    // The owner finishes its load, and who asked it from afar waits for that.
    assert_eq!(fleet.origin.loads(), 1);
}

pub async fn a_stop_fails_what_does_not_finish(cluster: &Cluster) {
    let options = Options { drain: Duration::from_millis(100), ..Options::default() };
    let fleet = cluster.fleet(1, options, behind(&Gate::default())).await;
    let stopped = async {
        wait_for("a load", || fleet.origin.loads() == 1).await;
        within("a stop", fleet[0].stop()).await
    };
    let (answer, report) = join(within("a get", fleet[0].group.get("slow")), stopped).await;
    let error = answer.expect_err("it does not finish");
    assert_eq!(error.kind(), ErrorKind::Stopping, "{}", chain(&error));
    assert!(!report.drained, "{report:?}");
    wait_for("a load that is dropped", || fleet.origin.dropped() == 1).await;
}

pub async fn a_stop_that_was_dropped_can_be_made_again(cluster: &Cluster) {
    let gate = Gate::default();
    let options = Options { drain: Duration::from_secs(20), ..Options::default() };
    let fleet = cluster.fleet(1, options, behind(&gate)).await;
    let stopped = async {
        wait_for("a load", || fleet.origin.loads() == 1).await;
        let first = Box::pin(fleet[0].stop());
        let begun = Box::pin(wait_for("its begin", || fleet[0].status() == Status::Stopping));
        match select(first, begun).await {
            Either::Left((report, _)) => panic!("it has something to wait for: {report:?}"),
            Either::Right(((), first)) => drop(first),
        }
        gate.open();
        within("the second stop", fleet[0].stop()).await
    };
    let (value, report) = join(fleet[0].value("slow"), stopped).await;
    assert_eq!(value, value_of("slow"));
    assert!(report.drained, "{report:?}");
    assert_eq!(fleet[0].status(), Status::Stopped);
}

pub async fn a_stop_during_the_start_ends_in_a_stopped_node(cluster: &Cluster) {
    let node = alone(cluster, &Origin::plain());
    let (started, report) = within("a start and a stop", join(node.start(), node.stop())).await;
    assert!(matches!(started, Ok(()) | Err(StartError::Stopped)), "{started:?}");
    assert!(report.drained, "{report:?}");
    assert_eq!(node.status(), Status::Stopped);
    // A start that was dropped half way.
    let node = alone(cluster, &Origin::plain());
    drop(select(Box::pin(node.start()), Box::pin(std::future::ready(()))).await);
    within("a stop", node.stop()).await;
    assert_eq!(node.status(), Status::Stopped);
    TcpListener::bind(node.addr()).expect("a stopped node listens no more");
}

pub async fn a_stopped_node_answers_what_it_has_and_fails_the_rest(cluster: &Cluster) {
    let fleet = cluster.fleet(2, Options::default(), Origin::plain()).await;
    let keys: Vec<_> = (0..2).map(|owner| fleet.key_of(owner, "known")).collect();
    let unknown: Vec<_> = (0..2).map(|owner| fleet.key_of(owner, "unknown")).collect();
    for key in &keys {
        assert_eq!(fleet[0].value(key).await, value_of(key));
    }
    within("a stop", fleet[0].stop()).await;
    for key in &keys {
        assert_eq!(fleet[0].value(key).await, value_of(key));
    }
    for key in &unknown {
        let error = within("a get", fleet[0].group.get(key)).await.expect_err("it has stopped");
        assert_eq!(error.kind(), ErrorKind::Stopping, "{}", chain(&error));
    }
    assert_eq!(fleet.origin.loads(), 2);
}

pub async fn a_stopped_node_says_that_it_can_remove_no_more(cluster: &Cluster) {
    let fleet = cluster.fleet(2, Options::default(), Origin::plain()).await;
    let key = fleet.key_of(1, "known");
    fleet.all_have(&key).await;
    within("a stop", fleet[0].stop()).await;
    let removed = within("a removal", fleet[0].group.remove(&key)).await;
    assert_eq!(removed.expect_err("it has stopped").kind(), ErrorKind::Stopping);
    assert!(fleet[0].group.peek(&key).is_none(), "it has forgotten the key itself all the same");
    assert!(fleet[1].group.peek(&key).is_some());
    let flushed = within("a flush", fleet[0].group.flush()).await;
    assert_eq!(flushed.expect_err("it has stopped").kind(), ErrorKind::Stopping);
}

pub async fn a_stopped_node_does_not_start(cluster: &Cluster) {
    let node = alone(cluster, &Origin::plain());
    within("a stop", node.stop()).await;
    let started = within("a start", node.start()).await;
    assert!(matches!(started, Err(StartError::Stopped)), "{started:?}");
    assert_eq!(node.status(), Status::Stopped);
}

pub async fn a_running_node_does_not_start(cluster: &Cluster) {
    let fleet = cluster.fleet(1, Options::default(), Origin::plain()).await;
    let started = within("a start", fleet[0].start()).await;
    assert!(matches!(started, Err(StartError::Running)), "{started:?}");
    assert_eq!(fleet[0].status(), Status::Running);
    assert_eq!(fleet[0].value("key").await, value_of("key"));
}

pub async fn a_busy_port_is_a_typed_error_and_can_be_retried(cluster: &Cluster) {
    let addr = Cluster::addrs(1).remove(0);
    let taken = TcpListener::bind(&addr).expect("a free port");
    let node = cluster.node(0, &addr, &Options::default(), &Origin::plain());
    match within("a start", node.start()).await {
        Err(StartError::Listen { addr: named, source }) => {
            assert_eq!((named, source.kind()), (addr, std::io::ErrorKind::AddrInUse));
        }
        other => panic!("the port is taken, and yet: {other:?}"),
    }
    assert_eq!(node.status(), Status::New);
    drop(taken);
    within("a start", node.start()).await.expect("the port is free now");
    wait_for("a node that is ready", || node.is_ready()).await;
    assert_eq!(node.value("key").await, value_of("key"));
}

pub async fn a_node_that_never_started_serves_alone(cluster: &Cluster) {
    let origin = Origin::plain();
    let node = alone(cluster, &origin);
    let values = join_all((0..10).map(|_| node.value("key"))).await;
    assert!(values.iter().all(|value| *value == value_of("key")));
    assert_eq!(origin.loads(), 1);
    assert!(!node.is_ready());
    let removed = within("a removal", node.group.remove("key")).await.expect("there is nobody to tell");
    assert!(removed.unacknowledged.is_empty());
    assert!(node.group.peek("key").is_none());
}
