//! Exact search on a libtorch device: products in low precision choose, differences in f32 decide.
//!
//! A product p̃ of the device is off by at most ε from p = ⟨q, x⟩ for every row x of the bank (`product_error`,
//! from measured norms and residuals). With S = max‖x‖² − min‖x‖², p̃ₖ the k-th largest p̃ and w = 2ε + S/2:
//! - k rows have p ≥ p̃ₖ − ε, so the k-th neighbour's d² = ‖q‖² + ‖x‖² − 2p is at most ‖q‖² + max‖x‖² − 2(p̃ₖ − ε),
//!   and a row with p̃ < p̃ₖ − w is farther than that;
//! - at most k − 1 rows have p > p̃ₖ + ε, so its d² is at least ‖q‖² + min‖x‖² − 2(p̃ₖ + ε), and a row with
//!   p̃ > p̃ₖ + w is nearer than that.
//!
//! So with `a` rows above the band p̃ₖ ± w, the k-th distance is the (k − a)-th smallest in the band, and only the
//! band is measured. A first pass over the bank keeps the k largest products of a query and a margin. Where the
//! smallest kept one lies below the band, the kept ones hold it: the certificate. Where it does not (copies and
//! near-copies), a second pass takes the band out of all products, which needs no margin and cannot fail.
//!
//! A measured distance is off by 2⁻²⁴ of itself: each difference is rounded once to f32, the norm is taken in f64.

mod batch;
mod cuda;

use std::sync::{Arc, Mutex, PoisonError};

use tch::{Device, Kind, Tensor};

use batch::Batch;
pub use cuda::require_cuda;

use super::{Found, Neighbor, NeighborIndex, Question, Work};
use crate::error::{Error, Result};
use crate::index::vectors::Vectors;

/// Products kept beyond k + k/2: a margin that real embeddings seldom fill.
const MARGIN: usize = 128;
/// Bytes per product of a tile: itself 4, topk's values, rows and sort 12, masks 3, places in the band 16.
const TILE_BYTES: usize = 36;
/// Bytes per value of a query: in f32 and in low precision, and while its norms are taken.
const QUERY_BYTES: usize = 24;
/// Bytes per kept product: its value and row, both once more while they are merged and sorted, masks and places.
const KEPT_BYTES: usize = 96;
/// Bytes per value of a measured pair: query, row, and their difference in f32 and in f64.
const PAIR_BYTES: usize = 24;
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
    device: Device,
    precision: Precision,
    rows: usize,
    dimension: usize,
    plan: Plan,
    norms: Norms,
    /// Where blocks are uploaded from; `None` when all are resident.
    host: Option<Arc<Vec<f32>>>,
    resident: Mutex<Vec<Block>>,
}

impl std::fmt::Debug for DeviceBank {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { device, precision, rows, plan, .. } = self;
        write!(f, "DeviceBank {{ {rows} rows on {device:?} in {precision:?}, {plan:?} }}")
    }
}

/// How a budget of bytes is spent.
#[derive(Debug, Clone, Copy)]
struct Plan {
    resident: bool,
    /// Bank rows per block.
    block: usize,
    /// Bytes for everything but the bank: half for a tile of products, a quarter each for queries and pairs.
    work: usize,
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
    fn queries(&self, dimension: usize, kept: usize) -> (usize, usize) {
        let group = (self.work / 4 / (QUERY_BYTES * dimension + KEPT_BYTES * kept)).max(1);
        let tile = (self.work / 2 / TILE_BYTES).min(MOST_VALUES) / self.block;
        (group, tile.min(MOST_VALUES / kept).clamp(1, group))
    }
}

impl NeighborIndex for DeviceBank {
    fn find(&self, queries: Vectors<'_>, question: Question<'_>) -> Result<Found> {
        if question.excluded.is_some() {
            return Err(Error::OnlyOnProcessor { what: "leaving a row's own entry out" });
        }
        let distances = Self::kth_distances(self, queries.values(), question.k)?;
        let kth = distances.into_iter().enumerate().map(|(row, kth)| question.answer(row, Some(kth))).collect();
        Ok(Found { kth, work: Work { queries: queries.len() as u64, ..Work::default() } })
    }

    fn nearest(&self, _queries: Vectors<'_>, _k: usize, _own: Option<&[Option<u64>]>) -> Result<Vec<Vec<Neighbor>>> {
        Err(Error::OnlyOnProcessor { what: "finding the neighbours themselves" })
    }

    fn density_ratios(&self, _queries: Vectors<'_>, _k: usize, _own: Option<&[Option<u64>]>) -> Result<Vec<f32>> {
        Err(Error::OnlyOnProcessor { what: "a density ratio" })
    }

    fn describe(&self) -> String {
        let place = if self.is_resident() { "resident" } else { "by blocks" };
        format!("exact, {:?}, {:?}, {place}", self.device, self.precision).to_lowercase()
    }
}

/// What the error bound needs to know of the bank: the largest and smallest ‖x‖, and the largest ‖x − low(x)‖.
#[derive(Debug, Clone, Copy)]
struct Norms {
    longest: f64,
    shortest: f64,
    residual: f64,
}

/// Consecutive bank rows on the device, as they are and in low precision.
struct Block {
    start: usize,
    len: usize,
    rows: Tensor,
    low: Tensor,
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

    /// Euclidean distance of each query (row-major m×d) to its k-th nearest row, 1 ≤ k ≤ [`Self::len`]: that of
    /// the exact distances, off by at most 2⁻²³ of itself.
    ///
    /// Errors: a failure of libtorch, queries that are not finite.
    pub fn kth_distances(&self, queries: &[f32], k: usize) -> Result<Vec<f32>> {
        Ok(self.search(queries, k)?.0)
    }

    /// Whether each query's k-th nearest row is at most its cutoff away.
    ///
    /// Errors: as [`Self::kth_distances`].
    pub fn within(&self, queries: &[f32], k: usize, cutoffs: &[f32]) -> Result<Vec<bool>> {
        assert_eq!(queries.len(), cutoffs.len() * self.dimension, "one cutoff per query");
        let distances = self.kth_distances(queries, k)?;
        Ok(distances.iter().zip(cutoffs).map(|(distance, cutoff)| distance <= cutoff).collect())
    }

    /// The k-th distances, and how many queries had no certificate and took the second pass.
    fn search(&self, queries: &[f32], k: usize) -> Result<(Vec<f32>, usize)> {
        let d = self.dimension;
        assert!(queries.len().is_multiple_of(d), "m×d values in rows of d");
        assert!((1..=self.rows).contains(&k), "1 ≤ k ≤ n");
        // thread-local in libtorch: it belongs around each call
        let _no_grad = tch::no_grad_guard();
        let resident = self.resident.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = (k + k / 2 + MARGIN).min(self.rows);
        let (group, tile) = self.plan.queries(d, kept);
        let mut distances = Vec::with_capacity(queries.len() / d);
        let mut uncertified = 0;
        for group in queries.chunks(group * d) {
            let batches = group.chunks(tile * d).map(|rows| Batch::new(self, rows, k));
            let mut batches = batches.collect::<Result<Vec<_>>>()?;
            self.each_block(&resident, |block| batches.iter_mut().try_for_each(|batch| batch.keep(block, kept)))?;
            for batch in &mut batches {
                uncertified += batch.certify()?;
            }
            self.each_block(&resident, |block| batches.iter_mut().try_for_each(|batch| batch.measure(block)))?;
            for batch in batches {
                for distance in batch.finish() {
                    distances.push(distance?);
                }
            }
        }
        Ok((distances, uncertified))
    }

    /// Every block in turn; one that is not resident is freed before the next is uploaded.
    fn each_block(&self, resident: &[Block], mut visit: impl FnMut(&Block) -> Result<()>) -> Result<()> {
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
    fn matrix(&self, values: &[f32]) -> Result<Tensor> {
        Ok(Tensor::f_from_slice(values)?.f_view([-1, self.dimension as i64])?.f_to_device(self.device)?)
    }

    /// The operands of the products: rounded to bf16, or the rows themselves.
    fn lower(&self, rows: &Tensor) -> Result<Tensor> {
        Ok(match self.precision {
            Precision::F32 => rows.f_alias()?,
            Precision::Bf16 if self.device.is_cuda() => rows.f_to_kind(Kind::BFloat16)?,
            // a bf16 product on a CPU gives bf16, and sums in what the kernel likes
            Precision::Bf16 => rows.f_to_kind(Kind::BFloat16)?.f_to_kind(Kind::Float)?,
        })
    }

    /// ‖x − low(x)‖ of every row; the f32 difference of a number and its bf16 is exact.
    fn residuals(&self, rows: &Tensor, low: &Tensor) -> Result<Vec<f64>> {
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
    fn half_width(&self, length: f64, residual: f64) -> f32 {
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
    fn product_error(&self, length: f64, residual: f64) -> f64 {
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
fn product(queries: &Tensor, rows: &Tensor, precision: Precision) -> Result<Tensor> {
    let columns = rows.f_tr()?;
    Ok(match precision {
        // f_mm would round the result to bf16, and may add up split sums in bf16
        Precision::Bf16 if queries.device().is_cuda() => queries.f_mm_dtype(&columns, Kind::Float)?,
        _ => queries.f_mm(&columns)?,
    })
}

/// The Euclidean length of every row, summed in f64.
fn lengths(rows: &Tensor) -> Result<Vec<f64>> {
    Ok(Vec::try_from(rows.f_norm_scalaropt_dim_dtype(2, 1, false, Kind::Double)?)?)
}

/// The lengths, where all vectors are finite.
fn finite(lengths: Vec<f64>, of: &str) -> Result<Vec<f64>> {
    let bad = lengths.iter().position(|length| !length.is_finite());
    bad.map_or(Ok(lengths), |_| Err(Error::DeviceSearch { reason: format!("a vector of {of} is not finite") }))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    const MODES: [Precision; 2] = [Precision::Bf16, Precision::F32];

    /// The CPU; where OUTSKIRT_TEST_CUDA names the folder of a CUDA libtorch, the GPU.
    fn device() -> Device {
        let folder = std::env::var_os("OUTSKIRT_TEST_CUDA").map(PathBuf::from);
        folder.map_or(Device::Cpu, |folder| require_cuda(Some(&folder)).unwrap())
    }

    /// Unit vectors about `centres` directions, `spread` from them, every tenth a copy of the one before.
    fn unit_vectors(n: usize, d: usize, centres: usize, spread: f32, seed: u64) -> Vec<f32> {
        let numbers = |mut state: u64| {
            move || {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
            }
        };
        // the same centres for every seed: queries lie where the bank lies
        let (mut centre, mut next) = (numbers(7), numbers(seed));
        let centre: Vec<f32> = (0..centres * d).map(|_| centre()).collect();
        let mut out = Vec::with_capacity(n * d);
        for i in 0..n {
            if i % 10 == 9 {
                out.extend_from_within((i - 1) * d..);
                continue;
            }
            let row: Vec<f64> = centre[i % centres * d..][..d].iter().map(|c| f64::from(c + spread * next())).collect();
            let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
            out.extend(row.iter().map(|v| (v / length) as f32));
        }
        out
    }

    fn dot(a: &[f32], b: &[f32]) -> f64 {
        a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
    }

    /// All distances of every query in f64, sorted.
    fn brute(bank: &[f32], queries: &[f32], d: usize) -> Vec<Vec<f64>> {
        let square = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
        let all = |query: &[f32]| {
            let mut all: Vec<f64> = bank.chunks(d).map(|row| f64::sqrt(square(query, row))).collect();
            all.sort_unstable_by(f64::total_cmp);
            all
        };
        queries.chunks(d).map(all).collect()
    }

    fn bank(values: &[f32], d: usize, budget: usize, precision: Precision) -> DeviceBank {
        DeviceBank::new(Arc::new(values.to_vec()), d, device(), Some(budget), Some(precision)).unwrap()
    }

    /// Search, compare with brute force to 2⁻²³ of each distance, and give the number of second passes.
    fn check(bank: &DeviceBank, truth: &[Vec<f64>], queries: &[f32], k: usize) -> usize {
        let (found, uncertified) = bank.search(queries, k).unwrap();
        assert_eq!(found.len(), truth.len());
        for (&found, truth) in found.iter().zip(truth) {
            let (found, truth) = (f64::from(found), truth[k - 1]);
            assert!((found - truth).abs() <= truth * 2f64.powi(-23), "{found} {truth} k = {k} {bank:?}");
        }
        uncertified
    }

    #[test]
    fn equals_brute_force_for_any_shape_k_and_budget() {
        for (n, d, m) in [(1, 1, 3), (40, 1, 5), (7, 3, 1), (30, 17, 4), (700, 17, 60), (900, 64, 33), (250, 342, 20)] {
            for (centres, spread) in [(n, 0.0), (8, 0.5), (3, 0.01)] {
                let values = unit_vectors(n, d, centres, spread, 1);
                let queries = unit_vectors(m, d, centres, spread, 2);
                let truth = brute(&values, &queries, d);
                // all at once; some blocks; a block of one row, uploaded for every query
                for budget in [1 << 30, 400_000, 0].into_iter().filter(|budget| *budget > 0 || n <= 40) {
                    for bank in MODES.map(|precision| bank(&values, d, budget, precision)) {
                        for k in [1, 2, 50, n / 2, n - 1, n].into_iter().filter(|k| (1..=n).contains(k)) {
                            check(&bank, &truth, &queries, k);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_budget_decides_what_is_resident() {
        let values = unit_vectors(500, 16, 8, 0.5, 1);
        assert!(bank(&values, 16, 1 << 20, Precision::F32).is_resident());
        let small = bank(&values, 16, 20_000, Precision::F32);
        assert!(!small.is_resident() && small.plan.block < 500, "{small:?}");
    }

    #[test]
    fn what_bf16_cannot_tell_apart_takes_the_second_pass() {
        let (n, d) = (3000, 64);
        let values = unit_vectors(n, d, 1, 1e-3, 1);
        let queries = unit_vectors(40, d, 1, 1e-3, 2);
        let truth = brute(&values, &queries, d);
        for bank in [1 << 30, 400_000].map(|budget| bank(&values, d, budget, Precision::Bf16)) {
            for k in [1, 10, 1000, 2900, n] {
                // where all products are kept there is nothing to certify
                let expected = if k + k / 2 + MARGIN < n { 40 } else { 0 };
                assert_eq!(check(&bank, &truth, &queries, k), expected, "k = {k}");
            }
        }
        let copies = values[..d].repeat(n);
        let truth = brute(&copies, &queries, d);
        for bank in MODES.map(|precision| bank(&copies, d, 1 << 30, precision)) {
            assert_eq!(check(&bank, &truth, &queries, 7), 40);
        }
        // vectors that are apart do not
        let apart = unit_vectors(n, d, n, 0.0, 1);
        let truth = brute(&apart, &queries, d);
        for bank in MODES.map(|precision| bank(&apart, d, 1 << 30, precision)) {
            assert_eq!(check(&bank, &truth, &queries, 10), 0);
        }
    }

    #[test]
    fn no_product_is_further_off_than_its_bound() {
        for (d, precision) in [1, 3, 17, 64, 342, 2048].into_iter().flat_map(|d| MODES.map(|precision| (d, precision)))
        {
            let values = unit_vectors(400, d, 400, 0.0, 1);
            let queries = unit_vectors(50, d, 8, 0.5, 2);
            let bank = bank(&values, d, 1 << 30, precision);
            let rows = bank.matrix(&queries).unwrap();
            let low = bank.lower(&rows).unwrap();
            let (lengths, residuals) = (lengths(&rows).unwrap(), bank.residuals(&rows, &low).unwrap());
            let block = &bank.resident.lock().unwrap()[0];
            let products = product(&low, &block.low, precision).unwrap();
            let products = Vec::<f32>::try_from(products.flatten(0, -1)).unwrap();
            let mut largest = 0f64;
            for (i, query) in queries.chunks(d).enumerate() {
                let bound = bank.product_error(lengths[i], residuals[i]);
                for (row, product) in values.chunks(d).zip(&products[i * block.len..]) {
                    largest = largest.max((f64::from(*product) - dot(query, row)).abs() / bound);
                }
            }
            assert!(largest <= 1.0, "d = {d} {precision:?}: {largest} of the bound");
        }
    }

    #[test]
    fn within_compares_and_empty_batches_give_nothing() {
        let bank = bank(&[1.0, 0.0, 0.0, 1.0], 2, 1 << 20, Precision::Bf16);
        assert_eq!(bank.within(&[1.0, 0.0, 1.0, 0.0, 1.0, 0.0], 2, &[1.4, 1.4143, 2.0]).unwrap(), [false, true, true]);
        assert_eq!(bank.kth_distances(&[0.0, 1.0], 1).unwrap(), [0.0]);
        assert!(bank.kth_distances(&[], 1).unwrap().is_empty());
    }

    #[test]
    fn numbers_that_are_not_finite_are_refused() {
        let one = bank(&[1.0], 1, 1 << 20, Precision::F32);
        assert!(one.kth_distances(&[f32::NAN], 1).unwrap_err().to_string().contains("queries"));
        let bad = DeviceBank::new(Arc::new(vec![f32::INFINITY]), 1, Device::Cpu, None, None);
        assert!(bad.unwrap_err().to_string().contains("bank"));
    }
}
