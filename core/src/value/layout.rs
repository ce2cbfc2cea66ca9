//! Where the parts of a value stand in its allocation.
//!
//! Behind count and length come a byte of flags, the metadata where there is any, and the bytes:
//!
//! | flags | metadata | then |
//! |---|---|---|
//! | `0f00_0000` | none | bytes |
//! | `1f0h_hhhh` | `h hhhh` and the next byte are its length | metadata, bytes |
//!
//! where `f` is set in a value that is [`fresh_only`](super::Value::fresh_only). So a value without metadata takes one byte for it, which lies in the line
//! of count and length.

use triomphe::{Arc, ThinArc};

const HAS_META: u8 = 1 << 7;
const FRESH_ONLY: u8 = 1 << 6;
const HIGH_BITS: u8 = (1 << 5) - 1;

const _: () = assert!(super::MAX_META < (HIGH_BITS as usize + 1) << 8);

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Layout(ThinArc<(), u8>);

impl Layout {
    /// The caller has seen to it that there is no more metadata than fits.
    pub(super) fn new(meta: &[u8], bytes: &[u8]) -> Self {
        match (meta.len() >> 8, meta.len() & 0xff) {
            (0, 0) => Self::of([&[0], &[], bytes]),
            (high, low) => Self::of([&[HAS_META | high as u8, low as u8], meta, bytes]),
        }
    }

    fn of(parts: [&[u8]; 3]) -> Self {
        let len = parts.iter().map(|part| part.len()).sum();
        // Filling is a loop that is a memset once it is optimised, and takes 70 ns a byte where it is not.
        if cfg!(debug_assertions) && len > ZEROS.len() {
            Self::joined(parts)
        } else {
            Self::filled(parts, len)
        }
    }

    /// One allocation of all parts, and nothing else. Without unsafe code it has to be filled before they can be copied to it.
    fn filled(parts: [&[u8]; 3], len: usize) -> Self {
        let mut arc = match ZEROS.get(..len) {
            Some(zeros) => ThinArc::from_header_and_slice((), zeros),
            None => ThinArc::from_header_and_iter((), (0..len).map(|_| 0)),
        };
        arc.with_arc_mut(|arc| {
            let Some(content) = Arc::get_mut(arc) else { return };
            let mut rest = content.slice_mut();
            for part in parts {
                let (place, behind) = rest.split_at_mut(part.len());
                place.copy_from_slice(part);
                rest = behind;
            }
        });
        Self(arc)
    }

    /// The same by way of a second allocation.
    fn joined(parts: [&[u8]; 3]) -> Self {
        Self(ThinArc::from_header_and_slice((), &parts.concat()))
    }

    pub(super) fn set_fresh_only(&mut self) {
        if !self.0.with_arc_mut(|arc| Arc::get_mut(arc).is_some()) {
            *self = Self::new(self.meta(), self.bytes());
        }
        self.0.with_arc_mut(|arc| {
            if let Some(content) = Arc::get_mut(arc) {
                content.slice_mut()[0] |= FRESH_ONLY;
            }
        });
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0.slice[self.meta_ends()..]
    }

    pub(super) fn meta(&self) -> &[u8] {
        self.0.slice.get(2..self.meta_ends()).unwrap_or_default()
    }

    pub(super) fn is_fresh_only(&self) -> bool {
        self.0.slice[0] & FRESH_ONLY != 0
    }

    /// How many bytes there are in all.
    pub(super) fn len(&self) -> usize {
        self.0.slice.len()
    }

    #[inline]
    fn meta_ends(&self) -> usize {
        match self.0.slice[0] {
            flags if flags & HAS_META == 0 => 1,
            flags => 2 + (usize::from(flags & HIGH_BITS) << 8 | usize::from(self.0.slice[1])),
        }
    }
}

/// What small values are filled with.
static ZEROS: [u8; 4096] = [0; 4096];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_make_a_value_make_the_same_one_of_any_size() {
        let bytes: alloc::vec::Vec<u8> = (0..10_000_u32).map(|at| at as u8).collect();
        for len in [0, 1, ZEROS.len() - 5, ZEROS.len() - 4, ZEROS.len(), bytes.len()] {
            let parts = [&[1, 2][..], &[3, 4], &bytes[..len]];
            let (filled, joined) = (Layout::filled(parts, len + 4), Layout::joined(parts));
            assert!(filled == joined && filled.len() == len + 4, "{len}");
        }
    }
}
