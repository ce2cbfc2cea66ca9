//! What a comparison came to: rows, and the targets held against them.

use std::fmt;

use serde::Serialize;

use super::Samples;

/// One contender in one case.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was measured, and in what unit: "ns per hit". Rows of one metric make one table.
    pub metric: String,
    /// Under which circumstances: "10 % cached, 2 threads". A column of the table.
    pub case: String,
    /// Who was measured. A line of the table.
    pub contender: String,
    /// The numbers, round by round.
    pub samples: Samples,
    /// The median.
    pub median: f64,
    /// See [`Samples::spread`].
    pub spread: f64,
    /// How many times the table's first contender in the same case; `None` for that one, and where a ratio says nothing.
    pub ratio: Option<f64>,
}

/// What a target demands.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// So much or less.
    AtMost(f64),
    /// So much or more.
    AtLeast(f64),
}

/// A target and what was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    /// What it is about: "hit, 10 % cached, 2 threads: time against quick_cache's".
    pub what: String,
    /// What it demands.
    pub bound: Bound,
    /// What was measured.
    pub measured: f64,
    /// Whether it holds.
    pub holds: bool,
}

/// What a comparison came to.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The name of the [`Subject`](super::Subject).
    pub subject: String,
    /// How it was measured, for a reader of the tables: a paragraph of Markdown.
    pub method: String,
    /// What was measured.
    pub rows: Vec<Row>,
    /// What was demanded.
    pub targets: Vec<Target>,
}

impl Report {
    /// A report without rows.
    #[must_use]
    pub fn new(subject: &str, method: impl Into<String>) -> Self {
        Self { subject: subject.to_owned(), method: method.into(), rows: Vec::new(), targets: Vec::new() }
    }

    /// Adds what was measured of one contender in one case. The first contender of a metric and case is the one that the others are held against.
    pub fn add(&mut self, metric: &str, case: &str, contender: &str, samples: Samples) {
        let first = self.rows.iter().find(|row| row.metric == metric && row.case == case);
        let ratio = first.map(|first| samples.ratio_to(&first.samples)).filter(|ratio| ratio.is_finite());
        self.push(metric, case, contender, samples, ratio);
    }

    /// As [`add`](Self::add), of what a ratio says nothing of: parts of a whole, say.
    pub fn add_plain(&mut self, metric: &str, case: &str, contender: &str, samples: Samples) {
        self.push(metric, case, contender, samples, None);
    }

    fn push(&mut self, metric: &str, case: &str, contender: &str, samples: Samples, ratio: Option<f64>) {
        self.rows.push(Row {
            metric: metric.to_owned(),
            case: case.to_owned(),
            contender: contender.to_owned(),
            median: samples.median(),
            spread: samples.spread(),
            ratio,
            samples,
        });
    }

    /// What was measured of a contender.
    #[must_use]
    pub fn samples(&self, metric: &str, case: &str, contender: &str) -> Option<&Samples> {
        let is_it = |row: &&Row| row.metric == metric && row.case == case && row.contender == contender;
        self.rows.iter().find(is_it).map(|row| &row.samples)
    }

    /// How many times `other` a contender is.
    #[must_use]
    pub fn ratio(&self, metric: &str, case: &str, contender: &str, other: &str) -> Option<f64> {
        Some(self.samples(metric, case, contender)?.ratio_to(self.samples(metric, case, other)?))
    }

    /// Holds a target against what was measured. What was not measured (`None`) misses it.
    pub fn demand(&mut self, what: impl Into<String>, bound: Bound, measured: Option<f64>) {
        let measured = measured.unwrap_or(f64::NAN);
        self.targets.push(Target { what: what.into(), bound, measured, holds: bound.admits(measured) });
    }

    /// Drops the targets that could not be measured, where not all contenders took part.
    pub fn forget_unmeasured(&mut self) {
        self.targets.retain(|target| !target.measured.is_nan());
    }

    /// The targets that are missed.
    pub fn missed(&self) -> impl Iterator<Item = &Target> {
        self.targets.iter().filter(|target| !target.holds)
    }
}

impl Bound {
    fn admits(self, measured: f64) -> bool {
        match self {
            Self::AtMost(most) => measured <= most,
            Self::AtLeast(least) => measured >= least,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "at most {most}"),
            Self::AtLeast(least) => write!(f, "at least {least}"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.holds { "holds " } else { "MISSED" };
        write!(f, "{verdict}  {}: {}, measured {:.3}", self.what, self.bound, self.measured)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new("hits", "so");
        report.add("ns", "1 thread", "ours", Samples::new(vec![10.0, 20.0]));
        report.add("ns", "1 thread", "theirs", Samples::new(vec![20.0, 60.0]));
        report.add("ns", "2 threads", "theirs", Samples::new(vec![5.0]));
        report
    }

    #[test]
    fn others_are_held_against_the_first_contender_of_the_same_case() {
        let ratios: Vec<_> = report().rows.iter().map(|row| row.ratio).collect();
        assert_eq!(ratios, [None, Some(2.5), None]);
        assert_eq!(report().ratio("ns", "1 thread", "ours", "theirs"), Some((0.5 + 1.0 / 3.0) / 2.0));
    }

    #[test]
    fn a_target_is_missed_on_the_wrong_side_of_its_bound_and_when_nothing_was_measured() {
        let mut report = report();
        report.demand("a", Bound::AtMost(1.0), Some(1.0));
        report.demand("b", Bound::AtMost(1.0), Some(1.1));
        report.demand("c", Bound::AtLeast(1.0), Some(1.0));
        report.demand("d", Bound::AtLeast(1.0), Some(0.9));
        let absent = report.ratio("ns", "2 threads", "ours", "theirs");
        report.demand("e", Bound::AtMost(1.0), absent);
        assert_eq!(report.missed().map(|target| target.what.as_str()).collect::<Vec<_>>(), ["b", "d", "e"]);
    }
}
