//! What the rows of a named query mean, in a sentence, by the tests that a report has.

use arrow::array::{AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type};

use super::levels::{levels, sentence};
use super::words::{count, images, pvalue};
use crate::error::Result;
use crate::sql::session::Session;
use crate::statistics::thresholds::bh_limit;

/// Chance that embeddings which have not changed are said to.
const CHANCE: f64 = 0.05;
/// An AUROC that is nearer to 0.5 is little.
const LITTLE: f64 = 0.05;
/// Images of a side below which an answer says that they are few.
const MANY: usize = 100;
/// Images below which the rounded shares of `calibration_check` are exact counts.
const EXACT: f64 = 10_000.0;

/// The sentence of the shipped query `name` about `bank`, from all its rows; `None` of one that has none.
///
/// Errors: a bank that is unknown or not calibrated.
pub fn answer(session: &Session, name: &str, bank: &str, rows: &[RecordBatch]) -> Result<Option<String>> {
    match name {
        "calibration_check" => {
            let definition = session.banks().definition(bank)?;
            let calibration = session.banks().calibration(&definition, definition.k)?;
            Ok(Some(calibration_check(&Found::of(rows)?, calibration.scores.len())))
        }
        "drift" => Ok(Some(drift(&Found::of(rows)?, bank))),
        _ => Ok(None),
    }
}

/// Rows by name: texts are found by their first column.
struct Found {
    names: Vec<String>,
    columns: Vec<(String, Vec<Option<f64>>)>,
}

impl Found {
    fn of(rows: &[RecordBatch]) -> Result<Self> {
        let mut found = Self { names: Vec::new(), columns: Vec::new() };
        for batch in rows {
            let schema = batch.schema();
            for (at, (field, column)) in schema.fields().iter().zip(batch.columns()).enumerate() {
                if at == 0 {
                    let names = cast(column, &DataType::Utf8)?;
                    found.names.extend(names.as_string::<i32>().iter().map(|name| name.unwrap_or_default().to_owned()));
                }
                if !field.data_type().is_numeric() {
                    continue;
                }
                let numbers = cast(column, &DataType::Float64)?;
                let numbers = numbers.as_primitive::<Float64Type>().iter();
                match found.columns.iter_mut().find(|(name, _)| name == field.name()) {
                    Some((_, known)) => known.extend(numbers),
                    None => found.columns.push((field.name().clone(), numbers.collect())),
                }
            }
        }
        Ok(found)
    }

    fn column(&self, name: &str) -> &[Option<f64>] {
        self.columns.iter().find(|(known, _)| known == name).map_or(&[], |(_, numbers)| numbers)
    }

    /// A number of the row whose first column says `row`.
    fn number(&self, row: &str, column: &str) -> Option<f64> {
        let at = self.names.iter().position(|name| name == row)?;
        self.column(column).get(at).copied().flatten()
    }
}

/// `m` are the calibration's images.
fn calibration_check(found: &Found, m: usize) -> String {
    let all = found.column("images").first().copied().flatten().unwrap_or(0.0);
    let shares = found.column("level").iter().zip(found.column("share"));
    let at_most = shares.filter_map(|(level, share)| {
        let (level, share) = ((*level)?, (*share)?);
        let (low, high) = ((share - 0.000_05) * all, (share + 0.000_05) * all);
        // where rounding leaves a choice, the count that speaks least against the calibration
        let count = if all < EXACT { share * all } else { (level * all).clamp(low, high) };
        Some((level, count.round() as usize))
    });
    sentence(&levels(at_most, all as usize, m), all as usize, m)
}

fn drift(found: &Found, bank: &str) -> String {
    let side = |column: &str| found.number("images", column).unwrap_or(0.0) as usize;
    let (before, after) = (side("before"), side("after"));
    let of_scores = |column: &str| found.number("scores: AUROC", column);
    let (Some(auroc), Some(lower), Some(upper)) = (of_scores("effect"), of_scores("lower"), of_scores("upper")) else {
        return format!("There is nothing to compare: {} before, {} after.", images(before), images(after));
    };
    let tests = ["scores: Kolmogorov-Smirnov", "embeddings: kernel (MMD)", "embeddings: classifier AUROC"];
    let [spread, kernel, told] = tests.map(|test| found.number(test, "pvalue"));
    let mut ascending: Vec<f64> = [spread, kernel, told].into_iter().flatten().collect();
    ascending.sort_unstable_by(f64::total_cmp);
    let limit = bh_limit(&ascending, CHANCE);
    let differs = |p: Option<f64>| p.filter(|p| limit.is_some_and(|limit| *p <= limit));
    let figures = format!(
        "AUROC {auroc:.2} ({lower:.2} to {upper:.2} with 95 % confidence), where 0.5 is no drift; {} before, {} after",
        count(before),
        count(after)
    );
    if lower > 0.5 && auroc - 0.5 >= LITTLE {
        format!("Drift: the later images have moved away from bank {bank}: {figures}.")
    } else if lower > 0.5 {
        format!("The later images have moved away from bank {bank}, but little: {figures}.")
    } else if upper < 0.5 {
        format!("The later images lie nearer to bank {bank} than the earlier ones: {figures}.")
    } else if let Some(p) = differs(told) {
        let by = found.number("embeddings: classifier AUROC", "effect").unwrap_or(0.5);
        format!(
            "The images have changed, though not away from bank {bank}: {figures}; a classifier tells their embeddings apart with AUROC \
             {by:.2} ({}).",
            pvalue(p)
        )
    } else if let Some(p) = differs(kernel) {
        format!(
            "The images have changed, though not away from bank {bank}: {figures}; their embeddings differ ({}).",
            pvalue(p)
        )
    } else if let Some(p) = differs(spread) {
        format!("The scores are spread otherwise, though no further from bank {bank}: {figures} ({}).", pvalue(p))
    } else if before.min(after) < MANY {
        format!("No drift is seen, as far as {} can tell: {figures}.", images(before.min(after)))
    } else {
        format!("No drift is seen: {figures}.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compared(auroc: [f64; 3], pvalues: [f64; 3]) -> String {
        compared_of(1200.0, auroc, pvalues)
    }

    fn compared_of(after: f64, auroc: [f64; 3], pvalues: [f64; 3]) -> String {
        let names = [
            "images",
            "scores: AUROC",
            "scores: Kolmogorov-Smirnov",
            "embeddings: kernel (MMD)",
            "embeddings: classifier AUROC",
        ];
        let [effect, lower, upper] = auroc.map(|number| vec![None, Some(number), None, None, Some(0.9)]);
        let columns = [
            ("before", vec![Some(3000.0), None, None, None, None]),
            ("after", vec![Some(after), None, None, None, None]),
            ("effect", effect),
            ("lower", lower),
            ("upper", upper),
            ("pvalue", vec![None, None, Some(pvalues[0]), Some(pvalues[1]), Some(pvalues[2])]),
        ];
        let columns = columns.map(|(name, numbers)| (name.to_owned(), numbers)).into();
        drift(&Found { names: names.map(str::to_owned).into(), columns }, "shop")
    }

    #[test]
    fn drift_is_a_direction_a_size_and_a_confidence() {
        let away = compared([0.71, 0.68, 0.74], [1e-9; 3]);
        assert_eq!(
            away,
            "Drift: the later images have moved away from bank shop: AUROC 0.71 (0.68 to 0.74 with 95 % confidence), where 0.5 is no \
             drift; 3,000 before, 1,200 after."
        );
        assert!(compared([0.52, 0.51, 0.53], [1e-9; 3]).contains("but little"));
        assert!(compared([0.4, 0.35, 0.45], [1e-9; 3]).contains("nearer to bank shop"));
        assert!(compared([0.5, 0.47, 0.53], [0.3, 0.4, 1e-6]).contains("apart with AUROC 0.90 (p < 0.0001)"));
        assert!(compared([0.5, 0.47, 0.53], [0.3, 1e-6, 0.4]).contains("their embeddings differ"));
        assert!(compared([0.5, 0.47, 0.53], [0.001, 0.4, 0.4]).contains("spread otherwise"));
        // one of three tests at 0.04 is what chance gives
        assert!(compared([0.5, 0.47, 0.53], [0.04, 0.4, 0.4]).starts_with("No drift is seen"));
        let few = compared_of(12.0, [0.5, 0.3, 0.7], [0.4, 0.4, 0.4]);
        assert!(few.starts_with("No drift is seen, as far as 12 images can tell: AUROC 0.50 (0.30 to 0.70"), "{few}");
        let nothing = drift(&Found { names: vec!["images".into()], columns: Vec::new() }, "shop");
        assert!(nothing.starts_with("There is nothing to compare: 0 images before"), "{nothing}");
    }
}
