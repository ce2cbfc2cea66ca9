//! Publishing: what the machines have counted, and how they stand, as a snapshot.

use std::sync::atomic::Ordering;

use ::metrics::Recorder;
use groupcache_core::{GroupStats, LinkState, LinkStats, MembershipStats};

use super::meter::{METADATA, key};
use super::table::{self, METRICS, Metric, MetricKind};
use crate::engine::{Engine, ME, lock};
use crate::groups::GroupEntry;
use crate::peers::Peer;

/// What the engine does not know of its node.
pub(crate) struct Standing {
    pub(crate) is_ready: bool,
    /// Connections that peers have made to it.
    pub(crate) connections: usize,
}

impl Engine {
    /// Sets every counter and gauge to what it is now, and from now on measures what is to be measured.
    pub(crate) fn publish_metrics(&self, standing: &Standing) {
        let is_first = self.meter.turn_on();
        self.meter.target.with(|recorder| {
            if is_first {
                describe(recorder);
            }
            let sink = Sink(recorder);
            sink.node(self, standing);
            sink.ring(self);
            if let Some((stats, registry)) = self.registry_figures() {
                sink.registry(&stats, &registry);
            }
        });
        for group in self.groups.all() {
            group.meter.renew();
            if let Some(stats) = self.group_stats(group.id) {
                self.meter.target.with(|recorder| Sink(recorder).group(&group, &stats));
            }
        }
        for peer in self.peers.all() {
            peer.meter.renew();
            self.meter.target.with(|recorder| Sink(recorder).peer(&peer));
        }
    }
}

/// How a node stands with its registry.
pub(crate) struct RegistryFigures {
    pub(crate) is_registered: bool,
    /// Seconds since its record was last confirmed; `None` before the first time.
    pub(crate) age: Option<f64>,
}

fn describe(recorder: &dyn Recorder) {
    for metric in METRICS {
        let (name, unit, help) = (metric.name.into(), metric.unit, metric.help.into());
        match metric.kind {
            MetricKind::Counter => recorder.describe_counter(name, unit, help),
            MetricKind::Gauge => recorder.describe_gauge(name, unit, help),
            MetricKind::Histogram => recorder.describe_histogram(name, unit, help),
        }
    }
}

struct Sink<'a>(&'a dyn Recorder);

impl Sink<'_> {
    fn counter(&self, metric: &Metric, labels: &[&str], value: u64) {
        self.0.register_counter(&key(metric, labels), &METADATA).absolute(value);
    }

    fn gauge(&self, metric: &Metric, labels: &[&str], value: f64) {
        self.0.register_gauge(&key(metric, labels), &METADATA).set(value);
    }

    fn node(&self, engine: &Engine, standing: &Standing) {
        let (stats, usage) = engine.stats();
        self.counter(table::STALE_RESULTS, &[], stats.stale_dispositions);
        self.counter(table::CLAMPED_TIME, &[], stats.clamped_time);
        self.counter(table::MISMATCHES, &[], engine.mismatches.load(Ordering::Relaxed));
        self.gauge(table::CACHE_BYTES, &[], usage.bytes as f64);
        self.gauge(table::BUDGET_BYTES, &[], usage.budget as f64);
        self.gauge(table::WAITERS, &[], usage.waiters as f64);
        self.gauge(table::CONNECTIONS, &[], standing.connections as f64);
        self.gauge(table::READY, &[], f64::from(u8::from(standing.is_ready)));
        let placement = engine.ring().placement().name();
        self.gauge(table::INFO, &[env!("CARGO_PKG_VERSION"), placement], 1.0);
    }

    fn ring(&self, engine: &Engine) {
        let ring = engine.ring();
        let members = ring.members();
        let even = 1.0 / members.len().max(1) as f64;
        let peak = members.iter().map(|member| ring.share(member.id())).fold(0.0, f64::max);
        self.gauge(table::RING_EPOCH, &[], ring.epoch().get() as f64);
        self.gauge(table::RING_MEMBERS, &[], members.len() as f64);
        self.gauge(table::RING_SHARE, &[], ring.share(ME) / even);
        self.gauge(table::RING_PEAK, &[], peak / even);
    }

    fn registry(&self, stats: &MembershipStats, figures: &RegistryFigures) {
        self.gauge(table::REGISTERED, &[], f64::from(u8::from(figures.is_registered)));
        if let Some(age) = figures.age {
            self.gauge(table::REGISTRY_AGE, &[], age);
        }
        let counts = [
            (table::REGISTRATIONS, stats.registrations),
            (table::LEASES_LOST, stats.leases_lost),
            (table::KEEP_ALIVES, stats.keep_alives),
            (table::REGISTRY_FAILURES, stats.failures),
            (table::LISTS, stats.lists),
            (table::WATCHES, stats.watches),
            (table::WATCHES_ENDED, stats.watches_ended),
            (table::WATCH_MISSED, stats.watch_missed),
            (table::REVISION_REGRESSIONS, stats.revision_regressions),
            (table::RECORD_MISSING, stats.record_missing),
            (table::VIEWS_WITHHELD, stats.views_withheld),
            (table::MEMBERS_REFUSED, stats.members_refused),
        ];
        counts.iter().for_each(|(metric, count)| self.counter(metric, &[], *count));
    }

    fn group(&self, group: &GroupEntry, stats: &GroupStats) {
        let name = &*group.name;
        stats.counts.each(|stat, count| match of_group(stat) {
            Some((metric, None)) => self.counter(metric, &[name], count),
            Some((metric, Some(level))) => self.counter(metric, &[name, level], count),
            None => {}
        });
        // The one of the histograms that a node may never have anything for, and no outcome tells apart: it is there from the start.
        let _none_yet = self.0.register_histogram(&key(table::GET_MANY_SECONDS, &[name]), &METADATA);
        self.gauge(table::ENTRIES, &[name], stats.entries as f64);
        self.gauge(table::ENTRY_BYTES, &[name], stats.bytes as f64);
        self.gauge(table::FLIGHTS, &[name], stats.flights as f64);
        let [acknowledged, unacknowledged, members] =
            [&group.meter.acknowledged, &group.meter.unacknowledged, &group.meter.members]
                .map(|count| count.load(Ordering::Relaxed));
        self.counter(table::SPREAD, &[name, "acknowledged"], acknowledged);
        self.counter(table::SPREAD, &[name, "unacknowledged"], unacknowledged);
        self.counter(table::UNACKNOWLEDGED, &[name], members);
    }

    fn peer(&self, peer: &Peer) {
        let (stats, state, queued, open): (LinkStats, _, _, _) = {
            let link = lock(&peer.link);
            (link.stats(), link.state(), link.queued(), link.open_batches())
        };
        let name = &*peer.name;
        let counts = [
            (table::PEER_KEYS, stats.keys),
            (table::PEER_BATCHES, stats.batches),
            (table::PEER_FAILED_BATCHES, stats.failed_batches),
            (table::PEER_UNANSWERED, stats.unanswered),
            (table::PEER_OPENED, stats.opened),
            (table::PEER_DIALS, stats.dials),
            (table::PEER_STALE, stats.stale),
        ];
        counts.iter().for_each(|(metric, count)| self.counter(metric, &[name], *count));
        self.counter(table::PEER_REFUSED, &[name, "down"], stats.refused_down);
        self.counter(table::PEER_REFUSED, &[name, "queue_full"], stats.refused_full);
        let number = LinkState::ALL.iter().position(|&it| it == state).unwrap_or(LinkState::ALL.len());
        self.gauge(table::PEER_STATE, &[name], number as f64);
        self.gauge(table::PEER_QUEUED, &[name], queued as f64);
        self.gauge(table::PEER_OPEN_BATCHES, &[name], open as f64);
    }
}

/// Which metric a count of a group is published as, and under which level where it is a hit; `None` for what belongs to no group.
fn of_group(stat: &str) -> Option<(&'static Metric, Option<&'static str>)> {
    let metric = match stat {
        "main_hits" => return Some((table::HITS, Some("main"))),
        "hot_hits" => return Some((table::HITS, Some("hot"))),
        "negative_hits" => return Some((table::HITS, Some("negative"))),
        "stale_hits" => return Some((table::HITS, Some("stale"))),
        "gets" => table::GETS,
        "stale_rescues" => table::STALE_RESCUES,
        "misses" => table::MISSES,
        "loads_deduplicated" => table::DEDUPLICATED,
        "loads" => table::LOADS,
        "revalidations" => table::REVALIDATIONS,
        "load_errors" => table::LOAD_ERRORS,
        "load_not_found" => table::LOAD_NOT_FOUND,
        "peer_fetches" => table::PEER_FETCHES,
        "peer_errors" => table::PEER_ERRORS,
        "served" => table::SERVED,
        "evictions" => table::EVICTIONS,
        "reclaimed" => table::RECLAIMED,
        "not_stored" => table::NOT_STORED,
        "oversize" => table::OVERSIZE,
        "rejected" => table::REJECTED,
        "cancelled" => table::CANCELLED,
        "timeouts" => table::TIMEOUTS,
        "abandoned" => table::ABANDONED,
        "fenced_dropped" => table::FENCED,
        "removals" => table::REMOVALS,
        _ => return None,
    };
    Some((metric, None))
}

#[cfg(test)]
mod tests {
    use groupcache_core::ShardStats;

    use super::*;

    #[test]
    fn every_count_of_the_core_is_published_by_group_but_for_those_of_no_group() {
        let mut nowhere = Vec::new();
        ShardStats::default().each(|stat, _| {
            if of_group(stat).is_none() {
                nowhere.push(stat);
            }
        });
        assert_eq!(nowhere, ["stale_dispositions", "clamped_time"]);
    }

    #[test]
    fn the_states_of_a_peer_are_numbered_as_its_help_says() {
        for (number, state) in LinkState::ALL.iter().enumerate() {
            let words = format!("{number} {}", state.name());
            assert!(table::PEER_STATE.help.contains(&words), "{words}");
        }
    }
}
