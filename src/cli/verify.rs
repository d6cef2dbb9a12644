//! `outskirt verify`.

use std::path::Path;

use super::console::Console;
use super::table;
use crate::error::Result;
use crate::verify::{State, refuse_problems, verify};

/// Check a database: every row, every bank against its table, graphs and scores against comparing every row
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Every table is read; ids, embeddings and stored pictures are checked; each bank is read from the
version that it stands for, and its distances from sampled images are compared with plain brute
force; index files are checked by checksum. A problem is an error: exit status 2.

Example:
  outskirt verify --repair")]
pub struct Args {
    /// Mend what is derived: index files that are missing or damaged are built anew, leftovers removed
    #[arg(long)]
    repair: bool,
    /// Images per bank whose distances are compared
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    sample: u32,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let (store, bar) = console.told(console.open(db).await?, "looking at the tables");
    let findings = verify(&store, args.sample as usize, args.repair).await;
    bar.finish_and_clear();
    let findings = findings?;
    let rows: Vec<Vec<String>> = findings
        .iter()
        .map(|finding| {
            let (state, facts) = match &finding.state {
                State::Well(facts) => ("ok", facts),
                State::Mended(facts) => ("mended", facts),
                State::Leftover(facts) => ("leftover", facts),
                State::Behind(facts) => ("behind", facts),
                State::Derived(facts) | State::Broken(facts) => ("BROKEN", facts),
            };
            vec![finding.subject.clone(), state.into(), facts.clone()]
        })
        .collect();
    console.line(table::render(&["what", "state", "facts"], &rows, &[]))?;
    refuse_problems(&store, &findings)
}
