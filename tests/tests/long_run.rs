//! The long run: a random workload on shards, by both routes, with every kind of answer, cancellations, removals, flushes, other rings and jumps of
//! time. Against a model, all invariants recounted after each operation; in the end no waiter, load or timer is left.
//!
//! `cargo test` runs a share of it. Ten million operations:
//!
//! ```text
//! GROUPCACHE_OPERATIONS=10000000 cargo test --release -p groupcache-tests --test long_run -- --nocapture
//! ```

use std::time::Instant;

use groupcache_tests::fuzz::run_shard;

/// An operation decodes from some 5 bytes: one shard lives for about 50,000 of them.
const INPUT: usize = 1 << 18;
const SHARE: u64 = 200_000;

#[test]
fn a_random_workload_keeps_every_invariant_and_leaves_no_waiter_load_or_timer_behind() {
    let wanted = match std::env::var("GROUPCACHE_OPERATIONS") {
        Ok(number) => number.parse().expect("GROUPCACHE_OPERATIONS is a number"),
        Err(_) => SHARE,
    };
    let (start, mut done, mut seed) = (Instant::now(), 0, 0);
    while done < wanted {
        seed += 1;
        eprintln!("seed {seed}, after {done} operations"); // Shown when it panics.
        done += run_shard(&bytes(seed, INPUT));
    }
    println!("{done} operations on {seed} shards in {:?}", start.elapsed());
}

/// SplitMix64.
fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0xd134_2543_de82_ef95);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)).to_le_bytes()
    };
    (0..len.div_ceil(8)).flat_map(|_| next()).collect()
}
