//! The sums of [`crate::lanes`] on AVX-512: what a compiler does not find by itself.

use std::arch::x86_64::*;

use crate::lanes::Line;

#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn load(line: &Line) -> __m512 {
    // SAFETY: a line is 64 bytes at an address divisible by 64.
    unsafe { _mm512_load_ps(line.0.as_ptr()) }
}

/// Σ(aᵢ − bᵢ)².
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn squared_distance(a: &[Line], b: &[Line]) -> f32 {
    let mut sums = [_mm512_setzero_ps(); 4];
    let (a4, a_rest) = a.as_chunks::<4>();
    let (b4, b_rest) = b.as_chunks::<4>();
    for (a, b) in a4.iter().zip(b4) {
        for part in 0..4 {
            let difference = _mm512_sub_ps(load(&a[part]), load(&b[part]));
            sums[part] = _mm512_fmadd_ps(difference, difference, sums[part]);
        }
    }
    let [mut s0, s1, s2, s3] = sums;
    for (a, b) in a_rest.iter().zip(b_rest) {
        let difference = _mm512_sub_ps(load(a), load(b));
        s0 = _mm512_fmadd_ps(difference, difference, s0);
    }
    _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(s0, s1), _mm512_add_ps(s2, s3)))
}
/// Σ aᵢbᵢ, for one a and four b.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn dots(a: &[Line], b: [&[Line]; 4]) -> [f32; 4] {
    let mut even = [_mm512_setzero_ps(); 4];
    let mut odd = even;
    let (a2, a_rest) = a.as_chunks::<2>();
    for (i, a) in a2.iter().enumerate() {
        let (first, second) = (load(&a[0]), load(&a[1]));
        for part in 0..4 {
            even[part] = _mm512_fmadd_ps(first, load(&b[part][2 * i]), even[part]);
            odd[part] = _mm512_fmadd_ps(second, load(&b[part][2 * i + 1]), odd[part]);
        }
    }
    if let [last] = a_rest {
        let last = load(last);
        for part in 0..4 {
            even[part] = _mm512_fmadd_ps(last, load(&b[part][a.len() - 1]), even[part]);
        }
    }
    std::array::from_fn(|part| _mm512_reduce_add_ps(_mm512_add_ps(even[part], odd[part])))
}
