//! One peer: what is asked of it, in batches, and whether it is worth asking.

mod batch;
mod connection;
mod figures;
#[cfg(test)]
mod tests;

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use self::batch::InFlight;
pub use self::figures::LinkState;
use crate::backoff::Backoff;
use crate::canary::{self, Canary};
use crate::config::LinkConfig;
use crate::effects::{Batch, Disposition, Effects, FetchItem, Intent, Outcome, Protocol, Settled};
use crate::error::{Cause, Failure, FailureKind};
use crate::id::{BatchId, DialId, FlightId, PeerId};
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
/// batch, with no key answered in between, opens the breaker too; behind that the first batch is a probe, and others are refused until the peer has
/// accepted it.
///
/// **Leaving in order.** A peer that leaves the ring ([`handle_left`](Self::handle_left)), or whose connection takes no more calls
/// ([`handle_draining`](Self::handle_draining)), still keeps its promises: no fetch goes there any more and what is queued goes on to a successor, but
/// batches in flight live on until they are answered, until their deadlines, or until the connection they were sent by is gone
/// ([`handle_disconnected`](Self::handle_disconnected)).
#[derive(Debug)]
pub struct Link {
    peer: PeerId,
    name: Arc<str>,
    generation: u32,
    config: LinkConfig,
    state: State,
    /// Whether the first dial waits until there is something to ask.
    on_demand: bool,
    /// The connection that takes calls.
    connection: Option<DialId>,
    /// The latest dial, until its result is known.
    dialled: Option<DialId>,
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
    /// Nothing has been asked yet, and nothing was dialled.
    Idle,
    /// Dialling, for the first time or at once after a loss. Fetches gather.
    Dialling { until: Instant },
    /// Connected and trusted.
    Up { since: Instant },
    /// Connected, after batches failed in a row: one goes out as a probe.
    Probing,
    /// The breaker is open, with or without a connection.
    Down { until: Instant },
    /// The breaker is open, and a redial is under way.
    Redialling { until: Instant },
    /// The peer left the ring. What is in flight is waited for.
    Leaving,
    /// The peer left the ring, and nothing is in flight.
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
    /// A link to `peer`, known by the address `name`. Dials at once: nothing waits for a dial on behalf of a request.
    ///
    /// A peer may leave and come back, and have a new link then: `generation` is another for each link to a peer, so that what is heard late of an
    /// earlier one is stale.
    pub fn new<W>(
        (peer, generation): (PeerId, u32),
        name: Arc<str>,
        config: LinkConfig,
        seed: u64,
        now: Instant,
        out: &mut Effects<W>,
    ) -> Self {
        let mut link = Self::on_demand((peer, generation), name, config, seed, now);
        link.on_demand = false;
        let _dialled = link.want_connection(now, out);
        link
    }

    /// Like [`new`](Self::new), and dials when something is first asked, or [wanted](Self::want_connection).
    #[must_use]
    pub fn on_demand(
        (peer, generation): (PeerId, u32),
        name: Arc<str>,
        config: LinkConfig,
        seed: u64,
        now: Instant,
    ) -> Self {
        Self {
            backoff: Backoff::new(config.backoff_base, config.backoff_max, seed),
            state: State::Idle,
            on_demand: true,
            connection: None,
            dialled: None,
            peer,
            name,
            generation,
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
        }
    }

    /// Dials, where nothing was dialled yet: there is something to tell the peer. Stale where a connection was wanted before.
    pub fn want_connection<W>(&mut self, now: Instant, out: &mut Effects<W>) -> Disposition {
        let now = self.clock.observe(now);
        if self.state != State::Idle {
            return Disposition::Stale;
        }
        self.state = State::Dialling { until: self.dial(now, out) };
        Disposition::Applied
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
        self.take(now, item, out).map_err(|(_, why)| why)?;
        self.send_ready(now, out);
        Ok(())
    }

    /// Takes on fetches that come at the same time, so that they leave in one message where there is room for one, rather than the first by itself. Adds
    /// those that are not taken to `refused`.
    pub fn fetch_all<W>(
        &mut self,
        now: Instant,
        items: impl IntoIterator<Item = FetchItem>,
        refused: &mut Vec<(FetchItem, LinkRefused)>,
        out: &mut Effects<W>,
    ) {
        let now = self.clock.observe(now);
        for item in items {
            refused.extend(self.take(now, item, out).err());
        }
        self.send_ready(now, out);
    }

    /// Queues a fetch, where the peer is to be asked.
    fn take<W>(
        &mut self,
        now: Instant,
        item: FetchItem,
        out: &mut Effects<W>,
    ) -> Result<(), (FetchItem, LinkRefused)> {
        match self.state {
            State::Leaving | State::Closed => return Err((item, LinkRefused::Closed)),
            State::Down { .. } | State::Redialling { .. } => return Err((item, self.refuse_down())),
            State::Probing if self.in_flight_here().next().is_some() || !self.queue.is_empty() => {
                return Err((item, self.refuse_down()));
            }
            State::Idle => self.state = State::Dialling { until: self.dial(now, out) },
            State::Dialling { .. } | State::Up { .. } | State::Probing => {}
        }
        let max = self.config.max_queue.get();
        if self.queue.len() >= max as usize {
            self.send_ready(now, out);
        }
        if self.queue.len() >= max as usize {
            self.stats.refused_full += 1;
            return Err((item, LinkRefused::QueueFull { max }));
        }
        self.queue_until = self.queue_until.min(item.deadline);
        self.queue.push_back(item);
        Ok(())
    }

    const fn refuse_down(&mut self) -> LinkRefused {
        self.stats.refused_down += 1;
        LinkRefused::Down
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
        self.close_if_done(out);
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
        let is_here = self.is_here(&self.in_flight[index]);
        if is_here {
            self.note_accepted();
        }
        let mut has_answered = false;
        for (reply, outcome) in replies {
            match self.in_flight[index].settle(reply) {
                Some(item) => {
                    has_answered = true;
                    let settled = Settled::new(item.flight, item.attempt, outcome);
                    if canary::is(Canary::SettledTwice) {
                        out.settled.push(settled.clone());
                    }
                    out.settled.push(settled);
                }
                None => self.stats.stale += 1,
            }
        }
        if is_here && has_answered {
            self.note_answered();
        }
        if self.in_flight[index].is_settled() {
            self.in_flight.swap_remove(index);
        }
        self.send_ready(now, out);
        self.close_if_done(out);
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
        let (is_here, is_late) = (self.is_here(&over), over.is_late(now));
        let mut has_failed = true;
        match end {
            BatchEnd::Unimplemented if over.protocol == Protocol::Batched => {
                has_failed = false;
                if is_here {
                    self.protocol = Protocol::Single;
                    self.note_accepted();
                    self.note_answered();
                }
                self.ask_again(over, out);
            }
            BatchEnd::Complete => {
                let cause =
                    Failure::with_message(FailureKind::OriginFailed, "the peer left the key unanswered");
                self.fail_items(over, Some(Arc::new(cause)), out);
            }
            BatchEnd::Unimplemented => self.fail_items(over, None, out),
            BatchEnd::Failed(cause) => {
                has_failed = !is_late;
                self.fail_items(over, cause, out);
            }
        }
        // How a connection ends that takes no more calls says nothing of the next.
        if has_failed && is_here {
            self.note_failure(now, out);
        }
        self.send_ready(now, out);
        self.close_if_done(out);
        Disposition::Applied
    }

    /// Redials, gives up on dials that take too long, and on fetches whose time is up.
    pub fn handle_timeout<W>(&mut self, now: Instant, out: &mut Effects<W>) -> Wake {
        let now = self.clock.observe(now);
        match self.state {
            State::Dialling { until } | State::Redialling { until } if until <= now => {
                let cause: Cause =
                    Arc::new(Failure::with_message(FailureKind::Deadline, "dialling the peer took too long"));
                self.go_down(now, Some(&cause), out);
            }
            State::Down { until } if until <= now && self.connection.is_some() => {
                self.state = State::Probing;
                if canary::is(Canary::BreakerNeverHalfOpens) {
                    self.go_down(now, None, out);
                }
            }
            State::Down { until } if until <= now => {
                let until = self.dial(now, out);
                self.state = State::Redialling { until };
            }
            State::Idle
            | State::Dialling { .. }
            | State::Redialling { .. }
            | State::Down { .. }
            | State::Up { .. }
            | State::Probing
            | State::Leaving
            | State::Closed => {}
        }
        self.expire(now, out);
        self.close_if_done(out);
        self.next_wake()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is wanted. O(batches in flight).
    pub fn next_wake(&self) -> Wake {
        let state = match self.state {
            State::Dialling { until } | State::Redialling { until } | State::Down { until } => {
                Wake::At(until)
            }
            State::Idle | State::Up { .. } | State::Probing | State::Leaving | State::Closed => Wake::Idle,
        };
        let batches = self.in_flight.iter().map(InFlight::deadline).min().map_or(Wake::Idle, Wake::At);
        let queue = if self.queue.is_empty() { Wake::Idle } else { Wake::At(self.queue_until) };
        match state.earlier(batches).earlier(queue) {
            Wake::At(at) if at <= self.clock.latest() => Wake::Now,
            wake @ (Wake::Now | Wake::At(_) | Wake::Idle) => wake,
        }
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
        matches!(self.state, State::Idle | State::Up { .. } | State::Probing | State::Dialling { .. })
    }

    /// Whether the peer has left the ring, and batches in flight are waited for.
    #[must_use]
    pub const fn is_leaving(&self) -> bool {
        matches!(self.state, State::Leaving)
    }

    /// Whether the link is over: what is told to it is stale. A peer that comes back has a new one.
    #[must_use]
    pub const fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Whether this batch is still wanted. For an executor that is about to send it, and may have missed an abort.
    #[must_use]
    pub fn wants(&self, batch: BatchId) -> bool {
        self.in_flight.iter().any(|in_flight| in_flight.id == batch)
    }

    /// Whether the very first dial is still under way, of a link that has dialled at once.
    #[must_use]
    pub const fn is_first_dial(&self) -> bool {
        !self.on_demand && self.stats.dials == 1 && matches!(self.state, State::Dialling { .. })
    }

    /// Whether the peer is being dialled, and what is asked of it waits for that.
    #[must_use]
    pub const fn is_dialling(&self) -> bool {
        matches!(self.state, State::Dialling { .. })
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

    /// A probe is over when its batch is accepted: how long the origin then takes says nothing of the peer.
    fn note_accepted(&mut self) {
        if self.state == State::Probing {
            self.state = State::Up { since: self.clock.latest() };
            self.failures_in_a_row = 0;
        }
    }

    /// Failures count as in a row until a key is answered: to accept every batch and to break it is no success.
    fn note_answered(&mut self) {
        self.failures_in_a_row = 0;
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
            self.go_down(now, Some(&cause), out);
        }
    }

    fn stale(&mut self) -> Disposition {
        self.stats.stale += 1;
        Disposition::Stale
    }
}
