//! Peers that freeze while they are asked: noticed, and told from those that are slow.

use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::faults::{listener, single_node};
use super::*;

const QUICK: Duration = Duration::from_millis(150);

fn quick() -> TransportConfig {
    TransportConfig { keep_alive_interval: QUICK, keep_alive_timeout: 4 * QUICK, ..config() }
}

/// A way to a node: passes bytes both ways until frozen; then it keeps both sockets open and passes nothing, as a stopped process does.
struct Way {
    addr: String,
    frozen: Arc<AtomicBool>,
    connections: Arc<AtomicUsize>,
    /// HTTP/2 pings that went to the node, answers to its own not counted.
    pings: Arc<AtomicUsize>,
}

async fn way_to(target: String) -> Way {
    let (listener, addr) = listener().await;
    let way = Way { addr, frozen: Arc::default(), connections: Arc::default(), pings: Arc::default() };
    let (frozen, connections, pings) = (way.frozen.clone(), way.connections.clone(), way.pings.clone());
    tokio::spawn(async move {
        while let Ok((inbound, _)) = listener.accept().await {
            connections.fetch_add(1, Ordering::SeqCst);
            let outbound = TcpStream::connect(&target).await.expect("the node listens");
            let (inbound, outbound) = (inbound.into_split(), outbound.into_split());
            let (mut frames, pings) = (Frames::behind_the_preface(), pings.clone());
            let count = move |bytes: &[u8]| {
                pings.fetch_add(frames.count_pings(bytes), Ordering::SeqCst);
            };
            tokio::spawn(pass(inbound.0, outbound.1, frozen.clone(), count));
            tokio::spawn(pass(outbound.0, inbound.1, frozen.clone(), |_| ()));
        }
    });
    way
}

async fn pass(from: OwnedReadHalf, to: OwnedWriteHalf, frozen: Arc<AtomicBool>, mut seen: impl FnMut(&[u8])) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        if from.readable().await.is_err() {
            return;
        }
        if frozen.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        match from.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(len) => {
                seen(&buffer[..len]);
                let mut rest = &buffer[..len];
                while !rest.is_empty() {
                    if to.writable().await.is_err() {
                        return;
                    }
                    rest = &rest[to.try_write(rest).unwrap_or(0)..];
                }
            }
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// Reads the headers of HTTP/2 frames out of a stream.
struct Frames {
    skip: usize,
    header: Vec<u8>,
}

impl Frames {
    fn behind_the_preface() -> Self {
        Self { skip: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len(), header: Vec::new() }
    }

    fn count_pings(&mut self, bytes: &[u8]) -> usize {
        const PING: u8 = 6;
        const ACK: u8 = 1;
        let mut pings = 0;
        for &byte in bytes {
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            self.header.push(byte);
            if let [a, b, c, kind, flags, _, _, _, _] = self.header[..] {
                self.skip = u32::from_be_bytes([0, a, b, c]) as usize;
                pings += usize::from(kind == PING && flags & ACK == 0);
                self.header.clear();
            }
        }
        pings
    }
}

#[tokio::test]
async fn a_peer_that_freezes_is_noticed_while_calls_wait() {
    let node = node().await;
    let way = way_to(node.addr.clone()).await;
    let (quick, config) = (QUICK, quick());
    let peer = PeerChannel::connect(&rt(), &way.addr, "", &config).await.expect("the node answers");

    assert_eq!(peer.protocol(), Protocol::Batched);
    // Idle for longer than the interval, more than once: no ping, and the connection stays good.
    for _ in 0..2 {
        tokio::time::sleep(2 * quick).await;
        assert_eq!(&peer.get_one("g", b"hit", SOON).await.expect("a value")[..], b"hit");
    }
    // A slow answer is not a dead peer: pings are answered meanwhile.
    let held = tokio::spawn({
        let peer = peer.clone();
        async move { peer.get_one("g", b"held", SOON).await.map(drop) }
    });
    eventually(|| way.pings.load(Ordering::SeqCst) >= 2).await;
    node.fake.released.store(true, Ordering::SeqCst);
    held.await.expect("no panic").expect("a value");

    way.frozen.store(true, Ordering::SeqCst);
    let start = Instant::now();
    let fault = peer.get_one("g", b"hit", SOON).await.expect_err("it is frozen");
    assert!(start.elapsed() < SOON / 2, "the keep-alive notices, not the time limit");
    assert!(cause(fault).contains("keep-alive"), "and the cause says so");
    tokio::time::timeout(SOON, peer.closed()).await.expect("it is told");
    assert!(peer.is_closed());

    let config = TransportConfig { connect_timeout: quick, ..config };
    match PeerChannel::connect(&rt(), &way.addr, "", &config).await {
        Err(TransportError::Timeout { limit, .. }) => assert_eq!(limit, quick),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_peer_of_another_make_is_not_pinged_and_its_slow_answer_arrives() {
    let (addr, fake, asked) = single_node().await;
    let way = way_to(addr).await;
    let peer = PeerChannel::connect(&rt(), &way.addr, "", &quick()).await.expect("the node answers");
    assert_eq!(peer.protocol(), Protocol::Single);
    let connections = way.connections.load(Ordering::SeqCst);

    // Idle: nothing is asked.
    let before = asked.load(Ordering::SeqCst);
    tokio::time::sleep(3 * QUICK).await;
    assert_eq!(asked.load(Ordering::SeqCst), before);

    let accepted = Arc::new(AtomicUsize::new(0));
    let held = tokio::spawn({
        let (peer, accepted) = (peer.clone(), accepted.clone());
        async move {
            let count = || {
                accepted.fetch_add(1, Ordering::SeqCst);
            };
            peer.get("g", b"held", (SOON, None), count).await
        }
    });
    // The peer shows that it lives as often as it is asked; that the call is accepted is said once.
    eventually(|| asked.load(Ordering::SeqCst) >= before + 5).await;
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
    fake.released.store(true, Ordering::SeqCst);
    assert_eq!(&held.await.expect("no panic").expect("a value")[..], b"held");
    assert_eq!(way.pings.load(Ordering::SeqCst), 0);
    assert_eq!(way.connections.load(Ordering::SeqCst), connections, "by the same connection");
    assert!(!peer.is_closed());
}

#[tokio::test]
async fn many_slow_calls_to_a_peer_of_another_make_share_one_keep_alive_call() {
    let (addr, fake, asked) = single_node().await;
    let peer = PeerChannel::connect(&rt(), &addr, "", &quick()).await.expect("the node answers");
    let before = asked.load(Ordering::SeqCst);
    let (accepted, calls) = (AtomicUsize::new(0), 50);
    let held = (0..calls).map(|_| {
        peer.get("g", b"held", (SOON, None), || {
            accepted.fetch_add(1, Ordering::SeqCst);
        })
    });
    let released = async {
        eventually(|| accepted.load(Ordering::SeqCst) == calls).await;
        fake.released.store(true, Ordering::SeqCst);
    };
    let (values, ()) = futures_util::future::join(futures_util::future::join_all(held), released).await;
    assert!(values.iter().all(Result::is_ok));
    let asked = asked.load(Ordering::SeqCst) - before;
    assert!(asked <= calls / 2, "{asked} calls in place of pings for {calls} calls");
}

#[tokio::test]
async fn a_call_to_a_peer_of_another_make_is_accepted_before_a_short_patience_ends() {
    let (addr, ..) = single_node().await;
    let config = TransportConfig { keep_alive_interval: SOON, ..quick() };
    let peer = PeerChannel::connect(&rt(), &addr, "", &config).await.expect("the node answers");
    let accepted = AtomicUsize::new(0);
    let count = || {
        accepted.fetch_add(1, Ordering::SeqCst);
    };
    assert!(peer.get("g", b"hang", (4 * QUICK, None), count).await.is_err());
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
    assert!(!peer.is_closed());
}

#[tokio::test]
async fn a_peer_of_another_make_that_freezes_is_noticed_while_calls_wait() {
    let (addr, fake, _) = single_node().await;
    let way = way_to(addr).await;
    let peer = PeerChannel::connect(&rt(), &way.addr, "", &quick()).await.expect("the node answers");
    let freezing = async {
        eventually(|| fake.started.load(Ordering::SeqCst) == 1).await;
        way.frozen.store(true, Ordering::SeqCst);
        Instant::now()
    };
    let (answer, frozen) = futures_util::future::join(peer.get_one("g", b"held", SOON), freezing).await;
    assert!(frozen.elapsed() < SOON / 2, "the keep-alive notices, not the time limit");
    let fault = cause(answer.expect_err("it is frozen"));
    assert!(fault.contains("keep-alive"), "{fault}");
    let closed = tokio::time::timeout(SOON, peer.closed()).await.expect("it is told");
    assert!(!closed.in_order && closed.cause.to_string().contains("keep-alive"), "{closed:?}");
    eventually(|| peer.is_closed()).await;
    let gone = peer.gone();
    drop(peer);
    tokio::time::timeout(SOON, gone).await.expect("nothing is left of it");
}
