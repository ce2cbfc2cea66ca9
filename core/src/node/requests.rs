//! Requests of peers that are being served: which keys are still open, and what is ready to be sent.

use alloc::vec::Vec;

use crate::error::LoadError;
use crate::id::{RequestId, Ticket};
use crate::shard::Answer;

/// The table of requests in progress.
#[derive(Debug)]
pub(super) struct Requests {
    slots: Vec<Slot>,
    max: u32,
    /// Requests with something to send.
    dirty: Vec<u32>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    request: Option<Request>,
}

#[derive(Debug)]
struct Request {
    /// By index; `None` where the key does not wait.
    tickets: Vec<Option<Ticket>>,
    open: usize,
    ready: Vec<(u32, Answer)>,
}

impl Requests {
    pub(super) const fn new(max: u32) -> Self {
        Self { slots: Vec::new(), max, dirty: Vec::new() }
    }

    /// Begins a request for `keys` keys. A reply is due at once, though it may be empty: it tells the peer that the request is taken.
    pub(super) fn begin(&mut self, keys: usize) -> Result<RequestId, LoadError> {
        let free = self.slots.iter().position(|slot| slot.request.is_none());
        let index = match free {
            Some(index) => index,
            None if self.slots.len() >= self.max as usize => {
                return Err(LoadError::RequestsFull { max: self.max });
            }
            None => {
                self.slots.push(Slot { generation: 0, request: None });
                self.slots.len() - 1
            }
        };
        let slot = &mut self.slots[index];
        slot.request = Some(Request { tickets: alloc::vec![None; keys], open: keys, ready: Vec::new() });
        self.dirty.push(index as u32);
        Ok(RequestId::new(index as u32, slot.generation))
    }

    pub(super) fn wait(&mut self, id: RequestId, index: u32, ticket: Ticket) {
        if let Some(slot) = self.get(id).and_then(|request| request.tickets.get_mut(index as usize)) {
            *slot = Some(ticket);
        }
    }

    pub(super) fn answer(&mut self, id: RequestId, index: u32, answer: Answer) {
        let Some(request) = self.get(id) else { return };
        if let Some(ticket) = request.tickets.get_mut(index as usize) {
            *ticket = None;
        }
        request.ready.push((index, answer));
        request.open = request.open.saturating_sub(1);
        if !self.dirty.contains(&id.slot()) {
            self.dirty.push(id.slot());
        }
    }

    /// Ends a request; answers the tickets that still wait.
    pub(super) fn cancel(&mut self, id: RequestId) -> Option<Vec<Ticket>> {
        self.get(id)?;
        let request = self.end(id.slot())?;
        Some(request.tickets.into_iter().flatten().collect())
    }

    /// Hands out what is ready, a reply for each request; ends those that are complete.
    pub(super) fn take_replies(&mut self, mut reply: impl FnMut(RequestId, Vec<(u32, Answer)>, bool)) {
        for slot_index in core::mem::take(&mut self.dirty) {
            let slot = &mut self.slots[slot_index as usize];
            let id = RequestId::new(slot_index, slot.generation);
            let Some(request) = slot.request.as_mut() else { continue };
            let (results, last) = (core::mem::take(&mut request.ready), request.open == 0);
            reply(id, results, last);
            if last {
                self.end(slot_index);
            }
        }
    }

    fn get(&mut self, id: RequestId) -> Option<&mut Request> {
        let slot = self.slots.get_mut(id.slot() as usize)?;
        if slot.generation == id.generation() { slot.request.as_mut() } else { None }
    }

    fn end(&mut self, index: u32) -> Option<Request> {
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        slot.request.take()
    }
}
