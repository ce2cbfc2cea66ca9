//! What the machines ask of the outside world: appended to a buffer that the caller owns.
//!
//! No machine has an output queue of its own, so there is nothing to forget to poll, and under a lock nothing is emitted on behalf of somebody
//! else. The buffer is reused from call to call; it allocates until it has seen its largest turn and then no more.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use crate::error::{Cause, Failure};
use crate::id::{
    Attempt, BatchId, DialId, FlightId, GroupId, LeaseId, OpId, PeerId, RemovalId, RequestId, Revision,
};
use crate::time::Instant;
use crate::value::{Key, Value};

/// Something for the embedder to do. Exhaustive on purpose: an intent that a loop skips is a hang, so skipping one must not compile.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Intent {
    /// Ask the origin. Answer with `handle_loaded`, also when the loader panicked or `deadline` passed.
    Load {
        /// The flight that wants the value.
        flight: FlightId,
        /// Hand this back with the result.
        attempt: Attempt,
        /// What to load.
        key: Key,
        /// After this nobody wants the result.
        deadline: Instant,
    },
    /// Nobody wants the result of this flight's origin load any more: stop it. An answer that comes all the same is stale, and harmless.
    AbortLoad {
        /// The flight.
        flight: FlightId,
    },
    /// Send one batch to a peer. Answer with `handle_replies` as results arrive and `handle_batch_closed` at the end.
    Fetch(Batch),
    /// Nobody wants this batch any more: reset its stream.
    AbortFetch {
        /// The peer it was sent to.
        peer: PeerId,
        /// The batch.
        batch: BatchId,
    },
    /// Answer a peer's request: results in the order they became known; `last` closes the answer.
    Reply {
        /// The request.
        request: RequestId,
        /// Indexes into the request's keys, with what became of each.
        results: Vec<(u32, Result<Fetched, Failure>)>,
        /// Whether this completes the request.
        last: bool,
    },
    /// Tell a peer to forget. Answer with `handle_invalidated`. Where the peer is only being dialled, as a peer that was never asked may be, tell it when
    /// it is connected.
    Invalidate {
        /// The removal that waits for the acknowledgement.
        removal: RemovalId,
        /// Whom to tell.
        peer: PeerId,
        /// What to forget.
        what: Invalidation,
        /// After this the peer counts as not reached.
        deadline: Instant,
    },
    /// Dial a peer. Answer with `handle_connected` or `handle_disconnected`; after the former, `handle_disconnected` says that the connection is
    /// gone, and `handle_draining` or `handle_lost` before that, where the loop can tell, that it takes no more calls. Connections that were made before stay open while something is in flight on them.
    Connect {
        /// The peer.
        peer: PeerId,
        /// Hand this back with whatever becomes of the dial, and of the connection that it makes.
        dial: DialId,
        /// Its address.
        name: Arc<str>,
    },
    /// The peer has left the ring, and nothing is in flight any more: close its connections, and drop its link.
    Forget {
        /// The peer.
        peer: PeerId,
    },
    /// Something to ask of the registry. Answer with `handle_registry`, or `handle_watch` for what a watch brings.
    Registry(RegistryIntent),
}

/// Something to ask of the registry. Exhaustive like [`Intent`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum RegistryIntent {
    /// Grant a lease of `ttl` and put this node's record under it.
    Register {
        /// The operation.
        op: OpId,
        /// How long the lease lives without a keep-alive.
        ttl: Duration,
    },
    /// Keep the lease alive, once.
    KeepAlive {
        /// The operation.
        op: OpId,
        /// The lease.
        lease: LeaseId,
    },
    /// Delete this node's record and revoke the lease.
    Deregister {
        /// The operation.
        op: OpId,
        /// The lease, where one was granted.
        lease: Option<LeaseId>,
    },
    /// List all members, with the revision of the list.
    List {
        /// The operation.
        op: OpId,
    },
    /// Watch for changes after `after`, until told otherwise: a new `Watch` replaces the one before.
    Watch {
        /// The operation.
        op: OpId,
        /// The revision to start behind.
        after: Revision,
    },
}

/// A batch of keys for one peer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Batch {
    /// The peer.
    pub peer: PeerId,
    /// The batch's id, for the answers.
    pub batch: BatchId,
    /// The connection to send it by. Where that is gone already, the batch has failed.
    pub dial: DialId,
    /// How to speak to the peer.
    pub protocol: Protocol,
    /// What to ask for; replies name indexes into this. One item for [`Protocol::Single`].
    pub items: Vec<FetchItem>,
    /// The latest of the items' deadlines.
    pub deadline: Instant,
}

/// How a peer is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum Protocol {
    /// `groupcache.v1`: many keys a message, remaining TTL, error kinds.
    Batched,
    /// `groupcachepb.GroupCache/Get`: one key a call, for a peer that answered UNIMPLEMENTED to the other.
    Single,
}

/// One key of a batch.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FetchItem {
    /// The flight that wants the value.
    pub flight: FlightId,
    /// The flight's try.
    pub attempt: Attempt,
    /// What to fetch.
    pub key: Key,
    /// After this nobody wants the result.
    pub deadline: Instant,
}

/// What a peer is told to forget.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum Invalidation {
    /// One key.
    Key(Key),
    /// Every key of a group.
    Group(GroupId),
}

/// Where a value came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::exhaustive_enums)]
pub enum Level {
    /// This node's own share of the cache.
    Main,
    /// A hot copy of another node's key.
    Hot,
    /// Fetched from a peer.
    Peer,
    /// Loaded from the origin by this node.
    Origin,
}

/// A value, and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fetched {
    /// The value.
    pub value: Value,
    /// Where it came from.
    pub level: Level,
    /// When it expires; [`Instant::MAX`] for never. It lies in the past where the group's configuration lets an expired value be given out.
    pub expires: Instant,
}

impl Fetched {
    /// A value from `level` that expires at `expires`.
    #[must_use]
    pub const fn new(value: Value, level: Level, expires: Instant) -> Self {
        Self { value, level, expires }
    }
}

/// What became of an origin load or of one fetched key: what the embedder hands in.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Outcome {
    /// A value. `ttl` is how long it may be kept: for a fetch what the owner has left, for a load what the loader says.
    Value {
        /// The value.
        value: Value,
        /// How long it lives; `None` leaves it to the group's configuration.
        ttl: Option<Duration>,
    },
    /// An answer with authority: the key does not exist, or the load failed. It is not asked for elsewhere.
    Failed(Failure),
    /// No answer: the source could not be reached, or could not answer. The flight tries its next source.
    Unreachable(Option<Cause>),
}

impl Outcome {
    /// What a peer's failure means to a flight: an answer with authority, or, where the peer speaks only of itself (overloaded, stopping, without the
    /// group), none.
    #[must_use]
    pub fn from_peer(failure: Failure) -> Self {
        if failure.kind.is_about_the_peer() {
            Self::Unreachable(Some(Arc::new(failure)))
        } else {
            Self::Failed(failure)
        }
    }
}

/// A waiter and what it waited for.
#[derive(Debug)]
#[non_exhaustive]
pub struct Completion<W> {
    /// The embedder's waiter, given back exactly once.
    pub waiter: W,
    /// What it gets.
    pub result: Result<Fetched, Failure>,
}

impl<W> Completion<W> {
    pub(crate) const fn new(waiter: W, result: Result<Fetched, Failure>) -> Self {
        Self { waiter, result }
    }
}

/// What one machine asks of another. [`Node`](crate::Node) passes these on by itself; who composes the machines differently does it in its place.
#[derive(Clone, Debug)]
#[allow(clippy::exhaustive_enums)]
pub enum Call {
    /// Fetch a key: call [`Link::fetch`](crate::Link::fetch), and hand a refusal back as [`Outcome::Unreachable`].
    Fetch {
        /// Whom to ask.
        peer: PeerId,
        /// What for.
        item: FetchItem,
    },
    /// The flight lost interest: call [`Link::cancel`](crate::Link::cancel).
    Cancel {
        /// Who was asked.
        peer: PeerId,
        /// For which flight.
        flight: FlightId,
    },
    /// A removal has reached the owner: forget here as well. Call [`Shard::invalidate`](crate::Shard::invalidate) or `flush`, at once.
    Invalidate {
        /// What to forget.
        what: Invalidation,
    },
}

/// What a [`Link`](crate::Link) tells a [`Shard`](crate::Shard): one fetch is settled. Goes to `Shard::handle_fetched`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Settled {
    /// The flight.
    pub flight: FlightId,
    /// The try.
    pub attempt: Attempt,
    /// What became of it.
    pub outcome: Outcome,
}

impl Settled {
    pub(crate) const fn new(flight: FlightId, attempt: Attempt, outcome: Outcome) -> Self {
        Self { flight, attempt, outcome }
    }
}

/// The caller's buffer for everything that calls emit.
///
/// Drain it after every call or after several, but before waiting for anything: nothing else remembers what is in it. `W` is the embedder's own
/// waiter type.
#[derive(Debug)]
#[must_use = "effects that nobody carries out are lost loads"]
pub struct Effects<W> {
    pub(crate) intents: Vec<Intent>,
    pub(crate) completions: Vec<Completion<W>>,
    pub(crate) evicted: Vec<Value>,
    pub(crate) calls: Vec<Call>,
    pub(crate) settled: Vec<Settled>,
    pub(crate) removals: Vec<Removed<W>>,
}

/// A finished removal.
#[derive(Debug)]
#[non_exhaustive]
pub struct Removed<W> {
    /// The embedder's waiter.
    pub waiter: W,
    /// Members that did not acknowledge: their hot copies live on for at most the hot TTL. Empty when the removal is complete.
    pub unacknowledged: Vec<PeerId>,
}

impl<W> Default for Effects<W> {
    fn default() -> Self {
        Self::new()
    }
}

impl<W> Effects<W> {
    /// An empty buffer. Allocates nothing yet.
    pub const fn new() -> Self {
        Self {
            intents: Vec::new(),
            completions: Vec::new(),
            evicted: Vec::new(),
            calls: Vec::new(),
            settled: Vec::new(),
            removals: Vec::new(),
        }
    }

    /// Whether nothing is left to carry out. Evicted values may still be held: [`free_evicted`](Self::free_evicted) is part of every turn.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.intents.is_empty()
            && self.completions.is_empty()
            && self.calls.is_empty()
            && self.settled.is_empty()
            && self.removals.is_empty()
    }

    /// The flights for which a shard asks something of the origin or of a peer, and which nobody has been asked for yet.
    pub fn flights_asked(&self) -> impl Iterator<Item = FlightId> + '_ {
        let loads = self
            .intents
            .iter()
            .filter_map(|intent| if let Intent::Load { flight, .. } = intent { Some(*flight) } else { None });
        let fetches = self.calls.iter().filter_map(|call| match call {
            Call::Fetch { item, .. } => Some(item.flight),
            Call::Cancel { .. } | Call::Invalidate { .. } => None,
        });
        loads.chain(fetches)
    }

    /// Takes out what is to be done, oldest first.
    pub fn drain_intents(&mut self) -> alloc::vec::Drain<'_, Intent> {
        self.intents.drain(..)
    }

    /// Takes out the waiters that are served.
    pub fn drain_completions(&mut self) -> alloc::vec::Drain<'_, Completion<W>> {
        self.completions.drain(..)
    }

    /// Takes out the finished removals.
    pub fn drain_removals(&mut self) -> alloc::vec::Drain<'_, Removed<W>> {
        self.removals.drain(..)
    }

    /// Takes out calls for other machines. Always empty behind a [`Node`](crate::Node).
    pub fn drain_calls(&mut self) -> alloc::vec::Drain<'_, Call> {
        self.calls.drain(..)
    }

    /// Takes out settled fetches for shards. Always empty behind a [`Node`](crate::Node).
    pub fn drain_settled(&mut self) -> alloc::vec::Drain<'_, Settled> {
        self.settled.drain(..)
    }

    /// Drops evicted values. They are kept until here so that freeing their memory happens outside any lock around the machine.
    pub fn free_evicted(&mut self) {
        self.evicted.clear();
    }
}

/// What a fact from outside meant to the machine. Loops need not act on it: each case is counted where it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums)]
pub enum Disposition {
    /// It was taken.
    Applied,
    /// It was taken as a failure of one source; the next is being asked.
    Retrying,
    /// It was late, a duplicate, or never asked for. Normal in a distributed system: counted, and nothing else changed.
    Stale,
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::error::FailureKind;

    #[test]
    fn a_buffer_with_anything_to_carry_out_is_not_empty() {
        let (flight, peer) = (FlightId::new(0, 0, 0), PeerId::new(1));
        let fill: [fn(&mut Effects<u32>, FlightId, PeerId); 5] = [
            |out, flight, _| out.intents.push(Intent::AbortLoad { flight }),
            |out, _, _| out.completions.push(Completion::new(1, Err(Failure::new(FailureKind::Deadline)))),
            |out, flight, peer| out.calls.push(Call::Cancel { peer, flight }),
            |out, flight, _| {
                out.settled.push(Settled::new(flight, Attempt::default(), Outcome::Unreachable(None)));
            },
            |out, _, _| out.removals.push(Removed { waiter: 1, unacknowledged: Vec::new() }),
        ];
        let mut out = Effects::new();
        assert!(out.is_empty());
        for fill in fill {
            fill(&mut out, flight, peer);
            assert!(!out.is_empty(), "{out:?}");
            out.drain_intents();
            out.drain_completions();
            out.drain_calls();
            out.drain_settled();
            out.drain_removals();
            assert!(out.is_empty(), "{out:?}");
        }
    }

    #[test]
    fn evicted_values_live_until_they_are_freed() {
        let mut out: Effects<()> = Effects::new();
        out.evicted.push(Value::from(&b"v"[..]));
        assert!(out.is_empty(), "nobody has to carry them out");
        assert_eq!(out.evicted.len(), 1);
        out.free_evicted();
        assert!(out.evicted.is_empty());
    }

    #[test]
    fn what_a_peer_says_of_itself_is_asked_elsewhere_and_what_it_says_of_the_key_is_an_answer() {
        for kind in FailureKind::ALL {
            let elsewhere = matches!(Outcome::from_peer(Failure::new(kind)), Outcome::Unreachable(Some(_)));
            let of_itself = [FailureKind::Overloaded, FailureKind::NoSuchGroup, FailureKind::Stopping];
            assert_eq!(elsewhere, of_itself.contains(&kind), "{kind:?}");
        }
    }
}
