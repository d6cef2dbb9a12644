//! `outskirt sql`.

use std::path::{Path, PathBuf};

use super::console::Console;
use super::format::{Format, Rows};
use super::shell;
use super::statements::{self, Manner};
use crate::error::{Error, Result};
use crate::regular;
use crate::sql::session::Session;

/// Run SQL over images, banks, calibrations, and CSV, JSON or Parquet files named by path
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  outskirt sql                                     a shell: \\? lists its commands
  outskirt sql \"SELECT uri, knn_ood_score(my_net, 'shop') AS score FROM images ORDER BY score DESC LIMIT 20\"
  outskirt sql \"SELECT c.camera, avg(knn_ood_score(i.my_net, 'shop')) FROM images i
      JOIN 'cameras.csv' c ON i.uri = c.uri GROUP BY c.camera\" --format csv
  outskirt sql \"SET outskirt.search = 'hnsw'; SELECT count(*) FROM images WHERE is_ood(my_net, 'shop')\"
  outskirt sql -f questions.sql --format csv
  outskirt sql \"SELECT id, my_net FROM images\" --format parquet > embeddings.parquet
  generate_queries | outskirt sql --format json

Functions: knn_ood_score, knn_neighbors, knn_mean_distance, knn_density_ratio, knn_lid, is_ood,
knn_ood_threshold, knn_ood_pvalue, mahalanobis_score, rmds_score, nnguide_score, msp_score, energy_score,
max_logit_score, gen_score, embed, bh_reject,
auroc, auroc_interval, fpr_at_tpr, fpr_at_tpr_interval, aupr_in, aupr_out, detection_error,
ks_test, mmd_test, classifier_two_sample_auroc, and all of DataFusion's; \\df in the shell
describes them. Settings (SET name = 'value', SHOW name): outskirt.search, outskirt.memory_limit,
outskirt.device, outskirt.instructions, outskirt.stale_bank. All of it: sql/REFERENCE.md")]
pub struct Args {
    /// Statements, separated by semicolons; without them and --file a shell on a terminal, and standard input elsewhere
    #[arg(conflicts_with = "file")]
    query: Option<String>,
    /// Read the statements from a file, or '-' for standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How rows are printed; parquet and arrow are one result, to be redirected
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Rows of a table that are printed, or 'all'; 100 on a terminal and all elsewhere where it is left out
    #[arg(long, value_name = "N")]
    rows: Option<Rows>,
    /// Do not print how many rows INSERT, UPDATE, DELETE and COPY changed
    #[arg(short, long)]
    quiet: bool,
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    cluster: super::cluster::ClusterArgs,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let lines = console.take_lines();
    let manner = Manner { format: args.format, rows: args.rows, quiet: args.quiet };
    #[cfg(feature = "cluster")]
    let cluster = args.cluster;
    let open = async |console: &Console<'_>| Session::with_policy(&console.open(db).await?, &console.policy()?).await;
    let (text, name) = match (args.query, args.file) {
        (Some(query), _) => (Some(query), None),
        (None, Some(file)) if file.as_os_str() != "-" => {
            let text = regular::read_text(&file, statements::MAX_STATEMENTS_BYTES).map_err(Error::io("read", &file))?;
            (Some(text), Some(file.display().to_string()))
        }
        // a shell is for those who name no input
        (None, Some(_)) => (None, None),
        (None, None) => match lines {
            Some(mut lines) => {
                let session = open(console).await?;
                #[cfg(feature = "cluster")]
                let client = cluster.attach(&session, console).await?;
                let done = shell::run(session, db, manner, &mut *lines, console).await;
                #[cfg(feature = "cluster")]
                super::cluster::settle(client).await;
                return done;
            }
            None => (None, None),
        },
    };
    let session = open(console).await?;
    #[cfg(feature = "cluster")]
    let client = cluster.attach(&session, console).await?;
    let work = async {
        match text {
            Some(text) => statements::execute(&session, &text, name.as_deref(), manner, console).await,
            None => statements::execute_input(&session, manner, console).await,
        }
    };
    #[cfg(feature = "cluster")]
    let work = super::cluster::with(client, &session, work);
    work.await
}
