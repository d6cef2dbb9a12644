//! `outskirt score`.

use std::path::Path;

#[cfg(feature = "cluster")]
use futures::{StreamExt, TryStreamExt, stream};

use super::console::{Console, advance};
use super::follow::tidy;
use crate::bank::keep_scores;
#[cfg(feature = "cluster")]
use crate::bank::{Definition, Kept, keep_scores_of};
#[cfg(feature = "cluster")]
use crate::cluster::Client;
#[cfg(feature = "cluster")]
use crate::error::Error;
use crate::error::Result;
use crate::schema;
#[cfg(feature = "cluster")]
use crate::sql::session::Session;
#[cfg(feature = "cluster")]
use crate::store::Store;

/// Keep a bank's scores as a column of images; only rows that are new or stale are computed
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The column's scores are knn_ood_score(embedding, bank) at the bank's k. Beside it, COLUMN_version
holds the version of the bank that each score stands for; a score of another version is computed
again. An interrupted run goes on where it was.

Examples:
  outskirt score cifar10
  outskirt score cifar10 --where \"dataset = 'camera_7'\" --into camera_score
  outskirt sql \"SELECT dataset, avg(cifar10_score) FROM images GROUP BY dataset\"")]
pub struct Args {
    /// The bank
    bank: String,
    /// SQL over images: which rows; all with an embedding where it is left out
    #[arg(long = "where", value_name = "SQL", allow_hyphen_values = true)]
    predicate: Option<String>,
    /// The column; BANK_score where it is left out
    #[arg(long, value_name = "COLUMN")]
    into: Option<String>,
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    cluster: super::cluster::ClusterArgs,
}

pub(super) async fn run(args: Args, db: &Path, console: &mut Console<'_>) -> Result<()> {
    let store = console.open(db).await?;
    let before = store.version(schema::IMAGES).await?;
    let bar = console.progress("scoring", 1);
    let tell = |done, all| advance(&bar, done, all);
    #[cfg(not(feature = "cluster"))]
    let kept = keep_scores(&store, &args.bank, args.predicate.as_deref(), args.into.as_deref(), tell).await;
    #[cfg(feature = "cluster")]
    let kept = match args.cluster.connect(console).await? {
        None => keep_scores(&store, &args.bank, args.predicate.as_deref(), args.into.as_deref(), tell).await,
        Some(client) => super::cluster::unless_stopped(&client, on_cluster(&store, &args, &client, tell)).await,
    };
    bar.finish_and_clear();
    let kept = kept?;
    console.line(format!(
        "bank {}: {} scores written to images.{} (k = {}, version {}), {} were up to date",
        kept.bank.name, kept.computed, kept.column, kept.bank.k, kept.bank.table_version, kept.fresh
    ))?;
    tidy(&store, before, console).await
}

/// Have a cluster compute the scores that are kept.
#[cfg(feature = "cluster")]
async fn on_cluster(store: &Store, args: &Args, client: &Client, tell: impl Fn(usize, usize)) -> Result<Kept> {
    let ask = |bank: &Definition, condition: String| {
        let text = format!(
            "SELECT {}, knn_ood_score({}, '{}') FROM {} WHERE {condition}",
            schema::ID,
            bank.backbone,
            bank.name,
            schema::IMAGES
        );
        let rows = async move {
            // of the table as it is now
            let session = Session::open(store).await?;
            args.cluster.attach_to(client, &session);
            let rows = session.execute(&text).await?;
            Ok::<_, Error>(rows.map_err(Error::from).inspect_ok(move |_| {
                let _open = &session;
            }))
        };
        stream::once(rows).try_flatten().boxed()
    };
    let (bank, predicate, column) = (&args.bank, args.predicate.as_deref(), args.into.as_deref());
    keep_scores_of(store, bank, predicate, column, Some(&ask), tell).await
}
