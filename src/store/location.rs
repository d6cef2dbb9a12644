//! Where a database is: a folder of this machine, or a place in a bucket.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bucket::{self, Bucket};
use super::{durable, files, manifest};
use crate::error::{Error, Result};
use crate::schema;

/// The file of a copy that is not complete: it says where it comes from.
pub(super) const COPYING: &str = "copying";

/// A bucket that is silent for so long is not asked for anything.
const FIRST_ANSWER: Duration = Duration::from_secs(15);

/// A folder of this machine, or a place in a bucket.
#[derive(Debug, Clone)]
pub(super) enum Location {
    Folder(PathBuf),
    Bucket(Bucket),
}

impl Location {
    /// What a text means, as it is; nobody looks whether anything is there.
    ///
    /// Errors: an address of another kind; one that is none.
    pub(super) fn of(text: &Path) -> Result<Self> {
        let utf8 = text.to_str().ok_or_else(|| Error::NotUtf8 { path: text.into() })?;
        if bucket::is_address(utf8) {
            return Ok(Self::Bucket(Bucket::open(utf8)?));
        }
        if utf8.get(..3).is_some_and(|start| start.eq_ignore_ascii_case("s3:")) {
            return Err(Error::BadBucket { address: utf8.into(), reason: "it is not s3://BUCKET/PATH".into() });
        }
        match utf8.split_once("://") {
            Some((scheme, _)) => Err(Error::RemoteDatabase { scheme: scheme.into() }),
            None => Ok(Self::Folder(text.into())),
        }
    }

    /// The same by the one name that it has.
    pub(super) fn resolved(self) -> Result<Self> {
        match self {
            // as the system resolves it: lancedb takes `..` off by letters, and would find another folder behind a link
            Self::Folder(folder) => {
                let folder = std::fs::canonicalize(&folder).map_err(Error::io("find", &folder))?;
                Self::of(&folder)
            }
            bucket => Ok(bucket),
        }
    }

    /// By this it is opened again, and messages name it.
    pub(super) fn place(&self) -> PathBuf {
        match self {
            Self::Folder(folder) => folder.clone(),
            Self::Bucket(bucket) => bucket.address().into(),
        }
    }

    /// The folder of this machine for what is derived from it.
    pub(super) fn local(&self) -> &Path {
        match self {
            Self::Folder(folder) => folder,
            Self::Bucket(bucket) => bucket.cache(),
        }
    }

    /// How often a writer that waits for another asks again.
    pub(super) fn asks_every(&self) -> Duration {
        match self {
            Self::Folder(_) => Duration::from_millis(50),
            // three requests each time
            Self::Bucket(_) => Duration::from_secs(1),
        }
    }

    /// Where a table lies.
    pub(super) fn table(&self, table: &str) -> PathBuf {
        self.place().join(format!("{table}.lance"))
    }

    /// Whether anything of a table is there.
    pub(super) async fn has_table(&self, table: &str) -> Result<bool> {
        match self {
            Self::Folder(_) => Ok(self.table(table).is_dir()),
            Self::Bucket(bucket) => bucket.has(&format!("{table}.lance/_versions")).await,
        }
    }

    /// The versions of a table that are kept, ascending, by the names of their manifests: none is read.
    pub(super) async fn versions(&self, table: &str) -> Result<Vec<u64>> {
        match self {
            Self::Folder(_) => manifest::versions(&self.table(table)),
            Self::Bucket(bucket) => Ok(bucket.versions(table).await?.into_keys().collect()),
        }
    }

    /// Versions of a table that somebody may have found and not pinned yet.
    pub(super) async fn young(&self, table: &str) -> Result<BTreeSet<u64>> {
        match self {
            // whoever is between the two holds a lock
            Self::Folder(_) => Ok(BTreeSet::new()),
            Self::Bucket(bucket) => bucket::young(bucket, table).await,
        }
    }

    /// Refuse a table whose latest manifest cannot be what was written. A bucket gives what was put, or nothing.
    pub(super) fn check_latest(&self, table: &str) -> Result<()> {
        match self {
            Self::Folder(_) => manifest::check_latest(table, &self.table(table)),
            Self::Bucket(_) => Ok(()),
        }
    }

    /// Bytes of all files of a table.
    pub(super) async fn table_bytes(&self, table: &str) -> Result<u64> {
        match self {
            Self::Folder(_) => files::folder_bytes(&self.table(table)),
            Self::Bucket(bucket) => bucket.bytes(&format!("{table}.lance")).await,
        }
    }

    /// Bytes of all files, those that are derived with them.
    pub(super) async fn bytes(&self) -> Result<u64> {
        match self {
            Self::Folder(folder) => files::folder_bytes(folder),
            Self::Bucket(bucket) => Ok(bucket.bytes("").await? + files::folder_bytes(bucket.cache())?),
        }
    }

    /// Remove what a writer that died had begun to write into a table.
    pub(super) fn remove_unfinished(&self, table: &str) -> Result<()> {
        match self {
            Self::Folder(_) => files::remove_unfinished(&self.table(table)),
            // an object is there whole or not at all
            Self::Bucket(_) => Ok(()),
        }
    }

    /// A file of a table that a creation of ours, interrupted before its commit, does not leave.
    pub(super) async fn left_by_others(&self, table: &str) -> Result<Option<String>> {
        let is_ours = |inside: &Path| files::is_unfinished(inside) || inside.starts_with("_transactions");
        match self {
            Self::Folder(_) => {
                let (folder, mut left) = (self.table(table), None);
                files::each_file(&folder, &mut |path, _| {
                    let inside = path.strip_prefix(&folder).unwrap_or(path);
                    if !is_ours(inside) && left.is_none() {
                        left = Some(inside.display().to_string());
                    }
                    Ok(())
                })?;
                Ok(left)
            }
            Self::Bucket(bucket) => {
                let folder = format!("{table}.lance");
                let objects = bucket.list(&folder).await?;
                let mut inside =
                    objects.iter().filter_map(|object| object.name.strip_prefix(&folder)?.strip_prefix('/'));
                Ok(inside.find(|name| !is_ours(Path::new(name))).map(str::to_owned))
            }
        }
    }

    /// Remove everything of a table.
    pub(super) async fn remove_table(&self, table: &str) -> Result<()> {
        match self {
            Self::Folder(_) => {
                let path = self.table(table);
                match std::fs::remove_dir_all(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        Err(Error::io("remove", &path)(error))
                    }
                    _ => Ok(()),
                }
            }
            Self::Bucket(bucket) => {
                let objects = bucket.list(&format!("{table}.lance")).await?;
                bucket.remove(objects.into_iter().map(|object| object.name)).await
            }
        }
    }

    /// Refuse the beginning of a copy. Of a bucket it is the first that is asked for: Lance's words about one that does not answer are for
    /// its makers.
    pub(super) async fn check_whole(&self) -> Result<()> {
        let mark = match self {
            Self::Folder(folder) => std::fs::read(folder.join(COPYING)).ok(),
            Self::Bucket(bucket) => {
                let mark = bucket.prompt(FIRST_ANSWER)?.get(COPYING).await.map_err(|error| match error {
                    Error::Bucket { what, reason, .. } => Error::Bucket { what, address: bucket.address(), reason },
                    Error::BucketDenied { what, reason, .. } => {
                        Error::BucketDenied { what, address: bucket.address(), reason }
                    }
                    other => other,
                });
                mark?.map(Vec::from)
            }
        };
        match mark {
            Some(from) => {
                let from = String::from_utf8_lossy(&from).trim().to_owned();
                Err(Error::HalfCopied { place: self.place(), from })
            }
            None => Ok(()),
        }
    }

    /// Refuse to begin a database inside another one's place, where that one's files are told by their names alone.
    pub(super) async fn check_outside(&self) -> Result<()> {
        match self {
            Self::Folder(_) => Ok(()),
            Self::Bucket(bucket) => bucket.check_outside(schema::SCHEMA_MIGRATIONS).await,
        }
    }

    /// Connections for reading and for writing.
    pub(super) async fn connect(&self) -> Result<(lancedb::Connection, lancedb::Connection)> {
        Ok(match self {
            Self::Folder(folder) => (durable::reading(folder).await?, durable::writing(folder).await?),
            Self::Bucket(bucket) => (bucket::reading(bucket).await?, bucket::writing(bucket).await?),
        })
    }
}
