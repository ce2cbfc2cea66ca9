//! Loads in progress and who waits for them: the de-duplication state, without any decision about where to load from.

use alloc::vec::Vec;

use hashbrown::HashTable;

use crate::canary::{self, Canary};
use crate::error::{ConfigError, LoadError};
use crate::id::{Attempt, FlightId, PeerId, Ticket};
use crate::time::Instant;
use crate::timers::Timers;
use crate::value::{HashedKey, Key};

const NIL: u32 = u32::MAX;

/// Where a flight's current attempt asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Origin,
    Peer(PeerId),
}

/// Which callers may join a flight.
///
/// A load at this node's origin serves everybody. One that waits for a peer must not serve a peer's request: with disagreeing rings, or with a
/// peer known under two addresses, each would wait for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Loads at this node's origin.
    Local,
    /// Waits for a peer.
    Routed,
}

impl Source {
    pub(crate) const fn reach(self) -> Reach {
        match self {
            Self::Origin => Reach::Local,
            Self::Peer(_) => Reach::Routed,
        }
    }
}

/// One load in progress.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) key: Key,
    pub(crate) source: Source,
    pub(crate) attempt: Attempt,
    /// Peers asked so far.
    pub(crate) peers_asked: u8,
    /// Set by a removal: the result serves those who wait already, and enters no cache.
    pub(crate) fenced: bool,
    /// The group's epoch when the load began: a flush in between fences it as well.
    pub(crate) group_epoch: u32,
    /// The longest of the waiters' deadlines, capped.
    pub(crate) deadline: Instant,
    /// No deadline of this flight goes beyond this.
    pub(crate) latest: Instant,
    /// What the peer was told: when it may stop.
    pub(crate) asked_until: Instant,
    first_waiter: u32,
    pub(crate) waiters: u32,
    indexed: bool,
}

/// What it takes to begin a flight.
pub(crate) struct NewFlight {
    pub(crate) key: Key,
    pub(crate) source: Source,
    pub(crate) group_epoch: u32,
    pub(crate) deadline: Instant,
    pub(crate) latest: Instant,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    content: Option<T>,
    next_free: u32,
}

#[derive(Debug)]
struct Waiter<W> {
    waiter: W,
    flight: u32,
    prev: u32,
    next: u32,
}

/// The table of flights and the table of waiters. Both are reserved at their limits in `new`: starting and joining allocate nothing here.
#[derive(Debug)]
pub(crate) struct Flights<W> {
    shard: u16,
    flights: Vec<Slot<Flight>>,
    free_flight: u32,
    live_flights: u32,
    max_flights: u32,
    waiters: Vec<Slot<Waiter<W>>>,
    free_waiter: u32,
    live_waiters: u32,
    max_waiters: u32,
    /// Flights that may be joined, by key. A fenced flight is not among them.
    index: HashTable<u32>,
    timers: Timers,
}

impl<W> Flights<W> {
    pub(crate) fn new(shard: u16, max_flights: u32, max_waiters: u32) -> Result<Self, ConfigError> {
        let (mut flights, mut waiters, mut index) = (Vec::new(), Vec::new(), HashTable::new());
        flights.try_reserve_exact(max_flights as usize).map_err(|_| ConfigError::OutOfMemory)?;
        waiters.try_reserve_exact(max_waiters as usize).map_err(|_| ConfigError::OutOfMemory)?;
        // Twice what it holds: a table more than half full grows when the marks of removed flights have used it up, a roomier one is swept.
        index.try_reserve(2 * max_flights as usize, |_| 0).map_err(|_| ConfigError::OutOfMemory)?;
        Ok(Self {
            shard,
            flights,
            free_flight: NIL,
            live_flights: 0,
            max_flights,
            waiters,
            free_waiter: NIL,
            live_waiters: 0,
            max_waiters,
            index,
            timers: Timers::new(max_flights).map_err(|_| ConfigError::OutOfMemory)?,
        })
    }

    pub(crate) const fn live_flights(&self) -> u32 {
        self.live_flights
    }

    pub(crate) const fn live_waiters(&self) -> u32 {
        self.live_waiters
    }

    pub(crate) fn earliest_deadline(&self) -> Option<Instant> {
        self.timers.earliest()
    }

    /// Takes out a flight whose deadline has passed; its timer is gone, the flight is still there.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<u32> {
        self.timers.pop_due(now)
    }

    /// The flight that a caller of `key` may join.
    pub(crate) fn find(&self, key: &HashedKey<'_>, reach: Reach, group_epoch: u32) -> Option<u32> {
        self.index
            .find(key.hash(), |&slot| {
                self.get(slot).is_some_and(|flight| {
                    flight.source.reach() == reach
                        && (flight.group_epoch == group_epoch || canary::is(Canary::JoinedBehindFlush))
                        && flight.key.group() == key.group()
                        && flight.key.as_bytes() == key.as_bytes()
                })
            })
            .copied()
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&Flight> {
        self.flights.get(slot as usize)?.content.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut Flight> {
        self.flights.get_mut(slot as usize)?.content.as_mut()
    }

    /// The slot of a flight that still lives.
    pub(crate) fn resolve(&self, id: FlightId) -> Option<u32> {
        let slot = self.flights.get(id.slot() as usize)?;
        let same = slot.generation == id.generation() || canary::is(Canary::FlightGenerationIgnored);
        (id.shard() == self.shard && same && slot.content.is_some()).then_some(id.slot())
    }

    pub(crate) fn id(&self, slot: u32) -> FlightId {
        FlightId::new(slot, self.flights[slot as usize].generation, self.shard)
    }

    /// Whether one more flight, and one more waiter of the flight at `slot` if there is one, would fit.
    pub(crate) const fn check_room(&self, joining: bool) -> Result<(), LoadError> {
        if !joining && self.live_flights >= self.max_flights {
            return Err(LoadError::FlightsFull { max: self.max_flights });
        }
        if self.live_waiters >= self.max_waiters {
            return Err(LoadError::WaitersFull { max: self.max_waiters });
        }
        Ok(())
    }

    /// Begins a flight that nobody waits for yet. The caller has checked for room.
    pub(crate) fn begin(&mut self, new: NewFlight) -> u32 {
        let NewFlight { key, source, group_epoch, deadline, latest } = new;
        let flight = Flight {
            key,
            source,
            attempt: Attempt::default(),
            peers_asked: 0,
            fenced: false,
            group_epoch,
            deadline,
            latest,
            asked_until: deadline,
            first_waiter: NIL,
            waiters: 0,
            indexed: false,
        };
        let slot = occupy(&mut self.flights, &mut self.free_flight, flight);
        self.live_flights += 1;
        self.timers.set(slot, deadline);
        self.add_to_index(slot);
        slot
    }

    /// Adds a waiter to a flight, and extends the flight's deadline to the waiter's. The caller has checked for room.
    pub(crate) fn join(&mut self, flight: u32, waiter: W, deadline: Instant) -> Ticket {
        let slot = occupy(
            &mut self.waiters,
            &mut self.free_waiter,
            Waiter { waiter, flight: NIL, prev: NIL, next: NIL },
        );
        self.live_waiters += 1;
        self.link_waiter(flight, slot);
        self.extend(flight, deadline);
        Ticket::new(slot, self.waiters[slot as usize].generation, self.shard)
    }

    fn extend(&mut self, slot: u32, deadline: Instant) {
        if let Some(flight) = self.get_mut(slot) {
            let deadline = deadline.min(flight.latest);
            if deadline > flight.deadline && !canary::is(Canary::DeadlineOfFirstWaiter) {
                flight.deadline = deadline;
                self.timers.set(slot, deadline);
            }
        }
    }

    /// Takes a waiter back. Answers it and the slot of the flight it waited for.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Option<(W, u32)> {
        let slot = self.waiters.get(ticket.slot() as usize)?;
        let same = slot.generation == ticket.generation() || canary::is(Canary::TicketGenerationIgnored);
        if ticket.shard() != self.shard || !same || slot.content.is_none() {
            return None;
        }
        let flight = self.unlink_waiter(ticket.slot());
        let content = vacate(&mut self.waiters, &mut self.free_waiter, ticket.slot())?;
        self.live_waiters -= 1;
        Some((content.waiter, flight))
    }

    /// Takes out the next waiter of a flight, newest first.
    pub(crate) fn pop_waiter(&mut self, flight: u32) -> Option<W> {
        let first = self.get(flight)?.first_waiter;
        if first == NIL {
            return None;
        }
        self.unlink_waiter(first);
        let content = vacate(&mut self.waiters, &mut self.free_waiter, first)?;
        self.live_waiters -= 1;
        Some(content.waiter)
    }

    /// Moves all waiters of one flight to another. O(waiters moved).
    pub(crate) fn move_waiters(&mut self, from: u32, to: u32) {
        let Some(deadline) = self.get(from).map(|flight| flight.deadline) else { return };
        while let Some(first) = self.get(from).map(|flight| flight.first_waiter).filter(|&first| first != NIL)
        {
            self.unlink_waiter(first);
            self.link_waiter(to, first);
        }
        self.extend(to, deadline);
    }

    /// Ends a flight whose waiters have all been taken out.
    pub(crate) fn end(&mut self, slot: u32) -> Option<Flight> {
        self.remove_from_index(slot);
        self.timers.cancel(slot);
        let flight = vacate(&mut self.flights, &mut self.free_flight, slot)?;
        self.live_flights -= 1;
        Some(flight)
    }

    /// Marks a flight as fenced: nobody joins it any more, and its result will not be kept.
    pub(crate) fn fence(&mut self, slot: u32) {
        self.remove_from_index(slot);
        if let Some(flight) = self.get_mut(slot) {
            flight.fenced = true;
        }
    }

    /// Turns a flight to another source, as its next attempt.
    pub(crate) fn redirect(&mut self, slot: u32, source: Source) {
        if let Some(flight) = self.get_mut(slot) {
            flight.source = source;
            flight.attempt = flight.attempt.next();
        }
    }

    /// Some flight that still lives, at or behind `from`: how a shutdown walks the table.
    pub(crate) fn any_from(&self, from: u32) -> Option<u32> {
        (from..self.flights.len() as u32).find(|&slot| self.get(slot).is_some())
    }

    /// The flights that live. O(the most that there ever were at once).
    pub(crate) fn all(&self) -> impl Iterator<Item = &Flight> {
        self.flights.iter().filter_map(|slot| slot.content.as_ref())
    }

    fn add_to_index(&mut self, slot: u32) {
        let Self { index, flights, .. } = self;
        let Some(flight) = flights[slot as usize].content.as_mut() else { return };
        flight.indexed = true;
        let hash = flight.key.hash();
        index.insert_unique(hash, slot, |&slot| {
            flights[slot as usize].content.as_ref().map_or(0, |flight| flight.key.hash())
        });
    }

    fn remove_from_index(&mut self, slot: u32) {
        let Some(flight) = self.get_mut(slot) else { return };
        if core::mem::take(&mut flight.indexed) {
            let hash = flight.key.hash();
            if let Ok(entry) = self.index.find_entry(hash, |&other| other == slot) {
                entry.remove();
            }
        }
    }

    fn link_waiter(&mut self, flight: u32, waiter: u32) {
        let Some(content) = self.flights[flight as usize].content.as_mut() else { return };
        let next = core::mem::replace(&mut content.first_waiter, waiter);
        content.waiters += 1;
        if let Some(node) = self.waiters[waiter as usize].content.as_mut() {
            (node.flight, node.prev, node.next) = (flight, NIL, next);
        }
        if next != NIL {
            if let Some(node) = self.waiters[next as usize].content.as_mut() {
                node.prev = waiter;
            }
        }
    }

    fn unlink_waiter(&mut self, waiter: u32) -> u32 {
        let Some(node) = self.waiters[waiter as usize].content.as_ref() else { return NIL };
        let (flight, prev, next) = (node.flight, node.prev, node.next);
        if next != NIL {
            if let Some(node) = self.waiters[next as usize].content.as_mut() {
                node.prev = prev;
            }
        }
        if prev != NIL {
            if let Some(node) = self.waiters[prev as usize].content.as_mut() {
                node.next = next;
            }
        }
        if let Some(content) = self.flights[flight as usize].content.as_mut() {
            content.waiters -= 1;
            if content.first_waiter == waiter {
                content.first_waiter = next;
            }
        }
        flight
    }

    #[cfg(any(test, feature = "__invariants"))]
    pub(crate) fn check_invariants(&self) -> Result<(), alloc::string::String> {
        use alloc::format;
        self.timers.check_invariants()?;
        let (mut flights, mut waiters, mut indexed) = (0, 0, 0);
        for (slot, flight) in self.flights.iter().enumerate() {
            let Some(flight) = &flight.content else { continue };
            flights += 1;
            indexed += usize::from(flight.indexed);
            if !self.timers.is_set(slot as u32) {
                return Err(format!("flight {slot} has no deadline"));
            }
            if flight.indexed == flight.fenced {
                return Err(format!(
                    "flight {slot}: fenced is {}, indexed is {}",
                    flight.fenced, flight.indexed
                ));
            }
            let (mut count, mut at, mut prev) = (0, flight.first_waiter, NIL);
            while at != NIL {
                let Some(node) = &self.waiters[at as usize].content else {
                    return Err(format!("flight {slot} lists a waiter that is not there"));
                };
                if node.flight != slot as u32 || node.prev != prev {
                    return Err(format!("waiter {at} is linked wrongly"));
                }
                (prev, at) = (at, node.next);
                count += 1;
            }
            if count != flight.waiters {
                return Err(format!("flight {slot} counts {} waiters and has {count}", flight.waiters));
            }
            waiters += count;
        }
        let free = |generation_slots: usize, live: u32| generation_slots.checked_sub(live as usize).is_some();
        if flights != self.live_flights || !free(self.flights.len(), self.live_flights) {
            return Err(format!("{flights} flights live, {} counted", self.live_flights));
        }
        if waiters != self.live_waiters || !free(self.waiters.len(), self.live_waiters) {
            return Err(format!("{waiters} waiters linked, {} counted", self.live_waiters));
        }
        if indexed != self.index.len() {
            return Err(format!("{indexed} flights say they are indexed, {} are", self.index.len()));
        }
        Ok(())
    }
}

/// Puts `content` in a free slot, or in a new one: within the capacity that `new` reserved, since the caller has checked the limit.
fn occupy<T>(slots: &mut Vec<Slot<T>>, free: &mut u32, content: T) -> u32 {
    if *free == NIL {
        slots.push(Slot { generation: 0, content: Some(content), next_free: NIL });
        return (slots.len() - 1) as u32;
    }
    let index = *free;
    let slot = &mut slots[index as usize];
    *free = slot.next_free;
    slot.content = Some(content);
    index
}

/// Empties a slot; its generation moves on, so that ids of what was there are stale.
fn vacate<T>(slots: &mut [Slot<T>], free: &mut u32, index: u32) -> Option<T> {
    let slot = &mut slots[index as usize];
    let content = slot.content.take()?;
    slot.generation = slot.generation.wrapping_add(1);
    slot.next_free = *free;
    *free = index;
    Some(content)
}
