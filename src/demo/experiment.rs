//! The demo's experiment: its folder, the data sets in it, its bank, and what is compared.

use std::fs;
use std::path::{Path, PathBuf};

use super::draw::{Counts, OOD};
use crate::bank::BankSpec;
use crate::error::{Error, Result};
use crate::index::{IndexKind, Storage};

/// The built-in backbone that embeds the pictures.
pub const BACKBONE: &str = "demo_shapes";
/// The bank's name.
pub const BANK: &str = "demo";
/// How many pictures are drawn.
pub const COUNTS: Counts = Counts { train: 300, calibration: 60, test: 60, ood: 300 };
/// SQL over `images`: the held-out ID images that the bank is calibrated with.
pub const CALIBRATION: &str = "dataset = 'shapes_id' AND split = 'calibration'";
/// SQL over `images`: the ID images that are compared with the OOD sets.
pub const ID_TEST: &str = "dataset = 'shapes_id' AND split = 'test'";

/// A folder with this file in it is a demo's, and may be made again.
const MARKER: &str = "made-by-outskirt-demo";

/// A demo's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Where [`super::write_pictures`] writes.
    pub pictures: PathBuf,
    /// The database.
    pub database: PathBuf,
}

/// A folder of pictures, and what it is ingested as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSet {
    /// `images.dataset`.
    pub dataset: &'static str,
    /// `images.split`.
    pub split: &'static str,
    /// Where its pictures are.
    pub folder: PathBuf,
}

impl Folder {
    /// Make the folder, or empty the parts of an earlier demo.
    ///
    /// Errors: [`Error::Demo`] where it holds something else; a folder that cannot be made or emptied.
    pub fn prepare(folder: &Path) -> Result<Self> {
        let refuse = |reason: &str| Error::Demo { path: folder.into(), reason: reason.into() };
        let marker = folder.join(MARKER);
        match fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
            Ok(true) if !marker.exists() => {
                return Err(refuse("is not empty and not a demo's folder: name another with --dir"));
            }
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("open", folder)(error)),
        }
        let parts = Self { pictures: folder.join("pictures"), database: folder.join("db") };
        for part in [&parts.pictures, &parts.database] {
            if part.exists() {
                fs::remove_dir_all(part).map_err(Error::io("remove", part))?;
            }
        }
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        fs::write(&marker, "outskirt demo may empty this folder\n").map_err(Error::io("write", &marker))?;
        Ok(parts)
    }

    /// The data sets: the ID images, in three splits, then the OOD sets.
    pub fn data_sets(&self) -> impl Iterator<Item = DataSet> {
        let id = ["train", "calibration", "test"].map(|split| {
            let folder = self.pictures.join("id").join(split);
            DataSet { dataset: "shapes_id", split, folder }
        });
        let ood = OOD.map(|set| DataSet { dataset: set, split: "test", folder: self.pictures.join("ood").join(set) });
        id.into_iter().chain(ood)
    }
}

/// The bank of the ID training images.
pub fn bank() -> BankSpec {
    BankSpec {
        name: BANK.into(),
        backbone: BACKBONE.into(),
        predicate: "dataset = 'shapes_id' AND split = 'train'".into(),
        k: 10, // the paper takes 50 for 50,000 images; this bank has 3,000
        alpha: 1.0,
        seed: 0,
        index: IndexKind::Hnsw(Storage::F32),
    }
}

/// SQL over `images`: each OOD set.
pub fn ood_predicates() -> Vec<String> {
    OOD.iter().map(|set| format!("dataset = '{set}'")).collect()
}
