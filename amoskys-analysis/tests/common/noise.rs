//! Noise of known distribution, the same in each run.

/// SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) struct Noise(u64);

#[allow(dead_code, reason = "each test uses its part")]
impl Noise {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d).wrapping_add(1))
    }

    /// Evenly from above 0 to 1.
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64 + f64::MIN_POSITIVE
    }

    /// Standard normal, by the method of Box and Muller.
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = (-2.0 * self.uniform().ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Exponential with mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -self.uniform().ln()
    }

    /// Autoregressive noise with standard deviation 1, from a state that the caller keeps.
    pub(crate) fn autoregressive(&mut self, before: &mut f64, coefficient: f64) -> f64 {
        *before = coefficient * *before + (1.0 - coefficient * coefficient).sqrt() * self.normal();
        *before
    }
}
