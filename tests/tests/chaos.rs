//! A short share of the chaos that `cargo run -p groupcache-tests --bin chaos` runs for longer.

#![cfg(feature = "conformance")]

use std::time::Duration;

use groupcache_tests::chaos::{Plan, run};

#[test]
fn five_nodes_of_both_adapters_keep_their_promises_while_things_fail() {
    let plan = Plan { time: Duration::from_secs(25), seed: 4, ..Plan::default() };
    let verdict = run(&plan, |what| eprintln!("{what}"));
    assert!(verdict.violations.is_empty(), "{verdict}");
    eprintln!("{verdict}");
}
