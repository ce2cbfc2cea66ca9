//! `groupcache bench`: load on running nodes, and what came of it.

pub(crate) mod keys;
mod report;
mod run;
mod tally;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use self::keys::Keys;
use self::report::Report;
use self::run::Bench;
use crate::cli::BenchArgs;
use crate::client::{NodeConnection, Target};
use crate::report::{Exit, chain, print};

/// Runs the load, and prints the figures.
///
/// # Errors
/// No node answers, requests have failed, or the figures cannot be written.
pub(crate) async fn run(args: &BenchArgs) -> Result<(), Exit> {
    let keys = Keys::of(args)?;
    let nodes = args.fleet.or(&args.node);
    let mut targets = Vec::new();
    for node in &nodes {
        let target = Target::of(node)?;
        // Found out before the clock runs, and with the reason.
        match tokio::time::timeout(node.timeout, NodeConnection::open(&target)).await {
            Ok(Ok(_)) => targets.push(target),
            Ok(Err(error)) => {
                return Err(Exit::other(format!("cannot talk to {}: {}", node.node, chain(&*error))));
            }
            Err(_) => return Err(Exit::other(format!("{} takes no connection", node.node))),
        }
    }
    let bench = Arc::new(Bench::new(args, keys, targets));
    let (tally, took) = run::load(&bench, args).await?;
    let report = Report::new(args, &nodes, bench.keys.len(), &tally, took);
    publish(args, &report)?;
    report.verdict()
}

fn publish(args: &BenchArgs, report: &Report<'_>) -> Result<(), Exit> {
    let json = || format!("{}\n", report.json());
    match args.json.as_deref() {
        Some(path) if path == Path::new("-") => return print(json().as_bytes()),
        Some(path) => fs::write(path, json())
            .map_err(|error| Exit::other(format!("cannot write {}: {error}", path.display())))?,
        None => {}
    }
    print(report.table().as_bytes())
}
