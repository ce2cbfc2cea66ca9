//! The smallest runtime that can run the crate's tests.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use groupcache_runtime::{BoxFuture, Connection, Listener, Runtime};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// tokio, inside `#[tokio::test]`.
#[derive(Debug)]
pub(crate) struct TokioRuntime;

struct TokioListener(TcpListener);

impl Runtime for TokioRuntime {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn connect(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> {
        let addr = addr.to_owned();
        Box::pin(async move {
            let stream = TcpStream::connect(addr).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(TokioIo::new(stream)) as Box<dyn Connection>)
        })
    }

    fn listen(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let addr = addr.to_owned();
        Box::pin(
            async move { Ok(Box::new(TokioListener(TcpListener::bind(addr).await?)) as Box<dyn Listener>) },
        )
    }
}

impl Listener for TokioListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Connection>, SocketAddr)>> {
        Box::pin(async {
            let (stream, from) = self.0.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(TokioIo::new(stream)) as Box<dyn Connection>, from))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
