//! The rest of the shard's operations: time, groups, tickets, and what a turn must have emitted.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use arbitrary::{Result, Unstructured};
use groupcache_core::{
    Attempt, Call, FailureKind, Fetched, FlightId, GroupConfig, GroupId, Instant, Intent, Member,
    OnAbandoned, Outcome, Wake,
};

use super::model::{Flight, began};
use super::{Ask, Bench, ME, foreign, ring};

impl Bench {
    /// Takes out everything that was asked for.
    pub(super) fn asked(&mut self) -> Vec<Ask> {
        let intents = self.out.drain_intents().map(|intent| match intent {
            Intent::Load { flight, attempt, stale, .. } => Ask::Load(flight, attempt, stale),
            Intent::AbortLoad { flight } => Ask::Abort(flight, None),
            other => panic!("a shard does not ask for {other:?}"),
        });
        let mut asked: Vec<Ask> = intents.collect();
        asked.extend(self.out.drain_calls().map(|call| match call {
            Call::Fetch { peer, item } => Ask::Fetch(item.flight, item.attempt, peer),
            Call::Cancel { peer, flight } => Ask::Abort(flight, Some(peer)),
            other @ Call::Invalidate { .. } => panic!("a shard does not ask for {other:?}"),
        }));
        asked
    }

    /// A load turned to its next source, or joined the one that is at the origin already.
    pub(super) fn check_retry(&mut self, id: FlightId, before: &Flight) {
        let twin = self.model.local_twin(id);
        let (asked, attempt, peer, stale) = match *self.asked() {
            [] => return self.model.merge(id, twin.expect("a load that asks nobody has joined another")),
            [Ask::Load(asked, attempt, ref stale)] => {
                assert_eq!(twin, None, "two loads of a key at one origin");
                (asked, attempt, None, stale.clone())
            }
            [Ask::Fetch(asked, attempt, peer)] => (asked, attempt, Some(peer), None),
            ref other => panic!("a retry asks once, not {other:?}"),
        };
        assert_eq!(asked, id);
        assert!(!before.attempts.contains(&attempt), "attempt {attempt:?} is not new");
        assert!(before.deadline > self.now, "asked for nobody");
        self.check_offered(&before.key, stale.as_ref());
        let flight = self.model.flights.get_mut(&id).expect("a load in progress");
        flight.attempts.push(attempt);
        (flight.peer, flight.stale) = (peer, stale);
    }

    /// Notes what an answer lets the shard keep: a value from the origin, or from the owner, for as long as that one says; and, from this node's origin,
    /// that a key of its own does not exist.
    pub(super) fn note_answer(
        &mut self,
        flight: &Flight,
        attempt: Attempt,
        from_peer: bool,
        outcome: &Outcome,
    ) {
        if self.model.flights.values().all(|live| live.began != flight.began) {
            return; // Of a load that is over.
        }
        let owner = ring(self.rings).owner(&flight.key.1).map(Member::id);
        let group = &self.model.groups[flight.key.0 as usize];
        let is_mine = owner.is_none_or(|owner| owner == ME);
        let until = |ttl: Option<Duration>| ttl.map_or(Instant::MAX, |ttl| self.now.saturating_add(ttl));
        match outcome {
            Outcome::Value { value, ttl } => {
                let of_owner = match flight.peer {
                    Some(peer) if attempt == flight.attempt() => owner == Some(peer),
                    Some(_) | None => attempt == flight.attempts[0],
                };
                let ttl = if from_peer { *ttl } else { ttl.or(group.config.ttl) };
                let is_copy = from_peer || !is_mine;
                let most = self.config.hot_ttl;
                let expires = until(if is_copy { Some(ttl.map_or(most, |ttl| ttl.min(most))) } else { ttl });
                if !from_peer || of_owner {
                    self.model.keep(&flight.key, began(&flight.key, value), expires);
                }
            }
            Outcome::Failed(failure) if failure.kind == FailureKind::NotFound && !from_peer && is_mine => {
                let expires = until(Some(group.config.negative_ttl));
                self.model.miss(flight, expires);
            }
            Outcome::Failed(_) | Outcome::Unreachable(_) => {}
        }
    }

    /// A failed load has given out what had expired: is it right to?
    fn check_rescue(&self, flight: &Flight, stale: &Fetched, kind: FailureKind) {
        let of_use =
            matches!(kind, FailureKind::OriginFailed | FailureKind::Deadline | FailureKind::Overloaded);
        assert!(of_use && !flight.fenced, "{stale:?} in place of {kind:?}");
        self.check_kept(&flight.key, stale);
        assert!(!stale.value.is_fresh_only(), "an old value of one that must be fresh");
        let grace = self.model.groups[flight.key.0 as usize].config.stale_if_error;
        assert!(self.now < stale.expires.saturating_add(grace), "a value that is too old");
    }

    /// Everybody who waited for this load got what it came to.
    pub(super) fn check_served(&mut self, id: FlightId, flight: &Flight, outcome: &Outcome) {
        let max = self.config.max_value_len.get();
        let (mut expected, mut served) = (self.model.serve(id), Vec::new());
        for completion in self.out.drain_completions().collect::<Vec<_>>() {
            served.push(completion.waiter);
            match (&completion.result, outcome) {
                (Ok(fetched), Outcome::Value { value, .. }) => {
                    assert!(fetched.value == *value && value.len() <= max);
                }
                (Err(failure), Outcome::Value { value, .. }) => {
                    assert!(failure.kind == FailureKind::ValueTooLarge && value.len() > max);
                }
                (Err(failure), Outcome::Failed(given)) => assert_eq!(failure.kind, given.kind),
                (Err(failure), Outcome::Unreachable(_)) => {
                    let is_late = flight.peer.is_some() && flight.deadline <= self.now;
                    let kind = if is_late { FailureKind::Deadline } else { FailureKind::OriginFailed };
                    assert_eq!(failure.kind, kind);
                }
                (Ok(fetched), Outcome::Failed(given)) => self.check_rescue(flight, fetched, given.kind),
                (Ok(fetched), Outcome::Unreachable(_)) => {
                    self.check_rescue(flight, fetched, FailureKind::OriginFailed);
                }
            }
        }
        expected.sort_unstable();
        served.sort_unstable();
        assert_eq!(served, expected);
    }

    pub(super) fn cancel(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        if bytes.ratio(1, 16)? {
            let foreign = *bytes.choose(&foreign::supply().tickets)?;
            assert_eq!(
                self.shard.cancel(self.now, foreign, &mut self.out),
                None,
                "a ticket of another shard"
            );
            return Ok(());
        }
        if bytes.ratio(1, 4)? && !self.model.used.is_empty() {
            let used = *bytes.choose(&self.model.used)?;
            assert_eq!(self.shard.cancel(self.now, used, &mut self.out), None, "a ticket counts once");
            return Ok(());
        }
        if self.model.tickets.is_empty() {
            return Ok(());
        }
        let index = bytes.choose_index(self.model.tickets.len())?;
        let (&waiter, &ticket) = self.model.tickets.iter().nth(index).expect("an index in range");
        assert_eq!(self.shard.cancel(self.now, ticket, &mut self.out), Some(waiter));
        let id = self.model.leave(waiter);
        let flight = &self.model.flights[&id];
        let aborts = flight.waiters.is_empty() && self.config.on_abandoned == OnAbandoned::Abort;
        let expected = aborts.then_some(Ask::Abort(id, flight.peer));
        if aborts {
            self.model.end(id);
        }
        assert_eq!(self.asked(), Vec::from_iter(expected));
        Ok(())
    }

    pub(super) fn add_group(&mut self, bytes: &mut Unstructured<'_>, group: u32) -> Result<()> {
        let mut config = GroupConfig::default();
        config.ttl = *bytes.choose(&[None, Some(Duration::from_secs(2))])?;
        config.ttl_jitter_per_mille = *bytes.choose(&[0, 500])?;
        config.negative_ttl = Duration::from_secs(bytes.int_in_range(0..=2)?);
        config.stale_while_revalidate = Duration::from_secs(*bytes.choose(&[0, 1, 60])?);
        config.stale_if_error = Duration::from_secs(*bytes.choose(&[0, 0, 3])?);
        config.revalidate_for = Duration::from_secs(*bytes.choose(&[0, 0, 2, 90])?);
        config.max_loads = NonZeroU32::new(*bytes.choose(&[1, 3, 99])?).expect("above zero");
        self.shard.add_group(GroupId::new(group), config.clone()).expect("in range");
        self.model.groups[group as usize].live = true;
        self.model.groups[group as usize].config = config;
        Ok(())
    }

    pub(super) fn change_group(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let group = bytes.int_in_range(0..=1)?;
        let live = self.model.groups[group as usize].live;
        match bytes.int_in_range(0..=9)? {
            0 => {
                assert_eq!(self.shard.remove_group(GroupId::new(group)), live);
                if live {
                    self.model.flush(group, self.step);
                }
                self.model.groups[group as usize].live = false;
            }
            1..=3 => self.add_group(bytes, group)?,
            _ => {
                assert_eq!(self.shard.flush(self.now, GroupId::new(group)), live);
                if live {
                    self.model.flush(group, self.step);
                }
            }
        }
        Ok(())
    }

    /// Time jumps, with a call that shows it to the shard. Backwards it must not go.
    pub(super) fn pass_time(&mut self, bytes: &mut Unstructured<'_>) -> Result<()> {
        let millis = Duration::from_millis(*bytes.choose(&[0, 1, 1, 1, 19, 21, 100, 999, 1_001, 31_000])?);
        if bytes.ratio(1, 4)? {
            let earlier = self.now.saturating_sub(millis);
            self.shard.handle_ring(earlier, ring(self.rings));
        } else {
            self.now = self.now.saturating_add(millis);
            self.shard.handle_ring(self.now, ring(self.rings));
        }
        Ok(())
    }

    /// Lets the shard end what is due, and answers whether it wants to be called again at once.
    pub(super) fn time_out(&mut self) -> bool {
        let wake = self.shard.handle_timeout(self.now, &mut self.out);
        let mut expected = Vec::new();
        let asked = self.asked();
        for ask in &asked {
            let Ask::Abort(id, peer) = *ask else { panic!("{ask:?} by a time-out") };
            let flight = self.model.flights[&id].clone();
            assert!(flight.deadline <= self.now, "a load ended before its deadline");
            assert_eq!(flight.peer, peer);
            let waiters = self.model.serve(id);
            expected.extend(waiters.into_iter().map(|waiter| (waiter, flight.clone())));
        }
        assert!(asked.len() <= self.config.work_per_call.get() as usize);
        self.check_failed(expected, FailureKind::Deadline);
        assert_eq!(wake, self.shard.next_wake());
        let due = self.model.earliest_deadline();
        match wake {
            Wake::Now => assert!(due <= Some(self.now) && !asked.is_empty(), "a wake for nothing"),
            Wake::At(at) => assert!(at > self.now && due == Some(at), "{due:?}"),
            Wake::Idle => assert_eq!(due, None),
        }
        wake == Wake::Now
    }

    fn check_failed(&mut self, expected: Vec<(u32, Flight)>, kind: FailureKind) {
        let mut expected = BTreeMap::from_iter(expected);
        for completion in self.out.drain_completions().collect::<Vec<_>>() {
            let flight = expected.remove(&completion.waiter).expect("a waiter of a load that has ended");
            match completion.result {
                Ok(stale) => self.check_rescue(&flight, &stale, kind),
                Err(failure) => assert_eq!(failure.kind, kind),
            }
        }
        assert!(expected.is_empty(), "nobody serves {expected:?}");
    }

    /// Ends everything: at the end of time, or by a shutdown.
    pub(super) fn drain(&mut self) {
        self.out.free_evicted();
        if self.step.is_multiple_of(2) {
            self.now = Instant::MAX;
            while self.time_out() {}
        } else {
            while self.shut_down() {}
        }
        self.check();
        assert!(self.model.flights.is_empty() && self.model.tickets.is_empty());
        assert_eq!(self.shard.next_wake(), Wake::Idle);
    }

    fn shut_down(&mut self) -> bool {
        let wake = self.shard.shutdown(self.now, &mut self.out);
        let mut expected = Vec::new();
        for ask in self.asked() {
            let Ask::Abort(id, peer) = ask else { panic!("{ask:?} by a shutdown") };
            let flight = self.model.flights[&id].clone();
            assert_eq!(flight.peer, peer);
            let waiters = self.model.serve(id);
            expected.extend(waiters.into_iter().map(|waiter| (waiter, flight.clone())));
        }
        self.check_failed(expected, FailureKind::Stopping);
        wake == Wake::Now
    }
}
