//! A gRPC server that nobody here wrote, as a peer that speaks only `Get`: Python's grpcio. Like Go's servers it cuts off who pings it more often
//! than every five minutes.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use groupcache_core::{Member, PeerId, Placement, Ring, RingEpoch};
use groupcache_tests::{Process, Signal, ensure, poll_until, python, repository, reserve};
use groupcache_tokio::{ErrorKind, Group, RetrieveError, Server, in_words};

const SOON: Duration = Duration::from_secs(20);
/// Far less than what a slow answer takes.
const KEEP_ALIVE: Duration = Duration::from_millis(100);

/// A node, and a peer of another make.
struct Pair {
    server: Server,
    group: Group,
    ring: Ring,
    loads: Arc<AtomicUsize>,
    peer: Process,
}

impl Pair {
    async fn start(load_timeout: Duration) -> Self {
        let [me, other] = [reserve(), reserve()].map(|port| format!("127.0.0.1:{port}"));
        let mut command = Command::new(python());
        command.arg(repository().join("tests/python/serve_get.py")).arg(&other);
        command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
        let mut peer = Process::spawn("grpcio", &mut command);
        peer.wait_line(SOON, |line| (line == "serving").then_some(()));

        let builder = Server::builder().addr(&me).peers([&me, &other]).load_timeout(load_timeout);
        let server = builder.peer_keep_alive(KEEP_ALIVE, 10 * KEEP_ALIVE).build().expect("a node");
        let loads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&loads);
        let group = server.new_group("g", move |_: String| {
            counted.fetch_add(1, Ordering::SeqCst);
            async { Ok::<_, RetrieveError>("the node's own") }
        });
        let group = group.expect("a group");
        server.start().await.expect("it starts");
        poll_until("the peer is connected", SOON, || {
            ensure(server.ring().members.iter().all(|member| member.up), || format!("{:?}", server.ring()))
        });
        let members =
            [&me, &other].into_iter().zip(0..).map(|(name, id)| Member::new(PeerId::new(id), &**name));
        let ring = Ring::new(Placement::Slots, RingEpoch::new(1), members.collect()).expect("a ring");
        Self { server, group, ring, loads, peer }
    }

    /// Keys that the peer owns.
    fn keys(&self, prefix: &str) -> impl Iterator<Item = String> {
        let owned =
            |key: &String| self.ring.owner(key.as_bytes()).is_some_and(|owner| owner.id().index() == 1);
        (0..).map(move |n| format!("{prefix} {n}")).filter(owned)
    }

    async fn get(&self, key: &str) -> String {
        match self.group.get(key).await {
            Ok(value) => String::from_utf8_lossy(&value).into_owned(),
            Err(error) => panic!("`{key}` has no value: {}", in_words(&error)),
        }
    }

    fn stat(&self, name: &str) -> u64 {
        self.server.stats().get(name).expect("a counter")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_answer_arrives_by_the_connection_that_it_was_asked_on() {
    let pair = Pair::start(SOON).await;
    let keys: Vec<String> = pair.keys("quick").take(2).chain(pair.keys("slow").take(2)).collect();
    let connection = pair.get(&keys[0]).await;
    let started = Instant::now();
    let (first, second) = tokio::join!(pair.get(&keys[2]), pair.get(&keys[3]));
    assert!(started.elapsed() > 10 * KEEP_ALIVE, "it was silent for many intervals");
    assert_eq!([&first, &second, &pair.get(&keys[1]).await], [&connection; 3]);
    assert_eq!((pair.stat("peer_dials"), pair.stat("peer_failed_batches")), (1, 0));
    assert_eq!(pair.loads.load(Ordering::SeqCst), 0);
    pair.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_at_work_longer_than_anybody_waits_is_not_a_dead_peer() {
    let pair = Pair::start(Duration::from_secs(1)).await;
    for key in pair.keys("slow").take(4) {
        let error = pair.group.get(&key).await.expect_err("nobody waits that long");
        assert_eq!(error.kind(), ErrorKind::Deadline, "{}", in_words(&error));
    }
    assert_eq!((pair.stat("peer_breaker_opened"), pair.stat("peer_failed_batches")), (0, 0));
    assert_eq!(pair.loads.load(Ordering::SeqCst), 0, "it was looked for elsewhere");
    pair.server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_freezes_is_noticed_while_its_answer_is_awaited() {
    let mut pair = Pair::start(2 * SOON).await;
    let key = pair.keys("slow").next().expect("a key");
    let started = Instant::now();
    let group = pair.group.clone();
    let asked = tokio::spawn(async move { group.get(&key).await });
    poll_until("the peer is asked", SOON, || {
        ensure(pair.stat("peer_batches") == 1, || "no batch was sent".to_owned())
    });
    pair.peer.signal(Signal::Stop);
    let value = asked.await.expect("no panic").expect("a value");
    assert_eq!(&value[..], b"the node's own");
    assert!(started.elapsed() < SOON, "the keep-alive notices, not the time-out of the load");
    pair.server.stop().await;
}
