//! Small pictures, for people.

use image::RgbImage;
use image::imageops::{FilterType, resize};
use mozjpeg::{ColorSpace, Compress};

use super::pixels::Pixels;
use crate::error::{Error, Result};

/// JPEG's quality, 0 to 100.
const QUALITY: f32 = 80.0;

/// A picture as JPEG, no side of it longer than `side` pixels: its bytes, its width and its height. One that is smaller stays as large
/// as it is.
///
/// Errors: [`Error::BadImage`] for one that cannot be written.
pub fn thumbnail(uri: &str, pixels: &Pixels, side: u32) -> Result<(Vec<u8>, u32, u32)> {
    let bad = |reason: String| Error::BadImage { uri: uri.into(), reason };
    let scale = f64::from(side) / f64::from(pixels.width.max(pixels.height));
    let scaled = |length: u32| ((f64::from(length) * scale).round() as u32).clamp(1, side);
    let (width, height) =
        if scale < 1.0 { (scaled(pixels.width), scaled(pixels.height)) } else { (pixels.width, pixels.height) };
    let shrunk = (scale < 1.0).then(|| {
        let whole = RgbImage::from_raw(pixels.width, pixels.height, pixels.rgb.clone());
        whole.map(|whole| resize(&whole, width, height, FilterType::Triangle).into_raw())
    });
    let rgb = match &shrunk {
        Some(shrunk) => shrunk.as_ref().ok_or_else(|| bad("its pixels are not as many as it says".into()))?,
        None => &pixels.rgb,
    };
    let write = || -> std::io::Result<Vec<u8>> {
        let mut jpeg = Compress::new(ColorSpace::JCS_RGB);
        jpeg.set_size(width as usize, height as usize);
        jpeg.set_quality(QUALITY);
        let mut jpeg = jpeg.start_compress(Vec::new())?;
        jpeg.write_scanlines(rgb)?;
        jpeg.finish()
    };
    Ok((write().map_err(|error| bad(error.to_string()))?, width, height))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Orientation, decode};

    #[test]
    fn long_sides_shrink_and_small_pictures_stay() {
        for ((width, height), (across, down)) in [((400, 100), (128, 32)), ((3, 900), (1, 128)), ((32, 16), (32, 16))] {
            let pixels = Pixels { width, height, rgb: [200, 40, 90].repeat((width * height) as usize) };
            let (jpeg, small_width, small_height) = thumbnail("x", &pixels, 128).unwrap();
            assert_eq!((small_width, small_height), (across, down));
            let read = decode("x", &jpeg, Orientation::Stored).unwrap();
            assert_eq!((read.width, read.height), (across, down));
            let off = read.rgb.iter().zip([200u8, 40, 90].iter().cycle()).map(|(a, b)| a.abs_diff(*b)).max();
            assert!(off < Some(6), "{off:?}");
        }
    }
}
