//! Metrics, through the facade of the crate `metrics` 0.24 (feature `metrics`): [`METRICS`] lists them all, `METRICS.md` says the same for people.
//!
//! Two kinds of things are published in two ways.
//!
//! - **What the machines count** is published as a snapshot, by [`Server::publish_metrics`](crate::Server::publish_metrics): whoever renders a page for a
//!   scraper calls it right before. For exporters that push, [`ServerBuilder::metrics_interval`](crate::ServerBuilder::metrics_interval) has the node call
//!   it by itself.
//! - **How long things take** is recorded in histograms as it happens, from the first publication on: gets that were no hits, loads, fetches from peers. A
//!   hit reads no clock, and is counted and not timed.
//!
//! They go to the process's recorder (`metrics::set_global_recorder`), which is to be installed before the first publication, or to one of the node's own,
//! by [`ServerBuilder::metrics_recorder`](crate::ServerBuilder::metrics_recorder): for who has several nodes in one process, whose series would be the same.
//!
//! The facade cannot take a series back. That of a group or peer which is gone is published no more; an exporter that forgets what is idle
//! (`metrics-exporter-prometheus` does with `idle_timeout`) drops it then. Handles are taken anew at each publication, so that what an exporter has
//! forgotten comes back when it happens again.

pub(crate) mod meter;
mod publish;
mod table;

pub(crate) use self::publish::{RegistryFigures, Standing};
pub use self::table::{METRICS, Metric, MetricKind};
