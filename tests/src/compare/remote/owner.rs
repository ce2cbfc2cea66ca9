//! The other process: owns the keys, and says how much processor time it has used.

use std::env;
use std::io::{BufRead, BufReader, Write, stdin};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

use super::drive::cpu;
use super::{SUBJECT, hyper, ours, petroniuss, tcp};
use crate::compare::host::Host;
use crate::compare::{Outcome, Setting};

/// What the other process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Node(Host),
    Crate,
    /// Whether a message has many keys.
    Floor(Host, bool),
    Tcp,
}

const ROLES: [(&str, Role); 8] = [
    ("node-tokio", Role::Node(Host::Tokio)),
    ("node-async-std", Role::Node(Host::AsyncStd)),
    ("crate", Role::Crate),
    ("unary-tokio", Role::Floor(Host::Tokio, false)),
    ("unary-async-std", Role::Floor(Host::AsyncStd, false)),
    ("batched-tokio", Role::Floor(Host::Tokio, true)),
    ("batched-async-std", Role::Floor(Host::AsyncStd, true)),
    ("tcp", Role::Tcp),
];

/// A process that answers. Dropping this ends it.
#[derive(Debug)]
pub(super) struct Owner {
    child: Child,
    /// A line asks for the processor time; the end of input ends the process, also when this one dies.
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    addr: String,
}

impl Owner {
    /// Starts one whose values have `value` bytes, and waits until it listens: at `addr`, where it can be told to. The asker's address is `other`.
    pub(super) fn start(role: Role, value: usize, addr: &str, other: &str) -> Outcome<Self> {
        let name = ROLES.iter().find(|(_, of)| *of == role).map(|(name, _)| *name).ok_or("no such role")?;
        let mut child = Command::new(env::current_exe()?)
            .args(["--child", SUBJECT.name, name, &value.to_string(), addr, other])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let questions = child.stdin.take().ok_or("stdin is piped")?;
        let answers = BufReader::new(child.stdout.take().ok_or("stdout is piped")?);
        let mut owner = Self { child, questions, answers, addr: String::new() };
        owner.addr = owner.line()?;
        Ok(owner)
    }

    /// Where it listens.
    pub(super) fn addr(&self) -> &str {
        &self.addr
    }

    /// The processor time that it has used so far.
    pub(super) fn cpu(&mut self) -> Outcome<Duration> {
        self.questions.write_all(b"\n")?;
        Ok(Duration::from_nanos(self.line()?.parse()?))
    }

    fn line(&mut self) -> Outcome<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            return Err("the other process has ended".into());
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the other process does.
pub(super) fn be(_: &Setting, args: &[String]) -> Outcome<Value> {
    let [name, value, addr, other] = args else { return Err("role, bytes, address, other address".into()) };
    let role = ROLES.iter().find(|(of, _)| of == name).map(|(_, role)| *role).ok_or("no such role")?;
    let (value, addr, other) = ("v".repeat(value.parse()?), addr.clone(), other.clone());
    let (told, listening) = mpsc::channel();
    let tell = move |addr: String| {
        // Refused only when this process is about to end.
        let _ = told.send(addr);
    };
    match role {
        Role::Node(host) => {
            let value = Bytes::from(value);
            drop(host.spawn(async move { ours::serve(host, &addr, &other, value, tell).await }));
        }
        Role::Crate => {
            drop(Host::Tokio.spawn(async move { petroniuss::serve(&addr, value, tell).await }));
        }
        Role::Floor(host, batched) => {
            drop(host.spawn(hyper::serve(host, Bytes::from(value), batched, tell)));
        }
        Role::Tcp => drop(Host::Tokio.spawn(tcp::serve(Bytes::from(value), tell))),
    }
    println!("{}", listening.recv()?);
    for question in stdin().lock().lines() {
        question?;
        println!("{}", cpu().as_nanos());
    }
    Ok(Value::Null)
}
