//! Time that stands still until a model moves it.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Duration;

// All of a model's tasks run on one thread of the system, and every run of a model starts with `reset`.
thread_local! {
    static NOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static SLEEPERS: RefCell<Vec<(Duration, Waker)>> = const { RefCell::new(Vec::new()) };
}

/// An instant of virtual time, as [`Clock`](crate::clock::Clock) needs it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VirtualOrigin(Duration);

impl VirtualOrigin {
    pub(crate) fn now() -> Self {
        Self(NOW.get())
    }

    pub(crate) fn elapsed(self) -> Duration {
        NOW.get().saturating_sub(self.0)
    }
}

/// Starts a run: time 0, nobody sleeps.
pub(super) fn reset() {
    NOW.set(Duration::ZERO);
    SLEEPERS.take();
}

/// Lets `time` pass, and wakes who slept until then.
pub(super) fn advance(time: Duration) {
    let now = NOW.get() + time;
    NOW.set(now);
    let due = SLEEPERS.with_borrow_mut(|sleepers| {
        let due: Vec<_> = sleepers.extract_if(.., |(until, _)| *until <= now).collect();
        due
    });
    for (_, waker) in due {
        waker.wake();
    }
}

/// Lets time pass until `done`, as long as somebody sleeps: up to the next one's end, again and again.
pub(super) async fn pass_until(done: impl Fn() -> bool) {
    while !done() {
        if let Some(next) = SLEEPERS.with_borrow(|sleepers| sleepers.iter().map(|(until, _)| *until).min()) {
            advance(next.saturating_sub(NOW.get()));
        }
        shuttle::future::yield_now().await;
    }
}

/// Resolves once `duration` has passed.
pub(super) async fn sleep(duration: Duration) {
    let until = NOW.get() + duration;
    poll_fn(|cx| {
        if NOW.get() >= until {
            return Poll::Ready(());
        }
        SLEEPERS.with_borrow_mut(|sleepers| sleepers.push((until, cx.waker().clone())));
        Poll::Pending
    })
    .await;
}
