//! The layers that networks are made of, written once over what their weights are: numbers of a file
//! ([`WeightTensor`]), or tensors of libtorch, which run them (`libtorch`).

use super::weights::WeightTensor;
use crate::error::Result;

const BN_EPSILON: f64 = 1e-5;

/// Gives a tensor by name and shape: out of a file, or freshly made.
pub(super) type Get<'a, T = WeightTensor> = dyn FnMut(&str, &[i64]) -> Result<T> + 'a;

/// A square convolution without bias, padded so that stride 1 keeps the size.
#[derive(Debug, Clone)]
pub(super) struct Conv<T = WeightTensor> {
    /// to × from / groups × size × size
    pub(super) weight: T,
    pub(super) stride: i64,
    pub(super) padding: i64,
    /// Channels are convolved with those of their group alone.
    pub(super) groups: i64,
}

impl<T> Conv<T> {
    pub(super) fn load(get: &mut Get<'_, T>, name: &str, channels: (i64, i64), size: i64, stride: i64) -> Result<Self> {
        Self::grouped(get, name, channels, size, stride, 1)
    }

    fn grouped(
        get: &mut Get<'_, T>,
        name: &str,
        (from, to): (i64, i64),
        size: i64,
        stride: i64,
        groups: i64,
    ) -> Result<Self> {
        let weight = get(&format!("{name}.weight"), &[to, from / groups, size, size])?;
        Ok(Self { weight, stride, padding: size / 2, groups })
    }
}

impl Conv {
    /// Output channels.
    pub(super) fn channels(&self) -> usize {
        self.weight.shape.first().copied().unwrap_or(0)
    }
}

/// Batch normalisation.
#[derive(Debug, Clone)]
pub(super) struct BatchNorm<T = WeightTensor> {
    pub(super) weight: T,
    pub(super) bias: T,
    pub(super) mean: T,
    pub(super) var: T,
}

impl<T> BatchNorm<T> {
    /// Added to the variance.
    pub(super) const EPSILON: f64 = BN_EPSILON;

    pub(super) fn load(get: &mut Get<'_, T>, name: &str, channels: i64) -> Result<Self> {
        Ok(Self {
            weight: get(&format!("{name}.weight"), &[channels])?,
            bias: get(&format!("{name}.bias"), &[channels])?,
            mean: get(&format!("{name}.running_mean"), &[channels])?,
            var: get(&format!("{name}.running_var"), &[channels])?,
        })
    }
}

impl BatchNorm {
    /// What it does with running statistics: scale and shift of each channel.
    pub(super) fn affine(&self) -> (Vec<f64>, Vec<f64>) {
        let Self { weight, bias, mean, var } = self;
        let scale: Vec<f64> = wide(weight).zip(wide(var)).map(|(w, var)| w / (var + BN_EPSILON).sqrt()).collect();
        let shift = wide(bias).zip(wide(mean).zip(&scale)).map(|(bias, (mean, scale))| bias - mean * scale).collect();
        (scale, shift)
    }
}

/// A convolution and its batch normalisation.
#[derive(Debug, Clone)]
pub(super) struct ConvNorm<T = WeightTensor> {
    pub(super) conv: Conv<T>,
    pub(super) norm: BatchNorm<T>,
    /// Only for inference: `conv` has the normalisation in it, and this is its bias.
    pub(super) bias: Option<T>,
}

impl<T> ConvNorm<T> {
    /// `names`: of the convolution and the normalisation.
    pub(super) fn load(
        get: &mut Get<'_, T>,
        names: (&str, &str),
        channels: (i64, i64),
        size: i64,
        stride: i64,
    ) -> Result<Self> {
        Self::grouped(get, names, channels, size, stride, 1)
    }

    /// The same in groups of channels.
    pub(super) fn grouped(
        get: &mut Get<'_, T>,
        names: (&str, &str),
        channels: (i64, i64),
        size: i64,
        stride: i64,
        groups: i64,
    ) -> Result<Self> {
        let conv = Conv::grouped(get, names.0, channels, size, stride, groups)?;
        Ok(Self { conv, norm: BatchNorm::load(get, names.1, channels.1)?, bias: None })
    }

    /// Rows and columns of the window.
    pub(super) fn size(&self) -> usize {
        2 * self.conv.padding as usize + 1
    }

    pub(super) fn stride(&self) -> usize {
        self.conv.stride as usize
    }

    /// Whether its channels are in groups.
    pub(super) fn is_grouped(&self) -> bool {
        self.conv.groups > 1
    }
}

impl ConvNorm {
    /// Weights (to × from × size × size) and biases of the convolution that gives the same, with running statistics.
    pub(super) fn folded(&self) -> (Vec<f32>, Vec<f32>) {
        let (scale, shift) = self.norm.affine();
        let weights = &self.conv.weight.values;
        let each = weights.len() / scale.len();
        let scaled = weights.chunks_exact(each).zip(&scale);
        let weights = scaled.flat_map(|(weights, scale)| weights.iter().map(move |&w| (f64::from(w) * scale) as f32));
        (weights.collect(), shift.into_iter().map(|shift| shift as f32).collect())
    }
}

/// A linear map, with or without a bias; also a convolution whose bias is its own.
#[derive(Debug, Clone)]
pub(super) struct Linear<T = WeightTensor> {
    /// to × from
    pub(super) weight: T,
    pub(super) bias: Option<T>,
}

impl<T> Linear<T> {
    pub(super) fn load(get: &mut Get<'_, T>, name: &str, (from, to): (i64, i64)) -> Result<Self> {
        let weight = get(&format!("{name}.weight"), &[to, from])?;
        Ok(Self { weight, bias: Some(get(&format!("{name}.bias"), &[to])?) })
    }
}

/// Layer normalisation over the last axis.
#[derive(Debug, Clone)]
pub(super) struct LayerNorm<T = WeightTensor> {
    pub(super) weight: T,
    pub(super) bias: T,
    pub(super) width: i64,
    pub(super) epsilon: f64,
}

impl<T> LayerNorm<T> {
    pub(super) fn load(get: &mut Get<'_, T>, name: &str, width: i64, epsilon: f64) -> Result<Self> {
        let (weight_name, bias_name) = (format!("{name}.weight"), format!("{name}.bias"));
        Ok(Self { weight: get(&weight_name, &[width])?, bias: get(&bias_name, &[width])?, width, epsilon })
    }
}

/// The values of a tensor.
fn wide(tensor: &WeightTensor) -> impl Iterator<Item = f64> + '_ {
    tensor.values.iter().map(|&value| f64::from(value))
}

impl WeightTensor {
    /// Zeros.
    pub(super) fn zeros(shape: &[i64]) -> Self {
        let shape: Vec<usize> = shape.iter().map(|&n| n as usize).collect();
        let count = shape.iter().product();
        Self { shape, values: vec![0.0; count].into() }
    }

    /// The same numbers in another shape.
    pub(super) fn reshaped(self, shape: &[i64]) -> Self {
        Self { shape: shape.iter().map(|&n| n as usize).collect(), ..self }
    }

    /// A matrix, its rows as columns.
    pub(super) fn transposed(&self) -> Self {
        let (rows, columns) = match *self.shape {
            [rows, columns] => (rows, columns),
            _ => (1, self.values.len()),
        };
        let values: Vec<f32> =
            (0..columns).flat_map(|column| (0..rows).map(move |row| self.values[row * columns + column])).collect();
        Self { shape: vec![columns, rows], values: values.into() }
    }

    /// Tensors one below the other.
    pub(super) fn stacked(parts: &[Self]) -> Self {
        let mut shape = parts.first().map(|part| part.shape.clone()).unwrap_or_default();
        if let Some(first) = shape.first_mut() {
            *first = parts.iter().filter_map(|part| part.shape.first()).sum();
        }
        let values: Vec<f32> = parts.iter().flat_map(|part| part.values.iter().copied()).collect();
        Self { shape, values: values.into() }
    }
}
