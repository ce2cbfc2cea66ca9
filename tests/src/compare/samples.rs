//! What was measured of one contender in one case: a number a round, and what may be said of them.

use serde::Serialize;

/// One number a round, in the order of the rounds. Never empty.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Samples(Vec<f64>);

impl Samples {
    /// Samples of rounds.
    ///
    /// # Panics
    /// Without a round there is nothing to say.
    #[must_use]
    pub fn new(rounds: Vec<f64>) -> Self {
        assert!(!rounds.is_empty(), "a measurement has a round at least");
        Self(rounds)
    }

    /// A count: what needs no rounds, because it is the same in each.
    #[must_use]
    pub fn count(count: f64) -> Self {
        Self(vec![count])
    }

    /// How many rounds there were.
    #[must_use]
    pub fn rounds(&self) -> usize {
        self.0.len()
    }

    /// The median.
    #[must_use]
    pub fn median(&self) -> f64 {
        quantile(&self.0, 0.5)
    }

    /// The least and the greatest.
    #[must_use]
    pub fn range(&self) -> (f64, f64) {
        (quantile(&self.0, 0.0), quantile(&self.0, 1.0))
    }

    /// Half of the distance between the quartiles, in parts of the median: how far a round is off, typically. 0 where the median is.
    #[must_use]
    pub fn spread(&self) -> f64 {
        let median = self.median();
        if median == 0.0 {
            return 0.0;
        }
        (quantile(&self.0, 0.75) - quantile(&self.0, 0.25)) / 2.0 / median.abs()
    }

    /// How many times `other` this is: the median of the ratios of each round. What slows a machine down for longer than a round slows down both.
    /// Where the rounds do not correspond, the ratio of the medians.
    #[must_use]
    pub fn ratio_to(&self, other: &Self) -> f64 {
        if self.rounds() != other.rounds() {
            return self.median() / other.median();
        }
        let ratios: Vec<f64> = self.0.iter().zip(&other.0).map(|(ours, theirs)| ours / theirs).collect();
        quantile(&ratios, 0.5)
    }
}

/// The value below which this part of the numbers lies, by linear interpolation between neighbours.
fn quantile(numbers: &[f64], part: f64) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = part * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_or_between_the_two_that_are() {
        assert_eq!(Samples::new(vec![9.0, 1.0, 4.0]).median(), 4.0);
        assert_eq!(Samples::new(vec![9.0, 1.0, 4.0, 6.0]).median(), 5.0);
        assert_eq!(Samples::count(3.0).median(), 3.0);
    }

    #[test]
    fn the_spread_is_half_of_what_lies_between_the_quartiles() {
        let samples = Samples::new(vec![80.0, 90.0, 100.0, 110.0, 1000.0]);
        assert_eq!((samples.median(), samples.range()), (100.0, (80.0, 1000.0)));
        assert!((samples.spread() - 0.1).abs() < 1e-9, "{}", samples.spread());
        assert_eq!(Samples::count(0.0).spread(), 0.0);
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        // The machine was ten times as slow in every other round: ours takes half of theirs in each.
        let ours = Samples::new(vec![1.0, 10.0, 1.0, 10.0, 1.0]);
        let theirs = Samples::new(vec![2.0, 20.0, 2.0, 20.0, 2.0]);
        assert_eq!(ours.ratio_to(&theirs), 0.5);
        assert_eq!(ours.ratio_to(&Samples::count(4.0)), 0.25);
    }
}
