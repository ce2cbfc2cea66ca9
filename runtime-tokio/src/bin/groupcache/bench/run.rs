//! The load itself: connections that ask, each one request at a time.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyper::{Method, Response, StatusCode};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tokio::task::{JoinHandle, JoinSet};

use super::keys::Keys;
use super::tally::Tally;
use crate::cli::BenchArgs;
use crate::client::{NodeConnection, Target, path_of};
use crate::report::Exit;
use crate::signals::Signals;

/// How long a connection that was refused waits before it tries again.
const PAUSE: Duration = Duration::from_millis(100);

/// What all connections share.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) keys: Keys,
    group: String,
    targets: Vec<Target>,
    timeout: Duration,
    /// What each key's first answer hashes to; 0 before it. Empty where answers are not compared.
    seen: Vec<AtomicU64>,
    stopped: AtomicBool,
}

impl Bench {
    pub(super) fn new(args: &BenchArgs, keys: Keys, targets: Vec<Target>) -> Self {
        let compared = if args.check { keys.len() } else { 0 };
        Self {
            keys,
            group: args.group.clone(),
            targets,
            timeout: args.node.timeout,
            seen: (0..compared).map(|_| AtomicU64::new(0)).collect(),
            stopped: AtomicBool::new(false),
        }
    }
}

/// Part of a run: the warm-up, or what is measured.
struct Phase {
    began: Instant,
    length: Option<Duration>,
    count: Option<u64>,
    /// Between two requests of all connections together.
    interval: Option<Duration>,
    /// Requests are numbered from here, and begun.
    first: u64,
    begun: AtomicU64,
    answered: AtomicU64,
}

impl Phase {
    fn new(length: Option<Duration>, count: Option<u64>, rate: Option<u32>, first: u64) -> Arc<Self> {
        Arc::new(Self {
            began: Instant::now(),
            length,
            count,
            interval: rate.map(|rate| Duration::from_secs(1) / rate),
            first,
            begun: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        })
    }

    /// The next request's number, and when it is due where that is fixed. `None` when there is none left.
    fn next(&self) -> Option<(u64, Option<Instant>)> {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let since = |after: Duration| self.began + after;
        let due = self
            .interval
            .map(|interval| since(Duration::from_nanos((interval.as_nanos() as u64).saturating_mul(number))));
        let over = self.length.is_some_and(|length| due.unwrap_or_else(Instant::now) >= since(length));
        let enough = self.count.is_some_and(|count| number >= count);
        (!over && !enough).then_some((self.first + number, due))
    }
}

/// Warms up, then measures. Answers what came, and how long it took. An interrupt ends it early, with what there is.
pub(super) async fn load(bench: &Arc<Bench>, args: &BenchArgs) -> Result<(Tally, Duration), Exit> {
    let mut signals =
        Signals::listen().map_err(|error| Exit::other(format!("cannot listen for signals: {error}")))?;
    let interrupt = tokio::spawn({
        let bench = Arc::clone(bench);
        async move {
            signals.next().await;
            bench.stopped.store(true, Ordering::Relaxed);
            // Who asks twice does not want to wait for what is in progress.
            signals.next().await;
            std::process::exit(3);
        }
    });
    let mut workers: Vec<Worker> = (0..args.connections).map(|at| Worker::new(bench, at.into())).collect();
    let mut first = 0;
    if !args.warm_up.is_zero() {
        let warm_up = Phase::new(Some(args.warm_up), None, args.rate, 0);
        workers = phase(workers, &warm_up, "warming up").await?;
        first = warm_up.begun.load(Ordering::Relaxed);
        workers.iter_mut().for_each(|worker| worker.tally = Tally::default());
    }
    let length = args.count.is_none().then_some(args.duration);
    let measured = Phase::new(length, args.count, args.rate, first);
    workers = phase(workers, &measured, "asking").await?;
    let took = measured.began.elapsed();
    interrupt.abort();
    let mut sum = Tally::default();
    workers.into_iter().for_each(|worker| sum.add(worker.tally));
    Ok((sum, took))
}

async fn phase(workers: Vec<Worker>, phase: &Arc<Phase>, what: &'static str) -> Result<Vec<Worker>, Exit> {
    let progress = show_progress(phase, what);
    let mut running = JoinSet::new();
    for worker in workers {
        running.spawn(worker.run(Arc::clone(phase)));
    }
    let mut back = Vec::new();
    while let Some(worker) = running.join_next().await {
        back.push(worker.map_err(|error| Exit::other(format!("a connection's task failed: {error}")))?);
    }
    progress.abort();
    Ok(back)
}

/// A bar on stderr, where that is a terminal.
fn show_progress(phase: &Arc<Phase>, what: &'static str) -> JoinHandle<()> {
    let phase = Arc::clone(phase);
    tokio::spawn(async move {
        let total = phase.count.or_else(|| phase.length.map(|length| length.as_millis() as u64)).unwrap_or(0);
        let bar = ProgressBar::new(total);
        if let Ok(style) = ProgressStyle::with_template("{msg} [{bar:40}] {percent:>3} %") {
            bar.set_style(style.progress_chars("=> "));
        }
        loop {
            let answered = phase.answered.load(Ordering::Relaxed);
            let passed = phase.began.elapsed();
            bar.set_position(if phase.count.is_some() { answered } else { passed.as_millis() as u64 });
            bar.set_message(format!("{what}: {:.0}/s", answered as f64 / passed.as_secs_f64().max(1e-3)));
            tokio::time::sleep(PAUSE).await;
        }
    })
}

/// One connection, made again when it breaks.
struct Worker {
    bench: Arc<Bench>,
    /// Which of the nodes it is to.
    target: usize,
    connection: Option<NodeConnection>,
    tally: Tally,
}

impl Worker {
    fn new(bench: &Arc<Bench>, at: usize) -> Self {
        let target = at % bench.targets.len();
        Self { bench: Arc::clone(bench), target, connection: None, tally: Tally::default() }
    }

    async fn run(mut self, phase: Arc<Phase>) -> Self {
        while let Some((number, due)) = phase.next() {
            if self.bench.stopped.load(Ordering::Relaxed) {
                break;
            }
            let begun = match due {
                // In time: the request begins when the timer says so, and that timers are coarse is not the node's doing.
                Some(due) if due > Instant::now() => {
                    tokio::time::sleep_until(due.into()).await;
                    Instant::now()
                }
                // Late, since the answer before it was: it counts from when it was due.
                Some(due) => due,
                None => Instant::now(),
            };
            let key = self.bench.keys.pick(number);
            self.one(key, begun).await;
            phase.answered.fetch_add(1, Ordering::Relaxed);
        }
        self
    }

    async fn one(&mut self, key: u32, begun: Instant) {
        let path = path_of(&self.bench.group, &self.bench.keys.name(key));
        match tokio::time::timeout(self.bench.timeout, self.ask(&path)).await {
            Ok(Ok(response)) => self.take(key, &response, begun.elapsed()),
            Ok(Err(kind)) => {
                self.connection = None;
                self.tally.error(kind);
                tokio::time::sleep(PAUSE).await;
            }
            Err(_) => {
                self.connection = None;
                self.tally.error("timeout");
            }
        }
    }

    async fn ask(&mut self, path: &str) -> Result<Response<Bytes>, &'static str> {
        if self.connection.is_none() {
            self.connection = Some(
                NodeConnection::open(&self.bench.targets[self.target]).await.map_err(|_| "unreachable")?,
            );
        }
        let connection = self.connection.as_mut().ok_or("unreachable")?;
        connection.ask(Method::GET, path).await.map_err(|_| "broken_connection")
    }

    fn take(&mut self, key: u32, response: &Response<Bytes>, took: Duration) {
        let body = response.body();
        if response.status() != StatusCode::OK {
            let page: Value = serde_json::from_slice(body).unwrap_or_default();
            return match page["error"].as_str() {
                Some("not_found") => drop(self.tally.answer("not_found", took)),
                Some(kind) => self.tally.error(kind),
                None => self.tally.error(format!("status_{}", response.status().as_u16())),
            };
        }
        let level =
            response.headers().get("x-groupcache").and_then(|level| level.to_str().ok()).unwrap_or("");
        if !self.tally.answer(level, took) {
            return self.tally.error("not_a_node");
        }
        self.tally.bytes += body.len() as u64;
        if let Some(seen) = self.bench.seen.get(key as usize) {
            let mut hasher = DefaultHasher::new();
            body.hash(&mut hasher);
            let hash = hasher.finish() | 1;
            let first = seen.compare_exchange(0, hash, Ordering::Relaxed, Ordering::Relaxed);
            self.tally.differences += u64::from(first.is_err_and(|first| first != hash));
        }
    }
}
