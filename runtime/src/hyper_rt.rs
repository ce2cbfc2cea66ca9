//! hyper's executor and timer over [`Runtime`]: one implementation for every adapter, on both sides of a connection.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

#[cfg(feature = "etcd")]
use hyper::rt::Executor;
use hyper::rt::{Sleep, Timer};

use crate::rt::{BoxFuture, Runtime};

/// Spawns hyper's tasks on a runtime. For etcd only: connections to peers keep their tasks together.
#[derive(Clone, Debug)]
#[cfg(feature = "etcd")]
pub(crate) struct HyperExecutor(Arc<dyn Runtime>);

#[cfg(feature = "etcd")]
impl HyperExecutor {
    pub(crate) fn new(runtime: Arc<dyn Runtime>) -> Self {
        Self(runtime)
    }
}

#[cfg(feature = "etcd")]
impl<F> Executor<F> for HyperExecutor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn(Box::pin(async move {
            future.await;
        }));
    }
}

/// Lets hyper sleep on a runtime.
#[derive(Clone, Debug)]
pub(crate) struct HyperTimer(Arc<dyn Runtime>);

impl HyperTimer {
    pub(crate) fn new(runtime: Arc<dyn Runtime>) -> Self {
        Self(runtime)
    }
}

impl Timer for HyperTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(RuntimeSleep(Mutex::new(Some(self.0.sleep(duration)))))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(deadline.saturating_duration_since(Instant::now()))
    }
}

/// A runtime's sleep, made `Sync` as hyper asks: the mutex is never locked, polling has exclusive access to it. `None` when it is over, since
/// hyper's keep-alive polls a sleep again after its end.
struct RuntimeSleep(Mutex<Option<BoxFuture<'static, ()>>>);

impl fmt::Debug for RuntimeSleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RuntimeSleep")
    }
}

impl Future for RuntimeSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let sleep = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = sleep {
            ready!(running.as_mut().poll(context));
            *sleep = None;
        }
        Poll::Ready(())
    }
}

impl Sleep for RuntimeSleep {}
