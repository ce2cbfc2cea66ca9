//! The slab: every entry of a cache, and the marks and links by which policies order them.

use alloc::collections::TryReserveError;
use alloc::vec::Vec;
use core::fmt::Debug;
use core::sync::atomic::{AtomicU8, Ordering};

/// No slot: the end of a list.
pub(super) const NIL: u32 = u32::MAX;

/// The segment of a slot that no policy list holds: free, or on its way out.
pub(super) const UNLISTED: u8 = u8::MAX >> SEGMENT_SHIFT;

/// Growth is by a quarter, at least this many slots: at most a fifth of the slab is slack, and a slot is copied four times on average.
const LEAST_GROWTH: usize = 64;

/// What slots hold.
pub(super) trait Content: Debug {
    /// The part of it that fits beside what a policy needs to know, and would be padded out anywhere else.
    type Label: Copy + Debug;
    /// What slots are aligned like.
    type Alignment: Default + Debug;
}

/// Where slots hold nothing, for shadows.
impl Content for () {
    type Label = ();
    type Alignment = ();
}

/// One slot: what a policy needs to know of an entry, and the entry.
#[derive(Debug)]
pub(super) struct Slot<T: Content> {
    /// [Shortened](super::index::shorten).
    pub(super) hash: u32,
    pub(super) prev: u32,
    pub(super) next: u32,
    pub(super) charge: u32,
    /// The hit counter in the low bits, above it which list of its policy the slot is in. Readers write the counter, and only that.
    state: AtomicU8,
    label: T::Label,
    item: Option<T>,
    _alignment: T::Alignment,
}

const HITS: u8 = 3;
const SEGMENT_SHIFT: u32 = 2;

/// A slab of slots under 32-bit ids, which stay valid until [`remove`](Arena::remove).
#[derive(Debug)]
pub(super) struct Arena<T: Content> {
    slots: Vec<Slot<T>>,
    /// The first free slot; free slots are linked by `next`.
    free: u32,
    len: u32,
}

impl<T: Content> Arena<T> {
    pub(super) const fn new() -> Self {
        Self { slots: Vec::new(), free: NIL, len: 0 }
    }

    /// Makes room for `slots` slots in all, so that growth up to there allocates nothing.
    pub(super) fn try_reserve(&mut self, slots: usize) -> Result<(), TryReserveError> {
        self.slots.try_reserve_exact(slots.saturating_sub(self.slots.len()))
    }

    /// Slots in use.
    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    /// Slots that exist, in use or free: ids are below this.
    #[cfg(any(test, feature = "__invariants"))]
    pub(super) fn slots(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Slots that are paid for, in use or not.
    pub(super) fn allocated(&self) -> usize {
        self.slots.capacity()
    }

    /// Takes a slot for `item`; `None`, and nothing changed, when there is no memory or no id left.
    pub(super) fn insert(&mut self, hash: u32, charge: u32, label: T::Label, item: T) -> Option<u32> {
        let slot = Slot {
            hash,
            prev: NIL,
            next: NIL,
            charge,
            state: AtomicU8::new(UNLISTED << SEGMENT_SHIFT),
            label,
            item: Some(item),
            _alignment: T::Alignment::default(),
        };
        let id = self.free;
        if let Some(free) = self.slots.get_mut(id as usize) {
            self.free = free.next;
            *free = slot;
            self.len += 1;
            return Some(id);
        }
        let id = u32::try_from(self.slots.len()).ok().filter(|&id| id != NIL)?;
        if self.slots.len() == self.slots.capacity() {
            self.slots.try_reserve_exact((self.slots.len() / 4).max(LEAST_GROWTH)).ok()?;
        }
        self.slots.push(slot);
        self.len += 1;
        Some(id)
    }

    /// Gives a slot back. No list may hold it any more.
    pub(super) fn remove(&mut self, id: u32) -> Option<T> {
        let free = self.free;
        let slot = self.slots.get_mut(id as usize)?;
        debug_assert_eq!(slot.segment(), UNLISTED, "a slot is freed while a list holds it");
        let item = slot.item.take()?;
        slot.next = free;
        self.free = id;
        self.len -= 1;
        Some(item)
    }

    /// Forgets every slot and keeps the memory.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        (self.free, self.len) = (NIL, 0);
        self.slots.drain(..).filter_map(|slot| slot.item)
    }

    #[inline]
    pub(super) fn slot(&self, id: u32) -> &Slot<T> {
        &self.slots[id as usize]
    }

    pub(super) fn slot_mut(&mut self, id: u32) -> &mut Slot<T> {
        &mut self.slots[id as usize]
    }

    #[cfg(any(test, feature = "__invariants"))]
    pub(super) fn item(&self, id: u32) -> Option<&T> {
        self.slots.get(id as usize)?.item.as_ref()
    }

    /// The slot, if it is in use.
    pub(super) fn used(&self, id: u32) -> Option<&Slot<T>> {
        self.slots.get(id as usize).filter(|slot| slot.item.is_some())
    }

    /// The head of the free list, for recounting.
    #[cfg(any(test, feature = "__invariants"))]
    pub(super) const fn first_free(&self) -> u32 {
        self.free
    }
}

impl<T: Content> Slot<T> {
    /// The item, if the slot is in use.
    pub(super) const fn item(&self) -> Option<&T> {
        self.item.as_ref()
    }

    /// The item, if the slot is in use, and its label.
    pub(super) const fn parts_mut(&mut self) -> (Option<&mut T>, &mut T::Label) {
        (self.item.as_mut(), &mut self.label)
    }

    pub(super) const fn label(&self) -> T::Label {
        self.label
    }

    /// Which list of its policy the slot is in; a policy numbers its lists as it likes, below [`UNLISTED`].
    pub(super) fn segment(&self) -> u8 {
        self.state.load(Ordering::Relaxed) >> SEGMENT_SHIFT
    }

    pub(super) fn set_segment(&mut self, segment: u8) {
        let state = self.state.get_mut();
        *state = segment << SEGMENT_SHIFT | *state & HITS;
    }

    /// The hit counter.
    pub(super) fn hits(&self) -> u8 {
        self.state.load(Ordering::Relaxed) & HITS
    }

    /// Reads the hit counter and sets it to 0.
    pub(super) fn take_hits(&mut self) -> u8 {
        let state = self.state.get_mut();
        let hits = *state & HITS;
        *state &= !HITS;
        hits
    }

    /// Counts a hit, up to `most`, which is 3 at most; answers whether it wrote.
    ///
    /// A load and a store, not an increment: readers that race lose a count, which is harmless, and the line of an entry whose counter is full
    /// stays clean and shared among all the cores that read it. Whoever changes the segment excludes the readers.
    #[inline]
    pub(super) fn touch(&self, most: u8) -> bool {
        let state = self.state.load(Ordering::Relaxed);
        let counts = state & HITS < most;
        if counts {
            self.state.store(state + 1, Ordering::Relaxed);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Number(u32);

    impl Content for Number {
        type Label = ();
        type Alignment = ();
    }

    #[test]
    fn slots_are_reused_and_ids_stay() {
        let mut arena = Arena::new();
        let ids: Vec<_> = (0..100_u32).map(|n| arena.insert(n, 1, (), Number(n)).unwrap()).collect();
        assert_eq!(arena.remove(ids[7]), Some(Number(7)));
        assert_eq!(arena.remove(ids[9]), Some(Number(9)));
        assert_eq!(arena.remove(ids[9]), None, "a second removal finds nothing");
        assert_eq!(
            (arena.insert(0, 1, (), Number(200)), arena.insert(0, 1, (), Number(201))),
            (Some(9), Some(7))
        );
        assert_eq!((arena.len(), arena.slots(), arena.item(50)), (100, 100, Some(&Number(50))));
    }

    #[test]
    fn slack_is_at_most_a_quarter_and_slots_are_copied_seldom() {
        let mut arena = Arena::new();
        let (mut allocated, mut copied) = (0, 0);
        for n in 0..10_000_u32 {
            arena.insert(0, 1, (), Number(n)).unwrap();
            if arena.allocated() != allocated {
                (allocated, copied) = (arena.allocated(), copied + n);
            }
        }
        assert!(allocated <= 10_000 * 5 / 4, "{allocated}");
        assert!(copied <= 5 * 10_000, "{copied}");
    }

    #[test]
    fn the_hit_counter_saturates_and_then_stops_writing() {
        let mut arena = Arena::new();
        let id = arena.insert(0, 1, (), ()).unwrap();
        arena.slot_mut(id).set_segment(5);
        let wrote: Vec<_> = (0..6).map(|_| arena.slot(id).touch(3)).collect();
        assert_eq!(wrote, [true, true, true, false, false, false]);
        assert_eq!((arena.slot(id).hits(), arena.slot_mut(id).take_hits(), arena.slot(id).hits()), (3, 3, 0));
        assert_eq!(arena.slot(id).segment(), 5);
    }
}
