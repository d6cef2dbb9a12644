//! Each kernel beside sums in f64.

use crate::{Conv, Precision, Scratch, Shape, available, max_pool};

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

#[test]
fn convolutions_equal_sums_in_f64() {
    if !available(Precision::F32) {
        return;
    }
    // n, height, width, from, to, size, stride
    for (n, height, width, from, to, size, stride) in [
        (2, 9, 7, 3, 16, 3, 1),
        (3, 8, 8, 16, 16, 3, 1),
        (2, 7, 5, 24, 40, 3, 1),
        (60, 4, 4, 8, 8, 3, 1),
        (1, 2, 1, 8, 64, 3, 1),
        (2, 9, 8, 16, 32, 3, 2),
        (1, 15, 13, 3, 64, 7, 2),
        (5, 7, 7, 72, 48, 1, 1),
        (2, 7, 8, 16, 24, 1, 2),
        (1, 3, 3, 600, 33, 1, 1),
    ] {
        let shape = Shape { n, height, width, channels: from };
        let (input, weights) = (numbers(1, shape.len()), numbers(2, to * from * size * size));
        let bias = numbers(3, to);
        let conv = Conv::new(&weights, &bias, size, stride, Precision::F32);
        let output = conv.output(shape);
        let add = numbers(4, output.len());
        let expected = slow(&input, shape, &weights, output, size, stride);
        let scale = ((from * size * size) as f64).sqrt();
        let mut scratch = Scratch::default();
        for (add, relu) in [(None, false), (Some(&add[..]), true)] {
            let found = conv.run(&input, shape, add, relu, &mut scratch);
            assert_eq!(found.len(), expected.len());
            for (at, (found, sum)) in found.iter().zip(&expected).enumerate() {
                let sum = sum + f64::from(bias[at % to]) + add.map_or(0.0, |add| f64::from(add[at]));
                let expected = if relu { sum.max(0.0) } else { sum };
                let off = (f64::from(*found) - expected).abs();
                assert!(off < 2e-5 * scale, "{shape:?} to {to}, {size}/{stride} at {at}: {found} for {expected}");
            }
        }
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
    assert_eq!(crate::rectified(&map, 3, &[1.0, -1.0], &[5.0, 2.0], &mut scratch), [5.0, 1.0, 5.0, 0.0]);
    let shape = Shape { n: 2, height: 2, width: 3, channels: 1 };
    let values: Vec<f32> = (0..12).map(|value| value as f32).collect();
    let (half, to) = crate::halved(&values, shape, &mut scratch);
    assert_eq!((half, to.height, to.width), (vec![2.0, 8.0], 1, 1));
}
