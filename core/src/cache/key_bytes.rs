//! The bytes of an entry's key, as a slot holds them.

use alloc::sync::Arc;

/// Longer keys are shared with whoever started their load; these are copied into the slot: no allocation to keep, none to go to for a comparison.
const INLINE: usize = 22;

/// A key's bytes: in place where they are few.
#[derive(Debug)]
pub(super) enum KeyBytes {
    Inline { len: u8, bytes: [u8; INLINE] },
    Shared(Arc<[u8]>),
}

impl KeyBytes {
    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Shared(bytes) => bytes,
        }
    }
}

impl From<Arc<[u8]>> for KeyBytes {
    fn from(key: Arc<[u8]>) -> Self {
        let mut bytes = [0; INLINE];
        let Some(place) = bytes.get_mut(..key.len()) else { return Self::Shared(key) };
        place.copy_from_slice(&key);
        Self::Inline { len: key.len() as u8, bytes }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn a_key_of_any_length_comes_back_and_few_bytes_are_kept_in_place() {
        for len in 0..100 {
            let key: Vec<u8> = (0..len).collect();
            let kept = KeyBytes::from(Arc::from(key.as_slice()));
            assert_eq!(kept.as_bytes(), key);
            assert_eq!(matches!(kept, KeyBytes::Inline { .. }), key.len() <= INLINE);
        }
        assert_eq!(size_of::<KeyBytes>(), INLINE + 2);
    }
}
