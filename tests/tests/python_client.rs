//! A gRPC client that nobody here wrote: Python's grpcio, against a node of each adapter, and against a fleet of both.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::Duration;

use groupcache_tests::{AsyncStdNode, Behaviour, Node, NodeOptions, Origin, python, repository};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(10);

/// The largest value that a client takes which sets no limit: its message is 4 MiB, 5 bytes of which are around the value.
const FITS: usize = (4 << 20) - 5;

/// What the origin never answers.
const STALLED: [&str; 2] = ["slow deadline", "slow 50 ms"];

/// Runs `tests/python/test_get.py` against a fleet of `tokio` and `async_std` nodes.
fn talks_to(tokio: usize, async_std: usize) {
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
    origin.behave("fits 4 MiB", Behaviour::Value(vec![7; FITS]));
    origin.behave("over 4 MiB", Behaviour::Value(vec![7; FITS + 1]));
    for key in STALLED {
        origin.behave(key, Behaviour::Stall);
    }

    let files = format!("file:{}", served.display());
    let options = NodeOptions::new().group("web", &origin.url()).group("files", &files);
    let count = tokio + async_std;
    let options: Vec<_> =
        (0..count).map(|_| options.clone().fixed().args(["--load-timeout", "5s"])).collect();
    let peers = options.iter().map(NodeOptions::addr).collect::<Vec<_>>();
    let options: Vec<_> =
        options.iter().map(|one| one.clone().args(["--peers".to_owned(), peers.join(",")])).collect();
    let (on_tokio, on_async_std) = options.split_at(tokio);
    let _guests: Vec<_> = on_async_std.iter().map(AsyncStdNode::start).collect();
    let nodes: Vec<_> = on_tokio.iter().map(Node::spawn).collect();
    for node in &nodes {
        node.wait_ready();
        node.wait_ring(&peers, SOON);
    }
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
        let failed = key == "failing" || STALLED.contains(&key.as_str());
        assert!(loads <= count || failed, "{key} was loaded {loads} times by {count} nodes");
    }
    for node in &nodes {
        assert!(node.stat("served") > 30, "they came in by the peer side");
    }
}

#[test]
fn a_python_client_is_served_by_a_node_on_tokio() {
    talks_to(1, 0);
}

#[test]
fn a_python_client_is_served_by_a_node_on_async_std() {
    talks_to(0, 1);
}

#[test]
fn a_python_client_is_served_by_every_node_of_a_fleet() {
    talks_to(2, 1);
}
