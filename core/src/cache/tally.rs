//! What each group holds of a cache, and has lost of it: kept as entries come and go, so that nobody has to walk them to know.

use alloc::vec::Vec;

/// One group's part of a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Entries of all shares, the dead ones that are still to be reclaimed included.
    pub(crate) entries: u64,
    /// Bytes charged for them.
    pub(crate) bytes: u64,
    /// Live entries that made room for others.
    pub(crate) evictions: u64,
    /// Expired entries and entries of an old epoch that were reclaimed by an insertion.
    pub(crate) reclaimed: u64,
}

/// The groups' parts, by number.
#[derive(Debug, Default)]
pub(super) struct Tally(Vec<Held>);

impl Tally {
    /// Makes room for the group with this number. False where there is no memory for it.
    pub(super) fn admit(&mut self, group: u16) -> bool {
        let len = usize::from(group) + 1;
        if self.0.len() < len {
            if self.0.try_reserve(len - self.0.len()).is_err() {
                return false;
            }
            self.0.resize(len, Held::default());
        }
        true
    }

    /// An entry came.
    pub(super) fn add(&mut self, group: u16, charge: u32) {
        let held = &mut self.0[usize::from(group)];
        (held.entries, held.bytes) = (held.entries + 1, held.bytes + u64::from(charge));
    }

    /// An entry is charged anew.
    pub(super) fn recharge(&mut self, group: u16, before: u32, charge: u32) {
        let held = &mut self.0[usize::from(group)];
        held.bytes = held.bytes - u64::from(before) + u64::from(charge);
    }

    /// An entry went.
    pub(super) fn remove(&mut self, group: u16, charge: u32) {
        let held = &mut self.0[usize::from(group)];
        (held.entries, held.bytes) = (held.entries - 1, held.bytes - u64::from(charge));
    }

    /// All entries went.
    pub(super) fn clear(&mut self) {
        self.0.iter_mut().for_each(|held| (held.entries, held.bytes) = (0, 0));
    }

    pub(super) fn of_mut(&mut self, group: u16) -> &mut Held {
        &mut self.0[usize::from(group)]
    }

    pub(super) fn of(&self, group: usize) -> Held {
        self.0.get(group).copied().unwrap_or_default()
    }

    #[cfg(any(test, feature = "__invariants"))]
    pub(super) fn all(&self) -> &[Held] {
        &self.0
    }
}
