//! External backbones: other people's programs, of which a database has the embeddings. They are rows of `backbones` and columns
//! of `images` as networks are; what tells one version from another is the user's text, where a network has a SHA-256.

use super::registry::{EXTERNAL, Registered, register_row, registered_rows};
use crate::error::{Error, Result};
use crate::schema;
use crate::store::{EmbeddingColumn, Store, WriteLock, quote};

/// Versions are no longer.
const LONGEST: usize = 200;

/// A program that embeds, elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// Its name, and that of its column in `images`.
    pub name: String,
    /// Numbers per embedding.
    pub dimension: usize,
    /// The user's text for the version of the model: `ViT-B-32/openai`, a commit.
    pub version: String,
}

impl External {
    /// One of these; a version that is empty says nothing.
    ///
    /// Errors: [`Error::BadName`], [`Error::BadExternal`].
    pub fn new(name: &str, dimension: usize, version: &str) -> Result<Self> {
        let version = version.trim();
        if !schema::is_name(name) || schema::needs_quotes(name) {
            return Err(Error::BadName { what: "backbone", name: name.into() });
        }
        let bad = |reason: &str| Err(Error::BadExternal { name: name.into(), reason: reason.into() });
        if !(1..=65_536).contains(&dimension) {
            return bad(&format!("its dimension is {dimension}, and may be 1 to 65,536"));
        }
        if version.is_empty() {
            return bad("the text of its version is empty: it tells its embeddings from those of another version");
        }
        if version.len() > LONGEST || version.chars().any(char::is_control) {
            return bad("the text of its version must be one line of at most 200 bytes");
        }
        let known = super::checkpoint::built_in()?.into_iter().any(|known| known.manifest.name == name);
        if known {
            return bad("a network of that name comes with the program: choose another name");
        }
        Ok(Self { name: name.into(), dimension, version: version.into() })
    }
}

/// The external backbones of a database.
pub async fn external_backbones(store: &Store) -> Result<Vec<External>> {
    let rows = registered_rows(store).await?.into_iter().filter(|row| row.architecture == EXTERNAL);
    Ok(rows.map(|row| External { name: row.name, dimension: row.dimension, version: row.sha256 }).collect())
}

/// Add an external backbone's column to `images` and its row to `backbones`; nothing happens where both are there.
///
/// Errors: [`Error::OtherVersion`] where another version of it has filled the column, [`Error::OtherCheckpoint`] where a network
/// has, or one of another dimension; [`Error::ColumnTaken`].
pub async fn register_external(store: &Store, lock: &WriteLock, external: &External) -> Result<()> {
    let External { name, dimension, version } = external.clone();
    if let Some(known) = registered_rows(store).await?.into_iter().find(|row| row.name == name) {
        if known.architecture != EXTERNAL {
            let reason = "the database knows a network of that name: choose another name".into();
            return Err(Error::BadExternal { name, reason });
        }
        if known.sha256 != version {
            return Err(Error::OtherVersion { name, stored: known.sha256, given: version });
        }
        if known.dimension != dimension {
            return Err(Error::ExternalDimension { name, stored: known.dimension, given: dimension });
        }
    }
    let column =
        EmbeddingColumn { backbone: name.clone(), sha256: version.clone(), dimension, precision: schema::F32.into() };
    store.add_embedding_column(lock, &column).await?;
    register_row(store, lock, Registered::external(name, dimension, version)).await
}

/// Remove an external backbone's row from `backbones`: its name is free for another dimension or version. Its columns are gone already.
pub async fn forget_external(store: &Store, lock: &WriteLock, name: &str) -> Result<()> {
    let its_row = format!("name = {} AND architecture = {}", quote(name), quote(EXTERNAL));
    store.delete(lock, schema::BACKBONES, &its_row).await
}
