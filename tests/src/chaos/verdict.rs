//! What a run came to.

use std::fmt;
use std::time::Duration;

use super::Plan;
use super::faults::Faults;
use super::load::{Seen, World};

/// What a process takes beside its cache: code, stacks, connections, the allocator's slack. In bytes.
const BESIDE_CACHE: u64 = 64 << 20;
/// A share of the gets that nodes in order may refuse while others fail: a load that was at a node that froze, with no time left for another.
const ERRORS_PER_MILLE: u64 = 2;
/// What of each list is shown.
const SHOWN: usize = 5;

/// What was seen, and whether it is as promised.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Verdict {
    /// What is not as promised, a sentence each. Empty is good.
    pub violations: Vec<String>,
    summary: String,
}

impl Verdict {
    pub(super) fn new(
        plan: &Plan,
        world: &World,
        seen: Seen,
        faults: &Faults,
        (well, healed_in): (Result<(), String>, Duration),
        (before, after): (Vec<u64>, Vec<u64>),
    ) -> Self {
        let (loads, bound) = (world.loads() as u64, loads_bound(plan, world, &seen, faults));
        let mut verdict = Self { violations: Vec::new(), summary: String::new() };
        verdict.none_of("wrong values", &seen.wrong);
        verdict.none_of(
            "values older than a removal that was acknowledged longer ago than hot copies live",
            &seen.stale,
        );
        verdict.none_of("hangs", &seen.hangs);
        if seen.errors.len() as u64 * 1000 > seen.gets * ERRORS_PER_MILLE {
            verdict.none_of("errors of nodes that were in order", &seen.errors);
        }
        verdict.holds(loads <= bound, || format!("{loads} origin loads: at most {bound} are accounted for"));
        let most = after.iter().copied().max().unwrap_or(0);
        verdict.holds(most <= plan.budget + BESIDE_CACHE, || {
            format!("a node takes {} MiB with a budget of {}", most >> 20, plan.budget >> 20)
        });
        if let Err(why) = &well {
            verdict.violations.push(format!("not well again: {why}"));
        }
        // A run in which nothing was asked, removed or broken shows nothing.
        verdict.holds(seen.gets > 100 && seen.acknowledged > 0 && faults.count() > 0, || {
            format!("too little happened: {} gets, {} removals", seen.gets, seen.acknowledged)
        });
        let mut lines = vec![
            format!(
                "{} gets, slowest {:?}, {} at nodes that were being disturbed went wrong",
                seen.gets, seen.slowest, seen.excused
            ),
            format!(
                "{} errors of nodes in order, {} hangs, {} wrong, {} stale, {} late",
                seen.errors.len(),
                seen.hangs.len(),
                seen.wrong.len(),
                seen.stale.len(),
                seen.late
            ),
            format!("{} removals, {} acknowledged by everybody", seen.removals, seen.acknowledged),
            format!("{loads} origin loads of {} keys; accounted for: {bound}", world.keys()),
            format!("together again {healed_in:?} after the last fault"),
            format!(
                "resident: {} MiB at first, {} MiB at the end, at most",
                before.iter().max().unwrap_or(&0) >> 20,
                most >> 20
            ),
        ];
        lines.extend(faults.injected().map(|(name, count)| format!("{count:4} x {name}")));
        lines.extend(seen.errors.iter().take(SHOWN).map(|error| format!("error: {error}")));
        verdict.summary = lines.join("\n");
        verdict
    }

    fn none_of(&mut self, what: &str, list: &[String]) {
        self.holds(list.is_empty(), || {
            format!(
                "{} {what}: {}",
                list.len(),
                list.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ")
            )
        });
    }

    fn holds(&mut self, holds: bool, why: impl FnOnce() -> String) {
        if !holds {
            self.violations.push(why());
        }
    }
}

/// How many loads can be explained: one for each key; one more of every key for each fault, at every node that may come to think itself in charge
/// (each fault changes the ring or cuts a node off at its begin and at its end); and after a removal one at every node, since clients at nodes
/// without an HTTP side count as peers, which load for themselves.
fn loads_bound(plan: &Plan, world: &World, seen: &Seen, faults: &Faults) -> u64 {
    let (keys, nodes) = (world.keys() as u64, plan.nodes as u64);
    let per_change = keys.div_ceil(nodes) * 2;
    keys * nodes + 2 * faults.count() * per_change + seen.removals * nodes
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary)?;
        for violation in &self.violations {
            write!(f, "\nVIOLATION: {violation}")?;
        }
        Ok(())
    }
}
