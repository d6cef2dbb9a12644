//! The difference hash of a picture: 64 bits that JPEG, resizing and a little light hardly change.

use super::pixels::Pixels;

/// Bits after the binary point of PIL's weights.
const WEIGHT_BITS: u32 = 22;
/// Pixels across and down of what is compared: each with its right neighbour.
const ACROSS: usize = 9;
const DOWN: usize = 8;

/// The difference hash of a picture, as imagehash's `dhash(image, hash_size=8)` has it of an RGB image: grey, 9 × 8 pixels by Lanczos, in
/// PIL's own arithmetic (Pillow 13 has the passes in the other order where a picture is much higher than wide: bits of near ties may
/// differ there); a bit is set where a pixel is lighter than the one to its left, row after row, the first one the highest.
///
/// Copies differ by few bits, unrelated pictures by 32 on average. A picture of one shade is 0. Source: Krawetz, *Kind of Like That*,
/// The Hacker Factor Blog, 2013.
pub fn dhash(pixels: &Pixels) -> u64 {
    let (width, height) = (pixels.width as usize, pixels.height as usize);
    let (columns, rows) = (lanczos(width, ACROSS), lanczos(height, DOWN));
    let (colours, _) = pixels.rgb.as_chunks::<3>();
    let mut grey = vec![0u8; width];
    let mut narrow = Vec::with_capacity(height * ACROSS);
    for row in colours.chunks_exact(width) {
        grey.iter_mut().zip(row).for_each(|(grey, rgb)| *grey = luma(*rgb));
        narrow.extend(columns.iter().map(|taps| taps.sum(|pixel| grey[pixel])));
    }
    let mut bits = 0;
    for taps in &rows {
        let row: [u8; ACROSS] = std::array::from_fn(|column| taps.sum(|row| narrow[row * ACROSS + column]));
        bits = row.windows(2).fold(bits, |bits, pair| bits << 1 | u64::from(pair[1] > pair[0]));
    }
    bits
}

/// PIL's `convert("L")`: ITU-R 601-2 in 16 bits.
fn luma([red, green, blue]: [u8; 3]) -> u8 {
    ((19_595 * u32::from(red) + 38_470 * u32::from(green) + 7_471 * u32::from(blue) + 0x8000) >> 16) as u8
}

/// What one value is made of along one side: the pixels from `first` on, and how much of each.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

impl Taps {
    fn sum(&self, pixel: impl Fn(usize) -> u8) -> u8 {
        let of = |(at, &weight): (usize, &i32)| i64::from(weight) * i64::from(pixel(self.first + at));
        let sum: i64 = (1 << (WEIGHT_BITS - 1)) + self.weights.iter().enumerate().map(of).sum::<i64>();
        (sum >> WEIGHT_BITS).clamp(0, 255) as u8
    }
}

/// The taps of `count` values of a side of so many pixels.
fn lanczos(side: usize, count: usize) -> Vec<Taps> {
    let scale = side as f64 / count as f64;
    let stretch = scale.max(1.0);
    let support = 3.0 * stretch;
    let taps = |at: usize| {
        let middle = (at as f64 + 0.5) * scale;
        // as in C, conversion cuts towards zero; below zero it saturates
        let first = (middle - support + 0.5) as usize;
        let end = ((middle + support + 0.5) as usize).min(side);
        let weights = (first..end).map(|pixel| weight((pixel as f64 - middle + 0.5) * (1.0 / stretch)));
        let weights: Vec<f64> = weights.collect();
        let sum: f64 = weights.iter().sum();
        let one = f64::from(1 << WEIGHT_BITS);
        let whole = |weight: f64| (weight / sum * one + if weight < 0.0 { -0.5 } else { 0.5 }) as i32;
        Taps { first, weights: weights.into_iter().map(whole).collect() }
    };
    (0..count).map(taps).collect()
}

/// Lanczos' window of three lobes.
fn weight(x: f64) -> f64 {
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) };
    if (-3.0..3.0).contains(&x) { sinc(x) * sinc(x / 3.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture that a few lines of Python draw as well.
    fn drawn(width: u32, height: u32, seed: u32) -> Pixels {
        let mut state = seed;
        let mut rgb = Vec::new();
        for y in 0..height {
            for x in 0..width {
                for channel in 0..3 {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let wave = (x * (3 + seed % 5) + y * (2 + channel) * 2) % 200;
                    rgb.push((wave + (state >> 27)) as u8);
                }
            }
        }
        Pixels { width, height, rgb }
    }

    /// `imagehash.dhash(Image.fromarray(…))` of imagehash 4.3 with Pillow 11, on the same pixels.
    #[test]
    fn equals_imagehash() {
        let known: [(u32, u32, u32, u64); 7] = [
            (32, 32, 1, 0xffff_fffc_f8e2_8d13),
            (9, 8, 2, 0xb6fc_d7b7_bbea_adb2),
            (224, 160, 3, 0x1933_a245_8a19_3322),
            (7, 50, 4, 0xffff_fcff_800f_f003),
            (301, 5, 5, 0xaaaa_aaaa_aaaa_aaaa),
            (90, 120, 6, 0xc618_639c_e79c_73ce),
            (133, 77, 9, 0xaa55_57aa_1555_aab5),
        ];
        for (width, height, seed, hash) in known {
            let found = dhash(&drawn(width, height, seed));
            assert_eq!(found, hash, "{width} x {height}, seed {seed}: {found:016x}, imagehash {hash:016x}");
        }
    }

    #[test]
    fn one_shade_is_nothing_and_light_to_the_right_is_everything() {
        let grey = |value: fn(u32) -> u8| Pixels {
            width: 40,
            height: 20,
            rgb: (0..800).flat_map(|pixel| [value(pixel % 40); 3]).collect(),
        };
        assert_eq!(dhash(&grey(|_| 90)), 0);
        assert_eq!(dhash(&grey(|x| 5 * x as u8)), u64::MAX);
        assert_eq!(dhash(&grey(|x| 200 - 5 * x as u8)), 0);
        assert_eq!(dhash(&Pixels { width: 1, height: 1, rgb: vec![1, 2, 3] }), 0);
    }
}
