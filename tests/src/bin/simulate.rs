//! Runs the cluster simulator over many seeds: each twice, to see that it is the same run; a failing one is shortened and shown.

use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use groupcache_tests::sim::{Coverage, Job, MAX_NODES, Outcome, Recording, minimize, replay};
use indicatif::{ProgressBar, ProgressStyle};

const AFTER_HELP: &str = "\
A run is one seed: so many nodes, their limits, what goes wrong and how often are drawn from it. For --steps operations and events
things go wrong; then faults end, and within bounded (virtual) time the fleet must have come together again. What users are promised is
checked all along. The same seed makes the same run, to the last event; each is run twice to see that.

Examples:
  simulate                               100 seeds, on all cores
  simulate --count 1000                  the nightly share: some minutes
  simulate --minutes 60 --seed 1000000   as many seeds as fit into an hour
  simulate --seed 42 --trace             one seed, with everything that happens
  simulate --nodes 12 --steps 100000     large fleets, long runs

A failing seed is shown with the operations that are needed to make it fail, and with the command that runs it again. Seeds mean
something else when the generator changes: note the commit with the seed (tests/data/seeds.txt).

Exit codes: 0 every promise held, 1 one was broken, 2 wrong usage.";

/// Runs the cluster simulator: nodes, network, etcd and origin on a virtual clock, with faults.
#[derive(Parser, Debug)]
#[command(version, after_help = AFTER_HELP)]
struct Options {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// How many seeds to run [default: 100; one with --trace, no end with --minutes].
    #[arg(long)]
    count: Option<u64>,

    /// Nodes of every fleet, 1 to 12 [default: drawn from the seed].
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=MAX_NODES as i64))]
    nodes: Option<u8>,

    /// Operations and events before faults end.
    #[arg(long, default_value_t = 20_000)]
    steps: u64,

    /// Stops beginning runs after so many minutes.
    #[arg(long)]
    minutes: Option<u64>,

    /// Prints everything that happens.
    #[arg(long)]
    trace: bool,

    /// Runs each seed once, and does not look whether a second run is the same.
    #[arg(long)]
    once: bool,

    /// How many seeds to run side by side [default: one for each core].
    #[arg(long)]
    threads: Option<usize>,
}

impl Options {
    fn count(&self) -> u64 {
        let default = match (self.trace, self.minutes) {
            (true, _) => 1,
            (false, Some(_)) => u64::MAX - self.seed,
            (false, None) => 100,
        };
        self.count.unwrap_or(default)
    }

    fn job(&self, seed: u64) -> Job {
        Job { seed, steps: self.steps, nodes: self.nodes.map(usize::from) }
    }

    fn threads(&self) -> usize {
        let cores = || thread::available_parallelism().map_or(1, usize::from);
        // What is printed would be mixed up.
        if self.trace { 1 } else { self.threads.unwrap_or_else(cores).max(1) }
    }
}

/// What all runs together came to.
#[derive(Default)]
struct Sum {
    seeds: u64,
    steps: u64,
    time: u64,
    coverage: Coverage,
}

/// A run that failed.
struct Failed {
    job: Job,
    outcome: Outcome,
    recording: Recording,
}

/// What the threads share.
struct Work<'a> {
    options: &'a Options,
    next: AtomicU64,
    ends: Option<Instant>,
    is_over: AtomicBool,
    sum: Mutex<Sum>,
    failed: Mutex<Option<Failed>>,
    bar: ProgressBar,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let started = Instant::now();
    let work = Work {
        next: AtomicU64::new(options.seed),
        ends: options.minutes.map(|minutes| started + Duration::from_secs(60 * minutes)),
        is_over: AtomicBool::new(false),
        sum: Mutex::default(),
        failed: Mutex::default(),
        bar: bar(&options),
        options: &options,
    };
    // A promise that is broken by a panic is reported as any other.
    if !options.trace {
        std::panic::set_hook(Box::new(|_| {}));
    }
    thread::scope(|scope| {
        for _ in 0..options.threads() {
            scope.spawn(|| run_seeds(&work));
        }
    });
    work.bar.finish_and_clear();
    let Work { sum, failed, .. } = work;
    show_sum(&sum.into_inner().unwrap_or_else(PoisonError::into_inner), started.elapsed());
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        None => ExitCode::SUCCESS,
        Some(failed) => {
            show_failure(&failed, &options);
            ExitCode::FAILURE
        }
    }
}

fn bar(options: &Options) -> ProgressBar {
    if options.trace {
        return ProgressBar::hidden();
    }
    let bar = match options.minutes {
        Some(_) => ProgressBar::new_spinner(),
        None => ProgressBar::new(options.count()),
    };
    let template = "{spinner} {elapsed_precise} {wide_bar} seeds {pos}/{len} {msg}";
    bar.with_style(ProgressStyle::with_template(template).expect("a template"))
}

fn run_seeds(work: &Work<'_>) {
    let options = work.options;
    let last = options.seed.saturating_add(options.count());
    loop {
        let is_late = work.ends.is_some_and(|ends| Instant::now() >= ends);
        if is_late || work.is_over.load(Ordering::Relaxed) {
            return;
        }
        let seed = work.next.fetch_add(1, Ordering::Relaxed);
        if seed >= last {
            return;
        }
        let job = options.job(seed);
        let (mut outcome, recording) = job.run(options.trace);
        if !options.once && !options.trace && outcome.violation.is_none() {
            let (again, _) = job.run(false);
            if again.hash != outcome.hash || again.steps != outcome.steps {
                outcome.violation = Some("a second run of the seed is another run".to_owned());
            }
        }
        let mut sum = lock(&work.sum);
        sum.seeds += 1;
        sum.steps += outcome.steps;
        sum.time += outcome.time;
        sum.coverage.add(&outcome.coverage);
        work.bar.set_message(format!("{} million steps", sum.steps / 1_000_000));
        drop(sum);
        work.bar.inc(1);
        if outcome.violation.is_some() {
            work.is_over.store(true, Ordering::Relaxed);
            lock(&work.failed).get_or_insert(Failed { job, outcome, recording });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn show_sum(sum: &Sum, took: Duration) {
    println!("{}", sum.coverage);
    println!(
        "{} seeds, {} steps, {:.1} simulated hours in {:.1} s: {:.0} steps/s",
        sum.seeds,
        sum.steps,
        sum.time as f64 / 3.6e12,
        took.as_secs_f64(),
        sum.steps as f64 / took.as_secs_f64(),
    );
}

/// How many runs it may take to shorten a failure.
const TRIES: u32 = 1_500;

fn show_failure(failed: &Failed, options: &Options) {
    let Failed { job, outcome, recording } = failed;
    let plan = job.plan();
    println!("\nBROKEN  {}", outcome.violation.as_deref().unwrap_or("nothing"));
    println!(
        "seed {}, {} steps, {} operations, commit {}",
        job.seed,
        outcome.steps,
        recording.len(),
        commit()
    );
    let nodes = options.nodes.map_or_else(String::new, |nodes| format!(" --nodes {nodes}"));
    println!(
        "again:  cargo run --release -p groupcache-tests --bin simulate -- --seed {} --steps {}{nodes} --trace",
        job.seed, job.steps
    );
    if options.trace {
        return;
    }
    let (started, symptom) = (Instant::now(), outcome.symptom());
    let short = minimize(recording.clone(), TRIES, |candidate| {
        started.elapsed() < Duration::from_secs(60) && replay(&plan, candidate, false).symptom() == symptom
    });
    println!("{:#?}", plan);
    println!("{} operations are enough (after {} tries):", short.recording.len(), short.tries);
    short.recording.lines().for_each(|line| println!("  {line}"));
    println!("with these it happens so:");
    let outcome = replay(&plan, &short.recording, true);
    println!("BROKEN  {}", outcome.violation.as_deref().unwrap_or("nothing: a failure that comes and goes"));
}

fn commit() -> String {
    let asked = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
    let commit = asked.ok().filter(|output| output.status.success());
    commit.map_or_else(
        || "unknown".to_owned(),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
