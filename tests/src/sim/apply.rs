//! Carries out operations. One that makes no sense where it stands does nothing: leaving others out must not make a trace invalid.

use std::time::Duration;

use groupcache_core::{
    BatchEnd, Disposition, Effects, GroupId, HashedKey, LoadRequest, Outcome, PeerId, RequestKey, Route,
    Value,
};

use super::clock::{MS, Time};
use super::event::{Event, Fact, Local};
use super::host::State;
use super::ledger::Scope;
use super::op::Op;
use super::plan::GROUPS;
use super::world::World;

impl World {
    /// Carries out one operation.
    pub(super) fn apply(&mut self, op: Op) {
        self.steps += 1;
        self.coverage.op(op.kind());
        self.trace.note(&[50, op.kind() as u64]);
        self.trace.line(self.now, None, || format!("{op:?}"));
        let index = |node: u8| usize::from(node) % self.hosts.len();
        match op {
            Op::Pass(time) => self.run_for(time),
            Op::Get { node, key, patience } => self.get_at(index(node), self.a_key(key), patience),
            Op::Burst { key, callers } => self.burst(self.a_key(key), callers),
            Op::Cancel { pick } => self.cancel(pick),
            Op::Remove { node, key } => self.remove_at(index(node), Scope::Key(self.a_key(key))),
            Op::Bump { key } => {
                let key = self.a_key(key);
                self.origin.bump(key);
            }
            Op::Flush { node, group } => self.remove_at(index(node), Scope::Group(u32::from(group) % GROUPS)),
            Op::Crash { node, silent } => {
                if self.hosts[index(node)].is_up() {
                    self.end_process(index(node), silent);
                }
            }
            Op::Restart { node } => {
                if !self.hosts[index(node)].is_up() {
                    self.restart(index(node));
                }
            }
            Op::Stop { node } => self.stop(index(node)),
            Op::Pause { node, time } => self.pause(index(node), time),
            Op::Jump { node, by } => self.jump(index(node), by),
            Op::Partition { nodes, both, etcd } => self.part(nodes, both, etcd),
            Op::Heal => {
                let held = self.network.heal();
                self.release(held);
            }
            Op::Clog { from, to, time } => {
                let ends = self.hosts.len() + 1;
                let (from, to) = (usize::from(from) % ends, usize::from(to) % ends);
                self.network.clog(from, to);
                self.schedule(self.now + time, Event::Unclog { from, to });
            }
            Op::Weather { loss, doubled, broken } => {
                self.network.weather = self.network.weather.turned(loss, doubled, broken);
            }
            Op::Break { pick } => self.break_conn(pick),
            Op::Etcd(op) => self.change_etcd(op),
            Op::Origin { fails, hangs, slow } => {
                (self.origin.plan.fails, self.origin.plan.hangs) = (fails, hangs);
                self.origin.plan.delay.1 = if slow { 1_000 * MS } else { self.plan.origin.delay.1 };
            }
            Op::Echo { pick } => self.echo(pick),
            Op::Strange { node, what, pick } => {
                if self.hosts[index(node)].is_running() {
                    self.strange(index(node), what, pick);
                }
            }
        }
    }

    /// A key's number, whatever an operation says.
    fn a_key(&self, key: u16) -> u16 {
        key % self.keys.len() as u16
    }

    fn get_at(&mut self, index: usize, key: u16, patience: Time) {
        if self.hosts[index].is_running() {
            self.get(index, key, patience);
        }
    }

    fn burst(&mut self, key: u16, callers: u8) {
        for _ in 0..callers {
            for index in 0..self.hosts.len() {
                self.get_at(index, key, 60_000 * MS);
            }
        }
    }

    fn cancel(&mut self, pick: u16) {
        let Some((id, waiter)) = self.ledger.pick(pick) else { return };
        let Some(ticket) = waiter.ticket.filter(|_| self.hosts[waiter.node].is_running()) else { return };
        let back = self.turn(waiter.node, |node, now, out| node.cancel(now, ticket, out));
        self.check(back == Some(id), || format!("waiter {id} leaves, and {back:?} is given back"));
        let given_back = self.ledger.give_back(id);
        self.checked(given_back);
        let again = self.turn(waiter.node, |node, now, out| node.cancel(now, ticket, out));
        self.check(again.is_none(), || format!("waiter {id} leaves twice"));
    }

    fn remove_at(&mut self, index: usize, scope: Scope) {
        if self.hosts[index].is_running() && !self.hosts[index].is_stopping {
            self.remove(index, scope);
        }
    }

    /// A process is gone at once, and what it knew.
    pub(super) fn end_process(&mut self, index: usize, silent: bool) {
        self.close_all(index, silent);
        let host = &mut self.hosts[index];
        host.state = State::Down { silent };
        host.due = None;
        host.forget();
        self.ledger.lose(index);
        self.look_at_rings(None);
    }

    /// A process begins where there is none.
    pub(super) fn restart(&mut self, index: usize) {
        let seed = self.random.next();
        self.hosts[index].restart(&self.plan, seed, self.now);
        self.rings.agreed_since = None;
        self.turn(index, |node, now, out| node.start(now, out));
        self.look_at_rings(None);
    }

    /// A process leaves: it deregisters, waits for a while, and ends.
    fn stop(&mut self, index: usize) {
        if self.hosts[index].is_running() && !self.hosts[index].is_stopping {
            self.hosts[index].is_stopping = true;
            self.turn(index, |node, now, out| node.stop(now, out));
            self.go_away(index);
            let drain = 1 + self.random.below(5_000 * MS);
            self.later(index, drain, Local::Drained);
        }
    }

    fn pause(&mut self, index: usize, time: Time) {
        let host = &mut self.hosts[index];
        if host.is_running() {
            host.state = State::Paused;
            let life = host.life;
            self.unsettle();
            self.schedule(self.now + time, Event::Resume { node: index, life });
        }
    }

    fn jump(&mut self, index: usize, by: i64) {
        let now = self.now;
        let host = &mut self.hosts[index];
        // Readings up to here are taken: only then is it known whether the clock is behind.
        host.clock.read(now);
        if host.is_running() && host.clock.jump(now, by) {
            self.unsettle();
            let host = &mut self.hosts[index];
            host.clock.read(now);
            host.loads.hold_fences(host.clock.latest());
            host.due = match host.node.next_wake() {
                groupcache_core::Wake::At(at) => host.clock.when(now, at),
                groupcache_core::Wake::Now => Some(now),
                groupcache_core::Wake::Idle => None,
            };
        }
    }

    /// Something that makes copies live longer than they should by the world's clock.
    pub(super) fn unsettle(&mut self) {
        self.steady_since = self.now;
        self.ledger.disturb();
    }

    /// Parts the network: the named nodes on one side, everybody else on the other.
    fn part(&mut self, nodes: u16, both: bool, etcd: bool) {
        let ends = self.hosts.len();
        let is_named = |end: usize| if end == ends { etcd } else { nodes & (1 << end) != 0 };
        for from in 0..=ends {
            for to in 0..=ends {
                if is_named(from) && !is_named(to) {
                    self.network.cut(from, to);
                    if both {
                        self.network.cut(to, from);
                    }
                }
            }
        }
    }

    /// Something that a node was told comes again.
    fn echo(&mut self, pick: u16) {
        let Some((index, life, fact)) = self.told.get(usize::from(pick) % self.told.len().max(1)).cloned()
        else {
            return;
        };
        let host = &self.hosts[index];
        if !host.is_running() || host.life != life {
            return;
        }
        self.trace.line(self.now, Some(index), || format!("hears again {fact:?}"));
        let before = host.node.usage();
        let completed = self.ledger.completed;
        let is_used_up = fact.is_used_up();
        let is_reply = matches!(fact, Fact::Replies(..));
        self.note_fences(index, &fact);
        let disposition = self.hand(index, fact);
        let after = self.hosts[index].node.usage();
        if is_used_up || is_reply {
            self.check(before == after && completed == self.ledger.completed, || {
                format!("node {index} held {before:?}, heard something again, and holds {after:?}")
            });
        }
        self.check(!is_used_up || disposition == Disposition::Stale, || {
            format!("node {index} takes for news what it has heard before")
        });
    }

    /// What nobody in their right mind would tell or ask a node.
    fn strange(&mut self, index: usize, what: u8, pick: u16) {
        let nobody = PeerId::new(u32::from(pick) + 100);
        let keys = std::sync::Arc::clone(&self.keys);
        let key = keys.hashed(pick % keys.len() as u16);
        let foreign = HashedKey::new(GroupId::new(77), b"nothing", u64::from(pick));
        match what {
            0 => {
                // No keys, and a key of no group.
                let no_group = [RequestKey::new(None, groupcache_core::Instant::MAX)];
                for keys in [&no_group[..0], &no_group[..]] {
                    self.ask_and_drop(index, keys);
                }
            }
            1 => {
                let now = self.hosts[index].clock.latest();
                let past = now.saturating_sub(Duration::from_nanos(1));
                let asked = [RequestKey::new(Some(key), past), RequestKey::new(Some(key), now)];
                self.ask_and_drop(index, &asked);
            }
            2 => {
                let disposition = self.hand(index, Fact::Seen(nobody));
                self.check(disposition == Disposition::Stale, || {
                    format!("node {index} knows a peer that is not there")
                });
            }
            3 => {
                // A peer that shows itself, known or not.
                let peer = PeerId::new(u32::from(pick) % MAX_PEERS);
                self.hand(index, Fact::Seen(peer));
            }
            4 => {
                let Some((_, _, Fact::Replies(peer, batch, _) | Fact::Closed(peer, batch, _))) =
                    self.told.last()
                else {
                    return;
                };
                // Answers to keys that were never in the batch.
                let value = Value::from(&b"nothing"[..]);
                let reply = (u32::MAX - u32::from(pick), Outcome::Value { value, ttl: None });
                self.hand(index, Fact::Replies(*peer, *batch, vec![reply]));
            }
            5 => {
                let id = self.ledger.number();
                let before = self.hosts[index].node.usage();
                let refused = self.turn(index, |node, now, out| {
                    let deadline = now.saturating_add(Duration::from_secs(1));
                    node.load(now, LoadRequest::new(foreign, id, deadline).route(Route::LocalOnly), out)
                        .is_err()
                });
                let after = self.hosts[index].node.usage();
                self.check(refused && before == after, || format!("node {index} loads a key of no group"));
            }
            6 => {
                let asked = [RequestKey::new(Some(foreign), groupcache_core::Instant::MAX)];
                self.ask_and_drop(index, &asked);
            }
            7 => self.turn(index, |node, now, out| {
                // Too early, and once more.
                let _wake = node.handle_timeout(now, out);
                let _wake = node.handle_timeout(now, out);
            }),
            8 if !self.hosts[index].is_stopping => self.turn(index, |node, now, out| node.start(now, out)),
            _ => {
                let Some((_, _, Fact::Closed(peer, batch, _))) = self.told.first() else { return };
                let (peer, batch) = (*peer, *batch);
                if self.hosts[index].dialled.is_empty() {
                    self.hand(index, Fact::Closed(peer, batch, BatchEnd::Complete));
                }
            }
        }
    }

    /// Asks as a peer would, and goes away before there is an answer.
    fn ask_and_drop(&mut self, index: usize, keys: &[RequestKey<'_>]) {
        let now = self.hosts[index].clock.read(self.now);
        self.with_effects(|world, out: &mut Effects<u64>| {
            let node = &mut world.hosts[index].node;
            let taken = node.handle_request(now, keys, out);
            let mut is_over = false;
            let intents: Vec<_> = out.drain_intents().collect();
            for intent in intents {
                match intent {
                    groupcache_core::Intent::Reply { last, .. } => is_over |= last,
                    other => world.execute(index, other),
                }
            }
            if let Ok(request) = taken {
                let node = &mut world.hosts[index].node;
                let disposition = node.handle_request_cancelled(now, request, out);
                world.check((disposition == Disposition::Stale) == is_over, || {
                    format!("node {index} answers for {request:?}, over: {is_over}, with {disposition:?}")
                });
            }
            world.carry_out(index, out);
        });
    }
}

/// More than any node has: some of these peers are there.
const MAX_PEERS: u32 = 14;
