//! The connection to one peer.

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_channel::{mpsc, oneshot};
use futures_util::future::{Either, Shared, select};
use futures_util::{FutureExt, Stream, StreamExt};
use groupcache_core::{Cause, Failure, FailureKind, Protocol, Value};
use groupcache_proto::RemoteStatus;
use groupcache_proto::groupcachepb::GetRequest;
use groupcache_proto::groupcachepb::group_cache_client::GroupCacheClient;
use groupcache_proto::v1::peer_client::PeerClient;
use groupcache_proto::v1::{FetchReply, FetchRequest, InvalidateRequest, invalidate_request};
use http::Uri;
use hyper::client::conn::http2::{Builder, Connection as Http2Connection, SendRequest};
use tonic::{Code, Request, Response, Status, Streaming};

use super::body::Http2;
use super::cork::Corked;
use super::deadline::within;
use super::pulse::Pulse;
use super::tasks::{Spawner, Tasks};
use super::{CONNECTION_WINDOW, FRAME, PeerFault, STREAM_WINDOW, TransportConfig};
use crate::hyper_rt::HyperTimer;
use crate::rt::{BoxFuture, Connection, Runtime};
use crate::secure;
use crate::trace::TraceContext;

/// Why there is no connection to a peer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransportError {
    /// The address cannot be one.
    #[error("`{addr}` is not an address")]
    Address {
        /// The peer.
        addr: String,
        /// What is wrong with it.
        source: http::uri::InvalidUri,
    },
    /// The system could not connect.
    #[error("cannot connect to {addr}")]
    Connect {
        /// The peer.
        addr: String,
        /// What it says.
        source: io::Error,
    },
    /// Connecting, or the first answer, took too long.
    #[error("{addr} did not answer in {limit:?}")]
    Timeout {
        /// The peer.
        addr: String,
        /// The limit.
        limit: Duration,
    },
    /// The connection could not be secured.
    #[error("cannot secure the connection to {addr}")]
    Security {
        /// The peer.
        addr: String,
        /// Why not.
        source: io::Error,
    },
    /// HTTP/2 could not begin.
    #[error("cannot speak HTTP/2 with {addr}")]
    Handshake {
        /// The peer.
        addr: String,
        /// What hyper says.
        source: hyper::Error,
    },
    /// Something listens there, but it is not a peer.
    #[error("{addr} does not answer as a peer")]
    NotAPeer {
        /// The address.
        addr: String,
        /// What came in place of an answer.
        source: Cause,
    },
}

impl TransportError {
    /// Whether both ends are there and cannot agree (on security, or on a token), which no further dial will change: whoever runs the fleet has to. With `secured` connections a
    /// certificate that is not accepted may show only in place of the first answer, as TLS 1.3 has it.
    pub(crate) fn is_misconfiguration(&self, secured: bool) -> bool {
        match self {
            Self::Security { .. } => true,
            Self::NotAPeer { source, .. } if is_refusal(source) => true,
            Self::NotAPeer { .. } | Self::Handshake { .. } => secured,
            Self::Address { .. } | Self::Connect { .. } | Self::Timeout { .. } => false,
        }
    }
}

/// Whether a peer has answered that it does not let this node in.
fn is_refusal(cause: &Cause) -> bool {
    let status = cause.downcast_ref::<RemoteStatus>().map(RemoteStatus::code);
    matches!(status, Some(Code::Unauthenticated | Code::PermissionDenied))
}

/// The peer did not answer within the time that the caller gave it.
#[derive(Debug, thiserror::Error)]
#[error("no answer in {0:?}")]
struct NoAnswer(Duration);

/// The connection is gone.
#[derive(Debug, thiserror::Error)]
#[error("the peer closed the connection")]
struct ClosedByPeer;

/// A connection to one peer. A clone is the same connection; the last one to go closes it, after the calls that are in flight.
///
/// It does not redial: when [`closed`](Self::closed) resolves, whoever owns it connects anew. Calls in flight go on until [`gone`](Self::gone) resolves.
#[derive(Clone)]
pub(crate) struct PeerChannel {
    rt: Arc<dyn Runtime>,
    spawner: Spawner,
    http: SendRequest<tonic::body::Body>,
    peer: PeerClient<Http2>,
    single: GroupCacheClient<Http2>,
    protocol: Protocol,
    /// Where the peer is not pinged.
    pulse: Option<Arc<Pulse>>,
    closed: Shared<BoxFuture<'static, Closed>>,
    gone: Shared<BoxFuture<'static, ()>>,
    /// Keeps `gone` from resolving.
    _alive: mpsc::Sender<Infallible>,
}

/// Why a connection takes no more calls.
#[derive(Clone, Debug)]
pub(crate) struct Closed {
    pub(crate) cause: Cause,
    /// Whether the peer said so itself: it is about to stop, and answers what is in flight.
    pub(crate) in_order: bool,
}

impl PeerChannel {
    /// Connects to `addr` (`host:port`) as the member `from` (may be empty), and asks for no keys, once: a peer that accepts and then says nothing is not connected, and the answer
    /// shows which [`protocol`](Self::protocol) the peer speaks.
    ///
    /// Whether a connection pings its peer is settled before the first byte, and what the peer speaks is known behind the first answer. So who turns out
    /// not to be one of ours is dialled once more, by a connection that does not ping.
    ///
    /// # Errors
    /// There is no peer that answers within `connect_timeout`.
    pub(crate) async fn connect(
        rt: &Arc<dyn Runtime>,
        addr: &str,
        from: &str,
        config: &TransportConfig,
    ) -> Result<Self, TransportError> {
        let limit = config.connect_timeout;
        let connecting = async {
            let mut protocol = Protocol::Batched;
            loop {
                let channel = Self::dial(rt, addr, protocol, config).await?;
                // The limit around all of this strikes first.
                let shown = match channel.probe(from, limit.saturating_mul(2)).await {
                    Ok(shown) => shown,
                    Err(seen) => {
                        let source = channel.cause_behind(seen).await;
                        return Err(TransportError::NotAPeer { addr: addr.to_owned(), source });
                    }
                };
                if shown == protocol {
                    return Ok(channel);
                }
                protocol = shown;
            }
        };
        let connected = within(&**rt, limit, connecting).await;
        connected.unwrap_or_else(|| Err(TransportError::Timeout { addr: addr.to_owned(), limit }))
    }

    async fn dial(
        rt: &Arc<dyn Runtime>,
        addr: &str,
        protocol: Protocol,
        config: &TransportConfig,
    ) -> Result<Self, TransportError> {
        let scheme = if config.security.is_some() { "https" } else { "http" };
        let origin: Uri = format!("{scheme}://{addr}")
            .parse()
            .map_err(|source| TransportError::Address { addr: addr.to_owned(), source })?;
        let io = rt
            .connect(addr)
            .await
            .map_err(|source| TransportError::Connect { addr: addr.to_owned(), source })?;
        let io = secure::connect(config.security.as_ref(), addr, io)
            .await
            .map_err(|source| TransportError::Security { addr: addr.to_owned(), source })?;

        let (spawner, tasks) = Tasks::new();
        let (http, connection) = http2(rt, spawner.clone(), protocol, config)
            .handshake(tasks.corked(io))
            .await
            .map_err(|source| TransportError::Handshake { addr: addr.to_owned(), source })?;
        let (cut, cut_off) = oneshot::channel();
        let (closing, closed) = oneshot::channel();
        let (alive, mut all_gone) = mpsc::channel::<Infallible>(0);
        rt.spawn(Box::pin(run(connection, tasks, cut_off, (closing, alive.clone()))));

        let pulse = (protocol == Protocol::Single).then(|| Pulse::new(config, cut));
        let calls = Http2::new(http.clone(), pulse.clone(), config.tokens.clone());
        Ok(Self {
            rt: Arc::clone(rt),
            spawner,
            http,
            peer: PeerClient::with_origin(calls.clone(), origin.clone())
                .max_decoding_message_size(config.max_message)
                .max_encoding_message_size(config.max_message),
            single: GroupCacheClient::with_origin(calls, origin)
                .max_decoding_message_size(config.max_message)
                .max_encoding_message_size(config.max_message),
            protocol,
            pulse,
            closed: async { closed.await.unwrap_or_else(|_| Closed::broken(Arc::new(ClosedByPeer))) }
                .boxed()
                .shared(),
            gone: async move { while all_gone.next().await.is_some() {} }.boxed().shared(),
            _alive: alive,
        })
    }

    async fn probe(&self, from: &str, limit: Duration) -> Result<Protocol, Cause> {
        let mut replies =
            self.fetch(FetchRequest { from: from.to_owned(), ..FetchRequest::default() }, limit);
        match replies.next().await {
            None | Some(Ok(_)) => Ok(Protocol::Batched),
            Some(Err(PeerFault::Unimplemented)) => Ok(Protocol::Single),
            Some(Err(PeerFault::Unreachable(cause))) => Err(cause),
            Some(Err(PeerFault::Status(failure))) => Err(Arc::new(failure)),
        }
    }

    /// What a call saw, or what ended the connection where that is why: the call itself is only told that it is cancelled.
    async fn cause_behind(&self, seen: Cause) -> Cause {
        if !self.is_closed() {
            return seen;
        }
        let end = self.closed().await.cause;
        if end.is::<hyper::Error>() { end } else { seen }
    }

    /// How the peer is to be spoken to, as it showed when the connection was made.
    pub(crate) const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Runs the caller's part of a call in the connection's own task, so that no other thread has to be woken for it. It should not take long between two
    /// awaits. `later` lets those who can run now run first. When the connection is gone it is dropped, wherever it is.
    pub(crate) fn spawn(&self, call: BoxFuture<'static, ()>, later: bool) {
        self.spawner.spawn(call, later);
    }

    /// Asks for many keys. Nothing is sent before the stream is polled; dropping it resets the call, and the peer stops working for it. A fault
    /// ends the stream. At `limit` the call ends as unreachable.
    pub(crate) fn fetch(&self, request: FetchRequest, limit: Duration) -> FetchReplies {
        FetchReplies { limit, timer: Some(self.rt.sleep(limit)), ..self.replies(timed(request, limit)) }
    }

    /// Like [`fetch`](Self::fetch), for a request each of whose keys says how long it is waited for: the call itself has no limit, which saves a
    /// timer and a header on both sides. It is over when the stream is dropped.
    pub(crate) fn fetch_each(&self, request: FetchRequest) -> FetchReplies {
        self.replies(Request::new(request))
    }

    fn replies(&self, request: Request<FetchRequest>) -> FetchReplies {
        let mut client = self.peer.clone();
        FetchReplies {
            state: State::Calling(Box::pin(
                async move { client.fetch(request).await.map(Response::into_inner) },
            )),
            timer: None,
            limit: Duration::MAX,
        }
    }

    /// Asks for one key with the Go system's call. The value is copied into an allocation of its own. `accepted` is called, once at most, when the peer
    /// shows that it lives and is at work. `trace` goes along.
    ///
    /// # Errors
    /// What the peer answers in place of a value, or why it does not answer. A key that is not UTF-8 cannot be asked for this way: invalid.
    pub(crate) async fn get(
        &self,
        group: &str,
        key: &[u8],
        (limit, trace): (Duration, Option<&TraceContext>),
        accepted: impl FnOnce(),
    ) -> Result<Value, PeerFault> {
        let Ok(key) = std::str::from_utf8(key) else {
            let why = "the peer takes only UTF-8 keys";
            return Err(PeerFault::Status(Failure::with_message(FailureKind::InvalidKey, why)));
        };
        let request = GetRequest { group: group.to_owned(), key: key.to_owned() };
        let mut request = timed(request, limit);
        if let Some(trace) = trace {
            trace.set_headers(request.metadata_mut().as_mut());
        }
        let mut client = self.single.clone();
        let call = client.get(request);
        let answer = match &self.pulse {
            None => self.call(limit, call).await,
            Some(pulse) => {
                let watched = pulse.watch(&self.rt, limit, || self.ask_for_nothing(), call, accepted);
                self.call(limit, watched).await
            }
        };
        Ok(Value::from(answer?.value))
    }

    /// The call that takes a ping's place.
    fn ask_for_nothing(&self) -> BoxFuture<'static, ()> {
        let mut client = self.peer.clone();
        Box::pin(async move {
            // Whatever comes is an answer.
            let _ = client.fetch(FetchRequest::default()).await;
        })
    }

    /// Tells the peer to forget a key, or with `None` every key of the group.
    ///
    /// # Errors
    /// The peer did not acknowledge.
    pub(crate) async fn invalidate(
        &self,
        group: &str,
        key: Option<&[u8]>,
        limit: Duration,
    ) -> Result<(), PeerFault> {
        let what = match key {
            Some(key) => invalidate_request::What::Key(Bytes::copy_from_slice(key)),
            None => invalidate_request::What::WholeGroup(true),
        };
        let request = InvalidateRequest { group: group.to_owned(), what: Some(what) };
        let mut client = self.peer.clone();
        self.call(limit, client.invalidate(timed(request, limit))).await.map(drop)
    }

    /// Whether calls are refused at once because the connection is gone, or going.
    pub(crate) fn is_closed(&self) -> bool {
        self.http.is_closed()
    }

    /// Resolves when the connection takes no more calls. What is in flight may still be answered, or was and is yet to be read: until
    /// [`gone`](Self::gone) resolves.
    pub(crate) fn closed(&self) -> impl Future<Output = Closed> + Send + use<> {
        self.closed.clone()
    }

    /// Resolves when the connection is gone, and so is the last handle to it: whoever waited for an answer has let go of its own.
    pub(crate) fn gone(&self) -> impl Future<Output = ()> + Send + use<> {
        self.gone.clone()
    }

    async fn call<T>(
        &self,
        limit: Duration,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, PeerFault> {
        match within(&*self.rt, limit, call).await {
            Some(Ok(answer)) => Ok(answer.into_inner()),
            Some(Err(status)) => Err(PeerFault::of_key(status)),
            None => Err(PeerFault::unreachable(NoAnswer(limit))),
        }
    }
}

impl fmt::Debug for PeerChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PeerChannel")
            .field("protocol", &self.protocol)
            .field("closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

/// `message`, with the limit told to the peer.
fn timed<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

fn http2(
    rt: &Arc<dyn Runtime>,
    spawner: Spawner,
    protocol: Protocol,
    config: &TransportConfig,
) -> Builder<Spawner> {
    let mut builder = Builder::new(spawner);
    builder
        .timer(HyperTimer::new(Arc::clone(rt)))
        .max_frame_size(FRAME)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval((protocol == Protocol::Batched).then_some(config.keep_alive_interval))
        .keep_alive_timeout(config.keep_alive_timeout)
        .keep_alive_while_idle(false);
    builder
}

type Http2Io = Http2Connection<Corked<Box<dyn Connection>>, tonic::body::Body, Spawner>;

impl Closed {
    const fn broken(cause: Cause) -> Self {
        Self { cause, in_order: false }
    }
}

/// Runs a connection: until it takes no more calls, which is told, and then until its last call is done.
///
/// hyper's connection resolves at the peer's GOAWAY; what it has spawned goes on with the calls in flight. When the connection broke, that ends at once.
async fn run(
    connection: Http2Io,
    mut tasks: Tasks,
    cut_off: oneshot::Receiver<Cause>,
    (closing, alive): (oneshot::Sender<Closed>, mpsc::Sender<Infallible>),
) {
    let cut_off = async {
        match cut_off.await {
            Ok(cause) => cause,
            // Nobody is left who could cut it off.
            Err(oneshot::Canceled) => pending().await,
        }
    };
    let mut cut_off = pin!(cut_off);
    let mut connection = Box::pin(connection);
    let ended = select(tasks.drive(connection.as_mut()), cut_off.as_mut()).await;
    let (closed, is_cut) = match ended {
        Either::Left((Ok(()), _)) => (Closed { cause: Arc::new(ClosedByPeer), in_order: true }, false),
        Either::Left((Err(error), _)) => (Closed::broken(Arc::new(error)), false),
        Either::Right((silent, _)) => (Closed::broken(silent), true),
    };
    // Its tasks end once it is gone.
    drop(connection);
    let _ = closing.send(closed); // Nobody has to wait for it.
    if is_cut || matches!(select(poll_fn(|cx| tasks.poll_idle(cx)), cut_off).await, Either::Right(_)) {
        tasks.cut();
        poll_fn(|cx| tasks.poll_idle(cx)).await;
    }
    drop(alive);
}

/// The replies of a [`fetch`](PeerChannel::fetch), as they come.
pub(crate) struct FetchReplies {
    state: State,
    timer: Option<BoxFuture<'static, ()>>,
    limit: Duration,
}

enum State {
    Calling(BoxFuture<'static, Result<Streaming<FetchReply>, Status>>),
    Reading(Box<Streaming<FetchReply>>),
    Done,
}

impl State {
    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<FetchReply, Status>>> {
        loop {
            match self {
                Self::Calling(call) => match call.poll_unpin(cx) {
                    Poll::Ready(Ok(replies)) => *self = Self::Reading(Box::new(replies)),
                    Poll::Ready(Err(status)) => return Poll::Ready(Some(Err(status))),
                    Poll::Pending => return Poll::Pending,
                },
                Self::Reading(replies) => return replies.poll_next_unpin(cx),
                Self::Done => return Poll::Ready(None),
            }
        }
    }
}

impl Stream for FetchReplies {
    type Item = Result<FetchReply, PeerFault>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = match self.state.poll_reply(cx) {
            Poll::Ready(Some(Ok(reply))) => return Poll::Ready(Some(Ok(reply))),
            Poll::Ready(Some(Err(status))) => Some(Err(PeerFault::of_batch(status))),
            Poll::Ready(None) => None,
            Poll::Pending => match self.timer.as_mut().map(|timer| timer.poll_unpin(cx)) {
                Some(Poll::Ready(())) => Some(Err(PeerFault::unreachable(NoAnswer(self.limit)))),
                Some(Poll::Pending) | None => return Poll::Pending,
            },
        };
        // Dropping the call resets its stream, where it is not over.
        self.state = State::Done;
        Poll::Ready(next)
    }
}

impl fmt::Debug for FetchReplies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FetchReplies").field("limit", &self.limit).finish_non_exhaustive()
    }
}
