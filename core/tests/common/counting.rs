//! An allocator that counts, for each thread by itself: tests that run beside each other do not disturb the count.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static LIVE_BYTES: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed on to the system's allocator unchanged; the counters are plain cells that need no allocation. What is not
// written here (growing a block, zeroed ones) goes through `alloc` by default, and counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        LIVE_BYTES.set(LIVE_BYTES.get().wrapping_add(layout.size()));
        // SAFETY: the caller's promises are the ones that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE_BYTES.set(LIVE_BYTES.get().wrapping_sub(layout.size()));
        // SAFETY: as above, and `at` came from `System`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many blocks `call` allocates on this thread, and what it answers.
#[allow(dead_code)] // Not every test asks.
pub(crate) fn allocations<T>(call: impl FnOnce() -> T) -> (usize, T) {
    let before = ALLOCATIONS.get();
    let answer = call();
    (ALLOCATIONS.get() - before, answer)
}

/// How many more bytes are allocated on this thread after `call` than before, and what it answers.
#[allow(dead_code)] // Not every test asks.
pub(crate) fn bytes_kept<T>(call: impl FnOnce() -> T) -> (usize, T) {
    let before = LIVE_BYTES.get();
    let answer = call();
    (LIVE_BYTES.get().wrapping_sub(before), answer)
}
