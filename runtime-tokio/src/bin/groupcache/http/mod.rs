//! The HTTP side of a node: listening, connections, and their end.

mod answer;
mod body;
mod page;
mod patience;
mod route;
#[cfg(test)]
mod tests;
mod value;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use groupcache_tokio::{Connection, Security};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

pub(crate) use answer::Front;
use patience::Patient;

use crate::report;

/// How much patience the HTTP side has with its clients.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Connections at a time; more wait in the system's backlog.
    pub(crate) connections: usize,
    /// How long a request's head may take, and how long a connection may idle between requests.
    pub(crate) head: Duration,
    /// How long a client may take none of the bytes that wait for it.
    pub(crate) stall: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 4096, head: Duration::from_secs(30), stall: Duration::from_secs(30) }
    }
}

/// The largest request head in bytes: more is answered with 431. A URI alone may have 65,534, as hyper has it; more is answered with 414.
const MAX_HEAD: usize = 128 * 1024;

/// A pause after a failed accept, which says that the process or the system has run out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long a client may take to agree on TLS.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Where clients come in, and how their connections are secured.
#[derive(Debug)]
pub(crate) struct Listening {
    listener: TcpListener,
    security: Option<Arc<dyn Security>>,
}

impl Listening {
    pub(crate) fn new(listener: TcpListener, security: Option<Arc<dyn Security>>) -> Self {
        Self { listener, security }
    }
}

impl From<TcpListener> for Listening {
    fn from(listener: TcpListener) -> Self {
        Self { listener, security: None }
    }
}

/// Answers on `listener` until `stop` resolves; then takes no new connections and gives those in use `grace` to end.
pub(crate) async fn serve(
    listener: impl Into<Listening>,
    front: Arc<Front>,
    limits: Limits,
    grace: Duration,
    stop: impl Future<Output = ()>,
) {
    let listener = listener.into();
    let connections = GracefulShutdown::new();
    tokio::select! {
        () = stop => {}
        () = accept(&listener, &front, limits, &connections) => {}
    }
    drop(listener);
    if tokio::time::timeout(grace, connections.shutdown()).await.is_err() {
        tracing::info!("some HTTP clients were cut off: they did not finish in time");
    }
}

async fn accept(listening: &Listening, front: &Arc<Front>, limits: Limits, connections: &GracefulShutdown) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    // The semaphore is never closed, so this goes on until it is dropped.
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        let (stream, from) = match listening.listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (front, watcher, security) =
            (Arc::clone(front), connections.watcher(), listening.security.clone());
        tokio::spawn(async move {
            let Some(stream) = secured(stream, from, security, limits.stall).await else { return };
            let service = service_fn(move |request| {
                let front = Arc::clone(&front);
                async move { Ok::<_, Infallible>(front.answer(&request).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(limits.head)
                .max_header_size(MAX_HEAD)
                .serve_connection(stream, service);
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(error = report::chain(&error), "an HTTP connection ended early");
            }
            drop(permit);
        });
    }
}

/// The connection of a client, secured; `None` when it was refused, or took too long about it.
async fn secured(
    stream: TcpStream,
    from: SocketAddr,
    security: Option<Arc<dyn Security>>,
    stall: Duration,
) -> Option<Box<dyn Connection>> {
    let io: Box<dyn Connection> = Box::new(TokioIo::new(Patient::new(stream, stall)));
    let Some(security) = security else { return Some(io) };
    let refused = match tokio::time::timeout(HANDSHAKE, security.accept(io)).await {
        Ok(Ok(accepted)) => return Some(accepted.io),
        Ok(Err(error)) => error,
        Err(_) => io::Error::new(io::ErrorKind::TimedOut, "the client did not agree on TLS in time"),
    };
    tracing::info!(%from, error = report::chain(&refused), "refused an HTTP client");
    None
}
