//! The allocation ledger, counted through the public API: what each call on a [`Shard`] or a [`Node`] may allocate, and that it allocates no more.
//!
//! | call | blocks |
//! |---|---|
//! | a hit, of any share, a kept "not found" included | 0 |
//! | joining a load | 0 |
//! | starting a load, by either route | 1, the key |
//! | filling: the embedder makes the [`Value`] | 1 |
//! | filling: the shard stores and delivers it, evictions included | 0 |
//! | a failure, a retry at the next source, a time-out, a cancellation, a removal, a flush, a new ring | 0 |
//! | a stale answer, a refused call | 0 |
//! | sending a batch of any size to a peer (`Node`, `Link`) | 2 |
//!
//! (The owner of a key is looked up without allocating, too: `ring_allocations.rs`.)
//!
//! All that is counted behind a first round that is not: the [`Effects`] buffer is reused, and allocates until it has seen its largest turn.
//! Tables of loads and waiters are reserved at their limits. Those of entries are reserved for entries of 1 KiB; with smaller ones they grow
//! until the budget holds no more of them.

use std::hint::black_box;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use groupcache_core::{
    Attempt, Call, Disposition, Effects, Failure, FailureKind, FlightId, GroupConfig, HashedKey, Instant,
    Intent, LeaseId, Level, Load, LoadRequest, MemberRecord, Node, NodeConfig, OnAbandoned, Outcome, PeerId,
    Protocol, RegistryIntent, RegistryOutcome, Revision, Route, Shard, ShardConfig, Ticket, Value, Wake,
};

use self::common::{GROUP, ME, hashed, ring, shard};
use self::counting::allocations;

mod common;
#[path = "common/counting.rs"]
mod counting;

/// Repetitions behind the first, which warms the buffers up.
const ROUNDS: u64 = 50;
const SECOND: Duration = Duration::from_secs(1);

/// A shard and its loop.
struct Bench {
    shard: Shard<u32>,
    out: Effects<u32>,
    now: Instant,
    /// What the calls made through this bench allocated.
    allocated: usize,
}

/// A load in progress, as whoever works on it knows it.
type Asked = (FlightId, Attempt);

impl Bench {
    fn new(change: impl FnOnce(&mut ShardConfig)) -> Self {
        let now = Instant::from_nanos(1);
        Self { shard: shard(2, now, change), out: Effects::new(), now, allocated: 0 }
    }

    /// One counted call.
    fn call<T>(&mut self, call: impl FnOnce(&mut Shard<u32>, Instant, &mut Effects<u32>) -> T) -> T {
        let (count, answer) = allocations(|| call(&mut self.shard, self.now, &mut self.out));
        self.allocated += count;
        answer
    }

    fn load(&mut self, id: &[u8], route: Route) -> Ticket {
        let load = self.call(|shard, now, out| {
            let request = LoadRequest::new(hashed(id), 7, now.saturating_add(SECOND)).route(route);
            shard.load(now, request, out)
        });
        match load {
            Ok(Load::Wait(ticket)) => ticket,
            other => panic!("not a miss: {other:?}"),
        }
    }

    /// What the last call asked for.
    fn asked(&mut self) -> Asked {
        let intents = self.out.drain_intents().map(|intent| match intent {
            Intent::Load { flight, attempt, .. } => (flight, attempt),
            other => panic!("{other:?}"),
        });
        let mut asked: Vec<Asked> = intents.collect();
        asked.extend(self.out.drain_calls().map(|call| match call {
            Call::Fetch { item, .. } => (item.flight, item.attempt),
            other => panic!("{other:?}"),
        }));
        assert_eq!(asked.len(), 1);
        asked[0]
    }

    /// An outcome as the origin gives it, where `level` says so, or else a peer.
    fn answer(&mut self, level: Level, (flight, attempt): Asked, outcome: Outcome) -> Disposition {
        self.call(|shard, now, out| match level {
            Level::Origin => shard.handle_loaded(now, flight, attempt, outcome, out),
            _ => shard.handle_fetched(now, flight, attempt, outcome, out),
        })
    }

    fn fill(&mut self, id: &[u8], route: Route, outcome: Outcome) {
        let level = if self.is_mine(id) || route == Route::LocalOnly { Level::Origin } else { Level::Peer };
        self.load(id, route);
        let asked = self.asked();
        assert_eq!(self.answer(level, asked, outcome), Disposition::Applied);
        self.end_turn();
    }

    fn end_turn(&mut self) {
        self.out.drain_intents();
        self.out.drain_calls();
        self.out.drain_completions();
        self.out.free_evicted();
    }

    fn is_mine(&self, id: &[u8]) -> bool {
        self.shard.ring().owner(id).is_some_and(|owner| owner.id() == ME)
    }

    /// Ids whose keys this node owns, or its peer.
    fn ids(&self, mine: bool) -> impl Iterator<Item = [u8; 8]> + use<> {
        let ring = Arc::clone(self.shard.ring());
        let owned = move |id: &[u8; 8]| ring.owner(id).is_some_and(|owner| (owner.id() == ME) == mine);
        (0_u64..).map(u64::to_le_bytes).filter(owned)
    }

    /// Runs a scenario until the buffers have their size, and then on: its calls may allocate `blocks` each time.
    fn expect_each_round(&mut self, blocks: usize, mut scenario: impl FnMut(&mut Self, u64)) {
        for round in 0..=ROUNDS {
            self.allocated = 0;
            scenario(self, round);
            self.end_turn();
            assert!(round == 0 || self.allocated == blocks, "round {round}: {} blocks", self.allocated);
        }
        assert_eq!(self.shard.usage().flights, 0, "the scenario leaves no load behind");
    }
}

fn value(len: usize) -> Outcome {
    Outcome::Value { value: Value::from(vec![1; len]), ttl: Some(SECOND) }
}

fn failed(kind: FailureKind) -> Outcome {
    Outcome::Failed(Failure::new(kind))
}

#[test]
fn a_hit_allocates_nothing() {
    let mut bench = Bench::new(|_| {});
    let ([mine, missing], [other]) = (take(bench.ids(true)), take(bench.ids(false)));
    bench.fill(&mine, Route::Cluster, value(100));
    bench.fill(&other, Route::Cluster, value(100));
    bench.fill(&missing, Route::Cluster, failed(FailureKind::NotFound));
    bench.allocated = 0;
    for _ in 0..ROUNDS {
        for (id, level) in [(mine, Some(Level::Main)), (other, Some(Level::Hot)), (missing, None)] {
            let key = hashed(&id);
            let found = bench.call(|shard, now, _| shard.get(now, &key)).expect("it is there");
            assert_eq!(found.ok().map(|fetched| fetched.level), level);
            let load = bench.call(|shard, now, out| {
                shard.load(now, LoadRequest::new(key, 7, now.saturating_add(SECOND)), out)
            });
            assert!(matches!(load, Ok(Load::Ready { .. })));
        }
    }
    assert_eq!(bench.allocated, 0);
    let stats = bench.shard.stats();
    assert_eq!([stats.main_hits, stats.hot_hits, stats.negative_hits], [2 * ROUNDS; 3]);
}

#[test]
fn a_started_miss_allocates_its_key_and_nothing_else() {
    const FLIGHTS: u32 = 112;
    let full = |config: &mut ShardConfig| config.max_flights = NonZeroU32::new(FLIGHTS).expect("above zero");
    for (mine, level) in [(true, Level::Origin), (false, Level::Peer)] {
        let mut bench = Bench::new(full);
        let mut ids = bench.ids(mine);
        bench.expect_each_round(FLIGHTS as usize, |bench, _| {
            // To the limit, so that the tables are as full as they get, and other keys each time.
            let started: Vec<Asked> = (0..FLIGHTS)
                .map(|_| {
                    bench.load(&ids.next().expect("an id"), Route::Cluster);
                    bench.asked()
                })
                .collect();
            for asked in started {
                bench.answer(level, asked, failed(FailureKind::OriginFailed));
            }
        });
    }
}

#[test]
fn joining_a_load_allocates_nothing() {
    let mut bench = Bench::new(|_| {});
    let [id] = take(bench.ids(true));
    bench.expect_each_round(1, |bench, _| {
        for _ in 0..1000 {
            bench.load(&id, Route::Cluster);
        }
        let asked = bench.asked();
        bench.answer(Level::Origin, asked, failed(FailureKind::OriginFailed));
        assert_eq!(bench.out.drain_completions().count(), 1000);
    });
}

#[test]
fn a_fill_allocates_the_embedders_value_and_nothing_in_the_shard() {
    let bytes = bytes::Bytes::from(vec![7; 5000]).slice(100..4000);
    let made = [
        allocations(|| Value::from(&[7; 3000][..])).0,
        allocations(|| Value::from(bytes.clone())).0,
        allocations(|| Value::from(&[][..])).0,
    ];
    assert_eq!(made, [1, 1, 1]);

    let mut bench =
        Bench::new(|config| config.max_value_len = NonZeroUsize::new(1 << 20).expect("above zero"));
    let [own, replaced, large, fenced] = take(bench.ids(true));
    let [copy, other] = take(bench.ids(false));
    // One block for each of the six keys, whatever becomes of its value.
    bench.expect_each_round(6, |bench, round| {
        bench.now = bench.now.saturating_add(60 * SECOND);
        bench.fill(&own, Route::Cluster, value(round as usize * 7));
        bench.fill(&replaced, Route::LocalOnly, value(1 << 10));
        bench.fill(&large, Route::Cluster, value(1 << 20));
        bench.fill(&copy, Route::Cluster, value(round as usize * 7));
        bench.fill(&other, Route::LocalOnly, value(1 << 10));
        bench.load(&fenced, Route::Cluster);
        let asked = bench.asked();
        bench.call(|shard, now, out| shard.invalidate(now, &hashed(&fenced), out));
        bench.answer(Level::Origin, asked, value(100));
        bench.call(|shard, now, out| shard.invalidate(now, &hashed(&own), out));
    });
    let stats = bench.shard.stats();
    assert_eq!([stats.not_stored, stats.fenced_dropped], [ROUNDS + 1; 2]);
}

/// Fills a shard with ever new keys, and counts what the shard allocates for each.
fn fill_anew(bench: &mut Bench, ids: &mut impl Iterator<Item = [u8; 8]>, fills: u64, value: &Value) -> usize {
    bench.allocated = 0;
    for id in ids.take(fills as usize) {
        bench.fill(&id, Route::Cluster, Outcome::Value { value: value.clone(), ttl: None });
    }
    bench.allocated - fills as usize
}

#[test]
fn evictions_allocate_nothing_and_neither_do_fills_while_entries_have_the_size_that_tables_are_reserved_for()
{
    let mut bench = Bench::new(|_| {});
    let mut ids = bench.ids(true);
    let value = Value::from(vec![0; 1024 - 8 - groupcache_core::ENTRY_OVERHEAD as usize]);
    fill_anew(&mut bench, &mut ids, 5000, &value);
    // A new shard, and a buffer that has seen evictions.
    bench.shard = shard(2, bench.now, |_| {});
    assert_eq!(fill_anew(&mut bench, &mut ids, 50_000, &value), 0, "from the first entry on");
    let stats = bench.shard.stats();
    assert!(stats.evictions + stats.not_stored > 45_000, "{stats:?}");
}

#[test]
fn smaller_entries_grow_the_tables_until_they_have_their_size_and_then_no_more() {
    for len in [0, 20, 300] {
        let mut bench = Bench::new(|_| {});
        let mut ids = bench.ids(true);
        let value = Value::from(vec![0; len]);
        let growth = fill_anew(&mut bench, &mut ids, 40_000, &value);
        // The slab grows by quarters, the index and the sketch by doubling: a handful of times for any number of entries.
        assert!((1..40).contains(&growth), "{growth} blocks while growing");
        assert_eq!(fill_anew(&mut bench, &mut ids, 40_000, &value), 0, "values of {len} bytes");
    }
}

#[test]
fn a_large_value_displaces_many_small_ones_without_allocating() {
    let large_values =
        |config: &mut ShardConfig| config.max_value_len = NonZeroUsize::new(1 << 20).expect("above zero");
    let mut bench = Bench::new(large_values);
    let mut ids = bench.ids(true);
    let (small, large) = (Value::from(vec![0; 500]), Value::from(vec![0; 700 << 10]));
    for round in 0..10 {
        // Small ones asked for once need not have displaced the large one of the round before.
        bench.shard = shard(2, bench.now, large_values);
        fill_anew(&mut bench, &mut ids, 5000, &small);
        let before = bench.shard.usage().entries;
        let blocks = fill_anew(&mut bench, &mut ids, 1, &large);
        assert!(before - bench.shard.usage().entries > 500, "it displaces");
        // The buffer that evicted values leave in grows the first time.
        assert!(round == 0 || blocks == 0, "round {round}: {blocks} blocks");
    }
}

#[test]
fn a_time_out_allocates_nothing() {
    let mut bench = Bench::new(|config| config.work_per_call = NonZeroU32::MIN.saturating_add(15));
    let (mut mine, mut other) = (bench.ids(true), bench.ids(false));
    bench.expect_each_round(40, |bench, _| {
        for _ in 0..20 {
            for id in [mine.next(), other.next()].into_iter().flatten() {
                for _ in 0..3 {
                    bench.load(&id, Route::Cluster);
                }
            }
        }
        bench.now = bench.now.saturating_add(2 * SECOND);
        while bench.call(|shard, now, out| shard.handle_timeout(now, out)) == Wake::Now {}
        assert_eq!(bench.out.drain_completions().count(), 120);
    });
}

#[test]
fn a_cancellation_allocates_nothing_whether_the_load_ends_or_goes_on() {
    for on_abandoned in [OnAbandoned::Finish, OnAbandoned::Abort] {
        let mut bench = Bench::new(|config| config.on_abandoned = on_abandoned);
        let ([mine], [other]) = (take(bench.ids(true)), take(bench.ids(false)));
        bench.expect_each_round(2, |bench, _| {
            for (id, level) in [(mine, Level::Origin), (other, Level::Peer)] {
                let tickets = [(); 3].map(|()| bench.load(&id, Route::Cluster));
                let asked = bench.asked();
                for ticket in tickets {
                    assert_eq!(bench.call(|shard, now, out| shard.cancel(now, ticket, out)), Some(7));
                    assert_eq!(bench.call(|shard, now, out| shard.cancel(now, ticket, out)), None);
                }
                if on_abandoned == OnAbandoned::Finish {
                    bench.answer(level, asked, failed(FailureKind::OriginFailed));
                }
                bench.end_turn();
            }
        });
    }
}

#[test]
fn a_failure_a_retry_and_a_stale_answer_allocate_nothing() {
    let mut bench = Bench::new(|_| {});
    let ([mine, missing], [other, twice]) = (take(bench.ids(true)), take(bench.ids(false)));
    bench.expect_each_round(5, |bench, _| {
        bench.now = bench.now.saturating_add(60 * SECOND);
        bench.fill(&mine, Route::Cluster, failed(FailureKind::OriginFailed));
        bench.fill(&missing, Route::Cluster, failed(FailureKind::NotFound));

        // From the owner to the origin of this node, which is the only successor.
        bench.load(&other, Route::Cluster);
        let first = bench.asked();
        assert_eq!(bench.answer(Level::Peer, first, Outcome::Unreachable(None)), Disposition::Retrying);
        let second = bench.asked();
        assert_eq!(bench.answer(Level::Peer, first, Outcome::Unreachable(None)), Disposition::Stale);
        assert_eq!(bench.answer(Level::Origin, second, value(10)), Disposition::Applied);
        for (level, asked) in [(Level::Peer, first), (Level::Origin, second)] {
            assert_eq!(bench.answer(level, asked, value(10)), Disposition::Stale);
        }
        bench.call(|shard, now, out| shard.invalidate(now, &hashed(&other), out));

        // From the owner to a load of the same key that is at the origin already.
        bench.load(&twice, Route::Cluster);
        let routed = bench.asked();
        bench.load(&twice, Route::LocalOnly);
        let local = bench.asked();
        assert_eq!(bench.answer(Level::Peer, routed, Outcome::Unreachable(None)), Disposition::Retrying);
        assert_eq!(
            bench.answer(Level::Origin, local, failed(FailureKind::OriginFailed)),
            Disposition::Applied
        );
        assert_eq!(bench.out.drain_completions().count(), 3);
    });
}

#[test]
fn a_refused_load_allocates_nothing() {
    let mut bench = Bench::new(|config| {
        config.max_key_len = NonZeroUsize::new(8).expect("above zero");
        config.max_flights = NonZeroU32::MIN;
        config.max_waiters = NonZeroU32::MIN;
    });
    let [waited_for, other] = take(bench.ids(true));
    let ticket = bench.load(&waited_for, Route::Cluster);
    let (soon, foreign) = (bench.now.saturating_add(SECOND), groupcache_core::GroupId::new(9));
    let refused = [
        (hashed(b""), soon),
        (hashed(b"too long!"), soon),
        (HashedKey::new(foreign, b"a", 1), soon),
        (hashed(&other), bench.now),
        (hashed(&other), soon),
        (hashed(&waited_for), soon),
    ];
    bench.allocated = 0;
    for (key, deadline) in refused {
        let load = bench.call(|shard, now, out| shard.load(now, LoadRequest::new(key, 8, deadline), out));
        assert!(matches!(load, Err(refused) if refused.waiter == 8));
    }
    assert_eq!(bench.call(|shard, now, out| shard.cancel(now, ticket, out)), Some(7));
    assert_eq!((bench.allocated, bench.shard.stats().rejected), (0, 6));
}

#[test]
fn removals_flushes_new_rings_and_reads_allocate_nothing() {
    let mut bench = Bench::new(|_| {});
    let [id] = take(bench.ids(true));
    let rings = [ring(3), ring(2)];
    bench.expect_each_round(1, |bench, round| {
        bench.fill(&id, Route::LocalOnly, value(10));
        bench.call(|shard, now, out| assert!(shard.invalidate(now, &hashed(&id), out)));
        bench.call(|shard, now, _| assert!(shard.flush(now, GROUP)));
        bench.call(|shard, now, _| shard.handle_ring(now, Arc::clone(&rings[round as usize % 2])));
        let _read = bench.call(|shard, _, _| black_box((shard.usage(), shard.stats(), shard.next_wake())));
    });
}

/// A node whose peer is connected.
fn node() -> (Node<u32>, Effects<u32>, Instant, PeerId) {
    let (mut config, now, mut out) = (NodeConfig::new("node-0:1"), Instant::from_nanos(1), Effects::new());
    config.shard.budget = 1 << 20;
    let mut node = Node::new(config, 1, now).expect("a node");
    node.add_group(GROUP, &GroupConfig::default()).expect("a group");
    node.start(now, &mut out);
    let mut peer = None;
    while peer.is_none() {
        let intents: Vec<Intent> = out.drain_intents().collect();
        assert!(!intents.is_empty(), "no peer is found");
        for intent in intents {
            let (op, outcome) = match intent {
                Intent::Registry(RegistryIntent::Register { op, ttl }) => {
                    (op, RegistryOutcome::Registered { lease: LeaseId::new(1), ttl })
                }
                Intent::Registry(RegistryIntent::List { op }) => {
                    let records = ["node-0:1", "node-1:1"].map(|name| MemberRecord::new(name, 1)).into();
                    (op, RegistryOutcome::Listed { records, revision: Revision::new(1) })
                }
                Intent::Connect { peer: found, dial, .. } => {
                    peer = Some((found, dial));
                    continue;
                }
                _ => continue,
            };
            node.handle_registry(now, op, outcome, &mut out);
        }
    }
    let (peer, dial) = peer.expect("a peer");
    node.handle_connected(now, (peer, dial), Protocol::Batched, &mut out);
    out.drain_intents();
    (node, out, now, peer)
}

#[test]
fn a_node_allocates_what_its_shards_do_and_two_blocks_for_each_batch_that_it_sends() {
    let (mut node, mut out, now, peer) = node();
    let (ring, deadline) = (Arc::clone(node.ring()), now.saturating_add(SECOND));
    let owned = |mine: bool| {
        let ids = (0_u64..).map(u64::to_le_bytes);
        ids.filter(move |id| ring.owner(id).is_some_and(|owner| (owner.id() != peer) == mine))
    };
    let (mut mine, mut other) = (owned.clone()(true), owned(false));
    for round in 0..=ROUNDS {
        let value = Value::from(&[1; 100][..]);
        let outcome = Outcome::Value { value, ttl: None };
        let load = |node: &mut Node<u32>, out: &mut Effects<u32>, id: &[u8]| {
            let (count, load) =
                allocations(|| node.load(now, LoadRequest::new(hashed(id), 7, deadline), out));
            assert!(matches!(load, Ok(Load::Wait(_))));
            count
        };

        let id = mine.next().expect("an id");
        let started = load(&mut node, &mut out, &id);
        let joined = load(&mut node, &mut out, &id);
        let Some(Intent::Load { flight, attempt, .. }) = out.drain_intents().next() else {
            panic!("no load")
        };
        let (filled, _) = allocations(|| node.handle_loaded(now, flight, attempt, outcome.clone(), &mut out));
        assert_eq!(out.drain_completions().count(), 2);
        let (hit, found) = allocations(|| node.get(now, &hashed(&id)));
        assert!(found.is_some());

        let id = other.next().expect("an id");
        let sent = load(&mut node, &mut out, &id);
        let Some(Intent::Fetch(batch)) = out.drain_intents().next() else { panic!("no batch") };
        let replies = [(0, outcome)];
        let (answered, _) = allocations(|| node.handle_replies(now, (peer, batch.batch), replies, &mut out));
        assert_eq!(out.drain_completions().count(), 1);
        let (waited, wake) = allocations(|| node.handle_timeout(now, &mut out));
        assert_ne!(wake, Wake::Now);
        let counts = [started, joined, filled, hit, sent, answered, waited];
        assert!(round == 0 || counts == [1, 0, 0, 0, 1 + 2, 0, 0], "round {round}: {counts:?}");
        out.free_evicted();
    }
}

fn take<const N: usize>(ids: impl Iterator<Item = [u8; 8]>) -> [[u8; 8]; N] {
    ids.take(N).collect::<Vec<_>>().try_into().expect("enough ids")
}
