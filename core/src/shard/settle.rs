//! What becomes of a flight when its source answers, or does not.

use alloc::sync::Arc;
use core::time::Duration;

use super::{Answer, Shard};
use crate::cache::{Inserted, NewEntry, Share, Stored};
use crate::canary::{self, Canary};
use crate::effects::{Disposition, Effects, Fetched, Level, Outcome};
use crate::error::{Cause, Failure, FailureKind};
use crate::flight::{Reach, Source};
use crate::id::{Attempt, FlightId, GroupId};
use crate::time::Instant;
use crate::value::{Key, Value};

impl<W> Shard<W> {
    /// What the origin answered to an [`Intent::Load`](crate::Intent::Load).
    ///
    /// A value completes the flight whichever attempt it belongs to; a failure counts only for the attempt in progress.
    pub fn handle_loaded(
        &mut self,
        now: Instant,
        flight: FlightId,
        attempt: Attempt,
        outcome: Outcome,
        out: &mut Effects<W>,
    ) -> Disposition {
        self.handle_outcome(now, (flight, attempt), Level::Origin, outcome, out)
    }

    /// What a peer answered, as its [`Link`](crate::Link) settled it.
    ///
    /// [`Outcome::Unreachable`] turns the flight to the next successor, and after `peer_attempts` peers to the local origin; past its deadline it fails.
    pub fn handle_fetched(
        &mut self,
        now: Instant,
        flight: FlightId,
        attempt: Attempt,
        outcome: Outcome,
        out: &mut Effects<W>,
    ) -> Disposition {
        self.handle_outcome(now, (flight, attempt), Level::Peer, outcome, out)
    }

    fn handle_outcome(
        &mut self,
        now: Instant,
        (id, attempt): (FlightId, Attempt),
        level: Level,
        outcome: Outcome,
        out: &mut Effects<W>,
    ) -> Disposition {
        let now = self.observe(now);
        let Some(slot) = self.flights.resolve(id) else { return self.stale() };
        let is_current = self.flights.get(slot).is_some_and(|flight| flight.attempt == attempt);
        let answer = match outcome {
            Outcome::Value { value, ttl } => {
                let at_first_hand = level == Level::Origin
                    || self.is_owners_word(slot, attempt, is_current)
                    || canary::is(Canary::SuccessorsWordKept);
                self.take_value(now, slot, (level, at_first_hand), value, ttl, out)
            }
            Outcome::Failed(_) | Outcome::Unreachable(_)
                if !is_current && !canary::is(Canary::EarlierAttemptFails) =>
            {
                return self.stale();
            }
            Outcome::Failed(failure) => {
                if self.asks_for_more_time(slot, &failure) {
                    self.redirect(slot, None, out);
                    return Disposition::Retrying;
                }
                self.take_failure(now, slot, level, failure, out)
            }
            Outcome::Unreachable(_) if self.is_too_late_to_ask(now, slot) => {
                self.counters_of(slot).peer_errors.increment();
                self.take_failure(now, slot, level, Failure::new(FailureKind::Deadline), out)
            }
            Outcome::Unreachable(cause) => match self.next_source(slot) {
                Some(source) => {
                    self.counters_of(slot).peer_errors.increment();
                    self.redirect(slot, Some(source), out);
                    return Disposition::Retrying;
                }
                None => self.take_failure(now, slot, level, unanswered(cause), out),
            },
        };
        self.complete(slot, &answer, out);
        if is_current {
            self.end(slot);
        } else {
            // An earlier attempt was faster after all: nobody needs the one in progress.
            self.abort(slot, out);
        }
        Disposition::Applied
    }

    fn stale(&self) -> Disposition {
        self.groupless.stale_dispositions.increment();
        Disposition::Stale
    }

    fn take_value(
        &mut self,
        now: Instant,
        slot: u32,
        (level, at_first_hand): (Level, bool),
        value: Value,
        ttl: Option<Duration>,
        out: &mut Effects<W>,
    ) -> Answer {
        let (len, max) = (value.len(), self.config.max_value_len.get());
        if len > max {
            self.counters_of(slot).oversize.increment();
            let message = alloc::format!("the value has {len} bytes: the limit is {max}");
            return Err(Failure::with_message(FailureKind::ValueTooLarge, message));
        }
        let Some(key) = self.flights.get(slot).map(|flight| flight.key.clone()) else {
            return Ok(Fetched::new(value, level, now));
        };
        let (share, expires) = self.placement(now, &key, level, ttl);
        if !at_first_hand || expires <= now {
            // A successor's value, an expired one that the owner gave out, or one that the loader said is not to be kept.
            self.counters_of(slot).not_stored.increment();
            return Ok(Fetched::new(value, level, expires));
        }
        self.keep(now, slot, (share, expires), Stored::Value(value.clone()), out);
        Ok(Fetched::new(value, level, expires))
    }

    /// Whether a peer's value came from the key's owner. Only such a one is kept: a removal reaches the owner before anybody else, so what it gives out
    /// later is new. A successor may be told after this node, and give out what was removed in between.
    fn is_owners_word(&self, slot: u32, attempt: Attempt, is_current: bool) -> bool {
        self.flights.get(slot).is_some_and(|flight| match flight.source {
            Source::Peer(peer) if is_current => {
                self.ring.owner(flight.key.as_bytes()).is_some_and(|owner| owner.id() == peer)
            }
            // The first that a flight asks is the owner.
            Source::Peer(_) | Source::Origin => attempt.index() == 0,
        })
    }

    /// Puts what a flight brought into the cache, unless a removal or a flush came after the flight began.
    fn keep(
        &mut self,
        now: Instant,
        slot: u32,
        (share, expires): (Share, Instant),
        stored: Stored,
        out: &mut Effects<W>,
    ) {
        let Some(flight) = self.flights.get(slot) else { return };
        let (key, epoch) = (flight.key.clone(), self.epoch_of(&flight.key));
        let fenced = flight.fenced && !canary::is(Canary::UnfencedRemoval);
        if fenced || flight.group_epoch != epoch {
            self.counters(key.group()).fenced_dropped.increment();
            return;
        }
        let group = key.group();
        let new = NewEntry { share, key, stored, expires, epoch };
        let groups = &self.groups;
        let dead = |group: GroupId, expires: Instant, epoch: u32| {
            groups.get(group.index() as usize).is_none_or(|group| {
                group.epoch != epoch || expires.saturating_add(group.config.afterlife()) <= now
            })
        };
        match self.cache.insert(new, dead, &mut out.evicted) {
            Inserted::Stored => {}
            Inserted::TooLarge | Inserted::NotAdmitted => self.counters(group).not_stored.increment(),
        }
    }

    fn epoch_of(&self, key: &Key) -> u32 {
        self.groups.get(key.group().index() as usize).map_or(0, |group| group.epoch)
    }

    /// Where a value belongs and until when: the owner keeps it in its own share; anybody else has a hot copy, for no longer than the owner has it.
    fn placement(
        &mut self,
        now: Instant,
        key: &Key,
        level: Level,
        ttl: Option<Duration>,
    ) -> (Share, Instant) {
        let until = |ttl: Option<Duration>| ttl.map_or(Instant::MAX, |ttl| now.saturating_add(ttl));
        let hot_ttl = self.config.hot_ttl;
        let ttl = ttl.filter(|_| !canary::is(Canary::TtlIgnored));
        let as_hot_copy =
            |ttl: Option<Duration>| (Share::Hot, until(Some(ttl.map_or(hot_ttl, |ttl| ttl.min(hot_ttl)))));
        if level == Level::Peer {
            let ttl = ttl.filter(|_| !canary::is(Canary::HotCopyOutlivesOwner));
            return as_hot_copy(ttl);
        }
        let config = self.groups.get(key.group().index() as usize).map(|group| &group.config);
        let (group_ttl, jitter) =
            config.map_or((None, 0), |config| (config.ttl, config.ttl_jitter_per_mille));
        let ttl = ttl.or(group_ttl).map(|ttl| self.jittered(ttl, jitter));
        if self.owns(key) {
            return (Share::Main, until(ttl));
        }
        as_hot_copy(ttl)
    }

    fn owns(&self, key: &Key) -> bool {
        self.ring.owner(key.as_bytes()).is_none_or(|owner| owner.id() == self.me)
    }

    fn take_failure(
        &mut self,
        now: Instant,
        slot: u32,
        level: Level,
        failure: Failure,
        out: &mut Effects<W>,
    ) -> Answer {
        if level == Level::Origin {
            if failure.kind == FailureKind::NotFound {
                self.counters_of(slot).load_not_found.increment();
                self.keep_not_found(now, slot, out);
            } else {
                self.counters_of(slot).load_errors.increment();
            }
        }
        self.rescue(now, slot, failure)
    }

    /// Keeps a "not found" of this node's own origin, for keys that it owns.
    fn keep_not_found(&mut self, now: Instant, slot: u32, out: &mut Effects<W>) {
        let Some(flight) = self.flights.get(slot) else { return };
        let config = self.groups.get(flight.key.group().index() as usize).map(|group| &group.config);
        let ttl = config.map_or(Duration::ZERO, |config| config.negative_ttl);
        if !ttl.is_zero() && self.owns(&flight.key) {
            let share = if canary::is(Canary::NegativeInMainShare) { Share::Main } else { Share::Negative };
            let ttl = if canary::is(Canary::NegativeTtlIgnored) { Duration::MAX } else { ttl };
            self.keep(now, slot, (share, now.saturating_add(ttl)), Stored::NotFound, out);
        }
    }

    /// Whether a peer gave up at the time it was told, while later waiters have extended the flight beyond it.
    fn asks_for_more_time(&self, slot: u32, failure: &Failure) -> bool {
        self.flights.get(slot).is_some_and(|flight| {
            failure.kind == FailureKind::Deadline
                && matches!(flight.source, Source::Peer(_))
                && flight.asked_until < flight.deadline.saturating_sub(self.config.deadline_margin)
                && self.clock.latest() < flight.deadline.saturating_sub(self.config.deadline_margin)
        })
    }

    /// Whether everybody who waits has given up, though nobody has told the flight yet: a process that was stopped for a while hears all that it missed
    /// before it looks at its clock. To ask further would be work for nobody, and would keep its waiters for as long again.
    fn is_too_late_to_ask(&self, now: Instant, slot: u32) -> bool {
        let flight = self.flights.get(slot);
        flight.is_some_and(|flight| matches!(flight.source, Source::Peer(_)) && flight.deadline <= now)
    }

    /// Whom to ask after the current source gave no answer; `None` after the origin.
    fn next_source(&self, slot: u32) -> Option<Source> {
        let flight = self.flights.get(slot)?;
        if flight.source == Source::Origin {
            return None;
        }
        if flight.peers_asked >= self.config.peer_attempts {
            return Some(Source::Origin);
        }
        let next = self.ring.successors(flight.key.as_bytes()).nth(usize::from(flight.peers_asked));
        Some(match next {
            Some(member) if member.id() != self.me && flight.source != Source::Peer(member.id()) => {
                Source::Peer(member.id())
            }
            Some(_) | None => Source::Origin,
        })
    }

    /// Starts the flight's next attempt: at `source`, or where it asked before.
    ///
    /// A flight that turns to the origin while another load of its key is there already hands its waiters to that one.
    fn redirect(&mut self, slot: u32, source: Option<Source>, out: &mut Effects<W>) {
        let Some(flight) = self.flights.get(slot) else { return };
        let source = source.unwrap_or(flight.source);
        if source == Source::Origin && !flight.fenced {
            let local = self.flights.find(&flight.key.as_hashed(), Reach::Local, flight.group_epoch);
            if let Some(local) = local {
                self.flights.move_waiters(slot, local);
                self.end(slot);
                return;
            }
        }
        self.flights.redirect(slot, source);
        self.ask(slot, out);
    }
}

/// The origin itself gave no answer: its load was lost, or it panicked.
fn unanswered(cause: Option<Cause>) -> Failure {
    cause.map_or_else(
        || Failure::new(FailureKind::OriginFailed),
        |cause| Failure::with_cause(FailureKind::OriginFailed, Arc::clone(&cause)),
    )
}
