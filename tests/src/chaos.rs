//! Real processes of both adapters, a real etcd, and faults at random, under load: what no model of this repository has in it.
//!
//! The checks believe nothing that a node says of itself. Values carry their key and version, so a wrong one shows wherever it comes from; a removal
//! that was acknowledged by everybody sets a floor below which no read may fall once hot copies of that time are gone; the origin counts what it is asked; memory is what the
//! system says.

mod faults;
mod load;
mod member;
mod verdict;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

pub use self::verdict::Verdict;

use self::faults::Faults;
use self::load::{Load, World};
use self::member::{Fleet, Kind};
use crate::wait::{ensure, poll_until};

/// What a run is made of.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Plan {
    /// How long faults are injected.
    pub time: Duration,
    /// Draws the faults and the keys. Real processes do not replay to the letter; the same seed draws the same faults in the same order.
    pub seed: u64,
    /// How many nodes: they take turns on tokio and async-std.
    pub nodes: usize,
    /// How many keys there are. The origin's values are about 300 bytes.
    pub keys: usize,
    /// Bytes of cache a node may use.
    pub budget: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self { time: Duration::from_secs(20), seed: 1, nodes: 5, keys: 400, budget: 8 << 20 }
    }
}

/// How long a fleet may take to come together, and to come together again once nothing fails any more.
const TOGETHER: Duration = Duration::from_secs(60);

/// Runs `plan`, and answers what was seen. `told` hears of every fault as it begins.
///
/// # Panics
/// When the programs cannot be started, or the fleet does not come together before the first fault.
#[must_use]
pub fn run(plan: &Plan, mut told: impl FnMut(&str)) -> Verdict {
    let world = Arc::new(World::new(plan));
    let mut fleet = Fleet::start(plan, &world);
    fleet.wait_together(TOGETHER);
    let memory_before = fleet.memory();
    let load = Load::start(&world, &fleet);
    let mut faults = Faults::new(plan.seed);
    let started = Instant::now();
    while started.elapsed() < plan.time {
        faults.turn(&mut fleet, &mut told);
        thread::sleep(Duration::from_millis(20));
    }
    faults.end_all(&mut fleet);
    told("nothing fails any more");
    let healed = Instant::now();
    let together = fleet.come_together(TOGETHER);
    // What was read while the fleet came together is judged with the rest; now it has to be well.
    let is_well = together.and_then(|()| fleet.is_well(&world, &load));
    let took = healed.elapsed();
    let memory = fleet.memory();
    Verdict::new(plan, &world, load.finish(), &faults, (is_well, took), (memory_before, memory))
}

impl Fleet {
    fn wait_together(&mut self, limit: Duration) {
        self.come_together(limit).unwrap_or_else(|why| panic!("the fleet does not come together: {why}"));
    }

    /// Every node of the fleet sees all nodes up.
    fn come_together(&mut self, limit: Duration) -> Result<(), String> {
        let deadline = Instant::now() + limit;
        loop {
            match self.is_together() {
                Err(why) if Instant::now() >= deadline => return Err(why),
                Err(_) => thread::sleep(Duration::from_millis(50)),
                Ok(()) => return Ok(()),
            }
        }
    }

    /// Fresh keys, asked of everybody at once, are loaded once each.
    fn is_well(&self, world: &World, load: &Load) -> Result<(), String> {
        load.pause(true);
        let asked: Vec<String> = (0..40).map(|number| format!("fresh {number}")).collect();
        let failed = thread::scope(|scope| {
            let asking: Vec<_> = self
                .members()
                .map(|member| {
                    let (mut client, asked) = (member.client(), &asked);
                    scope.spawn(move || {
                        asked.iter().find_map(|key| client.get(key).err().map(|why| format!("{key}: {why}")))
                    })
                })
                .collect();
            asking.into_iter().find_map(|asking| asking.join().expect("a client does not panic"))
        });
        load.pause(false);
        if let Some(why) = failed {
            return Err(format!("after the faults, {why}"));
        }
        let loads: usize = asked.iter().map(|key| world.origin.requests(key)).sum();
        // A client of another make counts as a peer, whose request is never passed on: those at nodes without an HTTP side load for themselves.
        let most = asked.len() * (1 + self.members().filter(|member| member.kind == Kind::AsyncStd).count());
        ensure(loads <= most, || {
            format!("{} fresh keys were loaded {loads} times, more than {most}", asked.len())
        })
    }

    fn is_together(&mut self) -> Result<(), String> {
        let names = self.names();
        self.members_mut().try_for_each(|member| match member.sees() {
            None => Ok(()),
            Some(seen) => ensure(seen == names, || format!("{} sees {seen:?}", member.name())),
        })
    }
}

/// Waits for something of a chaos run, or panics.
fn wait_for<T>(what: &str, probe: impl FnMut() -> Result<T, String>) -> T {
    poll_until(what, TOGETHER, probe)
}
