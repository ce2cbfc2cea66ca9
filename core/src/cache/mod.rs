//! The cache of one shard: entries of all groups under one byte budget a share.
//!
//! Three shares (this node's own keys, hot copies of other nodes' keys, and keys known not to exist) have a budget and an eviction policy each.
//! They have one slab and one index in common, so a lookup is one probe and a key is in one share at a time.
//!
//! A hit needs `&self`: it writes at most the entry's 2-bit counter, and allocates nothing. An insertion evicts what has to go before it
//! returns, and the evicted values go to a buffer of the caller's, to be freed outside its lock. It allocates only where it makes more entries
//! than there ever were, and more than [`Cache::new`] reserved for: a cache that has reached its size allocates nothing. Memory that is not to
//! be had refuses the entry and never aborts.

mod adaptive;
mod arena;
mod b2;
mod b2a;
mod charge;
#[cfg(any(test, feature = "__invariants"))]
mod check;
mod index;
mod key_bytes;
mod list;
mod policy;
#[cfg(feature = "__invariants")]
pub mod probe;
#[cfg(feature = "__bench")]
pub mod replay;
mod sketch;
mod tally;
#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use self::adaptive::Adaptive;
use self::arena::{Arena, Content, Slot};
use self::b2::B2;
#[allow(unused_imports)] // Until the shards feed it.
pub use self::charge::ENTRY_OVERHEAD;
use self::index::{Index, shorten};
use self::key_bytes::KeyBytes;
use self::list::List;
use self::policy::Policy;
#[cfg(test)]
pub(crate) use self::policy::Tuning;
pub(crate) use self::tally::Held;
use self::tally::Tally;
use crate::canary::{self, Canary};
use crate::error::ConfigError;
use crate::id::GroupId;
use crate::rng::SplitMix64;
use crate::time::Instant;
use crate::value::{HashedKey, Key, Value};

/// The part of a cache that an entry is kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum Share {
    /// Keys that this node owns.
    Main,
    /// Copies of other nodes' keys.
    Hot,
    /// Keys that are known not to exist.
    Negative,
}

impl Share {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Main, Self::Hot, Self::Negative];

    /// Its name, in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Hot => "hot",
            Self::Negative => "negative",
        }
    }
}

/// How large a cache is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CacheConfig {
    /// Bytes for [`Share::Main`]. A share of 0 bytes stores nothing.
    pub(crate) main: u64,
    /// Bytes for [`Share::Hot`].
    pub(crate) hot: u64,
    /// Bytes for [`Share::Negative`].
    pub(crate) negative: u64,
    /// The charge of an average entry, in bytes; less than [`ENTRY_OVERHEAD`] counts as that. A guess: it sizes the first tables, which grow.
    pub(crate) expected_entry: u32,
    /// Seeds what little chance there is in eviction.
    pub(crate) seed: u64,
    /// Whether the window of the main share adapts to the traffic: B2a in place of B2.
    pub(crate) adaptive: bool,
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    /// Its value.
    Value(Value),
    /// That the origin has no such key. For [`Share::Negative`].
    NotFound,
}

/// An entry as a lookup finds it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    /// What is known of the key.
    pub(crate) stored: &'a Stored,
    /// The share that it is kept in.
    pub(crate) share: Share,
    /// When it expires.
    pub(crate) expires: Instant,
    /// The epoch of its group that it was stored under.
    pub(crate) epoch: u32,
    slot: &'a Slot<Item>,
}

impl Entry<'_> {
    /// What the entry is charged, in bytes.
    pub(crate) const fn charge(&self) -> u32 {
        self.slot.charge
    }

    /// Counts a hit. True while the counter was not full yet.
    #[inline]
    pub(crate) fn touch(&self) -> bool {
        self.slot.touch(B2::MAX_HITS)
    }
}

/// An entry to store.
#[derive(Clone, Debug)]
pub(crate) struct NewEntry {
    /// Where to keep it.
    pub(crate) share: Share,
    /// The key, with its table hash.
    pub(crate) key: Key,
    /// What is known of it.
    pub(crate) stored: Stored,
    /// When it expires; [`Instant::MAX`] for never.
    pub(crate) expires: Instant,
    /// The current epoch of its group.
    pub(crate) epoch: u32,
}

/// What became of an entry to store.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// It is in the cache.
    Stored,
    /// It is larger than its share: nothing was evicted, except what the key had before.
    TooLarge,
    /// There was no memory for it, or its policy would not have it.
    NotAdmitted,
}

/// The use of one share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShareUsage {
    /// Entries, the dead ones that are still to be reclaimed included.
    pub entries: u32,
    /// Bytes charged for entries and for the policy's tables; never over `budget`.
    pub bytes: u64,
    /// The share's budget in bytes.
    pub budget: u64,
}

impl ShareUsage {
    /// Adds another shard's figures.
    pub const fn add(&mut self, other: &Self) {
        self.entries = self.entries.saturating_add(other.entries);
        self.bytes += other.bytes;
        self.budget += other.budget;
    }
}

/// What happened in a cache since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheCounters {
    /// Live entries that made room for others.
    pub(crate) evictions: u64,
    /// Expired entries and entries of an old epoch that were reclaimed by an insertion.
    pub(crate) reclaimed: u64,
    /// Entries that were larger than their share.
    pub(crate) too_large: u64,
    /// Entries that were refused for want of memory, or by their policy.
    pub(crate) not_admitted: u64,
}

/// What a slot of the slab holds: with its label and what the policy needs a cache line, no more.
#[derive(Debug)]
struct Item {
    key: KeyBytes,
    stored: Stored,
    expires: Instant,
}

impl Content for Item {
    type Label = Label;
    type Alignment = CacheLine;
}

/// The rest of it: 7 bytes, so that it fits where a slot has place for them.
#[derive(Clone, Copy, Debug)]
#[repr(Rust, packed)]
struct Label {
    epoch: u32,
    group: u16,
    share: Share,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct CacheLine;

/// The cache of one shard. See the [module](self).
#[derive(Debug)]
pub(crate) struct Cache {
    /// Slots by table hash; equal hashes are told apart by the key itself.
    index: Index,
    arena: Arena<Item>,
    main: B2,
    adaptive: Option<Adaptive>,
    hot: B2,
    negative: B2,
    budgets: [u64; 3],
    counters: CacheCounters,
    tally: Tally,
}

/// Shadows take at most one part in so many of the budget of the share that they are for.
const SHADOW_PART: u64 = 8;

impl Cache {
    /// An empty cache, its tables reserved for as many entries as `config` expects.
    ///
    /// # Errors
    ///
    /// [`ConfigError::OutOfMemory`] where the tables cannot be allocated.
    pub(crate) fn new(config: &CacheConfig) -> Result<Self, ConfigError> {
        let budgets = [config.main, config.hot, config.negative];
        let expected = budgets.map(|budget| expected_entries(budget, config.expected_entry));
        let mut seeds = SplitMix64::new(config.seed);
        let mut policy = |share: usize| {
            B2::new(budgets[share], expected[share], seeds.next_u64()).map_err(|_| ConfigError::OutOfMemory)
        };
        let mut cache = Self {
            index: Index::new(),
            arena: Arena::new(),
            main: policy(0)?,
            adaptive: None,
            hot: policy(1)?,
            negative: policy(2)?,
            budgets,
            counters: CacheCounters::default(),
            tally: Tally::default(),
        };
        if config.adaptive {
            cache.adaptive = Some(Adaptive::new(budgets[0], expected[0], config.seed)?);
            cache.pay_for_shadows(&|_| false, &mut Vec::new());
        }
        // An insertion takes its slot before it evicts: one spare.
        let slots = expected.iter().fold(1, |sum: usize, &entries| sum.saturating_add(entries as usize));
        cache.arena.try_reserve(slots).map_err(|_| ConfigError::OutOfMemory)?;
        cache.index.reserve(slots, |_| 0).then_some(cache).ok_or(ConfigError::OutOfMemory)
    }

    /// The live entry of a key, which counts as a hit. `epoch` is the current one of the key's group.
    ///
    /// An expired entry, or one of another epoch, is not found, and its counter is left alone; [`peek`](Cache::peek) shows it. `now` is asked
    /// only of an entry that expires. O(1).
    #[inline]
    pub(crate) fn get(
        &self,
        key: &HashedKey<'_>,
        now: impl FnOnce() -> Instant,
        epoch: u32,
    ) -> Option<Entry<'_>> {
        let entry = self.peek(key).filter(|entry| {
            let lives = || entry.expires == Instant::MAX || entry.expires > now();
            (lives() || canary::is(Canary::ExpiryIgnored)) && entry.epoch == epoch
        })?;
        let counted = entry.touch();
        if let Some(adaptive) = self.adaptive.as_ref().filter(|_| counted && entry.share == Share::Main) {
            adaptive.note_hit(key.hash(), entry.charge());
        }
        Some(entry)
    }

    /// The entry of a key, dead or alive, without counting a hit. O(1).
    #[inline]
    pub(crate) fn peek(&self, key: &HashedKey<'_>) -> Option<Entry<'_>> {
        let slot = self.arena.slot(self.find(key)?);
        let (item, label) = (slot.item()?, slot.label());
        Some(Entry {
            stored: &item.stored,
            share: label.share,
            expires: item.expires,
            epoch: label.epoch,
            slot,
        })
    }

    /// Stores an entry in place of what its key had before, in whichever share, and evicts what has to go for it.
    ///
    /// An entry that stays in its share stays in its place there, with its hits. `dead` tells whether an entry of a group, with an expiry and an
    /// epoch, can be read no more; the eviction hand takes such ones first where it meets them. Values that go are appended to `evicted`.
    ///
    /// O(1) amortised over the hits and insertions before; one large value may displace many small ones at once.
    pub(crate) fn insert(
        &mut self,
        new: NewEntry,
        dead: impl Fn(GroupId, Instant, u32) -> bool,
        evicted: &mut Vec<Value>,
    ) -> Inserted {
        let share = new.share;
        let dead_item = |slot: &Slot<Item>| {
            let Label { group, epoch, .. } = slot.label();
            slot.item().is_none_or(|item| dead(GroupId::new(group.into()), item.expires, epoch))
        };
        let charge = charge::charge(new.key.as_bytes(), &new.stored);
        if let (Share::Main, Some(charge)) = (share, charge) {
            self.adapt(new.key.hash(), charge, &dead_item, evicted);
        }
        let charge = charge.filter(|&charge| u64::from(charge) <= self.policy(share).capacity());
        let found = self.find(&new.key.as_hashed());
        let Some(charge) = charge else {
            if let Some(id) = found {
                self.discard(id, evicted);
            }
            release(new.stored, evicted);
            self.counters.too_large += 1;
            return Inserted::TooLarge;
        };
        let mut out = List::outgoing();
        let id = match found {
            Some(id) if self.arena.slot(id).label().share == share => {
                let before = self.arena.slot(id).charge;
                self.tally.recharge(self.arena.slot(id).label().group, before, charge);
                self.overwrite(id, new, evicted);
                let (policy, arena) = self.policy_and_arena(share);
                policy.replace(arena, id, charge, &dead_item, &mut out);
                id
            }
            other => {
                if let Some(id) = other {
                    self.discard(id, evicted);
                }
                let Some(id) = self.occupy(charge, new, evicted) else {
                    self.counters.not_admitted += 1;
                    return Inserted::NotAdmitted;
                };
                let (policy, arena) = self.policy_and_arena(share);
                policy.insert(arena, id, &dead_item, &mut out);
                id
            }
        };
        self.carry_out(out, id, &dead_item, evicted)
    }

    /// Forgets a key. False where it was not there.
    pub(crate) fn remove(&mut self, key: &HashedKey<'_>, evicted: &mut Vec<Value>) -> bool {
        let found = self.find(key);
        if let Some(id) = found {
            self.discard(id, evicted);
        }
        found.is_some()
    }

    /// Forgets everything, and keeps the tables. O(entries).
    pub(crate) fn clear(&mut self, evicted: &mut Vec<Value>) {
        self.index.clear();
        self.tally.clear();
        for share in Share::ALL {
            self.policy_and_arena(share).0.clear();
        }
        for item in self.arena.drain() {
            release(item.stored, evicted);
        }
    }

    /// Tunes the policy of a share.
    #[cfg(test)]
    pub(crate) fn tune(&mut self, share: Share, tuning: Tuning) {
        self.policy_and_arena(share).0.tune(tuning);
    }

    /// The entries and bytes of a share.
    pub(crate) fn usage(&self, share: Share) -> ShareUsage {
        let policy = self.policy(share);
        ShareUsage {
            entries: policy.entries(),
            bytes: policy.bytes() + policy.table_bytes(),
            budget: self.budgets[share as usize],
        }
    }

    /// What a group holds, and has lost. O(1).
    pub(crate) fn held(&self, group: GroupId) -> Held {
        self.tally.of(group.index() as usize)
    }

    /// Makes room for a group's figures, so that its first entry allocates none. False where there is no memory for them.
    pub(crate) fn admit_group(&mut self, group: GroupId) -> bool {
        u16::try_from(group.index()).is_ok_and(|group| self.tally.admit(group))
    }

    /// What happened since the cache was made.
    pub(crate) const fn counters(&self) -> CacheCounters {
        self.counters
    }
}

impl Cache {
    /// Tells the adapter of a miss, tunes the main share as it says, and has the share pay for what the shadows have grown by.
    fn adapt(
        &mut self,
        hash: u64,
        charge: u32,
        dead: &impl Fn(&Slot<Item>) -> bool,
        evicted: &mut Vec<Value>,
    ) {
        let live = self.main.entries();
        let Some(adaptive) = &mut self.adaptive else { return };
        if let Some(tuning) = adaptive.note_miss(hash, charge, live) {
            self.main.tune(tuning);
        }
        self.pay_for_shadows(dead, evicted);
    }

    /// Takes the shadows off the main share's budget. Shadows that take more than their part are given up: the share is too small to be worth adapting.
    fn pay_for_shadows(&mut self, dead: &impl Fn(&Slot<Item>) -> bool, evicted: &mut Vec<Value>) {
        let most = self.budgets[Share::Main as usize] / SHADOW_PART;
        self.adaptive = self.adaptive.take().filter(|adaptive| adaptive.bytes() <= most);
        let (bytes, mut out) = (self.adaptive.as_ref().map_or(0, Adaptive::bytes), List::outgoing());
        self.main.set_side_tables(&mut self.arena, bytes, dead, &mut out);
        let _none_is_new = self.carry_out(out, arena::NIL, dead, evicted);
    }

    #[inline]
    fn find(&self, key: &HashedKey<'_>) -> Option<u32> {
        self.find_by(shorten(key.hash()), u16::try_from(key.group().index()).ok()?, key.as_bytes())
    }

    #[inline]
    fn find_by(&self, hash: u32, group: u16, key: &[u8]) -> Option<u32> {
        let same = |id| {
            let slot = self.arena.slot(id);
            let is_it = |item: &Item| slot.label().group == group && item.key.as_bytes() == key;
            slot.hash == hash && (slot.item().is_some_and(is_it) || canary::is(Canary::CollisionIgnored))
        };
        self.index.find(hash, same)
    }

    /// Takes a slot and an index place for a new entry. `None`, and nothing taken, where there is no memory.
    fn occupy(&mut self, charge: u32, new: NewEntry, evicted: &mut Vec<Value>) -> Option<u32> {
        let NewEntry { share, key, stored, expires, epoch } = new;
        let hash = shorten(key.hash());
        let arena = &self.arena;
        let has_place = self.index.reserve(arena.len() as usize + 1, |id| arena.slot(id).hash);
        // Groups are numbered densely from 0: a shard has fewer than 2^16.
        let group = u16::try_from(key.group().index()).ok().filter(|&group| self.tally.admit(group));
        let Some(group) = group.filter(|_| has_place) else {
            release(stored, evicted);
            return None;
        };
        let label = Label { epoch, group, share };
        let item = Item { key: KeyBytes::from(key.into_bytes()), stored, expires };
        let id = self.arena.insert(hash, charge, label, item)?;
        self.index.insert(hash, id);
        self.tally.add(group, charge);
        Some(id)
    }

    fn overwrite(&mut self, id: u32, new: NewEntry, evicted: &mut Vec<Value>) {
        let (item, label) = self.arena.slot_mut(id).parts_mut();
        if let Some(item) = item {
            (item.expires, label.epoch) = (new.expires, new.epoch);
            release(core::mem::replace(&mut item.stored, new.stored), evicted);
        }
    }

    /// Frees the slots that a policy gave up, and tells whether `new` is among them.
    fn carry_out(
        &mut self,
        mut out: List,
        new: u32,
        dead: &impl Fn(&Slot<Item>) -> bool,
        evicted: &mut Vec<Value>,
    ) -> Inserted {
        let mut inserted = Inserted::Stored;
        while let Some(id) = out.tail() {
            out.unlink(&mut self.arena, id);
            let held = self.tally.of_mut(self.arena.slot(id).label().group);
            let (counter, of_group) = match self.arena.used(id) {
                _ if id == new => {
                    inserted = Inserted::NotAdmitted;
                    (&mut self.counters.not_admitted, None)
                }
                Some(slot) if !dead(slot) => (&mut self.counters.evictions, Some(&mut held.evictions)),
                _ => (&mut self.counters.reclaimed, Some(&mut held.reclaimed)),
            };
            *counter += 1;
            if let Some(counter) = of_group {
                *counter += 1;
            }
            if canary::is(Canary::EvictionLosesEntry) {
                continue;
            }
            self.free(id, evicted);
        }
        inserted
    }

    /// Takes an entry out of its policy, the index and the slab.
    fn discard(&mut self, id: u32, evicted: &mut Vec<Value>) {
        let share = self.arena.slot(id).label().share;
        let (policy, arena) = self.policy_and_arena(share);
        policy.remove(arena, id);
        self.free(id, evicted);
    }

    /// Takes an entry that is in no list out of the index and the slab.
    fn free(&mut self, id: u32, evicted: &mut Vec<Value>) {
        let arena = &self.arena;
        let slot = arena.slot(id);
        self.tally.remove(slot.label().group, slot.charge);
        self.index.remove(slot.hash, id, |id| arena.slot(id).hash);
        if let Some(item) = self.arena.remove(id) {
            release(item.stored, evicted);
        }
    }

    const fn policy(&self, share: Share) -> &B2 {
        match share {
            Share::Main => &self.main,
            Share::Hot => &self.hot,
            Share::Negative => &self.negative,
        }
    }

    const fn policy_and_arena(&mut self, share: Share) -> (&mut B2, &mut Arena<Item>) {
        let policy = match share {
            Share::Main => &mut self.main,
            Share::Hot => &mut self.hot,
            Share::Negative => &mut self.negative,
        };
        (policy, &mut self.arena)
    }
}

fn expected_entries(budget: u64, expected_entry: u32) -> u32 {
    let entries = budget / u64::from(expected_entry).max(ENTRY_OVERHEAD);
    u32::try_from(entries).unwrap_or(u32::MAX)
}

/// Passes a value on to where it is freed; here, where there is no memory for that.
fn release(stored: Stored, evicted: &mut Vec<Value>) {
    match stored {
        Stored::Value(_) if canary::is(Canary::EvictedValueLost) => {}
        Stored::Value(value) if evicted.try_reserve(1).is_ok() => evicted.push(value),
        Stored::Value(_) | Stored::NotFound => {}
    }
}
