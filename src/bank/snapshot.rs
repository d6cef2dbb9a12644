//! The banks of a session in plain values: another program finds the same ones by them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Definition;

/// Banks and calibrations of a database at a moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// The database: a folder, or `s3://bucket/path`.
    pub(crate) place: PathBuf,
    pub(super) definitions: Vec<Definition>,
    /// Of other versions than the banks' own, as far as somebody has asked for them.
    pub(super) versions: Vec<Definition>,
    pub(super) calibrations_version: u64,
}
