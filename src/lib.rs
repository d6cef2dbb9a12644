//! # Outskirt: out-of-distribution detection in SQL
//!
//! Image embeddings live in Lance tables; the score of an image is the distance to its k-th nearest
//! in-distribution (ID) embedding (Sun, Ming, Zhu, Li: *Out-of-distribution Detection with Deep Nearest
//! Neighbors*, ICML 2022); and that score is a DataFusion function, so it joins, filters, groups and sorts with
//! any metadata.
//!
//! ## The flow
//!
//! Data goes one way, and no room uses one above it (`make rooms` shows who uses whom); [`cli`] connects them.
//!
//! ```text
//! files → image (find, decode, preprocess) → backbone (embed) → ingest (batches, commits) → store (Lance)
//! store → bank (definition, version) → index (exact, device, hnsw) → sql (functions, planner, session) → evaluate → report, export
//! ```
//!
//! | room | what it does | the crate it hides |
//! | --- | --- | --- |
//! | [`error`], `foreign`, `caught`, [`schema`], `regular` | every way of saying no, and what other crates say in plain words; names of tables and columns; files that end | |
//! | `cloud` | hosts and buckets, as the environment describes them | `object_store` |
//! | [`image`] | finds, decodes, resizes and normalises pictures, here and at addresses | `image`, `mozjpeg`, `gif`, `image-webp`, `tiff`, `tar`, `zip`; `object_store` and `lance` for reading |
//! | `formats` | reads files of arrays (pickles, NumPy's, safetensors) without executing anything | `safetensors` |
//! | [`backbone`] | manifests, weights files, networks, the table `backbones` | `tch` (feature `torch`), in its `libtorch` |
//! | [`store`] | the database: tables, versions, migrations, locks, how much memory there is | `lancedb`, `lance`, `object_store` |
//! | [`identity`] | which images there are, by dataset and uri, in a derived file | `redb` |
//! | [`index`] | k-th nearest neighbour: exact, on a GPU, or by a graph; embeddings as vectors, normalised in one place | `usearch` |
//! | [`outskirt_exact`], [`outskirt_kernels`], `outskirt_libtorch` | packages of their own: exact search on the processor; convolutions and resampling; libtorch, opened when it is needed | `rayon`, `torch-sys` |
//! | [`statistics`] | thresholds, p-values, AUROC, FPR, sampling, deviation: plain functions on slices | |
//! | [`bank`] | ID embeddings of one table version, their indexes, calibrations, kept scores | |
//! | [`mod@ingest`] | pictures to embeddings on all cores, committed to `images`; another column of its rows; embeddings that another program made | |
//! | [`sql`] | [`sql::functions`], one file each; [`sql::planner`], what DataFusion's planner knows about scores; [`sql::session`], tables, views, settings and changes; [`sql::queries`], named queries; [`sql::networks`], the networks that `embed` names | `datafusion` |
//! | `cluster` (feature `cluster`) | queries of a session on several machines | `ballista`, `tonic` |
//! | [`mod@watch`] | a folder whose pictures are ingested, scored and told as they come | |
//! | [`curate`] | which images to look at; what changed them, and the way back | |
//! | [`mod@evaluate`] | the reference's table, its data sets, and what would make it wrong | |
//! | [`report`] | a page of what lies outside a bank, with charts and pictures | `kuva`, `maud` |
//! | [`mod@export`] | images, pictures and scores as files that other programs read | |
//! | [`mod@verify`] | a whole database checked | |
//! | [`demo`] | draws pictures and trains the small network that the demo uses | |
//! | [`cli`] | one subcommand per file | `clap`, `indicatif`, `rustyline` |
//!
//! ## A whole example
//!
//! ```no_run
//! # async fn example() -> outskirt::Result<()> {
//! use outskirt::bank::{self, BankSpec};
//! use outskirt::sql::session::Session;
//! use outskirt::store::Store;
//!
//! let store = Store::open("cats.db".as_ref()).await?; // made by `outskirt ingest`
//! let spec = BankSpec {
//!     name: "cats".into(),
//!     backbone: "resnet20_cifar10".into(),
//!     predicate: "split = 'train'".into(),
//!     ..BankSpec::default()
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
//! `examples/` has programs of thirty lines: embeddings of one's own to scores, Outskirt's functions in one's own DataFusion
//! session, and the engine alone on arrays.
//!
//! ## What to know
//!
//! - Scores lie in [0, 2], and larger means more OOD. The paper's score is −r_k and its code prints −r_k²: the
//!   ranking, AUROC and FPR are the same, thresholds are not.
//! - Embeddings are stored as the network gives them and normalised when they are compared. One that is all zero or
//!   not finite is an error that names the row, not a score.
//! - Exact search is the default, and its scores are those of an f64 brute force, bit for bit, whatever threads,
//!   batches, memory limit or instructions. A graph (`SET outskirt.search = 'hnsw'`) gets the k-th neighbour wrong first.
//! - A bank stands for one version of the table, until [`bank::refresh`] moves it to the latest: `outskirt ingest` does.
//! - One writer at a time: what writes takes a [`store::WriteLock`]. A second one waits where its [`store::Store`] was made
//!   patient, as commands do for some seconds, and is told so at once otherwise. A [`sql::session::Session`] reads each table
//!   at the version with which it began.
//! - Most functions that read or write tables are async and want a tokio runtime; searching, statistics and pictures are
//!   plain functions.
//! - The library never prints or exits, and reads the environment for addresses only (`AWS_*`, proxies, `SSL_CERT_FILE`);
//!   [`cli`] also reads `OUTSKIRT_DB` and `OUTSKIRT_WAIT`.

pub mod backbone;
pub mod bank;
mod caught;
pub mod cli;
mod cloud;
#[cfg(feature = "cluster")]
pub mod cluster;
pub mod curate;
pub mod demo;
pub mod error;
pub mod evaluate;
pub mod export;
mod foreign;
mod formats;
pub mod identity;
pub mod image;
pub mod index;
pub mod ingest;
mod regular;
pub mod report;
pub mod schema;
pub mod sql;
pub mod statistics;
pub mod store;
pub mod verify;
pub mod watch;

pub use error::{Error, Result};
