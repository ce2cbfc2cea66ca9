//! What a node says of itself: counters and the ring, ready to be serialized.

use std::collections::BTreeMap;

use groupcache_core::{GroupStats, Link, LinkStats, PeerId, Ring, ShardStats, Usage};
use serde::Serialize;

use crate::engine::ME;

/// A node's counters, by name. Serializes as one flat object.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Stats(BTreeMap<&'static str, u64>);

impl Stats {
    pub(crate) fn new(
        shards: &ShardStats,
        usage: &Usage,
        links: impl Iterator<Item = LinkStats>,
        further: [(&'static str, u64); 2],
    ) -> Self {
        let mut all = counts(shards);
        let mut total = LinkStats::default();
        links.for_each(|link| total.add(&link));
        let totals = [
            ("entries", usage.entries),
            ("bytes", usage.bytes),
            ("budget", usage.budget),
            ("flights", usage.flights),
            ("waiters", usage.waiters),
            ("peer_batches", total.batches),
            ("peer_batch_keys", total.keys),
            ("peer_failed_batches", total.failed_batches),
            ("peer_refused_down", total.refused_down),
            ("peer_refused_full", total.refused_full),
            ("peer_breaker_opened", total.opened),
            ("peer_dials", total.dials),
        ];
        all.extend(totals);
        all.extend(further);
        Self(all)
    }

    pub(crate) fn of_group(group: &GroupStats) -> Self {
        let mut all = counts(&group.counts);
        all.extend([("entries", group.entries), ("bytes", group.bytes), ("flights", group.flights)]);
        Self(all)
    }

    /// The counter `name`, where there is one of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// All counters, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.0.iter().map(|(&name, &count)| (name, count))
    }
}

fn counts(stats: &ShardStats) -> BTreeMap<&'static str, u64> {
    let mut all = BTreeMap::new();
    stats.each(|name, count| {
        all.insert(name, count);
    });
    all
}

/// A peer as this node sees it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PeerView {
    /// How this node stands to it: the name of a [`LinkState`](groupcache_core::LinkState).
    pub state: &'static str,
    /// Keys that wait to be sent.
    pub queued: u64,
    /// Batches that were sent and are not complete.
    pub open_batches: u64,
    /// What was counted, since it came.
    pub counts: Stats,
}

impl PeerView {
    pub(crate) fn new(link: &Link) -> Self {
        let stats = link.stats();
        let counts = [
            ("keys", stats.keys),
            ("batches", stats.batches),
            ("failed_batches", stats.failed_batches),
            ("unanswered", stats.unanswered),
            ("refused_down", stats.refused_down),
            ("refused_full", stats.refused_full),
            ("breaker_opened", stats.opened),
            ("dials", stats.dials),
            ("stale", stats.stale),
        ];
        Self {
            state: link.state().name(),
            queued: link.queued() as u64,
            open_batches: link.open_batches() as u64,
            counts: Stats(counts.into()),
        }
    }
}

/// The ring as this node sees it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RingView {
    /// The placement scheme's name.
    pub placement: &'static str,
    /// Grows with every change that this node has seen. Not comparable between nodes.
    pub epoch: u64,
    /// A digest of scheme, names and weights, 16 hex digits: equal on nodes that agree on every owner.
    pub fingerprint: String,
    /// The members.
    pub members: Vec<MemberView>,
}

/// One member of the ring.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct MemberView {
    /// Its address.
    pub name: String,
    /// Its weight.
    pub weight: u32,
    /// The part of the key space that it owns, 0 to 1.
    pub share: f64,
    /// Whether it is this node.
    pub me: bool,
    /// Whether this node is connected to it.
    pub up: bool,
}

impl RingView {
    pub(crate) fn new(ring: &Ring, up: impl Fn(PeerId) -> bool) -> Self {
        let members = ring.members().iter().map(|member| MemberView {
            name: member.name().to_string(),
            weight: member.weight(),
            share: ring.share(member.id()),
            me: member.id() == ME,
            up: up(member.id()),
        });
        Self {
            placement: ring.placement().name(),
            epoch: ring.epoch().get(),
            fingerprint: format!("{:016x}", ring.fingerprint()),
            members: members.collect(),
        }
    }
}
