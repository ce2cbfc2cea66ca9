//! Holds back what a connection writes in its turn, to send it in one piece.
//!
//! HTTP/2's headers are flushed before the body's task has had its round, and each flush is a packet that wakes the peer: a request was two system calls here,
//! and its owner was woken for half of it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use futures_util::task::AtomicWaker;
use hyper::rt::{Read, ReadBufCursor, Write};

/// What is held back at most, in bytes. More than that is worth a packet.
const MOST: usize = 4096;
/// Room that an idle connection keeps, in bytes.
const KEPT: usize = 512;
/// Pieces of one write, at most; the others come in the next.
const PIECES: usize = 16;

/// Whether it is in: put in by who drives the connection, heeded by what it writes to. Both are of one task.
#[derive(Clone, Debug, Default)]
pub(super) struct Cork(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_in: AtomicBool,
    /// Who has flushed in vain.
    flushes: AtomicWaker,
}

impl Cork {
    /// From now on a flush sends nothing.
    pub(super) fn put_in(&self) {
        self.0.is_in.store(true, Ordering::Relaxed);
    }

    /// From now on it does. Who has flushed in vain is woken, to do it again.
    pub(super) fn pull(&self) {
        self.0.is_in.store(false, Ordering::Relaxed);
        self.0.flushes.wake();
    }

    /// `io`, corked.
    pub(super) fn around<C>(&self, io: C) -> Corked<C> {
        Corked { io, held: Vec::new(), sent: 0, cork: self.clone() }
    }

    fn is_in(&self) -> bool {
        self.0.is_in.load(Ordering::Relaxed)
    }
}

/// A connection that is written to in few pieces.
#[derive(Debug)]
pub(super) struct Corked<C> {
    io: C,
    /// `sent..` are to be sent.
    held: Vec<u8>,
    sent: usize,
    cork: Cork,
}

impl<C: Write + Unpin> Corked<C> {
    fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    #[cfg(test)]
    pub(super) const fn io(&self) -> &C {
        &self.io
    }

    /// Takes `bufs` in, where they are few bytes.
    fn hold(&mut self, bufs: &[IoSlice<'_>]) -> Option<usize> {
        let len = bufs.iter().map(|buf| buf.len()).sum::<usize>();
        if self.held.len() + len > MOST {
            return None;
        }
        bufs.iter().for_each(|buf| self.held.extend_from_slice(buf));
        Some(len)
    }

    /// Sends what is held, and of `bufs` what goes out with it. Answers how much of `bufs` went.
    fn send(&mut self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        while !self.is_empty() {
            let mut pieces = [IoSlice::new(&[]); PIECES];
            pieces[0] = IoSlice::new(&self.held[self.sent..]);
            let more = bufs.len().min(PIECES - 1);
            pieces[1..=more].copy_from_slice(&bufs[..more]);
            let written = ready!(write(&mut self.io, cx, &pieces[..=more]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_held = written.min(self.held.len() - self.sent);
            self.sent += of_held;
            if self.sent == self.held.len() {
                self.held.clear();
                self.sent = 0;
                if self.held.capacity() > KEPT {
                    self.held = Vec::new();
                }
            }
            if written > of_held {
                return Poll::Ready(Ok(written - of_held));
            }
        }
        if bufs.iter().all(|buf| buf.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        write(&mut self.io, cx, bufs)
    }
}

/// As much as goes, in as few system calls as `io` can.
fn write<C: Write + Unpin>(
    io: &mut C,
    cx: &mut Context<'_>,
    bufs: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let mut full = bufs.iter().filter(|buf| !buf.is_empty());
    match (full.next(), full.next()) {
        (Some(only), None) => Pin::new(io).poll_write(cx, only),
        (Some(first), Some(_)) if !io.is_write_vectored() => Pin::new(io).poll_write(cx, first),
        _ => Pin::new(io).poll_write_vectored(cx, bufs),
    }
}

impl<C: Write + Unpin> Write for Corked<C> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.hold(bufs) {
            Some(len) => Poll::Ready(Ok(len)),
            None => self.send(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.cork.is_in() && !self.is_empty() {
            self.cork.0.flushes.register(cx.waker());
            return Poll::Ready(Ok(()));
        }
        ready!(self.send(cx, &[]))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.send(cx, &[]))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<C: Read + Write + Unpin> Read for Corked<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // Who reads has flushed, or believes so: a handshake does not flush again before it is answered.
        if !self.cork.is_in() && !self.is_empty() {
            let _all_gone = self.send(cx, &[])?;
        }
        Pin::new(&mut self.io).poll_read(cx, to)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::task::Waker;

    use hyper::rt::ReadBuf;

    use super::*;
    use crate::bell::tests::Woken;

    /// Takes a few bytes at a time, and says when a system call was made.
    pub(in super::super) struct Sink {
        pub(in super::super) taken: Vec<u8>,
        pub(in super::super) calls: usize,
        /// Bytes that a call takes; none: it is full.
        room: usize,
        flushes: usize,
    }

    impl Sink {
        pub(in super::super) const fn new(room: usize) -> Self {
            Self { taken: Vec::new(), calls: 0, room, flushes: 0 }
        }
    }

    impl Write for Sink {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let len = buf.len().min(self.room);
            if len == 0 {
                return Poll::Pending;
            }
            self.calls += 1;
            self.taken.extend_from_slice(&buf[..len]);
            Poll::Ready(Ok(len))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bufs: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = bufs.iter().flat_map(|buf| buf.iter().copied()).collect();
            self.poll_write(cx, &all)
        }

        fn is_write_vectored(&self) -> bool {
            true
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    impl Read for Sink {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    fn corked(room: usize) -> (Cork, Corked<Sink>) {
        let cork = Cork::default();
        let corked = cork.around(Sink::new(room));
        (cork, corked)
    }

    fn cx() -> Context<'static> {
        Context::from_waker(Waker::noop())
    }

    fn write_all(to: &mut Corked<Sink>, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match Pin::new(&mut *to).poll_write(&mut cx(), bytes) {
                Poll::Ready(Ok(len)) => bytes = &bytes[len..],
                other => panic!("{other:?}"),
            }
        }
    }

    fn flush(what: &mut Corked<Sink>) -> Poll<()> {
        Pin::new(what).poll_flush(&mut cx()).map(|flushed| flushed.expect("no error"))
    }

    #[test]
    fn what_is_flushed_in_a_turn_goes_out_in_one_piece_behind_it() {
        let (cork, mut to) = corked(usize::MAX);
        let (waker, woken) = Woken::counted();
        let flush = |to: &mut Corked<Sink>| {
            let flushed = Pin::new(to).poll_flush(&mut Context::from_waker(&waker));
            assert!(matches!(flushed, Poll::Ready(Ok(()))));
            woken.times()
        };
        for turn in 1..=3 {
            to.io.taken.clear();
            cork.put_in();
            for part in ["headers", " body", " trailers"] {
                write_all(&mut to, part.as_bytes());
                assert_eq!((flush(&mut to), to.io.calls), (turn - 1, turn - 1));
            }
            cork.pull();
            assert_eq!((flush(&mut to), to.io.calls), (turn, turn), "it was woken to flush again");
            assert_eq!(to.io.taken, b"headers body trailers");
            // With nothing written there is nothing to come back for.
            cork.put_in();
            let _woken = flush(&mut to);
            cork.pull();
            assert_eq!(flush(&mut to), turn);
        }
    }

    #[test]
    fn every_byte_comes_through_once_and_in_order_whatever_is_written_and_taken_at_a_time() {
        let bytes: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        for (piece, room) in [(1, 7), (100, 64), (4_095, 5_000), (4_096, 4_096), (70_000, 30_000)] {
            let (cork, mut to) = corked(room);
            for (number, chunk) in bytes.chunks(piece).enumerate() {
                if number % 5 == 0 {
                    cork.put_in();
                }
                write_all(&mut to, chunk);
                if number % 5 == 4 {
                    cork.pull();
                    assert_eq!(flush(&mut to), Poll::Ready(()));
                }
                assert!(to.held.len() <= MOST);
            }
            cork.pull();
            assert_eq!(flush(&mut to), Poll::Ready(()));
            assert!(to.io.taken == bytes, "{piece} {room}");
            assert!(to.held.capacity() <= KEPT, "an idle connection keeps little");
        }
    }

    #[test]
    fn a_full_socket_is_waited_for_and_nothing_is_lost() {
        let (_, mut to) = corked(0);
        write_all(&mut to, b"abc");
        assert_eq!(flush(&mut to), Poll::Pending);
        let large = vec![b'd'; MOST];
        assert!(Pin::new(&mut to).poll_write(&mut cx(), &large).is_pending());
        to.io.room = 2;
        assert_eq!(flush(&mut to), Poll::Ready(()));
        assert_eq!(to.io.taken, b"abc");
    }

    #[test]
    fn who_waits_for_an_answer_has_sent_what_it_asks() {
        let (_, mut to) = corked(usize::MAX);
        write_all(&mut to, b"preface");
        let mut answer = ReadBuf::new(&mut []);
        assert!(Pin::new(&mut to).poll_read(&mut cx(), answer.unfilled()).is_pending());
        assert_eq!(to.io.taken, b"preface");
    }
}
