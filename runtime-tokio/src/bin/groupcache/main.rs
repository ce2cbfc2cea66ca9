//! The `groupcache` binary: a node as a sidecar in front of files or an HTTP origin, and the commands that talk to one.

#![forbid(unsafe_code)]

mod bench;
mod check;
mod cli;
mod client;
mod config;
mod hangups;
mod head;
mod http;
mod live;
mod metrics;
mod node;
mod offline;
mod origin;
mod report;
mod secured;
mod serve;
mod show;
mod signals;
mod top;
mod why;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use tracing_subscriber::EnvFilter;

use cli::Command;
use report::{Exit, say};

fn main() -> ExitCode {
    let outcome = config::command_line().and_then(|cli| {
        start_log(&cli.log)?;
        run(cli.command)
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(exit) => {
            say(&format!("groupcache: {}", exit.message()));
            exit.code()
        }
    }
}

fn run(command: Command) -> Result<(), Exit> {
    match command {
        Command::Serve(args) => {
            let runtime = runtime(tokio::runtime::Builder::new_multi_thread())?;
            let outcome = runtime.block_on(serve::run(*args));
            // Not waiting for reads of files that a hung file system holds up.
            runtime.shutdown_background();
            outcome
        }
        Command::Ring(args) if !args.members.is_empty() => offline::run(&args),
        Command::Get(args) => talk(client::get(&args)),
        Command::Rm(args) => talk(client::rm(&args)),
        Command::Ring(args) => talk(show::ring(&args)),
        Command::Stats(args) => talk(show::stats(&args)),
        Command::Why(args) => talk(why::run(&args)),
        Command::Top(args) => talk(top::run(&args)),
        Command::Bench(args) => {
            let runtime = runtime(tokio::runtime::Builder::new_multi_thread())?;
            runtime.block_on(bench::run(&args))
        }
        Command::Check(args) => check::run(&args),
    }
}

fn talk(task: impl Future<Output = Result<(), Exit>>) -> Result<(), Exit> {
    runtime(tokio::runtime::Builder::new_current_thread())?.block_on(task)
}

fn runtime(mut builder: tokio::runtime::Builder) -> Result<tokio::runtime::Runtime, Exit> {
    builder.enable_all().build().map_err(|error| Exit::other(format!("cannot start: {error}")))
}

/// Logs go to stderr: stdout is for values, tables and the one line that says where a node serves.
fn start_log(filter: &str) -> Result<(), Exit> {
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| Exit::usage(format!("--log `{filter}` is not a filter: {error}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    Ok(())
}
