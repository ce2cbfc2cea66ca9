//! The end of a run: faults stop, some of them for good, and within bounded time everything has to come to rest.

use groupcache_core::{Link, Placement};

use super::clock::{MS, SECOND, Time};
use super::host::State;
use super::op::EtcdOp;
use super::plan::{MAX_JUMP, Weather};
use super::world::World;

impl World {
    /// Ends faults, and demands that the fleet comes together again: waiters are served, rings agree, links are up, one owner loads.
    pub(super) fn heal_and_finish(&mut self) {
        self.heal();
        let limit = self.time_to_heal();
        let begun = self.now;
        while self.violation.is_none() && !self.has_converged() {
            if self.now - begun > limit {
                let why = self.what_is_wrong();
                return self.fail(|| format!("{} s after the last fault {why}", limit / SECOND));
            }
            self.run_for(250 * MS);
        }
        if self.violation.is_some() {
            return;
        }
        self.coverage.count("seconds to heal", (self.now - begun) / SECOND);
        self.load_a_fresh_key();
        self.rest();
        self.recount();
    }

    /// Lets a fleet without faults come up.
    pub(super) fn come_up(&mut self) {
        for _ in 0..100 {
            self.run_for(100 * MS);
            if self.has_converged() {
                return;
            }
        }
        let why = self.what_is_wrong();
        self.fail(|| format!("a fleet without faults does not come up: {why}"));
    }

    /// Ends every fault. Who is down stays down where the plan says so.
    fn heal(&mut self) {
        self.trace.line(self.now, None, || "faults end".to_owned());
        self.network.weather = Weather { loss: 0, doubled: 0, broken: 0, ..self.network.weather };
        self.network.weather.delay.1 = self.network.weather.delay.1.min(5 * MS);
        for from in 0..=self.hosts.len() {
            for to in 0..=self.hosts.len() {
                let held = self.network.unclog_all(from, to);
                self.release(held);
            }
        }
        let held = self.network.heal();
        self.release(held);
        self.change_etcd(EtcdOp::Recover { renew: true });
        let origin = &mut self.origin.plan;
        (origin.fails, origin.hangs, origin.oversize, origin.absent) = (0, 0, 0, 0);
        origin.delay.1 = origin.delay.1.min(50 * MS);
        let keeps_one =
            self.hosts.iter().enumerate().any(|(index, host)| host.is_up() || !self.is_lost(index));
        for index in 0..self.hosts.len() {
            match self.hosts[index].state {
                State::Running => {}
                State::Paused => self.resume(index),
                State::Down { .. } if self.is_lost(index) && (keeps_one || index > 0) => {
                    self.coverage.count("nodes down for good", 1);
                }
                State::Down { .. } => self.restart(index),
            }
        }
    }

    const fn is_lost(&self, index: usize) -> bool {
        self.plan.lost_for_good & (1 << index) != 0
    }

    /// How long it may take at most, by what is configured.
    fn time_to_heal(&self) -> Time {
        let config = &self.plan.node;
        let membership = &config.membership;
        let nanos = |time: std::time::Duration| time.as_nanos() as Time;
        // A lease may have to run out, and its end be found out by a list; what then was lost at once has to be confirmed.
        let registry = 2 * nanos(membership.lease_ttl)
            + 2 * nanos(membership.list_interval)
            + 2 * nanos(membership.empty_guard)
            + 4 * nanos(membership.op_timeout)
            + 4 * nanos(membership.backoff_max);
        let links = 3 * nanos(config.link.connect_timeout)
            + 3 * nanos(config.link.backoff_max)
            + 3 * self.plan.dial_limit;
        let loads = 3 * nanos(config.shard.load_timeout) + nanos(config.removal_timeout);
        let all = registry + links + loads + 2 * self.plan.keep_alive + 2 * MAX_JUMP + 10 * SECOND;
        all + all / 8
    }

    fn has_converged(&self) -> bool {
        self.what_is_wrong().is_empty()
    }

    /// What keeps the fleet from being well; empty when it is.
    fn what_is_wrong(&self) -> String {
        let up = || self.hosts.iter().enumerate().filter(|(_, host)| host.is_up());
        // Who has not heard of any member yet would hear of one that is gone.
        let (records, _) = self.etcd.list();
        if let Some(record) = records.iter().find(|record| up().all(|(_, host)| *host.name != *record.addr)) {
            return format!("{} is gone, and its lease is not", record.addr);
        }
        // Nor would who was registered twice, and lives by the lease that the record is not under.
        if self.etcd.leases() > up().count() {
            return "a lease of a registration that was not heard of goes on".to_owned();
        }
        for (index, host) in up() {
            if host.is_stopping {
                return format!("node {index} has not left");
            }
            if host.clock.shows(self.now) < host.clock.latest() {
                return format!("node {index} waits for its clock, which was set back");
            }
            if !host.node.membership().is_registered(host.clock.latest()) {
                return format!("node {index} is not registered");
            }
            let ring = host.node.ring();
            if ring.len() != up().count() || !up().all(|(_, other)| ring.by_name(&other.name).is_some()) {
                let members: Vec<_> = ring.members().iter().map(|member| member.name().to_owned()).collect();
                return format!("node {index} has the ring {members:?}");
            }
            if let Some(link) = host.node.links().find(|link| !Link::is_up(link)) {
                return format!("node {index} has no link to {}", link.name());
            }
            let usage = host.node.usage();
            if usage.flights > 0 || usage.waiters > 0 {
                return format!(
                    "node {index} still has {} flights and {} waiters",
                    usage.flights, usage.waiters
                );
            }
        }
        if let Some((id, waiter)) = self.ledger.waiters().next() {
            return format!("waiter {id} waits at node {}", waiter.node);
        }
        if let Some((id, removal)) = self.ledger.removals().next() {
            return format!("removal {id} of node {} has not ended", removal.node);
        }
        String::new()
    }

    /// A key that nobody has asked for is asked for everywhere, one caller at a time, and loaded by its owner alone.
    fn load_a_fresh_key(&mut self) {
        let Some(key) = (0..self.plan.keys.all).rev().find(|&key| self.origin.loads[usize::from(key)] == 0)
        else {
            return self.coverage.count("runs without a fresh key", 1);
        };
        // Once for what links behind a breaker still have to find out, and then in earnest with what is fresh.
        for index in 0..self.hosts.len() {
            if self.hosts[index].is_running() {
                self.get(index, key, 60 * SECOND);
                self.run_for(self.settling_time());
            }
        }
        let plan = &self.plan;
        let is_scarce = plan.node.shard.peer_attempts == 0
            || plan.single != 0
            || plan.network.datagrams
            || plan.node.shard.load_timeout.as_millis() < 500
            || plan.node.shard.deadline_margin.as_millis() * 2 > plan.node.shard.load_timeout.as_millis();
        let loads = self.origin.loads[usize::from(key)];
        let nodes = self.hosts.iter().filter(|host| host.is_up()).count() as u32;
        // Where nothing is kept, each of them is a load of its own.
        let most = if self.keeps_values() { 1 } else { nodes };
        self.check(is_scarce || loads <= most.max(1), || {
            format!("key {key} was loaded {loads} times by a fleet of {nodes} that is well")
        });
        if !is_scarce {
            self.coverage.count("fresh keys loaded", 1);
        }
    }

    /// Whether a value that was loaded stays for as long as the last part of a run takes.
    fn keeps_values(&self) -> bool {
        let shard = &self.plan.node.shard;
        let lasts =
            self.plan.groups.iter().all(|group| group.ttl.is_none()) && self.plan.origin.with_ttl == 0;
        lasts
            && shard.budget >= 1 << 20
            && !matches!(self.plan.node.placement, Placement::SlotsLarge | Placement::SlotsHuge)
    }

    const fn settling_time(&self) -> Time {
        2 * SECOND
    }

    /// Nobody asks for anything: then nothing may go on but renewals of leases, and lists.
    fn rest(&mut self) {
        let refresh =
            self.plan.groups.iter().map(|group| group.stale_while_revalidate).max().unwrap_or_default();
        let open = self.plan.node.shard.load_timeout.max(refresh).as_nanos() as Time;
        self.run_for(open + self.plan.keep_alive * 2 + 2 * SECOND);
        let before = self.stirs;
        self.run_for(3 * self.plan.node.membership.lease_ttl.as_nanos() as Time);
        let stirs = self.stirs - before;
        self.check(stirs == 0, || format!("{stirs} intents in a fleet of which nobody wants anything"));
        for index in 0..self.hosts.len() {
            let host = &self.hosts[index];
            let usage = host.node.usage();
            self.check(!host.is_up() || (usage.flights, usage.waiters) == (0, 0), || {
                format!("node {index} has {} flights, and nobody wants anything", usage.flights)
            });
        }
    }
}
