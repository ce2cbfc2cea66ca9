//! What etcd sees of a node, and what a node makes of what it sees in etcd.

use std::process::ExitStatus;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use async_std::task::block_on;
use groupcache_async_std::{AsyncStd, EtcdConfig, EtcdRegistry, Server};
use groupcache_tests::{
    AsyncStdNode, Etcd, Fleet, Membership, Node, NodeOptions, Origin, PREFIX, Signal, ensure, poll_until,
    record, wait_connected,
};

#[path = "../../runtime/tests/support/dnsmasq.rs"]
mod dnsmasq;

/// The time to live of a member's lease.
const LEASE: Duration = Duration::from_secs(5);
/// A registration, or a change that a watch brings.
const SOON: Duration = Duration::from_secs(5);

fn joining(etcd: &Etcd, origin: &Origin) -> NodeOptions {
    NodeOptions::new().fixed().group("web", &origin.url()).args(["--etcd".to_owned(), etcd.url()])
}

fn wait_records(etcd: &Etcd, expected: &[(String, String)], limit: Duration) {
    poll_until("etcd holds the expected records", limit, || {
        let records = etcd.records();
        ensure(records == expected, || format!("it holds {records:?}"))
    });
}

/// What a node on either runtime can be asked and told.
trait Member {
    fn addr(&self) -> &str;
    fn signal(&mut self, signal: Signal);
    fn wait_exit(&mut self) -> ExitStatus;
}

impl Member for Node {
    fn addr(&self) -> &str {
        self.addr()
    }

    fn signal(&mut self, signal: Signal) {
        self.signal(signal);
    }

    fn wait_exit(&mut self) -> ExitStatus {
        self.wait_exit()
    }
}

impl Member for AsyncStdNode {
    fn addr(&self) -> &str {
        self.addr()
    }

    fn signal(&mut self, signal: Signal) {
        self.signal(signal);
    }

    fn wait_exit(&mut self) -> ExitStatus {
        self.wait_exit()
    }
}

fn has_exactly_its_record_until_it_goes(etcd: &Etcd, node: &mut impl Member) {
    wait_records(etcd, &[record(node.addr())], SOON);
    let (key, value) = record(node.addr());
    assert_eq!(etcd.ctl(&["get", PREFIX, "--prefix"]), format!("{key}\n{value}\n"), "byte for byte");
    let json: serde_json::Value =
        serde_json::from_str(&etcd.ctl(&["get", &key, "-w", "json"])).expect("etcdctl speaks JSON");
    let lease = json["kvs"][0]["lease"].as_i64().expect("it is under a lease");
    let granted = etcd.ctl(&["lease", "timetolive", &format!("{lease:x}")]);
    assert!(granted.contains(&format!("granted with TTL({}s)", LEASE.as_secs())), "{granted}");

    // It stays for longer than the lease lives unless somebody keeps it alive.
    thread::sleep(LEASE + Duration::from_secs(2));
    assert_eq!(etcd.records(), [(key, value)]);

    let asked = Instant::now();
    node.signal(Signal::Terminate);
    wait_records(etcd, &[], Duration::from_secs(2));
    assert!(asked.elapsed() < Duration::from_secs(2), "at once, not with the lease: {:?}", asked.elapsed());
    assert_eq!(node.wait_exit().code(), Some(0));
    assert_eq!(
        etcd.ctl(&["lease", "list"]).lines().next(),
        Some("found 0 leases"),
        "the lease is revoked too"
    );
}

#[test]
fn a_member_has_exactly_its_record_under_a_lease_and_sigterm_takes_it_away_at_once() {
    let (etcd, origin) = (Etcd::start(), Origin::start());
    has_exactly_its_record_until_it_goes(&etcd, &mut Node::start(&joining(&etcd, &origin)));
    has_exactly_its_record_until_it_goes(&etcd, &mut AsyncStdNode::start(&joining(&etcd, &origin)));
}

#[test]
fn the_record_goes_first_and_the_request_in_progress_is_answered() {
    let (etcd, origin) = (Etcd::start(), Origin::start());
    let mut node = Node::start(&joining(&etcd, &origin));
    wait_records(&etcd, &[record(node.addr())], SOON);
    origin.set_delay(Duration::from_millis(2500));
    let http = node.http();
    let slow = thread::spawn(move || groupcache_tests::http::request(http, "GET", "/web/slow"));
    poll_until("the origin was asked", SOON, || {
        ensure(origin.requests("slow") == 1, || "not yet".to_owned())
    });
    node.signal(Signal::Terminate);
    wait_records(&etcd, &[], Duration::from_secs(2));
    assert!(node.is_running(), "it drains after it has deregistered");
    let answer = slow.join().expect("no panic").expect("an answer").expect(200);
    assert_eq!(answer.body, groupcache_tests::value_of("slow"));
    assert_eq!(node.wait_exit().code(), Some(0));
}

#[test]
fn a_killed_member_leaves_the_ring_with_its_lease() {
    let origin = Origin::start();
    let mut fleet = Fleet::start(3, Membership::Etcd, &NodeOptions::new().group("web", &origin.url()));
    fleet[2].kill();
    let (first, second) = (fleet[0].addr().to_owned(), fleet[1].addr().to_owned());
    for node in &fleet[..2] {
        node.wait_ring(&[&first, &second], 3 * LEASE);
    }
    let mut left = [record(&first), record(&second)];
    left.sort();
    assert_eq!(fleet.etcd().records(), left);
}

#[test]
fn members_come_and_go_while_others_stay() {
    let (etcd, origin) = (Etcd::start(), Origin::start());
    let first = Node::start(&joining(&etcd, &origin));
    first.wait_ring(&[first.addr()], SOON);
    let mut second = Node::start(&joining(&etcd, &origin));
    for node in [&first, &second] {
        node.wait_ring(&[first.addr(), second.addr()], SOON);
    }
    second.signal(Signal::Terminate);
    first.wait_ring(&[first.addr()], Duration::from_secs(2));
    assert_eq!(second.wait_exit().code(), Some(0));
    second.restart();
    for node in [&first, &second] {
        node.wait_ring(&[first.addr(), second.addr()], SOON);
    }
}

/// Writes what others than groupcache's nodes may have left, and what others than ours write, and looks at the ring of the node that is the one
/// member so far: `wait_ring` waits until it has exactly these members, and itself.
fn understands_records_of_others(etcd: &Etcd, wait_ring: impl Fn(&[&str])) {
    // Nobody listens at these addresses: they are members all the same, until they are gone.
    let go = "127.0.0.1:800";
    let longer = "127.0.0.1:8000";
    etcd.ctl(&["put", "groupcachex/127.0.0.1:9", &record("127.0.0.1:9").1]);
    etcd.ctl(&["put", "groupcache/garbage", "{not json"]);
    etcd.ctl(&["put", "groupcache/empty", ""]);
    for addr in [go, longer] {
        let (key, value) = record(addr);
        etcd.ctl(&["put", &key, &value]);
    }
    wait_ring(&[go, longer]);
    etcd.ctl(&["del", &record(go).0]);
    wait_ring(&[longer]);
}

#[test]
fn records_of_others_are_understood_and_what_is_no_record_is_skipped() {
    let (etcd, origin) = (Etcd::start(), Origin::start());
    let node = Node::start(&joining(&etcd, &origin));
    node.wait_ring(&[node.addr()], SOON);
    understands_records_of_others(&etcd, |others| {
        node.wait_ring(&[&[node.addr()][..], others].concat(), SOON);
    });
    // A node that starts now lists the same.
    let late = Node::start(&joining(&etcd, &origin));
    late.wait_ring(&[node.addr(), "127.0.0.1:8000", late.addr()], SOON);
}

#[test]
fn records_of_others_are_understood_and_skipped_on_async_std_too() {
    let etcd = Etcd::start();
    // In this process, since the adapter's example shows its ring to nobody.
    let join = || {
        block_on(async {
            let registry = EtcdRegistry::new(Arc::new(AsyncStd), EtcdConfig::new([etcd.url()])).await;
            let registry = Arc::new(registry.expect("a good configuration"));
            let addr = format!("127.0.0.1:{}", groupcache_tests::reserve());
            let server =
                Server::builder().addr(addr).registry(registry).build().expect("a good configuration");
            server.start().await.expect("its port is free");
            server
        })
    };
    let wait_ring = |server: &Server, others: &[&str]| {
        let own = server.addr();
        let mut expected = [&[&*own][..], others].concat();
        expected.sort_unstable();
        poll_until(&format!("the ring is {expected:?}"), SOON, || {
            let ring = server.ring();
            let mut names: Vec<_> = ring.members.iter().map(|member| &*member.name).collect();
            names.sort_unstable();
            ensure(names == expected, || format!("it is {names:?}"))
        });
    };
    let server = join();
    wait_ring(&server, &[]);
    understands_records_of_others(&etcd, |others| wait_ring(&server, others));
    let late = join();
    wait_ring(&late, &[&server.addr(), "127.0.0.1:8000"]);
    block_on(async {
        late.stop().await;
        server.stop().await;
    });
}

#[test]
fn a_member_whose_lease_was_revoked_registers_again() {
    let origin = Origin::start();
    let mut fleet = Fleet::start(2, Membership::Etcd, &NodeOptions::new().group("web", &origin.url()));
    let mut expected = [record(fleet[0].addr()), record(fleet[1].addr())];
    expected.sort();
    let leases = fleet.etcd().ctl(&["lease", "list"]);
    for lease in leases.lines().skip(1) {
        fleet.etcd().ctl(&["lease", "revoke", lease.trim()]);
    }
    wait_records(fleet.etcd(), &expected, 3 * LEASE);
    fleet.wait_whole();
}

#[test]
fn an_etcd_that_lost_its_data_empties_no_ring_and_gets_the_records_back() {
    let origin = Origin::start();
    let mut fleet = Fleet::start(2, Membership::Etcd, &NodeOptions::new().group("web", &origin.url()));
    let names = [fleet[0].addr().to_owned(), fleet[1].addr().to_owned()];
    let mut expected = [record(&names[0]), record(&names[1])];
    expected.sort();
    fleet.etcd().lose_everything();
    fleet.etcd().restart();
    poll_until("the records are back", 6 * LEASE, || {
        for (node, own) in fleet.iter().zip(&names) {
            let ring = node.ring();
            assert!(ring.names().contains(&own.as_str()), "a node is always on its own ring: {ring:?}");
        }
        let records = fleet.etcd.as_ref().map(Etcd::records).unwrap_or_default();
        ensure(records == expected, || format!("etcd holds {records:?}"))
    });
    fleet.wait_whole();
}

#[test]
fn a_node_started_while_etcd_is_down_serves_and_joins_once_it_is_up() {
    let (mut etcd, origin) = (Etcd::reserved(), Origin::start());
    let node = Node::spawn(&joining(&etcd, &origin));
    let alive = node.request("GET", "/-/healthz");
    assert_eq!(alive.status, 200, "alive, whatever etcd does");
    let answer = node.get("web", "alone").expect(200);
    assert_eq!((answer.level(), answer.owner()), ("load", node.addr()));
    etcd.restart();
    wait_records(&etcd, &[record(node.addr())], 3 * LEASE);
    node.wait_ready();
    let second = Node::start(&joining(&etcd, &origin));
    for member in [&node, &second] {
        member.wait_ring(&[node.addr(), second.addr()], SOON);
    }
}

#[test]
fn static_peers_need_no_registry() {
    // Nothing of etcd is started here, and the peer that is named does not exist: the node serves all the same.
    let origin = Origin::start();
    let absent = format!("127.0.0.1:{}", groupcache_tests::reserve());
    let options = NodeOptions::new().fixed().group("web", &origin.url());
    let node = Node::start(&options.args(["--peers", absent.as_str()]));
    node.wait_ring(&[node.addr(), &absent], SOON);
    for index in 0..20 {
        let key = format!("key {index}");
        assert_eq!(node.get("web", &key).expect(200).body, groupcache_tests::value_of(&key));
    }
}

#[test]
fn an_etcd_that_asks_for_a_user_takes_a_node_that_signs_in_and_no_other() {
    let (etcd, origin) = (Etcd::start(), Origin::start());
    etcd.ask_for_user("node", "s3cret");
    let directory = tempfile::TempDir::new().expect("a directory");
    let password = |text: &str| {
        let file = directory.path().join("password");
        std::fs::write(&file, text).expect("a file");
        let file = file.to_str().expect("a path").to_owned();
        ["--etcd-user".to_owned(), "node".to_owned(), "--etcd-password-file".to_owned(), file]
    };
    let stranger = Node::spawn(&joining(&etcd, &origin));
    let wrong = Node::spawn(&joining(&etcd, &origin).args(password("wr0ng")));
    for (node, reason) in [(&stranger, "user name is empty"), (&wrong, "invalid user ID or password")] {
        poll_until("the node says why it is not let in", SOON, || {
            let log = node.log();
            ensure(log.contains(reason) && !log.contains("wr0ng"), || log)
        });
    }
    let node = Node::start(&joining(&etcd, &origin).args(password("s3cret\n")));
    node.wait_ring(&[node.addr()], SOON);
    let as_root = |args: &[&str]| etcd.ctl(&[&["--user", "root:of all"], args].concat());
    assert!(as_root(&["get", PREFIX, "--prefix"]).contains(node.addr()));
    // Every token there was is worth nothing any more, as when they have run out.
    as_root(&["auth", "disable"]);
    etcd.ctl(&["auth", "enable"]);
    thread::sleep(LEASE + Duration::from_secs(2));
    assert!(as_root(&["get", PREFIX, "--prefix"]).contains(node.addr()), "{}", node.log());
    assert!(!node.log().contains("s3cret"));
}

#[test]
fn nodes_find_each_other_by_a_service_of_dns_and_an_outage_of_it_is_none_of_theirs() {
    let (origin, service) = (Origin::start(), "_peers._tcp.cache.test");
    let options = [(); 2].map(|()| NodeOptions::new().fixed().at("localhost").group("web", &origin.url()));
    let names = options.each_ref().map(NodeOptions::addr);
    let targets = names.map(|name| format!("{service},{}", name.replace(':', ",")));
    let mut dns = dnsmasq::Server::start(&targets.each_ref().map(String::as_str));
    let server = format!("127.0.0.1:{}", dns.port);
    let nodes = options
        .each_ref()
        .map(|options| Node::spawn(&options.clone().args(["--dns-srv", service, "--dns-server", &server])));
    wait_connected(&nodes.each_ref(), SOON * 4);
    dns.kill();
    for node in &nodes {
        node.wait_log(&["WARN", "cannot be looked up", "those of before stay", &server], SOON * 4);
    }
    wait_connected(&nodes.each_ref(), SOON * 4);
    for number in 0..10 {
        let _ = nodes[number % 2].get("web", &format!("key {number}")).expect(200);
    }
}
