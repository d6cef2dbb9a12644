//! What the machine can do at most, all threads at once: products of small integers, memory. (NumPy measures matrix
//! products in f32.)

use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;

/// Bytes that are summed; no cache holds them.
const BYTES: usize = 1 << 30;

/// One line of JSON; operations count a multiplication and an addition as two.
pub(crate) fn measure() -> String {
    let threads = rayon::current_num_threads();
    let int8 = int8().map_or("null".to_owned(), |gops| format!("{gops:.1}"));
    format!("{{\"threads\": {threads}, \"int8_gops\": {int8}, \"memory_gbytes\": {:.2}}}", memory())
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
