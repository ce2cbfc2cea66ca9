//! The page for Prometheus.

use std::sync::Arc;
use std::time::Duration;

use groupcache_tokio::{Server, ServerBuilder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use metrics_util::MetricKindMask;

use crate::report::Exit;

/// What the page is, by Prometheus' names.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Seconds: from a peer in the same rack to the longest load.
const SECONDS: [f64; 17] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0,
];

/// Keys in a batch: at most as many as a request may name.
const KEYS: [f64; 13] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];

/// What was not published for so long, since its group or peer is gone, is shown no more.
const IDLE: Duration = Duration::from_secs(600);

/// How often what was observed is added up, so that it does not pile up where nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// Records a node's metrics, and renders them.
#[derive(Clone)]
pub(crate) struct Exporter {
    recorder: Arc<PrometheusRecorder>,
    page: PrometheusHandle,
}

impl Exporter {
    /// One that has recorded nothing yet.
    ///
    /// # Errors
    /// Its buckets are none.
    pub(crate) fn new() -> Result<Self, Exit> {
        let recorder = PrometheusBuilder::new()
            .idle_timeout(MetricKindMask::COUNTER | MetricKindMask::GAUGE, Some(IDLE))
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_keys".to_owned()), &KEYS))
            .map_err(|error| Exit::other(format!("cannot set up metrics: {error}")))?
            .build_recorder();
        Ok(Self { page: recorder.handle(), recorder: Arc::new(recorder) })
    }

    /// Has a node record here.
    pub(crate) fn record(&self, builder: ServerBuilder) -> ServerBuilder {
        builder.metrics_recorder(Arc::clone(&self.recorder) as _)
    }

    /// How `server` stands now, in the text format of Prometheus.
    pub(crate) fn render(&self, server: &Server) -> String {
        server.publish_metrics();
        self.page.render()
    }

    /// Keeps the records small, for ever.
    pub(crate) async fn keep_up(self) {
        loop {
            tokio::time::sleep(UPKEEP).await;
            self.page.run_upkeep();
        }
    }
}
