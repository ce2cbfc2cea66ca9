//! Follows a client's HTTP/2 frames (RFC 9113, sections 3.4, 4.1, 6.2 and 6.10), just far enough to find the header blocks.

use std::ops::Range;

use super::hpack;

/// What a client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Length (3 bytes), type, flags, stream (4 bytes).
const HEADER: usize = 9;

const HEADERS: u8 = 0x1;
const CONTINUATION: u8 = 0x9;

const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// A header block that is larger, the headers of its frames included, is not held back: it is passed on as it is. Four times what the library
/// underneath takes.
const MAX_BLOCK: usize = 64 * 1024;

/// Where in its stream of frames a client is.
#[derive(Debug)]
pub(super) enum Frames {
    /// So many bytes into the preface.
    Preface(usize),
    /// Before a frame, or so many bytes into its header that it is not known what it is.
    Between,
    /// So many bytes before the end of what nobody looks at.
    Within(usize),
    /// In a header block, which is held back from its first frame's header on.
    Block {
        /// Where the last of its frames known so far ends, from the first one's header.
        end: usize,
        /// Whether that frame says that it is the last.
        is_last: bool,
    },
    /// These are no frames, or not in an order that HTTP/2 has: the rest is passed on unseen.
    Over,
}

impl Frames {
    pub(super) const fn new() -> Self {
        Self::Preface(0)
    }

    /// Whether nothing more is going to be looked at.
    pub(super) const fn are_over(&self) -> bool {
        matches!(self, Self::Over)
    }

    /// Takes what has arrived: the bytes behind those settled the last time, and makes fit what must be. Answers how many are settled now; the
    /// rest comes again, with more behind it. Linear in what is new.
    pub(super) fn settle(&mut self, bytes: &mut [u8]) -> usize {
        let mut settled = 0;
        while let Some(more) = self.step(&mut bytes[settled..]) {
            settled += more;
        }
        settled
    }

    /// Goes on by one state. `None` when that takes more bytes.
    fn step(&mut self, bytes: &mut [u8]) -> Option<usize> {
        if bytes.is_empty() {
            return None;
        }
        match self {
            Self::Preface(matched) => {
                let expected = &PREFACE[*matched..];
                let count = expected.len().min(bytes.len());
                *self = if bytes[..count] != expected[..count] {
                    Self::Over
                } else if count == expected.len() {
                    Self::Between
                } else {
                    Self::Preface(*matched + count)
                };
                Some(count)
            }
            Self::Between => {
                let frame = Frame::read(bytes)?;
                *self = if frame.kind == HEADERS && frame.end() <= MAX_BLOCK {
                    Self::Block { end: frame.end(), is_last: frame.has(END_HEADERS) }
                } else {
                    Self::Within(frame.end())
                };
                Some(0)
            }
            Self::Within(left) => {
                let count = bytes.len().min(*left);
                *left -= count;
                if *left == 0 {
                    *self = Self::Between;
                }
                Some(count)
            }
            Self::Block { end, is_last: true } => {
                let end = *end;
                make_fit(bytes.get_mut(..end)?);
                *self = Self::Between;
                Some(end)
            }
            Self::Block { end, is_last } => {
                let (first, next) = (Frame::read(bytes)?, Frame::read(bytes.get(*end..)?)?);
                if next.kind != CONTINUATION || next.stream != first.stream {
                    *self = Self::Over;
                } else if *end + next.end() > MAX_BLOCK {
                    *self = Self::Within(*end + next.end());
                } else {
                    (*end, *is_last) = (*end + next.end(), next.has(END_HEADERS));
                }
                Some(0)
            }
            Self::Over => Some(bytes.len()),
        }
    }
}

/// A frame's header.
#[derive(Clone, Copy, Debug)]
struct Frame {
    payload: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Frame {
    /// The header that `bytes` begin with, if it is all there.
    fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = *bytes.first_chunk::<HEADER>()?;
        let payload = u32::from_be_bytes([0, a, b, c]) as usize;
        // The first bit is reserved: it means nothing.
        Some(Self { payload, kind, flags, stream: u32::from_be_bytes(stream) & (u32::MAX >> 1) })
    }

    const fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Where it ends, from where its header begins.
    const fn end(self) -> usize {
        HEADER + self.payload
    }

    /// Where its part of the header block is, from where its header begins. `None` when the padding leaves no room for it.
    fn fragment(self, bytes: &[u8]) -> Option<Range<usize>> {
        let (mut start, mut end) = (HEADER, self.end());
        if self.kind == HEADERS && self.has(PADDED) {
            end = end.checked_sub(usize::from(*bytes.get(start)?))?;
            start += 1;
        }
        if self.kind == HEADERS && self.has(PRIORITY) {
            start += 5;
        }
        (start <= end).then_some(start..end)
    }
}

/// Makes the authority of a whole header block fit, given all of its frames. What is malformed stays as it is.
fn make_fit(frames: &mut [u8]) {
    let Some(fragments) = fragments(frames) else { return };
    if let [only] = &fragments[..] {
        hpack::make_authority_fit(&mut frames[only.clone()]);
        return;
    }
    let mut block: Vec<u8> = fragments.iter().flat_map(|range| &frames[range.clone()]).copied().collect();
    hpack::make_authority_fit(&mut block);
    let mut rest = &block[..];
    for range in fragments {
        let (fragment, behind) = rest.split_at(range.len());
        frames[range].copy_from_slice(fragment);
        rest = behind;
    }
}

/// Where in its frames a header block is.
fn fragments(frames: &[u8]) -> Option<Vec<Range<usize>>> {
    let (mut fragments, mut at) = (Vec::with_capacity(1), 0);
    while at < frames.len() {
        let frame = Frame::read(&frames[at..])?;
        let fragment = frame.fragment(&frames[at..])?;
        fragments.push(at + fragment.start..at + fragment.end);
        at += frame.end();
    }
    Some(fragments)
}
