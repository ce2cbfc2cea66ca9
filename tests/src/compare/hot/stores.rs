//! Plain caches of so many entries: LRU, and the core's B2.

use std::collections::HashMap;
use std::sync::Arc;

use groupcache_core::{
    Effects, GroupConfig, GroupId, HashedKey, Instant, Intent, LoadRequest, Outcome as Told, PeerId,
    Placement, Ring, RingEpoch, Route, Shard, ShardConfig, Value,
};

use crate::compare::Outcome;
use crate::compare::random::mix;

pub(super) const GROUP: GroupId = GroupId::new(0);
pub(super) const NOW: Instant = Instant::from_nanos(1);

/// Which store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Lru,
    B2,
}

/// A cache that holds ids.
pub(super) trait Store {
    /// Whether it has `id`, which is noted as a use.
    fn get(&mut self, id: u32) -> bool;
    /// Offers `id`.
    fn put(&mut self, id: u32) -> Outcome<()>;
    /// The id that would have to go first, where it is full and that is known.
    fn next_out(&self) -> Option<u32> {
        None
    }
}

impl Kind {
    pub(super) fn store(self, entries: usize) -> Outcome<Box<dyn Store>> {
        Ok(match self {
            Self::Lru => Box::new(Lru::new(entries)),
            Self::B2 => Box::new(B2::new(entries)?),
        })
    }
}

/// The value of every key.
pub(super) fn value() -> Value {
    Value::from(&[b'v'; 100][..])
}

/// Bytes that an entry is charged.
pub(super) const CHARGE: u64 = groupcache_core::ENTRY_OVERHEAD + 16 + 100;

/// A key of 16 bytes. Its hash is another than the ring's, as it has to be.
pub(super) fn text(id: u32) -> [u8; 16] {
    let mut text = *b"key-000000000000";
    let mut rest = id;
    for digit in text.iter_mut().rev() {
        if rest == 0 {
            break;
        }
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    text
}

pub(super) fn hashed(id: u32, text: &[u8; 16]) -> HashedKey<'_> {
    HashedKey::new(GROUP, text, mix(u64::from(id)))
}

/// Least recently used goes first.
struct Lru {
    entries: usize,
    /// Where an id is.
    places: HashMap<u32, usize>,
    /// Id, the one used after it, the one used before it. The first stands between the newest and the oldest.
    ring: Vec<(u32, usize, usize)>,
}

impl Lru {
    fn new(entries: usize) -> Self {
        Self { entries, places: HashMap::new(), ring: vec![(0, 0, 0)] }
    }

    fn unlink(&mut self, place: usize) {
        let (_, after, before) = self.ring[place];
        self.ring[after].2 = before;
        self.ring[before].1 = after;
    }

    fn link_newest(&mut self, place: usize) {
        let newest = self.ring[0].2;
        self.ring[place].1 = 0;
        self.ring[place].2 = newest;
        self.ring[newest].1 = place;
        self.ring[0].2 = place;
    }
}

impl Store for Lru {
    fn get(&mut self, id: u32) -> bool {
        let Some(&place) = self.places.get(&id) else { return false };
        self.unlink(place);
        self.link_newest(place);
        true
    }

    fn put(&mut self, id: u32) -> Outcome<()> {
        if self.get(id) || self.entries == 0 {
            return Ok(());
        }
        let place = if self.places.len() < self.entries {
            self.ring.push((id, 0, 0));
            self.ring.len() - 1
        } else {
            let oldest = self.ring[0].1;
            self.unlink(oldest);
            self.places.remove(&self.ring[oldest].0);
            self.ring[oldest].0 = id;
            oldest
        };
        self.places.insert(id, place);
        self.link_newest(place);
        Ok(())
    }

    fn next_out(&self) -> Option<u32> {
        (self.places.len() >= self.entries).then(|| self.ring[self.ring[0].1].0)
    }
}

/// The core's policy in a shard of its own that owns every key.
struct B2 {
    shard: Shard<()>,
    out: Effects<()>,
}

impl B2 {
    fn new(entries: usize) -> Outcome<Self> {
        let mut config = ShardConfig::default();
        config.budget = entries as u64 * CHARGE;
        config.hot_per_mille = 0;
        config.negative_per_mille = 0;
        let ring = Arc::new(Ring::empty(Placement::default(), RingEpoch::new(0)));
        let mut shard = Shard::new(0, config, PeerId::new(0), ring, 7, NOW)?;
        shard.add_group(GROUP, GroupConfig::default())?;
        Ok(Self { shard, out: Effects::new() })
    }
}

impl Store for B2 {
    fn get(&mut self, id: u32) -> bool {
        self.shard.get(NOW, &hashed(id, &text(id))).is_some()
    }

    fn put(&mut self, id: u32) -> Outcome<()> {
        load_here(&mut self.shard, id, &mut self.out)
    }
}

/// Loads what a shard does not have from an origin that has everything.
pub(super) fn load_here(shard: &mut Shard<()>, id: u32, out: &mut Effects<()>) -> Outcome<()> {
    let (text, deadline) = (text(id), Instant::from_nanos(u64::MAX / 2));
    let request = LoadRequest::new(hashed(id, &text), (), deadline).route(Route::LocalOnly);
    let _waits = shard.load(NOW, request, out).map_err(|refused| refused.error)?;
    for intent in out.drain_intents().collect::<Vec<_>>() {
        if let Intent::Load { flight, attempt, .. } = intent {
            let told = Told::Value { value: value(), ttl: None };
            shard.handle_loaded(NOW, flight, attempt, told, out);
        }
    }
    out.drain_completions().for_each(drop);
    out.free_evicted();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_lru_forgets_what_was_used_longest_ago() {
        let mut lru = Lru::new(2);
        for id in [1, 2] {
            lru.put(id).expect("nothing can fail");
        }
        assert!(lru.get(1));
        assert_eq!(lru.next_out(), Some(2));
        lru.put(3).expect("nothing can fail");
        assert_eq!([1, 2, 3].map(|id| lru.get(id)), [true, false, true]);
    }

    #[test]
    fn the_core_as_a_plain_cache_holds_what_fits() {
        let mut b2 = B2::new(100).expect("settings in range");
        for id in 0..1000 {
            b2.put(id).expect("a load");
        }
        let held = (0..1000).filter(|&id| b2.get(id)).count();
        assert!((90..=100).contains(&held), "{held}");
    }
}
