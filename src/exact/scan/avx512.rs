//! Candidates by int8 products on AVX-512 VNNI ([`crate::code`] says why none is lost), distances in f32.

use std::arch::x86_64::*;

use crate::best::Best;
use crate::code::{Code, CodedCell, PANEL};
use crate::lanes::Line;
use crate::layout::Exact;
use crate::numbers::Position;
use crate::queries::Queries;
use crate::slack::RADIUS;
use crate::wide::{load, squared_distance};
use crate::work::Work;

/// Queries and panels per block of products: 24 sums, and what is multiplied, fill the 32 registers.
const GROUP: usize = 6;
const PANELS: usize = 4;

/// A query as one cell sees it.
#[derive(Clone, Copy)]
struct Visitor {
    query: usize,
    offset: i32,
    /// 2·s and 2·‖y_tail‖.
    scale: f32,
    tail: f32,
    /// An estimate above the limit of the query plus this is too far.
    slack: f32,
    limit: f32,
    /// Panels whose rows may be near enough.
    from: usize,
    to: usize,
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
pub(super) fn scan(
    bank: &Exact,
    cell: usize,
    visitors: &[(u32, f32)],
    queries: &Queries<'_>,
    bests: &mut [Best],
    work: &mut Work,
) {
    let mut group =
        [Visitor { query: 0, offset: 0, scale: 0.0, tail: 0.0, slack: 0.0, limit: 0.0, from: 0, to: 0 }; GROUP];
    let visit = Visit { bank, cell, queries };
    let (mut count, mut scratch) = (0, Vec::new());
    for &(query, square) in visitors {
        if bests[query as usize].done {
            continue;
        }
        group[count] = visit.visitor(query as usize, square, &bests[query as usize]);
        count += usize::from(group[count].from < group[count].to);
        if count == GROUP {
            visit.panels::<GROUP>(&mut group, bests, work, &mut scratch);
            count = 0;
        }
    }
    match count {
        0 => {}
        1 => visit.panels::<1>(&mut group, bests, work, &mut scratch),
        2 => visit.panels::<2>(&mut group, bests, work, &mut scratch),
        3 => visit.panels::<3>(&mut group, bests, work, &mut scratch),
        4 => visit.panels::<4>(&mut group, bests, work, &mut scratch),
        _ => visit.panels::<5>(&mut group, bests, work, &mut scratch),
    }
}

/// A cell, and the queries of which some visit it.
#[derive(Clone, Copy)]
struct Visit<'a> {
    bank: &'a Exact,
    cell: usize,
    queries: &'a Queries<'a>,
}

impl Visit<'_> {
    /// What the cell's estimates need of a query, and the panels that may hold a row within τ.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
    fn visitor(self, query: usize, square: f32, best: &Best) -> Visitor {
        let Self { bank, cell, queries } = self;
        let (coded, of_query) = (&bank.coded[cell], &queries.coded.1[query]);
        let square = square.max(0.0);
        let (least, most) = ((square - bank.slack.centroid).max(0.0).sqrt(), (square + bank.slack.centroid).sqrt());
        let tail = match &queries.heads {
            Some(heads) => {
                let centre = &bank.centroid_heads[cell * bank.width..][..bank.width];
                let head = squared_distance(&heads[query * bank.width..][..bank.width], centre);
                (square - head + bank.slack.tail_of(most)).max(0.0).sqrt() * (1.0 + RADIUS)
            }
            None => 0.0,
        };
        let residual = of_query.residual * coded.head_norm + of_query.coded * coded.residual;
        let missed = residual + bank.slack.product_of(most, coded.head_norm);
        let slack = 2.0 * missed + bank.slack.estimate - square;
        // rows of a panel have about one radius, and radii grow from panel to panel
        let tau = best.tau();
        let from = coded.radii.partition_point(|&(_, high)| high < least - tau);
        let to = coded.radii.partition_point(|&(low, _)| low <= most + tau);
        Visitor {
            query,
            offset: of_query.offset,
            scale: 2.0 * of_query.scale,
            tail: 2.0 * tail,
            slack,
            limit: best.limit + slack,
            from,
            to,
        }
    }

    /// The first Q visitors visit the panels of their cell.
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
    fn panels<const Q: usize>(
        self,
        visitors: &mut [Visitor; GROUP],
        bests: &mut [Best],
        work: &mut Work,
        scratch: &mut Vec<Line>,
    ) {
        let from = visitors[..Q].iter().map(|visitor| visitor.from).min().unwrap_or(0);
        let to = visitors[..Q].iter().map(|visitor| visitor.to).max().unwrap_or(0);
        work.estimated += ((to - from) * PANEL * Q) as u64;
        let mut panel = from;
        while panel < to {
            match to - panel {
                1 => self.block::<Q, 1>(panel, visitors, bests, work, scratch),
                2 => self.block::<Q, 2>(panel, visitors, bests, work, scratch),
                3 => self.block::<Q, 3>(panel, visitors, bests, work, scratch),
                _ => self.block::<Q, PANELS>(panel, visitors, bests, work, scratch),
            }
            panel += PANELS.min(to - panel);
        }
    }

    /// They visit R panels, from one of the cell on.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
    fn block<const Q: usize, const R: usize>(
        self,
        from: usize,
        visitors: &mut [Visitor; GROUP],
        bests: &mut [Best],
        work: &mut Work,
        scratch: &mut Vec<Line>,
    ) {
        let Self { bank, cell, queries } = self;
        let length = bank.width * 4;
        let codes = std::array::from_fn(|q| &queries.coded.0[visitors[q].query * length..][..length]);
        let masks = candidate_masks::<Q, R>(&bank.coded[cell], from, codes, visitors);
        for r in 0..R {
            let wanted = masks.iter().fold(0, |wanted, masks| wanted | masks[r]);
            if wanted == 0 {
                continue;
            }
            let rows = bank.panel_rows(cell, from + r, wanted, scratch);
            for (visitor, masks) in visitors.iter_mut().zip(&masks) {
                let mut candidates = masks[r];
                if candidates == 0 {
                    continue;
                }
                work.computed += u64::from(candidates.count_ones());
                let best = &mut bests[visitor.query];
                let line = queries.line(bank, visitor.query);
                let exact = queries.exact(bank, visitor.query);
                while candidates != 0 {
                    let lane = candidates.trailing_zeros() as usize;
                    let index = (from + r) * PANEL + lane;
                    candidates &= candidates - 1;
                    let at = Position::new(bank.cells[cell].first_row + index);
                    if !queries.allows(bank, at) {
                        continue;
                    }
                    let squared = squared_distance(line, &rows[lane * bank.stride..][..bank.stride]);
                    if best.add(squared, at, &exact) {
                        visitor.limit = best.limit + visitor.slack;
                    }
                }
                if best.done {
                    visitor.limit = f32::NEG_INFINITY;
                }
            }
        }
    }
}

/// Which rows of R panels may be near enough for each of Q visitors. A function of its own, so that the sums stay in
/// registers.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
fn candidate_masks<const Q: usize, const R: usize>(
    cell: &CodedCell,
    from: usize,
    codes: [&[i32]; Q],
    visitors: &[Visitor; GROUP],
) -> [[u16; R]; Q] {
    let steps = cell.steps;
    let panels: [&[Code]; R] = std::array::from_fn(|r| &cell.codes[(from + r) * steps..][..steps]);
    let codes: [&[i32]; Q] = std::array::from_fn(|q| &codes[q][..steps]);
    let mut sums: [[__m512i; R]; Q] = std::array::from_fn(|q| [_mm512_set1_epi32(visitors[q].offset); R]);
    for step in 0..steps {
        let rows: [__m512i; R] = std::array::from_fn(|r| load_codes(&panels[r][step]));
        for (sums, codes) in sums.iter_mut().zip(&codes) {
            let code = _mm512_set1_epi32(codes[step]);
            for (sum, row) in sums.iter_mut().zip(&rows) {
                *sum = _mm512_dpbusd_epi32(*sum, *row, code);
            }
        }
    }
    let (bases, tails) = (&cell.bases[from..from + R], &cell.tails[from..from + R]);
    let scales = &cell.scales[from..from + R];
    let mut masks = [[0; R]; Q];
    for ((masks, sums), visitor) in masks.iter_mut().zip(&sums).zip(visitors) {
        let (scale, tail) = (_mm512_set1_ps(visitor.scale), _mm512_set1_ps(visitor.tail));
        let limit = _mm512_set1_ps(visitor.limit);
        for ((((mask, sum), base), of_row), unit) in masks.iter_mut().zip(sums).zip(bases).zip(tails).zip(scales) {
            let left = _mm512_fnmadd_ps(tail, load(of_row), load(base));
            let estimate = _mm512_fnmadd_ps(_mm512_mul_ps(scale, load(unit)), _mm512_cvtepi32_ps(*sum), left);
            *mask = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(estimate, limit);
        }
    }
    masks
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_codes(code: &Code) -> __m512i {
    // SAFETY: a code is 64 bytes at an address divisible by 64.
    unsafe { _mm512_load_si512(code.0.as_ptr().cast()) }
}

/// For tests of [`crate::slack`]: the least squared distance that a row of a cell may have as far as its code tells, and
/// the squared norm of the query's tail.
#[cfg(test)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
pub(crate) fn lower_bound(bank: &Exact, queries: &Queries<'_>, query: usize, cell: usize, index: usize) -> (f64, f64) {
    let square = bank.to_centroids(queries)[cell * queries.values.len() + query];
    let visit = Visit { bank, cell, queries };
    let mut visitor = visit.visitor(query, square, &Best::new(1, None, None, Position::NONE, bank.slack.distance));
    let length = bank.width * 4;
    let codes = &queries.coded.0[query * length..][..length];
    // the least limit that lets the row through, as floats are ordered
    let float =
        |order: i64| f32::from_bits(if order < 0 { (order.unsigned_abs() as u32) | 1 << 31 } else { order as u32 });
    let (mut below, mut at) = (-i64::from(100f32.to_bits()), i64::from(100f32.to_bits()));
    while at - below > 1 {
        let middle = (below + at) / 2;
        visitor.limit = float(middle);
        let masks = candidate_masks::<1, 1>(&bank.coded[cell], index / PANEL, [codes], &[visitor; GROUP]);
        *(if masks[0][0] >> (index % PANEL) & 1 == 1 { &mut at } else { &mut below }) = middle;
    }
    (f64::from(float(at)) - f64::from(visitor.slack), (f64::from(visitor.tail) / 2.0).powi(2))
}
