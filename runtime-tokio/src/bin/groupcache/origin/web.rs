//! An HTTP server as an origin: the key is appended to a prefix.

use std::time::{Duration, Instant, SystemTime};

use groupcache_runtime::ByteView;
use groupcache_tokio::trace::TraceContext;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, ETAG, EXPIRES, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    LAST_MODIFIED, TRANSFER_ENCODING, VARY,
};
use reqwest::{Response, StatusCode, Url, Version, redirect};

use super::freshness::Freshness;
use super::{Again, Answer, Fault, Keeping, Load, OriginError, Reload};
use crate::head::{Head, same_tag};

/// Everything but RFC 3986's unreserved characters, so that no byte of a key means anything in a URL.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How long dialling an origin may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Idle connections are closed before the shortest keep-alive that is common among servers (5 s), so that a request seldom meets a connection
/// that is being closed.
const POOL_IDLE: Duration = Duration::from_secs(4);

/// The client that all HTTP origins share: no proxy, no cookies, no redirects, no decoding. It trusts Mozilla's roots and the system's
/// (`SSL_CERT_FILE` names others).
///
/// # Errors
/// TLS cannot be set up.
pub(super) fn client(stall: Duration) -> Result<reqwest::Client, reqwest::Error> {
    reqwest::Client::builder()
        .user_agent(concat!("groupcache/", env!("CARGO_PKG_VERSION")))
        .no_proxy()
        .redirect(redirect::Policy::none())
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT.min(stall))
        .read_timeout(stall)
        .pool_idle_timeout(POOL_IDLE)
        .build()
}

/// The values below `http://host/prefix/`.
///
/// 200 is a value; 404 and 410 are "not found"; every other status is a failure, redirects included: following one could lead to another host, and
/// would hide from the ring what is asked for. The value is the body as it was sent, and it is taken only when it is known to be whole: as long as
/// announced, or ended by its last chunk.
///
/// How long it is kept is the origin's to say, as to any shared cache; what must not be kept is given to those who wait for it. No field of a client's
/// request goes to the origin, so that a key has one value, whoever asks for it. A name and a password in the prefix are the node's own: what they are
/// shown is for all who ask the node.
#[derive(Debug)]
pub(crate) struct Web {
    client: reqwest::Client,
    prefix: Url,
    max_value: usize,
    stall: Duration,
    keeping: Keeping,
}

impl Web {
    /// Values below `prefix` (it ends with a slash and has no query), of at most `max_value` bytes each. `stall` is the client's read timeout.
    pub(crate) const fn new(client: reqwest::Client, prefix: Url, max_value: usize, stall: Duration) -> Self {
        let keeping = Keeping { most: None, revalidates: false };
        Self { client, prefix, max_value, stall, keeping }
    }

    /// The same, of a node that keeps values for so long.
    pub(crate) const fn keeping(mut self, keeping: Keeping) -> Self {
        self.keeping = keeping;
        self
    }

    /// Asks the origin for `key`.
    pub(crate) async fn load(&self, key: &str) -> Load {
        let (response, delay) = self.ask(key, HeaderMap::new()).await?;
        self.answer(response, delay).await
    }

    /// Asks the origin whether `key` has changed since it sent `stale`, by the validators that it sent along; and for what it is now where it has.
    pub(crate) async fn revalidate(&self, key: &str, stale: &ByteView) -> Reload {
        let head = Head::from_meta(stale.meta());
        let conditions = conditions(&head);
        if conditions.is_empty() {
            return self.load(key).await.map(Again::Changed);
        }
        let (response, delay) = self.ask(key, conditions).await?;
        if response.status() != StatusCode::NOT_MODIFIED {
            return self.answer(response, delay).await.map(Again::Changed);
        }
        if is_about_another(&head, response.headers()) {
            return self.load(key).await.map(Again::Changed);
        }
        Ok(self.confirmed(stale, &head, response.headers().clone(), delay))
    }

    /// Sends a request; answers with how long its answer took.
    async fn ask(&self, key: &str, mut headers: HeaderMap) -> Result<(Response, Duration), OriginError> {
        let url = self.url(key)?;
        if let Some(trace) = TraceContext::current() {
            trace.set_headers(&mut headers);
        }
        let request = self.client.get(url).header(ACCEPT_ENCODING, "identity").headers(headers);
        let asked = Instant::now();
        let response = request.send().await.map_err(|error| self.no_answer(error))?;
        Ok((response, asked.elapsed()))
    }

    async fn answer(&self, response: Response, delay: Duration) -> Load {
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND | StatusCode::GONE => return Err(OriginError::NotFound),
            // Nobody has asked whether something was modified.
            status if status.is_redirection() && status != StatusCode::NOT_MODIFIED => {
                return Err(Fault::Redirect(status).into());
            }
            status => return Err(Fault::Status(status).into()),
        }
        let mut head = Head::of(response.headers());
        let mut freshness = Freshness::of(response.headers(), SystemTime::now(), delay);
        let received = Instant::now();
        let bytes = self.body(response).await?.into();
        // It is kept from now on, and grows old from when it began to come.
        freshness.age += received.elapsed();
        let ttl = self.note_ttl(&mut head, &freshness);
        Ok(Answer { bytes, head: head.into(), ttl, fresh_only: freshness.fresh_only })
    }

    /// What "not modified" makes of an expired value. What it does not say is as it was.
    fn confirmed(&self, stale: &ByteView, old: &Head, mut said: HeaderMap, delay: Duration) -> Again {
        let mut head = old.confirmed_by(&said);
        let says_how_long = said.contains_key(CACHE_CONTROL) || said.contains_key(EXPIRES);
        for (name, is_said) in [(CACHE_CONTROL, says_how_long), (VARY, said.contains_key(VARY))] {
            if let Some(value) = old.get(&name).filter(|_| !is_said) {
                said.insert(name, value.clone());
            }
        }
        let mut freshness = Freshness::of(&said, SystemTime::now(), delay);
        if !says_how_long {
            freshness.lifetime = freshness.lifetime.or(old.kept);
        }
        let ttl = self.note_ttl(&mut head, &freshness);
        if head == *old {
            return Again::Unchanged { ttl };
        }
        let bytes = stale.clone().into_bytes();
        Again::Changed(Answer { bytes, head: head.into(), ttl, fresh_only: freshness.fresh_only })
    }

    /// How long a value may be kept. Notes it beside the value, in whole seconds, so that who answers with it can tell its age.
    fn note_ttl(&self, head: &mut Head, freshness: &Freshness) -> Option<Duration> {
        let is_comparable = head.get(&ETAG).or_else(|| head.get(&LAST_MODIFIED)).is_some();
        let ttl = freshness.ttl(self.keeping.most, self.keeping.revalidates && is_comparable);
        let rounded_up =
            |ttl: Duration| Duration::from_secs(ttl.as_secs() + u64::from(ttl.subsec_millis() > 0));
        head.kept = ttl.or(self.keeping.most).map(rounded_up);
        head.age = Duration::from_secs(freshness.age.as_secs());
        ttl
    }

    /// The prefix with the key behind it. No key climbs out: everything that means something to a URL is encoded, and the segments `.` and `..`, which
    /// no encoding protects from being resolved, are refused.
    fn url(&self, key: &str) -> Result<Url, OriginError> {
        if key.contains('\0') {
            return Err(OriginError::InvalidKey("the key contains a NUL"));
        }
        let mut path = self.prefix.path().to_owned();
        for (index, segment) in key.split('/').enumerate() {
            if matches!(segment, "." | "..") {
                return Err(OriginError::InvalidKey("the key has a `.` or `..` segment"));
            }
            if index > 0 {
                path.push('/');
            }
            path.extend(utf8_percent_encode(segment, ENCODED));
        }
        let mut url = self.prefix.clone();
        url.set_path(&path);
        if url.path() == path { Ok(url) } else { Err(OriginError::InvalidKey("the key is not a path")) }
    }

    /// Reads the body whole, or says why it is not.
    async fn body(&self, mut response: Response) -> Result<Vec<u8>, OriginError> {
        if !says_where_it_ends(&response) {
            return Err(Fault::Unbounded.into());
        }
        let announced = response.content_length();
        if announced.is_some_and(|len| !usize::try_from(len).is_ok_and(|len| len <= self.max_value)) {
            return Err(OriginError::TooLarge(self.max_value));
        }
        let mut value = Vec::with_capacity(announced.and_then(|len| usize::try_from(len).ok()).unwrap_or(0));
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if chunk.len() > self.max_value - value.len() => {
                    return Err(OriginError::TooLarge(self.max_value));
                }
                Ok(Some(chunk)) => value.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => return Err(self.broken_off(value.len(), error)),
            }
        }
        match announced {
            Some(announced) if u64::try_from(value.len()) != Ok(announced) => {
                Err(Fault::Length { announced, read: value.len() }.into())
            }
            _ => Ok(value),
        }
    }

    fn no_answer(&self, error: reqwest::Error) -> OriginError {
        // The URL may hold a password, and the key is known to whom the error reaches.
        let error = error.without_url();
        if error.is_connect() {
            Fault::Unreachable(error).into()
        } else if error.is_timeout() {
            Fault::Silent(self.stall).into()
        } else {
            Fault::NoAnswer(error).into()
        }
    }

    fn broken_off(&self, read: usize, error: reqwest::Error) -> OriginError {
        if error.is_timeout() {
            Fault::Stalled { read, stall: self.stall }.into()
        } else {
            Fault::BrokenOff { read, cause: error.without_url() }.into()
        }
    }
}

/// What asks for a value only if it is no longer this one.
fn conditions(head: &Head) -> HeaderMap {
    let mut conditions = HeaderMap::new();
    for (name, condition) in [(ETAG, IF_NONE_MATCH), (LAST_MODIFIED, IF_MODIFIED_SINCE)] {
        if let Some(value) = head.get(&name) {
            conditions.insert(condition, value.clone());
        }
    }
    conditions
}

/// Whether "not modified" is said of a value that is not this one: an origin with several machines may know several.
fn is_about_another(head: &Head, said: &HeaderMap) -> bool {
    matches!((head.get(&ETAG), said.get(ETAG)), (Some(ours), Some(theirs)) if !same_tag(ours, theirs))
}

/// Whether the end of the body can be told from a broken connection. In HTTP/1 a body without a length and not chunked ends where the connection does.
fn says_where_it_ends(response: &Response) -> bool {
    let chunked = || {
        let encodings = response.headers().get_all(TRANSFER_ENCODING).iter().next_back();
        let last = encodings.and_then(|value| value.to_str().ok()).and_then(|value| value.rsplit(',').next());
        last.is_some_and(|coding| coding.trim().eq_ignore_ascii_case("chunked"))
    };
    response.version() >= Version::HTTP_2 || response.content_length().is_some() || chunked()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(prefix: &str, key: &str) -> Result<String, OriginError> {
        let stall = Duration::from_secs(1);
        let prefix = Url::parse(prefix).unwrap();
        Web::new(client(stall).unwrap(), prefix, 1, stall).url(key).map(String::from)
    }

    #[test]
    fn a_key_is_encoded_so_that_nothing_in_it_means_anything_to_a_url() {
        for (key, expected) in [
            ("a/b c.txt", "a/b%20c.txt"),
            ("q?x=1#f", "q%3Fx%3D1%23f"),
            ("100%", "100%25"),
            ("%2e%2e/x", "%252e%252e/x"),
            ("..\\..\\x", "..%5C..%5Cx"),
            ("ключ", "%D0%BA%D0%BB%D1%8E%D1%87"),
            ("tab\tline\n", "tab%09line%0A"),
            ("http://other/", "http%3A//other/"),
            ("/x", "/x"),
            ("...", "..."),
        ] {
            assert_eq!(url("http://h/p/", key).unwrap(), format!("http://h/p/{expected}"), "{key}");
        }
    }

    #[test]
    fn a_key_never_climbs_out_of_the_prefix() {
        for key in ["..", "../x", "a/../../x", "./x", "a/.", "a/..", "nul\0"] {
            let error = url("http://h/p/", key).expect_err(key);
            assert!(matches!(error, OriginError::InvalidKey(_)), "{key}: {error:?}");
        }
    }
}
