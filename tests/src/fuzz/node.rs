//! A small fleet under faults, against what users rely on.

use std::collections::BTreeMap;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use groupcache_core::{Instant, Link, NodeConfig, OnAbandoned, Placement};

use crate::cluster::{Cluster, Faults};

/// Each waiter is served once; a request of a peer is forwarded to nobody; behind a removal that everybody has acknowledged, in a fleet where
/// nothing went wrong meanwhile, nobody gets an older version; once faults have ended, all is answered; without faults each key is loaded once.
pub fn node(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    if let Ok(mut bench) = Bench::new(&mut bytes) {
        while !bytes.is_empty() && bench.step(&mut bytes).is_ok() {}
        bench.heal_and_finish();
    }
}

const MS: Duration = Duration::from_millis(1);
/// Longer than any load may take.
const QUIET: Duration = Duration::from_secs(25);

struct Bench {
    cluster: Cluster,
    /// Whether nothing goes wrong and nothing is removed in this run: then loads are counted.
    is_polite: bool,
    next: u64,
    waiters: BTreeMap<u64, Waiter>,
    removals: BTreeMap<u64, Removal>,
    /// The oldest version of each key that may still be found.
    floors: BTreeMap<String, u32>,
}

/// Somebody who waits for a key.
struct Waiter {
    at: usize,
    key: String,
    floor: u32,
}

/// A removal under way: of these keys, which had got these versions before.
struct Removal {
    at: usize,
    versions: Vec<(String, u32)>,
    began: Instant,
    is_calm: bool,
}

impl Bench {
    fn new(bytes: &mut Unstructured<'_>) -> Result<Self> {
        let is_polite = bytes.ratio(1, 3)?;
        let (count, shards) = (bytes.int_in_range(2..=4)?, bytes.int_in_range(1..=2)?);
        let (hot, hot_ttl) = (*bytes.choose(&[0, 125, 900])?, *bytes.choose(&[50, 1_000, 30_000])?);
        let (attempts, flights) = (bytes.int_in_range(0..=3)?, *bytes.choose(&[2, 4_096, 4_096])?);
        let window = *bytes.choose(&[1, 2])?;
        let abandoned = *bytes.choose(&[OnAbandoned::Finish, OnAbandoned::Abort])?;
        let configure = |config: &mut NodeConfig| {
            // Quick to build, also without optimisation.
            config.placement = Placement::GoSeed;
            config.shards = NonZeroU16::new(shards).expect("above zero");
            config.shard.hot_per_mille = hot;
            config.shard.hot_ttl = Duration::from_millis(hot_ttl);
            config.shard.load_timeout = Duration::from_secs(20);
            config.link.window = NonZeroU32::new(window).expect("above zero");
            if !is_polite {
                config.shard.peer_attempts = attempts;
                config.shard.max_flights = NonZeroU32::new(flights).expect("above zero");
                config.shard.on_abandoned = abandoned;
            }
        };
        let mut cluster = Cluster::new(count, bytes.arbitrary()?, configure);
        cluster.jitter = MS * bytes.int_in_range(0..=20)?;
        let (waiters, removals, floors) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Ok(Self { cluster, is_polite, next: 0, waiters, removals, floors })
    }

    fn step(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        self.next += 1;
        let node = bytes.int_in_range(0..=self.cluster.len() - 1)?;
        match bytes.int_in_range(0..=31)? {
            0..=15 => self.get(bytes, node)?,
            _ if self.is_polite => self.pass(bytes)?,
            16..=18 => self.remove(bytes, node)?,
            19 => self.flush(node),
            20 => {
                let rare: [u8; 4] = [0, 0, 20, 120];
                self.cluster.set_faults(Faults {
                    lost: *bytes.choose(&rare)?,
                    doubled: *bytes.choose(&rare)?,
                    reordered: bytes.ratio(1, 3)?,
                    failed_loads: *bytes.choose(&rare)?,
                });
            }
            21 => self.heal(),
            22 if self.cluster.is_alive(node) => self.crash(node),
            22 => self.cluster.restart(node),
            _ => self.pass(bytes)?,
        }
        self.account();
        Ok(())
    }

    fn get(&mut self, bytes: &mut Unstructured<'_>, at: usize) -> Result<()> {
        let key = key(bytes)?;
        let millis = if self.is_polite { 10_000 } else { *bytes.choose(&[60, 300, 700, 10_000, 60_000])? };
        if self.cluster.is_alive(at) {
            let floor = self.floors.get(&key).copied().unwrap_or(0);
            self.waiters.insert(self.next, Waiter { at, key: key.clone(), floor });
            self.cluster.get_within(at, &key, self.next, MS * millis);
        }
        Ok(())
    }

    fn remove(&mut self, bytes: &mut Unstructured<'_>, at: usize) -> Result<()> {
        let key = key(bytes)?;
        let version = self.cluster.update(&key);
        self.began_removal(at, vec![(key.clone(), version)], |cluster, waiter| {
            cluster.remove(at, &key, waiter)
        });
        Ok(())
    }

    fn flush(&mut self, at: usize) {
        let versions =
            keys().map(|key| (self.cluster.update(&key), key)).map(|(version, key)| (key, version));
        let versions = versions.collect();
        self.began_removal(at, versions, |cluster, waiter| cluster.flush(at, waiter));
    }

    fn began_removal(
        &mut self,
        at: usize,
        versions: Vec<(String, u32)>,
        remove: impl FnOnce(&mut Cluster, u64) -> bool,
    ) {
        if self.cluster.is_alive(at) {
            let (began, is_calm) = (self.cluster.now(), self.cluster.is_calm());
            if remove(&mut self.cluster, self.next) {
                self.removals.insert(self.next, Removal { at, versions, began, is_calm });
            }
        }
    }

    fn crash(&mut self, node: usize) {
        self.account();
        self.cluster.crash(node);
        self.waiters.retain(|_, waiter| waiter.at != node);
        self.removals.retain(|_, removal| removal.at != node);
    }

    fn heal(&mut self) {
        self.cluster.set_faults(Faults::default());
        for node in 0..self.cluster.len() {
            if !self.cluster.is_alive(node) {
                self.cluster.restart(node);
            }
        }
    }

    fn pass(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        self.cluster.run_for(MS * *bytes.choose(&[0, 1, 1, 3, 10, 30, 100, 400, 600, 3_000])?);
        Ok(())
    }

    /// Compares what has ended.
    fn account(&mut self) {
        for (waiter, got) in self.cluster.take_answers() {
            let Waiter { key, floor, .. } = self.waiters.remove(&waiter).expect("a waiter is served once");
            match got {
                Ok((value, _)) => {
                    let text = String::from_utf8(value).expect("a value of ours");
                    let (of, version) = text.split_once('#').expect("a value of ours");
                    let version: u32 = version.parse().expect("a value of ours");
                    assert_eq!(of, key, "a value of another key");
                    assert!(version >= floor, "{key}#{version} after version {floor} was acknowledged");
                }
                Err(kind) => assert!(!self.is_polite, "{kind:?} though nothing goes wrong"),
            }
        }
        for (waiter, unacknowledged) in std::mem::take(&mut self.cluster.removed) {
            let removal = self.removals.remove(&waiter).expect("a removal ends once");
            let undisturbed = removal.is_calm && self.cluster.disturbed() < removal.began;
            assert!(
                !undisturbed || unacknowledged == 0,
                "{unacknowledged} did not acknowledge in a calm fleet"
            );
            for (key, version) in removal.versions.into_iter().filter(|_| undisturbed) {
                let floor = self.floors.entry(key).or_default();
                *floor = version.max(*floor);
            }
        }
    }

    fn heal_and_finish(&mut self) {
        self.account();
        self.heal();
        self.cluster.run_for(QUIET);
        self.account();
        assert!(self.waiters.is_empty() && self.removals.is_empty(), "somebody waits for ever");
        for node in 0..self.cluster.len() {
            // A link behind a breaker may still wait for a fetch to probe with: it takes one.
            let node = self.cluster.node(node);
            assert!(node.links().all(Link::is_up), "the fleet does not come together again");
            let usage = node.usage();
            assert_eq!((usage.flights, usage.waiters), (0, 0));
        }
        if self.is_polite {
            assert!(self.cluster.loads.values().all(|&loads| loads == 1), "{:?}", self.cluster.loads);
        }
    }
}

fn keys() -> impl Iterator<Item = String> {
    (0..8).map(|n| format!("key-{n}"))
}

/// Most operations meet on few keys.
fn key(bytes: &mut Unstructured<'_>) -> Result<String> {
    let number = if bytes.ratio(1, 4)? { bytes.int_in_range(0..=7)? } else { bytes.int_in_range(0..=1)? };
    Ok(format!("key-{number}"))
}
