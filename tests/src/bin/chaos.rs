//! Chaos from the command line. `--help` tells.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use groupcache_tests::chaos::{Plan, run};

/// Runs nodes of both adapters with a real etcd, breaks things at random while clients read and remove, and checks what they see.
///
/// Violations are: a wrong value; a value older than a removal that everybody had acknowledged 32 seconds
/// before (hot copies live for 30; until then it is counted as late: a member that the remover did not know of yet); a request without an answer; more than two errors
/// in a thousand gets of nodes that were in order; more origin loads than the faults and removals account for; more memory than the budget and 64
/// MiB; a fleet that is not well again within a minute after the last fault.
#[derive(Debug, Parser)]
#[command(
    name = "chaos",
    after_help = "\
Examples:
  cargo run --release -p groupcache-tests --bin chaos -- --minutes 10
  cargo run --release -p groupcache-tests --bin chaos -- --seed 7 --nodes 3

Needs etcd (Debian: apt-get install etcd-server etcd-client). Exits with 1 on a violation."
)]
struct Args {
    /// How long faults are injected, in minutes.
    #[arg(long, default_value_t = 1.0)]
    minutes: f64,

    /// Draws the faults; by default from the clock.
    #[arg(long)]
    seed: Option<u64>,

    /// Nodes: they take turns on tokio and async-std.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(2..))]
    nodes: u8,

    /// Keys that are asked for.
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,

    /// Cache of a node, in MiB.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..))]
    budget: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = args.seed.unwrap_or_else(|| clock.map_or(1, |since| since.as_millis() as u64));
    let plan = Plan {
        time: Duration::from_secs_f64(args.minutes.max(0.0) * 60.0),
        seed,
        nodes: args.nodes.into(),
        keys: args.keys as usize,
        budget: args.budget << 20,
    };
    println!("seed {seed}");
    let started = Instant::now();
    let verdict = run(&plan, |what| println!("{:7.1} s  {what}", started.elapsed().as_secs_f64()));
    println!("{verdict}");
    if verdict.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
