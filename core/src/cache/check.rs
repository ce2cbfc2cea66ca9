//! The recount: everything that a cache keeps in two places must agree.

use alloc::format;
use alloc::string::String;
use alloc::vec;

use super::arena::NIL;
use super::charge::charge;
use super::policy::Policy;
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
