//! Heads in 8 bits, of rows and of queries, and what the codes miss: AVX-512.
//!
//! A row x of a cell with centroid c, z = x − c, is coded as z_head = t·b + f with integers b. A query q is coded once,
//! whatever cells it visits: q_head − μ = s·a + e, μ the mean of all heads. With y = q − c
//!
//! ‖q − x‖² = ‖y‖² + ‖z‖² − 2⟨y_head, z_head⟩ − 2⟨y_tail, z_tail⟩, and
//! ⟨y_head, z_head⟩ = ⟨q_head − μ, z_head⟩ − ⟨c_head − μ, z_head⟩, where the second depends on the row alone:
//! its *base* is ‖z‖² + 2⟨c_head − μ, z_head⟩.
//!
//! ⟨q_head − μ, z_head⟩ ≤ s·t·⟨a, b⟩ + ‖e‖·‖z_head‖ + ‖s·a‖·‖f‖, and ⟨y_tail, z_tail⟩ ≤ ‖y_tail‖·‖z_tail‖. Every norm
//! is known, so that a row whose distance is estimated from below is not lost.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use crate::lanes::Line;
use crate::slack::Slack;
#[cfg(target_arch = "x86_64")]
use crate::slack::{RADIUS, code_norm_up, code_square_down};
#[cfg(target_arch = "x86_64")]
use crate::wide::load;

/// Rows that are coded and compared together.
pub(crate) const PANEL: usize = 16;

/// Sixteen rows, four numbers of each: what one instruction multiplies. Codes are offset by 128.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Code(pub(crate) [u8; 64]);

// SAFETY: 64 bytes and nothing else: no padding, any bits are bytes.
unsafe impl bytemuck::Zeroable for Code {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Code {}

/// The rows of one cell, sixteen to a panel.
#[derive(Debug)]
pub(crate) struct CodedCell {
    /// Largest norm of a head, and of a residual: what its code misses.
    pub(crate) head_norm: f32,
    pub(crate) residual: f32,
    /// Codes per panel: head/4, rounded up.
    pub(crate) steps: usize,
    /// Panel by panel.
    pub(crate) codes: Vec<Code>,
    /// Per panel: a code of a row times this is a coordinate.
    pub(crate) scales: Vec<Line>,
    /// Per panel: the base of its rows, NaN where there is none (no comparison with it holds).
    pub(crate) bases: Vec<Line>,
    /// Per panel: norm of what the head leaves out.
    pub(crate) tails: Vec<Line>,
    /// Per panel: least and largest radius.
    pub(crate) radii: Vec<(f32, f32)>,
}

/// A query in 8 bits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CodedQuery {
    pub(crate) scale: f32,
    /// −128·Σa: takes back what the offset of the rows' codes adds to a product.
    pub(crate) offset: i32,
    /// ‖s·a‖ and ‖e‖, the residual, from above.
    pub(crate) coded: f32,
    pub(crate) residual: f32,
}

/// What [`cell`] codes: rows by radius, their heads less the centroid's, and squares of their radii.
pub(crate) struct CellRows<'a> {
    /// Numbers per head.
    pub(crate) head: usize,
    /// z_head of each row, in whole lines.
    pub(crate) heads: &'a [Line],
    /// c_head − μ.
    pub(crate) offset: &'a [Line],
    /// ‖z‖² of each row.
    pub(crate) squares: &'a [f32],
    /// The rounding of what the head says is left; `None`: it leaves nothing out.
    pub(crate) tail: Option<&'a Slack>,
}

/// Code the rows of a cell.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(crate) fn cell(rows: CellRows<'_>) -> CodedCell {
    let CellRows { head, heads, offset, squares, tail } = rows;
    let (width, panels) = (offset.len(), squares.len().div_ceil(PANEL));
    let (up, down) = (code_norm_up(width), code_square_down(width));
    let steps = head.div_ceil(4);
    let mut out = CodedCell {
        head_norm: 0.0,
        residual: 0.0,
        steps,
        codes: vec![Code([128; 64]); panels * steps],
        scales: vec![Line([0.0; 16]); panels],
        bases: vec![Line([f32::NAN; 16]); panels],
        tails: vec![Line([0.0; 16]); panels],
        radii: vec![(f32::INFINITY, 0.0); panels],
    };
    let mut bytes = vec![0u8; width * 16];
    for (i, (row, &square)) in heads.chunks_exact(width).zip(squares).enumerate() {
        let (panel, lane) = (i / PANEL, i % PANEL);
        let row_lines = || row.iter().map(|line| load(line));
        let places = out.codes[panel * steps..][..steps].iter_mut().map(|code| &mut code.0[lane * 4..lane * 4 + 4]);
        let most = row_lines().fold(_mm512_setzero_ps(), |most, y| _mm512_max_ps(most, _mm512_abs_ps(y)));
        let scale = _mm512_reduce_max_ps(most) / 127.0;
        let Norms { norm, residual, .. } = round(row_lines(), scale, &mut bytes);
        places.zip(bytes.as_chunks::<4>().0).for_each(|(place, bytes)| {
            place.copy_from_slice(&bytes.map(|byte| byte ^ 0x80));
        });
        let (mut low, mut high) = (_mm512_setzero_pd(), _mm512_setzero_pd());
        for (row, offset) in row.iter().zip(offset) {
            let (a, b) = (halves(load(row)), halves(load(offset)));
            low = _mm512_fmadd_pd(a[0], b[0], low);
            high = _mm512_fmadd_pd(a[1], b[1], high);
        }
        let along = _mm512_reduce_add_pd(_mm512_add_pd(low, high));
        let left = match tail {
            Some(slack) => (square - norm * down + slack.tail_of(square.sqrt())).max(0.0).sqrt() * (1.0 + RADIUS),
            None => 0.0,
        };
        out.scales[panel].0[lane] = scale;
        out.bases[panel].0[lane] = (f64::from(square) + 2.0 * along) as f32;
        out.tails[panel].0[lane] = left;
        out.head_norm = out.head_norm.max(norm.sqrt() * up);
        out.residual = out.residual.max(residual.sqrt() * up);
        let radii = &mut out.radii[panel];
        *radii = (radii.0.min(square.sqrt() * (1.0 - RADIUS)), radii.1.max(square.sqrt() * (1.0 + RADIUS)));
    }
    out
}

/// Code queries, given in heads of whole lines: four codes to an integer, and what they are worth.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(crate) fn queries(heads: &[Line], mean: &[Line]) -> (Vec<i32>, Vec<CodedQuery>) {
    let width = mean.len();
    let mut codes = vec![0i32; heads.len() * 4];
    let up = code_norm_up(width);
    let queries = heads.chunks_exact(width).zip(codes.chunks_exact_mut(width * 4)).map(|(head, codes)| {
        let less = || head.iter().zip(mean).map(|(head, mean)| _mm512_sub_ps(load(head), load(mean)));
        let most = less().fold(_mm512_setzero_ps(), |most, y| _mm512_max_ps(most, _mm512_abs_ps(y)));
        let scale = _mm512_reduce_max_ps(most) / 127.0;
        let Norms { coded, residual, sum, .. } = round(less(), scale, bytemuck::cast_slice_mut(codes));
        CodedQuery { scale, offset: -128 * sum, coded: coded.sqrt() * up, residual: residual.sqrt() * up }
    });
    let queries = queries.collect();
    (codes, queries)
}

/// Squared norms of what was coded, of its code, and of the residual; and the sum of the codes.
#[cfg(target_arch = "x86_64")]
struct Norms {
    norm: f32,
    coded: f32,
    residual: f32,
    sum: i32,
}

/// Numbers as multiples of a scale, −127..=127.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn round(lines: impl Iterator<Item = __m512>, scale: f32, codes: &mut [u8]) -> Norms {
    let inverse = _mm512_set1_ps(if scale > f32::MIN_POSITIVE { 1.0 / scale } else { 0.0 });
    let mut sums = Sums::new(scale);
    for (y, bytes) in lines.zip(codes.as_chunks_mut::<16>().0) {
        let code = _mm512_cvtps_epi32(_mm512_mul_ps(y, inverse));
        sums.add(y, code);
        // SAFETY: sixteen bytes fit into sixteen bytes.
        unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), _mm512_cvtsepi32_epi8(code)) };
    }
    sums.norms()
}

#[cfg(target_arch = "x86_64")]
struct Sums {
    scale: __m512,
    sum: __m512i,
    norm: __m512,
    coded: __m512,
    residual: __m512,
}

#[cfg(target_arch = "x86_64")]
impl Sums {
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn new(scale: f32) -> Self {
        let zero = _mm512_setzero_ps();
        Self { scale: _mm512_set1_ps(scale), sum: _mm512_setzero_si512(), norm: zero, coded: zero, residual: zero }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn add(&mut self, y: __m512, code: __m512i) {
        let decoded = _mm512_mul_ps(_mm512_cvtepi32_ps(code), self.scale);
        let left = _mm512_sub_ps(y, decoded);
        self.sum = _mm512_add_epi32(self.sum, code);
        self.norm = _mm512_fmadd_ps(y, y, self.norm);
        self.coded = _mm512_fmadd_ps(decoded, decoded, self.coded);
        self.residual = _mm512_fmadd_ps(left, left, self.residual);
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn norms(self) -> Norms {
        Norms {
            norm: _mm512_reduce_add_ps(self.norm),
            coded: _mm512_reduce_add_ps(self.coded),
            residual: _mm512_reduce_add_ps(self.residual),
            sum: _mm512_reduce_add_epi32(self.sum),
        }
    }
}

/// Sixteen numbers in f64.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "avx512f")]
fn halves(line: __m512) -> [__m512d; 2] {
    let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(line)));
    [_mm512_cvtps_pd(_mm512_castps512_ps256(line)), _mm512_cvtps_pd(high)]
}
