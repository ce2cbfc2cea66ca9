//! `groupcache serve`: from listening to the last answer.

use std::sync::Arc;
use std::time::Duration;

use groupcache_tokio::Server;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::cli::ServeArgs;
use crate::http::{self, Front};
use crate::metrics::Exporter;
use crate::node;
use crate::report::{Exit, chain, print};
use crate::signals::Signals;

/// Runs a node until a signal stops it.
///
/// # Errors
/// It could not start.
pub(crate) async fn run(args: ServeArgs) -> Result<(), Exit> {
    let mut signals =
        Signals::listen().map_err(|error| Exit::start(format!("cannot listen for signals: {error}")))?;
    let exporter = Exporter::new()?;
    let server = node::build(&args, &exporter).await?;
    // It ends with the runtime.
    tokio::spawn(exporter.clone().keep_up());
    // Before the node joins its ring: one that cannot serve must not be found by others.
    let side = HttpSide::start(&args, server.clone(), exporter).await?;
    let started = tokio::select! {
        started = server.start() => started.map_err(|error| Exit::start(format!("cannot start: {}", chain(&error)))),
        signal = signals.next() => {
            tracing::info!(signal, "stopping before the node has started");
            return stop(&server, side, args.drain, &mut signals).await;
        }
    };
    started?;
    let line = format!("groupcache: serving http://{} (peers at {})\n", side.addr, server.addr());
    if let Err(unread) = print(line.as_bytes()) {
        // No reason to stop: the node serves, and says so in the log.
        tracing::warn!("{}: {}", unread.message(), line.trim_end());
    }
    let signal = signals.next().await;
    tracing::info!(signal, "stopping");
    stop(&server, side, args.drain, &mut signals).await
}

/// Leaves the ring first, then finishes what is in progress, both within `drain`; a second signal cuts that short.
async fn stop(server: &Server, side: HttpSide, drain: Duration, signals: &mut Signals) -> Result<(), Exit> {
    side.front.say_stopping();
    let orderly = async {
        // The server bounds its own drain. The limit here is for a registry that does not answer.
        if tokio::time::timeout(drain, server.stop()).await.is_err() {
            tracing::warn!("not everything was finished in time");
        }
        side.stop().await;
    };
    tokio::select! {
        () = orderly => tracing::info!("stopped"),
        signal = signals.next() => tracing::warn!(signal, "stopping at once"),
    }
    Ok(())
}

/// The running HTTP side.
struct HttpSide {
    addr: std::net::SocketAddr,
    front: Arc<Front>,
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

/// How long clients get to take their last answers.
const GRACE: Duration = Duration::from_secs(2);

impl HttpSide {
    async fn start(args: &ServeArgs, server: Server, exporter: Exporter) -> Result<Self, Exit> {
        let refused = |error| Exit::start(format!("cannot listen for HTTP on {}: {error}", args.http));
        let listener = TcpListener::bind(&args.http).await.map_err(refused)?;
        let addr = listener.local_addr().map_err(refused)?;
        let front = Arc::new(Front::new(server, exporter));
        let (end, ended) = oneshot::channel::<()>();
        let ended = async { drop(ended.await) };
        let serving =
            http::serve(listener, Arc::clone(&front), http::Limits::default(), args.drain.min(GRACE), ended);
        Ok(Self { addr, front, end, task: tokio::spawn(serving) })
    }

    async fn stop(self) {
        drop(self.end);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the HTTP side failed");
        }
    }
}
