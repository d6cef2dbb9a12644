//! What the machine can do at most, all threads at once: f32 matrix products, products of small integers, memory.

use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;

/// Rows, columns and depth of a matrix product.
const SIDE: usize = 1024;
/// Bytes that are summed; no cache holds them.
const BYTES: usize = 1 << 30;

/// One line of JSON; operations count a multiplication and an addition as two.
pub(crate) fn measure() -> String {
    let threads = rayon::current_num_threads();
    let int8 = int8().map_or("null".to_owned(), |gops| format!("{gops:.1}"));
    format!(
        "{{\"threads\": {threads}, \"sgemm_gflops\": {:.1}, \"int8_gops\": {int8}, \"memory_gbytes\": {:.2}}}",
        sgemm(),
        memory()
    )
}

/// The best of five: seconds for all threads to run `work` once.
fn best(work: impl Fn() + Sync) -> f64 {
    let round = || {
        let start = Instant::now();
        rayon::broadcast(|_| work());
        start.elapsed().as_secs_f64()
    };
    round();
    (0..5).map(|_| round()).fold(f64::INFINITY, f64::min)
}

/// GFLOPS of the crate `gemm`, one product per thread.
fn sgemm() -> f64 {
    const TIMES: usize = 8;
    let seconds = best(|| {
        let a: Vec<f32> = (0..SIDE * SIDE).map(|i| (i % 13) as f32 - 6.0).collect();
        let b: Vec<f32> = (0..SIDE * SIDE).map(|i| (i % 11) as f32 - 5.0).collect();
        let mut out = vec![0.0f32; SIDE * SIDE];
        for _ in 0..TIMES {
            // SAFETY: all three are SIDE × SIDE, and `out` borrows nothing else.
            unsafe {
                gemm::gemm(
                    SIDE,
                    SIDE,
                    SIDE,
                    out.as_mut_ptr(),
                    1,
                    SIDE as isize,
                    false,
                    a.as_ptr(),
                    1,
                    SIDE as isize,
                    b.as_ptr(),
                    1,
                    SIDE as isize,
                    0.0f32,
                    1.0f32,
                    false,
                    false,
                    false,
                    gemm::Parallelism::None,
                );
            }
            black_box(&mut out);
        }
    });
    (rayon::current_num_threads() * TIMES * 2 * SIDE.pow(3)) as f64 / seconds / 1e9
}

/// Gigabytes per second that are read when a large array is summed.
fn memory() -> f64 {
    let values = vec![1u64; BYTES / 8];
    let round = || {
        let start = Instant::now();
        let sum: u64 = values.par_chunks(1 << 16).map(|part| part.iter().fold(0u64, |a, &b| a.wrapping_add(b))).sum();
        black_box(sum);
        start.elapsed().as_secs_f64()
    };
    round();
    BYTES as f64 / (0..5).map(|_| round()).fold(f64::INFINITY, f64::min) / 1e9
}

/// GOPS of products of 8-bit integers on AVX-512 VNNI, all operands in registers.
fn int8() -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vnni") {
        let seconds = best(|| {
            // SAFETY: the features were just detected.
            black_box(unsafe { dpbusd() });
        });
        return Some((rayon::current_num_threads() * DPBUSD * 128) as f64 / seconds / 1e9);
    }
    None
}

/// Instructions per call of `dpbusd`, 64 multiplications and additions each.
#[cfg(target_arch = "x86_64")]
const DPBUSD: usize = 16 * 10_000_000;

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vnni")]
fn dpbusd() -> i32 {
    use std::arch::x86_64::{_mm512_add_epi32, _mm512_dpbusd_epi32, _mm512_reduce_add_epi32, _mm512_set1_epi32};
    let (a, b) = (_mm512_set1_epi32(black_box(0x0102_0304)), _mm512_set1_epi32(black_box(0x0403_0201)));
    // sixteen sums: enough that none waits for the one before
    let mut sums = [a; 16];
    for _ in 0..DPBUSD / 16 {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, a, b);
        }
    }
    let mut all = sums[0];
    for sum in &sums[1..] {
        all = _mm512_add_epi32(all, *sum);
    }
    _mm512_reduce_add_epi32(all)
}
