//! The policy against its description: the same decisions, from queues that are written down plainly and summed anew each time.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;

use super::*;

/// An entry by name, which is its hash as well.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    name: u32,
    charge: u64,
    hits: u8,
}

/// A queue: newest in front.
type Queue = VecDeque<Entry>;

fn sum(queue: &Queue) -> u64 {
    queue.iter().map(|entry| entry.charge).sum()
}

fn oldest_but(queue: &Queue, skip: Option<u32>) -> Option<u32> {
    queue.iter().rev().map(|entry| entry.name).find(|&name| Some(name) != skip)
}

/// B2 as its description has it.
struct Plain {
    budget: u64,
    side_tables: u64,
    tuning: Tuning,
    window: Queue,
    probation: Queue,
    protected: Queue,
    sketch: Sketch,
    rng: SplitMix64,
    dead: BTreeSet<u32>,
    evicted: Vec<u32>,
}

impl Plain {
    fn new(budget: u64, entries: u32, seed: u64) -> Self {
        Self {
            budget,
            side_tables: 0,
            tuning: Tuning::default(),
            window: Queue::new(),
            probation: Queue::new(),
            protected: Queue::new(),
            sketch: Sketch::new(entries, budget / 4).unwrap(),
            rng: SplitMix64::new(seed),
            dead: BTreeSet::new(),
            evicted: Vec::new(),
        }
    }

    fn capacity(&self) -> u64 {
        self.budget.saturating_sub(self.sketch.bytes() + self.side_tables)
    }

    fn window_cap(&self) -> u64 {
        thousandths(self.capacity(), self.tuning.window_permille.min(1000))
    }

    fn protected_cap(&self) -> u64 {
        thousandths(self.capacity() - self.window_cap(), 800)
    }

    fn bytes(&self) -> u64 {
        [&self.window, &self.probation, &self.protected].map(sum).into_iter().sum()
    }

    fn queues(&mut self) -> [&mut Queue; 3] {
        [&mut self.window, &mut self.probation, &mut self.protected]
    }

    fn entry(&mut self, name: u32) -> Option<&mut Entry> {
        self.queues().into_iter().flatten().find(|entry| entry.name == name)
    }

    fn take(&mut self, name: u32) -> Option<Entry> {
        let place = |queue: &Queue| queue.iter().position(|entry| entry.name == name);
        self.queues().into_iter().find_map(|queue| place(queue).and_then(|at| queue.remove(at)))
    }

    /// What was counted goes to the sketch.
    fn fold(&mut self, entry: &mut Entry) -> u8 {
        let hits = core::mem::take(&mut entry.hits);
        self.sketch.add(hash(entry.name), hits);
        hits
    }

    fn evict(&mut self, name: u32) {
        if let Some(mut entry) = self.take(name) {
            self.fold(&mut entry);
            self.evicted.push(name);
        }
    }

    fn insert(&mut self, name: u32, charge: u64) {
        if self.window.len() + self.probation.len() + self.protected.len() > self.sketch.entries() as usize {
            self.sketch.double(self.budget / 4);
        }
        self.sketch.add(hash(name), 1);
        self.window.push_front(Entry { name, charge, hits: 0 });
        self.settle(Some(name));
    }

    fn replace(&mut self, name: u32, charge: u64) {
        self.sketch.add(hash(name), 1);
        if let Some(entry) = self.entry(name) {
            entry.charge = charge;
        }
        self.settle(Some(name));
        self.balance();
    }

    fn remove(&mut self, name: u32) {
        if let Some(mut entry) = self.take(name) {
            self.fold(&mut entry);
        }
    }

    fn set_side_tables(&mut self, bytes: u64) {
        if bytes != self.side_tables {
            self.side_tables = bytes;
            self.settle(None);
        }
    }

    /// The window keeps its part, but for its last entry; then all of it the capacity.
    fn settle(&mut self, keep: Option<u32>) {
        while sum(&self.window) > self.window_cap() && self.window.len() > 1 {
            self.leave_window();
        }
        while self.bytes() > self.capacity() {
            let victim = self.victim(keep).or_else(|| oldest_but(&self.window, keep));
            let victim = victim.or_else(|| oldest_but(&self.window, None)).or_else(|| self.victim(None));
            self.evict(victim.expect("something is over the capacity"));
        }
    }

    fn leave_window(&mut self) {
        let candidate = oldest_but(&self.window, None).expect("the window is not empty");
        if self.dead.contains(&candidate) {
            return self.evict(candidate);
        }
        let mut entry = self.take(candidate).expect("it is in the window");
        let was_hit = self.fold(&mut entry) > 0;
        self.probation.push_front(entry);
        while self.bytes() > self.capacity() {
            let beaten = |plain: &mut Self, victim| {
                was_hit || plain.dead.contains(&victim) || plain.wins(candidate, victim)
            };
            match self.victim(Some(candidate)) {
                Some(victim) if beaten(self, victim) => self.evict(victim),
                Some(_) | None => return self.evict(candidate),
            }
        }
    }

    fn wins(&mut self, candidate: u32, victim: u32) -> bool {
        let [candidate, victim] = [candidate, victim].map(|name| self.sketch.estimate(hash(name)));
        if candidate > victim || (candidate == victim && self.tuning.lenient && candidate >= 2) {
            return true;
        }
        candidate >= 6 && self.rng.below(128) == 0
    }

    fn victim(&mut self, skip: Option<u32>) -> Option<u32> {
        loop {
            let victim = oldest_but(&self.probation, skip).or_else(|| oldest_but(&self.protected, skip))?;
            let mut entry = self.entry(victim)?.clone();
            if entry.hits == 0 || self.dead.contains(&victim) {
                return Some(victim);
            }
            self.take(victim);
            self.fold(&mut entry);
            self.protected.push_front(entry);
            self.balance();
        }
    }

    fn balance(&mut self) {
        while sum(&self.protected) > self.protected_cap() {
            let mut oldest = self.protected.pop_back().expect("it has a charge");
            if self.fold(&mut oldest) > 0 {
                self.protected.push_front(oldest);
            } else {
                self.probation.push_front(oldest);
            }
        }
    }
}

fn thousandths(whole: u64, permille: u16) -> u64 {
    (u128::from(whole) * u128::from(permille) / 1000) as u64
}

fn hash(name: u32) -> u64 {
    SplitMix64::new(u64::from(name)).next_u64() >> 32
}

/// What slots hold: the name of their entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name(u32);

impl Content for Name {
    type Label = ();
    type Alignment = ();
}

fn is_among(dead: &BTreeSet<u32>) -> impl Fn(&Slot<Name>) -> bool + '_ {
    |slot| slot.item().is_some_and(|name| dead.contains(&name.0))
}

/// The policy and its description, told the same.
struct Both {
    plain: Plain,
    policy: B2,
    arena: Arena<Name>,
    slots: Vec<u32>,
}

const NAMES: u32 = 48;

impl Both {
    fn new(room: u64, entries: u32, seed: u64) -> Self {
        // Sums that meet the limits exactly are what differs between "over" and "at".
        let tables = Sketch::new(entries, u64::MAX).unwrap().bytes();
        let budget = tables + room;
        Self {
            plain: Plain::new(budget, entries, seed),
            policy: B2::new(budget, entries, seed).unwrap(),
            arena: Arena::new(),
            slots: alloc::vec![NIL; NAMES as usize],
        }
    }

    fn step(&mut self, rng: &mut SplitMix64) {
        // Some names come far more often than others.
        let name = (rng.below(u64::from(NAMES)) * rng.below(u64::from(NAMES)) / u64::from(NAMES)) as u32;
        let most = if rng.below(20) == 0 { 40 } else { 4 };
        let charge = 10 * (1 + rng.below(most));
        let slot = self.slots[name as usize];
        let mut out = List::outgoing();
        match rng.below(100) {
            0..70 if slot == NIL => self.insert(name, charge, &mut out),
            0..70 => {
                self.arena.slot(slot).touch(B2::MAX_HITS);
                let entry = self.plain.entry(name).expect("it is there");
                entry.hits = (entry.hits + 1).min(3);
            }
            70..80 if slot != NIL && charge <= self.policy.capacity() => {
                let dead = self.plain.dead.clone();
                self.policy.replace(&mut self.arena, slot, charge as u32, &is_among(&dead), &mut out);
                self.plain.replace(name, charge);
            }
            80..84 if slot != NIL => {
                self.policy.remove(&mut self.arena, slot);
                self.arena.remove(slot);
                self.slots[name as usize] = NIL;
                self.plain.remove(name);
            }
            84..92 if !self.plain.dead.remove(&name) && rng.below(3) == 0 => {
                self.plain.dead.insert(name);
            }
            92..94 => {
                let tuning =
                    Tuning { window_permille: 100 * rng.below(12) as u16, lenient: rng.below(2) == 0 };
                self.policy.tune(tuning);
                self.plain.tuning = tuning;
            }
            94 => {
                let (bytes, dead) = (100 * rng.below(4), self.plain.dead.clone());
                self.policy.set_side_tables(&mut self.arena, bytes, &is_among(&dead), &mut out);
                self.plain.set_side_tables(bytes);
            }
            95 if rng.below(20) == 0 => {
                self.policy.clear();
                self.arena.drain().for_each(drop);
                self.slots.fill(NIL);
                self.plain.queues().into_iter().for_each(VecDeque::clear);
            }
            _ => {}
        }
        self.compare(out);
    }

    fn insert(&mut self, name: u32, charge: u64, out: &mut List) {
        if charge > self.policy.capacity() {
            return;
        }
        let slot =
            self.arena.insert(hash(name) as u32, charge as u32, (), Name(name)).expect("memory for a slot");
        self.slots[name as usize] = slot;
        let dead = self.plain.dead.clone();
        self.policy.insert(&mut self.arena, slot, &is_among(&dead), out);
        self.plain.insert(name, charge);
    }

    /// Carries the policy's decisions out, and holds them and what is left against the description.
    fn compare(&mut self, mut out: List) {
        let mut evicted = Vec::new();
        while let Some(slot) = out.tail() {
            out.unlink(&mut self.arena, slot);
            evicted.extend(self.arena.remove(slot).map(|name| name.0));
        }
        evicted.iter().for_each(|&name| self.slots[name as usize] = NIL);
        assert_eq!(evicted, core::mem::take(&mut self.plain.evicted));
        self.policy.check(&self.arena, &mut |_| {}).unwrap();
        let held = |list: &List| {
            let mut entries = Queue::new();
            let mut see = |id| {
                let (slot, name) = (self.arena.slot(id), self.arena.item(id).unwrap().0);
                entries.push_back(Entry { name, charge: slot.charge.into(), hits: slot.hits() });
            };
            list.check(&self.arena, &mut see).unwrap();
            entries
        };
        let Self { plain, policy, .. } = &*self;
        let lists = [&policy.window, &policy.probation, &policy.protected].map(held);
        assert_eq!(lists, [&plain.window, &plain.probation, &plain.protected].map(Queue::clone));
        assert_eq!((policy.capacity(), policy.bytes()), (plain.capacity(), plain.bytes()));
        assert_eq!(policy.table_bytes(), plain.sketch.bytes() + plain.side_tables);
        assert_eq!(policy.sketch.entries(), plain.sketch.entries());
    }
}

#[test]
fn every_decision_is_the_one_that_the_description_makes() {
    for seed in 0..60 {
        let mut rng = SplitMix64::new(1000 + seed);
        let room = 100 * (3 + rng.below(12));
        let mut both = Both::new(room, [1, 4, 32][rng.below(3) as usize], seed);
        for _ in 0..600 {
            both.step(&mut rng);
        }
        for name in 0..NAMES {
            let counted = [&both.policy.sketch, &both.plain.sketch].map(|sketch| sketch.estimate(hash(name)));
            assert_eq!(counted[0], counted[1], "name {name}, seed {seed}");
        }
    }
}

#[test]
fn parts_are_exact_thousandths_of_any_whole() {
    for whole in [0, 1, 7, 999, 1000, 1001, 12_345, 999_999, u64::MAX] {
        for permille in [0, 1, 70, 500, 999, 1000] {
            assert_eq!(part(whole, permille), thousandths(whole, permille), "{permille} of {whole}");
        }
    }
}
