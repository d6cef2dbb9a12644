//! What rounding may change: every constant on which the proof of exactness rests, and what it covers.
//!
//! u = 2⁻²⁴ is the largest relative error of one rounding to f32, L = ⌈d/16⌉ the lines of a row. Queries q and rows x have
//! norms within 1 ± η ([`NORM`]), or as surrogates ([`crate::surrogate`]) any up to 1 + η, so that a centroid c has one of
//! at most 1 + η, and y = q − c and z = x − c of at most 2.
//! A sum in which every term takes part in at most ν roundings is off by γ(ν) = νu / (1 − νu) times the sum of its terms'
//! sizes, at most (Higham, *Accuracy and Stability of Numerical Algorithms*, §3.1). V are the head's directions, δ =
//! ‖VVᵀ − I‖ is measured in f64 when they are found. What stands in [`Slack`] is larger by [`HEADROOM`], for products of
//! two such terms (ν²u² ≤ 10⁻³ νu up to d = [`crate::MOST_NUMBERS`]), powers of 1 + η, and the rounding of f64 (d/8 · 2⁻⁵³).
//! Roundings are in units of u.
//!
//! | term | covers | roundings |
//! |---|---|---|
//! | [`Slack::distance`], relative | ‖q − x‖² in f32: a difference, twice in its square | 2 |
//! | | AVX-512: a chain of every fourth line, the lines left over, two joins, a tree of 16 | ⌊L/4⌋ + L mod 4 + 6 |
//! | | elsewhere: a chain of every second line, a join, the tree | ⌈L/2⌉ + 5 |
//! | | a limit from it: a square, 1 ± a multiple, their product, the least normal number | [`EVALUATION`] |
//! | [`Slack::centroid`], absolute | ‖q‖² and ‖c‖², norms of 1, each | ⌈L/2⌉ + 5 |
//! | | 2⟨q, c⟩: runs of 64 and their sum, or a chain of every second line | 2 max(min(d, 64) + ⌈d/64⌉ − 1, ⌈L/2⌉ + 5) |
//! | | the sum of the squares (≤ 2), what is taken from it (≤ 4) | [`SUM_OF_THREE`] |
//! | [`Slack::head`], a norm | Vq − Vc, or Vx − Vc: two projections, see below | 2 projections |
//! | | q − μ and c − μ (norms ≤ 2), or x − c | 4 |
//! | | decoding s·a (≤ 4) and t·b (≤ 2‖z‖, times 4): a code is at most twice its number | 4 + 8 |
//! | | s·t, and ⟨a, b⟩, an integer of up to 31 bits, each times ‖s·a‖·‖t·b‖ ≤ 4 · 2‖z‖ | 16 |
//! | [`Slack::defect`] | yᵀ(I − VᵀV)z is not quite a product of tails: V's squared singular values are in 1 ± δ | δ |
//! | [`Slack::tail`], absolute | ‖y‖² − ‖Vy‖²: [`Slack::centroid`], or ‖z‖² rounded to f32 (< 4) | centroid |
//! | | the difference, what is added to it, the square of [`Slack::head`] | [`TAIL`] |
//! | [`Slack::tail_of`] | a head is off by [`Slack::head`], its square by 2‖y‖ as much; its sum by [`Slack::distance`] | |
//! | [`Slack::estimate`] in 8 bits, absolute | ‖y‖²: [`Slack::centroid`]; ‖z‖² rounded (< 4) | 2 |
//! | | the base rounded, and less the product of tails (both < 8) | 4 + 4 |
//! | | a visitor's slack, and the limit with it (< 4), which are three sums | 6 |
//! | [`Slack::estimate`] in f32, absolute | 2⟨q, x⟩, as with centroids | 2 products |
//! | | ‖q‖² + ‖x‖² ≥ 2 − 4η | 4η |
//! | | 1 − (limit + slack) / 2, in units of ‖q − x‖²: the sum (< 4), the difference (< 2) | 4 |
//! | | or, of surrogates: ‖q‖² / 2 and ‖x‖² / 2 rounded, three sums with them: 14 in all, where 4η is 64 | none |
//! | [`RADIUS`], relative | a radius: its square rounded (½), its root, the factor; τ likewise | 2½ |
//! | | and the comparison: ‖y‖² ± slack (½), its root, the sum with τ | 2½ |
//! | [`code_roundings`] | a norm of codes or of a residual: a chain of L, a tree of 16, a difference | L + 6 |
//! | | its root, the factor and itself; 2(‖e‖·‖z‖ + ‖s·a‖·‖f‖ + …) | [`CODE_EVALUATION`] |
//!
//! | [`Blur::root`], of D = ‖q̂ − x̂‖ | surrogates of norms up to 1 and 1, or 1 and ¼ ([`BALL`]), rounded to f32 | 2, or 1¼ |
//! | [`Blur::flat`], of D² | cosine: twice what f64 rounds, once in the product and half in each norm | 4 (d/8 + 20) 2⁻²⁹ |
//! | | inner product: ‖x̂‖² is one but for its last number's rounding | 2 |
//! | | 2⟨q̂, x̂⟩: each rounded | 2 + 2 |
//!
//! *Surrogates* have distances D that are a metric's in the unit ball, but for the blur: with φ the figure of the value
//! that a row has in f64, D ≤ √(φ + flat) + root and √φ ≤ √((D + root)² + flat). What underflows in surrogates, 2⁻¹⁵⁰ per
//! number, is below [`HEADROOM`]. So a row among the k nearest lies no farther than [`Blur::widen`] of the k-th D found.
//!
//! A *projection* is off by less than its coordinates one by one say. After step i of a chain the partial sums along all
//! directions are V·Pᵢx, Pᵢ being a prefix, so that one more rounding of all changes them by u‖V‖‖Pᵢx‖ ≤ u‖x‖. A chain
//! of m numbers adds at most m·u·‖its part of x‖, and r such chains m·√r·u, for x of norm one. So: runs of 64 numbers,
//! m = 64 and r = ⌈d/64⌉, and r − 1 roundings that join them; or 32 chains of ⌈L/2⌉, and 16, 8, 4, 2 and 1 sums that
//! join those.
//!
//! How much of each bound hard inputs use, as `slack/tests.rs` measures and states (and results are wrong, or rounding is
//! more than its bound, where that is so much less): distance 0.92 (0.95 without AVX-512), centroid 0.72, head 0.78, defect
//! 0.21, tail 0.63, estimate 0.51 in 8 bits and 0.69 in f32, radius 0.34, norms of codes 0.92, their squares 0.95, blur
//! 0.86, 0.96 (cosine) and 0.92 (inner product). The
//! arithmetic of products of codes alone uses 0.09 of [`ESTIMATE`] and [`HEAD`]: the cases that these add up exclude each
//! other, and both are small beside the other terms.

use crate::lanes::{U, lines_of};
use crate::metric::Metric;
use crate::path::Path;
use crate::product::RUN;

#[cfg(test)]
mod tests;

/// Norms of queries and rows are within 1 ± this. Normalised in f64 and rounded to f32 they are within 1 ± 2⁻²⁴.
pub(crate) const NORM: f64 = 1.0 / (1u32 << 20) as f64;
/// By how much all that follows is enlarged.
const HEADROOM: f64 = 1.01;
/// See the table; in units of u.
const EVALUATION: f64 = 4.0;
const SUM_OF_THREE: f64 = 6.0;
const HEAD: f64 = 4.0 + 4.0 + 8.0 + 16.0;
const TAIL: f64 = 2.0 + 2.0 + 2.0;
const ESTIMATE: f64 = 2.0 + 4.0 + 4.0 + 6.0;
const ESTIMATE_BY_PRODUCT: f64 = 4.0;
const CODE_EVALUATION: f64 = 8.0;
/// By how much radii of rows, and τ, are enlarged or lessened.
pub(crate) const RADIUS: f32 = 6.0 * U as f32;

/// Largest norm of a row's surrogate for Euclidean distances: queries may lie four times as far out.
pub(crate) const BALL: f64 = 0.25;
/// A rounding in f64.
const IN_F64: f64 = 1.0 / (1u32 << 29) as f64;
const BLUR_OF_PRODUCT: f64 = 2.0 + 2.0 + 2.0;

/// How far off distances of surrogates are from a metric's figures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blur {
    /// Of a distance.
    pub(crate) root: f64,
    /// Of its square.
    pub(crate) flat: f64,
}

impl Blur {
    /// For vectors of d numbers.
    pub(crate) fn of(metric: Metric, d: usize) -> Self {
        let (root, flat) = match metric {
            Metric::Euclidean => (1.0 + BALL, 0.0),
            Metric::Cosine => (2.0, 4.0 * (d as f64 / 8.0 + 20.0) * IN_F64),
            Metric::InnerProduct => (0.0, BLUR_OF_PRODUCT),
        };
        Self { root: root * U * HEADROOM, flat: flat * U * HEADROOM }
    }

    /// The largest D² of rows that are no farther than one with this D², whatever their figures.
    pub(crate) fn widen(self, square: f64) -> f64 {
        self.most((square.sqrt() + self.root).powi(2) + self.flat)
    }

    /// The largest D² of rows of at most this figure; below 0 where there is none.
    pub(crate) fn most(self, figure: f64) -> f64 {
        if figure + self.flat < 0.0 { -1.0 } else { ((figure + self.flat).sqrt() + self.root).powi(2) }
    }

    /// Rows of at most this D² have at most this figure; below 0 where none has for certain.
    pub(crate) fn certain(self, figure: f64) -> f64 {
        let root = (figure - self.flat).max(0.0).sqrt() - self.root;
        if root > 0.0 { root * root } else { -1.0 }
    }
}

/// Bounds of rounding for one bank.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slack {
    /// Of the squared distance between a query and a centroid.
    pub(crate) centroid: f32,
    /// Norm of what a head less its centroid's is off by.
    pub(crate) head: f32,
    /// ‖VVᵀ − I‖.
    pub(crate) defect: f32,
    /// Of the squared norm of a tail, whatever its length.
    pub(crate) tail: f32,
    /// Of the estimate of a squared distance, apart from codes, heads and tails.
    pub(crate) estimate: f32,
    /// Relative, of a squared distance between a query and a row.
    pub(crate) distance: f32,
}

impl Slack {
    /// For rows of d numbers; `defect` where heads are along directions.
    pub(crate) fn new(path: Path, d: usize, defect: Option<f64>) -> Self {
        let up = |value: f64| (value * HEADROOM) as f32;
        let (norm, product) = (gamma(dot_roundings(d)), gamma(product_roundings(d)));
        let centroid = 2.0 * norm + 2.0 * product + SUM_OF_THREE * U;
        let projection = defect.map_or(0.0, |defect| gamma(projection_roundings(d)) * (1.0 + defect));
        let estimate = match path {
            Path::Avx512Vnni => centroid + ESTIMATE * U,
            Path::Avx2 | Path::Portable => 2.0 * product + 4.0 * NORM + ESTIMATE_BY_PRODUCT * U,
        };
        Self {
            centroid: up(centroid),
            head: up(2.0 * projection + HEAD * U),
            defect: up(defect.unwrap_or(0.0)),
            tail: up(centroid + TAIL * U),
            estimate: up(estimate),
            distance: up(gamma(distance_roundings(path, d)) + EVALUATION * U),
        }
    }

    /// Of the squared norm of a tail of a vector of this norm.
    #[inline(always)]
    pub(crate) fn tail_of(&self, norm: f32) -> f32 {
        self.tail + norm * (2.0 * self.head + norm * (self.distance + self.defect))
    }

    /// Of the product of two vectors of these norms, the second one's head's.
    #[inline(always)]
    pub(crate) fn product_of(&self, y: f32, z: f32) -> f32 {
        self.head * (y + z) + self.defect * y * z
    }
}

/// γ(ν).
pub(crate) fn gamma(roundings: f64) -> f64 {
    let nu = roundings * U;
    nu / (1.0 - nu)
}

/// Of [`crate::lanes::squared_distance`] and [`crate::wide::squared_distance`].
pub(crate) fn distance_roundings(path: Path, d: usize) -> f64 {
    let lines = lines_of(d);
    let sum = match path {
        Path::Avx512Vnni => lines / 4 + lines % 4 + 6,
        Path::Avx2 | Path::Portable => lines.div_ceil(2) + 5,
    };
    (sum + 2) as f64
}

/// Of [`crate::lanes::dot`] and [`crate::wide::dots`].
fn dot_roundings(d: usize) -> f64 {
    (lines_of(d).div_ceil(2) + 5) as f64
}

/// Of [`crate::product::products`] and [`crate::product::dots`].
pub(crate) fn product_roundings(d: usize) -> f64 {
    ((RUN.min(d) + d.div_ceil(RUN) - 1) as f64).max(dot_roundings(d))
}

/// Norm of what [`crate::product::Directions::project`] is off by, for a vector of norm one and orthonormal directions.
pub(crate) fn projection_roundings(d: usize) -> f64 {
    let runs = d.div_ceil(RUN) as f64;
    let products = RUN.min(d) as f64 * runs.sqrt() + runs - 1.0;
    let joins: f64 = [16.0f64, 8.0, 4.0, 2.0, 1.0].iter().map(|count| count.sqrt()).sum();
    let dots = lines_of(d).div_ceil(2) as f64 * 32f64.sqrt() + joins;
    products.max(dots)
}

/// Of a squared norm in [`crate::code`], of heads in so many lines.
fn code_roundings(lines: usize) -> f64 {
    (lines + 6) as f64
}

/// What the root of a squared norm in [`crate::code`] is multiplied by, so that it is not too small.
pub(crate) fn code_norm_up(lines: usize) -> f32 {
    (1.0 + HEADROOM * (gamma(code_roundings(lines)) / 2.0 + CODE_EVALUATION * U)) as f32
}

/// What a squared norm in [`crate::code`] is multiplied by, so that it is not too large.
pub(crate) fn code_square_down(lines: usize) -> f32 {
    (1.0 - HEADROOM * gamma(code_roundings(lines) + 2.0)) as f32
}
