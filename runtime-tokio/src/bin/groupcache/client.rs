//! `groupcache get` and `rm`, and how every command talks to a running node.
//!
//! The client is hyper's own and not reqwest, which resolves `..` in a path before it sends it: a key may be that.

use bytes::Bytes;
use groupcache_tokio::{Connection as Stream, Runtime, Security, Tls, Tokens, Tokio};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::cli::{KeyArgs, NodeArgs};
use crate::report::{self, Exit, print, say};

/// What a node reads back as it was: everything but unreserved characters is encoded, and slashes stay.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// `groupcache get`: the value on stdout, whole or not at all.
pub(crate) async fn get(args: &KeyArgs) -> Result<(), Exit> {
    print(&ask(&args.node, Method::GET, &path_of(&args.group, &args.key)).await?)
}

/// `groupcache rm`: says on stderr which members did not acknowledge.
pub(crate) async fn rm(args: &KeyArgs) -> Result<(), Exit> {
    let report = ask_json(&args.node, Method::DELETE, &path_of(&args.group, &args.key)).await?;
    let missed: Vec<&str> =
        report["unacknowledged"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if !missed.is_empty() {
        say(&format!(
            "groupcache: removed, but {} did not acknowledge: copies there live on for at most the hot TTL",
            missed.join(", ")
        ));
    }
    Ok(())
}

/// Where a node has a key's value.
pub(crate) fn path_of(group: &str, key: &str) -> String {
    format!("/{}/{}", utf8_percent_encode(group, ENCODED), utf8_percent_encode(key, ENCODED))
}

/// Asks a node for one of its pages.
///
/// # Errors
/// See [`ask`]; also when the answer is not JSON.
pub(crate) async fn ask_json(node: &NodeArgs, method: Method, path: &str) -> Result<Value, Exit> {
    let body = ask(node, method, path).await?;
    serde_json::from_slice(&body)
        .map_err(|error| Exit::other(format!("{} does not answer as a node does: {error}", node.node)))
}

/// Sends one request to a node and answers the body.
///
/// # Errors
/// The node's URL is none; the node cannot be reached, or breaks off; it answers with an error, which decides the exit code.
pub(crate) async fn ask(node: &NodeArgs, method: Method, path: &str) -> Result<Bytes, Exit> {
    let to = Target::of(node)?;
    let talk = exchange(&to, method, path);
    let (status, body) = tokio::time::timeout(node.timeout, talk)
        .await
        .map_err(|_| {
            let timeout = humantime::format_duration(node.timeout);
            Exit::other(format!("{} did not answer within {timeout}", node.node))
        })?
        .map_err(|error| Exit::other(format!("cannot talk to {}: {}", node.node, report::chain(&*error))))?;
    if status.is_success() { Ok(body) } else { Err(failure(status, &body)) }
}

async fn exchange(to: &Target, method: Method, path: &str) -> Result<(StatusCode, Bytes), Trouble> {
    let answer = NodeConnection::open(to).await?.ask(method, path).await?;
    Ok((answer.status(), answer.into_body()))
}

/// A node's HTTP side.
#[derive(Debug)]
pub(crate) struct Target {
    authority: String,
    /// How it is spoken to at `https://`.
    tls: Option<Tls>,
    tokens: Option<Tokens>,
}

impl Target {
    /// The node that a command line names.
    ///
    /// # Errors
    /// Its URL is none, or what it is to be spoken to with cannot be read.
    pub(crate) fn of(node: &NodeArgs) -> Result<Self, Exit> {
        let (secure, authority) = authority(&node.node)?;
        let tls = secure.then(|| node.tls()).transpose()?;
        let tokens = node.tokens()?;
        if tokens.is_some() && report::crosses_in_plain_text(&node.node, false) {
            say(&format!("groupcache: the token goes to {} in plain text: use https://", node.node));
        }
        Ok(Self { authority, tls, tokens })
    }

    async fn connect(&self) -> std::io::Result<Box<dyn Stream>> {
        let stream = Tokio.connect(&self.authority).await?;
        match &self.tls {
            Some(tls) => tls.connect(&self.authority, stream).await,
            None => Ok(stream),
        }
    }
}

/// What can go wrong between a node and this process.
pub(crate) type Trouble = Box<dyn std::error::Error + Send + Sync>;

/// A connection to a node, for one request after the other.
#[derive(Debug)]
pub(crate) struct NodeConnection {
    authority: String,
    token: Option<HeaderValue>,
    sender: http1::SendRequest<Empty<Bytes>>,
    /// Drives the connection; ends with it.
    driver: JoinHandle<()>,
}

impl NodeConnection {
    /// Connects to a node.
    ///
    /// # Errors
    /// It cannot be reached.
    pub(crate) async fn open(to: &Target) -> Result<Self, Trouble> {
        let (sender, connection) = http1::handshake(to.connect().await?).await?;
        // That it ends is no news: who waits for an answer hears of it.
        let driver = tokio::spawn(async move { drop(connection.await) });
        let token = to.tokens.as_ref().map(Tokens::authorization);
        Ok(Self { authority: to.authority.clone(), token, sender, driver })
    }

    /// Sends a request, and answers with what came: a whole body, whatever the status.
    ///
    /// # Errors
    /// The connection broke. It is of no more use.
    pub(crate) async fn ask(&mut self, method: Method, path: &str) -> Result<Response<Bytes>, Trouble> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.authority)
            .header(USER_AGENT, concat!("groupcache/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())?;
        if let Some(token) = &self.token {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        Ok(Response::from_parts(head, body.collect().await?.to_bytes()))
    }
}

impl Drop for NodeConnection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Whether to speak TLS and where to connect to, out of `http://host:port`, `https://host:port` or `host:port`.
fn authority(node: &str) -> Result<(bool, String), Exit> {
    let wrong = |why: &str| Exit::usage(format!("--node `{node}` is not a node's URL: {why}"));
    let text = if node.contains("://") { node.to_owned() } else { format!("http://{node}") };
    let uri: Uri = text.parse().map_err(|error: http::uri::InvalidUri| wrong(&error.to_string()))?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(wrong("expected http://HOST:PORT"));
    };
    let default = match scheme {
        "http" => 80,
        "https" => 443,
        _ => return Err(wrong("a node's HTTP side speaks http or https")),
    };
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(wrong("it has no path"));
    }
    let port = authority.port_u16().unwrap_or(default);
    Ok((scheme == "https", format!("{}:{port}", authority.host())))
}

/// What a node's error means for the exit code, in the node's own words.
fn failure(status: StatusCode, body: &[u8]) -> Exit {
    let page: Value = serde_json::from_slice(body).unwrap_or_default();
    match (page["error"].as_str(), page["message"].as_str()) {
        (Some("not_found"), Some(message)) => Exit::not_found(message),
        (Some(kind), Some(message)) => Exit::other(format!("{message} ({kind})")),
        _ => Exit::other(format!("the node answered {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_named_by_its_url_or_by_host_and_port() {
        for (node, expected) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://127.0.0.1:8080/", "127.0.0.1:8080"),
            ("localhost:81", "localhost:81"),
            ("http://node", "node:80"),
            ("https://node", "node:443"),
            ("https://node:8443/", "node:8443"),
            ("http://[::1]:8080", "[::1]:8080"),
        ] {
            assert_eq!(authority(node).expect(node), (node.starts_with("https"), expected.to_owned()));
        }
        for refused in ["ftp://node", "http://node/files", "http://", "http://a b"] {
            assert!(authority(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn errors_are_told_in_the_nodes_words_and_by_exit_code() {
        let not_found = failure(StatusCode::NOT_FOUND, br#"{"error":"not_found","message":"not found"}"#);
        assert_eq!((not_found.message(), not_found.code()), ("not found", 1.into()));
        let failed = failure(StatusCode::BAD_GATEWAY, br#"{"error":"origin_failed","message":"no"}"#);
        assert_eq!((failed.message(), failed.code()), ("no (origin_failed)", 3.into()));
        let other = failure(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!((other.message(), other.code()), ("the node answered 502 Bad Gateway", 3.into()));
    }
}
