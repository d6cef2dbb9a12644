//! Candidates by int8 products on AVX-512 VNNI, distances in f32.
//!
//! With y = q − c and z = x − c, c the cell's centroid: ‖q − x‖² = ‖y‖² + ‖z‖² − 2⟨y_head, z_head⟩ − 2⟨y_tail, z_tail⟩.
//! Heads are coded in 8 bits: y_head = s·a + e, z_head = t·b + f with integers a, b, so that
//! ⟨y_head, z_head⟩ ≤ s·t·⟨a, b⟩ + ‖e‖·‖z_head‖ + ‖s·a‖·‖f‖; and ⟨y_tail, z_tail⟩ ≤ ‖y_tail‖·‖z_tail‖. Every norm is
//! known, so a row whose distance so estimated from below exceeds τ is not among the k nearest: nothing is lost.

use std::arch::x86_64::*;

use crate::best::Best;
use crate::layout::{Cell, Code, Exact, PANEL};
use crate::search::Queries;
use crate::wide::{load, squared_distance};
use crate::work::Work;

/// Queries and panels per block of products: 24 sums, and what is multiplied, fill the 32 registers.
const GROUP: usize = 6;
const PANELS: usize = 4;

/// A query as one cell sees it.
#[derive(Clone, Copy)]
struct Visitor {
    query: usize,
    /// 128·Σa: what the offset of the rows' codes adds to a product.
    offset: i32,
    /// 2·s·t and 2·‖y_tail‖.
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
    let mut codes = vec![0; GROUP * bank.width * 4];
    for group in visitors.chunks(GROUP) {
        let mut here = [None; GROUP];
        let mut count = 0;
        for &(query, square) in group {
            if bests[query as usize].done {
                continue;
            }
            let codes = &mut codes[count * bank.width * 4..][..bank.width * 4];
            let visitor = arrive(bank, cell, query as usize, square, queries, &bests[query as usize], codes);
            if visitor.from < visitor.to {
                here[count] = Some(visitor);
                count += 1;
            }
        }
        let mut here: Vec<Visitor> = here.into_iter().flatten().collect();
        let (here, place) = (here.as_mut_slice(), (bank, cell, queries, codes.as_slice()));
        match count {
            0 => {}
            1 => meeting::<1>(place).walk(here, bests, work),
            2 => meeting::<2>(place).walk(here, bests, work),
            3 => meeting::<3>(place).walk(here, bests, work),
            4 => meeting::<4>(place).walk(here, bests, work),
            5 => meeting::<5>(place).walk(here, bests, work),
            _ => meeting::<GROUP>(place).walk(here, bests, work),
        }
    }
}

/// Code the head of q − c, and find the panels that may hold a row within τ.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
fn arrive(
    bank: &Exact,
    number: usize,
    query: usize,
    square: f32,
    queries: &Queries<'_>,
    best: &Best,
    codes: &mut [i32],
) -> Visitor {
    let cell = &bank.cells[number];
    let head = &queries.heads()[query * bank.width..][..bank.width];
    let centre = &bank.centroid_heads[number * bank.width..][..bank.width];
    let mut most = _mm512_setzero_ps();
    for (head, centre) in head.iter().zip(centre) {
        let y = _mm512_sub_ps(load(head), load(centre));
        most = _mm512_max_ps(most, _mm512_abs_ps(y));
    }
    let most = _mm512_reduce_max_ps(most);
    let scale = most / 127.0;
    let inverse = _mm512_set1_ps(if scale > f32::MIN_POSITIVE { 1.0 / scale } else { 0.0 });
    let scales = _mm512_set1_ps(scale);
    let (mut sum, mut norm, mut coded, mut missed) =
        (_mm512_setzero_si512(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps());
    for ((head, centre), code) in head.iter().zip(centre).zip(codes.as_chunks_mut::<4>().0) {
        let y = _mm512_sub_ps(load(head), load(centre));
        let a = _mm512_cvtps_epi32(_mm512_mul_ps(y, inverse));
        let decoded = _mm512_mul_ps(_mm512_cvtepi32_ps(a), scales);
        let left = _mm512_sub_ps(y, decoded);
        sum = _mm512_add_epi32(sum, a);
        norm = _mm512_fmadd_ps(y, y, norm);
        coded = _mm512_fmadd_ps(decoded, decoded, coded);
        missed = _mm512_fmadd_ps(left, left, missed);
        let bytes = _mm512_cvtsepi32_epi8(a);
        // SAFETY: 16 bytes fit into the four integers.
        unsafe { _mm_storeu_si128(code.as_mut_ptr().cast(), bytes) };
    }
    let norm = _mm512_reduce_add_ps(norm);
    let up = 1.0 + 1e-5;
    let (coded, missed) = (_mm512_reduce_add_ps(coded).sqrt() * up, _mm512_reduce_add_ps(missed).sqrt() * up);
    let square = square.max(0.0);
    let tail = match bank.directions {
        Some(_) => ((square - norm).max(0.0) + bank.slack.tail).sqrt() * up,
        None => 0.0,
    };
    let slack = 2.0 * (missed * cell.head_norm + coded * cell.code_error) + bank.slack.estimate - square;
    // rows of a panel have about one radius, and radii grow from panel to panel
    let (tau, radii) = (best.tau(), &bank.radii[cell.first_panel..][..cell.panels]);
    let (near, far) = ((square - bank.slack.centroid).max(0.0).sqrt(), (square + bank.slack.centroid).sqrt());
    let from = radii.partition_point(|&(_, high)| high < near - tau);
    let to = radii.partition_point(|&(low, _)| low <= far + tau);
    Visitor {
        query,
        offset: 128 * _mm512_reduce_add_epi32(sum),
        scale: 2.0 * scale * cell.scale,
        tail: 2.0 * tail,
        slack,
        limit: best.limit + slack,
        from,
        to,
    }
}

type Place<'a> = (&'a Exact, usize, &'a Queries<'a>, &'a [i32]);

fn meeting<const Q: usize>((bank, cell, queries, codes): Place<'_>) -> Meeting<'_, Q> {
    let codes = std::array::from_fn(|i| &codes[i * bank.width * 4..][..bank.head.div_ceil(4)]);
    Meeting { bank, cell: &bank.cells[cell], queries, codes }
}

/// What Q visitors and the panels of a cell need to meet.
#[derive(Clone, Copy)]
struct Meeting<'a, const Q: usize> {
    bank: &'a Exact,
    cell: &'a Cell,
    queries: &'a Queries<'a>,
    /// Codes of each visitor, four to an integer.
    codes: [&'a [i32]; Q],
}

impl<const Q: usize> Meeting<'_, Q> {
    /// Take the visitors along the panels of their cell.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
    fn walk(self, visitors: &mut [Visitor], bests: &mut [Best], work: &mut Work) {
        let visitors: &mut [Visitor; Q] = match visitors.try_into() {
            Ok(visitors) => visitors,
            Err(_) => unreachable!("as many visitors as the caller says"),
        };
        let from = visitors.iter().map(|visitor| visitor.from).min().unwrap_or(0);
        let to = visitors.iter().map(|visitor| visitor.to).max().unwrap_or(0);
        work.estimated += ((to - from) * PANEL * Q) as u64;
        let mut panel = from;
        while panel < to {
            match to - panel {
                1 => self.meet::<1>(panel, visitors, bests, work),
                2 => self.meet::<2>(panel, visitors, bests, work),
                3 => self.meet::<3>(panel, visitors, bests, work),
                _ => self.meet::<PANELS>(panel, visitors, bests, work),
            }
            panel += PANELS.min(to - panel);
        }
    }

    /// The visitors meet R panels, from one of the cell on.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
    fn meet<const R: usize>(self, from: usize, visitors: &mut [Visitor; Q], bests: &mut [Best], work: &mut Work) {
        let Self { bank, cell, queries, codes } = self;
        let steps = bank.head.div_ceil(4);
        let first = cell.first_panel + from;
        let panels: [&[Code]; R] = std::array::from_fn(|r| &bank.codes[(first + r) * steps..][..steps]);
        let sums = products(panels, codes, std::array::from_fn(|q| -visitors[q].offset));
        for r in 0..R {
            let (norms, tails) = (load(&bank.norms[first + r]), load(&bank.tails[first + r]));
            for (visitor, sums) in visitors.iter_mut().zip(&sums) {
                let left = _mm512_fnmadd_ps(_mm512_set1_ps(visitor.tail), tails, norms);
                let estimate = _mm512_fnmadd_ps(_mm512_set1_ps(visitor.scale), _mm512_cvtepi32_ps(sums[r]), left);
                let mut near = _mm512_cmp_ps_mask::<_CMP_LE_OQ>(estimate, _mm512_set1_ps(visitor.limit));
                if near == 0 {
                    continue;
                }
                work.computed += u64::from(near.count_ones());
                let best = &mut bests[visitor.query];
                let line = &queries.lines[visitor.query * bank.stride..][..bank.stride];
                let exact = queries.exact(bank, visitor.query);
                while near != 0 {
                    let row = cell.first_row + (from + r) * PANEL + near.trailing_zeros() as usize;
                    near &= near - 1;
                    if best.add(squared_distance(line, bank.row(row)), row as u32, &exact) {
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

/// Products of the codes of Q visitors and R panels, beginning with an integer per visitor. A function of its own, so that
/// the sums stay in registers: what is indexed by a variable afterwards lives in memory.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma")]
fn products<const Q: usize, const R: usize>(
    panels: [&[Code]; R],
    codes: [&[i32]; Q],
    from: [i32; Q],
) -> [[__m512i; R]; Q] {
    let steps = codes[0].len();
    let panels: [&[Code]; R] = std::array::from_fn(|r| &panels[r][..steps]);
    let codes: [&[i32]; Q] = std::array::from_fn(|q| &codes[q][..steps]);
    let mut sums: [[__m512i; R]; Q] = std::array::from_fn(|q| [_mm512_set1_epi32(from[q]); R]);
    for step in 0..steps {
        let rows: [__m512i; R] = std::array::from_fn(|r| load_codes(&panels[r][step]));
        for (sums, codes) in sums.iter_mut().zip(&codes) {
            let code = _mm512_set1_epi32(codes[step]);
            for (sum, row) in sums.iter_mut().zip(&rows) {
                *sum = _mm512_dpbusd_epi32(*sum, *row, code);
            }
        }
    }
    sums
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_codes(code: &Code) -> __m512i {
    // SAFETY: a code is 64 bytes at an address divisible by 64.
    unsafe { _mm512_load_si512(code.0.as_ptr().cast()) }
}
