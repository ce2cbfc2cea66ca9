//! An HTTP origin that counts what it is asked, is as slow as it is told to be, and misbehaves on request.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Keys live below this path: a source URL's prefix must be honoured.
const PREFIX: &str = "/origin/";
/// How long a stalled request is held when nobody gives it up.
const STALL: Duration = Duration::from_secs(120);

/// What the origin answers for one key.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Behaviour {
    /// 200 and these bytes.
    Value(Vec<u8>),
    /// 200, chunked, and these bytes.
    Chunked(Vec<u8>),
    /// 200 with these header fields, each with its line end, this entity tag and these bytes; 304 with the same fields to who has that tag.
    Tagged {
        /// The fields.
        fields: String,
        /// The tag.
        tag: String,
        /// What comes.
        body: Vec<u8>,
    },
    /// 304 with these header fields, whatever was asked.
    NotModified(String),
    /// 200 and the number of this request, from 1: every answer differs.
    Count,
    /// This status, with a body that must not be taken for the value.
    Status(u16),
    /// The connection is reset before a byte is answered.
    Reset,
    /// 200, half of the announced body, and then the connection is reset.
    ResetInBody,
    /// The request is read, and nothing comes back.
    Stall,
    /// 200, half of the announced body, and then nothing more.
    StallInBody,
    /// 200, a content-length of `announced`, `sent` bytes, and the connection is closed as if all were well.
    Short {
        /// What the header says.
        announced: usize,
        /// What comes.
        sent: usize,
    },
    /// 200, chunked, and closed before the last chunk.
    ChunkedCutOff,
    /// 200, neither a length nor chunks, and closed: nobody can tell whether that was all.
    Unmarked,
    /// 200, chunked, and no end: what a limit must stop.
    Endless,
    /// Bytes that are not HTTP.
    Garbage,
}

/// What the origin answers for `key` when nothing else was said: starts with the key, so that no value can be taken for another's.
#[must_use]
pub fn value_of(key: &str) -> Vec<u8> {
    let length = 100 + key.bytes().map(usize::from).sum::<usize>() % 400;
    format!("value of {key}\n").into_bytes().into_iter().cycle().take(length.max(key.len() + 10)).collect()
}

/// A running origin. It stops when it is dropped.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    stopped: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    delay: Duration,
    behaviours: HashMap<String, Behaviour>,
    requests: HashMap<String, usize>,
    not_modified: HashMap<String, usize>,
    strays: Vec<String>,
}

impl Origin {
    /// Starts an origin on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the origin can listen");
        let address = listener.local_addr().expect("the origin knows where it listens");
        let shared = Arc::new(Shared::default());
        let server = Arc::clone(&shared);
        thread::spawn(move || {
            for connection in listener.incoming() {
                if server.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(connection) = connection else { continue };
                let server = Arc::clone(&server);
                // An error here is a client that went away.
                thread::spawn(move || server.serve(connection).unwrap_or_default());
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The source URL to give to a node; ends with a slash.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}{PREFIX}", self.address)
    }

    /// The path of `key` at the origin, for asking it directly.
    #[must_use]
    pub fn path(key: &str) -> String {
        format!("{PREFIX}{key}")
    }

    /// Makes every answer take at least `delay`.
    pub fn set_delay(&self, delay: Duration) {
        self.shared.state().delay = delay;
    }

    /// Makes the origin answer `key` in this way from now on.
    pub fn behave(&self, key: impl Into<String>, behaviour: Behaviour) {
        self.shared.state().behaviours.insert(key.into(), behaviour);
    }

    /// How often `key` was asked for.
    #[must_use]
    pub fn requests(&self, key: &str) -> usize {
        self.shared.state().requests.get(key).copied().unwrap_or(0)
    }

    /// How often it was answered for `key` that it has not been modified.
    #[must_use]
    pub fn not_modified(&self, key: &str) -> usize {
        self.shared.state().not_modified.get(key).copied().unwrap_or(0)
    }

    /// How often each key was asked for.
    #[must_use]
    pub fn counts(&self) -> HashMap<String, usize> {
        self.shared.state().requests.clone()
    }

    /// Requests that were not GETs of a key below the prefix: always a mistake of the node.
    #[must_use]
    pub fn strays(&self) -> Vec<String> {
        self.shared.state().strays.clone()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address)); // Wakes the accepting thread.
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, connection: TcpStream) -> io::Result<()> {
        connection.set_nodelay(true)?;
        let mut reader = BufReader::new(connection);
        while let Some(request) = read_request(&mut reader)? {
            let started = Instant::now();
            let (behaviour, delay) = self.note(&request);
            thread::sleep(delay.saturating_sub(started.elapsed()));
            if !self.answer(reader.get_mut(), behaviour)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Counts the request and decides what it gets.
    fn note(&self, (request, known): &(String, Option<String>)) -> (Behaviour, Duration) {
        let mut state = self.state();
        let target = request.strip_prefix("GET ").and_then(|rest| rest.strip_suffix(" HTTP/1.1"));
        let Some(key) = target.and_then(|target| target.strip_prefix(PREFIX)).map(decode) else {
            state.strays.push(request.clone());
            return (Behaviour::Status(400), Duration::ZERO);
        };
        let count = state.requests.entry(key.clone()).or_default();
        *count += 1;
        let count = *count;
        let behaviour = match state.behaviours.get(&key) {
            Some(Behaviour::Count) => Behaviour::Value(count.to_string().into_bytes()),
            Some(Behaviour::Tagged { fields, tag, .. }) if known.as_ref() == Some(tag) => {
                let fields = format!("{fields}etag: {tag}\r\n");
                *state.not_modified.entry(key).or_default() += 1;
                Behaviour::NotModified(fields)
            }
            Some(other) => other.clone(),
            None => Behaviour::Value(value_of(&key)),
        };
        (behaviour, state.delay)
    }

    /// Answers, and says whether the connection can go on.
    fn answer(&self, stream: &mut TcpStream, behaviour: Behaviour) -> io::Result<bool> {
        let half = vec![b'x'; 20_000];
        match behaviour {
            Behaviour::Value(body) => whole(stream, "200 OK", &body).map(|()| true),
            Behaviour::Tagged { fields, tag, body } => {
                let length = body.len();
                write!(stream, "HTTP/1.1 200 OK\r\n{fields}etag: {tag}\r\ncontent-length: {length}\r\n\r\n")?;
                stream.write_all(&body).map(|()| true)
            }
            Behaviour::NotModified(fields) => {
                write!(stream, "HTTP/1.1 304 Not Modified\r\n{fields}\r\n").map(|()| true)
            }
            Behaviour::Count => Ok(false), // `note` has turned it into a value.
            Behaviour::Status(status) => {
                whole(stream, &format!("{status} As Told"), b"not the value").map(|()| true)
            }
            Behaviour::Chunked(body) => {
                chunks(stream, body.chunks(1000))?;
                stream.write_all(b"0\r\n\r\n").map(|()| true)
            }
            Behaviour::Reset => reset(stream).map(|()| false),
            Behaviour::ResetInBody => {
                announced(stream, 2 * half.len(), &half)?;
                thread::sleep(Duration::from_millis(50)); // What was sent must arrive before the reset throws it away.
                reset(stream).map(|()| false)
            }
            Behaviour::Stall => Ok(self.stall()),
            Behaviour::StallInBody => {
                announced(stream, 2 * half.len(), &half)?;
                Ok(self.stall())
            }
            Behaviour::Short { announced: length, sent } => {
                announced(stream, length, &vec![b'x'; sent]).map(|()| false)
            }
            Behaviour::Unmarked => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
                stream.write_all(&half).map(|()| false)
            }
            Behaviour::ChunkedCutOff => chunks(stream, half.chunks(1000)).map(|()| false),
            Behaviour::Endless => {
                chunks(stream, half.chunks(1000))?;
                while !self.stopped.load(Ordering::SeqCst) {
                    write!(stream, "{:x}\r\n", half.len())?;
                    stream.write_all(&half)?;
                    stream.write_all(b"\r\n")?;
                }
                Ok(false)
            }
            Behaviour::Garbage => stream.write_all(b"\0\x01\x02 not HTTP at all\r\n\r\n").map(|()| false),
        }
    }

    /// Holds the request until the origin stops. The caller giving up is not noticed, as with a real hung server.
    fn stall(&self) -> bool {
        let until = Instant::now() + STALL;
        while Instant::now() < until && !self.stopped.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

/// The request line of the next request, and its `If-None-Match`; the other headers are skipped, and it has no body. `None` at the end of the connection.
fn read_request(reader: &mut impl BufRead) -> io::Result<Option<(String, Option<String>)>> {
    let mut request = String::new();
    if reader.take(64 << 10).read_line(&mut request)? == 0 {
        return Ok(None);
    }
    let (mut header, mut known) = (String::new(), None);
    while reader.take(64 << 10).read_line(&mut header)? > 2 {
        let (name, value) = header.split_once(':').unwrap_or_default();
        if name.eq_ignore_ascii_case("if-none-match") {
            known = Some(value.trim().to_owned());
        }
        header.clear();
    }
    Ok(Some((request.trim_end().to_owned(), known)))
}

fn whole(stream: &mut TcpStream, status: &str, body: &[u8]) -> io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat())
}

fn announced(stream: &mut TcpStream, length: usize, body: &[u8]) -> io::Result<()> {
    write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n")?;
    stream.write_all(body)
}

fn chunks<'a>(stream: &mut TcpStream, chunks: impl Iterator<Item = &'a [u8]>) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
    for chunk in chunks {
        write!(stream, "{:x}\r\n", chunk.len())?;
        stream.write_all(chunk)?;
        stream.write_all(b"\r\n")?;
    }
    Ok(())
}

/// Closing with a linger time of zero sends a reset.
fn reset(stream: &TcpStream) -> io::Result<()> {
    rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO))?;
    Ok(())
}

fn decode(target: &str) -> String {
    let mut bytes = Vec::with_capacity(target.len());
    let mut rest = target.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(decoded) if byte == b'%' => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            _ => {
                bytes.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{self, Client};
    use std::io::ErrorKind;

    fn ask(origin: &Origin, key: &str) -> io::Result<http::Response> {
        Client::new(origin.address())
            .with_timeout(Duration::from_millis(500))
            .request("GET", &Origin::path(key))
    }

    #[test]
    fn values_differ_by_key_and_requests_are_counted() {
        let origin = Origin::start();
        let mut client = Client::new(origin.address());
        for key in ["a", "b", "a"] {
            let answer = client.request("GET", &Origin::path(key)).expect("an answer").expect(200);
            assert_eq!(answer.body, value_of(key));
        }
        assert_eq!((origin.requests("a"), origin.requests("b"), origin.requests("c")), (2, 1, 0));
        let _ = client.request("GET", "/elsewhere").expect("an answer").expect(400);
        assert_eq!(origin.strays(), ["GET /elsewhere HTTP/1.1"]);
    }

    #[test]
    fn keys_are_decoded_before_they_are_counted() {
        let origin = Origin::start();
        let _ = ask(&origin, "a%20b/%C3%BC%2").expect("an answer").expect(200);
        assert_eq!(origin.requests("a b/ü%2"), 1);
    }

    #[test]
    fn answers_take_as_long_as_told_also_when_many_are_asked_for_at_once() {
        let origin = Origin::start();
        origin.set_delay(Duration::from_millis(200));
        let started = Instant::now();
        thread::scope(|scope| {
            for _ in 0..20 {
                scope.spawn(|| {
                    assert!(ask(&origin, "k").expect("an answer").took >= Duration::from_millis(200))
                });
            }
        });
        assert!(started.elapsed() < Duration::from_secs(2), "they must not queue: {:?}", started.elapsed());
        assert_eq!(origin.requests("k"), 20);
    }

    #[test]
    fn every_misbehaviour_is_what_it_says() {
        let origin = Origin::start();
        let table = [
            (Behaviour::Reset, ErrorKind::ConnectionReset),
            (Behaviour::ResetInBody, ErrorKind::ConnectionReset),
            (Behaviour::Stall, ErrorKind::TimedOut),
            (Behaviour::StallInBody, ErrorKind::TimedOut),
            (Behaviour::Short { announced: 10, sent: 5 }, ErrorKind::UnexpectedEof),
            (Behaviour::Unmarked, ErrorKind::InvalidData),
            (Behaviour::ChunkedCutOff, ErrorKind::UnexpectedEof),
            (Behaviour::Garbage, ErrorKind::InvalidData),
        ];
        for (behaviour, expected) in table {
            let name = format!("{behaviour:?}");
            origin.behave("k", behaviour);
            assert_eq!(ask(&origin, "k").expect_err(&name).kind(), expected, "{name}");
        }
        origin.behave("k", Behaviour::Endless);
        assert!(matches!(
            ask(&origin, "k").expect_err("no end").kind(),
            ErrorKind::InvalidData | ErrorKind::TimedOut
        ));
        origin.behave("k", Behaviour::Status(500));
        assert_eq!(ask(&origin, "k").expect("an answer").status, 500);
        origin.behave("k", Behaviour::Chunked(value_of("k")));
        assert_eq!(ask(&origin, "k").expect("an answer").body, value_of("k"));
    }

    #[test]
    fn who_has_the_tag_is_told_that_nothing_was_modified() {
        let origin = Origin::start();
        let (fields, tag) = ("cache-control: max-age=7\r\n".to_owned(), "\"1\"".to_owned());
        origin.behave("k", Behaviour::Tagged { fields, tag, body: b"tagged".to_vec() });
        let answer = ask(&origin, "k").expect("an answer");
        assert_eq!(
            (answer.header("etag"), answer.header("cache-control")),
            (Some("\"1\""), Some("max-age=7"))
        );
        assert_eq!((answer.text().as_str(), origin.not_modified("k")), ("tagged", 0));
        for (known, status) in [("\"0\"", "200 OK"), ("\"1\"", "304 Not Modified")] {
            let request =
                format!("GET {} HTTP/1.1\r\nhost: h\r\nIf-None-Match: {known}\r\n\r\n", Origin::path("k"));
            let answer = http::raw(origin.address(), request.as_bytes(), Duration::from_millis(500));
            let answer = String::from_utf8(answer.expect("an answer")).expect("text");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        }
        assert_eq!((origin.not_modified("k"), origin.requests("k")), (1, 3));
    }

    #[test]
    fn changing_data_changes_with_every_request() {
        let origin = Origin::start();
        origin.behave("k", Behaviour::Count);
        let answers = [ask(&origin, "k"), ask(&origin, "k")].map(|answer| answer.expect("an answer").text());
        assert_eq!(answers, ["1", "2"]);
    }
}
