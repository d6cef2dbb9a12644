//! What an export is asked for, and what it came to.

use std::path::PathBuf;

use serde::Serialize;

use crate::error::{Error, Result};

/// Whose files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// Hugging Face's `datasets`: Parquet files that hold the pictures, with Croissant's metadata.
    HuggingFace,
    /// COCO's JSON: pictures and categories, without annotations.
    Coco,
    /// Label Studio's tasks, with what the bank says as predictions.
    LabelStudio,
    /// FiftyOne's CSV dataset.
    FiftyOne,
    /// A CSV file beside the pictures.
    Csv,
    /// A folder per split and label, as torchvision and Keras read it, and `datasets` with the table in it.
    ImageFolder,
}

/// What becomes of the pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ExportFiles {
    /// Their bytes are written into the folder.
    #[default]
    Copy,
    /// Files of this machine become symbolic links to where they are; what is in archives, at addresses or in the table is copied.
    Link,
    /// They are named where they are. An image inside an archive has no name that other programs read.
    None,
}

/// What is exported, and how.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// The folder, which must be empty or not be there.
    pub to: PathBuf,
    /// Whose files.
    pub format: ExportFormat,
    /// SQL over `images`: which; all where there is none.
    pub predicate: Option<String>,
    /// So many at most: with a bank those with the largest scores, else those with the smallest ids.
    pub limit: Option<usize>,
    /// Whose scores, p-values and decisions go with the images; it must be calibrated.
    pub bank: Option<String>,
    /// The share of ID images that the threshold accepts.
    pub tpr: f64,
    /// The bank's nearest images that go with each.
    pub neighbors: usize,
    /// Further columns of `images`, such as embeddings: the user's own go out in any case.
    pub columns: Vec<String>,
    /// What becomes of the pictures.
    pub files: ExportFiles,
    /// A picture that is missing ends the export.
    pub strict: bool,
}

impl ExportOptions {
    /// All images, with copies of their pictures.
    pub fn new(to: impl Into<PathBuf>, format: ExportFormat) -> Self {
        Self {
            to: to.into(),
            format,
            predicate: None,
            limit: None,
            bank: None,
            tpr: 0.95,
            neighbors: 0,
            columns: Vec::new(),
            files: ExportFiles::Copy,
            strict: false,
        }
    }

    /// Refuse what a format cannot hold.
    pub(super) fn check(&self) -> Result<()> {
        let refused = |what, instead| Err(Error::ExportFiles { format: self.format.name(), what, instead });
        match (self.format, self.files) {
            (ExportFormat::ImageFolder, ExportFiles::None) => {
                refused("--files none", "its folders hold the pictures, so --files copy or link")
            }
            (ExportFormat::HuggingFace, ExportFiles::Link) => {
                refused("--files link", "its Parquet files hold the pictures, so --files copy or none")
            }
            _ if self.neighbors > 0 && self.bank.is_none() => Err(Error::NeighborsOfNoBank),
            _ => Ok(()),
        }
    }
}

impl ExportFormat {
    /// As the command line has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::HuggingFace => "huggingface",
            Self::Coco => "coco",
            Self::LabelStudio => "label-studio",
            Self::FiftyOne => "fiftyone",
            Self::Csv => "csv",
            Self::ImageFolder => "imagefolder",
        }
    }

    /// Whether a row without a picture has no place in it.
    pub(super) fn needs_pictures(self) -> bool {
        !matches!(self, Self::HuggingFace | Self::Csv)
    }

    /// Endings of the pictures that its reader opens; none where it opens what Pillow does.
    pub(super) fn reads(self) -> Option<&'static [&'static str]> {
        match self {
            // what browsers show
            Self::LabelStudio | Self::FiftyOne => Some(&["png", "jpg", "webp", "gif", "bmp"]),
            // torchvision passes over other names
            Self::ImageFolder => Some(&["png", "jpg", "webp", "bmp", "tiff", "ppm", "pgm"]),
            Self::Coco | Self::Csv | Self::HuggingFace => None,
        }
    }
}

/// What an export came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// The folder, absolute.
    pub folder: PathBuf,
    /// Images that it has.
    pub rows: usize,
    /// Pictures whose bytes were written.
    pub copied: usize,
    /// Pictures that are links.
    pub linked: usize,
    /// Pictures that are named where they are.
    pub referenced: usize,
    /// Pictures that could not be found or read.
    pub missing: usize,
    /// Images inside of archives, which cannot be named.
    pub in_archives: usize,
    /// Images that are not in the folder, for want of a picture: of [`Self::missing`] and [`Self::in_archives`].
    pub left_out: usize,
    /// Copied files that are no longer what was embedded: their SHA-256 is another.
    pub changed: usize,
    /// Pictures that became PNG, for browsers show no other format of theirs.
    pub converted: usize,
    /// Bytes of the pictures that were written.
    pub bytes: u64,
    /// The first of those that are missing, and why.
    pub examples: Vec<(String, String)>,
    /// What there is to know of the files, a line or more each.
    pub notes: Vec<String>,
}
