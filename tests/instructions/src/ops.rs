//! The operations that are counted.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use groupcache_core::{
    Attempt, Effects, Eviction, FlightId, GroupConfig, GroupId, HashedKey, Instant, Intent, Load,
    LoadRequest, Member, Outcome, PeerId, Placement, Ring, RingEpoch, Shard, ShardConfig, Value,
};

/// An operation by name; `run` does it so many times, behind what it needs to begin with.
pub(crate) struct Op {
    pub(crate) name: &'static str,
    pub(crate) run: fn(u64),
}

pub(crate) const OPS: &[Op] = &[
    Op { name: "hit", run: hit },
    Op { name: "absent", run: absent },
    Op { name: "miss", run: miss },
    Op { name: "join", run: join },
    Op { name: "fill", run: fill },
    Op { name: "evict", run: evict },
    Op { name: "evict-b2a", run: evict_adaptive },
    Op { name: "look-up", run: look_up },
];

const GROUP: GroupId = GroupId::new(0);
const NOW: Instant = Instant::from_nanos(1);
/// Entries of a cache that is asked.
const KEYS: u64 = 1_000;

/// A shard and its loop.
struct Bench {
    shard: Shard<()>,
    out: Effects<()>,
    value: Value,
}

/// A load in progress.
type Asked = (FlightId, Attempt);

impl Bench {
    fn new(budget: u64, eviction: Eviction) -> Self {
        let mut config = ShardConfig::default();
        (config.budget, config.eviction) = (budget, eviction);
        let ring = Arc::new(Ring::empty(Placement::default(), RingEpoch::new(0)));
        let mut shard = Shard::new(0, config, PeerId::new(0), ring, 1, NOW).expect("a valid configuration");
        shard.add_group(GROUP, GroupConfig::default()).expect("a valid configuration");
        Self { shard, out: Effects::new(), value: Value::from(vec![0; 100]) }
    }

    /// With `KEYS` entries.
    fn filled() -> Self {
        let mut bench = Self::new(64 << 20, Eviction::B2);
        (0..KEYS).for_each(|name| bench.read_through(name));
        bench
    }

    fn begin(&mut self, name: u64) -> Option<Asked> {
        let key = key(name);
        let request = LoadRequest::new(hashed(&key, name), (), NOW.saturating_add(Duration::from_secs(1)));
        let load = self.shard.load(NOW, request, &mut self.out);
        assert!(matches!(load, Ok(Load::Wait(_))), "{load:?}");
        self.out.drain_intents().find_map(|intent| match intent {
            Intent::Load { flight, attempt, .. } => Some((flight, attempt)),
            _ => None,
        })
    }

    fn end(&mut self, (flight, attempt): Asked) {
        let outcome = Outcome::Value { value: self.value.clone(), ttl: None };
        self.shard.handle_loaded(NOW, flight, attempt, outcome, &mut self.out);
        self.out.drain_completions();
        self.out.free_evicted();
    }

    fn read_through(&mut self, name: u64) {
        let asked = self.begin(name).expect("nobody else loads it");
        self.end(asked);
    }
}

/// 16 bytes.
fn key(name: u64) -> [u8; 16] {
    let mut key = *b"user:0000000000!";
    key[5..13].copy_from_slice(&name.to_le_bytes());
    key
}

fn hashed(key: &[u8; 16], name: u64) -> HashedKey<'_> {
    let bits = (name + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    HashedKey::new(GROUP, key, bits ^ (bits >> 31))
}

fn hit(times: u64) {
    let bench = Bench::filled();
    for turn in 0..times {
        let (name, key) = (turn % KEYS, key(turn % KEYS));
        let answer = bench.shard.get(NOW, black_box(&hashed(&key, name)));
        assert!(black_box(answer).is_some());
    }
}

fn absent(times: u64) {
    let bench = Bench::filled();
    for turn in 0..times {
        let (name, key) = (KEYS + turn % KEYS, key(KEYS + turn % KEYS));
        assert!(bench.shard.get(NOW, black_box(&hashed(&key, name))).is_none());
    }
}

/// Starts loads, and ends each without a value.
fn miss(times: u64) {
    let mut bench = Bench::filled();
    for turn in 0..times {
        let (flight, attempt) = bench.begin(KEYS + turn).expect("nobody else loads it");
        let outcome =
            Outcome::Failed(groupcache_core::Failure::new(groupcache_core::FailureKind::OriginFailed));
        bench.shard.handle_loaded(NOW, flight, attempt, outcome, &mut bench.out);
        bench.out.drain_completions();
    }
}

/// Joins a load, and leaves it.
fn join(times: u64) {
    let mut bench = Bench::filled();
    bench.begin(KEYS);
    let key = key(KEYS);
    for _ in 0..times {
        let request = LoadRequest::new(hashed(&key, KEYS), (), NOW.saturating_add(Duration::from_secs(1)));
        let Ok(Load::Wait(ticket)) = bench.shard.load(NOW, request, &mut bench.out) else { return };
        assert!(bench.shard.cancel(NOW, ticket, &mut bench.out).is_some());
    }
}

/// Loads and stores while there is room.
fn fill(times: u64) {
    let mut bench = Bench::new(256 << 20, Eviction::B2);
    (0..times).for_each(|name| bench.read_through(name));
}

/// Loads and stores where each entry takes the place of another.
fn evict(times: u64) {
    replace(times, Eviction::B2);
}

fn evict_adaptive(times: u64) {
    replace(times, Eviction::B2Adaptive);
}

fn replace(times: u64, eviction: Eviction) {
    let mut bench = Bench::new(1 << 20, eviction);
    (0..20 * KEYS + times).for_each(|name| bench.read_through(name));
}

/// Who owns a key, among a hundred.
fn look_up(times: u64) {
    let members = (0..100).map(|id| Member::new(PeerId::new(id), format!("10.0.0.{id}:6324"))).collect();
    let ring = Ring::new(Placement::default(), RingEpoch::new(1), members).expect("valid members");
    for turn in 0..times {
        assert!(black_box(ring.owner(black_box(&key(turn)))).is_some());
    }
}
