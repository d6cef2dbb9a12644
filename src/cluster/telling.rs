//! What went wrong in a task, in the words that one machine would use.
//!
//! Ballista sends an error as what its developers would print. So the plan of each task is given a root that puts errors into plain
//! words between two marks ([`Telling`]), and whoever asked finds them there ([`told`]).

use std::fmt;
use std::sync::Arc;

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties};
use futures::StreamExt;

use crate::error::Error;

const MARKS: (char, char) = ('⟦', '⟧');

/// Gives the rows of its input, and its errors in plain words.
#[derive(Debug)]
pub(super) struct Telling {
    input: Arc<dyn ExecutionPlan>,
    /// Where it runs.
    place: Arc<str>,
}

impl Telling {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, place: &Arc<str>) -> Self {
        Self { input, place: Arc::clone(place) }
    }
}

/// An error between marks; one that is about the machine names it.
pub(super) fn telling(error: DataFusionError, place: &str) -> DataFusionError {
    let error = Error::from(error);
    let text = error.to_string();
    let is_of_machine = [
        "S3 credentials",
        "the server answers",
        "no answer from",
        "cannot read",
        "cannot write",
        "the cache of this machine",
        "the disk is full",
        "os error",
        "Resources exhausted",
    ];
    let whose = if text.contains("Failed to allocate") || text.contains("not enough memory") {
        format!(" (on the executor at {place}: it needs more --memory, or the query more --tasks)")
    } else if is_of_machine.iter().any(|word| text.contains(word)) {
        format!(" (on the executor at {place})")
    } else {
        String::new()
    };
    DataFusionError::Execution(marked(&format!("{text}{whose}")))
}

/// A text between marks.
pub(super) fn marked(text: &str) -> String {
    format!("{}{text}{}", MARKS.0, MARKS.1)
}

/// What stands between the marks in whatever came back.
pub(super) fn told(failure: &str) -> Option<String> {
    let (_, rest) = failure.split_once(MARKS.0)?;
    let (text, _) = rest.split_once(MARKS.1)?;
    // how often it was quoted nobody knows
    let mut text = text.to_owned();
    while text.contains("\\\"") || text.contains("\\'") {
        text = text.replace("\\\\", "\\").replace("\\\"", "\"").replace("\\'", "'");
    }
    Some(text.replace("\\n", " "))
}

impl DisplayAs for Telling {
    fn fmt_as(&self, _format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Telling")
    }
}

impl ExecutionPlan for Telling {
    fn name(&self) -> &'static str {
        "Telling"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::new(children.swap_remove(0), &self.place)))
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let place = Arc::clone(&self.place);
        let rows = self.input.execute(partition, context).map_err(|error| telling(error, &place))?;
        let schema = rows.schema();
        let rows = rows.map(move |batch| batch.map_err(|error| telling(error, &place)));
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_as_they_were() {
        let error = telling(
            DataFusionError::from(Error::UnknownBank { name: "a \"b\"".into(), known: vec!["c".into()] }),
            "x:1",
        );
        let once = format!("{error:?}");
        for sent in [format!("Job failed: {once}"), format!("Job failed: {:?}", once)] {
            assert_eq!(
                told(&sent).unwrap(),
                Error::UnknownBank { name: "a \"b\"".into(), known: vec!["c".into()] }.to_string()
            );
        }
        let of_machine = telling(DataFusionError::External("cannot read it (os error 5)".into()), "host:1");
        assert!(told(&format!("{of_machine:?}")).unwrap().ends_with("(on the executor at host:1)"));
        let memory = DataFusionError::ResourcesExhausted("Failed to allocate additional 2.8 MB for a sort".into());
        let told_memory = told(&format!("{:?}", telling(memory, "host:1"))).unwrap();
        assert!(told_memory.contains("(on the executor at host:1: it needs more --memory"), "{told_memory}");
        assert_eq!(told("another"), None);
    }
}
