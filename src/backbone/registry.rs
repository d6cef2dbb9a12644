//! The table `backbones`: which networks a database has seen, so that they can be found by name again.

use std::path::PathBuf;

use arrow::datatypes::{DataType, Field};
use serde::{Deserialize, Serialize};

use crate::backbone::{Checkpoint, Precision};
use crate::error::{Error, Result};
use crate::schema;
use crate::store::{EmbeddingColumn, Store, WriteLock, now};

/// What `backbones.architecture` says of one that is run elsewhere.
pub(super) const EXTERNAL: &str = "external";

/// One row of `backbones`.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Registered {
    pub(super) name: String,
    pub(super) architecture: String,
    pub(super) dimension: usize,
    /// Of an external one the text of its version.
    pub(super) sha256: String,
    manifest: String,
    folder: String,
    registered_at: String,
}

impl Registered {
    /// One that is run elsewhere: it has no manifest.
    pub(super) fn external(name: String, dimension: usize, version: String) -> Self {
        let (architecture, sha256) = (EXTERNAL.into(), version);
        Self {
            name,
            architecture,
            dimension,
            sha256,
            manifest: String::new(),
            folder: String::new(),
            registered_at: now(),
        }
    }
}

/// All rows.
pub(super) async fn registered_rows(store: &Store) -> Result<Vec<Registered>> {
    store.read_rows(schema::BACKBONES).await
}

/// Write a row, unless it is there as it is.
pub(super) async fn register_row(store: &Store, lock: &WriteLock, row: Registered) -> Result<()> {
    let same = |known: &Registered| {
        (&known.name, &known.architecture, &known.manifest, &known.folder)
            == (&row.name, &row.architecture, &row.manifest, &row.folder)
    };
    if registered_rows(store).await?.iter().any(same) {
        return Ok(());
    }
    store.write_rows(lock, schema::BACKBONES, &["name"], &[row]).await
}

/// The networks of a database, as checkpoints that can be loaded again; external backbones are none.
pub async fn registered_backbones(store: &Store) -> Result<Vec<Checkpoint>> {
    let rows = registered_rows(store).await?;
    let read = |row: &Registered| {
        let folder = PathBuf::from(&row.folder);
        Checkpoint::parse(&row.manifest, &folder.join(format!("{} (as registered)", row.name)), &folder)
    };
    rows.iter().filter(|row| row.architecture != EXTERNAL).map(read).collect()
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
    if registered_rows(store).await?.iter().any(|row| row.name == manifest.name && row.architecture == EXTERNAL) {
        return Err(Error::ExternalBackbone { name: manifest.name.clone() });
    }
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
    let row = Registered {
        name: manifest.name.clone(),
        architecture: manifest.architecture.clone(),
        dimension,
        sha256,
        manifest: checkpoint.text.clone(),
        folder: checkpoint.folder.display().to_string(),
        registered_at: now(),
    };
    register_row(store, lock, row).await
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
