//! What a membership was told, and the view that follows from it: lists and changes replayed in the order of their revisions, each time from the start.

use std::collections::BTreeMap;
use std::time::Duration;

use groupcache_core::{Change, Instant, MemberRecord};

/// Every fact that counts.
#[derive(Debug)]
pub(super) struct Told {
    me: &'static str,
    guard: Duration,
    list: (i64, Vec<MemberRecord>),
    changes: Vec<(i64, Change)>,
    /// The latest revision of all.
    pub(super) revision: i64,
    /// What the membership believed when it was told last.
    believed: Vec<MemberRecord>,
    /// Since when all others have been missing from what was told, while some are believed in.
    missing_since: Option<Instant>,
    /// When the membership last believed in more than one other.
    several_until: Option<Instant>,
    has_list: bool,
    /// When the registry was found to have lost its data, while somebody may still be about to register again.
    lost_at: Option<Instant>,
}

impl Told {
    pub(super) const fn nothing(me: &'static str, guard: Duration) -> Self {
        Self {
            me,
            guard,
            list: (0, Vec::new()),
            changes: Vec::new(),
            revision: 0,
            believed: Vec::new(),
            missing_since: None,
            several_until: None,
            has_list: false,
            lost_at: None,
        }
    }

    /// A list was taken, as the membership then believes in `members`. One that is older than what was known when it was asked for is of a registry that
    /// has lost its data: its revisions start over, and the next list will tell.
    pub(super) fn list(
        &mut self,
        (floor, sent): (i64, Instant),
        (revision, records): (i64, Vec<MemberRecord>),
        members: &[MemberRecord],
        now: Instant,
    ) {
        if revision < floor {
            self.lost_at = Some(now);
            let records = self.records().into_values().collect();
            (self.list, self.revision) = ((0, records), 0);
            self.changes.clear();
            assert_eq!(members, self.believed, "a list that says nothing is believed");
            return;
        }
        self.list = (revision, records);
        self.changes.retain(|(changed, _)| *changed > revision);
        self.revision = self.revision.max(revision);
        self.has_list = true;
        self.check(members, Some(sent), now);
    }

    pub(super) fn changed(&mut self, revision: i64, changes: Vec<Change>) {
        if revision > self.list.0 {
            self.changes.extend(changes.into_iter().map(|change| (revision, change)));
            self.changes.sort_by_key(|(revision, _)| *revision);
            self.revision = self.revision.max(revision);
        }
    }

    fn records(&self) -> BTreeMap<String, MemberRecord> {
        let mut records: BTreeMap<String, MemberRecord> =
            self.list.1.iter().map(|record| (record.key.to_string(), record.clone())).collect();
        for (_, change) in &self.changes {
            match change {
                Change::Put(record) => drop(records.insert(record.key.to_string(), record.clone())),
                Change::Delete(key) => drop(records.remove(&**key)),
            }
        }
        records
    }

    /// The members that follow: by address, weights in range; of two records for one address that under the address itself, else the first.
    pub(super) fn view(&self) -> Vec<MemberRecord> {
        view_of(self.records().values())
    }

    /// The membership believes in `members` behind a fact, a list that was asked for at `listed`, or a change: is it right to?
    pub(super) fn check(&mut self, members: &[MemberRecord], listed: Option<Instant>, now: Instant) {
        let view = self.with_who_may_return(self.view(), now);
        if !self.has_list {
            assert!(members.is_empty(), "nothing was listed");
            return;
        }
        let loses = !self.believed.is_empty() && (view.is_empty() || self.loses_others(&view));
        let several = self.others(&self.believed) > 1;
        if members != view {
            assert!(loses, "told of {view:?}, believes in {members:?}");
            assert_eq!(members, self.believed, "a view is withheld, and another taken");
            self.missing_since.get_or_insert(now);
        } else {
            let orderly = listed.is_none()
                && self.others(&self.believed) == 1
                && view.iter().any(|member| &*member.addr == self.me)
                && self.several_until.is_none_or(|at| now.saturating_since(at) >= self.guard);
            let stood = |sent: Instant| {
                let since = self.missing_since.unwrap_or(now);
                sent >= since.saturating_add(self.guard)
            };
            assert!(!loses || orderly || listed.is_some_and(stood), "{view:?} is believed at once");
            self.missing_since = None;
        }
        if several {
            self.several_until = Some(now);
        }
        self.believed = members.to_vec();
    }

    /// A registry that has lost its data is given time to hear of its members again: who is believed in is missed only when that has passed.
    fn with_who_may_return(&mut self, mut view: Vec<MemberRecord>, now: Instant) -> Vec<MemberRecord> {
        let Some(lost_at) = self.lost_at else { return view };
        let is_away = |member: &&MemberRecord| {
            &*member.addr != self.me && view.iter().all(|listed| listed.addr != member.addr)
        };
        let away: Vec<_> = self.believed.iter().filter(is_away).cloned().collect();
        if away.is_empty() || now.saturating_since(lost_at) >= self.guard {
            self.lost_at = None;
            return view;
        }
        view.extend(away);
        view.sort_by(|a, b| a.addr.cmp(&b.addr));
        view
    }

    /// The membership has stopped: doubts are over.
    pub(super) const fn stopped(&mut self) {
        (self.missing_since, self.lost_at) = (None, None);
    }

    fn loses_others(&self, view: &[MemberRecord]) -> bool {
        self.others(&self.believed) > 0 && self.others(view) == 0
    }

    fn others(&self, members: &[MemberRecord]) -> usize {
        members.iter().filter(|member| &*member.addr != self.me).count()
    }
}

pub(super) fn view_of<'a>(records: impl Iterator<Item = &'a MemberRecord>) -> Vec<MemberRecord> {
    let mut by_addr: BTreeMap<&str, MemberRecord> = BTreeMap::new();
    for record in records {
        if record.key == record.addr || !by_addr.contains_key(&*record.addr) {
            let mut taken = record.clone();
            taken.weight = taken.weight.clamp(1, 256);
            by_addr.insert(&record.addr, taken);
        }
    }
    by_addr.into_values().collect()
}
