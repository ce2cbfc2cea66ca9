//! Peers that hang, lie, refuse, or speak something else.

use std::convert::Infallible;

use bytes::Bytes;
use groupcache_proto::groupcachepb::GetRequest;
use groupcache_proto::groupcachepb::group_cache_client::GroupCacheClient;
use groupcache_proto::groupcachepb::group_cache_server::GroupCacheServer;
use groupcache_proto::v1::peer_client::PeerClient;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tower_service::Service;

use super::*;
use crate::transport::body::Http2;
use crate::transport::handler::Handler;

pub(super) async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let addr = listener.local_addr().expect("it listens").to_string();
    (listener, addr)
}

/// A connection's calls without any local time limit.
pub(super) async fn raw(addr: &str) -> Http2 {
    let stream = TcpStream::connect(addr).await.expect("it listens");
    let (http, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("HTTP/2");
    tokio::spawn(connection);
    Http2::new(http, None, None)
}

#[tokio::test]
async fn the_server_keeps_the_time_that_the_caller_set() {
    let node = node().await;
    let http = raw(&node.addr).await;
    let origin: http::Uri = format!("http://{}", node.addr).parse().expect("an address");
    let limit = Duration::from_millis(50);

    let mut single = GroupCacheClient::with_origin(http.clone(), origin.clone());
    let mut request = tonic::Request::new(GetRequest { group: "g".to_owned(), key: "hang".to_owned() });
    request.set_timeout(limit);
    let status = tokio::time::timeout(SOON, single.get(request)).await.expect("in time").expect_err("late");
    assert_eq!(status.code(), Code::DeadlineExceeded);

    let mut batched = PeerClient::with_origin(http, origin);
    let mut request = tonic::Request::new(batch(&["hang", "hit", "hang"]));
    request.set_timeout(limit);
    let mut replies = batched.fetch(request).await.expect("a stream").into_inner();
    assert_eq!(words(replies.message().await.expect("a reply").expect("the first")).len(), 1);
    let late = tokio::time::timeout(SOON, replies.message()).await.expect("in time").expect("a reply");
    let wanted = [0, 2].map(|index| (index, "deadline passed".to_owned()));
    assert_eq!(words(late.expect("the late ones")), wanted);
    assert!(replies.message().await.expect("an end in order").is_none());
    eventually(|| node.fake.dropped.load(Ordering::SeqCst) == 3).await;
}

#[tokio::test]
async fn a_malformed_timeout_is_refused() {
    let node = node().await;
    let origin: http::Uri = format!("http://{}", node.addr).parse().expect("an address");
    let mut single = GroupCacheClient::with_origin(raw(&node.addr).await, origin);
    let mut request = tonic::Request::new(GetRequest { group: "g".to_owned(), key: "hit".to_owned() });
    request.metadata_mut().insert("grpc-timeout", "soon".parse().expect("ASCII"));
    assert_eq!(single.get(request).await.expect_err("refused").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_client_keeps_its_own_time() {
    let node = node().await;
    let peer = node.connect().await;
    let start = Instant::now();
    // The server answers at the same limit: either may be first.
    match peer.get_one("g", b"hang", Duration::from_millis(50)).await.expect_err("nothing comes") {
        PeerFault::Unreachable(cause) => assert_eq!(cause.to_string(), "no answer in 50ms"),
        PeerFault::Status(failure) => assert_eq!(failure.kind, FailureKind::Deadline),
        PeerFault::Unimplemented => panic!("it is implemented"),
    }
    assert!(start.elapsed() < SOON);
}

#[tokio::test]
async fn nobody_listens() {
    let (listener, addr) = listener().await;
    drop(listener);
    match PeerChannel::connect(&rt(), &addr, "", &config()).await {
        Err(TransportError::Connect { source, .. }) => {
            assert_eq!(source.kind(), std::io::ErrorKind::ConnectionRefused);
        }
        other => panic!("{other:?}"),
    }
    for addr in ["no address", "", "host:port:more", "127.0.0.1"] {
        assert!(PeerChannel::connect(&rt(), addr, "", &config()).await.is_err(), "{addr:?}");
    }
}

#[tokio::test]
async fn what_is_no_peer_is_not_connected() {
    for garbage in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b"", &[0xff; 64], b"SSH-2.0-OpenSSH_9.2\r\n"] {
        let (listener, addr) = listener().await;
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(garbage).await;
            }
        });
        match PeerChannel::connect(&rt(), &addr, "", &config()).await {
            Err(TransportError::NotAPeer { .. } | TransportError::Handshake { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
}

type AnyBody = BoxBody<Bytes, std::io::Error>;

/// An HTTP/2 server that answers with `answer`.
async fn http2<F>(answer: F) -> String
where
    F: Fn(Request<Incoming>) -> Response<AnyBody> + Clone + Send + 'static,
{
    let (listener, addr) = listener().await;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = hyper::service::service_fn(move |request| {
                std::future::ready(Ok::<_, Infallible>(answer(request)))
            });
            let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::spawn(connection);
        }
    });
    addr
}

fn body(frames: Vec<Result<Frame<Bytes>, std::io::Error>>) -> AnyBody {
    BodyExt::boxed(StreamBody::new(futures_util::stream::iter(frames)))
}

fn grpc(body: AnyBody) -> Response<AnyBody> {
    let mut response = Response::new(body);
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

/// An answer without a message.
fn trailers(pairs: &[(&'static str, &'static [u8])]) -> Response<AnyBody> {
    let mut trailers = HeaderMap::new();
    for (name, value) in pairs {
        trailers.insert(HeaderName::from_static(name), HeaderValue::from_bytes(value).expect("a header"));
    }
    grpc(body(vec![Ok(Frame::trailers(trailers))]))
}

#[tokio::test]
async fn a_web_server_is_no_peer() {
    let page = http2(|_| Response::new(body(vec![Ok(Frame::data(Bytes::from_static(b"<html>")))]))).await;
    let gone = http2(|_| {
        let full = Full::new(Bytes::new()).map_err(|never| match never {}).boxed();
        Response::builder().status(404).body(full).expect("a response")
    })
    .await;
    for addr in [page, gone] {
        match PeerChannel::connect(&rt(), &addr, "", &config()).await {
            Err(TransportError::NotAPeer { source, .. }) => {
                assert!(groupcache_proto::causes(&*source).contains("HTTP status"), "{source:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A peer that knows only `Get`, and answers it so.
async fn single_peer(get: fn() -> Response<AnyBody>) -> PeerChannel {
    let addr = http2(move |request| match request.uri().path() {
        "/groupcachepb.GroupCache/Get" => get(),
        _ => trailers(&[("grpc-status", b"12")]),
    })
    .await;
    PeerChannel::connect(&rt(), &addr, "", &config()).await.expect("it speaks gRPC")
}

#[tokio::test]
async fn statuses_of_other_makes_are_understood() {
    let peer =
        single_peer(|| trailers(&[("grpc-status", b"2"), ("grpc-message", b"record%20not%20found")])).await;
    assert_eq!(peer.protocol(), Protocol::Single);
    match peer.get_one("g", b"k", SOON).await.expect_err("a status") {
        PeerFault::Status(failure) => {
            assert_eq!(failure.kind, FailureKind::OriginFailed);
            assert_eq!(groupcache_proto::causes(&failure), "record not found");
        }
        other => panic!("{other:?}"),
    }
    let peer = single_peer(|| trailers(&[("grpc-status", b"12")])).await;
    assert!(matches!(peer.get_one("g", b"k", SOON).await, Err(PeerFault::Unimplemented)));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_taken_for_the_origins_error() {
    // A gRPC message that promises five bytes, and two of them.
    let cut: fn() -> Response<AnyBody> =
        || grpc(body(vec![Ok(Frame::data(Bytes::from_static(b"\0\0\0\0\x05ab")))]));
    let silent: fn() -> Response<AnyBody> = || grpc(body(vec![]));
    let whole_without_status: fn() -> Response<AnyBody> =
        || grpc(body(vec![Ok(Frame::data(Bytes::from_static(b"\0\0\0\0\x03\x0a\x01v")))]));
    for answer in [cut, silent, whole_without_status] {
        let peer = single_peer(answer).await;
        assert!(
            cause(peer.get_one("g", b"k", SOON).await.expect_err("no status came")).contains("broke off")
        );
    }
    let reset: fn() -> Response<AnyBody> =
        || grpc(body(vec![Err(std::io::Error::other("the origin is gone"))]));
    let peer = single_peer(reset).await;
    assert!(matches!(peer.get_one("g", b"k", SOON).await, Err(PeerFault::Unreachable(_))));
}

#[tokio::test]
async fn garbage_in_trailers_and_messages_never_panics() {
    let peer =
        single_peer(|| trailers(&[("grpc-status", b"2"), ("grpc-status-details-bin", b"!not base64!")]))
            .await;
    assert!(peer.get_one("g", b"k", SOON).await.is_err());
    let peer = single_peer(|| trailers(&[("grpc-status", b"what"), ("grpc-message", b"%ff%fe%zz")])).await;
    assert!(peer.get_one("g", b"k", SOON).await.is_err());
    let garbage: [fn() -> Response<AnyBody>; 3] = [
        || grpc(body(vec![Ok(Frame::data(Bytes::from_static(&[0xff; 40])))])),
        || grpc(body(vec![Ok(Frame::data(Bytes::from_static(b"\0\xff\xff\xff\xffabc")))])),
        || grpc(body(vec![Ok(Frame::data(Bytes::from_static(b"\0\0\0\0\x03\xff\xff\xff")))])),
    ];
    for answer in garbage {
        let peer = single_peer(answer).await;
        assert!(peer.get_one("g", b"k", SOON).await.is_err());
    }
}

/// A node that knows only `groupcachepb.GroupCache`, as those of the Go system, and counts what else it is asked.
pub(super) async fn single_node() -> (String, Arc<Fake>, Arc<AtomicUsize>) {
    let (fake, unknown) = (Arc::new(Fake::default()), Arc::new(AtomicUsize::new(0)));
    let (service, counted) = (fake.clone(), unknown.clone());
    let (listener, addr) = listener().await;
    tokio::spawn(async move {
        let handler = Handler { rt: rt(), service, config: Arc::new(config()), caller: None };
        while let Ok((stream, _)) = listener.accept().await {
            let (single, counted) = (GroupCacheServer::new(handler.clone()), counted.clone());
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let (mut single, counted) = (single.clone(), counted.clone());
                async move {
                    if request.uri().path().starts_with("/groupcachepb.GroupCache/") {
                        return single.call(request).await;
                    }
                    counted.fetch_add(1, Ordering::SeqCst);
                    Ok::<Response<tonic::body::Body>, Infallible>(
                        Status::unimplemented("unknown service").into_http(),
                    )
                }
            });
            tokio::spawn(
                hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (addr, fake, unknown)
}

#[tokio::test]
async fn a_peer_without_our_service_is_spoken_to_with_get() {
    let (addr, ..) = single_node().await;
    let peer = PeerChannel::connect(&rt(), &addr, "", &config()).await.expect("it answers");
    assert_eq!(peer.protocol(), Protocol::Single);
    assert_eq!(&peer.get_one("g", b"hit", SOON).await.expect("a value")[..], b"hit");
    assert!(matches!(peer.fetch(batch(&["hit"]), SOON).next().await, Some(Err(PeerFault::Unimplemented))));
    assert!(matches!(peer.invalidate("g", None, SOON).await, Err(PeerFault::Unimplemented)));
}

#[tokio::test]
async fn an_unknown_service_or_method_is_unimplemented() {
    let node = node().await;
    let mut http = raw(&node.addr).await;
    for path in ["/other.Service/Get", "/groupcachepb.GroupCache/Set", "/groupcache.v1.Peer/Steal", "/", "/x"]
    {
        let request = Request::post(format!("http://{}{path}", node.addr))
            .header("content-type", "application/grpc")
            .body(tonic::body::Body::empty())
            .expect("a request");
        std::future::poll_fn(|cx| http.poll_ready(cx)).await.expect("it is connected");
        let response = http.call(request).await.expect("a gRPC answer");
        assert_eq!(
            response.headers().get("grpc-status").map(HeaderValue::as_bytes),
            Some(&b"12"[..]),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_server_outlives_connections_that_send_garbage() {
    let node = node().await;
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"",
        &[0; 100],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff",
    ] {
        let mut stream = TcpStream::connect(&node.addr).await.expect("it listens");
        stream.write_all(garbage).await.expect("it reads");
    }
    let peer = node.connect().await;
    assert_eq!(&peer.get_one("g", b"hit", SOON).await.expect("a value")[..], b"hit");
    eventually(|| node.server.connections() == 1).await;
}
