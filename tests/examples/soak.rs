//! A long run at full load, for whoever wants to know whether memory stays flat. `--help` tells.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use groupcache_tests::http::{Client, path};
use groupcache_tests::{Etcd, EtcdTls, Node, NodeOptions, Origin, resident, value_of, wait_connected};
use tempfile::TempDir;

use authority::Authority;

#[path = "../../runtime/tests/support/authority.rs"]
#[allow(dead_code)]
mod authority;

const HOST: &str = "127.0.0.1";
/// What a process takes beside its cache: code, stacks, connections and their buffers, the allocator's slack. In MiB.
const BESIDE_CACHE: u64 = 64;
/// By how much a process's memory may grow from the second third of the run to the last, in thousandths: a leak does not stop at that.
const GROWTH_PER_MILLE: u64 = 20;
const GROUP: &str = "web";

/// Runs a fleet under mutual TLS, with an etcd under TLS that asks for a password, and asks it for all that it can give.
///
/// Clients ask all nodes for keys, many of them for few keys and few for many, and remove one now and then. Each value is compared with what the origin
/// has. Memory must be flat: within the budget and 64 MiB, and no more than 2 % above what it was in the second third of the run in the last. No get
/// may fail.
#[derive(Debug, Parser)]
#[command(
    name = "soak",
    after_help = "\
Examples:
  cargo run --release -p groupcache-tests --all-features --example soak -- --minutes 30
  GROUPCACHE_BIN=target/release/groupcache target/release/examples/soak --minutes 5 --keys 50000

Without GROUPCACHE_BIN the node is built first, with debug information and no optimization.
Needs etcd (Debian: apt-get install etcd-server etcd-client). Exits with 1 when something is not as promised."
)]
struct Args {
    /// How long, in minutes.
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,

    /// Nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    nodes: u8,

    /// Clients that ask without a pause.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u8).range(1..))]
    clients: u8,

    /// Keys that are asked for.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,

    /// Cache of a node, in MiB: less than all values take, so that there are evictions throughout.
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u64).range(1..))]
    budget: u64,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let setup = Setup::start(&args);
    let sides: Vec<SocketAddr> = setup.nodes.iter().map(Node::http).collect();
    let (done, tally) = (AtomicBool::new(false), Tally::default());
    let time = Duration::from_secs_f64(args.minutes.max(0.05) * 60.0);
    let memory = thread::scope(|scope| {
        for client in 0..args.clients {
            let (sides, done, tally) = (&sides, &done, &tally);
            scope.spawn(move || ask(usize::from(client), sides, args.keys, tally, done));
        }
        let memory = watch(&setup.nodes, &tally, time);
        done.store(true, Ordering::SeqCst);
        memory
    });
    let violations = judge(&args, &setup, &tally, &memory);
    for violation in &violations {
        println!("VIOLATION {violation}");
    }
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What runs, and the files that it was started with.
struct Setup {
    nodes: Vec<Node>,
    _etcd: Etcd,
    _origin: Origin,
    _files: TempDir,
}

impl Setup {
    fn start(args: &Args) -> Self {
        let (authority, origin) = (Authority::new(), Origin::start());
        let files = TempDir::new().expect("a directory");
        let identity = authority.sign(HOST);
        put(files.path(), "ca.pem", &authority.pem());
        put(files.path(), "node.pem", &identity.chain);
        put(files.path(), "node.key", &identity.key);
        put(files.path(), "password", "s3cret\n");
        let file = |name: &str| files.path().join(name);
        let tls = EtcdTls { ca: file("ca.pem"), cert: file("node.pem"), key: file("node.key") };
        let etcd = Etcd::start_secured(tls);
        etcd.ask_for_user("node", "s3cret");
        let flag = |flag: &str, name: &str| [format!("--{flag}"), file(name).display().to_string()];
        let secured = [
            flag("tls-cert", "node.pem"),
            flag("tls-key", "node.key"),
            flag("tls-ca", "ca.pem"),
            flag("etcd-cert", "node.pem"),
            flag("etcd-key", "node.key"),
            flag("etcd-ca", "ca.pem"),
            flag("etcd-password-file", "password"),
        ];
        let nodes = (0..args.nodes).map(|_| {
            let options = NodeOptions::new().fixed().group(GROUP, &origin.url()).args(secured.concat());
            let options = options.args(["--etcd", &etcd.url(), "--etcd-user", "node", "--ttl", "1m"]);
            Node::spawn(&options.args(["--budget", &format!("{}MiB", args.budget)]))
        });
        let nodes: Vec<Node> = nodes.collect();
        wait_connected(&nodes.iter().collect::<Vec<_>>(), Duration::from_secs(30));
        Self { nodes, _etcd: etcd, _origin: origin, _files: files }
    }
}

fn put(dir: &Path, name: &str, text: &str) {
    fs::write(dir.join(name), text).expect("a file can be written");
}

/// What the clients have seen.
#[derive(Debug, Default)]
struct Tally {
    gets: AtomicU64,
    removals: AtomicU64,
    failures: AtomicU64,
}

/// One client: asks node after node until it is done.
fn ask(number: usize, sides: &[SocketAddr], keys: u32, tally: &Tally, done: &AtomicBool) {
    let mut clients: Vec<Client> = sides.iter().map(|&side| Client::new(side)).collect();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(number as u64 + 1);
    let mut random = move || {
        // xorshift64* (Vigna, 2016).
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    };
    for turn in 0_usize.. {
        if done.load(Ordering::SeqCst) {
            return;
        }
        // Evenly in the logarithm: Zipf's law with an exponent of 1.
        let key = format!("key/{}", f64::from(keys).powf(random()) as u32);
        let client = &mut clients[turn % sides.len()];
        let outcome = if random() < 0.001 {
            tally.removals.fetch_add(1, Ordering::Relaxed);
            client.request("DELETE", &path(GROUP, &key)).map(|answer| (answer.status == 200, answer))
        } else {
            tally.gets.fetch_add(1, Ordering::Relaxed);
            let answer = client.get(GROUP, &key);
            answer.map(|answer| (answer.status == 200 && answer.body == value_of(&key), answer))
        };
        let failure = match outcome {
            Ok((true, _)) => continue,
            Ok((false, answer)) => format!("{} {}", answer.status, answer.text()),
            Err(error) => error.to_string(),
        };
        if tally.failures.fetch_add(1, Ordering::Relaxed) < 10 {
            println!("failed: {key}: {failure}");
        }
    }
}

/// Memory of every node, sample by sample, in bytes.
fn watch(nodes: &[Node], tally: &Tally, time: Duration) -> Vec<Vec<u64>> {
    let (started, interval) =
        (Instant::now(), (time / 90).clamp(Duration::from_millis(200), Duration::from_secs(10)));
    let mut samples = Vec::new();
    let mut told = Instant::now();
    while started.elapsed() < time {
        thread::sleep(interval);
        let now: Vec<u64> = nodes.iter().map(|node| resident(node.pid()).expect("the node runs")).collect();
        if told.elapsed() > time / 30 {
            told = Instant::now();
            let mib: Vec<u64> = now.iter().map(|bytes| bytes >> 20).collect();
            let (gets, failures) =
                (tally.gets.load(Ordering::Relaxed), tally.failures.load(Ordering::Relaxed));
            println!(
                "{:6.1} s  {gets:>10} gets  {failures} failed  {mib:?} MiB",
                started.elapsed().as_secs_f64()
            );
        }
        samples.push(now);
    }
    samples
}

fn judge(args: &Args, setup: &Setup, tally: &Tally, memory: &[Vec<u64>]) -> Vec<String> {
    let mut violations = Vec::new();
    let [gets, removals, failures] =
        [&tally.gets, &tally.removals, &tally.failures].map(|count| count.load(Ordering::Relaxed));
    let evictions: u64 = setup.nodes.iter().map(|node| node.stat("evictions")).sum();
    println!("{gets} gets, {removals} removals, {failures} failed, {evictions} evictions");
    if failures > 0 {
        violations.push(format!("{failures} of {} requests failed", gets + removals));
    }
    if gets < 1000 || removals == 0 || evictions == 0 {
        violations.push("too little happened to show anything".to_owned());
    }
    let third = memory.len() / 3;
    for (number, node) in setup.nodes.iter().enumerate() {
        let of = |samples: &[Vec<u64>]| samples.iter().map(|sample| sample[number]).collect::<Vec<_>>();
        let (second, last) = (of(&memory[third..2 * third]), of(&memory[2 * third..]));
        let most = of(memory).into_iter().max().unwrap_or(0);
        let (before, after) = (mean(&second), mean(&last));
        println!(
            "{}: at most {} MiB; {:.1} MiB in the second third, {:.1} in the last",
            node.addr(),
            most >> 20,
            before as f64 / f64::from(1 << 20),
            after as f64 / f64::from(1 << 20)
        );
        if most > (args.budget + BESIDE_CACHE) << 20 {
            violations.push(format!(
                "{} takes {} MiB, with a budget of {}",
                node.addr(),
                most >> 20,
                args.budget
            ));
        }
        if after * 1000 > before * (1000 + GROWTH_PER_MILLE) {
            violations.push(format!("{} grows: {before} bytes, later {after}", node.addr()));
        }
    }
    violations
}

fn mean(samples: &[u64]) -> u64 {
    samples.iter().sum::<u64>() / (samples.len() as u64).max(1)
}
