//! async-std, as a node uses it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use async_std::net::{TcpListener, TcpStream};
use groupcache_runtime::{BoxFuture, Connection, Listener, Runtime};
use smol_hyper::rt::FuturesIo;

/// async-std's global runtime. It works from any thread; no tokio runtime is entered.
#[derive(Clone, Copy, Debug, Default)]
pub struct AsyncStd;

impl Runtime for AsyncStd {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        // Dropping the handle lets the task run on.
        drop(async_std::task::spawn(task));
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async_std::task::sleep(duration))
    }

    fn connect(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> {
        let addr = addr.to_owned();
        Box::pin(async move { connection(TcpStream::connect(addr).await?) })
    }

    fn listen(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let addr = addr.to_owned();
        Box::pin(async move {
            let listener = TcpListener::bind(addr).await?;
            Ok(Box::new(AsyncStdListener(listener)) as Box<dyn Listener>)
        })
    }
}

/// Without `TCP_NODELAY` small calls wait for each other's acknowledgements: 40 ms each.
fn connection(stream: TcpStream) -> io::Result<Box<dyn Connection>> {
    stream.set_nodelay(true)?;
    Ok(Box::new(FuturesIo::new(stream)))
}

struct AsyncStdListener(TcpListener);

impl Listener for AsyncStdListener {
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
