//! Traces: made up here, or read from a file.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use ruzstd::decoding::StreamingDecoder;

use super::super::Outcome;
use super::super::random::{Random, Zipf, mix};

/// A request for an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Numbered from 0 without gaps.
    pub(super) id: u32,
    /// Above zero.
    pub(super) size: u32,
}

/// Requests in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trace {
    pub(super) name: String,
    pub(super) requests: Vec<Request>,
    /// By object: the size that it was first asked for with. Objects keep it: a cache of immutable values has no other.
    sizes: Vec<u32>,
}

impl Trace {
    /// A trace of ids, of whatever numbering, with sizes; a size of 0 counts as 1.
    pub(super) fn new(name: impl Into<String>, requests: impl IntoIterator<Item = (u32, u32)>) -> Self {
        let (mut numbers, mut sizes) = (HashMap::new(), Vec::new());
        let number = |(id, size): (u32, u32)| {
            let id = *numbers.entry(id).or_insert_with(|| {
                sizes.push(size.max(1));
                sizes.len() as u32 - 1
            });
            Request { id, size: sizes[id as usize] }
        };
        let requests = requests.into_iter().map(number).collect();
        Self { name: name.into(), requests, sizes }
    }

    /// Reads a trace: little-endian `u32` ids, or in a file named `*.u32x2` pairs of id and size; compressed where it is named `*.zst`.
    ///
    /// # Errors
    /// The file cannot be read, is cut off in the middle of a request, or has none.
    pub(super) fn read(path: &Path) -> Outcome<Self> {
        let named = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let (name, packed) = named.strip_suffix(".zst").map_or((named.as_str(), false), |name| (name, true));
        let mut bytes = Vec::new();
        let mut file = BufReader::new(File::open(path)?);
        if packed {
            StreamingDecoder::new(file)?.read_to_end(&mut bytes)?;
        } else {
            file.read_to_end(&mut bytes)?;
        }
        let words: Vec<u32> = bytes
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect();
        let (name, stride) = match name.strip_suffix(".u32x2") {
            Some(name) => (name, 2),
            None => (name.strip_suffix(".u32").unwrap_or(name), 1),
        };
        if bytes.is_empty() || bytes.len() % (4 * stride) != 0 {
            return Err(format!("{} bytes are no requests of {} bytes each", bytes.len(), 4 * stride).into());
        }
        let request = |words: &[u32]| (words[0], words.get(1).copied().unwrap_or(1));
        Ok(Self::new(name, words.chunks_exact(stride).map(request)))
    }

    pub(super) const fn objects(&self) -> usize {
        self.sizes.len()
    }

    /// The bytes of all objects.
    pub(super) fn footprint(&self) -> u64 {
        self.sizes.iter().map(|&size| u64::from(size)).sum()
    }

    /// Whether objects differ in size.
    pub(super) fn is_sized(&self) -> bool {
        self.sizes.iter().any(|&size| size != self.sizes[0])
    }

    /// The sizes of a cache to try, with how many per cent of the footprint they are.
    pub(super) fn capacities(&self) -> Vec<(u64, u64)> {
        let percents: &[u64] = if self.objects() < 20_000 { &[5, 10, 20, 40, 70] } else { &[1, 3, 10, 30] };
        let footprint = self.footprint();
        percents.iter().map(|&percent| (percent, (footprint * percent / 100).max(1))).collect()
    }
}

/// Traffic of several kinds, `requests` of each, over a tenth as many objects; the last with sizes.
pub(super) fn generated(requests: u32) -> Vec<Trace> {
    let objects = requests / 10;
    vec![
        zipf("Zipf 0.99", objects, requests, 0.99),
        zipf("Zipf 0.8", objects, requests, 0.8),
        Trace::new("loop", (0..requests).map(|at| (at % objects, 1))),
        scans(objects, requests),
        shifting(objects, requests),
        recent(objects, requests),
        sized(objects, requests),
    ]
}

fn zipf(name: &str, objects: u32, requests: u32, exponent: f64) -> Trace {
    let (law, mut random) = (Zipf::new(objects, exponent), Random::new(1));
    Trace::new(name, (0..requests).map(|_| (law.draw(&mut random), 1)))
}

/// A hot set by Zipf's law, and every so often a scan over a tenth as many objects that nobody asks for again.
fn scans(objects: u32, requests: u32) -> Trace {
    let (law, mut random) = (Zipf::new(objects / 2, 0.99), Random::new(2));
    let (length, mut scanned) = (objects / 20, 0);
    let request = |at: u32| {
        if (at / length).is_multiple_of(5) {
            scanned += 1;
            return (objects + scanned, 1);
        }
        (law.draw(&mut random), 1)
    };
    Trace::new("hot set and scans", (0..requests).map(request))
}

/// Zipf's law over objects that change their ranks: at each twentieth of the trace a fifth of the popularity has moved on.
fn shifting(objects: u32, requests: u32) -> Trace {
    let (law, mut random) = (Zipf::new(objects, 0.99), Random::new(3));
    let request = |at: u32| {
        let rank = law.draw(&mut random);
        let moved = at / (requests / 20).max(1);
        // The ranks of one residue move in each step, in turn: where a rank points to changes after five steps.
        let turns = (moved + rank % 5) / 5;
        ((rank + turns * (objects / 7 + 1)) % objects, 1)
    };
    Trace::new("shifting popularity", (0..requests).map(request))
}

/// Objects that are asked for a few times soon after they have appeared, and then no more.
fn recent(objects: u32, requests: u32) -> Trace {
    let mut random = Random::new(4);
    let request = |at: u32| {
        let newest = u64::from(at) / 4 + 1;
        // The distance falls off like a halving for each further step of a fiftieth of the objects.
        let (steps, part) = (random.next().trailing_zeros(), u64::from(objects / 50).max(1));
        let distance = u64::from(steps) * part + random.below(part);
        (newest.saturating_sub(distance) as u32, 1)
    };
    Trace::new("recent", (0..requests).map(request))
}

/// Zipf's law, with sizes from 100 bytes to 50 KiB, most of them small; popularity and size have nothing to do with each other.
fn sized(objects: u32, requests: u32) -> Trace {
    let (law, mut random) = (Zipf::new(objects, 0.9), Random::new(5));
    let size = |id: u32| {
        let bits = mix(u64::from(id) + 11);
        100_u32 << (bits % 10).min(bits >> 32 & 15) as u32
    };
    let request = |_| {
        let id = law.draw(&mut random);
        (id, size(id))
    };
    Trace::new("Zipf 0.9, sizes", (0..requests).map(request))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn file(name: &str, bytes: &[u8]) -> Outcome<Trace> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        Trace::read(&path)
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    #[test]
    fn files_of_ids_and_of_pairs_are_read_plain_and_compressed() {
        let ids = words(&[70_000, 5, 70_000]);
        let packed = compress_to_vec(ids.as_slice(), CompressionLevel::Fastest);
        let expected = [(0, 1), (1, 1), (0, 1)].map(|(id, size)| Request { id, size });
        for trace in [file("a.u32", &ids), file("a.u32.zst", &packed)] {
            let trace = trace.unwrap();
            assert_eq!((trace.name.as_str(), trace.objects(), trace.is_sized()), ("a", 2, false));
            assert_eq!(trace.requests, expected);
        }
        // An object keeps its first size, and one without a size has one.
        let pairs = file("b.u32x2", &words(&[7, 100, 9, 0, 7, 3])).unwrap();
        let expected = [(0, 100), (1, 1), (0, 100)].map(|(id, size)| Request { id, size });
        assert_eq!((pairs.requests.as_slice(), pairs.footprint()), (expected.as_slice(), 101));
        assert!(pairs.is_sized());
    }

    #[test]
    fn a_file_that_is_no_trace_is_refused() {
        for (name, bytes) in [("a.u32", vec![]), ("a.u32", vec![1, 2, 3]), ("a.u32x2", words(&[1, 2, 3]))] {
            assert!(file(name, &bytes).is_err(), "{name}: {bytes:?}");
        }
        assert!(file("a.u32.zst", b"not compressed").is_err());
    }

    #[test]
    fn generated_traces_are_what_they_are_called() {
        for trace in generated(20_000) {
            assert_eq!(trace.requests.len(), 20_000, "{}", trace.name);
            assert!(trace.objects() >= 1_000, "{}: {}", trace.name, trace.objects());
            assert_eq!(trace.is_sized(), trace.name.ends_with("sizes"), "{}", trace.name);
        }
        assert_eq!(generated(20_000), generated(20_000));
    }

    #[test]
    fn a_small_footprint_is_tried_at_larger_parts() {
        let trace = Trace::new("small", (0..1000).map(|id| (id, 1)));
        assert_eq!(trace.capacities(), [(5, 50), (10, 100), (20, 200), (40, 400), (70, 700)]);
    }
}
