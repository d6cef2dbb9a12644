//! Sums over vectors in cache lines: f32, many partial sums at once, whose rounding [`crate::slack`] bounds.
//!
//! Everything here is `inline(always)`: compiled into a caller that has AVX-512 or AVX2 switched on, the loops use it.

use crate::vectors::Vectors;

/// Sixteen floats that share a cache line: a row of d numbers takes ⌈d/16⌉ lines, the last filled up with zeros.
#[derive(Debug, Clone, Copy, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [f32; 16]);

// SAFETY: sixteen floats and nothing else: no padding, any bits are floats.
unsafe impl bytemuck::Zeroable for Line {}
// SAFETY: as above.
unsafe impl bytemuck::Pod for Line {}

/// Lines as floats, their padding included.
pub(crate) fn floats(lines: &[Line]) -> &[f32] {
    bytemuck::cast_slice(lines)
}

/// Whether all numbers are: without a way out in between, so that many are looked at at once.
pub(crate) fn are_finite(values: &[f32]) -> bool {
    values.iter().fold(true, |all, value| all & value.is_finite())
}

/// Unit roundoff of f32.
pub(crate) const U: f64 = 1.0 / (1u64 << 24) as f64;

/// Lines per row of d numbers.
pub(crate) fn lines_of(d: usize) -> usize {
    d.div_ceil(16)
}

/// Rows laid out in lines.
pub(crate) fn to_lines(vectors: Vectors<'_>) -> Vec<Line> {
    let mut rows = Rows::with_capacity(vectors.len(), vectors.dimension());
    (0..vectors.len()).for_each(|row| rows.push(vectors.row(row)));
    rows.lines
}

/// Vectors as a bank holds them: each in whole cache lines.
#[derive(Debug, Clone)]
pub struct Rows {
    dimension: usize,
    pub(crate) lines: Vec<Line>,
}

impl Rows {
    /// None yet, with room for n of d numbers each, d ≥ 1.
    pub fn with_capacity(n: usize, dimension: usize) -> Self {
        assert!(dimension > 0, "vectors of at least one number");
        Self { dimension, lines: Vec::with_capacity(n * lines_of(dimension)) }
    }

    /// Vectors that are in lines already.
    pub(crate) fn of_lines(lines: Vec<Line>, dimension: usize) -> Self {
        Self { dimension, lines }
    }

    /// Forget all of them, and keep the room.
    pub(crate) fn clear(&mut self) {
        self.lines.clear();
    }

    /// Add one. Panics where it has another length.
    pub fn push(&mut self, vector: &[f32]) {
        assert_eq!(vector.len(), self.dimension, "vectors of one length");
        let (whole, rest) = vector.as_chunks::<16>();
        self.lines.extend(whole.iter().map(|&values| Line(values)));
        if !rest.is_empty() {
            let mut line = Line([0.0; 16]);
            line.0[..rest.len()].copy_from_slice(rest);
            self.lines.push(line);
        }
    }

    /// Number of vectors, n.
    pub fn len(&self) -> usize {
        self.lines.len() / lines_of(self.dimension)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Numbers per vector, d.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Vector `i`.
    #[inline(always)]
    pub fn row(&self, i: usize) -> &[f32] {
        &floats(self.lines(i))[..self.dimension]
    }

    /// Vector `i` in lines.
    #[inline(always)]
    pub(crate) fn lines(&self, i: usize) -> &[Line] {
        let stride = lines_of(self.dimension);
        &self.lines[i * stride..(i + 1) * stride]
    }

    /// All numbers, vector after vector, without what fills the lines up.
    pub fn to_values(&self) -> Vec<f32> {
        (0..self.len()).flat_map(|i| self.row(i)).copied().collect()
    }

    /// Put vector `order[i]` at i, for a permutation, with room for one vector besides.
    pub(crate) fn permute(&mut self, order: &[u32]) {
        let stride = lines_of(self.dimension);
        let mut placed = vec![false; order.len()];
        let mut first = Vec::with_capacity(stride);
        for start in 0..order.len() {
            if placed[start] {
                continue;
            }
            first.clear();
            first.extend_from_slice(self.lines(start));
            let mut to = start;
            loop {
                placed[to] = true;
                let from = order[to] as usize;
                if from == start {
                    break;
                }
                self.lines.copy_within(from * stride..(from + 1) * stride, to * stride);
                to = from;
            }
            self.lines[to * stride..(to + 1) * stride].copy_from_slice(&first);
        }
    }
}

impl From<Vectors<'_>> for Rows {
    fn from(vectors: Vectors<'_>) -> Self {
        Self { dimension: vectors.dimension(), lines: to_lines(vectors) }
    }
}

/// a·b + c, fused where the machine has an instruction for it: without one, `mul_add` would be a call.
#[inline(always)]
fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
fn join(mut sums: [f32; 16], other: [f32; 16]) -> f32 {
    for lane in 0..16 {
        sums[lane] += other[lane];
    }
    for width in [8, 4, 2, 1] {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
    }
    sums[0]
}

#[inline(always)]
fn accumulate(sums: &mut [f32; 16], a: &Line, b: &Line, add: &impl Fn(f32, f32, f32) -> f32) {
    for ((sum, &a), &b) in sums.iter_mut().zip(&a.0).zip(&b.0) {
        *sum = add(a, b, *sum);
    }
}

/// Both sums of a pair of lines: f(a, b) added to the even and the odd ones.
#[inline(always)]
fn summed(a: &[Line], b: &[Line], add: impl Fn(f32, f32, f32) -> f32) -> f32 {
    let (mut even, mut odd) = ([0.0f32; 16], [0.0f32; 16]);
    let (a2, a_rest) = a.as_chunks::<2>();
    let (b2, b_rest) = b.as_chunks::<2>();
    for ([a0, a1], [b0, b1]) in a2.iter().zip(b2) {
        accumulate(&mut even, a0, b0, &add);
        accumulate(&mut odd, a1, b1, &add);
    }
    if let ([a], [b]) = (a_rest, b_rest) {
        accumulate(&mut even, a, b, &add);
    }
    join(even, odd)
}

/// Σ(aᵢ − bᵢ)².
#[inline(always)]
pub(crate) fn squared_distance<const FMA: bool>(a: &[Line], b: &[Line]) -> f32 {
    summed(a, b, |a, b, sum| multiply_add::<FMA>(a - b, a - b, sum))
}

/// Σ aᵢbᵢ.
#[inline(always)]
pub(crate) fn dot<const FMA: bool>(a: &[Line], b: &[Line]) -> f32 {
    summed(a, b, multiply_add::<FMA>)
}
