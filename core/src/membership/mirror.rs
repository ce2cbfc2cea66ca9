//! What the registry holds, as far as we were told: lists and watch batches merged by revision, in whatever order they come.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::record::{Change, MemberRecord};
use crate::canary::{self, Canary};
use crate::id::Revision;

/// The registry's records by key. A change counts only where it is younger than what is known of its key; deletions are remembered until the
/// next list, so that an older batch that comes late does not bring a record back.
#[derive(Debug)]
pub(super) struct Mirror {
    entries: BTreeMap<Arc<str>, Entry>,
    /// The last list's revision: what is older is contained in it.
    base: Revision,
    /// The latest revision that anything told of.
    seen: Revision,
    max_entries: usize,
}

#[derive(Debug)]
struct Entry {
    record: Option<MemberRecord>,
    revision: Revision,
}

impl Mirror {
    pub(super) const fn new(max_entries: usize) -> Self {
        Self { entries: BTreeMap::new(), base: Revision::new(0), seen: Revision::new(0), max_entries }
    }

    pub(super) const fn seen(&self) -> Revision {
        self.seen
    }

    pub(super) fn contains(&self, key: &str) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.record.is_some())
    }

    pub(super) fn records(&self) -> impl Iterator<Item = &MemberRecord> {
        self.entries.values().filter_map(|entry| entry.record.as_ref())
    }

    /// Takes a list of `revision`: all that is not younger is replaced. Answers whether it told anything new. O(n log n).
    pub(super) fn replace(&mut self, records: Vec<MemberRecord>, revision: Revision) -> bool {
        let mut listed: BTreeMap<Arc<str>, MemberRecord> =
            records.into_iter().take(self.max_entries).map(|r| (Arc::clone(&r.key), r)).collect();
        let mut news = false;
        self.entries.retain(|key, entry| {
            let told = listed.remove(key);
            if entry.revision > revision {
                return true;
            }
            news |= entry.record != told;
            entry.revision = revision;
            entry.record = told;
            entry.record.is_some()
        });
        news |= !listed.is_empty();
        for (key, record) in listed {
            self.entries.insert(key, Entry { record: Some(record), revision });
        }
        self.base = self.base.max(revision);
        self.seen = self.seen.max(revision);
        news
    }

    /// Takes one watched change. Answers whether there was room for it.
    pub(super) fn apply(&mut self, change: Change, revision: Revision) -> bool {
        let (key, record) = match change {
            Change::Put(record) => (Arc::clone(&record.key), Some(record)),
            Change::Delete(key) => (key, None),
        };
        if let Some(entry) = self.entries.get_mut(&key) {
            if entry.revision <= revision || canary::is(Canary::OlderChangeTaken) {
                *entry = Entry { record, revision };
            }
            return true;
        }
        if self.entries.len() >= self.max_entries {
            self.entries.retain(|_, entry| entry.record.is_some());
        }
        let room = self.entries.len() < self.max_entries;
        if room {
            self.entries.insert(key, Entry { record, revision });
        }
        room
    }

    /// Whether a batch of `revision` can tell anything that the last list did not.
    pub(super) fn is_news(&self, revision: Revision) -> bool {
        revision > self.base
    }

    pub(super) fn advance(&mut self, revision: Revision) {
        self.seen = self.seen.max(revision);
    }

    /// Forgets all revisions, as the registry did. The records stay until they are listed anew.
    pub(super) fn rewind(&mut self) {
        self.base = Revision::new(0);
        self.seen = Revision::new(0);
        self.entries.retain(|_, entry| entry.record.is_some());
        for entry in self.entries.values_mut() {
            entry.revision = Revision::new(0);
        }
    }
}
