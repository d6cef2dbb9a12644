//! The integration tests, one binary.

mod commands;
mod fixture;
#[cfg(feature = "torch")]
mod ingest;
mod memory;
mod planner;
mod queries;
#[cfg(feature = "torch")]
mod reference;
mod refusals;
mod scores;
mod shell;
mod slt;
