//! What the HTTP side answers.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use groupcache_core::Level;
use groupcache_runtime::{Error, ErrorKind};
use groupcache_tokio::trace::TraceContext;
use groupcache_tokio::{Access, Group, Server, TokenRefused, Tokens};
use hyper::header::{
    ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};

use super::body::Frames;
use super::page::for_people;
use super::route::{BadPath, Route};
use super::value;
use crate::metrics::{self, Exporter};
use crate::report;

const LEVEL: HeaderName = HeaderName::from_static("x-groupcache");
const OWNER: HeaderName = HeaderName::from_static("x-groupcache-owner");

/// The node as HTTP clients see it.
pub(crate) struct Front {
    server: Server,
    exporter: Exporter,
    tokens: Option<Tokens>,
    stopping: AtomicBool,
}

impl Front {
    /// A front of `server`: of all the groups it has.
    pub(crate) const fn new(server: Server, exporter: Exporter) -> Self {
        Self { server, exporter, tokens: None, stopping: AtomicBool::new(false) }
    }

    /// Asks for a token: for everything but the pages that say whether the node lives and is ready, and the page for people, which asks for a token itself.
    pub(crate) fn with_tokens(self, tokens: Option<Tokens>) -> Self {
        Self { tokens, ..self }
    }

    /// From now on the node says that it is not ready, so that load balancers turn away before it stops.
    pub(crate) fn say_stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Answers one request. Its body, if any, is not read.
    pub(super) async fn answer<B>(&self, request: &Request<B>) -> Response<Frames> {
        let (method, uri) = (request.method(), request.uri());
        let route = Route::parse(uri.path(), uri.query());
        let mut response = match self.refused(&route, request) {
            Some(refused) => refused,
            None => self.answer_route(request, route).await,
        };
        // What a value is, its origin says: no client is to guess otherwise from its bytes.
        response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        tracing::debug!(%method, path = uri.path(), status = response.status().as_u16(), "answered");
        response
    }

    async fn answer_route<B>(
        &self,
        request: &Request<B>,
        route: Result<Route<'_>, BadPath>,
    ) -> Response<Frames> {
        let (method, headers) = (request.method(), request.headers());
        match route {
            Ok(Route::Key { group, key }) => {
                let answering = self.answer_key((method, headers), &group, &key);
                match TraceContext::from_headers(headers) {
                    Some(context) => context.scope(answering).await,
                    None => answering.await,
                }
            }
            Ok(Route::Why { group, key }) => self.explain(method, &group, &key),
            Ok(page) => self.answer_page(method, &page),
            Err(BadPath::Unknown) => refusal(
                StatusCode::NOT_FOUND,
                "no_such_path",
                "there is nothing here: values are at /GROUP/KEY, the node's own pages at /, /-/healthz, /-/readyz, /-/stats, /-/metrics, \
                 /-/ring, /-/live and /-/why/GROUP/KEY",
            ),
            Err(BadPath::NotUtf8) => invalid_key("the key is not UTF-8"),
            Err(BadPath::Query) => invalid_key("a query is no part of a key: encode `?` as %3F"),
        }
    }

    /// What is answered to who does not have the token that this needs.
    fn refused<B>(
        &self,
        route: &Result<Route<'_>, BadPath>,
        request: &Request<B>,
    ) -> Option<Response<Frames>> {
        // The page holds no figures: it asks for a token, and for them with it.
        if matches!(route, Ok(Route::Health | Route::Ready | Route::Page)) {
            return None;
        }
        let reads = matches!(*request.method(), Method::GET | Method::HEAD);
        let access = if reads { Access::Read } else { Access::Write };
        let sent = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let refused = self.tokens.as_ref()?.admit(access, sent).err()?;
        let name = if refused == TokenRefused::Missing { "no_token" } else { "unknown_token" };
        let mut response = refusal(StatusCode::UNAUTHORIZED, name, refused);
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        Some(response)
    }

    fn answer_page(&self, method: &Method, page: &Route<'_>) -> Response<Frames> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return method_not_allowed("GET, HEAD");
        }
        match page {
            Route::Page => for_people(),
            Route::Health | Route::Key { .. } | Route::Why { .. } => {
                json_line(StatusCode::OK, &json!({ "healthy": true }))
            }
            Route::Ready if self.stopping.load(Ordering::Relaxed) => {
                unready("stopping", "the node is stopping")
            }
            Route::Ready if !self.server.is_ready() => {
                unready("joining", "the node has not joined its ring yet")
            }
            Route::Ready => json_line(StatusCode::OK, &json!({ "ready": true })),
            Route::Stats => serialized(&self.server.stats()),
            Route::Ring => serialized(&self.server.ring()),
            Route::Metrics => {
                let mut response =
                    Response::new(Frames::from(Bytes::from(self.exporter.render(&self.server))));
                let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            Route::Live => serialized(&self.server.live()),
        }
    }

    fn explain(&self, method: &Method, name: &str, key: &str) -> Response<Frames> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return method_not_allowed("GET, HEAD");
        }
        match self.server.group(name) {
            None => no_such_group(name),
            Some(_) if key.is_empty() => invalid_key("the key is empty: ask for /-/why/GROUP/KEY"),
            Some(group) => serialized(&group.explain(key)),
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
        let Some(group) = self.server.group(name) else { return no_such_group(name) };
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

fn no_such_group(name: &str) -> Response<Frames> {
    let message = format!("this node has no group `{name}`");
    refusal(StatusCode::NOT_FOUND, ErrorKind::NoSuchGroup.name(), message)
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
