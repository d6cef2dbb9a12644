//! Numbers as sentences have them.

/// A number of images.
pub(crate) fn images(images: usize) -> String {
    if images == 1 { "1 image".into() } else { format!("{} images", count(images)) }
}

/// A share in percent: with more digits where it is near the ends.
pub(crate) fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent == 0.0 || percent == 100.0 {
        format!("{percent:.0}")
    } else if (1.0..=99.0).contains(&percent) {
        format!("{percent:.1}")
    } else {
        format!("{percent:.2}")
    }
}

/// A count with commas: 12,345.
pub(crate) fn count(count: usize) -> String {
    let digits = count.to_string();
    let first = digits.len() % 3;
    let mut parts: Vec<&str> = if first == 0 { Vec::new() } else { vec![&digits[..first]] };
    parts.extend((first..digits.len()).step_by(3).map(|at| &digits[at..at + 3]));
    parts.join(",")
}

/// A p-value, as one reads it: `p = 0.61`.
pub(crate) fn pvalue(p: f64) -> String {
    match p {
        p if p < 0.0001 => "p < 0.0001".into(),
        p if p < 0.01 => format!("p = {p:.4}"),
        p => format!("p = {p:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        let counts = [0, 999, 1000, 12_345, 123_456, 1_234_567].map(count);
        assert_eq!(counts, ["0", "999", "1,000", "12,345", "123,456", "1,234,567"]);
        let shares = [0.0, 0.0042, 0.05, 0.9951, 1.0].map(percent);
        assert_eq!(shares, ["0", "0.42", "5.0", "99.51", "100"]);
        assert_eq!([0.0, 0.0012, 0.614].map(pvalue), ["p < 0.0001", "p = 0.0012", "p = 0.61"]);
    }
}
