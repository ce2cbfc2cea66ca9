//! A node alone in front of a directory, what README's first command starts; and nodes in front of an origin that has its own ideas of HTTP caching.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use groupcache_tests::{
    Behaviour, Fleet, Membership, Node, NodeOptions, Origin, ensure, http, poll_until, python, repository,
    value_of,
};
use tempfile::TempDir;

/// The default group, `files=file:.`, of a node that runs in `directory`.
fn node_in(directory: &Path) -> Node {
    Node::start(&NodeOptions::new().directory(directory))
}

/// `len` bytes in which no part looks like another, and every byte occurs.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .collect()
}

#[test]
fn files_come_back_byte_for_byte_and_the_second_request_hits() {
    let directory = TempDir::new().expect("a directory");
    let files = [
        ("empty", Vec::new()),
        ("three mebibytes.bin", noise(3 << 20)),
        ("a name with spaces.txt", b"spaces".to_vec()),
        ("grüße-ключ-鍵-🗝.txt", "schöne Grüße".into()),
        ("100%25+odd?#[]&=;.txt", b"punctuation".to_vec()),
        ("deep/er/still.txt", b"a path".to_vec()),
    ];
    fs::create_dir_all(directory.path().join("deep/er")).expect("directories");
    for (name, content) in &files {
        fs::write(directory.path().join(name), content).expect("a file");
    }
    let node = node_in(directory.path());
    for (name, content) in &files {
        let first = node.get("files", name).expect(200);
        assert!(first.body == *content, "{name}: {} bytes of {}", first.body.len(), content.len());
        assert_eq!((first.level(), first.owner()), ("load", node.addr()), "{name}");
        let second = node.get("files", name).expect(200);
        assert!(second.body == *content, "{name}, the second time");
        assert_eq!((second.level(), second.owner()), ("hit", node.addr()), "{name}");
    }
    assert_eq!(node.stat("loads"), files.len() as u64);
    assert_eq!(node.stat("main_hits"), files.len() as u64);
}

#[test]
fn head_says_what_get_would_and_sends_no_body() {
    let directory = TempDir::new().expect("a directory");
    fs::write(directory.path().join("f.txt"), "12345").expect("a file");
    let node = node_in(directory.path());
    let mut client = http::Client::new(node.http());
    let head = client.request("HEAD", "/files/f.txt").expect("an answer").expect(200);
    assert_eq!((head.header("content-length"), head.body.len()), (Some("5"), 0));
    // On the same connection: a body after the head would be taken for the start of this answer.
    let get = client.request("GET", "/files/f.txt").expect("an answer").expect(200);
    assert_eq!((get.text().as_str(), get.level()), ("12345", "hit"));
    assert_eq!(client.request("HEAD", "/files/none").expect("an answer").status, 404);
}

#[test]
fn a_removed_key_is_loaded_again() {
    let directory = TempDir::new().expect("a directory");
    let file = directory.path().join("f.txt");
    fs::write(&file, "old").expect("a file");
    let node = node_in(directory.path());
    assert_eq!(node.get("files", "f.txt").expect(200).text(), "old");
    fs::write(&file, "new").expect("a file");
    assert_eq!(
        node.get("files", "f.txt").expect(200).text(),
        "old",
        "a cached value stays until it is removed"
    );
    let removed = node.request("DELETE", "/files/f.txt");
    assert!((200..300).contains(&removed.status), "{} {}", removed.status, removed.text());
    let again = node.get("files", "f.txt").expect(200);
    assert_eq!((again.text().as_str(), again.level()), ("new", "load"));
    // Removing what is not there is no failure: afterwards it is not there.
    assert!((200..300).contains(&node.request("DELETE", "/files/never-asked-for").status));
}

#[test]
fn what_is_not_there_is_404_and_says_what() {
    let directory = TempDir::new().expect("a directory");
    fs::create_dir(directory.path().join("sub")).expect("a directory");
    let node = node_in(directory.path());
    let _ = node.get("files", "nothing.txt").expect_error(404, "not_found");
    let _ = node.get("files", "sub").expect_error(404, "not_found");
    let unknown = node.get("images", "a.png").expect_error(404, "no_such_group");
    assert!(unknown.text().contains("images"), "it must name the group: {}", unknown.text());
    let _ = node.request("GET", "/files/").expect_error(400, "invalid_key");
    assert_eq!(node.request("GET", "//").status, 404);
    assert_eq!(node.request("GET", "/-/nothing").status, 404);
    assert_eq!(node.request("POST", "/files/f").status, 405);
}

#[test]
fn a_key_that_is_too_long_is_400() {
    let directory = TempDir::new().expect("a directory");
    let node = node_in(directory.path());
    let long = node.get("files", &"k".repeat(60_000));
    assert!((400..500).contains(&long.status), "{}", long.status);
    let longer = node.request("GET", &format!("/files/{}", "k".repeat(100_000)));
    assert!((400..500).contains(&longer.status), "{}", longer.status);
    let _ = node.request("GET", "/-/healthz").expect(200);
}

#[test]
fn a_node_tells_of_its_health_its_counters_and_its_ring() {
    let directory = TempDir::new().expect("a directory");
    fs::write(directory.path().join("f"), "x").expect("a file");
    let node = node_in(directory.path());
    let _ = node.request("GET", "/-/healthz").expect(200);
    let _ = node.request("GET", "/-/readyz").expect(200);

    let ring = node.ring();
    assert_eq!((ring.placement.as_str(), ring.names()), ("slots/1", vec![node.addr()]));
    assert!(ring.members[0].me && (ring.members[0].share - 1.0).abs() < 1e-9, "{ring:?}");
    let hexadecimal = ring.fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(ring.fingerprint.len() == 16 && hexadecimal, "{ring:?}");

    let counters =
        ["gets", "main_hits", "hot_hits", "negative_hits", "loads", "loads_deduplicated", "peer_fetches"];
    let more = [
        "peer_errors",
        "evictions",
        "rejected",
        "stale_dispositions",
        "fenced_dropped",
        "clamped_time",
        "served",
    ];
    for counter in counters.iter().chain(&more).chain(&["fingerprint_mismatches", "entries"]) {
        assert_eq!(node.stat(counter), 0, "{counter}");
    }
    assert_eq!(node.stat("budget"), 64 << 20);
    for _ in 0..3 {
        let _ = node.get("files", "f").expect(200);
    }
    assert_eq!(
        (node.stat("gets"), node.stat("loads"), node.stat("main_hits"), node.stat("entries")),
        (3, 1, 2, 1)
    );
    assert!(node.stat("bytes") > 0 && node.stat("bytes") <= node.stat("budget"));
}

#[test]
fn several_groups_have_keys_of_their_own() {
    let (directory, origin) = (TempDir::new().expect("a directory"), Origin::start());
    fs::write(directory.path().join("k"), "from a file").expect("a file");
    let source = format!("file:{}", directory.path().display());
    let node = Node::start(&NodeOptions::new().group("disk", &source).group("web", &origin.url()));
    assert_eq!(node.get("disk", "k").expect(200).text(), "from a file");
    assert_eq!(node.get("web", "k").expect(200).body, value_of("k"));
    assert_eq!(node.get("web", "a b/ü?x=1#f").expect(200).body, value_of("a b/ü?x=1#f"));
    assert_eq!(origin.strays(), [""; 0]);
    // Groups given by hand replace the default one.
    let _ = node.get("files", "k").expect_error(404, "no_such_group");
}

#[test]
fn a_value_expires_with_its_ttl() {
    let origin = Origin::start();
    origin.behave("k", Behaviour::Count);
    let node = Node::start(&NodeOptions::new().group("web", &origin.url()).args(["--ttl", "300ms"]));
    assert_eq!(node.get("web", "k").expect(200).text(), "1");
    poll_until("the value has expired", Duration::from_secs(5), || {
        let text = node.get("web", "k").expect(200).text();
        ensure(text == "2", || format!("still {text}"))
    });
}

/// An answer of these bytes with these header fields and this entity tag.
fn tagged(fields: &str, tag: &str, body: &[u8]) -> Behaviour {
    Behaviour::Tagged { fields: fields.to_owned(), tag: tag.to_owned(), body: body.to_vec() }
}

#[test]
fn an_http_client_that_nobody_here_wrote_gets_what_the_origin_says_from_every_node() {
    let origin = Origin::start();
    let fields =
        "content-type: text/html; charset=utf-8\r\ncache-control: max-age=3600\r\nset-cookie: a=b\r\n";
    let body: Vec<u8> = (0..=255).cycle().take(4096).collect();
    origin.behave("page.html", tagged(fields, "\"v1\"", &body));
    let fleet = Fleet::start(3, Membership::Peers, &NodeOptions::new().group("web", &origin.url()));
    let nodes: Vec<String> = fleet.iter().map(|node| node.http().to_string()).collect();
    let output = Command::new(python())
        .arg(repository().join("tests/python/test_http.py"))
        .env("GROUPCACHE_HTTP", nodes.join(","))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .output()
        .expect("python runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("Ran 7 tests"), "{said}");
    assert_eq!(
        (origin.requests("page.html"), origin.not_modified("page.html")),
        (1, 0),
        "for the whole fleet"
    );
}

#[test]
fn an_origin_says_how_long_its_value_is_kept_and_then_that_it_has_not_changed() {
    let origin = Origin::start();
    origin.behave("k", tagged("cache-control: max-age=1\r\n", "\"v1\"", b"first"));
    let fleet = Fleet::start(2, Membership::Peers, &NodeOptions::new().group("web", &origin.url()));
    let all =
        || -> Vec<String> { fleet.iter().map(|node| node.get("web", "k").expect(200).text()).collect() };
    poll_until("the origin has said twice that nothing has changed", Duration::from_secs(20), || {
        assert_eq!(all(), ["first"; 2]);
        ensure(origin.not_modified("k") >= 2, || format!("{} times", origin.not_modified("k")))
    });
    assert_eq!(origin.requests("k"), 1 + origin.not_modified("k"), "it was sent once");
    let asked: u64 = fleet.iter().map(|node| node.stat("revalidations")).sum();
    assert_eq!(asked, origin.not_modified("k") as u64);
    origin.behave("k", tagged("cache-control: max-age=1\r\n", "\"v2\"", b"second"));
    poll_until("the change is seen everywhere", Duration::from_secs(20), || {
        let all = all();
        ensure(all == ["second"; 2], || format!("{all:?}"))
    });
}

#[test]
fn what_an_origin_says_is_not_to_be_kept_is_asked_for_each_time() {
    let origin = Origin::start();
    for (key, control) in [
        ("private", "private"),
        ("no-store", "max-age=60, no-store"),
        ("cookie", "max-age=60\r\nvary: cookie"),
    ] {
        origin.behave(key, tagged(&format!("cache-control: {control}\r\n"), "\"1\"", b"for one"));
    }
    let node = Node::start(&NodeOptions::new().group("web", &origin.url()).args(["--ttl", "1h"]));
    for key in ["private", "no-store", "cookie"] {
        for asked in 1..=3 {
            let answer = node.get("web", key).expect(200);
            assert_eq!((answer.text().as_str(), answer.level()), ("for one", "load"), "{key}");
            assert_eq!((origin.requests(key), origin.not_modified(key)), (asked, 0), "{key}");
        }
    }
    origin.behave("liar", Behaviour::NotModified(String::new()));
    let _ = node.get("web", "liar").expect_error(502, "origin_failed");
}

#[test]
fn an_expired_value_outlives_an_origin_that_fails_as_long_as_it_may() {
    let origin = Origin::start();
    let args = ["--ttl", "200ms", "--stale-if-error", "1h"];
    let node = Node::start(&NodeOptions::new().group("web", &origin.url()).args(args));
    assert_eq!(node.get("web", "k").expect(200).body, value_of("k"));
    origin.behave("k", Behaviour::Status(500));
    poll_until("the origin is asked again, in vain", Duration::from_secs(5), || {
        assert_eq!(node.get("web", "k").expect(200).body, value_of("k"));
        ensure(node.stat("stale_rescues") > 0, || "it is not".to_owned())
    });
}

#[test]
fn the_budget_holds_whatever_is_asked_for() {
    let directory = TempDir::new().expect("a directory");
    for index in 0..60 {
        fs::write(directory.path().join(index.to_string()), noise(50_000 + index)).expect("a file");
    }
    let node = Node::start(&NodeOptions::new().directory(directory.path()).args(["--budget", "1MiB"]));
    for index in (0..60).chain(0..60) {
        let answer = node.get("files", &index.to_string()).expect(200);
        assert!(answer.body == noise(50_000 + index), "file {index}");
    }
    assert!(node.stat("bytes") <= 1 << 20, "{} bytes", node.stat("bytes"));
    assert!(node.stat("evictions") > 0);
}
