//! The integration tests, one binary.

mod changes;
mod commands;
mod fixture;
#[cfg(feature = "torch")]
mod ingest;
mod memory;
mod migrations;
#[cfg(feature = "torch")]
mod reference;
mod refusals;
mod slt;
mod views;
