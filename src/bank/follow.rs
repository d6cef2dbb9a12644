//! What becomes of banks once `images` has changed: all are refreshed, and calibrations are measured again.

use super::{Calibration, Definition, Refreshed, calibrate, list_calibrations, refresh_all};
use crate::error::Result;
use crate::store::Store;

/// A bank that a change of `images` concerns.
#[derive(Debug)]
pub struct Followed {
    /// The bank's name.
    pub bank: String,
    /// What [`refresh_all`] did to it, or why it stays as it was.
    pub refreshed: Result<Refreshed>,
}

/// Refresh all banks after a change of `images`. The result names those that changed and those that could not be
/// refreshed; it leaves out the banks whose rows are the same.
///
/// The change is committed already, so a bank that cannot be refreshed is no error of this function. Errors: another
/// writer.
pub async fn follow(store: &Store) -> Result<Vec<Followed>> {
    let all = refresh_all(store).await?.into_iter();
    let concerned = all.filter(|(_, refreshed)| !refreshed.as_ref().is_ok_and(Refreshed::is_unchanged));
    Ok(concerned.map(|(bank, refreshed)| Followed { bank, refreshed }).collect())
}

/// Measure again those calibrations of a bank that stand for another version of it, with the images that their predicates
/// find now. `tell` hears of each as it is made.
///
/// Errors: those of [`calibrate()`]; the calibrations before it are kept.
pub async fn calibrate_again(store: &Store, bank: &Definition, mut tell: impl FnMut(&Calibration)) -> Result<()> {
    for earlier in list_calibrations(store).await? {
        if earlier.bank == bank.name && earlier.table_version != bank.table_version {
            tell(&calibrate(store, &bank.name, &earlier.predicate, Some(earlier.k)).await?);
        }
    }
    Ok(())
}
