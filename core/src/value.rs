//! What is cached: immutable bytes, shared by reference count, and the keys they are found by.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

use bytes::Bytes;
use triomphe::ThinArc;

use crate::id::GroupId;

/// An immutable value, in one exact-size allocation that all its readers share.
///
/// It is not a [`Bytes`]: a `Bytes` sliced out of a decoded message keeps the whole receive buffer alive, which no budget can see, and
/// allocates on its first clone. Making a `Value` copies the bytes once; the embedder does so outside any lock, before it hands a result in.
/// A clone is one reference-count increment. The handle is one pointer: length and count stand before the bytes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Value(ThinArc<(), u8>);

impl Value {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0.slice
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({} bytes)", self.as_bytes().len())
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self(ThinArc::from_header_and_slice((), bytes))
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::from(bytes.as_slice())
    }
}

impl From<Bytes> for Value {
    fn from(bytes: Bytes) -> Self {
        Self::from(&bytes[..])
    }
}

impl From<Arc<[u8]>> for Value {
    fn from(bytes: Arc<[u8]>) -> Self {
        Self::from(&bytes[..])
    }
}

impl From<Value> for Bytes {
    /// Shares the allocation; nothing is copied.
    fn from(value: Value) -> Self {
        Self::from_owner(value)
    }
}

/// A key of a group, owned and shared, with its table hash: the one allocation of a started miss.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    group: GroupId,
    hash: u64,
    bytes: Arc<[u8]>,
}

impl Key {
    /// The group.
    #[must_use]
    pub const fn group(&self) -> GroupId {
        self.group
    }

    /// The key's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The table hash.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// What a table keeps: it has group and hash elsewhere.
    pub(crate) fn into_bytes(self) -> Arc<[u8]> {
        self.bytes
    }

    /// The key as calls take it.
    #[must_use]
    pub fn as_hashed(&self) -> HashedKey<'_> {
        HashedKey::new(self.group, &self.bytes, self.hash)
    }
}

impl From<&HashedKey<'_>> for Key {
    /// Allocates the bytes.
    fn from(key: &HashedKey<'_>) -> Self {
        Self { group: key.group, hash: key.hash, bytes: Arc::from(key.bytes) }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, \"{}\")", self.group.index(), self.bytes.escape_ascii())
    }
}

/// A key as a call takes it: borrowed, with its table hash computed by the caller.
///
/// The hash indexes tables and picks the shard. It never places a key on the ring (that hash is the ring's own, specified and frozen), so it
/// should be keyed per process, against chosen-key floods. Tests supply equal hashes to force collisions.
#[derive(Clone, Copy, Debug)]
pub struct HashedKey<'a> {
    group: GroupId,
    bytes: &'a [u8],
    hash: u64,
}

impl<'a> HashedKey<'a> {
    /// The key `bytes` of `group`, whose table hash is `hash`. The hash must cover both.
    #[must_use]
    pub const fn new(group: GroupId, bytes: &'a [u8], hash: u64) -> Self {
        Self { group, bytes, hash }
    }

    /// The group.
    #[must_use]
    pub const fn group(&self) -> GroupId {
        self.group
    }

    /// The key's bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Which of `shards` shards holds the key. Uses bits in the middle of the hash: tables inside a shard use those at its ends.
    #[must_use]
    pub const fn shard(&self, shards: u16) -> u16 {
        ((((self.hash >> 16) & 0xffff_ffff) * shards as u64) >> 32) as u16
    }

    /// The table hash.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }
}
