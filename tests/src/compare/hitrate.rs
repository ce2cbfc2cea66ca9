//! `compare hitrate`: how many requests hit, by object and by byte, at several sizes of the cache.

mod belady;
mod policies;
mod trace;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use self::belady::belady;
use self::policies::{ADAPTIVE, Kind, LRU, POLICIES, Policy};
use self::trace::{Trace, generated};
use super::{Bound, Outcome, Progress, Report, Samples, Setting, Subject};

pub(super) const SUBJECT: Subject = Subject {
    name: "hitrate",
    about: "object and byte hit ratio on traces, against other policies and Belady's optimum",
    run,
    child: None,
};

const METHOD: &str = "\
Read-through on traces, in per cent of the requests (bytes), the mean over the sizes: 1, 3, 10 and 30 % of the bytes that the trace asks for, or 5, 10, 20, 40 and \
70 % where it has fewer than 20,000 objects. Every cache has one shard, and does what it puts off after each insertion. groupcache runs through the public API \
of a `Shard`; what its tables take is added to its budget, as nobody else's are counted. Belady's optimum knows the future and may pass an object by; with sizes it is an approximation. A gap is how many points \
a contender is behind the best of a cell (a trace at a size), the optimum left out.";

const OBJECTS: &str = "hit ratio, objects, %";
const BYTES: &str = "hit ratio, bytes, %";
const GAP: &str = "gap to the best in points";
const OPTIMUM: &str = "Belady's optimum";

fn run(setting: &Setting) -> Outcome<Report> {
    let mut traces = generated(setting.pick(1_000_000, 60_000));
    for path in &setting.traces {
        traces.push(Trace::read(path).map_err(|error| format!("{}: {error}", path.display()))?);
    }
    let cells: usize = traces.iter().map(|trace| trace.capacities().len()).sum();
    let progress = Progress::new(SUBJECT.name, cells * (POLICIES.len() + 1));
    let mut results = Vec::new();
    for trace in &traces {
        for (percent, capacity) in trace.capacities() {
            progress.begin(&format!("{}, {percent} %", trace.name));
            results.push(cell(trace, percent, capacity, &progress)?);
        }
    }
    Ok(report(&traces, &results))
}

/// One trace at one size: what each policy came to, and the optimum.
struct Cell {
    trace: String,
    percent: u64,
    hits: Vec<Hits>,
    optimum: Hits,
}

/// The part of the requests and of their bytes that hit, in per cent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Hits {
    objects: f64,
    bytes: f64,
}

fn cell(trace: &Trace, percent: u64, capacity: u64, progress: &Progress) -> Outcome<Cell> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Outcome<Hits>)>> = Mutex::default();
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(kind) = POLICIES.get(index) else { return };
            let hits =
                replay(trace, kind, capacity).map_err(|error| format!("{}: {error}", kind.name).into());
            done.lock().unwrap_or_else(PoisonError::into_inner).push((index, hits));
            progress.done();
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..cores).for_each(|_| drop(scope.spawn(work))));
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|&(index, _)| index);
    let hits = done.into_iter().map(|(_, hits)| hits).collect::<Outcome<Vec<Hits>>>()?;
    let optimum = belady(trace, capacity);
    progress.done();
    Ok(Cell { trace: trace.name.clone(), percent, hits, optimum })
}

fn replay(trace: &Trace, kind: &Kind, capacity: u64) -> Outcome<Hits> {
    let mut policy: Box<dyn Policy> = (kind.make)(trace, capacity)?;
    let mut tally = Tally::default();
    for request in &trace.requests {
        tally.count(request.size, policy.request(request.id, request.size)?);
    }
    Ok(tally.hits())
}

/// Counts hits.
#[derive(Default)]
struct Tally {
    requests: u64,
    bytes: u64,
    hits: u64,
    hit_bytes: u64,
}

impl Tally {
    fn count(&mut self, size: u32, hit: bool) {
        (self.requests, self.bytes) = (self.requests + 1, self.bytes + u64::from(size));
        if hit {
            (self.hits, self.hit_bytes) = (self.hits + 1, self.hit_bytes + u64::from(size));
        }
    }

    fn hits(&self) -> Hits {
        let percent = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
        Hits { objects: percent(self.hits, self.requests), bytes: percent(self.hit_bytes, self.bytes) }
    }
}

fn report(traces: &[Trace], cells: &[Cell]) -> Report {
    let mut report = Report::new(SUBJECT.name, METHOD);
    for trace in traces {
        let of_trace: Vec<&Cell> = cells.iter().filter(|cell| cell.trace == trace.name).collect();
        let metrics: &[(&str, fn(&Hits) -> f64)] =
            &[(OBJECTS, |hits| hits.objects), (BYTES, |hits| hits.bytes)];
        for (metric, of) in &metrics[..if trace.is_sized() { 2 } else { 1 }] {
            for (index, kind) in POLICIES.iter().enumerate() {
                add_mean(
                    &mut report,
                    metric,
                    &trace.name,
                    kind.name,
                    of_trace.iter().map(|cell| of(&cell.hits[index])),
                );
            }
            add_mean(
                &mut report,
                metric,
                &trace.name,
                OPTIMUM,
                of_trace.iter().map(|cell| of(&cell.optimum)),
            );
        }
    }
    gaps(&mut report, traces, cells);
    report
}

fn add_mean(
    report: &mut Report,
    metric: &str,
    case: &str,
    contender: &str,
    values: impl Iterator<Item = f64>,
) {
    let values: Vec<f64> = values.collect();
    let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
    report.add_plain(metric, case, contender, Samples::count(mean));
}

/// How far each contender is behind the best of each cell, and behind LRU.
fn gaps(report: &mut Report, traces: &[Trace], cells: &[Cell]) {
    let lru = POLICIES.iter().position(|kind| kind.name == LRU).unwrap_or(0);
    let sized = |cell: &Cell| traces.iter().any(|trace| trace.name == cell.trace && trace.is_sized());
    let mut shown = Vec::new();
    for (index, kind) in POLICIES.iter().enumerate() {
        let (mut gaps, mut behind) = (Vec::new(), f64::NEG_INFINITY);
        for cell in cells {
            let metrics: &[fn(&Hits) -> f64] = &[|hits| hits.objects, |hits| hits.bytes];
            for of in &metrics[..if sized(cell) { 2 } else { 1 }] {
                let best = cell.hits.iter().map(of).fold(f64::NEG_INFINITY, f64::max);
                gaps.push((best - of(&cell.hits[index]), format!("{} at {} %", cell.trace, cell.percent)));
                behind = behind.max(of(&cell.hits[lru]) - of(&cell.hits[index]));
            }
        }
        let mean = gaps.iter().map(|(gap, _)| gap).sum::<f64>() / gaps.len().max(1) as f64;
        let worst = gaps.into_iter().max_by(|(a, _), (b, _)| a.total_cmp(b)).unwrap_or_default();
        for (case, gap) in [("mean", mean), ("worst cell", worst.0), ("most behind LRU", behind)] {
            report.add_plain(GAP, case, kind.name, Samples::count(gap));
        }
        shown.push((kind.name, mean, worst, behind));
    }
    if let Some((name, mean, (worst, at), behind)) = shown.into_iter().find(|&(name, ..)| name == ADAPTIVE) {
        report.demand(
            format!("{name}: mean gap to the best online policy, points"),
            Bound::AtMost(0.7),
            Some(mean),
        );
        report.demand(
            format!("{name}: gap in its worst cell ({at}), points"),
            Bound::AtMost(8.0),
            Some(worst),
        );
        report.demand(format!("{name}: points behind LRU at most"), Bound::AtMost(2.0), Some(behind));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_holds_what_fits_and_nobody_beats_the_optimum() {
        let traces = generated(20_000);
        for trace in &traces {
            let all: u64 = trace.footprint();
            let first_time = trace.objects() as f64;
            // TinyUFO and moka guess by sketches; with room for twice the objects nobody has to guess.
            let most = 100.0 * (1.0 - first_time / trace.requests.len() as f64);
            let progress = Progress::new("test", 100);
            let roomy = cell(trace, 200, 2 * all, &progress).unwrap();
            assert!((roomy.optimum.objects - most).abs() < 1e-9, "{}: {:?}", trace.name, roomy.optimum);
            let tight = cell(trace, 10, all / 10, &progress).unwrap();
            for (kind, (roomy, tight)) in POLICIES.iter().zip(roomy.hits.iter().zip(&tight.hits)) {
                assert!((roomy.objects - most).abs() < 0.5, "{} on {}: {roomy:?}", kind.name, trace.name);
                if !trace.is_sized() {
                    let optimum = belady(trace, all / 10).objects;
                    assert!(
                        tight.objects <= optimum + 1.0,
                        "{} on {}: {tight:?}, {optimum}",
                        kind.name,
                        trace.name
                    );
                }
            }
        }
    }
}
