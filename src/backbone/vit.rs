//! Vision transformers (Dosovitskiy et al. 2021): ViT-B/16, DINOv2 (Oquab et al. 2024) and the image side of CLIP (Radford
//! et al. 2021), under the names of several libraries ([`Spelling`]).
//!
//! The embedding is the class token after the last normalisation; of CLIP its projection into the space of the texts. The
//! position embedding belongs to one picture size; of DINOv2 alone it is interpolated, as its authors do it.

use super::layers::{Get, LayerNorm, Linear};
use super::spelling::{Attention, Kindred, Spelling};
use super::weights::WeightTensor;
use crate::error::Result;

/// Which transformer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Form {
    pub(super) width: i64,
    pub(super) layers: usize,
    pub(super) heads: i64,
    pub(super) patch: i64,
    /// Side of the pictures that the position embedding is made for.
    pub(super) pixels: i64,
    pub(super) kind: Kindred,
}

const BASE: Form = Form { width: 768, layers: 12, heads: 12, patch: 16, pixels: 224, kind: Kindred::Plain };
const DINO: Form = Form { patch: 14, pixels: 518, kind: Kindred::Dino, ..BASE };
const CLIP: Form = Form { kind: Kindred::Clip { projected: 512, quick: true }, ..BASE };
const OPEN_CLIP: Form = Form { kind: Kindred::Clip { projected: 512, quick: false }, ..BASE };

impl Form {
    /// By the architecture's name.
    pub(super) fn of(architecture: &str) -> Option<Self> {
        Some(match architecture {
            "vit-b16-224" => BASE,
            "vit-b16-384" => Self { pixels: 384, ..BASE },
            "dinov2-vits14" => Self { width: 384, heads: 6, ..DINO },
            "dinov2-vitb14" => DINO,
            "dinov2-vitl14" => Self { width: 1024, heads: 16, layers: 24, ..DINO },
            "clip-vit-b32" => Self { patch: 32, ..CLIP },
            "clip-vit-b16" => CLIP,
            "openclip-vit-b32" => Self { patch: 32, ..OPEN_CLIP },
            "openclip-vit-b16" => OPEN_CLIP,
            _ => return None,
        })
    }

    /// Numbers per embedding.
    pub(super) fn dimension(&self) -> i64 {
        match self.kind {
            Kindred::Clip { projected, .. } => projected,
            _ => self.width,
        }
    }

    /// What to say of a file whose positions, of this shape, are those of other pictures.
    pub(super) fn other_pixels(&self, positions: &[usize]) -> Option<String> {
        let tokens = *positions.get(positions.len().checked_sub(2)?)? as i64;
        let side = ((tokens - 1).max(0) as f64).sqrt() as i64;
        let (found, expected) = (side * self.patch, self.pixels);
        (side * side + 1 == tokens && tokens != self.tokens(Some(tokens))).then(|| {
            format!(
                "its position embeddings are of pictures of {found}×{found} pixels, and it takes {expected}×{expected}"
            )
        })
    }

    /// Position embeddings of a file that was trained for other pictures than usual, where that is allowed.
    fn tokens(&self, in_file: Option<i64>) -> i64 {
        let usual = (self.pixels / self.patch).pow(2) + 1;
        let side = in_file.map_or(0, |tokens| ((tokens - 1).max(0) as f64).sqrt() as i64);
        match in_file {
            Some(tokens) if self.kind == Kindred::Dino && side > 0 && side * side + 1 == tokens => tokens,
            _ => usual,
        }
    }
}

#[derive(Debug, Clone)]
pub(super) struct VisionTransformer<T = WeightTensor> {
    pub(super) form: Form,
    pub(super) patches: Linear<T>,
    pub(super) class_token: T,
    pub(super) positions: T,
    pub(super) before: Option<LayerNorm<T>>,
    pub(super) layers: Vec<Layer<T>>,
    pub(super) norm: LayerNorm<T>,
    pub(super) projection: Option<Linear<T>>,
}

#[derive(Debug, Clone)]
pub(super) struct Layer<T = WeightTensor> {
    pub(super) before_attention: LayerNorm<T>,
    /// To queries, keys and values, one below the other.
    pub(super) inward: Linear<T>,
    pub(super) outward: Linear<T>,
    pub(super) scale_attention: Option<T>,
    pub(super) before_mlp: LayerNorm<T>,
    pub(super) widen: Linear<T>,
    pub(super) narrow: Linear<T>,
    pub(super) scale_mlp: Option<T>,
}

impl VisionTransformer {
    /// Build from tensors that `get` gives, under these names; `shape` is that of a tensor of the file.
    pub(super) fn build(
        form: Form,
        names: &Spelling,
        shape: &dyn Fn(&str) -> Option<Vec<usize>>,
        get: &mut Get<'_>,
    ) -> Result<Self> {
        let Form { width, patch, kind, .. } = form;
        let is_clip = matches!(kind, Kindred::Clip { .. });
        // with or without the axes of length 1 before them
        let from = if names.flat { 0 } else { 2 };
        let shape_of = |lengths: &[i64]| [&[1, 1][..from.min(3 - lengths.len())], lengths].concat();
        let class_token = get(names.class_token, &shape_of(&[width]))?;
        let bias = if is_clip { None } else { Some(get(&format!("{}.bias", names.patches), &[width])?) };
        let patches = Linear { weight: get(&format!("{}.weight", names.patches), &[width, 3, patch, patch])?, bias };
        let in_file = shape(names.positions).and_then(|shape| Some(*shape.get(shape.len().checked_sub(2)?)? as i64));
        let tokens = form.tokens(in_file);
        let positions = get(names.positions, &shape_of(&[tokens, width]))?;
        let (class_token, positions) = (class_token.reshaped(&[1, 1, width]), positions.reshaped(&[1, tokens, width]));
        let mut norm = |name: &str| LayerNorm::load(get, name, width, names.epsilon);
        let before = if is_clip { Some(norm(names.before)?) } else { None };
        let last = norm(names.norm)?;
        let layers = (0..form.layers).map(|layer| Layer::build(form, names, layer, get)).collect::<Result<_>>()?;
        let projection = match (kind, names.projection) {
            (Kindred::Clip { projected, .. }, (name, true)) => {
                let matrix = get(name, &[width, projected])?;
                Some(Linear { weight: matrix.transposed(), bias: None })
            }
            (Kindred::Clip { projected, .. }, (name, false)) => {
                let bias = names.projection_bias.map(|bias| get(bias, &[projected])).transpose()?;
                Some(Linear { weight: get(name, &[projected, width])?, bias })
            }
            _ => None,
        };
        Ok(Self { form, patches, class_token, positions, before, layers, norm: last, projection })
    }
}

impl Layer {
    fn build(form: Form, names: &Spelling, layer: usize, get: &mut Get<'_>) -> Result<Self> {
        let width = form.width;
        let hidden = 4 * width;
        let at = |name: &str| format!("{}.{name}", names.layer.replace("{}", &layer.to_string()));
        let inward = match names.attention {
            Attention::Packed { weight: matrix, bias } => {
                Linear { weight: get(&at(matrix), &[3 * width, width])?, bias: Some(get(&at(bias), &[3 * width])?) }
            }
            Attention::Apart(parts) => {
                let (mut weights, mut biases) = (Vec::with_capacity(3), Vec::with_capacity(3));
                for part in parts {
                    weights.push(get(&at(&format!("{part}.weight")), &[width, width])?);
                    biases.push(get(&at(&format!("{part}.bias")), &[width])?);
                }
                let (weight, bias) = (WeightTensor::stacked(&weights), WeightTensor::stacked(&biases));
                Linear { weight, bias: Some(bias) }
            }
        };
        let mut scale = |name: &str| match form.kind {
            Kindred::Dino => get(&at(name), &[width]).map(Some),
            _ => Ok(None),
        };
        let (scale_attention, scale_mlp) = (scale(names.scales.0)?, scale(names.scales.1)?);
        Ok(Self {
            before_attention: LayerNorm::load(get, &at(names.before_attention), width, names.layer_epsilon)?,
            inward,
            outward: Linear::load(get, &at(names.outward), (width, width))?,
            scale_attention,
            before_mlp: LayerNorm::load(get, &at(names.before_mlp), width, names.layer_epsilon)?,
            widen: Linear::load(get, &at(names.widen), (width, hidden))?,
            narrow: Linear::load(get, &at(names.narrow), (hidden, width))?,
            scale_mlp,
        })
    }
}
