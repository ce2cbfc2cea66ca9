//! The HTTP side of a node: listening, connections, and their end.

mod answer;
mod body;
mod patience;
mod route;
#[cfg(test)]
mod tests;
mod value;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::TcpListener;
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

/// Answers on `listener` until `stop` resolves; then takes no new connections and gives those in use `grace` to end.
pub(crate) async fn serve(
    listener: TcpListener,
    front: Arc<Front>,
    limits: Limits,
    grace: Duration,
    stop: impl Future<Output = ()>,
) {
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

async fn accept(listener: &TcpListener, front: &Arc<Front>, limits: Limits, connections: &GracefulShutdown) {
    let permits = Arc::new(Semaphore::new(limits.connections));
    // The semaphore is never closed, so this goes on until it is dropped.
    while let Ok(permit) = Arc::clone(&permits).acquire_owned().await {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (front, watcher) = (Arc::clone(front), connections.watcher());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let front = Arc::clone(&front);
                async move { Ok::<_, Infallible>(front.answer(&request).await) }
            });
            let stream = TokioIo::new(Patient::new(stream, limits.stall));
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
