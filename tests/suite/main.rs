//! The integration tests, one binary.

mod commands;
mod fixture;
#[cfg(feature = "torch")]
mod ingest;
mod memory;
#[cfg(feature = "torch")]
mod reference;
mod refusals;
mod shell;
mod slt;
