//! What a node remembers of its work for people who look: noted off the hit path, in memory of a fixed size.
//!
//! Three memories and a sketch. Errors: the last ones, alike ones together. Outcomes: what the last loads and fetches came to, by a key's hash.
//! Latencies: a peer's last answers. And, where a node is asked to, the keys that are looked up most. None of them decides anything.

mod errors;
mod explain;
mod hot_keys;
mod latencies;
mod live;
mod outcomes;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use groupcache_core::{
    Batch, BatchEnd, Failure, FailureKind, GroupId, HashedKey, Instant, Key, LoadError, Outcome, PeerId,
    in_words,
};

pub use self::errors::ErrorReport;
pub use self::explain::{Explanation, KeptReport, OutcomeReport};
pub(crate) use self::hot_keys::HotKeys;
pub use self::hot_keys::{HotKeyReport, HotKeysReport};
pub(crate) use self::latencies::Latencies;
pub use self::latencies::Latency;
pub use self::live::{FlightReport, Live, PeerReport, ShareReport};

use self::errors::{Errors, What};
use self::outcomes::{Outcomes, Settled};
use crate::engine::Engine;
use crate::peers::Peer;

/// What the engine notes.
#[derive(Debug)]
pub(crate) struct Watch {
    errors: Errors,
    outcomes: Outcomes,
    /// The keys that are looked up most, where that is asked for.
    pub(crate) hot_keys: Option<HotKeys>,
    /// What the time was when the node's clock began.
    began: SystemTime,
}

impl Watch {
    pub(crate) fn new(hot_keys: Option<HotKeys>) -> Self {
        Self { errors: Errors::default(), outcomes: Outcomes::default(), hot_keys, began: SystemTime::now() }
    }

    /// A time of the node's clock, in milliseconds since 1970.
    fn wall(&self, at: Instant) -> u64 {
        let since = self.began.duration_since(UNIX_EPOCH).unwrap_or_default();
        millis(since.saturating_add(at.saturating_since(Instant::default())))
    }
}

/// What a failure that has no [`FailureKind`] is called: nobody answered.
const UNREACHABLE: &str = "unreachable";

impl Engine {
    /// What this node's origin answered, `took` after it was asked.
    pub(crate) fn note_loaded(&self, key: &Key, outcome: &Outcome, began: Instant) {
        let now = self.clock.now();
        self.watch.outcomes.note(Settled::new(key, None, outcome, (now, now.saturating_since(began))));
        if let Outcome::Failed(failure) = outcome {
            self.note_failure(key, None, failure);
        }
    }

    /// What a peer answered in one message, to what was sent at `sent`.
    pub(crate) fn note_fetched(
        &self,
        peer: &Peer,
        batch: &Batch,
        outcomes: &[(u32, Outcome)],
        sent: Instant,
    ) {
        if outcomes.is_empty() {
            return;
        }
        let now = self.clock.now();
        let took = now.saturating_since(sent);
        peer.latencies.note(now, took);
        let of_keys = outcomes
            .iter()
            .filter_map(|(index, outcome)| batch.items.get(*index as usize).map(|item| (&item.key, outcome)));
        self.watch.outcomes.note_all(
            of_keys.clone().map(|(key, outcome)| Settled::new(key, Some(peer.id), outcome, (now, took))),
        );
        for (key, outcome) in of_keys {
            match outcome {
                Outcome::Failed(failure) => self.note_failure(key, Some(peer), failure),
                Outcome::Unreachable(cause) => {
                    let text =
                        cause.as_ref().map_or_else(|| "no answer".to_owned(), |cause| in_words(&**cause));
                    self.note_error(What {
                        key: Some(key.as_hashed()),
                        peer: Some(peer),
                        kind: UNREACHABLE,
                        text,
                    });
                }
                Outcome::Value { .. } => {}
            }
        }
    }

    /// A batch is over. One that broke off is one error, whatever it has carried.
    pub(crate) fn note_batch_closed(&self, peer: &Peer, batch: &Batch, end: &BatchEnd) {
        let BatchEnd::Failed(cause) = end else { return };
        let text =
            cause.as_ref().map_or_else(|| "the connection was lost".to_owned(), |cause| in_words(&**cause));
        let key = batch.items.first().map(|item| item.key.as_hashed());
        self.note_error(What { key, peer: Some(peer), kind: UNREACHABLE, text });
    }

    /// A peer cannot be dialled, or its connection has broken.
    pub(crate) fn note_unreachable(&self, peer: &Peer, text: String) {
        self.note_error(What { key: None, peer: Some(peer), kind: UNREACHABLE, text });
    }

    /// A call was refused. Only what is this node's own doing counts as its error.
    pub(crate) fn note_refused(&self, key: &HashedKey<'_>, error: &LoadError) {
        if error.kind() == FailureKind::Overloaded {
            let kind = error.kind().name();
            self.note_error(What { key: Some(*key), peer: None, kind, text: error.to_string() });
        }
    }

    /// "Not found" is an answer, and no error.
    fn note_failure(&self, key: &Key, peer: Option<&Peer>, failure: &Failure) {
        if failure.kind != FailureKind::NotFound {
            self.note_error(What {
                key: Some(key.as_hashed()),
                peer,
                kind: failure.kind.name(),
                text: in_words(failure),
            });
        }
    }

    fn note_error(&self, what: What<'_>) {
        let group = what.key.map(|key| self.group_name(key.group()));
        self.watch.errors.note(what, group, self.clock.now());
    }

    fn group_name(&self, group: GroupId) -> Arc<str> {
        self.groups.by_id(group).map_or_else(|| Arc::from(""), |group| Arc::clone(&group.name))
    }

    fn report_of(&self, error: errors::Noted) -> ErrorReport {
        let (latest, first) = (self.watch.wall(error.latest), self.watch.wall(error.first));
        error.report(latest, first)
    }

    fn name_of(&self, peer: Option<PeerId>) -> Option<String> {
        peer.map(|peer| self.peer_name(peer))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// How much of a key is shown, in bytes.
const SHOWN: usize = 160;

/// A key as people see it: what is no UTF-8 is replaced, what is too long is cut, and `…` says so.
fn shown(key: &[u8]) -> String {
    cut(key, SHOWN)
}

/// The first `limit` bytes of a text, or a few less, and `…` where there are more.
fn cut(text: &[u8], limit: usize) -> String {
    if text.len() <= limit {
        return String::from_utf8_lossy(text).into_owned();
    }
    let mut end = limit;
    // Not within a character of UTF-8, whose further bytes begin with the bits 10.
    while end > 0 && text[end] & 0xc0 == 0x80 {
        end -= 1;
    }
    let mut shown = String::from_utf8_lossy(&text[..end]).into_owned();
    shown.push('…');
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_key_is_cut_between_two_characters_and_says_so() {
        assert_eq!(shown("short ключ".as_bytes()), "short ключ");
        assert_eq!(shown(b"\xff"), "\u{fffd}");
        let long = "я".repeat(SHOWN);
        let text = shown(long.as_bytes());
        assert_eq!(text, format!("{}…", "я".repeat(SHOWN / 2)));
        let odd = format!("x{long}");
        assert!(shown(odd.as_bytes()).chars().all(|c| "xя…".contains(c)), "{}", shown(odd.as_bytes()));
    }
}
