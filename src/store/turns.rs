//! Whose turn it is to write.

use super::Store;
use super::history::Change;
use super::lock::WriteLock;
use crate::error::Result;
use crate::schema;

/// In the configuration of `images`: the number of the writer who took the place of another last.
const TAKEN_OVER: &str = "outskirt.writer";

impl Store {
    /// Take the one writer's place; it is given back when the value is dropped or the process dies.
    ///
    /// Errors: [`Error::Locked`](crate::Error::Locked) at once where another program has it.
    pub async fn lock(&self) -> Result<WriteLock> {
        self.begun(WriteLock::take(&self.location).await?).await
    }

    /// Take the place of the one who writes files that are derived, on this machine.
    ///
    /// Errors: [`Error::Locked`](crate::Error::Locked) at once where another program has it.
    pub fn lock_files(&self) -> Result<WriteLock> {
        WriteLock::take_files(self.folder())
    }

    /// The same, waiting as long as the database is [patient](Self::patient). What is written is found out after that.
    pub async fn lock_in_turn(&self) -> Result<WriteLock> {
        self.begun(WriteLock::in_turn(&self.location, &self.patience).await?).await
    }

    /// Whoever takes the place of one that may not be dead makes a version of `images`: what that one has under way cannot make it.
    async fn begun(&self, lock: WriteLock) -> Result<WriteLock> {
        if let Some(number) = lock.took_over()
            && self.location.has_table(schema::IMAGES).await?
            && let Some(native) = self.writable(schema::IMAGES).await?.as_native()
        {
            let before = self.version(schema::IMAGES).await?;
            native.update_config([(TAKEN_OVER.to_owned(), number.to_string())]).await?;
            let detail = Some("after a writer that was taken for dead".into());
            self.record(&lock, before, Change { detail, ..Change::of("takeover") }).await?;
        }
        Ok(lock)
    }
}
