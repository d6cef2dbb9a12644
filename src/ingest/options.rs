//! What an ingest is asked for.

/// What to ingest, and as what.
#[derive(Debug, Clone, Default)]
pub struct IngestOptions {
    /// `images.dataset`.
    pub dataset: String,
    /// `images.split`.
    pub split: String,
    /// Keep the files' bytes in the table.
    pub store_images: bool,
    /// Threads that decode and embed.
    pub workers: usize,
    /// Stop at the first file that is refused.
    pub strict: bool,
    /// Take images again that were deleted.
    pub again: bool,
}
