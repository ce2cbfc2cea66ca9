//! A runtime without tokio, to show that none is needed.

use std::io;
use std::time::Duration;

use groupcache_runtime::{BoxFuture, Connection, Listener, Runtime};
use smol_hyper::rt::FuturesIo;

/// async-std. Only dials: listening is the adapter's business.
#[derive(Debug)]
pub(crate) struct AsyncStdRuntime;

impl Runtime for AsyncStdRuntime {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        async_std::task::spawn(task);
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async_std::task::sleep(duration))
    }

    fn connect(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> {
        let addr = addr.to_owned();
        Box::pin(async move {
            let stream = async_std::net::TcpStream::connect(addr).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(FuturesIo::new(stream)) as Box<dyn Connection>)
        })
    }

    fn listen(&self, _: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }
}
