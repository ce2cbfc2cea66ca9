//! The trace of a run: a digest of everything that happened and when, and the same in words for who asks for them.

use std::fmt;

use super::clock::Time;
use super::random::mix;

/// A digest, and lines where they are wanted.
#[derive(Debug)]
pub(super) struct Trace {
    digest: u64,
    prints: bool,
}

impl Trace {
    pub(super) const fn new(prints: bool) -> Self {
        Self { digest: 0, prints }
    }

    /// Takes in what happened, in words of the machine.
    pub(super) fn note(&mut self, words: &[u64]) {
        for &word in words {
            self.digest = mix(self.digest.rotate_left(5) ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
        }
    }

    /// Prints a line, where that is wanted.
    pub(super) fn line(&self, now: Time, node: Option<usize>, text: impl FnOnce() -> String) {
        if self.prints {
            let who = node.map_or_else(|| "world".to_owned(), |node| format!("node {node}"));
            println!("{} {who:>7}  {}", Moment(now), text());
        }
    }

    pub(super) const fn digest(&self) -> u64 {
        self.digest
    }
}

/// A time of the world, in seconds.
pub(super) struct Moment(pub(super) Time);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>5}.{:09}", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}
