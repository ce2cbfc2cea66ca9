//! Hit ratios of the eviction policy on traces, every object weighing the same.
//!
//! ```text
//! cargo run --release -p groupcache-core --features __bench --example hitrate -- [--window PERMILLE] [--seed N] [--adapt] TRACE...
//! ```
//!
//! A trace is a file of little-endian `u32` object ids, numbered from 0, one a request; in a file named `*.u32x2` each id is followed by a `u32`
//! size, which is not used. Cache sizes are 1, 3, 10 and 30 % of the objects, or 5, 10, 20, 40 and 70 % where there are fewer than 20 000.

use std::error::Error;
use std::time::Instant;

use groupcache_core::__bench::Replay;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let mut setting = Replay { capacity: 0, seed: 0, window: None, adapt: false };
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--adapt" => setting.adapt = true,
            "--window" => {
                setting.window = Some(args.next().ok_or("--window takes a number of thousandths")?.parse()?);
            }
            "--seed" => setting.seed = args.next().ok_or("--seed takes a number")?.parse()?,
            path => replay(path, setting).map_err(|error| format!("{path}: {error}"))?,
        }
    }
    Ok(())
}

fn replay(path: &str, setting: Replay) -> Result<(), Box<dyn Error>> {
    let ids = read(path)?;
    let objects = ids.iter().max().map_or(0, |&most| u64::from(most) + 1);
    let percents: &[u64] = if objects < 20_000 { &[5, 10, 20, 40, 70] } else { &[1, 3, 10, 30] };
    let (mut sum, mut line) = (0.0, String::new());
    let start = Instant::now();
    for percent in percents {
        let capacity = u32::try_from((objects * percent / 100).max(1))?;
        let hits = Replay { capacity, ..setting }.hits(&ids)?;
        let ratio = 100.0 * hits as f64 / ids.len().max(1) as f64;
        line += &format!(" {percent:>2} %: {ratio:5.2} ");
        sum += ratio;
    }
    let nanos = start.elapsed().as_nanos() as f64 / (percents.len() * ids.len().max(1)) as f64;
    let mean = sum / percents.len() as f64;
    println!(
        "{path}: mean {mean:5.2} |{line}| {} requests, {objects} objects, {nanos:.0} ns a request",
        ids.len()
    );
    Ok(())
}

fn read(path: &str) -> Result<Vec<u32>, Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    let stride = if path.ends_with(".u32x2") { 8 } else { 4 };
    let ids = bytes.chunks_exact(stride).map(|pair| u32::from_le_bytes([pair[0], pair[1], pair[2], pair[3]]));
    Ok(ids.collect())
}
