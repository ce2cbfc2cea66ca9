//! A runtime for this crate's own tests.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hyper_util::rt::TokioIo;

use crate::rt::{BoxFuture, Connection, Listener, Runtime};

/// tokio, as the adapter does it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TestRuntime;

impl Runtime for TestRuntime {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(task);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        // An async block, so that polling it again after its end is the error here that it is with other runtimes.
        Box::pin(async move { tokio::time::sleep(duration).await })
    }

    fn connect(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> {
        let addr = addr.to_owned();
        Box::pin(async move {
            let stream = tokio::net::TcpStream::connect(addr).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(TokioIo::new(stream)) as Box<dyn Connection>)
        })
    }

    fn listen(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let addr = addr.to_owned();
        Box::pin(async move {
            let listener = tokio::net::TcpListener::bind(addr).await?;
            Ok(Box::new(TestListener(listener)) as Box<dyn Listener>)
        })
    }
}

struct TestListener(tokio::net::TcpListener);

impl Listener for TestListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Connection>, SocketAddr)>> {
        Box::pin(async move {
            let (stream, from) = self.0.accept().await?;
            stream.set_nodelay(true)?;
            Ok((Box::new(TokioIo::new(stream)) as Box<dyn Connection>, from))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
