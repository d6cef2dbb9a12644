//! Images, their pictures and their scores as files that other programs read.
//!
//! [`export()`] promises: the rows that a condition chooses, in the order of their ids, with what `images` says of them and, of a bank, score,
//! p-value, decision and nearest images; the pictures copied, linked or named, out of archives too; everything in a folder that
//! appears under its name when it is whole, and not before. What is missing is counted. Memory does not follow the number of rows: they
//! come in pages, and an archive is read in its order while they do.
//!
//! A file of this room per format (`csv.rs`, `coco.rs`, `fiftyone.rs`, `huggingface.rs`, `imagefolder.rs`, `label_studio.rs`), which says whose
//! reader it is written for; `rows.rs` asks the session, `files.rs` has the pictures, `folder.rs` the folder, `names.rs` makes names of
//! folders out of what users wrote. What users wrote never names a place outside of the folder. Not for backups of a database:
//! its folder is copied for that.

mod coco;
mod csv;
mod fiftyone;
mod files;
mod folder;
mod huggingface;
mod imagefolder;
mod label_studio;
mod names;
mod options;
mod parquet;
mod rows;
mod run;
mod values;
mod writer;

pub use options::{ExportFiles, ExportFormat, ExportOptions, Exported};
pub use run::export;
