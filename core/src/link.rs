//! One peer: what is asked of it, in batches, and whether it is worth asking.

mod batch;
#[cfg(test)]
mod tests;

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use self::batch::InFlight;
use crate::backoff::Backoff;
use crate::canary::{self, Canary};
use crate::config::LinkConfig;
use crate::effects::{Batch, Disposition, Effects, FetchItem, Intent, Outcome, Protocol, Settled};
use crate::error::{Cause, Failure, FailureKind};
use crate::id::{BatchId, FlightId, PeerId};
use crate::time::{Instant, MonotonicClock, Wake};

/// The outbound side of one peer.
///
/// **Batches.** A fetch leaves at once while fewer than `window` batches wait for the peer to accept them; otherwise it gathers with others and
/// leaves in one message when the peer has caught up. A batch counts as accepted at its first reply, which a peer sends at once even when it
/// knows no value yet, so a slow origin behind one key holds up no other.
///
/// **Breaker.** A dead peer costs one dial, not one time-out per call. When a connection that has lasted is lost the link redials at once and holds
/// fetches for that long; when that fails it refuses them ([`LinkRefused::Down`], so flights go on to a successor) and redials by itself with
/// jittered backoff, or as soon as the peer shows itself ([`handle_seen`](Self::handle_seen)). A peer that stays connected and fails batch after
/// batch opens the breaker too; behind that the first batch is a probe, and others are refused until the peer has accepted it.
#[derive(Debug)]
pub struct Link {
    peer: PeerId,
    name: Arc<str>,
    config: LinkConfig,
    state: State,
    protocol: Protocol,
    queue: VecDeque<FetchItem>,
    /// No deadline in the queue lies before this.
    queue_until: Instant,
    in_flight: Vec<InFlight>,
    next_batch: u64,
    backoff: Backoff,
    failures_in_a_row: u32,
    dialled_at: Instant,
    clock: MonotonicClock,
    stats: LinkStats,
}

/// What a link knows of its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Dialling, for the first time or at once after a loss. Fetches gather.
    Dialling { until: Instant },
    /// Connected and trusted.
    Up { since: Instant },
    /// Connected, after batches failed in a row: one goes out as a probe.
    Probing,
    /// The breaker is open.
    Down { until: Instant, connected: bool },
    /// The breaker is open, and a redial is under way.
    Redialling { until: Instant },
    /// The peer left the ring.
    Closed,
}

/// What a link has counted, and how it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinkStats {
    /// Keys sent.
    pub keys: u64,
    /// Batches sent.
    pub batches: u64,
    /// Batches that failed as a whole.
    pub failed_batches: u64,
    /// Keys that got no answer.
    pub unanswered: u64,
    /// Fetches refused since the breaker was open.
    pub refused_down: u64,
    /// Fetches refused since the queue was full.
    pub refused_full: u64,
    /// Times the breaker opened.
    pub opened: u64,
    /// Dials.
    pub dials: u64,
    /// Late, duplicate or unknown answers, ignored.
    pub stale: u64,
}

impl LinkStats {
    /// Adds another link's counts.
    pub const fn add(&mut self, other: &Self) {
        self.keys += other.keys;
        self.batches += other.batches;
        self.failed_batches += other.failed_batches;
        self.unanswered += other.unanswered;
        self.refused_down += other.refused_down;
        self.refused_full += other.refused_full;
        self.opened += other.opened;
        self.dials += other.dials;
        self.stale += other.stale;
    }
}

/// Why a link did not take a fetch. Hand it to the flight as [`Outcome::Unreachable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkRefused {
    /// The breaker is open.
    Down,
    /// `max_queue` fetches wait already.
    QueueFull {
        /// The limit.
        max: u32,
    },
    /// The peer has left the ring.
    Closed,
}

impl fmt::Display for LinkRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down => f.write_str("the peer is down"),
            Self::QueueFull { max } => write!(f, "{max} fetches wait for the peer, the limit"),
            Self::Closed => f.write_str("the peer has left the ring"),
        }
    }
}

impl core::error::Error for LinkRefused {}

/// How a batch ended.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum BatchEnd {
    /// The peer has said all it is going to say.
    Complete,
    /// The peer does not know our service: the link asks again, one key a call, from now on.
    Unimplemented,
    /// The stream broke.
    Failed(Option<Cause>),
}

impl Link {
    /// A link to `peer`, known by the address `name`. Dials at once: nothing is dialled on behalf of a request.
    pub fn new<W>(
        peer: PeerId,
        name: Arc<str>,
        config: LinkConfig,
        seed: u64,
        now: Instant,
        out: &mut Effects<W>,
    ) -> Self {
        let mut link = Self {
            backoff: Backoff::new(config.backoff_base, config.backoff_max, seed),
            state: State::Closed,
            peer,
            name,
            config,
            protocol: Protocol::Batched,
            queue: VecDeque::new(),
            queue_until: Instant::MAX,
            in_flight: Vec::new(),
            next_batch: 0,
            failures_in_a_row: 0,
            dialled_at: now,
            clock: MonotonicClock::new(now),
            stats: LinkStats::default(),
        };
        let until = link.dial(now, out);
        link.state = State::Dialling { until };
        link
    }

    /// Takes on a fetch: sends it, or queues it.
    ///
    /// # Errors
    /// The peer is not to be asked now. Nothing has changed.
    pub fn fetch<W>(
        &mut self,
        now: Instant,
        item: FetchItem,
        out: &mut Effects<W>,
    ) -> Result<(), LinkRefused> {
        let now = self.clock.observe(now);
        match self.state {
            State::Closed => return Err(LinkRefused::Closed),
            State::Down { .. } | State::Redialling { .. } => return self.refuse_down(),
            State::Probing if !self.in_flight.is_empty() || !self.queue.is_empty() => {
                return self.refuse_down();
            }
            State::Dialling { .. } | State::Up { .. } | State::Probing => {}
        }
        let max = self.config.max_queue.get();
        if self.queue.len() >= max as usize {
            self.stats.refused_full += 1;
            return Err(LinkRefused::QueueFull { max });
        }
        self.queue_until = self.queue_until.min(item.deadline);
        self.queue.push_back(item);
        self.send_ready(now, out);
        Ok(())
    }

    fn refuse_down(&mut self) -> Result<(), LinkRefused> {
        self.stats.refused_down += 1;
        Err(LinkRefused::Down)
    }

    /// The flight lost interest: takes its fetch out of the queue, or stops minding its answer. A batch that nobody minds is aborted.
    pub fn cancel<W>(&mut self, now: Instant, flight: FlightId, out: &mut Effects<W>) -> Disposition {
        let now = self.clock.observe(now);
        if let Some(position) = self.queue.iter().position(|item| item.flight == flight) {
            self.queue.remove(position);
            return Disposition::Applied;
        }
        let Some(index) = self.in_flight.iter_mut().position(|batch| batch.forget(flight)) else {
            return self.stale();
        };
        if self.in_flight[index].is_settled() {
            self.abort_batch(index, out);
            self.send_ready(now, out);
        }
        Disposition::Applied
    }

    /// Answers to a batch, as they arrive; the first call, even with no answer in it, says that the peer has accepted the batch.
    ///
    /// Each index may be answered once; others are counted as stale.
    pub fn handle_replies<W>(
        &mut self,
        now: Instant,
        batch: BatchId,
        replies: impl IntoIterator<Item = (u32, Outcome)>,
        out: &mut Effects<W>,
    ) -> Disposition {
        let now = self.clock.observe(now);
        let is_it = |in_flight: &InFlight| in_flight.id == batch || canary::is(Canary::StaleBatchAccepted);
        let Some(index) = self.in_flight.iter().position(is_it) else {
            return self.stale();
        };
        self.in_flight[index].accepted = !canary::is(Canary::WindowNeverRefills);
        self.note_success();
        for (reply, outcome) in replies {
            match self.in_flight[index].settle(reply) {
                Some(item) => {
                    let settled = Settled::new(item.flight, item.attempt, outcome);
                    if canary::is(Canary::SettledTwice) {
                        out.settled.push(settled.clone());
                    }
                    out.settled.push(settled);
                }
                None => self.stats.stale += 1,
            }
        }
        if self.in_flight[index].is_settled() {
            self.in_flight.swap_remove(index);
        }
        self.send_ready(now, out);
        Disposition::Applied
    }

    /// A batch is over. What it left unanswered is unreachable. A batch that was answered in full is over without this call.
    pub fn handle_batch_closed<W>(
        &mut self,
        now: Instant,
        batch: BatchId,
        end: BatchEnd,
        out: &mut Effects<W>,
    ) -> Disposition {
        let now = self.clock.observe(now);
        let Some(index) = self.in_flight.iter().position(|in_flight| in_flight.id == batch) else {
            return self.stale();
        };
        let over = self.in_flight.swap_remove(index);
        match end {
            BatchEnd::Unimplemented if over.protocol == Protocol::Batched => {
                self.protocol = Protocol::Single;
                self.note_success();
                for item in over.into_unsettled().rev() {
                    self.queue_until = self.queue_until.min(item.deadline);
                    self.queue.push_front(item);
                }
            }
            BatchEnd::Complete => {
                let cause =
                    Failure::with_message(FailureKind::OriginFailed, "the peer left the key unanswered");
                self.fail_items(over, Some(Arc::new(cause)), out);
                self.note_failure(now, out);
            }
            BatchEnd::Unimplemented => {
                self.fail_items(over, None, out);
                self.note_failure(now, out);
            }
            BatchEnd::Failed(cause) => {
                let is_late = over.is_late(now);
                self.fail_items(over, cause, out);
                if !is_late {
                    self.note_failure(now, out);
                }
            }
        }
        self.send_ready(now, out);
        Disposition::Applied
    }

    /// The dial succeeded: the peer has answered something, which a process that is stopped or wedged does not, however well it accepts
    /// connections; and it has shown how it is to be spoken to. Who cannot tell says [`Protocol::Batched`]: the link finds out.
    pub fn handle_connected<W>(
        &mut self,
        now: Instant,
        protocol: Protocol,
        out: &mut Effects<W>,
    ) -> Disposition {
        let now = self.clock.observe(now);
        match self.state {
            State::Dialling { .. } | State::Redialling { .. } | State::Down { connected: false, .. } => {}
            State::Up { .. } | State::Probing | State::Down { connected: true, .. } | State::Closed => {
                return self.stale();
            }
        }
        self.state = State::Up { since: now };
        self.protocol = protocol;
        self.failures_in_a_row = 0;
        self.send_ready(now, out);
        Disposition::Applied
    }

    /// The dial failed, or the connection is gone. What was in flight is unreachable.
    pub fn handle_disconnected<W>(
        &mut self,
        now: Instant,
        cause: Option<Cause>,
        out: &mut Effects<W>,
    ) -> Disposition {
        let now = self.clock.observe(now);
        match self.state {
            State::Closed | State::Down { connected: false, .. } => return self.stale(),
            State::Up { since } if now.saturating_since(since) >= self.config.connect_timeout => {
                self.fail_in_flight(cause.as_ref(), out);
                let until = self.dial(now, out);
                self.state = State::Dialling { until };
            }
            // A connection that breaks as soon as it is made is no better than none.
            State::Up { .. }
            | State::Probing
            | State::Dialling { .. }
            | State::Redialling { .. }
            | State::Down { connected: true, .. } => {
                self.go_down(now, false, cause.as_ref(), out);
            }
        }
        Disposition::Applied
    }

    /// The peer has shown itself: it dialled this node, say. A link that waits to redial does so now, or as soon as `backoff_base` has passed since
    /// its last dial.
    pub fn handle_seen<W>(&mut self, now: Instant, out: &mut Effects<W>) -> Disposition {
        let now = self.clock.observe(now);
        let State::Down { until, connected: false } = self.state else { return Disposition::Stale };
        let rested = self.dialled_at.saturating_add(self.config.backoff_base);
        // Kept in mind when it is too early: who starts shows itself once, and the next redial may be far off.
        self.state = if now < rested {
            State::Down { until: until.min(rested), connected: false }
        } else {
            State::Redialling { until: self.dial(now, out) }
        };
        Disposition::Applied
    }

    /// Redials, gives up on dials that take too long, and on fetches whose time is up.
    pub fn handle_timeout<W>(&mut self, now: Instant, out: &mut Effects<W>) -> Wake {
        let now = self.clock.observe(now);
        match self.state {
            State::Dialling { until } | State::Redialling { until } if until <= now => {
                let cause: Cause =
                    Arc::new(Failure::with_message(FailureKind::Deadline, "dialling the peer took too long"));
                self.go_down(now, false, Some(&cause), out);
            }
            State::Down { until, connected: true } if until <= now => {
                self.state = State::Probing;
                if canary::is(Canary::BreakerNeverHalfOpens) {
                    self.go_down(now, true, None, out);
                }
            }
            State::Down { until, connected: false } if until <= now => {
                let until = self.dial(now, out);
                self.state = State::Redialling { until };
            }
            State::Dialling { .. }
            | State::Redialling { .. }
            | State::Down { .. }
            | State::Up { .. }
            | State::Probing
            | State::Closed => {}
        }
        self.expire(now, out);
        self.next_wake()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is wanted. O(batches in flight).
    pub fn next_wake(&self) -> Wake {
        let state = match self.state {
            State::Dialling { until } | State::Redialling { until } | State::Down { until, .. } => {
                Wake::At(until)
            }
            State::Up { .. } | State::Probing | State::Closed => Wake::Idle,
        };
        let batches = self.in_flight.iter().filter_map(InFlight::deadline).min().map_or(Wake::Idle, Wake::At);
        let queue = if self.queue.is_empty() { Wake::Idle } else { Wake::At(self.queue_until) };
        match state.earlier(batches).earlier(queue) {
            Wake::At(at) if at <= self.clock.latest() => Wake::Now,
            wake @ (Wake::Now | Wake::At(_) | Wake::Idle) => wake,
        }
    }

    /// The peer left the ring: what is queued or in flight is unreachable, and the connection is to be closed.
    pub fn close<W>(&mut self, now: Instant, out: &mut Effects<W>) {
        self.clock.observe(now);
        if self.state == State::Closed {
            return;
        }
        self.state = State::Closed;
        let cause: Cause = Arc::new(LinkRefused::Closed);
        self.fail_in_flight(Some(&cause), out);
        self.fail_queue(Some(&cause), out);
        out.intents.push(Intent::Forget { peer: self.peer });
    }

    /// The peer.
    #[must_use]
    pub const fn peer(&self) -> PeerId {
        self.peer
    }

    /// The peer's address.
    #[must_use]
    pub const fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether fetches are taken now, or would be refused.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. } | State::Probing | State::Dialling { .. })
    }

    /// Whether this batch is still wanted. For an executor that is about to send it, and may have missed an abort.
    #[must_use]
    pub fn wants(&self, batch: BatchId) -> bool {
        self.in_flight.iter().any(|in_flight| in_flight.id == batch)
    }

    /// Whether the very first dial is still under way.
    #[must_use]
    pub const fn is_first_dial(&self) -> bool {
        self.stats.dials == 1 && matches!(self.state, State::Dialling { .. })
    }

    /// Whether there is a connection, and the breaker is closed.
    #[must_use]
    pub const fn is_connected(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    /// What was counted.
    #[must_use]
    pub const fn stats(&self) -> LinkStats {
        self.stats
    }

    fn dial<W>(&mut self, now: Instant, out: &mut Effects<W>) -> Instant {
        self.stats.dials += 1;
        self.dialled_at = now;
        out.intents.push(Intent::Connect { peer: self.peer, name: Arc::clone(&self.name) });
        now.saturating_add(self.config.connect_timeout)
    }

    /// Opens the breaker.
    fn go_down<W>(&mut self, now: Instant, connected: bool, cause: Option<&Cause>, out: &mut Effects<W>) {
        // A redial that failed leaves the breaker as open as it was.
        self.stats.opened += u64::from(!matches!(self.state, State::Redialling { .. }));
        self.state = State::Down { until: now.saturating_add(self.backoff.fail()), connected };
        self.fail_in_flight(cause, out);
        self.fail_queue(cause, out);
    }

    fn note_success(&mut self) {
        self.failures_in_a_row = 0;
        if self.state == State::Probing {
            self.state = State::Up { since: self.clock.latest() };
        }
        if self.is_connected() {
            self.backoff.succeed();
        }
    }

    fn note_failure<W>(&mut self, now: Instant, out: &mut Effects<W>) {
        self.stats.failed_batches += 1;
        self.failures_in_a_row += 1;
        let is_probe = self.state == State::Probing || canary::is(Canary::FailureThresholdIgnored);
        if is_probe || (self.is_connected() && self.failures_in_a_row >= self.config.failure_threshold.get())
        {
            let cause: Cause = Arc::new(LinkRefused::Down);
            self.go_down(now, true, Some(&cause), out);
        }
    }

    fn stale(&mut self) -> Disposition {
        self.stats.stale += 1;
        Disposition::Stale
    }
}
