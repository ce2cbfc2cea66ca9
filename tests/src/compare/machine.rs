//! Where it was measured, and what: machine and versions.

use std::fmt;
use std::fs;
use std::process::Command;
use std::thread;

use serde::Serialize;

/// The versions that this program was built from.
const LOCKED: &str = include_str!("../../../Cargo.lock");

/// What a figure depends on beside the code.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// Cores.
    pub cores: usize,
    /// Memory.
    pub memory: String,
    /// The operating system.
    pub system: String,
    /// The compiler that is there now.
    pub rustc: String,
    /// The commit, and whether files were changed since.
    pub commit: String,
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn here() -> Self {
        let memory = first_after("/proc/meminfo", "MemTotal");
        let kib = memory.as_deref().and_then(|text| text.trim_end_matches(" kB").parse::<u64>().ok());
        Self {
            processor: first_after("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
            cores: thread::available_parallelism().map_or(1, usize::from),
            memory: kib.map_or_else(unknown, |kib| format!("{} GiB", (kib + (1 << 19)) >> 20)),
            system: said("uname", &["-sr"]),
            rustc: said("rustc", &["--version"]),
            commit: said("git", &["describe", "--always", "--dirty", "--abbrev=12"]),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, cores, memory, system, rustc, commit } = self;
        write!(f, "{processor}, {cores} cores, {memory}; {system}; {rustc}; commit {commit}")
    }
}

/// The version of a crate in this build; of several the newest.
#[must_use]
pub fn crate_version(name: &str) -> Option<&'static str> {
    let mut lines = LOCKED.lines();
    let mut last = None;
    while let Some(line) = lines.next() {
        if line.strip_prefix("name = ").is_some_and(|quoted| quoted.trim_matches('"') == name) {
            last = lines.next().and_then(|line| line.strip_prefix("version = ")).or(last.map(|it: &str| it));
        }
    }
    last.map(|quoted| quoted.trim_matches('"'))
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// What stands behind the first line that begins with `name`.
fn first_after(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn said(program: &str, args: &[&str]) -> String {
    let asked = Command::new(program).args(args).output().ok().filter(|output| output.status.success());
    asked.map_or_else(unknown, |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_from_the_lock_file() {
        let version = crate_version("quick_cache").expect("it is compared");
        assert!(version.split('.').count() == 3, "{version}");
        assert_eq!(crate_version("groupcache-core"), Some(env!("CARGO_PKG_VERSION")));
        assert_eq!(crate_version("no-such-crate"), None);
    }
}
