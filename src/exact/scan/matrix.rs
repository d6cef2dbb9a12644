//! Candidates by products in f32: for processors without fast products of small integers.

use crate::best::Best;
use crate::lanes::{Line, floats, squared_distance};
use crate::layout::Exact;
use crate::numbers::{Position, RowNumber};
use crate::product::{FEW, Table, dots, panel, products};
use crate::queries::Queries;
use crate::work::Work;

/// Rows per product: their products stay in the cache.
const ROWS: usize = 192;

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

/// ‖q − x‖² = ‖q‖² + ‖x‖² − 2⟨q, x⟩, which is 2 − 2⟨q, x⟩ for vectors of norm one; how far norms and products in f32 are
/// off is bounded.
#[inline(always)]
fn scan_with<const FMA: bool>(
    bank: &Exact,
    cell: usize,
    visitors: &[(u32, f32)],
    queries: &Queries<'_>,
    bests: &mut [Best],
    work: &mut Work,
) {
    let (number, cell) = (cell, &bank.cells[cell]);
    let d = bank.dimension;
    let slack = bank.slack.estimate;
    let least = |query: u32, best: &Best| {
        let half = queries.halves.as_ref().map_or(1.0, |halves| halves[query as usize]);
        if best.done { f32::INFINITY } else { half - (best.limit + slack) / 2.0 }
    };
    let (mut lines, mut sums) = (Vec::new(), vec![Line([0.0; 16]); ROWS.min(cell.rows)]);
    let (mut one, mut scratch) = (vec![0.0; sums.len()], Vec::new());
    for from in (0..cell.rows).step_by(ROWS) {
        let sums = &mut sums[..ROWS.min(cell.rows - from)];
        let rows = bank.some_rows(number, from, sums.len(), &mut scratch);
        let each = floats(rows).chunks_exact(bank.stride * 16).map(|row| &row[..d]);
        let table = (visitors.len() > FEW).then(|| Table::new(bank.path, each, d));
        for visitors in visitors.chunks(16) {
            match &table {
                Some(table) => {
                    panel(visitors.iter().map(|&(query, _)| queries.values.row(query as usize)), d, &mut lines);
                    products(bank.path, table, &lines, sums);
                }
                None => {
                    for (lane, &(query, _)) in visitors.iter().enumerate() {
                        dots(bank.path, rows, queries.line(bank, query as usize), &mut one[..sums.len()]);
                        sums.iter_mut().zip(&one).for_each(|(sums, &sum)| sums.0[lane] = sum);
                    }
                }
            }
            // a product below this tells that a row is too far; nobody stands at lanes beyond the last
            let mut limits = [f32::INFINITY; 16];
            visitors
                .iter()
                .zip(&mut limits)
                .for_each(|(&(query, _), limit)| *limit = least(query, &bests[query as usize]));
            work.estimated += (sums.len() * visitors.len()) as u64;
            for (i, sums) in sums.iter().enumerate() {
                let position = Position::new(cell.first_row + from + i);
                let half = bank.halves.as_ref().map_or(0.0, |halves| halves[position.index()]);
                // most rows are nobody's candidates: one vectorised count tells
                if sums.0.iter().zip(&limits).map(|(&sum, limit)| u32::from(sum >= limit + half)).sum::<u32>() == 0 {
                    continue;
                }
                if bank.removed > 0 && bank.number(position) == RowNumber::NONE || !queries.allows(bank, position) {
                    continue;
                }
                for (lane, &(query, _)) in visitors.iter().enumerate() {
                    if sums.0[lane] >= limits[lane] + half {
                        let best = &mut bests[query as usize];
                        let exact = queries.exact(bank, query as usize);
                        let line = queries.line(bank, query as usize);
                        let squared = squared_distance::<FMA>(line, &rows[i * bank.stride..][..bank.stride]);
                        work.computed += 1;
                        if best.add(squared, position, &exact) || best.done {
                            limits[lane] = least(query, best);
                        }
                    }
                }
            }
        }
    }
}
