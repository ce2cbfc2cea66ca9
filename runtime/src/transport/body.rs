//! HTTP/2 as the generated clients want it, with what tonic leaves unchecked.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use tower_service::Service;

use crate::rt::BoxFuture;

/// tonic panics on a value of this trailer that is not base64. Nothing here reads it, so it never gets there.
const DETAILS: &str = "grpc-status-details-bin";
const STATUS: &str = "grpc-status";

/// Why a call got no gRPC answer. tonic makes a status of it and keeps it as the status's source: so it can be told from what a peer says.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    #[error("the connection failed")]
    Connection(#[from] hyper::Error),
    #[error("the peer does not speak gRPC: HTTP status {0}")]
    NotGrpc(StatusCode),
    /// hyper reports a stream that was reset with CANCEL or NO_ERROR as ended, and tonic reports the missing status as UNKNOWN: which is how a
    /// Go node says that its origin failed.
    #[error("the peer broke off its answer")]
    Truncated,
}

/// One connection's calls.
#[derive(Clone, Debug)]
pub(super) struct Http2(pub(super) SendRequest<tonic::body::Body>);

impl Service<Request<tonic::body::Body>> for Http2 {
    type Response = Response<AnswerBody>;
    type Error = CallError;
    type Future = BoxFuture<'static, Result<Self::Response, CallError>>;

    /// Always: HTTP/2 queues, and a connection that is gone says so in [`call`](Self::call). Said here, the generated clients would make an
    /// UNKNOWN without a source of it, which reads as the peer's own words.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), CallError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let answer = self.0.send_request(request);
        Box::pin(async move { checked(answer.await?) })
    }
}

fn checked(answer: Response<Incoming>) -> Result<Response<AnswerBody>, CallError> {
    let (mut parts, inner) = answer.into_parts();
    let grpc =
        parts.headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if parts.status != StatusCode::OK || !grpc {
        return Err(CallError::NotGrpc(parts.status));
    }
    let complete = take_status(&mut parts.headers);
    Ok(Response::from_parts(parts, AnswerBody { inner, complete }))
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
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = CallError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CallError>>> {
        Pin::new(&mut self.inner).poll_frame(cx).map(|frame| match frame {
            Some(Ok(frame)) => Some(Ok(match frame.into_trailers() {
                Ok(mut trailers) => {
                    self.complete |= take_status(&mut trailers);
                    Frame::trailers(trailers)
                }
                Err(frame) => frame,
            })),
            Some(Err(error)) => Some(Err(error.into())),
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
