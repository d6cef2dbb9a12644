//! The demo's random numbers: SplitMix64 (Steele, Lea, Flood 2014), keyed rather than shared.
//!
//! Promises the same stream for the same key on every platform and in every version; only integer steps and exact
//! float operations are used. It is *not* for sampling banks or for anything secret.

/// A stream of random numbers that a key fixes.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// The stream of `key`; keys that differ in any number, or in the order, give unrelated streams.
    pub fn of(key: &[u64]) -> Self {
        let mut rng = Self(0);
        for &part in key {
            rng.0 ^= part;
            rng.0 = rng.bits();
        }
        rng
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform in [low, high).
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform in 0..n.
    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(n)) >> 64) as u64
    }

    /// Near enough to a standard normal: the sum of the four 16-bit parts of one draw, scaled. It never leaves
    /// [-3.5, 3.5], and needs no `ln`, which may differ between platforms in the last bit.
    pub fn normal(&mut self) -> f64 {
        const MEAN: f64 = 2.0 * 65_535.0;
        const DEVIATION: f64 = 37_837.227; // √(4 · (65536² - 1) / 12)
        let bits = self.bits();
        let sum = (bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + (bits >> 48);
        (sum as f64 - MEAN) / DEVIATION
    }
}

#[cfg(test)]
mod tests {
    use super::Rng;

    #[test]
    fn the_stream_is_splitmix64() {
        // First output of the reference implementation (prng.di.unimi.it/splitmix64.c) for seed 1234567.
        assert_eq!(Rng(1_234_567).bits(), 6_457_827_717_110_365_317);
    }

    #[test]
    fn keys_do_not_collide_by_order_or_length() {
        let keys: [&[u64]; 5] = [&[1, 2], &[2, 1], &[1, 2, 0], &[0, 1, 2], &[3]];
        let firsts: std::collections::HashSet<u64> = keys.iter().map(|key| Rng::of(key).bits()).collect();
        assert_eq!(firsts.len(), keys.len());
    }

    #[test]
    fn numbers_stay_in_range_and_look_right() {
        let mut rng = Rng::of(&[7]);
        assert!((0..1000).all(|_| (2.0..3.0).contains(&rng.between(2.0, 3.0)) && rng.below(5) < 5));
        let normals: Vec<f64> = (0..10_000).map(|_| rng.normal()).collect();
        let mean = normals.iter().sum::<f64>() / 10_000.0;
        let variance = normals.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 10_000.0;
        assert!(mean.abs() < 0.05 && (variance - 1.0).abs() < 0.05, "mean {mean}, variance {variance}");
    }
}
