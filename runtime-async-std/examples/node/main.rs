//! A node on async-std: it joins a ring, of nodes on tokio too, and serves its part of the keys to its peers.
//!
//! ```sh
//! cargo run -p groupcache-async-std --example node -- --addr 127.0.0.1:6325 \
//!     --peers 127.0.0.1:6324,127.0.0.1:6325 --group img=http://127.0.0.1:9000/img/
//! ```
//!
//! A service of your own builds a `Server` as `build` does, keeps its `Group`s, and calls `get` on them.

#![forbid(unsafe_code)]

mod files;
mod origin;
mod web;

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_signal::{Signal, Signals};
use bytesize::ByteSize;
use clap::Parser;
use futures_util::StreamExt;
use groupcache_async_std::{DEFAULT_ADDR, Placement, Registry, Server, ServerBuilder};
use origin::{Origin, Source};

type AnyError = Box<dyn Error + Send + Sync>;

/// A groupcache node on async-std. It has a peer side only; `groupcache serve` has an HTTP side too.
#[derive(Debug, Parser)]
#[command(name = "node", version)]
struct Args {
    /// Where peers reach this node: listened on, and its name on the ring. Port 0 takes any free one.
    #[arg(long, default_value = DEFAULT_ADDR, value_name = "HOST:PORT")]
    addr: String,

    /// All members of a fixed ring, the same list on every node. This node is added when it is missing.
    #[arg(long, value_delimiter = ',', value_name = "HOST:PORT,...", conflicts_with = "etcd")]
    peers: Vec<String>,

    /// Find the members through etcd, and register there. Needs a build with `--features etcd`.
    #[arg(long, value_delimiter = ',', value_name = "URL,...")]
    etcd: Vec<String>,

    /// A group of keys and where its values come from: `NAME=file:DIR`, or `NAME=http://host/prefix/`. May be repeated.
    #[arg(long = "group", required = true, value_name = "NAME=SOURCE", value_parser = group)]
    groups: Vec<(String, Source)>,

    /// How keys are placed on the ring: `slots/1` or `go-seed`. The same on every node.
    #[arg(long, default_value = "slots/1", value_name = "SCHEME")]
    placement: Placement,

    /// Memory for cached entries, keys and overhead included.
    #[arg(long, default_value = "64MiB", value_name = "SIZE")]
    budget: ByteSize,

    /// The largest value that is taken from an origin or a peer.
    #[arg(long, default_value = "16MiB", value_name = "SIZE")]
    max_value: ByteSize,

    /// How long a value is kept. Without it: until it is removed or evicted.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    ttl: Option<Duration>,

    /// How long a load may take.
    #[arg(long, default_value = "30s", value_name = "DURATION", value_parser = humantime::parse_duration)]
    load_timeout: Duration,
}

fn group(text: &str) -> Result<(String, Source), String> {
    let (name, source) = text.split_once('=').ok_or("expected NAME=SOURCE, such as files=file:.")?;
    Ok((name.to_owned(), source.parse()?))
}

fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(io::stderr().is_terminal()).init();
    match async_std::task::block_on(run(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("node: {}", groupcache_async_std::in_words(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn run(args: &Args) -> Result<(), AnyError> {
    // Before the start: a signal that comes while the node joins its ring must not end it half joined.
    let mut signals = Signals::new([Signal::Term, Signal::Int])?;
    let server = build(args).await?;
    server.start().await?;
    // From here on nothing may end the node but an orderly stop.
    if let Err(error) = writeln!(io::stdout(), "groupcache: serving peers at {}", server.addr()) {
        tracing::warn!(%error, addr = server.addr(), "serving, and nobody reads where");
    }
    let signal = signals.next().await;
    tracing::info!(?signal, "stopping");
    let report = server.stop().await;
    tracing::info!(report.deregistered, report.drained, "stopped");
    Ok(())
}

/// A server with its groups, not yet started.
async fn build(args: &Args) -> Result<Server, AnyError> {
    let max_value = usize::try_from(args.max_value.as_u64())?;
    let builder = Server::builder()
        .addr(&args.addr)
        .placement(args.placement)
        .budget(args.budget.as_u64())
        .max_value(max_value)
        .load_timeout(args.load_timeout);
    let server = discovery(builder, args).await?.build()?;
    for (name, source) in &args.groups {
        let origin = Origin { source: source.clone(), max_value };
        let mut group = server.group_builder(name).retriever(origin);
        if let Some(ttl) = args.ttl {
            group = group.ttl(ttl);
        }
        group.build()?;
    }
    Ok(server)
}

/// How this node finds the others.
async fn discovery(builder: ServerBuilder, args: &Args) -> Result<ServerBuilder, AnyError> {
    if args.etcd.is_empty() {
        return Ok(builder.peers(&args.peers));
    }
    Ok(builder.registry(etcd(&args.etcd).await?))
}

#[cfg(feature = "etcd")]
async fn etcd(endpoints: &[String]) -> Result<Arc<dyn Registry>, AnyError> {
    use groupcache_async_std::{AsyncStd, EtcdConfig, EtcdRegistry};
    Ok(Arc::new(EtcdRegistry::new(Arc::new(AsyncStd), EtcdConfig::new(endpoints)).await?))
}

#[cfg(not(feature = "etcd"))]
#[allow(clippy::unused_async)] // Only etcd has something to wait for.
async fn etcd(_: &[String]) -> Result<Arc<dyn Registry>, AnyError> {
    Err("built without etcd: build with `--features etcd`, which needs protoc (Debian: protobuf-compiler)"
        .into())
}
