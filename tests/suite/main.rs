//! The integration tests, one binary.
#![recursion_limit = "256"] // futures of whole commands, one inside the other

mod addresses;
mod archives;
#[cfg(feature = "torch")]
mod benchmark;
#[cfg(all(target_os = "linux", feature = "torch"))]
mod bounded;
#[cfg(feature = "torch")]
mod buckets;
mod changes;
#[cfg(feature = "torch")]
mod columns;
mod commands;
mod confined;
#[cfg(unix)]
mod copy;
#[cfg(feature = "torch")]
mod embed;
#[cfg(unix)]
mod faults;
mod files;
#[cfg(feature = "torch")]
mod fill;
mod fixture;
mod follow;
#[cfg(feature = "torch")]
mod fuzz;
mod guards;
#[cfg(feature = "torch")]
mod guided;
mod hints;
mod history;
#[cfg(all(unix, feature = "torch"))]
mod identity;
#[cfg(feature = "torch")]
mod ingest;
mod large;
mod memory;
mod methods;
mod migrations;
#[cfg(feature = "torch")]
mod networks;
mod own;
#[cfg(feature = "torch")]
mod pixels;
mod planner;
mod queries;
#[cfg(unix)]
mod readers;
#[cfg(feature = "torch")]
mod reference;
mod refresh;
mod refusals;
mod sanity;
mod scale;
mod scores;
mod server;
mod shell;
mod sklearn;
mod slt;
mod sqlfuzz;
mod stored;
mod tune;
mod upkeep;
mod views;
