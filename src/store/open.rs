//! Databases opened, made and migrated.

use std::path::Path;

use super::database::Store;
use super::location::Location;
use super::lock::Patience;
use super::migrate;
use crate::error::{Error, Result};

impl Store {
    /// Open the database in `folder`, or at an address `s3://bucket/path`, where the environment (`AWS_*`) describes the bucket.
    ///
    /// Errors: [`Error::NoDatabase`]; [`Error::OlderSchema`] where migrations are to be applied first,
    /// [`Error::NewerSchema`] where it has some that this version does not know.
    pub async fn open(folder: &Path) -> Result<Self> {
        let store = Self::existing(folder).await?;
        migrate::check(&store).await?;
        Ok(store)
    }

    /// Open the database in `folder`, creating it where there is none.
    pub async fn create(folder: &Path) -> Result<Self> {
        Self::create_in_turn(folder, Patience::default()).await
    }

    /// The same, and a [patient](Self::patient) one: two programs may begin the same database.
    pub async fn create_in_turn(folder: &Path, patience: Patience) -> Result<Self> {
        if let Location::Folder(folder) = Location::of(folder)? {
            std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        }
        if let Err(Error::NoDatabase { .. }) = Self::open(folder).await {
            let store = Self::existing(folder).await?;
            store.location.check_outside().await?;
            // before the lock, whose file would stay in a folder of somebody else's
            migrate::check_places(&store).await?;
            let lock = store.patient(patience.clone()).lock_in_turn().await?;
            let store = Self::existing(folder).await?;
            // nothing is left to do where another program has made it in the meantime
            migrate::apply(&store, &lock).await?;
        }
        Ok(Self::open(folder).await?.patient(patience))
    }

    /// Apply the migrations that the database in `folder` lacks, and name them.
    pub async fn migrate(folder: &Path) -> Result<Vec<String>> {
        Self::migrate_in_turn(folder, Patience::default()).await
    }

    /// The same, waiting for another writer.
    pub async fn migrate_in_turn(folder: &Path, patience: Patience) -> Result<Vec<String>> {
        let store = Self::existing(folder).await?.patient(patience);
        let lock = store.lock_in_turn().await?;
        let pending = migrate::pending(&store).await?;
        migrate::apply(&store, &lock).await?;
        Ok(pending)
    }

    /// The migrations that the database in `folder` lacks.
    pub async fn pending_migrations(folder: &Path) -> Result<Vec<String>> {
        migrate::pending(&Self::existing(folder).await?).await
    }

    /// A place that is there, whatever is in it.
    async fn existing(place: &Path) -> Result<Self> {
        let location = Location::of(place)?;
        if let Location::Folder(folder) = &location
            && !folder.is_dir()
        {
            return Err(Error::NoDatabase { uri: folder.display().to_string() });
        }
        let location = location.resolved()?;
        location.check_whole().await?;
        Self::unchecked(location).await
    }
}
