//! Removals and flushes on their way through the fleet: the owner first, then every member.

#[cfg(test)]
mod tests;

use alloc::vec::Vec;

use crate::canary::{self, Canary};
use crate::effects::{Call, Disposition, Effects, Intent, Invalidation, Removed};
use crate::error::LoadError;
use crate::id::{PeerId, RemovalId};
use crate::shard::Refused;
use crate::time::{Instant, MonotonicClock, Wake};

/// Spreads removals and flushes.
///
/// The order matters. The owner forgets first: from then on no load that any member begins can bring the old value back from it. Then everybody
/// else forgets, and fences the loads in progress. No memory is kept per removed key. Every member owns keys of a group, so a flush goes to
/// everybody, and then to everybody again: in between, who had forgotten may have fetched an old value from an owner that had not. Members that do not acknowledge in time are named in the
/// result; what they hold lives on for at most the hot TTL.
#[derive(Debug)]
pub struct Removals<W> {
    slots: Vec<Slot<W>>,
    max: u32,
    clock: MonotonicClock,
}

#[derive(Debug)]
struct Slot<W> {
    generation: u32,
    removal: Option<Removal<W>>,
}

#[derive(Debug)]
struct Removal<W> {
    what: Invalidation,
    waiter: W,
    /// Who has not answered in this phase.
    pending: Vec<PeerId>,
    /// Who is told once the owner has answered, or, of a flush, once everybody has.
    later: Vec<PeerId>,
    unacknowledged: Vec<PeerId>,
    /// Whether the owner is done with, and everybody else has been told.
    told_all: bool,
    /// When this phase is over.
    phase_end: Instant,
    deadline: Instant,
}

/// A removal to spread.
#[derive(Debug)]
#[non_exhaustive]
pub struct RemovalRequest<W> {
    /// What to forget.
    pub what: Invalidation,
    /// Who waits for it.
    pub waiter: W,
    /// The key's owner, where that is another node. `None` for a flush, and where this node is the owner.
    pub owner: Option<PeerId>,
    /// Every other member, in any order; the owner may be among them.
    pub members: Vec<PeerId>,
    /// When members that have not acknowledged count as not reached. An owner that is silent is given half of the time.
    pub deadline: Instant,
}

impl<W> RemovalRequest<W> {
    /// A removal of `what` from `members`.
    pub const fn new(what: Invalidation, waiter: W, members: Vec<PeerId>, deadline: Instant) -> Self {
        Self { what, waiter, owner: None, members, deadline }
    }

    /// Sets who is told first.
    #[must_use]
    pub const fn owner(mut self, owner: Option<PeerId>) -> Self {
        self.owner = owner;
        self
    }
}

impl<W> Removal<W> {
    /// Goes on without who has not answered.
    fn give_up(&mut self) {
        let pending = core::mem::take(&mut self.pending);
        self.name(&pending);
    }

    /// Names members in the result, each once. O(members^2) when nobody answers.
    fn name(&mut self, members: &[PeerId]) {
        for &member in members {
            if !self.unacknowledged.contains(&member) {
                self.unacknowledged.push(member);
            }
        }
    }
}

impl<W> Removals<W> {
    /// No removals yet; `max` at a time.
    pub const fn new(max: u32, now: Instant) -> Self {
        Self { slots: Vec::new(), max, clock: MonotonicClock::new(now) }
    }

    /// Starts to spread a removal.
    ///
    /// # Errors
    /// As many are under way as may be. Nothing has changed.
    pub fn start(
        &mut self,
        now: Instant,
        request: RemovalRequest<W>,
        out: &mut Effects<W>,
    ) -> Result<(), Refused<W>> {
        let now = self.clock.observe(now);
        let RemovalRequest { what, waiter, owner, mut members, deadline } = request;
        let free = self.slots.iter().position(|slot| slot.removal.is_none());
        if free.is_none() && self.slots.len() >= self.max as usize {
            return Err(Refused { error: LoadError::RemovalsFull { max: self.max }, waiter });
        }
        let owner = owner.filter(|_| !canary::is(Canary::OwnerNotFirst));
        members.retain(|&member| Some(member) != owner);
        let first = match &what {
            Invalidation::Key(_) => Vec::from_iter(owner),
            Invalidation::Group(_) => members.clone(),
        };
        let half = now.saturating_add(deadline.saturating_since(now) / 2);
        let removal = Removal {
            what,
            waiter,
            pending: first,
            later: members,
            unacknowledged: Vec::new(),
            told_all: false,
            phase_end: half,
            deadline,
        };
        let slot = free.unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, removal: None });
            self.slots.len() - 1
        });
        self.slots[slot].removal = Some(removal);
        self.begin(slot, out);
        Ok(())
    }

    /// A member has forgotten, or could not be told.
    pub fn handle_invalidated(
        &mut self,
        now: Instant,
        removal: RemovalId,
        peer: PeerId,
        acknowledged: bool,
        out: &mut Effects<W>,
    ) -> Disposition {
        self.clock.observe(now);
        let index = removal.slot() as usize;
        let Some(slot) = self.slots.get_mut(index).filter(|slot| slot.generation == removal.generation())
        else {
            return Disposition::Stale;
        };
        let Some(state) = slot.removal.as_mut() else { return Disposition::Stale };
        let Some(position) = state.pending.iter().position(|&pending| pending == peer) else {
            return Disposition::Stale;
        };
        state.pending.swap_remove(position);
        if !acknowledged && !canary::is(Canary::RefusalTakenForConsent) {
            state.name(&[peer]);
        }
        if state.pending.is_empty() {
            self.end_phase(index, out);
        }
        Disposition::Applied
    }

    /// Goes on without members that are silent for too long.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Effects<W>) -> Wake {
        let now = self.clock.observe(now);
        for index in 0..self.slots.len() {
            while let Some(removal) =
                self.slots[index].removal.as_mut().filter(|removal| removal.phase_end <= now)
            {
                removal.give_up();
                if canary::is(Canary::SilenceTakenForConsent) {
                    removal.unacknowledged.clear();
                }
                self.end_phase(index, out);
            }
        }
        self.next_wake()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is wanted. O(removals under way).
    pub fn next_wake(&self) -> Wake {
        let ends =
            self.slots.iter().filter_map(|slot| slot.removal.as_ref()).map(|removal| removal.phase_end);
        match ends.min() {
            Some(at) if at <= self.clock.latest() => Wake::Now,
            Some(at) => Wake::At(at),
            None => Wake::Idle,
        }
    }

    /// Ends every removal: members that have not acknowledged are named. For a node that stops.
    pub fn shutdown(&mut self, now: Instant, out: &mut Effects<W>) {
        self.clock.observe(now);
        for index in 0..self.slots.len() {
            if let Some(removal) = self.slots[index].removal.as_mut() {
                removal.give_up();
                let later = core::mem::take(&mut removal.later);
                removal.name(&later);
                self.finish(index, out);
            }
        }
    }

    /// How many are under way.
    #[must_use]
    pub fn live(&self) -> usize {
        self.slots.iter().filter(|slot| slot.removal.is_some()).count()
    }

    /// Turns to who is first, if anybody is.
    fn begin(&mut self, index: usize, out: &mut Effects<W>) {
        let Some(removal) = self.slots[index].removal.as_ref() else { return };
        if removal.pending.is_empty() {
            self.end_phase(index, out);
            return;
        }
        if let what @ Invalidation::Group(_) = &removal.what {
            out.calls.push(Call::Invalidate { what: what.clone() });
        }
        self.tell_pending(index, out);
    }

    /// The pending have answered or are given up: turns to the others, or finishes.
    fn end_phase(&mut self, index: usize, out: &mut Effects<W>) {
        let slot = &mut self.slots[index];
        // What is still to come from the phase that is over must not count for the next.
        slot.generation = slot.generation.wrapping_add(1);
        let Some(removal) = slot.removal.as_mut() else { return };
        if core::mem::replace(&mut removal.told_all, true) {
            self.finish(index, out);
            return;
        }
        removal.phase_end = removal.deadline;
        removal.pending = core::mem::take(&mut removal.later);
        out.calls.push(Call::Invalidate { what: removal.what.clone() });
        if removal.pending.is_empty() {
            self.finish(index, out);
        } else {
            self.tell_pending(index, out);
        }
    }

    fn tell_pending(&self, index: usize, out: &mut Effects<W>) {
        let slot = &self.slots[index];
        let Some(removal) = &slot.removal else { return };
        for &peer in &removal.pending {
            out.intents.push(Intent::Invalidate {
                removal: RemovalId::new(index as u32, slot.generation),
                peer,
                what: removal.what.clone(),
                deadline: removal.phase_end,
            });
        }
    }

    fn finish(&mut self, index: usize, out: &mut Effects<W>) {
        let slot = &mut self.slots[index];
        slot.generation = slot.generation.wrapping_add(1);
        if let Some(removal) = slot.removal.take() {
            let Removal { waiter, unacknowledged, .. } = removal;
            out.removals.push(Removed { waiter, unacknowledged });
        }
    }
}
