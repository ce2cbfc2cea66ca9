//! A fleet on a network that others are on too: TLS and tokens, with real processes and a real etcd.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use authority::{Authority, Identity};
use groupcache_runtime::{Security, Tls, TlsConfig};
use groupcache_tests::http::{self, Client};
use groupcache_tests::{
    Etcd, EtcdTls, Load, Node, NodeOptions, Origin, Signal, ensure, groupcache, poll_until, value_of,
    wait_connected,
};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;

#[path = "../../runtime/tests/support/authority.rs"]
mod authority;

const HOST: &str = "127.0.0.1";
/// For what should happen at once, on a machine with more to do.
const SOON: Duration = Duration::from_secs(20);

/// A directory of files, each written anew in one step.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().expect("a directory"))
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let (next, path) = (self.0.path().join("next"), self.path(name));
        fs::write(&next, text).expect("a file");
        fs::rename(next, &path).expect("it takes the place of the one before");
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn put_identity(&self, Identity { chain, key }: &Identity) {
        self.put("node.pem", chain);
        self.put("node.key", key);
    }

    fn put_roots(&self, roots: &[&Authority]) {
        self.put("ca.pem", &roots.iter().map(|root| root.pem()).collect::<String>());
    }

    /// `--flag FILE`, for each.
    fn args(&self, flags: &[(&str, &str)]) -> Vec<String> {
        let path = |name| self.path(name).to_str().expect("UTF-8").to_owned();
        flags.iter().flat_map(|(flag, name)| [format!("--{flag}"), path(name)]).collect()
    }
}

/// The files of one member with a certificate of `authority`, which it trusts, and how it is started with them.
fn member(authority: &Authority, etcds: &Authority, etcd: &Etcd, origin: &Origin) -> (Files, NodeOptions) {
    let files = Files::new();
    files.put_roots(&[authority]);
    files.put_identity(&authority.sign(HOST));
    files.put("etcd-ca.pem", &etcds.pem());
    files.put("token", "the-token-of-the-fleet\n");
    files.put("password", "s3cret-of-etcd\n");
    let tls = [("tls-cert", "node.pem"), ("tls-key", "node.key"), ("tls-ca", "ca.pem")];
    let of_etcd = [("etcd-cert", "node.pem"), ("etcd-key", "node.key"), ("etcd-ca", "etcd-ca.pem")];
    let secrets = [("token-file", "token"), ("etcd-password-file", "password")];
    let options = NodeOptions::new()
        .fixed()
        .group("web", &origin.url())
        .args(files.args(&[&tls[..], &of_etcd, &secrets].concat()))
        .args(["--etcd", &etcd.url(), "--etcd-user", "node", "--token-for", "writes"])
        .args(["--reload-interval", "100ms"]);
    (files, options)
}

/// Connects as a peer with this, and says from where.
fn knock_with(tls: &Tls, addr: &str) -> SocketAddr {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(addr).await.expect("it listens");
        let from = stream.local_addr().expect("it is connected");
        // Whoever connects may have finished before it is refused.
        drop(tls.connect(addr, Box::new(TokioIo::new(stream))).await);
        from
    })
}

fn knock_in_plain_text(addr: &str) -> SocketAddr {
    let mut stream = TcpStream::connect(addr).expect("it listens");
    stream.set_read_timeout(Some(SOON)).expect("a limit");
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").expect("it is taken");
    let from = stream.local_addr().expect("it is connected");
    let mut answer = Vec::new();
    drop(stream.read_to_end(&mut answer));
    assert!(answer.len() < 10, "an alert, and nothing else: {answer:?}");
    from
}

fn strangers_are_refused(node: &Node, authority: &Authority) {
    let foreign = Authority::new();
    let roots = Files::new();
    let nobody = TlsConfig::from_pem_roots(roots.put("ca.pem", &authority.pem())).and_then(TlsConfig::build);
    let nobody = nobody.expect("roots are enough to connect");
    for (from, reason) in [
        (knock_with(&nobody, node.addr()), "sent no certificate"),
        (
            knock_with(&authority.tls(&foreign.sign(HOST)), node.addr()),
            "cannot be trusted: invalid peer certificate: BadSignature",
        ),
        (knock_with(&authority.tls(&authority.sign_until(HOST, 2001)), node.addr()), "expired"),
        (knock_in_plain_text(node.addr()), "plain text"),
    ] {
        node.wait_log(&["WARN", "refused a connection", &format!("from={from}"), reason], SOON);
    }
}

/// Reads through all of them, and counts.
fn read_through(nodes: &[SocketAddr], count: &Arc<AtomicUsize>) -> Load {
    let (nodes, count) = (nodes.to_vec(), Arc::clone(count));
    Load::start(3, Duration::from_millis(2), move |index| {
        let (mut client, count) = (Client::new(nodes[index % nodes.len()]), Arc::clone(&count));
        move || {
            let key = format!("{index}/{}", count.fetch_add(1, Ordering::SeqCst) % 50);
            let answer = client.get("web", &key).map_err(|error| error.to_string())?;
            ensure(answer.status == 200 && answer.body == value_of(&key), || {
                format!("{key}: {} {}", answer.status, answer.text())
            })
        }
    })
}

#[test]
fn a_fleet_under_tls_refuses_strangers_and_takes_new_certificates_under_load() {
    let (old, new, origin) = (Authority::new(), Authority::new(), Origin::start());
    let of_etcd = Files::new();
    // It is not the fleet's: it trusts both authorities, and is by the old one, throughout.
    of_etcd.put_roots(&[&old, &new]);
    of_etcd.put_identity(&old.sign(HOST));
    let [ca, cert, key] = ["ca.pem", "node.pem", "node.key"].map(|name| of_etcd.path(name));
    let etcd = Etcd::start_secured(EtcdTls { ca, cert, key });
    etcd.ask_for_user("node", "s3cret-of-etcd");
    let members: Vec<_> = (0..3).map(|_| member(&old, &old, &etcd, &origin)).collect();
    let mut nodes: Vec<Node> = members.iter().map(|(_, options)| Node::spawn(options)).collect();
    wait_connected(&nodes.iter().collect::<Vec<_>>(), SOON);
    strangers_are_refused(&nodes[0], &old);

    let sides: Vec<SocketAddr> = nodes.iter().map(Node::http).collect();
    let count = Arc::new(AtomicUsize::new(0));
    let load = read_through(&sides, &count);
    // The leaf; then both authorities, the leaf by the new one, and the new authority alone.
    let steps: [(&[&Authority], &Authority); 4] =
        [(&[&old], &old), (&[&old, &new], &old), (&[&old, &new], &new), (&[&new], &new)];
    for (step, (roots, signer)) in (1..).zip(steps) {
        for ((files, _), node) in members.iter().zip(&mut nodes) {
            files.put_roots(roots);
            files.put_identity(&signer.sign(HOST));
            if step == 1 {
                node.signal(Signal::Hangup);
                node.wait_log(&["SIGHUP"], SOON);
            }
        }
        for node in &nodes {
            poll_until("new certificates", SOON, || {
                let read = node.whole_log().matches("certificates were read anew").count();
                ensure(read >= 2 * step, || node.log())
            });
        }
        let before = count.load(Ordering::SeqCst);
        poll_until("gets with the new certificates", SOON, || {
            ensure(count.load(Ordering::SeqCst) >= before + 30, || "there are none".to_owned())
        });
    }
    let (_files, options) = member(&new, &old, &etcd, &origin);
    let fourth = Node::spawn(&options);
    wait_connected(&nodes.iter().chain([&fourth]).collect::<Vec<_>>(), SOON);
    let from = knock_with(&new.tls(&old.sign(HOST)), nodes[1].addr());
    nodes[1].wait_log(&["refused a connection", &format!("from={from}"), "BadSignature"], SOON);
    let samples = load.finish();
    let failed: Vec<_> = samples.iter().filter_map(|sample| sample.failure.as_ref()).collect();
    assert!(failed.is_empty() && samples.len() >= 120, "{} gets, of which failed: {failed:?}", samples.len());

    removal_takes_a_token(&nodes[0], &members[0].0);
    for node in nodes.iter().chain([&fourth]) {
        let log = node.whole_log();
        for secret in ["s3cret-of-etcd", "the-token-of-the-fleet", "plain text to anybody"] {
            assert!(!log.contains(secret), "{log}");
        }
    }
}

fn removal_takes_a_token(node: &Node, files: &Files) {
    let target = http::path("web", "removed");
    let _ = node.request("GET", &target).expect(200);
    let _ = node.request("DELETE", &target).expect_error(401, "no_token");
    let wrong = Client::new(node.http()).with_token("the-token-of-another-fleet").request("DELETE", &target);
    let _ = wrong.expect("an answer").expect_error(401, "unknown_token");
    let url = format!("http://{}", node.http());
    let args = files.args(&[("token-file", "token")]);
    let removed =
        run(&[&["rm".to_owned(), "--node".to_owned(), url], &args[..], &["web".into(), "removed".into()]]
            .concat());
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
}

fn run<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Output {
    let mut command = Command::new(groupcache());
    command.args(args).env_remove("RUST_LOG").output().expect("the binary runs")
}

/// Every secret that a node may come to know.
const SECRETS: [&str; 4] =
    ["s3cret-of-etcd", "s3cret-of-the-origin", "s3cret-token-of-all", "s3cret-of-a-stranger"];

fn assert_silent(what: &str, said: &str, key: &str) {
    for secret in SECRETS.into_iter().chain([key]) {
        if let Some(line) = said.lines().find(|line| line.contains(secret)) {
            panic!("{what} shows {secret}: {line}");
        }
    }
}

#[test]
fn secrets_are_in_no_log_at_any_level_and_in_no_error_and_no_help() {
    let (authority, etcd, origin, files) = (Authority::new(), Etcd::start(), Origin::start(), Files::new());
    etcd.ask_for_user("node", "s3cret-of-etcd");
    let identity = authority.sign(HOST);
    let key = identity.key.lines().nth(1).expect("a line of base64").to_owned();
    files.put_roots(&[&authority]);
    files.put_identity(&identity);
    files.put("token", SECRETS[2]);
    files.put("password", SECRETS[0]);
    let group = origin.url().replacen("http://", "http://somebody:s3cret-of-the-origin@", 1);
    let flags = [("tls-cert", "node.pem"), ("tls-key", "node.key"), ("tls-ca", "ca.pem")];
    let flags = [&flags[..], &[("token-file", "token"), ("etcd-password-file", "password")]].concat();
    let options = || {
        let options = NodeOptions::new().fixed().group("web", &group).args(files.args(&flags));
        options.args(["--etcd", &etcd.url(), "--etcd-user", "node", "--log", "trace"])
    };
    let nodes = [Node::spawn(&options()), Node::spawn(&options())];
    let mut clients = nodes.each_ref().map(|node| Client::new(node.http()).with_token(SECRETS[2]));
    poll_until("a fleet of two", SOON, || {
        let ring = clients[0].request("GET", "/-/ring").map_err(|error| error.to_string())?.text();
        ensure(ring.matches("\"up\":true").count() == 2, || ring)
    });
    for (index, client) in clients.iter_mut().enumerate() {
        for number in 0..10 {
            let answer = client.get("web", &format!("{index}/{number}")).expect("an answer").expect(200);
            assert!(["peer", "load"].contains(&answer.level()));
        }
        let _ = client.request("DELETE", &http::path("web", "0/0")).expect("an answer").expect(200);
    }
    let mut stranger = Client::new(nodes[0].http()).with_token(SECRETS[3]);
    let said = stranger.get("web", "x").expect("an answer").expect_error(401, "unknown_token").text();
    assert_silent("an answer", &said, &key);
    for node in &nodes {
        let log = node.whole_log();
        assert!(log.contains("TRACE") && log.contains("DEBUG"), "{}", node.log());
        assert_silent("a log", &log, &key);
    }
    secrets_are_not_said_to_who_makes_a_mistake(&group, &files, &key);
}

fn secrets_are_not_said_to_who_makes_a_mistake(group: &str, files: &Files, key: &str) {
    let settings = files.put("groupcache.toml", &format!("group = [\"web={group}\"]\nttl = \"1m\"\n"));
    let mistaken = files.put(
        "mistaken.toml",
        &format!("group = [\"web={group}?query\"]\netcd = [\"http://n:{}@h\"]\n", SECRETS[0]),
    );
    let with_file = |path: &Path| vec!["check".to_owned(), path.to_str().expect("UTF-8").to_owned()];
    let wrong =
        files.put("wrong", &format!("{} with spaces", SECRETS[2])).to_str().expect("UTF-8").to_owned();
    let serve =
        |more: &[&str]| [&["serve"], more].concat().iter().map(ToString::to_string).collect::<Vec<_>>();
    for (args, expected) in [
        (with_file(&settings), "web="),
        (with_file(&mistaken), "takes no query"),
        (serve(&["--help"]), "--token-file"),
        (serve(&["--group", &format!("web={group}?query")]), "takes no query"),
        (serve(&["--token-file", &wrong]), "visible ASCII"),
        (serve(&["--etcd", &format!("http://n:{}@127.0.0.1:1", SECRETS[0])]), "user name"),
        (serve(&["--tls-cert", &wrong, "--tls-key", &wrong, "--tls-ca", &wrong]), "certificate"),
    ] {
        let output = Command::new(groupcache())
            .args(&args)
            .env("GROUPCACHE_GROUP", format!("web={group}"))
            .env("GROUPCACHE_NODE", format!("http://n:{}@h/", SECRETS[3]))
            .env("RUST_LOG", "trace")
            .output()
            .expect("the binary runs");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains(expected), "{args:?} says: {said}");
        assert_silent(&format!("{args:?}"), &said, key);
    }
}

#[test]
fn who_listens_beyond_this_machine_is_told_what_anybody_can_do_there_and_how_to_keep_them_from_it() {
    let (authority, files) = (Authority::new(), Files::new());
    files.put_roots(&[&authority]);
    files.put_identity(&authority.sign(HOST));
    files.put("token", "the-token-of-the-fleet");
    let tls = files.args(&[("tls-cert", "node.pem"), ("tls-key", "node.key"), ("tls-ca", "ca.pem")]);
    let token = files.args(&[("token-file", "token")]);
    let peers = ["WARN", "peers are spoken to in plain text", "--tls-cert"];
    let clients = ["WARN", "plain text to anybody", "--http-tls and --token-file"];
    let on_the_way = ["WARN", "tokens can be read on their way", "--http-tls"];
    let expected: [(_, &[[&str; 3]]); 4] = [
        (NodeOptions::new(), &[]),
        (NodeOptions::new().everywhere(), &[peers, clients]),
        (NodeOptions::new().everywhere().args(&token), &[peers, on_the_way]),
        (NodeOptions::new().everywhere().args(&tls), &[clients]),
    ];
    let nodes = expected.map(|(options, lines)| (Node::start(&options), lines));
    for (node, lines) in &nodes {
        let log = node.whole_log();
        assert_eq!(log.matches("WARN").count(), lines.len(), "{log}");
        for line in *lines {
            node.wait_log(line, SOON);
        }
    }
}
