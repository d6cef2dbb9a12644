//! Some queries on their way through the bank: what is kept, the certificate, and what is measured.

use tch::{Kind, Tensor};

use super::bank::{Block, DeviceBank, PAIR_BYTES, finite, lengths, product};
use crate::error::{Error, Result};

/// Queries that go through the bank together: [`Self::keep`] meets every block, then [`Self::certify`], then
/// [`Self::measure`] meets every block again.
pub(super) struct Batch<'a> {
    low: Tensor,
    /// Half the width of the band, m×1.
    width: Tensor,
    /// The largest products so far and their bank rows, m×kept, largest first.
    kept: Option<(Tensor, Tensor)>,
    /// Certified queries and the bank rows in their bands.
    pairs: Option<(Tensor, Tensor)>,
    open: Option<Open>,
    measured: Measured<'a>,
}

/// Queries without a certificate: which they are, and the ends of their bands, f×1.
struct Open {
    which: Tensor,
    low: Tensor,
    high: Tensor,
}

impl<'a> Batch<'a> {
    pub(super) fn new(bank: &'a DeviceBank, values: &[f32], k: usize) -> Result<Self> {
        let queries = bank.matrix(values)?;
        let low = bank.lower(&queries)?;
        let lengths = finite(lengths(&queries)?, "the queries")?;
        let residuals = bank.residuals(&queries, &low)?;
        let widths: Vec<f32> = lengths.iter().zip(residuals).map(|(&l, r)| bank.half_width(l, r)).collect();
        let width = Tensor::f_from_slice(&widths)?.f_view([-1, 1])?.f_to_device(bank.device)?;
        let found = lengths.iter().map(|_| Found::default()).collect();
        Ok(Self { low, width, kept: None, pairs: None, open: None, measured: Measured { bank, k, queries, found } })
    }

    /// First pass: keep the largest products, `most` of each query.
    pub(super) fn keep(&mut self, block: &Block, most: usize) -> Result<()> {
        let products = product(&self.low, &block.low, self.measured.bank.precision)?;
        let (best, rows) = products.f_topk(most.min(block.len) as i64, 1, true, true)?;
        drop(products);
        let rows = rows.f_add_scalar(block.start as i64)?;
        self.kept = Some(match self.kept.take() {
            None => (best, rows),
            Some((old, old_rows)) => {
                let (all, rows) = (Tensor::f_cat(&[old, best], 1)?, Tensor::f_cat(&[old_rows, rows], 1)?);
                let (best, at) = all.f_topk(all.size()[1].min(most as i64), 1, true, true)?;
                (best, rows.f_gather(1, &at, false)?)
            }
        });
        Ok(())
    }

    /// Between the passes: place the bands, and count the queries whose band the kept products may not hold.
    pub(super) fn certify(&mut self) -> Result<usize> {
        let Some((best, rows)) = self.kept.take() else { return Ok(0) };
        let kth = best.f_narrow(1, self.measured.k as i64 - 1, 1)?;
        let (mut low, mut high) = (kth.f_sub(&self.width)?, kth.f_add(&self.width)?);
        let kept = best.size()[1];
        let mut count = 0;
        if (kept as usize) < self.measured.bank.rows {
            let open = best.f_narrow(1, kept - 1, 1)?.f_ge_tensor(&low)?;
            let which = open.f_flatten(0, -1)?.f_nonzero()?.f_flatten(0, -1)?;
            count = which.size()[0] as usize;
            if count > 0 {
                let band = (low.f_index_select(0, &which)?, high.f_index_select(0, &which)?);
                self.open = Some(Open { which, low: band.0, high: band.1 });
                // nothing of theirs is taken from the kept products
                low = low.f_masked_fill(&open, f64::INFINITY)?;
                high = high.f_masked_fill(&open, f64::INFINITY)?;
            }
        }
        self.measured.count_above(0..best.size()[0], &best, &high)?;
        let inside = in_band(&best, &low, &high)?;
        self.pairs = Some((inside.f_nonzero()?.f_select(1, 0)?, rows.f_masked_select(&inside)?));
        Ok(count)
    }

    /// Second pass: measure what lies in the bands.
    pub(super) fn measure(&mut self, block: &Block) -> Result<()> {
        if let Some((queries, rows)) = &self.pairs {
            let rows = rows.f_sub_scalar(block.start as i64)?;
            let here = rows.f_ge(0)?.f_logical_and(&rows.f_lt(block.len as i64)?)?;
            self.measured.rank(block, &queries.f_masked_select(&here)?, &rows.f_masked_select(&here)?)?;
        }
        if let Some(Open { which, low, high }) = &self.open {
            let products = product(&self.low.f_index_select(0, which)?, &block.low, self.measured.bank.precision)?;
            self.measured.count_above(Vec::<i64>::try_from(which)?, &products, high)?;
            let inside = in_band(&products, low, high)?;
            drop(products);
            let places = inside.f_nonzero()?;
            drop(inside);
            let queries = which.f_index_select(0, &places.f_select(1, 0)?)?;
            self.measured.rank(block, &queries, &places.f_select(1, 1)?)?;
        }
        Ok(())
    }

    /// The k-th distances, after both passes.
    pub(super) fn finish(self) -> impl Iterator<Item = Result<f32>> {
        let k = self.measured.k;
        self.measured.found.into_iter().map(move |found| found.kth(k))
    }
}

/// Which products lie within their query's band.
fn in_band(products: &Tensor, low: &Tensor, high: &Tensor) -> Result<Tensor> {
    let mut inside = products.f_ge_tensor(low)?;
    Ok(inside.f_logical_and_(&products.f_le_tensor(high)?)?)
}

/// The queries and what is known of their neighbours.
struct Measured<'a> {
    bank: &'a DeviceBank,
    k: usize,
    queries: Tensor,
    found: Vec<Found>,
}

impl Measured<'_> {
    /// Count what lies above the bands of these queries.
    fn count_above(&mut self, queries: impl IntoIterator<Item = i64>, products: &Tensor, high: &Tensor) -> Result<()> {
        let above = products.f_gt_tensor(high)?.f_sum_dim_intlist(1, false, Kind::Int64)?;
        for (query, above) in queries.into_iter().zip(Vec::<i64>::try_from(above)?) {
            self.found[query as usize].above += above as usize;
        }
        Ok(())
    }

    /// Measure pairs of a query and a row of the block.
    fn rank(&mut self, block: &Block, queries: &Tensor, rows: &Tensor) -> Result<()> {
        let pairs = queries.size()[0];
        let chunk = (self.bank.plan.work / 4 / (PAIR_BYTES * self.bank.dimension)).max(1) as i64;
        for from in (0..pairs).step_by(chunk as usize) {
            let len = chunk.min(pairs - from);
            let (queries, rows) = (queries.f_narrow(0, from, len)?, rows.f_narrow(0, from, len)?);
            // in f64, as the processor: rounded to f32 first, a distance at a threshold could fall on its other side
            let mut differences = self.queries.f_index_select(0, &queries)?.f_to_kind(Kind::Double)?;
            let _ = differences.f_sub_(&block.rows.f_index_select(0, &rows)?.f_to_kind(Kind::Double)?)?;
            for (query, distance) in Vec::<i64>::try_from(&queries)?.into_iter().zip(lengths(&differences)?) {
                self.found[query as usize].push(distance, self.k);
            }
        }
        Ok(())
    }
}

/// One query's neighbours.
#[derive(Default)]
struct Found {
    /// Rows above the band: nearer than the k-th for certain.
    above: usize,
    /// Distances of the rows in the band, the k smallest at least.
    distances: Vec<f64>,
}

impl Found {
    fn push(&mut self, distance: f64, k: usize) {
        self.distances.push(distance);
        if self.distances.len() >= 2 * k + 64 {
            self.distances.select_nth_unstable_by(k - 1, f64::total_cmp);
            self.distances.truncate(k);
        }
    }

    fn kth(mut self, k: usize) -> Result<f32> {
        // cannot be, unless the device breaks the bound
        if self.above >= k || self.distances.len() < k - self.above {
            let reason = "a product was further off than its bound: search on the CPU, and report this".into();
            return Err(Error::DeviceSearch { reason });
        }
        let (_, kth, _) = self.distances.select_nth_unstable_by(k - self.above - 1, f64::total_cmp);
        Ok(*kth as f32)
    }
}
