//! Bodies of the fuzz targets: `fuzz/` holds a few lines for each, so that everything else is compiled and run by stable `cargo test`.
//!
//! A body decodes what it does from the bytes it is given, and panics when an invariant does not hold. Any bytes will do.

mod authority;
mod cluster;
mod link;
mod membership;
mod node;
mod policy;
mod removal;
mod ring;
mod shard;
mod time;
mod wire;

pub use authority::authority;
pub use cluster::cluster;
pub use link::link;
pub use membership::membership;
pub use node::node;
pub use policy::policy;
pub use removal::removal;
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
    Body { name: "cluster", run: cluster, seeds: 150 },
    Body { name: "link", run: link, seeds: 300 },
    Body { name: "membership", run: membership, seeds: 300 },
    Body { name: "node", run: node, seeds: 60 },
    Body { name: "policy", run: policy, seeds: 60 },
    Body { name: "removal", run: removal, seeds: 300 },
    Body { name: "ring", run: ring, seeds: 8 },
    Body { name: "shard", run: shard, seeds: 300 },
    Body { name: "time", run: time, seeds: 300 },
    Body { name: "wire", run: wire, seeds: 1500 },
];

/// An input from a seed: up to 4 KiB; sparse ones too, since most decoders end early on noise.
#[must_use]
pub fn seeded(seed: u64) -> Vec<u8> {
    let mut state = (seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let (length, sparse) = (next() % 4096, seed.is_multiple_of(3));
    (0..length).map(|_| if sparse && next() % 4 != 0 { 0 } else { next().to_le_bytes()[5] }).collect()
}
