//! The cluster simulator, as libFuzzer drives it.

use crate::sim::run_bytes;

/// A whole fleet with a network, an etcd and an origin that fail, and then do not: every promise of the simulator holds.
pub fn cluster(data: &[u8]) {
    if let Some(violation) = run_bytes(data).and_then(|outcome| outcome.violation) {
        panic!("{violation}");
    }
}
