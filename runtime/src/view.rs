//! What a `get` returns: an immutable view of cached bytes.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;
use groupcache_core::Value;

/// An immutable view of a cached value. Cloning it shares the bytes; nothing is copied.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ByteView(Value);

impl ByteView {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What the retriever said beside the value, by [`Loaded::with_meta`](crate::Loaded::with_meta): its content type, say. Empty where it said nothing, and
    /// where the value came by way of a member that only speaks the Go system's protocol.
    #[must_use]
    pub fn meta(&self) -> &[u8] {
        self.0.meta()
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none: an empty value is a value, not a miss.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes as text.
    ///
    /// # Errors
    /// They are not UTF-8.
    pub fn to_str(&self) -> Result<&str, std::str::Utf8Error> {
        std::str::from_utf8(&self.0)
    }

    pub(crate) fn into_value(self) -> Value {
        self.0
    }

    /// The bytes as [`Bytes`], shared with the cache.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0.into()
    }
}

impl From<Value> for ByteView {
    fn from(value: Value) -> Self {
        Self(value)
    }
}

impl From<ByteView> for Bytes {
    fn from(view: ByteView) -> Self {
        view.into_bytes()
    }
}

impl Deref for ByteView {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for ByteView {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ByteView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ByteView({} bytes)", self.len())
    }
}

impl fmt::Display for ByteView {
    /// The bytes as text, with what is not UTF-8 replaced.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}
