//! `tests/RESULTS.md`: every table of a run, with what it needs to be done again.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::{Machine, Outcome, Report, crate_version};

/// Crates that figures depend on, ours aside.
const CRATES: &[&str] = &[
    "moka",
    "mini-moka",
    "quick_cache",
    "foyer-memory",
    "TinyUFO",
    "groupcache",
    "pingora-ketama",
    "tokio",
    "async-std",
    "hyper",
    "h2",
    "tonic",
];

/// Writes the reports of a run. `command` is what was typed.
///
/// # Errors
/// The file cannot be written.
pub fn write_results(path: &Path, command: &str, machine: &Machine, reports: &[Report]) -> Outcome<()> {
    Ok(fs::write(path, results(command, machine, reports))?)
}

fn results(command: &str, machine: &Machine, reports: &[Report]) -> String {
    let version = |name: &&str| crate_version(name).map(|version| format!("{name} {version}"));
    let versions: Vec<String> = CRATES.iter().filter_map(version).collect();
    let missed: Vec<String> =
        reports.iter().flat_map(|report| report.missed().map(|target| format!("- {target}\n"))).collect();
    let mut text = format!(
        "# Side by side\n\nMade by the last line's command; do not edit. A cell is the median of the rounds, how far a round is off it (half of \
         what lies between the quartiles) and, in brackets, how many times the first line's figure it is: the median of the ratios of each \
         round, in which all took turns. Figures of another machine are others; ratios and counts are what to look at.\n\n\
         - {machine}\n- {}\n\n```console\n$ {command}\n```\n\n",
        versions.join(", ")
    );
    let targets: usize = reports.iter().map(|report| report.targets.len()).sum();
    let _infallible = writeln!(text, "{} of {targets} targets hold.\n", targets - missed.len());
    text += &missed.concat();
    for report in reports {
        let _infallible = write!(text, "\n{report}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::{Bound, Samples};
    use super::*;

    #[test]
    fn the_results_name_the_command_the_versions_and_what_was_missed() {
        let mut report = Report::new("hits", "How.");
        report.add("ns", "1 thread", "ours", Samples::count(1.5));
        report.demand("time", Bound::AtMost(2.0), Some(1.5));
        report.demand("space", Bound::AtMost(1.0), Some(1.5));
        let text = results("compare all", &Machine::here(), &[report]);
        for part in ["$ compare all", "quick_cache 0", "1 of 2 targets hold", "- MISSED  space", "## hits"] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}
