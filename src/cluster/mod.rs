//! Queries on several machines: the plan is made here, Apache DataFusion Ballista divides it into stages and hands their tasks to
//! executors, and what they give comes back.
//!
//! Plans travel by value: scans as recipes, banks by name and version (`codec`); each process opens a database and a bank once
//! (`here`). Nothing but a plan leaves the session: thresholds and bounds are numbers by then, and versions of tables are pinned by
//! whoever asks, for as long as he reads. `plan` says what a cluster cannot do, and `telling` what went wrong there. Servers and connections are put together here
//! (`scheduler`, `executor`, `client`) rather than by Ballista, for the sake of `security` and of what happens when somebody goes away.

mod client;
mod codec;
mod configuration;
mod executor;
mod here;
mod pages;
mod plan;
mod progress;
mod scheduler;
mod security;
mod shards;
mod telling;

pub use client::Client;
pub use executor::{Executor, ExecutorOptions};
pub use progress::{Progress, Stage};
pub use scheduler::Scheduler;
pub use security::{Security, SecurityFiles};
