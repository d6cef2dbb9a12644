//! What a report says, as it is drawn and as `--format json` prints it.

use std::collections::BTreeMap;

use serde::Serialize;

/// A report: what was asked, and everything that was found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What it is called.
    pub title: String,
    /// When it was made, UTC.
    pub made_at: String,
    /// Of the program that made it.
    pub outskirt: &'static str,
    /// What the images were measured against.
    pub bank: BankFacts,
    /// Which images, and by which limit.
    pub asked: Asked,
    /// Images that were measured.
    pub images: usize,
    /// How many of them lie above the threshold.
    pub ood: usize,
    /// How likely so many lie above it by chance, when they are drawn as the calibration images are.
    pub excess_pvalue: f64,
    /// What that means, in sentences.
    pub verdicts: Vec<Verdict>,
    /// The score below which a share `asked.tpr` of the calibration images lies.
    pub threshold: f32,
    /// Between which scores that threshold of all ID images lies, with 95 % confidence; `None` where there are too few.
    pub threshold_interval: Option<(f32, f32)>,
    /// The calibration's scores.
    pub calibration: Series,
    /// Scores of each dataset, largest share outside first.
    pub datasets: Vec<Group>,
    /// Scores of each label of each dataset, most images outside first; of many these.
    pub labels: Vec<Group>,
    /// How many of them there are in all.
    pub labels_in_all: usize,
    /// When images came, in order.
    pub periods: Vec<Period>,
    /// How long a period is: `hour`, `day` or `month`.
    pub period: &'static str,
    /// How well the score tells OOD sets from ID images, where sets were named.
    pub sets: Vec<Set>,
    /// SQL over `images`: the ID images of `sets`.
    pub id: String,
    /// Whether the calibration holds for other ID images, where some were named.
    pub held_out: Option<HeldOut>,
    /// Files that are there twice.
    pub copies: Copies,
    /// What makes numbers like these wrong.
    pub warnings: Vec<String>,
    /// The images that are shown: furthest first, then borderline, then representative ones.
    pub pictures: Vec<Picture>,
    /// Pictures of `pictures` and of their neighbours, by the id of the image.
    #[serde(skip)]
    pub thumbnails: BTreeMap<u64, Thumbnail>,
}

/// The bank of a report.
#[derive(Debug, Clone, Serialize)]
pub struct BankFacts {
    /// Its name.
    pub name: String,
    /// The version of `images` that it stands for.
    pub version: u64,
    /// Whose embeddings it holds.
    pub backbone: String,
    /// Neighbours that are counted.
    pub k: usize,
    /// Embeddings.
    pub rows: usize,
    /// Numbers of each.
    pub dimension: usize,
    /// SQL over `images`: which they are.
    pub predicate: String,
    /// SQL over `images`: the calibration images; `None` where it is not calibrated.
    pub calibrated_with: Option<String>,
}

/// What was asked.
#[derive(Debug, Clone, Serialize)]
pub struct Asked {
    /// SQL over `images`: which were measured.
    pub predicate: String,
    /// The share of ID images that the threshold accepts.
    pub tpr: f64,
}

/// A sentence, and where it comes from.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// `good`, `bad`, or `note` where it is neither.
    pub tone: &'static str,
    /// The sentence.
    pub text: String,
    /// SQL that gives its numbers.
    pub sql: String,
}

/// Scores in ascending order: shares of them at a few places.
#[derive(Debug, Clone, Serialize)]
pub struct Series {
    /// What they are of.
    pub name: String,
    /// How many.
    pub images: usize,
    /// The 0th, 1st, …, 100th percentile: order statistics, not between them.
    pub percentiles: Vec<f32>,
    /// Images in each bin of `bins`.
    pub counts: Vec<usize>,
    /// Where the bins of `counts` begin, and where the last one ends.
    pub bins: Vec<f64>,
}

/// Images that have something in common.
#[derive(Debug, Clone, Serialize)]
pub struct Group {
    /// Their dataset.
    pub dataset: String,
    /// Their label; `None` of all labels, and of images without one.
    pub label: Option<String>,
    /// How many.
    pub images: usize,
    /// How many lie above the threshold.
    pub ood: usize,
    /// Between which shares of all such images that lies, with 95 % confidence (Wilson).
    pub share_interval: (f64, f64),
    /// How likely so many lie above it by chance, when they are drawn as the calibration images are.
    pub excess_pvalue: f64,
    /// How often a score of the group is above one of the calibration, 0.5 where they do not differ: an effect size.
    pub auroc: f64,
    /// The same with 95 % confidence (DeLong).
    pub auroc_interval: (f64, f64),
    /// Whether its embeddings are others than the calibration's; of the largest datasets, where both have enough.
    pub embeddings: Option<Embeddings>,
    /// Its scores; `None` of a label.
    pub scores: Option<Series>,
    /// The score in the middle.
    pub median: f32,
    /// The largest.
    pub largest: f32,
}

/// The embeddings of a dataset beside those of the calibration, wherever the scores lie.
#[derive(Debug, Clone, Serialize)]
pub struct Embeddings {
    /// How well a linear classifier tells them apart, 0.5 where it cannot: an effect size.
    pub auroc: f64,
    /// The same with 95 % confidence.
    pub auroc_interval: (f64, f64),
    /// How likely it does as well by chance.
    pub pvalue: f64,
    /// The share of the variance, in the space of a Gaussian kernel, that lies between them.
    pub mmd_effect: f64,
    /// How likely it is as large by chance: the kernel two-sample test.
    pub mmd_pvalue: f64,
    /// SQL that gives these numbers.
    pub sql: String,
}

/// Images that came in some hour, day or month.
#[derive(Debug, Clone, Serialize)]
pub struct Period {
    /// When it began, UTC.
    pub begins: String,
    /// Images that came.
    pub images: usize,
    /// How many of them lie above the threshold.
    pub ood: usize,
    /// The score in the middle.
    pub median: f32,
}

/// An OOD set beside the ID images.
#[derive(Debug, Clone, Serialize)]
pub struct Set {
    /// Its dataset, or the SQL.
    pub name: String,
    /// SQL over `images`: which.
    pub predicate: String,
    /// Images.
    pub images: usize,
    /// Share of it below the threshold that 95 % of the ID images lie below.
    pub fpr95: f64,
    /// With 95 % confidence.
    pub fpr95_interval: (f64, f64),
    /// Area under the ROC curve.
    pub auroc: f64,
    /// With 95 % confidence.
    pub auroc_interval: (f64, f64),
    /// Area under precision and recall, ID being positive.
    pub aupr_in: f64,
    /// OOD being positive.
    pub aupr_out: f64,
    /// Shares of OOD and of ID images above a threshold, from none to all.
    pub roc: Vec<(f64, f64)>,
}

/// P-values of ID images that the calibration has not seen: spread evenly where it holds.
#[derive(Debug, Clone, Serialize)]
pub struct HeldOut {
    /// SQL over `images`: which.
    pub predicate: String,
    /// How many.
    pub images: usize,
    /// Their p-values in bins of equal width from 0 to 1.
    pub counts: Vec<usize>,
    /// How many lie at or below some levels.
    pub levels: Vec<Level>,
    /// Whether all levels hold, allowing for chance (Benjamini-Hochberg over their p-values, at 5 %).
    pub holds: bool,
}

/// A level of p-values.
#[derive(Debug, Clone, Serialize)]
pub struct Level {
    /// It.
    pub level: f64,
    /// The share of images with such a p-value or a smaller one.
    pub share: f64,
    /// How far that may lie from the level by chance: two standard deviations, of these images and of the calibration's.
    pub within: f64,
    /// How likely it lies as far from it by chance: see [`level_pvalue`](crate::statistics::intervals::level_pvalue).
    pub pvalue: f64,
}

/// Files of the same bytes, by `content_hash`; and pictures that look alike, by `dhash`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Copies {
    /// Images whose file is in the bank as well.
    pub of_bank: usize,
    /// Images whose file came before, among the others.
    pub among_themselves: usize,
    /// The first of those of the bank: uri, and the uri in the bank.
    pub examples: Vec<(String, String)>,
    /// The first of the others: uri, and the uri of one that came before.
    pub examples_among: Vec<(String, String)>,
    /// Pictures that look alike; `None` where no picture was hashed yet.
    pub near: Option<NearCopies>,
}

/// Pictures whose difference hashes differ in at most [`NearCopies::bits`], and whose files are not the same.
#[derive(Debug, Clone, Default, Serialize)]
pub struct NearCopies {
    /// Bits, of 64.
    pub bits: u32,
    /// Images that look like one of the bank.
    pub of_bank: usize,
    /// Images that look like another one of those measured, which stays where `outskirt curate dedup` deletes these.
    pub among_themselves: usize,
    /// The first of those of the bank: uri, and the uri in the bank.
    pub examples: Vec<(String, String)>,
    /// The first of the others.
    pub examples_among: Vec<(String, String)>,
    /// Images without a hash: they came as numbers, or were not hashed yet.
    pub without: usize,
}

/// An image that is shown.
#[derive(Debug, Clone, Serialize)]
pub struct Picture {
    /// Why: `furthest`, `borderline` or `representative`.
    pub shown_as: &'static str,
    /// Of a representative one: how many of the images outside that are not shown above are more like it than like the others; of many
    /// about.
    pub stands_for: Option<usize>,
    /// `images.id`.
    pub id: u64,
    /// `images.uri`.
    pub uri: String,
    /// `images.dataset`.
    pub dataset: String,
    /// `images.split`.
    pub split: Option<String>,
    /// `images.label`.
    pub label: Option<String>,
    /// Its score.
    pub score: f32,
    /// The share of calibration images with a smaller score.
    pub percentile: f64,
    /// Its conformal p-value.
    pub pvalue: f64,
    /// The nearest images of the bank.
    pub neighbors: Vec<Neighbor>,
    /// Columns of the user's own.
    pub metadata: BTreeMap<String, String>,
    /// Why there is no thumbnail of it, where there is none.
    pub without_picture: Option<String>,
}

/// An image of the bank.
#[derive(Debug, Clone, Serialize)]
pub struct Neighbor {
    /// `images.id`.
    pub id: u64,
    /// How far it is.
    pub distance: f32,
    /// Its uri; `None` where it was deleted since.
    pub uri: Option<String>,
    /// Its label.
    pub label: Option<String>,
}

/// A small picture.
#[derive(Debug, Clone)]
pub struct Thumbnail {
    /// JPEG.
    pub jpeg: Vec<u8>,
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}
