//! ConvNeXt-T (Liu et al. 2022), under the names of its authors, torchvision, timm and Hugging Face.
//!
//! The embedding is the global average, normalised as the classifier gets it: 768 numbers.

use super::layers::{Get, LayerNorm, Linear};
use super::weights::WeightTensor;
use crate::error::Result;

const WIDTHS: [i64; 4] = [96, 192, 384, 768];
const DEPTHS: [usize; 4] = [3, 3, 9, 3];
const EPSILON: f64 = 1e-6;
/// Side of the window that a channel is convolved with by itself.
pub(super) const WINDOW: i64 = 7;

/// Numbers per embedding.
pub(super) const DIMENSION: i64 = 768;

/// Names by which a file is told: of the authors, torchvision, timm and Hugging Face.
pub(super) const TELLTALES: [&str; 4] =
    ["downsample_layers.0.0.weight", "features.0.0.weight", "stem.0.weight", "embeddings.patch_embeddings.weight"];

#[derive(Debug, Clone)]
pub(super) struct ConvNeXt<T = WeightTensor> {
    pub(super) stages: Vec<Stage<T>>,
    pub(super) norm: LayerNorm<T>,
}

#[derive(Debug, Clone)]
pub(super) struct Stage<T = WeightTensor> {
    /// The stem, whose normalisation comes after it, or a convolution that halves, after its normalisation.
    pub(super) smaller: Linear<T>,
    pub(super) stride: i64,
    pub(super) norm: LayerNorm<T>,
    pub(super) blocks: Vec<Block<T>>,
}

#[derive(Debug, Clone)]
pub(super) struct Block<T = WeightTensor> {
    /// Of each channel by itself.
    pub(super) window: Linear<T>,
    pub(super) norm: LayerNorm<T>,
    pub(super) widen: Linear<T>,
    pub(super) narrow: Linear<T>,
    pub(super) scale: T,
}

/// What parts are called.
struct Names<'a>(&'a str);

impl Names<'_> {
    /// What makes a stage's map smaller: the convolution, and the normalisation.
    fn smaller(&self, stage: usize) -> (String, String) {
        let (first, second) = match self.0 {
            "features.0.0.weight" => (format!("features.{}.0", 2 * stage), format!("features.{}.1", 2 * stage)),
            "stem.0.weight" if stage == 0 => ("stem.0".into(), "stem.1".into()),
            "stem.0.weight" => (format!("stages.{stage}.downsample.0"), format!("stages.{stage}.downsample.1")),
            "embeddings.patch_embeddings.weight" if stage == 0 => {
                ("embeddings.patch_embeddings".into(), "embeddings.layernorm".into())
            }
            "embeddings.patch_embeddings.weight" => {
                let at = format!("encoder.stages.{stage}.downsampling_layer");
                (format!("{at}.0"), format!("{at}.1"))
            }
            _ => (format!("downsample_layers.{stage}.0"), format!("downsample_layers.{stage}.1")),
        };
        if stage == 0 { (first, second) } else { (second, first) }
    }

    /// A block's convolution, normalisation, two linear maps and scale.
    fn block(&self, stage: usize, block: usize) -> [String; 5] {
        let (at, parts) = match self.0 {
            "features.0.0.weight" => (
                format!("features.{}.{block}", 2 * stage + 1),
                ["block.0", "block.2", "block.3", "block.5", "layer_scale"],
            ),
            "stem.0.weight" => {
                (format!("stages.{stage}.blocks.{block}"), ["conv_dw", "norm", "mlp.fc1", "mlp.fc2", "gamma"])
            }
            "embeddings.patch_embeddings.weight" => (
                format!("encoder.stages.{stage}.layers.{block}"),
                ["dwconv", "layernorm", "pwconv1", "pwconv2", "layer_scale_parameter"],
            ),
            _ => (format!("stages.{stage}.{block}"), ["dwconv", "norm", "pwconv1", "pwconv2", "gamma"]),
        };
        parts.map(|part| format!("{at}.{part}"))
    }

    /// The last normalisation, and its epsilon.
    fn norm(&self) -> (&'static str, f64) {
        match self.0 {
            "features.0.0.weight" => ("classifier.0", EPSILON),
            "stem.0.weight" => ("head.norm", EPSILON),
            "embeddings.patch_embeddings.weight" => ("layernorm", 1e-12),
            _ => ("norm", EPSILON),
        }
    }
}

fn convolution(get: &mut Get<'_>, name: &str, shape: &[i64; 4]) -> Result<Linear> {
    let bias = Some(get(&format!("{name}.bias"), &shape[..1])?);
    Ok(Linear { weight: get(&format!("{name}.weight"), shape)?, bias })
}

impl ConvNeXt {
    /// Build from tensors that `get` gives, under the names that `telltale` is one of.
    pub(super) fn build(telltale: &str, get: &mut Get<'_>) -> Result<Self> {
        let names = Names(telltale);
        let mut stages = Vec::with_capacity(WIDTHS.len());
        let mut from = 3;
        for (stage, (&width, &depth)) in WIDTHS.iter().zip(&DEPTHS).enumerate() {
            let stride = if stage == 0 { 4 } else { 2 };
            let (conv, norm) = names.smaller(stage);
            let smaller = convolution(get, &conv, &[width, from, stride, stride])?;
            let norm = LayerNorm::load(get, &norm, if stage == 0 { width } else { from }, EPSILON)?;
            let mut blocks = Vec::with_capacity(depth);
            for block in 0..depth {
                let [window, norm, widen, narrow, scale] = names.block(stage, block);
                let scale_shape: &[i64] = if telltale.starts_with("features") { &[width, 1, 1] } else { &[width] };
                blocks.push(Block {
                    window: convolution(get, &window, &[width, 1, WINDOW, WINDOW])?,
                    norm: LayerNorm::load(get, &norm, width, EPSILON)?,
                    widen: Linear::load(get, &widen, (width, 4 * width))?,
                    narrow: Linear::load(get, &narrow, (4 * width, width))?,
                    scale: get(&scale, scale_shape)?.reshaped(&[width]),
                });
            }
            stages.push(Stage { smaller, stride, norm, blocks });
            from = width;
        }
        let (norm, epsilon) = names.norm();
        Ok(Self { stages, norm: LayerNorm::load(get, norm, DIMENSION, epsilon)? })
    }
}
