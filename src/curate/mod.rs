//! The verbs of a curator: which images to look at ([`sample()`]), what changed them, and how it is taken back.
//!
//! Every change is one step from a version of `images` to a later one. Versions are kept until `optimize` prunes them, so a
//! mistake is taken back by making an earlier one the latest. Not for making changes: `ingest` and `sql` do, and record them.

mod history;
mod sample;
mod undo;

pub use history::{Event, history};
pub use sample::{SampleOptions, Sampled, Strategy, sample};
pub use undo::{Undone, restore, restored, undo, undone};
