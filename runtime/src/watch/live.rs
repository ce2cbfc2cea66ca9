//! One look at a node at work.

use std::collections::BTreeMap;

use groupcache_core::{FlightView, GroupId, Share, ShareUsage};
use serde::Serialize;

use super::{ErrorReport, HotKeysReport, Latency, millis, shown};
use crate::engine::{Engine, lock};
use crate::peers::Peer;
use crate::report::{PeerView, RingView, Stats};
use crate::server::Status;

/// How many loads in progress are shown.
const FLIGHTS: usize = 32;

/// A node at work: what it is, has counted, holds, waits for, and what has gone wrong lately. For people: it serializes to what the binary's page, `groupcache
/// top` and `/-/live` show.
///
/// The figures are read one after the other while the node works, so that they may be a moment apart from each other.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Live {
    /// The node's address, which is its name on the ring.
    pub node: String,
    /// Where it is in its life: `new`, `running`, `stopping` or `stopped`.
    pub status: &'static str,
    /// When this was, in milliseconds since 1970, by the node's clock as it was set when the node began.
    pub at_ms: u64,
    /// For how long the node has been there, in milliseconds.
    pub uptime_ms: u64,
    /// The ring as this node sees it.
    pub ring: RingView,
    /// The node's counters, from its beginning on: a rate is what two looks differ by.
    pub counters: Stats,
    /// The use of the budget, by part of the cache.
    pub shares: Vec<ShareReport>,
    /// The groups by name, and what each has counted and holds.
    pub groups: BTreeMap<String, Stats>,
    /// The peers, as far as there are links to them.
    pub peers: Vec<PeerReport>,
    /// Loads in progress, the oldest first, 32 at most; the counter `flights` has the number of all.
    pub flights: Vec<FlightReport>,
    /// The keys looked up most, where the node was [asked](crate::ServerBuilder::hot_keys) to find them.
    pub hot_keys: Option<HotKeysReport>,
    /// The last errors, newest first.
    pub errors: Vec<ErrorReport>,
}

/// The use of one part of the cache.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ShareReport {
    /// `main` for keys of this node, `hot` for copies of others', `negative` for keys that do not exist.
    pub share: &'static str,
    /// Entries, those that have expired and were not reclaimed yet included.
    pub entries: u32,
    /// Bytes charged, overhead included; never over `budget`.
    pub bytes: u64,
    /// Its part of the budget, in bytes.
    pub budget: u64,
}

/// A peer, as this node stands with it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PeerReport {
    /// Its address.
    pub name: String,
    /// How this node stands to it, and what was counted. While its state is `down` or `redialling` its breaker is open, so that its keys are asked elsewhere;
    /// while it is `probing`, that is being found out.
    #[serde(flatten)]
    pub view: PeerView,
    /// How long its answers take; `None` where there were none lately.
    pub latency: Option<Latency>,
}

/// A load in progress.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct FlightReport {
    /// The group.
    pub group: String,
    /// The key, or the beginning of it.
    pub key: String,
    /// The peer that is asked; `None` where it is this node's origin.
    pub peer: Option<String>,
    /// How many sources were asked before.
    pub attempt: u8,
    /// How many wait for it.
    pub waiters: u32,
    /// How long it has taken so far, in milliseconds.
    pub age_ms: u64,
    /// How long it may take yet, in milliseconds.
    pub left_ms: u64,
    /// Whether a removal has come since it began, so that nothing of it will be kept.
    pub fenced: bool,
}

impl Engine {
    pub(crate) fn live(
        &self,
        (node, status): (String, Status),
        ring: RingView,
        counters: Stats,
        groups: BTreeMap<String, Stats>,
    ) -> Live {
        let now = self.clock.now();
        let name = |group: GroupId| self.group_name(group).to_string();
        Live {
            node,
            status: status.name(),
            at_ms: self.watch.wall(now),
            uptime_ms: millis(now.saturating_since(groupcache_core::Instant::default())),
            ring,
            counters,
            shares: Share::ALL.iter().map(|&share| self.share_report(share)).collect(),
            groups,
            peers: self.peers.all().iter().map(|peer| self.peer_report(peer)).collect(),
            flights: self.oldest_flights(),
            hot_keys: self.watch.hot_keys.as_ref().map(|keys| keys.report(now, name)),
            errors: self.watch.errors.all().into_iter().map(|error| self.report_of(error)).collect(),
        }
    }

    fn share_report(&self, share: Share) -> ShareReport {
        let mut sum = ShareUsage::default();
        (0..self.config.shards.get()).for_each(|index| sum.add(&self.read(index).usage_of(share)));
        ShareReport { share: share.name(), entries: sum.entries, bytes: sum.bytes, budget: sum.budget }
    }

    pub(super) fn peer_report(&self, peer: &Peer) -> PeerReport {
        let view = PeerView::new(&lock(&peer.link));
        PeerReport { name: peer.name.to_string(), view, latency: peer.latencies.summary(self.clock.now()) }
    }

    fn oldest_flights(&self) -> Vec<FlightReport> {
        let mut oldest = Vec::new();
        for index in 0..self.config.shards.get() {
            let shard = self.read(index);
            let mut here: Vec<_> = shard.flights().collect();
            here.sort_by_key(|flight| flight.began);
            here.truncate(FLIGHTS);
            drop(shard);
            oldest.extend(here);
        }
        oldest.sort_by_key(|flight| flight.began);
        oldest.truncate(FLIGHTS);
        oldest.iter().map(|flight| self.flight_report(flight)).collect()
    }

    pub(super) fn flight_report(&self, flight: &FlightView) -> FlightReport {
        let now = self.clock.now();
        FlightReport {
            group: self.group_name(flight.key.group()).to_string(),
            key: shown(flight.key.as_bytes()),
            peer: self.name_of(flight.peer),
            attempt: flight.attempt.index(),
            waiters: flight.waiters,
            age_ms: millis(now.saturating_since(flight.began)),
            left_ms: millis(flight.deadline.saturating_since(now)),
            fenced: flight.fenced,
        }
    }
}
