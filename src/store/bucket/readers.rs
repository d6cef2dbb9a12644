//! Versions of tables that somebody reads, in a bucket: an object of `readers` names them, and is put again while he is there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

use super::objects::{Bucket, is_over};
use super::renewed::Renewed;
use super::variables::lease;
use crate::error::Result;

const FOLDER: &str = "readers";
/// A version that was the latest so short a time ago may be found and not named yet.
const UNNAMED: Duration = Duration::from_secs(60);

/// What a program has pinned in a bucket.
#[derive(Debug)]
pub(in crate::store) struct Pins(Renewed, Duration);

impl Pins {
    /// Lines of a table and a version of it.
    pub(in crate::store) fn begin(bucket: &Bucket, lines: String) -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        // of this process and moment alone
        let nanoseconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        let host = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let digest = Sha256::digest(format!("{host} {} {nanoseconds} {number}", std::process::id()));
        let held = lease()?;
        let text = format!("{}\n{lines}", held.as_secs());
        Ok(Self(Renewed::begin(bucket, format!("{FOLDER}/{:.32}", format!("{digest:x}")), text, false, held)?, held))
    }

    pub(in crate::store) fn set(&self, lines: &str) -> Result<()> {
        self.0.set(format!("{}\n{lines}", self.1.as_secs()))
    }
}

/// What all who live have pinned, by table; `None` where that cannot be told.
pub(in crate::store) async fn pinned(bucket: &Bucket) -> Result<Option<BTreeMap<String, BTreeSet<u64>>>> {
    let mut pinned: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
    let (readers, now) = bucket.list_timed(FOLDER).await?;
    let mut gone = Vec::new();
    for reader in readers {
        let Some(text) = bucket.get(&reader.name).await? else { continue };
        let Some((seconds, lines)) = parsed(&text) else { return Ok(None) };
        // twice as long as it takes: whoever is late may come again
        if is_over(reader.written, now, 2 * Duration::from_secs(seconds)) {
            gone.push(reader.name);
            continue;
        }
        for (table, version) in lines {
            pinned.entry(table).or_default().insert(version);
        }
    }
    bucket.remove(gone).await?;
    Ok(Some(pinned))
}

/// Versions of a table that were the latest a moment ago: somebody may have found one and not named it yet.
pub(in crate::store) async fn young(bucket: &Bucket, table: &str) -> Result<BTreeSet<u64>> {
    let (_, now) = bucket.list_timed(FOLDER).await?;
    let versions = bucket.versions(table).await?;
    let followed = versions.keys().zip(versions.values().skip(1));
    Ok(followed.filter(|(_, followed)| !is_over(**followed, now, UNNAMED)).map(|(version, _)| *version).collect())
}

fn parsed(text: &[u8]) -> Option<(u64, Vec<(String, u64)>)> {
    let mut lines = std::str::from_utf8(text).ok()?.lines();
    let seconds = lines.next()?.parse().ok()?;
    let pin = |line: &str| {
        let (table, version) = line.split_once(' ')?;
        Some((table.to_owned(), version.parse().ok()?))
    };
    Some((seconds, lines.map(pin).collect::<Option<_>>()?))
}
