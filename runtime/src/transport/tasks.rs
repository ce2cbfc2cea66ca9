//! All tasks of one connection inside one task.
//!
//! hyper spawns a task per call. On a work-stealing runtime these land on other threads than the connection, and part of a small call's cost
//! is waking them up; kept together they also end with their connection. A call's own work is a look into the cache or a wait for a flight, so
//! one call does not hold up the others of its connection for long. Whoever asks by a connection puts its own part of the call here too
//! ([`Spawner::spawn`]): from the caller to the socket and back it is then one thread that wakes one other, as it is at the least.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_channel::mpsc;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::rt::BoxFuture;

/// hyper's executor: hands tasks to the [`Tasks`] that it belongs to. What is spawned after they are gone is dropped.
#[derive(Clone, Debug)]
pub(super) struct Spawner(mpsc::UnboundedSender<Spawned>);

enum Spawned {
    /// hyper's.
    Task(BoxFuture<'static, ()>),
    /// A caller's, and whether it may wait for a turn.
    Call(BoxFuture<'static, ()>, bool),
}

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future + Send + 'static,
{
    fn execute(&self, task: F) {
        let task = Box::pin(async move {
            task.await;
        });
        // Refused only when the connection's task has ended, and then there is nothing left to run for.
        let _ = self.0.unbounded_send(Spawned::Task(task));
    }
}

impl Spawner {
    /// Runs a caller's part of a call with the connection's own tasks. `later` is in the connection's next turn: who can run by then runs first.
    /// Dropped when the connection's task has ended.
    pub(super) fn spawn(&self, call: BoxFuture<'static, ()>, later: bool) {
        // As above.
        let _ = self.0.unbounded_send(Spawned::Call(call, later));
    }
}

/// The tasks of one connection. Polled by the connection's own task; dropping it drops them.
pub(super) struct Tasks {
    spawned: mpsc::UnboundedReceiver<Spawned>,
    running: FuturesUnordered<BoxFuture<'static, ()>>,
    calls: FuturesUnordered<BoxFuture<'static, ()>>,
    /// Calls that begin in the next turn.
    later: Vec<BoxFuture<'static, ()>>,
}

/// How often a connection that spawns more in its turn is polled again before others have theirs.
const ROUNDS: usize = 16;

impl Tasks {
    pub(super) fn new() -> (Spawner, Self) {
        let (sender, spawned) = mpsc::unbounded();
        let (running, calls) = (FuturesUnordered::new(), FuturesUnordered::new());
        (Spawner(sender), Self { spawned, running, calls, later: Vec::new() })
    }

    /// Runs whatever can run. Ready when no task is left: more may be spawned after that.
    pub(super) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.begin_turn();
        self.poll_tasks(cx)
    }

    /// What was to wait for a turn has waited for one.
    fn begin_turn(&mut self) {
        self.calls.extend(self.later.drain(..));
    }

    fn poll_tasks(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            self.take_spawned(cx);
            // Calls first: what they ask for goes out in the same turn.
            let call = self.calls.poll_next_unpin(cx);
            match (call, self.running.poll_next_unpin(cx)) {
                (Poll::Ready(Some(())), _) | (_, Poll::Ready(Some(()))) => {}
                (Poll::Ready(None), Poll::Ready(None)) if self.later.is_empty() => return Poll::Ready(()),
                (Poll::Ready(None), Poll::Ready(None)) => return Poll::Pending,
                (Poll::Pending, _) | (_, Poll::Pending) => return Poll::Pending,
            }
        }
    }

    /// Takes on what was spawned. Whether there was anything.
    fn take_spawned(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        while let Poll::Ready(Some(spawned)) = self.spawned.poll_next_unpin(cx) {
            any = true;
            match spawned {
                Spawned::Task(task) => self.running.push(task),
                Spawned::Call(call, false) => self.calls.push(call),
                Spawned::Call(call, true) => {
                    self.later.push(call);
                    cx.waker().wake_by_ref();
                }
            }
        }
        any
    }

    /// Drops hyper's tasks, which do not end by themselves when a peer is silent. Calls are left, to see that they have failed and why.
    pub(super) fn cut(&mut self) {
        self.running.clear();
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
        self.tasks.begin_turn();
        // Tasks first: what they write goes out in the connection's turn.
        let _ = self.tasks.poll_tasks(cx);
        for _ in 0..ROUNDS {
            let result = Pin::new(&mut self.connection).poll(cx);
            if result.is_ready() || !self.tasks.take_spawned(cx) {
                return result;
            }
            // Those that the connection has just spawned: what they write goes out in the next round.
            let _ = self.tasks.poll_tasks(cx);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
