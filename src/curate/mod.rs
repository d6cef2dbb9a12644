//! The verbs of a curator: which images to look at ([`sample()`]), which are copies ([`dedup()`]), what to call them ([`tag()`]), which to keep
//! whatever comes (`marks`), what changed them, and how it is taken back.
//!
//! Every change is one step from a version of `images` to a later one. Versions are kept until `optimize` prunes them, so a
//! mistake is taken back by making an earlier one the latest. How rows are changed is `sql`'s to know.

mod dedup;
mod hashes;
mod history;
mod marks;
mod sample;
mod tables;
mod tag;
mod undo;

pub use dedup::{Alike, Copies, Copy, DedupOptions, Stays, copies, dedup};
pub use hashes::Hashed;
pub use history::{Event, history};
pub use marks::{CURATION, IGNORE, KEEP};
pub use sample::{SampleOptions, Sampled, Strategy, sample};
pub use tables::sampled_table;
pub use tag::{Curated, delete, tag};
pub use undo::{Undone, restore, restored, undo, undone};
