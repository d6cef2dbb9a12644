//! The integration tests, one binary.
#![recursion_limit = "256"] // futures of whole commands, one inside the other

mod addresses;
mod archives;
mod benchmark;
#[cfg(target_os = "linux")]
mod bounded;
mod bucket_databases;
mod bucket_faults;
mod bucket_machine;
mod bucket_server;
mod buckets;
mod changes;
#[cfg(feature = "cluster")]
mod clusters;
mod columns;
mod commands;
mod confined;
#[cfg(unix)]
mod copy;
mod curate;
mod embed;
#[cfg(unix)]
mod explain;
#[cfg(unix)]
mod export;
mod faults;
mod files;
#[cfg(feature = "torch")]
mod fill;
mod fixture;
mod follow;
mod fuzz;
mod guards;
mod guided;
mod hints;
mod history;
#[cfg(unix)]
mod identity;
mod ingest;
mod large;
mod library;
mod memory;
mod methods;
mod migrations;
mod networks;
mod own;
#[cfg(feature = "torch")]
mod pixels;
mod planner;
mod plots;
mod queries;
#[cfg(unix)]
mod readers;
mod reference;
mod refresh;
mod refusals;
mod report;
mod sample;
mod sanity;
mod scale;
mod scores;
mod server;
mod shards;
mod shell;
mod sklearn;
mod slt;
mod sqlfuzz;
mod stored;
mod tune;
mod upkeep;
mod views;
#[cfg(unix)]
mod watch;
