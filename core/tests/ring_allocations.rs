//! Asking a ring never allocates: counted, on the thread that asks.

use std::hint::black_box;

use groupcache_core::{Member, PeerId, Placement, Ring, RingEpoch};

use self::counting::allocations;

#[path = "common/counting.rs"]
mod counting;

#[test]
fn owners_successors_and_members_are_found_without_allocating() {
    for placement in Placement::ALL {
        let name = |i| format!("cache-{i}.example:6324");
        let members = (0..20).map(|i| Member::new(PeerId::new(i), name(i))).collect();
        let ring = Ring::new(placement, RingEpoch::new(1), members).expect("a ring");
        let (count, ()) = allocations(|| {
            for key in [&b"user:1"[..], b"user:2", &[7; 1000]] {
                black_box(ring.owner(key));
                assert_eq!(black_box(ring.successors(key)).count(), 20);
            }
            black_box((
                ring.member(PeerId::new(3)),
                ring.by_name("cache-3.example:6324"),
                ring.share(PeerId::new(3)),
            ));
        });
        assert_eq!(count, 0, "{placement}");
        assert!(allocations(|| black_box(ring.clone())).0 > 0, "the counter counts");
    }
}
