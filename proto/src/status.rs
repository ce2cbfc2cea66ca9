//! Failures as gRPC statuses, for `Get` and for what fails a call as a whole.
//!
//! A Go client sees code and message. A Rust client also finds the kind's name in the metadata, since two kinds can share a code.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use groupcache_core::{Failure, FailureKind, Outcome};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use crate::convert::{causes, cut};

/// The metadata key of a failed call that carries the [name](FailureKind::name) of the failure's kind.
pub const ERROR_METADATA: &str = "groupcache-error";

/// `failure`, which happened to a call about `group`, as the status that is sent.
#[must_use]
pub fn status_of_failure(failure: &Failure, group: &str) -> Status {
    let why = causes(failure);
    let message = match failure.kind {
        FailureKind::NoSuchGroup => format!("no such group `{group}`"),
        // As the Go system does: the origin's own words and no more.
        FailureKind::NotFound | FailureKind::OriginFailed if !why.is_empty() => why,
        _ if why.is_empty() => failure.to_string(),
        _ => format!("{failure}: {why}"),
    };
    let mut status = Status::new(code_of_kind(failure.kind), cut(message));
    status.metadata_mut().insert(ERROR_METADATA, MetadataValue::from_static(failure.kind.name()));
    status
}

const fn code_of_kind(kind: FailureKind) -> Code {
    match kind {
        FailureKind::NotFound | FailureKind::NoSuchGroup => Code::NotFound,
        FailureKind::Overloaded => Code::ResourceExhausted,
        FailureKind::Deadline => Code::DeadlineExceeded,
        FailureKind::InvalidKey => Code::InvalidArgument,
        FailureKind::ValueTooLarge => Code::OutOfRange,
        FailureKind::Stopping => Code::Unavailable,
        _ => Code::Unknown,
    }
}

/// What a call's status means to the one who asked: an answer with authority, or none.
#[must_use]
pub fn outcome_of_status(status: Status) -> Outcome {
    match failure_of_status(&status) {
        Some(failure) => Outcome::from_peer(failure),
        None => Outcome::Unreachable(Some(Arc::new(RemoteStatus::from(status)))),
    }
}

/// The failure that a peer reports with `status`; `None` where the status does not come from the peer, or says only that the peer could not
/// answer.
///
/// Without [`ERROR_METADATA`] the peer is of another make, and its code counts: UNKNOWN is a Go node's origin that failed.
#[must_use]
pub fn failure_of_status(status: &Status) -> Option<Failure> {
    if status.source().is_some() {
        return None; // Made on this side, from a connection that broke.
    }
    let named = status.metadata().get(ERROR_METADATA).and_then(|name| {
        FailureKind::ALL.into_iter().find(|kind| kind.name().as_bytes() == name.as_encoded_bytes())
    });
    let kind = named.or_else(|| match status.code() {
        Code::Unknown => Some(FailureKind::OriginFailed),
        Code::NotFound => Some(FailureKind::NotFound),
        Code::InvalidArgument => Some(FailureKind::InvalidKey),
        Code::DeadlineExceeded => Some(FailureKind::Deadline),
        Code::OutOfRange => Some(FailureKind::ValueTooLarge),
        _ => None,
    })?;
    Some(failure_in_words(kind, status.message()))
}

/// The failure's own words, which open a message, are taken off it: its `Display` says them again.
fn failure_in_words(kind: FailureKind, message: &str) -> Failure {
    let failure = Failure::new(kind);
    let rest = match message.strip_prefix(&failure.to_string()) {
        Some("") => "",
        Some(rest) => rest.strip_prefix(": ").or_else(|| rest.strip_prefix(' ')).unwrap_or(message),
        None => message,
    };
    if rest.is_empty() { failure } else { Failure::with_message(kind, cut(rest.to_owned())) }
}

/// A status that says why a peer did not answer.
#[derive(Debug)]
pub struct RemoteStatus(Status);

impl RemoteStatus {
    /// The code that the peer sent, or that stands for what happened to the connection.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code()
    }
}

impl From<Status> for RemoteStatus {
    fn from(status: Status) -> Self {
        Self(status)
    }
}

impl fmt::Display for RemoteStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the call ended with {:?}", self.0.code())?;
        // With a source the message is only that source's text again.
        if self.0.source().is_some() || self.0.message().is_empty() {
            return Ok(());
        }
        write!(f, ": {}", self.0.message())
    }
}

impl Error for RemoteStatus {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn every_kind_survives_a_status() {
        for kind in FailureKind::ALL {
            for failure in [Failure::new(kind), Failure::with_message(kind, "because")] {
                let status = status_of_failure(&failure, "scores");
                let got = failure_of_status(&status).expect("a peer's failure");
                let text =
                    if kind == FailureKind::NoSuchGroup { "`scores`".to_owned() } else { causes(&failure) };
                assert_eq!((got.kind, causes(&got)), (kind, text));
            }
        }
    }

    #[test]
    fn a_client_of_another_make_sees_code_and_message() {
        let seen = |failure: Failure| {
            let status = status_of_failure(&failure, "scores");
            (status.code(), status.message().to_owned())
        };
        assert_eq!(seen(Failure::new(FailureKind::NotFound)), (Code::NotFound, "not found".to_owned()));
        assert_eq!(
            seen(Failure::new(FailureKind::NoSuchGroup)),
            (Code::NotFound, "no such group `scores`".to_owned())
        );
        assert_eq!(
            seen(groupcache_core::LoadError::EmptyKey.into()),
            (Code::InvalidArgument, "invalid key: the key is empty".to_owned())
        );
        assert_eq!(
            seen(Failure::with_message(FailureKind::OriginFailed, "record lost")),
            (Code::Unknown, "record lost".to_owned())
        );
        assert_eq!(seen(Failure::new(FailureKind::Stopping)).0, Code::Unavailable);
        assert_eq!(seen(Failure::new(FailureKind::ValueTooLarge)).0, Code::OutOfRange);
        assert_eq!(seen(Failure::new(FailureKind::Overloaded)).0, Code::ResourceExhausted);
        assert_eq!(seen(Failure::new(FailureKind::Deadline)).0, Code::DeadlineExceeded);
    }

    #[test]
    fn a_go_nodes_unknown_is_its_origin_and_a_broken_connections_unknown_is_not() {
        match outcome_of_status(Status::unknown("record not found")) {
            Outcome::Failed(failure) => {
                assert_eq!(failure.kind, FailureKind::OriginFailed);
                assert_eq!(causes(&failure), "record not found");
            }
            other => panic!("{other:?}"),
        }
        let broken = Status::from_error(Box::new(io::Error::from(io::ErrorKind::ConnectionReset)));
        match outcome_of_status(broken) {
            Outcome::Unreachable(Some(cause)) => assert!(cause.source().is_some()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_peer_that_cannot_answer_is_unreachable_and_the_cause_is_kept() {
        for code in [Code::Unavailable, Code::Cancelled, Code::Internal, Code::Unimplemented, Code::Aborted] {
            match outcome_of_status(Status::new(code, "it says")) {
                Outcome::Unreachable(Some(cause)) => assert!(cause.to_string().ends_with("it says")),
                other => panic!("{code:?}: {other:?}"),
            }
        }
        let stopping = status_of_failure(&Failure::new(FailureKind::Stopping), "g");
        match outcome_of_status(stopping) {
            Outcome::Unreachable(Some(cause)) => assert_eq!(cause.to_string(), "the node is stopping"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_unknown_name_in_the_metadata_leaves_the_code_to_say() {
        for name in [&b"no_such_kind"[..], b"", b"\xff\xfe"] {
            let mut status = Status::not_found("x");
            if let Ok(value) = MetadataValue::try_from(name) {
                status.metadata_mut().insert(ERROR_METADATA, value);
            }
            assert_eq!(failure_of_status(&status).map(|failure| failure.kind), Some(FailureKind::NotFound));
        }
    }
}
