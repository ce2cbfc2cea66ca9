//! The locks and atomics of this crate: the standard library's, or with `--cfg shuttle` those of a model checker that tries interleavings.
//!
//! What is counted and never decided upon stays an atomic of the standard library: there is nothing to interleave.

#[cfg(not(shuttle))]
mod real {
    pub(crate) use futures_util::task::AtomicWaker;
    pub(crate) use std::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic};
}

#[cfg(shuttle)]
mod modelled {
    use std::task::Waker;

    pub(crate) use shuttle::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic};

    /// The one that is used for real, with a point before each call at which others may run.
    #[derive(Debug, Default)]
    pub(crate) struct AtomicWaker {
        waker: futures_util::task::AtomicWaker,
        point: atomic::AtomicBool,
    }

    impl AtomicWaker {
        pub(crate) fn new() -> Self {
            Self::default()
        }

        pub(crate) fn register(&self, waker: &Waker) {
            self.others_may_run();
            self.waker.register(waker);
        }

        pub(crate) fn wake(&self) {
            self.others_may_run();
            self.waker.wake();
        }

        fn others_may_run(&self) {
            let _nothing = self.point.load(atomic::Ordering::SeqCst);
        }
    }
}

#[cfg(shuttle)]
pub(crate) use modelled::*;
#[cfg(not(shuttle))]
pub(crate) use real::*;
