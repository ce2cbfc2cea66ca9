//! A peer that speaks `groupcache.v1`, and says what a test wants it to say.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_std::net::{TcpListener, TcpStream};
use async_std::task::{sleep, spawn};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use groupcache_proto::v1::{Failure, FetchReply, FetchRequest, Item, item};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use prost::Message;
use smol_hyper::rt::FuturesIo;

use super::Cluster;

/// One step of an answer.
#[derive(Clone, Debug)]
pub(super) enum Say {
    /// These items, in one reply.
    Items(Vec<Item>),
    /// These bytes, where a message is expected.
    Bytes(Vec<u8>),
    /// Replies without items, for ever.
    Nothing,
    /// Not a word more, for ever.
    Hang,
    /// The end, in order.
    End,
}

/// What is said to a request for keys; the number counts such requests from 0.
type Script = dyn Fn(usize, &FetchRequest) -> Vec<Say> + Send + Sync;

/// A peer that answers who dials, and lies to who asks for keys. It lives as long as the process.
#[derive(Clone)]
pub(super) struct Liar {
    pub(super) addr: String,
    script: Arc<Script>,
    asked: Arc<Mutex<Vec<FetchRequest>>>,
    speaking: Arc<AtomicUsize>,
}

impl Liar {
    pub(super) async fn start(
        script: impl Fn(usize, &FetchRequest) -> Vec<Say> + Send + Sync + 'static,
    ) -> Self {
        let addr = Cluster::addrs(1).remove(0);
        let listener = TcpListener::bind(&addr).await.expect("a reserved port can be bound");
        let liar = Self { addr, script: Arc::new(script), asked: Arc::default(), speaking: Arc::default() };
        let host = liar.clone();
        spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                spawn(host.clone().serve(stream));
            }
        });
        liar
    }

    /// The requests for keys so far.
    pub(super) fn asked(&self) -> Vec<FetchRequest> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Answers that are still being given.
    pub(super) fn speaking(&self) -> usize {
        self.speaking.load(Ordering::SeqCst)
    }

    async fn serve(self, stream: TcpStream) {
        let service = service_fn(move |request| {
            let liar = self.clone();
            async move { Ok::<_, Infallible>(liar.answer(request).await) }
        });
        // It ends when who dialled has had enough.
        let _ended = http2::Builder::new(Executor).serve_connection(FuturesIo::new(stream), service).await;
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<UnsyncBoxBody<Bytes, Infallible>> {
        let is_fetch = request.uri().path().ends_with("/Fetch");
        let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
        let message = body.unwrap_or_default();
        let asked = FetchRequest::decode(message.get(5..).unwrap_or_default()).unwrap_or_default();
        let says = if !is_fetch || asked.keys.is_empty() {
            vec![Say::Items(Vec::new()), Say::End]
        } else {
            let number = {
                let mut before = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
                before.push(asked.clone());
                before.len() - 1
            };
            (self.script)(number, &asked)
        };
        let spoken = Speaking::new(&self.speaking);
        let frames = stream::iter(says).flat_map(frames_of).map(move |frame| {
            let _counted = &spoken;
            Ok(frame)
        });
        let mut response = Response::new(BodyExt::boxed_unsync(StreamBody::new(frames)));
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        response
    }
}

fn frames_of(say: Say) -> BoxStream<'static, Frame<Bytes>> {
    let empty = || message(&FetchReply::default());
    match say {
        Say::Items(items) => once(Frame::data(message(&FetchReply { items, fingerprint: None }))),
        Say::Bytes(bytes) => once(Frame::data(bytes.into())),
        Say::Nothing => stream::repeat(())
            .then(|()| sleep(Duration::from_millis(2)))
            .map(move |()| Frame::data(empty()))
            .boxed(),
        Say::Hang => stream::pending().boxed(),
        Say::End => {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            once(Frame::trailers(trailers))
        }
    }
}

fn once(frame: Frame<Bytes>) -> BoxStream<'static, Frame<Bytes>> {
    stream::iter([frame]).boxed()
}

/// A message as gRPC frames it: a zero, four bytes of length, and itself.
fn message(message: &impl Message) -> Bytes {
    let encoded = message.encode_to_vec();
    let length = u32::try_from(encoded.len()).expect("a short message");
    [&[0][..], &length.to_be_bytes(), &encoded].concat().into()
}

/// A value for the key at `index`, that lives for `ttl_ms`.
pub(super) fn item(index: u32, value: &str, ttl_ms: Option<u64>) -> Item {
    let result = Some(item::Result::Value(Bytes::copy_from_slice(value.as_bytes())));
    Item { index, ttl_ms, result, ..Item::default() }
}

/// A failure of `kind` for the key at `index`.
pub(super) fn failure(index: u32, kind: i32) -> Item {
    let failure = Failure { kind, message: String::new() };
    Item { index, result: Some(item::Result::Failure(failure)), ..Item::default() }
}

/// The key at `index`, as text.
pub(super) fn key_at(request: &FetchRequest, index: usize) -> String {
    String::from_utf8(request.keys[index].key.to_vec()).expect("the suite's keys are text")
}

/// Counts an answer while it is being given.
struct Speaking(Arc<AtomicUsize>);

impl Speaking {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Speaking {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Runs hyper's tasks on async-std.
#[derive(Clone, Copy)]
struct Executor;

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        drop(spawn(future));
    }
}
