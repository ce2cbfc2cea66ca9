//! Connections, as the transport of a real node has them: dialling is a probe that has to be answered; the answers of one stream keep their order,
//! streams among each other do not; a connection that breaks is reported, and one on which calls are open and nothing arrives is given up; what was
//! given up is told to the other end. With datagrams there is less: messages are lost, doubled and out of order.

use groupcache_core::{BatchEnd, BatchId, DialId, Disposition, PeerId, Protocol, RemovalId};

use super::clock::Time;
use super::event::{ConnId, Event, Fact, Local, Message};
use super::host::State;
use super::network::Fate;
use super::world::World;

/// A connection, from the node that dialled it.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) client: usize,
    pub(super) client_life: u32,
    pub(super) server: usize,
    /// 0 until it is accepted.
    pub(super) server_life: u32,
    pub(super) peer: PeerId,
    pub(super) dial: DialId,
    /// Whether the client has an answer to its probe, or has stopped waiting for one.
    dialled: bool,
    client_open: bool,
    server_open: bool,
    /// When something last arrived at the client.
    heard: Time,
    pinged: Option<Time>,
    watching: bool,
    calls: Vec<Call>,
}

/// One stream: when what was sent last in each direction arrives.
#[derive(Debug)]
struct Call {
    id: CallId,
    forth: Time,
    back: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallId {
    Fetch(BatchId),
    Forget(RemovalId),
}

impl Message {
    const fn call(&self) -> Option<CallId> {
        match self {
            Self::Request { batch, .. }
            | Self::Cancel { batch }
            | Self::Replies { batch, .. }
            | Self::End { batch, .. } => Some(CallId::Fetch(*batch)),
            Self::Forget { removal, .. } | Self::Forgotten { removal, .. } => Some(CallId::Forget(*removal)),
            Self::Probe | Self::ProbeAnswer | Self::Reset | Self::GoAway | Self::Ping | Self::Pong => None,
        }
    }
}

impl World {
    /// Dials a peer.
    pub(super) fn dial(&mut self, index: usize, (peer, dial): (PeerId, DialId), name: &str) {
        let number = name.strip_prefix("node-").and_then(|name| name.strip_suffix(":1"));
        let Some(server) = number.and_then(|number| number.parse().ok()) else {
            self.fail(|| format!("node {index} dials {name}, which is nobody"));
            return;
        };
        let conn = self.conns.len() as ConnId;
        let host = &mut self.hosts[index];
        host.dialled.push(conn);
        self.conns.push(Conn {
            client: index,
            client_life: host.life,
            server,
            server_life: 0,
            peer,
            dial,
            dialled: false,
            client_open: true,
            server_open: false,
            heard: self.now,
            pinged: None,
            watching: false,
            calls: Vec::new(),
        });
        self.send(conn, true, Message::Probe);
        self.later(index, self.plan.dial_limit, Local::DialLimit { conn });
    }

    /// Schedules something in a process' life.
    pub(super) fn later(&mut self, index: usize, time: Time, what: Local) {
        let event = Event::Local { node: index, life: self.hosts[index].life, what };
        self.schedule(self.now + time, event);
    }

    /// Sends a message over a connection, one of whose ends is open.
    pub(super) fn send(&mut self, conn: ConnId, to_server: bool, message: Message) {
        let ends = &self.conns[conn as usize];
        let (from, to) = if to_server { (ends.client, ends.server) } else { (ends.server, ends.client) };
        self.post(from, to, Event::Wire { conn, to_server, message });
    }

    /// Gives a message to the network.
    pub(super) fn post(&mut self, from: usize, to: usize, event: Event) {
        let fate = self.network.fate(from, to, &mut self.random);
        match fate {
            Fate::Held => {
                self.coverage.count("messages held up", 1);
                self.network.hold(from, to, (from, to, event));
            }
            Fate::Lost => self.coverage.count("messages lost", 1),
            Fate::Arrives(time, twice) => {
                if let Some(again) = twice {
                    self.coverage.count("messages doubled", 1);
                    self.schedule(self.now + again, event.clone());
                }
                let at = self.in_order(self.now + time, &event);
                self.schedule(at, event);
            }
        }
    }

    /// Sends on what lines have held.
    pub(super) fn release(&mut self, held: Vec<(usize, usize, Event)>) {
        for (from, to, event) in held {
            self.post(from, to, event);
        }
    }

    /// When a message may arrive: after what its stream has carried before.
    fn in_order(&mut self, at: Time, event: &Event) -> Time {
        if self.network.weather.datagrams {
            return at;
        }
        match event {
            Event::Wire { conn, to_server, message } => {
                let conn = &mut self.conns[*conn as usize];
                let Some(id) = message.call() else { return at };
                let Some(call) = conn.calls.iter_mut().find(|call| call.id == id) else { return at };
                let last = if *to_server { &mut call.forth } else { &mut call.back };
                *last = at.max(*last + 1);
                *last
            }
            // What etcd tells one process comes in the order in which it was said.
            Event::Told { node, .. } => {
                let last = &mut self.hosts[*node].registry.last_told;
                *last = at.max(*last + 1);
                *last
            }
            _ => at,
        }
    }

    /// Opens a stream.
    pub(super) fn open_call(&mut self, conn: ConnId, id: CallId) {
        let ends = &mut self.conns[conn as usize];
        ends.calls.push(Call { id, forth: 0, back: 0 });
        if !ends.watching {
            ends.watching = true;
            ends.pinged = None;
            let client = ends.client;
            self.later(client, self.plan.keep_alive, Local::KeepAlive { conn });
        }
    }

    /// Ends a stream at the client. Answers whether it was open.
    pub(super) fn end_call(&mut self, conn: ConnId, id: CallId) -> bool {
        let calls = &mut self.conns[conn as usize].calls;
        let found = calls.iter().position(|call| call.id == id);
        found.map(|place| calls.swap_remove(place)).is_some()
    }

    /// Where a batch of this node's is open.
    pub(super) fn conn_of(&self, index: usize, peer: PeerId, id: CallId) -> Option<ConnId> {
        let dialled = self.hosts[index].dialled.iter().copied();
        dialled.filter(|&conn| self.conns[conn as usize].peer == peer).find(|&conn| self.has_call(conn, id))
    }

    pub(super) fn has_call(&self, conn: ConnId, id: CallId) -> bool {
        self.conns[conn as usize].calls.iter().any(|call| call.id == id)
    }

    /// A message arrives.
    pub(super) fn arrive(&mut self, conn: ConnId, to_server: bool, message: Message) {
        let ends = &self.conns[conn as usize];
        let (index, life) =
            if to_server { (ends.server, ends.server_life) } else { (ends.client, ends.client_life) };
        let host = &self.hosts[index];
        let is_there = host.is_up() && (host.life == life || matches!(message, Message::Probe));
        if !is_there {
            // The system answers for a process that is not there, if there is a system.
            if host.state != (State::Down { silent: true }) && !matches!(message, Message::Reset) {
                self.send(conn, !to_server, Message::Reset);
            }
            return;
        }
        if host.state == State::Paused {
            self.hosts[index].backlog.push_back(Event::Wire { conn, to_server, message });
            return;
        }
        if to_server {
            self.arrive_at_server(conn, message);
        } else {
            self.arrive_at_client(conn, message);
        }
    }

    fn arrive_at_server(&mut self, conn: ConnId, message: Message) {
        let ends = &mut self.conns[conn as usize];
        let index = ends.server;
        match message {
            Message::Probe => {
                ends.server_life = self.hosts[index].life;
                ends.server_open = true;
                let client = self.hosts[ends.client].name.clone();
                self.hosts[index].accepted.push(conn);
                self.send(conn, false, Message::ProbeAnswer);
                if let Some(member) = self.hosts[index].node.ring().by_name(&client) {
                    let peer = member.id();
                    self.tell(index, Fact::Seen(peer));
                }
            }
            Message::Reset => self.close_server(conn),
            _ if !ends.server_open => self.send(conn, false, Message::Reset),
            Message::Ping => self.send(conn, false, Message::Pong),
            Message::Request { batch, single, items } => self.serve(index, conn, (batch, single), &items),
            Message::Cancel { batch } => {
                self.cancel_served(index, |served| served.conn == conn && served.batch == batch)
            }
            Message::Forget { removal, what } => {
                let acknowledged = self.plan.single & (1 << index) == 0;
                if acknowledged {
                    self.tell(index, Fact::Invalidation(what));
                }
                self.send(conn, false, Message::Forgotten { removal, acknowledged });
            }
            Message::ProbeAnswer
            | Message::Pong
            | Message::GoAway
            | Message::Replies { .. }
            | Message::End { .. }
            | Message::Forgotten { .. } => {}
        }
    }

    fn arrive_at_client(&mut self, conn: ConnId, message: Message) {
        let now = self.now;
        let ends = &mut self.conns[conn as usize];
        let (index, peer, server, dial) = (ends.client, ends.peer, ends.server, ends.dial);
        if !ends.client_open {
            return;
        }
        ends.heard = now;
        match message {
            Message::ProbeAnswer if !ends.dialled => {
                ends.dialled = true;
                // A slow dial that succeeds when a later one has does not take its place.
                let current = self.hosts[index].connections.get(&peer);
                if current.is_none_or(|&current| self.conns[current as usize].dial < dial) {
                    self.hosts[index].connections.insert(peer, conn);
                }
                let single = self.plan.single & (1 << server) != 0 && self.random.below(2) == 0;
                let protocol = if single { Protocol::Single } else { Protocol::Batched };
                if self.tell(index, Fact::Connected(peer, dial, protocol)) == Disposition::Stale {
                    self.close_client(conn, true);
                }
            }
            Message::Reset => self.close_client(conn, false),
            Message::GoAway => {
                if self.hosts[index].connections.get(&peer) == Some(&conn) {
                    self.hosts[index].connections.remove(&peer);
                    self.coverage.count("connections drained", 1);
                    self.tell(index, Fact::Draining(peer, dial));
                }
                self.close_when_drained(conn);
            }
            Message::Replies { batch, replies, last } => {
                let id = CallId::Fetch(batch);
                if !self.has_call(conn, id) && !self.random.happens(self.plan.late) {
                    return;
                }
                let open = if last { self.end_call(conn, id) } else { true };
                self.tell(index, Fact::Replies(peer, batch, replies));
                if last && open {
                    self.tell(index, Fact::Closed(peer, batch, BatchEnd::Complete));
                    self.close_when_drained(conn);
                }
            }
            Message::End { batch, end } => {
                if self.end_call(conn, CallId::Fetch(batch)) {
                    self.tell(index, Fact::Closed(peer, batch, end));
                    self.close_when_drained(conn);
                }
            }
            Message::Forgotten { removal, acknowledged } => {
                if self.end_call(conn, CallId::Forget(removal)) || self.random.happens(self.plan.late) {
                    self.tell(index, Fact::Invalidated(removal, peer, acknowledged));
                }
            }
            Message::ProbeAnswer
            | Message::Probe
            | Message::Pong
            | Message::Ping
            | Message::Request { .. }
            | Message::Cancel { .. }
            | Message::Forget { .. } => {}
        }
    }

    /// A dial has taken too long. A slow one that fails when a later one has succeeded is no news.
    pub(super) fn dial_limit(&mut self, conn: ConnId) {
        if !self.conns[conn as usize].dialled {
            self.close_client(conn, true);
        }
    }

    /// Nothing may arrive for a while on a connection with open calls: then it is tried, and given up if that is not answered.
    pub(super) fn keep_alive(&mut self, conn: ConnId) {
        let interval = self.plan.keep_alive;
        let ends = &mut self.conns[conn as usize];
        let client = ends.client;
        if !ends.client_open || ends.calls.is_empty() {
            ends.watching = false;
            return;
        }
        let quiet = self.now - ends.heard;
        let next = match ends.pinged {
            Some(at) if ends.heard < at && self.now >= at + interval / 2 => {
                self.coverage.count("connections given up", 1);
                return self.close_client(conn, true);
            }
            Some(at) if ends.heard < at => at + interval / 2 - self.now,
            _ if quiet < interval => {
                ends.pinged = None;
                interval - quiet
            }
            _ => {
                ends.pinged = Some(self.now);
                self.send(conn, true, Message::Ping);
                interval / 2
            }
        };
        self.later(client, next, Local::KeepAlive { conn });
    }

    /// The client's end is over: its node hears of what it used the connection for. `tells` says whether the other end has to be told.
    pub(super) fn close_client(&mut self, conn: ConnId, tells: bool) {
        let ends = &mut self.conns[conn as usize];
        if !std::mem::replace(&mut ends.client_open, false) {
            return;
        }
        let (index, peer, dial, was_dialled) = (ends.client, ends.peer, ends.dial, ends.dialled);
        ends.dialled = true;
        let calls = std::mem::take(&mut ends.calls);
        self.hosts[index].dialled.retain(|&other| other != conn);
        if tells {
            self.send(conn, true, Message::Reset);
        }
        let current = self.hosts[index].connections.get(&peer).copied();
        let was_current = current == Some(conn);
        if was_current {
            self.hosts[index].connections.remove(&peer);
        }
        if !was_dialled {
            self.tell(index, Fact::Disconnected(peer, dial));
            return;
        }
        // Who watches the connection may hear first, and be told to go on at once; or not be able to tell the two apart.
        let loses_first = was_current && self.random.below(2) == 0;
        if loses_first {
            self.tell(index, Fact::Lost(peer, dial));
        }
        for call in calls {
            match call.id {
                CallId::Fetch(batch) => self.tell(index, Fact::Closed(peer, batch, BatchEnd::Failed(None))),
                CallId::Forget(removal) => self.tell(index, Fact::Invalidated(removal, peer, false)),
            };
        }
        self.tell(index, Fact::Disconnected(peer, dial));
    }

    /// A connection that takes no more calls is over with its last one.
    fn close_when_drained(&mut self, conn: ConnId) {
        let ends = &self.conns[conn as usize];
        let is_current = self.hosts[ends.client].connections.get(&ends.peer) == Some(&conn);
        if ends.client_open && ends.dialled && ends.calls.is_empty() && !is_current {
            self.close_client(conn, true);
        }
    }

    /// A server that leaves in order takes no more calls on its connections.
    pub(super) fn go_away(&mut self, index: usize) {
        for conn in self.hosts[index].accepted.clone() {
            self.send(conn, false, Message::GoAway);
        }
    }

    /// The node has no more use for a peer: whatever there is of connections to it is dropped without a word to the node.
    pub(super) fn drop_peer(&mut self, index: usize, peer: PeerId) {
        self.hosts[index].connections.remove(&peer);
        let to_peer: Vec<ConnId> = self.hosts[index]
            .dialled
            .iter()
            .copied()
            .filter(|&conn| self.conns[conn as usize].peer == peer)
            .collect();
        for conn in to_peer {
            let ends = &mut self.conns[conn as usize];
            ends.client_open = false;
            ends.dialled = true;
            let calls = std::mem::take(&mut ends.calls);
            self.hosts[index].dialled.retain(|&other| other != conn);
            self.send(conn, true, Message::Reset);
            for call in calls {
                // Fetches were aborted; who waits for an acknowledgement hears that there is none.
                if let CallId::Forget(removal) = call.id {
                    self.later(index, 0, Local::NotTold { peer, removal });
                }
            }
        }
    }

    /// The server's end is over: nobody waits for what it serves.
    pub(super) fn close_server(&mut self, conn: ConnId) {
        let ends = &mut self.conns[conn as usize];
        if std::mem::replace(&mut ends.server_open, false) {
            let index = ends.server;
            self.hosts[index].accepted.retain(|&other| other != conn);
            self.cancel_served(index, |served| served.conn == conn);
        }
    }

    /// A process has ended: the system closes its connections, where there is still a system.
    pub(super) fn close_all(&mut self, index: usize, silent: bool) {
        let dialled = std::mem::take(&mut self.hosts[index].dialled);
        for conn in dialled {
            let ends = &mut self.conns[conn as usize];
            ends.client_open = false;
            ends.calls.clear();
            if !silent {
                self.send(conn, true, Message::Reset);
            }
        }
        let accepted = std::mem::take(&mut self.hosts[index].accepted);
        for conn in accepted {
            self.conns[conn as usize].server_open = false;
            if !silent {
                self.send(conn, false, Message::Reset);
            }
        }
    }

    /// A connection breaks in the middle: both ends hear of it.
    pub(super) fn break_conn(&mut self, pick: u16) {
        let open = self.hosts.iter().flat_map(|host| host.connections.values().copied());
        let open: Vec<ConnId> = open.collect();
        if let Some(&conn) = open.get(usize::from(pick) % open.len().max(1)) {
            self.coverage.count("connections broken", 1);
            self.send(conn, true, Message::Reset);
            self.send(conn, false, Message::Reset);
        }
    }
}
