//! Hit ratios on traces, every object weighing the same: of the eviction policy by itself, and of a [`Shard`] through its public API.
//!
//! ```text
//! cargo run --release -p groupcache-core --features __bench --example hitrate -- [--window PERMILLE] [--seed N] [--adapt] TRACE...
//! ```
//!
//! A trace is a file of little-endian `u32` object ids, numbered from 0, one a request; in a file named `*.u32x2` each id is followed by a `u32`
//! size, which is not used. Cache sizes are 1, 3, 10 and 30 % of the objects, or 5, 10, 20, 40 and 70 % where there are fewer than 20 000.
//! `--window` and `--adapt` set the policy replayed by itself; a shard does as it does.
//!
//! The shard is asked as a read-through cache is: `get`, and on a miss `load` and `handle_loaded`. Entries have equal keys and values, and the
//! budget is that of the wanted number of them and of the sketch: 1 KiB for each, which is what a shard lays its sketch out for. The shares for hot copies and for "not found" are 0.

use std::error::Error;
use std::sync::Arc;
use std::time::{self, Duration};

use groupcache_core::__bench::Replay;
use groupcache_core::{
    ConfigError, ENTRY_OVERHEAD, Effects, GroupConfig, GroupId, HashedKey, Instant, Intent, Load,
    LoadRequest, Outcome, PeerId, Placement, Ring, RingEpoch, Shard, ShardConfig, Value,
};

/// What an entry takes of the budget, its part of the sketch included.
const ENTRY: u64 = 1024;
const GROUP: GroupId = GroupId::new(0);

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
    println!("{path}: {} requests, {objects} objects", ids.len());
    let percents: &[u64] = if objects < 20_000 { &[5, 10, 20, 40, 70] } else { &[1, 3, 10, 30] };
    let policy = |capacity| Ok(Replay { capacity, ..setting }.hits(&ids)?);
    table("policy", &ids, objects, percents, policy)?;
    table("shard", &ids, objects, percents, |capacity| through_a_shard(&ids, capacity, setting.seed))
}

/// Prints the hit ratio in per cent for each cache size, and their mean.
fn table(
    name: &str,
    ids: &[u32],
    objects: u64,
    percents: &[u64],
    hits: impl Fn(u32) -> Result<u64, Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let (mut sum, mut line) = (0.0, String::new());
    let start = time::Instant::now();
    for percent in percents {
        let capacity = u32::try_from((objects * percent / 100).max(1))?;
        let ratio = 100.0 * hits(capacity)? as f64 / ids.len().max(1) as f64;
        line += &format!(" {percent:>2} %: {ratio:5.2} ");
        sum += ratio;
    }
    let nanos = start.elapsed().as_nanos() as f64 / (percents.len() * ids.len().max(1)) as f64;
    let mean = sum / percents.len() as f64;
    println!("  {name:<6} mean {mean:5.2} |{line}| {nanos:.0} ns a request");
    Ok(())
}

/// The hits of a shard that holds `capacity` entries.
fn through_a_shard(ids: &[u32], capacity: u32, seed: u64) -> Result<u64, Box<dyn Error>> {
    let (mut shard, charge) = shard_of(u64::from(capacity), seed)?;
    // One value for all: it is charged as if each had its own.
    let value = Value::from(vec![0; (charge - ENTRY_OVERHEAD) as usize - size_of::<u32>()]);
    let mut out = Effects::new();
    let mut hits = 0;
    for (step, &id) in (1_u64..).zip(ids) {
        let (now, bytes) = (Instant::from_nanos(step), id.to_le_bytes());
        let key = HashedKey::new(GROUP, &bytes, hash(u64::from(id) ^ seed.rotate_left(32)));
        if shard.get(now, &key).is_some() {
            hits += 1;
            continue;
        }
        let request = LoadRequest::new(key, (), now.saturating_add(Duration::from_secs(1)));
        let Ok(Load::Wait(_)) = shard.load(now, request, &mut out) else {
            return Err("a load is refused".into());
        };
        let Some(Intent::Load { flight, attempt, .. }) = out.drain_intents().next() else {
            return Err("the origin is not asked".into());
        };
        let outcome = Outcome::Value { value: value.clone(), ttl: None };
        shard.handle_loaded(now, flight, attempt, outcome, &mut out);
        out.drain_completions();
        out.free_evicted();
    }
    Ok(hits)
}

/// A shard whose budget is that of so many entries and of its own tables, and what an entry has to be charged for that.
fn shard_of(capacity: u64, seed: u64) -> Result<(Shard<()>, u64), Box<dyn Error>> {
    let mut budget = capacity * ENTRY;
    let charge = ENTRY - tables_of(&shard(budget, seed)?) / capacity;
    loop {
        let shard = shard(budget, seed)?;
        let needed = capacity * charge + tables_of(&shard);
        if needed <= budget {
            return Ok((shard, charge));
        }
        // The greater budget may be due larger tables: until they fit.
        budget = needed;
    }
}

fn shard(budget: u64, seed: u64) -> Result<Shard<()>, ConfigError> {
    let mut config = ShardConfig::default();
    config.budget = budget;
    (config.hot_per_mille, config.negative_per_mille) = (0, 0);
    let ring = Ring::empty(Placement::default(), RingEpoch::new(0));
    let mut shard = Shard::new(0, config, PeerId::new(0), Arc::new(ring), seed, Instant::from_nanos(0))?;
    shard.add_group(GROUP, GroupConfig::default())?;
    Ok(shard)
}

/// What a shard is charged without an entry.
fn tables_of(empty: &Shard<()>) -> u64 {
    empty.usage().bytes
}

/// SplitMix64, as the policy's own replay hashes ids.
const fn hash(id: u64) -> u64 {
    let mut bits = id.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

fn read(path: &str) -> Result<Vec<u32>, Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    let stride = if path.ends_with(".u32x2") { 8 } else { 4 };
    let ids = bytes.chunks_exact(stride).map(|pair| u32::from_le_bytes([pair[0], pair[1], pair[2], pair[3]]));
    Ok(ids.collect())
}
