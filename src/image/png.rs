//! Pictures as PNG, for programs that show no other format of theirs.

use image::codecs::png::PngEncoder;
use image::{ExtendedColorType, ImageEncoder};

use super::pixels::Pixels;
use crate::error::{Error, Result};

/// A picture as PNG of 8-bit RGB: no pixel is lost.
///
/// Errors: [`Error::BadImage`] for one that cannot be written.
pub fn png(uri: &str, pixels: &Pixels) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let written =
        PngEncoder::new(&mut bytes).write_image(&pixels.rgb, pixels.width, pixels.height, ExtendedColorType::Rgb8);
    written.map_err(|error| Error::BadImage { uri: uri.into(), reason: error.to_string() })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Orientation, decode, extension};

    #[test]
    fn what_is_written_is_read_again() {
        let pixels = Pixels { width: 3, height: 2, rgb: (0..18).collect() };
        let bytes = png("x", &pixels).unwrap();
        assert_eq!(extension(&bytes), Ok("png"));
        assert_eq!(decode("x", &bytes, Orientation::Stored).unwrap().rgb, pixels.rgb);
    }
}
