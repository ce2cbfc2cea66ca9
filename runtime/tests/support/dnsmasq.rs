//! A real DNS server on loopback, for a zone of its own.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A name whose addresses can be set.
#[allow(dead_code)] // Not every test asks for it.
pub(crate) const NAME: &str = "cache.test";

const START: Duration = Duration::from_secs(20);

/// A dnsmasq that knows what stands in a file. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) port: u16,
    dir: TempDir,
}

impl Server {
    /// One that has the zone `test` by itself, with these services.
    pub(crate) fn start(services: &[&str]) -> Self {
        // Somebody else may take the port between its choice and its use: then it ends, and another is chosen.
        for _ in 0..5 {
            let listener = TcpListener::bind("127.0.0.1:0").expect("loopback can be bound");
            let port = listener.local_addr().expect("it is bound").port();
            drop(listener);
            let dir = tempfile::tempdir().expect("a directory");
            fs::write(dir.path().join("hosts"), "").expect("a file");
            // Where Debian has it, and not every user looks.
            let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
            let child = Command::new("dnsmasq")
                .env("PATH", path)
                .args([
                    "--keep-in-foreground",
                    "--conf-file=/dev/null",
                    "--pid-file",
                    "--user=root",
                    "--no-resolv",
                ])
                .args(["--no-hosts", "--local=/test/", "--local-ttl=1", "--bind-interfaces"])
                .args([format!("--port={port}"), "--listen-address=127.0.0.1".to_owned()])
                .arg(format!("--addn-hosts={}", dir.path().join("hosts").display()))
                .args(services.iter().map(|service| format!("--srv-host={service}")))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("dnsmasq can be run; Debian: apt-get install dnsmasq-base");
            let mut server = Self { child, port, dir };
            if server.answers() {
                return server;
            }
        }
        panic!("dnsmasq does not start");
    }

    fn answers(&mut self) -> bool {
        let deadline = Instant::now() + START;
        while Instant::now() < deadline && self.child.try_wait().expect("it can be asked").is_none() {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        false
    }

    /// From now on these are the addresses of [`NAME`].
    #[allow(dead_code)] // Not every test changes them.
    pub(crate) fn set_hosts(&self, addrs: &[&str]) {
        let lines: String = addrs.iter().map(|addr| format!("{addr} {NAME}\n")).collect();
        let (next, hosts) = (self.dir.path().join("next"), self.dir.path().join("hosts"));
        fs::write(&next, lines).and_then(|()| fs::rename(next, hosts)).expect("a file");
        let status = Command::new("kill").args(["-HUP", &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
