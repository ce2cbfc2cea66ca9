//! Accepts peers and serves them.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_channel::mpsc;
use futures_util::future::{Either, Shared, select};
use futures_util::{FutureExt, StreamExt};
use groupcache_proto::groupcachepb::group_cache_server::{GroupCacheServer, SERVICE_NAME as SINGLE};
use groupcache_proto::v1::peer_server::{PeerServer as BatchedServer, SERVICE_NAME as BATCHED};
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use tonic::Status;
use tower_service::Service;

use super::authority::Tolerant;
use super::caller::Caller;
use super::deadline::within;
use super::handler::{Handler, PeerService};
use super::tasks::{Spawner, Tasks};
use super::{CONNECTION_WINDOW, FRAME, STREAM_WINDOW, TransportConfig};
use crate::hyper_rt::HyperTimer;
use crate::rt::{BoxFuture, Connection, Listener, Runtime};
use crate::secure::{self, Accepted, Security};
use crate::tokens::Access;
use groupcache_core::in_words;

/// How long accepting pauses after an error: with too many open files the next try fails as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often a silent peer is pinged, and how long it may take to answer. Slower than a client's: only memory is at stake here.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// A peer that cancels call after call is not an attacker.
const MAX_PENDING_RESETS: usize = 1024;

/// The peer side of a node. A clone is the same server.
#[derive(Clone)]
pub(crate) struct PeerServer {
    handler: Handler,
    single: GroupCacheServer<Handler>,
    batched: BatchedServer<Handler>,
    open: Arc<AtomicUsize>,
    securing: Arc<AtomicUsize>,
    cut: Arc<AtomicUsize>,
}

impl PeerServer {
    /// A server that answers with what `service` says.
    pub(crate) fn new(rt: Arc<dyn Runtime>, service: Arc<dyn PeerService>, config: TransportConfig) -> Self {
        let handler = Handler { rt, service, config: Arc::new(config), caller: None };
        let (single, batched) = services(&handler);
        let (open, securing, cut) = Default::default();
        Self { handler, single, batched, open, securing, cut }
    }

    /// The same server, for one connection whose calls are looked at.
    fn of(&self, caller: Caller) -> Self {
        let handler = Handler { caller: Some(Arc::new(caller)), ..self.handler.clone() };
        let (single, batched) = services(&handler);
        Self { handler, single, batched, ..self.clone() }
    }

    /// How many peers are connected.
    pub(crate) fn connections(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Serves until `shutdown` resolves. Then it accepts no more, tells every peer so, lets calls in flight finish for up to
    /// [`drain`](TransportConfig::drain), and cuts off the rest: the result is how many connections were.
    pub(crate) async fn serve(
        &self,
        listener: Box<dyn Listener>,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> usize {
        let shutdown = shutdown.boxed().shared();
        let (alive, mut all_gone) = mpsc::channel::<Infallible>(0);
        self.accept(listener, &shutdown, alive).await;
        // Every connection bounds its own drain; resolves when the last one's task is gone.
        all_gone.next().await;
        self.cut.swap(0, Ordering::Relaxed)
    }

    async fn accept(
        &self,
        mut listener: Box<dyn Listener>,
        shutdown: &Shared<BoxFuture<'static, ()>>,
        alive: mpsc::Sender<Infallible>,
    ) {
        loop {
            match select(shutdown.clone(), pin!(listener.accept())).await {
                Either::Left(((), _)) => return,
                Either::Right((Ok((io, from)), _)) => {
                    let (server, shutdown, alive) = (self.clone(), shutdown.clone(), alive.clone());
                    let counted = Counted::new(&self.open);
                    self.handler.rt.spawn(Box::pin(async move {
                        if let Some(accepted) = server.secured(io, from, shutdown.clone()).await {
                            server.connection(accepted, from, shutdown).await;
                        }
                        drop((counted, alive));
                    }));
                }
                Either::Right((Err(error), _)) => {
                    self.pause(&error, shutdown).await;
                }
            }
        }
    }

    async fn pause(&self, error: &io::Error, shutdown: &Shared<BoxFuture<'static, ()>>) {
        tracing::warn!(%error, "cannot accept a peer");
        select(shutdown.clone(), self.handler.rt.sleep(ACCEPT_PAUSE)).await;
    }

    /// The connection, secured; `None` when it was refused, took too long about it, or came too late.
    async fn secured(
        &self,
        io: Box<dyn Connection>,
        from: SocketAddr,
        shutdown: Shared<BoxFuture<'static, ()>>,
    ) -> Option<Accepted> {
        let Some(security) = &self.handler.config.security else { return Some(io.into()) };
        let securing = Counted::new(&self.securing);
        if securing.others() >= self.handler.config.max_handshakes {
            // No warning: whoever fills the node with connections would fill its log as well.
            tracing::debug!(%from, "refused a connection: too many others are being secured");
            return None;
        }
        self.secured_by(security, io, from, shutdown).await
    }

    async fn secured_by(
        &self,
        security: &Arc<dyn Security>,
        io: Box<dyn Connection>,
        from: SocketAddr,
        shutdown: Shared<BoxFuture<'static, ()>>,
    ) -> Option<Accepted> {
        let limit = self.handler.config.handshake_timeout;
        let securing = within(&*self.handler.rt, limit, secure::accept(security, io));
        match select(shutdown, pin!(securing)).await {
            Either::Left(((), _)) => None,
            Either::Right((Some(Ok(accepted)), _)) => Some(accepted),
            Either::Right((Some(Err(error)), _)) => {
                tracing::warn!(%from, error = %in_words(&error), "refused a connection");
                None
            }
            Either::Right((None, _)) => {
                tracing::warn!(%from, ?limit, "whoever connected did not agree on security in time");
                None
            }
        }
    }

    async fn connection(
        &self,
        Accepted { io, identity }: Accepted,
        from: SocketAddr,
        shutdown: Shared<BoxFuture<'static, ()>>,
    ) {
        let (spawner, mut tasks) = Tasks::new();
        let server = if identity.is_some() || self.handler.config.tokens.is_some() {
            self.of(Caller::new(from, identity))
        } else {
            self.clone()
        };
        let service = service_fn(move |request| server.route(request));
        let io = tasks.corked(Tolerant::new(io));
        let mut connection = pin!(self.http2(spawner).serve_connection(io, service));

        if let Some(age) = self.handler.config.max_age {
            // Whatever ends first: what comes next sees it again, but for the age.
            let aged = select(shutdown.clone(), self.handler.rt.sleep(age));
            if let Either::Right(_) = select(tasks.drive(connection.as_mut()), aged).await {
                connection.as_mut().graceful_shutdown();
            } else {
                return;
            }
        }
        let result = match select(tasks.drive(connection.as_mut()), shutdown).await {
            Either::Left((result, _)) => Some(result),
            Either::Right(_) => {
                connection.as_mut().graceful_shutdown();
                within(&*self.handler.rt, self.handler.config.drain, tasks.drive(connection)).await
            }
        };
        match result {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "a peer's connection ended")
            }
            None => {
                self.cut.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn http2(&self, spawner: Spawner) -> http2::Builder<Spawner> {
        let mut builder = http2::Builder::new(spawner);
        builder
            .timer(HyperTimer::new(Arc::clone(&self.handler.rt)))
            .max_frame_size(FRAME)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(self.handler.config.max_streams.get())
            // gRPC has no use for it.
            .auto_date_header(false)
            .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT);
        builder
    }

    /// Hands a call to its service.
    fn route(
        &self,
        request: Request<Incoming>,
    ) -> BoxFuture<'static, Result<Response<tonic::body::Body>, Infallible>> {
        let mut segments = request.uri().path().split('/').skip(1);
        let name = segments.next();
        let access = if segments.next() == Some("Invalidate") { Access::Write } else { Access::Read };
        if let Err(status) = self.handler.admit(access, request.headers()) {
            return Box::pin(async move { Ok(status.into_http()) });
        }
        match name {
            Some(SINGLE) => self.single.clone().call(request),
            Some(BATCHED) => self.batched.clone().call(request),
            name => {
                let status = Status::unimplemented(format!("unknown service {}", name.unwrap_or_default()));
                Box::pin(async move { Ok(status.into_http()) })
            }
        }
    }
}

fn services(handler: &Handler) -> (GroupCacheServer<Handler>, BatchedServer<Handler>) {
    let max = handler.config.max_message;
    let single = GroupCacheServer::new(handler.clone());
    let batched = BatchedServer::new(handler.clone());
    (
        single.max_decoding_message_size(max).max_encoding_message_size(max),
        batched.max_decoding_message_size(max).max_encoding_message_size(max),
    )
}

/// One open connection, counted while it lives.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(open))
    }

    /// How many there are beside this one.
    fn others(&self) -> usize {
        self.0.load(Ordering::Relaxed).saturating_sub(1)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
