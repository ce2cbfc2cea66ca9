//! Expired values that are still of use: while they are loaded anew, when that fails, and to an origin that says that they have not changed.
//!
//! Only the owner's share: a hot copy never lives longer than its owner would keep it. A removal leaves nothing to give out, and a flush neither.

use core::time::Duration;

use super::{Admitted, Answer, Group, Shard};
use crate::cache::{Share, Stored};
use crate::canary::{self, Canary};
use crate::config::GroupConfig;
use crate::effects::{Effects, Fetched, Level};
use crate::error::{Failure, FailureKind};
use crate::flight::Source;
use crate::shard::Route;
use crate::time::Instant;
use crate::value::{HashedKey, Value};

impl<W> Shard<W> {
    /// Answers with an expired value, and sees to it that the key is being loaded anew: without a waiter, until the load time-out.
    ///
    /// By the route of the lookup: behind the answer, too, a peer's request is forwarded to nobody. Two nodes that take each other for the owner would
    /// ask each other for ever, for nobody.
    ///
    /// A load that cannot start now, since a limit is reached, starts with one of the next lookups; the value is given out all the same.
    pub(super) fn revalidate(
        &mut self,
        now: Instant,
        key: &HashedKey<'_>,
        route: Route,
        out: &mut Effects<W>,
    ) -> Option<Fetched> {
        let fetched = self.lenient(now, key, |config| config.stale_while_revalidate)?;
        self.counters(key.group()).stale_hits.increment();
        let deadline = now.saturating_add(self.config.load_timeout);
        let route = if canary::is(Canary::StaleForwarded) { Route::Cluster } else { route };
        if let Ok(Admitted::Start { group_epoch }) = self.admit(now, key, deadline, route) {
            let flight = self.start(now, key, deadline, route, group_epoch);
            self.ask(flight, out);
        }
        Some(fetched)
    }

    /// What a flight answers that has failed: an expired value where there is one of use, else the failure.
    pub(super) fn rescue(&self, now: Instant, slot: u32, failure: Failure) -> Answer {
        let of_use = matches!(
            failure.kind,
            FailureKind::OriginFailed | FailureKind::Deadline | FailureKind::Overloaded
        );
        let Some(flight) = self.flights.get(slot).filter(|flight| of_use && !flight.fenced) else {
            return Err(failure);
        };
        match self.lenient(now, &flight.key.as_hashed(), |config| config.stale_if_error) {
            Some(fetched) => {
                self.counters(flight.key.group()).stale_rescues.add(u64::from(flight.waiters));
                Ok(fetched)
            }
            None => Err(failure),
        }
    }

    /// What a flight that turns to the origin takes along, to ask whether it has changed.
    pub(super) fn to_revalidate(&self, slot: u32) -> Option<Value> {
        let flight =
            self.flights.get(slot).filter(|flight| flight.source == Source::Origin && !flight.fenced)?;
        let expired =
            self.expired(self.clock.latest(), &flight.key.as_hashed(), |config| config.revalidate_for)?;
        Some(expired.value)
    }

    /// The expired value of a key, where callers may have it.
    fn lenient(
        &self,
        now: Instant,
        key: &HashedKey<'_>,
        grace: impl Fn(&GroupConfig) -> Duration,
    ) -> Option<Fetched> {
        let may_be_old = |value: &Value| !value.is_fresh_only() || canary::is(Canary::FreshOnlyIgnored);
        self.expired(now, key, grace).filter(|fetched| may_be_old(&fetched.value))
    }

    /// The expired value of a key, for as long after its expiry as `grace` says.
    fn expired(
        &self,
        now: Instant,
        key: &HashedKey<'_>,
        grace: impl Fn(&GroupConfig) -> Duration,
    ) -> Option<Fetched> {
        let group: &Group = self.groups.get(key.group().index() as usize).filter(|group| group.live)?;
        let grace = grace(&group.config);
        let grace = if canary::is(Canary::StaleWithoutCeiling) { Duration::MAX } else { grace };
        if grace.is_zero() {
            return None;
        }
        let entry = self.cache.peek(key)?;
        let in_time = now < entry.expires.saturating_add(grace);
        match entry.stored {
            Stored::Value(value) if in_time && entry.epoch == group.epoch && entry.share == Share::Main => {
                entry.touch();
                Some(Fetched::new(value.clone(), Level::Main, entry.expires))
            }
            Stored::Value(_) | Stored::NotFound => None,
        }
    }
}
