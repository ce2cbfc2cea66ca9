//! HTTP/2 as the generated clients want it, with what tonic leaves unchecked.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use tower_service::Service;

use super::pulse::{Pulse, Silent};
use crate::rt::BoxFuture;
use crate::tokens::Tokens;

/// tonic panics on a value of this trailer that is not base64. Nothing here reads it, so it never gets there.
const DETAILS: &str = "grpc-status-details-bin";
const STATUS: &str = "grpc-status";

/// Why a call got no gRPC answer. tonic makes a status of it and keeps it as the status's source: so it can be told from what a peer says.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("the connection failed")]
    Connection(#[source] hyper::Error),
    #[error("the connection was cut")]
    Cut(#[source] Silent),
    #[error("the peer does not speak gRPC: HTTP status {0}")]
    NotGrpc(StatusCode),
    /// hyper reports a stream that was reset with CANCEL or NO_ERROR as ended, and tonic reports the missing status as UNKNOWN: which is how a
    /// Go node says that its origin failed.
    #[error("the peer broke off its answer")]
    Truncated,
}

impl CallError {
    fn new(error: hyper::Error, pulse: Option<&Arc<Pulse>>) -> Self {
        pulse.and_then(|pulse| pulse.silence()).map_or(Self::Connection(error), Self::Cut)
    }
}

/// One connection's calls.
#[derive(Clone, Debug)]
pub(super) struct Http2 {
    http: SendRequest<tonic::body::Body>,
    /// Where the peer is not pinged.
    pulse: Option<Arc<Pulse>>,
    /// What the peer wants to be shown.
    tokens: Option<Tokens>,
}

impl Http2 {
    pub(super) const fn new(
        http: SendRequest<tonic::body::Body>,
        pulse: Option<Arc<Pulse>>,
        tokens: Option<Tokens>,
    ) -> Self {
        Self { http, pulse, tokens }
    }
}

impl Service<Request<tonic::body::Body>> for Http2 {
    type Response = Response<AnswerBody>;
    type Error = CallError;
    type Future = BoxFuture<'static, Result<Self::Response, CallError>>;

    /// Always: HTTP/2 queues, and a connection that is gone says so in [`call`](Self::call). Said here, the generated clients would make an
    /// UNKNOWN without a source of it, which reads as the peer's own words.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<tonic::body::Body>) -> Self::Future {
        if let Some(tokens) = &self.tokens {
            request.headers_mut().insert(AUTHORIZATION, tokens.authorization());
        }
        let pulse = self.pulse.clone();
        let number = pulse.as_ref().map(|pulse| pulse.begin());
        let answer = self.http.send_request(request);
        Box::pin(async move {
            let answer = answer.await.map_err(|error| CallError::new(error, pulse.as_ref()))?;
            if let (Some(pulse), Some(number)) = (&pulse, number) {
                pulse.note_answer(number);
            }
            checked(answer, pulse)
        })
    }
}

fn checked(answer: Response<Incoming>, pulse: Option<Arc<Pulse>>) -> Result<Response<AnswerBody>, CallError> {
    let (mut parts, inner) = answer.into_parts();
    let grpc =
        parts.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if parts.status != StatusCode::OK || !grpc {
        return Err(CallError::NotGrpc(parts.status));
    }
    let complete = take_status(&mut parts.headers);
    Ok(Response::from_parts(parts, AnswerBody { inner, complete, pulse }))
}

/// Whether the headers carry the call's status.
fn take_status(headers: &mut HeaderMap) -> bool {
    headers.remove(DETAILS);
    headers.contains_key(STATUS)
}

/// The body of an answer: ends well only behind a status.
#[derive(Debug)]
pub(super) struct AnswerBody {
    inner: Incoming,
    complete: bool,
    pulse: Option<Arc<Pulse>>,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = CallError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CallError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let (Some(Ok(_)), Some(pulse)) = (&frame, &self.pulse) {
            pulse.note_heard();
        }
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(Ok(match frame.into_trailers() {
                Ok(mut trailers) => {
                    self.complete |= take_status(&mut trailers);
                    Frame::trailers(trailers)
                }
                Err(frame) => frame,
            })),
            Some(Err(error)) => Some(Err(CallError::new(error, self.pulse.as_ref()))),
            None if self.complete => None,
            None => {
                self.complete = true;
                Some(Err(CallError::Truncated))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.complete && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
