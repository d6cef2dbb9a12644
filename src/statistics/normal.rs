//! The normal distribution.

/// The share of a standard normal distribution below `z`.
pub(crate) fn cdf(z: f64) -> f64 {
    libm::erfc(-z / std::f64::consts::SQRT_2) / 2.0
}

/// The value below which a share `p`, in (0, 1), of a standard normal distribution lies: [`cdf`]'s inverse, by bisection.
pub(crate) fn quantile(p: f64) -> f64 {
    let (mut low, mut high) = (-40.0, 40.0);
    // 80 halvings of the range: down to the last bit
    for _ in 0..80 {
        let middle = f64::midpoint(low, high);
        if cdf(middle) < p { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `statistics.NormalDist().inv_cdf(p)` of Python.
    #[test]
    fn equals_python() {
        for (p, expected) in [
            (0.5, 0.0),
            (0.975, 1.959_963_984_540_054),
            (0.9, 1.281_551_565_544_600_4),
            (1e-9, -5.997_807_015_007_686_9),
        ] {
            let found = quantile(p);
            assert!((found - expected).abs() < 1e-9, "{p}: {found}, {expected}");
            assert!((cdf(found) - p).abs() < 1e-15, "{p}");
        }
    }
}
