//! Where a connection is secured, before HTTP/2 runs over it: nowhere, unless the embedder says how.

use std::fmt;
use std::future::Future;
use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;

use crate::rt::{BoxFuture, Connection};

/// How connections are secured: TLS, or whatever else two members agree on. Every member of a fleet must do the same, or none.
///
/// `Tls`, with feature `tls`, is the one that most want. A node asks for it once a connection, not once a call; what comes back is what HTTP/2 runs
/// over, so it must negotiate that where it negotiates protocols (ALPN `h2`). Both calls are bounded by the node: a future that takes too long
/// is dropped, and a panic counts as a refusal.
pub trait Security: fmt::Debug + Send + Sync + 'static {
    /// Secures a connection that this node has made to `addr` (`host:port`, as in the list of members), and makes sure that it is the one who
    /// answers.
    ///
    /// # Errors
    /// Who answers cannot be trusted, does not trust this node, or does not speak the same. The text goes into a log line.
    fn connect<'a>(
        &'a self,
        addr: &'a str,
        io: Box<dyn Connection>,
    ) -> BoxFuture<'a, io::Result<Box<dyn Connection>>>;

    /// Secures a connection that somebody has made to this node.
    ///
    /// # Errors
    /// Who asks cannot be trusted, or does not speak the same. The text goes into a log line.
    fn accept(&self, io: Box<dyn Connection>) -> BoxFuture<'_, io::Result<Box<dyn Connection>>>;
}

/// [`Security::connect`], where there is a security.
pub(crate) async fn connect(
    security: Option<&Arc<dyn Security>>,
    addr: &str,
    io: Box<dyn Connection>,
) -> io::Result<Box<dyn Connection>> {
    match security {
        None => Ok(io),
        Some(security) => caught(async { security.connect(addr, io).await }).await,
    }
}

/// [`Security::accept`].
pub(crate) async fn accept(
    security: &Arc<dyn Security>,
    io: Box<dyn Connection>,
) -> io::Result<Box<dyn Connection>> {
    caught(async { security.accept(io).await }).await
}

/// Bears a panic: whoever dials must hear that the dial has failed, or nobody would dial again.
async fn caught<T>(securing: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let ended = AssertUnwindSafe(securing).catch_unwind().await;
    ended.unwrap_or_else(|_| Err(io::Error::other("the code that secures connections panicked")))
}
