//! The simulation's own chance: everything that is not an operation is drawn from here, so that a run is its plan and its operations.

/// SplitMix64. Integers only: the same on every machine.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, or 0 where `bound` is 0.
    pub(super) const fn below(&mut self, bound: u64) -> u64 {
        ((self.next() as u128 * bound as u128) >> 64) as u64
    }

    /// Whether something happens that happens so many times in a thousand.
    pub(super) const fn happens(&mut self, per_mille: u16) -> bool {
        per_mille > 0 && self.below(1000) < per_mille as u64
    }

    /// A number whose distribution is close to the exponential one around `mean`: halves by a run of zeros, and a uniform part.
    pub(super) const fn exponential(&mut self, mean: u64) -> u64 {
        let bits = self.next();
        let (halves, part) = ((bits >> 32).trailing_zeros() as u128, (bits & 0xffff_ffff) as u128);
        let scaled = ((halves << 32) + part) * mean as u128 * 693 / 1000;
        (scaled >> 32) as u64
    }
}

/// The mixing function of SplitMix64: one number from another, well spread.
pub(super) const fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The entropy of a seed: as many bytes as are asked for.
#[must_use]
pub fn entropy(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(mix(seed ^ 0x5eed));
    (0..len.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_numbers_have_about_the_mean_that_was_asked_for() {
        let mut random = Random::new(1);
        let sum: u64 = (0..10_000).map(|_| random.exponential(1_000)).sum();
        assert!((900..1_150).contains(&(sum / 10_000)), "{}", sum / 10_000);
    }
}
