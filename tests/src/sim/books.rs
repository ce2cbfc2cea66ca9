//! What has to hold, looked at whenever something happens: answers against what was promised, removals, rings; and now and then everything recounted.

use std::sync::Arc;

use groupcache_core::{Answer, Failure, FailureKind, Fetched, Instant, Level, PeerId};

use super::clock::{MS, Time};
use super::ledger::{Removal, Scope, Waiter};
use super::origin::Keys;
use super::plan::GROUPS;
use super::world::World;

impl World {
    /// A caller asks a node for a key: gets an answer now, or waits for it.
    pub(super) fn get(&mut self, index: usize, key: u16, patience: Time) {
        let floor = self.ledger.floor(key);
        let host = &mut self.hosts[index];
        let now = host.clock.read(self.now);
        let hashed = self.keys.hashed(key);
        if let Some(answer) = host.node.get(now, &hashed) {
            self.trace.note(&[20, u64::from(key)]);
            return self.judge(index, key, floor, &answer);
        }
        let latest = host.clock.latest();
        let deadline = latest.saturating_add(std::time::Duration::from_nanos(patience));
        // A flight that others wait for as well may end later than one of them would wait.
        let until = latest.saturating_add(host.config.shard.load_timeout);
        host.asked.insert(key);
        let id = self.ledger.number();
        self.ledger.accept(id, index, key, floor, until);
        let keys = Arc::clone(&self.keys);
        let hashed = keys.hashed(key);
        let load = self.turn(index, |node, now, out| {
            node.load(now, groupcache_core::LoadRequest::new(hashed, id, deadline), out)
        });
        match load {
            Ok(groupcache_core::Load::Wait(ticket)) => {
                self.trace.note(&[21, u64::from(key), id]);
                self.ledger.ticket(id, ticket);
            }
            Ok(groupcache_core::Load::Ready { answer, waiter }) => {
                self.trace.note(&[22, u64::from(key)]);
                let given_back = self.ledger.give_back(waiter);
                if self.checked(given_back).is_some() {
                    self.judge(index, key, floor, &answer);
                }
            }
            Err(refused) => {
                self.trace.note(&[23, u64::from(key)]);
                self.coverage.count("loads refused", 1);
                let given_back = self.ledger.give_back(refused.waiter);
                self.checked(given_back);
                let error = refused.error;
                self.check(!self.plan.is_polite, || {
                    format!("a load is refused though nothing is scarce: {error}")
                });
            }
        }
    }

    /// A waiter is served.
    pub(super) fn complete(&mut self, index: usize, id: u64, answer: Answer) {
        self.trace.note(&[24, id]);
        self.trace.line(self.now, Some(index), || format!("serves waiter {id}: {answer:?}"));
        let completed = self.ledger.complete(id, index);
        if let Some(Waiter { key, floor, .. }) = self.checked(completed) {
            self.judge(index, key, floor, &answer);
        }
    }

    /// Whether an answer is one that a caller may get.
    fn judge(&mut self, index: usize, key: u16, floor: u32, answer: &Answer) {
        let verdict = match answer {
            Ok(fetched) => self.judge_value(index, key, floor, fetched),
            Err(failure) => self.judge_failure(key, floor, failure),
        };
        self.checked(verdict);
    }

    fn judge_value(&mut self, index: usize, key: u16, floor: u32, fetched: &Fetched) -> Result<(), String> {
        let (id, read) = self.origin.recognise(key, &fetched.value)?;
        self.trace.note(&[25, u64::from(id), fetched.level as u64, fetched.expires.as_nanos()]);
        let level = fetched.level;
        if read.version < floor {
            return Err(format!(
                "node {index} returns key {key} in version {} from {level:?}, after version {floor} was acknowledged",
                read.version
            ));
        }
        // What was stored while a clock stood still lives for that much longer, by the world's clock.
        let hot_ttl = self.plan.node.shard.hot_ttl.as_nanos() as Time;
        let is_steady = self.now >= self.hosts[index].clock.still_until().saturating_add(2 * hot_ttl);
        if level == Level::Hot && is_steady && read.version < self.ledger.hot_floor(key) {
            return Err(format!(
                "node {index} has a hot copy of key {key} in version {}, long after {} was acknowledged by its owner",
                read.version,
                self.ledger.hot_floor(key)
            ));
        }
        let host = &self.hosts[index];
        // A machine that was not called since may not know that the clock was ahead before.
        let now = host.clock.shows(self.now);
        let expires = fetched.expires;
        let kept = host.kept.get(&id).ok_or_else(|| {
            format!("node {index} returns load {id} of key {key} from {level:?}, which it never heard of")
        })?;
        let group = &self.plan.groups[(Keys::group(key).index() % GROUPS) as usize];
        let grace = group.stale_while_revalidate.max(group.stale_if_error);
        let (ends, late) = match level {
            Level::Main => (kept.main, kept.main.saturating_add(grace)),
            Level::Hot => (kept.hot, kept.hot),
            // Just loaded or fetched: it may be of no use any more, but never lives longer than it was given.
            Level::Origin => (kept.main, Instant::MAX),
            Level::Peer => (kept.hot, Instant::MAX),
        };
        if expires > ends {
            return Err(format!(
                "node {index} keeps key {key} from {level:?} until {expires:?}, and may until {ends:?}"
            ));
        }
        if now >= late {
            return Err(format!(
                "node {index} returns key {key} from {level:?} at {now:?}, and may until {late:?}"
            ));
        }
        if level == Level::Hot && now >= expires {
            return Err(format!("node {index} returns a hot copy of key {key} that has expired"));
        }
        Ok(())
    }

    fn judge_failure(&mut self, key: u16, floor: u32, failure: &Failure) -> Result<(), String> {
        self.trace.note(&[26, failure.kind as u64]);
        if self.plan.is_polite {
            return Err(format!("key {key} fails though nothing goes wrong: {failure}"));
        }
        if failure.kind != FailureKind::NotFound {
            return Ok(());
        }
        match self.origin.absent_in(key) {
            Some(version) if version >= floor => Ok(()),
            found => {
                Err(format!("key {key} is said not to exist, which it did last in {found:?}, after {floor}"))
            }
        }
    }

    /// Whether a removal that this node spreads may fence a load of the key at any moment.
    pub(super) fn is_removing(&self, index: usize, key: u16) -> bool {
        self.ledger.removals().any(|(_, removal)| removal.node == index && removal.scope.covers(key))
    }

    /// A node forgets something for the whole fleet, after its data has changed.
    pub(super) fn remove(&mut self, index: usize, scope: Scope) {
        let version = match scope {
            Scope::Key(key) => self.origin.bump(key),
            Scope::Group(group) => self.origin.bump_group(group),
        };
        let id = self.ledger.number();
        self.fence(index, scope);
        self.ledger.begin_removal(id, Removal { node: index, scope, version, began: self.now });
        let keys = Arc::clone(&self.keys);
        let started = self.turn(index, |node, now, out| match scope {
            Scope::Key(key) => node.remove(now, &keys.hashed(key), id, out),
            Scope::Group(group) => node.flush(now, groupcache_core::GroupId::new(group), id, out),
        });
        if let Err(refused) = started {
            self.coverage.count("removals refused", 1);
            let ended = self.ledger.end_removal(refused.waiter);
            self.checked(ended);
        }
    }

    pub(super) fn fence(&mut self, index: usize, scope: Scope) {
        let host = &mut self.hosts[index];
        let now = host.clock.latest();
        match scope {
            Scope::Key(key) => host.loads.fence(now, key),
            Scope::Group(group) => host.loads.fence_group(now, group),
        }
    }

    /// A removal is over. Where all had one ring with all of them on it meanwhile, it promises something.
    pub(super) fn end_removal(&mut self, index: usize, id: u64, unacknowledged: &[PeerId]) {
        self.trace.note(&[27, id, unacknowledged.len() as u64]);
        let ended = self.ledger.end_removal(id);
        let Some(Removal { scope, version, began, .. }) = self.checked(ended) else { return };
        self.fence(index, scope);
        if self.rings.agreed_since.is_none_or(|since| since > began) {
            return self.coverage.count("removals among nodes that disagree", 1);
        }
        if unacknowledged.is_empty() {
            self.ledger.acknowledged += 1;
            self.coverage.count("removals acknowledged", 1);
            return self.ledger.raise(scope, version);
        }
        self.coverage.count("removals that not all acknowledged", 1);
        let host = &self.hosts[index];
        let ring = host.node.ring();
        let Scope::Key(key) = scope else { return };
        let owner = ring.owner(self.keys.hashed(key).as_bytes());
        if owner.is_some_and(|owner| !unacknowledged.contains(&owner.id())) && self.steady_since < began {
            // The last load that began before may end so late, and a copy of it lives so long, by clocks that run a twentieth slow.
            let shard = &host.config.shard;
            let longest = (shard.load_timeout * 2 + shard.hot_ttl).as_nanos() as Time;
            self.ledger.raise_later(self.now + longest + longest / 8 + MS, key, version);
        }
    }

    /// Who is on a node's ring may have changed.
    pub(super) fn look_at_ring(&mut self, index: usize) {
        let epoch = self.hosts[index].node.ring().epoch();
        if self.hosts[index].ring_epoch != epoch {
            self.hosts[index].ring_epoch = epoch;
            self.look_at_rings(Some(index));
        }
    }

    /// Equal members make equal rings. Notes since when all nodes agree, and all are on the ring.
    pub(super) fn look_at_rings(&mut self, changed: Option<usize>) {
        if let Some(index) = changed {
            self.compare_ring(index);
        }
        let mut up = self.hosts.iter().filter(|host| host.is_up());
        let Some(first) = up.next() else { return };
        let ring = first.node.ring();
        let is_on = |name: &str| ring.by_name(name).is_some();
        let agree = is_on(&first.name)
            && up.all(|host| host.node.ring().fingerprint() == ring.fingerprint() && is_on(&host.name));
        if !agree {
            self.ledger.disturb();
            self.rings.agreed_since = None;
        } else if self.rings.agreed_since.is_none() {
            self.rings.agreed_since = Some(self.now);
        }
    }

    fn compare_ring(&mut self, index: usize) {
        let ring = self.hosts[index].node.ring();
        let members: Vec<(String, u32)> =
            ring.members().iter().map(|member| (member.name().to_owned(), member.weight())).collect();
        let owner = ring.owner(b"a key").map_or_else(String::new, |owner| owner.name().to_owned());
        self.trace.note(&[28, ring.fingerprint()]);
        let now = (ring.fingerprint(), owner);
        let known = self.rings.known.entry(members).or_insert_with(|| now.clone());
        if *known != now {
            let known = known.clone();
            self.fail(|| format!("node {index} makes {now:?} of members that made {known:?} before"));
        }
    }

    /// What is due with time, and every few hundred steps everything.
    pub(super) fn look_at_times(&mut self) {
        self.ledger.pass(self.now);
        if self.steps.is_multiple_of(512) {
            self.recount();
        }
    }

    /// Recounts: each node's own counts, who waits and for how long, who believes to be registered.
    pub(super) fn recount(&mut self) {
        for index in 0..self.hosts.len() {
            let host = &self.hosts[index];
            if !host.is_up() {
                continue;
            }
            let (invariants, usage) = (host.node.check_invariants(), host.node.usage());
            let (latest, running) = (host.clock.latest(), host.loads.len() as u64);
            let waiting = self.ledger.waiters().filter(|(_, waiter)| waiter.node == index).count() as u64;
            let registered = host.node.membership().is_registered(latest);
            let lease_ends = host.lease_ends;
            if let Err(what) = invariants {
                return self.fail(|| format!("node {index}: {what}"));
            }
            self.check(usage.bytes <= usage.budget, || format!("node {index} is over its budget: {usage:?}"));
            self.check(waiting <= usage.waiters, || {
                format!("{waiting} callers wait at node {index}, which counts {}", usage.waiters)
            });
            self.check(running <= usage.flights, || {
                format!("{running} loads run for node {index}, which counts {} flights", usage.flights)
            });
            self.check(!registered || latest < lease_ends, || {
                format!(
                    "node {index} believes to be registered at {latest:?}, with a lease to {lease_ends:?}"
                )
            });
        }
        // Who has fallen back on a load that was begun for somebody else, later, waits as long as that may take.
        let longer = self.plan.node.shard.load_timeout;
        let late = self.ledger.waiters().find(|(_, waiter)| {
            let host = &self.hosts[waiter.node];
            host.is_running()
                && host.due.is_none_or(|due| due > self.now)
                && host.clock.shows(self.now) > waiter.until.saturating_add(longer)
        });
        if let Some((id, waiter)) = late.map(|(id, waiter)| (id, *waiter)) {
            let now = self.hosts[waiter.node].clock.latest();
            self.fail(|| {
                format!(
                    "waiter {id} of node {} waits at {now:?}, and has until {:?}",
                    waiter.node, waiter.until
                )
            });
        }
        let balance = self.ledger.balance();
        self.checked(balance);
    }
}

impl Scope {
    fn covers(self, key: u16) -> bool {
        match self {
            Self::Key(of) => of == key,
            Self::Group(group) => Keys::group(key).index() == group,
        }
    }
}
