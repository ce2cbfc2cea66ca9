//! How long the core's operations take: `cargo bench -p groupcache-core`. The same ones whose instructions `tests/instructions` counts; a count is
//! what to go by on a machine that others use.

#[path = "../../tests/instructions/src/ops.rs"]
mod ops;

use std::fmt;

use divan::Bencher;
use divan::counter::ItemsCount;

use self::ops::{OPS, Op};

/// So many that what an operation needs to begin with does not show.
const TIMES: u64 = 500_000;

fn main() {
    divan::main();
}

#[divan::bench(args = OPS, sample_count = 10, sample_size = 1)]
fn machine(bencher: Bencher<'_, '_>, op: &Op) {
    bencher.counter(ItemsCount::new(TIMES)).bench(|| (op.run)(TIMES));
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}
