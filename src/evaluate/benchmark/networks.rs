//! The networks that an experiment compares, with the files of their weights.

use std::path::{Path, PathBuf};

use super::data_sets::{Experiment, children};
use crate::backbone::{Checkpoint, built_in, find_in, sha256_file};
use crate::error::{Error, Result};

/// The networks called `names`, which the database in `db` may know, and the file of each one's weights where that is not
/// where the manifest says: `weights`, or a file in `data` or its folder `checkpoints`. Without names they are, for CIFAR-10,
/// the built-in networks whose weights lie there.
///
/// Errors: an unknown name; no network; `weights` for more than one.
pub async fn networks(
    experiment: Experiment,
    names: &[String],
    weights: Option<&Path>,
    data: &Path,
    db: &Path,
) -> Result<Vec<(Checkpoint, Option<PathBuf>)>> {
    let mut found = Vec::new();
    for name in names {
        let checkpoint = find_in(db, name).await?;
        let is_there = weights.is_some() || checkpoint.is_embedded() || checkpoint.weights_path().exists();
        let weights = if is_there { weights.map(Path::to_path_buf) } else { weights_in(data, &checkpoint)? };
        found.push((checkpoint, weights));
    }
    if names.is_empty() && experiment == Experiment::Cifar10 {
        for checkpoint in built_in()?.into_iter().filter(|known| !known.is_embedded()) {
            if let Some(weights) = weights_in(data, &checkpoint)? {
                found.push((checkpoint, Some(weights)));
            }
        }
    }
    if found.is_empty() {
        return Err(Error::NoBackboneGiven { folder: data.into() });
    }
    if weights.is_some() && found.len() != 1 {
        return Err(Error::WeightsOfSeveral { backbones: names.into() });
    }
    Ok(found)
}

/// The file in a folder, or in its folder `checkpoints`, that is a checkpoint's weights, by SHA-256.
fn weights_in(folder: &Path, checkpoint: &Checkpoint) -> Result<Option<PathBuf>> {
    let places = [folder.to_path_buf(), folder.join("checkpoints")];
    for place in places.iter().filter(|place| place.is_dir()) {
        for path in children(place)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
            let is_weights = [".pth", ".pt", ".th", ".pth.tar", ".safetensors"].iter().any(|end| name.ends_with(end));
            if is_weights && path.is_file() && sha256_file(&path)?.eq_ignore_ascii_case(&checkpoint.manifest.sha256) {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}
