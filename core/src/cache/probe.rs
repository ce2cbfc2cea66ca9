//! A cache by itself, for the fuzz body that holds it against a model: the hidden feature `__invariants`.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::policy::Policy;
use super::{Cache, CacheConfig, Inserted, NewEntry, Share, ShareUsage, Stored};
use crate::error::ConfigError;
use crate::id::GroupId;
use crate::time::Instant;
use crate::value::{HashedKey, Key, Value};

/// The shares, by their place in every array here: this node's keys, hot copies, keys that do not exist.
pub const SHARES: usize = Share::ALL.len();

/// How large a cache is.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::exhaustive_structs)]
pub struct Size {
    /// Bytes for each share.
    pub budgets: [u64; SHARES],
    /// The charge of an average entry, as a guess.
    pub expected_entry: u32,
    /// Seeds what little chance there is in eviction.
    pub seed: u64,
    /// Whether the window of the first share adapts.
    pub adaptive: bool,
}

/// What is kept of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct Kept {
    /// The share.
    pub share: usize,
    /// Its value; `None` where it does not exist.
    pub value: Option<Value>,
    /// When it expires.
    pub expires: Instant,
    /// The epoch that it was stored under.
    pub epoch: u32,
}

/// What became of an insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum Insertion {
    /// It is in the cache.
    Stored,
    /// It is larger than its share.
    TooLarge,
    /// The policy would not have it.
    NotAdmitted,
}

/// The use of one share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs)]
pub struct Use {
    /// Entries.
    pub entries: u32,
    /// Bytes charged, for entries and for tables.
    pub bytes: u64,
    /// Those of them that are for tables.
    pub tables: u64,
}

/// The cache of one shard, alone.
pub struct Probe {
    cache: Cache,
    evicted: Vec<Value>,
}

impl Probe {
    /// An empty cache.
    ///
    /// # Errors
    ///
    /// [`ConfigError::OutOfMemory`] where the tables cannot be allocated.
    pub fn new(size: Size) -> Result<Self, ConfigError> {
        let Size { budgets: [main, hot, negative], expected_entry, seed, adaptive } = size;
        let config = CacheConfig { main, hot, negative, expected_entry, seed, adaptive };
        Ok(Self { cache: Cache::new(&config)?, evicted: Vec::new() })
    }

    /// Stores an entry in place of what its key had. `dead` tells what can be read no more.
    pub fn insert(
        &mut self,
        key: &HashedKey<'_>,
        kept: Kept,
        dead: impl Fn(GroupId, Instant, u32) -> bool,
    ) -> Insertion {
        let Kept { share, value, expires, epoch } = kept;
        let stored = value.map_or(Stored::NotFound, Stored::Value);
        let new = NewEntry { share: Share::ALL[share], key: Key::from(key), stored, expires, epoch };
        match self.cache.insert(new, dead, &mut self.evicted) {
            Inserted::Stored => Insertion::Stored,
            Inserted::TooLarge => Insertion::TooLarge,
            Inserted::NotAdmitted => Insertion::NotAdmitted,
        }
    }

    /// What is kept of a key and may be read now: a hit.
    #[must_use]
    pub fn get(&self, key: &HashedKey<'_>, now: Instant, epoch: u32) -> Option<Kept> {
        self.cache.get(key, || now, epoch).map(kept)
    }

    /// What is kept of a key, dead or alive, and no hit.
    #[must_use]
    pub fn peek(&self, key: &HashedKey<'_>) -> Option<Kept> {
        self.cache.peek(key).map(kept)
    }

    /// Forgets a key. False where it was not there.
    pub fn remove(&mut self, key: &HashedKey<'_>) -> bool {
        self.cache.remove(key, &mut self.evicted)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.cache.clear(&mut self.evicted);
    }

    /// Takes the values that went.
    pub fn take_evicted(&mut self) -> Vec<Value> {
        core::mem::take(&mut self.evicted)
    }

    /// The use of each share.
    #[must_use]
    pub fn usage(&self) -> [Use; SHARES] {
        Share::ALL.map(|share| {
            let ShareUsage { entries, bytes, .. } = self.cache.usage(share);
            Use { entries, bytes, tables: self.cache.policy(share).table_bytes() }
        })
    }

    /// The largest charge that a share stores.
    #[must_use]
    pub fn capacity(&self, share: usize) -> u64 {
        self.cache.policy(Share::ALL[share]).capacity()
    }

    /// Live entries that made room for others, so far.
    #[must_use]
    pub const fn evictions(&self) -> u64 {
        self.cache.counters().evictions
    }

    /// Recounts every charge, list, index place and free slot.
    ///
    /// # Errors
    ///
    /// What does not agree, in words.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.cache.check_invariants()
    }
}

fn kept(entry: super::Entry<'_>) -> Kept {
    let value = match entry.stored {
        Stored::Value(value) => Some(value.clone()),
        Stored::NotFound => None,
    };
    Kept { share: entry.share as usize, value, expires: entry.expires, epoch: entry.epoch }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").finish_non_exhaustive()
    }
}
