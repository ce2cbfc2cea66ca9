//! What a shard ought to hold: every load with its waiters, every ticket, and since when each key counts as forgotten.

use std::collections::{BTreeMap, HashMap};

use groupcache_core::{Attempt, FlightId, GroupConfig, Instant, PeerId, Ticket, Value};

/// A key: its group's number and its bytes.
pub(super) type KeyId = (u32, Vec<u8>);

/// A load in progress.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) key: KeyId,
    /// The step in which it began: what its values say.
    pub(super) began: u64,
    /// Who is asked; `None` for the origin.
    pub(super) peer: Option<PeerId>,
    pub(super) attempts: Vec<Attempt>,
    pub(super) fenced: bool,
    pub(super) epoch: u32,
    pub(super) deadline: Instant,
    pub(super) latest: Instant,
    pub(super) waiters: Vec<u32>,
    /// What it took to the origin to be revalidated.
    pub(super) stale: Option<Value>,
}

impl Flight {
    pub(super) fn attempt(&self) -> Attempt {
        *self.attempts.last().expect("a flight asks at once")
    }

    fn extend(&mut self, deadline: Instant) {
        self.deadline = self.deadline.max(deadline.min(self.latest));
    }
}

/// A group: dead groups keep their epoch.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) live: bool,
    pub(super) config: GroupConfig,
    pub(super) epoch: u32,
    /// Loads that were ever begun.
    pub(super) begun: u64,
    flushed: u64,
}

/// The model.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) flights: BTreeMap<FlightId, Flight>,
    pub(super) tickets: BTreeMap<u32, Ticket>,
    pub(super) groups: [Group; 2],
    /// Loads that are over, to answer again.
    pub(super) over: Vec<(FlightId, Flight)>,
    /// Tickets that were served or given back, to cancel again.
    pub(super) used: Vec<Ticket>,
    forgotten: HashMap<KeyId, u64>,
    /// Values that may be kept, by key and by when their load began: until when, at the latest.
    may_keep: HashMap<(KeyId, u64), Instant>,
    /// Keys that may be known not to exist, by when the load that found out began: until when, at the latest.
    may_miss: HashMap<KeyId, BTreeMap<u64, Instant>>,
}

impl Model {
    /// The load that a caller must join.
    pub(super) fn joinable(&self, key: &KeyId, local_only: bool) -> Option<FlightId> {
        let epoch = self.groups.get(key.0 as usize)?.epoch;
        let open = |flight: &Flight| !flight.fenced && flight.epoch == epoch && flight.key == *key;
        let of = |local: bool| {
            let mut found = self.flights.iter().filter(|(_, f)| open(f) && f.peer.is_none() == local);
            let first = found.next().map(|(&id, _)| id);
            assert!(found.next().is_none(), "two loads of {key:?} can be joined");
            first
        };
        of(true).or_else(|| if local_only { None } else { of(false) })
    }

    /// Where a load that turns to the origin finds its key loaded there already.
    pub(super) fn local_twin(&self, id: FlightId) -> Option<FlightId> {
        let of = &self.flights[&id];
        let twin = |f: &Flight| !f.fenced && f.peer.is_none() && f.epoch == of.epoch && f.key == of.key;
        if of.fenced {
            return None;
        }
        self.flights.iter().find(|(other, flight)| **other != id && twin(flight)).map(|(&other, _)| other)
    }

    pub(super) fn begin(&mut self, id: FlightId, flight: Flight) {
        assert!(self.over.iter().all(|(over, _)| *over != id), "{id:?} is used again");
        self.groups[flight.key.0 as usize].begun += 1;
        assert!(self.flights.insert(id, flight).is_none(), "{id:?} is used twice");
    }

    pub(super) fn join(&mut self, id: FlightId, waiter: u32, ticket: Ticket, deadline: Instant) {
        let flight = self.flights.get_mut(&id).expect("a load that was found");
        flight.waiters.push(waiter);
        flight.extend(deadline);
        assert!(!self.used.contains(&ticket), "{ticket:?} is used again");
        assert!(self.tickets.insert(waiter, ticket).is_none());
    }

    pub(super) fn merge(&mut self, from: FlightId, into: FlightId) {
        let gone = self.end(from);
        let twin = self.flights.get_mut(&into).expect("a load that was found");
        twin.waiters.extend(gone.waiters);
        twin.extend(gone.deadline);
    }

    /// Ends a load. Its waiters are the caller's to account for.
    pub(super) fn end(&mut self, id: FlightId) -> Flight {
        let flight = self.flights.remove(&id).expect("only a live load ends");
        self.over.push((id, flight.clone()));
        flight
    }

    /// Ends a load, and answers who must have been served.
    pub(super) fn serve(&mut self, id: FlightId) -> Vec<u32> {
        let served = self.end(id).waiters;
        for waiter in &served {
            self.used.push(self.tickets.remove(waiter).expect("a waiter is served once"));
        }
        served
    }

    /// Takes a waiter back; answers its load.
    pub(super) fn leave(&mut self, waiter: u32) -> FlightId {
        self.used.push(self.tickets.remove(&waiter).expect("a waiter leaves once"));
        for (&id, flight) in &mut self.flights {
            if let Some(position) = flight.waiters.iter().position(|&other| other == waiter) {
                flight.waiters.swap_remove(position);
                return id;
            }
        }
        panic!("waiter {waiter} waits for no load");
    }

    pub(super) fn forget(&mut self, key: &KeyId, step: u64) {
        self.forgotten.insert(key.clone(), step);
        let Some(epoch) = self.groups.get(key.0 as usize).map(|group| group.epoch) else { return };
        let fenced = self.flights.values_mut().filter(|f| f.key == *key && f.epoch == epoch);
        fenced.for_each(|flight| flight.fenced = true);
    }

    pub(super) fn flush(&mut self, group: u32, step: u64) {
        let group = &mut self.groups[group as usize];
        (group.flushed, group.epoch) = (step, group.epoch + 1);
    }

    /// The step before which no load of the key may have begun whose value is still found.
    pub(super) fn floor(&self, key: &KeyId) -> u64 {
        let flushed = self.groups.get(key.0 as usize).map_or(0, |group| group.flushed);
        flushed.max(self.forgotten.get(key).copied().unwrap_or(0))
    }

    /// A value of a load that began then was answered at first hand, by that one or by one that revalidated it: it may be found until `expires`.
    pub(super) fn keep(&mut self, key: &KeyId, began: u64, expires: Instant) {
        let until = self.may_keep.entry((key.clone(), began)).or_insert(expires);
        *until = expires.max(*until);
    }

    /// Until when a value of a load that began then may be found, where it may be found at all.
    pub(super) fn kept_until(&self, key: &KeyId, began: u64) -> Option<Instant> {
        let until = self.may_keep.get(&(key.clone(), began)).copied();
        until.filter(|_| began > self.floor(key))
    }

    /// The key of `flight` was answered not to exist.
    pub(super) fn miss(&mut self, flight: &Flight, until: Instant) {
        self.may_miss.entry(flight.key.clone()).or_default().insert(flight.began, until);
    }

    /// Whether the key may be known not to exist.
    pub(super) fn is_missing(&self, key: &KeyId, now: Instant) -> bool {
        let after = self.floor(key) + 1;
        self.may_miss
            .get(key)
            .is_some_and(|known| known.range(after..).any(|(_, &until)| super::lives(until, now)))
    }

    pub(super) fn earliest_deadline(&self) -> Option<Instant> {
        self.flights.values().map(|flight| flight.deadline).min()
    }
}

/// A value that tells whose it is and when its load began, `len` bytes long where that is more.
pub(super) fn value_of(key: &KeyId, began: u64, len: usize) -> Vec<u8> {
    let mut value = format!("{began}/{}/{}/", key.0, key.1.escape_ascii()).into_bytes();
    value.resize(value.len().max(len), b'.');
    value
}

/// When the load of a value began, which must be one of `key`.
pub(super) fn began(key: &KeyId, value: &[u8]) -> u64 {
    let text = std::str::from_utf8(value).expect("a value of ours");
    let began = text.split('/').next().and_then(|number| number.parse().ok()).expect("a value of ours");
    assert_eq!(value_of(key, began, value.len()), value, "a value of another key");
    began
}
