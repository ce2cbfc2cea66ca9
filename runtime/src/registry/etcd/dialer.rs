//! A connection to etcd over any runtime, made anew when it breaks.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::FutureExt;
use futures_util::future::{Either, Shared, select};
use futures_util::lock::Mutex;
use http::uri::{PathAndQuery, Uri};
use hyper::client::conn::http2::{self, SendRequest};
use tonic::body::Body;
use tower_service::Service;

use super::endpoint::Endpoint;

use crate::hyper_rt::{HyperExecutor, HyperTimer};
use crate::registry::RegistryError;
use crate::rt::{BoxFuture, Runtime};
use crate::secure::{self, Security};
use groupcache_core::in_words;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Answers etcd-client's requests over one kept HTTP/2 connection. Clones share it.
#[derive(Clone)]
pub(super) struct Dialer {
    inner: Arc<Inner>,
}

struct Inner {
    runtime: Arc<dyn Runtime>,
    security: Option<Arc<dyn Security>>,
    endpoints: Vec<Endpoint>,
    timing: Timing,
    /// How many dials were begun: which endpoint is next. Counted before each, so that a dial that is given up is not repeated.
    dials: AtomicUsize,
    connection: Mutex<Option<Kept>>,
}

/// The connection that new calls take.
struct Kept {
    connected: Connected,
    /// Dropped with it.
    _held: oneshot::Sender<Infallible>,
    /// Resolves when new calls take it no more.
    turned_away: Shared<oneshot::Receiver<Infallible>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    pub(super) connect: Duration,
    pub(super) ping_interval: Duration,
    pub(super) ping_timeout: Duration,
}

type End = Shared<BoxFuture<'static, Option<Arc<hyper::Error>>>>;

#[derive(Clone)]
struct Connected {
    /// Its number among the dials.
    dial: usize,
    endpoint: Endpoint,
    sender: SendRequest<Body>,
    /// Why it ended, once it has.
    end: End,
}

/// Calls on a connection that breaks are told that they are cancelled. This is why.
#[derive(Debug, thiserror::Error)]
#[error("the connection to etcd broke")]
struct Broken(#[source] Arc<hyper::Error>);

impl Connected {
    async fn ask(&mut self, request: http::Request<Body>) -> Result<http::Response<Body>, BoxError> {
        match self.sender.send_request(request).await {
            Ok(response) => Ok(response.map(Body::new)),
            // The connection has ended, or this call would not be cancelled.
            Err(error) if error.is_canceled() => match self.end.clone().await {
                Some(why) => Err(Broken(why).into()),
                None => Err(error.into()),
            },
            Err(error) => Err(error.into()),
        }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("endpoints", &self.inner.endpoints).finish_non_exhaustive()
    }
}

impl Dialer {
    /// `endpoints` must not be empty.
    pub(super) fn new(
        runtime: Arc<dyn Runtime>,
        security: Option<Arc<dyn Security>>,
        endpoints: Vec<Endpoint>,
        timing: Timing,
    ) -> Self {
        let (dials, connection) = (AtomicUsize::new(0), Mutex::new(None));
        Self { inner: Arc::new(Inner { runtime, security, endpoints, timing, dials, connection }) }
    }

    /// How many dials were begun so far.
    pub(super) fn dials(&self) -> usize {
        self.inner.dials.load(Ordering::Relaxed)
    }

    /// Turns away from the connection, if it is one of the first `before`: the next call dials the next endpoint. Who follows a stream on it is told
    /// by [`turned_away`](Self::turned_away). Who failed on an old connection must not take a newer one from the others.
    pub(super) async fn forget(&self, before: usize) {
        let mut kept = self.inner.connection.lock().await;
        if kept.as_ref().is_some_and(|kept| kept.connected.dial < before) {
            *kept = None;
        }
    }

    /// Resolves when calls have turned away from the connection that is kept now: at once when there is none.
    pub(super) async fn turned_away(&self) -> BoxFuture<'static, ()> {
        let kept = self.inner.connection.lock().await;
        match kept.as_ref() {
            Some(kept) => kept.turned_away.clone().map(drop).boxed(),
            None => std::future::ready(()).boxed(),
        }
    }
}

impl Inner {
    /// The kept connection, or a new one to the first endpoint that answers. One caller dials at a time; the others wait for it.
    async fn connected(&self) -> Result<Connected, RegistryError> {
        let mut kept = self.connection.lock().await;
        if let Some(kept) = kept.as_ref().filter(|kept| !kept.connected.sender.is_closed()) {
            return Ok(kept.connected.clone());
        }
        *kept = None;
        let mut failed = None;
        for _ in &self.endpoints {
            let dial = self.dials.fetch_add(1, Ordering::Relaxed);
            let Some(endpoint) = self.endpoints.get(dial % self.endpoints.len()) else { break };
            match self.dial(dial, endpoint).await {
                Ok(connected) => {
                    let (held, turned_away) = oneshot::channel();
                    *kept = Some(Kept {
                        connected: connected.clone(),
                        _held: held,
                        turned_away: turned_away.shared(),
                    });
                    return Ok(connected);
                }
                Err(error) => failed = Some(error),
            }
        }
        Err(failed
            .unwrap_or(RegistryError::Endpoint { endpoint: String::new(), reason: "none is configured" }))
    }

    async fn dial(&self, dial: usize, endpoint: &Endpoint) -> Result<Connected, RegistryError> {
        let failed =
            |source: BoxError| RegistryError::Connect { endpoint: endpoint.authority.to_string(), source };
        let limit = self.timing.connect;
        let handshake = pin!(self.handshake(endpoint));
        match select(handshake, self.runtime.sleep(limit)).await {
            Either::Left((Ok((sender, end)), _)) => {
                Ok(Connected { dial, endpoint: endpoint.clone(), sender, end })
            }
            Either::Left((Err(source), _)) => Err(failed(source)),
            Either::Right(((), _)) => {
                Err(failed(RegistryError::TimedOut { operation: "connect", limit }.into()))
            }
        }
    }

    async fn handshake(&self, endpoint: &Endpoint) -> Result<(SendRequest<Body>, End), BoxError> {
        let authority = &endpoint.authority;
        let io = self.runtime.connect(authority.as_str()).await?;
        let security = self.security.as_ref().filter(|_| endpoint.secure);
        let io = secure::connect(security, authority.as_str(), io).await?;
        let (sender, connection) = http2::Builder::new(HyperExecutor::new(Arc::clone(&self.runtime)))
            .timer(HyperTimer::new(Arc::clone(&self.runtime)))
            .keep_alive_interval(self.timing.ping_interval)
            .keep_alive_timeout(self.timing.ping_timeout)
            .handshake(io)
            .await?;
        let authority = authority.clone();
        let (ending, ended) = oneshot::channel();
        self.runtime.spawn(Box::pin(async move {
            let why = connection.await.err().map(Arc::new);
            if let Some(error) = &why {
                tracing::debug!(%authority, error = %in_words(&**error), "the connection to etcd ended");
            }
            let _ = ending.send(why); // Nobody has to wait for it.
        }));
        Ok((sender, ended.map(|why| why.unwrap_or(None)).boxed().shared()))
    }
}

impl Service<http::Request<Body>> for Dialer {
    type Response = http::Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            // A connect error is told from an answer's error by this type: etcd-client's status then says Unavailable.
            let mut connected =
                inner.connected().await.map_err(|error| tonic::ConnectError(Box::new(error)))?;
            *request.uri_mut() = with_authority(request.uri(), &connected.endpoint)?;
            connected.ask(request).await
        })
    }
}

/// etcd-client knows paths only; HTTP/2 wants to be told the authority.
fn with_authority(uri: &Uri, endpoint: &Endpoint) -> Result<Uri, http::Error> {
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    Uri::builder()
        .scheme(endpoint.scheme())
        .authority(endpoint.authority.clone())
        .path_and_query(path)
        .build()
}
