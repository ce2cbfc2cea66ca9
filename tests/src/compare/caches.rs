//! The caches that are compared in one process, ours among them, behind one trait. All hash with ahash where they let one choose, and hold
//! each value in one shared allocation.

mod ours;
mod theirs;

use std::hint::black_box;

use super::Outcome;
use super::keys::Stream;

pub(super) use self::ours::{CORE, GROUP_ASYNC_STD, GROUP_TOKIO, GROUP_TRACED};
pub(super) use self::theirs::{GROUPCACHE, MOKA, QUICK_CACHE};

/// A cache of text keys and values of bytes.
pub(super) trait Cache: Send + Sync {
    /// Gets each key of a stream, lets each value go as a caller does, and answers how many were there.
    fn hits(&self, stream: &Stream) -> usize;

    /// Whether a key is there.
    fn holds(&self, key: &str) -> bool;

    /// Stores the value of each key of a stream, as whoever has missed it does.
    fn fill(&self, stream: &Stream) -> Outcome<()>;

    /// Does what is put off.
    fn settle(&self) {}
}

/// A cache by name, and how to make one that holds so many entries of these keys and values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contender {
    pub(super) name: &'static str,
    pub(super) make: fn(entries: usize) -> Outcome<Box<dyn Cache>>,
}

/// Ours first.
pub(super) const CONTENDERS: &[Contender] = &[
    CORE,
    GROUP_TOKIO,
    GROUP_ASYNC_STD,
    QUICK_CACHE,
    MOKA,
    theirs::MOKA_FUTURE,
    theirs::MINI_MOKA,
    theirs::FOYER_S3FIFO,
    theirs::FOYER_LRU,
    theirs::TINYUFO,
    GROUPCACHE,
];

/// [`Cache::hits`] for a cache that answers at once.
#[inline]
fn count(stream: &Stream, mut get: impl FnMut(&str) -> bool) -> usize {
    stream.keys().filter(|key| black_box(get(black_box(key)))).count()
}
