//! `groupcache why` and `bench`, as people call them.

use std::fs;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use groupcache_tests::{
    Behaviour, Fleet, Membership, Node, NodeOptions, Origin, ensure, groupcache, poll_until, reserve,
};
use serde_json::Value;
use tempfile::TempDir;

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(groupcache());
    command.args(args).env_remove("GROUPCACHE_NODE").env_remove("RUST_LOG").stdin(Stdio::null());
    command.output().expect("the binary runs")
}

fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&*output.stdout, &*output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&text).into_owned())
}

fn url(node: &Node) -> String {
    format!("http://{}", node.http())
}

#[test]
fn why_tells_whose_a_key_is_where_it_is_kept_and_what_a_get_would_do() {
    let origin = Origin::start();
    let mut fleet = Fleet::start(3, Membership::Peers, &NodeOptions::new().group("web", &origin.url()));
    let owner = fleet.index_of(fleet[0].get("web", "k/1 ?").expect(200).owner());
    let asker = (owner + 1) % 3;
    let _ = fleet[asker].get("web", "k/1 ?").expect(200);
    let urls: Vec<String> = fleet.iter().map(url).collect();
    let (code, text) = said(&run(&["why", "--node", &urls[asker], "web", "k/1 ?"]));
    assert_eq!(code, Some(0), "{text}");
    for part in [
        "web/k/1 ? at ",
        "up (median ",
        "as a copy: ",
        "here for ",
        "is answered from the cache",
        "errors       none",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let (code, text) = said(&run(&["why", "--fleet", &urls.join(","), "web", "k/1 ?"]));
    assert_eq!((code, text.matches("as the owner: ").count()), (Some(0), 1), "{text}");
    assert!(text.contains("of 3 nodes. They agree on every owner."), "{text}");
    let (_, json) = said(&run(&["why", "--json", "--node", &urls[owner], "web", "k/1 ?"]));
    let json: Value = serde_json::from_str(&json).expect("a line of JSON");
    assert_eq!((&json["owned_here"], &json["kept"]["share"]), (&true.into(), &"main".into()), "{json}");

    fleet[owner].kill();
    poll_until("the owner's death is told, and who is asked instead", Duration::from_secs(30), || {
        let (code, text) = said(&run(&["why", "--node", &urls[asker], "web", "k/1 ?"]));
        let is_told = text.contains("down: the breaker is open");
        ensure(code == Some(0) && is_told, || text)
    });
    let (code, text) = said(&run(&["why", "--fleet", &urls.join(","), "web", "k/1 ?"]));
    assert!(
        code == Some(3) && text.contains("cannot talk to") && text.contains("of 2 nodes."),
        "{code:?} {text}"
    );
    let (code, text) = said(&run(&["why", "--node", &urls[asker], "nonsense", "k"]));
    assert!(code == Some(3) && text.contains("nonsense"), "{code:?} {text}");
}

#[test]
fn bench_counts_what_the_node_counts_and_says_where_answers_came_from() {
    let origin = Origin::start();
    let node = Node::start(&NodeOptions::new().group("web", &origin.url()));
    let (directory, url) = (TempDir::new().expect("a directory"), url(&node));
    let file = directory.path().join("figures.json");
    let file = file.to_str().expect("text");
    let args =
        ["--keys", "50", "--connections", "8", "--count", "600", "--seed", "3", "--check", "--json", file];
    let (code, table) = said(&run(&[&["bench", "web", "--node", &url][..], &args].concat()));
    assert_eq!(code, Some(0), "{table}");
    for part in ["600 requests", "LATENCY", "hit ", "load ", "BELOW", "100.0%"] {
        assert!(table.contains(part), "{part} in {table}");
    }
    let figures: Value = serde_json::from_slice(&fs::read(file).expect("it was written")).expect("JSON");
    let count = |outcome: &str| figures["outcomes"][outcome]["count"].as_u64().expect("a count");
    assert_eq!(
        (count("all"), &figures["failed"], &figures["differences"]),
        (600, &0.into(), &0.into()),
        "{figures}"
    );
    assert_eq!(count("hit"), node.stat("main_hits"), "{figures}");
    assert_eq!(count("load"), node.stat("misses") + node.stat("loads_deduplicated"), "{figures}");
    assert_eq!(count("hit") + count("load"), node.stat("gets"), "{figures}");
    assert_eq!(node.stat("loads"), origin.counts().len() as u64, "each key was loaded once");
    let all = &figures["outcomes"]["all"];
    let quantiles =
        ["min_us", "p50_us", "p90_us", "p99_us", "p999_us", "max_us"].map(|name| all[name].as_u64());
    assert!(quantiles.is_sorted() && quantiles[0] > Some(0) && quantiles[5] < Some(60_000_000), "{all}");

    // At a rate, so many are due as the time has room for, whatever each of them takes.
    let rate = [
        "--rate",
        "200",
        "--duration",
        "1s",
        "--warm-up",
        "200ms",
        "--distribution",
        "hot:10/90",
        "--json",
        "-",
    ];
    let before = node.stat("gets");
    let (code, json) = said(&run(&[&["bench", "web", "--node", &url][..], &rate].concat()));
    let figures: Value = serde_json::from_str(&json).expect("JSON alone");
    assert_eq!((code, &figures["requests"]), (Some(0), &200.into()), "{figures}");
    assert!(node.stat("gets") - before >= 200 + 30, "and those of the warm-up");
}

#[test]
fn bench_says_by_its_exit_code_what_went_wrong() {
    let origin = Origin::start();
    let node = Node::start(&NodeOptions::new().group("web", &origin.url()).args(["--ttl", "1ms"]));
    let url = url(&node);
    let bench = |group: &str, further: &[&str]| {
        said(&run(&[
            &["bench", group, "--node", &url, "--count", "40", "--keys", "2", "--distribution", "sequential"]
                [..],
            further,
        ]
        .concat()))
    };
    origin.behave("key-0", Behaviour::Status(500));
    let (code, text) = bench("web", &[]);
    assert!(
        code == Some(1) && text.contains("origin_failed") && text.contains("20 of 40 requests failed"),
        "{code:?} {text}"
    );
    let (code, text) = bench("nonsense", &[]);
    assert!(code == Some(1) && text.contains("no_such_group"), "{code:?} {text}");
    origin.behave("key-0", Behaviour::Status(404));
    let (code, text) = bench("web", &["--keys-from", "/no/such/file"]);
    assert!(code == Some(2) && text.contains("cannot be used with"), "{code:?} {text}");
    let (code, text) = bench("web", &["--key", "other"]);
    assert!(code == Some(2) && text.contains("key-{}"), "{code:?} {text}");
    let (code, text) = said(&run(&["bench", "web", "--node", &url, "--count", "5", "--keys", "1"]));
    assert!(
        code == Some(0) && text.contains("not_found") && text.contains("No key was found"),
        "{code:?} {text}"
    );
    origin.behave("key-1", Behaviour::Count);
    let (code, text) = bench("web", &["--check", "--connections", "1"]);
    assert!(code == Some(1) && text.contains("differ from an earlier one"), "{code:?} {text}");
    let nobody = format!("http://127.0.0.1:{}", reserve());
    let (code, text) = said(&run(&["bench", "web", "--node", &nobody]));
    assert!(code == Some(3) && text.contains("cannot talk to"), "{code:?} {text}");
}
