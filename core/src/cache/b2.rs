//! B2: a lazy W-TinyLFU. The default policy.
//!
//! New entries pass through a small FIFO window. The one that falls out of it enters the main part if it was hit meanwhile, and else only if the
//! sketch has seen its key more often than the entry that it would displace. The main part is a CLOCK of two segments, probation and
//! protected. A hit writes at most the slot's 2-bit counter; lists and sketch are touched by insertions alone, which fold the counters of the
//! entries that they meet into the sketch.
//!
//! After Einziger, Eytan, Friedman, Manes: "Adaptive software cache management" (Middleware 2018), made lazy as CLOCK is to LRU.

use alloc::collections::TryReserveError;

use super::arena::{Arena, Content, NIL, Slot};
use super::list::List;
use super::policy::{Policy, Tuning};
use super::sketch::Sketch;
use crate::canary::{self, Canary};
use crate::rng::SplitMix64;

const WINDOW: u8 = 0;
const PROBATION: u8 = 1;
const PROTECTED: u8 = 2;

/// The protected part of what the window leaves, in thousandths.
const PROTECTED_PART: u16 = 800;
/// A candidate that is asked for more often than this may win a contest that it lost, one time in [`ESCAPE_ODDS`]: a victim whose counters were
/// inflated on purpose cannot hold its place for ever.
const ESCAPE_ESTIMATE: u8 = 5;
const ESCAPE_ODDS: u64 = 128;
/// What a lenient policy wants a candidate to be asked for to win a tie.
const LENIENT_ESTIMATE: u8 = 2;
/// The sketch takes at most one part in so many of the budget.
const SKETCH_PART: u64 = 4;

/// The policy of one share.
#[derive(Debug)]
pub(super) struct B2 {
    budget: u64,
    capacity: u64,
    side_tables: u64,
    tuning: Tuning,
    window_cap: u64,
    protected_cap: u64,
    window: List,
    probation: List,
    protected: List,
    sketch: Sketch,
    rng: SplitMix64,
}

impl Policy for B2 {
    const MAX_HITS: u8 = 3;

    fn new(budget: u64, entries: u32, seed: u64) -> Result<Self, TryReserveError> {
        let mut policy = Self {
            budget,
            capacity: 0,
            side_tables: 0,
            tuning: Tuning::default(),
            window_cap: 0,
            protected_cap: 0,
            window: List::new(WINDOW),
            probation: List::new(PROBATION),
            protected: List::new(PROTECTED),
            sketch: Sketch::new(entries, budget / SKETCH_PART)?,
            rng: SplitMix64::new(seed),
        };
        policy.set_limits();
        Ok(policy)
    }

    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn entries(&self) -> u32 {
        self.window.len() + self.probation.len() + self.protected.len()
    }

    fn bytes(&self) -> u64 {
        self.window.bytes() + self.probation.bytes() + self.protected.bytes()
    }

    fn table_bytes(&self) -> u64 {
        self.sketch.bytes() + self.side_tables
    }

    fn insert<T: Content>(
        &mut self,
        arena: &mut Arena<T>,
        id: u32,
        dead: &impl Fn(&Slot<T>) -> bool,
        out: &mut List,
    ) {
        if self.entries() > self.sketch.entries() {
            self.sketch.double(self.budget / SKETCH_PART);
            self.set_limits();
        }
        self.sketch.add(arena.slot(id).hash.into(), 1);
        self.window.push_head(arena, id);
        self.settle(arena, id, dead, out);
    }

    fn replace<T: Content>(
        &mut self,
        arena: &mut Arena<T>,
        id: u32,
        charge: u32,
        dead: &impl Fn(&Slot<T>) -> bool,
        out: &mut List,
    ) {
        // The key was missed, or it would not be loaded anew.
        self.sketch.add(arena.slot(id).hash.into(), 1);
        self.list_of(arena, id).recharge(arena, id, charge);
        self.settle(arena, id, dead, out);
        self.balance_protected(arena);
    }

    fn remove<T: Content>(&mut self, arena: &mut Arena<T>, id: u32) {
        self.fold(arena, id);
        self.list_of(arena, id).unlink(arena, id);
    }

    fn clear(&mut self) {
        self.window.clear();
        self.probation.clear();
        self.protected.clear();
    }

    fn set_side_tables<T: Content>(
        &mut self,
        arena: &mut Arena<T>,
        bytes: u64,
        dead: &impl Fn(&Slot<T>) -> bool,
        out: &mut List,
    ) {
        if bytes != self.side_tables {
            self.side_tables = bytes;
            self.set_limits();
            self.settle(arena, NIL, dead, out);
        }
    }

    fn tune(&mut self, tuning: Tuning) {
        self.tuning = tuning;
        self.set_limits();
    }

    #[cfg(any(test, feature = "__invariants"))]
    fn check<T: Content>(
        &self,
        arena: &Arena<T>,
        seen: &mut dyn FnMut(u32),
    ) -> Result<(), alloc::string::String> {
        for list in [&self.window, &self.probation, &self.protected] {
            list.check(arena, seen)?;
        }
        if self.capacity + self.table_bytes() > self.budget || self.bytes() > self.capacity {
            return Err(alloc::format!(
                "{} bytes of entries and {} of sketch in a budget of {}",
                self.bytes(),
                self.table_bytes(),
                self.budget
            ));
        }
        Ok(())
    }
}

impl B2 {
    fn set_limits(&mut self) {
        let budget = self.budget + u64::from(canary::is(Canary::BudgetOffByOne));
        self.capacity = budget.saturating_sub(self.table_bytes());
        self.window_cap = part(self.capacity, self.tuning.window_permille.min(1000));
        self.protected_cap = part(self.capacity - self.window_cap, PROTECTED_PART);
    }

    /// Evicts until all fits. `keep`, just inserted or replaced, goes last of all, unless it leaves the window and loses its contest.
    fn settle<T: Content>(
        &mut self,
        arena: &mut Arena<T>,
        keep: u32,
        dead: &impl Fn(&Slot<T>) -> bool,
        out: &mut List,
    ) {
        while self.window.bytes() > self.window_cap && self.window.len() > 1 {
            self.leave_window(arena, dead, out);
        }
        while self.bytes() > self.capacity {
            let victim = self
                .victim(arena, keep, dead)
                .or_else(|| self.window.tail_but(arena, keep))
                .or_else(|| self.window.tail())
                .or_else(|| self.victim(arena, NIL, dead));
            let Some(victim) = victim else { return };
            self.evict(arena, victim, out);
        }
    }

    /// Moves the window's oldest entry to probation, and has it contest its place with one victim after the other until all fits.
    fn leave_window<T: Content>(
        &mut self,
        arena: &mut Arena<T>,
        dead: &impl Fn(&Slot<T>) -> bool,
        out: &mut List,
    ) {
        let Some(candidate) = self.window.tail() else { return };
        if arena.used(candidate).is_none_or(dead) {
            self.evict(arena, candidate, out);
            return;
        }
        let hits = self.fold(arena, candidate);
        self.window.unlink(arena, candidate);
        self.probation.push_head(arena, candidate);
        while self.bytes() > self.capacity {
            let victim = self.victim(arena, candidate, dead).filter(|&victim| {
                hits >= 1 || arena.used(victim).is_none_or(dead) || self.wins(arena, candidate, victim)
            });
            self.evict(arena, victim.unwrap_or(candidate), out);
            if victim.is_none() {
                return;
            }
        }
    }

    fn wins<T: Content>(&mut self, arena: &Arena<T>, candidate: u32, victim: u32) -> bool {
        let candidate = self.sketch.estimate(arena.slot(candidate).hash.into());
        let victim = self.sketch.estimate(arena.slot(victim).hash.into());
        candidate > victim
            || (self.tuning.lenient && candidate >= LENIENT_ESTIMATE && candidate == victim)
            || (candidate > ESCAPE_ESTIMATE && self.rng.below(ESCAPE_ODDS) == 0)
    }

    /// The next entry of the main part to go, other than `skip`. The hand gives every entry that was hit one more round: from probation it
    /// moves up, in protected it stays. Each step clears a counter, so it ends.
    fn victim<T: Content>(
        &mut self,
        arena: &mut Arena<T>,
        skip: u32,
        dead: &impl Fn(&Slot<T>) -> bool,
    ) -> Option<u32> {
        loop {
            let victim =
                self.probation.tail_but(arena, skip).or_else(|| self.protected.tail_but(arena, skip))?;
            if arena.slot(victim).hits() == 0
                || canary::is(Canary::HitsForgotten)
                || arena.used(victim).is_none_or(dead)
            {
                return Some(victim);
            }
            self.fold(arena, victim);
            self.list_of(arena, victim).unlink(arena, victim);
            self.protected.push_head(arena, victim);
            self.balance_protected(arena);
        }
    }

    /// Moves the oldest of protected down to probation until the segment keeps its limit, sparing each that was hit once.
    fn balance_protected<T: Content>(&mut self, arena: &mut Arena<T>) {
        let mut spared = self.protected.len();
        while self.protected.bytes() > self.protected_cap {
            let Some(oldest) = self.protected.tail() else { return };
            self.protected.unlink(arena, oldest);
            if arena.slot(oldest).hits() > 0 && spared > 0 {
                spared -= 1;
                self.fold(arena, oldest);
                self.protected.push_head(arena, oldest);
            } else {
                self.probation.push_head(arena, oldest);
            }
        }
    }

    fn evict<T: Content>(&mut self, arena: &mut Arena<T>, id: u32, out: &mut List) {
        self.remove(arena, id);
        out.push_head(arena, id);
    }

    /// Moves the counted hits of a slot to the sketch.
    fn fold<T: Content>(&mut self, arena: &mut Arena<T>, id: u32) -> u8 {
        let slot = arena.slot_mut(id);
        let hits = slot.take_hits();
        self.sketch.add(slot.hash.into(), hits);
        hits
    }

    fn list_of<T: Content>(&mut self, arena: &Arena<T>, id: u32) -> &mut List {
        match arena.slot(id).segment() {
            WINDOW => &mut self.window,
            PROBATION => &mut self.probation,
            _ => &mut self.protected,
        }
    }
}

/// `permille` thousandths of `whole`, rounded down, without overflow.
const fn part(whole: u64, permille: u16) -> u64 {
    whole / 1000 * permille as u64 + whole % 1000 * permille as u64 / 1000
}
