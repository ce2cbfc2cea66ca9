//! One deadline per slot, earliest first: an indexed binary heap that allocates only in `new`.

use alloc::vec::Vec;

use crate::time::Instant;

const ABSENT: u32 = u32::MAX;

/// At most one timer per slot. `set` and `cancel` are O(log n), `earliest` is O(1); nothing stale is ever left in the heap, so its size is
/// that of the timers that are set.
#[derive(Debug)]
pub(crate) struct Timers {
    heap: Vec<(Instant, u32)>,
    /// Where in the heap a slot's timer is.
    position: Vec<u32>,
}

impl Timers {
    pub(crate) fn new(slots: u32) -> Result<Self, alloc::collections::TryReserveError> {
        let slots = slots as usize;
        let (mut heap, mut position) = (Vec::new(), Vec::new());
        heap.try_reserve_exact(slots)?;
        position.try_reserve_exact(slots)?;
        position.resize(slots, ABSENT);
        Ok(Self { heap, position })
    }

    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.heap.first().map(|&(at, _)| at)
    }

    /// Sets the slot's timer, in place of the one it had.
    pub(crate) fn set(&mut self, slot: u32, at: Instant) {
        let found = self.position[slot as usize];
        let index = if found == ABSENT {
            self.heap.push((at, slot));
            self.heap.len() - 1
        } else {
            self.heap[found as usize].0 = at;
            found as usize
        };
        self.position[slot as usize] = index as u32;
        let index = self.sift_up(index);
        self.sift_down(index);
    }

    pub(crate) fn cancel(&mut self, slot: u32) {
        let index = self.position[slot as usize];
        if index == ABSENT {
            return;
        }
        self.position[slot as usize] = ABSENT;
        let index = index as usize;
        self.heap.swap_remove(index);
        if index < self.heap.len() {
            self.position[self.heap[index].1 as usize] = index as u32;
            let index = self.sift_up(index);
            self.sift_down(index);
        }
    }

    /// Takes out one slot whose time has come, the earliest first.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let &(at, slot) = self.heap.first()?;
        if at > now {
            return None;
        }
        self.cancel(slot);
        Some(slot)
    }

    fn sift_up(&mut self, mut index: usize) -> usize {
        while index > 0 {
            let parent = (index - 1) / 2;
            if self.heap[parent].0 <= self.heap[index].0 {
                break;
            }
            self.swap(index, parent);
            index = parent;
        }
        index
    }

    fn sift_down(&mut self, mut index: usize) {
        loop {
            let (left, right) = (2 * index + 1, 2 * index + 2);
            let mut least = index;
            for child in [left, right] {
                if child < self.heap.len() && self.heap[child].0 < self.heap[least].0 {
                    least = child;
                }
            }
            if least == index {
                return;
            }
            self.swap(index, least);
            index = least;
        }
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.heap.swap(a, b);
        self.position[self.heap[a].1 as usize] = a as u32;
        self.position[self.heap[b].1 as usize] = b as u32;
    }

    #[cfg(any(test, feature = "__invariants"))]
    pub(crate) fn is_set(&self, slot: u32) -> bool {
        self.position[slot as usize] != ABSENT
    }

    #[cfg(any(test, feature = "__invariants"))]
    pub(crate) fn check_invariants(&self) -> Result<(), alloc::string::String> {
        for (index, &(at, slot)) in self.heap.iter().enumerate() {
            if self.position[slot as usize] as usize != index {
                return Err(alloc::format!("timer of slot {slot} is not where its position says"));
            }
            if index > 0 && self.heap[(index - 1) / 2].0 > at {
                return Err(alloc::format!("timer heap is out of order at {index}"));
            }
        }
        let set = self.position.iter().filter(|&&position| position != ABSENT).count();
        if set != self.heap.len() {
            return Err(alloc::format!("{set} positions for {} timers", self.heap.len()));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;

    use super::*;
    use crate::rng::SplitMix64;

    #[test]
    fn timers_agree_with_a_sorted_set_under_random_operations() {
        const SLOTS: u32 = 37;
        let mut rng = SplitMix64::new(1);
        let mut timers = Timers::new(SLOTS).unwrap();
        let mut model: BTreeSet<(Instant, u32)> = BTreeSet::new();
        for step in 0..20_000u64 {
            let slot = rng.below(u64::from(SLOTS)) as u32;
            match rng.below(4) {
                0 | 1 => {
                    let at = Instant::from_nanos(step / 4 + rng.below(100));
                    model.retain(|&(_, other)| other != slot);
                    model.insert((at, slot));
                    timers.set(slot, at);
                }
                2 => {
                    model.retain(|&(_, other)| other != slot);
                    timers.cancel(slot);
                }
                _ => {
                    let now = Instant::from_nanos(step / 4);
                    let due = timers.pop_due(now);
                    match due {
                        Some(slot) => {
                            let earliest = model.first().unwrap().0;
                            assert!(earliest <= now && model.remove(&(earliest, slot)));
                        }
                        None => assert!(model.first().is_none_or(|&(at, _)| at > now)),
                    }
                }
            }
            assert_eq!(timers.earliest(), model.first().map(|&(at, _)| at));
            timers.check_invariants().unwrap();
        }
    }
}
