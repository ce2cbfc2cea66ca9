//! The cache of a shard under any sequence of calls, against a naive model; and its policies on traffic of known shapes, against an exact LRU.

mod quality;

use std::collections::{BTreeMap, HashMap};

use arbitrary::{Result, Unstructured};
use groupcache_core::__cache::{Insertion, Kept, Probe, SHARES, Size};
use groupcache_core::{ENTRY_OVERHEAD, GroupId, HashedKey, Instant, Value};

/// Whatever is found was stored last under that very key; every byte is charged to its share, and none over its budget; a hit evicts nothing; a value
/// comes out once, when it goes; lists, index and slab agree. And who is kept is worth it.
pub fn policy(data: &[u8]) {
    let mut bytes = Unstructured::new(data);
    if let Ok(mut bench) = Bench::new(&mut bytes) {
        while !bytes.is_empty() && bench.step(&mut bytes).is_ok() {}
        bench.finish();
    }
    quality::check(data);
}

/// Group and number of a key.
type Name = (u32, u8);

struct Bench {
    probe: Probe,
    budgets: [u64; SHARES],
    /// What was stored last under a name and not removed since: the most that the cache may know of it.
    last: BTreeMap<Name, Kept>,
    /// Values that went in and did not come out, by where they are in memory.
    inside: HashMap<usize, Value>,
    epochs: [u32; SHARES],
    now: Instant,
    hash_mask: u64,
}

impl Bench {
    fn new(bytes: &mut Unstructured<'_>) -> Result<Self> {
        let budgets = [
            *bytes.choose(&[0, 300, 1_000, 5_000, 30_000])?,
            *bytes.choose(&[0, 100, 700, 5_000])?,
            *bytes.choose(&[0, 400, 2_000])?,
        ];
        let expected_entry = *bytes.choose(&[0, 150, 200, 5_000])?;
        let size = Size { budgets, expected_entry, seed: bytes.arbitrary()?, adaptive: bytes.arbitrary()? };
        Ok(Self {
            probe: Probe::new(size).expect("a small cache"),
            budgets,
            last: BTreeMap::new(),
            inside: HashMap::new(),
            epochs: [0; SHARES],
            now: Instant::from_nanos(1),
            hash_mask: *bytes.choose(&[0, 3, u64::MAX, u64::MAX])?,
        })
    }

    fn step(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let name = (bytes.int_in_range(0..=2)?, bytes.int_in_range(0..=39_u8)?);
        match bytes.int_in_range(0..=31)? {
            0..=12 => self.insert(bytes, name)?,
            13..=25 => self.hit(name),
            26..=27 => self.remove(name),
            28 => self.now = Instant::from_nanos(self.now.as_nanos() + bytes.int_in_range(0..=99)?),
            29 => self.epochs[name.0 as usize] += 1,
            30 if bytes.ratio(1, 8)? => self.clear(),
            _ => self.recount(),
        }
        self.probe.check_invariants().expect("all counts agree");
        Ok(())
    }

    fn insert(&mut self, bytes: &mut Unstructured<'_>, name: Name) -> Result<()> {
        let share = bytes.int_in_range(0..=SHARES - 1)?;
        let fits = self.probe.capacity(share).saturating_sub(ENTRY_OVERHEAD + key(name).len() as u64);
        let len = match bytes.int_in_range(0..=7)? {
            0 => fits,
            1 => fits + 1,
            2 => fits.saturating_sub(bytes.int_in_range(0..=400)?),
            _ => bytes.int_in_range(0..=60)?,
        };
        let value = (share < 2 || bytes.ratio(1, 4)?).then(|| Value::from(vec![name.1; len as usize]));
        if let Some(value) = &value {
            self.inside.insert(place(value), value.clone());
        }
        let expires = Instant::from_nanos(self.now.as_nanos() + bytes.int_in_range(1..=300)?);
        let kept = Kept { share, value, expires, epoch: self.epochs[name.0 as usize] };
        let charge = charge(name, &kept);
        let (told, epochs, now) = (bytes.arbitrary()?, self.epochs, self.now);
        let dead = |group: GroupId, expires: Instant, epoch: u32| {
            told && (expires <= now || epoch != epochs[group.index() as usize])
        };
        let text = key(name);
        let inserted = self.probe.insert(&hashed(name, &text, self.hash_mask), kept.clone(), dead);
        assert!(inserted != Insertion::Stored || charge <= self.budgets[share]);
        self.last.remove(&name);
        if inserted == Insertion::Stored {
            self.last.insert(name, kept);
        }
        assert_eq!(self.look(name).is_some(), inserted == Insertion::Stored, "{inserted:?}");
        self.take_out();
        Ok(())
    }

    /// A hit finds what was stored last, and changes nothing but a counter.
    fn hit(&self, name: Name) {
        let (text, epoch) = (key(name), self.epochs[name.0 as usize]);
        let before = (self.probe.usage(), self.probe.evictions());
        let found = self.probe.get(&hashed(name, &text, self.hash_mask), self.now, epoch);
        assert_eq!((self.probe.usage(), self.probe.evictions()), before, "a hit evicts");
        let is_live = |kept: &&Kept| kept.expires > self.now && kept.epoch == epoch;
        let expected = self.look(name).as_ref().filter(is_live).cloned();
        assert_eq!(found, expected, "what can be read is found, and nothing else");
    }

    fn remove(&mut self, name: Name) {
        let (text, known) = (key(name), self.look(name).is_some());
        assert_eq!(self.probe.remove(&hashed(name, &text, self.hash_mask)), known);
        self.last.remove(&name);
        assert!(self.look(name).is_none());
        self.take_out();
    }

    fn clear(&mut self) {
        self.probe.clear();
        self.take_out();
        assert!(self.inside.is_empty(), "a value is kept back");
        assert!(self.last.keys().all(|&name| self.look(name).is_none()));
        self.last.clear();
    }

    /// What the cache has under a name, which must be what was stored last.
    fn look(&self, name: Name) -> Option<Kept> {
        let text = key(name);
        let kept = self.probe.peek(&hashed(name, &text, self.hash_mask))?;
        assert_eq!(self.last.get(&name), Some(&kept), "{name:?} is not what was stored last");
        Some(kept)
    }

    fn take_out(&mut self) {
        for value in self.probe.take_evicted() {
            assert_eq!(self.inside.remove(&place(&value)), Some(value), "a value comes out once");
        }
    }

    /// Adds up from outside what the cache has.
    fn recount(&self) {
        let mut sums = [(0, 0); SHARES];
        let mut values = 0;
        for &name in self.last.keys() {
            if let Some(kept) = self.look(name) {
                sums[kept.share].0 += 1;
                sums[kept.share].1 += charge(name, &kept);
                values += usize::from(kept.value.is_some());
            }
        }
        for ((usage, (entries, bytes)), budget) in self.probe.usage().into_iter().zip(sums).zip(self.budgets)
        {
            assert_eq!((usage.entries, usage.bytes), (entries, bytes + usage.tables));
            assert!(usage.bytes <= budget.max(usage.tables), "{usage:?} in a budget of {budget}");
        }
        assert_eq!(values, self.inside.len(), "a value was lost, neither inside nor handed out");
    }

    fn finish(&mut self) {
        self.recount();
        self.clear();
        assert_eq!(self.probe.usage().map(|usage| usage.entries), [0; SHARES]);
    }
}

fn charge(name: Name, kept: &Kept) -> u64 {
    (key(name).len() + kept.value.as_ref().map_or(0, |value| value.len())) as u64 + ENTRY_OVERHEAD
}

/// Where a value is in memory: a copy is held for as long as it counts, so no other comes to be there.
fn place(value: &Value) -> usize {
    value.as_bytes().as_ptr().addr()
}

/// Of 0 to 9 bytes, unequal for unequal numbers.
fn key(name: Name) -> Vec<u8> {
    let mut key = vec![b'k'; usize::from(name.1) % 10];
    key.extend((name.1 >= 10).then_some(name.1));
    key
}

fn hashed(name: Name, key: &[u8], mask: u64) -> HashedKey<'_> {
    let hash = (u64::from(name.0) << 8 | u64::from(name.1)).wrapping_add(1);
    HashedKey::new(GroupId::new(name.0), key, hash.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32) & mask)
}
