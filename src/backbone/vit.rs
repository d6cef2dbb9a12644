//! Vision transformers (Dosovitskiy et al. 2021): ViT-B/16, DINOv2 (Oquab et al. 2024) and the image side of CLIP (Radford
//! et al. 2021), under the names of several libraries ([`Spelling`]).
//!
//! The embedding is the class token after the last normalisation; of CLIP its projection into the space of the texts. The
//! position embedding belongs to one picture size; of DINOv2 alone it is interpolated, as its authors do it.

use tch::{Kind, TchError, Tensor};

use super::layers::{Get, LayerNorm, Linear, Place, Weight, weight};
use super::spelling::{Attention, Kindred, Spelling};
use crate::error::Result;

/// Which transformer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Form {
    pub(super) width: i64,
    pub(super) layers: usize,
    heads: i64,
    patch: i64,
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
pub(super) struct VisionTransformer {
    form: Form,
    patches: Linear,
    class_token: Weight,
    positions: Weight,
    before: Option<LayerNorm>,
    layers: Vec<Layer>,
    norm: LayerNorm,
    projection: Option<Linear>,
}

#[derive(Debug, Clone)]
struct Layer {
    before_attention: LayerNorm,
    /// To queries, keys and values, one below the other.
    inward: Linear,
    outward: Linear,
    scale_attention: Option<Weight>,
    before_mlp: LayerNorm,
    widen: Linear,
    narrow: Linear,
    scale_mlp: Option<Weight>,
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
        let class_token = weight(get, names.class_token, &shape_of(&[width]))?;
        let bias = if is_clip { None } else { Some(weight(get, &format!("{}.bias", names.patches), &[width])?) };
        let patches =
            Linear { weight: weight(get, &format!("{}.weight", names.patches), &[width, 3, patch, patch])?, bias };
        let in_file = shape(names.positions).and_then(|shape| Some(*shape.get(shape.len().checked_sub(2)?)? as i64));
        let tokens = form.tokens(in_file);
        let positions = weight(get, names.positions, &shape_of(&[tokens, width]))?;
        let (class_token, positions) =
            (Weight(class_token.f_view([1, 1, width])?), Weight(positions.f_view([1, tokens, width])?));
        let mut norm = |name: &str| LayerNorm::load(get, name, width, names.epsilon);
        let before = if is_clip { Some(norm(names.before)?) } else { None };
        let last = norm(names.norm)?;
        let layers = (0..form.layers).map(|layer| Layer::build(form, names, layer, get)).collect::<Result<_>>()?;
        let projection = match (kind, names.projection) {
            (Kindred::Clip { projected, .. }, (name, true)) => {
                let matrix = get(name, &[width, projected])?;
                Some(Linear { weight: Weight(matrix.f_transpose(0, 1)?.f_contiguous()?), bias: None })
            }
            (Kindred::Clip { projected, .. }, (name, false)) => {
                let bias = names.projection_bias.map(|bias| weight(get, bias, &[projected])).transpose()?;
                Some(Linear { weight: weight(get, name, &[projected, width])?, bias })
            }
            _ => None,
        };
        Ok(Self { form, patches, class_token, positions, before, layers, norm: last, projection })
    }

    /// For inference elsewhere. What flows beside the layers stays f32.
    pub(super) fn moved(&self, place: Place) -> Result<Self, TchError> {
        let layer = |layer: &Layer| -> Result<Layer, TchError> {
            let kept = |weight: &Option<Weight>| weight.as_ref().map(|weight| weight.kept(place)).transpose();
            Ok(Layer {
                before_attention: layer.before_attention.moved(place)?,
                inward: layer.inward.moved(place)?,
                outward: layer.outward.moved(place)?,
                scale_attention: kept(&layer.scale_attention)?,
                before_mlp: layer.before_mlp.moved(place)?,
                widen: layer.widen.moved(place)?,
                narrow: layer.narrow.moved(place)?,
                scale_mlp: kept(&layer.scale_mlp)?,
            })
        };
        Ok(Self {
            form: self.form,
            patches: self.patches.moved(place)?,
            class_token: self.class_token.kept(place)?,
            positions: self.positions.kept(place)?,
            before: self.before.as_ref().map(|norm| norm.moved(place)).transpose()?,
            layers: self.layers.iter().map(layer).collect::<Result<_, _>>()?,
            norm: self.norm.moved(place)?,
            projection: self.projection.as_ref().map(|projection| projection.moved(place)).transpose()?,
        })
    }

    /// Images (n×3×h×w) to embeddings (n×d).
    pub(super) fn embed(&self, images: &Tensor) -> Result<Tensor, TchError> {
        let Form { width, patch, .. } = self.form;
        let n = images.size().first().copied().unwrap_or(0);
        let bias = self.patches.bias.as_deref();
        let x = images.f_conv2d(&self.patches.weight, bias, [patch; 2], [0; 2], [1; 2], 1)?;
        let (rows, columns) = match *x.size() {
            [_, _, rows, columns] => (rows, columns),
            _ => (0, 0),
        };
        let x = x.f_flatten(2, -1)?.f_transpose(1, 2)?.f_to_kind(Kind::Float)?;
        let class_token = self.class_token.f_expand([n, 1, width], false)?;
        let mut x = Tensor::f_cat(&[class_token, x], 1)?.f_add(&self.positions(rows, columns)?)?;
        if let Some(norm) = &self.before {
            x = norm.forward(&x)?;
        }
        for layer in &self.layers {
            x = layer.forward(&x, self.form)?;
        }
        // each token is normalised by itself: the others need not be
        let token = self.norm.forward(&x.f_select(1, 0)?)?;
        self.projection.as_ref().map_or(Ok(token.shallow_clone()), |projection| projection.forward(&token))
    }

    /// Position embeddings (1×tokens×width) for so many rows and columns of patches: interpolated as DINOv2's authors do
    /// it, by a factor that is a tenth of a patch too large.
    fn positions(&self, rows: i64, columns: i64) -> Result<Tensor, TchError> {
        const OFFSET: f64 = 0.1;
        let tokens = self.positions.size().get(1).copied().unwrap_or(0);
        let side = ((tokens - 1).max(0) as f64).sqrt() as i64;
        if self.form.kind != Kindred::Dino || (rows, columns) == (side, side) {
            return Ok(self.positions.shallow_clone());
        }
        let (class, patches) = (self.positions.f_narrow(1, 0, 1)?, self.positions.f_narrow(1, 1, tokens - 1)?);
        let map = patches.f_reshape([1, side, side, self.form.width])?.f_permute([0, 3, 1, 2])?;
        let scale = |to: i64| (to as f64 + OFFSET) / side as f64;
        let map = map.f_upsample_bicubic2d([rows, columns], false, scale(rows), scale(columns))?;
        Tensor::f_cat(&[class, map.f_flatten(2, -1)?.f_transpose(1, 2)?], 1)
    }
}

impl Layer {
    fn build(form: Form, names: &Spelling, layer: usize, get: &mut Get<'_>) -> Result<Self> {
        let width = form.width;
        let hidden = 4 * width;
        let at = |name: &str| format!("{}.{name}", names.layer.replace("{}", &layer.to_string()));
        let inward = match names.attention {
            Attention::Packed { weight: matrix, bias } => Linear {
                weight: weight(get, &at(matrix), &[3 * width, width])?,
                bias: Some(weight(get, &at(bias), &[3 * width])?),
            },
            Attention::Apart(parts) => {
                let (mut weights, mut biases) = (Vec::with_capacity(3), Vec::with_capacity(3));
                for part in parts {
                    weights.push(get(&at(&format!("{part}.weight")), &[width, width])?);
                    biases.push(get(&at(&format!("{part}.bias")), &[width])?);
                }
                let weight = Weight(Tensor::f_cat(&weights, 0)?);
                Linear { weight, bias: Some(Weight(Tensor::f_cat(&biases, 0)?)) }
            }
        };
        let mut scale = |name: &str| match form.kind {
            Kindred::Dino => weight(get, &at(name), &[width]).map(Some),
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

    fn forward(&self, x: &Tensor, form: Form) -> Result<Tensor, TchError> {
        let scaled = |y: Tensor, scale: &Option<Weight>| match scale {
            Some(scale) => y.f_mul(scale),
            None => Ok(y),
        };
        let seen = self.attend(&self.before_attention.forward(x)?, form)?;
        let x = x.f_add(&scaled(seen, &self.scale_attention)?)?;
        let wide = self.widen.forward(&self.before_mlp.forward(&x)?)?;
        let wide = match form.kind {
            Kindred::Clip { quick: true, .. } => wide.f_mul(&wide.f_mul_scalar(1.702)?.f_sigmoid()?)?,
            _ => wide.f_gelu("none")?,
        };
        x.f_add(&scaled(self.narrow.forward(&wide)?, &self.scale_mlp)?)
    }

    /// Self-attention of all heads, n×tokens×width.
    fn attend(&self, x: &Tensor, Form { width, heads, .. }: Form) -> Result<Tensor, TchError> {
        let (n, tokens, _) = x.size3()?;
        let parts = self.inward.forward(x)?.f_view([n, tokens, 3, heads, width / heads])?.f_permute([2, 0, 3, 1, 4])?;
        let part = |at| parts.f_select(0, at);
        let (queries, keys, values) = (part(0)?, part(1)?, part(2)?);
        let mask = None::<&Tensor>;
        let seen = Tensor::f_scaled_dot_product_attention(&queries, &keys, &values, mask, 0.0, false, None, false)?;
        self.outward.forward(&seen.f_transpose(1, 2)?.f_reshape([n, tokens, width])?)
    }
}
