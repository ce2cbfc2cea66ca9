//! tokio, as a node uses it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use groupcache_runtime::{BoxFuture, Connection, Listener, Runtime};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// The tokio runtime that a call is made on. Any flavour will do; it needs `enable_all()`, or time and IO each.
///
/// # Panics
/// `spawn` and the futures of the others panic outside of a tokio runtime, as tokio's own functions do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tokio;

impl Runtime for Tokio {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        // Made inside the block, so that the runtime is looked up where the sleep is polled.
        Box::pin(async move { tokio::time::sleep(duration).await })
    }

    fn connect(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> {
        let addr = addr.to_owned();
        Box::pin(async move { connection(TcpStream::connect(addr).await?) })
    }

    fn listen(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let addr = addr.to_owned();
        Box::pin(async move {
            let listener = TcpListener::bind(addr).await?;
            Ok(Box::new(TokioListener(listener)) as Box<dyn Listener>)
        })
    }
}

/// Without `TCP_NODELAY` small calls wait for each other's acknowledgements: 40 ms each.
fn connection(stream: TcpStream) -> io::Result<Box<dyn Connection>> {
    stream.set_nodelay(true)?;
    Ok(Box::new(TokioIo::new(stream)))
}

struct TokioListener(TcpListener);

impl Listener for TokioListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Connection>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = self.0.accept().await?;
            Ok((connection(stream)?, from))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
