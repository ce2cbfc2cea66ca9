//! Records with revisions and watches, in this process: what the static and the in-memory registry are made of.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use futures_channel::mpsc;
use futures_util::stream::{self, BoxStream, StreamExt};
use groupcache_core::{Change, MemberRecord, Revision, WatchEvent};

use super::Listing;

/// How many revisions can be watched from; older ones are compacted away.
const HISTORY: usize = 1024;
/// How far a watch may lag behind before it is ended.
const WATCH_BUFFER: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Store {
    revision: i64,
    records: BTreeMap<Arc<str>, MemberRecord>,
    log: VecDeque<(i64, Vec<Change>)>,
    watches: Vec<mpsc::Sender<WatchEvent>>,
}

impl Store {
    pub(super) fn contains(&self, key: &str) -> bool {
        self.records.contains_key(key)
    }

    pub(super) fn list(&self) -> Listing {
        Listing { records: self.records.values().cloned().collect(), revision: Revision::new(self.revision) }
    }

    /// Applies `changes` as one revision and tells the watches; one that does not keep up is ended.
    pub(super) fn commit(&mut self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        for change in &changes {
            match change {
                Change::Put(record) => self.records.insert(Arc::clone(&record.key), record.clone()),
                Change::Delete(key) => self.records.remove(key),
            };
        }
        self.revision += 1;
        let event = WatchEvent::Changed { revision: Revision::new(self.revision), changes: changes.clone() };
        self.watches.retain_mut(|watch| watch.try_send(event.clone()).is_ok());
        self.log.push_back((self.revision, changes));
        if self.log.len() > HISTORY {
            self.log.pop_front();
        }
    }

    pub(super) fn watch(&mut self, after: Revision) -> BoxStream<'static, WatchEvent> {
        let oldest = self.log.front().map_or(self.revision + 1, |(revision, _)| *revision);
        if after.get() + 1 < oldest || after.get() > self.revision {
            let compacted = WatchEvent::Compacted { revision: Revision::new(oldest) };
            return stream::iter([compacted]).boxed();
        }
        let missed: Vec<_> = self
            .log
            .iter()
            .filter(|(revision, _)| *revision > after.get())
            .map(|(revision, changes)| WatchEvent::Changed {
                revision: Revision::new(*revision),
                changes: changes.clone(),
            })
            .collect();
        self.watches.retain(|watch| !watch.is_closed());
        let (sender, events) = mpsc::channel(WATCH_BUFFER);
        self.watches.push(sender);
        stream::iter(missed).chain(events).chain(stream::iter([WatchEvent::Ended(None)])).boxed()
    }
}
