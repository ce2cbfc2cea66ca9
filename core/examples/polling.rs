//! A node in an event loop: sockets that do not block, and one call of `poll` that waits for all of them. On `mio`.
//!
//! ```text
//! cargo run -p groupcache-core --example polling
//! ```
//!
//! One thread does all of a node's work. It owns the `Node` and every socket, and sleeps in `poll` until the node's next wake: the time-out of `poll` is
//! the only timer. That is the whole loop, [`Host::run`]:
//!
//! 1. carry out what the node wants: answer callers, queue messages, begin loads and dials;
//! 2. sleep: until a socket is ready, a caller or the origin has left a note, or the wake;
//! 3. hand in what has happened, and the time-outs that are due.
//!
//! What comes from elsewhere, from callers and from the four threads that ask the origin, comes as a [`Note`] through a channel, and [`Waker::wake`] ends
//! the sleep. With an origin that is asked over a socket of the same `poll` those threads are not needed.
//!
//! `mio` tells of a change once: a socket must be read until it would block. So that one busy peer does not keep the loop to itself, a socket is read in
//! [`PORTION`]s, and one with more to read stays on the list `unfinished`; the sleep is then none at all. What is unsent to a peer is bounded: a peer that
//! is too far behind loses its connection. Names of members must be addresses, as looking a name up would block.
//!
//! To take this home: this file, and all of `common` but the demonstration.

mod common;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use groupcache_core::{DialId, Effects, Instant, Intent, PeerId, Wake};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};

use common::commands::{Caller, Command, obey};
use common::demonstration::{self, Running};
use common::exchange::{ConnId, Exchange};
use common::wire::{Frames, Garbled, Message};
use common::workers::{Loaded, Workers};
use common::{Core, Setup, Stage, members};

/// The tokens that are no connection. Connections count from 0.
const LISTENER: Token = Token(usize::MAX);
const NOTES: Token = Token(usize::MAX - 1);
/// Bytes that are read from one socket in one turn, about.
const PORTION: usize = 256 << 10;
/// Bytes that wait for one peer, at most.
const MAX_UNSENT: usize = 32 << 20;
/// Connections that are accepted in one turn, at most.
const MAX_ACCEPTS: usize = 64;
/// How long not to accept connections after that has failed: there are no file descriptors left, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a node that has ended gives its peers to take the last answers.
const LINGER: Duration = Duration::from_secs(2);

fn main() -> Result<(), Box<dyn Error>> {
    demonstration::run("an event loop", start)
}

/// What comes from other threads.
enum Note {
    /// A caller in this process wants something.
    Command(Command),
    /// The origin has answered.
    Loaded(Loaded),
}

/// One node, on the thread that owns it.
struct Host {
    core: Core,
    exchange: Exchange,
    members: Arc<[String]>,
    workers: Workers,
    notes: Receiver<Note>,
    poll: Poll,
    listener: TcpListener,
    /// When to accept again: after a failure, or with more connections waiting than one turn takes.
    accept: Wake,
    sockets: BTreeMap<ConnId, Socket>,
    /// Sockets that have not been read until they would block.
    unfinished: BTreeSet<ConnId>,
    stage: Stage,
    /// The buffer that was emptied last, to be filled again.
    spare: Effects<Caller>,
}

impl Host {
    /// The loop.
    fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(256);
        self.core.node.start(self.core.now(), &mut self.core.out);
        loop {
            self.carry_out();
            if self.stage.is_over(&self.core) {
                return self.end(events);
            }
            self.sleep(&mut events, self.next_wake())?;
            self.handle_events(&events);
            self.handle_notes();
            self.handle_timeouts();
        }
    }

    /// Carries out what the node wants. To carry out one thing may make it want more.
    fn carry_out(&mut self) {
        while !self.core.out.is_empty() {
            let mut out = std::mem::replace(&mut self.core.out, std::mem::take(&mut self.spare));
            self.core.deliver(&mut out);
            for intent in out.drain_intents() {
                self.execute(intent);
            }
            self.spare = out;
        }
        self.core.out.free_evicted();
        self.spare.free_evicted();
    }

    fn sleep(&mut self, events: &mut Events, wake: Wake) -> io::Result<()> {
        match self.poll.poll(events, self.core.time_until(wake)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                events.clear();
                Ok(())
            }
            polled => polled,
        }
    }

    /// Everything that has a time shares the one sleep.
    fn next_wake(&self) -> Wake {
        let sockets = if self.unfinished.is_empty() { self.accept } else { Wake::Now };
        let others = [self.exchange.next_wake(), self.stage.next_wake(), sockets];
        others.into_iter().fold(self.core.node.next_wake(), Wake::earlier)
    }

    fn handle_events(&mut self, events: &Events) {
        for event in events {
            match event.token() {
                LISTENER => self.accept = Wake::Now,
                // Notes are looked for in every turn.
                NOTES => {}
                Token(conn) => {
                    if event.is_readable() || event.is_read_closed() || event.is_error() {
                        self.unfinished.insert(conn);
                    }
                    if event.is_writable() || event.is_error() {
                        self.write(conn);
                    }
                }
            }
        }
        for conn in std::mem::take(&mut self.unfinished) {
            self.read(conn);
        }
    }

    fn handle_notes(&mut self) {
        while let Ok(note) = self.notes.try_recv() {
            match note {
                Note::Command(command) => obey(&mut self.core, &self.exchange, &mut self.stage, command),
                Note::Loaded(Loaded { flight, attempt, outcome }) => {
                    let now = self.core.now();
                    self.core.node.handle_loaded(now, flight, attempt, outcome, &mut self.core.out);
                }
            }
        }
    }

    fn handle_timeouts(&mut self) {
        let now = self.core.now();
        if self.core.node.next_wake().is_due(now) {
            let _next = self.core.node.handle_timeout(now, &mut self.core.out);
        }
        for conn in self.exchange.overdue(now) {
            self.close(conn, Garbled("no hello").into());
        }
        if self.accept.is_due(now) {
            self.accept = self.accept_all(now);
        }
    }

    fn execute(&mut self, intent: Intent) {
        match intent {
            Intent::Load { flight, attempt, key, deadline, .. } => {
                self.workers.load(flight, attempt, key, deadline)
            }
            Intent::AbortLoad { flight } => self.workers.abort(flight),
            Intent::Fetch(batch) => {
                let message = self.exchange.fetch(&mut self.core, &batch);
                self.send(message);
            }
            Intent::AbortFetch { peer, batch } => {
                let message = self.exchange.abort_fetch(peer, batch);
                self.send(message);
            }
            Intent::Reply { request, results, last } => {
                let messages = self.exchange.reply(&self.core, request, results, last);
                self.send(messages);
            }
            Intent::Invalidate { removal, peer, what, deadline } => {
                let message = self.exchange.invalidate(&mut self.core, (removal, peer), &what, deadline);
                self.send(message);
            }
            Intent::Connect { peer, dial, name } => self.dial(peer, dial, &name),
            Intent::Forget { peer } => {
                if let Some(conn) = self.exchange.forget(peer) {
                    self.close(conn, io::ErrorKind::NotConnected.into());
                }
            }
            Intent::Registry(intent) => members::answer(&mut self.core, &self.members, &intent),
        }
    }

    /// Accepts who waits. Says when to try again, if no event will.
    fn accept_all(&mut self, now: Instant) -> Wake {
        for _ in 0..MAX_ACCEPTS {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    // Dropped, and so closed, when there are too many.
                    if let Some(conn) = self.exchange.accepted(&self.core) {
                        self.attach(conn, stream, true);
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Wake::Idle,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => return Wake::At(now.saturating_add(ACCEPT_PAUSE)),
                },
            }
        }
        Wake::Now
    }

    /// Begins to dial: the connection is there when its socket can be written. What is queued until then waits.
    fn dial(&mut self, peer: PeerId, dial: DialId, name: &str) {
        let (conn, replaced) = self.exchange.dialling(&self.core, peer, dial);
        if let Some(replaced) = replaced {
            self.close(replaced, io::ErrorKind::TimedOut.into());
        }
        let address = name.parse::<SocketAddr>().map_err(io::Error::other);
        match address.and_then(TcpStream::connect) {
            Ok(stream) => {
                self.attach(conn, stream, false);
                self.send(self.exchange.hello(conn));
            }
            Err(cause) => self.close(conn, cause),
        }
    }

    fn attach(&mut self, conn: ConnId, mut stream: TcpStream, is_connected: bool) {
        let both = Interest::READABLE | Interest::WRITABLE;
        let ready = if is_connected { stream.set_nodelay(true) } else { Ok(()) };
        match ready.and_then(|()| self.poll.registry().register(&mut stream, Token(conn), both)) {
            Ok(()) => {
                self.sockets.insert(conn, Socket::new(stream, is_connected));
            }
            Err(cause) => self.close(conn, cause),
        }
    }

    fn read(&mut self, conn: ConnId) {
        let Some(socket) = self.sockets.get_mut(&conn) else { return };
        let ended = socket.read();
        if let Ok(More::Now) = ended {
            self.unfinished.insert(conn);
        }
        // What was said before the end counts.
        loop {
            let Some(socket) = self.sockets.get_mut(&conn) else { return };
            let received = match socket.frames.next() {
                Ok(Some(message)) => self.exchange.received(&mut self.core, conn, message),
                Ok(None) => break,
                Err(garbled) => Err(garbled),
            };
            match received {
                Ok(answer) => self.send(answer.map(|answer| (conn, answer))),
                Err(garbled) => return self.close(conn, garbled.into()),
            }
        }
        if let Err(cause) = ended {
            self.close(conn, cause);
        }
    }

    fn write(&mut self, conn: ConnId) {
        let written = self.sockets.get_mut(&conn).map_or(Ok(()), Socket::write);
        if let Err(cause) = written {
            self.close(conn, cause);
        }
    }

    fn send(&mut self, messages: impl IntoIterator<Item = (ConnId, Message)>) {
        for (conn, message) in messages {
            let Some(socket) = self.sockets.get_mut(&conn) else { continue };
            socket.unsent.extend(message.encode());
            if socket.unsent.len() > MAX_UNSENT {
                self.close(conn, io::Error::other("the peer does not read"));
            } else {
                self.write(conn);
            }
        }
    }

    fn close(&mut self, conn: ConnId, cause: io::Error) {
        // The socket takes its registration with it.
        self.sockets.remove(&conn);
        self.unfinished.remove(&conn);
        self.exchange.closed(&mut self.core, conn, cause);
    }

    /// Ends the node. A killed node says nothing to anybody; any other sends the last answers.
    fn end(mut self, mut events: Events) -> io::Result<()> {
        if self.stage == Stage::Killed {
            return Ok(());
        }
        let mut wake = Wake::Now;
        while wake == Wake::Now {
            wake = self.core.node.shutdown(self.core.now(), &mut self.core.out);
            self.carry_out();
        }
        let until = self.core.now().saturating_add(LINGER);
        while self.core.now() < until {
            self.sockets.retain(|_, socket| !socket.unsent.is_empty() && socket.write().is_ok());
            if self.sockets.values().all(|socket| socket.unsent.is_empty()) {
                break;
            }
            self.sleep(&mut events, Wake::At(until))?;
        }
        Ok(())
    }
}

/// A connection's socket, and what is on its way through it.
struct Socket {
    stream: TcpStream,
    /// Whether the dial has ended well. It is not written before.
    is_connected: bool,
    frames: Frames,
    unsent: VecDeque<u8>,
}

/// Whether a socket has more to read.
enum More {
    Now,
    WhenReady,
}

impl Socket {
    fn new(stream: TcpStream, is_connected: bool) -> Self {
        Self { stream, is_connected, frames: Frames::default(), unsent: VecDeque::new() }
    }

    /// Reads until it would block, or has read a [`PORTION`]. An error is the end of the connection.
    fn read(&mut self) -> io::Result<More> {
        let mut chunk = [0; 16 << 10];
        let mut left = PORTION;
        while left > 0 {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => {
                    self.frames.push(&chunk[..length]);
                    left = left.saturating_sub(length);
                }
                Err(error) => match error.kind() {
                    // Not connected: the dial is still under way.
                    io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected => return Ok(More::WhenReady),
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        Ok(More::Now)
    }

    /// Writes what is unsent until it would block.
    fn write(&mut self) -> io::Result<()> {
        if !self.is_connected && !self.has_connected()? {
            return Ok(());
        }
        while !self.unsent.is_empty() {
            match self.stream.write(self.unsent.as_slices().0) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(()),
                    io::ErrorKind::Interrupted => {}
                    _ => return Err(error),
                },
            }
        }
        Ok(())
    }

    /// Whether a dial has ended, and how: what `mio` says to do when such a socket can be written.
    fn has_connected(&mut self) -> io::Result<bool> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => {
                self.is_connected = true;
                self.stream.set_nodelay(true)?;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Starts a node on a thread of its own.
fn start(setup: Setup) -> Result<Running, Box<dyn Error>> {
    let Setup { listener, name, members, origin, seed } = setup;
    listener.set_nonblocking(true)?;
    let (poll, mut listener) = (Poll::new()?, TcpListener::from_std(listener));
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let waker = Arc::new(Waker::new(poll.registry(), NOTES)?);
    let (sender, notes) = mpsc::channel();
    let leave_note = move |note| sender.send(note).is_ok() && waker.wake().is_ok();
    let core = Core::new(&name, seed)?;
    let hand_in = leave_note.clone();
    let workers = Workers::start(&core, &origin, move |loaded| {
        let _over = hand_in(Note::Loaded(loaded));
    })?;
    let host = Host {
        exchange: Exchange::new(&name),
        accept: Wake::Idle,
        sockets: BTreeMap::new(),
        unfinished: BTreeSet::new(),
        stage: Stage::Running,
        spare: Effects::new(),
        core,
        members,
        workers,
        notes,
        poll,
        listener,
    };
    let thread = thread::Builder::new().name(name.clone()).spawn(move || host.run())?;
    Ok(Running::new(name, thread, move |command| leave_note(Note::Command(command))))
}
