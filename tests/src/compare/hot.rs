//! Copies of other nodes' keys: how many gets need no hop, by who is let in, with the same memory.

mod schemes;
mod stores;

use self::schemes::{Admission, Fleet, Ours, Scheme, Served};
use self::stores::Kind;
use super::random::{Random, Zipf};
use super::rounds::Progress;
use super::{Bound, Outcome, Report, Samples, Setting, Subject};

/// The comparison.
pub(super) const SUBJECT: Subject = Subject {
    name: "hot",
    about: "gets without a hop and origin loads on 10 nodes, by who is kept as a hot copy",
    run,
    child: None,
};

const METHOD: &str = "\
Ten nodes of so many entries each, an eighth of them for copies of other nodes' keys; each get is made at a node drawn at random, by Zipf's law (0.99) over a million keys. \
The first third warms up. Without a hop are gets answered by a copy, and those of a node's own keys. `groupcache` is the core's shards with their defaults, except that nothing is set \
aside for keys that are missing. The others are emulated: main and hot share as named, LRU or B2 (the core's own, as a plain cache); \
one fetched value of ten is kept as golang/groupcache does, every one as groupcache-go v2 and v3 do, those asked for most often as galaxycache \
does, or those that a node has asked for so many times lately.";

/// Nodes of the fleet.
const NODES: usize = 10;

const KEYS: u32 = 1_000_000;

/// Points by which the same scheme differs from itself with another placement of the keys.
const NOISE: f64 = 0.1;

const WITHOUT_A_HOP: &str = "gets without a hop, %";
const LOADS: &str = "origin loads, % of gets";
const BUSIEST: &str = "gets that the busiest owner is asked, %";
const OURS: &str = "groupcache";

/// What a run came to, in parts of the gets.
#[derive(Clone, Copy, Debug)]
struct Tally {
    without_a_hop: f64,
    loads: f64,
    busiest: f64,
}

/// Who is compared: a name, the stores of main and hot share, and who is let into the latter.
const OTHERS: [(&str, Kind, Kind, Admission); 8] = [
    ("no copies, LRU", Kind::Lru, Kind::Lru, Admission::Never),
    ("one in ten, LRU and LRU", Kind::Lru, Kind::Lru, Admission::OneInTen),
    ("every one, LRU and LRU", Kind::Lru, Kind::Lru, Admission::Always),
    ("most asked for, LRU and LRU", Kind::Lru, Kind::Lru, Admission::MostAsked),
    ("twice, B2 and LRU", Kind::B2, Kind::Lru, Admission::AtLeast(2)),
    ("one in ten, B2 and B2", Kind::B2, Kind::B2, Admission::OneInTen),
    ("twice, B2 and B2", Kind::B2, Kind::B2, Admission::AtLeast(2)),
    ("three times, B2 and B2", Kind::B2, Kind::B2, Admission::AtLeast(3)),
];

fn run(setting: &Setting) -> Outcome<Report> {
    let gets = setting.pick(6_000_000, 900_000);
    let mut report = Report::new(SUBJECT.name, METHOD);
    let zipf = Zipf::new(KEYS, 0.99);
    let mut random = Random::new(99);
    let trace: Vec<u32> = (0..gets).map(|_| zipf.draw(&mut random)).collect();
    let progress = Progress::new(SUBJECT.name, 2 * (1 + OTHERS.len()));
    for entries in [2_000, 20_000] {
        let case = format!("{entries} entries a node");
        progress.begin(&format!("{case}: {OURS}"));
        add(&mut report, &case, OURS, replay(&mut Ours::new(entries)?, &trace)?);
        progress.done();
        for (name, main, hot, admission) in OTHERS {
            progress.begin(&format!("{case}: {name}"));
            add(&mut report, &case, name, replay(&mut Fleet::new(entries, main, hot, admission)?, &trace)?);
            progress.done();
        }
        demand(&mut report, &case);
    }
    Ok(report)
}

fn replay(scheme: &mut impl Scheme, trace: &[u32]) -> Outcome<Tally> {
    let mut random = Random::new(10);
    let (mut without, mut loads, mut asked) = (0_u64, 0_u64, [0_u64; NODES]);
    let warm = trace.len() / 3;
    for (number, &id) in trace.iter().enumerate() {
        let node = random.below(NODES as u64) as usize;
        let Served { hop, loaded } = scheme.get(node, id)?;
        if number < warm {
            continue;
        }
        loads += u64::from(loaded);
        match hop {
            Some(owner) => asked[owner] += 1,
            None => without += 1,
        }
    }
    let part = |count: u64| 100.0 * count as f64 / (trace.len() - warm) as f64;
    Ok(Tally {
        without_a_hop: part(without),
        loads: part(loads),
        busiest: part(asked.into_iter().max().unwrap_or(0)),
    })
}

fn add(report: &mut Report, case: &str, name: &str, tally: Tally) {
    report.add(WITHOUT_A_HOP, case, name, Samples::count(tally.without_a_hop));
    report.add(LOADS, case, name, Samples::count(tally.loads));
    report.add(BUSIEST, case, name, Samples::count(tally.busiest));
}

fn demand(report: &mut Report, case: &str) {
    let figure = |metric: &str, name: &str| report.samples(metric, case, name).map(Samples::median);
    let best = OTHERS.iter().filter_map(|(name, ..)| figure(WITHOUT_A_HOP, name)).reduce(f64::max);
    let ahead = figure(WITHOUT_A_HOP, OURS).zip(best).map(|(ours, best)| ours - best);
    let b2 = OTHERS.iter().filter(|(_, main, ..)| *main == Kind::B2);
    let fewest = b2.filter_map(|(name, ..)| figure(LOADS, name)).reduce(f64::min);
    let more = figure(LOADS, OURS).zip(fewest).map(|(ours, fewest)| ours - fewest);
    let what = format!("{case}: points of gets without a hop ahead of the best of the others");
    report.demand(what, Bound::AtLeast(0.0), ahead);
    let what = format!("{case}: points of origin loads above the fewest of those with B2");
    report.demand(what, Bound::AtMost(NOISE), more);
}
