//! Batches: how they are formed, what is still open in them, and how they end.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{
    Batch, BatchId, Cause, DialId, Disposition, Effects, Failure, FailureKind, FetchItem, FlightId, Instant,
};
use super::{Intent, Link, LinkRefused, Outcome, Protocol, Settled, State};
use crate::canary::{self, Canary};

/// A batch that was sent and has something open.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) id: BatchId,
    /// The connection that it was sent by.
    pub(super) dial: DialId,
    pub(super) protocol: Protocol,
    /// Whether the peer has accepted it: it no longer counts for the window.
    pub(super) accepted: bool,
    /// Whether it will be topped up before it is sent.
    unsent: bool,
    /// Bytes of its keys.
    bytes: usize,
    /// What was asked, by index; `None` once settled.
    items: Vec<Option<FetchItem>>,
    open: usize,
    /// The earliest deadline of the items still open; kept as a lower bound when items settle.
    earliest: Instant,
}

impl InFlight {
    /// Takes out what was asked at `index`, if it is still open.
    pub(super) fn settle(&mut self, index: u32) -> Option<FetchItem> {
        let item = self.items.get_mut(index as usize)?.take()?;
        self.open -= 1;
        Some(item)
    }

    fn append(&mut self, items: &[FetchItem]) {
        self.open += items.len();
        self.bytes += items.iter().map(|item| item.key.as_bytes().len()).sum::<usize>();
        self.earliest = items.iter().map(|item| item.deadline).fold(self.earliest, Instant::min);
        self.items.extend(items.iter().cloned().map(Some));
    }

    /// Stops minding a flight's answer.
    pub(super) fn forget(&mut self, flight: FlightId) -> bool {
        let found =
            self.items.iter().position(|item| item.as_ref().is_some_and(|item| item.flight == flight));
        found.is_some_and(|index| self.settle(index as u32).is_some())
    }

    /// Whether the peer has accepted it, and nothing is open but what has run out of time.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.accepted && self.items.iter().flatten().all(|item| item.deadline <= now)
    }

    pub(super) const fn is_settled(&self) -> bool {
        self.open == 0
    }

    pub(super) fn into_unsettled(self) -> impl DoubleEndedIterator<Item = FetchItem> {
        self.items.into_iter().flatten()
    }

    /// No item that is open is to be waited for any longer than this without a look.
    pub(super) const fn deadline(&self) -> Instant {
        self.earliest
    }

    /// Takes out the items whose time is up.
    fn take_expired(&mut self, now: Instant, mut expired: impl FnMut(FetchItem)) {
        let mut earliest = Instant::MAX;
        for slot in &mut self.items {
            match slot {
                Some(item) if item.deadline <= now => {
                    if let Some(item) = slot.take() {
                        self.open -= 1;
                        expired(item);
                    }
                }
                Some(item) => earliest = earliest.min(item.deadline),
                None => {}
            }
        }
        if !canary::is(Canary::BusyWake) {
            self.earliest = earliest;
        }
    }
}

impl Link {
    /// Sends what is queued, as far as the windows allow.
    pub(super) fn send_ready<W>(&mut self, now: Instant, out: &mut Effects<W>) {
        while !self.queue.is_empty() {
            let Some(dial) = self.connection_with_room() else { break };
            let Some(items) = self.form_batch(now, out) else { break };
            self.send(dial, items, out);
        }
        if self.queue.is_empty() {
            self.queue_until = Instant::MAX;
        }
    }

    /// Batches on the connection that takes calls. Others drain on connections that take no more.
    pub(super) fn in_flight_here(&self) -> impl Iterator<Item = &InFlight> {
        self.in_flight.iter().filter(|batch| self.is_here(batch))
    }

    /// Whether a batch's fate says something of the connection that takes calls.
    pub(super) fn is_here(&self, batch: &InFlight) -> bool {
        self.connection == Some(batch.dial)
    }

    /// The connection, where a batch may be sent by it now.
    fn connection_with_room(&self) -> Option<DialId> {
        match self.state {
            State::Up { .. } => {}
            State::Probing if self.in_flight_here().next().is_none() => {}
            State::Idle
            | State::Probing
            | State::Dialling { .. }
            | State::Down { .. }
            | State::Redialling { .. }
            | State::Leaving
            | State::Closed => return None,
        }
        if self.in_flight.len() >= self.config.max_open_batches.get() as usize {
            return None;
        }
        // What comes before it is sent goes along with it.
        if self.in_flight_here().any(|batch| batch.unsent) {
            return None;
        }
        let unaccepted = self.in_flight_here().filter(|batch| !batch.accepted).count();
        let window = match self.protocol {
            Protocol::Batched => self.config.window,
            Protocol::Single => self.config.single_window,
        };
        self.connection.filter(|_| unaccepted < window.get() as usize)
    }

    /// Takes items off the queue up to a batch's limits.
    fn form_batch<W>(&mut self, now: Instant, out: &mut Effects<W>) -> Option<Vec<FetchItem>> {
        let max_keys = match self.protocol {
            Protocol::Batched => self.config.max_batch_keys.get() as usize,
            Protocol::Single => 1,
        };
        let mut items = Vec::with_capacity(max_keys.min(self.queue.len()));
        self.take_queued(now, (&mut items, 0), max_keys, out);
        (!items.is_empty()).then_some(items)
    }

    /// Adds what is queued to `items`, which have so many bytes in their keys, up to a batch's limits. Items whose time is up are settled on the way.
    fn take_queued<W>(
        &mut self,
        now: Instant,
        (items, mut bytes): (&mut Vec<FetchItem>, usize),
        max_keys: usize,
        out: &mut Effects<W>,
    ) {
        while items.len() < max_keys {
            let Some(item) = self.queue.pop_front() else { break };
            if item.deadline <= now {
                self.settle_expired(item, out);
                continue;
            }
            bytes += item.key.as_bytes().len();
            if bytes > self.config.max_batch_bytes.get() && !items.is_empty() {
                self.queue.push_front(item);
                break;
            }
            items.push(item);
        }
    }

    /// Adds to a batch what was queued since it was formed, as far as its limits allow, where [`LinkConfig::top_up`](crate::LinkConfig::top_up) says so.
    /// To be called right before it is sent: what many callers ask for at about the same time then leaves in one message, and not the first of it by itself.
    ///
    /// Stale where the batch is no longer wanted, is not to be topped up, or has been.
    pub fn top_up<W>(&mut self, now: Instant, batch: &mut Batch, out: &mut Effects<W>) -> Disposition {
        let now = self.clock.observe(now);
        let unsent = |in_flight: &InFlight| in_flight.id == batch.batch && in_flight.unsent;
        let Some(index) = self.in_flight.iter().position(unsent) else { return self.stale() };
        self.in_flight[index].unsent = false;
        if self.is_here(&self.in_flight[index]) {
            let (before, bytes) = (batch.items.len(), self.in_flight[index].bytes);
            let max_keys = self.config.max_batch_keys.get() as usize;
            self.take_queued(now, (&mut batch.items, bytes), max_keys, out);
            let added = &batch.items[before..];
            self.stats.keys += added.len() as u64;
            self.in_flight[index].append(added);
            batch.deadline = added.iter().map(|item| item.deadline).fold(batch.deadline, Instant::max);
        }
        self.send_ready(now, out);
        Disposition::Applied
    }

    /// Puts what a batch has open back to the front of the queue, or fails it where nothing is sent any more.
    pub(super) fn ask_again<W>(&mut self, batch: InFlight, out: &mut Effects<W>) {
        if !self.is_up() {
            let cause: Cause = Arc::new(LinkRefused::Down);
            return self.fail_items(batch, Some(cause), out);
        }
        for item in batch.into_unsettled().rev() {
            self.queue_until = self.queue_until.min(item.deadline);
            self.queue.push_front(item);
        }
    }

    fn send<W>(&mut self, dial: DialId, items: Vec<FetchItem>, out: &mut Effects<W>) {
        let id = BatchId::new(self.generation, self.next_batch);
        self.next_batch += 1;
        self.stats.batches += 1;
        self.stats.keys += items.len() as u64;
        let deadlines = || items.iter().map(|item| item.deadline);
        let earliest = deadlines().min().unwrap_or(Instant::MAX);
        let deadline = deadlines().max().unwrap_or(Instant::MAX);
        self.in_flight.push(InFlight {
            id,
            dial,
            protocol: self.protocol,
            accepted: false,
            unsent: self.config.top_up && self.protocol == Protocol::Batched,
            bytes: items.iter().map(|item| item.key.as_bytes().len()).sum(),
            open: items.len(),
            items: items.iter().cloned().map(Some).collect(),
            earliest,
        });
        out.intents.push(Intent::Fetch(Batch {
            peer: self.peer,
            batch: id,
            dial,
            protocol: self.protocol,
            items,
            deadline,
        }));
    }

    /// Settles what has run out of time; a batch that then has nothing open is aborted. A peer that accepted nothing in that time has failed.
    pub(super) fn expire<W>(&mut self, now: Instant, out: &mut Effects<W>) {
        let mut index = 0;
        let mut silent = 0;
        while index < self.in_flight.len() {
            let batch = &mut self.in_flight[index];
            if batch.deadline() <= now {
                let (stats, accepted) = (&mut self.stats, batch.accepted);
                batch.take_expired(now, |item| {
                    stats.unanswered += 1;
                    out.settled.push(Settled::new(item.flight, item.attempt, too_late(accepted)));
                });
            }
            if batch.is_settled() {
                let batch = &self.in_flight[index];
                silent += usize::from(!batch.accepted && self.is_here(batch));
                self.abort_batch(index, out);
            } else {
                index += 1;
            }
        }
        for _ in 0..silent {
            self.note_failure(now, out);
        }
        self.expire_queue(now, out);
        self.send_ready(now, out);
    }

    /// Settles what has run out of time before it could be sent: its flight can still ask elsewhere. O(queued) when something has.
    fn expire_queue<W>(&mut self, now: Instant, out: &mut Effects<W>) {
        if self.queue_until > now || canary::is(Canary::QueuedDeadlineIgnored) {
            return;
        }
        self.queue_until = Instant::MAX;
        for item in core::mem::take(&mut self.queue) {
            if item.deadline <= now {
                self.settle_expired(item, out);
            } else {
                self.queue_until = self.queue_until.min(item.deadline);
                self.queue.push_back(item);
            }
        }
    }

    pub(super) fn abort_batch<W>(&mut self, index: usize, out: &mut Effects<W>) {
        let batch = self.in_flight.swap_remove(index);
        out.intents.push(Intent::AbortFetch { peer: self.peer, batch: batch.id });
    }

    fn settle_expired<W>(&mut self, item: FetchItem, out: &mut Effects<W>) {
        self.stats.unanswered += 1;
        out.settled.push(Settled::new(item.flight, item.attempt, too_late(false)));
    }

    pub(super) fn fail_items<W>(&mut self, batch: InFlight, cause: Option<Cause>, out: &mut Effects<W>) {
        let (now, accepted) = (self.clock.latest(), batch.accepted);
        for item in batch.into_unsettled() {
            self.stats.unanswered += 1;
            let outcome = if accepted && item.deadline <= now {
                too_late(true)
            } else {
                Outcome::Unreachable(cause.clone())
            };
            out.settled.push(Settled::new(item.flight, item.attempt, outcome));
        }
    }

    /// Fails the batches on a connection, or with `None` all. Says whether there were any.
    pub(super) fn fail_in_flight<W>(
        &mut self,
        dial: Option<DialId>,
        cause: Option<&Cause>,
        out: &mut Effects<W>,
    ) -> bool {
        let before = self.in_flight.len();
        let failing = |batch: &InFlight| dial.is_none_or(|dial| batch.dial == dial);
        let (failed, left): (Vec<_>, Vec<_>) =
            core::mem::take(&mut self.in_flight).into_iter().partition(failing);
        self.in_flight = left;
        for batch in failed {
            out.intents.push(Intent::AbortFetch { peer: self.peer, batch: batch.id });
            self.fail_items(batch, cause.cloned(), out);
        }
        self.in_flight.len() < before
    }

    pub(super) fn fail_queue<W>(&mut self, cause: Option<&Cause>, out: &mut Effects<W>) {
        for item in core::mem::take(&mut self.queue) {
            self.stats.unanswered += 1;
            out.settled.push(Settled::new(item.flight, item.attempt, Outcome::Unreachable(cause.cloned())));
        }
    }
}

/// What became of a fetch whose time is up. A peer that has accepted it is well, and at work on what takes longer than anybody waits: that is an answer,
/// to be looked for nowhere else. One that has not may be dead.
fn too_late(accepted: bool) -> Outcome {
    let failure = Failure::with_message(FailureKind::Deadline, "the peer did not answer in time");
    if accepted { Outcome::Failed(failure) } else { Outcome::Unreachable(Some(Arc::new(failure))) }
}
