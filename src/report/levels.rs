//! Whether a calibration holds: the p-values of held-out images level by level, and what that means in a sentence.

use super::facts::Level;
use super::words::{count, percent, pvalue};
use crate::statistics::intervals::level_pvalue;
use crate::statistics::thresholds::bh_limit;

/// Chance that a calibration that holds is said not to.
const CHANCE: f64 = 0.05;
/// The level that is spoken of where all hold.
const SPOKEN: f64 = 0.05;
/// Images below which a sentence says that they are few.
const MANY: usize = 100;

/// Levels, of each how many of `n` images have such a p-value or a smaller one beside `m` calibration images.
pub(super) fn levels(at_most: impl IntoIterator<Item = (f64, usize)>, n: usize, m: usize) -> Vec<Level> {
    let (all, calibration) = (n.max(1) as f64, m.max(1) as f64);
    let level = |(level, found): (f64, usize)| Level {
        level,
        share: found as f64 / all,
        within: 2.0 * (level * (1.0 - level) * (1.0 / all + 1.0 / calibration)).sqrt(),
        pvalue: level_pvalue(found, n, level, m),
    };
    at_most.into_iter().map(level).collect()
}

/// Of levels that do not hold the one that chance explains least.
pub(super) fn outlying(levels: &[Level]) -> Option<&Level> {
    let mut pvalues: Vec<f64> = levels.iter().map(|level| level.pvalue).collect();
    pvalues.sort_unstable_by(f64::total_cmp);
    bh_limit(&pvalues, CHANCE)?;
    levels.iter().min_by(|one, other| one.pvalue.total_cmp(&other.pvalue))
}

/// The level that [`sentence`] speaks of.
pub(super) fn spoken(levels: &[Level]) -> Option<&Level> {
    outlying(levels).or_else(|| levels.iter().find(|level| level.level == SPOKEN)).or_else(|| levels.first())
}

/// Whether it holds, with the figures of one level.
pub(super) fn sentence(levels: &[Level], images: usize) -> String {
    let Some(spoken) = spoken(levels) else { return "There is nothing to check the calibration with.".into() };
    let noun = if images == 1 { "image" } else { "images" };
    let means = match outlying(levels) {
        None if images < MANY => format!("The calibration holds, as far as {images} {noun} can tell"),
        None => "The calibration holds".into(),
        Some(level) if level.share > level.level => {
            "The calibration does not hold, and calls too many images OOD".into()
        }
        Some(_) => "The calibration does not hold, and calls too few images OOD".into(),
    };
    format!(
        "{means}: of {} held-out ID {noun} {} % have a p-value of at most {}, where {} % are expected ({}).",
        count(images),
        percent(spoken.share),
        spoken.level,
        100.0 * spoken.level,
        pvalue(spoken.pvalue)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calibration_holds_until_chance_does_not_explain_a_level() {
        let said = |found: [usize; 2]| sentence(&levels([(0.05, found[0]), (0.5, found[1])], 2000, 999), 2000);
        assert!(said([96, 1005]).starts_with("The calibration holds: of 2,000 held-out ID images 4.8 % have"));
        let many = said([240, 1005]);
        assert!(
            many.contains("too many images OOD") && many.contains("12.0 % have a p-value of at most 0.05"),
            "{many}"
        );
        // the level that does not hold is the one that is spoken of
        let few = said([96, 700]);
        assert!(few.contains("too few") && few.contains("at most 0.5, where 50 % are expected (p < 0.0001)"), "{few}");
        assert!(sentence(&levels([(0.05, 1)], 20, 20), 20).contains("as far as 20 images can tell"));
    }
}
