//! Counts the instructions of the core's operations under valgrind, and holds them against `baseline.txt`: a count is the same in every run, on a
//! machine at rest and on a busy one.
//!
//! ```text
//! cargo run --release --manifest-path tests/instructions/Cargo.toml              fails where an operation takes 5 % more than it did
//! cargo run --release --manifest-path tests/instructions/Cargo.toml -- --record  writes the baseline anew
//! ```
//!
//! Counts depend on the compiler: the baseline names the one that it was recorded with, and with another one nothing fails.

#![forbid(unsafe_code)]

mod baseline;
mod ops;

use std::error::Error;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::{env, fs};

use self::baseline::{Baseline, Verdict};
use self::ops::OPS;

/// Repetitions of an operation in the first run; the second does twice as many, so that what a program does besides falls out of the difference.
const REPETITIONS: u64 = 20_000;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => check(),
        ["--record"] => record(),
        // What valgrind runs.
        ["--run", name, repetitions] => run(name, repetitions.parse()?),
        _ => Err("usage: groupcache-instructions [--record]".into()),
    }
}

fn run(name: &str, repetitions: u64) -> Result<ExitCode, Box<dyn Error>> {
    let op = OPS.iter().find(|op| op.name == name).ok_or("no such operation")?;
    (op.run)(repetitions);
    Ok(ExitCode::SUCCESS)
}

fn check() -> Result<ExitCode, Box<dyn Error>> {
    let baseline: Baseline = fs::read_to_string(path())?.parse()?;
    let counted = count_all()?;
    let mut worse = 0;
    for (name, count) in &counted.counts {
        let verdict = baseline.verdict(name, *count);
        println!("{name:<10} {count:>8} instructions  {verdict}");
        worse += u32::from(matches!(verdict, Verdict::Worse(_) | Verdict::Unknown));
    }
    if baseline.compiler != counted.compiler {
        println!("The baseline was recorded with {}, this is {}: nothing is held against it.", baseline.compiler, counted.compiler);
        println!("Record it anew: cargo run --release --manifest-path tests/instructions/Cargo.toml -- --record");
        return Ok(ExitCode::SUCCESS);
    }
    if worse == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    println!("{worse} operations take over 5 % more instructions than in {}, or are not in it.", path());
    println!("Where that is as it should be: cargo run --release --manifest-path tests/instructions/Cargo.toml -- --record");
    Ok(ExitCode::FAILURE)
}

fn record() -> Result<ExitCode, Box<dyn Error>> {
    let counted = count_all()?;
    fs::write(path(), counted.to_string())?;
    print!("{counted}");
    Ok(ExitCode::SUCCESS)
}

fn path() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("baseline.txt").display().to_string()
}

fn count_all() -> Result<Baseline, Box<dyn Error>> {
    let compiler = Command::new("rustc").arg("--version").output()?;
    let mut counted = Baseline { compiler: String::from_utf8(compiler.stdout)?.trim().to_owned(), counts: Vec::new() };
    for op in OPS {
        let (once, twice) = (instructions(op.name, REPETITIONS)?, instructions(op.name, 2 * REPETITIONS)?);
        counted.counts.push((op.name.to_owned(), twice.saturating_sub(once) / REPETITIONS));
    }
    Ok(counted)
}

/// All instructions of a run of this program.
fn instructions(name: &str, repetitions: u64) -> Result<u64, Box<dyn Error>> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(env::current_exe()?);
    let output = valgrind
        .args(["--run", name, &repetitions.to_string()])
        .output()
        .map_err(|error| format!("valgrind: {error} (Debian: apt-get install valgrind)"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let collected = said.lines().find_map(|line| line.split_once("Collected : ").map(|(_, count)| count.trim()));
    match collected {
        Some(count) if output.status.success() => Ok(count.parse()?),
        _ => Err(format!("valgrind ended with {} and said:\n{said}", output.status).into()),
    }
}
