//! The binary `groupcache` as a person runs it: its command line, its output, its exit codes, its signals.

#![cfg(all(unix, feature = "cli"))]
#![allow(missing_docs)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

fn groupcache(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_groupcache"));
    command.args(args).env_remove("RUST_LOG").env_remove("GROUPCACHE_NODE").stdin(Stdio::null());
    command
}

fn run(args: &[&str]) -> Output {
    groupcache(args).output().expect("runs")
}

/// A running node; killed when dropped.
struct Node {
    child: Child,
    /// `127.0.0.1:PORT` of the HTTP side.
    http: String,
    peers: String,
}

impl Node {
    /// Runs `groupcache serve` in `dir`, on free ports.
    fn serve(dir: &Path, args: &[&str]) -> Self {
        Self::serve_trusting(dir, args, None)
    }

    /// The same, with the certificates in the file `roots` trusted.
    fn serve_trusting(dir: &Path, args: &[&str], roots: Option<&Path>) -> Self {
        let mut child = groupcache(&["serve", "--addr", "127.0.0.1:0", "--http", "127.0.0.1:0"])
            .args(args)
            .current_dir(dir)
            .envs(roots.map(|roots| ("SSL_CERT_FILE", roots)))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("stdout")).read_line(&mut line).expect("a line");
        let addresses = line
            .trim_end()
            .strip_prefix("groupcache: serving http")
            .and_then(|line| line.strip_prefix("://").or_else(|| line.strip_prefix("s://")))
            .and_then(|line| line.strip_suffix(')'))
            .and_then(|line| line.split_once(" (peers at "));
        let (http, peers) = addresses.unwrap_or_else(|| panic!("unexpected line: {line:?}"));
        Self { child, http: http.to_owned(), peers: peers.to_owned() }
    }

    /// Runs a command against this node.
    fn run(&self, args: &[&str]) -> Output {
        groupcache(args).env("GROUPCACHE_NODE", format!("http://{}", self.http)).output().expect("runs")
    }

    /// The status and head of the answer to a GET, and its body; nothing when the node does not answer.
    fn http(&self, target: &str) -> Option<(String, Vec<u8>)> {
        http(&self.http, target)
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
    }

    fn exit_code(&mut self, within: Duration) -> i32 {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("waits") {
                return status.code().expect("an exit code, not a signal");
            }
            assert!(Instant::now() < deadline, "still running after {within:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn http(addr: &str, target: &str) -> Option<(String, Vec<u8>)> {
    let mut stream = TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream
        .write_all(format!("GET {target} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").as_bytes())
        .ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let body = bytes.split_off(end + 4);
    Some((String::from_utf8(bytes).ok()?, body))
}

/// An HTTP origin that says `answer` after `delay`, on every connection. It lives as long as the test process.
fn origin(answer: &'static str, delay: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let prefix = format!("http://{}/", listener.local_addr().expect("an address"));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut stream = stream;
                drop(stream.read(&mut [0; 4096]));
                thread::sleep(delay);
                drop(stream.write_all(answer.as_bytes()));
            });
        }
    });
    prefix
}

/// An HTTPS origin on localhost that says `answer`, and its certificate as PEM.
fn tls_origin(answer: &'static str) -> (String, String) {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = rustls::pki_types::PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key));
    let config = std::sync::Arc::new(config.expect("a configuration"));
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let prefix = format!("https://localhost:{}/", listener.local_addr().expect("an address").port());
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = rustls::ServerConnection::new(std::sync::Arc::clone(&config)).expect("TLS");
            let mut stream = rustls::StreamOwned::new(connection, stream);
            drop(stream.read(&mut [0; 4096]));
            drop(stream.write_all(answer.as_bytes()));
            stream.conn.send_close_notify();
            drop(stream.flush());
        }
    });
    (prefix, cert.pem())
}

fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !happened() {
        assert!(Instant::now() < deadline, "{what} did not happen within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn with_no_group_named_the_files_of_the_current_directory_come_back_byte_for_byte() {
    let dir = tempfile::tempdir().expect("a directory");
    let large: Vec<u8> = (0..3u32 << 20).map(|at| (at % 251) as u8).collect();
    let files: [(&str, &str, &[u8]); 4] = [
        ("empty", "empty", b""),
        ("large.bin", "large.bin", &large),
        ("name with spaces.txt", "name%20with%20spaces.txt", b"spaces"),
        ("имя-鍵.txt", "%D0%B8%D0%BC%D1%8F-%E9%8D%B5.txt", b"utf-8"),
    ];
    for (name, _, value) in files {
        fs::write(dir.path().join(name), value).expect("writes");
    }
    let node = Node::serve(dir.path(), &[]);
    for (name, encoded, value) in files {
        let (head, body) = node.http(&format!("/files/{encoded}")).expect("an answer");
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("x-groupcache: load"), "{name}: {head}");
        assert!(body == value, "{name}");
        let (head, body) = node.http(&format!("/files/{encoded}")).expect("an answer");
        assert!(head.contains("x-groupcache: hit"), "{name}: {head}");
        assert!(head.contains(&format!("x-groupcache-owner: {}", node.peers)), "{name}: {head}");
        assert!(body == value, "{name}");
        let got = node.run(&["get", "files", name]);
        assert!(got.status.success() && got.stdout == value && got.stderr.is_empty(), "{name}");
    }
}

#[test]
fn keys_never_escape_the_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().join("root");
    fs::create_dir(&root).expect("creates");
    fs::write(dir.path().join("secret"), "secret").expect("writes");
    std::os::unix::fs::symlink("../secret", root.join("link")).expect("links");
    let node = Node::serve(&root, &[]);
    for target in [
        "/files/../secret",
        "/files/%2e%2e/secret",
        "/files/%2e%2e%2fsecret",
        "/files//etc/passwd",
        "/files/%2fetc/passwd",
        "/files/link",
        "/files/a/../../secret",
        "/files/x%00",
    ] {
        let (head, body) = node.http(target).expect("an answer");
        assert!(head.starts_with("HTTP/1.1 400"), "{target}: {head}");
        assert!(text(&body).contains("\"invalid_key\""), "{target}");
    }
    let refused = node.run(&["get", "files", "../secret"]);
    assert_eq!(refused.status.code(), Some(3), "the client sends the key as it is");
    assert!(text(&refused.stderr).contains("invalid_key"), "{}", text(&refused.stderr));
}

#[test]
fn an_https_origin_is_asked_only_when_its_certificate_is_trusted() {
    let dir = tempfile::tempdir().expect("a directory");
    let (prefix, certificate) = tls_origin("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecure");
    let (group, roots) = (format!("web={prefix}"), dir.path().join("roots.pem"));
    fs::write(&roots, certificate).expect("writes");
    let trusting = Node::serve_trusting(dir.path(), &["--group", &group], Some(&roots));
    assert_eq!(trusting.run(&["get", "web", "key"]).stdout, b"secure");
    let wary = Node::serve(dir.path(), &["--group", &group]).run(&["get", "web", "key"]);
    assert_eq!(wary.status.code(), Some(3));
    assert!(text(&wary.stderr).contains("certificate"), "{}", text(&wary.stderr));
}

#[test]
fn exit_codes_say_what_kind_of_failure_it_was_and_stdout_stays_clean() {
    let dir = tempfile::tempdir().expect("a directory");
    let broken = origin("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", Duration::ZERO);
    let node = Node::serve(dir.path(), &["--group", &format!("web={broken}"), "--group", "files=file:."]);
    for (args, code, why) in [
        (&["get", "files", "missing"][..], 1, "not found"),
        (&["get", "nope", "key"], 3, "no_such_group"),
        (&["get", "web", "key"], 3, "500"),
        (&["get", "files"], 2, "<KEY>"),
        (&["get", "files", ""], 2, "value is required"),
        (&["get", "a/b", "key"], 2, "no `/`"),
        (&["get", "--node", "https://h", "files", "key"], 2, "--tls-ca"),
        (&["get", "--node", "127.0.0.1:1", "files", "key"], 3, "refused"),
        (&["fetch"], 2, "unrecognized subcommand"),
    ] {
        let output = node.run(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(why), "{args:?}: {said}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn a_removed_key_is_read_from_the_origin_again() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("key"), "old").expect("writes");
    let node = Node::serve(dir.path(), &[]);
    assert_eq!(node.run(&["get", "files", "key"]).stdout, b"old");
    fs::write(dir.path().join("key"), "new").expect("writes");
    assert_eq!(node.run(&["get", "files", "key"]).stdout, b"old", "immutable until removed");
    let removed = node.run(&["rm", "files", "key"]);
    assert!(removed.status.success(), "{}", text(&removed.stderr));
    assert_eq!(node.run(&["get", "files", "key"]).stdout, b"new");
}

#[test]
fn ring_and_stats_are_tables_or_the_nodes_own_json() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::serve(dir.path(), &["--weight", "2"]);
    let ring = text(&node.run(&["ring"]).stdout);
    assert!(ring.contains("slots/1") && ring.contains("100.0%  this node"), "{ring}");
    assert!(ring.contains(&node.peers), "{ring}");
    let stats = text(&node.run(&["stats"]).stdout);
    assert!(stats.contains("64.0 MiB"), "{stats}");
    for page in ["ring", "stats"] {
        let (_, body) = node.http(&format!("/-/{page}")).expect("an answer");
        assert_eq!(node.run(&[page, "--json"]).stdout, body);
    }
}

#[test]
fn a_ring_is_computed_without_a_node() {
    let output = run(&["ring", "--members", "a:1,b:1,c:1", "some key", "other"]);
    let lines = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        lines.starts_with("some key\t")
            && lines.lines().nth(1).is_some_and(|line| line.starts_with("other\t"))
    );
    assert_eq!(run(&["ring", "--members", "a:1", "--weights", "1,2", "k"]).status.code(), Some(2));
}

#[test]
fn a_value_over_the_limit_is_an_error_that_names_the_limit() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("big"), vec![0; 2000]).expect("writes");
    let node = Node::serve(dir.path(), &["--max-value", "1000B"]);
    let (head, body) = node.http("/files/big").expect("an answer");
    assert!(head.starts_with("HTTP/1.1 502"), "{head}");
    assert!(text(&body).contains("value_too_large") && text(&body).contains("1000"), "{}", text(&body));
}

#[test]
fn what_cannot_start_says_why() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("binds");
    let addr = taken.local_addr().expect("an address").to_string();
    for (args, code, why) in [
        (&["serve", "--addr", "127.0.0.1:0", "--http", &addr][..], 1, "cannot listen for HTTP on"),
        (&["serve", "--http", "127.0.0.1:0", "--addr", &addr], 1, "in use"),
        (&["serve", "--group", "f=file:/no/such/dir"], 1, "/no/such/dir"),
        (&["serve", "--group", "f=file:.", "--group", "f=file:."], 2, "given twice"),
        (&["serve", "--log", "no=such=level"], 2, "is not a filter"),
        (&["serve", "--tls-cert", "c.pem"], 2, "go together"),
        (&["serve", "--http-tls"], 2, "needs --tls-cert"),
        (&["serve", "--etcd-cert", "c.pem"], 2, "go together"),
        (&["serve", "--tls-cert", "c", "--tls-key", "k", "--tls-ca", "/no/such/ca"], 1, "/no/such/ca"),
        (&["serve", "--token-file", "/no/such/token"], 1, "/no/such/token"),
    ] {
        let output = run(args);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(why), "{args:?}: {said}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[cfg(not(feature = "etcd"))]
#[test]
fn a_build_without_etcd_says_how_to_get_one() {
    let output = run(&["serve", "--etcd", "http://127.0.0.1:2379"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("--features etcd") && said.contains("protobuf-compiler"), "{said}");
}

#[test]
fn a_signal_stops_in_order_what_is_in_progress_is_finished_first() {
    for signal in ["TERM", "INT"] {
        let dir = tempfile::tempdir().expect("a directory");
        let slow = origin("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nslow", Duration::from_millis(1000));
        let mut node = Node::serve(dir.path(), &["--group", &format!("web={slow}"), "--drain", "10s"]);
        let addr = node.http.clone();
        let client = thread::spawn(move || http(&addr, "/web/key"));
        wait_for("the load", || {
            node.http("/-/stats").is_some_and(|(_, body)| text(&body).contains("\"loads\":1"))
        });
        node.signal(signal);
        wait_for("not ready", || {
            node.http("/-/readyz").is_some_and(|(head, _)| head.starts_with("HTTP/1.1 503"))
        });
        assert_eq!(node.exit_code(PATIENCE), 0, "{signal}");
        let (head, body) = client.join().expect("joins").expect("an answer");
        assert!(head.starts_with("HTTP/1.1 200") && body == b"slow", "{signal}: {head}");
    }
}

#[test]
fn over_https_and_with_a_token_every_command_works_and_without_either_none_does() {
    let dir = tempfile::tempdir().expect("a directory");
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(names).expect("a certificate");
    let file = |name: &str, text: &str| {
        fs::write(dir.path().join(name), text).expect("a file");
        dir.path().join(name).to_str().expect("UTF-8").to_owned()
    };
    let (cert, key) = (file("node.pem", &cert.pem()), file("node.key", &signing_key.serialize_pem()));
    let (token, other) = (file("token", "0123456789abcdef\n"), file("other", "fedcba9876543210\n"));
    file("value", "what is in the file");
    let tls = ["--tls-cert", &cert, "--tls-key", &key, "--tls-ca", &cert, "--http-tls"];
    let mut node = Node::serve(dir.path(), &[&tls[..], &["--token-file", &token]].concat());
    let url = format!("https://{}", node.http);
    let ask = |args: &[&str], with: &[&str]| {
        groupcache(&[args, with].concat()).env("GROUPCACHE_NODE", &url).output().expect("runs")
    };
    let with = ["--tls-ca", &cert, "--token-file", &token];
    let get = ["get", "files", "value"];
    assert_eq!(text(&ask(&get, &with).stdout), "what is in the file");
    for args in [&["stats"][..], &["ring"], &["rm", "files", "value"]] {
        let output = ask(args, &with);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
    }
    // It reads its files again, and lives on.
    node.signal("HUP");
    for (with, code, why) in [
        (&["--tls-ca", &cert][..], 3, "a token is wanted"),
        (&["--tls-ca", &cert, "--token-file", &other], 3, "none of this node's"),
        (&["--token-file", &token], 2, "--tls-ca"),
        (
            &["--tls-ca", &cert, "--token-file", &token, "--node", &format!("http://{}", node.http)],
            3,
            "cannot talk",
        ),
    ] {
        let output = ask(&get, with);
        assert_eq!(output.status.code(), Some(code), "{with:?}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains(why), "{with:?}: {}", text(&output.stderr));
    }
    assert!(ask(&get, &with).status.success());
    file("token", "fedcba9876543210\n");
    node.signal("HUP");
    wait_for("a token of now", || ask(&get, &with).status.success());
    assert!(
        node.http("/files/value").is_none_or(|(head, _)| !head.starts_with("HTTP/1.1 200")),
        "plain text"
    );
    node.signal("TERM");
    assert_eq!(node.exit_code(PATIENCE), 0);
}

#[test]
fn a_second_signal_stops_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let stuck = origin("", Duration::from_secs(60));
    let group = format!("web={stuck}");
    let mut node = Node::serve(
        dir.path(),
        &["--group", &group, "--drain", "60s", "--load-timeout", "60s", "--origin-stall", "60s"],
    );
    let addr = node.http.clone();
    thread::spawn(move || http(&addr, "/web/key"));
    wait_for("the load", || {
        node.http("/-/stats").is_some_and(|(_, body)| text(&body).contains("\"loads\":1"))
    });
    node.signal("TERM");
    wait_for("not ready", || {
        node.http("/-/readyz").is_some_and(|(head, _)| head.starts_with("HTTP/1.1 503"))
    });
    node.signal("TERM");
    assert_eq!(node.exit_code(Duration::from_secs(5)), 0);
}

#[test]
fn help_teaches_by_example() {
    for args in [&["--help"][..], &["serve", "--help"], &["get", "--help"], &["ring", "--help"]] {
        let output = run(args);
        assert!(output.status.success(), "{args:?}");
        assert!(text(&output.stdout).contains("groupcache "), "{args:?}");
    }
    let serve = text(&run(&["serve", "--help"]).stdout);
    for word in ["--etcd", "[default: 64MiB]", "file:DIR", "/-/readyz", "SIGTERM"] {
        assert!(serve.contains(word), "{word}");
    }
}
