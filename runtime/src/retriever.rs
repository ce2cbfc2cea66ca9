//! The origin as a user writes it: one async method, or a closure.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use groupcache_core::{Cause, Failure, FailureKind, MetaTooLong, Outcome, Value};

use crate::view::ByteView;

/// Loads what the cache does not have. Called at most once at a time for a key on its owner, however many callers wait.
///
/// It runs detached from any caller: one caller's leaving does not stop it. It is dropped at its next await when the
/// deadline has passed, and with [`OnAbandoned::Abort`](crate::OnAbandoned::Abort) when nobody waits any more. A panic is caught and reaches the waiters as [`ErrorKind::OriginFailed`](crate::ErrorKind::OriginFailed).
///
/// Every `Fn(String) -> impl Future<Output = Result<V, E>>` is a retriever: `V` is anything that turns into [`Loaded`] (`Vec<u8>`,
/// `String`, `Bytes`, ...), `E` anything that turns into [`RetrieveError`] (that is, any error).
///
/// One that can tell whether a value has changed, without sending it, is written out:
///
/// ```
/// use groupcache_runtime::{ByteView, Loaded, RetrieveError, Retriever, Revalidated};
/// # struct Row { bytes: Vec<u8>, version: u64 }
/// # struct Database;
/// # impl Database {
/// #     async fn row(&self, _: &str) -> std::io::Result<Row> { Ok(Row { bytes: Vec::new(), version: 1 }) }
/// #     async fn version(&self, _: &str) -> std::io::Result<u64> { Ok(1) }
/// # }
///
/// struct Rows(Database);
///
/// #[async_trait::async_trait]
/// impl Retriever for Rows {
///     async fn retrieve(&self, key: &str) -> Result<Loaded, RetrieveError> {
///         let row = self.0.row(key).await?;
///         Ok(Loaded::with_meta(&row.bytes, &row.version.to_le_bytes())?)
///     }
///
///     async fn revalidate(&self, key: &str, stale: &ByteView) -> Result<Revalidated, RetrieveError> {
///         if self.0.version(key).await?.to_le_bytes() == stale.meta() {
///             return Ok(Revalidated::Unchanged { ttl: None });
///         }
///         self.retrieve(key).await.map(Revalidated::Changed)
///     }
/// }
/// ```
///
/// Its group says for how long after their time values are [held for that](crate::GroupBuilder::revalidate_for).
#[async_trait]
pub trait Retriever: Send + Sync + 'static {
    /// Loads `key`.
    ///
    /// # Errors
    /// [`RetrieveError::not_found`] when the origin says that there is no such key; any other error when it could not say.
    async fn retrieve(&self, key: &str) -> Result<Loaded, RetrieveError>;

    /// Loads `key` anew, whose value has expired and is still held: asks the origin, by a validator in `stale`'s [metadata](ByteView::meta) say, whether it
    /// has changed. One that has not is kept without being sent again. Called in place of [`retrieve`](Self::retrieve) where the group
    /// [holds expired values](crate::GroupBuilder::revalidate_for), under the same rules. By default it retrieves.
    ///
    /// # Errors
    /// Those of [`retrieve`](Self::retrieve).
    async fn revalidate(&self, key: &str, stale: &ByteView) -> Result<Revalidated, RetrieveError> {
        let _changed_for_all_that_is_known = stale;
        self.retrieve(key).await.map(Revalidated::Changed)
    }
}

#[async_trait]
impl<F, Fut, V, E> Retriever for F
where
    F: Fn(String) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<V, E>> + Send,
    V: Into<Loaded>,
    E: Into<RetrieveError>,
{
    async fn retrieve(&self, key: &str) -> Result<Loaded, RetrieveError> {
        match self(key.to_owned()).await {
            Ok(value) => Ok(value.into()),
            Err(error) => Err(error.into()),
        }
    }
}

/// What became of an expired value.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Revalidated {
    /// The origin's value is still that one: its bytes are kept.
    Unchanged {
        /// How long it may be kept from now on; `None` leaves it to the group's configuration.
        ttl: Option<Duration>,
    },
    /// This is the value now, or what is now to be said beside it.
    Changed(Loaded),
}

impl Revalidated {
    pub(crate) fn into_outcome(self, stale: ByteView) -> Outcome {
        match self {
            Self::Unchanged { ttl } => Outcome::Value { value: stale.into_value(), ttl },
            Self::Changed(loaded) => loaded.into_outcome(),
        }
    }
}

/// A loaded value, with how long it may be kept.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub(crate) value: Value,
    pub(crate) ttl: Option<Duration>,
}

impl Loaded {
    /// A value that lives as long as the group's configuration says.
    pub fn new(value: impl Into<Value>) -> Self {
        Self { value: value.into(), ttl: None }
    }

    /// A value with metadata beside it: a content type, a validator, or whatever else those who read the value want to know of it. It is opaque to the cache
    /// and goes where the value goes, to other members too; [`ByteView::meta`] has it.
    ///
    /// # Errors
    /// The metadata has more than 4096 bytes.
    pub fn with_meta(value: &[u8], meta: &[u8]) -> Result<Self, MetaTooLong> {
        Value::with_meta(value, meta).map(Self::new)
    }

    /// Keeps the value for no moment beyond its TTL, whatever [grace](crate::GroupBuilder::stale_while_revalidate) the group grants: once it has expired it is
    /// only good for being [revalidated](Retriever::revalidate).
    #[must_use]
    pub fn fresh_only(mut self) -> Self {
        self.value = self.value.fresh_only();
        self
    }

    /// Sets how long this value may be kept, in place of the group's TTL. Zero: it is delivered and not kept.
    #[must_use]
    pub const fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    pub(crate) fn into_outcome(self) -> Outcome {
        Outcome::Value { value: self.value, ttl: self.ttl }
    }
}

impl From<Vec<u8>> for Loaded {
    fn from(value: Vec<u8>) -> Self {
        Self::new(value)
    }
}

impl From<String> for Loaded {
    fn from(value: String) -> Self {
        Self::new(value.into_bytes())
    }
}

impl From<&'static str> for Loaded {
    fn from(value: &'static str) -> Self {
        Self::new(value.as_bytes())
    }
}

impl From<Bytes> for Loaded {
    fn from(value: Bytes) -> Self {
        Self::new(value)
    }
}

/// Why the origin gave no value: it has no such key, or it failed.
///
/// Not itself a [`std::error::Error`], so that `?` takes any error in a retriever; its cause reaches the callers as the source of theirs.
pub struct RetrieveError(Failure);

impl RetrieveError {
    /// The origin says that there is no such key. The owner caches this answer for the group's negative TTL.
    #[must_use]
    pub const fn not_found() -> Self {
        Self(Failure::new(FailureKind::NotFound))
    }

    /// The origin failed, with the reason in words.
    pub fn failed(message: impl Into<String>) -> Self {
        Self(Failure::with_message(FailureKind::OriginFailed, message.into()))
    }

    /// The origin's value has more than `limit` bytes, and reading it was given up.
    #[must_use]
    pub fn too_large(limit: usize) -> Self {
        Self(Failure::with_message(FailureKind::ValueTooLarge, format!("the limit is {limit} bytes")))
    }

    /// The key is not one that this origin can have: a path that leads out of its directory, say.
    pub fn invalid_key(message: impl Into<String>) -> Self {
        Self(Failure::with_message(FailureKind::InvalidKey, message.into()))
    }

    pub(crate) fn into_failure(self) -> Failure {
        self.0
    }
}

impl fmt::Debug for RetrieveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<E: StdError + Send + Sync + 'static> From<E> for RetrieveError {
    fn from(error: E) -> Self {
        let cause: Cause = Arc::new(error);
        Self(Failure::with_cause(FailureKind::OriginFailed, cause))
    }
}
