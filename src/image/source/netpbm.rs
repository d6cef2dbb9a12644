//! Bare pixels as netpbm files, which have bytes to hash and to keep.

/// A picture of bare pixels as a PPM file.
pub(super) fn ppm(width: usize, height: usize, value: impl Fn(usize, usize, usize) -> u8) -> Vec<u8> {
    let mut bytes = format!("P6 {width} {height} 255\n").into_bytes();
    bytes.reserve_exact(3 * width * height);
    for row in 0..height {
        for column in 0..width {
            bytes.extend([0, 1, 2].map(|channel| value(channel, row, column)));
        }
    }
    bytes
}

/// A grey picture of bare pixels, row by row, as a PGM file.
pub(super) fn pgm(width: usize, height: usize, values: &[u8]) -> Vec<u8> {
    let mut bytes = format!("P5 {width} {height} 255\n").into_bytes();
    bytes.extend_from_slice(values);
    bytes
}
