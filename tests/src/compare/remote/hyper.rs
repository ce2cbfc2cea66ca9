//! Floors of HTTP/2: hyper at both ends of one connection with `TCP_NODELAY`, messages by prost, and nothing else. No cache, no errors, no deadlines.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::future::BoxFuture;
use groupcache_proto::groupcachepb::{GetRequest, GetResponse};
use groupcache_proto::v1::{FetchReply, FetchRequest, Item, item};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use smol_hyper::rt::FuturesIo;

use super::drive::Asker;
use crate::compare::host::Host;

/// hyper's tasks on async-std. (tokio's executor comes with hyper-util.)
#[derive(Clone, Copy, Debug)]
struct OnAsyncStd;

impl<F: Future<Output: Send> + Send + 'static> hyper::rt::Executor<F> for OnAsyncStd {
    fn execute(&self, task: F) {
        drop(async_std::task::spawn(task));
    }
}

/// Frames large enough for the values that are measured, as the feasibility study found best; windows likewise.
const FRAME: u32 = 1 << 20;
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

/// One connection. A clone shares it.
#[derive(Clone)]
pub(super) struct Client {
    http: SendRequest<Full<Bytes>>,
    uri: Arc<str>,
    batched: bool,
}

impl Client {
    pub(super) async fn connect(host: Host, addr: &str, batched: bool) -> Self {
        macro_rules! handshake {
            ($executor:expr, $io:expr) => {{
                let (http, connection) = hyper::client::conn::http2::Builder::new($executor)
                    .max_frame_size(FRAME)
                    .initial_stream_window_size(STREAM_WINDOW)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .handshake($io)
                    .await
                    .expect("HTTP/2 begins");
                drop(host.spawn(connection));
                http
            }};
        }
        let http = match host {
            Host::Tokio => {
                let stream = tokio::net::TcpStream::connect(addr).await.expect("the server listens");
                stream.set_nodelay(true).expect("an open socket");
                handshake!(TokioExecutor::new(), TokioIo::new(stream))
            }
            Host::AsyncStd => {
                let stream = async_std::net::TcpStream::connect(addr).await.expect("the server listens");
                stream.set_nodelay(true).expect("an open socket");
                handshake!(OnAsyncStd, FuturesIo::new(stream))
            }
        };
        Self { http, uri: format!("http://{addr}/floor").into(), batched }
    }

    async fn call(&self, message: Bytes) -> Bytes {
        let request = Request::post(&*self.uri).body(Full::new(message)).expect("a request");
        let answer = self.http.clone().send_request(request).await.expect("the server answers");
        answer.into_body().collect().await.expect("a whole answer").to_bytes()
    }
}

impl Asker for Client {
    async fn ask(&self, keys: &[String]) {
        if self.batched {
            let mut request = FetchRequest::new(0);
            for key in keys {
                request.push("group", Bytes::copy_from_slice(key.as_bytes()), None);
            }
            let answer = self.call(framed(&request)).await;
            let reply = FetchReply::decode(answer.slice(5..)).expect("a reply");
            assert_eq!(reply.items.len(), keys.len());
        } else {
            let request = GetRequest { group: "group".to_owned(), key: keys[0].clone() };
            let answer = self.call(framed(&request)).await;
            GetResponse::decode(answer.slice(5..)).expect("a response");
        }
    }
}

/// `message` as gRPC frames it.
fn framed(message: &impl Message) -> Bytes {
    let len = message.encoded_len();
    let mut frame = BytesMut::with_capacity(5 + len);
    frame.put_u8(0);
    frame.put_u32(len as u32);
    message.encode(&mut frame).expect("a buffer that grows");
    frame.freeze()
}

/// Answers every key with the same `value`, for ever. `listening` is told where.
pub(super) async fn serve(host: Host, value: Bytes, batched: bool, listening: impl FnOnce(String)) {
    let answer = move |request: Request<Incoming>| -> BoxFuture<'static, _> {
        let value = value.clone();
        Box::pin(async move {
            let message = request.into_body().collect().await.expect("a whole request").to_bytes();
            let answer = if batched { many(message, value) } else { one(message, value) };
            Ok::<_, Infallible>(Response::new(Full::new(answer)))
        })
    };
    macro_rules! serve {
        ($executor:expr, $io:expr) => {{
            let answer = answer.clone();
            drop(host.spawn(async move {
                let mut server = hyper::server::conn::http2::Builder::new($executor);
                server
                    .max_frame_size(FRAME)
                    .initial_stream_window_size(STREAM_WINDOW)
                    .initial_connection_window_size(CONNECTION_WINDOW)
                    .max_concurrent_streams(4096);
                // Ends with the client.
                let _ = server.serve_connection($io, service_fn(answer)).await;
            }))
        }};
    }
    match host {
        Host::Tokio => {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            listening(listener.local_addr().expect("it listens").to_string());
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("an open socket");
                serve!(TokioExecutor::new(), TokioIo::new(stream));
            }
        }
        Host::AsyncStd => {
            let listener = async_std::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            listening(listener.local_addr().expect("it listens").to_string());
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).expect("an open socket");
                serve!(OnAsyncStd, FuturesIo::new(stream));
            }
        }
    }
}

fn one(message: Bytes, value: Bytes) -> Bytes {
    GetRequest::decode(message.slice(5..)).expect("a request");
    framed(&GetResponse { value })
}

fn many(message: Bytes, value: Bytes) -> Bytes {
    let request = FetchRequest::decode(message.slice(5..)).expect("a request");
    let item = |index| Item { index, result: Some(item::Result::Value(value.clone())), ..Item::default() };
    framed(&FetchReply { items: (0..request.keys.len() as u32).map(item).collect(), fingerprint: None })
}
