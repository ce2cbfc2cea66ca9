//! The locks and atomics of this crate: the standard library's, or with `--cfg shuttle` those of a model checker that tries interleavings.
//!
//! What is counted and never decided upon stays an atomic of the standard library: there is nothing to interleave.

#[cfg(not(shuttle))]
mod real {
    pub(crate) use futures_util::task::AtomicWaker;
    pub(crate) use std::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic};

    #[inline]
    pub(crate) const fn others_may_run() {}
}

#[cfg(shuttle)]
mod modelled {
    use std::task::Waker;

    pub(crate) use shuttle::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic};

    /// The one that is used for real, with a point before each call at which others may run.
    #[derive(Debug, Default)]
    pub(crate) struct AtomicWaker {
        waker: futures_util::task::AtomicWaker,
    }

    impl AtomicWaker {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn register(&self, waker: &Waker) {
            others_may_run();
            self.waker.register(waker);
        }

        pub(crate) fn wake(&self) {
            others_may_run();
            self.waker.wake();
        }
    }

    /// A point at which others may run, for what is made of atomics of the standard library.
    pub(crate) fn others_may_run() {
        let _nothing = atomic::AtomicBool::new(false).load(atomic::Ordering::SeqCst);
    }
}

#[cfg(shuttle)]
pub(crate) use modelled::*;
#[cfg(not(shuttle))]
pub(crate) use real::*;
