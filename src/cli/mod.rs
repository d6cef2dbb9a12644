//! The command line: one subcommand per file, each an `Args` and a `run(args, database, console)`.
//!
//! A command reads its arguments, calls the library, and prints what it gives: results to one stream of the [`Console`],
//! everything else (progress, notices) to the other. This room alone prints, and names `clap`, `indicatif` and `rustyline`.
//! `bank`, `backbone` and `curate` are folders of subcommands. What several commands need lies beside them: `network` (arguments of
//! those that embed), `summary` (an ingest), `follow` (banks after a change), `evaluation` (the reference's table), `stages`
//! (times), `statements` (SQL), `output` (a writer per format) and `table`; `typed` reads what is typed into the `shell`.
//! Not for anything that another program would want as well: that belongs into the library.

mod backbone;
mod bank;
mod benchmark;
#[cfg(feature = "cluster")]
mod cluster;
mod completions;
mod console;
mod copy;
mod counts;
mod curate;
mod delete;
mod demo;
mod embed;
mod evaluate;
mod evaluation;
mod explain;
mod export;
mod follow;
mod format;
mod history;
mod ingest;
mod migrate;
mod network;
mod optimize;
mod output;
mod own;
mod picture;
mod plot;
mod query;
mod report;
mod restore;
mod score;
mod shell;
mod sql;
mod stages;
mod statements;
mod summary;
mod table;
mod typed;
mod undo;
mod verify;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use futures::future::{FutureExt, LocalBoxFuture};

pub use console::Console;
pub use format::Format;
pub use shell::Terminal;
pub use typed::{Line, Lines, Names};

use crate::error::Result;

/// Where a database is that no option names.
const DATABASE: &str = "outskirt.db";

/// Out-of-distribution detection in SQL: which of these images lie outside what my model was trained on?
#[derive(Debug, Parser)]
#[command(name = "outskirt", version, max_term_width = 100, arg_required_else_help = true, after_help = EXAMPLES)]
pub struct Cli {
    /// The database: a folder, or s3://BUCKET/PATH
    #[arg(long, global = true, env = "OUTSKIRT_DB", default_value = DATABASE, value_name = "PLACE")]
    pub db: PathBuf,
    /// Wait so long for another program that writes to the database
    #[arg(long, global = true, env = "OUTSKIRT_WAIT", default_value_t = 10, value_name = "SECONDS")]
    pub wait: u64,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

const EXAMPLES: &str = "\
Examples:
  outskirt demo                                  the whole road on pictures it draws itself
  outskirt ingest photos/train --dataset shop --split train --backbone my.toml
  outskirt bank create shop --backbone my_net --where \"dataset = 'shop' AND split = 'train'\" --k 50
  outskirt bank calibrate shop --where \"dataset = 'shop' AND split = 'val'\"
  outskirt sql                                   a shell, with completion and history
  outskirt sql \"SELECT uri, knn_ood_score(my_net, 'shop') AS score FROM images ORDER BY score DESC LIMIT 20\"";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Embed image files and add them to the database
    Ingest(Box<ingest::Args>),
    /// Embed the images of the database with another backbone
    Embed(embed::Args),
    /// Create, calibrate, refresh, verify, list and drop banks: the in-distribution embeddings to score against
    #[command(subcommand)]
    Bank(bank::Command),
    /// Run SQL over images, banks and files
    Sql(sql::Args),
    /// Run a named query: top outliers, the reference's table, a histogram, …
    Query(query::Args),
    /// Ingest and score the pictures that come into a folder, and print those outside a bank
    Watch(Box<watch::Args>),
    /// Keep a bank's scores as a column of images
    Score(score::Args),
    /// Print FPR95, AUROC, AUIN and AUOUT of a bank for OOD sets
    Evaluate(evaluate::Args),
    /// Write a page of what lies outside a bank: how much, how sure that is, and the pictures
    Report(report::Args),
    /// Explain one image: its score, what that means, and the images of the bank that are nearest to it
    Explain(explain::Args),
    /// Write images, pictures and scores for other programs: datasets, pycocotools, Label Studio, FiftyOne, torchvision, CSV
    Export(Box<export::Args>),
    /// Choose images to look at or to label, find copies, tag, keep and delete
    #[command(subcommand)]
    Curate(curate::Command),
    /// Run the reference's experiment on CIFAR-10 or ImageNet, from files to its table
    Benchmark(benchmark::Args),
    /// Delete images; banks follow
    Delete(delete::Args),
    /// Show what changed the images, and when
    History(history::Args),
    /// Take the latest change of the images back
    Undo(undo::Args),
    /// Make the images what they were at an earlier version
    Restore(restore::Args),
    /// Merge small files, and give back the space of what was deleted and of old versions
    Optimize(optimize::Args),
    /// Check tables, banks, graphs and calibrations against each other, and exact search against comparing every row
    Verify(verify::Args),
    /// Copy a database to another folder or bucket
    Copy(copy::Args),
    /// Bring a database that an older outskirt made up to date
    Migrate(migrate::Args),
    /// Run a scheduler or an executor of a cluster, for queries on several machines
    #[cfg(feature = "cluster")]
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Add, list, show and check the networks that turn images into embeddings
    #[command(subcommand)]
    Backbone(backbone::Command),
    /// Print a script that makes a shell complete commands and options
    Completions(completions::Args),
    /// Draw pictures, embed them, and find the ones that do not belong
    Demo(demo::Args),
}

/// Run a command line.
///
/// It is boxed, so that all commands are compiled here: a future that a program merely awaits is compiled in that program, again.
pub fn run<'a>(cli: Cli, console: &'a mut Console<'_>) -> LocalBoxFuture<'a, Result<()>> {
    command(cli, console).boxed_local()
}

async fn command(mut cli: Cli, console: &mut Console<'_>) -> Result<()> {
    console.waits(Duration::from_secs(cli.wait));
    let is_named = cli.db.as_os_str() != DATABASE;
    if let Some(folder) = cli.db.to_str() {
        cli.db = crate::image::here(folder)?.into();
    }
    match cli.command {
        Command::Ingest(args) => ingest::run(*args, &cli.db, console).await,
        Command::Embed(args) => embed::run(args, &cli.db, console).await,
        Command::Bank(command) => bank::run(command, &cli.db, console).await,
        Command::Sql(args) => sql::run(args, &cli.db, console).await,
        Command::Query(args) => query::run(args, &cli.db, console).await,
        Command::Watch(args) => watch::run(*args, &cli.db, console).await,
        Command::Score(args) => score::run(args, &cli.db, console).await,
        Command::Evaluate(args) => evaluate::run(args, &cli.db, console).await,
        Command::Report(args) => report::run(args, &cli.db, console).await,
        Command::Explain(args) => explain::run(args, &cli.db, console).await,
        Command::Export(args) => export::run(*args, &cli.db, console).await,
        Command::Curate(command) => curate::run(command, &cli.db, console).await,
        Command::Benchmark(args) => benchmark::run(args, &cli.db, console).await,
        Command::Delete(args) => delete::run(args, &cli.db, console).await,
        Command::History(args) => history::run(args, &cli.db, console).await,
        Command::Undo(args) => undo::run(args, &cli.db, console).await,
        Command::Restore(args) => restore::run(args, &cli.db, console).await,
        Command::Optimize(args) => optimize::run(args, &cli.db, console).await,
        Command::Verify(args) => verify::run(args, &cli.db, console).await,
        Command::Copy(args) => copy::run(args, console).await,
        Command::Migrate(args) => migrate::run(args, &cli.db, console).await,
        #[cfg(feature = "cluster")]
        Command::Cluster(command) => cluster::run(command, console).await,
        Command::Completions(args) => completions::run(&args, Cli::command(), console),
        Command::Backbone(command) => backbone::run(command, &cli.db, console).await,
        Command::Demo(args) => demo::run(args, is_named, console).await,
    }
}
