//! What runs have met: faults by kind, and which states of a node's machines have met which facts, as far as both are visible from outside.

use std::fmt::{self, Write as _};

use groupcache_core::{Link, Membership};

use super::event::Fact;
use super::op::Kind;

const FACTS: usize = Fact::NAMES.len();
const DISPOSITIONS: [&str; 3] = ["applied", "retrying", "stale"];
const LINKS: [&str; 5] = ["no link", "first dial", "connected", "dialling or probing", "refusing"];
const MEMBERS: [&str; 5] = ["without a view", "registered", "not registered", "leaving", "left"];

/// Counts of runs. They add up.
#[derive(Clone, Debug)]
pub struct Coverage {
    /// Operations, by kind.
    ops: [u64; Kind::COUNT],
    /// Facts, by what they meant.
    facts: [[u64; DISPOSITIONS.len()]; FACTS],
    links: [[u64; FACTS]; LINKS.len()],
    members: [[u64; FACTS]; MEMBERS.len()],
    /// Counters with names: faults that were not operations, and what the nodes counted.
    named: Vec<(&'static str, u64)>,
}

impl Default for Coverage {
    fn default() -> Self {
        Self {
            ops: [0; Kind::COUNT],
            facts: [[0; 3]; FACTS],
            links: [[0; FACTS]; LINKS.len()],
            members: [[0; FACTS]; MEMBERS.len()],
            named: Vec::new(),
        }
    }
}

/// Which facts say something to a link, and which to membership: the rows of the two matrices.
const LINK_FACTS: std::ops::RangeInclusive<usize> = 7..=15;
const MEMBER_FACTS: std::ops::RangeInclusive<usize> = 16..=24;

impl Coverage {
    pub(super) const fn op(&mut self, kind: Kind) {
        self.ops[kind as usize] += 1;
    }

    pub(super) const fn fact(&mut self, fact: u64, disposition: u64) {
        self.facts[fact as usize][disposition as usize] += 1;
    }

    pub(super) fn link(&mut self, link: Option<&Link>, fact: u64) {
        let state = match link {
            None => 0,
            Some(link) if link.is_first_dial() => 1,
            Some(link) if link.is_connected() => 2,
            Some(link) if link.is_up() => 3,
            Some(_) => 4,
        };
        self.links[state][fact as usize] += 1;
    }

    pub(super) fn membership(&mut self, membership: &Membership, registered: bool, fact: u64) {
        let state = match () {
            () if membership.is_stopped() => 4,
            () if !membership.is_running() => 3,
            () if !membership.has_view() => 0,
            () if registered => 1,
            () => 2,
        };
        self.members[state][fact as usize] += 1;
    }

    /// Adds to a counter with a name.
    pub(super) fn count(&mut self, name: &'static str, n: u64) {
        match self.named.iter_mut().find(|(other, _)| *other == name) {
            Some((_, count)) => *count += n,
            None => self.named.push((name, n)),
        }
    }

    /// Adds another run's counts.
    pub fn add(&mut self, other: &Self) {
        let pairs = self.ops.iter_mut().zip(&other.ops);
        let facts = self.facts.as_flattened_mut().iter_mut().zip(other.facts.as_flattened());
        let links = self.links.as_flattened_mut().iter_mut().zip(other.links.as_flattened());
        let members = self.members.as_flattened_mut().iter_mut().zip(other.members.as_flattened());
        pairs.chain(facts).chain(links).chain(members).for_each(|(sum, n)| *sum += n);
        for &(name, n) in &other.named {
            self.count(name, n);
        }
    }

    /// A counter with a name.
    #[must_use]
    pub fn counted(&self, name: &str) -> u64 {
        self.named.iter().find(|(other, _)| *other == name).map_or(0, |(_, n)| *n)
    }

    /// The state and the fact of each cell of the two matrices that was never met.
    #[must_use]
    pub fn never(&self) -> Vec<(&'static str, &'static str)> {
        let empty = |states: &[&'static str],
                     counts: &[[u64; FACTS]],
                     facts: std::ops::RangeInclusive<usize>| {
            let mut cells = Vec::new();
            for (state, counts) in states.iter().zip(counts) {
                cells.extend(
                    facts.clone().filter(|&fact| counts[fact] == 0).map(|fact| (*state, Fact::NAMES[fact])),
                );
            }
            cells
        };
        let mut cells = empty(&LINKS, &self.links, LINK_FACTS);
        cells.extend(empty(&MEMBERS, &self.members, MEMBER_FACTS));
        cells
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |pairs: &mut dyn Iterator<Item = (&str, u64)>| {
            let mut text = String::new();
            for (name, n) in pairs {
                let _ = write!(text, "{}{name} {n}", if text.is_empty() { "" } else { ", " });
            }
            text
        };
        let ops = Kind::ALL.iter().map(|kind| (kind.name(), self.ops[*kind as usize]));
        writeln!(f, "operations: {}", list(&mut ops.filter(|(_, n)| *n > 0)))?;
        writeln!(f, "beside them: {}", list(&mut self.named.iter().copied()))?;
        table(f, "told to a node", &DISPOSITIONS, 0..=FACTS - 1, |column, fact| self.facts[fact][column])?;
        table(f, "told of a link that is", &LINKS, LINK_FACTS, |column, fact| self.links[column][fact])?;
        table(f, "told to a membership", &MEMBERS, MEMBER_FACTS, |column, fact| self.members[column][fact])?;
        let never = self.never();
        let never: Vec<_> = never.iter().map(|(state, fact)| format!("{state} / {fact}")).collect();
        writeln!(f, "never met: {}", if never.is_empty() { "nothing".to_owned() } else { never.join(", ") })
    }
}

fn table(
    f: &mut fmt::Formatter<'_>,
    title: &str,
    columns: &[&str],
    rows: std::ops::RangeInclusive<usize>,
    cell: impl Fn(usize, usize) -> u64,
) -> fmt::Result {
    write!(f, "{title:24}")?;
    columns.iter().try_for_each(|column| write!(f, "{column:>20}"))?;
    writeln!(f)?;
    for row in rows {
        write!(f, "  {:22}", Fact::NAMES[row])?;
        (0..columns.len()).try_for_each(|column| write!(f, "{:>20}", cell(column, row)))?;
        writeln!(f)?;
    }
    Ok(())
}
