//! Keys that want out, origins that lie, values that do not fit, and bytes that are no protocol.

use std::fs;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use groupcache_tests::http::{self, raw};
use groupcache_tests::{Behaviour, Fleet, Membership, Node, NodeOptions, Origin, poll_until, value_of};
use tempfile::TempDir;

const SECRET: &str = "the secret outside";
const LIMIT: usize = 64 << 10;
const SHORT: Duration = Duration::from_secs(10);

/// A directory to serve, with a secret beside it and every way out of it that a file system has.
fn served() -> (TempDir, std::path::PathBuf) {
    let outer = TempDir::new().expect("a directory");
    let inner = outer.path().join("served");
    fs::create_dir_all(inner.join("sub")).expect("directories");
    fs::write(outer.path().join("secret.txt"), SECRET).expect("a file");
    fs::write(inner.join("ok.txt"), "fine").expect("a file");
    fs::write(inner.join("sub/ok.txt"), "fine too").expect("a file");
    for (target, link) in [
        ("../secret.txt", "link"),
        ("..", "up"),
        ("/", "root"),
        ("link", "link-to-link"),
        ("../../served/../secret.txt", "sub/winding"),
        ("loop", "loop"),
    ] {
        symlink(target, inner.join(link)).expect("a link");
    }
    symlink(outer.path().join("secret.txt"), inner.join("absolute")).expect("a link");
    let made = Command::new("mkfifo").arg(inner.join("pipe")).status().expect("mkfifo runs");
    assert!(made.success());
    (outer, inner)
}

#[test]
fn no_key_leads_out_of_the_directory() {
    let (outer, inner) = served();
    let node = Node::start(&NodeOptions::new().directory(&inner));
    let absolute = outer.path().join("secret.txt").display().to_string();
    let encoded = absolute.replace('/', "%2f");
    let mut targets: Vec<String> = [
        "../secret.txt",
        "%2e%2e/secret.txt",
        "%2E%2E%2fsecret.txt",
        "%2E%2E%2Fsecret.txt",
        ".%2e/secret.txt",
        "..%2fsecret.txt",
        "..%5csecret.txt",
        "..\\secret.txt",
        "%252e%252e/secret.txt",
        "%c0%ae%c0%ae/secret.txt",
        "sub/../../secret.txt",
        "sub/%2e%2e/%2e%2e/secret.txt",
        "./../secret.txt",
        "..",
        "%2e%2e",
        ".",
        "../../../../../../../../etc/passwd",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "link",
        "link-to-link",
        "absolute",
        "up/secret.txt",
        "up/served/../secret.txt",
        "root/etc/passwd",
        "sub/winding",
        "%00",
        "ok.txt%00",
        "..%00/secret.txt",
        "ok.txt%00/../../secret.txt",
        "ok.txt/../../secret.txt",
        "ok.txt/",
        "ok.txt/x",
        "file:///etc/passwd",
    ]
    .map(|key| format!("/files/{key}"))
    .to_vec();
    targets.push(format!("/files/{absolute}"));
    targets.push(format!("/files/{encoded}"));
    targets.push("/files/../files/ok.txt/../../secret.txt".to_owned());
    targets.push("/../files/ok.txt".to_owned());
    targets.push("/%2e%2e/secret.txt".to_owned());
    for target in &targets {
        // Byte by byte over a socket of its own: nothing between here and the node resolves or repairs it.
        let request = format!("GET {target} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
        let answer =
            String::from_utf8_lossy(&raw(node.http(), request.as_bytes(), SHORT).expect("a connection"))
                .into_owned();
        let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).unwrap_or("none");
        assert!(["400", "404"].contains(&status), "{target}: {answer}");
        assert!(!answer.contains(SECRET) && !answer.contains("root:"), "{target}: {answer}");
        assert!(answer.contains(r#"{"error":"#), "{target} must be told why: {answer}");
    }
    for key in ["..", "sub/../../secret.txt", "\0", "ok.txt\0"] {
        let _ = node.get("files", key).expect_error(400, "invalid_key");
    }
    assert_eq!(node.get("files", "ok.txt").expect(200).text(), "fine");
    assert_eq!(node.get("files", "sub/ok.txt").expect(200).text(), "fine too");
}

#[test]
fn no_key_leads_out_of_an_origins_prefix() {
    let origin = Origin::start();
    let node = Node::start(&NodeOptions::new().group("web", &origin.url()));
    for key in ["..", "../x", "%2e%2e/x", "a/../../x", "a/%2E%2E/%2E%2E/x", "./x", "x%00"] {
        let answer = node.request("GET", &format!("/web/{key}"));
        assert!([400, 404].contains(&answer.status), "{key}: {} {}", answer.status, answer.text());
    }
    assert_eq!((origin.strays(), origin.counts().len()), (Vec::new(), 0), "the origin was never asked");
    // What only looks like a way out is a key like any other, and reaches the origin as it is.
    for key in ["..x/y", "a?b=../c", "http://127.0.0.1:1/", "#x", "%2e%2e/x", "//x", "a b\tc\n"] {
        assert_eq!(node.get("web", key).expect(200).body, value_of(key), "{key}");
        assert_eq!(origin.requests(key), 1, "{key}");
    }
    assert_eq!(origin.strays(), [""; 0]);
}

#[test]
fn what_is_not_a_regular_file_is_not_waited_for() {
    let (_outer, inner) = served();
    let node = Node::start(&NodeOptions::new().directory(&inner));
    let started = Instant::now();
    for key in ["pipe", "sub", "loop"] {
        let answer = node.get("files", key);
        assert!([400, 404, 502].contains(&answer.status), "{key}: {} {}", answer.status, answer.text());
    }
    assert!(started.elapsed() < Duration::from_secs(5), "a pipe has no writer: {:?}", started.elapsed());
}

/// Ways for an origin to fail, and the typed error that each must be. Silence comes last: a peer that was waited for in vain may be avoided for a while.
fn misbehaviours() -> Vec<(&'static str, Behaviour, u16, &'static str)> {
    vec![
        ("says 500", Behaviour::Status(500), 502, "origin_failed"),
        ("says 503", Behaviour::Status(503), 502, "origin_failed"),
        ("says 403", Behaviour::Status(403), 502, "origin_failed"),
        ("redirects", Behaviour::Status(302), 502, "origin_failed"),
        ("says 206", Behaviour::Status(206), 502, "origin_failed"),
        ("resets", Behaviour::Reset, 502, "origin_failed"),
        ("resets in the body", Behaviour::ResetInBody, 502, "origin_failed"),
        ("ends early", Behaviour::Short { announced: 1000, sent: 999 }, 502, "origin_failed"),
        ("sends nothing of it", Behaviour::Short { announced: 1000, sent: 0 }, 502, "origin_failed"),
        ("ends before the last chunk", Behaviour::ChunkedCutOff, 502, "origin_failed"),
        ("does not mark the end", Behaviour::Unmarked, 502, "origin_failed"),
        ("speaks no HTTP", Behaviour::Garbage, 502, "origin_failed"),
        ("announces too much", Behaviour::Value(vec![b'x'; LIMIT + 1]), 502, "value_too_large"),
        ("sends too much", Behaviour::Chunked(vec![b'x'; LIMIT + 1]), 502, "value_too_large"),
        ("does not end", Behaviour::Endless, 502, "value_too_large"),
        ("says nothing", Behaviour::Stall, 504, "deadline"),
        ("stops in the body", Behaviour::StallInBody, 504, "deadline"),
    ]
}

fn options(origin: &Origin) -> NodeOptions {
    NodeOptions::new().group("web", &origin.url()).args(["--max-value", "64KiB", "--load-timeout", "1500ms"])
}

#[test]
fn an_origin_that_misbehaves_is_a_typed_error_and_nothing_of_it_is_cached() {
    let origin = Origin::start();
    let node = Node::start(&options(&origin));
    for (name, behaviour, status, kind) in misbehaviours() {
        origin.behave(name, behaviour);
        fails_within_bounds(&node, name, status, kind);
        origin.behave(name, Behaviour::Value(value_of(name)));
        let healed = node.get("web", name).expect(200);
        assert_eq!(
            (healed.level(), &healed.body),
            ("load", &value_of(name)),
            "{name}: asked anew, taken whole"
        );
    }
    assert_eq!(node.stat("entries"), misbehaviours().len() as u64);
}

#[test]
fn an_origin_that_misbehaves_is_the_same_typed_error_through_a_peer() {
    let origin = Origin::start();
    let fleet = Fleet::start(2, Membership::Peers, &options(&origin));
    for (name, behaviour, status, kind) in misbehaviours() {
        let retried = !matches!(behaviour, Behaviour::Status(_));
        origin.behave(name, behaviour);
        // One of the two is the owner, and the other asks it.
        for (asked, node) in fleet.iter().enumerate() {
            fails_within_bounds(node, name, status, kind);
            if !retried {
                assert_eq!(origin.requests(name), asked + 1, "the owner's word is not doubted: {name}");
            }
        }
        origin.behave(name, Behaviour::Value(value_of(name)));
        if kind == "deadline" {
            // Who gave up first may find the other still at it, for as long as their clocks' margin.
            let healed = || match fleet[0].get("web", name).status {
                200 => Ok(()),
                status => Err(status.to_string()),
            };
            poll_until("the silent load is given up", Duration::from_secs(3), healed);
        }
        let before = origin.requests(name);
        for node in fleet.iter() {
            assert_eq!(node.get("web", name).expect(200).body, value_of(name), "{name}");
        }
        let again = origin.requests(name) - before;
        assert!(again == 1 || (kind == "deadline" && again == 0), "{name}: {again} loads");
    }
}

fn fails_within_bounds(node: &Node, key: &str, status: u16, kind: &str) {
    let answer = node.get("web", key);
    assert!(answer.took < Duration::from_secs(3), "{key}: {:?}", answer.took);
    let answer = answer.expect_error(status, kind);
    if kind == "value_too_large" {
        assert!(answer.text().contains(&LIMIT.to_string()), "it must name the limit: {}", answer.text());
    }
}

#[test]
fn a_value_of_exactly_the_limit_passes_locally_and_through_a_peer() {
    let origin = Origin::start();
    let fleet = Fleet::start(2, Membership::Peers, &options(&origin));
    for index in 0..6 {
        let key = format!("full {index}");
        let value = vec![b'0' + index; LIMIT];
        let behaviour =
            if index % 2 == 0 { Behaviour::Value(value.clone()) } else { Behaviour::Chunked(value.clone()) };
        origin.behave(key.clone(), behaviour);
        for node in fleet.iter() {
            assert!(node.get("web", &key).expect(200).body == value, "{key}");
        }
        assert_eq!(origin.requests(&key), 1);
    }
}

#[test]
fn a_file_over_the_limit_is_a_typed_error_that_names_it() {
    let directory = TempDir::new().expect("a directory");
    fs::write(directory.path().join("big"), vec![b'x'; LIMIT + 1]).expect("a file");
    fs::write(directory.path().join("full"), vec![b'x'; LIMIT]).expect("a file");
    let options = NodeOptions::new().directory(directory.path()).args(["--max-value", "64KiB"]);
    let node = Node::start(&options);
    let error = node.get("files", "big").expect_error(502, "value_too_large");
    assert!(error.text().contains(&LIMIT.to_string()), "{}", error.text());
    assert_eq!(node.get("files", "full").expect(200).body.len(), LIMIT);
}

#[test]
fn garbage_on_either_port_hurts_nobody() {
    let origin = Origin::start();
    let mut node = Node::start(&NodeOptions::new().group("web", &origin.url()));
    let peers: SocketAddr = node.addr().parse().expect("an address");
    let pid = node.pid();
    let preface: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    let all: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let headers = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(50_000));
    let attacks: Vec<Vec<u8>> = vec![
        Vec::new(),
        vec![0; 100_000],
        vec![0xFF; 100_000],
        all.clone(),
        b"GET / HTTP/1.1\r\nhost: h\r\n\r\n".to_vec(),
        b"GET /web/k HTTP/1.1\r\nhost: h\r\ncontent-length: -1\r\n\r\n".to_vec(),
        b"GET /web/k HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), // The start of a TLS handshake.
        headers.into_bytes(),
        preface.to_vec(),
        [preface, &all].concat(),
        [preface, settings, &all].concat(),
        // A frame that claims 16 MiB; a GOAWAY; HEADERS with a broken HPACK block; 10,000 pings; 10,000 resets of streams that are not there.
        [preface, settings, &[0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 1]].concat(),
        [preface, settings, &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]].concat(),
        [preface, settings, &[0, 0, 4, 1, 5, 0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF]].concat(),
        [preface, settings, &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8].repeat(10_000)].concat(),
        [preface, settings, &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8].repeat(10_000)].concat(),
    ];
    for attack in &attacks {
        for address in [node.http(), peers] {
            // Some end with an answer, some with a reset, some when our patience ends. What matters is the node.
            let _ = raw(address, attack, Duration::from_millis(150));
        }
    }
    // Connections that say nothing, or half of something, do not keep others out.
    let idle: Vec<TcpStream> = (0..200)
        .map(|index| {
            let mut stream =
                TcpStream::connect(if index % 2 == 0 { node.http() } else { peers }).expect("a connection");
            stream.write_all(if index % 4 < 2 { b"GET /web" } else { &preface[..10] }).expect("sent");
            stream
        })
        .collect();
    let answer = node.get("web", "still here").expect(200);
    assert!(answer.took < Duration::from_secs(2), "{:?}", answer.took);
    drop(idle);
    assert!(node.is_running() && node.pid() == pid);
    let _ = node.request("GET", "/-/healthz").expect(200);
    assert!(!node.log().contains("panicked"), "{}", node.log());
    a_peer_can_still_ask(&node, &origin);
}

/// The peer port took garbage too: another node that names this one as its peer must get this one's keys from it.
fn a_peer_can_still_ask(node: &Node, origin: &Origin) {
    let options = NodeOptions::new().fixed().group("web", &origin.url()).args(["--peers", node.addr()]);
    let other = Node::start(&options);
    let levels: Vec<String> = (0..20)
        .map(|index| other.get("web", &format!("asked {index}")).expect(200).level().to_owned())
        .collect();
    assert!(levels.iter().any(|level| level == "peer"), "{levels:?}");
}

#[test]
fn a_client_that_leaves_early_takes_nobody_with_it() {
    let origin = Origin::start();
    origin.set_delay(Duration::from_millis(400));
    let node = Node::start(&NodeOptions::new().group("web", &origin.url()));
    let address = node.http();
    let patient = thread::spawn(move || http::request(address, "GET", "/web/k"));
    for _ in 0..20 {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.write_all(b"GET /web/k HTTP/1.1\r\nhost: h\r\n\r\n").expect("sent");
    }
    let answer = patient.join().expect("no panic").expect("an answer").expect(200);
    assert_eq!(answer.body, value_of("k"));
    assert_eq!(node.get("web", "k").expect(200).level(), "hit");
    assert_eq!(origin.requests("k"), 1);
}
