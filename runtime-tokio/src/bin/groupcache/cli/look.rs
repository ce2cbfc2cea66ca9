//! What `why`, `top` and `bench` take: the commands that look at nodes at work.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{KeyArgs, NodeArgs, duration, group_name};
use crate::bench::keys::Distribution;

pub(super) const WHY_EXAMPLES: &str = "\
Examples:
  groupcache why files README.md                     what the node on this machine knows of it
  groupcache why --fleet http://10.0.0.1:8080,http://10.0.0.2:8080 img logo.png
  groupcache why --json img logo.png | jq .kept.ttl_ms

Asking loads nothing, counts as no look-up, and asks no other node than those given.
What a node does not remember is said to be unknown.

Exit codes: 0 done, 2 wrong usage, 3 any other failure.";

pub(super) const TOP_EXAMPLES: &str = "\
Examples:
  groupcache top                                     the node on this machine
  groupcache top --fleet http://10.0.0.1:8080,http://10.0.0.2:8080

Keys:
  q, esc, ctrl-c   leave             tab, right   the next node
  up, down         scroll the lists  shift-tab, left   the one before
  space            hold still        ?            help

Needs a terminal; at least 60 columns by 16 lines show something, 80 by 24 all of it.
The same figures in a browser: the node's page at /. As JSON: /-/live.

Exit codes: 0 left, 2 wrong usage, 3 any other failure.";

pub(super) const BENCH_EXAMPLES: &str = "\
Examples:
  groupcache bench web                               10,000 keys zipf:0.99, 32 at a time, for 10 s
  groupcache bench web --rate 5000 --duration 1m     5,000 requests a second, whatever the answers take
  groupcache bench web --distribution hot:1/90 --keys 100000 --count 1000000
  groupcache bench files --keys-from names.txt --fleet http://10.0.0.1:8080,http://10.0.0.2:8080

Which keys, by --distribution, of those that --key or --keys-from name:
  zipf:S        key n (of 1, 2, ...) is asked for in proportion to 1 / n^S
  uniform       each as often as any other
  sequential    one after the other, and over again
  hot:K/R       K percent of the keys get R percent of the requests

Without --rate a connection asks again when it is answered: that measures what the fleet
can do. With --rate requests are due at fixed times, and their latency counts from when
they were due: a node that stands still is charged for all that would have come (no
coordinated omission).

Latencies are told by where answers came from, as the header x-groupcache has it: hit
(the owner's cache), hot (a copy), peer (the owner was asked), load (the origin was).
A kept or loaded \"not found\" is an answer too: not_found.

Exit codes: 0 done and no request failed, 1 some failed, or --check found a difference,
2 wrong usage, 3 any other failure (no node answers, the file cannot be written).";

#[derive(Debug, Args)]
pub(crate) struct WhyArgs {
    #[command(flatten)]
    pub(crate) key: KeyArgs,

    #[command(flatten)]
    pub(crate) fleet: FleetArgs,

    /// Print the node's own JSON: one line a node.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Several nodes at once.
#[derive(Debug, Args)]
pub(crate) struct FleetArgs {
    /// These nodes in place of --node, by the URLs of their HTTP sides.
    #[arg(long, env = "GROUPCACHE_FLEET", value_delimiter = ',', value_name = "URL,...")]
    pub(crate) fleet: Vec<String>,
}

impl FleetArgs {
    /// Each of them, talked to as `node` is; that one alone, where no others are named.
    pub(crate) fn or(&self, node: &NodeArgs) -> Vec<NodeArgs> {
        if self.fleet.is_empty() {
            return vec![node.clone()];
        }
        self.fleet.iter().map(|url| NodeArgs { node: url.clone(), ..node.clone() }).collect()
    }
}

#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,

    #[command(flatten)]
    pub(crate) fleet: FleetArgs,

    /// How often to look.
    #[arg(long, default_value = "1s", value_name = "DURATION", value_parser = duration)]
    pub(crate) every: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// The group that is asked for keys.
    #[arg(value_parser = group_name)]
    pub(crate) group: String,

    #[command(flatten)]
    pub(crate) node: NodeArgs,

    #[command(flatten)]
    pub(crate) fleet: FleetArgs,

    /// How many keys there are.
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub(crate) keys: u32,

    /// The name of a key: `{}` stands for its number, from 0.
    #[arg(long, default_value = "key-{}", value_name = "TEMPLATE", value_parser = template)]
    pub(crate) key: String,

    /// Take the keys from a file, one a line, the most frequent first.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["keys", "key"])]
    pub(crate) keys_from: Option<PathBuf>,

    /// Which key is asked for how often: zipf:S, uniform, sequential or hot:K/R.
    #[arg(long, default_value = "zipf:0.99", value_name = "HOW")]
    pub(crate) distribution: Distribution,

    /// Connections, each with one request at a time, spread evenly over the nodes.
    #[arg(long, default_value_t = 32, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) connections: u16,

    /// How long to ask.
    #[arg(long, default_value = "10s", value_name = "DURATION", value_parser = duration, conflicts_with = "count")]
    pub(crate) duration: Duration,

    /// How many requests to send, in place of a duration.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// Requests a second, all connections together, due at fixed times. Without it, as many as are answered.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: Option<u32>,

    /// How long to ask before anything is measured.
    #[arg(long, default_value = "0s", value_name = "DURATION", value_parser = super::grace)]
    pub(crate) warm_up: Duration,

    /// Fail where two answers for one key differ.
    #[arg(long)]
    pub(crate) check: bool,

    /// What chance begins with: the same seed asks for the same keys.
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) seed: u64,

    /// Write the figures to a file too, as JSON. `-` is stdout, in place of the table.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

fn template(text: &str) -> Result<String, String> {
    match text.matches("{}").count() {
        1 => Ok(text.to_owned()),
        _ => Err("expected `{}` once, where the key's number goes: key-{}".to_owned()),
    }
}
