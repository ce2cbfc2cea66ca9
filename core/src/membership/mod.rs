//! The control plane: this node's registration, and the view of who else is there.
//!
//! [`Membership`] asks a registry through [`RegistryIntent`](crate::RegistryIntent)s and is told what came of them. It trusts the registry
//! with nothing but the records: answers may be lost, late, doubled, or come in another order; leases may vanish; the registry may be away
//! for hours or come back empty. The last good view stays through all of it, and the node keeps trying, with a jittered and bounded backoff.

mod config;
mod lease;
mod mirror;
#[cfg(test)]
mod model;
mod peers;
mod record;
mod stats;
#[cfg(test)]
#[allow(clippy::wildcard_enum_match_arm)]
mod tests;
mod turn;
mod view;

use crate::canary::{self, Canary};
use crate::effects::{Disposition, Effects};
use crate::error::{Cause, ConfigError};
use crate::id::{OpId, PeerId, Revision};
use crate::rng::SplitMix64;
use crate::time::{Instant, MonotonicClock, Wake};
use alloc::sync::Arc;

pub use config::MembershipConfig;
pub use record::{Change, MemberRecord, RegistryOutcome, WatchEvent};
pub use stats::MembershipStats;

use lease::Lease;
use peers::Peers;
use turn::Turn;
use view::{Batch, Listed, View};

/// Keeps one node registered, and follows who else is.
///
/// Two things run side by side. The *registration*: grant a lease and put the record, keep it alive three times a lease, and start over
/// when it is lost. The *view*: list, watch behind the list, watch again when the watch breaks, list again when that cannot work, and every
/// [`list_interval`](MembershipConfig::list_interval) to be sure.
///
/// At most four operations are under way: one for the lease (two while stopping), one list, one watch. Calls cost O(n log n) in the number of
/// members where the view changes, and O(1) otherwise.
#[derive(Debug)]
pub struct Membership {
    me: MemberRecord,
    clock: MonotonicClock,
    lease: Lease,
    view: View,
    peers: Peers,
    next_op: u64,
    /// Starts and stops so far.
    presences: u64,
    stopped: bool,
    stats: MembershipStats,
    last_error: Option<Cause>,
}

impl Membership {
    /// A membership that has not started. `seed` feeds the jitter: give each node of a fleet its own.
    ///
    /// # Errors
    /// [`ConfigError::OutOfRange`] names the field whose value cannot be used.
    pub fn new(config: MembershipConfig, seed: u64, now: Instant) -> Result<Self, ConfigError> {
        config.check()?;
        let mut rng = SplitMix64::new(seed);
        Ok(Self {
            me: MemberRecord::new(Arc::clone(&config.me), config.weight),
            clock: MonotonicClock::new(now),
            lease: Lease::new(&config, rng.next_u64()),
            view: View::new(&config, rng.next_u64()),
            peers: Peers::starting_with(&config.me),
            next_op: 0,
            presences: 0,
            stopped: false,
            stats: MembershipStats::default(),
            last_error: None,
        })
    }

    /// Registers and lists. While it runs this does nothing; after a stop it starts again.
    pub fn start<W>(&mut self, now: Instant, out: &mut Effects<W>) {
        if self.lease.is_running() {
            return;
        }
        self.stopped = false;
        self.presences += 1;
        let (lease, view, mut turn) = self.turn(now, out);
        lease.start(&mut turn);
        view.start(&mut turn);
    }

    /// Takes the record back, and follows the registry no more. Idempotent, from any state; see [`is_stopped`](Self::is_stopped).
    ///
    /// `Deregister` also ends the watch, as far as the embedder is concerned: nothing more will be taken from it.
    pub fn stop<W>(&mut self, now: Instant, out: &mut Effects<W>) {
        self.presences += u64::from(self.is_running());
        self.stopped = true;
        let (lease, view, mut turn) = self.turn(now, out);
        lease.stop(&mut turn);
        view.stop();
    }

    /// Takes what became of an operation.
    pub fn handle_registry<W>(
        &mut self,
        now: Instant,
        op: OpId,
        outcome: RegistryOutcome,
        out: &mut Effects<W>,
    ) -> Disposition {
        if let RegistryOutcome::Failed(Some(cause)) = &outcome {
            self.last_error = Some(Arc::clone(cause));
        }
        let (lease, view, mut turn) = self.turn(now, out);
        let disposition = match outcome {
            RegistryOutcome::Listed { records, revision } => {
                let listed = view.handle_listed(op, records, revision, &mut turn);
                judge_own_record(listed, op, lease, view, &mut turn)
            }
            RegistryOutcome::Failed(_) if view.handle_list_failed(op, &mut turn) => Disposition::Applied,
            RegistryOutcome::Registered { .. }
            | RegistryOutcome::KeptAlive { .. }
            | RegistryOutcome::LeaseLost
            | RegistryOutcome::Deregistered
            | RegistryOutcome::Failed(_) => lease.handle(op, &outcome, &mut turn),
        };
        self.settle(disposition)
    }

    /// Takes what a watch brought.
    pub fn handle_watch<W>(
        &mut self,
        now: Instant,
        op: OpId,
        event: WatchEvent,
        out: &mut Effects<W>,
    ) -> Disposition {
        if let WatchEvent::Ended(Some(cause)) = &event {
            self.last_error = Some(Arc::clone(cause));
        }
        let (lease, view, mut turn) = self.turn(now, out);
        let taken = match event {
            WatchEvent::Changed { revision, changes } => {
                let batch = view.handle_changed(op, revision, changes, &mut turn);
                // It may be the record of a lease before this one: only a list can tell.
                if batch == Batch::LostMe && lease.is_held(turn.now) {
                    view.list_by(turn.now);
                }
                batch != Batch::Stale
            }
            WatchEvent::Compacted { .. } => view.handle_compacted(op, &mut turn),
            WatchEvent::Ended(_) => view.handle_ended(op, &mut turn),
        };
        self.settle(if taken { Disposition::Applied } else { Disposition::Stale })
    }

    /// Does what is due at `now`: keep-alives, retries, time limits. Answers when to call again, always later than `now`.
    pub fn handle_timeout<W>(&mut self, now: Instant, out: &mut Effects<W>) -> Wake {
        let (lease, view, mut turn) = self.turn(now, out);
        lease.handle_timeout(&mut turn);
        view.handle_timeout(&mut turn);
        self.next_wake()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout). O(1).
    pub fn next_wake(&self) -> Wake {
        match self.lease.next_at().min(self.view.next_at()) {
            Instant::MAX => Wake::Idle,
            at if at <= self.clock.latest() => Wake::Now,
            at => Wake::At(at),
        }
    }

    /// The members of the last good view, sorted by address, no address twice. Exactly what the registry holds: without this node while it
    /// is not registered, and empty before the first list. After the registry has lost its data, those that it had before are kept for `empty_guard`.
    #[must_use]
    pub fn members(&self) -> &[MemberRecord] {
        self.view.members()
    }

    /// Counts the views: 0 before the first, and one more with each change of [`members`](Self::members).
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.view.epoch()
    }

    /// Counts the rings: one more with each view, and with each start and stop of this node. See [`ring_of`](crate::ring_of).
    #[must_use]
    pub const fn ring_epoch(&self) -> u64 {
        self.view.epoch() + self.presences
    }

    /// Whether it was started and not stopped since.
    #[must_use]
    pub const fn is_running(&self) -> bool {
        self.presences > 0 && !self.stopped
    }

    /// This node's own record, as it registers it.
    #[must_use]
    pub const fn me(&self) -> &MemberRecord {
        &self.me
    }

    /// This process' id for the member at `addr`: the same for as long as the process lives, also after the member left. `None` for an
    /// address that was never in a view. This node's own is 0. O(log n).
    #[must_use]
    pub fn peer_id(&self, addr: &str) -> Option<PeerId> {
        self.peers.id(addr)
    }

    /// The address that `peer` stands for. O(1).
    #[must_use]
    pub fn peer_addr(&self, peer: PeerId) -> Option<&Arc<str>> {
        self.peers.addr(peer)
    }

    /// Whether there is a view at all: whether the registry was ever listed.
    #[must_use]
    pub const fn has_view(&self) -> bool {
        self.view.epoch() > 0
    }

    /// The latest revision of the registry that is in the view.
    #[must_use]
    pub const fn revision(&self) -> Revision {
        self.view.revision()
    }

    /// Whether this node's record stands in the registry. Never true after the lease's end, which is counted from when the last confirmed
    /// request was *sent*.
    #[must_use]
    pub fn is_registered(&self, now: Instant) -> bool {
        self.lease.is_held(now.max(self.clock.latest()))
    }

    /// Whether a stop has come to its end: the record is taken back, or has outlived its lease by now.
    #[must_use]
    pub const fn is_stopped(&self) -> bool {
        self.stopped && self.lease.is_off()
    }

    /// What was counted so far.
    #[must_use]
    pub const fn stats(&self) -> MembershipStats {
        let mut stats = self.stats;
        stats.clamped_time = self.clock.regressions();
        stats
    }

    /// The cause of the latest failure, for logs and health pages. It stays after things went well again.
    #[must_use]
    pub const fn last_error(&self) -> Option<&Cause> {
        self.last_error.as_ref()
    }

    fn turn<'a, W>(
        &'a mut self,
        now: Instant,
        out: &'a mut Effects<W>,
    ) -> (&'a mut Lease, &'a mut View, Turn<'a>) {
        let now = self.clock.observe(now);
        let turn =
            Turn { now, next_op: &mut self.next_op, intents: &mut out.intents, stats: &mut self.stats };
        (&mut self.lease, &mut self.view, turn)
    }

    /// After every fact from outside: members that are new get their ids, and what was stale is counted.
    fn settle(&mut self, disposition: Disposition) -> Disposition {
        if disposition == Disposition::Stale {
            self.stats.stale_dispositions += 1;
        } else {
            self.peers.learn(self.view.epoch(), self.view.members());
        }
        disposition
    }
}

/// After a list: our own record must be in it, if the list was asked for when the record stood.
fn judge_own_record(
    listed: Listed,
    op: OpId,
    lease: &mut Lease,
    view: &mut View,
    turn: &mut Turn<'_>,
) -> Disposition {
    match listed {
        Listed::Stale => return Disposition::Stale,
        Listed::Regressed => lease.lose(turn),
        Listed::Taken if canary::is(Canary::RecordNotPutAgain) => {}
        Listed::Taken if !view.knows_me() && lease.was_held_at(op) => {
            turn.stats.record_missing += 1;
            lease.lose(turn);
        }
        Listed::Taken => {}
    }
    Disposition::Applied
}
