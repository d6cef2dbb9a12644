//! When a database is kept in order without being asked: settings of its own, in the configuration of a table that nobody
//! restores to an earlier version.

use std::time::Duration;

use super::native::dataset;
use super::{Store, WriteLock};
use crate::error::Result;
use crate::schema;

/// What is done without being asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upkeep {
    /// A table's small files are merged where that leaves so many fewer; `None`: never.
    pub merge_past: Option<usize>,
    /// Each time that so many more versions of `images` have come together it is said, or they are pruned; `None`: never.
    pub many_versions: Option<usize>,
    /// Age up to which versions stay when they are pruned; `None`: none is pruned.
    pub keep: Option<Duration>,
}

impl Default for Upkeep {
    fn default() -> Self {
        Self { merge_past: Some(64), many_versions: Some(1000), keep: None }
    }
}

const MERGE_PAST: &str = "outskirt.merge_past";
const MANY_VERSIONS: &str = "outskirt.many_versions";
const KEEP: &str = "outskirt.keep_seconds";
const OFF: &str = "off";

impl Store {
    /// The database's settings. What nobody understands is as it is at first.
    pub async fn upkeep(&self) -> Result<Upkeep> {
        let table = dataset(&self.table(schema::SCHEMA_MIGRATIONS).await?).await?;
        let setting = |key: &str, at_first: Option<u64>| match table.manifest().config.get(key).map(String::as_str) {
            Some(OFF) => None,
            Some(number) => number.parse().ok().filter(|number| *number > 0).or(at_first),
            None => at_first,
        };
        let number = |key, at_first: Option<usize>| {
            setting(key, at_first.map(|number| number as u64)).and_then(|number| usize::try_from(number).ok())
        };
        let at_first = Upkeep::default();
        Ok(Upkeep {
            merge_past: number(MERGE_PAST, at_first.merge_past),
            many_versions: number(MANY_VERSIONS, at_first.many_versions),
            keep: setting(KEEP, None).map(Duration::from_secs),
        })
    }

    /// Keep other settings.
    pub async fn set_upkeep(&self, _lock: &WriteLock, upkeep: Upkeep) -> Result<()> {
        let text = |number: Option<u64>| number.map_or_else(|| OFF.into(), |number| number.to_string());
        let number = |number: Option<usize>| text(number.map(|number| number as u64));
        let settings = [
            (MERGE_PAST, number(upkeep.merge_past)),
            (MANY_VERSIONS, number(upkeep.many_versions)),
            // a limit of less than a second is one of a second
            (KEEP, text(upkeep.keep.map(|keep| keep.as_secs().max(1)))),
        ];
        let table = self.writable(schema::SCHEMA_MIGRATIONS).await?;
        if let Some(native) = table.as_native() {
            native.update_config(settings.map(|(key, value)| (key.to_string(), value))).await?;
        }
        Ok(())
    }
}
