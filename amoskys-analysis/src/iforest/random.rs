/// Random numbers that are the same for ever: xoshiro256++ (Blackman and Vigna, 2019), seeded by SplitMix64.
///
/// A model must come out the same from the same data and seed in every version, which generators of libraries do
/// not promise for the numbers they draw from a range.
pub(crate) struct Random([u64; 4]);

impl Random {
    /// A generator for one of many parts of a computation: each part draws its own numbers, whatever thread it runs
    /// on.
    pub(crate) fn new(seed: u64, part: u64) -> Self {
        let mut state = seed;
        let mix = next_split_mix(&mut state).wrapping_add(part.wrapping_mul(0xd134_2543_de82_ef95));
        state = mix;
        Self(std::array::from_fn(|_| next_split_mix(&mut state)))
    }

    fn next(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// A whole number below `limit`, each with nearly the same probability: the bias is below `limit / 2^64`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        let wide = u128::from(self.next()) * limit as u128;
        (wide >> 64) as usize
    }

    /// A number from 0 to below 1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 * (1.0 / (1_u32 << 24) as f32)
    }

    /// A number from 0 to below 1, of 53 bits.
    #[cfg(feature = "linfa")]
    pub(crate) fn unit_f64(&mut self) -> f64 {
        (self.next() >> 11) as f64 * (1.0 / (1_u64 << 53) as f64)
    }

    /// A number of the standard normal distribution, by the method of Box and Muller.
    #[cfg(feature = "linfa")]
    pub(crate) fn normal(&mut self) -> f64 {
        let (radius, angle) = (1.0 - self.unit_f64(), self.unit_f64());
        (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
    }

    /// So many different numbers below `all`, in order; all of them if there are no more.
    #[cfg(feature = "linfa")]
    pub(crate) fn choose(&mut self, all: usize, size: usize) -> Vec<usize> {
        if size >= all {
            return (0..all).collect();
        }
        // Floyd's algorithm.
        let mut chosen = std::collections::BTreeSet::new();
        for last in all - size..all {
            let drawn = self.below(last + 1);
            if !chosen.insert(drawn) {
                chosen.insert(last);
            }
        }
        chosen.into_iter().collect()
    }
}

fn next_split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_published_algorithms() {
        // First output of SplitMix64 from state 1234567, and of xoshiro256++ from state 1, 2, 3, 4.
        let mut state = 1_234_567;
        assert_eq!(next_split_mix(&mut state), 6_457_827_717_110_365_317);
        let mut random = Random([1, 2, 3, 4]);
        assert_eq!(
            [random.next(), random.next(), random.next()],
            [41_943_041, 58_720_359, 3_588_806_011_781_223]
        );
    }

    #[test]
    fn draws_are_spread_evenly() {
        let mut random = Random::new(1, 2);
        let mut counts = [0_u32; 7];
        let mut sum = 0.0;
        for _ in 0..70_000 {
            counts[random.below(7)] += 1;
            let unit = random.unit();
            assert!((0.0..1.0).contains(&unit));
            sum += f64::from(unit);
        }
        assert!(
            counts.iter().all(|&count| (9_500..10_500).contains(&count)),
            "{counts:?}"
        );
        assert!((sum / 70_000.0 - 0.5).abs() < 0.01);
        assert_ne!(Random::new(1, 2).next(), Random::new(1, 3).next());
        assert_ne!(Random::new(1, 2).next(), Random::new(2, 2).next());
    }
}
