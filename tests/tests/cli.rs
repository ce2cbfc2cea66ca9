//! The command line: what a person types, and what scripts rely on.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use groupcache_tests::{
    Fleet, Membership, Node, NodeOptions, Origin, Signal, ensure, groupcache, http, poll_until, reserve,
    value_of,
};
use tempfile::TempDir;

fn run(args: &[&str]) -> Output {
    Command::new(groupcache())
        .args(args)
        .env_remove("GROUPCACHE_NODE")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn url(node: &Node) -> String {
    format!("http://{}", node.http())
}

#[test]
fn help_teaches_every_flag_and_every_command() {
    let help = stdout(&run(&["--help"]));
    for command in ["serve", "get", "rm", "ring", "stats", "why", "top", "bench", "check"] {
        assert!(help.contains(command), "{command} in {help}");
    }
    let serve = run(&["serve", "--help"]);
    assert_eq!(serve.status.code(), Some(0));
    let serve = stdout(&serve);
    for flag in ["--addr", "--http", "--peers", "--etcd", "--group", "--budget", "--ttl"] {
        assert!(serve.contains(flag), "{flag} in {serve}");
    }
    for word in
        ["file:", "http://", "127.0.0.1:6324", "127.0.0.1:8080", "64MiB", "x-groupcache", "GET /metrics"]
    {
        assert!(serve.contains(word), "{word} in {serve}");
    }
    for flag in [
        "--placement",
        "--max-value",
        "--load-timeout",
        "--hot-ttl",
        "--drain",
        "--registry-timeout",
        "--tracing",
    ] {
        assert!(serve.contains(flag), "{flag} in {serve}");
    }
}

#[test]
fn what_cannot_be_meant_exits_with_2_and_says_why() {
    for args in [
        &["serve", "--no-such-flag"][..],
        &["no-such-command"],
        &["serve", "--addr", "nonsense"],
        &["serve", "--group", "nonsense"],
        &["serve", "--group", "g=ftp://host/"],
        &["serve", "--budget", "lots"],
        &["serve", "--ttl", "soon"],
        &["serve", "--placement", "nonsense"],
        &["serve", "--peers", "127.0.0.1:1", "--etcd", "http://127.0.0.1:2379"],
        &["get", "only-a-group"],
        &[],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", stderr(&output));
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn a_node_that_cannot_start_says_why_and_exits_with_a_failure() {
    let origin = Origin::start();
    let node = Node::start(&NodeOptions::new().group("web", &origin.url()));
    let taken = node.http().to_string();
    let free = format!("127.0.0.1:{}", reserve());
    for (args, word) in [
        (["--http", taken.as_str(), "--addr", free.as_str(), "--group", "g=file:."], taken.as_str()),
        (["--http", free.as_str(), "--addr", node.addr(), "--group", "g=file:."], node.addr()),
        (
            ["--http", free.as_str(), "--addr", "127.0.0.1:0", "--group", "g=file:/no/such/directory"],
            "/no/such/directory",
        ),
    ] {
        let output = run(&[&["serve"], &args[..]].concat());
        assert!(output.status.code().is_some_and(|code| code != 0), "{args:?}");
        assert!(stderr(&output).contains(word), "{args:?}: {}", stderr(&output));
    }
}

#[test]
fn get_prints_the_value_byte_for_byte_and_rm_removes_it() {
    let directory = TempDir::new().expect("a directory");
    let bytes: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    fs::create_dir(directory.path().join("a")).expect("a directory");
    fs::write(directory.path().join("a/näme with spaces"), &bytes).expect("a file");
    let node = Node::start(&NodeOptions::new().directory(directory.path()));
    let url = url(&node);
    let get = || run(&["get", "--node", &url, "files", "a/näme with spaces"]);
    let first = get();
    assert!(first.status.code() == Some(0) && first.stdout == bytes, "{}", stderr(&first));

    fs::write(directory.path().join("a/näme with spaces"), "new").expect("a file");
    assert!(get().stdout == bytes);
    let removed = run(&["rm", "--node", &url, "files", "a/näme with spaces"]);
    assert_eq!(removed.status.code(), Some(0), "{}", stderr(&removed));
    assert_eq!(get().stdout, b"new");

    let missing = run(&["get", "--node", &url, "files", "missing"]);
    assert_eq!((missing.status.code(), missing.stdout.len()), (Some(1), 0), "{}", stderr(&missing));
    assert!(!missing.stderr.is_empty());
    let group = run(&["get", "--node", &url, "nonsense", "missing"]);
    assert!(group.status.code().is_some_and(|code| code != 0) && stderr(&group).contains("nonsense"));
    let nobody = run(&["get", "--node", &format!("http://127.0.0.1:{}", reserve()), "files", "x"]);
    assert!(nobody.status.code().is_some_and(|code| code > 1), "no node is not \"no such key\"");
    assert!(!nobody.stderr.is_empty());
}

#[test]
fn ring_and_stats_show_what_a_node_knows() {
    let origin = Origin::start();
    let fleet = Fleet::start(2, Membership::Peers, &NodeOptions::new().group("web", &origin.url()));
    let _ = fleet[0].get("web", "k").expect(200);
    let url = url(&fleet[0]);
    let ring = run(&["ring", "--node", &url]);
    assert_eq!(ring.status.code(), Some(0), "{}", stderr(&ring));
    for node in fleet.iter() {
        assert!(stdout(&ring).contains(node.addr()), "{}", stdout(&ring));
    }
    let stats = run(&["stats", "--node", &url]);
    assert_eq!(stats.status.code(), Some(0), "{}", stderr(&stats));
    for counter in ["gets", "loads", "budget"] {
        assert!(stdout(&stats).contains(counter), "{}", stdout(&stats));
    }
}

#[test]
fn the_ring_of_any_members_can_be_computed_with_no_node() {
    let members = "127.0.0.1:1,127.0.0.1:2,127.0.0.1:3";
    let ring = run(&["ring", "--members", members, "k1", "k2"]);
    assert_eq!(ring.status.code(), Some(0), "{}", stderr(&ring));
    let text = stdout(&ring);
    let owners: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once('\t')).collect();
    assert_eq!(owners.iter().map(|(key, _)| *key).collect::<Vec<_>>(), ["k1", "k2"], "{text}");
    assert!(owners.iter().all(|(_, owner)| members.split(',').any(|member| member == *owner)), "{text}");
    let shuffled = run(&["ring", "--members", "127.0.0.1:3,127.0.0.1:1,127.0.0.1:2", "k1", "k2"]);
    assert_eq!(stdout(&shuffled), text, "the order of the members means nothing");
}

#[test]
fn the_offline_ring_places_keys_as_running_nodes_do() {
    let origin = Origin::start();
    let fleet = Fleet::start(3, Membership::Peers, &NodeOptions::new().group("web", &origin.url()));
    let members: Vec<&str> = fleet.iter().map(Node::addr).collect();
    let members = members.join(",");
    let keys: Vec<String> = (0..30).map(|index| format!("key-{index}")).collect();
    let args: Vec<&str> =
        ["ring", "--members", &members].into_iter().chain(keys.iter().map(String::as_str)).collect();
    let output = run(&args);
    let said = stdout(&output);
    for (key, line) in keys.iter().zip(said.lines()) {
        let answer = fleet[0].get("web", key).expect(200);
        assert_eq!(line, format!("{key}\t{}", answer.owner()), "{}", stderr(&output));
    }
}

#[test]
fn sigterm_and_ctrl_c_finish_what_is_in_progress_and_exit_with_0() {
    for signal in [Signal::Terminate, Signal::Interrupt] {
        let origin = Origin::start();
        origin.set_delay(Duration::from_millis(1000));
        let mut node = Node::start(&NodeOptions::new().group("web", &origin.url()));
        let address = node.http();
        let slow = thread::spawn(move || http::request(address, "GET", "/web/slow"));
        let asked = || ensure(origin.requests("slow") == 1, || "not yet".to_owned());
        poll_until("the origin was asked", Duration::from_secs(10), asked);
        node.signal(signal);
        let answer = slow.join().expect("no panic").expect("an answer").expect(200);
        assert_eq!(answer.body, value_of("slow"), "{signal:?}");
        assert_eq!(node.wait_exit().code(), Some(0), "{signal:?}");
        assert!(node.try_request("GET", "/-/healthz").is_err(), "nobody listens any more");
    }
}

#[test]
fn a_drain_is_bounded_and_what_is_left_fails_with_a_typed_error_or_a_closed_connection() {
    let origin = Origin::start();
    origin.behave("stuck", groupcache_tests::Behaviour::Stall);
    let mut node = Node::start(&NodeOptions::new().group("web", &origin.url()).args(["--drain", "500ms"]));
    let address = node.http();
    let stuck = thread::spawn(move || http::request(address, "GET", "/web/stuck"));
    let asked = || ensure(origin.requests("stuck") == 1, || "not yet".to_owned());
    poll_until("the origin was asked", Duration::from_secs(10), asked);
    node.signal(Signal::Terminate);
    let status = node.wait_exit();
    assert_eq!(status.code(), Some(0));
    if let Ok(answer) = stuck.join().expect("no panic") {
        let _ = answer.expect_error(503, "stopping");
    }
}

#[test]
fn check_explains_every_mistake_of_a_file_and_serve_refuses_it_in_the_same_words() {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("groupcache.toml");
    fs::write(&file, "bugdet = \"1GiB\"\nttl = \"soon\"\n").expect("a file");
    let path = file.to_str().expect("a path");
    let check = run(&["check", path]);
    let said = stderr(&check);
    assert_eq!((check.status.code(), check.stdout.len()), (Some(2), 0), "{said}");
    for words in [path, "line 1", "did you mean `budget`?", "line 2", "such as 500ms"] {
        assert!(said.contains(words), "{words} in {said}");
    }
    let serve = run(&["serve", "--config", path]);
    assert_eq!((serve.status.code(), stderr(&serve)), (Some(2), said));
    let missing = run(&["check", "/no/such/file.toml"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("/no/such/file.toml"), "{}", stderr(&missing));
}

#[test]
fn a_node_runs_with_what_its_file_says_and_a_flag_goes_before_it() {
    let directory = TempDir::new().expect("a directory");
    fs::write(directory.path().join("hello"), "world").expect("a file");
    let file = directory.path().join("groupcache.toml");
    let source = format!("docs=file:{}", directory.path().display());
    fs::write(&file, format!("group = [\"{source}\"]\nbudget = \"1MiB\"\n")).expect("a file");
    let path = file.to_str().expect("a path");
    let check = run(&["check", path]);
    assert_eq!(check.status.code(), Some(0), "{}", stderr(&check));
    assert!(stdout(&check).contains(&format!("group = [\"{source}\"]")), "{}", stdout(&check));

    let node = Node::start(&NodeOptions::new().args(["--config", path]));
    assert_eq!(node.get("docs", "hello").expect(200).body, b"world");
    assert_eq!(node.stat("budget"), 1 << 20);
    let node = Node::start(&NodeOptions::new().args(["--config", path, "--budget", "2MiB"]));
    assert_eq!(node.stat("budget"), 2 << 20);
}
