//! `compare ring`: look-ups, balance, and what moves when a node joins or leaves.

mod schemes;

use std::hint::black_box;

use self::schemes::{Placed, SCHEMES, SLOTS, SLOTS_HUGE, SLOTS_LARGE, Scheme};
use super::random::{Random, mix};
use super::{Bound, Outcome, Progress, Report, Samples, Setting, Subject, take_turns, thread_time};

pub(super) const SUBJECT: Subject = Subject {
    name: "ring",
    about: "look-up, build, bytes, balance and movement of placement schemes",
    run,
    child: None,
};

const METHOD: &str = "\
Nodes named `10.x.y.z:6324`, keys like `user:1234567`. Peak to mean is the share of the keys of the node that has most, over the mean, the mean of \
several sets of names; with so many nodes that a node has few of the keys that are counted, chance adds to it: the exact one is that of all hashes, where a scheme can say. Strays are keys that move between two nodes that \
are in both fleets, per 1,000 keys. A rebuild is what one join costs who holds the ring before.";

const LOOKUP: &str = "ns per look-up";
const BUILD: &str = "µs to build";
const REBUILD: &str = "µs for a join";
const REBUILD_LEAVE: &str = "µs for a leave";
const BYTES: &str = "bytes allocated";
const PEAK: &str = "peak to mean";
const EXACT: &str = "peak to mean, exact";
const STRAY_JOIN: &str = "strays of a join, per 1,000 keys";
const STRAY_LEAVE: &str = "strays of a leave, per 1,000 keys";

const FLEETS: [usize; 4] = [3, 10, 100, 1000];

fn run(setting: &Setting) -> Outcome<Report> {
    let mut report = Report::new(SUBJECT.name, METHOD);
    let rounds = setting.pick(9, 3);
    let progress = Progress::new(SUBJECT.name, FLEETS.len() * SCHEMES.len() * (1 + rounds));
    for nodes in FLEETS {
        let case = format!("{nodes} nodes");
        let mut placed = Vec::new();
        for scheme in SCHEMES {
            progress.begin(&format!("{case}: {}", scheme.name));
            still(&mut report, &case, scheme, nodes, setting)?;
            placed.push((scheme, (scheme.build)(&names(nodes, 0))?));
            progress.done();
        }
        let keys = keys(1 << 10, 1);
        let repeats = setting.pick(256, 64);
        let name = |(scheme, _): &(&Scheme, Box<dyn Placed>)| format!("{case}: {}", scheme.name);
        let samples = take_turns(&mut placed, rounds, &progress, name, |(_, placed)| {
            Ok(look_up(placed.as_ref(), &keys, repeats))
        })?;
        for ((scheme, _), samples) in placed.iter().zip(samples) {
            report.add(LOOKUP, &case, scheme.name, samples);
        }
    }
    targets(&mut report);
    Ok(report)
}

fn targets(report: &mut Report) {
    let median = |report: &Report, metric: &str, nodes: usize, scheme: &Scheme| {
        report.samples(metric, &format!("{nodes} nodes"), scheme.name).map(Samples::median)
    };
    for nodes in FLEETS {
        let measured = median(report, LOOKUP, nodes, &SLOTS);
        report.demand(format!("look-up among {nodes} nodes, slots/1, ns"), Bound::AtMost(5.0), measured);
    }
    // A larger fleet takes the larger table. The exact one: what is counted on keys has the keys' own chance on top, whoever places them.
    for (nodes, scheme, most) in [(10, SLOTS, 1.03), (100, SLOTS_LARGE, 1.07), (1000, SLOTS_HUGE, 1.15)] {
        let measured = median(report, EXACT, nodes, &scheme);
        report.demand(
            format!("exact peak to mean at {nodes} nodes, {}", scheme.name),
            Bound::AtMost(most),
            measured,
        );
    }
    for metric in [STRAY_JOIN, STRAY_LEAVE] {
        for nodes in FLEETS {
            let measured = median(report, metric, nodes, &SLOTS);
            report.demand(format!("{nodes} nodes, slots/1: {metric}"), Bound::AtMost(0.0), measured);
        }
    }
    for metric in [REBUILD, REBUILD_LEAVE] {
        for scheme in [SLOTS, SLOTS_LARGE] {
            let measured = median(report, metric, 100, &scheme);
            report.demand(format!("100 nodes, {}: {metric}", scheme.name), Bound::AtMost(5000.0), measured);
        }
    }
}

/// What does not depend on who else runs: balance and movement; and what is long enough to be timed once.
fn still(report: &mut Report, case: &str, scheme: &Scheme, nodes: usize, setting: &Setting) -> Outcome<()> {
    let sets = setting.pick(5, 2);
    let keys = keys(setting.pick(1_000_000, 100_000), 2);
    let (mut peaks, mut exact) = (Vec::new(), Vec::new());
    for set in 0..sets {
        let placed = (scheme.build)(&names(nodes, set))?;
        peaks.push(peak(placed.as_ref(), &keys, nodes));
        exact.extend(placed.exact_peak());
    }
    for (metric, peaks) in [(PEAK, peaks), (EXACT, exact)].into_iter().filter(|(_, peaks)| !peaks.is_empty())
    {
        let mean = peaks.iter().sum::<f64>() / peaks.len() as f64;
        report.add(metric, case, scheme.name, Samples::count(mean));
    }

    let (before, more) = (names(nodes, 0), names(nodes + 1, 0));
    let mut built = None;
    let mut took = Vec::new();
    for _ in 0..setting.pick(5, 3) {
        let started = thread_time();
        built = Some((scheme.build)(&before)?);
        took.push((thread_time() - started).as_secs_f64() * 1e6);
    }
    report.add(BUILD, case, scheme.name, Samples::new(took));
    let small = built.ok_or("nothing was built")?;
    let mut bytes = 0;
    let mut outcome = Ok(());
    let mut kept = None;
    let allocated = (setting.meter)(&mut || match (scheme.build)(&before) {
        Ok(placed) => kept = Some(placed),
        Err(error) => outcome = Err(error),
    });
    outcome?;
    bytes += allocated.bytes_kept;
    drop(kept);
    report.add(BYTES, case, scheme.name, Samples::count(bytes as f64));

    let large = timed(report, REBUILD, case, scheme, setting, || small.rebuild(&more))?;
    let back = timed(report, REBUILD_LEAVE, case, scheme, setting, || large.rebuild(&before))?;
    let strays = |from: &dyn Placed, to: &dyn Placed| {
        let moved = |key: &&String| {
            let (old, new) = (from.owner(key.as_bytes()), to.owner(key.as_bytes()));
            old != new && old < nodes && new < nodes
        };
        1000.0 * keys.iter().filter(moved).count() as f64 / keys.len() as f64
    };
    report.add(STRAY_JOIN, case, scheme.name, Samples::count(strays(small.as_ref(), large.as_ref())));
    // Who leaves is in the middle: whoever is last is special to some schemes.
    let middle = nodes / 2;
    let left: Vec<String> =
        before.iter().enumerate().filter(|&(at, _)| at != middle).map(|(_, name)| name.clone()).collect();
    let fewer = back.rebuild(&left)?;
    let number = |owner: usize| if owner < middle { owner } else { owner + 1 };
    let moved = |key: &&String| {
        let old = back.owner(key.as_bytes());
        old != middle && old != number(fewer.owner(key.as_bytes()))
    };
    let strays = 1000.0 * keys.iter().filter(moved).count() as f64 / keys.len() as f64;
    report.add(STRAY_LEAVE, case, scheme.name, Samples::count(strays));
    Ok(())
}

fn timed(
    report: &mut Report,
    metric: &str,
    case: &str,
    scheme: &Scheme,
    setting: &Setting,
    build: impl Fn() -> Outcome<Box<dyn Placed>>,
) -> Outcome<Box<dyn Placed>> {
    let mut took = Vec::new();
    let mut last = None;
    for _ in 0..setting.pick(5, 3) {
        let started = thread_time();
        last = Some(build()?);
        took.push((thread_time() - started).as_secs_f64() * 1e6);
    }
    report.add(metric, case, scheme.name, Samples::new(took));
    Ok(last.ok_or("nothing was built")?)
}

fn look_up(placed: &dyn Placed, keys: &[String], repeats: usize) -> f64 {
    let started = thread_time();
    for _ in 0..repeats {
        placed.owners(black_box(keys));
    }
    (thread_time() - started).as_nanos() as f64 / (repeats * keys.len()) as f64
}

fn peak(placed: &dyn Placed, keys: &[String], nodes: usize) -> f64 {
    let mut owned = vec![0_u64; nodes];
    for key in keys {
        owned[placed.owner(key.as_bytes())] += 1;
    }
    let most = owned.iter().max().copied().unwrap_or(0);
    most as f64 * nodes as f64 / keys.len() as f64
}

/// Names of a fleet; a larger one of the same set has these and more.
fn names(nodes: usize, set: u64) -> Vec<String> {
    let mut random = Random::new(mix(set + 77));
    let mut names: Vec<String> = Vec::new();
    while names.len() < nodes {
        let (a, b, c) = (random.below(250), random.below(250), random.below(250) + 1);
        let name = format!("10.{a}.{b}.{c}:6324");
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn keys(count: usize, seed: u64) -> Vec<String> {
    let mut random = Random::new(seed);
    (0..count).map(|_| format!("user:{}", random.below(1 << 32))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scheme_gives_every_node_keys_and_finds_the_same_owner_again() {
        let (names, keys) = (names(10, 3), keys(20_000, 5));
        for scheme in SCHEMES {
            let placed = (scheme.build)(&names).unwrap();
            let again = placed.rebuild(&names).unwrap();
            let mut owned = [0; 10];
            for key in &keys {
                let owner = placed.owner(key.as_bytes());
                assert_eq!(owner, again.owner(key.as_bytes()), "{}", scheme.name);
                owned[owner] += 1;
            }
            assert!(owned.iter().all(|&keys| keys > 500), "{}: {owned:?}", scheme.name);
        }
    }

    #[test]
    fn a_larger_fleet_of_a_set_has_the_smaller_ones_names_first() {
        assert_eq!(names(5, 1), names(9, 1)[..5]);
        assert_ne!(names(5, 1), names(5, 2));
    }
}
