//! Bodies of the fuzz targets: `fuzz/` holds a few lines for each, so that everything else is compiled and run by stable `cargo test`.
//!
//! A body decodes what it does from the bytes it is given, and panics when an invariant does not hold. Any bytes will do.

mod time;

pub use time::time;

/// A body.
pub type Body = fn(&[u8]);

/// Every body by the name of its target.
pub const BODIES: &[(&str, Body)] = &[("time", time)];
