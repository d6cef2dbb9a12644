//! The table `backbones`: which networks a database has seen, so that they can be found by name again.

use std::path::PathBuf;

use arrow::datatypes::{DataType, Field};
use serde::{Deserialize, Serialize};

use crate::backbone::{Checkpoint, Precision};
use crate::error::{Error, Result};
use crate::schema;
use crate::store::{EmbeddingColumn, Store, WriteLock, now};

/// One row of `backbones`.
#[derive(Debug, Serialize, Deserialize)]
struct Registered {
    name: String,
    architecture: String,
    dimension: usize,
    sha256: String,
    manifest: String,
    folder: String,
    registered_at: String,
}

/// The backbones of a database, as checkpoints that can be loaded again.
pub async fn registered_backbones(store: &Store) -> Result<Vec<Checkpoint>> {
    let rows: Vec<Registered> = store.read_rows(schema::BACKBONES).await?;
    let read = |row: &Registered| {
        let folder = PathBuf::from(&row.folder);
        Checkpoint::parse(&row.manifest, &folder.join(format!("{} (as registered)", row.name)), &folder)
    };
    rows.iter().map(read).collect()
}

/// Add a backbone's column to `images` and its row to `backbones`; nothing happens where both are there.
///
/// Errors: a column of that name which other weights, another manifest or another precision have filled, or which holds no embeddings.
pub async fn register_backbone(
    store: &Store,
    lock: &WriteLock,
    checkpoint: &Checkpoint,
    precision: Precision,
) -> Result<()> {
    let manifest = &checkpoint.manifest;
    let sha256 = manifest.sha256.to_ascii_lowercase();
    let (backbone, dimension) = (manifest.name.clone(), manifest.dimension);
    let column = EmbeddingColumn { backbone, sha256: sha256.clone(), dimension, precision: precision.name().into() };
    store.add_embedding_column(lock, &column).await?;
    for known in registered_backbones(store).await? {
        let known = known.manifest;
        if known.name == manifest.name
            && (&known.architecture, &known.state_dict, known.output, known.input)
                != (&manifest.architecture, &manifest.state_dict, manifest.output, manifest.input)
        {
            return Err(Error::OtherManifest { name: known.name });
        }
    }
    let rows: Vec<Registered> = store.read_rows(schema::BACKBONES).await?;
    let folder = checkpoint.folder.display().to_string();
    if rows.iter().any(|row| row.name == manifest.name && row.manifest == checkpoint.text && row.folder == folder) {
        return Ok(());
    }
    let row = Registered {
        name: manifest.name.clone(),
        architecture: manifest.architecture.clone(),
        dimension,
        sha256,
        manifest: checkpoint.text.clone(),
        folder,
        registered_at: now(),
    };
    store.write_rows(lock, schema::BACKBONES, &["name"], &[row]).await
}

/// Add the column of a backbone's class logits to `images`; nothing happens where it is there.
///
/// Errors: a column of that name that holds something else, or logits of other weights.
pub async fn register_logits(store: &Store, lock: &WriteLock, checkpoint: &Checkpoint, classes: usize) -> Result<()> {
    let manifest = &checkpoint.manifest;
    let field = schema::logits_field(&manifest.name, classes, &manifest.sha256.to_ascii_lowercase());
    let images = store.schema(schema::IMAGES).await?;
    let Ok(found) = images.field_with_name(field.name()) else {
        return store.add_null_columns(lock, schema::IMAGES, &[field]).await;
    };
    let describe = |field: &Field| {
        let numbers = if let DataType::FixedSizeList(_, numbers) = field.data_type() { *numbers } else { 0 };
        let sha256 = field.metadata().get(schema::SHA256_KEY).map_or("unknown", String::as_str);
        format!("sha256 {sha256} ({numbers} classes)")
    };
    match (schema::is_logits(found), describe(found), describe(&field)) {
        (false, ..) => Err(Error::ColumnTaken { name: field.name().clone() }),
        (true, stored, given) if stored == given => Ok(()),
        (true, stored, given) => Err(Error::OtherCheckpoint { column: field.name().clone(), stored, given }),
    }
}
