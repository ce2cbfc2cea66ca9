//! A real etcd on loopback, that can be killed and started again on the same data.

use std::ffi::OsStr;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::http::Client;
use crate::ports::reserve;
use crate::process::{Process, Signal};
use crate::wait::poll_until;

/// Where members' records live.
pub const PREFIX: &str = "groupcache/";
const START: Duration = Duration::from_secs(30);

/// The record that the member at `addr` must have, byte for byte: key and value.
#[must_use]
pub fn record(addr: &str) -> (String, String) {
    (format!("{PREFIX}{addr}"), format!(r#"{{"Op":0,"Addr":"{addr}","Metadata":null}}"#))
}

/// The files of an etcd that is spoken to over mutual TLS, in PEM. `etcdctl` shows the same certificate.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct EtcdTls {
    /// Whom it trusts.
    pub ca: PathBuf,
    /// Its certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// An etcd of one node.
#[derive(Debug)]
pub struct Etcd {
    tls: Option<EtcdTls>,
    client: u16,
    peer: u16,
    data: TempDir,
    process: Option<Process>,
}

impl Etcd {
    /// Starts an etcd and waits until it answers.
    ///
    /// # Panics
    /// When it is not installed, or does not answer.
    #[must_use]
    pub fn start() -> Self {
        let mut etcd = Self::reserved();
        etcd.restart();
        etcd
    }

    /// Starts an etcd that speaks TLS and wants a certificate from whoever connects, and waits until it answers.
    ///
    /// # Panics
    /// When it is not installed, or does not answer.
    #[must_use]
    pub fn start_secured(tls: EtcdTls) -> Self {
        let mut etcd = Self { tls: Some(tls), ..Self::reserved() };
        etcd.restart();
        etcd
    }

    /// An etcd that is not running yet, but whose [`url`](Self::url) is known.
    ///
    /// # Panics
    /// When no port or no directory is to be had.
    #[must_use]
    pub fn reserved() -> Self {
        let data = TempDir::new().expect("a temporary directory can be made");
        Self { tls: None, client: reserve(), peer: reserve(), data, process: None }
    }

    /// Where clients reach it.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}", self.client)
    }

    /// Starts it where it is not running, on the data it had, and waits until it answers.
    ///
    /// # Panics
    /// When it is not installed, or does not answer.
    pub fn restart(&mut self) {
        let (client, peer) = (self.url(), format!("http://127.0.0.1:{}", self.peer));
        let mut command = Command::new("etcd");
        command.args(["--name", "n1", "--initial-cluster", &format!("n1={peer}")]);
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.arg("--data-dir").arg(self.data.path());
        if let Some(EtcdTls { ca, cert, key }) = &self.tls {
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(ca);
            command.arg("--cert-file").arg(cert).arg("--key-file").arg(key);
        }
        installed("etcd");
        self.process = None;
        self.process = Some(Process::spawn("etcd", &mut command));
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.client));
        if self.tls.is_some() {
            let healthy = || self.try_ctl(&["endpoint", "health"]).map(drop);
            return poll_until("etcd is healthy", START, healthy);
        }
        poll_until("etcd is healthy", START, || {
            let mut probe = Client::new(address).with_timeout(Duration::from_secs(2));
            match probe.request("GET", "/health") {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => Err(answer.text()),
                Err(error) => Err(error.to_string()),
            }
        });
    }

    /// Kills it as a power cut would.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Kills it, and throws away its data too: what comes back is another etcd at the same address.
    ///
    /// # Panics
    /// When no directory is to be had.
    pub fn lose_everything(&mut self) {
        self.kill();
        self.data = TempDir::new().expect("a temporary directory can be made");
    }

    /// Sends a signal: [`Signal::Stop`] makes it a black hole.
    ///
    /// # Panics
    /// When it is not running.
    pub fn signal(&mut self, signal: Signal) {
        self.process.as_mut().expect("etcd is running").signal(signal);
    }

    /// Runs `etcdctl` and answers its output.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn ctl<S: AsRef<OsStr>>(&self, args: &[S]) -> String {
        self.try_ctl(args).unwrap_or_else(|said| panic!("etcdctl failed: {said}"))
    }

    /// From now on it asks for a name and a password: of `user`, who may read and write below [`PREFIX`], or of root, whose password is `of all`.
    ///
    /// # Panics
    /// When it does not take that.
    #[track_caller]
    pub fn ask_for_user(&self, user: &str, password: &str) {
        for args in [
            &["role", "add", "cache"][..],
            &["role", "grant-permission", "cache", "readwrite", PREFIX, "--prefix"],
            &["user", "add", "root:of all"],
            &["user", "grant-role", "root", "root"],
            &["user", "add", &format!("{user}:{password}")],
            &["user", "grant-role", user, "cache"],
            &["auth", "enable"],
        ] {
            self.ctl(args);
        }
    }

    fn try_ctl<S: AsRef<OsStr>>(&self, args: &[S]) -> Result<String, String> {
        installed("etcdctl");
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", self.url());
        if let Some(EtcdTls { ca, cert, key }) = &self.tls {
            command.arg("--cacert").arg(ca).arg("--cert").arg(cert).arg("--key").arg(key);
        }
        command.args(["--command-timeout=10s", "--dial-timeout=10s"]).args(args).stdin(Stdio::null());
        let output = command.output().expect("etcdctl runs");
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
    }

    /// All records below [`PREFIX`], keys and values, as `etcdctl get groupcache/ --prefix` shows them, in the order of the keys.
    #[track_caller]
    #[must_use]
    pub fn records(&self) -> Vec<(String, String)> {
        let output = self.ctl(&["get", PREFIX, "--prefix"]);
        let lines: Vec<&str> = output.lines().collect();
        lines
            .chunks(2)
            .map(|pair| (pair[0].to_owned(), pair.get(1).copied().unwrap_or_default().to_owned()))
            .collect()
    }
}

#[track_caller]
fn installed(program: &str) {
    match Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Err(error) if error.kind() == ErrorKind::NotFound => panic!(
            "no `{program}` on the PATH: the registry's tests need it. `./tests/run` installs it, and so does:\n  \
             apt-get install etcd-server etcd-client"
        ),
        Err(error) => panic!("`{program}` does not run: {error}"),
        Ok(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcd_keeps_its_data_over_a_kill_and_a_restart_and_can_lose_it() {
        let mut etcd = Etcd::start();
        let (key, value) = record("127.0.0.1:9001");
        assert_eq!(value, r#"{"Op":0,"Addr":"127.0.0.1:9001","Metadata":null}"#);
        etcd.ctl(&["put", &key, &value]);
        etcd.ctl(&["put", "groupcachex/1", "of somebody else"]);
        assert_eq!(etcd.records(), [(key.clone(), value.clone())]);
        etcd.kill();
        etcd.restart();
        assert_eq!(etcd.records(), [(key, value)]);
        etcd.lose_everything();
        etcd.restart();
        assert_eq!(etcd.records(), []);
    }
}
