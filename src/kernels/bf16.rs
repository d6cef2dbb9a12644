//! bfloat16: the upper half of an f32, multiplied in pairs by AVX512-BF16.

use std::arch::x86_64::*;

/// As many values of f32 as a vector of AVX-512 has lanes.
const LANES: usize = 16;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Bf16(u16);

impl From<Bf16> for f32 {
    fn from(Bf16(bits): Bf16) -> Self {
        Self::from_bits(u32::from(bits) << 16)
    }
}

impl Bf16 {
    /// To nearest, ties to even; what is no number stays none.
    pub(crate) fn nearest(value: f32) -> Self {
        let bits = value.to_bits();
        if value.is_nan() {
            // quiet: its upper half must not become that of an infinity
            return Self((bits >> 16) as u16 | 1 << 6);
        }
        Self(((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16)
    }

    /// [`Self::nearest`] of each.
    pub(crate) fn copy_nearest(from: &[f32], to: &mut [Self]) {
        // SAFETY: that there are products of bf16 was checked before a convolution in it was made
        unsafe { copy(from, to) }
    }

    /// `scale` · value + `shift`, cut at zero, [`Self::nearest`] of each.
    pub(crate) fn rectify_nearest(from: &[f32], scale: &[f32], shift: &[f32], to: &mut [Self]) {
        // SAFETY: as above
        unsafe { rectify(from, scale, shift, to) }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn copy(from: &[f32], to: &mut [Bf16]) {
    assert_eq!(from.len(), to.len());
    for (from, to) in from.chunks(LANES).zip(to.chunks_mut(LANES)) {
        // SAFETY: as many lanes as the slices have
        unsafe { store(to.as_mut_ptr(), to.len(), load_some(from.as_ptr(), from.len())) };
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn rectify(from: &[f32], scale: &[f32], shift: &[f32], to: &mut [Bf16]) {
    assert!(from.len() == to.len() && scale.len() == to.len() && shift.len() == to.len());
    for at in (0..to.len()).step_by(LANES) {
        let count = LANES.min(to.len() - at);
        // SAFETY: as many lanes as are left of each
        unsafe {
            let load = |values: &[f32]| load_some(values.as_ptr().add(at), count);
            let value = _mm512_add_ps(_mm512_mul_ps(load(from), load(scale)), load(shift));
            // the second where one is no number: it stays, and is refused later
            store(to.as_mut_ptr().add(at), count, _mm512_max_ps(_mm512_setzero_ps(), value));
        }
    }
}

/// The first `count` lanes, zeros behind them.
///
/// # Safety
/// So many values are there.
#[target_feature(enable = "avx512f")]
#[inline]
pub(crate) unsafe fn load_some(from: *const f32, count: usize) -> __m512 {
    // SAFETY: the caller's: lanes that are masked out are not read
    unsafe { _mm512_maskz_loadu_ps(first(count), from) }
}

/// Write the first `count` lanes.
///
/// # Safety
/// There is room for so many.
#[target_feature(enable = "avx512f")]
#[inline]
pub(crate) unsafe fn store_some(to: *mut f32, count: usize, values: __m512) {
    // SAFETY: the caller's
    unsafe {
        match count {
            LANES => _mm512_storeu_ps(to, values),
            _ => _mm512_mask_storeu_ps(to, first(count), values),
        }
    }
}

/// Write the first `count` lanes, rounded.
///
/// # Safety
/// There is room for so many.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
#[inline]
pub(crate) unsafe fn store(to: *mut Bf16, count: usize, values: __m512) {
    // SAFETY: the same 32 bytes under another name; the caller's
    unsafe {
        let rounded = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(values));
        match count {
            LANES => _mm256_storeu_si256(to.cast(), rounded),
            _ => _mm256_mask_storeu_epi16(to.cast(), first(count), rounded),
        }
    }
}

/// A mask of the first `count` lanes.
fn first(count: usize) -> u16 {
    debug_assert!(count <= LANES);
    ((1u32 << count) - 1) as u16
}

/// 16 pairs.
///
/// # Safety
/// So many are there.
#[target_feature(enable = "avx512f")]
#[inline]
pub(crate) unsafe fn load(from: *const Bf16) -> __m512bh {
    // SAFETY: the same 64 bytes under another name; the caller's
    unsafe { std::mem::transmute(_mm512_loadu_si512(from.cast())) }
}

/// One pair in all lanes.
///
/// # Safety
/// It is there.
#[target_feature(enable = "avx512f")]
#[inline]
pub(crate) unsafe fn pair(from: *const Bf16) -> __m512bh {
    // SAFETY: the same 64 bytes under another name; the caller's
    unsafe { std::mem::transmute(_mm512_set1_epi32(from.cast::<i32>().read_unaligned())) }
}

/// Both products of each pair onto `sums`.
#[target_feature(enable = "avx512bf16")]
#[inline]
pub(crate) fn plus_products(a: __m512bh, b: __m512bh, sums: __m512) -> __m512 {
    _mm512_dpbf16_ps(sums, a, b)
}
