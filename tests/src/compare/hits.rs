//! `compare hits`: what a hit costs.

use std::sync::Barrier;
use std::thread;

use super::caches::{
    CONTENDERS, CORE, Cache, Contender, GROUP_ASYNC_STD, GROUP_TOKIO, GROUP_TRACED, GROUPCACHE, MOKA,
    QUICK_CACHE,
};
use super::keys::{Stream, zipf};
use super::{Bound, Outcome, Progress, Report, Samples, Setting, Subject, take_turns, thread_time};

pub(super) const SUBJECT: Subject =
    Subject { name: "hits", about: "ns per hit, by threads and by how much is cached", run, child: None };

const METHOD: &str = "\
Keys of 16 bytes, values of 100; requests by Zipf's law (0.99) over 1 M keys (a quick run: 200,000); one cache holds 10 % of the keys and has been filled by such requests, one \
holds all. Each contender is asked only for keys that it holds, by every thread; a value is cloned out (its reference count, that is) and let \
go. ahash everywhere but in TinyUFO and the crate groupcache, which choose for themselves. \
`groupcache core` is a `Shard` behind the lock that the runtime uses; `Group::get` is the public API, its futures, clock and counters \
included. Times are those that a thread has run for.";

/// Keys that requests are for; a quick run makes do with fewer.
const KEYS: [u32; 2] = [1_000_000, 200_000];
const NS: &str = "ns per hit";
const BLOCKS: &str = "allocations per 1,000 hits";

fn run(setting: &Setting) -> Outcome<Report> {
    let mut report = Report::new(SUBJECT.name, METHOD);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let mut threads = vec![1, 2, cores];
    threads.dedup();
    threads.retain(|&threads| threads <= cores.max(2));
    let contenders: Vec<_> =
        CONTENDERS.iter().chain([&GROUP_TRACED]).filter(|it| setting.wants(it.name)).collect();
    let (rounds, keys) = (setting.pick(9, 3), setting.pick(KEYS[0], KEYS[1]));
    let progress = Progress::new(SUBJECT.name, 2 * contenders.len() * (1 + rounds * threads.len()));
    for (cached, entries) in [("10 %", keys / 10), ("100 %", keys)] {
        let mut warm = Vec::new();
        for &contender in &contenders {
            progress.begin(&format!("{cached} cached, filling {}", contender.name));
            warm.push(Warm::new(contender, keys, entries, setting)?);
            progress.done();
        }
        for &threads in &threads {
            let case =
                format!("{cached} cached, {threads} {}", if threads == 1 { "thread" } else { "threads" });
            let name = |warm: &Warm| format!("{case}, {}", warm.contender.name);
            let samples = take_turns(&mut warm, rounds, &progress, name, |warm| warm.measure(threads))?;
            for (warm, samples) in warm.iter().zip(samples) {
                report.add(NS, &case, warm.contender.name, samples);
            }
            targets(&mut report, &case);
        }
        for warm in &warm {
            report.add(BLOCKS, &format!("{cached} cached"), warm.contender.name, warm.allocations(setting));
        }
        for ours in [CORE, GROUP_TOKIO, GROUP_ASYNC_STD] {
            let case = format!("{cached} cached");
            let blocks = report.samples(BLOCKS, &case, ours.name).map(Samples::median);
            report.demand(format!("{}, {case}: allocations", ours.name), Bound::AtMost(0.0), blocks);
        }
    }
    Ok(report)
}

fn targets(report: &mut Report, case: &str) {
    let against = [
        (CORE, QUICK_CACHE, 0.6),
        (CORE, MOKA, 0.25),
        (GROUP_TOKIO, QUICK_CACHE, 1.0),
        (GROUP_ASYNC_STD, QUICK_CACHE, 1.0),
        (GROUP_TOKIO, GROUPCACHE, 0.2),
        (GROUP_ASYNC_STD, GROUPCACHE, 0.2),
        (GROUP_TRACED, GROUP_TOKIO, 1.1),
    ];
    for (ours, theirs, most) in against {
        let what = format!("{case}: time of {} against {}", ours.name, theirs.name);
        let ratio = report.ratio(NS, case, ours.name, theirs.name);
        report.demand(what, Bound::AtMost(most), ratio);
    }
}

/// A filled cache, and requests that all hit.
struct Warm {
    contender: &'static Contender,
    cache: Box<dyn Cache>,
    stream: Stream,
}

impl Warm {
    fn new(contender: &'static Contender, keys: u32, entries: u32, setting: &Setting) -> Outcome<Self> {
        let all = entries == keys;
        // With room for a tenth more no cache evicts anything, however its shards share the keys among them.
        let cache = (contender.make)(if all { entries / 10 * 11 } else { entries } as usize)?;
        if all {
            cache.fill(&Stream::new(0..keys))?;
        } else {
            cache.fill(&zipf(keys, setting.pick(3_000_000, 300_000), 1))?;
        }
        cache.settle();
        let requests = zipf(keys, setting.pick(1 << 20, 1 << 17), 2);
        let stream = requests.filter(|key| cache.holds(key));
        cache.settle();
        if stream.len() < requests.len() / 4 {
            return Err(format!("{} holds too little: {} hits", contender.name, stream.len()).into());
        }
        Ok(Self { contender, cache, stream })
    }

    /// The time of a hit on each of so many threads, in ns.
    fn measure(&self, threads: usize) -> Outcome<f64> {
        let start = Barrier::new(threads);
        let (mut nanos, mut hits) = (0, 0);
        thread::scope(|scope| {
            let run = || {
                start.wait();
                // Once for the caches of the machine, which hold what the contender before has left there.
                self.cache.hits(&self.stream);
                let started = thread_time();
                let hits = self.cache.hits(&self.stream);
                ((thread_time() - started).as_nanos(), hits)
            };
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
            for thread in running {
                let (took, hit) = thread.join().expect("a cache does not panic");
                (nanos, hits) = (nanos + took, hits + hit);
            }
        });
        let gets = threads * self.stream.len();
        if hits * 1000 < gets * 999 {
            return Err(format!("{}: only {hits} of {gets} gets hit", self.contender.name).into());
        }
        Ok(nanos as f64 / gets as f64)
    }
    /// What 1,000 hits allocate.
    fn allocations(&self, setting: &Setting) -> Samples {
        let blocks = |stream: &Stream| {
            let mut hits = 0;
            ((setting.meter)(&mut || hits = self.cache.hits(stream)).blocks, hits)
        };
        // Running a future allocates, whatever it does.
        let (begun, _) = blocks(&Stream::default());
        let (blocks, hits) = blocks(&self.stream);
        Samples::count(1000.0 * blocks.saturating_sub(begun) as f64 / hits.max(1) as f64)
    }
}
