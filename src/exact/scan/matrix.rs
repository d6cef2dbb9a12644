//! Candidates by a matrix product in f32: for processors without fast products of small integers.

use crate::best::Best;
use crate::lanes::{floats, product_error, squared_distance};
use crate::layout::Exact;
use crate::product::{Matrix, product};
use crate::search::Queries;
use crate::work::Work;

/// Rows and visitors per product: their products stay in the cache.
const ROWS: usize = 256;
const VISITORS: usize = 256;

pub(super) fn scan(
    bank: &Exact,
    cell: usize,
    visitors: &[(u32, f32)],
    queries: &Queries<'_>,
    bests: &mut [Best],
    work: &mut Work,
) {
    scan_with::<false>(bank, cell, visitors, queries, bests, work);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub(super) fn scan_avx2(
    bank: &Exact,
    cell: usize,
    visitors: &[(u32, f32)],
    queries: &Queries<'_>,
    bests: &mut [Best],
    work: &mut Work,
) {
    scan_with::<true>(bank, cell, visitors, queries, bests, work);
}

/// For vectors of norm one ‖q − x‖² = 2 − 2⟨q, x⟩, and a product in f32 is off by γ_d at most.
#[inline(always)]
fn scan_with<const FMA: bool>(
    bank: &Exact,
    cell: usize,
    visitors: &[(u32, f32)],
    queries: &Queries<'_>,
    bests: &mut [Best],
    work: &mut Work,
) {
    let cell = &bank.cells[cell];
    let (d, stride) = (bank.dimension, bank.stride * 16);
    let slack = (2.0 * product_error(d) + 4e-6) as f32;
    let values = floats(&bank.rows.lines);
    let mut asked = Vec::new();
    let mut products = Vec::new();
    for visitors in visitors.chunks(VISITORS) {
        asked.clear();
        for &(query, _) in visitors {
            asked.extend_from_slice(&floats(&queries.lines)[query as usize * stride..][..stride]);
        }
        let asked = Matrix::new(&asked, visitors.len(), d, stride);
        for from in (0..cell.rows).step_by(ROWS) {
            let rows = ROWS.min(cell.rows - from);
            let first = cell.first_row + from;
            products.resize(visitors.len() * rows, 0.0);
            let shown = Matrix::new(&values[first * stride..(first + rows) * stride], rows, d, stride);
            product(asked, shown.transposed(), &mut products);
            for (&(query, _), products) in visitors.iter().zip(products.chunks_exact(rows)) {
                let best = &mut bests[query as usize];
                if best.done {
                    continue;
                }
                work.estimated += rows as u64;
                let exact = queries.exact(bank, query as usize);
                let line = &queries.lines[query as usize * bank.stride..][..bank.stride];
                let mut least = 1.0 - (best.limit + slack) / 2.0;
                for (run, products) in products.chunks(16).enumerate() {
                    // most runs hold nothing: one vectorised count tells
                    if products.iter().map(|&product| u32::from(product >= least)).sum::<u32>() == 0 {
                        continue;
                    }
                    for (i, &product) in products.iter().enumerate() {
                        if product >= least {
                            let row = first + run * 16 + i;
                            work.computed += 1;
                            if best.add(squared_distance::<FMA>(line, bank.row(row)), row as u32, &exact) {
                                least = 1.0 - (best.limit + slack) / 2.0;
                            }
                        }
                    }
                    if best.done {
                        break;
                    }
                }
            }
        }
    }
}
