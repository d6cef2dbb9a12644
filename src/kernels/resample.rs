//! Resampling in PIL's own arithmetic (src/libImaging/Resample.c), bit for bit: bytes between the passes, weights of 22
//! bits. The crate fast_image_resize, which holds weights of 15 or 31 bits, differs by one or two levels where a weighted
//! mean lies halfway between two, and for sizes in simple ratios (320 to 256) that is one value in twenty.

/// Bits after the binary point of a weight: 32 less 8 for the byte, and 2 that PIL keeps for filters that overshoot.
const WEIGHT_BITS: u32 = 22;
const HALF: u32 = 1 << (WEIGHT_BITS - 1);

/// What one value is made of along one side: the pixels from `first` on, and how much of each.
#[derive(Debug, Clone)]
pub struct Taps {
    first: usize,
    /// They sum to 1 << [`WEIGHT_BITS`] but for rounding.
    weights: Vec<u32>,
}

/// The taps of `count` of `scaled` pixels, those after the first `before`, where `scaled` is what `side` becomes. Only what
/// is kept is computed, which is why a picture of 60,000 x 1 does no harm.
pub fn taps(side: u32, scaled: u64, before: u64, count: u32) -> Vec<Taps> {
    let scale = f64::from(side) / scaled as f64;
    // a value covers at least two pixels, and when shrinking all those that fall on it
    let support = scale.max(1.0);
    let taps = |at: u64| {
        let middle = (at as f64 + 0.5) * scale;
        // as in C, conversion cuts towards zero; below zero it saturates
        let first = (middle - support + 0.5) as usize;
        let end = ((middle + support + 0.5) as usize).min(side as usize);
        let triangle: Vec<f64> = (first..end)
            .map(|pixel| (1.0 - ((pixel as f64 - middle + 0.5) * (1.0 / support)).abs()).max(0.0))
            .collect();
        let sum: f64 = triangle.iter().sum();
        let one = f64::from(1 << WEIGHT_BITS);
        Taps { first, weights: triangle.iter().map(|weight| (0.5 + weight / sum * one) as u32).collect() }
    };
    (before..before + u64::from(count)).map(taps).collect()
}

/// Fill `small` with `columns` x `rows` pixels made of `pixels`, RGB and its width; `narrow` holds the rows that they need
/// of it.
pub fn resample(
    (rgb, width): (&[u8], usize),
    columns: &[Taps],
    rows: &[Taps],
    narrow: &mut Vec<u8>,
    small: &mut Vec<u8>,
) {
    let from = rows.iter().map(|taps| taps.first).min().unwrap_or(0);
    let to = rows.iter().map(|taps| taps.first + taps.weights.len()).max().unwrap_or(0);
    let stride = 3 * columns.len();

    narrow.clear();
    narrow.reserve((to - from) * stride);
    for row in rgb.chunks_exact(3 * width).take(to).skip(from) {
        let (row, _) = row.as_chunks::<3>();
        for taps in columns {
            let mut sums = [HALF; 3];
            for (&weight, pixel) in taps.weights.iter().zip(&row[taps.first..]) {
                for (sum, &byte) in sums.iter_mut().zip(pixel) {
                    *sum += weight * u32::from(byte);
                }
            }
            narrow.extend(sums.map(to_byte));
        }
    }

    small.clear();
    small.reserve(rows.len() * stride);
    let mut sums = vec![HALF; stride];
    for taps in rows {
        sums.fill(HALF);
        for (&weight, row) in taps.weights.iter().zip(narrow.chunks_exact(stride).skip(taps.first - from)) {
            for (sum, &byte) in sums.iter_mut().zip(row) {
                *sum += weight * u32::from(byte);
            }
        }
        small.extend(sums.iter().copied().map(to_byte));
    }
}

/// Rounding errors of many weights can add up to a little more than 255.
fn to_byte(sum: u32) -> u8 {
    (sum >> WEIGHT_BITS).min(255) as u8
}

/// The value of each byte of interleaved RGB in its channel's table, planar.
pub fn spread(rgb: &[u8], table: &[[f32; 256]; 3], out: &mut [f32]) {
    let (pixels, _) = rgb.as_chunks::<3>();
    for (channel, (plane, table)) in out.chunks_exact_mut(pixels.len()).zip(table).enumerate() {
        for (value, pixel) in plane.iter_mut().zip(pixels) {
            *value = table[usize::from(pixel[channel])];
        }
    }
}
