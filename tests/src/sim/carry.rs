//! Carries out what nodes ask for, and hands them what comes of it.

use std::time::Duration;

use groupcache_core::{
    Batch, BatchEnd, BatchId, Disposition, Failure, Fetched, Instant, Intent, Invalidation, Key, Outcome,
    Protocol, RequestId, RequestKey, Value, Wake,
};

use super::clock::Time;
use super::event::{ConnId, Event, Fact, Local, Message, disposition_code};
use super::host::{Kept, Served, State};
use super::ledger::Scope;
use super::origin::{Keys, ReadId, Reply};
use super::plan::GROUPS;
use super::transport::CallId;
use super::world::World;

/// How much of what was told is kept, to be told again.
const ECHOES: usize = 64;

impl World {
    /// Carries out one intent. Never calls the node: what comes at once comes as an event of its own.
    pub(super) fn execute(&mut self, index: usize, intent: Intent) {
        self.stirs += u64::from(!matches!(intent, Intent::Registry(_)));
        self.trace.line(self.now, Some(index), || format!("wants {intent:?}"));
        match intent {
            Intent::Load { flight, attempt, key, deadline, stale } => {
                self.trace.note(&[1, u64::from(attempt.index()), deadline.as_nanos()]);
                self.load(index, (flight, attempt), (&key, stale), deadline);
            }
            Intent::AbortLoad { flight } => {
                self.trace.note(&[2]);
                self.hosts[index].loads.end(flight);
            }
            Intent::Fetch(batch) => self.fetch(index, batch),
            Intent::AbortFetch { peer, batch } => {
                self.trace.note(&[4, u64::from(peer.index()), batch.sequence()]);
                if let Some(conn) = self.conn_of(index, peer, CallId::Fetch(batch)) {
                    self.send(conn, true, Message::Cancel { batch });
                    self.end_call(conn, CallId::Fetch(batch));
                }
            }
            Intent::Reply { request, results, last } => self.reply(index, request, results, last),
            Intent::Invalidate { removal, peer, what, deadline } => {
                self.trace.note(&[6, u64::from(peer.index()), deadline.as_nanos()]);
                let Some(&conn) = self.hosts[index].connections.get(&peer) else {
                    return self.later(index, 0, Local::NotTold { peer, removal });
                };
                self.open_call(conn, CallId::Forget(removal));
                self.send(conn, true, Message::Forget { removal, what });
                let at = self.when(index, deadline);
                self.later(index, at - self.now, Local::ForgetLimit { conn, removal });
            }
            Intent::Connect { peer, dial, name } => {
                self.trace.note(&[7, u64::from(peer.index()), dial.sequence()]);
                self.dial(index, (peer, dial), &name);
            }
            Intent::Forget { peer } => {
                self.trace.note(&[8, u64::from(peer.index())]);
                self.drop_peer(index, peer);
            }
            Intent::Registry(intent) => self.ask_registry(index, intent),
        }
    }

    fn load(
        &mut self,
        index: usize,
        (flight, attempt): (groupcache_core::FlightId, groupcache_core::Attempt),
        (key, stale): (&Key, Option<Value>),
        deadline: Instant,
    ) {
        let Some(number) = self.keys.number(key.as_bytes()) else {
            return self.fail(|| format!("node {index} loads {key:?}, which nobody asked for"));
        };
        let host = &self.hosts[index];
        let lately = host.clock.latest().saturating_sub(host.config.shard.load_timeout);
        let waited = attempt.index() > 0 && host.loads.fenced_at(number).is_some_and(|at| at >= lately);
        let removing = waited || self.is_removing(index, number);
        let alone = self.hosts[index].loads.begin(flight, number, removing);
        self.check(alone, || format!("node {index} loads key {number} twice at once"));
        let limit = self.when(index, deadline) - self.now;
        let (time, outcome) = match self.origin.load(number, stale.as_ref(), &mut self.random) {
            Reply::After(time, outcome) if time < limit => (time, outcome),
            // Nobody wants it any more by then, and the executor says so.
            Reply::After(..) | Reply::Never => {
                (limit, Outcome::Failed(Failure::new(groupcache_core::FailureKind::Deadline)))
            }
        };
        let unchanged = matches!(&outcome, Outcome::Value { value, .. } if stale.as_ref() == Some(value));
        self.coverage.count("values found unchanged", u64::from(unchanged));
        self.later(index, time, Local::Loaded { flight, attempt, outcome });
    }

    fn fetch(&mut self, index: usize, batch: Batch) {
        let Batch { peer, batch, dial, protocol, items, deadline, .. } = batch;
        self.trace.note(&[3, u64::from(peer.index()), batch.sequence(), items.len() as u64]);
        for item in &items {
            let asked = self
                .keys
                .number(item.key.as_bytes())
                .is_some_and(|key| self.hosts[index].asked.contains(&key));
            self.check(asked, || {
                format!("node {index} fetches {:?}, which only peers have asked for", item.key)
            });
        }
        let current = self.hosts[index].connections.get(&peer).copied();
        let Some(conn) = current.filter(|&conn| self.conns[conn as usize].dial == dial) else {
            return self.later(index, 0, Local::NotSent { peer, batch });
        };
        let single = protocol == Protocol::Single;
        self.check(!single || items.len() == 1, || format!("{} keys in a call for one", items.len()));
        let now = self.hosts[index].clock.latest();
        let left = |deadline: Instant| deadline.saturating_since(now).as_nanos() as Time;
        let limit = left(deadline);
        let items = items.into_iter().map(|item| (item.key, left(item.deadline))).collect();
        self.open_call(conn, CallId::Fetch(batch));
        self.send(conn, true, Message::Request { batch, single, items });
        self.later(index, limit, Local::FetchLimit { conn, batch });
    }

    /// A node serves a peer, and asks no peer for it.
    pub(super) fn serve(
        &mut self,
        index: usize,
        conn: ConnId,
        (batch, single): (BatchId, bool),
        items: &[(Key, Time)],
    ) {
        if !single && self.plan.single & (1 << index) != 0 {
            return self.send(conn, false, Message::End { batch, end: BatchEnd::Unimplemented });
        }
        self.trace.line(self.now, Some(index), || format!("is asked by a peer: {batch:?} {items:?}"));
        let host = &mut self.hosts[index];
        let now = host.clock.read(self.now);
        let deadline = |left: Time| host.clock.latest().saturating_add(Duration::from_nanos(left));
        let keys: Vec<RequestKey<'_>> =
            items.iter().map(|(key, left)| RequestKey::new(Some(key.as_hashed()), deadline(*left))).collect();
        self.with_effects(|world, out| {
            let taken = world.hosts[index].node.handle_request(now, &keys, out);
            match taken {
                Ok(request) => {
                    world.hosts[index].served.insert(request, Served { conn, batch, single });
                }
                Err(_) => world.send(conn, false, Message::End { batch, end: BatchEnd::Failed(None) }),
            }
            let intents: Vec<Intent> = out.drain_intents().collect();
            let forwards = intents.iter().any(|intent| matches!(intent, Intent::Fetch(_)));
            world.check(!forwards, || format!("node {index} passes a peer's request on"));
            for intent in intents {
                world.execute(index, intent);
            }
            world.carry_out(index, out);
        });
    }

    fn reply(
        &mut self,
        index: usize,
        request: RequestId,
        results: Vec<(u32, Result<Fetched, Failure>)>,
        last: bool,
    ) {
        self.trace.note(&[5, results.len() as u64, u64::from(last)]);
        let Some(&served) = self.hosts[index].served.get(&request) else {
            return self
                .fail(|| format!("node {index} answers {request:?}, which was never asked or is over"));
        };
        if last {
            self.hosts[index].served.remove(&request);
        }
        let Served { conn, batch, single } = served;
        if self.random.happens(self.network.weather.broken) {
            self.coverage.count("streams broken", 1);
            self.send(conn, false, Message::End { batch, end: BatchEnd::Failed(None) });
            if !last {
                // The other direction is over as well.
                self.send(conn, true, Message::Cancel { batch });
            }
            return;
        }
        let now = self.hosts[index].clock.latest();
        let outcome = |result: Result<Fetched, Failure>| match result {
            Ok(Fetched { value, expires, .. }) => {
                let ttl = (expires != Instant::MAX && !single).then(|| expires.saturating_since(now));
                Outcome::Value { value, ttl }
            }
            Err(failure) => Outcome::from_peer(failure),
        };
        let mut replies: Vec<(u32, Outcome)> =
            results.into_iter().map(|(index, result)| (index, outcome(result))).collect();
        if single {
            // One call, one answer; that it was taken shows in the headers, or does not.
            let message = match replies.pop() {
                None if self.random.below(2) == 0 => return,
                None => Message::Replies { batch, replies, last: false },
                Some((_, Outcome::Unreachable(cause))) => {
                    Message::End { batch, end: BatchEnd::Failed(cause) }
                }
                Some(reply) => Message::Replies { batch, replies: vec![reply], last: true },
            };
            return self.send(conn, false, message);
        }
        if replies.len() > 1 && self.random.below(4) == 0 {
            let rest = replies.split_off(replies.len() / 2);
            self.send(conn, false, Message::Replies { batch, replies, last: false });
            replies = rest;
        }
        self.send(conn, false, Message::Replies { batch, replies, last });
    }

    /// Gives up requests that nobody waits for any more.
    pub(super) fn cancel_served(&mut self, index: usize, is_over: impl Fn(&Served) -> bool) {
        let over: Vec<RequestId> = self.hosts[index]
            .served
            .iter()
            .filter(|(_, served)| is_over(served))
            .map(|(&id, _)| id)
            .collect();
        for request in over {
            self.hosts[index].served.remove(&request);
            self.tell(index, Fact::RequestCancelled(request));
        }
    }

    /// Something within a process.
    pub(super) fn happen_locally(&mut self, index: usize, what: Local) {
        match what {
            Local::Loaded { flight, attempt, outcome } => {
                if self.hosts[index].loads.end(flight) || self.random.happens(self.plan.late) {
                    self.tell(index, Fact::Loaded(flight, attempt, outcome));
                }
            }
            Local::DialLimit { conn } => self.dial_limit(conn),
            Local::KeepAlive { conn } => self.keep_alive(conn),
            Local::FetchLimit { conn, batch } => {
                if self.end_call(conn, CallId::Fetch(batch)) {
                    self.send(conn, true, Message::Cancel { batch });
                    let peer = self.conns[conn as usize].peer;
                    self.tell(index, Fact::Closed(peer, batch, BatchEnd::Failed(None)));
                }
            }
            Local::ForgetLimit { conn, removal } => {
                if self.end_call(conn, CallId::Forget(removal)) {
                    let peer = self.conns[conn as usize].peer;
                    self.tell(index, Fact::Invalidated(removal, peer, false));
                }
            }
            Local::NotSent { peer, batch } => {
                self.tell(index, Fact::Closed(peer, batch, BatchEnd::Failed(None)));
            }
            Local::NotTold { peer, removal } => {
                self.tell(index, Fact::Invalidated(removal, peer, false));
            }
            Local::RegistryLimit { call } => self.registry_limit(index, call),
            Local::WatchLimit { op } => self.watch_limit(index, op),
            Local::Drained => self.shut_down(index),
        }
    }

    /// What happens, happens: to who is there, and later to who stands still.
    pub(super) fn happen(&mut self, event: Event) {
        match event {
            Event::Wire { conn, to_server, message } => self.arrive(conn, to_server, message),
            Event::Ask(ask) => self.ask_etcd(ask),
            Event::Unclog { from, to } => {
                let held = self.network.unclog(from, to);
                self.release(held);
            }
            Event::Resume { node, life } => {
                if self.hosts[node].life == life && self.hosts[node].state == State::Paused {
                    self.resume(node);
                }
            }
            Event::Local { node, life, .. } | Event::Told { node, life, .. } => {
                let host = &mut self.hosts[node];
                match host.state {
                    State::Down { .. } => {}
                    _ if host.life != life => {}
                    State::Paused => host.backlog.push_back(event),
                    State::Running => match event {
                        Event::Local { what, .. } => self.happen_locally(node, what),
                        Event::Told { told, .. } => self.hear_registry(node, told),
                        Event::Wire { .. } | Event::Ask(_) | Event::Unclog { .. } | Event::Resume { .. } => {}
                    },
                }
            }
        }
    }

    /// A process that stood still takes in what has gathered, and then what is due.
    pub(super) fn resume(&mut self, index: usize) {
        let host = &mut self.hosts[index];
        host.state = State::Running;
        host.clock.read(self.now);
        host.loads.hold_fences(host.clock.latest());
        let life = host.life;
        let mut backlog = std::mem::take(&mut self.hosts[index].backlog);
        while let Some(event) = backlog.pop_front() {
            if self.hosts[index].life != life || !self.hosts[index].is_running() {
                return;
            }
            self.steps += 1;
            self.happen(event);
        }
    }

    /// Tells a node something.
    pub(super) fn tell(&mut self, index: usize, fact: Fact) -> Disposition {
        self.trace.line(self.now, Some(index), || format!("hears {fact:?}"));
        self.note_fences(index, &fact);
        let before = self.note_copies(index, &fact);
        if self.told.len() < ECHOES {
            self.told.push((index, self.hosts[index].life, fact.clone()));
        } else {
            let place = self.random.below(ECHOES as u64) as usize;
            self.told[place] = (index, self.hosts[index].life, fact.clone());
        }
        let disposition = self.hand(index, fact);
        if disposition == Disposition::Stale {
            // What came too late is kept by nobody.
            self.hosts[index].kept.extend(before);
        }
        disposition
    }

    /// Hands a fact to a node, and sees to it that what is stale changes nothing.
    pub(super) fn hand(&mut self, index: usize, fact: Fact) -> Disposition {
        let code = fact.code();
        self.cover(index, &fact);
        let mut said = 0;
        let disposition = self.turn(index, |node, now, out| {
            let disposition = match fact {
                Fact::Loaded(flight, attempt, outcome) => {
                    node.handle_loaded(now, flight, attempt, outcome, out)
                }
                Fact::Replies(peer, batch, replies) => node.handle_replies(now, (peer, batch), replies, out),
                Fact::Closed(peer, batch, end) => node.handle_batch_closed(now, (peer, batch), end, out),
                Fact::Connected(peer, dial, protocol) => {
                    node.handle_connected(now, (peer, dial), protocol, out)
                }
                Fact::Draining(peer, dial) => node.handle_draining(now, (peer, dial), out),
                Fact::Lost(peer, dial) => node.handle_lost(now, (peer, dial), out),
                Fact::Disconnected(peer, dial) => node.handle_disconnected(now, (peer, dial), None, out),
                Fact::Seen(peer) => node.handle_seen(now, peer, out),
                Fact::Invalidation(what) => {
                    node.handle_invalidation(now, &what, out);
                    Disposition::Applied
                }
                Fact::Invalidated(removal, peer, acknowledged) => {
                    node.handle_invalidated(now, removal, peer, acknowledged, out)
                }
                Fact::RequestCancelled(request) => node.handle_request_cancelled(now, request, out),
                Fact::Registry(op, outcome) => node.handle_registry(now, op, outcome, out),
                Fact::Watch(op, event) => node.handle_watch(now, op, event, out),
            };
            said = u64::from(!out.is_empty());
            disposition
        });
        self.trace.note(&[100 + code, disposition_code(disposition), said]);
        self.coverage.fact(code, disposition_code(disposition));
        self.check(disposition != Disposition::Stale || said == 0, || {
            format!("node {index} acts on {}, which it calls stale", Fact::NAMES[code as usize])
        });
        disposition
    }

    /// Notes until when copies of what a node now hears of may live. Answers what was noted before.
    fn note_copies(&mut self, index: usize, fact: &Fact) -> Vec<(ReadId, Kept)> {
        let mut before = Vec::new();
        let host = &mut self.hosts[index];
        let now = host.clock.read(self.now).max(host.clock.latest());
        let until = |ttl: Option<Duration>| ttl.map_or(Instant::MAX, |ttl| now.saturating_add(ttl));
        let hot_ttl = host.config.shard.hot_ttl;
        let mut keep = |value: &[u8], ttl: Option<Duration>, main: Instant| {
            let Some((id, _)) = self.origin.read_of(value) else { return };
            let kept = host.kept.entry(id).or_insert(Kept { main: Instant::ZERO, hot: Instant::ZERO });
            before.push((id, *kept));
            let hot = until(Some(ttl.map_or(hot_ttl, |ttl| ttl.min(hot_ttl))));
            (kept.main, kept.hot) = (kept.main.max(main), kept.hot.max(hot));
        };
        match fact {
            Fact::Loaded(_, _, Outcome::Value { value, ttl }) => {
                let key = self.origin.read_of(value).map_or(0, |(_, read)| read.key);
                let group = &self.plan.groups[(Keys::group(key).index() % GROUPS) as usize];
                let ttl = ttl.or(group.ttl);
                keep(value, ttl, until(ttl));
            }
            Fact::Replies(_, _, replies) => {
                for (_, outcome) in replies {
                    if let Outcome::Value { value, ttl } = outcome {
                        keep(value, *ttl, Instant::ZERO);
                    }
                }
            }
            _ => {}
        }
        // A value that came twice in one message was first noted as it was before.
        before.reverse();
        before
    }

    /// Notes which loads a removal that a node hears of may fence, and what it hears of its lease.
    pub(super) fn note_fences(&mut self, index: usize, fact: &Fact) {
        match fact {
            Fact::Invalidation(Invalidation::Key(key)) => {
                if let Some(key) = self.keys.number(key.as_bytes()) {
                    self.fence(index, Scope::Key(key));
                }
            }
            Fact::Invalidation(Invalidation::Group(group)) => self.fence(index, Scope::Group(group.index())),
            Fact::Registry(op, outcome) => self.note_lease(index, *op, outcome),
            _ => {}
        }
    }

    fn cover(&mut self, index: usize, fact: &Fact) {
        let (node, code) = (&self.hosts[index].node, fact.code());
        match fact {
            Fact::Registry(..) | Fact::Watch(..) => {
                let now = self.hosts[index].clock.latest();
                self.coverage.membership(node.membership(), node.membership().is_registered(now), code);
            }
            _ => {
                if let Some(peer) = fact.peer() {
                    self.coverage.link(node.links().find(|link| link.peer() == peer), code);
                }
            }
        }
    }

    /// A process ends in order: it fails who still waits, and is gone.
    pub(super) fn shut_down(&mut self, index: usize) {
        for turns in 0.. {
            let wake = self.turn(index, |node, now, out| node.shutdown(now, out));
            if wake != Wake::Now {
                break;
            }
            if turns > 100_000 {
                return self.fail(|| format!("node {index} does not come to the end of its shutdown"));
            }
        }
        let usage = self.hosts[index].node.usage();
        let waits = self.ledger.waiters().any(|(_, waiter)| waiter.node == index);
        self.check(usage.flights == 0 && usage.waiters == 0 && !waits, || {
            format!("node {index} was shut down with {} flights and {} waiters", usage.flights, usage.waiters)
        });
        let removing = self.ledger.removals().any(|(_, removal)| removal.node == index);
        self.check(!removing, || format!("node {index} was shut down in the middle of a removal"));
        self.end_process(index, false);
    }
}
