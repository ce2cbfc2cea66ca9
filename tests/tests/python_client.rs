//! A gRPC client that nobody here wrote: Python's grpcio, against one node and against a fleet.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};

use groupcache_tests::{Behaviour, Fleet, Membership, NodeOptions, Origin, python, repository};
use tempfile::TempDir;

/// Runs `tests/python/test_get.py` against a fleet of `count` nodes.
fn talks_to(count: usize) {
    let directory = TempDir::new().expect("a directory");
    let served = directory.path().join("served");
    fs::create_dir(&served).expect("a directory");
    fs::write(served.join("ok.txt"), "fine").expect("a file");
    fs::write(directory.path().join("secret.txt"), "secret").expect("a file");
    symlink("../secret.txt", served.join("link")).expect("a link");

    let origin = Origin::start();
    for key in ["missing 1", "missing 2"] {
        origin.behave(key, Behaviour::Status(404));
    }
    origin.behave("failing", Behaviour::Status(500));
    origin.behave("empty", Behaviour::Value(Vec::new()));
    origin.behave("large", Behaviour::Value(vec![7; 3 << 20]));
    origin.behave("slow deadline", Behaviour::Stall);

    let files = format!("file:{}", served.display());
    let options = NodeOptions::new().group("web", &origin.url()).group("files", &files);
    let fleet = Fleet::start(count, Membership::Peers, &options.args(["--load-timeout", "5s"]));
    let peers: Vec<&str> = fleet.iter().map(|node| node.addr()).collect();
    let output = Command::new(python())
        .arg(repository().join("tests/python/test_get.py"))
        .env("GROUPCACHE_PEERS", peers.join(","))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .output()
        .expect("python runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stdout));
    // An empty test file would pass too.
    assert!(said.contains("test_1000_gets_from_16_threads") && said.contains("\nOK\n"), "{said}");
    // Whoever calls this method counts as a peer, and what a peer asks for is not passed on: each node that was asked loads for itself, once.
    for (key, loads) in origin.counts() {
        let failed = ["failing", "slow deadline"].contains(&key.as_str());
        assert!(loads <= count || failed, "{key} was loaded {loads} times by {count} nodes");
    }
    assert!(
        fleet.iter().map(|node| node.stat("served")).sum::<u64>() > 1000,
        "they came in by the peer side"
    );
}

#[test]
fn a_python_client_is_served_by_a_node_alone() {
    talks_to(1);
}

#[test]
fn a_python_client_is_served_by_every_node_of_a_fleet() {
    talks_to(3);
}
