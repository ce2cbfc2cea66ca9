//! This node's own record: put under a lease, kept alive, put again when lost, taken away at the end.

use core::time::Duration;

use super::config::MembershipConfig;
use super::record::RegistryOutcome;
use super::turn::{Call, Turn};
use crate::backoff::Backoff;
use crate::canary::{self, Canary};
use crate::effects::{Disposition, RegistryIntent};
use crate::id::{LeaseId, OpId};
use crate::rng::SplitMix64;
use crate::time::Instant;

/// Registration and its lease.
#[derive(Debug)]
pub(super) struct Lease {
    phase: Phase,
    backoff: Backoff,
    rng: SplitMix64,
    ttl: Duration,
    op_timeout: Duration,
    /// No record of ours is left in the registry after this, whatever became of the requests that were not answered.
    record_until: Instant,
    /// A registration that was under way when the node began to leave: should it succeed after all, it is taken back.
    late: Option<Call>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Not started, or stopped.
    Off,
    /// Registers at this time.
    Waiting(Instant),
    Registering(Call),
    Held {
        lease: LeaseId,
        /// When the lease ends if nothing more is heard: counted from when the request was sent, so never later than the registry's own.
        ends: Instant,
        keep: Keep,
        /// Operations from this one on were asked when the record stood.
        since: OpId,
    },
    Leaving {
        lease: Option<LeaseId>,
        step: Leave,
    },
}

#[derive(Clone, Copy, Debug)]
enum Keep {
    At(Instant),
    InFlight(Call),
}

#[derive(Clone, Copy, Debug)]
enum Leave {
    InFlight(Call),
    RetryAt(Instant),
    /// The record is gone; a late registration could bring it back until this time.
    WatchOutUntil(Instant),
}

impl Lease {
    pub(super) fn new(config: &MembershipConfig, seed: u64) -> Self {
        let mut rng = SplitMix64::new(seed);
        Self {
            phase: Phase::Off,
            backoff: Backoff::new(config.backoff_base, config.backoff_max, rng.next_u64()),
            rng,
            ttl: config.lease_ttl,
            op_timeout: config.op_timeout,
            record_until: Instant::ZERO,
            late: None,
        }
    }

    pub(super) fn start(&mut self, turn: &mut Turn<'_>) {
        self.late = None;
        self.backoff.succeed();
        self.register(turn);
    }

    /// Leaves, from any phase. The first try is made at once.
    pub(super) fn stop(&mut self, turn: &mut Turn<'_>) {
        let lease = match self.phase {
            Phase::Off | Phase::Leaving { .. } => return,
            Phase::Waiting(_) => None,
            Phase::Registering(call) => {
                self.late = Some(call);
                None
            }
            Phase::Held { lease, .. } => Some(lease),
        };
        self.backoff.succeed();
        self.deregister(lease, turn);
    }

    pub(super) fn handle(&mut self, op: OpId, outcome: &RegistryOutcome, turn: &mut Turn<'_>) -> Disposition {
        if self.late.is_some_and(|call| call.op == op) {
            return self.handle_late(outcome, turn);
        }
        match (self.phase, outcome) {
            (Phase::Registering(call), RegistryOutcome::Registered { lease, ttl }) if call.op == op => {
                self.hold(call, *lease, *ttl, turn);
            }
            (Phase::Registering(call), RegistryOutcome::Failed(_)) if call.op == op => {
                self.fail_register(turn)
            }
            (Phase::Held { lease, ends, keep: Keep::InFlight(call), since }, outcome) if call.op == op => {
                return self.handle_keep_alive(call, (lease, ends, since), outcome, turn);
            }
            (Phase::Leaving { step: Leave::InFlight(call), .. }, RegistryOutcome::Deregistered)
                if call.op == op =>
            {
                self.left(turn.now);
            }
            (Phase::Leaving { lease, step: Leave::InFlight(call) }, RegistryOutcome::Failed(_))
                if call.op == op =>
            {
                self.fail_deregister(lease, turn);
            }
            _ => return Disposition::Stale,
        }
        Disposition::Applied
    }

    /// The registry does not have our record, or not our lease: begin again.
    pub(super) fn lose(&mut self, turn: &mut Turn<'_>) {
        if let Phase::Held { .. } = self.phase {
            turn.stats.leases_lost += 1;
            self.phase = Phase::Waiting(turn.now.saturating_add(self.backoff.fail()));
            if canary::is(Canary::LeaseNotRegranted) {
                self.phase = Phase::Off;
            }
        }
    }

    pub(super) fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        if self.late.is_some_and(|call| call.deadline <= now) {
            self.late = None;
        }
        match self.phase {
            Phase::Waiting(at) if at <= now => self.register(turn),
            Phase::Registering(call) if call.deadline <= now => self.fail_register(turn),
            Phase::Held { ends, .. } if ends <= now => {
                turn.stats.leases_lost += 1;
                self.register(turn);
            }
            Phase::Held { lease, ends, keep: Keep::At(at), since } if at <= now => {
                self.keep_alive((lease, ends, since), turn);
            }
            Phase::Held { lease, ends, keep: Keep::InFlight(call), since } if call.deadline <= now => {
                self.fail_keep_alive((lease, ends, since), turn);
            }
            Phase::Leaving { lease, step } => self.go_on_leaving(lease, step, turn),
            Phase::Off | Phase::Waiting(_) | Phase::Registering(_) | Phase::Held { .. } => {}
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do. O(1).
    pub(super) fn next_at(&self) -> Instant {
        match self.phase {
            Phase::Off => Instant::MAX,
            Phase::Waiting(at) => at,
            Phase::Registering(call) => call.deadline,
            Phase::Held { ends, keep: Keep::At(at), .. } => ends.min(at),
            Phase::Held { ends, keep: Keep::InFlight(call), .. } => ends.min(call.deadline),
            Phase::Leaving { step: Leave::InFlight(call), .. } => call.deadline,
            Phase::Leaving { step: Leave::RetryAt(at) | Leave::WatchOutUntil(at), .. } => at,
        }
    }

    pub(super) fn is_held(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Held { ends, .. } if now < ends)
    }

    /// Whether `op` was asked when our record stood: what it saw must contain it.
    pub(super) fn was_held_at(&self, op: OpId) -> bool {
        matches!(self.phase, Phase::Held { since, .. } if op >= since)
    }

    pub(super) const fn is_off(&self) -> bool {
        matches!(self.phase, Phase::Off)
    }

    pub(super) const fn is_running(&self) -> bool {
        !matches!(self.phase, Phase::Off | Phase::Leaving { .. })
    }

    fn register(&mut self, turn: &mut Turn<'_>) {
        let ttl = self.ttl;
        let call = turn.call(self.op_timeout, |op| RegistryIntent::Register { op, ttl });
        self.outlive(call, ttl);
        self.phase = Phase::Registering(call);
    }

    fn fail_register(&mut self, turn: &mut Turn<'_>) {
        turn.stats.failures += 1;
        self.phase = Phase::Waiting(turn.now.saturating_add(self.backoff.fail()));
    }

    fn hold(&mut self, call: Call, lease: LeaseId, ttl: Duration, turn: &mut Turn<'_>) {
        self.outlive(call, ttl);
        turn.stats.registrations += 1;
        let from = if canary::is(Canary::LeaseCountedFromAnswer) { turn.now } else { call.sent };
        let ends = from.saturating_add(ttl);
        let since = OpId::new(*turn.next_op);
        if ends <= turn.now {
            return self.fail_register(turn);
        }
        let keep = Keep::At(self.next_keep_alive(call.sent, ttl, turn.now));
        self.phase = Phase::Held { lease, ends, keep, since };
    }

    /// A third of the lease after the last request, up to a tenth of that earlier: two more tries fit before the lease ends.
    fn next_keep_alive(&mut self, sent: Instant, ttl: Duration, now: Instant) -> Instant {
        let third = ttl / 3;
        let jitter = self.rng.below(u64::try_from(third.as_nanos() / 10).unwrap_or(u64::MAX));
        let at = sent.saturating_add(third).saturating_sub(Duration::from_nanos(jitter));
        at.max(now.saturating_add(Duration::from_nanos(1)))
    }

    fn keep_alive(&mut self, (lease, ends, since): (LeaseId, Instant, OpId), turn: &mut Turn<'_>) {
        let limit = self.op_timeout.min(self.ttl / 3).min(ends.saturating_since(turn.now));
        let call = turn.call(limit, |op| RegistryIntent::KeepAlive { op, lease });
        self.outlive(call, self.ttl);
        self.phase = Phase::Held { lease, ends, keep: Keep::InFlight(call), since };
    }

    fn fail_keep_alive(&mut self, (lease, ends, since): (LeaseId, Instant, OpId), turn: &mut Turn<'_>) {
        turn.stats.failures += 1;
        let at = turn.now.saturating_add(self.backoff.fail());
        self.phase = Phase::Held { lease, ends, keep: Keep::At(at), since };
    }

    fn handle_keep_alive(
        &mut self,
        call: Call,
        held: (LeaseId, Instant, OpId),
        outcome: &RegistryOutcome,
        turn: &mut Turn<'_>,
    ) -> Disposition {
        let (lease, ends, since) = held;
        match outcome {
            RegistryOutcome::KeptAlive { ttl } if !ttl.is_zero() => {
                self.outlive(call, *ttl);
                turn.stats.keep_alives += 1;
                self.backoff.succeed();
                let ends = ends.max(call.sent.saturating_add(*ttl));
                let keep = Keep::At(self.next_keep_alive(call.sent, *ttl, turn.now));
                self.phase = Phase::Held { lease, ends, keep, since };
            }
            RegistryOutcome::KeptAlive { .. } | RegistryOutcome::LeaseLost => self.lose(turn),
            RegistryOutcome::Failed(_) => self.fail_keep_alive(held, turn),
            RegistryOutcome::Registered { .. }
            | RegistryOutcome::Deregistered
            | RegistryOutcome::Listed { .. } => return Disposition::Stale,
        }
        Disposition::Applied
    }

    fn deregister(&mut self, lease: Option<LeaseId>, turn: &mut Turn<'_>) {
        let call = turn.call(self.op_timeout, |op| RegistryIntent::Deregister { op, lease });
        self.phase = Phase::Leaving { lease, step: Leave::InFlight(call) };
    }

    fn fail_deregister(&mut self, lease: Option<LeaseId>, turn: &mut Turn<'_>) {
        turn.stats.failures += 1;
        let at = turn.now.saturating_add(self.backoff.fail());
        self.phase = Phase::Leaving { lease, step: Leave::RetryAt(at) };
    }

    /// The registration that was under way when we left is answered: where it succeeded, its record goes too.
    fn handle_late(&mut self, outcome: &RegistryOutcome, turn: &mut Turn<'_>) -> Disposition {
        match outcome {
            RegistryOutcome::Registered { .. } if canary::is(Canary::LateRegistrationKept) => {}
            RegistryOutcome::Registered { lease, .. } => self.deregister(Some(*lease), turn),
            RegistryOutcome::Failed(_) => {
                turn.stats.failures += 1;
                if let Phase::Leaving { step: Leave::WatchOutUntil(_), .. } = self.phase {
                    self.phase = Phase::Off;
                }
            }
            RegistryOutcome::KeptAlive { .. }
            | RegistryOutcome::LeaseLost
            | RegistryOutcome::Deregistered
            | RegistryOutcome::Listed { .. } => return Disposition::Stale,
        }
        self.late = None;
        Disposition::Applied
    }

    fn left(&mut self, now: Instant) {
        self.phase = match self.late {
            Some(call) if now < call.deadline => {
                Phase::Leaving { lease: None, step: Leave::WatchOutUntil(call.deadline) }
            }
            _ => Phase::Off,
        };
    }

    fn go_on_leaving(&mut self, lease: Option<LeaseId>, step: Leave, turn: &mut Turn<'_>) {
        match step {
            Leave::InFlight(call) if call.deadline <= turn.now => self.fail_deregister(lease, turn),
            Leave::RetryAt(at) if at <= turn.now && self.record_until <= turn.now => self.phase = Phase::Off,
            Leave::RetryAt(at) if at <= turn.now => self.deregister(lease, turn),
            Leave::WatchOutUntil(at) if at <= turn.now => self.phase = Phase::Off,
            Leave::InFlight(_) | Leave::RetryAt(_) | Leave::WatchOutUntil(_) => {}
        }
    }

    /// A request may be carried out as late as it is waited for, and its effect lasts for `ttl` from there.
    fn outlive(&mut self, call: Call, ttl: Duration) {
        self.record_until = self.record_until.max(call.deadline.saturating_add(ttl));
    }
}
