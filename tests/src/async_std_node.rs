//! A running node on async-std: the adapter's example, which has a peer side and no HTTP side.

use std::process::{Command, ExitStatus};

use crate::node::{NodeOptions, START, STOP};
use crate::process::{Process, Signal};
use crate::program;

/// A running node on async-std. Dropping it kills it.
#[derive(Debug)]
pub struct AsyncStdNode {
    process: Process,
    addr: String,
}

impl AsyncStdNode {
    /// Starts a node and waits until it serves its peers. Of the options an HTTP side and a directory mean nothing to it.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start(options: &NodeOptions) -> Self {
        let mut command = Command::new(program::async_std_node());
        command.args(["--addr", options.addr()]).args(options.arguments());
        let mut process = Process::spawn(format!("async-std node {}", options.addr()), &mut command);
        let addr = process
            .wait_line(START, |line| line.strip_prefix("groupcache: serving peers at ").map(str::to_owned));
        Self { process, addr }
    }

    /// Where its peer side listens: its name on the ring.
    #[must_use]
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When it has ended.
    #[track_caller]
    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits until it has ended after a signal.
    ///
    /// # Panics
    /// When it does not end in time.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        self.process.wait_exit(STOP)
    }
}
