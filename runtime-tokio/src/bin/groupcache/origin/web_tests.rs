//! The HTTP origin against real sockets, most of which misbehave.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::Url;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::web::{Web, client};
use super::{Fault, Load, OriginError};

const LIMIT: usize = 1 << 20;
const STALL: Duration = Duration::from_millis(300);

/// What an origin does after it has sent its bytes.
#[derive(Clone, Copy)]
pub(super) enum Then {
    /// Closes the connection in order.
    Close,
    /// Resets it.
    Reset,
    /// Says nothing more.
    Stall,
    /// Sends one byte each time, slower than a read and faster than the stall limit.
    Drip(usize),
}

/// An origin that answers every request with the same bytes, right or wrong.
pub(super) struct Origin {
    pub(super) web: Web,
    pub(super) requests: Arc<AtomicUsize>,
    pub(super) last: Arc<std::sync::Mutex<String>>,
}

impl Origin {
    async fn new(answer: impl Into<Vec<u8>>, then: Then) -> Self {
        Self::of(vec![answer.into()], then).await
    }

    /// An origin that answers one request after the other with these bytes, and all further ones with the last.
    pub(super) async fn of(answers: Vec<Vec<u8>>, then: Then) -> Self {
        let answers: Arc<[Vec<u8>]> = answers.into();
        let (requests, last) = (Arc::new(AtomicUsize::new(0)), Arc::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let prefix = format!("http://{}/prefix/", listener.local_addr().unwrap());
        let (count, heads) = (Arc::clone(&requests), Arc::clone(&last));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = count.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
                let (answers, heads) = (Arc::clone(&answers), Arc::clone(&heads));
                tokio::spawn(async move {
                    // The client may leave at any time: that is what is tested.
                    drop(answer_one(stream, &answers[number], then, &heads).await);
                });
            }
        });
        let web = Web::new(client(STALL).unwrap(), Url::parse(&prefix).unwrap(), LIMIT, STALL);
        Self { web, requests, last }
    }

    async fn load(&self) -> Load {
        tokio::time::timeout(Duration::from_secs(10), self.web.load("a key"))
            .await
            .expect("an answer in time")
    }
}

async fn answer_one(
    mut stream: TcpStream,
    answer: &[u8],
    then: Then,
    heads: &std::sync::Mutex<String>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await?;
        head.push(byte);
    }
    *heads.lock().unwrap() = String::from_utf8_lossy(&head).into_owned();
    stream.write_all(answer).await?;
    match then {
        Then::Close => stream.shutdown().await,
        Then::Reset => {
            // The bytes before the reset should arrive, or it tests something else.
            tokio::time::sleep(Duration::from_millis(50)).await;
            #[allow(deprecated)] // it blocks only for lingers other than zero
            stream.set_linger(Some(Duration::ZERO))
        }
        Then::Stall => {
            // Until the client leaves.
            let _ = stream.read(&mut [0]).await?;
            Ok(())
        }
        Then::Drip(bytes) => {
            for _ in 0..bytes {
                tokio::time::sleep(STALL / 3).await;
                stream.write_all(b"x").await?;
            }
            stream.shutdown().await
        }
    }
}

async fn value(answer: &str, then: Then) -> Vec<u8> {
    Origin::new(answer, then).await.load().await.expect("a value").to_vec()
}

async fn fault(answer: &str, then: Then) -> Fault {
    match Origin::new(answer, then).await.load().await {
        Err(OriginError::Failed(fault)) => *fault,
        other => panic!("{answer:?}: {other:?}"),
    }
}

#[tokio::test]
async fn a_whole_answer_is_the_value() {
    assert_eq!(value("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nvalue", Then::Stall).await, b"value");
    assert_eq!(value("HTTP/1.0 200 OK\r\ncontent-length: 5\r\n\r\nvalue", Then::Close).await, b"value");
    assert_eq!(value("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Then::Stall).await, b"");
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nval\r\n2\r\nue\r\n0\r\n\r\n";
    assert_eq!(value(chunked, Then::Stall).await, b"value");
    let gzip = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 3\r\n\r\nraw";
    assert_eq!(value(gzip, Then::Stall).await, b"raw", "what was sent is what is stored");
}

#[tokio::test]
async fn a_slow_answer_that_keeps_coming_is_no_stall() {
    let started = Instant::now();
    let dripped = value("HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n", Then::Drip(8)).await;
    assert_eq!(dripped, b"xxxxxxxx");
    assert!(started.elapsed() > STALL);
}

#[tokio::test]
async fn the_request_names_the_key_below_the_prefix_and_asks_for_no_encoding() {
    let origin = Origin::new("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Then::Close).await;
    origin.load().await.expect("a value");
    let head = origin.last.lock().unwrap().clone();
    assert!(head.starts_with("GET /prefix/a%20key HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("accept-encoding: identity\r\n"), "{head}");
}

#[tokio::test]
async fn only_404_and_410_mean_that_there_is_no_such_key() {
    for status in ["404 Not Found", "410 Gone"] {
        let origin =
            Origin::new(format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nno"), Then::Close).await;
        assert!(matches!(origin.load().await, Err(OriginError::NotFound)), "{status}");
    }
    for (status, words) in [
        ("500 Oops", "the origin answered 500 Internal Server Error"),
        ("503 x", "the origin answered 503 Service Unavailable"),
        ("403 x", "the origin answered 403 Forbidden"),
        ("204 x", "the origin answered 204 No Content"),
        ("206 x", "the origin answered 206 Partial Content"),
        ("304 x", "the origin answered 304 Not Modified"),
        ("302 x", "the origin answered 302 Found: redirects are not followed"),
    ] {
        let answer =
            format!("HTTP/1.1 {status}\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(fault(&answer, Then::Close).await.to_string(), words);
    }
}

#[tokio::test]
async fn a_short_body_is_never_taken_for_the_value() {
    let announced = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nvalue";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nvalue\r\n";
    let in_chunk = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\nvalue";
    for answer in [announced, chunked, in_chunk] {
        for then in [Then::Close, Then::Reset] {
            let fault = fault(answer, then).await;
            assert!(matches!(fault, Fault::BrokenOff { .. }), "{answer:?}: {fault:?}");
        }
        let fault = fault(answer, Then::Stall).await;
        assert!(matches!(fault, Fault::Stalled { read: 5, .. }), "{answer:?}: {fault:?}");
    }
}

#[tokio::test]
async fn an_answer_that_does_not_say_where_it_ends_is_not_taken() {
    for answer in [
        "HTTP/1.0 200 OK\r\n\r\nvalue",
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nvalue",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nvalue",
    ] {
        let fault = fault(answer, Then::Close).await;
        assert!(matches!(fault, Fault::Unbounded | Fault::NoAnswer(_)), "{answer:?}: {fault:?}");
    }
}

#[tokio::test]
async fn lies_and_noise_are_failures() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nvalue!",
        "HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\nvalue",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nvalue",
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-len",
        "",
    ] {
        let fault = fault(answer, Then::Close).await;
        assert!(matches!(fault, Fault::NoAnswer(_)), "{answer:?}: {fault:?}");
    }
    let bad_chunk = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nvalue\r\n0\r\n\r\n";
    assert!(matches!(fault(bad_chunk, Then::Close).await, Fault::BrokenOff { .. }));
}

#[tokio::test]
async fn an_origin_that_says_nothing_is_given_up_after_the_stall_limit() {
    let started = Instant::now();
    let fault = fault("", Then::Stall).await;
    assert!(matches!(fault, Fault::Silent(STALL)), "{fault:?}");
    assert!(started.elapsed() >= STALL && started.elapsed() < STALL * 10);
}

#[tokio::test]
async fn an_origin_that_cannot_be_reached_is_a_failure_with_its_cause() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let prefix = Url::parse(&format!("http://user:secret@127.0.0.1:{port}/")).unwrap();
    let error =
        Web::new(client(STALL).unwrap(), prefix, LIMIT, STALL).load("key").await.expect_err("nobody there");
    let OriginError::Failed(fault) = error else { panic!("{error:?}") };
    let words = crate::report::chain(&*fault);
    assert!(words.contains("refused"), "{words}");
    assert!(!words.contains("secret"), "{words}");
}

#[tokio::test]
async fn a_value_over_the_limit_is_given_up_where_the_limit_is() {
    let announced = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", LIMIT + 1);
    let origin = Origin::new(announced, Then::Stall).await;
    assert!(matches!(origin.load().await, Err(OriginError::TooLarge(LIMIT))), "without reading it");

    let mut endless = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..20 {
        endless.extend_from_slice(b"10000\r\n");
        endless.resize(endless.len() + 0x1_0000, b'x');
        endless.extend_from_slice(b"\r\n");
    }
    let origin = Origin::new(endless, Then::Stall).await;
    assert!(matches!(origin.load().await, Err(OriginError::TooLarge(LIMIT))));

    let mut exact = format!("HTTP/1.1 200 OK\r\ncontent-length: {LIMIT}\r\n\r\n").into_bytes();
    exact.resize(exact.len() + LIMIT, b'x');
    let origin = Origin::new(exact, Then::Stall).await;
    assert_eq!(origin.load().await.expect("at the limit").len(), LIMIT);
}

#[tokio::test]
async fn bytes_behind_the_announced_length_never_reach_another_key() {
    let origin = Origin::new(
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nvalueHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n!",
        Then::Stall,
    )
    .await;
    for _ in 0..3 {
        assert_eq!(&*origin.load().await.expect("a value"), b"value");
    }
}

#[tokio::test]
async fn a_key_that_would_climb_out_is_refused_before_anything_is_sent() {
    let origin = Origin::new("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Then::Close).await;
    assert!(matches!(origin.web.load("../x").await, Err(OriginError::InvalidKey(_))));
    assert_eq!(origin.requests.load(Ordering::Relaxed), 0);
}
