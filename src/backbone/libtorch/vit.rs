//! Vision transformers as libtorch runs them.

use tch::{Kind, TchError, Tensor};

use super::layers::{Place, Weight};
use crate::backbone::spelling::Kindred;
use crate::backbone::vit::{Form, Layer, VisionTransformer};
use crate::backbone::weights::WeightTensor;

impl VisionTransformer {
    /// What flows beside the layers stays f32.
    pub(super) fn on(&self, place: Place) -> Result<VisionTransformer<Weight>, TchError> {
        let layer = |layer: &Layer| -> Result<Layer<Weight>, TchError> {
            let kept =
                |weight: &Option<WeightTensor>| weight.as_ref().map(|weight| Weight::kept(weight, place)).transpose();
            Ok(Layer {
                before_attention: layer.before_attention.on(place)?,
                inward: layer.inward.on(place)?,
                outward: layer.outward.on(place)?,
                scale_attention: kept(&layer.scale_attention)?,
                before_mlp: layer.before_mlp.on(place)?,
                widen: layer.widen.on(place)?,
                narrow: layer.narrow.on(place)?,
                scale_mlp: kept(&layer.scale_mlp)?,
            })
        };
        Ok(VisionTransformer {
            form: self.form,
            patches: self.patches.on(place)?,
            class_token: Weight::kept(&self.class_token, place)?,
            positions: Weight::kept(&self.positions, place)?,
            before: self.before.as_ref().map(|norm| norm.on(place)).transpose()?,
            layers: self.layers.iter().map(layer).collect::<Result<_, _>>()?,
            norm: self.norm.on(place)?,
            projection: self.projection.as_ref().map(|projection| projection.on(place)).transpose()?,
        })
    }
}

impl VisionTransformer<Weight> {
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

impl Layer<Weight> {
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
