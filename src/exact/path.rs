//! Which instructions the processor offers, asked once at run time.

use crate::lanes::{Line, dot, lines_of};

/// The way a search takes through the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Path {
    /// int8 products on AVX-512 VNNI choose candidates, f32 on AVX-512 ranks them.
    Avx512Vnni,
    /// f32 matrix products choose candidates, AVX2 ranks them.
    Avx2,
    /// f32 matrix products, whatever the processor.
    Portable,
}

impl Path {
    /// The fastest that this processor has.
    pub fn detect() -> Self {
        *Self::available().first().unwrap_or(&Self::Portable)
    }

    /// All that this processor has, fastest first.
    pub fn available() -> Vec<Self> {
        let mut paths = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            if avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni")
            {
                paths.push(Self::Avx512Vnni);
            }
            if avx2 {
                paths.push(Self::Avx2);
            }
        }
        paths.push(Self::Portable);
        paths
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        Self::available().contains(&self)
    }

    /// Its name, as in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avx512Vnni => "avx512-vnni",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        }
    }

    /// `out[i][j]` = ⟨rowsᵢ, directionsⱼ⟩ of rows in lines, for vectors of length d; `out` has `width` lines per row.
    pub(crate) fn project(self, rows: &[Line], directions: &[Line], d: usize, out: &mut [Line]) {
        match self {
            // SAFETY: the features were detected before this variant was made.
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => unsafe { project_avx512(rows, directions, d, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => unsafe { project_avx2(rows, directions, d, out) },
            _ => project::<false>(rows, directions, d, out),
        }
    }
}

#[inline(always)]
fn project<const FMA: bool>(rows: &[Line], directions: &[Line], d: usize, out: &mut [Line]) {
    let stride = lines_of(d);
    let width = lines_of(directions.len() / stride);
    for (row, out) in rows.chunks_exact(stride).zip(out.chunks_exact_mut(width)) {
        for (i, direction) in directions.chunks_exact(stride).enumerate() {
            out[i / 16].0[i % 16] = dot::<FMA>(row, direction);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn project_avx512(rows: &[Line], directions: &[Line], d: usize, out: &mut [Line]) {
    let stride = lines_of(d);
    let count = directions.len() / stride;
    let direction = |j: usize| &directions[j.min(count - 1) * stride..][..stride];
    for (row, out) in rows.chunks_exact(stride).zip(out.chunks_exact_mut(lines_of(count))) {
        for j in (0..count).step_by(4) {
            let found = crate::wide::dots(row, std::array::from_fn(|part| direction(j + part)));
            for (part, found) in found.into_iter().enumerate().take(count - j) {
                out[(j + part) / 16].0[(j + part) % 16] = found;
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn project_avx2(rows: &[Line], directions: &[Line], d: usize, out: &mut [Line]) {
    project::<true>(rows, directions, d, out);
}
