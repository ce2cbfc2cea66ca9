//! What came from a peer goes to no other.

use super::*;

#[test]
fn a_peers_request_for_an_expired_value_starts_a_load_here_and_is_not_forwarded() {
    let mut bench = Bench::new(2, |_| {});
    let k = key_owned_by(bench.shard.ring(), &[ME]);
    let group =
        GroupConfig { ttl: Some(10 * SECOND), stale_while_revalidate: 5 * SECOND, ..GroupConfig::default() };
    bench.shard.add_group(G, group).unwrap();
    bench.wait(&k, 1);
    let load = bench.take_load();
    bench.loaded(load, value("old"));
    bench.served();

    // By the next ring the other node owns the key; by its own it may be this one.
    let other = vec![Member::new(PeerId::new(1), "node-1:1")];
    let ring = Ring::new(Placement::Slots, RingEpoch::new(2), other).unwrap();
    bench.shard.handle_ring(bench.now, Arc::new(ring));
    bench.pass(12 * SECOND);
    let Ok(Load::Ready { answer, .. }) = bench.request(&k, 2, Route::LocalOnly) else { panic!() };
    assert_eq!(answer.unwrap().value.as_bytes(), b"old");
    bench.take_load();
    assert!(bench.out.is_empty(), "nothing is fetched on behalf of a peer");
}
