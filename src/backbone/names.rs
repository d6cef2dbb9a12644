//! The tensors of a file under the network's own names: what stands before the names is taken off, and what stands beside
//! the network is known by its place.

use std::collections::{BTreeMap, BTreeSet};

use super::weights::{StateDict, WeightTensor};

/// Modules that training code wraps a network in; each may stand before a name, in any order. Others are taken off too
/// where they alone hold such a network.
const WRAPPERS: [&str; 34] = [
    "module",
    "encoder",
    "backbone",
    "model",
    "net",
    "network",
    "resnet",
    "encoder_q",
    "base_encoder",
    "online_encoder",
    "online_network",
    "online_model",
    "teacher",
    "student",
    "ema",
    "ema_model",
    "model_ema",
    "swa_model",
    "averaged_model",
    "vit",
    "dinov2",
    "convnext",
    "clip",
    "visual",
    "trunk",
    "feature_extractor",
    "convnet",
    "cnn",
    "base_model",
    "timm_model",
    "image_encoder",
    "vision_model",
    "pretrained",
    "body",
];
/// Wrappers of which a file has another beside it that is rather meant: the one that was trained, of two that follow one
/// another; of teacher and student the teacher.
const SECOND: [&str; 12] = [
    "student",
    "ema",
    "ema_model",
    "model_ema",
    "swa_model",
    "averaged_model",
    "encoder_k",
    "momentum_encoder",
    "target_encoder",
    "target_network",
    "target_model",
    "teacher_ema",
];
/// Parts that compilers and sharding put into names, wherever they compiled or sharded.
const INSERTED: [&str; 3] = ["_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"];
/// What classifiers are called, the usual first.
const CLASSIFIERS: [&str; 9] =
    ["fc", "linear", "classifier", "heads.head", "head", "head.fc", "classifier.1", "classifier.2", "last_linear"];
/// First parts of names that stand beside a network: classifiers, the heads of contrastive training, what averages count,
/// and the text side of CLIP.
const BESIDE: [&str; 21] = [
    "fc",
    "linear",
    "classifier",
    "heads",
    "head",
    "last_linear",
    "projection_head",
    "projector",
    "projection",
    "predictor",
    "mlp_head",
    "contrastive_head",
    "prototypes",
    "queue",
    "queue_ptr",
    "n_averaged",
    "pooler",
    "text_model",
    "text_projection",
    "logit_scale",
    "logit_bias",
];
/// Encoders of contrastive training: a layer after them is a projection.
const CONTRASTIVE: [&str; 6] = ["encoder_q", "base_encoder", "online_encoder", "online_network", "teacher", "student"];

/// Names below a prefix that no list knows: a block of a network has fewer, and its first convolution may be called as
/// that of a network.
const FEWEST_BELOW: usize = 32;

/// The tensors of a file by the network's own names.
pub(super) struct Names<'a> {
    pub(super) tensors: BTreeMap<String, &'a WeightTensor>,
    /// The name by which the library was told.
    pub(super) telltale: &'static str,
    /// What stood before the names, with its dot.
    pub(super) prefix: String,
    /// Tensors outside of that prefix, by their names below the part of it that they share.
    outside: BTreeMap<String, &'a WeightTensor>,
    /// Prefixes that the same names have too.
    pub(super) others: Vec<String>,
    /// Several prefixes, of which none is rather meant than another.
    pub(super) is_ambiguous: bool,
}

/// What speaks against a prefix: the least is taken.
fn rank(prefix: &str) -> (bool, bool, usize) {
    let parts = || prefix.split('.').filter(|part| !part.is_empty());
    let is_unknown = parts().any(|part| !WRAPPERS.contains(&part));
    (is_unknown, parts().any(|part| SECOND.contains(&part)), prefix.len())
}

/// Without the parts that compilers put in.
fn plain(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').filter(|part| !INSERTED.contains(part)).collect();
    parts.join(".")
}

impl<'a> Names<'a> {
    /// Find the network by one of its `telltales` and take off what stands before that.
    pub(super) fn of(state: &'a StateDict, telltales: &[&'static str]) -> Self {
        let mut all: BTreeMap<String, &WeightTensor> = BTreeMap::new();
        for (name, tensor) in state {
            let short = plain(name);
            // two tensors of one name are no wrapper's doing
            let name = if short == *name || !state.contains_key(&short) { short } else { name.clone() };
            all.insert(name, tensor);
        }
        let before = |telltale: &str| -> Vec<String> {
            let prefix = |name: &String| name.strip_suffix(telltale).map(str::to_owned);
            let mut prefixes: Vec<String> = all
                .keys()
                .filter_map(prefix)
                .filter(|prefix| prefix.is_empty() || prefix.ends_with('.'))
                .filter(|prefix| {
                    let below = || all.keys().filter(|name| name.starts_with(prefix)).count();
                    !rank(prefix).0 || below() >= FEWEST_BELOW
                })
                .collect();
            prefixes.sort_by_key(|prefix| rank(prefix));
            prefixes
        };
        let found = telltales.iter().map(|telltale| (*telltale, before(telltale)));
        let best = found
            .filter(|(_, prefixes)| !prefixes.is_empty())
            .min_by_key(|(_, prefixes)| prefixes.first().map(|prefix| rank(prefix)));
        let (telltale, mut prefixes) =
            best.unwrap_or_else(|| (telltales.first().copied().unwrap_or_default(), vec![String::new()]));
        let prefix = prefixes.remove(0);
        let mut others: Vec<String> = Vec::new();
        for other in prefixes {
            if !others.iter().chain([&prefix]).any(|known| other.starts_with(known)) {
                others.push(other);
            }
        }
        let is_ambiguous = rank(&prefix).0 && !others.is_empty();
        let (mut tensors, mut outside) = (BTreeMap::new(), BTreeMap::new());
        for (name, tensor) in all {
            match name.strip_prefix(&prefix) {
                Some(own) => drop(tensors.insert(chunked(own), tensor)),
                None => drop(outside.insert(beside(&name, &prefix), tensor)),
            }
        }
        Self { tensors, telltale, prefix, outside, others, is_ambiguous }
    }

    /// Names inside that the network did not ask for, but for what is known to stand beside one.
    pub(super) fn left_over(&self, used: &BTreeSet<String>) -> Vec<&str> {
        let is_beside = |name: &str| {
            let first = name.split('.').next().unwrap_or(name);
            // num_batches_tracked: a counter that newer PyTorch keeps beside the running mean, no weight
            name.ends_with("num_batches_tracked")
                || name.ends_with("position_ids")
                || name.ends_with("mask_token")
                || BESIDE.contains(&first)
                || first.starts_with("decoder_")
        };
        self.tensors.keys().map(String::as_str).filter(|name| !used.contains(*name) && !is_beside(name)).collect()
    }

    /// First parts of the names outside of the prefix, each once: what is left out. The classifier, counters and other
    /// networks of the same names are not among them.
    pub(super) fn parts_outside(&self, classifier: Option<&str>) -> Vec<&str> {
        let below = |prefix: &String| beside(prefix, &self.prefix);
        let others: Vec<String> = self.others.iter().map(below).collect();
        let is_known = |name: &String| {
            name.ends_with("num_batches_tracked")
                || name == "n_averaged"
                || classifier.is_some_and(|classifier| name.starts_with(classifier))
                || others.iter().any(|other| name.starts_with(other))
        };
        let names = self.outside.keys().filter(|name| !is_known(name));
        let parts: BTreeSet<&str> = names.map(|name| name.split('.').next().unwrap_or(name)).collect();
        parts.into_iter().collect()
    }

    /// The classifier's name, weights and biases. One outside of an encoder is the one that was trained on it.
    pub(super) fn classifier(
        &self,
        used: &BTreeSet<String>,
    ) -> Option<(&'static str, &'a WeightTensor, Option<&'a WeightTensor>)> {
        let parts: Vec<&str> = self.prefix.split('.').collect();
        let is_encoder = parts.contains(&"encoder");
        let is_contrastive =
            parts.iter().any(|part| CONTRASTIVE.contains(part) || SECOND.contains(part) && *part != "ema");
        CLASSIFIERS.into_iter().find_map(|name| {
            // `head` alone is an encoder's projection
            if is_encoder && name == "head" {
                return None;
            }
            let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
            let own = (!is_contrastive && !used.contains(&weight)).then_some(&self.tensors);
            [Some(&self.outside), own].into_iter().flatten().find_map(|tensors| {
                let matrix = tensors.get(&weight).filter(|matrix| matrix.shape.len() == 2)?;
                Some((name, *matrix, tensors.get(&bias).copied()))
            })
        })
    }
}

/// A name outside of a prefix, without the parts that they share.
fn beside(name: &str, prefix: &str) -> String {
    let mut rest = name;
    for part in prefix.split_terminator('.') {
        match rest.strip_prefix(part).and_then(|rest| rest.strip_prefix('.')) {
            Some(below) => rest = below,
            None => break,
        }
    }
    rest.to_owned()
}

/// `blocks.2.14.norm1.weight`, as DINOv2 is trained, in four chunks of blocks: without the chunk.
fn chunked(name: &str) -> String {
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts: Vec<&str> = name.split('.').collect();
    if let ["blocks", chunk, block, ..] = parts[..]
        && is_number(&chunk)
        && is_number(&block)
    {
        parts.remove(1);
    }
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(names: &[&str]) -> StateDict {
        let tensor = WeightTensor { shape: vec![5, 4], values: vec![0.0; 20].into() };
        names.iter().map(|name| ((*name).to_owned(), tensor.clone())).collect()
    }

    #[test]
    fn the_image_side_of_clip_is_found_in_both_namings() {
        let telltales = ["class_embedding", "vision_model.embeddings.class_embedding"];
        let open = state(&[
            "positional_embedding",
            "transformer.resblocks.0.ln_1.weight",
            "visual.class_embedding",
            "visual.positional_embedding",
            "visual.proj",
        ]);
        let names = Names::of(&open, &telltales);
        assert_eq!((names.prefix.as_str(), names.tensors.len(), names.is_ambiguous), ("visual.", 3, false));
        assert_eq!(names.parts_outside(None), ["positional_embedding", "transformer"]);
        let theirs = state(&[
            "logit_scale",
            "text_model.final_layer_norm.weight",
            "vision_model.embeddings.class_embedding",
            "vision_model.embeddings.position_ids",
            "vision_model.something",
        ]);
        let names = Names::of(&theirs, &telltales);
        assert_eq!((names.prefix.as_str(), names.telltale), ("", telltales[1]));
        let used = BTreeSet::from(["vision_model.embeddings.class_embedding".to_owned()]);
        assert_eq!(names.left_over(&used), ["vision_model.something"]);
    }

    #[test]
    fn a_block_is_no_network_under_a_prefix() {
        // ResNet-D: its stem has other names, its blocks the usual ones
        let names = ["conv1.0.weight", "layer1.0.conv1.weight", "layer1.1.conv1.weight", "layer2.0.conv1.weight"];
        let state = state(&names);
        let names = Names::of(&state, &["conv1.weight"]);
        assert_eq!((names.prefix.as_str(), names.tensors.len(), names.is_ambiguous), ("", 4, false));
    }

    #[test]
    fn names_beside_a_prefix_lose_what_they_share_with_it() {
        assert_eq!(beside("m.fc.weight", "m.encoder."), "fc.weight");
        assert_eq!(beside("m.encoder_k.fc.weight", "m.encoder."), "encoder_k.fc.weight");
        assert_eq!(plain("_orig_mod.layer1._orig_mod.0.bn1.bias"), "layer1.0.bn1.bias");
        assert_eq!(chunked("blocks.2.14.norm1.weight"), "blocks.14.norm1.weight");
        assert_eq!(chunked("blocks.2.norm1.weight"), "blocks.2.norm1.weight");
    }
}
