//! Serves peers whose `:authority` is none.
//!
//! A Go node that finds its peers through etcd dials `groupcache/host:port`, and says so: `:authority: groupcache%2Fhost:port`. The HTTP/2
//! library underneath takes an authority apart and refuses what has a `%` or `/` in it, before any handler sees the request. No handler here
//! looks at the authority, so [`Tolerant`] stands between socket and library and turns those two bytes into `-`.
//!
//! Every length stays what it was: a byte is replaced by a byte, and in a Huffman-coded string (RFC 7541, appendix B) a code of 6 bits by a code
//! of 6 bits. So neither frames nor header blocks are made anew, and the tables of recent headers that both ends keep stay in step: who sends
//! the authority again by its number in the table gets what was put there, with the `-`.
//!
//! What it costs: each connection a buffer of 16 KiB, up to 64 KiB more while a header block is incomplete, and each byte that arrives one copy.
//! Of ordinary frames only the 9 bytes of header are looked at; a header block is walked once, from field to field, and of its strings only
//! an authority's is read. Nothing that is sent is touched.
//!
//! What it does not reach: an authority whose name the peer takes from its own entries in the table of recent headers. Encoders prefer the
//! table that everybody has from the start, where `:authority` is number 1.

mod frames;
mod hpack;
mod huffman;
#[cfg(any(test, feature = "__fuzz"))]
pub(crate) mod replay;
#[cfg(test)]
mod tests;

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use frames::Frames;

/// How much is read at once.
const READ: usize = 16 * 1024;

/// A peer's connection, with every `:authority` made one that is taken.
#[derive(Debug)]
pub(super) struct Tolerant<C> {
    io: C,
    frames: Frames,
    /// Bytes `given..settled` are for the reader, `settled..filled` are held back until it is known what they are.
    buffer: Vec<u8>,
    given: usize,
    settled: usize,
    filled: usize,
}

impl<C> Tolerant<C> {
    pub(super) const fn new(io: C) -> Self {
        Self { io, frames: Frames::new(), buffer: Vec::new(), given: 0, settled: 0, filled: 0 }
    }

    /// Hands out what is settled, as much as there is room for.
    fn give(&mut self, to: &mut ReadBufCursor<'_>) {
        let end = self.settled.min(self.given + to.remaining());
        to.put_slice(&self.buffer[self.given..end]);
        self.given = end;
    }

    /// Makes room for a read behind what is held back, and takes back the room that a large block took.
    fn make_room(&mut self) {
        if self.settled > 0 {
            self.buffer.copy_within(self.settled..self.filled, 0);
            self.filled -= self.settled;
            (self.given, self.settled) = (0, 0);
        }
        if self.filled == self.buffer.len() {
            self.buffer.reserve_exact(READ);
            self.buffer.resize(self.filled + READ, 0);
        } else if self.filled == 0 && self.buffer.len() > READ {
            self.buffer.truncate(READ);
            self.buffer.shrink_to_fit();
        }
    }
}

impl<C: Read + Unpin> Read for Tolerant<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut to: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.given == this.settled && to.remaining() > 0 {
            if this.frames.are_over() && this.settled == this.filled {
                return Pin::new(&mut this.io).poll_read(context, to);
            }
            this.make_room();
            let mut room = ReadBuf::new(&mut this.buffer[this.filled..]);
            ready!(Pin::new(&mut this.io).poll_read(context, room.unfilled()))?;
            match room.filled().len() {
                // The end: what is held back gets no more complete.
                0 if this.filled == 0 => return Poll::Ready(Ok(())),
                0 => this.settled = this.filled,
                more => {
                    this.filled += more;
                    this.settled = this.frames.settle(&mut this.buffer[..this.filled]);
                }
            }
        }
        this.give(&mut to);
        Poll::Ready(Ok(()))
    }
}

impl<C: Write + Unpin> Write for Tolerant<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }
}
