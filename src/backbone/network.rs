//! The built-in networks, fitted to a state dict: names are matched, shapes checked, and what is wrong is said at once.

use std::collections::BTreeSet;
use std::path::Path;

use super::architecture::EXPORT;
use super::body::{Body, Plan};
use super::layers::Linear;
use super::names::Names;
use super::weights::{StateDict, WeightTensor};
use crate::error::{Error, Result};

/// Names of each kind that an error lists; the rest is counted.
const SHOWN: usize = 4;

/// A network as its file has it, and its classifier where there is one.
#[derive(Debug, Clone)]
pub(super) struct Network {
    pub(super) body: Body,
    pub(super) classifier: Option<Linear>,
    /// What of the file it is, and what stands beside it: for people.
    pub(super) notes: Vec<String>,
}

impl Network {
    /// Fit a state dict to an architecture. Missing, extra and mis-shaped tensors are named in the error.
    ///
    /// What stands before the network's names is taken off, and what stands beside the network is left out; a classifier
    /// is kept where there is one that takes the embedding.
    pub(super) fn from_state_dict(architecture: &str, state: &StateDict, path: &Path) -> Result<Self> {
        let mismatch = |problems: String| Error::WeightsMismatch {
            path: path.into(),
            architecture: architecture.into(),
            problems: format!("{problems}. {EXPORT}"),
        };
        let plan = Plan::of(architecture).ok_or_else(|| mismatch("it has no layers built in".into()))?;
        let names = Names::of(state, &plan.telltales());
        if names.is_ambiguous {
            let prefixes = std::iter::once(&names.prefix).chain(&names.others);
            let prefixes: Vec<&str> = prefixes.map(|prefix| prefix.trim_end_matches('.')).collect();
            return Err(mismatch(format!("it holds several: under {}; save one of them", listed(&prefixes))));
        }
        let mut problems = Problems::default();
        let mut used = BTreeSet::new();
        let shape = |name: &str| names.tensors.get(name).map(|tensor| tensor.shape.clone());
        let body = plan.build(names.telltale, &shape, &mut |name, shape| {
            used.insert(name.to_owned());
            match names.tensors.get(name) {
                Some(tensor) if fits(tensor, shape) => return Ok((*tensor).clone()),
                Some(tensor) => {
                    problems.shapes.push(format!("{name} has shape {:?}, expected {shape:?}", tensor.shape))
                }
                None => problems.missing.push(name.to_owned()),
            }
            Ok(WeightTensor::zeros(shape))
        })?;
        let mut classifier = None;
        let found = names.classifier(&used);
        let mut notes = names.notes(found.map(|(name, ..)| name));
        if let Some((name, weight, bias)) = found {
            if plan.has_classifier(weight.shape.get(1).copied().unwrap_or(0)) {
                classifier = linear((name, weight, bias), plan.dimension(), &mut problems);
            } else {
                notes.push(format!("{name} is left out: it takes other numbers than the embedding"));
            }
        }
        problems.left_over = names.left_over(&used).into_iter().map(str::to_owned).collect();
        match problems.told(&names.prefix) {
            Some(problems) => {
                let pixels = plan.other_pixels(names.telltale, &shape);
                Err(mismatch(pixels.map_or(problems.clone(), |pixels| format!("{pixels}; {problems}"))))
            }
            None => Ok(Self { body, classifier, notes }),
        }
    }
}

/// What does not fit.
#[derive(Default)]
struct Problems {
    missing: Vec<String>,
    shapes: Vec<String>,
    left_over: Vec<String>,
}

impl Problems {
    /// In one line; `None` where there are none.
    fn told(&self, prefix: &str) -> Option<String> {
        let each = |what: &[String], singular: &str, plural: &str| match what {
            [] => None,
            [one] => Some(format!("{one} {singular}")),
            several => {
                let names: Vec<&str> = several.iter().map(String::as_str).collect();
                Some(format!("{} {plural}", listed(&names)))
            }
        };
        let parts: Vec<String> = [
            each(&self.missing, "is missing", "are missing"),
            each(&self.shapes, "", "").map(|shapes| shapes.trim_end().to_owned()),
            each(&self.left_over, "is not part of it", "are not part of it"),
        ]
        .into_iter()
        .flatten()
        .collect();
        let under = if prefix.is_empty() { String::new() } else { format!(" (names below {prefix})") };
        (!parts.is_empty()).then(|| format!("{}{under}", parts.join("; ")))
    }
}

/// The first few, and how many more.
fn listed(names: &[&str]) -> String {
    let shown = names.get(..SHOWN).unwrap_or(names).join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

impl Names<'_> {
    /// What was taken and what was left out, for people.
    fn notes(&self, classifier: Option<&str>) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.others.is_empty() {
            let others: Vec<&str> = self.others.iter().map(|prefix| prefix.trim_end_matches('.')).collect();
            let (taken, others) = (self.prefix.trim_end_matches('.'), listed(&others));
            let taken = if taken.is_empty() { "the names' top" } else { taken };
            notes.push(format!("the network under {taken} is taken, and that under {others} left out"));
        }
        let outside = self.parts_outside(classifier);
        if !self.prefix.is_empty() && !outside.is_empty() {
            let taken = self.prefix.trim_end_matches('.');
            notes.push(format!("of the weights those under {taken} are the network; left out: {}", listed(&outside)));
        }
        notes
    }
}

/// A classifier that takes so many numbers.
fn linear(
    (name, weight, bias): (&str, &WeightTensor, Option<&WeightTensor>),
    dimension: i64,
    problems: &mut Problems,
) -> Option<Linear> {
    let classes = weight.shape.first().copied().unwrap_or(0) as i64;
    if classes == 0 || !fits(weight, &[classes, dimension]) {
        let shape = &weight.shape;
        problems.shapes.push(format!("{name}.weight has shape {shape:?}, expected [classes, {dimension}]"));
        return None;
    }
    if let Some(bias) = bias.filter(|bias| !fits(bias, &[classes])) {
        problems.shapes.push(format!("{name}.bias has shape {:?}, expected [{classes}]", bias.shape));
        return None;
    }
    Some(Linear { weight: weight.clone(), bias: bias.cloned() })
}

fn fits(tensor: &WeightTensor, shape: &[i64]) -> bool {
    tensor.shape.iter().map(|&n| n as i64).eq(shape.iter().copied())
}
