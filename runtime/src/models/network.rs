//! Connections in memory.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use futures_channel::mpsc;
use futures_util::StreamExt;
use hyper_util::rt::TokioIo;
use tokio::io::{DuplexStream, duplex};

use crate::rt::{BoxFuture, Connection, Listener};

/// How many bytes a connection holds in each direction before who writes has to wait.
const BUFFER: usize = 16 << 10;

type Accepting = mpsc::UnboundedSender<DuplexStream>;

/// Who listens where. Its lock is the standard library's: it is held for no longer than a look, which no task is switched in.
#[derive(Debug, Default)]
pub(super) struct Network {
    listeners: Mutex<HashMap<String, Accepting>>,
}

impl Network {
    pub(super) fn connect(&self, addr: &str) -> io::Result<Box<dyn Connection>> {
        let listeners = self.listeners.lock().expect("nobody panics under this lock");
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let accepting = listeners.get(addr).ok_or_else(refused)?;
        let (ours, theirs) = duplex(BUFFER);
        accepting.unbounded_send(theirs).map_err(|_| refused())?;
        Ok(Box::new(TokioIo::new(ours)))
    }

    pub(super) fn listen(self: &Arc<Self>, addr: &str) -> io::Result<Box<dyn Listener>> {
        let mut listeners = self.listeners.lock().expect("nobody panics under this lock");
        if listeners.get(addr).is_some_and(|listener| !listener.is_closed()) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let (accepting, accepted) = mpsc::unbounded();
        listeners.insert(addr.to_owned(), accepting);
        Ok(Box::new(InMemory(accepted)))
    }
}

struct InMemory(mpsc::UnboundedReceiver<DuplexStream>);

impl Listener for InMemory {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<(Box<dyn Connection>, SocketAddr)>> {
        Box::pin(async {
            let stream = self.0.next().await.ok_or(io::ErrorKind::NotConnected)?;
            let connection: Box<dyn Connection> = Box::new(TokioIo::new(stream));
            Ok((connection, SocketAddr::from((Ipv4Addr::LOCALHOST, 1))))
        })
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)))
    }
}
