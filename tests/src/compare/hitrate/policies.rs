//! The contenders as read-through caches of one shard and a capacity in bytes of objects.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use foyer_memory::{
    Cache as Foyer, CacheBuilder, EvictionConfig, FifoConfig, LfuConfig, LruConfig, S3FifoConfig, SieveConfig,
};
use groupcache_core::{
    ENTRY_OVERHEAD, Effects, Eviction, GroupConfig, GroupId, HashedKey, Instant, Intent, Load, LoadRequest,
    Outcome as Origin, PeerId, Placement, Ring, RingEpoch, Shard, ShardConfig, Value,
};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter, sync::Cache as QuickCache};
use tinyufo::TinyUfo;

use super::super::Outcome;
use super::super::random::mix;
use super::trace::Trace;

/// A cache that loads what it does not have.
pub(super) trait Policy {
    /// Asks for an object of so many bytes. Whether it was there.
    fn request(&mut self, id: u32, size: u32) -> Outcome<bool>;
}

/// A policy by name.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) make: fn(&Trace, u64) -> Outcome<Box<dyn Policy>>,
}

/// What ships: the window adapts.
pub(super) const ADAPTIVE: &str = "groupcache B2a";
pub(super) const LRU: &str = "LRU";

pub(super) const POLICIES: &[Kind] = &[
    Kind {
        name: ADAPTIVE,
        make: |trace, capacity| Ok(Box::new(Ours::new(trace, capacity, Eviction::B2Adaptive)?)),
    },
    Kind {
        name: "groupcache B2",
        make: |trace, capacity| Ok(Box::new(Ours::new(trace, capacity, Eviction::B2)?)),
    },
    Kind { name: LRU, make: |trace, capacity| Ok(Box::new(Lru::new(trace.objects(), capacity))) },
    Kind { name: "moka", make: |_, capacity| Ok(Box::new(moka_of(capacity))) },
    Kind { name: "quick_cache", make: |trace, capacity| Ok(Box::new(quick_cache_of(trace, capacity)?)) },
    Kind { name: "foyer lru", make: |_, capacity| foyer(capacity, LruConfig::default()) },
    Kind { name: "foyer lfu", make: |_, capacity| foyer(capacity, LfuConfig::default()) },
    Kind { name: "foyer s3fifo", make: |_, capacity| foyer(capacity, S3FifoConfig::default()) },
    Kind { name: "foyer sieve", make: |_, capacity| foyer(capacity, SieveConfig::default()) },
    Kind { name: "foyer fifo", make: |_, capacity| foyer(capacity, FifoConfig::default()) },
    Kind { name: "TinyUFO", make: |trace, capacity| Ok(Box::new(TinyUfoOf::new(trace, capacity))) },
];

/// A shard, asked as an embedder asks it.
struct Ours {
    shard: Shard<()>,
    out: Effects<()>,
    /// Charged bytes for a byte of an object: so that the mean object is charged [`MEAN_CHARGE`], overhead and key included.
    scale: f64,
    /// One value of each length: it is charged as if every object had its own.
    values: HashMap<usize, Value>,
    step: u64,
}

/// What the mean object is charged. Large beside the overhead, so that a capacity in bytes of objects is one in bytes charged.
const MEAN_CHARGE: f64 = 1024.0;
const GROUP: GroupId = GroupId::new(0);
const KEY: usize = size_of::<u32>();

impl Ours {
    fn new(trace: &Trace, capacity: u64, eviction: Eviction) -> Outcome<Self> {
        let scale = MEAN_CHARGE * trace.objects() as f64 / trace.footprint() as f64;
        let charged = (capacity as f64 * scale).ceil() as u64;
        let mut budget = charged;
        // What its tables take is added, until they and all the entries fit.
        let shard = loop {
            let shard = shard_of(budget, eviction)?;
            let needed = charged + shard.usage().bytes;
            if needed <= budget {
                break shard;
            }
            budget = needed;
        };
        Ok(Self { shard, out: Effects::new(), scale, values: HashMap::new(), step: 0 })
    }

    fn value(&mut self, size: u32) -> Value {
        let charge = (f64::from(size) * self.scale).round() as usize;
        let len = charge.saturating_sub(ENTRY_OVERHEAD as usize + KEY);
        self.values.entry(len).or_insert_with(|| Value::from(vec![0; len])).clone()
    }
}

fn shard_of(budget: u64, eviction: Eviction) -> Outcome<Shard<()>> {
    let mut config = ShardConfig::default();
    (config.budget, config.eviction) = (budget, eviction);
    (config.hot_per_mille, config.negative_per_mille) = (0, 0);
    let ring = Ring::empty(Placement::default(), RingEpoch::new(0));
    let mut shard = Shard::new(0, config, PeerId::new(0), Arc::new(ring), 1, Instant::ZERO)?;
    shard.add_group(GROUP, GroupConfig::default())?;
    Ok(shard)
}

impl Policy for Ours {
    fn request(&mut self, id: u32, size: u32) -> Outcome<bool> {
        self.step += 1;
        let (now, bytes) = (Instant::from_nanos(self.step), id.to_le_bytes());
        let key = HashedKey::new(GROUP, &bytes, mix(u64::from(id) + 1));
        if self.shard.get(now, &key).is_some() {
            return Ok(true);
        }
        let request = LoadRequest::new(key, (), now.saturating_add(Duration::from_secs(1)));
        let Ok(Load::Wait(_)) = self.shard.load(now, request, &mut self.out) else {
            return Err("a load is refused".into());
        };
        let Some(Intent::Load { flight, attempt, .. }) = self.out.drain_intents().next() else {
            return Err("the origin is not asked".into());
        };
        let outcome = Origin::Value { value: self.value(size), ttl: None };
        self.shard.handle_loaded(now, flight, attempt, outcome, &mut self.out);
        self.out.drain_completions();
        self.out.free_evicted();
        Ok(false)
    }
}

/// What was asked for least recently goes first. A list through the objects' numbers.
struct Lru {
    /// By object, and behind them the list's end: the neighbours towards the newest and the oldest. An object that is not held is its own.
    links: Vec<(u32, u32)>,
    sizes: Vec<u32>,
    used: u64,
    capacity: u64,
}

impl Lru {
    fn new(objects: usize, capacity: u64) -> Self {
        Self {
            links: (0..=objects as u32).map(|at| (at, at)).collect(),
            sizes: vec![0; objects],
            used: 0,
            capacity,
        }
    }

    /// Where the list begins and ends.
    const fn end(&self) -> u32 {
        self.links.len() as u32 - 1
    }

    fn unlink(&mut self, id: u32) {
        let (newer, older) = std::mem::replace(&mut self.links[id as usize], (id, id));
        (self.links[newer as usize].1, self.links[older as usize].0) = (older, newer);
    }

    fn push(&mut self, id: u32) {
        let end = self.end();
        let older = std::mem::replace(&mut self.links[end as usize].1, id);
        self.links[older as usize].0 = id;
        self.links[id as usize] = (end, older);
    }
}

impl Policy for Lru {
    fn request(&mut self, id: u32, size: u32) -> Outcome<bool> {
        let held = self.links[id as usize] != (id, id);
        if held {
            self.unlink(id);
        } else if u64::from(size) > self.capacity {
            return Ok(false);
        } else {
            self.used += u64::from(size);
            self.sizes[id as usize] = size;
        }
        self.push(id);
        while self.used > self.capacity {
            let oldest = self.links[self.end() as usize].0;
            self.unlink(oldest);
            self.used -= u64::from(self.sizes[oldest as usize]);
        }
        Ok(held)
    }
}

/// The value of an object is its size.
type Moka = moka::sync::Cache<u32, u32, RandomState>;

fn moka_of(capacity: u64) -> Moka {
    let builder = moka::sync::Cache::<u32, u32>::builder().max_capacity(capacity).weigher(|_, &size| size);
    builder.build_with_hasher(RandomState::with_seeds(1, 2, 3, 4))
}

impl Policy for Moka {
    fn request(&mut self, id: u32, size: u32) -> Outcome<bool> {
        if self.get(&id).is_some() {
            return Ok(true);
        }
        self.insert(id, size);
        // Or it exceeds its capacity for a while.
        self.run_pending_tasks();
        Ok(false)
    }
}

/// Weighs objects by their sizes.
#[derive(Clone)]
struct BySize;

impl Weighter<u32, u32> for BySize {
    fn weight(&self, _: &u32, &size: &u32) -> u64 {
        size.into()
    }
}

fn quick_cache_of(trace: &Trace, capacity: u64) -> Outcome<QuickCache<u32, u32, BySize>> {
    let mean = trace.footprint() / trace.objects() as u64;
    let options = OptionsBuilder::new()
        .estimated_items_capacity((capacity / mean.max(1)).max(1) as usize)
        .weight_capacity(capacity)
        .shards(1)
        .build()
        .map_err(|error| error.to_string())?;
    Ok(QuickCache::with_options(options, BySize, DefaultHashBuilder::default(), Default::default()))
}

impl Policy for QuickCache<u32, u32, BySize> {
    fn request(&mut self, id: u32, size: u32) -> Outcome<bool> {
        let held = self.get(&id).is_some();
        if !held {
            self.insert(id, size);
        }
        Ok(held)
    }
}

fn foyer(capacity: u64, eviction: impl Into<EvictionConfig>) -> Outcome<Box<dyn Policy>> {
    let builder = CacheBuilder::new(capacity as usize).with_shards(1).with_eviction_config(eviction);
    let cache: Foyer<u32, u32> = builder.with_weighter(|_, &size| size as usize).build();
    Ok(Box::new(cache))
}

impl Policy for Foyer<u32, u32> {
    fn request(&mut self, id: u32, size: u32) -> Outcome<bool> {
        let held = self.get(&id).is_some();
        // It takes what is larger than itself, and empties itself for it.
        if !held && size as usize <= self.capacity() {
            self.insert(id, size);
        }
        Ok(held)
    }
}

/// TinyUFO weighs in 16 bits: larger objects are counted in units.
struct TinyUfoOf {
    cache: TinyUfo<u32, u32>,
    unit: u32,
}

impl TinyUfoOf {
    fn new(trace: &Trace, capacity: u64) -> Self {
        let largest = trace.requests.iter().map(|request| request.size).max().unwrap_or(1);
        let unit = largest.div_ceil(u32::from(u16::MAX));
        let mean = (trace.footprint() / trace.objects() as u64).max(1);
        let (limit, entries) = (capacity / u64::from(unit), (capacity / mean).max(1));
        Self { cache: TinyUfo::new(limit as usize, entries as usize), unit }
    }
}

impl Policy for TinyUfoOf {
    fn request(&mut self, id: u32, size: u32) -> Outcome<bool> {
        let held = self.cache.get(&id).is_some();
        if !held {
            let weight = size.div_ceil(self.unit).max(1);
            self.cache.put(id, size, u16::try_from(weight).unwrap_or(u16::MAX));
        }
        Ok(held)
    }
}
