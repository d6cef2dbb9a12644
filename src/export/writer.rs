//! What every format's file gives, as one: which is asked is decided here and nowhere else.

use std::collections::BTreeSet;

use super::coco::Coco;
use super::csv::Csv;
use super::fiftyone::FiftyOne;
use super::files::Placed;
use super::folder::Folder;
use super::huggingface::HuggingFace;
use super::imagefolder::ImageFolder;
use super::label_studio::LabelStudio;
use super::options::{ExportFormat, ExportOptions};
use super::rows::{Page, Rows};
use super::{coco, fiftyone, huggingface, imagefolder, label_studio};
use crate::error::{Error, Result};
use crate::sql::session::Session;

/// Labels that folders or categories are made of at most.
const MOST_LABELS: usize = 100_000;
/// Splits that have files of their own at most: beyond, all rows are in one.
const MOST_SPLITS: usize = 32;

/// A format's files while they are written.
pub(super) enum Writer {
    Coco(Coco),
    Csv(Csv),
    FiftyOne(FiftyOne),
    HuggingFace(Box<HuggingFace>),
    ImageFolder(Box<ImageFolder>),
    LabelStudio(LabelStudio),
}

/// The other name of a column, where a format has a meaning of its own for it.
pub(super) fn renamed(format: ExportFormat, column: &str) -> Option<String> {
    let taken = match format {
        ExportFormat::Coco => coco::TAKEN.contains(&column),
        ExportFormat::Csv => column == "file",
        ExportFormat::FiftyOne if column == "id" => return Some("image_id".into()),
        ExportFormat::FiftyOne if column == "dataset" => return Some("dataset_name".into()),
        ExportFormat::FiftyOne => fiftyone::TAKEN.contains(&column),
        ExportFormat::HuggingFace => column == huggingface::IMAGE,
        ExportFormat::ImageFolder => imagefolder::is_taken(column),
        ExportFormat::LabelStudio => label_studio::TAKEN.contains(&column),
    };
    taken.then(|| format!("{column}_"))
}

impl Writer {
    /// Begin the files of a format.
    pub(super) async fn begin(
        session: &Session,
        options: &ExportOptions,
        rows: &Rows,
        folder: &Folder,
    ) -> Result<Self> {
        Ok(match options.format {
            ExportFormat::Coco => Self::Coco(Coco::begin(folder, rows, labels(session, rows).await?)?),
            ExportFormat::Csv => Self::Csv(Csv::begin(folder)?),
            ExportFormat::FiftyOne => Self::FiftyOne(FiftyOne::begin(folder, rows)?),
            ExportFormat::HuggingFace => {
                Self::HuggingFace(Box::new(HuggingFace::begin(folder, options, rows, splits(session, rows).await?)?))
            }
            ExportFormat::ImageFolder => {
                let (labels, splits) = (labels(session, rows).await?, splits(session, rows).await?);
                Self::ImageFolder(Box::new(ImageFolder::begin(folder, rows, &labels, splits)?))
            }
            ExportFormat::LabelStudio => {
                let labels = rows.values(session, "label", label_studio::MOST_LABELS).await?;
                let labels = labels.into_iter().flatten().collect();
                let common = label_studio::common_folder(session, options, rows).await?;
                Self::LabelStudio(LabelStudio::begin(folder, options, labels, common)?)
            }
        })
    }

    /// Make the folders that [`Self::within`] said.
    pub(super) fn prepare(&mut self, within: &[String], folder: &Folder) -> Result<()> {
        match self {
            Self::ImageFolder(of) => of.prepare(within, folder),
            _ => Ok(()),
        }
    }

    /// The folder for the picture of a row, by its path in the export's.
    pub(super) fn within(&self, page: &Page, row: usize) -> String {
        match self {
            Self::Coco(_) | Self::Csv(_) | Self::LabelStudio(_) => "images".into(),
            // where its reader looks
            Self::FiftyOne(_) => "data".into(),
            Self::HuggingFace(_) => huggingface::STAGED.into(),
            Self::ImageFolder(of) => of.within(page, row),
        }
    }

    /// Write rows. Those without a picture are not among them where a format has no place for such.
    pub(super) fn rows(&mut self, page: &Page, placed: &[Placed], folder: &Folder) -> Result<()> {
        match self {
            Self::Coco(of) => of.rows(page, placed),
            Self::Csv(of) => of.rows(page, placed),
            Self::FiftyOne(of) => of.rows(page, placed),
            Self::HuggingFace(of) => of.rows(page, placed, folder),
            Self::ImageFolder(of) => of.rows(page, placed, folder),
            Self::LabelStudio(of) => of.rows(page, placed),
        }
    }

    /// Write what comes last, and say what there is to know.
    pub(super) fn end(self, folder: &Folder) -> Result<Vec<String>> {
        match self {
            Self::Coco(of) => of.end(),
            Self::Csv(of) => of.end(),
            Self::FiftyOne(of) => of.end(folder),
            Self::HuggingFace(of) => of.end(folder),
            Self::ImageFolder(of) => of.end(folder),
            Self::LabelStudio(of) => of.end(folder),
        }
    }
}

/// The labels that there are.
async fn labels(session: &Session, rows: &Rows) -> Result<BTreeSet<String>> {
    let labels = rows.values(session, "label", MOST_LABELS).await?;
    if labels.len() > MOST_LABELS {
        return Err(Error::ExportLabels { most: MOST_LABELS });
    }
    // an empty one is none
    Ok(labels.into_iter().flatten().filter(|label| !label.is_empty()).collect())
}

/// The splits that there are; none where they are too many.
async fn splits(session: &Session, rows: &Rows) -> Result<BTreeSet<String>> {
    let splits = rows.values(session, "split", MOST_SPLITS).await?;
    if splits.len() > MOST_SPLITS {
        return Ok(BTreeSet::new());
    }
    Ok(splits.into_iter().flatten().collect())
}
