//! What an origin gives.

use std::ops::Deref;
use std::time::Duration;

use bytes::Bytes;
use groupcache_runtime::{Loaded, RetrieveError};

use crate::head::Head;

/// A value, what is said beside it, and how long it may be kept.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(super) bytes: Bytes,
    pub(super) head: Box<Head>,
    /// `None`: as long as its group says. Zero: not at all.
    pub(super) ttl: Option<Duration>,
    /// Whether it must not be given out once it has expired.
    pub(super) fresh_only: bool,
}

impl Answer {
    pub(super) fn into_loaded(self) -> Result<Loaded, RetrieveError> {
        let mut loaded = Loaded::with_meta(&self.bytes, &self.head.to_meta())?;
        if let Some(ttl) = self.ttl {
            loaded = loaded.with_ttl(ttl);
        }
        Ok(if self.fresh_only { loaded.fresh_only() } else { loaded })
    }
}

impl Deref for Answer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What became of a value that has expired.
#[derive(Debug)]
pub(crate) enum Again {
    /// It is still the same.
    Unchanged {
        /// As [`Answer::ttl`].
        ttl: Option<Duration>,
    },
    /// This is the value now; or its bytes are the same, and what is said beside them is not.
    Changed(Answer),
}
