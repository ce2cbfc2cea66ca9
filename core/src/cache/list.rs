//! Doubly linked lists through an arena's slots: newest at the head, and the charges summed.

use super::arena::{Arena, Content, NIL, UNLISTED};

/// A list of slots. A slot is in one list at most, and carries the list's segment number while it is.
#[derive(Debug)]
pub(super) struct List {
    head: u32,
    tail: u32,
    len: u32,
    bytes: u64,
    segment: u8,
}

impl List {
    /// An empty list whose slots carry `segment`.
    pub(super) const fn new(segment: u8) -> Self {
        Self { head: NIL, tail: NIL, len: 0, bytes: 0, segment }
    }

    /// A list for slots on their way out: to whoever looks at them they are in no segment.
    pub(super) const fn outgoing() -> Self {
        Self::new(UNLISTED)
    }

    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    /// The sum of the slots' charges.
    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The oldest slot.
    pub(super) fn tail(&self) -> Option<u32> {
        (self.tail != NIL).then_some(self.tail)
    }

    /// The oldest slot that is not `skip`.
    pub(super) fn tail_but<T: Content>(&self, arena: &Arena<T>, skip: u32) -> Option<u32> {
        let tail = if self.tail != NIL && self.tail == skip { arena.slot(skip).prev } else { self.tail };
        (tail != NIL).then_some(tail)
    }

    pub(super) fn push_head<T: Content>(&mut self, arena: &mut Arena<T>, id: u32) {
        let slot = arena.slot_mut(id);
        (slot.prev, slot.next) = (NIL, self.head);
        slot.set_segment(self.segment);
        self.bytes += u64::from(slot.charge);
        if self.head == NIL {
            self.tail = id;
        } else {
            arena.slot_mut(self.head).prev = id;
        }
        self.head = id;
        self.len += 1;
    }

    /// Takes `id` out. It must be in this list.
    pub(super) fn unlink<T: Content>(&mut self, arena: &mut Arena<T>, id: u32) {
        let slot = arena.slot_mut(id);
        debug_assert_eq!(slot.segment(), self.segment, "a slot is taken out of a list that it is not in");
        let (prev, next) = (slot.prev, slot.next);
        (slot.prev, slot.next) = (NIL, NIL);
        slot.set_segment(UNLISTED);
        self.bytes -= u64::from(slot.charge);
        self.len -= 1;
        if prev == NIL {
            self.head = next;
        } else {
            arena.slot_mut(prev).next = next;
        }
        if next == NIL {
            self.tail = prev;
        } else {
            arena.slot_mut(next).prev = prev;
        }
    }

    /// Changes the charge of `id`, which is in this list.
    pub(super) fn recharge<T: Content>(&mut self, arena: &mut Arena<T>, id: u32, charge: u32) {
        let slot = arena.slot_mut(id);
        self.bytes = self.bytes - u64::from(slot.charge) + u64::from(charge);
        slot.charge = charge;
    }

    /// Forgets every slot without touching any.
    pub(super) const fn clear(&mut self) {
        *self = Self::new(self.segment);
    }

    /// Walks the list both ways, calls `seen` for every slot and recounts.
    #[cfg(any(test, feature = "__invariants"))]
    pub(super) fn check<T: Content>(
        &self,
        arena: &Arena<T>,
        seen: &mut dyn FnMut(u32),
    ) -> Result<(), alloc::string::String> {
        let (mut id, mut prev, mut len, mut bytes) = (self.head, NIL, 0, 0);
        while id != NIL {
            if arena.item(id).is_none() {
                return Err(alloc::format!("list {} holds slot {id}, which is free", self.segment));
            }
            let slot = arena.slot(id);
            if slot.prev != prev || slot.segment() != self.segment || len > arena.len() {
                return Err(alloc::format!(
                    "list {} is broken at slot {id}: {}",
                    self.segment,
                    slot.segment()
                ));
            }
            seen(id);
            (prev, id, len, bytes) = (id, slot.next, len + 1, bytes + u64::from(slot.charge));
        }
        if (prev, len, bytes) != (self.tail, self.len, self.bytes) {
            return Err(alloc::format!(
                "list {}: {len} slots of {bytes} bytes are not {self:?}",
                self.segment
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_order_and_sums_charges() {
        let mut arena = Arena::new();
        let mut list = List::new(1);
        let ids = [10_u32, 20, 30].map(|charge| arena.insert(0, charge, (), ()).unwrap());
        for id in ids {
            list.push_head(&mut arena, id);
        }
        list.unlink(&mut arena, ids[1]);
        list.recharge(&mut arena, ids[2], 5);
        assert_eq!((list.len(), list.bytes(), list.tail()), (2, 15, Some(ids[0])));
        assert_eq!(list.tail_but(&arena, ids[0]), Some(ids[2]));
        list.unlink(&mut arena, ids[2]);
        assert_eq!((list.tail_but(&arena, ids[0]), list.tail_but(&arena, NIL)), (None, Some(ids[0])));
        let mut seen = alloc::vec::Vec::new();
        list.check(&arena, &mut |id| seen.push(id)).unwrap();
        assert_eq!(seen, [ids[0]]);
    }
}
