//! Pictures to rows of `images`: found files are embedded on all cores and committed some thousand at a time; and numbers to rows:
//! embeddings that other programs made (`own`, whose vectors `numbers` checks).
//!
//! `pipeline` reads, decodes and embeds with bounded queues (`budget` counts the bytes in them); `drive` takes its batches to commits; `known` decides what each
//! file is for (new, changed, known to another backbone, deleted before) with what [`crate::identity`] finds of it, `add` writes it, and `columns` makes rows of it;
//! `fill` embeds rows that are there with another backbone; `walk` gives the files of rows again, and finds with `reread` those that are not stored. `metadata` are the columns that tables give beside pictures, `rejects` the table of what was refused, `compared`
//! the images that are embedded in f32 beside bf16. Not for banks: they follow afterwards ([`crate::bank::refresh_all`]).

mod add;
mod budget;
mod column_names;
mod column_types;
mod columns;
mod compared;
mod drive;
mod fill;
mod known;
mod metadata;
mod numbers;
mod options;
mod own;
mod pipeline;
mod rejects;
mod reread;
mod summary;
mod walk;

pub use add::ingest;
pub use fill::{FillOptions, fill};
pub use metadata::Metadata;
pub(crate) use numbers::{checked_numbers, is_list_of_numbers};
pub use options::IngestOptions;
pub use own::{OwnOptions, ingest_batches, ingest_embeddings};
pub(crate) use pipeline::batch_size;
pub use pipeline::{Batch, EmbeddedImage, Embedding, embed};
pub use rejects::Reject;
pub(crate) use reread::{For, embed_for, names_picture, reread};
pub use summary::{IngestSummary, StageTimes};
pub(crate) use walk::{Row, walk};
