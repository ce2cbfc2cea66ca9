//! Random calls against a model: a map of what was inserted last, and the values that must come back sooner or later.

use alloc::collections::BTreeMap;

use super::*;

type Name = (u32, u32);

struct Model {
    cache: Cache,
    rng: SplitMix64,
    /// What was stored last under a name and not removed since: the most that the cache may know of it.
    last: BTreeMap<Name, (Stored, Share, Instant, u32)>,
    /// Where in memory the values are that went in and did not come out yet, and how often.
    inside: BTreeMap<usize, Value>,
    epochs: [u32; 3],
    now: Instant,
    largest: u64,
    hash_bits: u32,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut rng = SplitMix64::new(seed);
        let budget = [0, 100, 300, 1_000, 5_000, 50_000][rng.below(6) as usize];
        let config = CacheConfig {
            main: budget,
            hot: budget / (1 + rng.below(4)),
            negative: rng.below(2_000),
            expected_entry: [0, 50, 200, 5_000][rng.below(4) as usize],
            seed,
            adaptive: rng.below(2) == 0,
        };
        Self {
            cache: Cache::new(&config).unwrap(),
            last: BTreeMap::new(),
            inside: BTreeMap::new(),
            epochs: [0; 3],
            now: Instant::from_nanos(1),
            largest: budget + 50,
            hash_bits: [0, 2, 64][rng.below(3) as usize],
            rng,
        }
    }

    fn name(&mut self) -> Name {
        // Uneven on purpose, so that some keys are hit often.
        let (a, b) = (self.rng.below(60), self.rng.below(60));
        (self.rng.below(3) as u32, (a * b / 60) as u32)
    }

    /// Key bytes of 0 to 7 bytes, unequal for unequal names of a group.
    fn bytes(name: Name) -> Vec<u8> {
        let mut bytes = alloc::vec![b'k'; name.1 as usize % 4];
        bytes.extend(name.1.to_be_bytes().into_iter().skip_while(|&byte| byte == 0));
        bytes
    }

    fn hash(&self, name: Name) -> u64 {
        let hash = hash_of(name.0 << 16 | name.1);
        if self.hash_bits == 64 { hash } else { hash & ((1 << self.hash_bits) - 1) }
    }

    fn insert(&mut self, name: Name) {
        let share = Share::ALL[self.rng.below(3) as usize];
        let len = match self.rng.below(10) {
            0 => 0,
            1 => self.rng.below(self.largest + 1),
            2 => self.cache.policy(share).capacity().saturating_sub(self.rng.below(3) + ENTRY_OVERHEAD),
            _ => self.rng.below(80),
        };
        let stored = match (share, self.rng.below(4)) {
            (Share::Negative, 0..3) => Stored::NotFound,
            _ => Stored::Value(Value::from(alloc::vec![self.rng.next_u64() as u8; len as usize])),
        };
        if let Stored::Value(value) = &stored {
            self.inside.insert(value.as_bytes().as_ptr().addr(), value.clone());
        }
        let expires = Instant::from_nanos(self.now.as_nanos() + 1 + self.rng.below(300));
        let epoch = self.epochs[name.0 as usize];
        let new = NewEntry {
            share,
            key: Key::from(&HashedKey::new(GroupId::new(name.0), &Self::bytes(name), self.hash(name))),
            stored: stored.clone(),
            expires,
            epoch,
        };
        let (epochs, now, mut evicted) = (self.epochs, self.now, Vec::new());
        let told = self.rng.below(2) == 0;
        let dead = |group: GroupId, expires, epoch| {
            told && (expires <= now || epoch != epochs[group.index() as usize])
        };
        let inserted = self.cache.insert(new, dead, &mut evicted);
        self.last.remove(&name);
        if inserted == Inserted::Stored {
            self.last.insert(name, (stored, share, expires, epoch));
        }
        assert_eq!(self.look(name).is_some(), inserted == Inserted::Stored, "{inserted:?}");
        self.came_out(evicted);
    }

    fn remove(&mut self, name: Name) {
        let (bytes, known, mut evicted) = (Self::bytes(name), self.look(name).is_some(), Vec::new());
        let key = HashedKey::new(GroupId::new(name.0), &bytes, self.hash(name));
        assert_eq!(self.cache.remove(&key, &mut evicted), known);
        self.last.remove(&name);
        assert!(self.look(name).is_none());
        self.came_out(evicted);
    }

    fn get(&mut self, name: Name) {
        let (bytes, epoch) = (Self::bytes(name), self.epochs[name.0 as usize]);
        let key = HashedKey::new(GroupId::new(name.0), &bytes, self.hash(name));
        if let Some(entry) = self.cache.get(&key, || self.now, epoch) {
            assert!(entry.expires > self.now && entry.epoch == epoch);
            let seen = (entry.stored.clone(), entry.share, entry.expires, entry.epoch);
            assert_eq!(self.last.get(&name), Some(&seen), "{name:?} is not what was inserted last");
        }
    }

    /// The charge of what the cache has under a name, which must be what was stored last.
    fn look(&self, name: Name) -> Option<(Share, u64)> {
        let bytes = Self::bytes(name);
        let entry = self.cache.peek(&HashedKey::new(GroupId::new(name.0), &bytes, self.hash(name)))?;
        let seen = (entry.stored.clone(), entry.share, entry.expires, entry.epoch);
        assert_eq!(self.last.get(&name), Some(&seen), "{name:?} is not what was inserted last");
        let len = match entry.stored {
            Stored::Value(value) => value.len(),
            Stored::NotFound => 0,
        };
        Some((entry.share, (bytes.len() + len) as u64 + ENTRY_OVERHEAD))
    }

    fn came_out(&mut self, evicted: Vec<Value>) {
        for value in evicted {
            let at = value.as_bytes().as_ptr().addr();
            assert_eq!(self.inside.remove(&at), Some(value), "a value came out twice, or was never in");
        }
    }

    fn step(&mut self) {
        let name = self.name();
        match self.rng.below(100) {
            0..40 => self.insert(name),
            40..85 => self.get(name),
            85..92 => self.remove(name),
            92..96 => self.now = Instant::from_nanos(self.now.as_nanos() + self.rng.below(100)),
            96..98 => self.epochs[name.0 as usize] += 1,
            98 => {
                let window_permille = self.rng.below(1_100) as u16;
                let tuning = Tuning { window_permille, lenient: self.rng.below(2) == 0 };
                self.cache.tune(Share::ALL[name.0 as usize], tuning);
            }
            _ if self.rng.below(10) == 0 => {
                let mut evicted = Vec::new();
                self.cache.clear(&mut evicted);
                self.came_out(evicted);
                assert!(self.inside.is_empty() && self.last.keys().all(|&name| self.look(name).is_none()));
                self.last.clear();
            }
            _ => {}
        }
        self.cache.check_invariants().unwrap();
    }

    /// Adds up what the cache has from outside.
    fn recount(&self) {
        let mut sums = [(0, 0); 3];
        let mut values = 0;
        for name in self.last.keys() {
            if let Some((share, charge)) = self.look(*name) {
                sums[share as usize].0 += 1;
                sums[share as usize].1 += charge;
                values += usize::from(matches!(self.last[name].0, Stored::Value(_)));
            }
        }
        for share in Share::ALL {
            let (entries, bytes) = sums[share as usize];
            let usage = self.cache.usage(share);
            let tables = self.cache.policy(share).table_bytes();
            assert_eq!((usage.entries, usage.bytes), (entries, bytes + tables));
        }
        assert_eq!(values, self.inside.len(), "a value was lost, neither inside nor handed out");
    }
}

#[test]
fn whatever_is_found_was_stored_last_and_every_byte_is_accounted_for() {
    for seed in 0..300 {
        let mut model = Model::new(seed);
        for _ in 0..600 {
            model.step();
        }
        model.recount();
    }
}
