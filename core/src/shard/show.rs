//! What a shard has, for people who ask: looked at, and neither counted nor changed by that.

use core::time::Duration;

use crate::cache::{Share, ShareUsage, Stored};
use crate::flight::Source;
use crate::id::{Attempt, PeerId};
use crate::shard::Shard;
use crate::time::Instant;
use crate::value::{HashedKey, Key};

/// What is kept of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kept {
    /// The part of the cache that it is in. [`Share::Negative`] says that the key is known not to exist.
    pub share: Share,
    /// The bytes of its value; 0 where there is none.
    pub len: usize,
    /// What it is charged, in bytes.
    pub charge: u32,
    /// When it expires, which may have been already: what is expired makes place only as that is needed. [`Instant::MAX`] for never.
    pub expires: Instant,
    /// The longest that an entry of its kind lives; `None` for this node's own keys, whose TTL their loader may have set.
    pub longest: Option<Duration>,
}

/// A load in progress.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FlightView {
    /// What is loaded.
    pub key: Key,
    /// The peer that is asked; `None` where it is this node's origin.
    pub peer: Option<PeerId>,
    /// Which of its sources that is.
    pub attempt: Attempt,
    /// Who waits, of this node's own callers and of peers.
    pub waiters: u32,
    /// When it began.
    pub began: Instant,
    /// When it ends at the latest.
    pub deadline: Instant,
    /// Whether a removal came after it began, so that nobody joins it and nothing of it is kept.
    pub fenced: bool,
}

impl<W> Shard<W> {
    /// What is kept of a key. It counts as no lookup and no hit. `None` also where a flush has made an end of it. O(1).
    #[must_use]
    pub fn kept(&self, key: &HashedKey<'_>) -> Option<Kept> {
        let group = self.groups.get(key.group().index() as usize).filter(|group| group.live)?;
        let entry = self.cache.peek(key).filter(|entry| entry.epoch == group.epoch)?;
        let len = match entry.stored {
            Stored::Value(value) => value.len(),
            Stored::NotFound => 0,
        };
        let longest = match entry.share {
            Share::Main => None,
            Share::Hot => Some(self.config.hot_ttl),
            Share::Negative => Some(group.config.negative_ttl),
        };
        Some(Kept { share: entry.share, len, charge: entry.charge(), expires: entry.expires, longest })
    }

    /// The loads in progress, in no order. O(the most flights that there ever were at once).
    pub fn flights(&self) -> impl Iterator<Item = FlightView> {
        self.flights.all().map(|flight| FlightView {
            key: flight.key.clone(),
            peer: match flight.source {
                Source::Origin => None,
                Source::Peer(peer) => Some(peer),
            },
            attempt: flight.attempt,
            waiters: flight.waiters,
            began: flight.latest.saturating_sub(self.config.load_timeout),
            deadline: flight.deadline,
            fenced: flight.fenced,
        })
    }

    /// The use of one part of the cache.
    #[must_use]
    pub fn usage_of(&self, share: Share) -> ShareUsage {
        self.cache.usage(share)
    }
}
