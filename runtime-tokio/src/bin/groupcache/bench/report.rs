//! What a bench has found, as a table and as JSON.

use std::fmt::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::tally::{OUTCOMES, Tally};
use crate::cli::{BenchArgs, NodeArgs};
use crate::live::{harmless, micros, size, whole};
use crate::report::Exit;

pub(super) struct Report<'a> {
    args: &'a BenchArgs,
    nodes: Vec<&'a str>,
    keys: u32,
    tally: &'a Tally,
    all: Histogram<u64>,
    took: Duration,
}

impl<'a> Report<'a> {
    pub(super) fn new(
        args: &'a BenchArgs,
        nodes: &'a [NodeArgs],
        keys: u32,
        tally: &'a Tally,
        took: Duration,
    ) -> Self {
        let nodes = nodes.iter().map(|node| node.node.as_str()).collect();
        Self { args, nodes, keys, tally, all: tally.all(), took }
    }

    fn requests(&self) -> u64 {
        self.all.len() + self.tally.failed()
    }

    fn per_second(&self) -> f64 {
        self.all.len() as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// The exit: some failed, or none did.
    pub(super) fn verdict(&self) -> Result<(), Exit> {
        let (failed, differences) = (self.tally.failed(), self.tally.differences);
        if self.all.is_empty() && failed > 0 && self.tally.errors.keys().all(|kind| kind == "unreachable") {
            return Err(Exit::other("no node answered any request: are they still running?"));
        }
        if differences > 0 {
            return Err(Exit::failed(format!(
                "{differences} answers differ from an earlier one for the same key"
            )));
        }
        if failed > 0 {
            return Err(Exit::failed(format!("{failed} of {} requests failed", self.requests())));
        }
        Ok(())
    }

    pub(super) fn table(&self) -> String {
        let args = self.args;
        let mut text = format!(
            "{} at {}: {} keys {}, {} connections{}\n\n",
            harmless(&args.group),
            self.nodes.join(", "),
            whole(self.keys.into()),
            args.distribution,
            args.connections,
            args.rate.map_or_else(String::new, |rate| format!(", {} requests a second", whole(rate.into()))),
        );
        let _ = writeln!(
            text,
            "{} requests in {:.1} s: {} answers a second, {} failed, {} of values\n",
            whole(self.requests()),
            self.took.as_secs_f64(),
            whole(self.per_second().round() as u64),
            whole(self.tally.failed()),
            size(self.tally.bytes),
        );
        self.push_latencies(&mut text);
        if !self.tally.errors.is_empty() {
            let _ = writeln!(text, "\n{:<20} {:>10}", "FAILED", "COUNT");
            for (kind, times) in &self.tally.errors {
                let _ = writeln!(text, "{:<20} {:>10}", harmless(kind), whole(*times));
            }
        }
        push_histogram(&mut text, &self.all);
        if !self.all.is_empty() && self.tally.of(OUTCOMES.len() - 1).len() == self.all.len() {
            text.push_str("\nNo key was found: name keys that the origin has, by --key or --keys-from.\n");
        }
        text
    }

    fn push_latencies(&self, text: &mut String) {
        let _ = writeln!(
            text,
            "{:<10} {:>10} {:>7} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "LATENCY", "COUNT", "SHARE", "P50", "P90", "P99", "P99.9", "MAX"
        );
        let rows = OUTCOMES.iter().enumerate().map(|(at, outcome)| (*outcome, self.tally.of(at)));
        for (name, latencies) in
            rows.chain([("all", &self.all)]).filter(|(_, latencies)| !latencies.is_empty())
        {
            let at = |quantile| micros(latencies.value_at_quantile(quantile));
            let share = latencies.len() as f64 * 100.0 / self.all.len() as f64;
            let _ = writeln!(
                text,
                "{name:<10} {:>10} {share:>6.1}% {:>9} {:>9} {:>9} {:>9} {:>9}",
                whole(latencies.len()),
                at(0.5),
                at(0.9),
                at(0.99),
                at(0.999),
                micros(latencies.max()),
            );
        }
    }

    pub(super) fn json(&self) -> Value {
        let mut outcomes: serde_json::Map<String, Value> = OUTCOMES
            .iter()
            .enumerate()
            .map(|(at, name)| ((*name).to_owned(), latencies(self.tally.of(at))))
            .collect();
        outcomes.insert("all".to_owned(), latencies(&self.all));
        json!({
            "group": self.args.group,
            "nodes": self.nodes,
            "keys": self.keys,
            "distribution": self.args.distribution.to_string(),
            "connections": self.args.connections,
            "rate": self.args.rate,
            "seconds": self.took.as_secs_f64(),
            "requests": self.requests(),
            "failed": self.tally.failed(),
            "answers_per_second": self.per_second(),
            "bytes": self.tally.bytes,
            "differences": self.tally.differences,
            "outcomes": outcomes,
            "errors": self.tally.errors,
        })
    }
}

fn latencies(of: &Histogram<u64>) -> Value {
    let at = |quantile| of.value_at_quantile(quantile);
    json!({
        "count": of.len(), "mean_us": of.mean(), "min_us": of.min(), "p50_us": at(0.5), "p90_us": at(0.9), "p99_us": at(0.99),
        "p999_us": at(0.999), "max_us": of.max(),
    })
}

/// The longest bar.
const WIDTH: f64 = 40.0;

/// A line for each doubling of the latency.
fn push_histogram(text: &mut String, all: &Histogram<u64>) {
    if all.is_empty() {
        return;
    }
    let first = all.min().max(1).ilog2();
    let last = all.max().max(1).ilog2();
    let counts: Vec<(u64, u64)> = (first..=last)
        .map(|power| {
            let (low, high) = (1u64 << power, (1u64 << power << 1) - 1);
            (high + 1, all.count_between(low, high))
        })
        .collect();
    let most = counts.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
    text.push_str("\nBELOW      ALL ANSWERS\n");
    for (below, count) in counts {
        let bar = "#".repeat((count as f64 / most as f64 * WIDTH).round() as usize);
        let bar = if count > 0 && bar.is_empty() { "." } else { &bar };
        let share = count as f64 * 100.0 / all.len() as f64;
        let _ = writeln!(text, "{:>8}  {bar:<40} {share:>5.1}%", micros(below));
    }
}
