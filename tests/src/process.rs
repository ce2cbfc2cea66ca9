//! A child process that cannot outlive its test, and that shows what it said when the test fails.

use std::env;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::wait::poll_until;

/// How much of a process's log a failing test shows.
const LOG_LINES: usize = 60;

/// What a process can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Please stop: what a supervisor sends.
    Terminate,
    /// Please stop: what ctrl-c sends.
    Interrupt,
    /// Read your files again.
    Hangup,
    /// Stop running, without a word, until [`Signal::Continue`]: what a long pause or a lost machine looks like to the others.
    Stop,
    /// Run on.
    Continue,
    /// Die now.
    Kill,
}

/// A running child. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    /// In a mutex only so that tests can share nodes between threads.
    lines: Mutex<Receiver<String>>,
    log: PathBuf,
    _dir: TempDir,
}

impl Process {
    /// Starts `command` with a captured stdout and stderr, and without the variables of this environment that would change what it does.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn(name: impl Into<String>, command: &mut Command) -> Self {
        let name = name.into();
        let dir = TempDir::new().expect("a temporary directory can be made");
        let log = dir.path().join("stderr");
        let stderr = File::create(&log).expect("a log file can be made");
        neutralise(command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start ({command:?}): {error}"));
        let lines = Mutex::new(read_lines(child.stdout.take().expect("stdout is piped")));
        Self { name, child, lines, log, _dir: dir }
    }

    /// Waits for the first line on stdout for which `parse` answers something.
    ///
    /// # Panics
    /// When none comes within `limit`, or the process ends first.
    #[track_caller]
    pub fn wait_line<T>(&mut self, limit: Duration, mut parse: impl FnMut(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + limit;
        let mut seen = Vec::new();
        let lines = self.lines.get_mut().unwrap_or_else(PoisonError::into_inner);
        while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            if let Some(found) = parse(&line) {
                return found;
            }
            seen.push(line);
        }
        // The end of its stdout is seen a moment before its own end.
        let grace = Instant::now() + Duration::from_millis(500);
        while self.exit_status().is_none() && Instant::now() < grace {
            thread::sleep(Duration::from_millis(5));
        }
        let state = self.exit_status().map_or_else(
            || format!("it runs, but {limit:?} have passed or it has closed its stdout"),
            |status| format!("it ended with {status}"),
        );
        panic!("{} did not say where it listens: {state}; its stdout: {seen:?}\n{}", self.name, self.log());
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends `signal`.
    ///
    /// # Panics
    /// When it has ended already: its id may be somebody else's by now.
    #[track_caller]
    pub fn signal(&mut self, signal: Signal) {
        if let Some(status) = self.exit_status() {
            panic!("{} has ended with {status}, and cannot be sent {signal:?}\n{}", self.name, self.log());
        }
        let signal = match signal {
            Signal::Terminate => rustix::process::Signal::TERM,
            Signal::Interrupt => rustix::process::Signal::INT,
            Signal::Hangup => rustix::process::Signal::HUP,
            Signal::Stop => rustix::process::Signal::STOP,
            Signal::Continue => rustix::process::Signal::CONT,
            Signal::Kill => rustix::process::Signal::KILL,
        };
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal)
            .unwrap_or_else(|error| panic!("{} cannot be signalled: {error}", self.name));
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill(); // An error says that it is gone, which is what is wanted.
        let _ = self.child.wait();
    }

    /// How it ended, if it has.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|error| panic!("{} cannot be waited for: {error}", self.name))
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// When it has not within `limit`.
    #[track_caller]
    pub fn wait_exit(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} ended", self.name);
        poll_until(&what, limit, || self.exit_status().ok_or_else(|| "it runs".to_owned()))
    }

    /// Everything that it wrote to its stderr.
    #[must_use]
    pub fn whole_log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// The last lines of its stderr.
    #[must_use]
    pub fn log(&self) -> String {
        let text = self.whole_log();
        let lines: Vec<&str> = text.lines().collect();
        let shown = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        format!("--- stderr of {} (its last {LOG_LINES} lines of {})\n{shown}\n---", self.name, lines.len())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

/// A test must not depend on a proxy, on an etcd configuration or on defaults of groupcache that happen to be set where it runs.
fn neutralise(command: &mut Command) {
    for (variable, _) in env::vars_os() {
        let name = variable.to_string_lossy().to_ascii_lowercase();
        if name.ends_with("_proxy") || name.starts_with("etcd") || name.starts_with("groupcache_") {
            command.env_remove(&variable);
        }
    }
}

/// Reads stdout to its end, so that the child never blocks on a full pipe.
fn read_lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.send(line); // Nobody listens any more after the first line that was waited for.
        }
    });
    lines
}

/// Bytes of memory that a process has resident.
///
/// # Errors
/// It does not run, or this is not Linux.
pub fn resident(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| io::Error::other("it has no VmRSS"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        Process::spawn("a shell", Command::new("sh").args(["-c", script]))
    }

    #[test]
    fn a_line_of_stdout_is_found_and_the_log_kept() {
        let mut process = shell("echo one; echo oops >&2; echo port 7; sleep 60");
        let port =
            process.wait_line(Duration::from_secs(10), |line| line.strip_prefix("port ").map(str::to_owned));
        assert_eq!(port, "7");
        assert!(process.log().contains("oops"));
    }

    #[test]
    fn a_signal_arrives_and_the_exit_status_is_seen() {
        let mut process = shell("trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done");
        process.wait_line(Duration::from_secs(10), |line| (line == "ready").then_some(()));
        process.signal(Signal::Terminate);
        assert_eq!(process.wait_exit(Duration::from_secs(10)).code(), Some(3));
    }

    #[test]
    fn a_stopped_process_is_killed_all_the_same() {
        let mut process = shell("sleep 60");
        process.signal(Signal::Stop);
        process.kill();
        assert!(process.exit_status().is_some_and(|status| status.code().is_none()));
    }

    #[test]
    #[should_panic(expected = "it ended with")]
    fn a_process_that_ends_early_is_told_apart_from_a_slow_one() {
        shell("exit 1").wait_line(Duration::from_secs(10), |_| Some(()));
    }
}
