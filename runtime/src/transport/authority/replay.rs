//! A connection without a socket, for tests and fuzzing: what a reader gets of bytes that arrive in pieces.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::task::noop_waker_ref;
use hyper::rt::{Read, ReadBuf, ReadBufCursor};

use super::Tolerant;

/// Pieces of a stream, each of which arrives when the one before has been read and the reader has waited.
#[derive(Debug)]
pub(super) struct Pieces<'a> {
    left: VecDeque<&'a [u8]>,
    has_waited: bool,
}

impl Read for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        mut to: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        self.has_waited = !self.has_waited;
        if self.has_waited {
            return Poll::Pending;
        }
        if let Some(piece) = self.left.pop_front() {
            let (now, later) = piece.split_at(piece.len().min(to.remaining()));
            to.put_slice(now);
            if !later.is_empty() {
                self.left.push_front(later);
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// All that is read of a connection on which `pieces` arrive, by one who takes up to `room` bytes at a time. Pieces and room are not empty.
pub(crate) fn replay<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, room: usize) -> Vec<u8> {
    replay_watched(pieces, room, |_| {})
}

/// The same, with a look at the connection after each time that it was asked.
pub(super) fn replay_watched<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    room: usize,
    mut look: impl FnMut(&Tolerant<Pieces<'a>>),
) -> Vec<u8> {
    let pieces = Pieces { left: pieces.into_iter().collect(), has_waited: false };
    let mut connection = Tolerant::new(pieces);
    let (mut read, mut buffer) = (Vec::new(), vec![0; room]);
    let mut context = Context::from_waker(noop_waker_ref());
    loop {
        let mut to = ReadBuf::new(&mut buffer);
        let polled = Pin::new(&mut connection).poll_read(&mut context, to.unfilled());
        look(&connection);
        if let Poll::Ready(result) = polled {
            result.expect("pieces do not fail");
            if to.filled().is_empty() {
                return read;
            }
            read.extend_from_slice(to.filled());
        }
    }
}
