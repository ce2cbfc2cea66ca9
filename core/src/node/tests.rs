//! What the composition promises: that machines are passed what is theirs, of all shards and of every peer.

mod requests;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::num::{NonZeroU16, NonZeroU32};
use core::time::Duration;

use super::*;
use crate::config::OnAbandoned;
use crate::effects::{Batch, Level, RegistryIntent, Settled};
use crate::error::FailureKind;
use crate::id::{LeaseId, Revision};
use crate::membership::{Change, MemberRecord};
use crate::value::Value;

const G: GroupId = GroupId::new(0);
const SECOND: Duration = Duration::from_secs(1);
const NAMES: [&str; 3] = ["node-0:1", "node-1:1", "node-2:1"];

/// A node and what it has emitted; the test is its registry, its peers and its origin.
struct Bench {
    node: Node<u32>,
    out: Effects<u32>,
    now: Instant,
    watch: Option<OpId>,
}

fn key(text: &str) -> HashedKey<'_> {
    HashedKey::new(G, text.as_bytes(), xxhash_rust::xxh3::xxh3_64_with_seed(text.as_bytes(), 7))
}

fn value(text: &str) -> Outcome {
    Outcome::Value { value: Value::from(text.as_bytes()), ttl: None }
}

impl Bench {
    /// A node of three shards that has not started.
    fn new(configure: impl FnOnce(&mut NodeConfig)) -> Self {
        let mut config = NodeConfig::new(NAMES[0]);
        config.shards = NonZeroU16::new(3).unwrap();
        config.shard.budget = 3 << 20;
        config.shard.max_flights = NonZeroU32::new(64).unwrap();
        config.shard.max_waiters = NonZeroU32::new(64).unwrap();
        configure(&mut config);
        let now = Instant::from_nanos(1_000);
        let mut node = Node::new(config, 1, now).unwrap();
        node.add_group(G, &GroupConfig::default()).unwrap();
        Self { node, out: Effects::new(), now, watch: None }
    }

    /// One that is registered with `others` peers, and connected to them.
    fn among(others: usize) -> Self {
        let mut bench = Self::new(|_| {});
        bench.join(others);
        bench
    }

    fn join(&mut self, others: usize) {
        self.node.start(self.now, &mut self.out);
        let mut connected = 0;
        while connected < others || self.watch.is_none() {
            let intents: Vec<_> = self.out.drain_intents().collect();
            assert!(!intents.is_empty(), "{connected} peers are connected");
            for intent in intents {
                connected += usize::from(matches!(intent, Intent::Connect { .. }));
                self.answer(intent, others);
            }
        }
        self.out.drain_intents();
    }

    fn answer(&mut self, intent: Intent, others: usize) {
        match intent {
            Intent::Registry(RegistryIntent::Register { op, ttl }) => {
                let outcome = RegistryOutcome::Registered { lease: LeaseId::new(1), ttl };
                self.node.handle_registry(self.now, op, outcome, &mut self.out);
            }
            Intent::Registry(RegistryIntent::List { op }) => {
                let records = NAMES.iter().take(others + 1).map(|&name| MemberRecord::new(name, 1)).collect();
                let outcome = RegistryOutcome::Listed { records, revision: Revision::new(1) };
                self.node.handle_registry(self.now, op, outcome, &mut self.out);
            }
            Intent::Registry(RegistryIntent::Watch { op, .. }) => self.watch = Some(op),
            Intent::Connect { peer, dial, .. } => {
                let at = (peer, dial);
                self.node.handle_connected(self.now, at, Protocol::Batched, &mut self.out);
            }
            other => panic!("{other:?}"),
        }
    }

    /// The watch tells of changes.
    fn changed(&mut self, revision: i64, changes: Vec<Change>) {
        let event = WatchEvent::Changed { revision: Revision::new(revision), changes };
        let watch = self.watch.expect("a watch is open");
        assert_eq!(self.node.handle_watch(self.now, watch, event, &mut self.out), Disposition::Applied);
    }

    fn wait(&mut self, text: &str, waiter: u32) -> Ticket {
        let request = LoadRequest::new(key(text), waiter, self.now.saturating_add(5 * SECOND));
        let load = self.node.load(self.now, request, &mut self.out);
        self.node.check_invariants().unwrap();
        match load {
            Ok(Load::Wait(ticket)) => ticket,
            other => panic!("{other:?}"),
        }
    }

    fn take_load(&mut self) -> (FlightId, Attempt) {
        let load = self.out.drain_intents().find_map(|intent| match intent {
            Intent::Load { flight, attempt, .. } => Some((flight, attempt)),
            _ => None,
        });
        load.expect("a load is asked for")
    }

    fn loaded(&mut self, (flight, attempt): (FlightId, Attempt), outcome: Outcome) -> Disposition {
        let disposition = self.node.handle_loaded(self.now, flight, attempt, outcome, &mut self.out);
        self.node.check_invariants().unwrap();
        disposition
    }

    fn take_batch(&mut self) -> Batch {
        let batch = self.out.drain_intents().find_map(|intent| match intent {
            Intent::Fetch(batch) => Some(batch),
            _ => None,
        });
        batch.expect("a fetch is asked for")
    }

    /// Loads a key of this node's.
    fn fill(&mut self, text: &str) {
        self.wait(text, 0);
        let load = self.take_load();
        self.loaded(load, value(text));
        assert_eq!(self.served(), [(0, Ok(text.as_bytes().to_vec()))]);
    }

    fn served(&mut self) -> Vec<(u32, Result<Vec<u8>, FailureKind>)> {
        let served = self.out.drain_completions().map(|completion| {
            let result = completion.result.map(|fetched| fetched.value.to_vec());
            (completion.waiter, result.map_err(|failure| failure.kind))
        });
        let mut served: Vec<_> = served.collect();
        served.sort();
        served
    }

    fn hit(&self, text: &str) -> Option<Level> {
        self.node.get(self.now, &key(text)).and_then(|answer| answer.ok().map(|fetched| fetched.level))
    }

    /// Keys whose owner is `peer`.
    fn keys_of(&self, peer: u32, count: usize) -> Vec<String> {
        let owned = |key: &String| {
            self.node.ring().owner(key.as_bytes()).is_none_or(|owner| owner.id() == PeerId::new(peer))
        };
        (0..).map(|n| format!("key-{n}")).filter(owned).take(count).collect()
    }

    /// Who is to be told to forget.
    fn told(&mut self) -> Vec<(RemovalId, PeerId)> {
        let told = self.out.drain_intents().filter_map(|intent| match intent {
            Intent::Invalidate { removal, peer, .. } => Some((removal, peer)),
            _ => None,
        });
        told.collect()
    }

    fn removed(&mut self) -> Vec<(u32, usize)> {
        self.out.drain_removals().map(|removed| (removed.waiter, removed.unacknowledged.len())).collect()
    }
}

#[test]
fn a_node_without_a_fleet_serves_all_keys_from_its_own_origin_over_all_of_its_shards() {
    let mut bench = Bench::new(|_| {});
    assert_eq!((bench.node.ring().len(), bench.node.links().count()), (0, 0));
    let keys = bench.keys_of(0, 30);
    keys.iter().for_each(|key| bench.fill(key));
    assert!(keys.iter().all(|key| bench.hit(key) == Some(Level::Main)));
    let (stats, usage) = (bench.node.stats(), bench.node.usage());
    assert_eq!((stats.loads, stats.main_hits, usage.entries, usage.budget), (30, 30, 30, 3 << 20));
    let used: Vec<_> = (0..3).filter(|&shard| keys.iter().any(|text| key(text).shard(3) == shard)).collect();
    assert_eq!(used, [0, 1, 2]);
}

#[test]
fn what_a_peer_says_to_forget_is_forgotten_in_whichever_shard_it_is() {
    let mut bench = Bench::new(|_| {});
    let keys = bench.keys_of(0, 30);
    keys.iter().for_each(|key| bench.fill(key));
    let one = Invalidation::Key(Key::from(&key(&keys[4])));
    bench.node.handle_invalidation(bench.now, &one, &mut bench.out);
    let held = |bench: &Bench| keys.iter().filter(|key| bench.hit(key).is_some()).count();
    assert_eq!((held(&bench), bench.hit(&keys[4])), (29, None));
    bench.node.handle_invalidation(bench.now, &Invalidation::Group(G), &mut bench.out);
    assert_eq!(held(&bench), 0);
}

#[test]
fn groups_come_and_go_in_all_shards() {
    let mut bench = Bench::new(|_| {});
    let keys = bench.keys_of(0, 12);
    keys.iter().for_each(|key| bench.fill(key));
    assert!(!bench.node.remove_group(GroupId::new(3)), "there is no such group");
    assert!(bench.node.remove_group(G));
    assert!(!bench.node.remove_group(G));
    assert!(keys.iter().all(|key| bench.hit(key).is_none()));
    for text in &keys {
        let request = LoadRequest::new(key(text), 1, bench.now.saturating_add(SECOND));
        let refused = bench.node.load(bench.now, request, &mut bench.out).unwrap_err();
        assert_eq!((refused.error, refused.waiter), (LoadError::NoSuchGroup, 1));
    }
    let bad = GroupConfig { ttl: Some(Duration::ZERO), ..GroupConfig::default() };
    assert!(bench.node.add_group(G, &bad).is_err());
    bench.node.add_group(G, &GroupConfig::default()).unwrap();
    keys.iter().for_each(|key| bench.fill(key));
}

#[test]
fn a_key_of_a_peers_is_fetched_from_it_and_kept_as_a_hot_copy() {
    let mut bench = Bench::among(2);
    for peer in [1, 2] {
        let key = &bench.keys_of(peer, 1)[0];
        bench.wait(key, peer);
        let batch = bench.take_batch();
        assert_eq!((batch.peer, batch.items.len()), (PeerId::new(peer), 1));
        let at = (batch.peer, batch.batch);
        bench.node.handle_replies(bench.now, at, [(0, value("theirs"))], &mut bench.out);
        assert_eq!(bench.served(), [(peer, Ok(b"theirs".to_vec()))]);
        assert_eq!(bench.hit(key), Some(Level::Hot));
    }
    let key = &bench.keys_of(0, 1)[0];
    bench.fill(key);
    assert_eq!(bench.hit(key), Some(Level::Main));
    let stats = bench.node.stats();
    assert_eq!((stats.peer_fetches, stats.loads), (2, 1));
}

#[test]
fn a_peer_that_fails_is_followed_by_the_next_within_the_same_call() {
    let mut bench = Bench::among(2);
    let key = &bench.keys_of(1, 1)[0];
    bench.wait(key, 1);
    let batch = bench.take_batch();
    let at = (batch.peer, batch.batch);
    bench.node.handle_batch_closed(bench.now, at, BatchEnd::Failed(None), &mut bench.out);
    let second = bench.node.ring().successors(key.as_bytes()).nth(1).unwrap().id();
    if second == ME {
        bench.take_load();
    } else {
        assert_eq!(bench.take_batch().peer, second);
    }
}

#[test]
fn a_caller_that_leaves_is_given_back_and_its_fetch_is_called_off() {
    let mut bench = Bench::new(|config| config.shard.on_abandoned = OnAbandoned::Abort);
    bench.join(1);
    let key = &bench.keys_of(1, 1)[0];
    let ticket = bench.wait(key, 6);
    let batch = bench.take_batch();
    assert_eq!(bench.node.cancel(bench.now, ticket, &mut bench.out), Some(6));
    let aborted = bench.out.drain_intents().any(|intent| match intent {
        Intent::AbortFetch { peer, batch: of } => (peer, of) == (batch.peer, batch.batch),
        _ => false,
    });
    assert!(aborted);
    assert_eq!(bench.node.cancel(bench.now, ticket, &mut bench.out), None);
    let of_no_shard = Ticket::new(0, 0, 3);
    assert_eq!(bench.node.cancel(bench.now, of_no_shard, &mut bench.out), None);
}

#[test]
fn what_is_answered_of_no_shard_or_by_no_peer_is_stale() {
    let mut bench = Bench::among(1);
    let of_no_shard = (FlightId::new(0, 0, 3), Attempt::default());
    assert_eq!(bench.loaded(of_no_shard, value("v")), Disposition::Stale);
    let (nobody, now) = (PeerId::new(9), bench.now);
    let Bench { node, out, .. } = &mut bench;
    assert_eq!(node.handle_seen(now, nobody, out), Disposition::Stale);
    assert_eq!(node.handle_replies(now, (nobody, BatchId::new(0, 0)), [], out), Disposition::Stale);
    let dial = (nobody, DialId::new(0, 0));
    assert_eq!(node.handle_connected(now, dial, Protocol::Batched, out), Disposition::Stale);
    assert_eq!(node.handle_lost(now, dial, out), Disposition::Stale);
    assert!(out.is_empty());
}

#[test]
fn a_fetch_that_is_settled_for_no_shard_is_for_nobody() {
    let mut bench = Bench::new(|_| {});
    let mut inner = Effects::new();
    for shard in [3, u16::MAX] {
        let settled = Settled::new(FlightId::new(0, 0, shard), Attempt::default(), value("v"));
        inner.settled.push(settled);
        pass_on(&mut bench.node.parts, bench.now, &mut inner);
        assert!(inner.is_empty());
    }
}

#[test]
fn a_removal_goes_to_the_owner_and_then_to_all_and_ends_with_its_waiter() {
    let mut bench = Bench::among(2);
    let (theirs, mine) = (bench.keys_of(1, 1).remove(0), bench.keys_of(0, 1).remove(0));
    bench.node.remove(bench.now, &key(&theirs), 5, &mut bench.out).unwrap();
    let told = bench.told();
    assert_eq!(told.iter().map(|told| told.1).collect::<Vec<_>>(), [PeerId::new(1)]);
    bench.node.handle_invalidated(bench.now, told[0].0, told[0].1, true, &mut bench.out);
    let told = bench.told();
    assert_eq!(told.iter().map(|told| told.1).collect::<Vec<_>>(), [PeerId::new(2)]);
    assert!(bench.removed().is_empty());
    bench.node.handle_invalidated(bench.now, told[0].0, told[0].1, true, &mut bench.out);
    assert_eq!(bench.removed(), [(5, 0)]);

    bench.fill(&mine);
    bench.node.remove(bench.now, &key(&mine), 6, &mut bench.out).unwrap();
    assert_eq!(bench.hit(&mine), None, "the owner, which is this node, forgets first");
    let told = bench.told();
    assert_eq!(told.iter().map(|told| told.1).collect::<Vec<_>>(), [1, 2].map(PeerId::new));
}

#[test]
fn a_flush_of_a_lone_node_is_done_at_once_and_one_of_a_fleet_is_told_to_all() {
    let mut bench = Bench::new(|_| {});
    let keys = bench.keys_of(0, 12);
    keys.iter().for_each(|key| bench.fill(key));
    bench.node.flush(bench.now, G, 3, &mut bench.out).unwrap();
    assert_eq!(bench.removed(), [(3, 0)]);
    assert!(keys.iter().all(|key| bench.hit(key).is_none()));

    let mut bench = Bench::new(|config| config.max_removals = NonZeroU32::MIN);
    bench.join(2);
    bench.node.flush(bench.now, G, 4, &mut bench.out).unwrap();
    assert_eq!(bench.told().len(), 2);
    let refused = bench.node.flush(bench.now, G, 5, &mut bench.out).unwrap_err();
    assert_eq!((refused.error, refused.waiter), (LoadError::RemovalsFull { max: 1 }, 5));
    bench.now = bench.now.saturating_add(2 * SECOND);
    while bench.node.handle_timeout(bench.now, &mut bench.out) == Wake::Now {}
    assert_eq!(bench.removed(), [(4, 2)], "nobody has acknowledged");
}

#[test]
fn links_follow_the_view() {
    let mut bench = Bench::among(2);
    let linked = |bench: &Bench| bench.node.links().map(|link| link.name().clone()).collect::<Vec<_>>();
    assert_eq!(linked(&bench), [NAMES[1], NAMES[2]].map(Arc::from));
    bench.changed(2, [Change::Delete(Arc::from(NAMES[1]))].into());
    assert_eq!((linked(&bench), bench.node.ring().len()), ([Arc::from(NAMES[2])].into(), 2));
    let forgotten = bench
        .out
        .drain_intents()
        .any(|intent| matches!(intent, Intent::Forget { peer } if peer == PeerId::new(1)));
    assert!(forgotten);
    bench.changed(3, [Change::Put(MemberRecord::new(NAMES[1], 1))].into());
    assert_eq!(linked(&bench).len(), 2);
    let dialled = bench
        .out
        .drain_intents()
        .filter(|intent| matches!(intent, Intent::Connect { peer, .. } if *peer == PeerId::new(1)));
    assert_eq!(dialled.count(), 1, "the peer keeps its number, and is dialled anew");
}

#[test]
fn a_peer_that_leaves_while_it_answers_is_waited_for_and_asked_again_when_it_returns() {
    let mut bench = Bench::among(2);
    let keys = bench.keys_of(1, 2);
    bench.wait(&keys[0], 1);
    let batch = bench.take_batch();
    bench.changed(2, [Change::Delete(Arc::from(NAMES[1]))].into());
    assert_eq!(bench.node.links().count(), 2, "its answer is awaited");
    bench.changed(3, [Change::Put(MemberRecord::new(NAMES[1], 1))].into());
    let at = (batch.peer, batch.batch);
    bench.node.handle_replies(bench.now, at, [(0, value("v"))], &mut bench.out);
    assert_eq!(bench.served(), [(1, Ok(b"v".to_vec()))]);
    bench.out.drain_intents();
    bench.wait(&keys[1], 2);
    assert_eq!(bench.take_batch().peer, PeerId::new(1));
}

#[test]
fn a_node_that_stops_deregisters_and_owns_nothing_any_more() {
    let mut bench = Bench::among(2);
    assert!(bench.node.ring().member(ME).is_some() && !bench.node.has_left());
    bench.node.stop(bench.now, &mut bench.out);
    assert!(bench.node.ring().member(ME).is_none() && !bench.node.has_left());
    let op = bench.out.drain_intents().find_map(|intent| match intent {
        Intent::Registry(RegistryIntent::Deregister { op, .. }) => Some(op),
        _ => None,
    });
    let op = op.expect("it deregisters");
    bench.node.handle_registry(bench.now, op, RegistryOutcome::Deregistered, &mut bench.out);
    assert!(bench.node.has_left());
    let key = &bench.keys_of(1, 1)[0];
    bench.wait(key, 1);
    assert_eq!(bench.take_batch().peer, PeerId::new(1), "callers are still served");
}

#[test]
fn a_shutdown_ends_loads_fetches_and_removals_and_forgets_the_peers() {
    let mut bench = Bench::among(2);
    let (mine, theirs) = (bench.keys_of(0, 1).remove(0), bench.keys_of(1, 1).remove(0));
    bench.wait(&mine, 1);
    bench.wait(&theirs, 2);
    bench.node.flush(bench.now, G, 3, &mut bench.out).unwrap();
    bench.out.drain_intents();
    while bench.node.shutdown(bench.now, &mut bench.out) == Wake::Now {}
    assert_eq!(bench.served(), [(1, Err(FailureKind::Stopping)), (2, Err(FailureKind::Stopping))]);
    assert_eq!((bench.removed(), bench.node.links().count()), ([(3, 2)].into(), 0));
    let request = LoadRequest::new(key(&mine), 4, bench.now.saturating_add(SECOND));
    let refused = bench.node.load(bench.now, request, &mut bench.out).unwrap_err();
    assert_eq!(refused.error, LoadError::Stopped);
}

#[test]
fn the_node_wakes_for_whichever_of_its_machines_wants_to_be_first() {
    let mut bench = Bench::new(|config| config.removal_timeout = SECOND);
    bench.join(1);
    let at = |bench: &Bench, ms| Wake::At(bench.now.saturating_add(Duration::from_millis(ms)));
    let keep_alive = bench.node.next_wake();
    assert!(
        matches!(keep_alive, Wake::At(when) if when > bench.now.saturating_add(SECOND)),
        "{keep_alive:?}"
    );
    let theirs = bench.keys_of(1, 1).remove(0);
    let request = LoadRequest::new(key(&theirs), 1, bench.now.saturating_add(SECOND));
    let _ = bench.node.load(bench.now, request, &mut bench.out);
    assert_eq!(bench.node.next_wake(), at(&bench, 980), "the fetch, which leaves time to ask elsewhere");
    bench.node.flush(bench.now, G, 1, &mut bench.out).unwrap();
    assert_eq!(bench.node.next_wake(), at(&bench, 500), "the first round of the flush");
    bench.now = bench.now.saturating_add(SECOND);
    let wake = bench.node.handle_timeout(bench.now, &mut bench.out);
    assert!(!wake.is_due(bench.now), "{wake:?}");
    assert_eq!(
        (bench.served(), bench.removed()),
        ([(1, Err(FailureKind::Deadline))].into(), [(1, 1)].into())
    );
}
