//! etcd's watch stream, turned into what membership takes.

use std::collections::VecDeque;
use std::sync::Arc;

use etcd_client::{Event, WatchResponse, WatchStream};
use futures_util::stream::{self, BoxStream, StreamExt};
use groupcache_core::{Cause, Change, Revision, WatchEvent};

use super::failed;
use crate::registry::{RegistryError, record};

/// The events of a watch whose first response has come, up to its end.
pub(super) fn events(stream: WatchStream, first: &WatchResponse) -> BoxStream<'static, WatchEvent> {
    let mut state = Watching { stream: Some(stream), told: VecDeque::new() };
    state.take(first);
    stream::unfold(state, |mut state| async move { state.next().await.map(|event| (event, state)) }).boxed()
}

struct Watching {
    /// `None` once the watch is over.
    stream: Option<WatchStream>,
    told: VecDeque<WatchEvent>,
}

impl Watching {
    async fn next(&mut self) -> Option<WatchEvent> {
        loop {
            if let Some(event) = self.told.pop_front() {
                return Some(event);
            }
            let message = self.stream.as_mut()?.message().await;
            match message {
                Ok(Some(response)) => self.take(&response),
                Ok(None) => self.end(WatchEvent::Ended(None)),
                Err(error) => self.end(WatchEvent::Ended(Some(Arc::new(failed("watch", error)) as Cause))),
            }
        }
    }

    fn take(&mut self, response: &WatchResponse) {
        self.told.extend(batches(response.events()));
        if let Some(event) = end_of(response) {
            self.end(event);
        }
    }

    fn end(&mut self, event: WatchEvent) {
        self.stream = None;
        self.told.push_back(event);
    }
}

/// Whether the response says that the watch is over, and how.
fn end_of(response: &WatchResponse) -> Option<WatchEvent> {
    if !response.canceled() {
        return None;
    }
    if response.compact_revision() > 0 {
        return Some(WatchEvent::Compacted { revision: Revision::new(response.compact_revision()) });
    }
    let source = response.cancel_reason().to_owned().into();
    let error = RegistryError::Failed { operation: "watch", source };
    Some(WatchEvent::Ended(Some(Arc::new(error))))
}

/// One batch for each revision: only so can a late one be told from an early one. What cannot be read is passed over with a warning, as the Go
/// system does; such a record's deletion is harmless.
fn batches(events: &[Event]) -> Vec<WatchEvent> {
    let mut batches: Vec<(i64, Vec<Change>)> = Vec::new();
    for event in events {
        let Some(kv) = event.kv() else { continue };
        // A deletion has version 0. (The event's own type is not asked: etcd-client panics on one that it does not know.)
        let change = if kv.version() == 0 {
            record::parse_key(kv.key()).map(|addr| Change::Delete(Arc::from(addr)))
        } else {
            record::parse(kv.key(), kv.value()).map(Change::Put)
        };
        let changes = match change {
            Ok(change) => vec![change],
            Err(error) => {
                record_skipped(kv.key(), error);
                Vec::new()
            }
        };
        match batches.last_mut() {
            Some((revision, batch)) if *revision == kv.mod_revision() => batch.extend(changes),
            _ => batches.push((kv.mod_revision(), changes)),
        }
    }
    let told = |(revision, changes)| WatchEvent::Changed { revision: Revision::new(revision), changes };
    batches.into_iter().map(told).collect()
}

pub(super) fn record_skipped(key: &[u8], error: record::BadRecord) {
    tracing::warn!(key = %String::from_utf8_lossy(key), %error, "a record in etcd is passed over");
}
