//! From a file's bytes to 8-bit RGB, as PIL's `convert("RGB")` gives it.

use std::io::Cursor;

use image::codecs::jpeg::JpegDecoder;
use image::codecs::png::PngDecoder;
use image::{ImageDecoder, ImageError, ImageFormat, Limits};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// A picture above this many pixels is refused: a few kilobytes of PNG can claim terabytes.
pub const MAX_PIXELS: u64 = 100_000_000;

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

/// Decode a PNG or JPEG, told apart by content.
///
/// Grey is repeated in the three channels, palettes are looked up, alpha is dropped and the colour under it kept,
/// 16-bit channels keep their high byte, CMYK becomes RGB without a profile, of an animated PNG the still picture is
/// taken. All as PIL does it, except 16-bit grey: PIL cuts every value at 255, which turns such pictures white.
/// JPEG leaves the decoder some freedom: against libjpeg-turbo, which PIL uses, values were at most 6 levels apart on
/// 4,500 photographs (0.24 on average), nearly all of it from enlarging halved colour planes; without those, 0.01.
/// The picture stays as stored: EXIF orientation, gamma and colour profiles are not applied.
///
/// Errors: [`Error::BadImage`] with `uri` for other formats, broken or cut files, and more than [`MAX_PIXELS`].
pub fn decode(uri: &str, bytes: &[u8]) -> Result<Pixels> {
    let bad = |reason: String| Error::BadImage { uri: uri.into(), reason };
    let decoded = match image::guess_format(bytes) {
        Ok(ImageFormat::Png) => {
            let mut limits = Limits::no_limits();
            // 16-bit RGBA at the pixel limit; it also bounds compressed profiles and texts
            limits.max_alloc = Some(8 * MAX_PIXELS);
            PngDecoder::with_limits(Cursor::new(bytes), limits).map_err(explain).and_then(to_rgb)
        }
        Ok(ImageFormat::Jpeg) if !jpeg_is_whole(bytes) => Err("the JPEG is cut: its end mark is missing".into()),
        Ok(ImageFormat::Jpeg) => JpegDecoder::new(Cursor::new(bytes)).map_err(explain).and_then(to_rgb),
        Ok(other) => Err(format!("it is {other:?}, and only PNG and JPEG are read: convert it")),
        Err(_) if bytes.is_empty() => Err("the file is empty".into()),
        Err(_) => Err("its contents are neither PNG nor JPEG".into()),
    };
    decoded.map_err(bad)
}

/// SHA-256 of a file's bytes, 64 lower-case hexadecimal digits: equal files have equal hashes wherever they lie.
pub fn content_hash(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

fn explain(error: ImageError) -> String {
    error.to_string().lines().collect::<Vec<_>>().join(" ")
}

fn to_rgb(decoder: impl ImageDecoder) -> Result<Pixels, String> {
    let (width, height) = decoder.dimensions();
    let count = u64::from(width) * u64::from(height);
    if count > MAX_PIXELS {
        return Err(format!("it has {width} x {height} pixels, and at most {MAX_PIXELS} are decoded"));
    }
    let color = decoder.color_type();
    let channels = usize::from(color.channel_count());
    let wide = usize::from(color.bytes_per_pixel()) == 2 * channels;
    let mut values = vec![0; decoder.total_bytes() as usize];
    decoder.read_image(&mut values).map_err(explain)?;
    if wide {
        values = values.chunks_exact(2).map(|pair| (u16::from_ne_bytes([pair[0], pair[1]]) >> 8) as u8).collect();
    }
    let rgb = match channels {
        3 => values,
        4 => values.chunks_exact(4).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect(),
        _ => values.chunks_exact(channels).flat_map(|pixel| [pixel[0]; 3]).collect(),
    };
    Ok(Pixels { width, height, rgb })
}

/// Whether the marker that ends a JPEG is there. The decoder fills what is missing with grey instead of failing, and
/// a half-grey picture would be embedded as if it were one.
fn jpeg_is_whole(bytes: &[u8]) -> bool {
    const END: u8 = 0xd9;
    const START_OF_SCAN: u8 = 0xda;
    let mut at = 2;
    let mut in_scan = false;
    while let Some(&[mark, code]) = bytes.get(at..at + 2) {
        match (mark, code) {
            (0xff, END) => return true,
            // fill bytes may precede a marker
            (0xff, 0xff) => at += 1,
            // stuffed data and restart marks carry no length; nor does what stands between segments
            (0xff, 0x00 | 0x01 | 0xd0..=0xd8) => at += 2,
            (0xff, _) => {
                let Some(&[high, low]) = bytes.get(at + 2..at + 4) else { return false };
                at += 2 + usize::from(u16::from_be_bytes([high, low]));
                in_scan = code == START_OF_SCAN;
            }
            _ if in_scan => at += bytes[at + 1..].iter().position(|&byte| byte == 0xff).map_or(bytes.len(), |n| n + 1),
            _ => at += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use image::codecs::jpeg::JpegEncoder;
    use image::codecs::png::PngEncoder;
    use image::{ExtendedColorType, ImageEncoder};

    use super::*;

    fn png(values: &[u8], width: u32, height: u32, color: ExtendedColorType) -> Vec<u8> {
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes).write_image(values, width, height, color).unwrap();
        bytes
    }

    fn jpeg(values: &[u8], width: u32, height: u32, color: ExtendedColorType) -> Vec<u8> {
        let mut bytes = Vec::new();
        JpegEncoder::new_with_quality(&mut bytes, 100).encode(values, width, height, color).unwrap();
        bytes
    }

    fn reason(bytes: &[u8]) -> String {
        match decode("here.png", bytes) {
            Err(Error::BadImage { uri, reason }) if uri == "here.png" => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_png_kind_becomes_rgb_as_in_pil() {
        let wide: Vec<u8> = [0x1234u16, 0x56ff, 0x9abc].iter().flat_map(|value| value.to_ne_bytes()).collect();
        let cases: [(&[u8], ExtendedColorType, &[u8]); 6] = [
            (&[1, 2, 3], ExtendedColorType::Rgb8, &[1, 2, 3]),
            (&[1, 2, 3, 0], ExtendedColorType::Rgba8, &[1, 2, 3]),
            (&[9], ExtendedColorType::L8, &[9, 9, 9]),
            (&[9, 0], ExtendedColorType::La8, &[9, 9, 9]),
            (&wide, ExtendedColorType::Rgb16, &[0x12, 0x56, 0x9a]),
            (&wide[2..4], ExtendedColorType::L16, &[0x56, 0x56, 0x56]),
        ];
        for (values, color, rgb) in cases {
            let pixels = decode("x", &png(values, 1, 1, color)).unwrap();
            assert_eq!(pixels, Pixels { width: 1, height: 1, rgb: rgb.to_vec() }, "{color:?}");
        }
    }

    #[test]
    fn a_palette_is_looked_up_and_its_transparency_dropped() {
        // 2 x 2 pixels 0 1 / 2 1 of a palette of three, the second of them transparent; written by PIL
        const PALETTE: [u8; 104] = [
            0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00, 0x0d, 0x49, 0x48, 0x44, 0x52, 0x00, 0x00,
            0x00, 0x02, 0x00, 0x00, 0x00, 0x02, 0x02, 0x03, 0x00, 0x00, 0x00, 0x0f, 0xd8, 0xe5, 0xb7, 0x00, 0x00, 0x00,
            0x09, 0x50, 0x4c, 0x54, 0x45, 0x0a, 0x14, 0x1e, 0x28, 0x32, 0x3c, 0x46, 0x50, 0x5a, 0x16, 0xac, 0x84, 0x74,
            0x00, 0x00, 0x00, 0x02, 0x74, 0x52, 0x4e, 0x53, 0xff, 0x00, 0xe5, 0xb7, 0x30, 0x4a, 0x00, 0x00, 0x00, 0x0c,
            0x49, 0x44, 0x41, 0x54, 0x78, 0x9c, 0x63, 0x10, 0x60, 0x98, 0x00, 0x00, 0x00, 0xc4, 0x00, 0xa1, 0x16, 0x5c,
            0xba, 0x96, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82,
        ];
        let pixels = decode("x", &PALETTE).unwrap();
        assert_eq!(pixels.rgb, [10, 20, 30, 40, 50, 60, 70, 80, 90, 40, 50, 60]);
    }

    #[test]
    fn jpegs_are_told_by_content_and_grey_ones_are_read() {
        let pixels = decode("called.png", &jpeg(&[77; 30], 6, 5, ExtendedColorType::L8)).unwrap();
        assert_eq!(pixels, Pixels { width: 6, height: 5, rgb: vec![77; 90] });
        let pixels = decode("x", &jpeg(&[50; 3 * 17 * 9], 17, 9, ExtendedColorType::Rgb8)).unwrap();
        assert_eq!(pixels, Pixels { width: 17, height: 9, rgb: vec![50; 3 * 17 * 9] });
    }

    #[test]
    fn cut_pictures_are_refused_and_bytes_after_the_end_are_not() {
        let noise: Vec<u8> = (0..3 * 32 * 32u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let whole = jpeg(&noise, 32, 32, ExtendedColorType::Rgb8);
        for kept in [whole.len() - 2, whole.len() / 2, 100, 3] {
            assert!(reason(&whole[..kept]).contains("cut"), "{kept}");
        }
        let trailed = [whole.as_slice(), b"trailer"].concat();
        assert_eq!(decode("x", &trailed).unwrap(), decode("x", &whole).unwrap());
        let whole = png(&noise, 32, 32, ExtendedColorType::Rgb8);
        reason(&whole[..whole.len() / 2]);
    }

    #[test]
    fn what_is_no_picture_is_refused_with_what_it_is() {
        assert!(reason(b"").contains("empty"));
        assert!(reason(b"<html>").contains("neither"));
        assert!(reason(b"GIF89a\x01\0\x01\0\0\0\0;").contains("Gif"));
    }

    #[test]
    fn a_bomb_is_refused_by_its_header() {
        let mut bytes = png(&[0; 3], 1, 1, ExtendedColorType::Rgb8);
        bytes[16..20].copy_from_slice(&60_000u32.to_be_bytes());
        bytes[20..24].copy_from_slice(&60_000u32.to_be_bytes());
        let sum = crc32(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&sum.to_be_bytes());
        assert!(reason(&bytes).contains("60000 x 60000"), "{}", reason(&bytes));
    }

    fn crc32(bytes: &[u8]) -> u32 {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum()
    }

    #[test]
    fn hashes_are_those_of_sha256sum() {
        assert_eq!(content_hash(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
