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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::SplitMix64;

    #[test]
    fn a_value_reads_as_its_bytes_whatever_it_was_made_of_and_however_it_is_read() {
        let made = [
            Value::from(&b"bytes"[..]),
            Value::from(b"bytes".to_vec()),
            Value::from(Bytes::from_static(b"bytes")),
            Value::from(Arc::from(&b"bytes"[..])),
        ];
        for value in made {
            assert_eq!(
                (value.as_bytes(), value.as_ref(), &*value),
                (&b"bytes"[..], &b"bytes"[..], &b"bytes"[..])
            );
            let shared = value.as_bytes().as_ptr();
            let bytes = Bytes::from(value);
            assert_eq!((&bytes[..], bytes.as_ptr()), (&b"bytes"[..], shared), "nothing is copied");
        }
    }

    #[test]
    fn an_owned_key_says_what_the_borrowed_one_said() {
        let borrowed = HashedKey::new(GroupId::new(3), b"key", 99);
        let owned = Key::from(&borrowed);
        assert_eq!((owned.group(), owned.as_bytes(), owned.hash()), (GroupId::new(3), &b"key"[..], 99));
        let again = owned.as_hashed();
        assert_eq!((again.group(), again.as_bytes(), again.hash()), (GroupId::new(3), &b"key"[..], 99));
    }

    #[test]
    fn keys_spread_evenly_over_any_number_of_shards() {
        let mut rng = SplitMix64::new(1);
        for shards in [1, 2, 7, 64] {
            let mut counts = alloc::vec![0_u32; usize::from(shards)];
            for _ in 0..1_000 * u32::from(shards) {
                counts[usize::from(HashedKey::new(GroupId::new(0), b"", rng.next_u64()).shard(shards))] += 1;
            }
            assert!(counts.iter().all(|&count| count.abs_diff(1_000) < 150), "{shards}: {counts:?}");
        }
    }

    #[test]
    fn the_bits_of_a_hash_that_tables_use_do_not_choose_the_shard() {
        let shard = |hash| HashedKey::new(GroupId::new(0), b"", hash).shard(16);
        let middle = 0x0000_1234_5678_0000;
        for (high, low) in [(0, 0), (0xffff, 0), (0, 0xffff), (0xabcd, 0x4321)] {
            assert_eq!(shard(high << 48 | middle | low), shard(middle));
        }
    }
}
