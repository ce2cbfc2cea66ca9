//! What decides who stays: the interface of an eviction policy.

use alloc::collections::TryReserveError;

use super::arena::{Arena, Content, Slot};
use super::list::List;

/// What can be set of a policy while it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tuning {
    /// The part of the capacity that new entries get before they have to prove themselves, in thousandths; over 1000 counts as 1000.
    pub(crate) window_permille: u16,
    /// Whether an entry that was asked for before wins a tie against the one that it would displace. Good for traffic that drifts, ruinous for
    /// loops.
    pub(crate) lenient: bool,
}

impl Default for Tuning {
    /// A window of 7 %, and ties lost: the best of fixed settings on 26 traces (5 to 10 % are about as good).
    fn default() -> Self {
        Self { window_permille: 70, lenient: false }
    }
}

/// An eviction policy: it orders the slots of one share of the cache and picks the victims.
///
/// Several policies order slots of one arena, each its own. A policy never frees a slot: it moves victims to the list `out`, and the cache carries
/// the decision out. After every call the charges of what is left sum to at most [`capacity`](Policy::capacity).
///
/// `dead` tells entries that nobody can read any more (expired, or of an old epoch): a policy may evict such a one wherever it meets it.
pub(super) trait Policy: Sized {
    /// Where the hit counter of a slot stops. All that a hit does is count up to here; the policy sees it later.
    const MAX_HITS: u8;

    /// A policy for a share of `budget` bytes that is expected to hold `entries` entries. Its own tables are paid from the budget.
    fn new(budget: u64, entries: u32, seed: u64) -> Result<Self, TryReserveError>;

    /// The bytes that entries may be charged with in all: the budget less the policy's own tables, which may grow.
    fn capacity(&self) -> u64;

    /// Entries in this policy's lists.
    fn entries(&self) -> u32;

    /// The sum of their charges.
    fn bytes(&self) -> u64;

    /// The bytes that the policy's own tables occupy.
    fn table_bytes(&self) -> u64;

    /// Takes in a slot that is in no list, and evicts until all fits; the new slot itself may be among the victims. Its charge must not be over
    /// [`capacity`](Policy::capacity).
    fn insert<T: Content>(
        &mut self,
        arena: &mut Arena<T>,
        id: u32,
        dead: &impl Fn(&Slot<T>) -> bool,
        out: &mut List,
    );

    /// Changes the charge of a slot whose value was replaced, and evicts until all fits: `id` itself last.
    fn replace<T: Content>(
        &mut self,
        arena: &mut Arena<T>,
        id: u32,
        charge: u32,
        dead: &impl Fn(&Slot<T>) -> bool,
        out: &mut List,
    );

    /// Takes a slot out of this policy's lists.
    fn remove<T: Content>(&mut self, arena: &mut Arena<T>, id: u32);

    /// Forgets all slots without touching them. What was learnt of keys may stay.
    fn clear(&mut self);

    /// Takes `bytes` off the budget for tables that serve this policy and are kept elsewhere, and evicts until all fits. They count as its own from
    /// now on.
    fn set_side_tables<T: Content>(
        &mut self,
        arena: &mut Arena<T>,
        bytes: u64,
        dead: &impl Fn(&Slot<T>) -> bool,
        out: &mut List,
    );

    /// Sets what can be set while it runs. The next insertion carries it out. A policy without such a part ignores it.
    fn tune(&mut self, tuning: Tuning);

    /// Recounts lists and sums, and calls `seen` once for each slot in them.
    #[cfg(any(test, feature = "__invariants"))]
    fn check<T: Content>(
        &self,
        arena: &Arena<T>,
        seen: &mut dyn FnMut(u32),
    ) -> Result<(), alloc::string::String>;
}
