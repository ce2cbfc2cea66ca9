//! All tasks of one connection inside one task.
//!
//! hyper spawns a task per call. On a work-stealing runtime these land on other threads than the connection, and part of a small call's cost
//! is waking them up; kept together they also end with their connection. A call's own work is a look into the cache or a wait for a flight, so
//! one call does not hold up the others of its connection for long. Whoever asks by a connection puts its own part of the call here too
//! ([`Spawner::spawn`]): from the caller to the socket and back it is then one thread that wakes one other, as it is at the least.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures_channel::mpsc;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use super::cork::{Cork, Corked};
use crate::bell::Bell;
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
    parts: Parts,
    bell: Bell,
    cork: Cork,
}

struct Parts {
    spawned: mpsc::UnboundedReceiver<Spawned>,
    running: FuturesUnordered<BoxFuture<'static, ()>>,
    calls: FuturesUnordered<BoxFuture<'static, ()>>,
    /// Calls that begin in the next turn.
    later: Vec<BoxFuture<'static, ()>>,
}

impl Tasks {
    pub(super) fn new() -> (Spawner, Self) {
        let (sender, spawned) = mpsc::unbounded();
        let (running, calls) = (FuturesUnordered::new(), FuturesUnordered::new());
        let parts = Parts { spawned, running, calls, later: Vec::new() };
        (Spawner(sender), Self { parts, bell: Bell::new(), cork: Cork::default() })
    }

    /// Runs whatever can run. Ready when no task is left: more may be spawned after that.
    pub(super) fn poll_idle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (Self { parts, bell, .. }, task) = (self, cx.waker());
        parts.begin_turn();
        bell.turn(task, |cx| parts.poll(cx, task))
    }

    /// Drops hyper's tasks, which do not end by themselves when a peer is silent. Calls are left, to see that they have failed and why.
    pub(super) fn cut(&mut self) {
        self.parts.running.clear();
    }

    /// What the connection is to write to, in place of `io`: what is written in a turn goes out in one piece.
    pub(super) fn corked<C>(&self, io: C) -> Corked<C> {
        self.cork.around(io)
    }

    /// `connection`, with these tasks run beside it.
    pub(super) fn drive<C: Future + Unpin>(&mut self, connection: C) -> Driven<'_, C> {
        Driven { tasks: self, connection }
    }
}

impl Parts {
    /// What was to wait for a turn has waited for one.
    fn begin_turn(&mut self) {
        self.calls.extend(self.later.drain(..));
    }

    /// Runs whatever can run. `task` is the waker of the task itself, for what is to wait for its next turn.
    fn poll(&mut self, cx: &mut Context<'_>, task: &Waker) -> Poll<()> {
        loop {
            self.take_spawned(cx, task);
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

    /// Takes on what was spawned. What is spawned after that rings.
    fn take_spawned(&mut self, cx: &mut Context<'_>, task: &Waker) {
        while let Poll::Ready(Some(spawned)) = self.spawned.poll_next_unpin(cx) {
            match spawned {
                Spawned::Task(task) => self.running.push(task),
                Spawned::Call(call, false) => self.calls.push(call),
                Spawned::Call(call, true) => {
                    self.later.push(call);
                    task.wake_by_ref();
                }
            }
        }
    }
}

/// After how many rounds of a turn what has been written is sent, though more may come.
const CORKED: usize = 8;

/// A connection and its tasks. Resolves with the connection, whatever its tasks do.
pub(super) struct Driven<'a, C> {
    tasks: &'a mut Tasks,
    connection: C,
}

impl<C: Future + Unpin> Future for Driven<'_, C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        let (Self { tasks: Tasks { parts, bell, cork }, connection }, task) = (&mut *self, cx.waker());
        parts.begin_turn();
        cork.put_in();
        let mut rounds = 0;
        bell.turn(task, |cx| {
            // Tasks first: what they write goes out in the connection's round. Those that it spawns ring, and have theirs in the next.
            let _ = parts.poll(cx, task);
            let result = Pin::new(&mut *connection).poll(cx);
            rounds += 1;
            if result.is_ready() || !bell.is_rung() || rounds == CORKED {
                // Rings where anything is to be sent. Behind a connection's end that is by tasks with calls in flight, without a cork.
                cork.pull();
            }
            result
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use futures_util::FutureExt;
    use futures_util::future::poll_fn;

    use super::super::cork::Corked;
    use super::super::cork::tests::Sink;
    use super::*;
    use crate::bell::tests::Woken;

    /// What HTTP/2 does: writes what it was given, and flushes whenever it is polled.
    fn flushing(
        io: &mut Corked<Sink>,
        given: &mut mpsc::UnboundedReceiver<&'static str>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        use hyper::rt::Write;
        while let Poll::Ready(Some(bytes)) = given.poll_next_unpin(cx) {
            assert!(Pin::new(&mut *io).poll_write(cx, bytes.as_bytes()).is_ready());
        }
        assert!(Pin::new(io).poll_flush(cx).is_ready());
        Poll::Pending
    }

    #[test]
    fn what_a_connection_and_its_tasks_write_in_a_turn_is_one_packet_and_nobody_is_woken_for_it() {
        let (spawner, mut tasks) = Tasks::new();
        let (give, mut given) = mpsc::unbounded();
        let mut io = tasks.corked(Sink::new(usize::MAX));
        let (waker, woken) = Woken::counted();
        let mut cx = Context::from_waker(&waker);
        // As a request: the connection writes the headers, and spawns what writes the body.
        let (mut bodies, body) = (0, give.clone());
        give.unbounded_send("headers").expect("it listens");
        let mut connection = poll_fn(|cx| {
            if bodies == 0 {
                bodies += 1;
                let body = body.clone();
                hyper::rt::Executor::execute(&spawner, async move {
                    body.unbounded_send(" body").expect("it listens")
                });
            }
            flushing(&mut io, &mut given, cx)
        });
        assert!(tasks.drive(&mut connection).poll_unpin(&mut cx).is_pending());
        // At rest: polled again it writes nothing, and wants nothing.
        assert!(tasks.drive(&mut connection).poll_unpin(&mut cx).is_pending());
        drop(connection);
        assert_eq!((io.io().taken.as_slice(), io.io().calls), (&b"headers body"[..], 1));
        assert_eq!(woken.times(), 0);
    }

    #[test]
    fn a_connection_that_is_itself_a_task_sends_what_it_has_written() {
        let (spawner, mut tasks) = Tasks::new();
        let (give, mut given) = mpsc::unbounded();
        let io = Arc::new(Mutex::new(tasks.corked(Sink::new(usize::MAX))));
        let its = Arc::clone(&io);
        let mut cx = Context::from_waker(Waker::noop());
        hyper::rt::Executor::execute(
            &spawner,
            poll_fn(move |cx| flushing(&mut its.lock().expect("whole"), &mut given, cx)),
        );
        for calls in 1..=3 {
            give.unbounded_send("x").expect("it listens");
            assert!(tasks.drive(std::future::pending::<()>()).poll_unpin(&mut cx).is_pending());
            assert_eq!(io.lock().expect("whole").io().calls, calls);
        }
    }
    #[test]
    fn what_is_written_behind_the_end_of_a_connection_is_sent() {
        let (spawner, mut tasks) = Tasks::new();
        let (give, mut given) = mpsc::unbounded();
        let io = Arc::new(Mutex::new(tasks.corked(Sink::new(usize::MAX))));
        let its = Arc::clone(&io);
        let mut cx = Context::from_waker(Waker::noop());
        hyper::rt::Executor::execute(
            &spawner,
            poll_fn(move |cx| flushing(&mut its.lock().expect("whole"), &mut given, cx)),
        );
        // It takes no more calls, and in the same round one of those in flight has something to send.
        let ends = poll_fn(|_| {
            give.unbounded_send("x").expect("it listens");
            Poll::Ready(())
        });
        assert!(tasks.drive(ends).poll_unpin(&mut cx).is_ready());
        assert!(tasks.poll_idle(&mut cx).is_pending());
        assert_eq!(io.lock().expect("whole").io().taken, b"x");
    }
}
