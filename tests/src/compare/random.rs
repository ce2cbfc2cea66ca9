//! Numbers from a seed, and the distributions that traffic is drawn from: the same on every machine.

/// SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`, or 0 where `bound` is 0.
    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        ((self.next() as u128 * bound as u128) >> 64) as u64
    }

    /// A number from 0 to 1, 1 excluded.
    pub(crate) const fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The mixing function of SplitMix64: one number from another, well spread.
pub(crate) const fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// Zipf's law over so many objects: object `i` is asked for in proportion to `1 / (i + 1)^exponent`.
#[derive(Clone, Debug)]
pub(crate) struct Zipf {
    /// What share of the requests is for this object or one before it.
    up_to: Vec<f64>,
}

impl Zipf {
    pub(crate) fn new(objects: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let mut up_to: Vec<f64> = (1..=objects)
            .map(|rank| {
                sum += f64::from(rank).powf(-exponent);
                sum
            })
            .collect();
        up_to.iter_mut().for_each(|share| *share /= sum);
        Self { up_to }
    }

    /// The object of the next request. O(log objects).
    pub(crate) fn draw(&self, random: &mut Random) -> u32 {
        let at = random.unit();
        self.up_to.partition_point(|&share| share <= at).min(self.up_to.len() - 1) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zipf_draws_the_first_object_as_often_as_the_law_says() {
        let (zipf, mut random) = (Zipf::new(1000, 1.0), Random::new(7));
        let drawn: Vec<u32> = (0..100_000).map(|_| zipf.draw(&mut random)).collect();
        // The 1000th harmonic number is 7.485.
        let share = |object| drawn.iter().filter(|&&drawn| drawn == object).count() as f64 / 100_000.0;
        assert!((share(0) - 1.0 / 7.485).abs() < 0.01, "{}", share(0));
        assert!((share(1) - 0.5 / 7.485).abs() < 0.01, "{}", share(1));
        assert!(drawn.iter().all(|&object| object < 1000));
    }
}
