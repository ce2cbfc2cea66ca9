//! A running `groupcache serve`, asked over its HTTP side.

use std::ffi::{OsStr, OsString};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::http::{self, Response};
use crate::ports::reserve;
use crate::process::{Process, Signal};
use crate::program;
use crate::prometheus::Page;
use crate::wait::{ensure, poll_until};

/// A debug build on a busy machine.
pub(crate) const START: Duration = Duration::from_secs(30);
pub(crate) const STOP: Duration = Duration::from_secs(20);

/// How a node is started.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    addr: String,
    http: String,
    args: Vec<OsString>,
    directory: Option<PathBuf>,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            addr: "127.0.0.1:0".to_owned(),
            http: "127.0.0.1:0".to_owned(),
            args: Vec::new(),
            directory: None,
        }
    }
}

impl NodeOptions {
    /// A node alone, on ports that the system picks.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Picks ports now: so that others can be told of them, and so that a restart comes back to them.
    #[must_use]
    pub fn fixed(mut self) -> Self {
        self.addr = format!("127.0.0.1:{}", reserve());
        self.http = format!("127.0.0.1:{}", reserve());
        self
    }

    /// Where peers reach the node: its name on the ring, when the port is a [`fixed`](Self::fixed) one.
    #[must_use]
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    pub(crate) fn arguments(&self) -> &[OsString] {
        &self.args
    }

    /// Adds a group.
    #[must_use]
    pub fn group(self, name: &str, source: &str) -> Self {
        self.args(["--group".to_owned(), format!("{name}={source}")])
    }

    /// Sets the working directory. Without it a node runs in an empty one of its own.
    #[must_use]
    pub fn directory(mut self, path: &Path) -> Self {
        self.directory = Some(path.to_owned());
        self
    }
}

/// A member as `/-/ring` shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// Its address, which is its name.
    pub name: String,
    /// Its share of the keys, from 0 to 1.
    pub share: f64,
    /// Whether it is the node that was asked.
    pub me: bool,
    /// Whether the node that was asked is connected to it.
    pub up: bool,
}

/// What `/-/ring` shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Ring {
    /// The placement scheme's name.
    pub placement: String,
    /// Names the ring's content: equal at nodes that place alike.
    pub fingerprint: String,
    /// The members.
    pub members: Vec<Member>,
}

impl Ring {
    /// The members' names, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.members.iter().map(|member| member.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    fn parse(json: &Value) -> Option<Self> {
        let member = |member: &Value| {
            Some(Member {
                name: member["name"].as_str()?.to_owned(),
                share: member["share"].as_f64()?,
                up: member["up"].as_bool()?,
                me: member["me"].as_bool()?,
            })
        };
        Some(Self {
            placement: json["placement"].as_str()?.to_owned(),
            fingerprint: json["fingerprint"].as_str()?.to_owned(),
            members: json["members"].as_array()?.iter().map(member).collect::<Option<_>>()?,
        })
    }
}

/// A running node. Dropping it kills it.
#[derive(Debug)]
pub struct Node {
    options: NodeOptions,
    process: Process,
    http: SocketAddr,
    addr: String,
    directory: Option<TempDir>,
}

impl Node {
    /// Starts a node and waits until it says that it is ready.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start(options: &NodeOptions) -> Self {
        let node = Self::spawn(options);
        node.wait_ready();
        node
    }

    /// Starts a node and waits until it listens.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn spawn(options: &NodeOptions) -> Self {
        let own =
            options.directory.is_none().then(|| TempDir::new().expect("a temporary directory can be made"));
        let directory = own.as_ref().map(TempDir::path).or(options.directory.as_deref());
        let (process, http, addr) = launch(options, directory);
        Self { options: options.clone(), process, http, addr, directory: own }
    }

    /// Starts it again, with the options it had: on the same ports when they are [`fixed`](NodeOptions::fixed).
    ///
    /// # Panics
    /// When it does not come up.
    pub fn restart(&mut self) {
        self.process.kill();
        let directory = self.directory.as_ref().map(TempDir::path).or(self.options.directory.as_deref());
        (self.process, self.http, self.addr) = launch(&self.options, directory);
        self.wait_ready();
    }

    /// Where its HTTP side listens.
    #[must_use]
    pub const fn http(&self) -> SocketAddr {
        self.http
    }

    /// Where its peer side listens: its name on the ring.
    #[must_use]
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// `GET /{group}/{key}`.
    ///
    /// # Panics
    /// When there is no whole answer.
    #[track_caller]
    #[must_use]
    pub fn get(&self, group: &str, key: &str) -> Response {
        self.request("GET", &http::path(group, key))
    }

    /// Asks for `target`, which goes onto the wire as it is.
    ///
    /// # Panics
    /// When there is no whole answer.
    #[track_caller]
    #[must_use]
    pub fn request(&self, method: &str, target: &str) -> Response {
        self.try_request(method, target).unwrap_or_else(|error| {
            panic!("{method} {target} at {}: {error}\n{}", self.http, self.process.log())
        })
    }

    /// Asks for `target`.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub fn try_request(&self, method: &str, target: &str) -> io::Result<Response> {
        http::request(self.http, method, target)
    }

    /// What `/-/ring` shows.
    ///
    /// # Panics
    /// When it shows none.
    #[track_caller]
    #[must_use]
    pub fn ring(&self) -> Ring {
        let json = self.request("GET", "/-/ring").expect(200).json();
        Ring::parse(&json).unwrap_or_else(|| panic!("not a ring: {json}"))
    }

    /// A counter of `/-/stats`.
    ///
    /// # Panics
    /// When there is no such counter.
    #[track_caller]
    #[must_use]
    pub fn stat(&self, counter: &str) -> u64 {
        let stats = self.request("GET", "/-/stats").expect(200).json();
        stats[counter].as_u64().unwrap_or_else(|| panic!("no counter `{counter}` in {stats}"))
    }

    /// What `/metrics` shows.
    ///
    /// # Panics
    /// When it shows none.
    #[track_caller]
    #[must_use]
    pub fn metrics(&self) -> Page {
        let answer = self.request("GET", "/metrics").expect(200);
        assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        Page::parse(&answer.text())
    }

    /// Waits until `/-/readyz` answers 200.
    ///
    /// # Panics
    /// When it does not in time.
    #[track_caller]
    pub fn wait_ready(&self) {
        poll_until(&format!("{} is ready", self.addr), START, || {
            match self.try_request("GET", "/-/readyz") {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => Err(format!("{} {}", answer.status, answer.text())),
                Err(error) => Err(error.to_string()),
            }
        });
    }

    /// Waits until the ring has exactly these members.
    ///
    /// # Panics
    /// When it does not `limit` long.
    #[track_caller]
    pub fn wait_ring(&self, names: &[&str], limit: Duration) {
        let mut names = names.to_vec();
        names.sort_unstable();
        poll_until(&format!("the ring of {} is {names:?}", self.addr), limit, || {
            let ring = self.ring();
            ensure(ring.names() == names, || format!("it is {:?}", ring.names()))
        });
    }

    /// Kills it at once, as the kernel would.
    pub fn kill(&mut self) {
        self.process.kill();
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

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.process.exit_status().is_none()
    }

    /// The last lines that it logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }
}

fn launch(options: &NodeOptions, directory: Option<&Path>) -> (Process, SocketAddr, String) {
    let mut command = Command::new(program::groupcache());
    command.args(["serve", "--addr", &options.addr, "--http", &options.http]).args(&options.args);
    if let Some(directory) = directory {
        command.current_dir(directory);
    }
    let mut process = Process::spawn(format!("node {}", options.addr), &mut command);
    let (http, addr) = process.wait_line(START, parse_serving);
    (process, http, addr)
}

/// `groupcache: serving http://<http addr> (peers at <peer addr>)`
fn parse_serving(line: &str) -> Option<(SocketAddr, String)> {
    let (http, peer) = line.strip_prefix("groupcache: serving http://")?.split_once(" (peers at ")?;
    let http: SocketAddr = http.trim_end_matches('/').parse().ok()?;
    let http =
        if http.ip().is_unspecified() { SocketAddr::from((Ipv4Addr::LOCALHOST, http.port())) } else { http };
    Some((http, peer.strip_suffix(')')?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_says_where_a_node_listens_is_understood() {
        let line = "groupcache: serving http://127.0.0.1:8080 (peers at 127.0.0.1:6324)";
        let http = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
        assert_eq!(parse_serving(line), Some((http, "127.0.0.1:6324".to_owned())));
        assert_eq!(parse_serving("something else"), None);
    }

    #[test]
    fn a_ring_is_read_with_its_members_sorted_by_name() {
        let json = serde_json::json!({"placement": "slots/1", "epoch": 3, "fingerprint": "00ff00ff00ff00ff", "members": [
            {"name": "127.0.0.1:2", "weight": 1, "share": 0.5, "me": true, "up": true},
            {"name": "127.0.0.1:1", "weight": 1, "share": 0.5, "me": false, "up": false}]});
        let ring = Ring::parse(&json).expect("a ring");
        assert_eq!(ring.names(), ["127.0.0.1:1", "127.0.0.1:2"]);
        assert!(ring.members[0].me && !ring.members[1].me);
        assert_eq!(Ring::parse(&serde_json::json!({})), None);
    }
}
