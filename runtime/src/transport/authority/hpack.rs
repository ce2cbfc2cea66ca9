//! Walks a header block (RFC 7541, section 6) from field to field, without the tables that it takes to know what all the fields are.

use std::ops::Range;

use super::huffman;

/// The number of `:authority` in the static table (appendix A).
const AUTHORITY_INDEX: usize = 1;
const AUTHORITY: &[u8] = b":authority";
/// The same, Huffman-coded: there is one way to do it.
const AUTHORITY_CODED: &[u8] = b"\xb8\x3b\x53\x39\xec\x32\x7d\x7f";

/// The bytes that an authority cannot have, though clients send them, and what they are replaced by.
const UNFIT: &[u8] = b"%/";
const FIT: u8 = b'-';

/// Replaces what cannot stand in an authority, in every one that `block` spells out. A block that is malformed stays as it is.
pub(super) fn make_authority_fit(block: &mut [u8]) {
    let Some(authorities) = (Walk { block, at: 0 }).authorities() else { return };
    for Text { range, is_coded } in authorities {
        let value = &mut block[range];
        if is_coded {
            huffman::make_fit(value);
        } else {
            value.iter_mut().filter(|byte| UNFIT.contains(byte)).for_each(|byte| *byte = FIT);
        }
    }
}

/// A string literal's bytes.
#[derive(Clone, Debug)]
struct Text {
    range: Range<usize>,
    /// With Huffman's code.
    is_coded: bool,
}

/// A place in a block. Every step is `None` where the block is malformed.
#[derive(Debug)]
struct Walk<'a> {
    block: &'a [u8],
    at: usize,
}

impl Walk<'_> {
    /// The values of all authorities that are spelled out.
    fn authorities(mut self) -> Option<Vec<Text>> {
        let mut authorities = Vec::new();
        while let Some(first) = self.block.get(self.at) {
            let name_bits = match first {
                0x80.. => {
                    self.integer(7)?; // A field of a table.
                    continue;
                }
                0x20..0x40 => {
                    self.integer(5)?; // The dynamic table's new size.
                    continue;
                }
                0x40.. => 6, // A field that goes into the table.
                _ => 4,      // One that does not, or must not.
            };
            let is_authority = match self.integer(name_bits)? {
                0 => self.text().map(|name| self.is_authority(name))?,
                index => index == AUTHORITY_INDEX,
            };
            let value = self.text()?;
            if is_authority {
                authorities.push(value);
            }
        }
        Some(authorities)
    }

    fn is_authority(&self, name: Text) -> bool {
        self.block[name.range] == *if name.is_coded { AUTHORITY_CODED } else { AUTHORITY }
    }

    /// A string (section 5.2).
    fn text(&mut self) -> Option<Text> {
        let is_coded = self.block.get(self.at)? & 0x80 != 0;
        let length = self.integer(7)?;
        let start = self.at;
        self.at = start.checked_add(length).filter(|end| *end <= self.block.len())?;
        Some(Text { range: start..self.at, is_coded })
    }

    /// An integer in the low `bits` of this byte, and the bytes behind it when it does not fit there (section 5.1). Up to 28 bits behind it: no
    /// block that is held back has a use for more.
    fn integer(&mut self, bits: u32) -> Option<usize> {
        let most = (1 << bits) - 1;
        let mut value = usize::from(*self.block.get(self.at)?) & most;
        self.at += 1;
        if value < most {
            return Some(value);
        }
        for shift in [0, 7, 14, 21] {
            let byte = *self.block.get(self.at)?;
            self.at += 1;
            value += usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }
}
