//! What an entry costs: the formula of the byte budget.

use core::mem::size_of;

use super::arena::Slot;
use super::{Item, Stored};
use crate::canary::{self, Canary};

/// What stands before the bytes of a value (its reference count and length), and before those of a key (two counts).
const HEADER: u64 = 2 * size_of::<usize>() as u64;
/// A place of the index, at the load that it has when it has just grown: 3 in 8.
const INDEX_SHARE: u64 = (4 * 8_u64).div_ceil(3);

/// What an entry is charged besides the bytes of its key and its value, in bytes (on 64-bit targets; less is needed on smaller ones).
///
/// The charge of an entry is `key length + value length + ENTRY_OVERHEAD`, where the overhead is
///
/// - one slot of the slab, 64 bytes: the entry's handles and times, its list links, its table hash, its charge and its hit counter;
/// - its share of the index, 11 bytes: 4 bytes a place at the lowest load that it has once it has grown, 3/8;
/// - what stands before the key's and the value's bytes, 16 each, and one byte that says that the value has no metadata;
/// - 4 bytes that round it up.
///
/// Metadata beside a value is charged its length and one byte.
///
/// A key of at most 22 bytes lies in the slot, and is charged all the same. Not in it: the frequency sketch (16 to 32 bytes an entry, charged to its
/// share as a whole), what the allocator rounds up, and the slack of a slab that has just grown (at most a quarter of its slots, which is address
/// space and not memory until used).
///
/// An entry that caches "not found" is charged as if it had a value of no bytes.
pub const ENTRY_OVERHEAD: u64 = 112;

const FORMULA: u64 = size_of::<Slot<Item>>() as u64 + INDEX_SHARE + 2 * HEADER + 1;
const _: () = assert!(ENTRY_OVERHEAD >= FORMULA);
#[cfg(target_pointer_width = "64")]
const _: () = assert!(ENTRY_OVERHEAD == FORMULA.next_multiple_of(8) && size_of::<Slot<Item>>() == 64);

/// The charge of an entry; `None` where it does not fit 32 bits, which no share stores.
pub(super) fn charge(key: &[u8], stored: &Stored) -> Option<u32> {
    let value = match stored {
        Stored::Value(value) => value.charge(),
        Stored::NotFound => 0,
    };
    let payload = (key.len() as u64).checked_add(value as u64)?;
    if canary::is(Canary::OverheadForgotten) {
        return u32::try_from(payload).ok();
    }
    u32::try_from(payload.checked_add(ENTRY_OVERHEAD)?).ok()
}
