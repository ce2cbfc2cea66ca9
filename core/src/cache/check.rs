//! The recount: everything that a cache keeps in two places must agree.

use alloc::format;
use alloc::string::String;
use alloc::vec;

use super::arena::NIL;
use super::charge::charge;
use super::policy::Policy;
use super::tally::Held;
use super::{Cache, Label, Share};

impl Cache {
    /// Recounts every charge, list, index place and free slot. O(slots); for tests, the simulator and the fuzz bodies.
    ///
    /// # Errors
    ///
    /// A sentence that names the first disagreement.
    pub(crate) fn check_invariants(&self) -> Result<(), String> {
        let mut owner = vec![None; self.arena.slots() as usize];
        for share in Share::ALL {
            let mut twice = None;
            self.policy(share).check(&self.arena, &mut |id| {
                if owner[id as usize].replace(share).is_some() {
                    twice = Some(id);
                }
            })?;
            if let Some(id) = twice {
                return Err(format!("slot {id} is in two lists"));
            }
            let usage = self.usage(share);
            if usage.bytes > usage.budget {
                return Err(format!("{share:?} is over its budget: {usage:?}"));
            }
        }
        self.check_free_list()?;
        self.check_tally()?;
        for id in 0..self.arena.slots() {
            self.check_slot(id, owner[id as usize])?;
        }
        if self.index.len() != self.arena.len() as usize {
            return Err(format!("{} index places for {} entries", self.index.len(), self.arena.len()));
        }
        Ok(())
    }

    fn check_slot(&self, id: u32, owner: Option<Share>) -> Result<(), String> {
        let slot = self.arena.slot(id);
        let Some(item) = slot.item() else {
            return if owner.is_some() { Err(format!("free slot {id} is in a list")) } else { Ok(()) };
        };
        let Label { group, share, .. } = slot.label();
        if owner != Some(share) {
            return Err(format!("slot {id} of {share:?} is in a list of {owner:?}"));
        }
        if Some(slot.charge) != charge(item.key.as_bytes(), &item.stored) {
            return Err(format!("slot {id} is charged {} bytes", slot.charge));
        }
        if slot.hits() > super::B2::MAX_HITS {
            return Err(format!("slot {id} counts {} hits", slot.hits()));
        }
        match self.find_by(slot.hash, group, item.key.as_bytes()) {
            Some(found) if found == id => Ok(()),
            found => Err(format!("the index finds {found:?} by the key of slot {id}")),
        }
    }

    /// Each group's figures are those of its entries, and all together the cache's.
    fn check_tally(&self) -> Result<(), String> {
        let kept = self.tally.all();
        let mut counted = vec![Held::default(); kept.len()];
        for slot in (0..self.arena.slots()).filter_map(|id| self.arena.used(id)) {
            let Label { group, .. } = slot.label();
            let Some(held) = counted.get_mut(usize::from(group)) else {
                return Err(format!("group {group} has an entry and no figures"));
            };
            (held.entries, held.bytes) = (held.entries + 1, held.bytes + u64::from(slot.charge));
        }
        for (group, (kept, counted)) in kept.iter().zip(&counted).enumerate() {
            if (kept.entries, kept.bytes) != (counted.entries, counted.bytes) {
                return Err(format!("group {group} holds {counted:?}, and is said to hold {kept:?}"));
            }
        }
        let lost: (u64, u64) = kept.iter().fold((0, 0), |(evictions, reclaimed), held| {
            (evictions + held.evictions, reclaimed + held.reclaimed)
        });
        if lost != (self.counters.evictions, self.counters.reclaimed) {
            return Err(format!("the groups have lost {lost:?} entries, the cache {:?}", self.counters));
        }
        Ok(())
    }

    fn check_free_list(&self) -> Result<(), String> {
        let (mut id, mut count) = (self.arena.first_free(), 0);
        while id != NIL {
            if self.arena.item(id).is_some() || count > self.arena.slots() {
                return Err(format!("the free list is broken at slot {id}"));
            }
            (id, count) = (self.arena.slot(id).next, count + 1);
        }
        if count + self.arena.len() != self.arena.slots() {
            return Err(format!(
                "{count} free and {} used of {} slots",
                self.arena.len(),
                self.arena.slots()
            ));
        }
        Ok(())
    }
}
