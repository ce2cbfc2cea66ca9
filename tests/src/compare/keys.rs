//! The keys and values of the comparisons in one process, and streams of requests for them.

use super::random::{Random, Zipf, mix};

/// Bytes of a key.
pub(super) const KEY: usize = 16;
/// Bytes of a value.
pub(super) const VALUE: usize = 100;

/// The text of key number `index`: 16 hexadecimal digits, of which any prefix tells little.
pub(super) fn key(index: u32) -> String {
    format!("{:016x}", mix(u64::from(index) + 1))
}

/// A value of its own for each key.
pub(super) fn value(key: &str) -> Vec<u8> {
    key.bytes().cycle().take(VALUE).collect()
}

/// Requests, one key behind the other: read in sequence, so that what is measured is the cache and not the way to the key.
#[derive(Clone, Debug, Default)]
pub(super) struct Stream(String);

impl Stream {
    pub(super) fn new(indexes: impl IntoIterator<Item = u32>) -> Self {
        Self(indexes.into_iter().map(key).collect())
    }

    /// One request.
    pub(super) fn of(key: &str) -> Self {
        Self(key.to_owned())
    }

    pub(super) const fn len(&self) -> usize {
        self.0.len() / KEY
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|index| &self.0[index * KEY..(index + 1) * KEY])
    }

    /// The requests that `keep` answers true to, in the same order.
    pub(super) fn filter(&self, keep: impl FnMut(&&str) -> bool) -> Self {
        Self(self.keys().filter(keep).collect())
    }
}

/// `requests` by Zipf's law with exponent 0.99 over `keys` keys.
pub(super) fn zipf(keys: u32, requests: usize, seed: u64) -> Stream {
    let (law, mut random) = (Zipf::new(keys, 0.99), Random::new(seed));
    Stream::new((0..requests).map(|_| law.draw(&mut random)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_holds_the_keys_it_was_made_of() {
        let stream = Stream::new([3, 1, 3]);
        assert_eq!((stream.len(), key(3).len(), value(&key(3)).len()), (3, KEY, VALUE));
        assert_eq!(stream.keys().collect::<Vec<_>>(), [key(3), key(1), key(3)]);
        let ones = stream.filter(|&asked| asked == key(1));
        assert_eq!(ones.keys().collect::<Vec<_>>(), [key(1)]);
    }
}
