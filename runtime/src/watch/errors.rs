//! The last errors of a node.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use groupcache_core::{HashedKey, Instant};
use serde::Serialize;

use super::{cut, shown};
use crate::peers::Peer;

/// How many are kept.
const KEPT: usize = 64;

/// How much of an error's text is kept, in bytes: each error that lies behind it has a part.
const TEXT: usize = 300;

/// An error of the past, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ErrorReport {
    /// When it happened last, in milliseconds since 1970, as [`Live::at_ms`](crate::Live::at_ms) counts them.
    pub at_ms: u64,
    /// When it happened first, as far as it was kept together with the others.
    pub first_ms: u64,
    /// How often: errors that follow each other and differ in nothing but their keys are one.
    pub times: u64,
    /// What kind: those of [`ErrorKind`](crate::ErrorKind) by name, or `unreachable` for a peer that gave no answer.
    pub kind: &'static str,
    /// The group that was asked for, where one was.
    pub group: Option<String>,
    /// The key, or the beginning of it, of the last of them.
    pub key: Option<String>,
    /// The peer that was asked; `None` where it was this node's origin, or a limit of its own.
    pub peer: Option<String>,
    /// What it said, with its causes, cut where it is long.
    pub text: String,
}

/// An error that happens.
pub(super) struct What<'a> {
    pub(super) key: Option<HashedKey<'a>>,
    pub(super) peer: Option<&'a Peer>,
    pub(super) kind: &'static str,
    pub(super) text: String,
}

/// An error that is kept.
#[derive(Clone, Debug)]
pub(super) struct Noted {
    pub(super) first: Instant,
    pub(super) latest: Instant,
    times: u64,
    kind: &'static str,
    group: Option<Arc<str>>,
    key: Option<String>,
    peer: Option<Arc<str>>,
    text: String,
}

impl Noted {
    pub(super) fn report(self, at_ms: u64, first_ms: u64) -> ErrorReport {
        let Self { times, kind, group, key, peer, text, .. } = self;
        let text_of = |name: Option<Arc<str>>| name.map(|name| name.to_string());
        ErrorReport { at_ms, first_ms, times, kind, group: text_of(group), key, peer: text_of(peer), text }
    }

    /// Whether it was one of this key. A key that was cut is known by its beginning.
    pub(super) fn is_of(&self, group: &str, key: &[u8]) -> bool {
        self.group.as_deref() == Some(group) && self.key.as_deref() == Some(&*shown(key))
    }

    fn is_like(&self, other: &Self) -> bool {
        (self.kind, &self.group, &self.peer, &self.text)
            == (other.kind, &other.group, &other.peer, &other.text)
    }
}

/// The last [`KEPT`] errors, newest last.
#[derive(Debug, Default)]
pub(super) struct Errors(Mutex<VecDeque<Noted>>);

impl Errors {
    pub(super) fn note(&self, what: What<'_>, group: Option<Arc<str>>, now: Instant) {
        let noted = Noted {
            first: now,
            latest: now,
            times: 1,
            kind: what.kind,
            group,
            key: what.key.map(|key| shown(key.as_bytes())),
            peer: what.peer.map(|peer| Arc::clone(&peer.name)),
            text: cut(what.text.as_bytes(), TEXT),
        };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A storm is one line, and does not wash away what came before it.
        if let Some(at) = kept.iter().position(|before| before.is_like(&noted)) {
            if let Some(before) = kept.remove(at) {
                kept.push_back(Noted { first: before.first, times: before.times + 1, ..noted });
            }
            return;
        }
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(noted);
    }

    /// All of them, newest first.
    pub(super) fn all(&self) -> Vec<Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> What<'static> {
        What { key: None, peer: None, kind: "deadline", text: text.to_owned() }
    }

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn alike_errors_are_one_line_and_a_storm_washes_nothing_away() {
        let errors = Errors::default();
        errors.note(error("rare"), Some("g".into()), at(1));
        (2..1_000).for_each(|time| errors.note(error("storm"), Some("g".into()), at(time)));
        let kept: Vec<_> =
            errors.all().into_iter().map(|it| (it.text, it.times, it.first, it.latest)).collect();
        assert_eq!(kept, [("storm".to_owned(), 998, at(2), at(999)), ("rare".to_owned(), 1, at(1), at(1))]);
    }

    #[test]
    fn the_oldest_go_and_long_texts_are_cut() {
        let errors = Errors::default();
        (0..2 * KEPT as u64)
            .for_each(|n| errors.note(error(&format!("{n} {}", "ё".repeat(TEXT))), None, at(n)));
        let kept = errors.all();
        assert_eq!(kept.len(), KEPT);
        assert!(kept[0].text.starts_with(&format!("{} ", 2 * KEPT - 1)), "{}", kept[0].text);
        assert!(kept.iter().all(|it| it.text.len() <= TEXT + '…'.len_utf8() && it.text.ends_with('…')));
    }
}
