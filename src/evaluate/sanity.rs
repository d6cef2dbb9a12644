//! Signs that an evaluation is not to be trusted, each with its number: what users of the reference had to find out.
//!
//! - Embeddings that all point the same way, or that cannot be normalised: the wrong layer, or untrained weights.
//! - As many numbers as classes: logits instead of features.
//! - Copies among the bank's images: the k-th neighbour is nearer than it should be.
//! - ID images that lie in the bank as well: their scores are too low.
//! - ID images of the bank and outside it that the score tells apart: memorised, or from different sources.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float64Type, Int64Type};

use crate::bank::Definition;
use crate::error::Result;
use crate::index::SearchOptions;
use crate::index::vectors::{embedding, normalize};
use crate::sql::session::Session;
use crate::statistics::metrics::auroc;
use crate::store::quote;

/// Images of the bank that are looked at.
const SAMPLE: usize = 1000;
/// Mean cosine between two images of a bank above which embeddings count as collapsed. Trained networks lie below 0.8,
/// untrained ones above 0.98.
const MOST_MEAN_COSINE: f64 = 0.95;
/// Share of a bank's images above which copies are a warning.
const MOST_COPIES: f64 = 0.01;
/// How far the AUROC between ID images inside and outside the bank may lie from 0.5, besides chance.
const MOST_AUROC_OFF: f64 = 0.2;

/// What is suspicious about a bank by itself, a line each.
pub async fn of_bank(session: &Session, bank: &str) -> Result<Vec<String>> {
    let bank = session.banks().definition(bank)?;
    let rows = format!("({}) AND {} IS NOT NULL", bank.predicate, bank.backbone);
    let mut found = Vec::new();

    let count = |expression: &str| format!("SELECT {expression} FROM images WHERE {rows}");
    let labels = number(session, &count("count(DISTINCT label)")).await?;
    if labels > 1 && labels as usize == bank.dimension {
        found.push(format!(
            "bank {}: its embeddings have {labels} numbers and its images {labels} labels: are these logits? The score wants \
             the features before the classifier",
            bank.name
        ));
    }
    let all = number(session, &count("count(*)")).await?;
    // rows that came as numbers have no file
    let (hashed, files) = (
        number(session, &count("count(content_hash)")).await?,
        number(session, &count("count(DISTINCT content_hash)")).await?,
    );
    let copies = (hashed - files) as f64 / all.max(1) as f64;
    if copies > MOST_COPIES {
        found.push(format!(
            "bank {}: {:.1} % of its images are copies of others (content_hash): their neighbours are themselves, and scores \
             too low",
            bank.name,
            100.0 * copies
        ));
    }
    let one_in = (all as u64).div_ceil(SAMPLE as u64).max(1);
    if let Some(cosine) = mean_cosine(session, &bank, &format!("{rows} AND id % {one_in} = 0")).await?
        && cosine > MOST_MEAN_COSINE
    {
        found.push(format!(
            "bank {}: two of its embeddings have a cosine of {cosine:.3} on average, as if all images were the same: is this \
             the right layer, and were the weights trained?",
            bank.name
        ));
    }
    let unusable = format!(
        "SELECT count(*) FROM rejects WHERE backbone = {} AND reason LIKE 'the network gave %'",
        quote(&bank.backbone)
    );
    let unusable = number(session, &unusable).await?;
    if unusable > 0 {
        found.push(format!(
            "backbone {}: {unusable} images have embeddings that cannot be normalised (all zero or not finite): SELECT * FROM \
             rejects",
            bank.backbone
        ));
    }
    Ok(found)
}

/// What is suspicious about a bank beside the ID images (SQL over `images`) that it is evaluated with.
pub async fn of_id(session: &Session, bank: &str, k: usize, id: &str) -> Result<Vec<String>> {
    let bank = session.banks().definition(bank)?;
    let mut found = Vec::new();
    let shared = format!(
        "SELECT count(*) FROM images WHERE ({id}) AND content_hash IN (SELECT content_hash FROM images WHERE {})",
        bank.predicate
    );
    let shared = number(session, &shared).await?;
    if shared > 0 {
        found.push(format!(
            "{shared} of the ID images are files that bank {} holds too: their scores are too low",
            bank.name
        ));
    }
    let opened = session.banks().open(&bank, SearchOptions::default())?;
    if k < opened.ids().len() {
        let (column, name) = (&bank.backbone, &bank.name);
        let inside = format!(
            "SELECT knn_ood_score({column}, '{name}', {k}, id) FROM images WHERE id IN ({})",
            sample(opened.ids()).map(|id| id.to_string()).collect::<Vec<_>>().join(", ")
        );
        let outside = format!(
            "SELECT knn_ood_score({column}, '{name}', {k}) FROM images WHERE ({id}) AND {column} IS NOT NULL ORDER BY \
             content_hash, id % 997, id LIMIT {SAMPLE}" // rows without a file are spread as well
        );
        let (inside, outside) = (scores(session, &inside).await?, scores(session, &outside).await?);
        // few images differ by chance: two standard errors of the rank sum
        let (n, m) = (inside.len() as f64, outside.len() as f64);
        let chance = 2.0 * ((n + m + 1.0) / (12.0 * n * m)).sqrt();
        if let Some(auroc) = auroc(&inside, &outside).filter(|auroc| (auroc - 0.5).abs() > MOST_AUROC_OFF + chance) {
            found.push(format!(
                "ID images inside and outside bank {name} are told apart with AUROC {auroc:.3}, and 0.5 is expected: the network \
                 has memorised its training images, or these come from elsewhere"
            ));
        }
    }
    Ok(found)
}

/// What is suspicious about OOD images (SQL over `images`) beside a bank and the ID images.
pub async fn of_ood(session: &Session, bank: &str, id: &str, ood: &str) -> Result<Vec<String>> {
    let bank = session.banks().definition(bank)?;
    let mut found = Vec::new();
    let both = number(session, &format!("SELECT count(*) FROM images WHERE ({id}) AND ({ood})")).await?;
    if both > 0 {
        found.push(format!("{both} of the OOD images ({ood}) are ID images too: metrics compare them with themselves"));
    }
    let within =
        number(session, &format!("SELECT count(*) FROM images WHERE ({ood}) AND ({})", bank.predicate)).await?;
    if within > 0 {
        found.push(format!(
            "{within} of the OOD images ({ood}) are such as bank {} holds: ({})",
            bank.name, bank.predicate
        ));
    }
    Ok(found)
}

/// That images are measured, or said to be held out, which a bank (or, where `calibrated`, its calibration too) was made of; a line each.
pub async fn seen_before(
    session: &Session,
    bank: &str,
    calibrated: bool,
    predicate: &str,
    whose: &str,
) -> Result<Vec<String>> {
    let bank = session.banks().definition(bank)?;
    let low = "their scores are too low, being their own nearest images";
    let mut of = vec![(bank.predicate.clone(), "lie in the bank", low)];
    if calibrated {
        let calibration = session.banks().calibration(&bank, bank.k)?;
        let share = "of these the threshold's own share lies outside by definition";
        of.push((calibration.predicate.clone(), "calibrated it", share));
    }
    let mut found = Vec::new();
    for (of, which, why) in of {
        let both =
            format!("SELECT count(*) FROM images WHERE ({predicate}) AND ({of}) AND {} IS NOT NULL", bank.backbone);
        let both = number(session, &both).await?;
        if both > 0 {
            found.push(format!("{both} of the {whose} {which}: {why}"));
        }
    }
    Ok(found)
}

/// What is suspicious about two sets of images (SQL over `images`) that the named query `drift` compares.
pub async fn of_drift(session: &Session, bank: &str, before: &str, after: &str) -> Result<Vec<String>> {
    let bank = session.banks().definition(bank)?;
    let both = format!("SELECT count(*) FROM images WHERE ({before}) AND ({after}) AND {} IS NOT NULL", bank.backbone);
    let mut found = match number(session, &both).await? {
        0 => Vec::new(),
        both => vec![format!("{both} of the images are of both sides: they are counted as later ones alone")],
    };
    for (side, predicate) in [("earlier images", before), ("later images", after)] {
        found.extend(seen_before(session, &bank.name, false, predicate, side).await?);
    }
    Ok(found)
}

/// What is suspicious about an evaluation of a bank at k, its own where it is `None`, with these ID and OOD images: [`of_bank`],
/// [`of_id`], then [`of_ood`] of each.
pub async fn of_evaluation(
    session: &Session,
    bank: &str,
    k: Option<usize>,
    id: &str,
    ood: &[String],
) -> Result<Vec<String>> {
    let k = k.unwrap_or(session.banks().definition(bank)?.k);
    let mut found = of_bank(session, bank).await?;
    found.extend(of_id(session, bank, k, id).await?);
    for ood in ood {
        found.extend(of_ood(session, bank, id, ood).await?);
    }
    Ok(found)
}

/// The mean cosine between two of these embeddings: (n·|mean|² − 1) / (n − 1) of unit vectors.
async fn mean_cosine(session: &Session, bank: &Definition, rows: &str) -> Result<Option<f64>> {
    let query = format!("SELECT {} FROM images WHERE {rows}", bank.backbone);
    let batches: Vec<RecordBatch> = session.sql(&query).await?.collect().await?;
    let (mut sum, mut n, mut unit) = (vec![0f64; bank.dimension], 0f64, Vec::new());
    for column in batches.iter().map(|batch| batch.column(0).as_fixed_size_list()) {
        for row in 0..column.len() {
            unit.clear();
            if let Ok(Some(values)) = embedding(column, row)
                && normalize(values, &mut unit).is_ok()
            {
                sum.iter_mut().zip(&unit).for_each(|(sum, x)| *sum += f64::from(*x));
                n += 1.0;
            }
        }
    }
    let length = sum.iter().map(|x| (x / n) * (x / n)).sum::<f64>();
    Ok((n > 1.0).then(|| (n * length - 1.0) / (n - 1.0)))
}

/// At most [`SAMPLE`] of the ids, evenly spread.
fn sample(ids: &[u64]) -> impl Iterator<Item = u64> + '_ {
    ids.iter().step_by(ids.len().div_ceil(SAMPLE).max(1)).copied()
}

async fn number(session: &Session, query: &str) -> Result<i64> {
    let batches: Vec<RecordBatch> = session.sql(query).await?.collect().await?;
    Ok(batches.first().map_or(0, |batch| batch.column(0).as_primitive::<Int64Type>().value(0)))
}

async fn scores(session: &Session, query: &str) -> Result<Vec<f64>> {
    let batches: Vec<RecordBatch> = session.sql(query).await?.collect().await?;
    let mut scores = Vec::new();
    for batch in &batches {
        let column = arrow::compute::cast(batch.column(0), &DataType::Float64)?;
        scores.extend(column.as_primitive::<Float64Type>().iter().flatten());
    }
    Ok(scores)
}
