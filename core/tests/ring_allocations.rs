//! Asking a ring never allocates: counted, on the thread that asks.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use groupcache_core::{Member, PeerId, Placement, Ring, RingEpoch};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed on to the system's allocator unchanged; the counter is a plain cell that needs no allocation.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are the ones that `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as above, and `at` came from `System`.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn owners_successors_and_members_are_found_without_allocating() {
    for placement in Placement::ALL {
        let name = |i| format!("cache-{i}.example:6324");
        let members = (0..20).map(|i| Member::new(PeerId::new(i), name(i))).collect();
        let ring = Ring::new(placement, RingEpoch::new(1), members).expect("a ring");
        let before = ALLOCATIONS.get();
        for key in [&b"user:1"[..], b"user:2", &[7; 1000]] {
            black_box(ring.owner(key));
            assert_eq!(black_box(ring.successors(key)).count(), 20);
        }
        black_box((
            ring.member(PeerId::new(3)),
            ring.by_name("cache-3.example:6324"),
            ring.share(PeerId::new(3)),
        ));
        assert_eq!(ALLOCATIONS.get(), before, "{placement}");
        black_box(ring.clone());
        assert!(ALLOCATIONS.get() > before, "the counter counts");
    }
}
