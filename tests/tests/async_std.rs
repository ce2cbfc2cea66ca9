//! A node on async-std in one fleet with nodes on tokio.

use std::process::Command;
use std::time::Duration;

use groupcache_tests::{
    Etcd, Node, NodeOptions, Origin, Process, Signal, async_std_node, ensure, poll_until, record, reserve,
    value_of,
};

const START: Duration = Duration::from_secs(30);
const SOON: Duration = Duration::from_secs(5);

/// The example node of the async-std adapter: it has a peer side and no HTTP side.
fn start(addr: &str, join: &[&str], origin: &Origin) -> Process {
    let group = format!("web={}", origin.url());
    let mut command = Command::new(async_std_node());
    command.args(["--addr", addr, "--group", &group]).args(join);
    let mut process = Process::spawn(format!("async-std node {addr}"), &mut command);
    let at = process
        .wait_line(START, |line| line.strip_prefix("groupcache: serving peers at ").map(str::to_owned));
    assert_eq!(at, addr);
    process
}

/// Asks two tokio nodes for keys until the async-std node has served and loaded its share.
fn shares_the_work(nodes: [&Node; 2], addr: &str, origin: &Origin) {
    // A node that was up before another has found it down, and loads that one's keys until they have met.
    poll_until("both nodes reach every member", SOON, || {
        let members = nodes.map(|node| node.ring().members).concat();
        ensure(members.iter().all(|member| member.up), || format!("{members:?}"))
    });
    let mut owned = 0;
    for index in 0..60 {
        let key = format!("key {index}");
        let answers = nodes.map(|node| node.get("web", &key).expect(200));
        for answer in &answers {
            assert_eq!((&answer.body, answer.owner()), (&value_of(&key), answers[0].owner()), "{key}");
        }
        if answers[0].owner() == addr {
            owned += 1;
            assert_eq!([answers[0].level(), answers[1].level()], ["peer"; 2], "{key}");
        }
        assert_eq!(origin.requests(&key), 1, "{key}");
    }
    assert!((5..50).contains(&owned), "the async-std node owns {owned} of 60 keys");
}

#[test]
fn an_async_std_node_shares_a_static_ring_with_tokio_nodes() {
    let origin = Origin::start();
    let addr = format!("127.0.0.1:{}", reserve());
    let options = [NodeOptions::new().fixed(), NodeOptions::new().fixed()];
    let peers = [addr.as_str(), options[0].addr(), options[1].addr()].join(",");
    let _guest = start(&addr, &["--peers", &peers], &origin);
    let [first, second] = options
        .each_ref()
        .map(|one| Node::spawn(&one.clone().group("web", &origin.url()).args(["--peers", &peers])));
    for node in [&first, &second] {
        node.wait_ready();
        node.wait_ring(&[&addr, first.addr(), second.addr()], SOON);
    }
    shares_the_work([&first, &second], &addr, &origin);
}

#[test]
fn an_async_std_node_registers_in_etcd_and_leaves_at_once_on_sigterm() {
    let (etcd, origin) = (Etcd::start(), Origin::start());
    let addr = format!("127.0.0.1:{}", reserve());
    let mut guest = start(&addr, &["--etcd", &etcd.url()], &origin);
    let options =
        || NodeOptions::new().fixed().group("web", &origin.url()).args(["--etcd".to_owned(), etcd.url()]);
    let (first, second) = (Node::start(&options()), Node::start(&options()));
    for node in [&first, &second] {
        node.wait_ring(&[&addr, first.addr(), second.addr()], SOON);
    }
    assert!(etcd.records().contains(&record(&addr)), "{:?}", etcd.records());
    shares_the_work([&first, &second], &addr, &origin);
    guest.signal(Signal::Terminate);
    first.wait_ring(&[first.addr(), second.addr()], Duration::from_secs(2));
    assert!(guest.wait_exit(Duration::from_secs(10)).success());
}
