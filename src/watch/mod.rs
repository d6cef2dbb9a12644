//! A folder that is watched: pictures that come into it are ingested, scored against a bank, and told.
//!
//! [`watch`] looks through the folder again and again, and asks the system for no events: a network file system has none, their
//! queues overflow and their number is limited, so that whoever relies on them has to look as well, at the start and now and then.
//! Whether a file is whole is only seen by looking twice. What looking costs is bounded: it takes a tenth of the time at most.
//!
//! - A picture is taken once its file has not changed for a while ([`WatchOptions::settle`]). One that is refused then is a row of
//!   `rejects`, and is tried again when it changes.
//! - What is taken goes through [`ingest`](crate::ingest::ingest()) in batches; the writer's lock is held for one batch at a time.
//! - Every image is told at least once, whenever the process is killed: a small file beside the tables (`state.rs`) says what was
//!   told, and is written after it was. What was told but not noted is told again.
//!
//! Not for: archives, tables and the files of data sets, which `ingest` reads; addresses.

mod decide;
mod folder;
mod options;
mod run;
mod state;
mod stop;

pub use decide::{Decided, Near};
pub use options::{Limit, WatchOptions, state_file};
pub use run::{Told, Watched, precision_of, watch};
pub use stop::Stop;
