//! A backbone by name, loaded as a caller wants it: with logits, on a device, in a precision.

use std::path::{Path, PathBuf};

use outskirt_kernels::Precision;

use super::checkpoint::Checkpoint;
use super::loaded::Backbone;
use super::lookup::{find_in, registered_in};
use super::trusted::Trusted;
use crate::error::Result;
use crate::index::Device;

/// How a backbone is loaded.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// The weights file, where it is not where the manifest says.
    pub weights: Option<PathBuf>,
    /// Whether it gives class logits as well.
    pub with_logits: bool,
    /// Where it runs.
    pub device: Device,
    /// What it computes in.
    pub precision: Precision,
    /// The TorchScript modules that may run.
    pub trusted: Trusted,
}

/// Find a backbone as [`find_in`] does, and load it.
///
/// Errors: those of [`find_in`], [`Backbone::load`], [`Backbone::with_logits`] and [`Backbone::placed`]; no CUDA where it
/// is asked for.
pub async fn load_in(folder: &Path, name_or_path: &str, options: &LoadOptions) -> Result<Backbone> {
    let checkpoint = find_in(folder, name_or_path).await?;
    let weights = match &options.weights {
        Some(path) => Some(path.clone()),
        None => remembered(folder, &checkpoint).await?,
    };
    let backbone = Backbone::load(checkpoint, weights.as_deref(), &options.trusted)?;
    let backbone = if options.with_logits { backbone.with_logits()? } else { backbone };
    backbone.placed(options.device, options.precision)
}

/// Where the database knows the weights to be, if they are not where the manifest says.
async fn remembered(folder: &Path, checkpoint: &Checkpoint) -> Result<Option<PathBuf>> {
    if checkpoint.is_embedded() || checkpoint.weights_path().exists() {
        return Ok(None);
    }
    let same = |known: &Checkpoint| {
        (&known.manifest.name, known.manifest.sha256.to_ascii_lowercase())
            == (&checkpoint.manifest.name, checkpoint.manifest.sha256.to_ascii_lowercase())
    };
    let known = registered_in(folder).await?.0.into_iter().find(same);
    Ok(known.map(|known| known.weights_path()).filter(|path| path.exists()))
}
