//! The HTTP side over real sockets, spoken to byte by byte.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use groupcache_runtime::{Loaded, RetrieveError};
use groupcache_tokio::{Server, Tokens};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::{Front, Limits, serve};
use crate::head::Head;
use crate::metrics::Exporter;

const PATIENCE: Duration = Duration::from_secs(20);

/// What the origin of group `g` gives: it depends on the key.
async fn load(key: String) -> Result<Loaded, RetrieveError> {
    match key.as_str() {
        "missing" => Err(RetrieveError::not_found()),
        "broken" => Err(RetrieveError::from(std::io::Error::other("disk on fire"))),
        "odd" => Err(RetrieveError::invalid_key("odd keys are not kept")),
        "huge" => Err(RetrieveError::too_large(1000)),
        "empty" => Ok(Loaded::from("")),
        "page" => Ok(page()),
        "large" => Ok(Loaded::from(pattern(15 << 20))),
        "late" => {
            tokio::time::sleep(Duration::from_millis(500)).await;
            Ok(Loaded::from("late"))
        }
        "never" => std::future::pending().await,
        _ => Ok(Loaded::from(format!("<{key}>"))),
    }
}

/// A value with all that an origin says of one, for a minute.
fn page() -> Loaded {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("content-type", "text/html"),
        ("content-language", "en"),
        ("etag", "\"1\""),
        ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("cache-control", "max-age=60"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    let mut head = Head::of(&headers);
    (head.kept, head.age) = (Some(Duration::from_secs(60)), Duration::from_secs(7));
    let loaded = Loaded::with_meta(b"0123456789", &head.to_meta()).expect("it fits");
    loaded.with_ttl(Duration::from_secs(60))
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

/// A node with one group, `g`, and its HTTP side.
struct Node {
    addr: SocketAddr,
    server: Server,
    front: Arc<Front>,
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Node {
    async fn joined() -> Self {
        let node = Self::new(Limits::default()).await;
        node.server.start().await.expect("starts");
        node
    }

    async fn new(limits: Limits) -> Self {
        Self::guarded(limits, None).await
    }

    async fn guarded(limits: Limits, tokens: Option<Tokens>) -> Self {
        let exporter = Exporter::new().expect("good buckets");
        let builder = exporter.record(Server::builder()).addr("127.0.0.1:0");
        let builder = builder.load_timeout(Duration::from_secs(2)).hot_keys(1);
        let server = builder.build().expect("a server");
        server.new_group("g", load).expect("a group");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let front = Arc::new(Front::new(server.clone(), exporter).with_tokens(tokens));
        let (end, ended) = oneshot::channel::<()>();
        let ended = async { drop(ended.await) };
        let task = tokio::spawn(serve(listener, Arc::clone(&front), limits, PATIENCE, ended));
        Self { addr, server, front, end, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.expect("connects")
    }

    async fn ask(&self, method: &str, target: &str) -> Answer {
        self.ask_with(method, target, "").await
    }

    /// `fields` have a line end each.
    async fn ask_with(&self, method: &str, target: &str, fields: &str) -> Answer {
        let mut stream = self.connect().await;
        let head = format!("{method} {target} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n{fields}\r\n");
        stream.write_all(head.as_bytes()).await.expect("sends");
        Answer::read(stream).await
    }

    async fn get(&self, target: &str) -> Answer {
        self.ask("GET", target).await
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    /// Reads until the other side closes.
    async fn read(mut stream: TcpStream) -> Self {
        let mut bytes = Vec::new();
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes))
            .await
            .expect("in time")
            .expect("reads");
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head");
        let body = bytes.split_off(end + 4);
        let head = String::from_utf8(bytes).expect("text").to_lowercase();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Self { status, head, body }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| line.starts_with(&format!("{name}: ")))?;
        line.split_once(": ").map(|(_, value)| value)
    }

    fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{}", self.head);
        let line = self.body.strip_suffix(b"\n").expect("a line");
        assert!(!line.contains(&b'\n'), "one line");
        serde_json::from_slice(line).expect("JSON")
    }

    fn error(&self) -> (u16, String) {
        (self.status, self.json()["error"].as_str().expect("a kind").to_owned())
    }
}

#[tokio::test]
async fn a_value_says_where_it_came_from_and_whose_it_is() {
    let node = Node::joined().await;
    let cold = node.get("/g/key").await;
    assert_eq!((cold.status, cold.body.as_slice()), (200, b"<key>".as_slice()));
    assert_eq!(cold.header("x-groupcache"), Some("load"));
    assert_eq!(cold.header("content-length"), Some("5"));
    assert_eq!(cold.header("content-type"), Some("application/octet-stream"));
    assert_eq!(cold.header("x-groupcache-owner"), Some(node.server.addr().as_str()));
    let warm = node.get("/g/key").await;
    assert_eq!((warm.header("x-groupcache"), warm.body.as_slice()), (Some("hit"), b"<key>".as_slice()));
}

#[tokio::test]
async fn values_of_every_size_are_whole_and_head_sends_none_of_them() {
    let node = Node::joined().await;
    let empty = node.get("/g/empty").await;
    assert_eq!((empty.status, empty.header("content-length"), empty.body.len()), (200, Some("0"), 0));
    assert!(node.get("/g/large").await.body == pattern(15 << 20));
    let head = node.ask("HEAD", "/g/large").await;
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("15728640"), 0));
    assert_eq!(head.header("x-groupcache"), Some("hit"));
}

#[tokio::test]
async fn a_value_is_served_with_what_its_origin_says_of_it_and_with_its_age() {
    let node = Node::joined().await;
    for level in ["load", "hit"] {
        let page = node.get("/g/page").await;
        assert_eq!((page.status, page.header("x-groupcache")), (200, Some(level)));
        for (name, value) in [
            ("content-type", "text/html"),
            ("content-language", "en"),
            ("etag", "\"1\""),
            ("last-modified", "sun, 06 nov 1994 08:49:37 gmt"),
            ("cache-control", "max-age=60"),
            ("accept-ranges", "bytes"),
            ("x-content-type-options", "nosniff"),
            ("content-security-policy", "sandbox"),
        ] {
            assert_eq!(page.header(name), Some(value), "{}", page.head);
        }
        let age: u64 = page.header("age").and_then(|age| age.parse().ok()).expect("an age");
        assert!((7..67).contains(&age), "{age}");
    }
    let plain = node.get("/g/plain").await;
    assert_eq!((plain.header("age"), plain.header("cache-control")), (None, None), "nothing is known of it");
    for target in ["/g/missing", "/-/healthz", "/nothing"] {
        assert_eq!(node.get(target).await.header("x-content-type-options"), Some("nosniff"), "{target}");
    }
}

#[tokio::test]
async fn who_has_the_value_is_told_so_without_it() {
    let node = Node::joined().await;
    let conditions = [
        "if-none-match: \"0\", w/\"1\"",
        "if-none-match: W/\"1\"",
        "if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT",
    ];
    for (condition, status) in conditions.iter().zip([200, 304, 304]) {
        for method in ["GET", "HEAD"] {
            let answer = node.ask_with(method, "/g/page", &format!("{condition}\r\n")).await;
            assert_eq!(answer.status, status, "{condition}");
            assert_eq!(answer.header("etag"), Some("\"1\""), "{condition}");
            assert_eq!(answer.header("cache-control"), Some("max-age=60"), "{condition}");
            if status == 304 {
                assert_eq!((answer.body.len(), answer.header("content-type")), (0, None), "{}", answer.head);
                assert!(answer.header("x-groupcache").is_some() && answer.header("content-length").is_none());
            }
        }
    }
    let failed = node.ask_with("GET", "/g/page", "if-match: \"2\"\r\n").await;
    assert_eq!((failed.status, failed.body.len(), failed.header("content-length")), (412, 0, Some("0")));
}

#[tokio::test]
async fn a_part_of_a_value_is_what_was_asked_for_and_nothing_of_what_is_not_there() {
    let node = Node::joined().await;
    let ask = async |fields: &str| node.ask_with("GET", "/g/page", fields).await;
    let part = ask("range: bytes=2-4\r\n").await;
    assert_eq!(
        (part.status, part.body.as_slice(), part.header("content-length")),
        (206, &b"234"[..], Some("3"))
    );
    assert_eq!(
        (part.header("content-range"), part.header("content-type")),
        (Some("bytes 2-4/10"), Some("text/html"))
    );
    let same = ask("range: bytes=-2\r\nif-range: \"1\"\r\n").await;
    assert_eq!((same.status, same.body.as_slice()), (206, &b"89"[..]));
    for whole in
        ["range: bytes=2-4\r\nif-range: \"2\"\r\n", "range: bytes=0-1,4-5\r\n", "range: lines=1-2\r\n"]
    {
        let answer = ask(whole).await;
        assert_eq!((answer.status, answer.body.len()), (200, 10), "{whole}");
    }
    let beyond = ask("range: bytes=10-\r\n").await;
    assert_eq!((beyond.status, beyond.body.len()), (416, 0));
    assert_eq!((beyond.header("content-range"), beyond.header("content-type")), (Some("bytes */10"), None));
    let head = node.ask_with("HEAD", "/g/page", "range: bytes=2-4\r\n").await;
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("10")),
        "a range is for a GET to ask"
    );
    let large = node.ask_with("GET", "/g/large", "range: bytes=100-10000099\r\n").await;
    assert!(large.status == 206 && large.body == pattern(15 << 20)[100..10_000_100]);
}

#[tokio::test]
async fn the_key_is_the_raw_rest_of_the_path_decoded_once() {
    let node = Node::joined().await;
    for (target, key) in [
        ("/g/../../etc/passwd", "../../etc/passwd"),
        ("/g/%2e%2e/x", "../x"),
        ("/g/a%252fb", "a%2fb"),
        ("/g/a//b/", "a//b/"),
        ("/g/a%20b%3Fc", "a b?c"),
        ("/g/%D1%84", "ф"),
    ] {
        let answer = node.get(target).await;
        assert_eq!(answer.status, 200, "{target}");
        assert_eq!(String::from_utf8(answer.body).unwrap(), format!("<{key}>"), "{target}");
    }
}

#[tokio::test]
async fn an_error_has_the_status_of_its_kind_and_one_line_that_says_why() {
    let node = Node::joined().await;
    for (target, status, kind, why) in [
        ("/g/missing", 404, "not_found", "not found"),
        ("/nope/key", 404, "no_such_group", "`nope`"),
        ("/g/odd", 400, "invalid_key", "odd keys are not kept"),
        ("/g/", 400, "invalid_key", "empty"),
        ("/g", 400, "invalid_key", "empty"),
        ("/g/%ff", 400, "invalid_key", "UTF-8"),
        ("/g/key?x=1", 400, "invalid_key", "%3F"),
        ("/g/broken", 502, "origin_failed", "disk on fire"),
        ("/g/huge", 502, "value_too_large", "1000"),
        ("/g/never", 504, "deadline", ""),
        ("//", 404, "no_such_path", "/GROUP/KEY"),
        ("/-/why/nope/key", 404, "no_such_group", "`nope`"),
        ("/-/why/g/", 400, "invalid_key", "/-/why/GROUP/KEY"),
        ("/-/nothing", 404, "no_such_path", "/-/healthz"),
    ] {
        let answer = node.get(target).await;
        assert_eq!(answer.error(), (status, kind.to_owned()), "{target}");
        let message = answer.json()["message"].as_str().expect("a message").to_owned();
        assert!(message.contains(why), "{target}: {message}");
    }
    assert!(node.get("/g/missing").await.header("x-groupcache-owner").is_some(), "also on errors");
    for (method, target, allow) in [
        ("POST", "/g/key", "get, head, delete"),
        ("PUT", "/nope/key", "get, head, delete"),
        ("DELETE", "/-/stats", "get, head"),
        ("DELETE", "/-/why/g/key", "get, head"),
        ("POST", "/", "get, head"),
    ] {
        let answer = node.ask(method, target).await;
        assert_eq!(answer.error(), (405, "method_not_allowed".to_owned()), "{method} {target}");
        assert_eq!(answer.header("allow"), Some(allow));
    }
}

#[tokio::test]
async fn a_deleted_key_is_loaded_again() {
    let node = Node::joined().await;
    node.get("/g/key").await;
    let deleted = node.ask("DELETE", "/g/key").await;
    assert_eq!(deleted.status, 200);
    assert_eq!(deleted.json(), serde_json::json!({ "removed": true, "unacknowledged": [] }));
    assert_eq!(node.get("/g/key").await.header("x-groupcache"), Some("load"));
}

#[tokio::test]
async fn a_node_is_ready_from_when_it_has_joined_until_it_stops_and_healthy_throughout() {
    let node = Node::new(Limits::default()).await;
    assert_eq!(node.get("/-/readyz").await.error(), (503, "joining".to_owned()));
    assert_eq!(node.get("/-/healthz").await.status, 200);
    node.server.start().await.expect("starts");
    assert_eq!(node.get("/-/readyz").await.status, 200);
    node.front.say_stopping();
    assert_eq!(node.get("/-/readyz").await.error(), (503, "stopping".to_owned()));
    assert_eq!(node.get("/-/healthz").await.status, 200);
}

#[tokio::test]
async fn the_nodes_pages_are_json() {
    let node = Node::joined().await;
    node.get("/g/key").await;
    let stats = node.get("/-/stats").await.json();
    assert_eq!((&stats["gets"], &stats["loads"]), (&1.into(), &1.into()), "{stats}");
    let ring = node.get("/-/ring").await.json();
    assert_eq!(ring["placement"], "slots/1");
    assert_eq!(ring["members"][0]["name"], node.server.addr(), "{ring}");
    assert_eq!(ring["members"][0]["me"], true, "{ring}");
}

#[tokio::test]
async fn a_key_is_explained_before_it_is_asked_for_and_after_and_that_counts_as_no_look_up() {
    let node = Node::joined().await;
    let fresh = node.get("/-/why/g/a/key").await.json();
    let addr = node.server.addr();
    assert_eq!(
        (&fresh["group"], &fresh["key"], &fresh["owned_here"]),
        (&"g".into(), &"a/key".into(), &true.into())
    );
    assert_eq!((&fresh["owner"], &fresh["node"]), (&addr.as_str().into(), &addr.as_str().into()), "{fresh}");
    assert!(fresh["kept"].is_null() && fresh["flight"].is_null() && fresh["last"].is_null(), "{fresh}");

    node.get("/g/a/key").await;
    let kept = node.get("/-/why/g/a/key").await.json();
    assert_eq!((&kept["kept"]["share"], &kept["kept"]["bytes"]), (&"main".into(), &7.into()), "{kept}");
    assert!(kept["kept"]["ttl_ms"].is_null() && kept["kept"]["age_ms"].is_u64(), "{kept}");
    assert_eq!(kept["last"]["what"], "value");

    node.get("/g/missing").await;
    let missing = node.get("/-/why/g/missing").await.json();
    assert_eq!(
        (&missing["kept"]["share"], &missing["last"]["what"]),
        (&"negative".into(), &"not_found".into())
    );
    assert!(missing["kept"]["age_at_most_ms"].as_u64().is_some_and(|age| age < 1_000), "{missing}");
    assert_eq!(missing["errors"], serde_json::json!([]), "not found is an answer");

    node.get("/g/broken").await;
    let broken = node.get("/-/why/g/broken").await.json();
    assert_eq!((&broken["kept"], &broken["last"]["what"]), (&Value::Null, &"origin_failed".into()));
    assert!(
        broken["errors"][0]["text"].as_str().is_some_and(|text| text.contains("disk on fire")),
        "{broken}"
    );
    assert_eq!(node.get("/-/stats").await.json()["gets"], 3, "three were asked for");
}

#[tokio::test]
async fn one_look_shows_the_node_at_work() {
    let node = Node::joined().await;
    for key in ["a", "a", "a", "b", "broken", "broken", "%3Cimg%20src=x%20onerror=alert(1)%3E"] {
        node.get(&format!("/g/{key}")).await;
    }
    let mut waits = node.connect().await;
    waits.write_all(b"GET /g/never HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    let live = loop {
        let live = node.get("/-/live").await.json();
        if live["counters"]["flights"] == 1 {
            break live;
        }
        assert!(Instant::now() < deadline, "the load starts: {live}");
    };
    assert_eq!((&live["status"], &live["node"]), (&"running".into(), &node.server.addr().as_str().into()));
    assert_eq!((&live["counters"]["main_hits"], &live["groups"]["g"]["main_hits"]), (&2.into(), &2.into()));
    let flights = live["flights"].as_array().expect("a list");
    assert_eq!(
        (flights.len(), &flights[0]["key"], &flights[0]["waiters"]),
        (1, &"never".into(), &1.into()),
        "{live}"
    );
    let hot = &live["hot_keys"]["keys"];
    assert_eq!(
        (&hot[0]["key"], &hot[0]["count"], &hot[0]["error"]),
        (&"a".into(), &3.into(), &0.into()),
        "{live}"
    );
    assert!(
        hot.as_array().expect("a list").iter().any(|it| it["key"] == "<img src=x onerror=alert(1)>"),
        "{live}"
    );
    let error = &live["errors"][0];
    assert_eq!(
        (&error["kind"], &error["times"], &error["key"]),
        (&"origin_failed".into(), &2.into(), &"broken".into())
    );
    let shares: u64 =
        live["shares"].as_array().expect("a list").iter().filter_map(|it| it["budget"].as_u64()).sum();
    assert_eq!(live["counters"]["budget"], shares, "the parts are the whole");
}

#[tokio::test]
async fn the_page_for_people_comes_with_a_policy_that_lets_it_do_nothing_else() {
    let node = Node::new(Limits::default()).await;
    let page = node.get("/").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("connect-src 'self'"), "{policy}");
    assert!(String::from_utf8_lossy(&page.body).contains("<title>groupcache</title>"));
}

#[tokio::test]
async fn oversize_heads_are_refused_with_a_status() {
    let node = Node::joined().await;
    assert_eq!(node.get(&format!("/g/{}", "k".repeat(70_000))).await.status, 414);
    let mut stream = node.connect().await;
    let head = format!("GET /g/key HTTP/1.1\r\nhost: h\r\nx: {}\r\n\r\n", "x".repeat(200_000));
    // It may be refused before all of it is sent.
    drop(stream.write_all(head.as_bytes()).await);
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.expect("a status");
    assert_eq!(&start, b"HTTP/1.1 431");
}

#[tokio::test]
async fn clients_that_send_no_request_are_let_go() {
    let limits = Limits { head: Duration::from_millis(200), ..Limits::default() };
    let node = Node::new(limits).await;
    let idle_after_one = "GET /-/healthz HTTP/1.1\r\nhost: h\r\n\r\n";
    for sent in ["", "GET /g/key HT", idle_after_one] {
        let mut stream = node.connect().await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        closed.expect("the connection is closed").ok();
    }
}

#[tokio::test]
async fn clients_that_do_not_take_their_value_are_let_go() {
    let limits = Limits { stall: Duration::from_millis(300), ..Limits::default() };
    let node = Node::new(limits).await;
    node.server.start().await.expect("starts");
    let mut stream = node.connect().await;
    stream.write_all(b"GET /g/large HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").await.unwrap();
    // Long enough for the buffers of both ends to fill, and then for the limit to pass.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let mut got = Vec::new();
    drop(tokio::time::timeout(PATIENCE, stream.read_to_end(&mut got)).await.expect("closed"));
    assert!(got.len() < 15 << 20, "{} bytes were held for a client that took none", got.len());
}

#[tokio::test]
async fn stopping_lets_what_is_in_progress_finish_and_takes_nothing_new() {
    let node = Node::joined().await;
    let mut late = node.connect().await;
    late.write_all(b"GET /g/late HTTP/1.1\r\nhost: h\r\n\r\n").await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while node.get("/-/stats").await.json()["loads"] != 1 {
        assert!(Instant::now() < deadline, "the load starts");
    }
    let (addr, task) = (node.addr, node.task);
    drop(node.end);
    let answer = Answer::read(late).await;
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"late".as_slice()));
    tokio::time::timeout(PATIENCE, task).await.expect("ends").expect("in order");
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn more_connections_than_the_limit_wait_their_turn() {
    let node = Node::new(Limits { connections: 1, ..Limits::default() }).await;
    let first = node.connect().await;
    let second = tokio::spawn(async move {
        let answer = node.get("/-/healthz").await.status;
        (node, answer)
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!second.is_finished(), "there is one connection too many");
    drop(first);
    assert_eq!(second.await.expect("answered").1, 200);
}

#[tokio::test]
async fn without_a_token_only_the_probes_and_the_page_without_figures_are_answered_and_the_answer_says_what_to_do()
 {
    let tokens = || Tokens::new(["0123456789abcdef"]).expect("a good token");
    let node = Node::guarded(Limits::default(), Some(tokens())).await;
    node.server.start().await.expect("starts");
    for (page, status) in [
        ("/-/healthz", 200),
        ("/-/readyz", 200),
        ("/", 200),
        ("/-/stats", 401),
        ("/-/live", 401),
        ("/metrics", 401),
    ] {
        assert_eq!(node.get(page).await.status, status, "{page}");
    }
    for (method, target) in [("GET", "/g/key"), ("DELETE", "/g/key"), ("PUT", "/g/key"), ("GET", "/nothing")]
    {
        let refused = node.ask(method, target).await;
        assert_eq!(refused.error(), (401, "no_token".to_owned()));
        assert_eq!(refused.header("www-authenticate"), Some("bearer"));
        assert!(refused.json()["message"].as_str().expect("a message").contains("authorization: Bearer"));
        let wrong = node.ask_with(method, target, "authorization: Bearer 0123456789abcdeF\r\n").await;
        assert_eq!(wrong.error(), (401, "unknown_token".to_owned()));
        let right = node.ask_with(method, target, "Authorization: bearer 0123456789abcdef\r\n").await;
        assert_ne!(right.status, 401);
    }
    let huge = format!("authorization: Bearer {}\r\n", "x".repeat(100_000));
    assert_eq!(node.ask_with("GET", "/g/key", &huge).await.status, 401);
    let too_large = format!("authorization: Bearer {}\r\n", "x".repeat(4 << 20));
    let refused = node.connect().await;
    let (mut read, mut write) = refused.into_split();
    let head = format!("GET /g/key HTTP/1.1\r\nhost: h\r\n{too_large}\r\n");
    let _ = write.write_all(head.as_bytes()).await; // It need not be taken.
    let mut answer = Vec::new();
    let _ = read.read_to_end(&mut answer).await; // What is not read may end as a reset.
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));

    let open = Node::guarded(Limits::default(), Some(tokens().only_for_writes(true))).await;
    assert_eq!((open.get("/g/key").await.status, open.get("/-/stats").await.status), (200, 200));
    assert_eq!(open.ask("DELETE", "/g/key").await.error(), (401, "no_token".to_owned()));
}
