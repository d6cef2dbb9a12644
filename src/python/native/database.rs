//! A database: what the library does for it, one call each.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use datafusion::datasource::MemTable;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::prelude::DataFrame;
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast;
use futures::TryStreamExt;
use outskirt::backbone::{self, External, LoadOptions};
use outskirt::bank::{self, BankSpec, Calibration, Definition, Followed};
use outskirt::evaluate::{self, Compared, EvaluatedSet};
use outskirt::export::{ExportFiles, ExportFormat, ExportOptions, export};
use outskirt::image::{self, KeptQuery, Selection};
use outskirt::ingest::{self, IngestOptions, IngestSummary, Metadata, OwnOptions, ingest_batches};
use outskirt::report::{self, Question};
use outskirt::sql::policy::Policy;
use outskirt::sql::queries::NamedQuery;
use outskirt::sql::session::{Parameters, Session};
use outskirt::store::{Patience, Store};
use outskirt::verify::State;
use outskirt::{Error, curate, schema};
use pyo3::prelude::*;
use pyo3::types::PyByteArray;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, UInt64Array};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Field, Float32Type, Float64Type, Schema};
use arrow::error::ArrowError;

use crate::arrays::{Floats, bytes};
use crate::batches::{Feed, lists};
use crate::curated;
use crate::errors::{of_arrow, raised, to_python};
use crate::functions::{Function, functions};
use crate::parameters::parameters;
use crate::python::Plain;
use crate::query::{Query, Rows};
use crate::runtime::{Progress, Task, wait};

/// Vectors that one call of a function gets.
const AT_ONCE: usize = 8192;

/// A session, and the versions of the tables that it reads.
struct Current {
    versions: Vec<u64>,
    session: Arc<Session>,
    /// What was told of its banks.
    told: HashSet<String>,
}

/// An open database.
#[pyclass(frozen, module = "outskirt._native")]
pub(crate) struct Database {
    store: Store,
    policy: Policy,
    /// One is made anew once a table has moved on, by whomever.
    current: Arc<Mutex<Option<Current>>>,
}

/// What an ingest of embeddings is asked for.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Append {
    column: String,
    logits: Option<String>,
    backbone: String,
    version: String,
    dataset: Option<String>,
    split: Option<String>,
    key: Option<String>,
    strict: bool,
    again: bool,
    refresh: bool,
}

/// What a report is asked.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Asked {
    bank: String,
    predicate: Option<String>,
    id: Option<String>,
    ood: Vec<String>,
    tpr: f64,
    title: Option<String>,
    max_images: usize,
}

/// What an export is asked for.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Exporting {
    to: PathBuf,
    format: String,
    predicate: Option<String>,
    limit: Option<usize>,
    bank: Option<String>,
    tpr: f64,
    neighbors: usize,
    columns: Vec<String>,
    files: String,
    strict: bool,
}

/// What an ingest of pictures is asked for.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
struct Pictures {
    backbone: String,
    weights: Option<PathBuf>,
    with_logits: bool,
    dataset: String,
    split: String,
    part: Option<String>,
    per_class: Option<usize>,
    sample: Option<usize>,
    seed: u64,
    metadata: Option<PathBuf>,
    store_images: bool,
    strict: bool,
    again: bool,
    refresh: bool,
}

#[pymethods]
impl Database {
    /// Open the database of a folder, or make it where there is none.
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf, create: bool, wait_seconds: f64) -> PyResult<Self> {
        let patience = Patience::up_to(Duration::try_from_secs_f64(wait_seconds).unwrap_or(Duration::MAX), |_| ());
        let store = wait(py, async move {
            if create {
                Store::create_in_turn(&path, patience).await
            } else {
                Ok(Store::open(&path).await?.patient(patience))
            }
        })?;
        Ok(Self { store, policy: Policy::default(), current: Arc::default() })
    }

    /// Its folder.
    #[getter]
    fn path(&self) -> PathBuf {
        self.store.place().to_owned()
    }

    /// Apply what migrations are missing.
    #[staticmethod]
    fn migrate(py: Python<'_>, path: PathBuf) -> PyResult<Vec<String>> {
        wait(py, async move { Store::migrate(&path).await })
    }

    /// Rows of the table of images.
    fn count(&self, py: Python<'_>) -> PyResult<usize> {
        let store = self.store.clone();
        wait(py, async move { store.count(schema::IMAGES).await })
    }

    /// Run statements, separated by semicolons; the last one's rows.
    fn sql(&self, py: Python<'_>, text: String, values: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let values = parameters(values)?;
        let current = self.current(py)?;
        let session = Arc::clone(&current);
        let (statement, stream) = wait(py, async move {
            let mut statements = session.parse(&text)?;
            let last = statements.pop_back();
            for statement in statements {
                session.run(values.bind(statement)?).await?.try_collect::<Vec<_>>().await?;
            }
            let statement = last.ok_or(Error::EmptyQuery)?;
            let statement = if values == Parameters::default() { statement } else { values.bind(statement)? };
            let stream = session.run(statement.clone()).await?;
            Ok((statement, stream))
        })?;
        if can_run_again(&statement) {
            return Ok(Py::new(py, Query::of(current, statement, stream))?.into_any());
        }
        Ok(Py::new(py, collected(py, stream)?)?.into_any())
    }

    /// A named query.
    fn query(&self, py: Python<'_>, name: &str, values: Vec<(String, String)>) -> PyResult<Py<PyAny>> {
        let current = self.current(py)?;
        let query = NamedQuery::find(name).map_err(|error| to_python(py, &error))?;
        let text = query.render(&values, current.banks()).map_err(|error| to_python(py, &error))?;
        self.sql(py, text, py.None().bind(py))
    }

    /// The rows of an iterator of batches, as embeddings of an external backbone.
    fn append(
        &self,
        py: Python<'_>,
        batches: &Bound<'_, PyAny>,
        name: String,
        options: Append,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Plain> {
        let (feed, reader) = Feed::of(batches)?;
        let (store, refresh) = (self.store.clone(), options.refresh);
        let heard = Progress::default();
        let tell = heard.clone();
        let task = Task::spawn(py, async move {
            let version = match options.version {
                version if !version.is_empty() => version,
                _ => {
                    let known = backbone::external_in(store.place()).await?;
                    let known = known.into_iter().find(|known| known.name == options.backbone);
                    known.ok_or(Error::NoModelVersion { name: options.backbone.clone() })?.version
                }
            };
            if options.key.is_some() && options.split.is_some() {
                return Err(Error::KeyAndSplit);
            }
            let own = OwnOptions {
                column: options.column,
                logits: options.logits,
                backbone: options.backbone,
                version,
                dataset: options.dataset,
                split: options.split,
                key: options.key,
                strict: options.strict,
                again: options.again,
                ..OwnOptions::default()
            };
            let before = store.version(schema::IMAGES).await?;
            let mut notices = Vec::new();
            let say = |line| notices.push(line);
            let summary = ingest_batches(&store, reader, &name, &own, say, |done, all| tell.say(done, all)).await?;
            notices.extend(after(&store, before, refresh).await?);
            Ok(described(&summary, &notices))
        })?;
        let done = feed.to(py, task, |py| heard.tell(py, progress.as_ref()))?;
        done.map(Plain).map_err(|error| to_python(py, &error))
    }

    /// Pictures, embedded by a network that needs no libtorch.
    fn ingest(
        &self,
        py: Python<'_>,
        paths: Vec<PathBuf>,
        options: Pictures,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Plain> {
        let (heard, store) = (Progress::default(), self.store.clone());
        let tell = heard.clone();
        let trusted = self.policy.trusted().clone();
        let task = Task::spawn(py, async move {
            let part = options.part.or_else(|| Selection::part_of_split(&options.split));
            let query = KeptQuery::default();
            let Pictures { per_class, sample, seed, .. } = options;
            let selection = Selection { part, or_all_parts: false, per_class, sample, seed, query };
            let mut files = image::open(&paths, &selection)?;
            let metadata = Metadata::of(files.table_columns()?, options.metadata.as_deref(), &selection.query)?;
            let mut notices: Vec<String> = metadata.renamed().collect();
            notices.extend(files.notes().iter().cloned());
            let load = LoadOptions {
                weights: options.weights,
                with_logits: options.with_logits,
                device: outskirt::index::Device::Cpu,
                precision: backbone::Precision::F32,
                trusted,
            };
            let network = backbone::load_in(store.place(), &options.backbone, &load).await?;
            let before = store.version(schema::IMAGES).await?;
            let own = IngestOptions {
                dataset: options.dataset,
                split: options.split,
                store_images: options.store_images,
                workers: rayon::current_num_threads(),
                strict: options.strict,
                again: options.again,
            };
            let say = |done| tell.say(done as u64, None);
            let summary = ingest::ingest(&store, &network, files, &own, Some(&metadata), say).await?;
            notices.extend(metadata.unmatched());
            notices.extend(after(&store, before, options.refresh).await?);
            Ok(described(&summary, &notices))
        })?;
        let done = task.join(py, |py| heard.tell(py, progress.as_ref()))?;
        done.map(Plain).map_err(|error| to_python(py, &error))
    }

    /// Declare an external backbone.
    fn add_backbone(&self, py: Python<'_>, name: String, dimension: usize, version: String) -> PyResult<()> {
        let store = self.store.clone();
        wait(py, async move {
            let external = External::new(&name, dimension, &version)?;
            let lock = store.lock_in_turn().await?;
            backbone::register_external(&store, &lock, &external).await
        })
    }

    #[expect(clippy::too_many_arguments, reason = "what a bank is")]
    fn create_bank(
        &self,
        py: Python<'_>,
        name: String,
        backbone: String,
        predicate: String,
        k: usize,
        alpha: f64,
        seed: u64,
        index: &str,
    ) -> PyResult<Plain> {
        let index = index.parse().map_err(|error| to_python(py, &error))?;
        let spec = BankSpec { name, backbone, predicate, k, alpha, seed, index };
        let store = self.store.clone();
        Ok(Plain(of_bank(&wait(py, async move { bank::create(&store, &spec).await })?)))
    }

    fn drop_bank(&self, py: Python<'_>, name: String) -> PyResult<()> {
        let store = self.store.clone();
        wait(py, async move { bank::drop_bank(&store, &name).await.map(drop) })
    }

    /// What is to be known of the banks that were used, and was not told before.
    fn notices(&self, py: Python<'_>) -> Vec<String> {
        let current = Arc::clone(&self.current);
        py.detach(move || {
            let mut current = current.blocking_lock();
            let Some(Current { session, told, .. }) = current.as_mut() else { return Vec::new() };
            session.banks().notices().into_iter().filter(|notice| told.insert(notice.clone())).collect()
        })
    }

    /// SQL's functions, for a session of the package `datafusion`.
    fn functions(&self, py: Python<'_>) -> PyResult<Vec<Function>> {
        functions(py, self.store.clone())
    }

    /// A bank's row of `banks`.
    fn bank(&self, py: Python<'_>, name: String) -> PyResult<Plain> {
        let store = self.store.clone();
        Ok(Plain(of_bank(&wait(py, async move { bank::find(&store, &name).await })?)))
    }

    /// How all banks stand.
    fn banks(&self, py: Python<'_>) -> PyResult<Plain> {
        let store = self.store.clone();
        let all = wait(py, async move { bank::status(&store).await })?;
        let one = |status: &bank::Status| {
            let mut one = of_bank(&status.bank);
            one["is_current"] = status.is_current.into();
            one["calibrated_with"] = status.calibration.as_ref().map(|made| made.scores.len()).into();
            one
        };
        Ok(Plain(all.iter().map(one).collect()))
    }

    fn calibrate(&self, py: Python<'_>, name: String, predicate: String, k: Option<usize>) -> PyResult<Plain> {
        let store = self.store.clone();
        let (made, own) = wait(py, async move {
            let made = bank::calibrate(&store, &name, &predicate, k).await?;
            let own = bank::own_threshold(&store, &name, made.k).await?;
            Ok((made, own))
        })?;
        let is_unlike = own.is_some_and(|own| made.is_unlike(own));
        let Calibration { bank, predicate, k, scores, .. } = made;
        Ok(Plain(json!({ "bank": bank, "where": predicate, "k": k, "rows": scores.len(), "is_unlike": is_unlike })))
    }

    /// Thresholds: at a rate, or the limit that holds it with a confidence.
    fn threshold(
        &self,
        py: Python<'_>,
        name: String,
        tpr: f64,
        confidence: Option<f64>,
        k: Option<usize>,
    ) -> PyResult<f32> {
        let current = self.current(py)?;
        let definition = current.banks().definition(&name).map_err(|error| to_python(py, &error))?;
        let calibration = current.banks().calibration(&definition, k.unwrap_or(definition.k));
        let calibration = calibration.map_err(|error| to_python(py, &error))?;
        let found = match confidence {
            Some(confidence) => calibration.tolerance_limit(tpr, confidence),
            None => calibration.threshold(tpr),
        };
        found.map_err(|error| to_python(py, &error))
    }

    fn refresh(&self, py: Python<'_>, name: String, calibrate: bool) -> PyResult<Plain> {
        let store = self.store.clone();
        let done = wait(py, async move {
            let done = bank::refresh(&store, &name).await?;
            if calibrate {
                bank::calibrate_again(&store, &done.bank, |_| ()).await?;
            }
            Ok(done)
        })?;
        let bank::Refreshed { bank, added, removed, changed, rebuilt } = done;
        let rows = bank.row_count;
        Ok(Plain(json!({ "added": added, "removed": removed, "changed": changed, "rows": rows, "rebuilt": rebuilt })))
    }

    fn keep_scores(
        &self,
        py: Python<'_>,
        name: String,
        predicate: Option<String>,
        column: Option<String>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Plain> {
        let (heard, store) = (Progress::default(), self.store.clone());
        let tell = heard.clone();
        let task = Task::spawn(py, async move {
            let say = |done: usize, all: usize| tell.say(done as u64, Some(all as u64));
            let before = store.version(schema::IMAGES).await?;
            let kept = bank::keep_scores(&store, &name, predicate.as_deref(), column.as_deref(), say).await?;
            after(&store, before, false).await?;
            outskirt::Result::Ok(kept)
        })?;
        let kept = task.join(py, |py| heard.tell(py, progress.as_ref()))?;
        let kept = kept.map_err(|error| to_python(py, &error))?;
        Ok(Plain(json!({ "column": kept.column, "computed": kept.computed, "fresh": kept.fresh })))
    }

    fn tune(&self, py: Python<'_>, name: String, id: String, ood: String, ks: Option<Vec<usize>>) -> PyResult<Plain> {
        let store = self.store.clone();
        let tuned = wait(py, async move {
            let rows = bank::find(&store, &name).await?.row_count;
            let ks = ks.unwrap_or_else(|| bank::USUAL_KS.into_iter().filter(|k| *k <= rows).collect());
            bank::tune(&store, &name, &id, &ood, &ks).await
        })?;
        let best = tuned.best().k;
        let tried: Vec<Value> =
            tuned.tried.iter().map(|tried| json!({ "k": tried.k, "auroc": tried.metrics.auroc })).collect();
        Ok(Plain(json!({ "best": best, "tried": tried })))
    }

    /// A function of vectors and a bank: its results as bytes of f32 (scores), of f64 (p-values) or of truth values.
    fn of_vectors<'py>(
        &self,
        py: Python<'py>,
        vectors: &Bound<'py, PyAny>,
        call: String,
    ) -> PyResult<(Bound<'py, PyByteArray>, &'static str)> {
        let rows = self.apply(py, vectors, call)?;
        let columns: Vec<&dyn Array> = rows.batches.iter().map(|batch| batch.column(0).as_ref()).collect();
        let kind = rows.schema.field(0).data_type().clone();
        let all: ArrayRef = match columns.as_slice() {
            [] => arrow::array::new_empty_array(&kind),
            columns => concat(columns).map_err(|error| of_arrow(py, &error))?,
        };
        Ok(match kind {
            DataType::Float32 => (bytes(py, all.as_primitive::<Float32Type>().values())?, "float32"),
            DataType::Boolean => {
                let truths: Vec<u8> = all.as_boolean().values().iter().map(u8::from).collect();
                (bytes(py, &truths)?, "bool")
            }
            _ => {
                let all = cast(&all, &DataType::Float64).map_err(|error| of_arrow(py, &error))?;
                (bytes(py, all.as_primitive::<Float64Type>().values())?, "float64")
            }
        })
    }

    /// A function of vectors and a bank, in the order of the vectors; `call` names them `v`.
    fn apply(&self, py: Python<'_>, vectors: &Bound<'_, PyAny>, call: String) -> PyResult<Rows> {
        let floats = Floats::of(vectors)?;
        let column: ArrayRef = Arc::new(lists(py, &floats)?);
        let session = self.current(py)?;
        let (schema, batches) = wait(py, async move {
            let field = Field::new("v", column.data_type().clone(), false);
            let schema = Arc::new(Schema::new(vec![field]));
            let steps = (0..column.len()).step_by(AT_ONCE);
            let step = |from: usize| column.slice(from, AT_ONCE.min(column.len() - from));
            let batches = steps.map(|from| RecordBatch::try_new(Arc::clone(&schema), vec![step(from)]));
            let batches = batches.collect::<Result<Vec<_>, _>>()?;
            let table = MemTable::try_new(Arc::clone(&schema), vec![batches])?;
            let frame = session.context().read_table(Arc::new(table))?.select_exprs(&[&call])?;
            let (mut state, plan) = frame.into_parts();
            // one stream, so that rows stay in order; a function takes all cores by itself
            state.config_mut().options_mut().execution.target_partitions = 1;
            let frame = DataFrame::new(state, plan);
            let schema = Arc::clone(frame.schema().inner());
            Ok((schema, frame.collect().await?))
        })?;
        Ok(Rows { schema, batches })
    }

    /// The table of the paper, and what might make it wrong.
    fn evaluate(
        &self,
        py: Python<'_>,
        name: String,
        id: String,
        ood: Vec<String>,
        k: Option<usize>,
        baselines: bool,
    ) -> PyResult<(Rows, Vec<String>)> {
        let (session, store) = (self.current(py)?, self.store.clone());
        wait(py, async move {
            let (mut compared, mut notices) = (vec![Compared::Knn(k)], Vec::new());
            if baselines {
                let others = evaluate::baselines(&session, &store, &name).await?;
                compared.extend(others.scores);
                notices.extend(others.left_out);
            }
            let mut lines = Vec::new();
            for compared in compared {
                let found = evaluate::evaluate(&session, &name, compared, &id, &ood).await?;
                lines.extend(found.sets.into_iter().map(|set| (compared.name(), found.id_rows, set)));
            }
            notices.extend(evaluate::sanity::of_evaluation(&session, &name, k, &id, &ood).await?);
            Ok((table(&lines)?, notices))
        })
    }

    /// A report: the page, and its facts.
    fn report(&self, py: Python<'_>, question: Asked) -> PyResult<(String, Plain)> {
        let session = self.current(py)?;
        let question = Question {
            bank: question.bank,
            predicate: question.predicate,
            id: question.id,
            ood: question.ood,
            tpr: question.tpr,
            title: question.title,
            max_images: question.max_images,
        };
        let (page, facts) = wait(py, async move {
            let found = report::report(&session, &question, |_| ()).await?;
            Ok((report::page(&found), serde_json::to_value(&found)))
        })?;
        let facts = facts.map_err(|error| raised(py, "Error", &error.to_string()))?;
        Ok((page, Plain(facts)))
    }

    /// One image explained: its facts, and a page of them.
    fn explain(&self, py: Python<'_>, question: curated::Explaining) -> PyResult<(String, Plain)> {
        curated::explained(py, self.current(py)?, question)
    }

    /// Images chosen to look at.
    fn sample(&self, py: Python<'_>, choice: curated::Choice) -> PyResult<Rows> {
        curated::sampled(py, self.current(py)?, choice)
    }

    /// Images that are copies, deleted where that is asked for; and what is to be said.
    fn copies(
        &self,
        py: Python<'_>,
        compared: curated::Compared,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<(Rows, Vec<String>)> {
        let (session, store) = (self.current(py)?, self.store.clone());
        let refresh = compared.refresh;
        let (rows, mut notices, before) = curated::copies(py, session, compared, progress.as_ref())?;
        if let Some(before) = before {
            notices.extend(wait(py, async move { after(&store, before, refresh).await })?);
        }
        Ok((rows, notices))
    }

    /// A column set for many images; how many have it now that had not, and what is to be said.
    fn tag(
        &self,
        py: Python<'_>,
        predicate: String,
        column: String,
        value: Option<String>,
        refresh: bool,
    ) -> PyResult<(u64, Vec<String>)> {
        let (session, store) = (self.current(py)?, self.store.clone());
        wait(py, async move {
            let before = store.version(schema::IMAGES).await?;
            let curate::Curated { changed, kept, .. } =
                curate::tag(&session, &predicate, &column, value.as_deref(), true).await?;
            let mut notices = after(&store, before, refresh).await?;
            if kept > 0 {
                notices.push(format!("{kept} images are marked keep, and stay so"));
            }
            Ok((changed, notices))
        })
    }

    /// Images, pictures and scores as files of other programs.
    fn export(&self, py: Python<'_>, asked: Exporting, progress: Option<Py<PyAny>>) -> PyResult<Plain> {
        let formats = [
            ExportFormat::HuggingFace,
            ExportFormat::Coco,
            ExportFormat::LabelStudio,
            ExportFormat::FiftyOne,
            ExportFormat::Csv,
            ExportFormat::ImageFolder,
        ];
        let format = formats.into_iter().find(|format| format.name() == asked.format);
        let files = match asked.files.as_str() {
            "copy" => Some(ExportFiles::Copy),
            "link" => Some(ExportFiles::Link),
            "none" => Some(ExportFiles::None),
            _ => None,
        };
        let Some((format, files)) = format.zip(files) else {
            let names = formats.map(ExportFormat::name).join(", ");
            let said =
                format!("as_={:?}, files={:?}: there are {names}, and copy, link, none", asked.format, asked.files);
            return Err(raised(py, "ParameterError", &said));
        };
        let options = ExportOptions {
            to: asked.to,
            format,
            predicate: asked.predicate,
            limit: asked.limit,
            bank: asked.bank,
            tpr: asked.tpr,
            neighbors: asked.neighbors,
            columns: asked.columns,
            files,
            strict: asked.strict,
        };
        let (heard, session) = (Progress::default(), self.current(py)?);
        let tell = heard.clone();
        let task = Task::spawn(py, async move {
            export(&session, &options, |done, all| tell.say(done as u64, Some(all as u64))).await
        })?;
        let found = task.join(py, |py| heard.tell(py, progress.as_ref()))?;
        let found = found.map_err(|error| to_python(py, &error))?;
        let found = serde_json::to_value(&found).map_err(|error| raised(py, "Error", &error.to_string()))?;
        Ok(Plain(found))
    }

    /// Delete images, or count what would be deleted.
    fn delete(&self, py: Python<'_>, predicate: String, dry_run: bool, refresh: bool) -> PyResult<(u64, Vec<String>)> {
        let (session, store) = (self.current(py)?, self.store.clone());
        wait(py, async move {
            if dry_run {
                return Ok((session.count_where(&predicate).await?, Vec::new()));
            }
            let before = store.version(schema::IMAGES).await?;
            let count = session.delete_where(&predicate).await?;
            Ok((count, after(&store, before, refresh).await?))
        })
    }

    fn history(&self, py: Python<'_>) -> PyResult<Plain> {
        let store = self.store.clone();
        let events = wait(py, async move { curate::history(&store).await })?;
        let one = |event: &curate::Event| {
            let change = event.change.as_ref();
            json!({
                "before": event.before, "after": event.after, "is_kept": event.is_kept, "is_undone": event.is_undone,
                "verb": change.map(|change| &change.verb), "changed_at": change.map(|change| &change.changed_at),
                "where": change.and_then(|change| change.predicate.as_ref()),
                "detail": change.and_then(|change| change.detail.as_ref()),
                "rows": change.map(|change| change.row_count),
            })
        };
        Ok(Plain(events.iter().map(one).collect()))
    }

    fn restore(&self, py: Python<'_>, version: u64, refresh: bool) -> PyResult<Plain> {
        let store = self.store.clone();
        let done = wait(py, async move {
            let done = curate::restore(&store, version).await?;
            if refresh {
                bank::follow(&store).await?;
            }
            Ok(done)
        })?;
        Ok(Plain(json!({ "from": done.from, "version": done.version, "back": done.back, "gone": done.gone })))
    }

    fn undo(&self, py: Python<'_>, refresh: bool) -> PyResult<Plain> {
        let store = self.store.clone();
        let done = wait(py, async move {
            let done = curate::undo(&store).await?;
            if refresh {
                bank::follow(&store).await?;
            }
            Ok(done)
        })?;
        let (change, restored) = (done.change, done.restored);
        Ok(Plain(
            json!({ "verb": change.named(), "rows": change.row_count, "back": restored.back, "gone": restored.gone }),
        ))
    }

    fn optimize(&self, py: Python<'_>, keep_seconds: f64) -> PyResult<Plain> {
        let keep =
            Duration::try_from_secs_f64(keep_seconds).map_err(|error| raised(py, "Error", &error.to_string()))?;
        let store = self.store.clone();
        let done = wait(py, async move { bank::optimize(&store, keep).await })?;
        let (before, after) = done.bytes;
        Ok(Plain(json!({ "bytes_before": before, "bytes_after": after, "rebuilt": done.rebuilt })))
    }

    /// What a check of the whole database found.
    fn verify(&self, py: Python<'_>, sample: usize, repair: bool) -> PyResult<Plain> {
        let store = self.store.clone();
        let findings = wait(py, async move { outskirt::verify::verify(&store, sample, repair).await })?;
        let one = |finding: &bank::Finding| {
            let (state, facts) = match &finding.state {
                State::Well(facts) => ("ok", facts),
                State::Mended(facts) => ("mended", facts),
                State::Leftover(facts) => ("leftover", facts),
                State::Behind(facts) => ("behind", facts),
                State::Derived(facts) | State::Broken(facts) => ("broken", facts),
            };
            json!({ "subject": finding.subject, "state": state, "facts": facts })
        };
        Ok(Plain(findings.iter().map(one).collect()))
    }
}

impl Database {
    /// A session over the tables as they are now; settings are taken along.
    fn current(&self, py: Python<'_>) -> PyResult<Arc<Session>> {
        let (store, policy, current) = (self.store.clone(), self.policy.clone(), Arc::clone(&self.current));
        wait(py, async move {
            let mut current = current.lock().await;
            let mut versions = Vec::with_capacity(schema::TABLES.len());
            for table in schema::TABLES {
                versions.push(store.version(table).await?);
            }
            if let Some(there) = current.as_ref().filter(|there| there.versions == versions) {
                return Ok(Arc::clone(&there.session));
            }
            let session = Arc::new(Session::with_policy(&store, &policy).await?);
            if let Some(before) = current.take() {
                session.settings_of(&before.session);
            }
            *current = Some(Current { versions, session: Arc::clone(&session), told: HashSet::new() });
            Ok(session)
        })
    }
}

/// A score, its ID rows, and one OOD set.
type Line = (&'static str, usize, EvaluatedSet);

/// A row for each score and OOD set.
fn table(lines: &[Line]) -> Result<Rows, ArrowError> {
    let texts = |of: fn(&Line) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(lines.iter().map(of))) };
    let counts = |of: fn(&Line) -> usize| -> ArrayRef {
        Arc::new(UInt64Array::from_iter_values(lines.iter().map(|line| of(line) as u64)))
    };
    let shares = |of: fn(&EvaluatedSet) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(lines.iter().map(|(_, _, set)| of(set))))
    };
    let batch = RecordBatch::try_from_iter([
        ("score", texts(|line| line.0)),
        ("ood", texts(|line| &line.2.name)),
        ("id_rows", counts(|line| line.1)),
        ("ood_rows", counts(|line| line.2.rows)),
        ("fpr95", shares(|set| set.metrics.fpr95)),
        ("fpr95_lower", shares(|set| set.fpr95.lower)),
        ("fpr95_upper", shares(|set| set.fpr95.upper)),
        ("auroc", shares(|set| set.metrics.auroc)),
        ("auroc_lower", shares(|set| set.auroc.lower)),
        ("auroc_upper", shares(|set| set.auroc.upper)),
        ("aupr_in", shares(|set| set.metrics.aupr_in)),
        ("aupr_out", shares(|set| set.metrics.aupr_out)),
    ])?;
    Ok(Rows { schema: batch.schema(), batches: vec![batch] })
}

/// Rows of a statement that is run once.
fn collected(py: Python<'_>, stream: SendableRecordBatchStream) -> PyResult<Rows> {
    let schema = stream.schema();
    let batches = wait(py, async move { Ok(stream.try_collect::<Vec<_>>().await?) })?;
    Ok(Rows { schema, batches })
}

/// Whether a statement may be run again to read its rows again: what asks and changes nothing.
fn can_run_again(statement: &Statement) -> bool {
    match statement {
        Statement::Explain(_) => true,
        Statement::Statement(parsed) => matches!(parsed.as_ref(), ast::Statement::Query(_)),
        _ => false,
    }
}

/// After a change of images from version `before`: banks follow, small files are merged; what there is to say.
async fn after(store: &Store, before: u64, refresh: bool) -> outskirt::Result<Vec<String>> {
    let mut notices = Vec::new();
    if refresh {
        for Followed { bank, refreshed } in bank::follow(store).await? {
            if let Err(error) = refreshed {
                notices.push(format!("bank {bank} was not refreshed: {error}"));
            }
        }
    }
    // while another program writes, it is that program's to do
    if let Ok(lock) = store.lock().await {
        match bank::tidy(store, &lock, before).await {
            Ok(tidied) => notices.extend(tidied.notices()),
            Err(error) => notices.push(format!("small files were not merged: {error}")),
        }
    }
    Ok(notices)
}

fn described(summary: &IngestSummary, notices: &[String]) -> Value {
    let rejects: Vec<Value> =
        summary.first_rejects.iter().map(|reject| json!({ "uri": reject.uri, "reason": reject.reason })).collect();
    json!({
        "added": summary.added, "replaced": summary.replaced, "filled": summary.filled,
        "unchanged": summary.unchanged, "amended": summary.amended, "deleted": summary.deleted,
        "in_other_splits": summary.in_other_splits, "repeated": summary.repeated, "clashed": summary.clashed, "unmatched": summary.unmatched,
        "refused": summary.refused, "first_rejects": rejects, "seconds": summary.wall.as_secs_f64(),
        "notices": notices,
    })
}

fn of_bank(bank: &Definition) -> Value {
    json!({
        "name": bank.name, "backbone": bank.backbone, "where": bank.predicate, "k": bank.k, "alpha": bank.alpha,
        "rows": bank.row_count, "dimension": bank.dimension, "version": bank.table_version,
        "index": bank.index_kind, "created_at": bank.created_at,
    })
}
