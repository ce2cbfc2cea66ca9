//! Stopping in order, and not in order.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use futures_util::FutureExt;

use super::*;
use crate::rt::{BoxFuture, Connection, Listener};

#[tokio::test]
async fn a_stopping_server_finishes_what_is_in_flight() {
    let mut node = node().await;
    let peer = node.connect().await;
    let idle = node.connect().await;
    let mut replies = peer.fetch(batch(&["held", "hit"]), SOON);
    assert_eq!(words(replies.next().await.expect("a reply").expect("of the peer")), [(1, "hit".to_owned())]);

    node.stop();
    let closed = tokio::time::timeout(SOON, peer.closed()).await.expect("peers are told");
    assert!(closed.in_order);
    tokio::time::timeout(SOON, idle.closed()).await.expect("idle ones too");
    let (mut gone, idle_gone) = (peer.gone(), idle.gone());
    drop(idle);
    tokio::time::timeout(SOON, idle_gone).await.expect("and they have nothing to wait for");
    assert!(matches!(peer.get_one("g", b"hit", SOON).await, Err(PeerFault::Unreachable(_))), "no new calls");
    assert!(PeerChannel::connect(&rt(), &node.addr, "", &config()).await.is_err(), "no new peers");

    drop(peer);
    assert!((&mut gone).now_or_never().is_none(), "a call is in flight: the connection is not gone");
    node.fake.released.store(true, Ordering::SeqCst);
    let late = replies.next().await.expect("a reply").expect("of the peer");
    assert_eq!(words(late), [(0, "held".to_owned())]);
    assert!(replies.next().await.is_none(), "it ends in order");
    tokio::time::timeout(SOON, gone).await.expect("that was the last call");
    let cut = tokio::time::timeout(SOON, node.stopped).await.expect("it stops").expect("and says so");
    assert_eq!((cut, node.server.connections()), (0, 0));
}

#[tokio::test]
async fn a_stopping_server_cuts_off_what_does_not_end() {
    let mut node = node_with(TransportConfig { drain: Duration::from_millis(100), ..config() }).await;
    let peer = node.connect().await;
    let mut replies = peer.fetch(batch(&["hang"]), SOON);
    assert!(replies.next().await.expect("a reply").is_ok());
    eventually(|| node.fake.started.load(Ordering::SeqCst) == 1).await;

    node.stop();
    let cut = tokio::time::timeout(SOON, node.stopped).await.expect("it stops").expect("and says so");
    assert_eq!((cut, node.server.connections()), (1, 0));
    assert!(matches!(replies.next().await, Some(Err(PeerFault::Unreachable(_)))), "and the asker knows");
    let gone = peer.gone();
    drop((peer, replies));
    tokio::time::timeout(SOON, gone).await.expect("nothing is left of it");
    eventually(|| node.fake.dropped.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn calls_in_flight_survive_the_last_handle_to_their_connection() {
    let node = node().await;
    let peer = node.connect().await;
    let mut replies = peer.fetch(batch(&["held"]), SOON);
    assert!(replies.next().await.expect("a reply").is_ok());
    drop(peer);
    node.fake.released.store(true, Ordering::SeqCst);
    assert_eq!(words(replies.next().await.expect("a reply").expect("of the peer")), [(0, "held".to_owned())]);
    drop(replies);
    eventually(|| node.server.connections() == 0).await;
}

/// Fails as often as it is told to before it accepts.
struct Faulty {
    inner: Box<dyn Listener>,
    errors: VecDeque<io::Error>,
}

impl Listener for Faulty {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Connection>, SocketAddr)>> {
        match self.errors.pop_front() {
            Some(error) => Box::pin(async move { Err(error) }),
            None => self.inner.accept(),
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

#[tokio::test]
async fn accepting_goes_on_after_errors() {
    const EMFILE: i32 = 24;
    let inner = rt().listen("127.0.0.1:0").await.expect("a port is free");
    let addr = inner.local_addr().expect("it listens").to_string();
    let errors = [io::Error::from_raw_os_error(EMFILE), io::ErrorKind::ConnectionAborted.into()];
    let server = PeerServer::new(rt(), Arc::new(Fake::default()), config());
    let listener = Box::new(Faulty { inner, errors: errors.into() });
    tokio::spawn(async move { server.serve(listener, std::future::pending()).await });
    let peer = PeerChannel::connect(&rt(), &addr, "", &config()).await.expect("it accepts in the end");
    assert_eq!(&peer.get_one("g", b"hit", SOON).await.expect("a value")[..], b"hit");
}

#[tokio::test]
async fn a_connection_of_some_age_takes_no_more_calls_and_what_is_in_flight_is_answered() {
    let age = Duration::from_millis(700);
    let node = node_with(TransportConfig { max_age: Some(age), ..config() }).await;
    let peer = node.connect().await;
    let held = tokio::spawn({
        let peer = peer.clone();
        async move { peer.get_one("g", b"held", SOON).await }
    });
    eventually(|| node.fake.started.load(Ordering::SeqCst) == 1).await;
    let closed = tokio::time::timeout(SOON, peer.closed()).await.expect("in time");
    assert!(closed.in_order, "{closed:?}");
    assert_eq!(node.server.connections(), 1, "it is still at work");
    let next = node.connect().await;
    assert_eq!(&next.get_one("g", b"hit", SOON).await.expect("a new connection")[..], b"hit");
    node.fake.released.store(true, Ordering::SeqCst);
    assert_eq!(&held.await.expect("no panic").expect("an answer")[..], b"held");
}
