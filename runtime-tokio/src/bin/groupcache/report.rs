//! How things end: exit codes, and errors as one sentence.

use std::io::{self, Write};
use std::process::ExitCode;

pub(crate) use groupcache_tokio::in_words as chain;

/// Why the process ends without success: a sentence for stderr and an exit code that says what kind it was.
#[derive(Debug)]
pub(crate) struct Exit {
    code: u8,
    message: String,
}

impl Exit {
    /// The key does not exist: code 1.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// A node could not start: code 1. Nothing is "not found" there.
    pub(crate) fn start(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// What was asked for was done, and did not go well: code 1.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into() }
    }

    /// The command line is at fault: code 2, as clap has it.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into() }
    }

    /// Anything else: code 3.
    pub(crate) fn other(message: impl Into<String>) -> Self {
        Self { code: 3, message: message.into() }
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

/// Writes a line to stderr. That nobody reads stderr any more is no reason to fail.
pub(crate) fn say(line: &str) {
    drop(writeln!(io::stderr(), "{line}"));
}

/// Writes to stdout and flushes. A reader that left (`groupcache get ... | head -c 10`) has what it wanted.
pub(crate) fn print(bytes: &[u8]) -> Result<(), Exit> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Exit::other(format!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}
