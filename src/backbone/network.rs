//! The built-in networks, fitted to a state dict: names are matched, shapes checked, and what is wrong is said at once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use outskirt_kernels::Precision;
use tch::{Device, Kind, TchError, Tensor};

use super::body::{Body, Plan};
use super::fused::Fused;
use super::layers::{Linear, Place, Weight};
use super::weights::{StateDict, WeightTensor};
use crate::error::{Error, Result};

/// Modules that training code wraps a network in; each may stand before a name, in any order.
const WRAPPERS: [&str; 6] = ["module", "encoder", "backbone", "model", "net", "network"];
/// What classifiers are called, the usual first.
const CLASSIFIERS: [&str; 5] = ["fc", "linear", "classifier", "heads.head", "head"];
/// First parts of names that stand beside a network: classifiers, and the projection heads of contrastive training.
const HEADS: [&str; 7] = ["fc", "linear", "classifier", "heads", "head", "projection_head", "projector"];
/// Problems that an error lists; the rest is counted.
const SHOWN: usize = 8;

/// A network, and its classifier where the file has one.
#[derive(Debug, Clone)]
pub(super) struct Network {
    body: Body,
    classifier: Option<Linear>,
    fused: Option<Arc<Fused>>,
}

impl Network {
    /// Fit a state dict to an architecture. Every missing, extra and mis-shaped tensor is named in the error.
    ///
    /// Prefixes that wrappers put before the network's names are taken off; projection heads are left out; a classifier
    /// is kept where there is one that takes the embedding.
    pub(super) fn from_state_dict(architecture: &str, state: &StateDict, path: &Path) -> Result<Self> {
        let mismatch = |problems: String| Error::WeightsMismatch {
            path: path.into(),
            architecture: architecture.into(),
            problems,
        };
        let plan = Plan::of(architecture).ok_or_else(|| mismatch("it has no layers built in".into()))?;
        let names = Names::of(state, plan.anchor());
        let mut problems = Vec::new();
        let mut used = BTreeSet::new();
        let body = plan.build(names.tensors.keys().copied(), &mut |name, shape| {
            used.insert(name.to_owned());
            match names.tensors.get(name) {
                Some(tensor) if fits(tensor, shape) => return as_tensor(tensor),
                Some(tensor) => problems.push(format!("{name} has shape {:?}, expected {shape:?}", tensor.shape)),
                None => problems.push(format!("{name} is missing")),
            }
            Ok(Tensor::f_zeros(shape, (Kind::Float, Device::Cpu))?)
        })?;
        let classifier = names.classifier(plan.dimension(), &mut problems)?;
        // num_batches_tracked: a counter that newer PyTorch keeps beside the running mean, no weight
        let beside = |name: &str| {
            name.ends_with("num_batches_tracked") || HEADS.contains(&name.split('.').next().unwrap_or(name))
        };
        let extra = names.tensors.keys().filter(|name| !used.contains(**name) && !beside(name));
        problems.extend(extra.map(|name| format!("{name} is not part of it")));
        if problems.is_empty() {
            let fused = Fused::of(&body, classifier.as_ref(), Precision::F32)?.map(Arc::new);
            return Ok(Self { body, classifier, fused });
        }
        let shown = problems.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
        let more = problems.len().saturating_sub(SHOWN);
        Err(mismatch(if more > 0 { format!("{shown}; and {more} more") } else { shown }))
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
        Ok(Self { body, classifier, fused: None })
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

/// The tensors of a file by the network's own names.
struct Names<'a> {
    tensors: BTreeMap<&'a str, &'a WeightTensor>,
    /// The network is the encoder of something that has a projection head, which may be called `head` alone.
    encoder: bool,
}

impl<'a> Names<'a> {
    /// Take off what stands before `anchor`, as long as it is wrappers; what stands beside the network keeps its name.
    fn of(state: &'a StateDict, anchor: &str) -> Self {
        let wraps = |prefix: &&str| {
            prefix.is_empty()
                || prefix.strip_suffix('.').is_some_and(|path| path.split('.').all(|part| WRAPPERS.contains(&part)))
        };
        let prefixes = state.keys().filter_map(|name| name.strip_suffix(anchor)).filter(wraps);
        let prefix = prefixes.min_by_key(|prefix| prefix.len()).unwrap_or("");
        let mut tensors = BTreeMap::new();
        for (name, tensor) in state {
            if let Some(name) = name.strip_prefix(prefix) {
                tensors.insert(name, tensor);
            }
        }
        // a classifier outside the encoder is the one that was trained on it
        let outside = state.iter().filter(|(name, _)| !name.starts_with(prefix));
        tensors.extend(outside.map(|(name, tensor)| (name.strip_prefix("module.").unwrap_or(name), tensor)));
        Self { tensors, encoder: prefix.split('.').any(|part| part == "encoder") }
    }

    fn classifier(&self, dimension: i64, problems: &mut Vec<String>) -> Result<Option<Linear>> {
        let may = |name: &&&str| !(self.encoder && **name == "head");
        for name in CLASSIFIERS.iter().filter(may) {
            let (weight_name, bias_name) = (format!("{name}.weight"), format!("{name}.bias"));
            let Some(weight) = self.tensors.get(weight_name.as_str()) else { continue };
            let classes = weight.shape.first().copied().unwrap_or(0) as i64;
            if classes == 0 || !fits(weight, &[classes, dimension]) {
                let shape = &weight.shape;
                problems.push(format!("{weight_name} has shape {shape:?}, expected [classes, {dimension}]"));
                return Ok(None);
            }
            let bias = self.tensors.get(bias_name.as_str());
            if let Some(bias) = bias.filter(|bias| !fits(bias, &[classes])) {
                problems.push(format!("{bias_name} has shape {:?}, expected [{classes}]", bias.shape));
                return Ok(None);
            }
            let bias = bias.map(|bias| as_tensor(bias)).transpose()?.map(Weight);
            return Ok(Some(Linear { weight: Weight(as_tensor(weight)?), bias }));
        }
        Ok(None)
    }
}

fn fits(tensor: &WeightTensor, shape: &[i64]) -> bool {
    tensor.shape.iter().map(|&n| n as i64).eq(shape.iter().copied())
}

fn as_tensor(tensor: &WeightTensor) -> Result<Tensor> {
    let shape: Vec<i64> = tensor.shape.iter().map(|&n| n as i64).collect();
    Ok(Tensor::f_from_slice(&tensor.values)?.f_view(shape.as_slice())?)
}
