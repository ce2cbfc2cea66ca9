//! What users were promised, kept in books: who waits for what, which versions may still be found, which copies may still live.

use std::collections::BTreeMap;

use groupcache_core::{Instant, Ticket};

use super::clock::Time;
use super::origin::Keys;
use super::plan::GROUPS;

/// Somebody who waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub(super) node: usize,
    pub(super) key: u16,
    /// No older version may be the answer.
    pub(super) floor: u32,
    pub(super) ticket: Option<Ticket>,
    /// By the node's clock, when the flight has to be over at the latest.
    pub(super) until: Instant,
    place: usize,
}

/// What is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Key(u16),
    Group(u32),
}

/// A removal under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Removal {
    pub(super) node: usize,
    pub(super) scope: Scope,
    pub(super) version: u32,
    pub(super) began: Time,
}

/// The books.
#[derive(Debug)]
pub(super) struct Ledger {
    next: u64,
    waiters: BTreeMap<u64, Waiter>,
    /// The same, to pick from.
    live: Vec<u64>,
    removals: BTreeMap<u64, Removal>,
    floors: Vec<u32>,
    group_floors: [u32; GROUPS as usize],
    /// The same for hot copies alone.
    hot_floors: Vec<u32>,
    /// Floors of hot copies that hold from a time on, unless rings come apart before.
    later: Vec<(Time, u16, u32)>,
    pub(super) accepted: u64,
    pub(super) completed: u64,
    pub(super) given_back: u64,
    pub(super) lost: u64,
    pub(super) acknowledged: u64,
}

impl Ledger {
    pub(super) fn new(keys: usize) -> Self {
        Self {
            next: 0,
            waiters: BTreeMap::new(),
            live: Vec::new(),
            removals: BTreeMap::new(),
            floors: vec![0; keys],
            group_floors: [0; GROUPS as usize],
            hot_floors: vec![0; keys],
            later: Vec::new(),
            accepted: 0,
            completed: 0,
            given_back: 0,
            lost: 0,
            acknowledged: 0,
        }
    }

    /// A number for a waiter or a removal.
    pub(super) const fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The oldest version of a key that may be the answer to who asks now.
    pub(super) fn floor(&self, key: u16) -> u32 {
        self.floors[usize::from(key)].max(self.group_floors[Keys::group(key).index() as usize])
    }

    pub(super) fn accept(&mut self, id: u64, node: usize, key: u16, floor: u32, until: Instant) {
        self.accepted += 1;
        self.waiters.insert(id, Waiter { node, key, floor, ticket: None, until, place: self.live.len() });
        self.live.push(id);
    }

    /// Notes the ticket of who waits: its completion may have come already.
    pub(super) fn ticket(&mut self, id: u64, ticket: Ticket) {
        if let Some(waiter) = self.waiters.get_mut(&id) {
            waiter.ticket = Some(ticket);
        }
    }

    /// Somebody who waits, by chance.
    pub(super) fn pick(&self, pick: u16) -> Option<(u64, Waiter)> {
        let id = *self.live.get(usize::from(pick) % self.live.len().max(1))?;
        Some((id, self.waiters[&id]))
    }

    fn take(&mut self, id: u64) -> Option<Waiter> {
        let waiter = self.waiters.remove(&id)?;
        self.live.swap_remove(waiter.place);
        if let Some(moved) = self.live.get(waiter.place) {
            self.waiters.get_mut(moved).expect("a live waiter").place = waiter.place;
        }
        Some(waiter)
    }

    /// A waiter is served.
    pub(super) fn complete(&mut self, id: u64, node: usize) -> Result<Waiter, String> {
        let waiter =
            self.take(id).ok_or_else(|| format!("waiter {id} is served twice, or was never there"))?;
        self.completed += 1;
        if waiter.node != node {
            return Err(format!("waiter {id} of node {} is served by node {node}", waiter.node));
        }
        Ok(waiter)
    }

    /// A waiter is given back: its call was refused, answered at once, or cancelled.
    pub(super) fn give_back(&mut self, id: u64) -> Result<Waiter, String> {
        self.given_back += 1;
        self.take(id).ok_or_else(|| format!("waiter {id} is given back, and was never there"))
    }

    pub(super) fn waiters(&self) -> impl Iterator<Item = (u64, &Waiter)> {
        self.waiters.iter().map(|(&id, waiter)| (id, waiter))
    }

    pub(super) fn begin_removal(&mut self, id: u64, removal: Removal) {
        self.removals.insert(id, removal);
    }

    pub(super) fn end_removal(&mut self, id: u64) -> Result<Removal, String> {
        self.removals.remove(&id).ok_or_else(|| format!("removal {id} ends twice, or was never there"))
    }

    pub(super) fn removals(&self) -> impl Iterator<Item = (u64, &Removal)> {
        self.removals.iter().map(|(&id, removal)| (id, removal))
    }

    /// Everybody has forgotten what is older: from now on nobody may find it.
    pub(super) fn raise(&mut self, scope: Scope, version: u32) {
        let floor = match scope {
            Scope::Key(key) => &mut self.floors[usize::from(key)],
            Scope::Group(group) => &mut self.group_floors[group as usize],
        };
        *floor = version.max(*floor);
    }

    /// From `at` on no hot copy is older: the last have run out. What a former owner keeps may be.
    pub(super) fn raise_later(&mut self, at: Time, key: u16, version: u32) {
        self.later.push((at, key, version));
    }

    /// The oldest version of a key of which there may be a hot copy.
    pub(super) fn hot_floor(&self, key: u16) -> u32 {
        self.hot_floors[usize::from(key)]
    }

    /// Raises floors whose time has come.
    pub(super) fn pass(&mut self, now: Time) {
        while let Some(due) = self.later.iter().position(|(at, ..)| *at <= now) {
            let (_, key, version) = self.later.swap_remove(due);
            let floor = &mut self.hot_floors[usize::from(key)];
            *floor = version.max(*floor);
        }
    }

    /// Something happened after which old copies may live longer: promises that were not due yet are off.
    pub(super) fn disturb(&mut self) {
        self.later.clear();
    }

    /// A node is gone, and with it who waited there.
    pub(super) fn lose(&mut self, node: usize) {
        let gone: Vec<u64> =
            self.waiters.iter().filter(|(_, waiter)| waiter.node == node).map(|(&id, _)| id).collect();
        self.lost += gone.len() as u64;
        for id in gone {
            self.take(id);
        }
        self.removals.retain(|_, removal| removal.node != node);
    }

    /// accepted = completed + given back + lost + live.
    pub(super) fn balance(&self) -> Result<(), String> {
        let live = self.waiters.len() as u64;
        if self.accepted != self.completed + self.given_back + self.lost + live
            || live != self.live.len() as u64
        {
            return Err(format!(
                "{} waiters were accepted: {} served, {} given back, {} lost with their nodes, {live} live",
                self.accepted, self.completed, self.given_back, self.lost
            ));
        }
        Ok(())
    }
}
