//! The baseline: a file of one line an operation, and what is held against it.

use std::fmt;
use std::str::FromStr;

/// What an operation may take more than it did, in per cent.
const MARGIN: u64 = 5;

/// Instructions of each operation, and the compiler that they depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Baseline {
    pub(crate) compiler: String,
    pub(crate) counts: Vec<(String, u64)>,
}

/// What a count is beside the baseline's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// As it was, or a little more or less.
    Same(u64),
    /// Less than it was by more than the margin: time to record it.
    Better(u64),
    /// More than it was by more than the margin.
    Worse(u64),
    /// It was not counted before.
    Unknown,
}

impl Baseline {
    pub(crate) fn verdict(&self, name: &str, count: u64) -> Verdict {
        let Some(&(_, before)) = self.counts.iter().find(|(known, _)| known == name) else { return Verdict::Unknown };
        if count * 100 > before * (100 + MARGIN) {
            Verdict::Worse(before)
        } else if count * 100 < before * (100 - MARGIN) {
            Verdict::Better(before)
        } else {
            Verdict::Same(before)
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Same(before) => write!(f, "(was {before})"),
            Self::Better(before) => write!(f, "BETTER (was {before}): worth recording"),
            Self::Worse(before) => write!(f, "WORSE (was {before})"),
            Self::Unknown => write!(f, "NOT IN THE BASELINE"),
        }
    }
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.compiler)?;
        self.counts.iter().try_for_each(|(name, count)| writeln!(f, "{name} {count}"))
    }
}

impl FromStr for Baseline {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        let compiler = lines.next().ok_or("the baseline is empty")?.to_owned();
        let count = |line: &str| {
            let (name, count) = line.split_once(' ')?;
            Some((name.to_owned(), count.parse().ok()?))
        };
        let counts = lines.map(|line| count(line).ok_or_else(|| format!("no count: {line}"))).collect::<Result<_, _>>()?;
        Ok(Self { compiler, counts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_baseline_is_read_as_it_was_written() {
        let baseline = Baseline { compiler: "rustc 1.2.3 (a b)".to_owned(), counts: vec![("hit".to_owned(), 100)] };
        assert_eq!(baseline.to_string().parse(), Ok(baseline));
        assert!("".parse::<Baseline>().is_err() && "rustc\nhit many".parse::<Baseline>().is_err());
    }

    #[test]
    fn five_per_cent_more_is_the_same_and_anything_beyond_is_worse() {
        let baseline = Baseline { compiler: String::new(), counts: vec![("hit".to_owned(), 200)] };
        let verdicts = [189, 190, 210, 211].map(|count| baseline.verdict("hit", count));
        let was = 200;
        assert_eq!(verdicts, [Verdict::Better(was), Verdict::Same(was), Verdict::Same(was), Verdict::Worse(was)]);
        assert_eq!(baseline.verdict("miss", 1), Verdict::Unknown);
    }
}
