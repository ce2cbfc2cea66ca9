//! A node in a blocking loop: threads and `std::net`, nothing else.
//!
//! ```text
//! cargo run -p groupcache-core --example blocking
//! ```
//!
//! One thread owns the `Node`; nobody else touches it, so there is no lock. All that happens comes to this thread as an [`Event`] through one channel,
//! and it sleeps on that channel until the node's next wake. That is the whole loop, [`Host::run`]:
//!
//! 1. carry out what the node wants: answer callers, send messages, start loads and dials;
//! 2. sleep: until an event, or until the wake;
//! 3. hand in the event, and the time-outs that are due.
//!
//! Whatever blocks has a thread of its own, and posts an event when it is done:
//!
//! - one accepts connections;
//! - one reads each connection and one writes it, so that a peer that does not read holds up nobody;
//! - one dials each peer, while it is being dialled;
//! - four ask the origin.
//!
//! The channel is bounded: a node that is behind reads its peers more slowly. What is unsent to a peer is bounded too: a peer that is too far behind
//! loses its connection. The node's thread never posts to its own channel, for it could wait for itself.
//!
//! To take this home: this file, and all of `common` but the demonstration.

mod common;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use groupcache_core::{DialId, Effects, Intent, PeerId, Wake};

use common::commands::{Caller, Command, obey};
use common::demonstration::{self, Running};
use common::exchange::{ConnId, Exchange};
use common::wire::{Frames, Garbled, Message};
use common::workers::{Loaded, Workers};
use common::{Core, Setup, Stage, members};

/// Events that wait for the node's thread, at most.
const MAX_EVENTS: usize = 1024;
/// Bytes that wait for one peer, at most.
const MAX_UNSENT: usize = 32 << 20;
/// How long dialling may take: less than the core gives it, `LinkConfig::connect_timeout`.
const DIAL: Duration = Duration::from_millis(400);
/// A peer that takes nothing for this long has failed.
const WRITE: Duration = Duration::from_secs(2);
/// How long not to accept connections after that has failed: there are no file descriptors left, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

fn main() -> Result<(), Box<dyn Error>> {
    demonstration::run("threads that block", start)
}

/// All that can happen to a node, time apart.
enum Event {
    /// A caller in this process wants something.
    Command(Command),
    /// Somebody has dialled us.
    Accepted(TcpStream),
    /// A dial has ended.
    Dialled(ConnId, io::Result<TcpStream>),
    /// A peer has said something.
    Received(ConnId, Message),
    /// A connection has ended.
    Closed(ConnId, io::Error),
    /// The origin has answered.
    Loaded(Loaded),
}

/// One node, on the thread that owns it.
struct Host {
    core: Core,
    exchange: Exchange,
    members: Arc<[String]>,
    workers: Workers,
    inbox: Receiver<Event>,
    /// For threads to post to `inbox`.
    post: SyncSender<Event>,
    writers: BTreeMap<ConnId, Writer>,
    acceptor: Acceptor,
    stage: Stage,
    /// The buffer that was emptied last, to be filled again.
    spare: Effects<Caller>,
}

impl Host {
    /// The loop.
    fn run(mut self) -> io::Result<()> {
        self.core.node.start(self.core.now(), &mut self.core.out);
        loop {
            self.carry_out();
            if self.stage.is_over(&self.core) {
                return self.end();
            }
            if let Some(event) = self.sleep() {
                self.handle(event);
            }
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

    fn sleep(&self) -> Option<Event> {
        // No error but the time-out: `self.post` keeps the channel open.
        match self.core.time_until(self.next_wake()) {
            Some(time) => self.inbox.recv_timeout(time).ok(),
            None => self.inbox.recv().ok(),
        }
    }

    /// Everything that has a time shares the one sleep.
    fn next_wake(&self) -> Wake {
        self.core.node.next_wake().earlier(self.exchange.next_wake()).earlier(self.stage.next_wake())
    }

    fn handle_timeouts(&mut self) {
        let now = self.core.now();
        if self.core.node.next_wake().is_due(now) {
            let _next = self.core.node.handle_timeout(now, &mut self.core.out);
        }
        for conn in self.exchange.overdue(now) {
            self.close(conn, Garbled("no hello").into());
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
            Intent::Connect { peer, dial, name } => self.dial(peer, dial, name),
            Intent::Forget { peer } => {
                if let Some(conn) = self.exchange.forget(peer) {
                    self.close(conn, io::ErrorKind::NotConnected.into());
                }
            }
            Intent::Registry(intent) => members::answer(&mut self.core, &self.members, &intent),
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Command(command) => obey(&mut self.core, &self.exchange, &mut self.stage, command),
            Event::Accepted(stream) => {
                // Dropped, and so closed, when there are too many.
                if let Some(conn) = self.exchange.accepted(&self.core) {
                    self.attach(conn, stream);
                }
            }
            Event::Dialled(conn, Ok(stream)) => {
                if let Some(hello) = self.exchange.hello(conn) {
                    self.attach(conn, stream);
                    self.send([hello]);
                }
            }
            Event::Received(conn, message) => match self.exchange.received(&mut self.core, conn, message) {
                Ok(answer) => self.send(answer.map(|answer| (conn, answer))),
                Err(garbled) => self.close(conn, garbled.into()),
            },
            Event::Dialled(conn, Err(cause)) | Event::Closed(conn, cause) => self.close(conn, cause),
            Event::Loaded(Loaded { flight, attempt, outcome }) => {
                let now = self.core.now();
                self.core.node.handle_loaded(now, flight, attempt, outcome, &mut self.core.out);
            }
        }
    }

    fn dial(&mut self, peer: PeerId, id: DialId, name: Arc<str>) {
        let (conn, replaced) = self.exchange.dialling(&self.core, peer, id);
        if let Some(replaced) = replaced {
            self.close(replaced, io::ErrorKind::TimedOut.into());
        }
        let post = self.post.clone();
        let dial = move || {
            let _over = post.send(Event::Dialled(conn, connect(&name)));
        };
        if let Err(cause) = thread::Builder::new().name("dial".into()).spawn(dial) {
            self.close(conn, cause);
        }
    }

    /// Gives a connection its two threads.
    fn attach(&mut self, conn: ConnId, stream: TcpStream) {
        let (post, reading) = (self.post.clone(), stream.try_clone());
        let attached = reading.and_then(|reading| {
            let writer = Writer::start(stream)?;
            let read = move || read(conn, reading, &post);
            if let Err(error) = thread::Builder::new().name("read".into()).spawn(read) {
                writer.shut_down();
                return Err(error);
            }
            Ok(writer)
        });
        match attached {
            Ok(writer) => {
                self.writers.insert(conn, writer);
            }
            Err(cause) => self.close(conn, cause),
        }
    }

    fn send(&mut self, messages: impl IntoIterator<Item = (ConnId, Message)>) {
        for (conn, message) in messages {
            // Where the connection is being closed, its end is an event that is on its way.
            if self.writers.get(&conn).is_some_and(|writer| !writer.send(&message)) {
                self.close(conn, io::Error::other("the peer does not read"));
            }
        }
    }

    /// Closes a connection, or takes note that it is closed.
    fn close(&mut self, conn: ConnId, cause: io::Error) {
        if let Some(writer) = self.writers.remove(&conn) {
            writer.shut_down();
        }
        self.exchange.closed(&mut self.core, conn, cause);
    }

    /// Ends the node, and its threads. A killed node says nothing to anybody.
    fn end(mut self) -> io::Result<()> {
        if self.stage == Stage::Killed {
            self.writers.values().for_each(Writer::shut_down);
        } else {
            let mut wake = Wake::Now;
            while wake == Wake::Now {
                wake = self.core.node.shutdown(self.core.now(), &mut self.core.out);
                self.carry_out();
            }
        }
        // Threads that would post find nobody, and end.
        drop(self.inbox);
        self.writers.into_values().for_each(Writer::finish);
        self.acceptor.stop()
    }
}

/// Sends what is queued for one connection, from a thread of its own.
struct Writer {
    stream: TcpStream,
    queue: Sender<Vec<u8>>,
    unsent: Arc<AtomicUsize>,
    thread: JoinHandle<()>,
}

impl Writer {
    fn start(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(WRITE))?;
        let (queue, queued) = mpsc::channel::<Vec<u8>>();
        let unsent = Arc::new(AtomicUsize::new(0));
        let (mut to, left) = (stream.try_clone()?, Arc::clone(&unsent));
        let thread = thread::Builder::new().name("write".into()).spawn(move || {
            for frame in queued {
                if to.write_all(&frame).is_err() {
                    break;
                }
                left.fetch_sub(frame.len(), Ordering::Relaxed);
            }
            // The reader sees the end of the connection, whoever ended it, and says so.
            let _closed = to.shutdown(Shutdown::Both);
        })?;
        Ok(Self { stream, queue, unsent, thread })
    }

    /// Queues a message. `false` when too much is unsent.
    fn send(&self, message: &Message) -> bool {
        let frame = message.encode();
        let unsent = self.unsent.fetch_add(frame.len(), Ordering::Relaxed) + frame.len();
        // A thread that has ended has closed the connection, which the reader tells.
        let _ended = self.queue.send(frame);
        unsent <= MAX_UNSENT
    }

    /// Ends the connection now. The threads notice.
    fn shut_down(&self) {
        let _closed = self.stream.shutdown(Shutdown::Both);
    }

    /// Sends what is queued, then ends the connection.
    fn finish(self) {
        drop(self.queue);
        let _ended = self.thread.join();
    }
}

/// Reads one connection to its end.
fn read(conn: ConnId, mut stream: TcpStream, post: &SyncSender<Event>) {
    let mut frames = Frames::default();
    let mut chunk = vec![0; 64 << 10];
    let cause = loop {
        match stream.read(&mut chunk) {
            Ok(0) => break io::ErrorKind::UnexpectedEof.into(),
            Ok(length) => frames.push(&chunk[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => break error,
        }
        match post_all(conn, &mut frames, post) {
            Ok(true) => {}
            Ok(false) => return,
            Err(garbled) => break garbled.into(),
        }
    };
    let _over = post.send(Event::Closed(conn, cause));
}

/// Posts the messages that have arrived. `false` when the node has ended.
fn post_all(conn: ConnId, frames: &mut Frames, post: &SyncSender<Event>) -> Result<bool, Garbled> {
    while let Some(message) = frames.next()? {
        if post.send(Event::Received(conn, message)).is_err() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Tries each address of a name, within [`DIAL`] in all.
fn connect(name: &str) -> io::Result<TcpStream> {
    let until = std::time::Instant::now() + DIAL;
    let mut cause = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in name.to_socket_addrs()? {
        let left = until.saturating_duration_since(std::time::Instant::now());
        // No time at all is refused as an argument.
        match TcpStream::connect_timeout(&address, left.max(Duration::from_millis(1))) {
            Ok(stream) => return Ok(stream),
            Err(error) => cause = error,
        }
    }
    Err(cause)
}

/// The thread that accepts connections.
struct Acceptor {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Acceptor {
    fn start(listener: TcpListener, post: SyncSender<Event>) -> io::Result<Self> {
        let (address, is_over) = (listener.local_addr()?, Arc::new(AtomicBool::new(false)));
        let flag = Arc::clone(&is_over);
        let thread = thread::Builder::new().name("accept".into()).spawn(move || {
            for stream in listener.incoming() {
                let posted = match stream {
                    _ if flag.load(Ordering::Relaxed) => return,
                    Ok(stream) => post.send(Event::Accepted(stream)),
                    Err(_) => {
                        thread::sleep(ACCEPT_PAUSE);
                        Ok(())
                    }
                };
                if posted.is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { address, is_over, thread })
    }

    /// Nothing in `std` interrupts an accept, but a connection.
    fn stop(self) -> io::Result<()> {
        self.is_over.store(true, Ordering::Relaxed);
        // Where this fails the thread has ended already, or is about to.
        let _woken = TcpStream::connect_timeout(&self.address, DIAL);
        self.thread.join().map_err(|_| io::Error::other("the thread that accepts has panicked"))
    }
}

/// Starts a node on a thread of its own.
fn start(setup: Setup) -> Result<Running, Box<dyn Error>> {
    let Setup { listener, name, members, origin, seed } = setup;
    let (post, inbox) = mpsc::sync_channel(MAX_EVENTS);
    let core = Core::new(&name, seed)?;
    let hand_in = post.clone();
    let workers = Workers::start(&core, &origin, move |loaded| {
        let _over = hand_in.send(Event::Loaded(loaded));
    })?;
    let host = Host {
        exchange: Exchange::new(&name),
        acceptor: Acceptor::start(listener, post.clone())?,
        writers: BTreeMap::new(),
        spare: Effects::new(),
        stage: Stage::Running,
        post: post.clone(),
        core,
        members,
        workers,
        inbox,
    };
    let thread = thread::Builder::new().name(name.clone()).spawn(move || host.run())?;
    Ok(Running::new(name, thread, move |command| post.send(Event::Command(command)).is_ok()))
}
