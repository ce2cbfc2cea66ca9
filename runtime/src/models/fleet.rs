//! Two nodes, with the real HTTP/2 between them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use shuttle::future::{JoinHandle, block_on, spawn, yield_now};
use shuttle::sync::atomic::{AtomicU64, Ordering};

use super::rt::ModelRuntime;
use super::{check, numbered, time};
use crate::{Group, MemoryRegistry, Server, ServerBuilder};

struct Node {
    server: Server<ModelRuntime>,
    group: Group<ModelRuntime>,
}

/// Two nodes that have found each other.
fn two_nodes(loads: &Arc<AtomicU64>) -> [Node; 2] {
    time::reset();
    let (runtime, registry) = (ModelRuntime::default(), MemoryRegistry::new());
    let nodes = ["127.0.0.1:1", "127.0.0.1:2"].map(|addr| {
        let builder = ServerBuilder::new(Arc::new(runtime.clone())).addr(addr).shards(1);
        let server = builder.registry(Arc::new(registry.clone())).build().expect("settings in range");
        let group = numbered(&server, loads);
        Node { server, group }
    });
    block_on(async {
        let starts = nodes.iter().map(|node| {
            let server = node.server.clone();
            spawn(async move { server.start().await.expect("the address is free") })
        });
        let starts: Vec<_> = starts.collect();
        let met = || {
            nodes.iter().all(|node| {
                node.server.is_ready() && node.server.ring().members.iter().filter(|m| m.up).count() == 2
            })
        };
        while !(met() && starts.iter().all(JoinHandle::is_finished)) {
            time::advance(Duration::from_millis(5));
            yield_now().await;
        }
    });
    nodes
}

/// A key that node 1 owns.
fn remote_key(nodes: &[Node; 2]) -> String {
    let mut keys = (0..).map(|number| format!("key {number}"));
    keys.find(|key| !nodes[0].group.is_owner(key)).expect("the other node owns keys")
}

#[test]
fn callers_at_two_nodes_share_a_load() {
    check(40, || {
        let loads = Arc::default();
        let nodes = two_nodes(&loads);
        let key = remote_key(&nodes);
        let callers = [0, 1, 0].map(|node: usize| {
            let (group, key) = (nodes[node].group.clone(), key.clone());
            spawn(async move { group.get(&key).await.expect("a value").to_string() })
        });
        block_on(async {
            for value in join_all(callers).await {
                assert_eq!(value.expect("nobody panics"), "1");
            }
        });
        assert_eq!(loads.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_removal_at_one_node_is_seen_at_the_other_as_soon_as_it_is_acknowledged() {
    check(40, || {
        let loads = Arc::new(AtomicU64::new(0));
        let nodes = two_nodes(&loads);
        let key = remote_key(&nodes);
        let reader = {
            let (group, key) = (nodes[0].group.clone(), key.clone());
            spawn(async move { group.get(&key).await.map(drop) })
        };
        block_on(async {
            let before = loads.load(Ordering::SeqCst);
            let report = nodes[1].group.remove(&key).await.expect("it runs");
            assert!(report.unacknowledged.is_empty(), "{report:?}");
            for node in &nodes {
                let value = node.group.get(&key).await.expect("a value");
                let loaded: u64 = value.to_str().expect("text").parse().expect("the number of a load");
                assert!(loaded > before, "load {loaded} began before the removal, when there were {before}");
            }
            reader.await.expect("nobody panics").expect("a value");
        });
    });
}

#[test]
fn an_owner_that_stops_amid_a_get_leaves_the_caller_with_a_value() {
    check(40, || {
        let loads = Arc::default();
        let nodes = two_nodes(&loads);
        let key = remote_key(&nodes);
        let caller = {
            let (group, key) = (nodes[0].group.clone(), key.clone());
            spawn(async move { group.get(&key).await.map(drop) })
        };
        let stopped = {
            let server = nodes[1].server.clone();
            spawn(async move { server.stop().await })
        };
        block_on(async {
            while !(caller.is_finished() && stopped.is_finished()) {
                time::advance(Duration::from_millis(20));
                yield_now().await;
            }
            caller.await.expect("nobody panics").expect("a value");
        });
    });
}
