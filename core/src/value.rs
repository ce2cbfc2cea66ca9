//! What is cached: immutable bytes, shared by reference count, and the keys they are found by.

mod layout;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

use bytes::Bytes;

use self::layout::Layout;
use crate::id::GroupId;

/// An immutable value, in one exact-size allocation that all its readers share.
///
/// It is not a [`Bytes`]: a `Bytes` sliced out of a decoded message keeps the whole receive buffer alive, which no budget can see, and
/// allocates on its first clone. Making a `Value` copies the bytes once; the embedder does so outside any lock, before it hands a result in.
/// A clone is one reference-count increment. The handle is one pointer: length, count and metadata stand before the bytes.
///
/// Values are equal where bytes, metadata and [`fresh_only`](Self::fresh_only) are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Value(Layout);

/// The most bytes of metadata that a value may carry.
pub const MAX_META: usize = 4096;

impl Value {
    /// The value `bytes` with metadata beside them: whatever who loads a value has to tell those who read it, such as its content type. The cache does
    /// not look into it. It travels with the value, is charged byte for byte, and does not count for the value limit. No metadata is the same as none.
    ///
    /// # Errors
    /// There is more of it than [`MAX_META`].
    pub fn with_meta(bytes: &[u8], meta: &[u8]) -> Result<Self, MetaTooLong> {
        if meta.len() > MAX_META {
            return Err(MetaTooLong { len: meta.len() });
        }
        Ok(Self(Layout::new(meta, bytes)))
    }

    /// The same value as one that is never given out after it has expired, whatever grace its group grants: it may only be
    /// [revalidated](crate::GroupConfig::revalidate_for). Copies where the value is shared already.
    #[must_use]
    pub fn fresh_only(mut self) -> Self {
        self.0.set_fresh_only();
        self
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// The metadata; empty where there is none.
    #[must_use]
    pub fn meta(&self) -> &[u8] {
        self.0.meta()
    }

    /// Whether it is never given out after it has expired.
    #[must_use]
    pub fn is_fresh_only(&self) -> bool {
        self.0.is_fresh_only()
    }

    /// What the value takes beyond what every value does: its bytes, its metadata, and one more where there is any.
    pub(crate) fn charge(&self) -> usize {
        self.0.len() - 1
    }
}

/// More metadata than a value may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetaTooLong {
    /// How many bytes there are.
    pub len: usize,
}

impl fmt::Display for MetaTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the metadata has {} bytes: the limit is {MAX_META}", self.len)
    }
}

impl core::error::Error for MetaTooLong {}

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
        write!(f, "Value({} bytes", self.as_bytes().len())?;
        if !self.meta().is_empty() {
            write!(f, ", {} of metadata", self.meta().len())?;
        }
        f.write_str(if self.is_fresh_only() { ", fresh only)" } else { ")" })
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self(Layout::new(&[], bytes))
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
    fn metadata_stands_beside_the_bytes_and_is_shared_with_them() {
        let at_limit = alloc::vec![7; MAX_META];
        for (bytes, meta) in
            [(&b"bytes"[..], &b""[..]), (b"bytes", b"m"), (b"", b"meta"), (b"b", &at_limit), (b"", b"")]
        {
            for strict in [false, true] {
                let made = Value::with_meta(bytes, meta).unwrap();
                let made = if strict { made.fresh_only() } else { made };
                assert_eq!((made.as_bytes(), made.meta(), made.is_fresh_only()), (bytes, meta, strict));
                let beside = if meta.is_empty() { 0 } else { meta.len() + 1 };
                assert_eq!(made.charge(), bytes.len() + beside);
                let (shared, at) = (made.clone(), made.as_bytes().as_ptr());
                assert_eq!(
                    (&Bytes::from(shared)[..], Bytes::from(made).as_ptr()),
                    (bytes, at),
                    "nothing is copied"
                );
            }
        }
        let refused = Value::with_meta(b"bytes", &alloc::vec![7; MAX_META + 1]);
        assert_eq!(refused, Err(MetaTooLong { len: MAX_META + 1 }));
    }

    #[test]
    fn values_that_differ_in_anything_are_not_equal() {
        let plain = Value::from(&b"ab"[..]);
        let with_meta = |bytes: &[u8], meta: &[u8]| Value::with_meta(bytes, meta).unwrap();
        assert_eq!(with_meta(b"ab", b""), plain);
        assert_ne!(with_meta(b"b", b"a"), plain);
        assert_ne!(with_meta(b"b", b"a"), with_meta(b"", b"ab"));
        assert_ne!(plain.clone().fresh_only(), plain);
        assert!(!plain.is_fresh_only(), "who shares a value does not change it for others");
        assert_eq!(alloc::format!("{plain:?}"), "Value(2 bytes)");
        let all = with_meta(b"b", b"a").fresh_only();
        assert_eq!(alloc::format!("{all:?}"), "Value(1 bytes, 1 of metadata, fresh only)");
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
