//! The error of `get` and `remove`: a kind to act on, a sentence to read, a cause to follow.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use groupcache_core::{Cause, Failure, FailureKind, LoadError};

/// What kind of failure it was; the same kinds cross the wire.
pub type ErrorKind = FailureKind;

/// Why a call got no value. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    cause: Option<Cause>,
}

impl Error {
    /// An error of `kind` that says `message`.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), cause: None }
    }

    /// What to act on.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the origin says that the key does not exist.
    #[must_use]
    pub const fn is_not_found(&self) -> bool {
        matches!(self.kind, ErrorKind::NotFound)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let message = failure.to_string();
        Self { kind: failure.kind, message: message.into(), cause: failure.cause }
    }
}

impl From<LoadError> for Error {
    fn from(error: LoadError) -> Self {
        Self { kind: error.kind(), message: error.to_string().into(), cause: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}
