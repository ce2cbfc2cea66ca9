//! An HTTP server as an origin: the key is appended to a prefix. One connection per load, over async-std.

use std::pin::pin;

use async_std::net::TcpStream;
use bytes::Bytes;
use futures_util::future::{Either, select};
use groupcache_async_std::RetrieveError;
use http_body_util::{BodyExt, Empty, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use hyper::{Request, Response, StatusCode, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use smol_hyper::rt::FuturesIo;

use crate::origin::Fault;

/// Everything but RFC 3986's unreserved characters, so that no byte of a key means anything in a URL.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The values below `http://host/prefix/`.
///
/// 200 is a value, 404 and 410 are "not found", every other status is a failure. A body counts only when it is known to be whole. There is no
/// time limit here: the cache drops a load whose time is over, and everything of it is in that one future.
#[derive(Clone, Debug)]
pub(crate) struct Web {
    /// As in the URL: the `host` header.
    host: String,
    /// With a port: what is connected to.
    addr: String,
    /// Ends with a slash.
    prefix: String,
}

impl Web {
    /// # Errors
    /// `url` is not `http://host/prefix/`.
    pub(crate) fn new(url: &str) -> Result<Self, String> {
        let refused = || format!("`{url}` is not a source: expected file:DIR or http://host/prefix/");
        let uri: Uri = url.parse().map_err(|_| refused())?;
        if !url.starts_with("http://") || url.contains(['?', '#', '@']) {
            return Err(refused());
        }
        let authority = uri.authority().ok_or_else(refused)?;
        let addr = match authority.port_u16() {
            Some(_) => authority.to_string(),
            None => format!("{}:80", authority.host()),
        };
        let slash = if uri.path().ends_with('/') { "" } else { "/" };
        Ok(Self { host: authority.to_string(), addr, prefix: format!("{}{slash}", uri.path()) })
    }

    /// Asks the origin for `key`.
    pub(crate) async fn load(&self, key: &str, limit: usize) -> Result<Bytes, RetrieveError> {
        let request = Request::get(self.path(key)?)
            .header(HOST, &self.host)
            .header(CONNECTION, "close")
            .body(Empty::<Bytes>::new())
            .map_err(Fault::Url)?;
        let stream = TcpStream::connect(&self.addr).await.map_err(Fault::Unreachable)?;
        let (mut sender, connection) =
            http1::handshake(FuturesIo::new(stream)).await.map_err(Fault::NoAnswer)?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(Fault::NoAnswer)?;
            match response.status() {
                StatusCode::OK => whole(response, limit).await,
                StatusCode::NOT_FOUND | StatusCode::GONE => Err(RetrieveError::not_found()),
                status => Err(Fault::Status(status).into()),
            }
        };
        // Not spawned: the connection is driven here, and closed when this load ends or is dropped.
        match select(pin!(answer), pin!(connection)).await {
            Either::Left((answer, _)) => answer,
            // The connection has ended, in order or not. Whichever it was, the answer has got to know.
            Either::Right((_, answer)) => answer.await,
        }
    }

    /// The prefix with the key behind it. The segments `.` and `..`, which no encoding protects from being resolved, are refused.
    fn path(&self, key: &str) -> Result<String, RetrieveError> {
        if key.contains('\0') || key.split('/').any(|segment| matches!(segment, "." | "..")) {
            return Err(RetrieveError::invalid_key("the key has a NUL, or a `.` or `..` segment"));
        }
        let segments = key.split('/').map(|segment| utf8_percent_encode(segment, ENCODED).to_string());
        Ok(format!("{}{}", self.prefix, segments.collect::<Vec<_>>().join("/")))
    }
}

/// The body, known to be all of it and within the limit.
async fn whole(response: Response<Incoming>, limit: usize) -> Result<Bytes, RetrieveError> {
    let headers = response.headers();
    // Without either a body ends where the connection does: one that is cut off looks whole.
    if !headers.contains_key(CONTENT_LENGTH) && !headers.contains_key(TRANSFER_ENCODING) {
        return Err(Fault::Unbounded.into());
    }
    match Limited::new(response.into_body(), limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(RetrieveError::too_large(limit)),
        Err(error) => Err(Fault::BrokenOff(error).into()),
    }
}
