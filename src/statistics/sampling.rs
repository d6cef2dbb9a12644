//! Sampling that a seed fixes: a row is in or out by its own number, whichever rows there are besides.

/// Whether a row belongs to the sample: decided by its id and the seed alone, so growth moves no other row.
pub(crate) fn is_sampled(id: u64, alpha: f64, seed: u64) -> bool {
    if alpha >= 1.0 {
        return true;
    }
    ((mixed(id, seed) >> 11) as f64) < alpha * (1u64 << 53) as f64
}

/// SplitMix64's finaliser: neighbouring ids land anywhere.
pub(crate) fn mixed(id: u64, seed: u64) -> u64 {
    let mut x = id ^ seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampling_keeps_its_share_and_its_members() {
        let kept = |alpha, seed| (0..100_000).filter(|&id| is_sampled(id, alpha, seed)).count();
        for seed in [0, 1, 7] {
            let share = kept(0.1, seed) as f64 / 1e5;
            assert!((share - 0.1).abs() < 0.005, "seed {seed}: {share}");
        }
        assert_eq!(kept(1.0, 3), 100_000);
        // a larger alpha keeps every row of the smaller one
        assert!((0..10_000).filter(|&id| is_sampled(id, 0.1, 5)).all(|id| is_sampled(id, 0.5, 5)));
    }
}
