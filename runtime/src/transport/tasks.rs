//! All tasks of one connection inside one task.
//!
//! hyper spawns a task per call. On a work-stealing runtime these land on other threads than the connection, and part of a small call's cost
//! is waking them up; kept together they also end with their connection. A call's own work is a look into the cache or a wait for a flight, so
//! one call does not hold up the others of its connection for long.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_channel::mpsc;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::rt::BoxFuture;

/// hyper's executor: hands tasks to the [`Tasks`] that it belongs to. What is spawned after they are gone is dropped.
#[derive(Clone, Debug)]
pub(super) struct Spawner(mpsc::UnboundedSender<BoxFuture<'static, ()>>);

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future + Send + 'static,
{
    fn execute(&self, task: F) {
        let task = Box::pin(async move {
            task.await;
        });
        // Refused only when the connection's task has ended, and then there is nothing left to run for.
        let _ = self.0.unbounded_send(task);
    }
}

/// The tasks of one connection. Polled by the connection's own task; dropping it drops them.
pub(super) struct Tasks {
    spawned: mpsc::UnboundedReceiver<BoxFuture<'static, ()>>,
    running: FuturesUnordered<BoxFuture<'static, ()>>,
}

impl Tasks {
    pub(super) fn new() -> (Spawner, Self) {
        let (sender, spawned) = mpsc::unbounded();
        (Spawner(sender), Self { spawned, running: FuturesUnordered::new() })
    }

    /// Runs whatever can run. Ready when no task is left: more may be spawned after that.
    pub(super) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            while let Poll::Ready(Some(task)) = self.spawned.poll_next_unpin(cx) {
                self.running.push(task);
            }
            match self.running.poll_next_unpin(cx) {
                Poll::Ready(Some(())) => {}
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// `connection`, with these tasks run beside it.
    pub(super) fn drive<C: Future + Unpin>(&mut self, connection: C) -> Driven<'_, C> {
        Driven { tasks: self, connection }
    }
}

/// A connection and its tasks. Resolves with the connection, whatever its tasks do.
pub(super) struct Driven<'a, C> {
    tasks: &'a mut Tasks,
    connection: C,
}

impl<C: Future + Unpin> Future for Driven<'_, C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        // Tasks first: what they write goes out in the connection's turn.
        let _ = self.tasks.poll_idle(cx);
        let result = Pin::new(&mut self.connection).poll(cx);
        if result.is_pending() {
            // And those that the connection has just spawned.
            let _ = self.tasks.poll_idle(cx);
        }
        result
    }
}
