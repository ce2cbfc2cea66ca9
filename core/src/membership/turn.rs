//! What the parts of the machine share during one call.

use alloc::vec::Vec;
use core::time::Duration;

use super::stats::MembershipStats;
use crate::effects::{Intent, RegistryIntent};
use crate::id::OpId;
use crate::time::Instant;

/// One call into the machine: its time, and where its intents go. Not generic over the waiter, so the parts are compiled once.
pub(super) struct Turn<'a> {
    pub(super) now: Instant,
    pub(super) next_op: &'a mut u64,
    pub(super) intents: &'a mut Vec<Intent>,
    pub(super) stats: &'a mut MembershipStats,
}

impl Turn<'_> {
    /// Asks the registry for something, under a fresh operation id.
    pub(super) fn ask(&mut self, intent: impl FnOnce(OpId) -> RegistryIntent) -> OpId {
        let op = OpId::new(*self.next_op);
        *self.next_op = self.next_op.saturating_add(1);
        self.intents.push(Intent::Registry(intent(op)));
        op
    }

    /// Asks for something that is given up after `limit`.
    pub(super) fn call(&mut self, limit: Duration, intent: impl FnOnce(OpId) -> RegistryIntent) -> Call {
        let op = self.ask(intent);
        Call { op, sent: self.now, deadline: self.now.saturating_add(limit) }
    }
}

/// An operation that waits for its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) op: OpId,
    pub(super) sent: Instant,
    pub(super) deadline: Instant,
}
