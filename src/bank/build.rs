//! Making and dropping banks.

use std::fs;

use super::derived::{derived, files_of, forget_others, make};
use super::graph::check_graph_memory;
use super::rows::for_each_id;
use super::{Definition, find, list};
use crate::error::{Error, Result};
use crate::index::{IndexKind, MOST_NUMBERS};
use crate::schema;
use crate::store::{Store, now, quote};

/// What a bank is to hold.
#[derive(Debug, Clone)]
pub struct BankSpec {
    /// Its name.
    pub name: String,
    /// The backbone whose column it reads.
    pub backbone: String,
    /// SQL over `images`: the ID images.
    pub predicate: String,
    /// Default number of neighbours.
    pub k: usize,
    /// Share of the rows kept, in (0, 1].
    pub alpha: f64,
    /// Of that sampling.
    pub seed: u64,
    /// A graph that is kept beside the exact bank, or none.
    pub index: IndexKind,
}

impl Default for BankSpec {
    /// All rows, k = 50, exact search; without a name, a backbone or a predicate.
    fn default() -> Self {
        Self {
            name: String::new(),
            backbone: String::new(),
            predicate: String::new(),
            k: 50,
            alpha: 1.0,
            seed: 0,
            index: IndexKind::Exact,
        }
    }
}

/// Create a bank of the current version of `images`.
///
/// Errors: a name that exists or cannot be one, a backbone without embeddings, a predicate that fails or matches
/// nothing, k above the number of rows, a zero or non-finite embedding.
pub async fn create(store: &Store, spec: &BankSpec) -> Result<Definition> {
    if !schema::is_name(&spec.name) {
        return Err(Error::BadName { what: "bank", name: spec.name.clone() });
    }
    if !(spec.alpha > 0.0 && spec.alpha <= 1.0) {
        return Err(Error::BadAlpha { alpha: spec.alpha });
    }
    let lock = store.lock_in_turn().await?;
    if list(store).await?.iter().any(|bank| bank.name == spec.name) {
        return Err(Error::BankExists { name: spec.name.clone() });
    }
    store.check_predicate(&spec.predicate).await?;
    let columns = store.embedding_columns().await?;
    let column = columns.iter().find(|column| column.backbone == spec.backbone).ok_or_else(|| Error::NoEmbeddings {
        name: spec.backbone.clone(),
        known: columns.iter().map(|column| column.backbone.clone()).collect(),
    })?;
    if column.dimension > MOST_NUMBERS {
        let (bank, dimension) = (spec.name.clone(), column.dimension);
        return Err(Error::TooManyNumbers { bank, dimension, most: MOST_NUMBERS });
    }
    let mut bank = Definition {
        name: spec.name.clone(),
        backbone: spec.backbone.clone(),
        sha256: column.sha256.clone(),
        predicate: spec.predicate.clone(),
        k: spec.k,
        alpha: spec.alpha,
        seed: spec.seed,
        index_kind: spec.index.to_string(),
        table_version: store.version(schema::IMAGES).await?,
        row_count: 0,
        dimension: column.dimension,
        created_at: now(),
        checked_version: None,
    };
    let mut count = 0;
    for_each_id(store, &bank, |_| count += 1).await?;
    if count == 0 {
        return Err(Error::NoRows { predicate: spec.predicate.clone(), backbone: spec.backbone.clone() });
    }
    bank.row_count = count;
    bank.check_k(spec.k as i128)?;
    if let IndexKind::Sharded(shards) = spec.index
        && bank.row_count < shards as usize
    {
        return Err(Error::TooManyShards { bank: bank.name, rows: bank.row_count, shards });
    }
    if spec.index.has_graph() {
        check_graph_memory(&bank, true)?;
    }
    make(store, &lock, &bank, &derived(&bank)?).await?;
    // the row last: what came before is derived, or a tag that the next attempt replaces
    store.tag(schema::IMAGES, &bank.tag(), bank.table_version).await?;
    store.write_rows(&lock, schema::BANKS, &[], std::slice::from_ref(&bank)).await?;
    Ok(bank)
}

/// Drop a bank, its calibrations and its index files. The images stay.
pub async fn drop_bank(store: &Store, name: &str) -> Result<Definition> {
    let lock = store.lock_in_turn().await?;
    let bank = find(store, name).await?;
    store.delete(&lock, schema::CALIBRATIONS, &format!("bank = {}", quote(name))).await?;
    store.delete(&lock, schema::BANKS, &format!("name = {}", quote(name))).await?;
    store.untag(schema::IMAGES, |tag| bank.owns(tag)).await?;
    for file in files_of(store, &bank)? {
        match fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &file)(error));
            }
            _ => {}
        }
    }
    forget_others(store, &list(store).await?).await?;
    Ok(bank)
}
