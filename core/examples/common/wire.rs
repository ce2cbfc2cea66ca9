//! The messages between two nodes, and their bytes.
//!
//! A small protocol of the examples' own. A frame is the length of its body (4 bytes), then the body: a byte that says which message, and its
//! fields. Numbers are big-endian; bytes and text stand behind their length (4 bytes). Who dialled asks, who was dialled answers; both begin
//! with [`Message::Hello`]. Each question carries a tag of the asker's choice, which the answers to it repeat.
//!
//! Whatever comes from the network is checked here. Bytes that are no message are [`Garbled`], and cost the connection.

use std::fmt;
use std::io;
use std::time::Duration;

use groupcache_core::{Failure, FailureKind, Value};

/// The largest value in bytes.
pub(crate) const MAX_VALUE: usize = 1 << 20;
/// The largest body in bytes. A message of replies holds one value of the largest size, and less than that beside it.
const MAX_BODY: usize = 4 * MAX_VALUE;
/// No message of the core's is longer: a failure's words are cut here.
const MAX_WORDS: usize = 1 << 10;
/// Most keys in one message. The core's batches hold 256 by default.
const MAX_KEYS: u32 = 1 << 10;
/// What a hello begins with: the protocol and its version.
const MAGIC: &[u8] = b"groupcache example 1";

/// What one node says to another.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// The first message, both ways: who speaks. Until it has come from the other side the connection does not count.
    Hello { name: String },
    /// Asks for keys.
    Fetch { tag: u64, keys: Vec<Asked> },
    /// The asker does not want the answer any more.
    Cancel { tag: u64 },
    /// Answers keys of a fetch, by their index. The first comes at once, empty if need be: it says that the fetch was taken.
    Replies { tag: u64, last: bool, results: Vec<(u32, Reply)> },
    /// Says to forget a key, or a whole group.
    Invalidate { tag: u64, group: String, key: Option<Vec<u8>> },
    /// It is forgotten.
    Forgotten { tag: u64 },
}

/// One key of a fetch.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) group: String,
    pub(crate) key: Vec<u8>,
    /// How long the asker waits. Clocks are not compared between nodes, so no point in time crosses the wire.
    pub(crate) patience: Duration,
}

/// What became of one key: a value and how long it lives on, if not for ever; or why there is none.
pub(crate) type Reply = Result<(Value, Option<Duration>), Failure>;

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Garbled(pub(crate) &'static str);

impl fmt::Display for Garbled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the peer does not keep to the protocol: {}", self.0)
    }
}

impl std::error::Error for Garbled {}

impl From<Garbled> for io::Error {
    fn from(garbled: Garbled) -> Self {
        Self::new(io::ErrorKind::InvalidData, garbled)
    }
}

/// Cuts what arrives into messages, however it was cut on the way.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    /// How many of them have been read.
    read: usize,
}

impl Frames {
    /// Takes what has arrived.
    pub(crate) fn push(&mut self, arrived: &[u8]) {
        self.bytes.drain(..std::mem::take(&mut self.read));
        self.bytes.extend_from_slice(arrived);
    }

    /// The next message, once all of it has arrived. After an error the rest means nothing.
    pub(crate) fn next(&mut self) -> Result<Option<Message>, Garbled> {
        let rest = &self.bytes[self.read..];
        let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > MAX_BODY {
            return Err(Garbled("a frame that is too long"));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let message = Message::decode(body)?;
        self.read += size_of::<u32>() + length;
        Ok(Some(message))
    }
}

impl Message {
    /// The message as a frame.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut to = Writer(vec![0; size_of::<u32>()]);
        match self {
            Self::Hello { name } => {
                to.u8(0);
                to.bytes(MAGIC);
                to.bytes(name.as_bytes());
            }
            Self::Fetch { tag, keys } => {
                to.u8(1);
                to.u64(*tag);
                to.u32(keys.len() as u32);
                for Asked { group, key, patience } in keys {
                    to.bytes(group.as_bytes());
                    to.bytes(key);
                    to.duration(*patience);
                }
            }
            Self::Cancel { tag } => {
                to.u8(2);
                to.u64(*tag);
            }
            Self::Replies { tag, last, results } => {
                to.u8(3);
                to.u64(*tag);
                to.u8(u8::from(*last));
                to.u32(results.len() as u32);
                for (index, reply) in results {
                    to.u32(*index);
                    to.reply(reply);
                }
            }
            Self::Invalidate { tag, group, key } => {
                to.u8(4);
                to.u64(*tag);
                to.bytes(group.as_bytes());
                to.u8(u8::from(key.is_some()));
                key.iter().for_each(|key| to.bytes(key));
            }
            Self::Forgotten { tag } => {
                to.u8(5);
                to.u64(*tag);
            }
        }
        to.finish()
    }

    fn decode(body: &[u8]) -> Result<Self, Garbled> {
        let mut from = Reader(body);
        let message = match from.u8()? {
            0 if from.bytes()? != MAGIC => return Err(Garbled("another protocol")),
            0 => Self::Hello { name: from.text()? },
            1 => Self::Fetch { tag: from.u64()?, keys: from.list(Reader::asked)? },
            2 => Self::Cancel { tag: from.u64()? },
            3 => Self::Replies {
                tag: from.u64()?,
                last: from.bool()?,
                results: from.list(|from| Ok((from.u32()?, from.reply()?)))?,
            },
            4 => Self::Invalidate {
                tag: from.u64()?,
                group: from.text()?,
                key: if from.bool()? { Some(from.bytes()?.to_vec()) } else { None },
            },
            5 => Self::Forgotten { tag: from.u64()? },
            _ => return Err(Garbled("an unknown message")),
        };
        if from.0.is_empty() { Ok(message) } else { Err(Garbled("more than the message in its frame")) }
    }
}

/// Appends fields to a frame.
struct Writer(Vec<u8>);

impl Writer {
    fn u8(&mut self, n: u8) {
        self.0.push(n);
    }

    fn u32(&mut self, n: u32) {
        self.0.extend_from_slice(&n.to_be_bytes());
    }

    fn u64(&mut self, n: u64) {
        self.0.extend_from_slice(&n.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.u32(bytes.len() as u32);
        self.0.extend_from_slice(bytes);
    }

    fn duration(&mut self, duration: Duration) {
        self.u64(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    fn reply(&mut self, reply: &Reply) {
        match reply {
            Ok((value, None)) => {
                self.u8(0);
                self.bytes(value);
            }
            Ok((value, Some(ttl))) => {
                self.u8(1);
                self.duration(*ttl);
                self.bytes(value);
            }
            Err(failure) => {
                self.u8(2);
                let kind = FailureKind::ALL.iter().position(|&kind| kind == failure.kind);
                self.u8(kind.map_or(u8::MAX, |kind| kind as u8));
                let words = failure.cause.as_ref().map(ToString::to_string).unwrap_or_default();
                self.bytes(&words.as_bytes()[..words.floor_char_boundary_at(MAX_WORDS)]);
            }
        }
    }

    /// Writes the length in front, now that it is known.
    fn finish(mut self) -> Vec<u8> {
        let length = (self.0.len() - size_of::<u32>()) as u32;
        self.0[..size_of::<u32>()].copy_from_slice(&length.to_be_bytes());
        self.0
    }
}

/// Text that can be cut without cutting a character.
trait Cut {
    fn floor_char_boundary_at(&self, max: usize) -> usize;
}

impl Cut for str {
    fn floor_char_boundary_at(&self, max: usize) -> usize {
        (0..=max.min(self.len())).rev().find(|&at| self.is_char_boundary(at)).unwrap_or(0)
    }
}

/// Takes fields off a body. Nothing is believed: each length is held against what is there.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Garbled> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Garbled("a message that ends early"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Garbled> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Garbled("a message that ends early"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Garbled> {
        self.array().map(u8::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Garbled> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Garbled> {
        self.array().map(u64::from_be_bytes)
    }

    fn bool(&mut self) -> Result<bool, Garbled> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Garbled("neither yes nor no")),
        }
    }

    fn bytes(&mut self) -> Result<&'a [u8], Garbled> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    fn text(&mut self) -> Result<String, Garbled> {
        let text = std::str::from_utf8(self.bytes()?).map_err(|_| Garbled("text that is not UTF-8"))?;
        Ok(text.to_owned())
    }

    fn duration(&mut self) -> Result<Duration, Garbled> {
        self.u64().map(Duration::from_nanos)
    }

    /// Nothing is reserved for a length that is only claimed.
    fn list<T>(&mut self, one: impl Fn(&mut Self) -> Result<T, Garbled>) -> Result<Vec<T>, Garbled> {
        let length = self.u32()?;
        if length > MAX_KEYS {
            return Err(Garbled("too many keys"));
        }
        (0..length).map(|_| one(self)).collect()
    }

    fn asked(&mut self) -> Result<Asked, Garbled> {
        Ok(Asked { group: self.text()?, key: self.bytes()?.to_vec(), patience: self.duration()? })
    }

    fn reply(&mut self) -> Result<Reply, Garbled> {
        match self.u8()? {
            0 => Ok(Ok((Value::from(self.bytes()?), None))),
            1 => {
                let ttl = self.duration()?;
                Ok(Ok((Value::from(self.bytes()?), Some(ttl))))
            }
            2 => {
                let kind = FailureKind::ALL.get(usize::from(self.u8()?));
                let kind = *kind.ok_or(Garbled("an unknown kind of failure"))?;
                let words = self.text()?;
                Ok(Err(if words.is_empty() {
                    Failure::new(kind)
                } else {
                    Failure::with_message(kind, words)
                }))
            }
            _ => Err(Garbled("an unknown kind of reply")),
        }
    }
}
