//! An HTTP/1.1 client that sends exactly the bytes it is given and believes nothing.
//!
//! Libraries normalise paths, follow redirects, retry, and some take a connection that closed early for the end of a body. The tests are about
//! just these things, so this client does none of them: a body shorter than announced is an error, and `..` in a path is sent as it is.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What a request may take unless a test says otherwise: beyond every deadline that a node sets itself.
pub const TIMEOUT: Duration = Duration::from_secs(40);
/// No test asks for more than this; a node that sends more is broken.
const MAX_BODY: u64 = 64 << 20;
const MAX_LINE: u64 = 64 << 10;

/// A whole response.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case, and values, in order.
    pub headers: Vec<(String, String)>,
    /// The body: as long as was announced.
    pub body: Vec<u8>,
    /// From before the first byte was sent until the last was read; connecting included.
    pub took: Duration,
}

impl Response {
    /// The first header of this name (in lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// Where the value came from: `x-groupcache`; empty when the header is missing.
    #[must_use]
    pub fn level(&self) -> &str {
        self.header("x-groupcache").unwrap_or_default()
    }

    /// The key's owner: `x-groupcache-owner`; empty when the header is missing.
    #[must_use]
    pub fn owner(&self) -> &str {
        self.header("x-groupcache-owner").unwrap_or_default()
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| {
            panic!("{} with a body that is not JSON ({error}): {}", self.status, self.text())
        })
    }

    /// Passes the response on when it has this status.
    ///
    /// # Panics
    /// When it has another.
    #[track_caller]
    #[must_use]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "headers {:?}, body {:.500}", self.headers, self.text());
        self
    }

    /// Passes the response on when it is the typed error `kind` with `status`: one line of JSON that says what and why.
    ///
    /// # Panics
    /// When it is anything else.
    #[track_caller]
    #[must_use]
    pub fn expect_error(self, status: u16, kind: &str) -> Self {
        let response = self.expect(status);
        let text = response.text();
        assert_eq!(text.trim_end().lines().count(), 1, "an error is one line: {text:?}");
        let error = response.json();
        assert_eq!(error["error"], kind, "{text}");
        assert!(
            error["message"].as_str().is_some_and(|message| !message.is_empty()),
            "it must say why: {text}"
        );
        response
    }
}

/// `/{group}/{key}` with every byte of the key encoded that is neither unreserved (RFC 3986, 2.3) nor a slash.
#[must_use]
pub fn path(group: &str, key: &str) -> String {
    let mut path = format!("/{group}/");
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            path.push(char::from(byte));
        } else {
            let _ = write!(path, "%{byte:02X}"); // Writing to a string cannot fail.
        }
    }
    path
}

/// Asks once over a connection of its own.
///
/// # Errors
/// What the connection says, `TimedOut` past the deadline, `UnexpectedEof` for a body that ends early.
pub fn request(address: SocketAddr, method: &str, target: &str) -> io::Result<Response> {
    Client::new(address).request(method, target)
}

/// Sends `bytes` and nothing more, then reads what comes back until the other side closes or `limit` has passed. This side stays open: servers may
/// take an end of the requests for a client that has left.
///
/// # Errors
/// What connecting says. A connection that is reset is an answer too, and no error.
pub fn raw(address: SocketAddr, bytes: &[u8], limit: Duration) -> io::Result<Vec<u8>> {
    let mut stream = Bounded::connect(address, limit)?;
    let mut answer = Vec::new();
    let sent = stream.write_all(bytes);
    if sent.is_ok() {
        let _ = stream.take(MAX_BODY).read_to_end(&mut answer); // Whatever came before the end counts.
    }
    Ok(answer)
}

/// A client with one connection, kept alive between requests.
#[derive(Debug)]
pub struct Client {
    address: SocketAddr,
    timeout: Duration,
    token: Option<String>,
    connection: Option<BufReader<Bounded>>,
}

impl Client {
    /// A client of the server at `address`. Connects with the first request.
    #[must_use]
    pub const fn new(address: SocketAddr) -> Self {
        Self { address, timeout: TIMEOUT, token: None, connection: None }
    }

    /// Sets what one request may take.
    #[must_use]
    pub const fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends this token with every request.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Connects now.
    ///
    /// # Errors
    /// What the system says.
    pub fn connect(&mut self) -> io::Result<()> {
        self.connection = Some(BufReader::new(Bounded::connect(self.address, self.timeout)?));
        Ok(())
    }

    /// `GET /{group}/{key}`.
    ///
    /// # Errors
    /// As [`Client::request`].
    pub fn get(&mut self, group: &str, key: &str) -> io::Result<Response> {
        self.request("GET", &path(group, key))
    }

    /// Sends one request and reads the whole answer. `target` goes onto the wire as it is.
    ///
    /// # Errors
    /// What the connection says, `TimedOut` past the deadline, `UnexpectedEof` for a body that ends early, `InvalidData` for what is not HTTP.
    pub fn request(&mut self, method: &str, target: &str) -> io::Result<Response> {
        let started = Instant::now();
        if let Some(mut kept) = self.connection.take() {
            kept.get_mut().until = started + self.timeout;
            match self.exchange(kept, method, target, started) {
                // The server closed the idle connection before it saw the request: the one case for a second try (RFC 9112, 9.3.1).
                Err(Failed { error, answered: false }) if error.kind() != ErrorKind::TimedOut => {}
                result => return result.map_err(|failed| failed.error),
            }
        }
        let fresh = BufReader::new(Bounded::connect(self.address, self.timeout)?);
        self.exchange(fresh, method, target, started).map_err(|failed| failed.error)
    }

    fn exchange(
        &mut self,
        mut connection: BufReader<Bounded>,
        method: &str,
        target: &str,
        started: Instant,
    ) -> Result<Response, Failed> {
        let token = self.token.as_ref();
        let token = token.map_or_else(String::new, |token| format!("authorization: Bearer {token}\r\n"));
        let head = format!("{method} {target} HTTP/1.1\r\nhost: {}\r\n{token}\r\n", self.address);
        let unanswered = |error| Failed { error, answered: false };
        connection.get_mut().write_all(head.as_bytes()).map_err(unanswered)?;
        if connection.fill_buf().map_err(unanswered)?.is_empty() {
            return Err(unanswered(ErrorKind::UnexpectedEof.into()));
        }
        let answered = |error| Failed { error, answered: true };
        let (status, headers) = read_head(&mut connection).map_err(answered)?;
        let mut response = Response { status, headers, body: Vec::new(), took: Duration::ZERO };
        if method != "HEAD" && status >= 200 && status != 204 && status != 304 {
            response.body = read_body(&mut connection, &response).map_err(answered)?;
        }
        response.took = started.elapsed();
        if response.header("connection").is_none_or(|value| !value.eq_ignore_ascii_case("close")) {
            self.connection = Some(connection);
        }
        Ok(response)
    }
}

struct Failed {
    error: io::Error,
    answered: bool,
}

type Head = (u16, Vec<(String, String)>);

fn read_head(reader: &mut impl BufRead) -> io::Result<Head> {
    let status = read_line(reader)?;
    let code = status
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| invalid(format!("not a status line: {status:?}")))?;
    let mut headers = Vec::new();
    loop {
        let line = read_line(reader)?;
        if line.is_empty() {
            return Ok((code, headers));
        }
        let (name, value) = line.split_once(':').ok_or_else(|| invalid(format!("not a header: {line:?}")))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
}

fn read_body(reader: &mut impl BufRead, response: &Response) -> io::Result<Vec<u8>> {
    if response.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        return read_chunks(reader);
    }
    let Some(length) = response.header("content-length") else {
        return Err(invalid(
            "neither content-length nor chunked: nobody can tell whether the body is whole".to_owned(),
        ));
    };
    let length = length.parse().map_err(|_| invalid(format!("content-length: {length}")))?;
    read_exactly(reader, length)
}

fn read_chunks(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = read_line(reader)?;
        let length = u64::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16)
            .map_err(|_| invalid(format!("not a chunk: {line:?}")))?;
        if length == 0 {
            while !read_line(reader)?.is_empty() {} // Trailers.
            return Ok(body);
        }
        body.append(&mut read_exactly(reader, length)?);
        read_line(reader)?;
        if body.len() as u64 > MAX_BODY {
            return Err(invalid("the body does not end".to_owned()));
        }
    }
}

fn read_exactly(reader: &mut impl BufRead, length: u64) -> io::Result<Vec<u8>> {
    if length > MAX_BODY {
        return Err(invalid(format!("a body of {length} bytes")));
    }
    let mut bytes = Vec::new();
    reader.take(length).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < length {
        let message = format!("the body ended after {} of {length} bytes", bytes.len());
        return Err(io::Error::new(ErrorKind::UnexpectedEof, message));
    }
    Ok(bytes)
}

fn read_line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    reader.take(MAX_LINE).read_until(b'\n', &mut line)?;
    if line.pop() != Some(b'\n') {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    String::from_utf8(line).map_err(|error| invalid(error.to_string()))
}

fn invalid(message: String) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, message)
}

/// A stream with one deadline for everything that is done with it, in place of one for every read.
#[derive(Debug)]
struct Bounded {
    stream: TcpStream,
    until: Instant,
}

impl Bounded {
    fn connect(address: SocketAddr, limit: Duration) -> io::Result<Self> {
        let until = Instant::now() + limit;
        let stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, until })
    }

    fn left(&self) -> io::Result<Duration> {
        match self.until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(ErrorKind::TimedOut.into()),
            left => Ok(left),
        }
    }
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(buffer).map_err(timed_out)
    }
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(bytes).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Systems report a socket's time limit as `WouldBlock`.
fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == ErrorKind::WouldBlock { ErrorKind::TimedOut.into() } else { error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(response: &str) -> io::Result<Response> {
        let mut reader = response.as_bytes();
        let (status, headers) = read_head(&mut reader)?;
        let mut response = Response { status, headers, body: Vec::new(), took: Duration::ZERO };
        response.body = read_body(&mut reader, &response)?;
        Ok(response)
    }

    #[test]
    fn bodies_come_by_length_and_by_chunks() {
        let whole = parse("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").expect("a response");
        assert_eq!((whole.status, whole.text()), (200, "hello".to_owned()));
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n";
        assert_eq!(parse(chunked).expect("a response").text(), "hello");
    }

    #[test]
    fn a_body_that_ends_early_is_an_error() {
        for short in [
            "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nl",
        ] {
            assert_eq!(parse(short).expect_err(short).kind(), ErrorKind::UnexpectedEof, "{short}");
        }
    }

    #[test]
    fn keys_are_encoded_byte_by_byte_and_keep_their_slashes() {
        assert_eq!(path("files", "a b/ü%.txt"), "/files/a%20b/%C3%BC%25.txt");
    }
}
