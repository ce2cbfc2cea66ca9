//! Three nodes on one ring: one load for the whole fleet, and one answer to the question whose a key is.

use std::collections::HashSet;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use groupcache_runtime::metrics::METRICS;
use groupcache_tests::http::Client;
use groupcache_tests::prometheus::Page;
use groupcache_tests::{
    Behaviour, Fleet, Membership, Node, NodeOptions, Origin, ensure, poll_until, value_of,
};

fn fleet(membership: Membership, origin: &Origin) -> Fleet {
    Fleet::start(3, membership, &NodeOptions::new().group("web", &origin.url()))
}

#[test]
fn peers_load_a_cold_key_once_for_300_simultaneous_requests() {
    a_cold_key_is_loaded_once(Membership::Peers);
}

#[test]
fn etcd_members_load_a_cold_key_once_for_300_simultaneous_requests() {
    a_cold_key_is_loaded_once(Membership::Etcd);
}

#[test]
fn peers_load_1000_keys_1000_times_asked_for_at_all_nodes() {
    distinct_keys_are_loaded_once_each(Membership::Peers);
}

#[test]
fn etcd_members_load_1000_keys_1000_times_asked_for_at_all_nodes() {
    distinct_keys_are_loaded_once_each(Membership::Etcd);
}

#[test]
fn peers_agree_on_owners_and_say_where_values_come_from() {
    nodes_agree_on_owners(Membership::Peers);
}

#[test]
fn etcd_members_agree_on_owners_and_say_where_values_come_from() {
    nodes_agree_on_owners(Membership::Etcd);
}

#[test]
fn a_key_removed_at_any_node_is_loaded_again_at_every_node() {
    let origin = Origin::start();
    let fleet = fleet(Membership::Peers, &origin);
    for remover in 0..3 {
        let key = format!("removed at {remover}");
        origin.behave(key.clone(), Behaviour::Count);
        let all =
            || -> Vec<String> { fleet.iter().map(|node| node.get("web", &key).expect(200).text()).collect() };
        assert_eq!(all(), ["1"; 3], "{key}");
        let removed = fleet[remover].request("DELETE", &groupcache_tests::http::path("web", &key));
        assert!((200..300).contains(&removed.status), "{} {}", removed.status, removed.text());
        assert_eq!(all(), ["2"; 3], "{key}");
        assert_eq!(origin.requests(&key), 2);
    }
}

#[test]
fn a_missing_key_is_404_at_every_node_and_the_origin_is_asked_once() {
    let origin = Origin::start();
    let fleet = fleet(Membership::Peers, &origin);
    for index in 0..10 {
        let key = format!("missing {index}");
        origin.behave(key.clone(), Behaviour::Status(404));
        for node in fleet.iter() {
            let _ = node.get("web", &key).expect_error(404, "not_found");
        }
        assert_eq!(origin.requests(&key), 1, "the owner's word is cached: {key}");
    }
}

#[test]
fn a_group_that_only_one_node_has_is_refused_by_the_others_by_name() {
    let origin = Origin::start();
    let fleet = fleet(Membership::Peers, &origin);
    for node in fleet.iter() {
        let _ = node.get("elsewhere", "k").expect_error(404, "no_such_group");
    }
}

#[test]
fn every_metric_that_is_listed_is_published_and_no_other() {
    let origin = Origin::start();
    let mut fleet = fleet(Membership::Peers, &origin);
    let keys = |what: &str| -> Vec<String> { (0..30).map(|index| format!("{what} {index}")).collect() };
    keys("missing").into_iter().for_each(|key| origin.behave(key, Behaviour::Status(404)));
    origin.behave("broken".to_owned(), Behaviour::Status(500));
    for node in fleet.iter() {
        // Keys that nobody has asked for, so that every node loads for every other; and again, for hits of every level.
        for _ in 0..2 {
            keys(node.addr()).iter().for_each(|key| drop(node.get("web", key).expect(200)));
            for key in keys("missing") {
                let _ = node.get("web", &key).expect_error(404, "not_found");
            }
        }
        let _ = node.get("web", "broken").expect_error(502, "origin_failed");
    }
    let _ = fleet[0].request("DELETE", "/web/key").expect(200);
    let gone = fleet[2].addr().to_owned();
    let mut asked = keys(fleet[0].addr()).into_iter();
    let lost = asked.find(|key| fleet[0].get("web", key).expect(200).owner() == gone).expect("its share");
    fleet[2].kill();
    let _ = fleet[0].request("DELETE", &groupcache_tests::http::path("web", &lost)).expect(200);
    let _ = fleet[0].get("web", &lost).expect(200);
    poll_until("the loss of a peer shows", Duration::from_secs(10), || {
        let state = fleet[0].metrics().sum("groupcache_peer_state", &[("peer", &gone)]);
        ensure(state >= 4.0, || format!("its state is {state}"))
    });

    for node in &fleet[..2] {
        let page = node.metrics();
        let listed: HashSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
        let published: HashSet<&str> = page.metrics.keys().map(String::as_str).collect();
        let (missing, unknown) = (listed.difference(&published), published.difference(&listed));
        assert_eq!((missing.count(), unknown.count()), (0, 0), "{listed:?} {published:?}");
        for metric in METRICS {
            let (kind, help) = &page.metrics[metric.name];
            assert_eq!((kind.as_str(), help.as_str()), (metric.kind.name(), metric.help), "{}", metric.name);
            assert_eq!(page.labels(metric.name), metric.labels.iter().copied().collect(), "{}", metric.name);
        }
        assert_figures_agree(node, &page);
    }
    let page = fleet[0].metrics();
    let unacknowledged = [("group", "web"), ("outcome", "unacknowledged")];
    assert_eq!(page.sum("groupcache_removals_spread_total", &unacknowledged), 1.0);
    assert_eq!(page.sum("groupcache_unacknowledged_members_total", &[]), 1.0);
    assert!(page.sum("groupcache_peer_breaker_opened_total", &[("peer", &gone)]) >= 1.0);
}

#[test]
fn log_lines_of_two_nodes_about_one_get_have_the_same_trace_id() {
    let origin = Origin::start();
    let options = NodeOptions::new().group("web", &origin.url());
    let options = options.args(["--tracing", "w3c", "--log", "info,groupcache=debug"]);
    let fleet = Fleet::start(2, Membership::Peers, &options);
    let mut keys = (0..100).map(|index| format!("key-{index}"));
    let key =
        keys.find(|key| fleet[0].get("web", key).expect(200).owner() == fleet[1].addr()).expect("its share");
    let trace_of = |node: &Node, span: &str| {
        let log = node.log();
        let mut lines =
            log.lines().filter(|line| line.contains(span) && line.contains(&format!("key=\"{key}\"")));
        let id = lines.next()?.split_once("trace_id=")?.1.split(' ').next()?.to_owned();
        (id.len() == 32).then_some(id)
    };
    poll_until("both have logged it", Duration::from_secs(10), || {
        let traces = (trace_of(&fleet[0], " get{"), trace_of(&fleet[1], " serve{"));
        ensure(traces.0.is_some() && traces.0 == traces.1, || format!("{traces:?}\n{}", fleet[1].log()))
    });
}

/// What is published is what `/-/stats` says, and what happened.
fn assert_figures_agree(node: &Node, page: &Page) {
    let group = [("group", "web")];
    for stat in ["gets", "misses", "loads", "load_errors", "load_not_found", "peer_fetches", "served"] {
        let published = page.sum(&format!("groupcache_{stat}_total"), &group);
        assert_eq!(published, node.stat(stat) as f64, "{stat}");
    }
    for (level, stat) in [("main", "main_hits"), ("hot", "hot_hits"), ("negative", "negative_hits")] {
        let published = page.sum("groupcache_hits_total", &[("group", "web"), ("level", level)]);
        assert!(published > 0.0, "{level}");
        assert_eq!(published, node.stat(stat) as f64, "{level}");
    }
    assert_eq!(page.sum("groupcache_entries", &group), node.stat("entries") as f64);
    let timed =
        |outcome| page.sum("groupcache_load_seconds_count", &[("group", "web"), ("outcome", outcome)]);
    let ended = timed("value") + timed("not_found") + timed("origin_failed");
    assert_eq!(ended, page.sum("groupcache_loads_total", &group), "each load was timed");
    let outcomes = ["peer", "load"]
        .map(|outcome| page.sum("groupcache_get_seconds_count", &[("group", "web"), ("outcome", outcome)]));
    assert!(outcomes.iter().all(|&count| count > 0.0), "{outcomes:?}");
    let answered = page.sum("groupcache_peer_fetch_seconds_count", &[("outcome", "answered")]);
    let (batches, keys) =
        (page.sum("groupcache_peer_batch_keys_count", &[]), page.sum("groupcache_peer_batch_keys_sum", &[]));
    assert_eq!(batches, page.sum("groupcache_peer_batches_total", &[]));
    assert_eq!(keys, page.sum("groupcache_peer_keys_total", &[]));
    assert!(answered > 0.0 && answered <= keys, "{answered} of {keys}");
    assert!((page.sum("groupcache_ring_share_ratio", &[]) - 1.0).abs() < 0.5);
}

fn a_cold_key_is_loaded_once(membership: Membership) {
    const PER_NODE: usize = 100;
    let origin = Origin::start();
    origin.set_delay(Duration::from_millis(500));
    let fleet = fleet(membership, &origin);
    let barrier = Barrier::new(3 * PER_NODE);
    let answers: Vec<_> = thread::scope(|scope| {
        let ask = |node: usize| {
            let mut client = Client::new(fleet[node].http());
            client.connect().expect("a connection");
            barrier.wait();
            client.get("web", "cold").expect("an answer")
        };
        let clients: Vec<_> = (0..3 * PER_NODE).map(|index| scope.spawn(move || ask(index % 3))).collect();
        clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect()
    });
    let owners: HashSet<&str> = answers.iter().map(|answer| answer.owner()).collect();
    assert_eq!(owners.len(), 1, "{owners:?}");
    for answer in &answers {
        assert_eq!((answer.status, &answer.body), (200, &value_of("cold")));
        assert!(answer.took < Duration::from_secs(5), "one load takes half a second: {:?}", answer.took);
    }
    assert_eq!(origin.requests("cold"), 1, "300 requests, one load");
    assert_eq!(fleet.iter().map(|node| node.stat("loads")).sum::<u64>(), 1);
}

fn distinct_keys_are_loaded_once_each(membership: Membership) {
    const KEYS: usize = 1000;
    const CLIENTS: usize = 4;
    let origin = Origin::start();
    let fleet = fleet(membership, &origin);
    let key = |index: usize| format!("key {index}/of {KEYS}");
    let started = Instant::now();
    thread::scope(|scope| {
        for (turn, node) in fleet.iter().enumerate() {
            for client in 0..CLIENTS {
                scope.spawn(move || {
                    let mut connection = Client::new(node.http());
                    // Each node goes through the keys in an order of its own, all at the same time: some keys meet, some do not.
                    for step in (client..KEYS).step_by(CLIENTS) {
                        let index = (step * [1, 3, 7][turn] + turn * 100) % KEYS;
                        let answer = connection.get("web", &key(index)).expect("an answer").expect(200);
                        assert_eq!(answer.body, value_of(&key(index)), "key {index}");
                    }
                });
            }
        }
    });
    eprintln!("{} requests took {:?}", 3 * KEYS, started.elapsed());
    let counts = origin.counts();
    assert_eq!(counts.len(), KEYS);
    let more: Vec<_> = counts.iter().filter(|(_, count)| **count != 1).collect();
    assert!(more.is_empty(), "loaded more than once: {more:?}");
    assert_eq!(origin.strays(), [""; 0]);
    // Asked once more at every node, nothing reaches the origin, and nobody loads.
    for index in (0..KEYS).step_by(10) {
        for node in fleet.iter() {
            let answer = node.get("web", &key(index)).expect(200);
            assert!(["hit", "hot"].contains(&answer.level()), "{} at {}", answer.level(), node.addr());
        }
    }
    assert_eq!(origin.counts().values().sum::<usize>(), KEYS);
    for node in fleet.iter() {
        assert!((100..700).contains(&node.stat("loads")), "each node has its share: {}", node.stat("loads"));
    }
}

fn nodes_agree_on_owners(membership: Membership) {
    let origin = Origin::start();
    let fleet = fleet(membership, &origin);
    let shares: f64 = fleet[0].ring().members.iter().map(|member| member.share).sum();
    assert!((shares - 1.0).abs() < 0.001, "shares add up to one: {shares}");
    let mut owners = HashSet::new();
    for index in 0..60 {
        let key = format!("key {index}");
        // In turn, so that the first to be asked is the owner one time and another node two times.
        let order = [index % 3, (index + 1) % 3, (index + 2) % 3];
        let first = order.map(|node| fleet[node].get("web", &key).expect(200));
        let owner = fleet.index_of(first[0].owner());
        owners.insert(owner);
        for (node, answer) in order.iter().zip(&first) {
            assert_eq!((answer.owner(), &answer.body), (fleet[owner].addr(), &value_of(&key)), "{key}");
            let expected = match (*node == owner, *node == order[0]) {
                (true, true) => "load",
                (true, false) => "hit",
                (false, _) => "peer",
            };
            assert_eq!(answer.level(), expected, "{key}: node {node} of {order:?}, owner {owner}");
        }
        for node in order {
            let again = fleet[node].get("web", &key).expect(200);
            assert_eq!(again.level(), if node == owner { "hit" } else { "hot" }, "{key} again at {node}");
            assert_eq!((again.owner(), &again.body), (fleet[owner].addr(), &value_of(&key)));
        }
        assert_eq!(origin.requests(&key), 1, "{key}");
    }
    assert_eq!(owners.len(), 3, "every node owns something");
}
