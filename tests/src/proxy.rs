//! A TCP proxy in front of one node or of etcd, that turns bad when it is told to.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;

use crate::ports::reserve;

/// How often the listener looks for who connects, and for what it has been told.
const TICK: Duration = Duration::from_millis(2);
/// How long a write may be stuck before it is asked whether its connection is still wanted.
const STUCK: Duration = Duration::from_millis(100);
/// How long the listener may take to do as it is told.
const OBEYED: Duration = Duration::from_secs(10);

/// Passes bytes both ways between who connects and its target. Dropped, it cuts everybody off and listens no more.
#[derive(Debug)]
pub struct Proxy {
    addr: String,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    target: String,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug)]
struct State {
    manners: Manners,
    delay: Duration,
    /// Connections that were made before the latest cut are over.
    era: u64,
    listening: bool,
    accepted: usize,
    /// Both ends of every connection, by number: whoever is stuck in a read of one is woken by them.
    open: HashMap<usize, [TcpStream; 2]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manners {
    Pass,
    Freeze,
    Refuse,
    HangUp,
    /// The proxy is dropped.
    Over,
}

impl Proxy {
    /// A proxy on a port of its own before `target` (`host:port`), which need not listen yet.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn start(target: &str) -> Self {
        let addr = format!("127.0.0.1:{}", reserve());
        let listener = TcpListener::bind(&addr).expect("a reserved port can be bound");
        let state = State {
            manners: Manners::Pass,
            delay: Duration::ZERO,
            era: 0,
            listening: true,
            accepted: 0,
            open: HashMap::new(),
        };
        let shared =
            Arc::new(Shared { target: target.to_owned(), state: Mutex::new(state), changed: Condvar::new() });
        let (told, at) = (Arc::clone(&shared), addr.clone());
        thread::spawn(move || told.listen(&at, listener));
        Self { addr, shared }
    }

    /// Where it listens, `host:port`.
    #[must_use]
    pub fn addr(&self) -> &str {
        &self.addr
    }

    /// Connections that were accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.lock().accepted
    }

    /// From now on every connection is accepted and held, and nothing passes: what a lost machine looks like. What was under way is kept, and
    /// passes when the proxy heals.
    pub fn freeze(&self) {
        self.shared.become_of(Manners::Freeze, false);
    }

    /// Resets every connection. Those that come after it pass.
    pub fn cut(&self) {
        let manners = self.shared.lock().manners;
        self.shared.become_of(manners, true);
    }

    /// Resets every connection, and closes the listener: nobody listens there any more.
    ///
    /// # Panics
    /// When the listener does not close.
    pub fn refuse(&self) {
        self.shared.become_of(Manners::Refuse, true);
        self.shared.wait_listening(false);
    }

    /// Resets every connection, and those to come as soon as they are accepted.
    pub fn hang_up(&self) {
        self.shared.become_of(Manners::HangUp, true);
    }

    /// From now on every chunk of bytes is held for `time`, one after the other, each way.
    pub fn delay(&self, time: Duration) {
        self.shared.lock().delay = time;
    }

    /// Passes everything again, at once.
    ///
    /// # Panics
    /// When its port has been taken by somebody else meanwhile.
    pub fn heal(&self) {
        self.shared.lock().delay = Duration::ZERO;
        self.shared.become_of(Manners::Pass, false);
        self.shared.wait_listening(true);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.become_of(Manners::Over, true);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn become_of(&self, manners: Manners, cut: bool) {
        let mut state = self.lock();
        state.manners = manners;
        if cut {
            state.era += 1;
            for (_, ends) in state.open.drain() {
                ends.iter().for_each(reset_on_close);
            }
        }
        drop(state);
        self.changed.notify_all();
    }

    fn wait_listening(&self, wanted: bool) {
        let deadline = Instant::now() + OBEYED;
        while self.lock().listening != wanted {
            assert!(Instant::now() < deadline, "a proxy whose listener does not do as it is told");
            thread::sleep(TICK);
        }
    }

    fn listen(self: Arc<Self>, addr: &str, first: TcpListener) {
        let mut listener = Some(first);
        loop {
            match self.lock().manners {
                Manners::Over => return,
                Manners::Refuse => listener = None,
                Manners::Pass | Manners::Freeze | Manners::HangUp if listener.is_none() => {
                    listener = TcpListener::bind(addr).ok();
                }
                Manners::Pass | Manners::Freeze | Manners::HangUp => {}
            }
            self.lock().listening = listener.is_some();
            let accepted = listener.as_ref().and_then(|listener| {
                listener.set_nonblocking(true).ok()?;
                listener.accept().ok()
            });
            match accepted {
                Some((inbound, _)) => self.take(inbound),
                None => thread::sleep(TICK),
            }
        }
    }

    fn take(self: &Arc<Self>, inbound: TcpStream) {
        let mut state = self.lock();
        state.accepted += 1;
        let (number, era) = (state.accepted, state.era);
        if state.manners == Manners::HangUp {
            reset_on_close(&inbound);
            return;
        }
        drop(state);
        let shared = Arc::clone(self);
        thread::spawn(move || shared.connect(inbound, number, era));
    }

    /// Connects to the target, and passes bytes until one side or the proxy ends it.
    fn connect(self: Arc<Self>, inbound: TcpStream, number: usize, era: u64) -> Option<()> {
        // On some systems it has inherited this from the listener.
        inbound.set_nonblocking(false).ok()?;
        if !self.may_pass(era) {
            reset_on_close(&inbound);
            return None;
        }
        let outbound = TcpStream::connect(&self.target).ok()?;
        for end in [&inbound, &outbound] {
            end.set_nodelay(true).ok()?;
            end.set_write_timeout(Some(STUCK)).ok()?;
        }
        let clones = || Some([inbound.try_clone().ok()?, outbound.try_clone().ok()?]);
        let (kept, answers) = (clones()?, clones()?);
        {
            let mut state = self.lock();
            if state.era != era {
                kept.iter().for_each(reset_on_close);
                return None;
            }
            state.open.insert(number, kept);
        }
        let shared = Arc::clone(&self);
        let back = thread::spawn(move || {
            let [inbound, outbound] = answers;
            shared.pump(outbound, inbound, era);
        });
        self.pump(inbound, outbound, era);
        back.join().ok()?;
        self.lock().open.remove(&number);
        Some(())
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream, era: u64) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            if !self.may_pass(era) {
                return;
            }
            let read = from.read(&mut buffer);
            thread::sleep(self.lock().delay);
            // What came while it froze is held like everything else: an end, too.
            if !self.may_pass(era) {
                return;
            }
            match read {
                // Who has gone already need not be told.
                Ok(0) => return drop(to.shutdown(Shutdown::Write)),
                Ok(read) if self.write(&mut to, &buffer[..read], era) => {}
                Ok(_) | Err(_) => return drop(to.shutdown(Shutdown::Both)),
            }
        }
    }

    /// Whether it could.
    fn write(&self, to: &mut TcpStream, mut bytes: &[u8], era: u64) -> bool {
        while !bytes.is_empty() {
            match to.write(bytes) {
                Ok(0) => return false,
                Ok(written) => bytes = &bytes[written..],
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if self.lock().era != era {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
        true
    }

    /// Waits while it is frozen. `false`: the connection is over.
    fn may_pass(&self, era: u64) -> bool {
        let mut state = self.lock();
        while state.era == era && state.manners == Manners::Freeze {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.era == era
    }
}

/// Makes the end of `stream` a reset, and wakes who reads from it. That it has ended already is no matter.
fn reset_on_close(stream: &TcpStream) {
    let _ended = set_socket_linger(stream, Some(Duration::ZERO));
    let _ended = stream.shutdown(Shutdown::Read);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Echoes what every connection sends.
    fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let addr = listener.local_addr().expect("it listens").to_string();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let mut writer = stream.try_clone().expect("a socket");
                    std::io::copy(&mut &stream, &mut writer)
                });
            }
        });
        addr
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.addr()).expect("the proxy listens");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit");
        stream
    }

    fn echoed(stream: &mut TcpStream) -> bool {
        let mut answer = [0; 4];
        stream.write_all(b"ping").is_ok() && stream.read_exact(&mut answer).is_ok() && answer == *b"ping"
    }

    #[test]
    fn what_is_frozen_passes_when_the_proxy_heals() {
        let proxy = Proxy::start(&echo());
        let mut stream = connect(&proxy);
        assert!(echoed(&mut stream));
        proxy.freeze();
        stream.write_all(b"held").expect("the socket takes it");
        let mut late = connect(&proxy);
        late.write_all(b"late").expect("the socket takes it");
        stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a time limit");
        let mut answer = [0; 4];
        assert!(stream.read_exact(&mut answer).is_err(), "nothing passes");
        proxy.heal();
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit");
        stream.read_exact(&mut answer).expect("what was held");
        assert_eq!(&answer, b"held");
        late.read_exact(&mut answer).expect("what was held");
        assert_eq!(&answer, b"late");
    }

    #[test]
    fn a_cut_resets_who_is_connected_and_nobody_else() {
        let proxy = Proxy::start(&echo());
        let mut stream = connect(&proxy);
        assert!(echoed(&mut stream));
        proxy.cut();
        let error = stream.read(&mut [0]).expect_err("a reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        assert!(echoed(&mut connect(&proxy)));
        assert_eq!(proxy.accepted(), 2);
    }

    #[test]
    fn who_is_refused_is_let_in_again_when_the_proxy_heals() {
        let proxy = Proxy::start(&echo());
        proxy.refuse();
        let refused = TcpStream::connect(proxy.addr()).expect_err("nobody listens");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        proxy.heal();
        assert!(echoed(&mut connect(&proxy)));
        proxy.hang_up();
        assert!(!echoed(&mut connect(&proxy)));
        proxy.heal();
        assert!(echoed(&mut connect(&proxy)));
    }

    #[test]
    fn a_delay_is_added_each_way() {
        let proxy = Proxy::start(&echo());
        let mut stream = connect(&proxy);
        proxy.delay(Duration::from_millis(50));
        let started = Instant::now();
        assert!(echoed(&mut stream));
        assert!(started.elapsed() >= Duration::from_millis(100), "{:?}", started.elapsed());
    }
}
