//! The transport over real sockets on loopback: what works, and every way a peer can be of no use.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_channel::oneshot;
use futures_util::StreamExt;
use groupcache_core::{Failure, FailureKind, Outcome, Protocol, Value};
use groupcache_proto::v1::{FetchReply, FetchRequest};

use super::*;
use crate::rt::Runtime;
use crate::test_rt::TestRuntime;
use crate::trace::TraceContext;

mod faults;
mod go_seed;
mod keep_alive;
mod stopping;
mod traces;

const SOON: Duration = Duration::from_secs(10);
const MAX_VALUE: usize = 5 * 1024 * 1024;

fn rt() -> Arc<dyn Runtime> {
    Arc::new(TestRuntime)
}

fn config() -> TransportConfig {
    TransportConfig { connect_timeout: Duration::from_secs(5), ..TransportConfig::for_values(MAX_VALUE) }
}

/// `condition` becomes true before long.
async fn eventually(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < SOON, "it did not come true");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Answers by what the key says.
#[derive(Default)]
struct Fake {
    started: AtomicUsize,
    dropped: AtomicUsize,
    fingerprints: AtomicUsize,
    whole_groups: AtomicUsize,
    released: AtomicBool,
    traces: Mutex<Vec<TraceContext>>,
}

struct OnDrop<'a>(&'a AtomicUsize);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

fn hash_of(key: &[u8]) -> u64 {
    key.iter().fold(0, |hash, &byte| hash * 31 + u64::from(byte))
}

fn served(value: impl Into<Value>) -> Result<Served, Failure> {
    Ok(Served { value: value.into(), ttl: Some(Duration::from_millis(1500)) })
}

#[async_trait]
impl PeerService for Fake {
    fn try_get(&self, group: &str, key: &[u8]) -> Known {
        if group != "g" {
            return Known::Answer(Err(Failure::new(FailureKind::NoSuchGroup)));
        }
        Known::Answer(match key {
            b"empty" => served(&b""[..]),
            b"missing" => Err(Failure::new(FailureKind::NotFound)),
            b"broken" => Err(Failure::with_message(FailureKind::OriginFailed, "disk on fire")),
            b"busy" => Err(Failure::new(FailureKind::Overloaded)),
            b"large" => served(vec![7; MAX_VALUE]),
            b"huge" => served(vec![7; MAX_VALUE + 1]),
            _ if key.starts_with(b"hit") => served(key),
            _ => return Known::Missing { hash: hash_of(key) },
        })
    }

    async fn get(
        &self,
        _: &str,
        (key, hash): (&[u8], u64),
        _: Option<Duration>,
        trace: Option<&TraceContext>,
    ) -> Result<Served, Failure> {
        self.traces.lock().expect("no test panics there").extend(trace.cloned());
        assert_eq!(hash, hash_of(key));
        self.started.fetch_add(1, Ordering::SeqCst);
        let _guard = OnDrop(&self.dropped);
        match key {
            b"panic" => panic!("as the test asks"),
            b"hang" => std::future::pending().await,
            b"held" => {
                while !self.released.load(Ordering::SeqCst) {
                    rt().sleep(Duration::from_millis(2)).await;
                }
            }
            _ => rt().sleep(Duration::ZERO).await,
        }
        served(key)
    }

    async fn invalidate(&self, group: &str, key: Option<&[u8]>) -> Result<(), Failure> {
        match key {
            _ if group != "g" => Err(Failure::new(FailureKind::NoSuchGroup)),
            Some(_) => Ok(()),
            None => {
                self.whole_groups.fetch_add(1, Ordering::SeqCst);
                Ok(())
            }
        }
    }

    fn is_traced(&self) -> bool {
        true
    }

    fn note_peer(&self, _from: &str) {}

    fn note_fingerprint(&self, theirs: u64) {
        assert_eq!(theirs, 77);
        self.fingerprints.fetch_add(1, Ordering::SeqCst);
    }

    fn fingerprint(&self) -> u64 {
        42
    }
}

/// A running server.
struct Node {
    fake: Arc<Fake>,
    server: PeerServer,
    addr: String,
    stop: Option<oneshot::Sender<()>>,
    stopped: oneshot::Receiver<usize>,
}

async fn node_with(config: TransportConfig) -> Node {
    let fake = Arc::new(Fake::default());
    let listener = rt().listen("127.0.0.1:0").await.expect("a port is free");
    let addr = listener.local_addr().expect("it listens").to_string();
    let server = PeerServer::new(rt(), fake.clone(), config);
    let (stop, stopping) = oneshot::channel::<()>();
    let (done, stopped) = oneshot::channel();
    let serving = server.clone();
    tokio::spawn(async move {
        let cut = serving.serve(listener, async { stopping.await.unwrap_or(()) }).await;
        let _ = done.send(cut);
    });
    Node { fake, server, addr, stop: Some(stop), stopped }
}

async fn node() -> Node {
    node_with(config()).await
}

impl Node {
    async fn connect(&self) -> PeerChannel {
        PeerChannel::connect(&rt(), &self.addr, "", &config()).await.expect("the node answers")
    }

    fn stop(&mut self) {
        let _ = self.stop.take().map(|stop| stop.send(()));
    }
}

impl PeerChannel {
    /// Asks for one key, whether or not it is accepted meanwhile.
    async fn get_one(&self, group: &str, key: &[u8], limit: Duration) -> Result<Value, PeerFault> {
        self.get(group, key, (limit, None), || ()).await
    }
}

fn batch(keys: &[&str]) -> FetchRequest {
    let mut request = FetchRequest::new(77);
    for key in keys {
        request.push("g", key.as_bytes().to_vec(), None);
    }
    request
}

/// What became of each key of a reply, in words.
fn words(reply: FetchReply) -> Vec<(u32, String)> {
    let word = |outcome| match outcome {
        Outcome::Value { value, .. } => String::from_utf8_lossy(&value).into_owned(),
        Outcome::Failed(failure) => failure.to_string(),
        Outcome::Unreachable(cause) => format!("unreachable: {}", cause.expect("a peer's reply has words")),
    };
    reply.items.into_iter().map(|item| item.into_outcome()).map(|(index, what)| (index, word(what))).collect()
}

fn kind(fault: PeerFault) -> FailureKind {
    match fault {
        PeerFault::Status(failure) => failure.kind,
        other => panic!("no answer: {other:?}"),
    }
}

fn cause(fault: PeerFault) -> String {
    match fault {
        PeerFault::Unreachable(cause) => format!("{cause}: {}", groupcache_proto::causes(&*cause)),
        other => panic!("not unreachable: {other:?}"),
    }
}

#[tokio::test]
async fn one_key_makes_the_round_trip() {
    let node = node().await;
    let peer = node.connect().await;
    assert_eq!(peer.protocol(), Protocol::Batched);
    assert_eq!(node.server.connections(), 1);

    for (key, value) in
        [("hit", &b"hit"[..]), ("empty", b""), ("miss", b"miss"), ("hit-ключ", "hit-ключ".as_bytes())]
    {
        let got = peer.get_one("g", key.as_bytes(), SOON).await.expect(key);
        assert_eq!(&got[..], value);
    }
    let long = format!("hit{}", "k".repeat(70_000));
    assert_eq!(&peer.get_one("g", long.as_bytes(), SOON).await.expect("a long key")[..], long.as_bytes());
    let large = peer.get_one("g", b"large", SOON).await.expect("it is as large as the limit says");
    assert!(large.len() == MAX_VALUE && large.iter().all(|byte| *byte == 7));

    assert_eq!(kind(peer.get_one("g", b"missing", SOON).await.expect_err("")), FailureKind::NotFound);
    assert_eq!(kind(peer.get_one("g", b"", SOON).await.expect_err("")), FailureKind::InvalidKey);
    assert_eq!(kind(peer.get_one("g", b"\xff", SOON).await.expect_err("")), FailureKind::InvalidKey);
    let broken = peer.get_one("g", b"broken", SOON).await.expect_err("its origin fails");
    match broken {
        PeerFault::Status(failure) => assert_eq!(groupcache_proto::causes(&failure), "disk on fire"),
        other => panic!("{other:?}"),
    }
    // What a peer says of itself is no answer.
    assert!(cause(peer.get_one("g", b"busy", SOON).await.expect_err("")).contains("overloaded"));
    assert!(cause(peer.get_one("other", b"hit", SOON).await.expect_err("")).contains("`other`"));

    drop(peer);
    eventually(|| node.server.connections() == 0).await;
}

#[tokio::test]
async fn a_batch_is_answered_at_once_with_what_is_known_and_later_with_the_rest() {
    let node = node().await;
    let peer = node.connect().await;
    assert_eq!(node.fake.fingerprints.load(Ordering::SeqCst), 0, "the probe has no ring to speak of");

    let mut request = batch(&["hit", "held", "missing", "busy", ""]);
    request.push("other", &b"x"[..], None);
    let mut replies = peer.fetch(request, SOON);

    let first = replies.next().await.expect("a reply").expect("of the peer");
    assert_eq!(first.fingerprint, Some(42));
    assert_eq!(first.items[0].ttl_ms, Some(1500));
    let known = [(0, "hit"), (2, "not found"), (3, "unreachable: overloaded"), (4, "invalid key")];
    let known: Vec<_> = known.into_iter().chain([(5, "unreachable: no such group")]).collect();
    let got = words(first);
    assert_eq!(got.iter().map(|(index, word)| (*index, word.as_str())).collect::<Vec<_>>(), known);

    node.fake.released.store(true, Ordering::SeqCst);
    let late = replies.next().await.expect("a reply").expect("of the peer");
    assert_eq!((late.fingerprint, words(late)), (None, vec![(1, "held".to_owned())]));
    assert!(replies.next().await.is_none());
    assert!(replies.next().await.is_none(), "and it stays over");
    assert_eq!(node.fake.fingerprints.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn many_large_values_come_in_several_messages() {
    let node = node().await;
    let peer = node.connect().await;
    let keys: Vec<String> =
        (0..600).map(|i| if i % 100 == 7 { "large".to_owned() } else { format!("hit{i}") }).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();

    let mut seen = vec![0; keys.len()];
    let mut replies = peer.fetch(batch(&keys), SOON);
    while let Some(reply) = replies.next().await {
        for item in reply.expect("every message is within the limit").items {
            let (index, Outcome::Value { value, .. }) = item.into_outcome() else { panic!("a value") };
            let wanted = if keys[index as usize] == "large" { MAX_VALUE } else { keys[index as usize].len() };
            assert_eq!(value.len(), wanted);
            seen[index as usize] += 1;
        }
    }
    assert!(seen.iter().all(|times| *times == 1));
}

#[tokio::test]
async fn a_value_over_the_limit_is_a_typed_error_and_spoils_no_other() {
    let node = node().await;
    let peer = node.connect().await;
    assert_eq!(kind(peer.get_one("g", b"huge", SOON).await.expect_err("")), FailureKind::ValueTooLarge);
    let reply =
        peer.fetch(batch(&["huge", "hit"]), SOON).next().await.expect("a reply").expect("of the peer");
    assert_eq!(words(reply), [(0, "the value is too large".to_owned()), (1, "hit".to_owned())]);

    // A node that takes less than its peer sends.
    let strict = TransportConfig { max_message: 1000, ..config() };
    let peer = PeerChannel::connect(&rt(), &node.addr, "", &strict).await.expect("the node answers");
    assert_eq!(kind(peer.get_one("g", b"large", SOON).await.expect_err("")), FailureKind::ValueTooLarge);
    assert!(
        cause(peer.fetch(batch(&["large"]), SOON).next().await.expect("").expect_err("")).contains("1000")
    );
    assert_eq!(&peer.get_one("g", b"hit", SOON).await.expect("the connection is still good")[..], b"hit");
}

#[tokio::test]
async fn keys_are_forgotten_by_name_and_by_group() {
    let node = node().await;
    let peer = node.connect().await;
    peer.invalidate("g", Some(b"k\xff"), SOON).await.expect("acknowledged");
    assert_eq!(node.fake.whole_groups.load(Ordering::SeqCst), 0);
    peer.invalidate("g", None, SOON).await.expect("acknowledged");
    assert_eq!(node.fake.whole_groups.load(Ordering::SeqCst), 1);
    assert!(matches!(peer.invalidate("other", None, SOON).await, Err(PeerFault::Unreachable(_))));
}

#[tokio::test]
async fn a_dropped_call_drops_the_handler() {
    let node = node().await;
    let peer = node.connect().await;
    let fake = node.fake.clone();

    let mut replies = peer.fetch(batch(&["hang", "hang"]), SOON);
    assert!(replies.next().await.expect("a reply").expect("of the peer").items.is_empty(), "none is known");
    eventually(|| fake.started.load(Ordering::SeqCst) == 2).await;
    drop(replies);
    eventually(|| fake.dropped.load(Ordering::SeqCst) == 2).await;

    let single = tokio::spawn({
        let peer = peer.clone();
        async move { peer.get_one("g", b"hang", SOON).await.map(drop) }
    });
    eventually(|| fake.started.load(Ordering::SeqCst) == 3).await;
    single.abort();
    eventually(|| fake.dropped.load(Ordering::SeqCst) == 3).await;
    assert_eq!(&peer.get_one("g", b"hit", SOON).await.expect("the connection is still good")[..], b"hit");
}

#[tokio::test]
async fn a_handler_that_panics_costs_its_call_only() {
    let node = node().await;
    let peer = node.connect().await;
    assert!(cause(peer.get_one("g", b"panic", SOON).await.expect_err("")).contains("panicked"));

    let mut replies = peer.fetch(batch(&["hit", "panic"]), SOON);
    assert_eq!(words(replies.next().await.expect("a reply").expect("of the peer")), [(0, "hit".to_owned())]);
    assert!(cause(replies.next().await.expect("an end").expect_err("")).contains("panicked"));
    assert_eq!(&peer.get_one("g", b"hit", SOON).await.expect("the connection is still good")[..], b"hit");
}

#[tokio::test]
async fn a_request_for_too_many_keys_is_refused() {
    let node = node_with(TransportConfig { max_keys: 2, ..config() }).await;
    let peer = node.connect().await;
    let mut replies = peer.fetch(batch(&["hit", "hit", "hit"]), SOON);
    assert!(cause(replies.next().await.expect("an end").expect_err("")).contains("the limit is 2"));
    assert!(replies.next().await.is_none());
}

#[tokio::test]
async fn five_hundred_calls_share_a_connection() {
    let node = node().await;
    let peer = node.connect().await;
    let calls = (0..500).map(|i| {
        let peer = peer.clone();
        async move {
            let key = format!("{}{i}", if i % 2 == 0 { "hit" } else { "miss" });
            let value = peer.get_one("g", key.as_bytes(), SOON).await.expect("a value");
            assert_eq!(&value[..], key.as_bytes());
        }
    });
    futures_util::future::join_all(calls).await;
    assert_eq!(node.server.connections(), 1);
}
