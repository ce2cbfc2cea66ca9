//! A real etcd on loopback, with a data directory of its own.

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const INSTALL: &str = "install it with: apt-get install etcd-server etcd-client";

/// Killed, by its pid, when dropped.
pub(crate) struct Etcd {
    child: Option<Child>,
    tls: Option<TlsFiles>,
    dir: TempDir,
    client_port: u16,
    peer_port: u16,
}

/// An etcd's own files for TLS, as PEM: it shows the certificate, and wants one of the same authority from whoever connects.
#[derive(Clone)]
pub(crate) struct TlsFiles {
    pub(crate) roots: String,
    pub(crate) chain: String,
    pub(crate) key: String,
}

impl Etcd {
    /// Starts an etcd and waits until it answers.
    pub(crate) fn start() -> Self {
        Self::start_with(None)
    }

    /// Starts an etcd that is spoken to over mutual TLS, and waits until it answers.
    #[allow(dead_code)] // The other tests of etcd do without.
    pub(crate) fn start_secured(tls: TlsFiles) -> Self {
        Self::start_with(Some(tls))
    }

    fn start_with(tls: Option<TlsFiles>) -> Self {
        // Somebody else may take a port between its choice and its use: then etcd ends, and others are chosen.
        for _ in 0..5 {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let (client_port, peer_port) = (free_port(), free_port());
            let mut etcd = Self { child: None, tls: tls.clone(), dir, client_port, peer_port };
            if etcd.try_start() {
                return etcd;
            }
        }
        panic!("etcd does not start");
    }

    /// `host:port` of the client side.
    pub(crate) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    /// Kills it; the data stay.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again, on the same ports and data.
    pub(crate) fn restart(&mut self) {
        self.kill();
        assert!(self.try_start(), "etcd does not start again: {}", self.log());
    }

    /// Kills it and takes its data away.
    pub(crate) fn lose_data(&mut self) {
        self.kill();
        std::fs::remove_dir_all(self.data_dir()).expect("the data directory can be removed");
    }

    /// Lets it live, but do nothing: `STOP`, until `CONT`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.as_ref().expect("it runs").id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill runs");
        assert!(status.success());
    }

    /// Runs `etcdctl`; answers what it prints.
    pub(crate) fn ctl(&self, args: &[&str]) -> String {
        let output = self
            .etcdctl()
            .args(args)
            .output()
            .unwrap_or_else(|error| panic!("etcdctl cannot be run ({error}); {INSTALL}"));
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    }

    fn etcdctl(&self) -> Command {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(["--endpoints", &self.endpoint()]);
        if let Some(TlsFiles { roots, chain, key }) = &self.tls {
            command.args(["--cacert", roots, "--cert", chain, "--key", key]);
        }
        command
    }

    fn try_start(&mut self) -> bool {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let client = format!("{scheme}://127.0.0.1:{}", self.client_port);
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        let log = File::create(self.dir.path().join("log")).expect("a log file");
        let mut command = Command::new("etcd");
        if let Some(TlsFiles { roots, chain, key }) = &self.tls {
            command.args(["--cert-file", chain, "--key-file", key, "--trusted-ca-file", roots]);
            command.arg("--client-cert-auth");
        }
        let child = command
            .args(["--name", "n1", "--data-dir"])
            .arg(self.data_dir())
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("n1={peer}")])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("etcd cannot be run ({error}); {INSTALL}"));
        self.child = Some(child);
        self.becomes_ready()
    }

    fn becomes_ready(&mut self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(30);
        while Instant::now() < deadline {
            let child = self.child.as_mut().expect("just started");
            if child.try_wait().expect("its state can be asked").is_some() {
                return false;
            }
            let health = self
                .etcdctl()
                .args(["endpoint", "health"])
                .output()
                .unwrap_or_else(|error| panic!("etcdctl cannot be run ({error}); {INSTALL}"));
            if health.status.success() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        false
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nobody listens on just now.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback can be bound");
    listener.local_addr().expect("it is bound").port()
}
