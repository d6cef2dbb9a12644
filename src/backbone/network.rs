//! The built-in networks, fitted to a state dict: names are matched, shapes checked, and what is wrong is said at once.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use outskirt_kernels::Precision;
use tch::{Device, Kind, TchError, Tensor};

use super::architecture::EXPORT;
use super::body::{Body, Plan};
use super::fused::Fused;
use super::layers::{Linear, Place, Weight};
use super::names::Names;
use super::weights::{StateDict, WeightTensor};
use crate::error::{Error, Result};

/// Names of each kind that an error lists; the rest is counted.
const SHOWN: usize = 4;

/// A network, and its classifier where the file has one.
#[derive(Debug, Clone)]
pub(super) struct Network {
    body: Body,
    classifier: Option<Linear>,
    fused: Option<Arc<Fused>>,
    /// What of the file it is, and what stands beside it: for people.
    pub(super) notes: Arc<Vec<String>>,
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
                Some(tensor) if fits(tensor, shape) => return as_tensor(tensor),
                Some(tensor) => {
                    problems.shapes.push(format!("{name} has shape {:?}, expected {shape:?}", tensor.shape))
                }
                None => problems.missing.push(name.to_owned()),
            }
            Ok(Tensor::f_zeros(shape, (Kind::Float, Device::Cpu))?)
        })?;
        let mut classifier = None;
        let found = names.classifier(&used);
        let mut notes = names.notes(found.map(|(name, ..)| name));
        if let Some((name, weight, bias)) = found {
            if plan.has_classifier(weight.shape.get(1).copied().unwrap_or(0)) {
                classifier = linear((name, weight, bias), plan.dimension(), &mut problems)?;
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
            None => {
                let fused = Fused::of(&body, classifier.as_ref(), Precision::F32)?.map(Arc::new);
                Ok(Self { body, classifier, fused, notes: Arc::new(notes) })
            }
        }
    }

    /// For inference in this place: on the processor in its own loops, where there are such, else by libtorch.
    pub(super) fn moved(&self, place: Place) -> Result<Self> {
        if place.device == Device::Cpu
            && let Some(fused) = Fused::of(&self.body, self.classifier.as_ref(), place.precision())?
        {
            return Ok(Self { fused: Some(Arc::new(fused)), ..self.clone() });
        }
        self.by_libtorch(place)
    }

    /// A copy that libtorch runs in this place.
    pub(super) fn by_libtorch(&self, place: Place) -> Result<Self> {
        let body = self.body.moved(place)?;
        // the classifier is small, and logits are compared with exponentials: f32
        let place = Place { kind: Kind::Float, ..place };
        let classifier = self.classifier.as_ref().map(|classifier| classifier.moved(place)).transpose()?;
        Ok(Self { body, classifier, fused: None, notes: Arc::clone(&self.notes) })
    }

    /// The same network in loops of this processor, where there are such.
    pub(super) fn fused(&self) -> Option<&Fused> {
        self.fused.as_deref()
    }

    /// Images (n×3×h×w) to embeddings (n×d), by libtorch.
    pub(super) fn embed(&self, images: &Tensor) -> Result<Tensor, TchError> {
        self.body.embed(images)
    }

    /// Embeddings (n×d) to class logits (n×classes), by libtorch; `None` where the file has no classifier.
    pub(super) fn classify(&self, embeddings: &Tensor) -> Option<Result<Tensor, TchError>> {
        self.classifier.as_ref().map(|classifier| classifier.forward(embeddings))
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
) -> Result<Option<Linear>> {
    let classes = weight.shape.first().copied().unwrap_or(0) as i64;
    if classes == 0 || !fits(weight, &[classes, dimension]) {
        let shape = &weight.shape;
        problems.shapes.push(format!("{name}.weight has shape {shape:?}, expected [classes, {dimension}]"));
        return Ok(None);
    }
    if let Some(bias) = bias.filter(|bias| !fits(bias, &[classes])) {
        problems.shapes.push(format!("{name}.bias has shape {:?}, expected [{classes}]", bias.shape));
        return Ok(None);
    }
    let bias = bias.map(as_tensor).transpose()?.map(Weight);
    Ok(Some(Linear { weight: Weight(as_tensor(weight)?), bias }))
}

fn fits(tensor: &WeightTensor, shape: &[i64]) -> bool {
    tensor.shape.iter().map(|&n| n as i64).eq(shape.iter().copied())
}

fn as_tensor(tensor: &WeightTensor) -> Result<Tensor> {
    let shape: Vec<i64> = tensor.shape.iter().map(|&n| n as i64).collect();
    Ok(Tensor::f_from_slice(&tensor.values)?.f_view(shape.as_slice())?)
}
