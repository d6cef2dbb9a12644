//! # Outskirt: out-of-distribution detection in SQL
//!
//! Image embeddings live in Lance tables; the score of an image is the distance to its k-th nearest
//! in-distribution (ID) embedding (Sun, Ming, Zhu, Li: *Out-of-distribution Detection with Deep Nearest
//! Neighbors*, ICML 2022); and that score is a DataFusion function, so it joins, filters, groups and sorts with
//! any metadata.
//!
//! ## The flow
//!
//! Data goes one way. No stage calls a later one; [`cli`] connects them.
//!
//! ```text
//! files → image (find, decode, preprocess) → backbone (libtorch) → embed (batches) → ingest → store (Lance)
//! store → bank (definition, version) → index (exact, device, hnsw) → functions (SQL) → planner → session → evaluate
//! ```
//!
//! | room | what it does | the crate it hides |
//! | --- | --- | --- |
//! | [`image`] | finds, decodes, resizes and normalises pictures, here and at addresses | `image`, `mozjpeg`, `tar`, `zip`; `object_store` and `lance` for reading |
//! | [`backbone`] | manifests, weights files, networks | `tch` (feature `torch`) |
//! | `embed`, `ingest`, `fill` | pictures to embeddings on all cores, committed to `images`; another column of its rows | |
//! | [`registry`], [`networks`] | the table `backbones`; the networks of a session, loaded when a query needs them | |
//! | [`store`] | the database: tables, versions, migrations, locks | `lancedb`, `lance`, `object_store` |
//! | [`vectors`] | views of embeddings, the one place where they are normalised | |
//! | [`outskirt_exact`] | exact search on the processor: a package of its own | `rayon` |
//! | [`index`] | k-th nearest neighbour: exact, on a GPU, or by a graph | `usearch` |
//! | [`bank`] | ID embeddings of one table version, calibrations | |
//! | [`memory`] | how much there is | |
//! | [`score`], [`metrics`] | thresholds, AUROC, FPR: plain functions on slices | |
//! | [`functions`] | the SQL functions, one file each | |
//! | [`planner`] | what DataFusion's planner knows about scores | |
//! | [`session`], [`mod@evaluate`] | DataFusion over a database; the reference's table | `datafusion` |
//! | [`sanity`], [`benchmark`] | what makes a table wrong; the data sets of the reference's experiments | |
//! | [`mod@verify`] | a whole database checked | |
//! | [`queries`] | named queries with typed parameters | |
//! | [`demo`] | draws pictures and trains the small network that the demo uses | |
//! | [`cli`] | one subcommand per file | `clap`, `indicatif` |
//!
//! ## A whole example
//!
//! ```no_run
//! # async fn example() -> outskirt::Result<()> {
//! use outskirt::bank::{self, BankSpec};
//! use outskirt::index::IndexKind;
//! use outskirt::{session::Session, store::Store};
//!
//! let store = Store::open("cats.db".as_ref()).await?; // made by `outskirt ingest`
//! let spec = BankSpec {
//!     name: "cats".into(),
//!     backbone: "resnet20_cifar10".into(),
//!     predicate: "split = 'train'".into(),
//!     k: 50,
//!     alpha: 1.0,
//!     seed: 0,
//!     index: IndexKind::Exact,
//! };
//! bank::create(&store, &spec).await?;
//! bank::calibrate(&store, "cats", "split = 'val'", None).await?;
//!
//! let session = Session::open(&store).await?;
//! let query = "SELECT uri, knn_ood_score(resnet20_cifar10, 'cats') AS score FROM images ORDER BY score DESC LIMIT 5";
//! session.sql(query).await?.show().await?;
//! # Ok(())
//! # }
//! ```
//!
//! ## What to know
//!
//! - Scores lie in [0, 2], and larger means more OOD. The paper's score is −r_k and its code prints −r_k²: the
//!   ranking, AUROC and FPR are the same, thresholds are not.
//! - Embeddings are stored as the network gives them and normalised when they are compared.
//! - A bank stands for one version of the table, until [`bank::refresh`] moves it to the latest: `outskirt ingest` does.
//! - Exact search is the default. A graph (`SET outskirt.search = 'hnsw'`) gets the k-th neighbour wrong first.
//! - The library never prints or exits, and reads the environment for `s3://` addresses only (`AWS_*`).

pub mod backbone;
pub mod bank;
pub mod cli;
pub mod demo;
pub mod error;
pub mod evaluate;
mod formats;
pub mod image;
pub mod index;
#[cfg(feature = "torch")]
pub mod ingest;
pub mod schema;
pub mod sql;
pub mod statistics;
pub mod store;
pub mod verify;

pub use error::{Error, Result};
