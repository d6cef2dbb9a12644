//! ViT-B/16 (Dosovitskiy et al. 2021), under the names of torchvision and those of pytorch-pretrained-vit.
//!
//! The embedding is the class token after the final normalisation: 768 numbers. The position embedding belongs to one
//! picture size, 224 or 384 pixels; it is not interpolated.

use tch::{Kind, TchError, Tensor};

use super::layers::{Get, LayerNorm, Linear, Place, Weight, weight};
use crate::error::Result;

const WIDTH: i64 = 768;
const HIDDEN: i64 = 3072;
const HEADS: i64 = 12;
const LAYERS: usize = 12;
const PATCH: i64 = 16;
const EPSILON: f64 = 1e-6;

/// Numbers per embedding.
pub(super) const DIMENSION: i64 = WIDTH;

/// Whose names the file uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Naming {
    Torchvision,
    /// torchvision before 0.13: `mlp.linear_1` and `mlp.linear_2`.
    OldTorchvision,
    PretrainedVit,
}

impl Naming {
    /// Told by a name that only one of them has.
    pub(super) fn of<'a>(mut names: impl Iterator<Item = &'a str>) -> Self {
        names
            .find_map(|name| match name {
                "patch_embedding.weight" | "positional_embedding.pos_embedding" => Some(Self::PretrainedVit),
                "encoder.layers.encoder_layer_0.mlp.linear_1.weight" => Some(Self::OldTorchvision),
                _ => None,
            })
            .unwrap_or(Self::Torchvision)
    }
}

#[derive(Debug, Clone)]
pub(super) struct VisionTransformer {
    patches: Linear,
    class_token: Weight,
    positions: Weight,
    layers: Vec<Layer>,
    norm: LayerNorm,
}

#[derive(Debug, Clone)]
struct Layer {
    before_attention: LayerNorm,
    /// To queries, keys and values, one below the other.
    inward: Linear,
    outward: Linear,
    before_mlp: LayerNorm,
    widen: Linear,
    narrow: Linear,
}

impl VisionTransformer {
    /// Build from tensors that `get` gives, for square pictures of so many pixels.
    pub(super) fn build(pixels: i64, naming: Naming, get: &mut Get<'_>) -> Result<Self> {
        let torchvision = naming != Naming::PretrainedVit;
        let (patch, positions, norm) = if torchvision {
            ("conv_proj", "encoder.pos_embedding", "encoder.ln")
        } else {
            ("patch_embedding", "positional_embedding.pos_embedding", "norm")
        };
        let tokens = (pixels / PATCH) * (pixels / PATCH) + 1;
        let class_token = weight(get, "class_token", &[1, 1, WIDTH])?;
        let patches = Linear {
            weight: weight(get, &format!("{patch}.weight"), &[WIDTH, 3, PATCH, PATCH])?,
            bias: Some(weight(get, &format!("{patch}.bias"), &[WIDTH])?),
        };
        let positions = weight(get, positions, &[1, tokens, WIDTH])?;
        let mut layers = Vec::with_capacity(LAYERS);
        for layer in 0..LAYERS {
            layers.push(if torchvision {
                Layer::torchvision(layer, naming, get)?
            } else {
                Layer::pretrained_vit(layer, get)?
            });
        }
        Ok(Self { patches, class_token, positions, layers, norm: LayerNorm::load(get, norm, WIDTH, EPSILON)? })
    }

    /// For inference elsewhere. What flows beside the layers stays f32.
    pub(super) fn moved(&self, place: Place) -> Result<Self, TchError> {
        let layer = |layer: &Layer| -> Result<Layer, TchError> {
            Ok(Layer {
                before_attention: layer.before_attention.moved(place)?,
                inward: layer.inward.moved(place)?,
                outward: layer.outward.moved(place)?,
                before_mlp: layer.before_mlp.moved(place)?,
                widen: layer.widen.moved(place)?,
                narrow: layer.narrow.moved(place)?,
            })
        };
        Ok(Self {
            patches: self.patches.moved(place)?,
            class_token: self.class_token.kept(place)?,
            positions: self.positions.kept(place)?,
            layers: self.layers.iter().map(layer).collect::<Result<_, _>>()?,
            norm: self.norm.moved(place)?,
        })
    }

    /// Images (n×3×p×p) to embeddings (n×768).
    pub(super) fn embed(&self, images: &Tensor) -> Result<Tensor, TchError> {
        let n = images.size().first().copied().unwrap_or(0);
        let bias = self.patches.bias.as_deref();
        let x = images.f_conv2d(&self.patches.weight, bias, [PATCH; 2], [0; 2], [1; 2], 1)?;
        let x = x.f_flatten(2, -1)?.f_transpose(1, 2)?.f_to_kind(Kind::Float)?;
        let class_token = self.class_token.f_expand([n, 1, WIDTH], false)?;
        let mut x = Tensor::f_cat(&[class_token, x], 1)?.f_add(&self.positions)?;
        for layer in &self.layers {
            x = layer.forward(&x)?;
        }
        // each token is normalised by itself: the others need not be
        self.norm.forward(&x.f_select(1, 0)?)
    }
}

impl Layer {
    fn torchvision(layer: usize, naming: Naming, get: &mut Get<'_>) -> Result<Self> {
        let at = format!("encoder.layers.encoder_layer_{layer}");
        let mlp = if naming == Naming::OldTorchvision { ["linear_1", "linear_2"] } else { ["0", "3"] };
        let inward = format!("{at}.self_attention.in_proj");
        Ok(Self {
            before_attention: LayerNorm::load(get, &format!("{at}.ln_1"), WIDTH, EPSILON)?,
            inward: Linear {
                weight: weight(get, &format!("{inward}_weight"), &[3 * WIDTH, WIDTH])?,
                bias: Some(weight(get, &format!("{inward}_bias"), &[3 * WIDTH])?),
            },
            outward: Linear::load(get, &format!("{at}.self_attention.out_proj"), (WIDTH, WIDTH))?,
            before_mlp: LayerNorm::load(get, &format!("{at}.ln_2"), WIDTH, EPSILON)?,
            widen: Linear::load(get, &format!("{at}.mlp.{}", mlp[0]), (WIDTH, HIDDEN))?,
            narrow: Linear::load(get, &format!("{at}.mlp.{}", mlp[1]), (HIDDEN, WIDTH))?,
        })
    }

    fn pretrained_vit(layer: usize, get: &mut Get<'_>) -> Result<Self> {
        let at = format!("transformer.blocks.{layer}");
        let before_attention = LayerNorm::load(get, &format!("{at}.norm1"), WIDTH, EPSILON)?;
        let (mut weights, mut biases) = (Vec::with_capacity(3), Vec::with_capacity(3));
        for part in ["q", "k", "v"] {
            weights.push(get(&format!("{at}.attn.proj_{part}.weight"), &[WIDTH, WIDTH])?);
            biases.push(get(&format!("{at}.attn.proj_{part}.bias"), &[WIDTH])?);
        }
        Ok(Self {
            before_attention,
            inward: Linear {
                weight: Weight(Tensor::f_cat(&weights, 0)?),
                bias: Some(Weight(Tensor::f_cat(&biases, 0)?)),
            },
            outward: Linear::load(get, &format!("{at}.proj"), (WIDTH, WIDTH))?,
            before_mlp: LayerNorm::load(get, &format!("{at}.norm2"), WIDTH, EPSILON)?,
            widen: Linear::load(get, &format!("{at}.pwff.fc1"), (WIDTH, HIDDEN))?,
            narrow: Linear::load(get, &format!("{at}.pwff.fc2"), (HIDDEN, WIDTH))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let x = x.f_add(&self.attend(&self.before_attention.forward(x)?)?)?;
        let wide = self.widen.forward(&self.before_mlp.forward(&x)?)?.f_gelu("none")?;
        x.f_add(&self.narrow.forward(&wide)?)
    }

    /// Self-attention of all heads, n×tokens×768.
    fn attend(&self, x: &Tensor) -> Result<Tensor, TchError> {
        let (n, tokens, _) = x.size3()?;
        let parts = self.inward.forward(x)?.f_view([n, tokens, 3, HEADS, WIDTH / HEADS])?.f_permute([2, 0, 3, 1, 4])?;
        let part = |at| parts.f_select(0, at);
        let (queries, keys, values) = (part(0)?, part(1)?, part(2)?);
        let mask = None::<&Tensor>;
        let seen = Tensor::f_scaled_dot_product_attention(&queries, &keys, &values, mask, 0.0, false, None, false)?;
        self.outward.forward(&seen.f_transpose(1, 2)?.f_reshape([n, tokens, WIDTH])?)
    }
}
