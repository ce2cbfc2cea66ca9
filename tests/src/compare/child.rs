//! Processes of their own, for what must not be measured in one process: this program again, told to be a child.

use std::env;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Outcome, Setting};

/// Runs the child of the subject `name` with `args` and answers what it has handed back. What it says on stderr is said.
///
/// # Errors
/// It could not be started, failed, or said nothing.
pub fn run_child(setting: &Setting, name: &str, args: &[String]) -> Outcome<Value> {
    let mut command = Command::new(env::current_exe()?);
    command.args(setting.quick.then_some("--quick")).args(["--child", name]).args(args);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{name}: a child process ended with {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
