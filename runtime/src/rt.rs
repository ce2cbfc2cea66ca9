//! What a runtime must be able to do for a node. An adapter is an implementation of this and little else.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

/// A boxed future, as this crate passes them around.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Spawn, sleep, connect, accept. Object-safe: a node holds one as `Arc<dyn Runtime>`, so the choice of a runtime shows in no other type.
pub trait Runtime: fmt::Debug + Send + Sync + 'static {
    /// Runs `task` to its end, detached. A panic of the task must not bring down the process.
    fn spawn(&self, task: BoxFuture<'static, ()>);

    /// Resolves after `duration`, not before. Must work inside tasks of [`spawn`](Self::spawn).
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;

    /// Resolves `addr` (`host:port`, host by name, IPv4, or IPv6 in brackets) and connects to it over TCP, with `TCP_NODELAY` set.
    ///
    /// # Errors
    /// What the system says. The caller sets a time limit by dropping the future.
    fn connect(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Connection>>>;

    /// Binds `addr` (port 0 for any) and listens.
    ///
    /// # Errors
    /// What the system says: the port is taken, the host is not of this machine.
    fn listen(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>>;
}

/// A listening socket.
pub trait Listener: Send {
    /// Waits for the next connection; `TCP_NODELAY` is set on it. Cancel-safe.
    ///
    /// # Errors
    /// What the system says. Errors of one connection attempt or of too many open files are not the end: the caller goes on, with a pause.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Connection>, SocketAddr)>>;

    /// Where it listens: with the real port where 0 was asked for.
    ///
    /// # Errors
    /// What the system says.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

/// A connection as hyper takes it.
pub trait Connection: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static {}

impl<T: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static> Connection for T {}
