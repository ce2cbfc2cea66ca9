//! Gets of keys that another process on this machine owns, against the floors of the same machine and against the `groupcache` crate.

mod drive;
mod hyper;
mod ours;
mod owner;
mod petroniuss;
mod tcp;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use groupcache_async_std::AsyncStd;
use groupcache_runtime::{Runtime, Stats};
use groupcache_tokio::Tokio;

use self::drive::{Asker, Burst, Load, burst, cpu};
use self::ours::By;
use self::owner::{Owner, Role};
use super::host::Host;
use super::rounds::Progress;
use super::{Bound, Outcome, Report, Samples, Setting, Subject, take_turns};
use crate::ports::reserve;

/// The comparison.
pub(super) const SUBJECT: Subject = Subject {
    name: "remote",
    about: "gets of keys that another process owns, against bare hyper, bare TCP and the groupcache crate",
    run,
    child: Some(owner::be),
};

const METHOD: &str = "\
Two processes on this machine, one TCP connection between them. The asking one asks for keys that the other owns and has in its cache, each key once in a \
round through all of them; copies at the asker live for 1 ms, so that every get is a miss there, and each value that comes is stored there. \
The first line of each table is what the others are held against. **bare hyper**: hyper's HTTP/2 at both ends, one request a key, prost messages, no cache, no \
deadlines, no gRPC trailers. **32 keys a message**: the same with the messages of `groupcache.v1`. **length-prefixed TCP**: frames with a number and a \
length, many in flight, no HTTP. The floors answer every key with the same bytes. `groupcache` 0.3 is the crate of that name. Processor time is that of both processes; its spread \
is the steadiest of all. In flight are calls: 32 calls of `get_many(32)` are 1,024 keys.";

const SINGLE: &str = "get";
const MANY: &str = "get_many(32)";

/// Keys of a message, where it is not one.
const BATCH: usize = 32;

/// Calls of many keys at a time, at most.
const MANY_CALLS: usize = 32;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Ours(Host, By),
    Crate,
    Unary(Host),
    Batched(Host),
    Tcp,
}

impl Who {
    const SINGLE: [Self; 6] = [
        Self::Ours(Host::Tokio, By::Get),
        Self::Ours(Host::AsyncStd, By::Get),
        Self::Crate,
        Self::Unary(Host::Tokio),
        Self::Unary(Host::AsyncStd),
        Self::Tcp,
    ];

    const MANY: [Self; 4] = [
        Self::Ours(Host::Tokio, By::GetMany),
        Self::Ours(Host::AsyncStd, By::GetMany),
        Self::Batched(Host::Tokio),
        Self::Batched(Host::AsyncStd),
    ];

    fn name(self) -> String {
        match self {
            Self::Ours(host, _) => format!("groupcache-{}", host.name()),
            Self::Crate => "`groupcache` 0.3, tokio".to_owned(),
            Self::Unary(host) => format!("bare hyper, {}", host.name()),
            Self::Batched(host) => format!("32 keys a message, {}", host.name()),
            Self::Tcp => "length-prefixed TCP, tokio".to_owned(),
        }
    }

    const fn role(self) -> Role {
        match self {
            Self::Ours(host, _) => Role::Node(host),
            Self::Crate => Role::Crate,
            Self::Unary(host) => Role::Floor(host, false),
            Self::Batched(host) => Role::Floor(host, true),
            Self::Tcp => Role::Tcp,
        }
    }
}

/// Under which circumstances.
#[derive(Clone, Copy, Debug)]
struct Case {
    by: By,
    in_flight: usize,
    value: usize,
}

impl Case {
    fn name(self) -> String {
        let (by, in_flight) = (if self.by == By::Get { SINGLE } else { MANY }, self.in_flight);
        match self.value {
            value if value < 1024 => format!("{by}, {value} B, {in_flight} in flight"),
            value => format!("{by}, {} KiB, {in_flight} in flight", value / 1024),
        }
    }

    const fn load(self, time: Duration) -> Load {
        let keys = if matches!(self.by, By::Get) { 1 } else { BATCH };
        Load { in_flight: self.in_flight, keys, time }
    }
}

fn cases(setting: &Setting, value: usize) -> Vec<Case> {
    let of = |by, in_flight: &[usize]| -> Vec<Case> {
        in_flight.iter().map(|&in_flight| Case { by, in_flight, value }).collect()
    };
    // More than 32 calls of 32 keys may be more loads of a group at a time than a node takes on by default.
    let mut cases = match (setting.quick, value) {
        (false, _) | (true, 100) => [of(By::Get, &[1, 64, 1024]), of(By::GetMany, &[1, MANY_CALLS])].concat(),
        (true, 4096) => [of(By::Get, &[64]), of(By::GetMany, &[MANY_CALLS])].concat(),
        (true, _) => of(By::Get, &[64]),
    };
    cases.retain(|case| setting.wants_case(&case.name()));
    cases
}

/// The name of key `number`: 16 bytes.
fn key(number: usize) -> String {
    format!("key-{number:012}")
}

/// What one burst of a contender came to.
#[derive(Clone, Copy, Debug)]
struct Measured {
    keys_a_second: f64,
    /// In microseconds.
    latency: [f64; 3],
    /// Of both processes, in microseconds a key.
    cpu: f64,
    /// Messages to the owner, a key.
    calls: f64,
}

const LATENCIES: [(&str, f64); 3] = [("p50, µs", 0.5), ("p99, µs", 0.99), ("p99.9, µs", 0.999)];

type Ask = Box<dyn Fn(Load) -> Burst>;

/// Where the asker counts for itself.
type Counters = Box<dyn Fn() -> Stats>;

type Asking = (Ask, Option<Counters>);

/// Somebody who asks, and the process that answers.
struct Contender {
    who: Who,
    owner: Owner,
    ask: Ask,
    stats: Option<Counters>,
    measured: Vec<Measured>,
}

impl Contender {
    fn start(who: Who, value: usize, keys: usize) -> Outcome<Self> {
        let (addr, mine) = (local(reserve()), local(reserve()));
        let owner = Owner::start(who.role(), value, &addr, &mine)?;
        let numbered = || (0..keys).map(key).collect();
        let (ask, stats): Asking = match who {
            Who::Ours(host @ Host::Tokio, by) => node::<Tokio>(host, by, &mine, owner.addr(), keys)?,
            Who::Ours(host @ Host::AsyncStd, by) => node::<AsyncStd>(host, by, &mine, owner.addr(), keys)?,
            Who::Crate => {
                let asker = Host::Tokio.block_on(petroniuss::Client::connect(&mine, owner.addr()));
                let keys = Host::Tokio.block_on(asker.keys(keys));
                (asking(Host::Tokio, asker, keys), None)
            }
            Who::Unary(host) | Who::Batched(host) => {
                let batched = matches!(who, Who::Batched(_));
                let asker = host.block_on(hyper::Client::connect(host, owner.addr(), batched));
                (asking(host, asker, numbered()), None)
            }
            Who::Tcp => {
                let asker = Host::Tokio.block_on(tcp::Client::connect(owner.addr()));
                (asking(Host::Tokio, asker, numbered()), None)
            }
        };
        Ok(Self { who, owner, ask, stats, measured: Vec::new() })
    }

    fn measure(&mut self, load: Load) -> Outcome<Measured> {
        let counted = |name| self.stats.as_ref().map_or(0, |stats| stats().get(name).unwrap_or(0));
        let before = (self.owner.cpu()? + cpu(), counted("peer_batches"), counted("hot_hits"));
        let burst = (self.ask)(load);
        let used = self.owner.cpu()? + cpu() - before.0;
        let keys = (burst.asked * load.keys as u64) as f64;
        if counted("hot_hits") > before.2 {
            return Err("a copy at the asker has answered: too few keys for this machine".into());
        }
        let calls = match self.stats {
            Some(_) => (counted("peer_batches") - before.1) as f64,
            None => burst.asked as f64,
        };
        let at = |part: f64| {
            let place = (part * burst.latencies.len() as f64) as usize;
            f64::from(burst.latencies[place.min(burst.latencies.len() - 1)]) / 1e3
        };
        Ok(Measured {
            keys_a_second: keys / burst.wall.as_secs_f64(),
            latency: LATENCIES.map(|(_, part)| at(part)),
            cpu: used.as_secs_f64() * 1e6 / keys,
            calls: calls / keys,
        })
    }
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn asking<A: Asker>(host: Host, asker: A, keys: Vec<String>) -> Ask {
    let (keys, place): (Arc<[String]>, _) = (keys.into(), Arc::new(AtomicUsize::new(0)));
    Box::new(move |load| burst(host, &asker, &keys, &place, load))
}

/// A node of ours that asks the one at `owner`, which has all of `count` keys by then.
fn node<R: Runtime + Default>(host: Host, by: By, addr: &str, owner: &str, count: usize) -> Outcome<Asking> {
    let node = host.block_on(ours::Node::<R>::asker(addr, owner));
    let deadline = Instant::now() + Duration::from_secs(10);
    while !node.is_connected() {
        if Instant::now() > deadline {
            return Err("the owner was not reached in 10 s".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let keys = node.keys(owner, count);
    let filling = ours::Client { node: node.clone(), by: By::GetMany };
    host.block_on(async {
        for some in keys.chunks(BATCH) {
            filling.ask(some).await;
        }
    });
    let asker = ours::Client { node: node.clone(), by };
    Ok((asking(host, asker, keys), Some(Box::new(move || node.stats()))))
}

fn run(setting: &Setting) -> Outcome<Report> {
    let mut report = Report::new(SUBJECT.name, METHOD);
    let rounds = setting.pick(7, 3);
    let time = setting.pick(Duration::from_secs(1), Duration::from_millis(150));
    let sizes = [(100, 1 << 16), (4 << 10, 1 << 14), (64 << 10, setting.pick(1 << 13, 1 << 11))];
    let steps: usize = sizes
        .iter()
        .flat_map(|&(value, _)| cases(setting, value))
        .map(|case| who(setting, case.by).count())
        .sum();
    let progress = Progress::new(SUBJECT.name, steps * rounds);
    for (value, keys) in sizes {
        for by in [By::Get, By::GetMany] {
            if !cases(setting, value).iter().any(|case| case.by == by) {
                continue;
            }
            let started = who(setting, by).map(|who| Contender::start(who, value, keys));
            let mut contenders = started.collect::<Outcome<Vec<_>>>()?;
            for case in cases(setting, value).into_iter().filter(|case| case.by == by) {
                compare(&mut contenders, case, rounds, time, &progress)?;
                add(&mut report, case, &mut contenders);
            }
        }
    }
    demand(&mut report);
    Ok(report)
}

/// Who is asked this way, and takes part.
fn who(setting: &Setting, by: By) -> impl Iterator<Item = Who> {
    let who: &[Who] = if by == By::Get { &Who::SINGLE } else { &Who::MANY };
    who.iter().copied().filter(|who| setting.wants(&who.name()))
}

fn compare(
    contenders: &mut [Contender],
    case: Case,
    rounds: usize,
    time: Duration,
    progress: &Progress,
) -> Outcome<()> {
    for contender in contenders.iter_mut() {
        contender.measure(case.load(time / 5))?;
    }
    let name = |contender: &Contender| format!("{}: {}", case.name(), contender.who.name());
    take_turns(contenders, rounds, progress, name, |contender| {
        let measured = contender.measure(case.load(time))?;
        contender.measured.push(measured);
        Ok(measured.keys_a_second)
    })?;
    Ok(())
}

fn add(report: &mut Report, case: Case, contenders: &mut [Contender]) {
    for contender in contenders {
        let (case, who) = (case.name(), contender.who.name());
        let measured = std::mem::take(&mut contender.measured);
        let mut row = |metric: &str, of: &dyn Fn(&Measured) -> f64| {
            report.add(metric, &case, &who, Samples::new(measured.iter().map(of).collect()));
        };
        row(THROUGHPUT, &|it| it.keys_a_second);
        for (index, (metric, _)) in LATENCIES.into_iter().enumerate() {
            row(metric, &|it| it.latency[index]);
        }
        row("processor time of both, µs a key", &|it| it.cpu);
        row("messages to the owner, a key", &|it| it.calls);
    }
}

const THROUGHPUT: &str = "keys a second";

fn demand(report: &mut Report) {
    let case = |by, in_flight| Case { by, in_flight, value: 100 }.name();
    let (one, many) = (case(By::Get, 64), case(By::GetMany, MANY_CALLS));
    let ours = |host| Who::Ours(host, By::Get).name();
    let times = report.ratio(THROUGHPUT, &one, &ours(Host::Tokio), &Who::Crate.name());
    report.demand(
        "get, 64 in flight, tokio: keys a second against the `groupcache` crate's",
        Bound::AtLeast(10.0),
        times,
    );
    for host in Host::ALL {
        let (ours, name) = (ours(host), host.name());
        let times = report.ratio(THROUGHPUT, &one, &ours, &Who::Unary(host).name());
        let what = format!("get, 64 in flight, {name}: keys a second against bare hyper's");
        report.demand(what, Bound::AtLeast(5.0), times);

        let floor = report.samples(THROUGHPUT, &many, &Who::Batched(host).name());
        let times = floor.and_then(|floor| Some(report.samples(THROUGHPUT, &one, &ours)?.ratio_to(floor)));
        let what = format!("get, 64 in flight, {name}: keys a second against 32 messages of 32 keys");
        report.demand(what, Bound::AtLeast(0.5), times);

        let times = report.ratio(LATENCIES[0].0, &case(By::Get, 1), &ours, &Who::Unary(host).name());
        let what = format!("get, 1 in flight, {name}: median time against bare hyper's");
        report.demand(what, Bound::AtMost(1.3), times);

        let times = report.ratio(THROUGHPUT, &many, &ours, &Who::Batched(host).name());
        let what = format!("get_many(32), 32 in flight, {name}: keys a second against 32 keys a message");
        report.demand(what, Bound::AtLeast(0.8), times);
    }
}
