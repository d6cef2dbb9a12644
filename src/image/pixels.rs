//! A decoded picture, and how large one may be.

/// A picture above this many pixels is refused: a few kilobytes of PNG can claim terabytes.
pub const MAX_PIXELS: u64 = 100_000_000;

/// A compressed picture may have so many pixels whatever its length: one colour takes next to nothing.
const FREE_PIXELS: u64 = 1 << 24;

/// A decoded picture: 8-bit RGB, height × width × 3, row-major from the top left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pixels {
    /// Pixels per row, at least 1.
    pub width: u32,
    /// Rows, at least 1.
    pub height: u32,
    /// 3 × width × height values: red, green, blue of each pixel.
    pub rgb: Vec<u8>,
}

/// Refuse a picture of too many pixels, and one of none.
pub(super) fn check_size(width: u32, height: u32) -> Result<(), String> {
    if width == 0 || height == 0 {
        return Err("it has no pixels".into());
    }
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(format!("it has {width} x {height} pixels, and at most {MAX_PIXELS} are decoded"));
    }
    Ok(())
}

/// Refuse a picture whose file cannot hold so many pixels, before there is room made for them.
pub(super) fn check_length(bytes: &[u8], width: u32, height: u32, needed: u64) -> Result<(), String> {
    if (bytes.len() as u64) < needed {
        let length = bytes.len();
        return Err(format!(
            "it is cut: its {length} bytes cannot hold the {width} x {height} pixels that it promises"
        ));
    }
    Ok(())
}

/// The same of a format in which a byte may stand for `most` pixels, as of a picture of one colour.
pub(super) fn check_compressed(bytes: &[u8], width: u32, height: u32, most: u64) -> Result<(), String> {
    check_size(width, height)?;
    let pixels = u64::from(width) * u64::from(height);
    if pixels <= FREE_PIXELS { Ok(()) } else { check_length(bytes, width, height, pixels / most) }
}

/// Values of the channels of pixels as RGB: grey is repeated, what follows the colour (alpha) is dropped.
pub(super) fn to_rgb(mut values: Vec<u8>, channels: usize) -> Vec<u8> {
    match channels {
        3 => values,
        1 | 2 => values.chunks_exact(channels).flat_map(|pixel| [pixel[0]; 3]).collect(),
        _ => {
            // in place: a picture at the limit has hundreds of megabytes
            let count = values.len() / channels;
            (0..count).for_each(|at| values.copy_within(channels * at..channels * at + 3, 3 * at));
            values.truncate(3 * count);
            values
        }
    }
}

/// One channel, from values that count paper instead of ink, as Adobe stores them and PIL takes every CMYK JPEG to;
/// with PIL's rounding.
pub(super) fn inverted_cmyk_to_rgb(ink: u8, black: u8) -> u8 {
    let product = u32::from(255 - ink) * u32::from(black) + 128;
    black - (((product >> 8) + product) >> 8) as u8
}

/// A picture turned and mirrored as EXIF's orientation asks for: 1 to 8, of which 1 and what is none leave it as it is.
pub(super) fn oriented(pixels: Pixels, orientation: u8) -> Pixels {
    if !(2..=8).contains(&orientation) {
        return pixels;
    }
    let (width, height) = (pixels.width as usize, pixels.height as usize);
    let is_turned = orientation >= 5;
    let (columns, rows) = if is_turned { (height, width) } else { (width, height) };
    let mut rgb = Vec::with_capacity(pixels.rgb.len());
    for row in 0..rows {
        for column in 0..columns {
            let (x, y) = match orientation {
                2 => (width - 1 - column, row),
                3 => (width - 1 - column, height - 1 - row),
                4 => (column, height - 1 - row),
                5 => (row, column),
                6 => (row, height - 1 - column),
                7 => (width - 1 - row, height - 1 - column),
                _ => (width - 1 - row, column),
            };
            let at = 3 * (y * width + x);
            rgb.extend_from_slice(&pixels.rgb[at..at + 3]);
        }
    }
    Pixels { width: columns as u32, height: rows as u32, rgb }
}
