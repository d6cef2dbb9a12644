//! Banks: the in-distribution embeddings that a score is measured against. The one place where store and index meet.
//!
//! A bank is a definition (one row of `banks`: backbone, predicate, k, sampling, table version). Its vectors are
//! read from that version of `images`, so the same bank gives the same scores whatever is ingested later; its exact index,
//! and an HNSW graph, are files beside the tables that are made anew where they are missing or damaged. Calibrations hold the
//! scores of held-out ID images. Not for SQL: functions ask [`Banks`].

mod banks;
mod build;
mod calibrate;
mod changes;
mod definition;
mod derived;
mod ensure;
mod exact;
mod examine;
mod follow;
mod gaussian;
mod graph;
mod guide;
mod keep;
mod once;
mod open;
mod optimize;
mod origin;
mod recall;
mod refresh;
mod rows;
mod runtime;
mod sharded;
mod shards;
#[cfg(feature = "cluster")]
mod snapshot;
mod status;
mod stream;
mod tags;
mod tidy;
mod tune;

pub use banks::Banks;
pub use build::{BankSpec, create, drop_bank};
pub use calibrate::{Calibration, LIKENESS_TPR, calibrate, list_calibrations, own_threshold};
pub use definition::{Definition, find, list};
pub use ensure::ensure;
pub use examine::{Finding, State, examine, leftovers};
pub use follow::{Followed, calibrate_again, follow};
pub use gaussian::Classes;
pub use keep::{Kept, ScoresElsewhere, keep_scores, keep_scores_of};
pub use open::Bank;
pub use optimize::{Optimized, optimize};
pub use recall::{Recall, recall};
pub use refresh::{Refreshed, churn, refresh, refresh_all};
pub use rows::at_version;
#[cfg(feature = "cluster")]
pub(crate) use snapshot::Snapshot;
pub use status::{Status, status};
pub(crate) use tags::advance_unaffected;
pub use tidy::{Tidied, tidy};
pub use tune::{Tried, Tuned, USUAL_KS, tune};
