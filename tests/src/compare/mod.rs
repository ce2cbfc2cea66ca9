//! groupcache side by side with what a user would pick instead, for the program `compare`.
//!
//! One [`Subject`] is one thing that is compared: it measures every contender in interleaved rounds, and answers a [`Report`]: rows of samples, and
//! the targets held against them. Times on a machine that others use mean little, so what is claimed is a ratio of contenders that took turns, or
//! a count.

mod caches;
mod child;
mod hitrate;
mod hits;
mod host;
mod hot;
mod keys;
mod machine;
mod memory;
mod random;
mod remote;
mod report;
mod results;
mod ring;
mod rounds;
mod samples;
mod scale;
mod stampede;
mod table;

use std::error::Error;
use std::path::PathBuf;

pub use child::run_child;
pub use machine::{Machine, crate_version};
pub use report::{Bound, Report, Row, Target};
pub use results::write_results;
pub use rounds::{Progress, take_turns, thread_time};
pub use samples::Samples;

/// What a measurement comes to: a comparison that cannot be made is an error, never a row left out.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// One thing that is compared.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// Its name on the command line.
    pub name: &'static str,
    /// What is measured, in a line.
    pub about: &'static str,
    /// Measures.
    pub run: fn(&Setting) -> Outcome<Report>,
    /// What a process of its own does for it ([`run_child`]), where it needs some: answers what is handed back.
    pub child: Option<Child>,
}

/// What a process of its own does, told by its arguments.
pub type Child = fn(&Setting, &[String]) -> Outcome<serde_json::Value>;

/// Everything that is compared, in the order of `compare all`.
pub const SUBJECTS: &[Subject] = &[
    hits::SUBJECT,
    memory::SUBJECT,
    hitrate::SUBJECT,
    ring::SUBJECT,
    remote::SUBJECT,
    stampede::SUBJECT,
    scale::SUBJECT,
    hot::SUBJECT,
];

/// How to measure.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Less of everything: a minute at most for each subject.
    pub quick: bool,
    /// Traces to replay beside the generated ones.
    pub traces: Vec<PathBuf>,
    /// What the program's allocator counts.
    pub meter: Meter,
}

impl Setting {
    /// One number for a full run and one for a quick one.
    #[must_use]
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// Counts what a call allocates on its thread.
pub type Meter = fn(&mut dyn FnMut()) -> Allocated;

/// What was allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocated {
    /// Blocks.
    pub blocks: usize,
    /// Bytes that are still allocated afterwards, as they were asked for: what the allocator rounds up is not in it.
    pub bytes_kept: usize,
}
