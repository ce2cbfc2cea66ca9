//! Fleets of ten, a hundred and a thousand members: what a change of membership costs each node, and what gets cost the fleet.

mod world;

use self::world::{Traffic, World};
use super::random::{Random, Zipf};
use super::rounds::Progress;
use super::{Bound, Outcome, Report, Samples, Setting, Subject};

/// The comparison.
pub(super) const SUBJECT: Subject = Subject {
    name: "scale",
    about: "10, 100 and 1,000 simulated members: messages, bytes, processor time, connections",
    run,
    child: None,
};

const METHOD: &str = "\
The core's own nodes on one thread, without a network: messages are counted, and their bytes as `groupcache.v1` encodes them, without HTTP/2 and TCP. Ten of the members are real nodes; \
the others answer what they are asked. Gets are drawn by Zipf's law (0.99) over 100,000 keys of 100-byte values, 64 at a time at each node, which holds a twentieth of its own keys' \
bytes or more. Processor time is what calls of the core take, the ring's rebuild included; that of encoding, of system calls and of the network is not in it (see `remote`).";

const MEMBERS: [usize; 3] = [10, 100, 1000];

/// Gets that a node of the measured fleet makes before the others are asked anything else.
const FEW: usize = 20;

const KEYS: u32 = 100_000;

fn run(setting: &Setting) -> Outcome<Report> {
    let mut report = Report::new(SUBJECT.name, METHOD);
    let gets = setting.pick(1_000_000, 200_000);
    let changes = setting.pick(9, 3);
    let progress = Progress::new(SUBJECT.name, MEMBERS.len() * 2);
    let zipf = Zipf::new(KEYS, 0.99);
    for members in MEMBERS {
        let fleet = format!("{members} members");
        let mut world = World::new(members)?;

        progress.begin(&format!("{fleet}: gets"));
        let mut random = Random::new(members as u64);
        let idle = world.connections();
        world.gets((0..FEW).map(|_| random.below(u64::from(KEYS)) as u32))?;
        let (few, asked) = (world.connections(), world.asked());
        world.take_traffic();
        world.gets((0..gets).map(|_| zipf.draw(&mut random)))?;
        let traffic = world.take_traffic();
        add_gets(&mut report, &fleet, &traffic, gets as f64);
        report.add(CONNECTIONS, &fleet, "before the first get", Samples::count(idle));
        report.add(CONNECTIONS, &fleet, "after 2 gets a node", Samples::count(few));
        report.add(CONNECTIONS, &fleet, "owners asked in these gets", Samples::count(asked));
        let name = format!("after {gets} gets");
        report.add(CONNECTIONS, &fleet, &name, Samples::count(world.connections()));
        progress.done();

        progress.begin(&format!("{fleet}: joins and leaves"));
        let mut joins = Vec::new();
        let mut leaves = Vec::new();
        for _ in 0..changes {
            world.join()?;
            joins.push(world.take_traffic());
            world.leave()?;
            leaves.push(world.take_traffic());
        }
        add_changes(&mut report, &fleet, "a join", &joins);
        add_changes(&mut report, &fleet, "a leave", &leaves);
        progress.done();
    }
    demand(&mut report);
    Ok(report)
}

const CONNECTIONS: &str = "connections that a node has opened";
const CHANGE_MESSAGES: &str = "messages a change, to and from a node";

fn add_gets(report: &mut Report, fleet: &str, traffic: &Traffic, gets: f64) {
    let mut row = |metric: &str, of: f64| {
        report.add(metric, fleet, "a million gets", Samples::count(of * 1e6 / gets));
    };
    row("messages between nodes", traffic.messages as f64);
    row("bytes between nodes", traffic.bytes as f64);
    row("origin loads", traffic.loads as f64);
    row("processor time, ms", traffic.busy.as_secs_f64() * 1e3);
}

fn add_changes(report: &mut Report, fleet: &str, what: &str, changes: &[Traffic]) {
    let mut row = |metric: &str, of: &dyn Fn(&Traffic) -> f64| {
        let each = changes.iter().map(|change| of(change) / world::REAL as f64);
        report.add(metric, fleet, what, Samples::new(each.collect()));
    };
    row(CHANGE_MESSAGES, &|change| (change.messages + change.told + change.dials) as f64);
    row("bytes a change, to and from a node", &|change| change.bytes as f64);
    row("processor time a change, µs a node", &|change| change.busy.as_secs_f64() * 1e6);
}

fn demand(report: &mut Report) {
    for members in MEMBERS {
        let fleet = format!("{members} members");
        for what in ["a join", "a leave"] {
            let messages = report.samples(CHANGE_MESSAGES, &fleet, what).map(|it| it.range().1);
            report.demand(
                format!("{fleet}: messages that {what} costs a node, at most"),
                Bound::AtMost(2.0),
                messages,
            );
        }
    }
    let fleet = format!("{} members", MEMBERS[2]);
    let count = |name: &str| report.samples(CONNECTIONS, &fleet, name).map(Samples::median);
    let beyond = count("after 2 gets a node")
        .zip(count("owners asked in these gets"))
        .map(|(connections, asked)| connections - asked);
    report.demand(format!("{fleet}: connections beyond those to owners asked"), Bound::AtMost(0.0), beyond);
}
