//! What a node publishes to a recorder of its own, as an embedding service would have it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use groupcache_runtime::metrics::METRICS;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use super::Cluster;
use super::fleet::{Options, wait_for, within};
use super::origin::Origin;

/// Remembers the last of everything, and how often a histogram was told of anything.
#[derive(Clone, Default)]
pub(super) struct Notes(Arc<Mutex<BTreeMap<String, f64>>>);

impl fmt::Debug for Notes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Notes")
    }
}

impl Notes {
    fn note(&self, series: &str, change: impl FnOnce(&mut f64)) {
        change(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(series.to_owned()).or_default());
    }

    /// The sum of all series of a metric that have these words among their labels.
    fn sum(&self, metric: &str, words: &[&str]) -> f64 {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_metric = notes.iter().filter_map(|(series, value)| {
            let labels = series.strip_prefix(metric)?.strip_prefix('{')?;
            words.iter().all(|word| labels.contains(word)).then_some(value)
        });
        of_metric.sum()
    }

    fn names(&self) -> Vec<String> {
        let notes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        notes.keys().filter_map(|series| Some(series.split_once('{')?.0.to_owned())).collect()
    }

    fn series(&self, key: &Key) -> Arc<Series> {
        let labels = key.labels().map(|label| format!("{}={} ", label.key(), label.value()));
        let name = format!("{}{{{}}}", key.name(), labels.collect::<String>());
        Arc::new(Series { notes: self.clone(), name })
    }
}

struct Series {
    notes: Notes,
    name: String,
}

impl metrics::CounterFn for Series {
    fn increment(&self, by: u64) {
        self.notes.note(&self.name, |value| *value += by as f64);
    }

    fn absolute(&self, to: u64) {
        self.notes.note(&self.name, |value| *value = value.max(to as f64));
    }
}

impl metrics::GaugeFn for Series {
    fn increment(&self, by: f64) {
        self.notes.note(&self.name, |value| *value += by);
    }

    fn decrement(&self, by: f64) {
        self.notes.note(&self.name, |value| *value -= by);
    }

    fn set(&self, to: f64) {
        self.notes.note(&self.name, |value| *value = to);
    }
}

impl metrics::HistogramFn for Series {
    fn record(&self, _: f64) {
        self.notes.note(&self.name, |value| *value += 1.0);
    }
}

impl Recorder for Notes {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.series(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.series(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.series(key))
    }
}

pub async fn nodes_of_one_process_publish_by_themselves_each_to_its_own_recorder(cluster: &Cluster) {
    let recorders = [Notes::default(), Notes::default()];
    let options = |recorder: &Notes| Options { recorder: Some(recorder.clone()), ..Options::default() };
    let fleet = cluster.fleet_of(recorders.iter().map(options).collect(), Origin::plain()).await;
    let (mine, theirs) = (fleet.keys_of(0, "mine", 5), fleet.keys_of(1, "theirs", 5));
    for key in mine.iter().chain(&theirs).chain(&mine) {
        fleet[0].value(key).await;
    }
    let _ = within("many gets", fleet[0].group.get_many(&fleet.keys_of(1, "more", 3))).await;
    let get = |node: usize, metric: &str, words: &[&str]| recorders[node].sum(metric, words);
    wait_for("figures", || get(0, "groupcache_gets_total", &["group=g"]) >= 18.0).await;
    wait_for("figures of the other", || get(1, "groupcache_served_total", &["group=g"]) >= 8.0).await;

    // Ten gets were no hits; five were, and nobody timed them.
    assert_eq!(get(0, "groupcache_hits_total", &["level=main"]), 5.0);
    assert_eq!(get(0, "groupcache_get_seconds", &["outcome=load"]), 5.0);
    assert_eq!(get(0, "groupcache_get_seconds", &["outcome=peer"]), 5.0);
    assert_eq!(
        (get(0, "groupcache_get_seconds", &[]), get(0, "groupcache_get_many_seconds", &[])),
        (10.0, 1.0)
    );
    let served = ["groupcache_served_seconds", "groupcache_load_seconds"].map(|metric| get(1, metric, &[]));
    assert_eq!((served, get(1, "groupcache_get_seconds", &[])), ([8.0, 8.0], 0.0));
    let peer = format!("peer={}", fleet.addrs[1]);
    assert_eq!(get(0, "groupcache_peer_fetch_seconds", &[&peer, "outcome=answered"]), 8.0);
    assert_eq!(get(0, "groupcache_peer_keys_total", &[&peer]), 8.0);
    let listed = |name: &String| METRICS.iter().any(|metric| metric.name == name);
    assert!(recorders.iter().flat_map(Notes::names).all(|name| listed(&name)));

    // A hit is counted at the next publication, and a stopped node has published its last figures.
    fleet[0].value(&mine[0]).await;
    within("a stop", fleet[0].stop()).await;
    wait_for("the last figures", || get(0, "groupcache_hits_total", &["level=main"]) == 6.0).await;
    wait_for("that it is not ready", || get(0, "groupcache_ready", &[]) == 0.0).await;
}

/// How often a node of these tests publishes.
pub(super) const INTERVAL: Duration = Duration::from_millis(50);
