//! Search on a device beside comparing every row in f64.

use std::path::PathBuf;
use std::sync::Arc;

use tch::Device;

use super::bank::*;
use super::require_cuda;
use super::search::MARGIN;

const MODES: [Precision; 2] = [Precision::Bf16, Precision::F32];

/// The CPU; where OUTSKIRT_TEST_CUDA names the folder of a CUDA libtorch, the GPU.
fn device() -> Device {
    let folder = std::env::var_os("OUTSKIRT_TEST_CUDA").map(PathBuf::from);
    outskirt_libtorch::load().unwrap();
    folder.map_or(Device::Cpu, |folder| require_cuda(Some(&folder)).unwrap())
}

/// Unit vectors about `centres` directions, `spread` from them, every tenth a copy of the one before.
fn unit_vectors(n: usize, d: usize, centres: usize, spread: f32, seed: u64) -> Vec<f32> {
    let numbers = |mut state: u64| {
        move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        }
    };
    // the same centres for every seed: queries lie where the bank lies
    let (mut centre, mut next) = (numbers(7), numbers(seed));
    let centre: Vec<f32> = (0..centres * d).map(|_| centre()).collect();
    let mut out = Vec::with_capacity(n * d);
    for i in 0..n {
        if i % 10 == 9 {
            out.extend_from_within((i - 1) * d..);
            continue;
        }
        let row: Vec<f64> = centre[i % centres * d..][..d].iter().map(|c| f64::from(c + spread * next())).collect();
        let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        out.extend(row.iter().map(|v| (v / length) as f32));
    }
    out
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

/// All distances of every query in f64, sorted.
fn brute(bank: &[f32], queries: &[f32], d: usize) -> Vec<Vec<f64>> {
    let square = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
    let all = |query: &[f32]| {
        let mut all: Vec<f64> = bank.chunks(d).map(|row| f64::sqrt(square(query, row))).collect();
        all.sort_unstable_by(f64::total_cmp);
        all
    };
    queries.chunks(d).map(all).collect()
}

fn bank(values: &[f32], d: usize, budget: usize, precision: Precision) -> DeviceBank {
    DeviceBank::new(Arc::new(values.to_vec()), d, device(), Some(budget), Some(precision)).unwrap()
}

/// Search, compare with brute force to the last bit of f32 (half of it is 2⁻²⁴), and give the number of second passes.
fn check(bank: &DeviceBank, truth: &[Vec<f64>], queries: &[f32], k: usize) -> usize {
    let (found, uncertified) = bank.search(queries, k).unwrap();
    assert_eq!(found.len(), truth.len());
    for (&found, truth) in found.iter().zip(truth) {
        let (found, truth) = (f64::from(found), truth[k - 1]);
        assert!((found - truth).abs() <= truth * 2f64.powi(-24) * (1.0 + 1e-6), "{found} {truth} k = {k} {bank:?}");
    }
    uncertified
}

#[test]
fn equals_brute_force_for_any_shape_k_and_budget() {
    for (n, d, m) in [(1, 1, 3), (40, 1, 5), (7, 3, 1), (30, 17, 4), (700, 17, 60), (900, 64, 33), (250, 342, 20)] {
        for (centres, spread) in [(n, 0.0), (8, 0.5), (3, 0.01)] {
            let values = unit_vectors(n, d, centres, spread, 1);
            let queries = unit_vectors(m, d, centres, spread, 2);
            let truth = brute(&values, &queries, d);
            // all at once; some blocks; a block of one row, uploaded for every query
            for budget in [1 << 30, 400_000, 0].into_iter().filter(|budget| *budget > 0 || n <= 40) {
                for bank in MODES.map(|precision| bank(&values, d, budget, precision)) {
                    for k in [1, 2, 50, n / 2, n - 1, n].into_iter().filter(|k| (1..=n).contains(k)) {
                        check(&bank, &truth, &queries, k);
                    }
                }
            }
        }
    }
}

#[test]
fn a_budget_decides_what_is_resident() {
    let values = unit_vectors(500, 16, 8, 0.5, 1);
    assert!(bank(&values, 16, 1 << 20, Precision::F32).is_resident());
    let small = bank(&values, 16, 20_000, Precision::F32);
    assert!(!small.is_resident() && small.plan.block < 500, "{small:?}");
}

#[test]
fn what_bf16_cannot_tell_apart_takes_the_second_pass() {
    let (n, d) = (3000, 64);
    let values = unit_vectors(n, d, 1, 1e-3, 1);
    let queries = unit_vectors(40, d, 1, 1e-3, 2);
    let truth = brute(&values, &queries, d);
    for bank in [1 << 30, 400_000].map(|budget| bank(&values, d, budget, Precision::Bf16)) {
        for k in [1, 10, 1000, 2900, n] {
            // where all products are kept there is nothing to certify
            let expected = if k + k / 2 + MARGIN < n { 40 } else { 0 };
            assert_eq!(check(&bank, &truth, &queries, k), expected, "k = {k}");
        }
    }
    let copies = values[..d].repeat(n);
    let truth = brute(&copies, &queries, d);
    for bank in MODES.map(|precision| bank(&copies, d, 1 << 30, precision)) {
        assert_eq!(check(&bank, &truth, &queries, 7), 40);
    }
    // vectors that are apart do not
    let apart = unit_vectors(n, d, n, 0.0, 1);
    let truth = brute(&apart, &queries, d);
    for bank in MODES.map(|precision| bank(&apart, d, 1 << 30, precision)) {
        assert_eq!(check(&bank, &truth, &queries, 10), 0);
    }
}

#[test]
fn no_product_is_further_off_than_its_bound() {
    for (d, precision) in [1, 3, 17, 64, 342, 2048].into_iter().flat_map(|d| MODES.map(|precision| (d, precision))) {
        let values = unit_vectors(400, d, 400, 0.0, 1);
        let queries = unit_vectors(50, d, 8, 0.5, 2);
        let bank = bank(&values, d, 1 << 30, precision);
        let rows = bank.matrix(&queries).unwrap();
        let low = bank.lower(&rows).unwrap();
        let (lengths, residuals) = (lengths(&rows).unwrap(), bank.residuals(&rows, &low).unwrap());
        let block = &bank.resident.lock().unwrap()[0];
        let products = product(&low, &block.low, precision).unwrap();
        let products = Vec::<f32>::try_from(products.flatten(0, -1)).unwrap();
        let mut largest = 0f64;
        for (i, query) in queries.chunks(d).enumerate() {
            let bound = bank.product_error(lengths[i], residuals[i]);
            for (row, product) in values.chunks(d).zip(&products[i * block.len..]) {
                largest = largest.max((f64::from(*product) - dot(query, row)).abs() / bound);
            }
        }
        assert!(largest <= 1.0, "d = {d} {precision:?}: {largest} of the bound");
    }
}

#[test]
fn within_compares_and_empty_batches_give_nothing() {
    let bank = bank(&[1.0, 0.0, 0.0, 1.0], 2, 1 << 20, Precision::Bf16);
    assert_eq!(bank.within(&[1.0, 0.0, 1.0, 0.0, 1.0, 0.0], 2, &[1.4, 1.4143, 2.0]).unwrap(), [false, true, true]);
    assert_eq!(bank.kth_distances(&[0.0, 1.0], 1).unwrap(), [0.0]);
    assert!(bank.kth_distances(&[], 1).unwrap().is_empty());
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    let one = bank(&[1.0], 1, 1 << 20, Precision::F32);
    assert!(one.kth_distances(&[f32::NAN], 1).unwrap_err().to_string().contains("queries"));
    outskirt_libtorch::load().unwrap();
    let bad = DeviceBank::new(Arc::new(vec![f32::INFINITY]), 1, Device::Cpu, None, None);
    assert!(bad.unwrap_err().to_string().contains("bank"));
}
