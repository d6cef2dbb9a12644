//! Each kernel beside sums in f64.

#[cfg(target_arch = "x86_64")]
use crate::bf16::Bf16;
use crate::{Conv, Precision, Rectifier, Scratch, Shape, available, max_pool};

fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn slow(input: &[f32], shape: Shape, weights: &[f32], to: Shape, size: usize, stride: usize) -> Vec<f64> {
    let mut out = Vec::new();
    let (pad, from) = (size as isize / 2, shape.channels);
    for pixel in 0..to.n * to.height * to.width {
        let (x, y, n) = (pixel % to.width, pixel / to.width % to.height, pixel / to.width / to.height);
        for channel in 0..to.channels {
            let mut sum = 0.0;
            for tap in 0..size * size {
                let row = (y * stride + tap / size) as isize - pad;
                let column = (x * stride + tap % size) as isize - pad;
                if (0..shape.height as isize).contains(&row) && (0..shape.width as isize).contains(&column) {
                    let at = ((n * shape.height + row as usize) * shape.width + column as usize) * from;
                    for inside in 0..from {
                        let weight = weights[(channel * from + inside) * size * size + tap];
                        sum += f64::from(input[at + inside]) * f64::from(weight);
                    }
                }
            }
            out.push(sum);
        }
    }
    out
}

/// n, height, width, from, to, size, stride.
type Case = (usize, usize, usize, usize, usize, usize, usize);

const CASES: [Case; 12] = [
    (2, 9, 7, 3, 16, 3, 1),
    (3, 8, 8, 16, 16, 3, 1),
    (2, 7, 5, 24, 40, 3, 1),
    (60, 4, 4, 8, 8, 3, 1),
    (1, 2, 1, 8, 64, 3, 1),
    (2, 5, 6, 9, 12, 3, 1),
    (1, 6, 4, 33, 20, 3, 1),
    (2, 9, 8, 16, 32, 3, 2),
    (1, 15, 13, 3, 64, 7, 2),
    (5, 7, 7, 72, 48, 1, 1),
    (2, 7, 8, 16, 24, 1, 2),
    (1, 3, 3, 600, 33, 1, 1),
];

/// How far outputs are from what `slow` gives of `operands` (made of input and weights), at most and at root mean square,
/// in units of the root of the number of products.
fn off(case: Case, precision: Precision, operand: impl Fn(f32) -> f32) -> (f64, f64) {
    let (n, height, width, from, to, size, stride) = case;
    let shape = Shape { n, height, width, channels: from };
    let (input, weights) = (numbers(1, shape.len()), numbers(2, to * from * size * size));
    let bias = numbers(3, to);
    let conv = Conv::new(&weights, &bias, size, stride, precision);
    let output = conv.output(shape);
    let add = numbers(4, output.len());
    let [rounded_input, rounded_weights] =
        [&input, &weights].map(|values| values.iter().copied().map(&operand).collect());
    let (rounded_input, rounded_weights): (Vec<f32>, Vec<f32>) = (rounded_input, rounded_weights);
    let expected = slow(&rounded_input, shape, &rounded_weights, output, size, stride);
    let scale = ((from * size * size) as f64).sqrt();
    let (mut most, mut squares) = (0f64, 0f64);
    let mut scratch = Scratch::default();
    for (add, relu) in [(None, false), (Some(&add[..]), true)] {
        let found = conv.run(&input, shape, add, relu, &mut scratch);
        assert_eq!(found.len(), expected.len());
        for (at, (found, sum)) in found.iter().zip(&expected).enumerate() {
            let sum = sum + f64::from(bias[at % to]) + add.map_or(0.0, |add| f64::from(add[at]));
            let off = (f64::from(*found) - if relu { sum.max(0.0) } else { sum }).abs() / scale;
            assert!(!off.is_nan());
            most = most.max(off);
            if !relu {
                squares += off * off / expected.len() as f64;
            }
        }
    }
    (most, squares.sqrt())
}

#[test]
fn convolutions_equal_sums_in_f64() {
    if !available(Precision::F32) {
        return;
    }
    for case in CASES {
        let (most, _) = off(case, Precision::F32, |value| value);
        assert!(most < 2e-5, "{case:?}: {most}");
    }
}

/// Operands lie in [-1, 1), so that a product is 1/3 at root mean square. Rounding one to eight bits moves it by 1.7e-3 of
/// that, and both by 2.4e-3; the transform makes 6 of 2.4.
#[cfg(target_arch = "x86_64")]
#[test]
fn convolutions_in_bf16_are_as_close_to_sums_in_f64_as_rounded_operands_let_them() {
    if !available(Precision::Bf16) {
        return;
    }
    for case in CASES {
        let (most, middle) = off(case, Precision::Bf16, |value| value);
        let (.., from, _, size, stride) = case;
        let transformed = size == 3 && stride == 1 && from > 3;
        let allowed = if transformed { 7e-3 } else { 2.7e-3 } / 3.0;
        assert!(middle < allowed && most < 6.0 * allowed, "{case:?}: {middle}, at most {most}");
        if !transformed {
            // of the rounded operands they are the sums, to what f32 loses
            let (most, _) = off(case, Precision::Bf16, |value| Bf16::nearest(value).into());
            assert!(most < 2e-5, "{case:?}: {most}");
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn bf16_is_the_nearest() {
    let nearest = |value: f32| -> f32 { Bf16::nearest(value).into() };
    for (value, expected) in [
        (1.0, 1.0),
        (-0.0, -0.0),
        // halfway: to even
        (1.0 + 1.0 / 256.0, 1.0),
        (1.0 + 3.0 / 256.0, 1.0 + 4.0 / 256.0),
        (-1.0 - 1.01 / 256.0, -1.0 - 2.0 / 256.0),
        (f32::INFINITY, f32::INFINITY),
        (f32::MAX, f32::INFINITY),
        (f32::from_bits(0x7f7f_7fff), f32::from_bits(0x7f7f_0000)),
    ] {
        assert_eq!(nearest(value).to_bits(), expected.to_bits(), "{value}");
    }
    assert!(nearest(f32::NAN).is_nan() && nearest(f32::from_bits(0xff80_0001)).is_nan());
    if !available(Precision::Bf16) {
        return;
    }
    let mut values = numbers(5, 1000);
    values.extend([
        f32::NAN,
        f32::from_bits(0x7f80_0001),
        f32::INFINITY,
        f32::MAX,
        1.0 + 1.0 / 256.0,
        1.0 + 3.0 / 256.0,
    ]);
    for count in [1, 15, 16, 17, values.len()] {
        let (mut rounded, from) = (vec![Bf16::default(); count], &values[values.len() - count..]);
        Bf16::copy_nearest(from, &mut rounded);
        assert_eq!(rounded, from.iter().copied().map(Bf16::nearest).collect::<Vec<_>>(), "{count}");
    }
}

/// A linear layer among them: a 1×1 convolution of maps of one pixel.
#[test]
fn a_picture_is_the_same_in_every_batch() {
    let classifiers = [(30, 1, 1, 64, 10, 1, 1), (30, 1, 1, 2048, 1000, 1, 1), (30, 1, 1, 342, 10, 1, 1)];
    for precision in [Precision::F32, Precision::Bf16].into_iter().filter(|&precision| available(precision)) {
        for (_, height, width, from, to, size, stride) in CASES.into_iter().chain(classifiers) {
            let conv = Conv::new(&numbers(2, to * from * size * size), &numbers(3, to), size, stride, precision);
            let shape = |n| Shape { n, height, width, channels: from };
            let (each, each_out) = (shape(1).len(), conv.output(shape(1)).len());
            let (input, add) = (numbers(1, 30 * each), numbers(4, 30 * each_out));
            let mut scratch = Scratch::default();
            let mut run = |from: usize, to: usize| -> Vec<u32> {
                let add = &add[from * each_out..to * each_out];
                let found = conv.run(&input[from * each..to * each], shape(to - from), Some(add), true, &mut scratch);
                found.into_iter().map(f32::to_bits).collect()
            };
            let alone: Vec<u32> = (0..30).flat_map(|picture| run(picture, picture + 1)).collect();
            for count in [2, 7, 30] {
                for first in (0..=30 - count).step_by(count) {
                    let found = run(first, first + count);
                    let expected = &alone[first * each_out..(first + count) * each_out];
                    assert!(
                        found == expected,
                        "{count} from {first} of {precision:?}, {from} to {to}, {size}/{stride}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_is_no_number_stays() {
    for precision in [Precision::F32, Precision::Bf16] {
        // Winograd's, and a product
        for (size, stride) in [(3, 1), (3, 2), (1, 1)] {
            if !available(precision) {
                continue;
            }
            let shape = Shape { n: 1, height: 8, width: 8, channels: 16 };
            let conv = Conv::new(&numbers(1, 16 * 16 * size * size), &[0.0; 16], size, stride, precision);
            let mut input = numbers(2, shape.len());
            input[5] = f32::NAN;
            let found = conv.run(&input, shape, None, true, &mut Scratch::default());
            assert!(
                found[..16].iter().all(|value| value.is_nan()),
                "{precision:?}, {size}/{stride}: {:?}",
                &found[..16]
            );
        }
    }
}

#[test]
fn a_rectifier_before_a_convolution_needs_no_map() {
    for precision in [Precision::F32, Precision::Bf16].into_iter().filter(|&precision| available(precision)) {
        let (shape, to) = (Shape { n: 2, height: 5, width: 5, channels: 37 }, 20);
        let conv = Conv::new(&numbers(1, 37 * to), &numbers(2, to), 1, 1, precision);
        let before = Rectifier::new(numbers(3, 37), numbers(4, 37));
        let input = numbers(5, 50 * 40);
        let mut scratch = Scratch::default();
        let map = before.run(&input, 40, &mut scratch);
        let expected = conv.run(&map, shape, None, true, &mut scratch);
        assert_eq!(conv.run_behind(&before, &input, 40, true, &mut scratch), expected, "{precision:?}");
    }
}

#[test]
fn the_pool_is_the_largest_of_its_window() {
    let shape = Shape { n: 1, height: 3, width: 4, channels: 1 };
    let (pooled, to) =
        max_pool(&[1.0, 5.0, 2.0, 0.0, 3.0, 4.0, 9.0, 8.0, -1.0, -2.0, -3.0, 7.0], shape, &mut Scratch::default());
    assert_eq!((to.height, to.width), (2, 2));
    assert_eq!(pooled, [5.0, 9.0, 4.0, 9.0]);
}

#[test]
fn maps_grow_are_rectified_and_halved() {
    let mut scratch = Scratch::default();
    let mut map = vec![0.0; 2 * 3];
    crate::place(&[1.0, 2.0, 3.0, 4.0], 2, &mut map, 3, 1);
    assert_eq!(map, [0.0, 1.0, 2.0, 0.0, 3.0, 4.0]);
    let rectifier = Rectifier::new(vec![1.0, -1.0], vec![5.0, 2.0]);
    assert_eq!(rectifier.run(&map, 3, &mut scratch), [5.0, 1.0, 5.0, 0.0]);
    let shape = Shape { n: 2, height: 2, width: 3, channels: 1 };
    let values: Vec<f32> = (0..12).map(|value| value as f32).collect();
    let (half, to) = crate::halved(&values, shape, &mut scratch);
    assert_eq!((half, to.height, to.width), (vec![2.0, 8.0], 1, 1));
}
