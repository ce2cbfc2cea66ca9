//! What the HTTP side answers.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use groupcache_core::Level;
use groupcache_runtime::{Error, ErrorKind};
use groupcache_tokio::{Group, Server};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::body::Frames;
use super::route::{BadPath, Route};
use super::value;
use crate::report;

const LEVEL: HeaderName = HeaderName::from_static("x-groupcache");
const OWNER: HeaderName = HeaderName::from_static("x-groupcache-owner");

/// The node as HTTP clients see it.
pub(crate) struct Front {
    server: Server,
    stopping: AtomicBool,
}

impl Front {
    /// A front of `server`: of all the groups it has.
    pub(crate) const fn new(server: Server) -> Self {
        Self { server, stopping: AtomicBool::new(false) }
    }

    /// From now on the node says that it is not ready, so that load balancers turn away before it stops.
    pub(crate) fn say_stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Answers one request. Its body, if any, is not read.
    pub(super) async fn answer<B>(&self, request: &Request<B>) -> Response<Frames> {
        let (method, uri) = (request.method(), request.uri());
        let mut response = match Route::parse(uri.path(), uri.query()) {
            Ok(Route::Key { group, key }) => self.answer_key((method, request.headers()), &group, &key).await,
            Ok(page) => self.answer_page(method, &page),
            Err(BadPath::Unknown) => refusal(
                StatusCode::NOT_FOUND,
                "no_such_path",
                "there is nothing here: values are at /GROUP/KEY, the node's own pages at /-/healthz, /-/readyz, /-/stats and /-/ring",
            ),
            Err(BadPath::NotUtf8) => invalid_key("the key is not UTF-8"),
            Err(BadPath::Query) => invalid_key("a query is no part of a key: encode `?` as %3F"),
        };
        // What a value is, its origin says: no client is to guess otherwise from its bytes.
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        tracing::debug!(%method, path = uri.path(), status = response.status().as_u16(), "answered");
        response
    }

    fn answer_page(&self, method: &Method, page: &Route<'_>) -> Response<Frames> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return method_not_allowed("GET, HEAD");
        }
        match page {
            Route::Health | Route::Key { .. } => json_line(StatusCode::OK, &json!({ "healthy": true })),
            Route::Ready if self.stopping.load(Ordering::Relaxed) => {
                unready("stopping", "the node is stopping")
            }
            Route::Ready if !self.server.is_ready() => {
                unready("joining", "the node has not joined its ring yet")
            }
            Route::Ready => json_line(StatusCode::OK, &json!({ "ready": true })),
            Route::Stats => serialized(&self.server.stats()),
            Route::Ring => serialized(&self.server.ring()),
        }
    }

    async fn answer_key(
        &self,
        (method, headers): (&Method, &HeaderMap),
        name: &str,
        key: &str,
    ) -> Response<Frames> {
        if !matches!(*method, Method::GET | Method::HEAD | Method::DELETE) {
            return method_not_allowed("GET, HEAD, DELETE");
        }
        let Some(group) = self.server.group(name) else {
            let message = format!("this node has no group `{name}`");
            return refusal(StatusCode::NOT_FOUND, ErrorKind::NoSuchGroup.name(), message);
        };
        if key.is_empty() {
            return invalid_key("the key is empty: values are at /GROUP/KEY");
        }
        let mut response = match *method {
            Method::DELETE => remove(&group, key).await,
            _ => get((method, headers), &group, key).await,
        };
        if let Some(owner) = group.owner(key).and_then(|owner| HeaderValue::try_from(owner).ok()) {
            response.headers_mut().insert(OWNER, owner);
        }
        response
    }
}

async fn get((method, headers): (&Method, &HeaderMap), group: &Group, key: &str) -> Response<Frames> {
    let found = match group.lookup(key).await {
        Ok(found) => found,
        Err(error) => return failure(&error),
    };
    let level = match found.level {
        Level::Main => "hit",
        Level::Hot => "hot",
        Level::Peer => "peer",
        Level::Origin => "load",
    };
    let mut response = value::answer(method, headers, found);
    response.headers_mut().insert(LEVEL, HeaderValue::from_static(level));
    response
}

async fn remove(group: &Group, key: &str) -> Response<Frames> {
    match group.remove(key).await {
        Ok(report) => json_line(
            StatusCode::OK,
            // Members that are not reached keep a hot copy for at most the hot TTL.
            &json!({ "removed": true, "unacknowledged": report.unacknowledged }),
        ),
        Err(error) => failure(&error),
    }
}

fn failure(error: &Error) -> Response<Frames> {
    refusal(status(error.kind()), error.kind().name(), report::chain(error))
}

/// The status of each kind of error. A value over the limit is the origin's doing, so it is a bad gateway too.
const fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::NotFound | ErrorKind::NoSuchGroup => StatusCode::NOT_FOUND,
        ErrorKind::InvalidKey => StatusCode::BAD_REQUEST,
        ErrorKind::OriginFailed | ErrorKind::ValueTooLarge => StatusCode::BAD_GATEWAY,
        ErrorKind::Overloaded | ErrorKind::Stopping => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::Deadline => StatusCode::GATEWAY_TIMEOUT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn invalid_key(message: &str) -> Response<Frames> {
    refusal(StatusCode::BAD_REQUEST, ErrorKind::InvalidKey.name(), message)
}

fn unready(name: &str, message: &str) -> Response<Frames> {
    json_line(StatusCode::SERVICE_UNAVAILABLE, &json!({ "ready": false, "error": name, "message": message }))
}

fn method_not_allowed(allowed: &'static str) -> Response<Frames> {
    let message = format!("only {allowed} are answered here");
    let mut response = refusal(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

fn refusal(status: StatusCode, name: &str, message: impl Display) -> Response<Frames> {
    json_line(status, &json!({ "error": name, "message": message.to_string() }))
}

fn serialized(page: &impl serde::Serialize) -> Response<Frames> {
    match serde_json::to_value(page) {
        Ok(page) => json_line(StatusCode::OK, &page),
        Err(error) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "internal", error),
    }
}

/// One line of JSON, with its line end.
fn json_line(status: StatusCode, page: &Value) -> Response<Frames> {
    let mut response = Response::new(Frames::from(Bytes::from(format!("{page}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_a_status_of_its_family() {
        let statuses = ErrorKind::ALL.map(|kind| (kind.name(), status(kind).as_u16()));
        assert_eq!(
            statuses,
            [
                ("not_found", 404),
                ("origin_failed", 502),
                ("overloaded", 503),
                ("deadline", 504),
                ("no_such_group", 404),
                ("invalid_key", 400),
                ("value_too_large", 502),
                ("stopping", 503),
            ]
        );
    }
}
