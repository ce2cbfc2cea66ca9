//! gRPC over HTTP/2 over any [`Runtime`](crate::Runtime): one connection to a peer, and the server that peers connect to.
//!
//! It sits on hyper, not on tonic's own channel and server: those need a tokio runtime, take their own time for dead peers, and hide when a
//! connection breaks. tonic contributes the framing and the generated stubs.

mod answers;
mod authority;
mod body;
mod caller;
mod client;
mod cork;
mod deadline;
mod handler;
mod pulse;
mod server;
mod tasks;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use groupcache_core::{Cause, Failure, MAX_META, Outcome};
use groupcache_proto::{RemoteStatus, failure_of_status};
use tonic::{Code, Status};

use crate::secure::Security;
use crate::tokens::Tokens;

#[cfg(feature = "__fuzz")]
pub(crate) use authority::replay::replay as replay_authority;
#[cfg(test)]
pub(crate) use client::TransportError;
pub(crate) use client::{Closed, PeerChannel};
pub(crate) use handler::{Known, PeerService, Served};
pub(crate) use server::PeerServer;

/// What a message carries beside the values or keys in it, at most: field tags, lengths, TTL, index, metadata, the text of a failure.
const MESSAGE_OVERHEAD: usize = 4 * 1024 + MAX_META;

/// Messages of many small values must fit, and what other makes send by default.
const MIN_MAX_MESSAGE: usize = 4 * 1024 * 1024;

/// Large frames carry large values with fewer wake-ups: half as much again as with HTTP/2's own 16 KiB.
const FRAME: u32 = 1024 * 1024;
const STREAM_WINDOW: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;

/// How connections behave, on both sides.
#[derive(Clone, Debug)]
pub(crate) struct TransportConfig {
    /// How long dialling may take, resolving and the first answer included.
    pub(crate) connect_timeout: Duration,
    /// How long nothing may arrive while calls are in flight before the peer is pinged, or asked in place of that.
    pub(crate) keep_alive_interval: Duration,
    /// How long a ping may stay without an answer before the connection is given up.
    pub(crate) keep_alive_timeout: Duration,
    /// How connections are secured, where they are.
    pub(crate) security: Option<Arc<dyn Security>>,
    /// What callers have to know, and what this node sends to its peers.
    pub(crate) tokens: Option<Tokens>,
    /// How long whoever connects may take to agree on how the connection is secured.
    pub(crate) handshake_timeout: Duration,
    /// How many connections may be agreeing on that at a time: what those cost who connect and say nothing.
    pub(crate) max_handshakes: usize,
    /// After how long a connection that somebody has made takes no more calls, so that it is made anew.
    pub(crate) max_age: Option<Duration>,
    /// How long a stopping server waits for calls in flight.
    pub(crate) drain: Duration,
    /// The largest message that is sent or taken, in bytes.
    pub(crate) max_message: usize,
    /// How many keys a request may name.
    pub(crate) max_keys: usize,
    /// How many calls a peer may have in flight on one connection.
    pub(crate) max_streams: NonZeroU32,
}

impl TransportConfig {
    /// Limits for values of up to `max_value` bytes.
    pub(crate) const fn for_values(max_value: usize) -> Self {
        let message = max_value.saturating_add(MESSAGE_OVERHEAD);
        Self {
            connect_timeout: Duration::from_secs(1),
            keep_alive_interval: Duration::from_secs(2),
            keep_alive_timeout: Duration::from_secs(1),
            security: None,
            tokens: None,
            handshake_timeout: Duration::from_secs(5),
            max_handshakes: 1024,
            max_age: None,
            drain: Duration::from_secs(5),
            max_message: if message > MIN_MAX_MESSAGE { message } else { MIN_MAX_MESSAGE },
            max_keys: 4096,
            max_streams: NonZeroU32::MIN.saturating_add(1023),
        }
    }
}

/// Why a peer gave no value.
#[derive(Clone, Debug)]
pub(crate) enum PeerFault {
    /// The peer does not know the service: it is spoken to with the other one.
    Unimplemented,
    /// No answer: it could not be reached, broke off, said nothing in time, or speaks of itself (overloaded, stopping).
    Unreachable(Cause),
    /// An answer, with authority.
    Status(Failure),
}

impl PeerFault {
    /// What this means to a flight.
    pub(crate) fn into_outcome(self) -> Outcome {
        match self {
            Self::Unimplemented => {
                Outcome::Unreachable(Some(Arc::new(RemoteStatus::from(Status::unimplemented("")))))
            }
            Self::Unreachable(cause) => Outcome::Unreachable(Some(cause)),
            Self::Status(failure) => Outcome::from_peer(failure),
        }
    }

    /// The status of a call about one key.
    fn of_key(status: Status) -> Self {
        if is_unimplemented(&status) {
            return Self::Unimplemented;
        }
        match failure_of_status(&status).map(Outcome::from_peer) {
            Some(Outcome::Failed(failure)) => Self::Status(failure),
            Some(Outcome::Unreachable(Some(cause))) => Self::Unreachable(cause),
            _ => Self::unreachable(RemoteStatus::from(status)),
        }
    }

    /// The status of a call about many keys: it speaks of none of them, so it answers none of them.
    fn of_batch(status: Status) -> Self {
        if is_unimplemented(&status) {
            Self::Unimplemented
        } else {
            Self::unreachable(RemoteStatus::from(status))
        }
    }

    fn unreachable(cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Unreachable(Arc::new(cause))
    }
}

fn is_unimplemented(status: &Status) -> bool {
    status.code() == Code::Unimplemented && std::error::Error::source(status).is_none()
}

#[cfg(test)]
mod tests;
