//! What the last loads and fetches came to.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use groupcache_core::{GroupId, HashedKey, Instant, Key, Outcome, PeerId};

use super::UNREACHABLE;

/// How many are kept.
const KEPT: usize = 1024;

/// What a load or a fetch came to. A key is known by its table hash, which is one of 64 bits and keyed: no two are alike by any likely chance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    group: GroupId,
    hash: u64,
    /// The peer that was asked; `None` where it was the origin.
    pub(super) peer: Option<PeerId>,
    /// `value`, or the kind of failure.
    pub(super) what: &'static str,
    pub(super) at: Instant,
    pub(super) took: Duration,
}

pub(super) const VALUE: &str = "value";

impl Settled {
    pub(super) fn new(
        key: &Key,
        peer: Option<PeerId>,
        outcome: &Outcome,
        (at, took): (Instant, Duration),
    ) -> Self {
        let what = match outcome {
            Outcome::Value { .. } => VALUE,
            Outcome::Failed(failure) => failure.kind.name(),
            Outcome::Unreachable(_) => UNREACHABLE,
        };
        Self { group: key.group(), hash: key.hash(), peer, what, at, took }
    }
}

/// The last [`KEPT`] of them, newest last.
#[derive(Debug, Default)]
pub(super) struct Outcomes(Mutex<VecDeque<Settled>>);

impl Outcomes {
    pub(super) fn note(&self, settled: Settled) {
        self.note_all([settled]);
    }

    pub(super) fn note_all(&self, settled: impl IntoIterator<Item = Settled>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for settled in settled {
            if kept.len() == KEPT {
                kept.pop_front();
            }
            kept.push_back(settled);
        }
    }

    /// The latest of a key, as far back as they are kept.
    pub(super) fn latest(&self, key: &HashedKey<'_>) -> Option<Settled> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().rev().find(|settled| settled.hash == key.hash() && settled.group == key.group()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use groupcache_core::{Failure, FailureKind};

    #[test]
    fn the_latest_outcome_of_a_key_is_found_until_newer_ones_of_others_have_taken_its_place() {
        let outcomes = Outcomes::default();
        let key = |hash| HashedKey::new(GroupId::new(1), b"k", hash);
        let note = |hash, outcome: &Outcome, at| {
            let times = (Instant::from_nanos(at), Duration::ZERO);
            outcomes.note(Settled::new(&Key::from(&key(hash)), None, outcome, times));
        };
        note(7, &Outcome::Unreachable(None), 1);
        note(7, &Outcome::Failed(Failure::new(FailureKind::NotFound)), 2);
        let latest = outcomes.latest(&key(7)).expect("it is kept");
        assert_eq!((latest.what, latest.at), ("not_found", Instant::from_nanos(2)));
        assert!(outcomes.latest(&HashedKey::new(GroupId::new(2), b"k", 7)).is_none());
        (0..KEPT as u64).for_each(|n| note(n + 100, &Outcome::Unreachable(None), n));
        assert!(outcomes.latest(&key(7)).is_none());
    }
}
