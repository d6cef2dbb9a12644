//! How the banks of a database stand: beside their table, their files and their calibrations.

use super::graph::quality_of;
use super::{Calibration, Definition, churn, list, list_calibrations};
use crate::error::Result;
use crate::index::Quality;
use crate::schema;
use crate::store::Store;

/// How a bank stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The bank.
    pub bank: Definition,
    /// Whether it follows the latest version of `images`.
    pub is_current: bool,
    /// Share of its rows that has changed since its index files were made; `None` where a file is missing, or where the
    /// version that it was made from is no longer kept.
    pub churn: Option<f64>,
    /// How its graph answered when it was last measured; `None` without a graph, or where it was not.
    pub quality: Option<Quality>,
    /// Its calibration at its own k.
    pub calibration: Option<Calibration>,
}

impl Status {
    /// Whether the calibration was measured against an earlier version of the bank.
    pub fn is_calibration_older(&self) -> bool {
        self.calibration.as_ref().is_some_and(|made| made.table_version != self.bank.table_version)
    }
}

/// How all banks stand, by name.
pub async fn status(store: &Store) -> Result<Vec<Status>> {
    let _reading = store.read_lock().await?;
    let banks = list(store).await?;
    if banks.is_empty() {
        return Ok(Vec::new());
    }
    let calibrations = list_calibrations(store).await?;
    let images = store.version(schema::IMAGES).await?;
    let mut all = Vec::with_capacity(banks.len());
    for bank in banks {
        let calibration = calibrations.iter().find(|made| made.bank == bank.name && made.k == bank.k).cloned();
        let churn = churn(store, &bank).await.ok().flatten();
        let quality = quality_of(store, &bank);
        all.push(Status { is_current: bank.follows() == images, churn, quality, calibration, bank });
    }
    Ok(all)
}
