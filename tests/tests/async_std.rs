//! A node on async-std in one fleet with nodes on tokio.

use std::time::Duration;

use groupcache_tests::{
    AsyncStdNode, Etcd, Node, NodeOptions, Origin, Signal, ensure, poll_until, record, value_of,
};

const SOON: Duration = Duration::from_secs(5);

fn options(origin: &Origin) -> NodeOptions {
    NodeOptions::new().fixed().group("web", &origin.url())
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
    let options = [options(&origin), options(&origin), options(&origin)];
    let peers = options.each_ref().map(NodeOptions::addr).join(",");
    let [first, second, guest] = options.map(|one| one.args(["--peers", &peers]));
    let guest = AsyncStdNode::start(&guest);
    let [first, second] = [first, second].each_ref().map(Node::spawn);
    for node in [&first, &second] {
        node.wait_ready();
        node.wait_ring(&[guest.addr(), first.addr(), second.addr()], SOON);
    }
    shares_the_work([&first, &second], guest.addr(), &origin);
}

#[test]
fn an_async_std_node_registers_in_etcd_and_leaves_at_once_on_sigterm() {
    let (etcd, origin) = (Etcd::start(), Origin::start());
    let joining = || options(&origin).args(["--etcd".to_owned(), etcd.url()]);
    let mut guest = AsyncStdNode::start(&joining());
    let (first, second) = (Node::start(&joining()), Node::start(&joining()));
    for node in [&first, &second] {
        node.wait_ring(&[guest.addr(), first.addr(), second.addr()], SOON);
    }
    assert!(etcd.records().contains(&record(guest.addr())), "{:?}", etcd.records());
    shares_the_work([&first, &second], guest.addr(), &origin);
    guest.signal(Signal::Terminate);
    first.wait_ring(&[first.addr(), second.addr()], Duration::from_secs(2));
    assert!(guest.wait_exit().success());
}
