//! One timer for all machines of a node: sleeps until the earliest wake, and is told when an earlier one comes up.

use std::future::poll_fn;
use std::task::Poll;

use futures_util::future::{Either, select};
use groupcache_core::{Instant, Wake};

use crate::clock::Clock;
use crate::rt::Runtime;
use crate::sync::AtomicWaker;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Holds when the node's timer task goes off. Machines are mutated from any task; each one reports its wake here after its lock is released.
#[derive(Debug)]
pub(crate) struct Alarm {
    /// Nanoseconds: when the task wakes by itself. `u64::MAX` for never.
    armed: AtomicU64,
    waker: AtomicWaker,
}

impl Alarm {
    pub(crate) fn new() -> Self {
        Self { armed: AtomicU64::new(u64::MAX), waker: AtomicWaker::new() }
    }

    /// A machine wants a call at `wake`: goes off earlier if that is earlier.
    pub(crate) fn want(&self, wake: Wake) {
        let at = match wake {
            Wake::Now => 0,
            Wake::At(at) => at.as_nanos(),
            Wake::Idle => return,
        };
        if self.armed.fetch_min(at, Ordering::AcqRel) > at {
            self.waker.wake();
        }
    }

    /// Goes off at once: something other than a deadline has changed.
    pub(crate) fn ring(&self) {
        self.want(Wake::Now);
    }

    /// Forgets what was wanted. Called before the machines are asked anew, so that nothing that comes up meanwhile is lost.
    pub(crate) fn disarm(&self) {
        self.armed.store(u64::MAX, Ordering::Release);
    }

    /// Sleeps until the alarm goes off. One task only.
    pub(crate) async fn wait(&self, rt: &dyn Runtime, clock: Clock) {
        loop {
            let armed = self.armed.load(Ordering::Acquire);
            let changed = poll_fn(|cx| {
                self.waker.register(cx.waker());
                if self.armed.load(Ordering::Acquire) == armed { Poll::Pending } else { Poll::Ready(()) }
            });
            if armed == u64::MAX {
                changed.await;
                continue;
            }
            let left = clock.until(Instant::from_nanos(armed));
            if left.is_zero() {
                return;
            }
            match select(rt.sleep(left), changed).await {
                Either::Left(_) | Either::Right(_) => {}
            }
        }
    }
}
