//! The integration tests, one binary.

mod commands;
mod fixture;
#[cfg(feature = "torch")]
mod ingest;
mod memory;
mod planner;
#[cfg(feature = "torch")]
mod reference;
mod refusals;
mod slt;
