//! Who reads and who changes data while things fail.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Plan;
use super::member::{Client, Fleet, Health, NoValue};
use crate::{Behaviour, Origin};

/// The one group.
pub(super) const GROUP: &str = "web";
/// What a node gives a load.
pub(super) const LOAD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a hot copy may live: the nodes' default.
const HOT_TTL: Duration = Duration::from_secs(30);
/// What a read may take beside.
const GRACE: Duration = Duration::from_secs(2);
/// How long the origin takes.
const ORIGIN_TIME: Duration = Duration::from_millis(5);
/// Between two reads of a client, and two removals: the machine must not be what is measured.
const READ_PAUSE: Duration = Duration::from_millis(2);
const REMOVE_PAUSE: Duration = Duration::from_millis(150);
const CLIENTS_PER_NODE: usize = 2;

/// The origin, and what is known of each key.
#[derive(Debug)]
pub(super) struct World {
    pub(super) origin: Origin,
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    name: String,
    /// The version at the origin.
    version: AtomicU32,
    /// A removal of everything below this version was acknowledged by everybody, and when.
    floor: Mutex<(u32, Instant)>,
    /// Removals of a key come one after the other.
    changing: Mutex<()>,
}

impl World {
    pub(super) fn new(plan: &Plan) -> Self {
        let origin = Origin::start();
        origin.set_delay(ORIGIN_TIME);
        let key = |number| Key {
            name: format!("key {number}"),
            version: AtomicU32::new(0),
            floor: Mutex::new((0, Instant::now())),
            changing: Mutex::new(()),
        };
        let keys: Vec<_> = (0..plan.keys).map(key).collect();
        for key in &keys {
            origin.behave(key.name.clone(), Behaviour::Value(value(&key.name, 0)));
        }
        Self { origin, keys }
    }

    /// How often the origin was asked for the keys of the load.
    pub(super) fn loads(&self) -> usize {
        let counts: HashMap<String, usize> = self.origin.counts();
        self.keys.iter().filter_map(|key| counts.get(&key.name)).sum()
    }

    pub(super) fn keys(&self) -> usize {
        self.keys.len()
    }
}

fn value(key: &str, version: u32) -> Vec<u8> {
    let text = format!("{key}#{version}\n");
    text.bytes().cycle().take(300).chain(text.bytes()).collect()
}

/// The version in a value of `key`, if it is one to the last byte.
fn version(key: &str, found: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(found).ok()?;
    let (name, rest) = text.split_once('#')?;
    let version: u32 = rest.split_once('\n')?.0.parse().ok()?;
    (name == key && found == value(key, version)).then_some(version)
}

/// What the clients have seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) gets: u64,
    /// Answers that a node in order owed and did not give.
    pub(super) errors: Vec<String>,
    pub(super) hangs: Vec<String>,
    pub(super) wrong: Vec<String>,
    /// Older than a removal that everybody had acknowledged longer ago than a hot copy may live.
    pub(super) stale: Vec<String>,
    /// Older than a removal that everybody on the remover's ring had acknowledged, by less than that: at members that the remover did not know of.
    pub(super) late: u64,
    /// Gets at nodes that were down, frozen or starting meanwhile, and went wrong.
    pub(super) excused: u64,
    pub(super) removals: u64,
    pub(super) acknowledged: u64,
    pub(super) slowest: Duration,
}

/// The clients, until told to stop.
#[derive(Debug)]
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    paused: Arc<AtomicBool>,
    seen: Arc<Mutex<Seen>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    pub(super) fn start(world: &Arc<World>, fleet: &Fleet) -> Self {
        let mut load =
            Self { stop: Arc::default(), paused: Arc::default(), seen: Arc::default(), clients: Vec::new() };
        let mut number = 0;
        for member in fleet.members() {
            for _ in 0..CLIENTS_PER_NODE {
                let (client, health) = (member.client(), Arc::clone(&member.health));
                number += 1;
                load.spawn(
                    world,
                    Caller { client, health, name: member.name().to_owned(), random: number },
                    Caller::read,
                );
            }
            let (client, health) = (member.client(), Arc::clone(&member.health));
            number += 1;
            load.spawn(
                world,
                Caller { client, health, name: member.name().to_owned(), random: number },
                Caller::remove,
            );
        }
        load
    }

    fn spawn(&mut self, world: &Arc<World>, mut caller: Caller, turn: fn(&mut Caller, &World, &Mutex<Seen>)) {
        let (world, seen) = (Arc::clone(world), Arc::clone(&self.seen));
        let (stop, paused) = (Arc::clone(&self.stop), Arc::clone(&self.paused));
        self.clients.push(thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                match paused.load(Ordering::SeqCst) {
                    true => thread::sleep(READ_PAUSE),
                    false => turn(&mut caller, &world, &seen),
                }
            }
        }));
    }

    /// Lets the clients rest after the request they are at, or go on.
    pub(super) fn pause(&self, pause: bool) {
        self.paused.store(pause, Ordering::SeqCst);
    }

    pub(super) fn finish(self) -> Seen {
        self.stop.store(true, Ordering::SeqCst);
        for client in self.clients {
            client.join().expect("a client does not panic");
        }
        lock(&self.seen).clone()
    }
}

#[derive(Debug)]
struct Caller {
    client: Client,
    health: Arc<Health>,
    name: String,
    random: u64,
}

impl Caller {
    /// Reads one key and judges the answer.
    fn read(&mut self, world: &World, seen: &Mutex<Seen>) {
        thread::sleep(READ_PAUSE);
        let key = self.draw(world);
        let (floor, mark, started) = (*lock(&key.floor), self.health.mark(), Instant::now());
        let (floor, since) = floor;
        let bounded = started.saturating_duration_since(since) > HOT_TTL + GRACE;
        let got = self.client.get(&key.name);
        let took = started.elapsed();
        let in_order = mark.is_some() && mark == self.health.mark();
        let mut seen = lock(seen);
        seen.gets += 1;
        match got {
            Ok(found) => match version(&key.name, &found) {
                Some(version) if version < floor && !bounded => seen.late += 1,
                Some(version) if version < floor => {
                    let what = format!(
                        "{} at {}: version {version}, after a removal of all below {floor}",
                        key.name, self.name
                    );
                    seen.stale.push(what);
                }
                Some(_) => seen.slowest = seen.slowest.max(took),
                None => seen.wrong.push(format!(
                    "{} at {}: {:?}",
                    key.name,
                    self.name,
                    String::from_utf8_lossy(&found)
                )),
            },
            Err(_) if !in_order => seen.excused += 1,
            Err(NoValue::Hung) => seen.hangs.push(format!("{} at {}: {took:?}", key.name, self.name)),
            Err(why) => seen.errors.push(format!("{} at {}: {why}", key.name, self.name)),
        }
    }

    /// Changes one key at the origin, and removes it from the fleet.
    fn remove(&mut self, world: &World, seen: &Mutex<Seen>) {
        thread::sleep(REMOVE_PAUSE);
        let key = self.draw(world);
        let _one_at_a_time = lock(&key.changing);
        let next = key.version.load(Ordering::SeqCst) + 1;
        world.origin.behave(key.name.clone(), Behaviour::Value(value(&key.name, next)));
        key.version.store(next, Ordering::SeqCst);
        let Some(acknowledged) = self.client.remove(&key.name) else { return };
        if acknowledged {
            *lock(&key.floor) = (next, Instant::now());
        }
        let mut seen = lock(seen);
        seen.removals += 1;
        seen.acknowledged += u64::from(acknowledged);
    }

    /// A key: half of the time one of the first eight, which everybody wants.
    fn draw<'a>(&mut self, world: &'a World) -> &'a Key {
        let number = super::faults::draw(&mut self.random);
        let among = if number & 1 == 0 { 8.min(world.keys.len()) } else { world.keys.len() };
        &world.keys[(number >> 1) as usize % among]
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
