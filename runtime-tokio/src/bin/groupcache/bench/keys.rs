//! Which keys are asked for, and how often.

use std::fmt;
use std::fs;
use std::str::FromStr;

use crate::cli::BenchArgs;
use crate::report::Exit;

/// How often each key is asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Distribution {
    /// Key n, from 1, in proportion to 1 / n^s.
    Zipf(f64),
    Uniform,
    Sequential,
    /// This part of the keys gets that part of the requests.
    Hot {
        keys: f64,
        requests: f64,
    },
}

impl FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number =
            |text: &str, most: f64| text.parse().ok().filter(|number: &f64| *number > 0.0 && *number <= most);
        let (kind, rest) = text.split_once(':').unwrap_or((text, ""));
        match (kind, rest) {
            ("uniform", "") => Ok(Self::Uniform),
            ("sequential", "") => Ok(Self::Sequential),
            ("zipf", exponent) => number(exponent, 10.0)
                .map(Self::Zipf)
                .ok_or_else(|| "expected zipf:S with S above 0 and at most 10, such as zipf:0.99".to_owned()),
            ("hot", parts) => {
                let parts = parts.split_once('/').and_then(|(keys, requests)| {
                    Some(Self::Hot {
                        keys: number(keys, 100.0)? / 100.0,
                        requests: number(requests, 100.0)? / 100.0,
                    })
                });
                parts.ok_or_else(|| {
                    "expected hot:K/R, both percentages: with hot:1/90 one percent of the keys gets 90 percent of the requests"
                        .to_owned()
                })
            }
            _ => Err("expected zipf:S, uniform, sequential or hot:K/R".to_owned()),
        }
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zipf(exponent) => write!(f, "zipf:{exponent}"),
            Self::Uniform => f.write_str("uniform"),
            Self::Sequential => f.write_str("sequential"),
            Self::Hot { keys, requests } => write!(f, "hot:{}/{}", keys * 100.0, requests * 100.0),
        }
    }
}

/// The keys and their frequencies. Which key a request asks for depends on the seed and the request's number alone, not on who sends it.
#[derive(Debug)]
pub(super) struct Keys {
    names: Names,
    count: u32,
    distribution: Distribution,
    /// For Zipf: the sum of all weights up to and including each key's.
    sums: Vec<f64>,
    seed: u64,
}

#[derive(Debug)]
enum Names {
    Template(String),
    Listed(Vec<String>),
}

impl Keys {
    /// # Errors
    /// The file of keys cannot be read, or has none.
    pub(super) fn of(args: &BenchArgs) -> Result<Self, Exit> {
        let (names, count) = match &args.keys_from {
            None => (Names::Template(args.key.clone()), args.keys),
            Some(path) => {
                let text = fs::read_to_string(path)
                    .map_err(|error| Exit::usage(format!("--keys-from {}: {error}", path.display())))?;
                let names: Vec<String> =
                    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
                let count = u32::try_from(names.len()).ok().filter(|&count| count > 0);
                let count = count.ok_or_else(|| {
                    Exit::usage(format!("--keys-from {}: expected one key a line", path.display()))
                })?;
                (Names::Listed(names), count)
            }
        };
        Ok(Self::new(names, count, args.distribution, args.seed))
    }

    fn new(names: Names, count: u32, distribution: Distribution, seed: u64) -> Self {
        let sums = match distribution {
            Distribution::Zipf(exponent) => {
                let weights = (1..=count).map(|n| f64::from(n).powf(-exponent));
                weights
                    .scan(0.0, |sum, weight| {
                        *sum += weight;
                        Some(*sum)
                    })
                    .collect()
            }
            _ => Vec::new(),
        };
        Self { names, count, distribution, sums, seed }
    }

    pub(super) const fn len(&self) -> u32 {
        self.count
    }

    pub(super) fn name(&self, key: u32) -> String {
        match &self.names {
            Names::Template(template) => template.replacen("{}", &key.to_string(), 1),
            Names::Listed(names) => names[key as usize].clone(),
        }
    }

    /// The key that request number `request` asks for.
    pub(super) fn pick(&self, request: u64) -> u32 {
        // Seeds side by side must not make numbers side by side.
        let mut dice = fastrand::Rng::with_seed(
            (self.seed ^ request.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        );
        match self.distribution {
            Distribution::Sequential => (request % u64::from(self.count)) as u32,
            Distribution::Uniform => dice.u32(0..self.count),
            Distribution::Zipf(_) => {
                let all = self.sums.last().copied().unwrap_or(0.0);
                let drawn = dice.f64() * all;
                let key = self.sums.partition_point(|sum| *sum <= drawn);
                (key as u32).min(self.count - 1)
            }
            Distribution::Hot { keys, requests } => {
                let hot = ((f64::from(self.count) * keys).ceil() as u32).clamp(1, self.count);
                let is_hot = dice.f64() < requests || hot == self.count;
                if is_hot { dice.u32(0..hot) } else { dice.u32(hot..self.count) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often each of `count` keys is asked for by so many requests.
    fn picks(distribution: &str, count: u32, requests: u64) -> Vec<u32> {
        let distribution = distribution.parse().expect("a distribution");
        let keys = Keys::new(Names::Template("k{}".to_owned()), count, distribution, 7);
        let mut picks = vec![0; count as usize];
        (0..requests).for_each(|request| picks[keys.pick(request) as usize] += 1);
        picks
    }

    #[test]
    fn distributions_are_what_they_say() {
        assert_eq!(picks("sequential", 4, 40), [10; 4]);
        let uniform = picks("uniform", 10, 100_000);
        assert!(uniform.iter().all(|n| (9_000..11_000).contains(n)), "{uniform:?}");
        let zipf = picks("zipf:1", 1_000, 100_000);
        // The sum of 1/n up to 1000 is 7.485.
        assert!((12_700..14_000).contains(&zipf[0]) && (6_200..7_200).contains(&zipf[1]), "{:?}", &zipf[..3]);
        let hot: u32 = picks("hot:1/90", 1_000, 100_000).iter().take(10).sum();
        assert!((89_000..91_000).contains(&hot), "{hot}");
        assert_eq!(picks("hot:100/1", 3, 300).iter().sum::<u32>(), 300);
    }

    #[test]
    fn distributions_read_as_they_are_written_and_others_are_refused() {
        for text in ["zipf:0.99", "uniform", "sequential", "hot:1/90"] {
            let read: Distribution = text.parse().expect(text);
            assert_eq!(read.to_string(), text);
        }
        for text in ["zipf", "zipf:-1", "zipf:much", "hot:1", "hot:0/9", "hot:1/101", "uniform:2", "normal"] {
            assert!(text.parse::<Distribution>().expect_err(text).contains("expected"), "{text}");
        }
    }
}
