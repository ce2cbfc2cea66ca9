//! What happens: messages on their way, time limits of what a process waits for, and what the world itself has scheduled.

use std::time::Duration;

use groupcache_core::{
    Attempt, BatchEnd, BatchId, DialId, Disposition, FlightId, Invalidation, Key, LeaseId, OpId, Outcome,
    PeerId, RegistryIntent, RegistryOutcome, RemovalId, RequestId, Revision, WatchEvent,
};

use super::clock::Time;

/// A connection, by number.
pub(super) type ConnId = u32;

/// Something that happens at its time.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A message arrives at one end of a connection.
    Wire { conn: ConnId, to_server: bool, message: Message },
    /// Something within one life of a process.
    Local { node: usize, life: u32, what: Local },
    /// etcd is asked.
    Ask(Ask),
    /// etcd tells a process.
    Told { node: usize, life: u32, told: Told },
    /// A line is free again.
    Unclog { from: usize, to: usize },
    /// A process goes on.
    Resume { node: usize, life: u32 },
}

/// What crosses a connection.
#[derive(Clone, Debug)]
pub(super) enum Message {
    /// A dial, which asks for no keys.
    Probe,
    ProbeAnswer,
    /// Nobody listens there, or the connection is over.
    Reset,
    /// The server takes no more calls, and answers those it has.
    GoAway,
    Ping,
    Pong,
    Request {
        batch: BatchId,
        single: bool,
        items: Vec<(Key, Time)>,
    },
    Cancel {
        batch: BatchId,
    },
    Replies {
        batch: BatchId,
        replies: Vec<(u32, Outcome)>,
        last: bool,
    },
    /// The stream of a batch ends so.
    End {
        batch: BatchId,
        end: BatchEnd,
    },
    Forget {
        removal: RemovalId,
        what: Invalidation,
    },
    Forgotten {
        removal: RemovalId,
        acknowledged: bool,
    },
}

/// What a process waits for, or does.
#[derive(Clone, Debug)]
pub(super) enum Local {
    Loaded {
        flight: FlightId,
        attempt: Attempt,
        outcome: Outcome,
    },
    DialLimit {
        conn: ConnId,
    },
    KeepAlive {
        conn: ConnId,
    },
    FetchLimit {
        conn: ConnId,
        batch: BatchId,
    },
    ForgetLimit {
        conn: ConnId,
        removal: RemovalId,
    },
    /// There was no connection to send on.
    NotSent {
        peer: PeerId,
        batch: BatchId,
    },
    NotTold {
        peer: PeerId,
        removal: RemovalId,
    },
    RegistryLimit {
        call: u64,
    },
    WatchLimit {
        op: OpId,
    },
    /// A stopping process has waited for long enough.
    Drained,
}

/// A request to etcd.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) node: usize,
    pub(super) life: u32,
    pub(super) call: u64,
    pub(super) what: Asked,
}

#[derive(Clone, Debug)]
pub(super) enum Asked {
    Call(RegistryIntent),
    /// The second half of a registration.
    Put {
        op: OpId,
        lease: LeaseId,
        ttl: Duration,
    },
    Watch {
        op: OpId,
        after: Revision,
    },
    Unwatch,
}

/// What etcd says to a process.
#[derive(Clone, Debug)]
pub(super) enum Told {
    Outcome {
        call: u64,
        op: OpId,
        outcome: RegistryOutcome,
    },
    /// The first half of a registration.
    Granted {
        call: u64,
        op: OpId,
        lease: LeaseId,
        ttl: Duration,
    },
    WatchOpen {
        op: OpId,
    },
    Watch {
        op: OpId,
        event: WatchEvent,
    },
}

/// Something that a node is told: what [`Node`](groupcache_core::Node) has a `handle_` for. Kept for a while, to be told again.
#[derive(Clone, Debug)]
pub(super) enum Fact {
    Loaded(FlightId, Attempt, Outcome),
    Replies(PeerId, BatchId, Vec<(u32, Outcome)>),
    Closed(PeerId, BatchId, BatchEnd),
    Connected(PeerId, DialId, groupcache_core::Protocol),
    Draining(PeerId, DialId),
    Lost(PeerId, DialId),
    Disconnected(PeerId, DialId),
    Seen(PeerId),
    Invalidation(Invalidation),
    Invalidated(RemovalId, PeerId, bool),
    RequestCancelled(RequestId),
    Registry(OpId, RegistryOutcome),
    Watch(OpId, WatchEvent),
}

impl Fact {
    /// Whether it must mean nothing when it comes a second time.
    pub(super) const fn is_used_up(&self) -> bool {
        match self {
            Self::Loaded(..)
            | Self::Connected(..)
            | Self::Draining(..)
            | Self::Lost(..)
            | Self::Disconnected(..)
            | Self::Closed(..)
            | Self::Invalidated(..)
            | Self::RequestCancelled(_) => true,
            Self::Replies(..)
            | Self::Seen(_)
            | Self::Invalidation(_)
            | Self::Registry(..)
            | Self::Watch(..) => false,
        }
    }

    /// Its column in the coverage, and its word in the trace.
    pub(super) const fn code(&self) -> u64 {
        match self {
            Self::Loaded(_, _, Outcome::Value { .. }) => 0,
            Self::Loaded(_, _, Outcome::Failed(_)) => 1,
            Self::Loaded(_, _, Outcome::Unreachable(_)) => 2,
            Self::Replies(..) => 7,
            Self::Closed(_, _, BatchEnd::Complete) => 8,
            Self::Closed(_, _, BatchEnd::Unimplemented) => 9,
            Self::Closed(_, _, BatchEnd::Failed(_)) => 10,
            Self::Connected(..) => 11,
            Self::Disconnected(..) => 14,
            Self::Draining(..) => 12,
            Self::Lost(..) => 13,
            Self::Seen(_) => 15,
            Self::Invalidation(_) => 3,
            Self::Invalidated(_, _, true) => 4,
            Self::Invalidated(_, _, false) => 5,
            Self::RequestCancelled(_) => 6,
            Self::Registry(_, RegistryOutcome::Registered { .. }) => 16,
            Self::Registry(_, RegistryOutcome::KeptAlive { .. }) => 17,
            Self::Registry(_, RegistryOutcome::LeaseLost) => 18,
            Self::Registry(_, RegistryOutcome::Deregistered) => 19,
            Self::Registry(_, RegistryOutcome::Listed { .. }) => 20,
            Self::Registry(_, RegistryOutcome::Failed(_)) => 21,
            Self::Watch(_, WatchEvent::Changed { .. }) => 22,
            Self::Watch(_, WatchEvent::Compacted { .. }) => 23,
            Self::Watch(_, WatchEvent::Ended(_)) => 24,
        }
    }

    /// The names of the codes.
    pub(super) const NAMES: [&'static str; 25] = [
        "loaded",
        "load failed",
        "load unanswered",
        "invalidation",
        "acknowledged",
        "not acknowledged",
        "request cancelled",
        "replies",
        "batch complete",
        "batch unimplemented",
        "batch failed",
        "connected",
        "draining",
        "lost",
        "disconnected",
        "seen",
        "registered",
        "kept alive",
        "lease lost",
        "deregistered",
        "listed",
        "registry failed",
        "watch changed",
        "watch compacted",
        "watch ended",
    ];

    /// The peer that it is about.
    pub(super) const fn peer(&self) -> Option<PeerId> {
        match self {
            Self::Replies(peer, ..)
            | Self::Closed(peer, ..)
            | Self::Connected(peer, ..)
            | Self::Draining(peer, _)
            | Self::Lost(peer, _)
            | Self::Disconnected(peer, _)
            | Self::Seen(peer)
            | Self::Invalidated(_, peer, _) => Some(*peer),
            Self::Loaded(..)
            | Self::Invalidation(_)
            | Self::RequestCancelled(_)
            | Self::Registry(..)
            | Self::Watch(..) => None,
        }
    }
}

pub(super) const fn disposition_code(disposition: Disposition) -> u64 {
    match disposition {
        Disposition::Applied => 0,
        Disposition::Retrying => 1,
        Disposition::Stale => 2,
    }
}
