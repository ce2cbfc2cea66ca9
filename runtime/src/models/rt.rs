//! The checker's tasks as a runtime.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::network::Network;
use super::time;
use crate::rt::{BoxFuture, Connection, Listener, Runtime};

/// Spawns tasks of the checker, sleeps in virtual time, connects in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct ModelRuntime {
    pub(super) network: Arc<Network>,
}

impl Runtime for ModelRuntime {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        // Detached: a model may end while it waits.
        drop(shuttle::future::spawn(task));
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(time::sleep(duration))
    }

    fn connect(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Connection>>> {
        let (network, addr) = (Arc::clone(&self.network), addr.to_owned());
        Box::pin(async move {
            // Others may run between a dial's start and its end.
            shuttle::future::yield_now().await;
            network.connect(&addr)
        })
    }

    fn listen(&self, addr: &str) -> BoxFuture<'static, io::Result<Box<dyn Listener>>> {
        let listener = self.network.listen(addr);
        Box::pin(async move { listener })
    }
}
