//! The origins of the example node: what is a value, and what is not.

#[path = "../examples/node/files.rs"]
mod files;
#[path = "../examples/node/origin.rs"]
mod origin;
#[path = "../examples/node/web.rs"]
mod web;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use async_std::future::timeout;
use async_std::task::block_on;
use groupcache_async_std::{Error, ErrorKind, Server};
use origin::{Origin, Source};

const SOON: Duration = Duration::from_secs(10);
const LIMIT: usize = 10;

/// Loads `key` through a node that has not been started: it has its own origin only.
fn load(source: &str, key: &str) -> Result<Vec<u8>, Error> {
    let source: Source = source.parse().expect("a source");
    let server = Server::builder().build().expect("the defaults are in range");
    let group = server.new_group("g", Origin { source, max_value: LIMIT }).expect("the first of its name");
    let value = block_on(timeout(SOON, group.get(key))).expect("in time")?;
    Ok(value.as_ref().to_vec())
}

/// Answers one request with `answer`, and closes. Gives the URL, and what was asked for.
fn once(answer: &'static str) -> (String, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback works");
    let url = format!("http://{}/p", listener.local_addr().expect("it listens"));
    let (sender, asked) = mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("it is connected to");
        let mut request = Vec::new();
        let mut space = [0; 1024];
        while !request.ends_with(b"\r\n\r\n") {
            let read = stream.read(&mut space).expect("a request");
            assert_ne!(read, 0, "the request ends early");
            request.extend_from_slice(&space[..read]);
        }
        let _ = sender.send(String::from_utf8_lossy(&request).into_owned());
        stream.write_all(answer.as_bytes()).expect("it is still connected");
    });
    (url, asked)
}

fn answered(answer: &'static str) -> Result<Vec<u8>, ErrorKind> {
    load(&once(answer).0, "k").map_err(|error| error.kind())
}

#[test]
fn a_key_is_encoded_behind_the_prefix() {
    let (url, asked) = once("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    assert_eq!(load(&url, "a/b c?d#%2e").expect("a value"), b"ok");
    let request = asked.recv_timeout(SOON).expect("it was asked");
    assert!(request.starts_with("GET /p/a/b%20c%3Fd%23%252e HTTP/1.1\r\n"), "{request}");
    let host = url.trim_start_matches("http://").trim_end_matches("/p");
    assert!(request.contains(&format!("host: {host}\r\n")), "{request}");
    for key in ["..", "../x", "a/./b", "nul\0"] {
        assert_eq!(load(&url, key).expect_err(key).kind(), ErrorKind::InvalidKey, "{key}");
    }
}

#[test]
fn only_a_whole_body_of_a_200_is_a_value() {
    let whole = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    assert_eq!(answered(whole), Ok(b"abc".to_vec()));
    assert_eq!(answered("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"), Ok(Vec::new()));
    for short in [
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\n\r\nabc",
        "HTTP/1.1 206 Partial Content\r\ncontent-length: 3\r\n\r\nabc",
        "HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 500 Oh No\r\ncontent-length: 3\r\n\r\nabc",
        "not HTTP\r\n\r\n",
        "",
    ] {
        assert_eq!(answered(short), Err(ErrorKind::OriginFailed), "{short:?}");
    }
}

#[test]
fn not_found_and_too_large_are_kinds_of_their_own() {
    assert_eq!(answered("HTTP/1.1 404 No\r\ncontent-length: 3\r\n\r\nabc"), Err(ErrorKind::NotFound));
    let announced = "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nabcdefghijk";
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nb\r\nabcdefghijk\r\n";
    for large in [announced, chunked] {
        assert_eq!(answered(large), Err(ErrorKind::ValueTooLarge), "{large:?}");
    }
}

#[test]
fn files_are_found_below_the_directory_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    std::fs::create_dir_all(path("in/sub")).expect("a directory");
    for (name, value) in [("in/sub/a b", "inside"), ("out", "outside"), ("in/large", "01234567890")] {
        std::fs::write(path(name), value).expect("a file");
    }
    std::os::unix::fs::symlink(path("out"), path("in/link")).expect("a link");
    std::os::unix::fs::symlink(path("in/sub"), path("in/again")).expect("a link");
    let source = format!("file:{}", path("in").display());
    assert_eq!(load(&source, "sub/a b").expect("a value"), b"inside");
    assert_eq!(load(&source, "again/a b").expect("a value"), b"inside");
    let absolute = path("in/sub/a b").display().to_string();
    for (key, kind) in [
        ("missing", ErrorKind::NotFound),
        ("sub", ErrorKind::NotFound),
        ("large/x", ErrorKind::NotFound),
        ("large", ErrorKind::ValueTooLarge),
        ("../out", ErrorKind::InvalidKey),
        ("sub/../../out", ErrorKind::InvalidKey),
        ("link", ErrorKind::InvalidKey),
        ("sub//a b", ErrorKind::InvalidKey),
        ("./large", ErrorKind::InvalidKey),
        ("nul\0", ErrorKind::InvalidKey),
        (&absolute, ErrorKind::InvalidKey),
    ] {
        assert_eq!(load(&source, key).expect_err(key).kind(), kind, "{key}");
    }
}

#[test]
fn what_is_no_source_is_refused() {
    for text in
        ["", "/srv", "file:", "file:/no/such/dir", "https://h/", "http://", "http://h/?q", "http://u@h/"]
    {
        assert!(text.parse::<Source>().is_err(), "{text}");
    }
}
