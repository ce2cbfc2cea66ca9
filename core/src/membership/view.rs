//! The others: listed, then watched, listed again where the watch may have missed something; and the view that is made of it.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::config::MembershipConfig;
use super::mirror::Mirror;
use super::record::{Change, MemberRecord};
use super::turn::{Call, Turn};
use crate::backoff::Backoff;
use crate::canary::{self, Canary};
use crate::effects::RegistryIntent;
use crate::id::{OpId, Revision};
use crate::rng::SplitMix64;
use crate::time::Instant;

/// Follows the registry and answers the members to build a ring from.
#[derive(Debug)]
pub(super) struct View {
    me: Arc<str>,
    limits: Limits,
    mirror: Mirror,
    list: List,
    list_backoff: Backoff,
    watch: Watch,
    watch_backoff: Backoff,
    rng: SplitMix64,
    members: Vec<MemberRecord>,
    epoch: u64,
    /// Since when the registry has had none of the other members in `members`.
    suspect_since: Option<Instant>,
    /// When a view with several other members was last replaced.
    had_several_at: Option<Instant>,
    /// When the registry was found to have lost its data, until all members are back in it or `empty_guard` has passed.
    regressed_at: Option<Instant>,
}

#[derive(Debug)]
struct Limits {
    op_timeout: Duration,
    backoff_max: Duration,
    empty_guard: Duration,
    list_interval: Duration,
    max_weight: u32,
    max_members: usize,
}

#[derive(Clone, Copy, Debug)]
enum List {
    Off,
    At(Instant),
    /// An answer below `floor` is of a registry that went backwards.
    InFlight {
        call: Call,
        floor: Revision,
    },
}

#[derive(Clone, Copy, Debug)]
enum Watch {
    Off,
    At(Instant),
    Open { op: OpId, since: Instant },
}

/// What a list meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listed {
    /// It was not asked for, or is late.
    Stale,
    /// It was taken.
    Taken,
    /// The registry's revision went backwards: nothing that was written to it can be relied on.
    Regressed,
}

/// What a watch batch meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Batch {
    /// It told nothing new.
    Stale,
    /// It was taken.
    Taken,
    /// It was taken, and took our own record away.
    LostMe,
}

impl View {
    pub(super) fn new(config: &MembershipConfig, seed: u64) -> Self {
        let mut rng = SplitMix64::new(seed);
        let backoff = |seed| Backoff::new(config.backoff_base, config.backoff_max, seed);
        Self {
            me: Arc::clone(&config.me),
            limits: Limits {
                op_timeout: config.op_timeout,
                backoff_max: config.backoff_max,
                empty_guard: config.empty_guard,
                list_interval: config.list_interval,
                max_weight: config.max_weight.get(),
                max_members: config.max_members.get(),
            },
            // Twice the members: room for as many deletions between two lists.
            mirror: Mirror::new(config.max_members.get().saturating_mul(2)),
            list: List::Off,
            list_backoff: backoff(rng.next_u64()),
            watch: Watch::Off,
            watch_backoff: backoff(rng.next_u64()),
            rng,
            members: Vec::new(),
            epoch: 0,
            suspect_since: None,
            had_several_at: None,
            regressed_at: None,
        }
    }

    pub(super) fn members(&self) -> &[MemberRecord] {
        &self.members
    }

    pub(super) const fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) const fn revision(&self) -> Revision {
        self.mirror.seen()
    }

    pub(super) fn knows_me(&self) -> bool {
        self.mirror.contains(&self.me)
    }

    pub(super) fn start(&mut self, turn: &mut Turn<'_>) {
        self.list_backoff.succeed();
        self.watch_backoff.succeed();
        self.send_list(turn);
    }

    /// Asks for nothing more. The last view stays.
    pub(super) fn stop(&mut self) {
        self.list = List::Off;
        self.watch = Watch::Off;
        self.suspect_since = None;
        self.regressed_at = None;
    }

    pub(super) fn handle_listed(
        &mut self,
        op: OpId,
        records: Vec<MemberRecord>,
        revision: Revision,
        turn: &mut Turn<'_>,
    ) -> Listed {
        let List::InFlight { call, floor } = self.list else { return Listed::Stale };
        if call.op != op {
            return Listed::Stale;
        }
        turn.stats.lists += 1;
        if revision < floor {
            self.begin_again(turn);
            return Listed::Regressed;
        }
        self.list_backoff.succeed();
        let refused = records.len().saturating_sub(self.limits.max_members.saturating_mul(2));
        turn.stats.members_refused += refused as u64;
        let news = self.mirror.replace(records, revision);
        self.list = List::At(self.next_list(turn.now));
        self.follow(news, turn);
        self.adopt(Some(call.sent), turn);
        Listed::Taken
    }

    pub(super) fn handle_list_failed(&mut self, op: OpId, turn: &mut Turn<'_>) -> bool {
        match self.list {
            List::InFlight { call, .. } if call.op == op => {
                self.fail_list(turn);
                true
            }
            List::Off | List::At(_) | List::InFlight { .. } => false,
        }
    }

    pub(super) fn handle_changed(
        &mut self,
        op: OpId,
        revision: Revision,
        changes: Vec<Change>,
        turn: &mut Turn<'_>,
    ) -> Batch {
        if !self.is_watching(op) || !self.mirror.is_news(revision) {
            return Batch::Stale;
        }
        let knew_me = self.knows_me();
        for change in changes {
            if !self.mirror.apply(change, revision) {
                turn.stats.members_refused += 1;
            }
        }
        self.mirror.advance(revision);
        self.adopt(None, turn);
        if knew_me && !self.knows_me() { Batch::LostMe } else { Batch::Taken }
    }

    /// The watch needs a new list to start from.
    pub(super) fn handle_compacted(&mut self, op: OpId, turn: &mut Turn<'_>) -> bool {
        if !self.is_watching(op) {
            return false;
        }
        turn.stats.watches_ended += 1;
        self.watch = Watch::Off;
        let at = turn.now.saturating_add(self.watch_backoff.fail());
        self.list_by(at);
        true
    }

    /// The watch is opened again where it ended. A list goes with it: should the registry have lost its data meanwhile, the watch would wait
    /// in silence for a revision that is far away.
    pub(super) fn handle_ended(&mut self, op: OpId, turn: &mut Turn<'_>) -> bool {
        let Watch::Open { op: open, since } = self.watch else { return false };
        if open != op {
            return false;
        }
        turn.stats.watches_ended += 1;
        if turn.now.saturating_since(since) > self.limits.backoff_max {
            self.watch_backoff.succeed();
        }
        let at = turn.now.saturating_add(self.watch_backoff.fail());
        self.watch = Watch::At(at);
        self.list_by(at);
        true
    }

    /// Lists at `at`, or before.
    pub(super) fn list_by(&mut self, at: Instant) {
        if let List::At(planned) = self.list {
            self.list = List::At(planned.min(at));
        }
    }

    pub(super) fn handle_timeout(&mut self, turn: &mut Turn<'_>) {
        match self.list {
            List::At(at) if at <= turn.now => self.send_list(turn),
            List::InFlight { call, .. } if call.deadline <= turn.now => self.fail_list(turn),
            List::Off | List::At(_) | List::InFlight { .. } => {}
        }
        match self.watch {
            Watch::At(at) if at <= turn.now => self.open_watch(turn),
            Watch::Off | Watch::At(_) | Watch::Open { .. } => {}
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do. O(1).
    pub(super) fn next_at(&self) -> Instant {
        let list = match self.list {
            List::Off => Instant::MAX,
            List::At(at) => at,
            List::InFlight { call, .. } => call.deadline,
        };
        match self.watch {
            Watch::At(at) => list.min(at),
            Watch::Off | Watch::Open { .. } => list,
        }
    }

    fn is_watching(&self, op: OpId) -> bool {
        matches!(self.watch, Watch::Open { op: open, .. } if open == op)
    }

    fn send_list(&mut self, turn: &mut Turn<'_>) {
        let call = turn.call(self.limits.op_timeout, |op| RegistryIntent::List { op });
        self.list = List::InFlight { call, floor: self.mirror.seen() };
    }

    fn fail_list(&mut self, turn: &mut Turn<'_>) {
        turn.stats.failures += 1;
        self.list = List::At(turn.now.saturating_add(self.list_backoff.fail()));
    }

    fn open_watch(&mut self, turn: &mut Turn<'_>) {
        let skipped = i64::from(canary::is(Canary::WatchOneLate));
        let after = Revision::new(self.mirror.seen().get().saturating_add(skipped));
        let op = turn.ask(|op| RegistryIntent::Watch { op, after });
        turn.stats.watches += 1;
        self.watch = Watch::Open { op, since: turn.now };
    }

    /// The registry lost its data: its revisions count from the start again, so ours do, and the truth is listed once more.
    fn begin_again(&mut self, turn: &mut Turn<'_>) {
        turn.stats.revision_regressions += 1;
        self.mirror.rewind();
        self.regressed_at = Some(turn.now);
        self.watch = Watch::Off;
        self.list = List::At(turn.now.saturating_add(self.list_backoff.fail()));
    }

    fn next_list(&mut self, now: Instant) -> Instant {
        let interval = self.limits.list_interval;
        let quarter = u64::try_from((interval / 4).as_nanos()).unwrap_or(u64::MAX);
        now.saturating_add(interval - Duration::from_nanos(self.rng.below(quarter)))
    }

    /// Watches from the list on. An open watch goes on, unless the list knew what it should have told long ago.
    fn follow(&mut self, news: bool, turn: &mut Turn<'_>) {
        match self.watch {
            Watch::Off => self.open_watch(turn),
            Watch::Open { since, .. }
                if news && turn.now.saturating_since(since) > self.limits.op_timeout =>
            {
                turn.stats.watch_missed += 1;
                self.open_watch(turn);
            }
            Watch::At(_) | Watch::Open { .. } => {}
        }
    }

    /// Makes the mirror the view, unless that would lose all others at once: a list that was asked for after `empty_guard` must confirm it. A registry
    /// that has lost its data has as long to hear of its members again.
    fn adopt(&mut self, listed: Option<Instant>, turn: &mut Turn<'_>) {
        let mut candidate = self.candidate(turn);
        self.await_return(&mut candidate, turn.now);
        let first = self.epoch == 0;
        if self.others(&self.members) > 1 && candidate != self.members {
            self.had_several_at = Some(turn.now);
        }
        let orderly = listed.is_none() && self.is_orderly_departure(&candidate, turn.now);
        if !first && !orderly && self.loses_all(&candidate) && !canary::is(Canary::EmptyViewBelieved) {
            let since = *self.suspect_since.get_or_insert_with(|| {
                turn.stats.views_withheld += 1;
                turn.now
            });
            let confirmed_from = since.saturating_add(self.limits.empty_guard);
            if listed.is_none_or(|sent| sent < confirmed_from) {
                self.list_by(confirmed_from);
                return;
            }
        }
        self.suspect_since = None;
        if first || candidate != self.members {
            self.members = candidate;
            self.epoch = self.epoch.saturating_add(1);
        }
    }

    /// Leaves members where they are that may only not have registered again yet, since the registry lost its data.
    fn await_return(&mut self, candidate: &mut Vec<MemberRecord>, now: Instant) {
        let Some(until) = self.regressed_at.map(|at| at.saturating_add(self.limits.empty_guard)) else {
            return;
        };
        let is_away = |member: &&MemberRecord| {
            member.addr != self.me && candidate.iter().all(|listed| listed.addr != member.addr)
        };
        let away: Vec<_> = self.members.iter().filter(is_away).cloned().collect();
        if now >= until || away.is_empty() {
            self.regressed_at = None;
            return;
        }
        candidate.extend(away);
        candidate.sort_unstable_by(|a, b| a.addr.cmp(&b.addr));
        candidate.truncate(self.limits.max_members);
        self.list_by(until);
    }

    fn loses_all(&self, candidate: &[MemberRecord]) -> bool {
        let loses_others = self.others(&self.members) > 0 && self.others(candidate) == 0;
        !self.members.is_empty() && (candidate.is_empty() || loses_others)
    }

    /// The watch tells that the one other member is gone, and this node stands: nothing sudden, unless there were several a moment ago.
    fn is_orderly_departure(&self, candidate: &[MemberRecord], now: Instant) -> bool {
        let long_ago = |at: Instant| now.saturating_since(at) >= self.limits.empty_guard;
        self.others(&self.members) == 1
            && candidate.iter().any(|member| member.addr == self.me)
            && self.had_several_at.is_none_or(long_ago)
    }

    fn others(&self, members: &[MemberRecord]) -> usize {
        members.iter().filter(|member| member.addr != self.me).count()
    }

    /// The members in the mirror: by address, each once, weights in range. Where two records name one address, the one registered under
    /// that address counts, else the first by key. O(n log n).
    fn candidate(&self, turn: &mut Turn<'_>) -> Vec<MemberRecord> {
        let mut by_addr: BTreeMap<&str, &MemberRecord> = BTreeMap::new();
        for record in self.mirror.records().filter(|record| !record.addr.is_empty()) {
            let kept = by_addr.entry(&record.addr).or_insert(record);
            if record.key == record.addr {
                *kept = record;
            }
        }
        turn.stats.members_refused += by_addr.len().saturating_sub(self.limits.max_members) as u64;
        let max_weight = self.limits.max_weight;
        let in_range = |record: &MemberRecord| MemberRecord {
            weight: record.weight.clamp(1, max_weight),
            ..MemberRecord::clone(record)
        };
        by_addr.into_values().take(self.limits.max_members).map(in_range).collect()
    }
}
