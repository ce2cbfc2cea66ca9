//! Three nodes on loopback, and what is to be seen of them. It asserts what it tells, and waits for nothing without a limit.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use groupcache_core::{FailureKind, Fetched, Level, Link, Node, Ring};

use super::Setup;
use super::commands::{Caller, Command, Done};
use super::wire::{MAX_VALUE, Message};
use super::workers::{Origin, OriginError};

/// How long anything here may take. Nothing does on a machine that is not overwhelmed.
const LIMIT: Duration = Duration::from_secs(20);
/// How long the origin takes for a key.
const SLOW: Duration = Duration::from_millis(200);

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Starts three nodes with `start`, shows what they do, and stops them.
pub(crate) fn run(by: &str, start: fn(Setup) -> Outcome<Running>) -> Outcome<()> {
    println!("Three nodes on loopback, each run by {by}:");
    let database = Arc::new(Database::default());
    let mut fleet = Fleet::start(&database, start)?;
    one_load_for_thirty_callers(&fleet)?;
    a_key_that_does_not_exist(&fleet)?;
    where_values_come_from(&fleet)?;
    large_values(&fleet)?;
    a_removal_that_everybody_acknowledges(&fleet)?;
    peers_that_talk_nonsense(&fleet)?;
    a_node_that_dies(&mut fleet)?;
    an_orderly_end(fleet)?;
    println!("All of it was so.");
    Ok(())
}

fn one_load_for_thirty_callers(fleet: &Fleet) -> Outcome<()> {
    println!("\nThirty callers on three nodes ask for one cold key of a slow origin:");
    let callers: Vec<_> =
        (0..30).map(|caller| fleet.nodes[caller % 3].ask("cold")).collect::<Outcome<_>>()?;
    let mut levels = Vec::new();
    for caller in callers {
        let found = answer(&caller)?.map_err(|kind| kind.name())?;
        assert_eq!(*found.value, *b"cold, version 1");
        levels.push(found.level);
    }
    let count = |level| levels.iter().filter(|&&it| it == level).count();
    println!("  {} asked the owner, {} another node", count(Level::Origin), count(Level::Peer));
    let loads = fleet.database.loads("cold");
    assert_eq!(loads, [fleet.owner("cold")?.name.as_str()], "the owner alone asks the origin, once");
    println!("  the origin was asked once, by the owner, {}", loads[0]);
    Ok(())
}

fn a_key_that_does_not_exist(fleet: &Fleet) -> Outcome<()> {
    println!("\nA key that does not exist is an answer as well:");
    let missing = fleet.key_of(0, "missing")?;
    for node in [0, 1, 2] {
        let failure = answer(&fleet.nodes[node].ask(&missing)?)?.err();
        assert_eq!(failure, Some(FailureKind::NotFound));
    }
    assert_eq!(fleet.database.loads(&missing).len(), 1);
    println!("  three nodes have it from the owner, which has asked the origin once");
    Ok(())
}

fn where_values_come_from(fleet: &Fleet) -> Outcome<()> {
    println!("\nWhere a value comes from:");
    let key = fleet.key_of(1, "key")?;
    let (owner, other) = (&fleet.nodes[1], &fleet.nodes[0]);
    let steps = [
        (owner, Level::Origin, "the owner loads it"),
        (owner, Level::Main, "and has it"),
        (other, Level::Peer, "another node fetches it from the owner"),
        (other, Level::Hot, "and keeps a copy for a while"),
    ];
    for (node, level, words) in steps {
        let found = node.get(&key)?;
        assert_eq!((&*found.value, found.level), (format!("{key}, version 1").as_bytes(), level));
        println!("  {}: {level:?}: {words}", node.name);
    }
    assert_eq!(fleet.database.loads(&key).len(), 1);
    Ok(())
}

fn large_values(fleet: &Fleet) -> Outcome<()> {
    println!("\nValues of 1 MiB, as large as they may be here, sixteen at once from one peer:");
    let keys: Vec<_> = (0..16).map(|n| fleet.key_of(1, &format!("large-{n}"))).collect::<Outcome<_>>()?;
    // From the first node the owner has to load them, for the other it has them all at once.
    for node in [&fleet.nodes[0], &fleet.nodes[2]] {
        let callers: Vec<_> = keys.iter().map(|key| node.ask(key)).collect::<Outcome<_>>()?;
        for (key, caller) in keys.iter().zip(callers) {
            let found = answer(&caller)?.map_err(|kind| kind.name())?;
            assert!(*found.value == *large(key), "{key} arrives as it was sent");
            assert_eq!(found.level, Level::Peer, "{key} arrives, and need not be asked for elsewhere");
        }
    }
    println!("  they arrive as they were sent");
    let failure = answer(&fleet.nodes[0].ask(&fleet.key_of(1, "too-large")?)?)?.err();
    assert_eq!(failure, Some(FailureKind::ValueTooLarge));
    println!("  one byte more is refused");
    Ok(())
}

/// A value as large as may be, that shows whether parts of it were lost or mixed up.
fn large(key: &str) -> Vec<u8> {
    let mut value: Vec<u8> = (0..MAX_VALUE).map(|at| (at / 251) as u8 ^ (at % 251) as u8).collect();
    value[..key.len()].copy_from_slice(key.as_bytes());
    value
}

fn a_removal_that_everybody_acknowledges(fleet: &Fleet) -> Outcome<()> {
    println!("\nThe origin changes, and a node that does not own the key says so:");
    let key = fleet.key_of(1, "changing")?;
    for node in &fleet.nodes {
        assert_eq!(*node.get(&key)?.value, *format!("{key}, version 1").as_bytes());
    }
    fleet.database.change();
    assert_eq!(*fleet.nodes[0].get(&key)?.value, *format!("{key}, version 1").as_bytes(), "it is cached");
    assert_eq!(fleet.nodes[2].remove(&key)?, [""; 0], "nobody is left out");
    println!("  all have acknowledged the removal");
    for node in &fleet.nodes {
        assert_eq!(*node.get(&key)?.value, *format!("{key}, version 2").as_bytes());
    }
    println!("  and all have the new version, for one load");
    assert_eq!(fleet.database.loads(&key).len(), 2);
    Ok(())
}

fn peers_that_talk_nonsense(fleet: &Fleet) -> Outcome<()> {
    println!("\nWho does not keep to the protocol:");
    let node = &fleet.nodes[0];
    let hello = Message::Hello { name: "a stranger".into() }.encode();
    let nonsense = [
        ("speaks something else", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("announces 4 GiB", vec![0xff; 8]),
        ("asks without a hello", Message::Cancel { tag: 1 }.encode()),
        ("says hello twice", [&*hello, &*hello].concat()),
        ("answers what it was not asked", [hello, Message::Forgotten { tag: 1 }.encode()].concat()),
        ("says nothing", Vec::new()),
    ];
    for (who, bytes) in nonsense {
        let mut stream = TcpStream::connect(&node.name)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(&bytes)?;
        match stream.read_to_end(&mut Vec::new()) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => return Err(format!("a peer that {who} is not turned away: {error}").into()),
        }
        println!("  a peer that {who} loses its connection");
    }
    assert_eq!(*node.get("cold")?.value, *b"cold, version 1");
    Ok(())
}

fn a_node_that_dies(fleet: &mut Fleet) -> Outcome<()> {
    println!("\nA node dies:");
    let (key, ring) = (fleet.key_of(1, "orphan")?, fleet.ring()?);
    let successor = ring.successors(key.as_bytes()).nth(1).ok_or("nobody succeeds")?.name().to_owned();
    let dead = fleet.nodes.remove(1);
    println!("  {} is gone, with no word to anybody", dead.name);
    let dead_name = dead.end(Command::Kill)?;
    let callers: Vec<_> = (0..6).map(|caller| fleet.nodes[caller % 2].ask(&key)).collect::<Outcome<_>>()?;
    for caller in callers {
        let found = answer(&caller)?.map_err(|kind| kind.name())?;
        assert_eq!(*found.value, *format!("{key}, version 2").as_bytes());
    }
    assert_eq!(fleet.database.loads(&key), [successor.as_str()], "its successor alone asks the origin, once");
    for node in &fleet.nodes {
        let knows = |node: &Node<Caller>| node.links().filter(|link| link.is_connected()).count() == 1;
        poll("the survivors know", || node.inspect(knows))?;
    }
    println!("  its keys are served by their successors: {key} by {successor}, for one load");
    assert_eq!(fleet.nodes[0].remove(&key)?, [dead_name.as_str()]);
    println!("  a removal names who has not acknowledged it: {dead_name}");
    Ok(())
}

fn an_orderly_end(mut fleet: Fleet) -> Outcome<()> {
    println!("\nAn orderly end:");
    let key = fleet.key_of(0, "last")?;
    let alone = fleet.key_of(0, "alone")?;
    let (last, other) = (fleet.nodes.remove(0), fleet.nodes.remove(0));
    let (own, peer) = (last.ask(&key)?, other.ask(&key)?);
    poll("the load begins", || Ok(!fleet.database.loads(&key).is_empty()))?;
    let name = last.end(Command::Stop)?;
    assert_eq!(*answer(&own)?.map_err(|kind| kind.name())?.value, *format!("{key}, version 2").as_bytes());
    println!("  {name} has finished what was in progress, and ended");
    assert_eq!(*answer(&peer)?.map_err(|kind| kind.name())?.value, *format!("{key}, version 2").as_bytes());
    let found = other.get(&alone)?;
    println!("  {} goes on alone: {:?}", other.name, found.level);
    assert_eq!(found.level, Level::Origin);
    let name = other.end(Command::Stop)?;
    println!("  {name} has ended");
    Ok(())
}

/// A node's end of the string: what `start` gives back.
pub(crate) struct Running {
    name: String,
    thread: JoinHandle<io::Result<()>>,
    /// `false` when the node has ended.
    command: Box<dyn Fn(Command) -> bool + Send + Sync>,
}

impl Running {
    pub(crate) fn new(
        name: String,
        thread: JoinHandle<io::Result<()>>,
        command: impl Fn(Command) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self { name, thread, command: Box::new(command) }
    }

    fn command(&self, command: Command) -> Outcome<()> {
        if (self.command)(command) { Ok(()) } else { Err(format!("{} has ended", self.name).into()) }
    }

    fn ask(&self, key: &str) -> Outcome<Receiver<Done>> {
        let (caller, done) = mpsc::channel();
        self.command(Command::Get { key: key.into(), patience: LIMIT, caller })?;
        Ok(done)
    }

    fn get(&self, key: &str) -> Outcome<Fetched> {
        Ok(answer(&self.ask(key)?)?.map_err(|kind| kind.name())?)
    }

    /// Gives the members that have not acknowledged it.
    fn remove(&self, key: &str) -> Outcome<Vec<String>> {
        let (caller, done) = mpsc::channel();
        self.command(Command::Remove { key: key.into(), caller })?;
        match done.recv_timeout(LIMIT)? {
            Done::Removed { unacknowledged } => Ok(unacknowledged),
            Done::Refused(error) => Err(error.into()),
            Done::Answered(_) => Err("a removal was answered like a get".into()),
        }
    }

    fn inspect<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Node<Caller>) -> T + Send + 'static,
    ) -> Outcome<T> {
        let (sender, seen) = mpsc::channel();
        self.command(Command::Inspect(Box::new(move |node| {
            let _left = sender.send(look(node));
        })))?;
        Ok(seen.recv_timeout(LIMIT)?)
    }

    /// Ends the node, and gives its name.
    fn end(self, how: Command) -> Outcome<String> {
        self.command(how)?;
        poll("the node ends", || Ok(self.thread.is_finished()))?;
        self.thread.join().map_err(|_| "the node has panicked")??;
        Ok(self.name)
    }
}

fn answer(caller: &Receiver<Done>) -> Outcome<Result<Fetched, FailureKind>> {
    match caller.recv_timeout(LIMIT)? {
        Done::Answered(answer) => Ok(answer.map_err(|failure| failure.kind)),
        Done::Removed { .. } | Done::Refused(_) => Err("a get was answered like a removal".into()),
    }
}

/// Looks again and again until `holds`.
fn poll(what: &str, mut holds: impl FnMut() -> Outcome<bool>) -> Outcome<()> {
    let until = Instant::now() + LIMIT;
    while !holds()? {
        if Instant::now() >= until {
            return Err(format!("after {LIMIT:?} it is still not so that {what}").into());
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

struct Fleet {
    nodes: Vec<Running>,
    database: Arc<Database>,
}

impl Fleet {
    /// Starts three nodes, and waits until each is connected with the others.
    fn start(database: &Arc<Database>, start: fn(Setup) -> Outcome<Running>) -> Outcome<Self> {
        let listeners: Vec<_> =
            (0..3).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<_>>()?;
        let name = |listener: &TcpListener| listener.local_addr().map(|address| address.to_string());
        let members: Arc<[String]> = listeners.iter().map(name).collect::<io::Result<_>>()?;
        let mut nodes = Vec::new();
        for ((seed, listener), name) in (1..).zip(listeners).zip(&*members) {
            let (name, members) = (name.clone(), Arc::clone(&members));
            let origin = Database::asked_by(database, &name);
            nodes.push(start(Setup { listener, name, members, origin, seed })?);
        }
        for node in &nodes {
            let is_ready =
                |node: &Node<Caller>| node.links().count() == 2 && node.links().all(Link::is_connected);
            poll("all nodes are connected", || node.inspect(is_ready))?;
        }
        println!("  {}: all are connected", members.join(", "));
        Ok(Self { nodes, database: Arc::clone(database) })
    }

    fn ring(&self) -> Outcome<Arc<Ring>> {
        self.nodes[0].inspect(|node| Arc::clone(node.ring()))
    }

    fn owner(&self, key: &str) -> Outcome<&Running> {
        let ring = self.ring()?;
        let owner = ring.owner(key.as_bytes()).ok_or("the ring is empty")?;
        Ok(self.nodes.iter().find(|node| node.name == owner.name()).ok_or("the owner is no member")?)
    }

    /// A key that begins with `stem`, and belongs to a node.
    fn key_of(&self, node: usize, stem: &str) -> Outcome<String> {
        let (ring, name) = (self.ring()?, &self.nodes[node].name);
        let is_theirs = |key: &String| ring.owner(key.as_bytes()).is_some_and(|owner| owner.name() == name);
        Ok((0..1_000_000).map(|n| format!("{stem}-{n}")).find(is_theirs).ok_or("a node owns no key")?)
    }
}

/// The origin: slow, and it remembers who has asked for what.
#[derive(Default)]
struct Database {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Each load: by whom, and of which key.
    loads: Vec<(String, Vec<u8>)>,
    changes: u32,
}

impl Database {
    /// The database, as one node asks it.
    fn asked_by(database: &Arc<Self>, name: &str) -> Origin {
        let (database, name) = (Arc::clone(database), name.to_owned());
        Arc::new(move |key| {
            database.lock().loads.push((name.clone(), key.to_vec()));
            if !key.starts_with(b"large") {
                thread::sleep(SLOW);
            }
            database.read(key)
        })
    }

    fn read(&self, key: &[u8]) -> Result<Option<Vec<u8>>, OriginError> {
        let key = std::str::from_utf8(key)?;
        let version = self.lock().changes + 1;
        Ok(match key {
            _ if key.starts_with("missing") => None,
            _ if key.starts_with("large") => Some(large(key)),
            _ if key.starts_with("too-large") => Some(vec![0; MAX_VALUE + 1]),
            _ => Some(format!("{key}, version {version}").into_bytes()),
        })
    }

    /// Who has loaded a key, in order.
    fn loads(&self, key: &str) -> Vec<String> {
        let inner = self.lock();
        let of_key = inner.loads.iter().filter(|(_, loaded)| loaded == key.as_bytes());
        of_key.map(|(name, _)| name.clone()).collect()
    }

    /// Everything has a new version from now on.
    fn change(&self) {
        self.lock().changes += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
