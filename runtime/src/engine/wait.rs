//! What callers await and the core holds: a promise of one answer, or of several that are awaited together.
//!
//! Smaller and with fewer atomics than a channel for one message: a stampede is many of these.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use futures_channel::oneshot;
use groupcache_core::{Answer, Failure, FailureKind, PeerId};

use super::lock;
use crate::sync::Mutex;

/// Who waits in the core. One that is dropped unserved tells who waits that the node is stopping.
#[derive(Debug)]
pub(crate) enum Waiter {
    Answer(Promise),
    OneOf(PromiseOneOf),
    Removed(oneshot::Sender<Vec<PeerId>>),
}

impl Waiter {
    /// Wakes who waits for this answer: call it under no lock.
    pub(crate) fn answer(self, answer: Answer) {
        match self {
            Self::Answer(promise) => promise.keep(answer),
            Self::OneOf(promise) => promise.keep(answer),
            Self::Removed(_) => {}
        }
    }
}

/// The core's end of what one caller awaits.
#[derive(Debug)]
pub(crate) struct Promise(Option<Arc<Mutex<State>>>);

/// The caller's end.
#[derive(Debug)]
pub(crate) struct Promised(Arc<Mutex<State>>);

#[derive(Debug)]
enum State {
    Open(Option<Waker>),
    Kept(Answer),
    Over,
}

/// An answer to be awaited.
pub(crate) fn promise() -> (Promise, Promised) {
    let state = Arc::new(Mutex::new(State::Open(None)));
    (Promise(Some(Arc::clone(&state))), Promised(state))
}

impl Promise {
    fn keep(mut self, answer: Answer) {
        self.settle(answer);
    }

    fn settle(&mut self, answer: Answer) {
        let Some(state) = self.0.take() else { return };
        let before = std::mem::replace(&mut *lock(&state), State::Kept(answer));
        if let State::Open(Some(waker)) = before {
            waker.wake();
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.settle(Err(Failure::new(FailureKind::Stopping)));
    }
}

impl Promised {
    /// The answer, where it is there; notes who is to be woken otherwise. What was noted before is given back, not to be dropped under a lock.
    fn look(&self, waker: &mut Option<Waker>) -> Option<Answer> {
        let mut state = lock(&self.0);
        match &mut *state {
            State::Open(known) => {
                if waker.is_some() {
                    std::mem::swap(known, waker);
                }
                None
            }
            State::Kept(_) => match std::mem::replace(&mut *state, State::Over) {
                State::Kept(answer) => Some(answer),
                State::Open(_) | State::Over => None,
            },
            State::Over => None,
        }
    }
}

impl Future for Promised {
    type Output = Answer;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answer> {
        if let Some(answer) = self.look(&mut None) {
            return Poll::Ready(answer);
        }
        // Cloned and dropped under no lock: a waker is foreign code.
        let mut waker = Some(context.waker().clone());
        self.look(&mut waker).map_or(Poll::Pending, Poll::Ready)
    }
}

/// Several answers that one caller awaits together. A clone is the same.
#[derive(Clone, Debug)]
pub(crate) struct Gathering(Arc<Mutex<Gathered>>);

#[derive(Debug)]
struct Gathered {
    answers: Vec<Option<Answer>>,
    open: usize,
    waker: Option<Waker>,
}

/// The core's end of one answer of several.
#[derive(Debug)]
pub(crate) struct PromiseOneOf {
    /// `None` once kept.
    gathering: Option<Gathering>,
    index: u32,
}

impl Gathering {
    /// What is known of the answers so far; the others are promised.
    pub(crate) fn new(answers: Vec<Option<Answer>>) -> Self {
        let open = answers.iter().filter(|answer| answer.is_none()).count();
        Self(Arc::new(Mutex::new(Gathered { answers, open, waker: None })))
    }

    pub(crate) fn promise(&self, index: u32) -> PromiseOneOf {
        PromiseOneOf { gathering: Some(self.clone()), index }
    }

    /// Whether the answer at `index` is still to come.
    pub(crate) fn is_open(&self, index: u32) -> bool {
        lock(&self.0).answers.get(index as usize).is_some_and(Option::is_none)
    }

    /// What has come; the rest is too late.
    pub(crate) fn take(&self) -> Vec<Answer> {
        let answers = std::mem::take(&mut lock(&self.0).answers);
        let late = || Err(Failure::new(FailureKind::Deadline));
        answers.into_iter().map(|answer| answer.unwrap_or_else(late)).collect()
    }

    fn settle(&self, index: u32, answer: Answer) {
        let mut gathered = lock(&self.0);
        let Some(place) = gathered.answers.get_mut(index as usize).filter(|place| place.is_none()) else {
            return;
        };
        *place = Some(answer);
        gathered.open -= 1;
        let waker = if gathered.open == 0 { gathered.waker.take() } else { None };
        drop(gathered);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Future for &Gathering {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut waker = Some(context.waker().clone());
        let mut gathered = lock(&self.0);
        let is_whole = gathered.open == 0;
        std::mem::swap(&mut gathered.waker, &mut waker);
        // What was noted before, dropped under no lock: a waker is foreign code.
        drop(gathered);
        drop(waker);
        if is_whole { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl PromiseOneOf {
    fn keep(mut self, answer: Answer) {
        self.settle(answer);
    }

    fn settle(&mut self, answer: Answer) {
        if let Some(gathering) = self.gathering.take() {
            gathering.settle(self.index, answer);
        }
    }
}

impl Drop for PromiseOneOf {
    fn drop(&mut self) {
        self.settle(Err(Failure::new(FailureKind::Stopping)));
    }
}
