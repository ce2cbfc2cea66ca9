//! The byte budget: kept after every call, and charged by the documented formula.

use std::num::NonZeroUsize;
use std::time::Duration;

use groupcache_core::{
    Attempt, Call, ENTRY_OVERHEAD, Effects, Eviction, Failure, FailureKind, FlightId, HashedKey, Instant,
    Intent, Load, LoadRequest, Outcome, Route, Shard, ShardConfig, Value,
};

use self::common::{GROUP, ME, hashed, shard};
use self::counting::bytes_kept;
use self::random::Random;

mod common;
#[path = "common/counting.rs"]
mod counting;
#[path = "common/random.rs"]
mod random;

const NOW: Instant = Instant::from_nanos(1);

/// A shard that calls are made on one at a time; its budget is looked at after each.
struct Bench {
    shard: Shard<()>,
    out: Effects<()>,
}

impl Bench {
    fn new(change: impl FnOnce(&mut ShardConfig)) -> Self {
        Self { shard: shard(2, NOW, change), out: Effects::new() }
    }

    fn call<T>(&mut self, call: impl FnOnce(&mut Shard<()>, &mut Effects<()>) -> T) -> T {
        let answer = call(&mut self.shard, &mut self.out);
        let usage = self.shard.usage();
        assert!(usage.bytes <= usage.budget, "{usage:?}");
        answer
    }

    fn bytes(&self) -> u64 {
        self.shard.usage().bytes
    }

    fn load(&mut self, now: Instant, key: HashedKey<'_>, route: Route) -> Option<(FlightId, Attempt, bool)> {
        let request = LoadRequest::new(key, (), now.saturating_add(Duration::from_secs(9))).route(route);
        let load = self.call(|shard, out| shard.load(now, request, out)).expect("within the limits");
        if matches!(load, Load::Ready { .. }) {
            return None;
        }
        let intents = self.out.drain_intents().map(|intent| match intent {
            Intent::Load { flight, attempt, .. } => (flight, attempt, true),
            other => panic!("{other:?}"),
        });
        let asked = intents.collect::<Vec<_>>().pop();
        let calls = self.out.drain_calls().map(|call| match call {
            Call::Fetch { item, .. } => (item.flight, item.attempt, false),
            other => panic!("{other:?}"),
        });
        calls.collect::<Vec<_>>().pop().or(asked)
    }

    fn answer(&mut self, now: Instant, asked: (FlightId, Attempt, bool), outcome: Outcome) {
        let (flight, attempt, from_origin) = asked;
        self.call(|shard, out| match from_origin {
            true => shard.handle_loaded(now, flight, attempt, outcome, out),
            false => shard.handle_fetched(now, flight, attempt, outcome, out),
        });
        self.out.free_evicted();
        self.out.drain_completions();
    }

    fn fill(&mut self, key: &[u8], outcome: Outcome) {
        let asked = self.load(NOW, hashed(key), Route::Cluster).expect("a miss");
        self.answer(NOW, asked, outcome);
    }

    /// What live entries of these keys come to by the documented formula.
    fn recount(&self, now: Instant, keys: impl Iterator<Item = [u8; 2]>) -> u64 {
        let charge = |key: [u8; 2]| match self.shard.get(now, &hashed(&key)) {
            Some(Ok(fetched)) => key.len() as u64 + fetched.value.len() as u64 + ENTRY_OVERHEAD,
            Some(Err(_)) => key.len() as u64 + ENTRY_OVERHEAD,
            None => 0,
        };
        keys.map(charge).sum()
    }
}

fn value(len: usize) -> Outcome {
    Outcome::Value { value: Value::from(vec![0; len]), ttl: None }
}

/// A key of `len` bytes that this node owns, or does not.
fn key(shard: &Shard<()>, len: usize, mine: bool) -> Vec<u8> {
    let keys = (0..=255).map(|first| {
        let mut key = vec![b'k'; len];
        key[0] = first;
        key
    });
    let owned = |key: &Vec<u8>| shard.ring().owner(key).is_some_and(|owner| (owner.id() == ME) == mine);
    keys.into_iter().find(owned).expect("one in two keys is")
}

fn one_share(config: &mut ShardConfig) {
    (config.hot_per_mille, config.negative_per_mille) = (0, 0);
}

#[test]
fn the_budget_holds_after_every_call_with_values_from_no_bytes_to_the_limit() {
    const LIMIT: usize = 40_000;
    for (seed, budget) in (1..).zip([1, 2, 137, 500, 4_099, 65_537, 300_001]) {
        let mut bench = Bench::new(|config| {
            config.budget = budget;
            config.max_value_len = NonZeroUsize::new(LIMIT).expect("above zero");
        });
        let (mut random, mut now, mut open) = (Random(seed), NOW, Vec::new());
        for step in 0..6_000 {
            let key = (random.below(700) as u16).to_le_bytes();
            let key = hashed(&key);
            match random.below(16) {
                0 => drop(bench.call(|shard, out| shard.invalidate(now, &key, out))),
                1 if random.one_in(20) => drop(bench.call(|shard, _| shard.flush(now, GROUP))),
                2 => now = now.saturating_add(Duration::from_millis(random.below(200))),
                3 if random.one_in(9) => drop(bench.call(|shard, out| shard.handle_timeout(now, out))),
                4..10 => open.extend(bench.load(now, key, Route::Cluster)),
                _ if open.is_empty() => open.extend(bench.load(now, key, Route::LocalOnly)),
                _ => {
                    let asked = open.swap_remove(random.below(open.len() as u64) as usize);
                    let outcome = match random.below(8) {
                        0 => Outcome::Failed(Failure::new(FailureKind::NotFound)),
                        1 => value(0),
                        2 => value(LIMIT),
                        3 => value(random.below(LIMIT as u64) as usize),
                        _ => value(random.below(300) as usize),
                    };
                    bench.answer(now, asked, outcome);
                }
            }
            bench.out.free_evicted();
            if step % 500 == 0 {
                let live = bench.recount(now, (0..700_u16).map(u16::to_le_bytes));
                assert!(live <= bench.bytes(), "{live} bytes of entries, {} are charged", bench.bytes());
            }
        }
        assert!(budget < 4_096 || bench.shard.stats().evictions > 100, "{:?}", bench.shard.stats());
    }
}

#[test]
fn an_entry_is_charged_its_key_its_value_and_the_documented_overhead() {
    let mut bench = Bench::new(|config| config.budget = 256 << 20);
    let tables = bench.bytes();
    for mine in [true, false] {
        for key_len in [1, 8, 1000, 128 << 10] {
            for len in [0, 1, 100, 65_536, 16 << 20] {
                let key = key(&bench.shard, key_len, mine);
                bench.fill(&key, value(len));
                assert_eq!(bench.bytes() - tables, (key_len + len) as u64 + ENTRY_OVERHEAD);
                assert!(bench.call(|shard, out| shard.invalidate(NOW, &hashed(&key), out)));
                assert_eq!(bench.bytes(), tables, "a removed entry costs nothing");
            }
        }
    }
    let missing = key(&bench.shard, 8, true);
    bench.fill(&missing, Outcome::Failed(Failure::new(FailureKind::NotFound)));
    assert_eq!(bench.bytes() - tables, 8 + ENTRY_OVERHEAD, "\"not found\" is charged as a value of no bytes");
}

#[test]
fn a_replaced_value_changes_the_charge_by_the_difference() {
    let mut bench = Bench::new(|_| {});
    let (tables, key, second) = (bench.bytes(), key(&bench.shard, 8, true), Duration::from_secs(1));
    let mut now = NOW;
    for len in [500, 20, 0, 70_000, 1] {
        let asked = bench.load(now, hashed(&key), Route::Cluster).expect("it has expired");
        let value = Value::from(vec![0; len]);
        bench.answer(now, asked, Outcome::Value { value, ttl: Some(second) });
        assert_eq!(bench.bytes() - tables, 8 + len as u64 + ENTRY_OVERHEAD);
        now = now.saturating_add(second);
    }
}

#[test]
fn the_largest_value_that_fits_uses_the_budget_up_to_its_last_byte_and_one_byte_more_is_not_kept() {
    for budget in [1 << 10, 10_007, 1 << 20] {
        let bench = |budget| {
            Bench::new(|config| {
                config.budget = budget;
                one_share(config);
            })
        };
        let (mut fits, mut exceeds) = (bench(budget), bench(budget));
        let (tables, key) = (fits.bytes(), key(&fits.shard, 8, true));
        let len = (budget - tables - 8 - ENTRY_OVERHEAD) as usize;
        fits.fill(&key, value(len));
        assert_eq!((fits.bytes(), fits.shard.stats().not_stored), (budget, 0));
        exceeds.fill(&key, value(len + 1));
        assert_eq!((exceeds.bytes(), exceeds.shard.stats().not_stored), (tables, 1));
    }
}

#[test]
fn an_empty_shard_is_charged_its_sketch_alone_16_to_32_bytes_for_each_entry_of_1_kib() {
    for entries in [1_000, 1_024, 1_025, 65_000] {
        let bench = Bench::new(|config| {
            config.budget = entries * 1024;
            one_share(config);
        });
        let sketch = bench.bytes();
        assert!((16 * entries..=32 * entries).contains(&sketch), "{sketch} bytes for {entries} entries");
    }
}

/// Not in the charge, as documented: what the allocator rounds up, and up to a quarter of the slab's slots just after it has grown.
#[test]
fn what_small_entries_take_in_memory_is_within_their_charge() {
    const SLOT: u64 = 80;
    let (without_entries, _empty) = bytes_kept(|| {
        Bench::new(|config| {
            config.budget = 1;
            one_share(config);
        })
    });
    // Half of the keys are this node's; more than the slab is reserved for, until more than the budget holds.
    for fills in [3_000_u64, 5_000, 9_000, 40_000] {
        let (kept, bench) = bytes_kept(|| {
            let mut bench = Bench::new(one_share);
            (0..fills).for_each(|id| bench.fill(&id.to_le_bytes(), value(3)));
            bench
        });
        let (kept, usage) = ((kept - without_entries) as u64, bench.shard.usage());
        assert!(kept <= usage.bytes + usage.entries * SLOT / 4, "{kept} bytes are allocated for {usage:?}");
    }
}

#[test]
fn what_the_shadows_of_an_adaptive_window_take_in_memory_is_what_is_charged_for_them() {
    let filled = |eviction, fills: u64| {
        bytes_kept(|| {
            let mut bench = Bench::new(|config| {
                (config.budget, config.eviction) = (8 << 20, eviction);
                one_share(config);
            });
            (0..fills).for_each(|id| bench.fill(&id.to_le_bytes(), value(100)));
            bench
        })
    };
    for fills in [100, 3_000, 20_000] {
        let (plain, without) = filled(Eviction::B2, fills);
        let (kept, with) = filled(Eviction::B2Adaptive, fills);
        assert_eq!(
            with.shard.usage().entries,
            without.shard.usage().entries,
            "nothing else makes a difference"
        );
        let (taken, charged) = ((kept - plain) as u64, with.bytes() - without.bytes());
        assert_eq!(taken, charged, "{fills} fills");
    }
}
