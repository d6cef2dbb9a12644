//! The integration tests, one binary.

mod commands;
mod fixture;
#[cfg(feature = "torch")]
mod ingest;
#[cfg(feature = "torch")]
mod reference;
mod refusals;
mod slt;
