//! A bank's vectors on a device, and the bound of the error of its products.

use std::sync::{Arc, Mutex};

use tch::{Device, Kind, Tensor};

use super::cuda;
use crate::error::{Error, Result};

/// Bytes per product of a tile: itself 4, topk's values, rows and sort 12, masks 3, places in the band 16.
const TILE_BYTES: usize = 36;
/// Bytes per value of a query: in f32 and in low precision, and while its norms are taken.
const QUERY_BYTES: usize = 24;
/// Bytes per kept product: its value and row, both once more while they are merged and sorted, masks and places.
const KEPT_BYTES: usize = 96;
/// Bytes per value of a measured pair: query and row in f32 and in f64, and what the norm of their difference takes.
pub(super) const PAIR_BYTES: usize = 32;
/// A large tile is wide rather than high: this many queries; a small one is square.
const TILE_QUERIES: usize = 1024;
/// Values of a tile or of an uploaded block: larger ones are no faster, and some kernels count in 32 bits.
const MOST_VALUES: usize = 1 << 28;
/// The budget on a device that does not tell how much memory is free: 1 GiB.
const DEFAULT_BUDGET: usize = 1 << 30;

/// What the first products are computed in. Results do not depend on it, only time and memory do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// bf16 operands, f32 sums and results. CUDA multiplies on tensor cores; other devices round to bf16 and
    /// multiply in f32.
    Bf16,
    /// f32; on CUDA the bound allows for TF32, which a setting of the process can turn on.
    F32,
}

impl Precision {
    /// The faster of those that work on `device`: bf16 on CUDA where it is right on a small product, else f32.
    pub fn best(device: Device) -> Self {
        let probe = || -> Result<bool> {
            let ones = Tensor::f_ones([16, 16], (Kind::BFloat16, device))?;
            let sum = product(&ones, &ones, Self::Bf16)?.f_sum(Kind::Double)?.f_double_value(&[])?;
            Ok(sum == 16f64.powi(3))
        };
        if device.is_cuda() && probe().unwrap_or(false) { Self::Bf16 } else { Self::F32 }
    }
}

/// All bank vectors, searched exactly on a device: resident there where they fit, uploaded by blocks otherwise.
///
/// Searches take turns: the budget is that of one. However small it is, one row of the bank, one query with its
/// k + k/2 + 128 kept products (96 bytes each), and one pair of both are held at least.
pub struct DeviceBank {
    pub(super) device: Device,
    pub(super) precision: Precision,
    pub(super) rows: usize,
    pub(super) dimension: usize,
    pub(super) plan: Plan,
    norms: Norms,
    /// Where blocks are uploaded from; `None` when all are resident.
    host: Option<Arc<Vec<f32>>>,
    pub(super) resident: Mutex<Vec<Block>>,
}

impl std::fmt::Debug for DeviceBank {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { device, precision, rows, plan, .. } = self;
        write!(f, "DeviceBank {{ {rows} rows on {device:?} in {precision:?}, {plan:?} }}")
    }
}

/// How a budget of bytes is spent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    resident: bool,
    /// Bank rows per block.
    pub(super) block: usize,
    /// Bytes for everything but the bank: half for a tile of products, a quarter each for queries and pairs.
    pub(super) work: usize,
}

impl Plan {
    fn new(rows: usize, dimension: usize, row_bytes: usize, budget: usize) -> Self {
        let bank = rows.saturating_mul(row_bytes);
        let resident = bank <= budget / 4 * 3;
        let work = if resident { budget - bank } else { budget / 2 };
        let tile = (work / 2 / TILE_BYTES).min(MOST_VALUES);
        let fits = if resident { rows } else { budget / 2 / row_bytes };
        let block =
            (tile / TILE_QUERIES).max(tile.isqrt()).min(MOST_VALUES / dimension).min(fits).clamp(1, rows.max(1));
        Self { resident, block, work }
    }

    /// Queries that meet the bank together, and queries per tile.
    pub(super) fn queries(&self, dimension: usize, kept: usize) -> (usize, usize) {
        let group = (self.work / 4 / (QUERY_BYTES * dimension + KEPT_BYTES * kept)).max(1);
        let tile = (self.work / 2 / TILE_BYTES).min(MOST_VALUES) / self.block;
        (group, tile.min(MOST_VALUES / kept).clamp(1, group))
    }
}

/// What the error bound needs to know of the bank: the largest and smallest ‖x‖, and the largest ‖x − low(x)‖.
#[derive(Debug, Clone, Copy)]
pub(super) struct Norms {
    longest: f64,
    shortest: f64,
    residual: f64,
}

/// Consecutive bank rows on the device, as they are and in low precision.
pub(super) struct Block {
    pub(super) start: usize,
    pub(super) len: usize,
    pub(super) rows: Tensor,
    pub(super) low: Tensor,
}

impl DeviceBank {
    /// Put normalised vectors, row-major n×`dimension`, on `device`. The vectors are let go of when all fit there.
    ///
    /// `budget` bounds the device memory, in bytes; `None` takes four fifths of what CUDA says is free, and 1 GiB
    /// on other devices. `precision`: `None` takes [`Precision::best`].
    ///
    /// Errors: a failure of libtorch (out of memory, say), vectors that are not finite.
    pub fn new(
        values: Arc<Vec<f32>>,
        dimension: usize,
        device: Device,
        budget: Option<usize>,
        precision: Option<Precision>,
    ) -> Result<Self> {
        assert!(dimension > 0 && values.len().is_multiple_of(dimension), "n×d values in rows of d");
        let _no_grad = tch::no_grad_guard();
        let precision = precision.unwrap_or_else(|| Precision::best(device));
        let budget = match (budget, device) {
            (Some(budget), _) => budget,
            (None, Device::Cuda(index)) => cuda::free_memory(index)? / 5 * 4,
            (None, _) => DEFAULT_BUDGET,
        };
        let low_bytes = match precision {
            Precision::Bf16 if device.is_cuda() => 2,
            Precision::Bf16 => 4,
            Precision::F32 => 0,
        };
        let rows = values.len() / dimension;
        let plan = Plan::new(rows, dimension, dimension * (4 + low_bytes), budget);
        let norms = Norms { longest: 0.0, shortest: f64::INFINITY, residual: 0.0 };
        let resident = Mutex::new(Vec::new());
        let mut bank = Self { device, precision, rows, dimension, plan, norms, host: None, resident };
        let mut blocks = Vec::new();
        for start in (0..rows).step_by(plan.block) {
            let block = bank.upload(&values, start)?;
            bank.take_norms(&block)?;
            if plan.resident {
                blocks.push(block);
            }
        }
        bank.resident = Mutex::new(blocks);
        bank.host = (!plan.resident).then_some(values);
        Ok(bank)
    }

    /// Number of vectors.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no vector.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Whether all vectors stay on the device.
    pub fn is_resident(&self) -> bool {
        self.plan.resident
    }

    /// Every block in turn; one that is not resident is freed before the next is uploaded.
    pub(super) fn each_block(&self, resident: &[Block], mut visit: impl FnMut(&Block) -> Result<()>) -> Result<()> {
        match &self.host {
            None => resident.iter().try_for_each(visit),
            Some(host) => {
                (0..self.rows).step_by(self.plan.block).try_for_each(|start| visit(&self.upload(host, start)?))
            }
        }
    }

    fn upload(&self, values: &[f32], start: usize) -> Result<Block> {
        let len = self.plan.block.min(self.rows - start);
        let rows = self.matrix(&values[start * self.dimension..(start + len) * self.dimension])?;
        let low = self.lower(&rows)?;
        Ok(Block { start, len, rows, low })
    }

    /// Row-major values as a matrix on the device.
    pub(super) fn matrix(&self, values: &[f32]) -> Result<Tensor> {
        Ok(Tensor::f_from_slice(values)?.f_view([-1, self.dimension as i64])?.f_to_device(self.device)?)
    }

    /// The operands of the products: rounded to bf16, or the rows themselves.
    pub(super) fn lower(&self, rows: &Tensor) -> Result<Tensor> {
        Ok(match self.precision {
            Precision::F32 => rows.f_alias()?,
            Precision::Bf16 if self.device.is_cuda() => rows.f_to_kind(Kind::BFloat16)?,
            // a bf16 product on a CPU gives bf16, and sums in what the kernel likes
            Precision::Bf16 => rows.f_to_kind(Kind::BFloat16)?.f_to_kind(Kind::Float)?,
        })
    }

    /// ‖x − low(x)‖ of every row; the f32 difference of a number and its bf16 is exact.
    pub(super) fn residuals(&self, rows: &Tensor, low: &Tensor) -> Result<Vec<f64>> {
        lengths(&rows.f_sub(&low.f_to_kind(Kind::Float)?)?)
    }

    /// Bring the norms up to date with a block, some rows at a time: in f64 they are large.
    fn take_norms(&mut self, block: &Block) -> Result<()> {
        let piece = (self.plan.work / (16 * self.dimension)).clamp(1, block.len);
        for from in (0..block.len).step_by(piece) {
            let len = piece.min(block.len - from) as i64;
            let rows = block.rows.f_narrow(0, from as i64, len)?;
            for length in finite(lengths(&rows)?, "the bank")? {
                self.norms.longest = self.norms.longest.max(length);
                self.norms.shortest = self.norms.shortest.min(length);
            }
            if self.precision == Precision::Bf16 {
                let residuals = self.residuals(&rows, &block.low.f_narrow(0, from as i64, len)?)?;
                self.norms.residual = residuals.into_iter().fold(self.norms.residual, f64::max);
            }
        }
        Ok(())
    }

    /// Half the width of a query's band, rounded up; not finite where the query is not.
    pub(super) fn half_width(&self, length: f64, residual: f64) -> f32 {
        let Norms { longest, shortest, .. } = self.norms;
        let error = self.product_error(length, residual);
        let width = 2.0 * error + (longest * longest - shortest * shortest) / 2.0;
        // p̃ₖ ± w is itself rounded to f32, and so is w
        let scale = length * longest + width;
        (width + scale * 2f64.powi(-21)) as f32 + f32::MIN_POSITIVE
    }

    /// Bound ε of |p̃ − ⟨q, x⟩| over all rows x, for a query of this length and residual ‖q − low(q)‖.
    ///
    /// Operands: ⟨q, x⟩ − ⟨q̂, x̂⟩ = ⟨q − q̂, x⟩ + ⟨q̂, x − x̂⟩. Sums: γ·‖q̂‖‖x̂‖ with γ = (d + 8)·u, twice what f32 in
    /// any order needs, and on CUDA eight times: tensor cores cut off rather than round, and keep their own order
    /// (Fasi, Higham, Mikaitis, Pranesh, *Numerical behavior of NVIDIA tensor cores*, 2021). The result is f32.
    pub(super) fn product_error(&self, length: f64, residual: f64) -> f64 {
        let cuda = self.device.is_cuda();
        let du = (self.dimension as f64 + 8.0) * if cuda { 2f64.powi(-21) } else { 2f64.powi(-23) };
        // no bound: every row is in the band
        let gamma = if du < 0.5 { du / (1.0 - du) } else { f64::INFINITY };
        let Norms { longest, residual: bank_residual, .. } = self.norms;
        let rounding = match self.precision {
            Precision::Bf16 => residual * longest + (length + residual) * bank_residual,
            // TF32 keeps 10 bits of both operands
            Precision::F32 if cuda => (2f64.powi(-9) + 2f64.powi(-20)) * length * longest,
            Precision::F32 => 0.0,
        };
        // the norms are f64 sums, and numbers under 1e-38 may be flushed
        (rounding + gamma * 1.01 * (length + residual) * (longest + bank_residual)) * (1.0 + 1e-9) + 1e-30
    }
}

/// All products in f32: queries m×d, rows n×d, both as [`DeviceBank::lower`] gives them.
pub(super) fn product(queries: &Tensor, rows: &Tensor, precision: Precision) -> Result<Tensor> {
    let columns = rows.f_tr()?;
    Ok(match precision {
        // f_mm would round the result to bf16, and may add up split sums in bf16
        Precision::Bf16 if queries.device().is_cuda() => queries.f_mm_dtype(&columns, Kind::Float)?,
        _ => queries.f_mm(&columns)?,
    })
}

/// The Euclidean length of every row, summed in f64.
pub(super) fn lengths(rows: &Tensor) -> Result<Vec<f64>> {
    Ok(Vec::try_from(rows.f_norm_scalaropt_dim_dtype(2, 1, false, Kind::Double)?)?)
}

/// The lengths, where all vectors are finite.
pub(super) fn finite(lengths: Vec<f64>, of: &str) -> Result<Vec<f64>> {
    let bad = lengths.iter().position(|length| !length.is_finite());
    bad.map_or(Ok(lengths), |_| Err(Error::DeviceSearch { reason: format!("a vector of {of} is not finite") }))
}
