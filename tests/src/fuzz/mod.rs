//! Bodies of the fuzz targets: `fuzz/` holds a few lines for each, so that everything else is compiled and run by stable `cargo test`.
//!
//! A body decodes what it does from the bytes it is given, and panics when an invariant does not hold. Any bytes will do.

mod authority;
mod link;
mod node;
mod ring;
mod shard;
mod time;
mod wire;

pub use authority::authority;
pub use link::link;
pub use node::node;
pub use ring::ring;
pub use shard::{run_shard, shard};
pub use time::time;
pub use wire::wire;

/// A body, by the name of its target.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    /// The target's name.
    pub name: &'static str,
    /// Runs the body on an input.
    pub run: fn(&[u8]),
    /// How many inputs from a seed `cargo test` runs: as many as take a second or two without optimisation.
    pub seeds: u64,
}

/// Every body.
pub const BODIES: &[Body] = &[
    Body { name: "authority", run: authority, seeds: 3000 },
    Body { name: "link", run: link, seeds: 300 },
    Body { name: "node", run: node, seeds: 60 },
    Body { name: "ring", run: ring, seeds: 8 },
    Body { name: "shard", run: shard, seeds: 300 },
    Body { name: "time", run: time, seeds: 300 },
    Body { name: "wire", run: wire, seeds: 1500 },
];
