//! A connection over TLS that says why it ends.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio_rustls::TlsStream;

use super::{TlsError, is_hang_up};
use crate::rt::Connection;

/// Passes everything through, and sees to it that the other side's last word is heard.
///
/// In TLS 1.3 whoever connects has finished before the other side has seen its certificate. A refusal comes later, as an alert, and a write that
/// meets the closed connection is often there first. HTTP/2 drops everything at a failed write, its error too. So a write after the other side has
/// hung up passes for one that was lost on its way, and what is read next tells: the alert, or else the system's error.
pub(super) struct Secured(TokioIo<TlsStream<TokioIo<Box<dyn Connection>>>>);

impl Secured {
    pub(super) fn new(stream: impl Into<TlsStream<TokioIo<Box<dyn Connection>>>>) -> Self {
        Self(TokioIo::new(stream.into()))
    }
}

impl Read for Secured {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.0).poll_read(cx, buffer);
        polled.map_err(|error| match error.get_ref() {
            Some(_) => TlsError::of(error).into_io(),
            None => error,
        })
    }
}

impl Write for Secured {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        written(Pin::new(&mut self.0).poll_write(cx, bytes), bytes.len())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        written(Pin::new(&mut self.0).poll_flush(cx), ())
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.0).poll_write_vectored(cx, parts);
        written(polled, parts.iter().map(|part| part.len()).sum())
    }
}

/// What a write has come to; `lost` stands for what is written to a connection that has broken. A broken connection wakes who reads it.
fn written<T>(polled: Poll<io::Result<T>>, lost: T) -> Poll<io::Result<T>> {
    match polled {
        Poll::Ready(Err(error)) if is_hang_up(error.kind()) => Poll::Ready(Ok(lost)),
        polled => polled,
    }
}
