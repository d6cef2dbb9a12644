//! Every way Outskirt says no: one line of what failed, the facts, and the next step.

use std::path::{Path, PathBuf};

use crate::cloud::{Failure, REFUSED};
use crate::foreign::plain;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure: what happened, the facts, the next step. The cause, where there is one, is in `source()`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the text of each variant says what it is, and names its fields")]
pub enum Error {
    // ---- files ----
    #[error("cannot {action} {}: {source}", path.display())]
    Io { action: &'static str, path: PathBuf, source: std::io::Error },
    #[error("no such file or folder: {}", path.display())]
    MissingPath { path: PathBuf },
    #[error("{} is no folder: give the one that images come into, or 'outskirt ingest' the file", path.display())]
    NotAFolder { path: PathBuf },
    #[error("another 'outskirt watch' tells these images already ({}): end it, or give this one a --state of its own", state.display())]
    WatchedAlready { state: PathBuf },
    #[error(
        "cannot use {}, which says up to which image was told: {reason}. Give another --state; or remove it, and images that came since and were not told are not told", path.display()
    )]
    WatchState { path: PathBuf, reason: String },
    #[error("bank '{bank}' is of backbone '{of_bank}', and '{given}' would embed the images: give the bank's")]
    WatchBackbone { bank: String, of_bank: String, given: String },
    #[error("--fdr {fdr} must lie between 0 and 1: the share of those told that may be told by chance, such as 0.05")]
    FdrOutOfRange { fdr: f64 },
    #[error(
        "no images found in {paths}{}: see docs/ingest.md for what is read, and give files, folders (any depth) or archives of it",
        beside.as_ref().map_or(String::new(), |beside| format!(", where there are {beside}"))
    )]
    NoImages { paths: String, beside: Option<String> },
    #[error("all {count} images were refused; the first: {first}")]
    AllImagesRefused { count: usize, first: String },
    #[error("no images match ({predicate}): check the predicate, or add images with 'outskirt ingest'")]
    NothingToEmbed { predicate: String },
    #[error("cannot embed {image}: {reason}; leave it out with WHERE, or put a whole picture there")]
    NotEmbedded { image: String, reason: String },
    #[error("cannot read image {uri}: {reason}")]
    BadImage { uri: String, reason: String },
    #[error("cannot read {}{}: {reason}", if is_archive(path) { "archive " } else { "" }, path.display())]
    BadArchive { path: PathBuf, reason: String },
    #[error(
        "cannot use {}: {reason}; it is derived from the table images, so remove it: the next ingest makes it anew", path.display()
    )]
    Lookup { path: PathBuf, reason: String },
    #[error(
        "--key {key}: images has no such column of texts or numbers; give one that it has, or leave --key out to match rows by uri"
    )]
    NoKey { key: String },
    #[error(
        "{uri} belongs to no row of images: none has '{value}' there; without --strict such rows are left out and counted"
    )]
    UnmatchedRow { uri: String, value: String },
    #[error("of which data set are these pictures? give --dataset NAME")]
    NoDataset,
    #[error("{option}: of embeddings alone; give --embedding-column COLUMN, where they are")]
    OnlyOfEmbeddings { option: &'static str },
    #[error(
        "--key adds no rows, so --split says nothing: leave it out (--dataset fills the rows of one dataset alone)"
    )]
    KeyAndSplit,
    #[error("cannot ingest {}: it takes {read}", path.display())]
    UnknownFile { path: PathBuf, read: &'static str },
    #[error("cannot read {address}: {reason}; what was read before it is kept, run this again to go on")]
    Unreachable { address: String, reason: String },
    #[error("cannot read {address}: {reason}")]
    UnknownAddress { address: String, reason: String },
    #[error(
        "cannot read {address}: it names a file of another machine, or none; of this one, write file:///folder/name"
    )]
    ForeignFile { address: String },
    #[error("no such file or folder: {}: did you mean {meant}?", path.display())]
    MisspelledPath { path: PathBuf, meant: String },
    #[error(
        "cannot tell from '{target}' what to write: end it in .csv, .tsv, .json, .jsonl, .parquet or .arrow, or add STORED AS \
         CSV, JSON, PARQUET or ARROW"
    )]
    UnknownCopyFormat { target: String },
    #[error("cannot read {} as a table: {reason}; SQL reads {read}", path.display())]
    UnknownTableFile { path: PathBuf, reason: String, read: &'static str },
    #[error(
        "two addresses differ only in what uri does not keep of a query{}, and would be one image: {uri}; name one of them, \
         or keep with --keep-query NAME the parameter that tells two images apart",
        if parameters.is_empty() { String::new() } else { format!(" ({})", parameters.join(", ")) }
    )]
    SameUri { uri: String, parameters: Vec<String> },
    #[error(
        "backbone '{backbone}' is a TorchScript module, which is code, and is not trusted on this machine: once you know where \
         it comes from, 'outskirt backbone trust {sha256}' lets it run"
    )]
    NotTrusted { backbone: String, sha256: String },
    #[error("there is no folder for what you trust: set HOME or XDG_CONFIG_HOME")]
    NoTrustedFile,
    #[error(
        "{path}: SQL finds backbones by name, and known are {}; 'outskirt embed --backbone {path}' makes it one of the \
         database's",
        list(known)
    )]
    BackboneByPath { path: String, known: Vec<String> },
    #[error("{what}: this session is confined, and {missing}")]
    Confined { what: String, missing: &'static str },
    #[error("{pattern}: {reason}")]
    BadPattern { pattern: String, reason: String },
    #[error(
        "{} holds {}: {}", path.display(), parts.join(", "),
        wanted.as_ref().map_or("say which with --part, or --part all".into(), |wanted| format!("there is no part '{wanted}', say which with --part, or --part all"))
    )]
    DatasetPart { path: PathBuf, wanted: Option<String>, parts: Vec<String> },
    #[error("{} lacks {what}", folder.display())]
    NoBenchmarkData { folder: PathBuf, what: String },
    #[error(
        "which network? No weights of one that comes with outskirt lie in {} or its folder checkpoints: give --backbone", folder.display()
    )]
    NoBackboneGiven { folder: PathBuf },
    #[error("--weights is of one backbone, and {} are given: put the files where their manifests say", backbones.len())]
    WeightsOfSeveral { backbones: Vec<String> },
    #[error("metadata {}: {reason}", path.display())]
    BadMetadata { path: PathBuf, reason: String },
    #[error("cannot preprocess a picture of {width} x {height} pixels: {reason}")]
    Preprocess { width: u32, height: u32, reason: String },

    // ---- backbones ----
    #[error("unknown backbone '{name}': known are {}; or give a manifest's path", list(known))]
    UnknownBackbone { name: String, known: Vec<String> },
    #[error("backbone manifest {}: {reason}", path.display())]
    BadManifest { path: PathBuf, reason: String },
    #[error("weights {} have sha256 {found}, manifest '{backbone}' names {expected}: put the right file there, or write a manifest of another name for this one", path.display())]
    WeightsHash { backbone: String, path: PathBuf, expected: String, found: String },
    #[error("backbone '{backbone}' has no weights at {}: put the file there, or name it with --weights", path.display())]
    NoWeights { backbone: String, path: PathBuf },
    #[error(
        "backbone '{backbone}' has no weights at {}, where its manifest says: put the file there and run 'outskirt backbone check {backbone}', or name a manifest that lies beside its weights", path.display()
    )]
    NoWeightsForSql { backbone: String, path: PathBuf },
    #[error("cannot read weights {}: {reason}", path.display())]
    BadWeights { path: PathBuf, reason: String },
    #[error("weights {} do not fit architecture {architecture}: {problems}", path.display())]
    WeightsMismatch { path: PathBuf, architecture: String, problems: String },
    #[error("{} is there already: give another --name or --out, or delete it first", path.display())]
    ManifestExists { path: PathBuf },
    #[error(
        "backbone '{backbone}' gave a test picture no usable numbers: {problem}; its weights may be damaged, or of another network"
    )]
    UnusableNetwork { backbone: String, problem: String },
    #[error("architecture '{name}' cannot be trained here: the demo's network is a ResNet, such as resnet8-cifar")]
    UnknownArchitecture { name: String },
    #[error(
        "module '{backbone}' gave {found}; its manifest says output = \"{output}\", which is {expected}: put there what it gives, \"embedding\", \"logits, embedding\", \"embedding, logits\" or \"feature map\""
    )]
    ModuleOutput { backbone: String, output: String, expected: String, found: String },
    #[error(
        "backbone '{backbone}' has no classifier: its weights hold no fc, linear, classifier or head that takes the embedding, and of a TorchScript module the manifest must say output = \"logits, embedding\"; ingest without --with-logits"
    )]
    NoLogits { backbone: String },
    #[error(
        "backbone '{backbone}' gave {found} logits per image, and {expected} before: a column holds as many in every row, ingest without logits"
    )]
    LogitsChanged { backbone: String, expected: usize, found: usize },
    #[error(
        "external backbone {name}: its embeddings have {stored} numbers, and these {given}: give another --backbone name, or free this one with \
         ALTER TABLE images DROP COLUMN {name}"
    )]
    ExternalDimension { name: String, stored: usize, given: usize },
    #[error("backbone '{backbone}' gave {found} numbers per image, its manifest says dimension = {expected}")]
    EmbeddingDimension { backbone: String, expected: usize, found: usize },
    #[error(
        "backbone '{name}' is in this database with another architecture or input than this manifest's: embeddings of both would mix, give the changed network another name"
    )]
    OtherManifest { name: String },
    #[error(
        "'{what}' needs libtorch, and this outskirt was built without it: build with the feature 'torch' (cargo's default)"
    )]
    NoTorch { what: String },
    #[cfg(feature = "torch")]
    #[error(transparent)]
    Libtorch {
        #[from]
        source: outskirt_libtorch::Missing,
    },
    #[cfg(feature = "torch")]
    #[error("libtorch: {}", first_line(source))]
    Torch {
        #[from]
        source: tch::TchError,
    },

    #[error("a worker that embeds images died: its message is above; what was committed is kept, run the ingest again")]
    WorkerDied,

    // ---- vectors and search ----
    #[error("row {row} of {what} is {problem}: an embedding must be finite and not all zero")]
    BadVector { what: String, row: usize, problem: &'static str },
    #[error("{what} has dimension {found}, bank '{bank}' has {expected}")]
    WrongDimension { what: String, bank: String, expected: usize, found: usize },
    #[error("a row has {found} logits, the images of bank '{bank}' have {expected}: take those of the bank's backbone")]
    WrongClasses { found: usize, bank: String, expected: usize },
    #[error(
        "k = {k} is out of range for bank '{bank}': it holds {rows} embeddings{}, so k must be 1 to {most}",
        if most < rows { " and each row's own is left out" } else { "" }
    )]
    KOutOfRange { bank: String, k: i128, rows: usize, most: usize },
    #[error(
        "{what} needs the bank's vectors in memory: SET outskirt.search = 'exact' and outskirt.memory_limit = 'unlimited'"
    )]
    NeedsMemory { what: &'static str },
    #[error("bank '{bank}' lies in shards, which {what} does not take: create one with --index exact")]
    NotInShards { bank: String, what: &'static str },
    #[error(
        "bank '{bank}' has {rows} rows, which are too few for {shards} shards: --index exact, or sharded-N with fewer"
    )]
    TooManyShards { bank: String, rows: usize, shards: u32 },
    #[error("{what} is not done on a GPU: SET outskirt.device = 'cpu'")]
    OnlyOnProcessor { what: &'static str },
    #[error("{what} cannot be '{name}': it is one of {}", list(known))]
    UnknownSetting { what: &'static str, name: String, known: Vec<String> },
    #[error(
        "a memory limit cannot be '{text}': write a number and B, KB, MB, GB, KiB, MiB or GiB, such as '2GB', or 'unlimited'"
    )]
    BadMemoryLimit { text: String },
    #[error("outskirt.instructions cannot be '{name}': this processor has {}", list(known))]
    UnknownInstructions { name: String, known: Vec<String> },
    #[error(
        "memory limit of {limit} bytes is too small for bank '{bank}': reading {dimension} numbers a row by blocks takes {least}, SET outskirt.memory_limit higher"
    )]
    MemoryLimitTooSmall { bank: String, limit: u64, dimension: usize, least: u64 },
    #[error("{what} needs {} of memory, and {} are free: {instead}", gib(*needed), gib(*available))]
    NotEnoughMemory { what: String, needed: u64, available: u64, instead: &'static str },
    #[error("no CUDA: {reason}")]
    CudaMissing { reason: String },
    #[error("device search: {reason}")]
    DeviceSearch { reason: String },
    #[error(
        "bank '{bank}': a search found fewer than k = {k} neighbours, which its rows rule out: run 'outskirt verify'"
    )]
    TooFewFound { bank: String, k: usize },
    #[error(
        "bank '{bank}' would hold embeddings of {dimension} numbers, and exact search takes up to {most}: reduce them first"
    )]
    TooManyNumbers { bank: String, dimension: usize, most: usize },
    #[error("bank '{bank}' has no HNSW index: create the bank with --index hnsw, or SET outskirt.search = 'exact'")]
    NoHnsw { bank: String },
    #[error("index file {}: {reason}", path.display())]
    BadIndexFile { path: PathBuf, reason: String },
    #[error(
        "the bank's vectors could not be read from its file in indexes/ ({reason}): 'outskirt verify --repair' makes it anew"
    )]
    VectorsUnreadable { reason: String },
    #[error("HNSW index: {reason}")]
    Hnsw { reason: String },

    // ---- database ----
    #[error("no database at {uri}: 'outskirt ingest' creates one, --db or OUTSKIRT_DB names another")]
    NoDatabase { uri: String },
    #[error(
        "{} is not a table of outskirt's, and stays as it is: {found}; give another folder with --db, or move it away", path.display()
    )]
    ForeignTable { path: PathBuf, found: String },
    #[error("the database at {uri} has schema {found}, this outskirt knows up to {known}: use a newer outskirt")]
    NewerSchema { uri: String, found: u32, known: u32 },
    #[error(
        "the database at {uri} has schema {found}, this outskirt needs {known}: run 'outskirt --db {uri} migrate' (it takes a moment and keeps all data)"
    )]
    OlderSchema { uri: String, found: u32, known: u32 },
    #[error(
        "the database at {uri} was not made by the migrations of this outskirt: {reason}; use the outskirt that made it"
    )]
    OtherMigrations { uri: String, reason: String },
    #[error("{} cannot hold a database: its path must be UTF-8", path.display())]
    NotUtf8 { path: PathBuf },
    #[error(
        "another program is writing to {uri} ({}lock {}){}: wait for it to end, then run this again; --wait SECONDS waits longer",
        holder.as_ref().map_or(String::new(), |holder| format!("{holder}, ")), lock.display(),
        if waited.as_secs() == 0 { String::new() } else { format!(", waited {} s", waited.as_secs()) }
    )]
    Locked { uri: String, lock: PathBuf, holder: Option<String>, waited: std::time::Duration },
    #[error("a database on '{scheme}://' is not supported: give a folder, or s3://BUCKET/PATH")]
    RemoteDatabase { scheme: String },
    #[error(
        "table {table} is damaged: its latest manifest {} cannot be read: {reason}. Restore it from a backup; or move that file away, and the table is as before its last change", path.display()
    )]
    DamagedTable { table: String, path: PathBuf, reason: String },
    #[error(
        "reading a table ended in a panic, whose message is above: a file of the database may be damaged, 'outskirt verify' says which \
         table's, and a backup has it whole"
    )]
    ReadPanicked,
    #[error("table {table} is missing: there is no folder {}; put it back from a backup of the database", path.display())]
    MissingTable { table: String, path: PathBuf },
    #[error("table {table}: {reason}")]
    BadRow { table: String, reason: String },
    #[error(
        "{problems} {} in the database at {uri}{}",
        if *problems == 1 { "problem" } else { "problems" },
        match derived {
            0 => "".into(),
            derived if derived == problems => ": 'outskirt verify --repair' mends what is derived".to_string(),
            derived => format!(": 'outskirt verify --repair' mends {derived} of them"),
        }
    )]
    NotWell { uri: String, problems: usize, derived: usize },
    #[error("migration {file}: {reason}")]
    BadMigration { file: String, reason: String },
    #[error(
        "column '{column}' holds embeddings of weights {stored}, backbone '{column}' now has {given}: give the changed network another name"
    )]
    OtherCheckpoint { column: String, stored: String, given: String },
    #[error(
        "column '{column}' holds embeddings computed in {stored}, and this run would add some in {given}: run it with --precision {stored}, or add the backbone under another name ('outskirt backbone add --name')"
    )]
    OtherPrecision { column: String, stored: String, given: String },
    #[error(
        "backbone '{backbone}' is a TorchScript module, which says itself what it computes in: leave --precision out, or save the module in bfloat16"
    )]
    ScriptPrecision { backbone: String },
    #[error(
        "'{name}' cannot name a {what}: use lower-case letters, digits and '_', beginning with a letter, at most 63"
    )]
    BadName { what: &'static str, name: String },
    #[error(
        "'{name}' is an external backbone: another program makes its embeddings, and they come in by 'outskirt ingest FILE --embedding-column COLUMN --backbone {name}'"
    )]
    ExternalBackbone { name: String },
    #[error(
        "what version of the model {name} made these embeddings? Say it once: --model-version 'ViT-B-32/openai', or a commit, so that those of another version are told apart"
    )]
    NoModelVersion { name: String },
    #[error("a value for column {column} is no embedding: {reason}")]
    NoVector { column: String, reason: String },
    #[error("no row of these files has numbers in '{column}'{example}")]
    NoNumbers { column: String, example: String },
    #[error("{options}: of pictures that are embedded here, and not of embeddings (--embedding-column)")]
    OnlyOfPictures { options: String },
    #[error("row {uri}: {reason} (--strict stops here; what came before it is kept)")]
    RefusedRow { uri: String, reason: String },
    #[error("external backbone {name}: {reason}")]
    BadExternal { name: String, reason: String },
    #[error(
        "the column {name} holds embeddings of version '{stored}', and these are of '{given}': give that --model-version, or another --backbone name; ALTER TABLE \
         images DROP COLUMN {name} frees this one"
    )]
    OtherVersion { name: String, stored: String, given: String },
    #[error("'{name}' is a column of the table images already: name the backbone otherwise")]
    ColumnTaken { name: String },
    #[error(
        "the database at {uri} can only be read here: to change it, get the right to write to its folder, or copy it to a place that has it"
    )]
    ReadOnlyDatabase { uri: String },
    #[error(
        "the disk is full ({reason}): what was committed is safe; free some space ('outskirt optimize' gives back what old versions take) and run this again"
    )]
    DiskFull { reason: String },
    #[error("{}", of_store(source))]
    Store { source: lancedb::Error },

    // ---- banks and calibration ----
    #[error(
        "'{name}' names no version of a bank: write the bank's name, '@' and a version of images, such as 'cifar10@12'"
    )]
    BadBankVersion { name: String },
    #[error(
        "bank '{bank}' stands for version {current} of images, and version {version} is not kept: {}",
        match (first, last) { (Some(first), Some(last)) => format!("the versions there are lie between {first} and {last}"), _ => "there is none".into() }
    )]
    UnknownVersion { bank: String, version: u64, current: u64, first: Option<u64>, last: Option<u64> },
    #[error(
        "unknown bank '{name}': {}",
        known_or(known, "known are", "there is none yet, 'outskirt bank create' makes one")
    )]
    UnknownBank { name: String, known: Vec<String> },
    #[error(
        "bank '{bank}' held {expected} images when it was made, and its predicate now finds {found} in the same version: drop the bank and make it again"
    )]
    BankChanged { bank: String, expected: usize, found: usize },
    #[error("cannot open bank '{bank}': {reason}")]
    BankUnreadable { bank: String, reason: String },
    #[error("bank '{bank}' has no covariance: its {rows} rows do not vary within their classes (column label)")]
    NoCovariance { bank: String, rows: usize },
    #[error(
        "bank '{bank}' has one class, and {function} compares classes with all of the bank: give its images labels, then 'outskirt bank refresh {bank}'"
    )]
    OneClass { bank: String, function: &'static str },
    #[error(
        "{rows} images of bank '{bank}' have no {column}: 'outskirt ingest --with-logits' writes it (of own embeddings --logits-column), and 'outskirt bank refresh {bank}' reads it"
    )]
    NoBankLogits { bank: String, column: String, rows: usize },
    #[error("bank '{name}' exists already: choose another name, or 'outskirt bank drop {name}' first")]
    BankExists { name: String },
    #[error(
        "no images match ({predicate}) with an embedding of backbone '{backbone}': check the predicate, or ingest with --backbone {backbone}"
    )]
    NoRows { predicate: String, backbone: String },
    #[error(
        "no images have an embedding of backbone '{name}': known are {}; ingest with --backbone first",
        list(known)
    )]
    NoEmbeddings { name: String, known: Vec<String> },
    #[error("predicate ({predicate}): {reason}")]
    BadPredicate { predicate: String, reason: String },
    #[error(
        "column '{column}' of images holds {holds}, and not the scores of bank '{bank}' at k = {k}: name another column with --into"
    )]
    NotItsScores { column: String, bank: String, k: usize, holds: String },
    #[error(
        "bank {bank} follows images up to version {follows}, which is at {images}: 'outskirt bank refresh {bank}' brings it up to date"
    )]
    StaleBank { bank: String, follows: u64, images: u64 },
    #[error(
        "bank '{bank}' would hold {rows} embeddings now, fewer than its k = {k}: it stays as it is; drop it and make another"
    )]
    BankTooSmall { bank: String, rows: usize, k: usize },
    #[error("alpha = {alpha} is not a sampling ratio: it must lie in (0, 1]")]
    BadAlpha { alpha: f64 },
    #[error(
        "{inside} of the {rows} calibration images ({predicate}) are rows of bank '{bank}', whose scores would be too low: calibrate with held-out ID images"
    )]
    CalibrationInsideBank { bank: String, predicate: String, inside: usize, rows: usize },
    #[error(
        "bank '{bank}' is not calibrated for k = {k}: run 'outskirt bank calibrate {bank} --where SQL' with held-out ID images"
    )]
    NotCalibrated { bank: String, k: usize },
    #[error("tpr = {tpr} of bank '{bank}' must lie in (0, 1)")]
    TprOutOfRange { bank: String, tpr: f64 },
    #[error(
        "tpr = {tpr} needs {needed} calibration images, bank '{bank}' has {rows}: calibrate it with more, or lower tpr"
    )]
    TprNeedsMore { bank: String, tpr: f64, rows: usize, needed: usize },
    #[error("confidence = {confidence} of bank '{bank}' must lie in (0, 1)")]
    ConfidenceOutOfRange { bank: String, confidence: f64 },
    #[error(
        "tpr = {tpr} with confidence {confidence} needs {needed} calibration images, bank '{bank}' has {rows}: calibrate it with more, or lower one of them"
    )]
    ConfidenceNeedsMore { bank: String, tpr: f64, confidence: f64, rows: usize, needed: usize },
    #[error(
        "fdr = {fdr} needs {needed} calibration images, the p-values come from {rows}: calibrate with more, or raise fdr"
    )]
    BadFdr { fdr: f64, rows: usize, needed: usize },

    // ---- queries ----
    #[error("unknown query '{name}': known are {}; or give the path of a .sql file", list(known))]
    UnknownQuery { name: String, known: Vec<String> },
    #[error(
        "query '{query}': cannot read '-- param {line}': write '-- param NAME bank|integer|number|positive|predicate|text [= DEFAULT]: what it is'"
    )]
    BadQueryHead { query: String, line: String },
    #[error("query '{query}' has no parameter '{name}': it has {}", list(known))]
    UnknownParameter { query: String, name: String, known: Vec<String> },
    #[error("query '{query}' needs --param {name}={} ({what})", kind.to_uppercase())]
    MissingParameter { query: String, name: String, kind: String, what: String },
    #[error("query '{query}': {name} = '{value}' is no {kind}: {reason}")]
    BadParameter { query: String, name: String, kind: String, value: String, reason: String },
    #[error("'{parameter}' is no parameter: write --param NAME=VALUE")]
    NoValue { parameter: String },
    #[error("table '{table}' is read-only in SQL: {instead}")]
    ReadOnly { table: String, instead: &'static str },
    #[error("column {column} holds {data_type}, which CSV cannot: leave it out, or use --format json")]
    CsvNested { column: String, data_type: String },
    #[error("{place}: {source}")]
    InStatement { place: String, source: Box<Error> },
    #[error("the query is empty")]
    EmptyQuery,
    #[error("--format {format} gives bytes, and they would go to the terminal: redirect them, such as > rows.{format}")]
    BinaryOnTerminal { format: &'static str },
    #[error("--format {format} is for programs, and has no plot: leave --plot or --format out")]
    PlotOfRows { format: &'static str },
    #[error("--format {format} holds the rows of one statement, and a second one gives rows: run it by itself")]
    SecondResult { format: &'static str },
    #[error("the shell prints {}, not '{name}': run 'outskirt sql QUERY --format' for files", list(known))]
    ShellFormat { name: String, known: Vec<String> },
    #[error("{} is there already, and \\o writes over nothing: name another file, or COPY (query) TO '…'", path.display())]
    OutputExists { path: PathBuf },
    #[error("unknown command '{name}': \\? lists the commands, and a statement of SQL ends with ';'")]
    UnknownCommand { name: String },
    #[error("'{typed}' is not a command: write {usage}")]
    CommandUsage { typed: String, usage: String },
    #[error("unknown table '{name}': did you mean {meant}?")]
    MisspelledTable { name: String, meant: String },
    #[error("there is no table '{name}' in this query: did you mean {meant}?")]
    NoTableInQuery { name: String, meant: String },
    #[error("there is no column '{name}': did you mean {meant}?")]
    MisspelledColumn { name: String, meant: String },
    #[error(
        "there is no column '{name}': {}{}",
        if known.is_empty() { "the query reads no table".into() } else { format!("there are {}", known.join(", ")) },
        if *more > 0 { format!(", and {more} more") } else { String::new() }
    )]
    NoSuchColumn { name: String, known: Vec<String>, more: usize },
    #[error(
        "'{name}' names a column of the result, which WHERE and HAVING do not see: write the expression again, or put the query \
         into FROM and filter outside: SELECT * FROM (SELECT … AS {name} …) WHERE {name} …"
    )]
    AliasInWhere { name: String },
    #[error(
        "{function} takes numbers, and is given true and false: write {function}(CAST(… AS INT)), as for the share of rows"
    )]
    NumbersOfBooleans { function: String },
    #[error("two columns of the result would have the name {name}: give one another with AS")]
    SameColumnName { name: String },
    #[error(
        "{function}() in WHERE: rows are filtered before windows are computed, so write QUALIFY instead of WHERE, as in \
         SELECT … QUALIFY {function}() OVER (…) …"
    )]
    WindowInWhere { function: String },
    #[error(
        "{text} is text and {number} is a number: compare texts, with '…' around a number or CAST({number} AS TEXT), or numbers, \
         with CAST({text} AS DOUBLE)"
    )]
    TextAndNumber { text: String, number: String },
    #[error("unknown table '{name}': known are {}", list(known))]
    UnknownTable { name: String, known: Vec<String> },
    #[error(
        "column {column} holds embeddings of backbone '{found}', bank '{bank}' holds those of '{expected}' (or of other weights): distances between networks mean nothing"
    )]
    OtherBackbone { column: String, found: String, bank: String, expected: String },
    #[error("{}", one_line(source))]
    Query {
        #[from]
        source: datafusion::error::DataFusionError,
    },
    #[error("cannot write output: {source}")]
    Output { source: std::io::Error },
    #[error("{}", plain(&source.to_string()))]
    Arrow {
        #[from]
        source: arrow::error::ArrowError,
    },
    // ---- changes in SQL ----
    #[error(
        "table 'images' is changed by INSERT, UPDATE, DELETE or TRUNCATE as a statement of its own through 'outskirt sql', not inside EXPLAIN or another statement"
    )]
    NestedChange,
    #[error(
        "SQL reads and writes files of this machine, and {address} is none: copy it here{}",
        match ["http://", "https://", "s3://"].iter().any(|read| address.to_ascii_lowercase().starts_with(read)) {
            true => "; pictures and tables of them at addresses are read by 'outskirt ingest'",
            false => "",
        }
    )]
    FileAddress { address: String },
    #[error("{what} is not supported: {instead}")]
    UnsupportedChange { what: String, instead: &'static str },
    #[error("column '{column}' of images cannot be set in SQL: {instead}")]
    KeptColumn { column: String, instead: String },
    #[error("the table images has no column {column}: those that SQL sets are {}", list(known))]
    UnknownColumn { column: String, known: Vec<String> },
    #[error("column '{column}' of images cannot be NULL: give a value for every row")]
    NullValue { column: String },
    #[error(
        "INSERT INTO images lacks {}: every image has them (only id and ingested_at are filled in where they are left out)",
        list(columns)
    )]
    MissingColumns { columns: Vec<String> },
    #[error("INSERT INTO images is for {columns} columns, and its rows have {values} values: give one for each column")]
    ValueCount { columns: usize, values: usize },
    #[error("UPDATE has more than one new value for the image with id {id}: let FROM and WHERE match each image once")]
    UpdatedTwice { id: u64 },
    #[error(
        "two images would be '{uri}' of dataset '{dataset}', and a dataset has each uri once: give each a uri of its own, or \
         another dataset"
    )]
    SameImage { dataset: String, uri: String },
    #[error(
        "{value} for column '{column}' of images has a fraction, and the column holds whole numbers: write round({value})"
    )]
    Fraction { column: String, value: String },
    #[error("{value} does not fit column '{column}' of images, which holds {data_type}")]
    DoesNotFit { column: String, value: String, data_type: String },
    #[error("id {id} {problem}: leave id out, and free ones are chosen")]
    BadId { id: u64, problem: String },
    #[error(
        "images holds id {largest}, and larger ones cannot be given: somebody else wrote that row, delete it (DELETE FROM images WHERE id = {largest}) or restore an earlier version"
    )]
    NoFreeId { largest: u64 },
    #[error(
        "the file system of {uri} has no locks ({reason}), without which two writers could lose each other's rows: mount it with locks (Lustre: -o flock), or write the database on another one; it can be read here"
    )]
    NoLocks { uri: String, reason: String },
    #[error("version {version} of {table} is not kept: {}", versions(kept))]
    NoVersion { table: String, version: u64, kept: Vec<u64> },
    #[error(
        "bank '{bank}' stands on the column {column}, which version {version} of images does not have: 'outskirt bank drop {bank}' first"
    )]
    RestoreLosesColumn { version: u64, column: String, bank: String },
    #[error(
        "bank '{bank}' stands on \"{predicate}\", which version {version} of images has not the columns for: 'outskirt bank drop {bank}' first"
    )]
    RestoreLosesBank { version: u64, bank: String, predicate: String },
    #[error(
        "the latest change ({verb}) cannot be undone: version {version} of images, which was before it, is not kept any more ('outskirt optimize' removes versions; --keep spares the younger ones)"
    )]
    UndoPruned { verb: String, version: u64 },
    #[error(
        "another program is writing to {uri}{}: 'outskirt undo' does not wait for it, since what it writes would be the change that is taken back; run this again when it has ended",
        holder.as_ref().map_or(String::new(), |holder| format!(" ({holder})"))
    )]
    UndoLocked { uri: String, holder: Option<String> },
    #[error("a cluster cannot run this query: it has {what}; leave --cluster out, and it runs here")]
    NotOnCluster { what: String },
    #[error("{reason}")]
    Cluster { reason: String },
    #[error("there is nothing to undo: 'outskirt history' shows what changed")]
    NothingToUndo,
    #[error("{address} is no place of a database: {reason}")]
    BadBucket { address: String, reason: String },
    #[error("cannot {what} {address}: {reason}")]
    Bucket { what: &'static str, address: String, reason: String },
    #[error(
        "{} holds the beginning of a copy of {from}: 'outskirt copy {from} {}' goes on with it", place.display(), place.display()
    )]
    HalfCopied { place: PathBuf, from: String },
    #[error("cannot {what} {address}: {reason}")]
    BucketDenied { what: &'static str, address: String, reason: String },
    #[error("{name} is '{found}': it is {wanted}")]
    BadVariable { name: &'static str, found: String, wanted: String },
    #[error(
        "the cache of this machine for {address} cannot be used: cannot {action} {}: {source}; OUTSKIRT_CACHE names another folder", path.display()
    )]
    Cache { address: String, action: &'static str, path: PathBuf, source: std::io::Error },
    #[error(
        "{address} lies inside the database at {outer}, which would take its objects for its own: choose a place outside it"
    )]
    InsideOther { address: String, outer: String },
    #[error("nothing is copied to {}: {found}; give a place where nothing is", place.display())]
    CopyOver { place: PathBuf, found: String },
    #[error("{reason}")]
    BucketLost { reason: String },
    #[error(
        "what led from version {before} of images to {after} is not recorded (it was interrupted, is older than the record, or another program did it): 'outskirt history' shows the versions, and 'outskirt restore --version N --dry-run' what each would change"
    )]
    NotRecorded { before: u64, after: u64 },
    #[error("this lance has no store under '{scheme}', and without it commits would not be synced: nothing is written")]
    NoSyncedWrites { scheme: &'static str },
    #[error("'{column}' is a column of the table images already: choose another name")]
    ColumnExists { column: String },
    #[error("the table images has no column '{column}' that ALTER TABLE could drop: those are {}", list(known))]
    NoUserColumn { column: String, known: Vec<String> },
    #[error(
        "'{name}' is a table of the database, which SQL cannot drop, replace or hide: choose another name (DELETE FROM and DROP VIEW remove rows and views)"
    )]
    OwnTable { name: String },
    #[error("column {column} holds {data_type}, which CSV cannot: leave it out, or COPY to a .parquet or .json file")]
    CopyNested { column: String, data_type: String },
    #[error(
        "column '{column}' is read by the predicate of bank '{bank}' ({predicate}): 'outskirt bank drop {bank}' first"
    )]
    ColumnInBank { column: String, bank: String, predicate: String },
    #[error("bank '{bank}' stands on the embeddings of '{backbone}': 'outskirt bank drop {bank}' first")]
    BackboneInBank { backbone: String, bank: String },
    #[error("{} lies in the database's folder, which outskirt alone writes: choose another place", path.display())]
    InsideDatabase { path: PathBuf },

    // ---- views ----
    #[error("'{name}' is a view of this database: {instead}")]
    ViewExists { name: String, instead: &'static str },
    #[error("'{name}' is a table of this session: choose another name, or DROP TABLE {name} first")]
    SessionTable { name: String },
    #[error("unknown view '{name}': known are {}", list(known))]
    UnknownView { name: String, known: Vec<String> },
    #[error("view '{view}' would read '{table}', {reason}")]
    ViewReads { view: String, table: String, reason: &'static str },
    #[error(
        "view '{view}' does not work: {reason}; DROP VIEW or CREATE OR REPLACE VIEW it, or bring back what it reads"
    )]
    BrokenView { view: String, reason: String },
    #[error("view '{view}' has no value for {place}: write the value itself, or PREPARE the query instead")]
    ViewPlaceholder { view: String, place: String },
    #[error("view '{view}' is read by view '{by}': drop that one first")]
    ViewInUse { view: String, by: String },

    #[error("there is no prepared statement '{name}': known are {}", list(known))]
    UnknownPrepared { name: String, known: Vec<String> },
    #[error("prepared statement '{name}' already exists: DEALLOCATE {name} first, or choose another name")]
    PreparedExists { name: String },
    #[error("prepared statement '{name}' takes {wanted} values ($1, $2, …), and {given} are given")]
    PreparedValues { name: String, wanted: usize, given: usize },
    #[error("prepared statement '{name}': {value} is given for ${at}, which PREPARE says is {data_type}")]
    PreparedType { name: String, at: usize, value: String, data_type: String },
    #[error("{place} has no value: give one for it, of $1, $2, … in their order, of $name by its name")]
    NoParameter { place: String },
    #[error("a value is given for {place}, and the statement has no such place")]
    UnusedParameter { place: String },
    #[error("{place} stands for no value of a prepared statement: write $1, $2, …")]
    BadPlaceholder { place: String },
    #[error(
        "{} (SELECT …) whose SELECT names a column of the query around it is not evaluated where NULLs decide: \
         write {} (SELECT 1 FROM … WHERE …)",
        if *negated { "NOT IN" } else { "IN" }, if *negated { "NOT EXISTS" } else { "EXISTS" }
    )]
    CorrelatedIn { negated: bool },
    #[error(
        "IN (SELECT …) in the ON of an outer join is not evaluated where NULLs decide: join a subquery that has it in its WHERE"
    )]
    InOfOuterJoin,
    #[error("{clause} is not supported: write WHERE random() < 0.1, or 'outskirt ingest --sample' for pictures")]
    TableSample { clause: String },
    #[error("a query is one statement, here are {count}: run them one by one")]
    ManyStatements { count: usize },
    #[error("{side} of the evaluation ({predicate}) matches no image with an embedding of backbone '{backbone}'")]
    EmptySide { side: &'static str, predicate: String, backbone: String },
    #[error(
        "nothing to report: no image with an embedding of backbone '{backbone}' matches ({predicate}): check the predicate"
    )]
    NothingToReport { predicate: String, backbone: String },
    #[error("--strategy {strategy} needs {what}")]
    SampleNeeds { strategy: &'static str, what: &'static str },
    #[error(
        "nothing to choose from: no image matches ({predicate}), or none that does has an embedding, or all are marked 'ignore'"
    )]
    NothingToSample { predicate: String },
    #[error("--by embedding needs --backbone, whose embeddings are compared, or --bank")]
    DedupNeedsBackbone,
    #[error("{option} is of --by {by}: give that too, or leave it out")]
    DedupOption { option: &'static str, by: &'static str },
    #[error("'{given}' sets no column: write --set COLUMN=VALUE, or --unset COLUMN")]
    NoTag { given: String },
    #[error(
        "column '{column}' of images is none of your own, nor label or split: UPDATE images sets dataset and uri, and the others describe the file or are computed"
    )]
    NoTagColumn { column: String },
    #[error("a column cannot be called '{name}': SQL, or images, has a meaning of its own for that word")]
    TakenName { name: String },
    #[error("nobody reads what is printed any more: what came and was not printed is printed at the next start")]
    Unread,
    #[error("'{mark}' is no mark: an image is marked 'keep' or 'ignore'")]
    NoMark { mark: String },
    #[error("nothing to compare with: no image matches ({predicate}), or those that do are marked 'ignore'")]
    NothingStays { predicate: String },
    #[error("nothing to compare: no image matches ({predicate}), or those that do are marked 'ignore'")]
    NothingToCompare { predicate: String },
    #[error(
        "'{column}' is a column of your own in the table images, and hashes of pictures go into one of that name: ALTER TABLE images DROP COLUMN \
         {column}, or compare with --by content or --by embedding"
    )]
    HashColumnTaken { column: &'static str },
    #[error(
        "hashes of {bits} different bits are no copies: 0 to {most} of 64 are compared, JPEG and resizing change up to 4, unrelated pictures differ in 32"
    )]
    TooManyBits { bits: u32, most: u32 },
    #[error(
        "--within {within} is no distance of L2-normalised embeddings: those are 0 to 2, and copies lie below 0.2 or so"
    )]
    BadWithin { within: f32 },
    #[error("column {column} holds no embeddings: 'outskirt backbone list' names the backbones")]
    NotAnEmbedding { column: String },
    #[error("cannot compare the embeddings: {reason}")]
    CannotCompare { reason: String },
    #[error("no image has id {id}: SELECT id, uri FROM images says which there are")]
    NoSuchImage { id: u64 },
    #[error("no image has the uri {uri}, and there is no such file: SELECT id, uri FROM images says which there are")]
    NoSuchUri { uri: String },
    #[error(
        "image {id} has no embedding of backbone '{backbone}': 'outskirt embed --backbone {backbone}' makes it of a network, 'outskirt ingest \
             --embedding-column' brings one of your own"
    )]
    NoEmbedding { id: u64, backbone: String },
    #[error("several images have the uri {uri}, of other datasets: give the id of one, {ids}")]
    ManyImages { uri: String, ids: String },
    #[error("a page is written to a file: add --out report.html")]
    NoOut,
    #[error("a page is written to a file whose name ends in .html, and '{}' does not: --out report.html", path.display())]
    NoPage { path: PathBuf },
    // ---- export ----
    #[error("cannot export to {}: {reason}; give --to a folder that is empty or not there", path.display())]
    ExportTarget { path: PathBuf, reason: &'static str },
    #[error("--as {format} has no {what}: {instead}")]
    ExportFiles { format: &'static str, what: &'static str, instead: &'static str },
    #[error("--neighbors are the nearest images of a bank: add --bank NAME")]
    NeighborsOfNoBank,
    #[error("--column {column}: images has no such column to export; there are {}", list(known))]
    ExportColumn { column: String, known: Vec<String> },
    #[error("nothing to export: no image matches ({predicate})")]
    NothingToExport { predicate: String },
    #[error("nothing to export: of none of the images there is a picture; {reason}")]
    NoPictureToExport { reason: String },
    #[error("the picture of {uri} is missing: {reason}; without --strict it is counted and left out")]
    MissingPicture { uri: String, reason: String },
    #[error(
        "the images have more than {most} labels, and each would be a folder or a category: choose fewer with --where"
    )]
    ExportLabels { most: usize },
    #[error("{}: {reason}", path.display())]
    Demo { path: PathBuf, reason: String },
}

impl Error {
    /// Attach the action and the path to an I/O error; a missing file becomes [`Error::MissingPath`].
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| match source.kind() {
            std::io::ErrorKind::NotFound => Self::MissingPath { path },
            kind if is_full(kind) => Self::DiskFull { reason: format!("{action} {}: {source}", path.display()) },
            _ => Self::Io { action, path, source },
        }
    }

    /// The same about a file, by another name for it.
    pub(crate) fn at(self, other: &Path) -> Self {
        let path = other.to_path_buf();
        match self {
            Self::Io { action, source, .. } => Self::Io { action, path, source },
            Self::MissingPath { .. } => Self::MissingPath { path },
            Self::BadArchive { reason, .. } => Self::BadArchive { path, reason },
            Self::UnknownFile { read, .. } => Self::UnknownFile { path, read },
            other => other,
        }
    }
}

/// Whether a file's name is an archive's.
fn is_archive(path: &Path) -> bool {
    let name = path.to_string_lossy().to_ascii_lowercase();
    [".tar", ".tar.gz", ".tgz", ".zip"].iter().any(|end| name.ends_with(end))
}

/// Bytes for people.
fn gib(bytes: u64) -> String {
    let gib = bytes as f64 / f64::from(1 << 30);
    if gib < 10.0 { format!("{gib:.1} GiB") } else { format!("{gib:.0} GiB") }
}

/// Whether a device, a quota or a limit has no room for what was to be written.
fn is_full(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind as K;
    matches!(kind, K::StorageFull | K::QuotaExceeded | K::FileTooLarge)
}

impl From<lancedb::Error> for Error {
    fn from(source: lancedb::Error) -> Self {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&source);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<std::io::Error>()
                && is_full(error.kind())
            {
                return Self::DiskFull { reason: error.to_string() };
            }
            cause = error.source();
        }
        Self::Store { source }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// Versions in ranges: "kept are 3, 5 to 9".
fn versions(kept: &[u64]) -> String {
    let mut ranges: Vec<String> = Vec::new();
    for run in kept.chunk_by(|one, next| one + 1 == *next) {
        match run {
            [one] => ranges.push(one.to_string()),
            [first, .., last] => ranges.push(format!("{first} to {last}")),
            [] => {}
        }
    }
    if ranges.is_empty() { "none is".into() } else { format!("kept are {}", ranges.join(", ")) }
}

fn known_or(names: &[String], some: &str, none: &str) -> String {
    if names.is_empty() { none.into() } else { format!("{some} {}", names.join(", ")) }
}

#[cfg(feature = "torch")]
fn first_line(error: &tch::TchError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_string()
}

/// DataFusion wraps errors in layers ("External error: …"); people get the innermost one.
fn one_line(error: &datafusion::error::DataFusionError) -> String {
    use datafusion::error::DataFusionError as E;
    match error.find_root() {
        E::External(inner) => match (inner.downcast_ref::<Error>(), inner.downcast_ref::<lance::Error>()) {
            (Some(own), _) => own.to_string(),
            (_, Some(error)) => of_lance(error),
            _ => plain(&inner.to_string()),
        },
        E::SQL(error, _) => plain(&error.to_string()),
        E::Plan(message) | E::Execution(message) => plain(innermost(message)),
        E::ResourcesExhausted(message) => plain(&format!("Resources exhausted: {message}")),
        other => plain(innermost(&other.strip_backtrace())),
    }
}

/// What a message says where it quotes another one, such as our own refusal inside "coercion failed with: …".
fn innermost(message: &str) -> &str {
    let start = message.rfind("Error during planning: ").map_or(0, |at| at + "Error during planning: ".len());
    message[start..].split(" No function matches").next().unwrap_or_default()
}

/// What Lance says; of a file that it cannot read, with the next step.
fn of_lance(error: &lance::Error) -> String {
    use lance::Error as E;
    if let Some(said) = of_bucket(error) {
        return said;
    }
    let text = plain(&error.to_string());
    match error {
        // an expression that failed on some row is of this kind as well
        E::Arrow { .. } => text,
        E::NotFound { uri, .. } => unreadable(&format!("there is no {}", as_path(uri))),
        E::CorruptFile { .. } | E::IO { .. } => unreadable(&text),
        _ if is_of_a_file(&text) => unreadable(&text),
        _ => text,
    }
}

/// What a bucket did not do, in plain words: nothing is damaged by that.
fn of_bucket(error: &lance::Error) -> Option<String> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(one) = next {
        match one.downcast_ref::<object_store::Error>() {
            Some(object_store::Error::Generic { store: REFUSED, source }) => return Some(source.to_string()),
            Some(
                found @ (object_store::Error::Generic { store: "S3", .. }
                | object_store::Error::PermissionDenied { .. }
                | object_store::Error::Unauthenticated { .. }),
            ) => {
                let reason = Failure::of(found).reason;
                return Some(format!(
                    "the bucket could not be read or written: {reason}; what was committed stays, and the same command goes on from there"
                ));
            }
            _ => next = one.source(),
        }
    }
    None
}

/// Whether Lance tells of a damaged file, for which it has no kind of error of its own.
fn is_of_a_file(text: &str) -> bool {
    ["outside of file", "outside file", "Lance file", "Protobuf"].iter().any(|word| text.contains(word))
}

/// object_store leaves the first slash out.
fn as_path(uri: &str) -> String {
    if uri.starts_with('/') || uri.contains("://") { uri.into() } else { format!("/{uri}") }
}

fn unreadable(reason: &str) -> String {
    format!(
        "a file of the database cannot be read or written ({reason}): 'outskirt verify' says what is damaged; put that file \
         back from a backup, or 'outskirt restore' a version of images that is before it"
    )
}

/// What lancedb says, without the places in its sources.
fn of_store(error: &lancedb::Error) -> String {
    match error {
        lancedb::Error::Lance { source } => of_lance(source),
        lancedb::Error::InvalidInput { message } if is_of_a_file(message) => unreadable(&plain(message)),
        other => format!("store: {}", plain(&other.to_string())),
    }
}

impl From<Error> for datafusion::error::DataFusionError {
    fn from(error: Error) -> Self {
        match error {
            Error::Query { source } => source,
            other => Self::External(Box::new(other)),
        }
    }
}
