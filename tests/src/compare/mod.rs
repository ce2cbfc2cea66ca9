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
    /// Of `hits`, `memory` and `remote`: only contenders whose names have one of these texts in them. Empty: all.
    pub only: Vec<String>,
    /// Of `remote`: only cases whose names have one of these texts in them. Empty: all.
    pub cases: Vec<String>,
    /// What the program's allocator counts.
    pub meter: Meter,
}

impl Setting {
    /// One number for a full run and one for a quick one.
    #[must_use]
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Whether everybody is measured in every case.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.only.is_empty() && self.cases.is_empty()
    }

    /// Whether a contender takes part.
    #[must_use]
    pub fn wants(&self, contender: &str) -> bool {
        is_among(contender, &self.only)
    }

    /// Whether a case is measured.
    #[must_use]
    pub fn wants_case(&self, case: &str) -> bool {
        is_among(case, &self.cases)
    }
}

fn is_among(name: &str, texts: &[String]) -> bool {
    texts.is_empty() || texts.iter().any(|text| name.contains(text.as_str()))
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
