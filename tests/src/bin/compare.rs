//! Measures groupcache side by side with what a user would pick instead. `--help` tells.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use clap::Parser;
use clap::builder::PossibleValuesParser;
use groupcache_tests::compare::{
    Allocated, Machine, Outcome, Report, SUBJECTS, Setting, Subject, write_results,
};
use serde::Serialize;

#[path = "../../../core/tests/common/counting.rs"]
mod counting;

const AFTER_HELP: &str = "\
All contenders of a comparison are measured in one run, in turns: a round measures each once, and each round begins with another. A cell of
a table is the median of the rounds, how far a round is off it, and how many times the first line's figure it is (the median of the ratios
of each round). On a machine that others use, look at the ratios, and at what is counted rather than timed.

Examples:
  compare hits                          what a hit costs
  compare ring hitrate --quick          two comparisons, a minute each at most
  compare all --check                   everything; writes tests/RESULTS.md; exits with 1 when a target is missed
  compare hitrate --trace a.u32.zst     on a trace of your own as well
  compare remote --only 'hyper, tokio' --case 'get, 100 B, 1 in'
                                        one contender in one case, for a profile
  compare hits --json hits.json         every sample of every round

Exit codes: 0 measured (with --check: every target holds), 1 a target is missed or something could not be measured, 2 wrong usage.";

/// Measures groupcache side by side with what a user would pick instead.
#[derive(Parser, Debug)]
#[command(version, after_help = AFTER_HELP, after_long_help = AFTER_HELP)]
struct Options {
    /// What to compare.
    #[arg(value_parser = subjects(), required_unless_present = "child")]
    what: Vec<String>,

    /// Finishes each comparison within a minute; figures are rougher.
    #[arg(long)]
    quick: bool,

    /// Exits with 1 when a target is missed, and says which.
    #[arg(long)]
    check: bool,

    /// Writes the rows, with every sample, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// For hitrate: a trace to replay beside the generated ones. Little-endian u32 ids, or (id, size) pairs in a file named *.u32x2; plain or *.zst.
    #[arg(long, value_name = "FILE")]
    trace: Vec<PathBuf>,

    /// For hits, memory and remote: only contenders whose names contain NAME, and the targets that are about them. May be given several times. For
    /// profiles: not with `all`.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,

    /// For remote: only cases whose names contain TEXT. May be given several times. For profiles: not with `all`.
    #[arg(long, value_name = "TEXT")]
    case: Vec<String>,

    /// Does one thing for another process of this program.
    #[arg(long, hide = true, num_args = 1.., allow_hyphen_values = true)]
    child: Vec<String>,
}

const ALL: &str = "all";

fn subjects() -> PossibleValuesParser {
    let value = |subject: &Subject| clap::builder::PossibleValue::new(subject.name).help(subject.about);
    let all = clap::builder::PossibleValue::new(ALL).help("all of these; writes tests/RESULTS.md");
    PossibleValuesParser::new(SUBJECTS.iter().map(value).chain([all]))
}

impl Options {
    fn wants(&self, name: &str) -> bool {
        self.what.iter().any(|what| what == name)
    }

    fn setting(&self) -> Setting {
        Setting {
            quick: self.quick,
            traces: self.trace.clone(),
            only: self.only.clone(),
            cases: self.case.clone(),
            meter: count,
        }
    }
}

/// The blocks and bytes that a call allocates on this thread.
fn count(call: &mut dyn FnMut()) -> Allocated {
    let (blocks, (bytes_kept, ())) = counting::allocations(|| counting::bytes_kept(call));
    Allocated { blocks, bytes_kept }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = if options.child.is_empty() { compare(&options) } else { be_a_child(&options) };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing was missed that was to be checked.
fn compare(options: &Options) -> Outcome<bool> {
    let setting = options.setting();
    if options.wants(ALL) && !setting.is_whole() {
        return Err(
            "`all` writes down what was measured of everybody: leave out --only and --case, or name the comparisons"
                .into(),
        );
    }
    let mut reports = Vec::new();
    for subject in SUBJECTS.iter().filter(|subject| options.wants(ALL) || options.wants(subject.name)) {
        let mut report = (subject.run)(&setting).map_err(|error| format!("{}: {error}", subject.name))?;
        if !setting.is_whole() {
            report.forget_unmeasured();
        }
        println!("{report}");
        reports.push(report);
    }
    let machine = Machine::here();
    println!("{machine}");
    if let Some(path) = &options.json {
        let written = Written { command: command(), machine: &machine, reports: &reports };
        fs::write(path, serde_json::to_vec_pretty(&written)?)?;
    }
    if options.wants(ALL) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("RESULTS.md");
        write_results(&path, &command(), &machine, &reports)?;
        println!("written: {}", path.display());
    }
    let missed: Vec<_> = reports.iter().flat_map(Report::missed).collect();
    for target in missed.iter().filter(|_| options.check) {
        eprintln!("{target}");
    }
    Ok(!options.check || missed.is_empty())
}

/// What `--json` writes.
#[derive(Serialize)]
struct Written<'a> {
    command: String,
    machine: &'a Machine,
    reports: &'a [Report],
}

/// The command as a reader would type it.
fn command() -> String {
    let args = env::args().skip(1).collect::<Vec<_>>();
    format!("cargo run --release -p groupcache-tests --bin compare -- {}", args.join(" "))
}

fn be_a_child(options: &Options) -> Outcome<bool> {
    let (name, args) = options.child.split_first().ok_or("a child of what?")?;
    let subject = SUBJECTS.iter().find(|subject| subject.name == name).ok_or("no such subject")?;
    let child = subject.child.ok_or("the subject has no children")?;
    println!("{}", child(&options.setting(), args)?);
    Ok(true)
}
