//! The waker of what runs inside one task.
//!
//! Parts of a task wake each other all the time: the connection has read what a call waits for, a call has written what the connection is to send. Woken by
//! the task's own waker, a task that runs is put at the end of its executor's queue, and another thread is woken to take it from there: at one call in
//! flight that was two threads too many at either end. A part that rings while the task runs has it take another round instead.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

use crate::sync::others_may_run;

/// How many rounds a task takes in its turn before others have theirs.
const ROUNDS: usize = 16;

/// The task is in its turn.
const IN_TURN: u8 = 1;
/// A part can go on.
const RUNG: u8 = 2;

/// Takes rounds in a task's turn for as long as parts of it ring.
#[derive(Debug)]
pub(crate) struct Bell {
    inner: Arc<Inner>,
    /// What rings.
    waker: Waker,
}

/// Not of the modelled kind: HTTP/2 wakes under locks that no model knows of, where nobody else may run. A turn is under none.
#[derive(Debug)]
struct Inner {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Wake for Inner {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Who finds it rung already, outside of a turn, comes behind somebody who wakes the task.
        if self.state.fetch_or(RUNG, Ordering::AcqRel) == 0 {
            self.task.wake();
        }
    }
}

impl Bell {
    pub(crate) fn new() -> Self {
        let inner = Arc::new(Inner { state: AtomicU8::new(0), task: AtomicWaker::new() });
        Self { waker: Waker::from(Arc::clone(&inner)), inner }
    }

    /// Whether a part has rung since the round began.
    pub(crate) fn is_rung(&self) -> bool {
        self.inner.state.load(Ordering::Relaxed) & RUNG != 0
    }

    /// One turn of the task, whose waker is `task`: `round` once, and again while it has rung meanwhile. It is to hand on the context that it is given.
    pub(crate) fn turn<T>(
        &self,
        task: &Waker,
        mut round: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        // Before anything is looked at: who rings from then on has to be seen, by a round or by the task's waker.
        others_may_run();
        self.inner.task.register(task);
        others_may_run();
        for _ in 0..ROUNDS {
            self.inner.state.swap(IN_TURN, Ordering::AcqRel);
            let result = round(&mut Context::from_waker(&self.waker));
            others_may_run();
            let ends = self.inner.state.compare_exchange(IN_TURN, 0, Ordering::AcqRel, Ordering::Acquire);
            if result.is_ready() || ends.is_ok() {
                // A bell that is not asked again may stay rung: the next turn begins with a round.
                return result;
            }
        }
        others_may_run();
        self.inner.state.store(RUNG, Ordering::Release);
        others_may_run();
        task.wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts how often a task is woken.
    #[derive(Default)]
    pub(crate) struct Woken(AtomicUsize);

    impl Woken {
        pub(crate) fn counted() -> (Waker, Arc<Self>) {
            let woken = Arc::new(Self::default());
            (Waker::from(Arc::clone(&woken)), woken)
        }

        pub(crate) fn times(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_part_that_rings_in_the_turn_has_another_round_and_wakes_nobody() {
        let (bell, (waker, task)) = (Bell::new(), Woken::counted());
        let mut rounds = 0;
        let result = bell.turn(&waker, |cx| {
            rounds += 1;
            if rounds < 3 {
                cx.waker().wake_by_ref();
                cx.waker().wake_by_ref();
            }
            Poll::<()>::Pending
        });
        assert_eq!((result, rounds, task.times()), (Poll::Pending, 3, 0));
    }

    #[test]
    fn between_turns_the_task_is_woken_once() {
        let (bell, (waker, task)) = (Bell::new(), Woken::counted());
        let mut kept = None;
        for turn in 1..=3 {
            let _pending = bell.turn(&waker, |cx| {
                kept = Some(cx.waker().clone());
                Poll::<()>::Pending
            });
            let rings = kept.take().expect("a waker");
            rings.wake_by_ref();
            rings.wake();
            assert_eq!(task.times(), turn);
        }
    }

    #[test]
    fn a_task_that_never_comes_to_rest_lets_others_have_their_turn() {
        let (bell, (waker, task)) = (Bell::new(), Woken::counted());
        let mut rounds = 0;
        for turn in 1..=2 {
            let result = bell.turn(&waker, |cx| {
                rounds += 1;
                cx.waker().wake_by_ref();
                Poll::<()>::Pending
            });
            assert_eq!((result, rounds, task.times()), (Poll::Pending, turn * ROUNDS, turn));
        }
    }

    #[test]
    fn a_result_ends_the_turn_and_the_next_one_begins_with_a_round() {
        let (bell, (waker, task)) = (Bell::new(), Woken::counted());
        for _ in 0..2 {
            let result = bell.turn(&waker, |cx| {
                cx.waker().wake_by_ref();
                Poll::Ready(7)
            });
            assert_eq!((result, task.times()), (Poll::Ready(7), 0));
        }
    }
}
