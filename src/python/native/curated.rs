//! What a curator asks: one image explained, some chosen, copies found.

use std::sync::Arc;

use outskirt::curate::{self, Alike, DedupOptions, SampleOptions, Stays, Strategy};
use outskirt::report::{self, Which};
use outskirt::schema;
use outskirt::sql::session::Session;
use pyo3::prelude::*;

use crate::errors::{raised, to_python};
use crate::python::Plain;
use crate::query::Rows;
use crate::runtime::{Progress, Task, wait};

/// One image beside a bank.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Explaining {
    bank: String,
    id: Option<u64>,
    uri: Option<String>,
    neighbors: usize,
    tpr: f64,
}

/// Which images are chosen, and how.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Choice {
    strategy: String,
    n: usize,
    predicate: Option<String>,
    per: Option<String>,
    bank: Option<String>,
    backbone: Option<String>,
    tpr: f64,
    seed: u64,
}

/// What copies are looked for.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Compared {
    by: String,
    bits: u32,
    within: f32,
    backbone: Option<String>,
    predicate: Option<String>,
    against: Option<String>,
    stays: String,
    delete: bool,
    pub(crate) refresh: bool,
}

pub(crate) fn explained(py: Python<'_>, session: Arc<Session>, question: Explaining) -> PyResult<(String, Plain)> {
    let Explaining { bank, id, uri, neighbors, tpr } = question;
    let which = match (id, uri) {
        (Some(id), _) => Which::Id(id),
        (None, Some(uri)) => Which::Uri(uri),
        (None, None) => return Err(raised(py, "ParameterError", "an id or a uri")),
    };
    let (page, facts) = wait(py, async move {
        let found = report::explain(&session, &bank, &which, neighbors, tpr).await?;
        Ok((report::explained_page(&found), serde_json::to_value(&found)))
    })?;
    let facts = facts.map_err(|error| raised(py, "Error", &error.to_string()))?;
    Ok((page, Plain(facts)))
}

pub(crate) fn sampled(py: Python<'_>, session: Arc<Session>, choice: Choice) -> PyResult<Rows> {
    let strategies = [Strategy::Outlier, Strategy::Borderline, Strategy::Diverse, Strategy::Random];
    let Some(strategy) = strategies.into_iter().find(|strategy| strategy.name() == choice.strategy) else {
        let why = format!("strategy is {:?}, and may be outlier, borderline, diverse or random", choice.strategy);
        return Err(raised(py, "ParameterError", &why));
    };
    let Choice { n, predicate, per, bank, backbone, tpr, seed, .. } = choice;
    let options = SampleOptions { strategy, n, predicate, per, bank, backbone, tpr, seed };
    let rows = wait(py, async move {
        let chosen = curate::sample(&session, &options).await?;
        curate::sampled_table(&session, &options, &chosen).await
    })?;
    Ok(Rows { schema: rows.schema(), batches: vec![rows] })
}

/// The copies, what is to be said, and the version of `images` before they were deleted, where they were.
pub(crate) fn copies(
    py: Python<'_>,
    session: Arc<Session>,
    compared: Compared,
    progress: Option<&Py<PyAny>>,
) -> PyResult<(Rows, Vec<String>, Option<u64>)> {
    let wrong = |why: String| Err(raised(py, "ParameterError", &why));
    let alike = match (compared.by.as_str(), compared.backbone) {
        ("content", _) => Alike::Content,
        ("dhash", _) => Alike::Picture { bits: compared.bits },
        ("embedding", Some(backbone)) => Alike::Embedding { backbone, within: compared.within },
        ("embedding", None) => return wrong("by='embedding' needs backbone".into()),
        (other, _) => return wrong(format!("by is {other:?}, and may be content, dhash or embedding")),
    };
    let stays = match compared.stays.as_str() {
        "largest" => Stays::Largest,
        "first" => Stays::First,
        other => return wrong(format!("stays is {other:?}, and may be largest or first")),
    };
    let options = DedupOptions { alike, predicate: compared.predicate, against: compared.against, stays };
    let (heard, delete) = (Progress::default(), compared.delete);
    let tell = heard.clone();
    let task = Task::spawn(py, async move {
        let before = session.store().version(schema::IMAGES).await?;
        let say = |_, done: usize, all: usize| tell.say(done as u64, Some(all as u64));
        let (found, rows) = curate::dedup(&session, &options, delete, say).await?;
        outskirt::Result::Ok((found, rows, before))
    })?;
    let found = task.join(py, |py| heard.tell(py, progress))?;
    let (found, rows, before) = found.map_err(|error| to_python(py, &error))?;
    let mut notices = Vec::new();
    if let Some(first) = found.hashed.examples.first() {
        let refused = found.hashed.refused;
        notices.push(format!("{refused} images could not be hashed, such as {}: {}", first.uri, first.reason));
    }
    for (count, why) in
        [(found.kept, "are copies too, and stay: marked keep"), (found.ignored, "were left out: marked ignore")]
    {
        if count > 0 {
            notices.push(format!("{count} images {why}"));
        }
    }
    let by_bytes = found.without + found.blank;
    if by_bytes > 0 {
        notices.push(format!(
            "{by_bytes} images were compared by their bytes alone: they have no hash or embedding, or show one shade"
        ));
    }
    let rows = Rows { schema: rows.schema(), batches: vec![rows] };
    Ok((rows, notices, found.deleted.then_some(before)))
}
