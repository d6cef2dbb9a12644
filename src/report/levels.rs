//! Whether a calibration holds: the p-values of held-out images level by level, and what that means in a sentence.

use super::facts::Level;
use super::words::{count, percent, pvalue};
use crate::statistics::intervals::level_pvalue;
use crate::statistics::thresholds::bh_limit;

/// Chance that a calibration that holds is said not to.
const CHANCE: f64 = 0.05;
/// The level that is spoken of where all hold.
const SPOKEN: f64 = 0.05;
/// Thresholds lie at levels up to this one: a TPR of 0.9 or more.
const DECIDING: f64 = 0.1;
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

/// Of levels that do not hold the one that chance explains least, of those at which thresholds lie where there is one.
pub(super) fn outlying(levels: &[Level]) -> Option<&Level> {
    let mut pvalues: Vec<f64> = levels.iter().map(|level| level.pvalue).collect();
    pvalues.sort_unstable_by(f64::total_cmp);
    let limit = bh_limit(&pvalues, CHANCE)?;
    let least = |among: &dyn Fn(&&Level) -> bool| {
        levels.iter().filter(among).min_by(|one, other| one.pvalue.total_cmp(&other.pvalue))
    };
    least(&|level| level.pvalue <= limit && level.level <= DECIDING).or_else(|| least(&|_| true))
}

/// Whether so many calibration images can give a p-value as small as the level that is spoken of.
pub(super) fn can_tell(calibration: usize) -> bool {
    (calibration + 1) as f64 * SPOKEN >= 1.0
}

/// The level that [`sentence`] speaks of.
pub(super) fn spoken(levels: &[Level]) -> Option<&Level> {
    outlying(levels).or_else(|| levels.iter().find(|level| level.level == SPOKEN)).or_else(|| levels.first())
}

/// Whether it holds, with the figures of one level; of `images` beside `calibration` images.
pub(super) fn sentence(levels: &[Level], images: usize, calibration: usize) -> String {
    let Some(spoken) = spoken(levels) else { return "There is nothing to check the calibration with.".into() };
    let noun = if images == 1 { "image" } else { "images" };
    let means = match outlying(levels) {
        None if !can_tell(calibration) => {
            format!(
                "{calibration} calibration images are too few to tell whether the calibration holds: no p-value can be {SPOKEN}"
            )
        }
        None if images < MANY => format!("The calibration holds, as far as {images} {noun} can tell"),
        None if calibration < MANY => format!("The calibration holds, as far as its {calibration} images can tell"),
        None => "The calibration holds".into(),
        Some(level) if level.level > DECIDING => "The calibration does not hold: p-values are not spread evenly".into(),
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
        let said = |found: [usize; 2]| sentence(&levels([(0.05, found[0]), (0.5, found[1])], 2000, 999), 2000, 999);
        assert!(said([96, 1005]).starts_with("The calibration holds: of 2,000 held-out ID images 4.8 % have"));
        let many = said([240, 1005]);
        assert!(
            many.contains("too many images OOD") && many.contains("12.0 % have a p-value of at most 0.05"),
            "{many}"
        );
        // the level that does not hold is the one that is spoken of
        let few = said([96, 700]);
        let evenly = "does not hold: p-values are not spread evenly: of ";
        assert!(few.contains(evenly) && few.contains("at most 0.5, where 50 % are expected (p < 0.0001)"), "{few}");
        // but where thresholds lie comes first: it is what decides
        let both = said([200, 700]);
        assert!(both.contains("too many") && both.contains("at most 0.05"), "{both}");
        assert!(sentence(&levels([(0.05, 1)], 20, 20), 20, 20).contains("as far as 20 images can tell"));
        assert!(sentence(&levels([(0.05, 50)], 1000, 20), 1000, 20).contains("as far as its 20 images can tell"));
        let few = sentence(&levels([(0.05, 0)], 7500, 10), 7500, 10);
        assert!(few.starts_with("10 calibration images are too few to tell whether"), "{few}");
        assert!(!can_tell(18) && can_tell(19));
    }
}
