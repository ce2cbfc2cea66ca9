//! Runs: a plan and operations, from entropy or from a recording, and what came of them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arbitrary::Unstructured;

use super::clock::Time;
use super::coverage::Coverage;
use super::op::Op;
use super::plan::Plan;
use super::random::entropy;
use super::world::World;

/// Operations that were drawn, to be played again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording(pub(super) Vec<Op>);

impl Recording {
    /// How many operations there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The operations in words, one a line.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|op| format!("{op:?}"))
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// A digest of every event and effect with its time.
    pub hash: u64,
    /// Operations, events and wakes.
    pub steps: u64,
    /// How long it took on the world's clock, in nanoseconds.
    pub time: u64,
    /// What was met.
    pub coverage: Coverage,
    /// The first promise that was broken.
    pub violation: Option<String>,
}

impl Outcome {
    /// What was broken, without when, where and how much: by this, shorter runs are known to fail in the same way.
    #[must_use]
    pub fn symptom(&self) -> Option<String> {
        let violation = self.violation.as_deref()?;
        let what = violation.split_once(": ").map_or(violation, |(_, what)| what);
        Some(what.chars().filter(|letter| letter.is_alphabetic()).collect())
    }
}

/// A run to make: by seed, so many steps long before faults end.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// What everything is drawn from.
    pub seed: u64,
    /// How many steps are taken before faults end.
    pub steps: u64,
    /// How many nodes there are, where that is not drawn.
    pub nodes: Option<usize>,
}

/// Entropy for a plan.
const PLAN_BYTES: usize = 1 << 10;
/// Entropy for an operation, generously.
const OP_BYTES: u64 = 16;

impl Job {
    /// The plan of the run.
    #[must_use]
    pub fn plan(&self) -> Plan {
        let bytes = entropy(self.seed, PLAN_BYTES);
        Plan::draw(&mut Unstructured::new(&bytes), self.nodes).expect("a plan takes less entropy than this")
    }

    /// Makes the run, and records its operations.
    #[must_use]
    pub fn run(&self, prints: bool) -> (Outcome, Recording) {
        let plan = self.plan();
        let bytes = entropy(!self.seed, (self.steps * OP_BYTES) as usize);
        let mut bytes = Unstructured::new(&bytes);
        let mut drawn = Recording::default();
        let outcome = run(&plan, prints, &mut drawn, |world| {
            let more = world.steps < self.steps && !bytes.is_empty();
            more.then(|| Op::draw(&world.plan, &mut bytes).ok()).flatten()
        });
        (outcome, drawn)
    }
}

/// Plays a recording.
#[must_use]
pub fn replay(plan: &Plan, recording: &Recording, prints: bool) -> Outcome {
    let mut left = recording.0.iter().copied();
    run(plan, prints, &mut Recording::default(), |_| left.next())
}

/// A run of whatever the bytes say: a plan, then operations until they are at an end.
#[must_use]
pub fn run_bytes(data: &[u8]) -> Option<Outcome> {
    let mut bytes = Unstructured::new(data);
    let plan = Plan::draw(&mut bytes, None).ok()?;
    let mut drawn = Recording::default();
    let outcome = run(&plan, false, &mut drawn, |world| {
        let more = !bytes.is_empty();
        more.then(|| Op::draw(&world.plan, &mut bytes).ok()).flatten()
    });
    Some(outcome)
}

fn run(
    plan: &Plan,
    prints: bool,
    drawn: &mut Recording,
    mut next: impl FnMut(&World) -> Option<Op>,
) -> Outcome {
    let mut world = World::new(plan, prints);
    let ended = catch_unwind(AssertUnwindSafe(|| {
        if plan.is_polite {
            world.come_up();
        }
        while world.violation.is_none() {
            let Some(op) = next(&world) else { break };
            drawn.0.push(op);
            world.apply(op);
        }
        if world.violation.is_none() {
            world.recount();
        }
        if world.violation.is_none() {
            world.heal_and_finish();
        }
    }));
    if let Err(panic) = ended {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        world.fail(|| format!("panicked: {}", text.unwrap_or_default()));
    }
    world.into_outcome()
}

impl World {
    fn into_outcome(mut self) -> Outcome {
        for host in self.hosts.iter().filter(|host| host.is_up()) {
            host.node.stats().each(|name, n| self.coverage.count(name, n));
        }
        self.coverage.count("waiters", self.ledger.accepted);
        Outcome {
            hash: self.trace.digest(),
            steps: self.steps,
            time: self.now as Time,
            coverage: self.coverage,
            violation: self.violation,
        }
    }
}
