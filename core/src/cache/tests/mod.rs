//! What the cache promises, tested through its own interface. Here, what the tests share.

mod admission;
mod model;
mod store;

use alloc::vec::Vec;

use super::*;

const NOW: Instant = Instant::from_nanos(1_000);

/// A cache whose shares are of `budget` bytes each.
fn cache_of(budget: u64) -> Cache {
    let config = CacheConfig {
        main: budget,
        hot: budget,
        negative: budget,
        expected_entry: 200,
        seed: 1,
        adaptive: false,
    };
    Cache::new(&config).unwrap()
}

fn hash_of(name: u32) -> u64 {
    SplitMix64::new(u64::from(name)).next_u64()
}

/// A live entry of `len` bytes for the key `name`, in the main share.
fn entry_of(name: u32, len: usize) -> NewEntry {
    NewEntry {
        share: Share::Main,
        key: Key::from(&HashedKey::new(GroupId::new(0), &name.to_be_bytes(), hash_of(name))),
        stored: Stored::Value(Value::from(alloc::vec![name as u8; len])),
        expires: Instant::MAX,
        epoch: 0,
    }
}

impl Cache {
    /// Inserts where nothing is dead, and checks all invariants.
    fn put(&mut self, entry: NewEntry) -> Inserted {
        let inserted = self.insert(entry, |_, _, _| false, &mut Vec::new());
        self.check_invariants().unwrap();
        inserted
    }

    /// The length of the value of `name`, counted as a hit.
    fn len_of(&self, name: u32) -> Option<usize> {
        let bytes = name.to_be_bytes();
        match self.get(&HashedKey::new(GroupId::new(0), &bytes, hash_of(name)), || NOW, 0)?.stored {
            Stored::Value(value) => Some(value.len()),
            Stored::NotFound => None,
        }
    }

    /// Reads through: a miss stores a value of `len` bytes. Answers whether it was a hit.
    fn read(&mut self, name: u32, len: usize) -> bool {
        let hit = self.len_of(name).is_some();
        if !hit {
            let _ = self.insert(entry_of(name, len), |_, _, _| false, &mut Vec::new());
        }
        hit
    }
}
