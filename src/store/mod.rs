//! The database: Lance tables in one folder, or in a bucket, behind one wall. `lancedb` is named in this room alone.
//!
//! Promises: a write is one Lance commit, so a crash leaves it whole or absent; one program writes at a time
//! ([`WriteLock`]); what is read is not taken away meanwhile, what a session reads ([`Lease`]) as long as it lives; a write that is
//! reported has reached the disk. Knows tables, columns and versions; not for what
//! they mean: banks, scores and SQL live elsewhere.

mod bucket;
mod change;
mod copy;
mod database;
mod ddl;
mod deletions;
mod delta;
mod durable;
mod embedding_columns;
mod files;
mod history;
mod lease;
mod location;
mod lock;
mod manifest;
pub mod memory;
mod migrate;
mod native;
mod open;
mod optimize;
mod pictures;
mod pieces;
mod predicate;
mod provider;
mod recipe;
mod rows;
mod turns;
mod upkeep;

pub use bucket::{CacheUse, cache_use};
pub use change::CHOSEN_IDS_BELOW;
pub use copy::{Copied, copy};
pub use database::Store;
pub use ddl::planned_column;
pub use delta::Fragments;
pub use embedding_columns::EmbeddingColumn;
pub use history::{Change, Restored};
pub use lease::{Lease, Pin};
pub use lock::{Patience, ReadLock, WriteLock};
pub use optimize::Footprint;
pub use pieces::{Column, Piece, Pieces};
pub use predicate::{compared_with_numbers, no_condition, quote};
pub use recipe::{OpenTable, OpensTable, Parts, Recipe, RecipeScan, Slice, rows_of_scans};
pub use rows::now;
pub use upkeep::Upkeep;
