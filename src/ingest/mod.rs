//! Pictures to rows of `images`: found files are embedded on all cores and committed some thousand at a time.
//!
//! `pipeline` reads, decodes and embeds with bounded queues; `add` decides what each file is for (new, changed, known to another
//! backbone) and commits it; `fill` embeds rows that are there with another backbone, and finds their files again with
//! `reread`. `metadata` are the columns that tables give beside pictures, `rejects` the table of what was refused, `compared`
//! the images that are embedded in f32 beside bf16. Not for banks: they follow afterwards ([`crate::bank::refresh_all`]).

mod add;
mod compared;
mod fill;
mod metadata;
mod pipeline;
mod rejects;
mod reread;

pub use add::{IngestOptions, IngestSummary, ingest};
pub use fill::{FillOptions, fill};
pub use metadata::Metadata;
pub use pipeline::{Batch, EmbeddedImage, Embedding, Reject, StageTimes, embed};
pub(crate) use reread::{For, embed_for, reread};
