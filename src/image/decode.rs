//! From a file's bytes to 8-bit RGB, as PIL's `convert("RGB")` gives it.

use std::any::Any;
use std::ffi::c_int;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::{io, mem};

use image::codecs::png::PngDecoder;
use image::{ImageDecoder, ImageError, Limits};
use mozjpeg::{ColorSpace, DctMethod, Decompress};
use mozjpeg_sys::{
    JERR_FILE_READ, JWRN_HIT_MARKER, JWRN_HUFF_BAD_CODE, JWRN_JPEG_EOF, JWRN_MUST_RESYNC, jpeg_common_struct,
    jpeg_error_mgr, jpeg_std_error,
};
use sha2::{Digest, Sha256};

use super::pixels::{MAX_PIXELS, Pixels, check_length, check_size, inverted_cmyk_to_rgb, oriented, to_rgb};
use super::{compressed, rows};
use crate::error::{Error, Result};

/// By the first bytes as many as this [`refusal`] tells what is no picture.
pub(super) const HEAD: usize = 1 << 16;

/// Deflate makes of a byte at most so many.
const MAX_DEFLATED: u64 = 1032;
/// A JPEG of Huffman codes has at least a bit for each 8 × 8 pixels.
const PIXELS_PER_JPEG_BYTE: u64 = 8 * 64;
/// Scans of a JPEG: each passes over all of the picture again. libjpeg's own programs write no more than these.
const MAX_SCANS: usize = 100;
/// What a PNG's profiles and texts may take.
const MAX_PNG_EXTRAS: u64 = 64 << 20;

/// Decode a picture: PNG, JPEG, WebP, TIFF, GIF, BMP, TGA or netpbm (PBM, PGM, PPM), told apart by content.
///
/// Grey is repeated in the three channels, palettes are looked up, alpha is dropped and the colour under it kept,
/// 16-bit channels keep their high byte, CMYK becomes RGB without a profile, of an animated picture or one of several
/// pages the first is taken (of an animated PNG the still one). All as PIL does it, and so of grey of more than 8 bits without
/// alpha every value is cut at 255.
/// JPEG leaves the decoder some freedom, so this one is libjpeg with PIL's settings (slow integer transform, halved
/// colour planes enlarged by interpolation): on 4,524 photographs and 1,248 files made in every colour layout, every
/// value was PIL's. What of TIFF is not read (JPEG within, planes apart, Lab, YCbCr) is refused by name.
/// The picture stays as stored: gamma and colour profiles are not applied, and EXIF orientation where [`Orientation`] says so;
/// a TIFF is turned as its own says in any case, as PIL does it.
///
/// Errors: [`Error::BadImage`] with `uri` for other formats, broken or cut files, and more than
/// [`MAX_PIXELS`](super::MAX_PIXELS).
/// A JPEG whose data ends early, holds a code that is in no table, or lacks a restart mark is broken too, end mark or
/// not, where PIL makes up the missing pixels. Stray bytes and odd headers cost no pixels and are passed over, as in
/// PIL. Damage that breaks no rule of the format goes unseen; PIL's vector code may then clip such pixels otherwise.
pub fn decode(uri: &str, bytes: &[u8], orientation: Orientation) -> Result<Pixels> {
    let bad = |reason: String| Error::BadImage { uri: uri.into(), reason };
    let decoded = match format(bytes) {
        Ok(Format::Png) => {
            let mut limits = Limits::no_limits();
            // profiles and texts, and two rows of 16-bit RGBA
            limits.max_alloc = Some(MAX_PNG_EXTRAS + 16 * u64::from(png_width(bytes)).min(MAX_PIXELS));
            let decoder = PngDecoder::with_limits(Cursor::new(bytes), limits).map_err(explain);
            decoder.and_then(|decoder| png(decoder, bytes))
        }
        Ok(Format::Jpeg) => catch_unwind(AssertUnwindSafe(|| jpeg(bytes))).unwrap_or_else(|stop| Err(stopped(stop))),
        Ok(Format::Netpbm) => rows::netpbm(bytes),
        Ok(Format::Bmp) => rows::bmp(bytes),
        Ok(Format::Tga) => rows::tga(bytes),
        Ok(Format::WebP) => compressed::webp(bytes),
        Ok(Format::Gif) => compressed::gif(bytes),
        Ok(Format::Tiff) => compressed::tiff(bytes),
        Err(reason) => Err(reason),
    };
    let pixels = decoded.map_err(bad)?;
    Ok(match orientation {
        Orientation::Stored => pixels,
        Orientation::Exif => oriented(pixels, exif_orientation(bytes).unwrap_or(1)),
    })
}

/// Whether a picture is turned as its EXIF data ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Orientation {
    /// It stays as it is stored, as in the reference pipelines.
    #[default]
    Stored,
    /// It is turned, as PIL's `ImageOps.exif_transpose` does it.
    Exif,
}

/// What is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Png,
    Jpeg,
    Netpbm,
    Bmp,
    Tga,
    WebP,
    Gif,
    Tiff,
}

/// Formats that are known and not read, by what they begin with (from a byte on).
const NOT_READ: [(usize, &[u8], &str); 21] = [
    (4, b"ftypavif", "AVIF"),
    (4, b"ftypavis", "AVIF"),
    (4, b"ftyphei", "HEIC"),
    (4, b"ftyphev", "HEIC"),
    (4, b"ftypmif1", "HEIC or AVIF"),
    (4, b"ftypmsf1", "HEIC or AVIF"),
    (4, b"ftyp", "a video, or of its family"),
    (0, b"\0\0\0\x0cJXL ", "JPEG XL"),
    (0, b"\xff\x0a", "JPEG XL"),
    (0, b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"\0\0\x01\0", "an icon (ICO)"),
    (0, b"#?RADIANCE", "Radiance HDR"),
    (0, b"\x76\x2f\x31\x01", "OpenEXR"),
    (0, b"DDS ", "DDS"),
    (0, b"qoif", "QOI"),
    (0, b"farbfeld", "farbfeld"),
    (0, b"<svg", "SVG"),
    (0, b"%PDF", "PDF"),
    (0, b"SIMPLE  =", "FITS"),
];

/// What is read, for messages.
const READ: &str = "PNG, JPEG, WebP, TIFF, GIF, BMP, TGA, PPM, PGM and PBM";

/// Which format a file begins as, or why it is none that is read.
fn format(head: &[u8]) -> Result<Format, String> {
    match head {
        [] => Err("the file is empty".into()),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Ok(Format::Png),
        [0xff, 0xd8, 0xff, ..] => Ok(Format::Jpeg),
        [b'P', b'1'..=b'7', blank, ..] if blank.is_ascii_whitespace() || *blank == b'#' => Ok(Format::Netpbm),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Format::WebP),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Ok(Format::Gif),
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Ok(Format::Tiff),
        [b'B', b'M', ..] if head.len() >= 26 => Ok(Format::Bmp),
        _ => match NOT_READ.iter().find(|(at, mark, _)| head.get(*at..).is_some_and(|rest| rest.starts_with(mark))) {
            Some((_, _, name)) => Err(format!("it is {name}, and only {READ} are read: convert it")),
            None if rows::may_be_tga(head) => Ok(Format::Tga),
            None => Err(format!("its contents are none of {READ}")),
        },
    }
}

/// What the name of a picture's file ends in, without the dot, by its first bytes whatever it is called: `png`, `jpg`, `webp`, `tiff`,
/// `gif`, `bmp`, `tga`, `pbm`, `pgm`, `ppm` or `pam`.
///
/// Errors: why it is no picture that is read.
pub fn extension(bytes: &[u8]) -> Result<&'static str, String> {
    let head = &bytes[..bytes.len().min(HEAD)];
    Ok(match format(head)? {
        Format::Png => "png",
        Format::Jpeg => "jpg",
        Format::Netpbm => match head.get(1) {
            Some(b'1' | b'4') => "pbm",
            Some(b'2' | b'5') => "pgm",
            Some(b'3' | b'6') => "ppm",
            _ => "pam",
        },
        Format::Bmp => "bmp",
        Format::Tga => "tga",
        Format::WebP => "webp",
        Format::Gif => "gif",
        Format::Tiff => "tiff",
    })
}

/// Why a file that begins so is no picture that is read; `None` where it may be one.
pub(super) fn refusal(head: &[u8]) -> Option<String> {
    format(head).err()
}

/// The orientation in a picture's EXIF data, 1 to 8.
fn exif_orientation(bytes: &[u8]) -> Option<u8> {
    let exif = match format(bytes).ok()? {
        Format::Jpeg => jpeg_exif(bytes).map(Vec::from),
        Format::Png => {
            PngDecoder::with_limits(Cursor::new(bytes), Limits::no_limits()).ok()?.exif_metadata().ok().flatten()
        }
        Format::WebP => compressed::webp_exif(bytes),
        // a TIFF is turned already; the others have none
        _ => None,
    };
    let exif = exif?;
    let exif = exif.strip_prefix(b"Exif\0\0").unwrap_or(&exif);
    image::metadata::Orientation::from_exif_chunk(exif).map(image::metadata::Orientation::to_exif)
}

/// The EXIF data of a JPEG: the segment APP1 of that name, before its pixels.
fn jpeg_exif(bytes: &[u8]) -> Option<&[u8]> {
    let mut at = 2;
    loop {
        let [0xff, marker, high, low] = *bytes.get(at..at + 4)?.first_chunk()? else { return None };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let segment = bytes.get(at + 4..at + 2 + length)?;
        match marker {
            0xe1 if segment.starts_with(b"Exif\0\0") => return Some(segment),
            0xda => return None,
            _ => at += 2 + length,
        }
    }
}

/// SHA-256 of a file's bytes, 64 lower-case hexadecimal digits: equal files have equal hashes wherever they lie.
pub fn content_hash(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

fn explain(error: ImageError) -> String {
    error.to_string().lines().collect::<Vec<_>>().join(" ")
}

/// As its header has it, which comes first.
fn png_width(bytes: &[u8]) -> u32 {
    bytes.get(16..20).and_then(|width| width.try_into().ok()).map_or(0, u32::from_be_bytes)
}

/// Bytes of a PNG's rows before they are compressed, by its header.
fn png_raw_bytes(bytes: &[u8], width: u32, height: u32) -> u64 {
    let channels = match bytes.get(25) {
        Some(2) => 3,
        Some(4) => 2,
        Some(6) => 4,
        _ => 1,
    };
    let bits = u64::from(width) * channels * bytes.get(24).map_or(1, |&depth| u64::from(depth));
    u64::from(height) * (1 + bits.div_ceil(8))
}

fn png(decoder: PngDecoder<Cursor<&[u8]>>, bytes: &[u8]) -> Result<Pixels, String> {
    let (width, height) = decoder.dimensions();
    check_size(width, height)?;
    check_length(bytes, width, height, png_raw_bytes(bytes, width, height) / MAX_DEFLATED)?;
    let color = decoder.color_type();
    let channels = usize::from(color.channel_count());
    let wide = usize::from(color.bytes_per_pixel()) == 2 * channels;
    // grey, or grey with a transparent one, which the decoder makes a channel of its own
    let is_grey = bytes.get(25) == Some(&0);
    let mut values = vec![0; decoder.total_bytes() as usize];
    decoder.read_image(&mut values).map_err(explain)?;
    if wide {
        let value = |pair: &[u8]| u16::from_ne_bytes([pair[0], pair[1]]);
        let narrow = |value: u16| if is_grey { value.min(255) as u8 } else { (value >> 8) as u8 };
        // in place, as below: a picture at the limit has hundreds of megabytes
        let count = values.len() / 2;
        (0..count).for_each(|at| values[at] = narrow(value(&values[2 * at..][..2])));
        values.truncate(count);
    }
    let rgb = to_rgb(values, channels);
    Ok(Pixels { width, height, rgb })
}

/// Errors are returned or, from within libjpeg, unwind with a [`Stop`].
fn jpeg(bytes: &[u8]) -> Result<Pixels, String> {
    let explain = |error: io::Error| error.to_string();
    let mut header = Decompress::builder().with_err(stop_on_errors()).from_mem(bytes).map_err(explain)?;
    // libjpeg takes no side above 65,500
    let (width, height) = (header.width() as u32, header.height() as u32);
    check_size(width, height)?;
    check_length(bytes, width, height, u64::from(width) * u64::from(height) / PIXELS_PER_JPEG_BYTE)?;
    let scans = scans(bytes);
    if scans > MAX_SCANS {
        return Err(format!("it has more than {MAX_SCANS} scans, each of which passes over all of it: save it anew"));
    }
    header.dct_method(DctMethod::IntegerSlow);
    header.do_fancy_upsampling(true);
    let space = match header.components().len() {
        1 | 3 => ColorSpace::JCS_RGB,
        4 => ColorSpace::JCS_CMYK,
        channels => return Err(format!("it has {channels} channels, and a JPEG with 1, 3 or 4 is read")),
    };
    let mut started = header.to_colorspace(space).map_err(explain)?;
    let values: Vec<u8> = started.read_scanlines().map_err(explain)?;
    // reads up to the end mark, which a picture cut between its scans lacks
    started.finish().map_err(explain)?;
    if space == ColorSpace::JCS_RGB {
        return Ok(Pixels { width, height, rgb: values });
    }
    let mut rgb = Vec::with_capacity(values.len() / 4 * 3);
    for &[cyan, magenta, yellow, black] in values.as_chunks().0 {
        rgb.extend([cyan, magenta, yellow].map(|ink| inverted_cmyk_to_rgb(ink, black)));
    }
    Ok(Pixels { width, height, rgb })
}

/// The scans of a JPEG, as far as there are not too many. What stands between markers, its pixels above all, holds no
/// FF that is not followed by 0 or by the number of a restart.
fn scans(bytes: &[u8]) -> usize {
    const START_OF_SCAN: u8 = 0xda;
    const END: u8 = 0xd9;
    let (mut at, mut scans) = (2, 0);
    while scans <= MAX_SCANS {
        let Some(mark) = bytes.get(at..).and_then(|rest| rest.iter().position(|&byte| byte == 0xff)) else { break };
        at += mark + 1;
        match bytes.get(at) {
            None | Some(&END) => break,
            Some(0xff) => {} // they may be repeated
            Some(0x00 | 0x01 | 0xd0..=0xd8) => at += 1,
            Some(&marker) => {
                scans += usize::from(marker == START_OF_SCAN);
                let length =
                    bytes.get(at + 1..at + 3).map_or(0, |two| usize::from(u16::from_be_bytes([two[0], two[1]])));
                at += 1 + length;
            }
        }
    }
    scans
}

/// What unwinds through libjpeg, which knows no other way to stop: the reason.
struct Stop(String);

fn stopped(stop: Box<dyn Any + Send>) -> String {
    stop.downcast::<Stop>().map_or_else(|_| DECODER_PANICKED.into(), |stop| stop.0)
}

const DECODER_PANICKED: &str = "the JPEG decoder panicked on it: please report this picture";

/// libjpeg's own handler would print and end the process.
fn stop_on_errors() -> jpeg_error_mgr {
    // SAFETY: all fields are integers, null pointers or absent functions when zero; the call fills them, none of them
    // with a pointer to the struct itself.
    let mut errors = unsafe {
        let mut errors: jpeg_error_mgr = mem::zeroed();
        jpeg_std_error(&mut errors);
        errors
    };
    errors.error_exit = Some(on_error);
    errors.emit_message = Some(on_message);
    errors
}

/// Never returns, as libjpeg asks of it. `resume_unwind` does not call the panic hook: nothing is printed.
extern "C-unwind" fn on_error(jpeg: &mut jpeg_common_struct) {
    resume_unwind(Box::new(Stop(message(jpeg))))
}

/// Stops where libjpeg would go on with pixels that it made up.
extern "C-unwind" fn on_message(jpeg: &mut jpeg_common_struct, level: c_int) {
    const WARNING: c_int = -1;
    const PIXELS_LOST: [c_int; 4] = [JWRN_JPEG_EOF, JWRN_HIT_MARKER, JWRN_HUFF_BAD_CODE, JWRN_MUST_RESYNC];
    // SAFETY: libjpeg calls this with the handler set that `Decompress` keeps as long as itself.
    let code = unsafe { (*jpeg.err).msg_code };
    if level == WARNING && PIXELS_LOST.contains(&code) {
        on_error(jpeg);
    }
}

fn message(jpeg: &mut jpeg_common_struct) -> String {
    type Format = unsafe extern "C-unwind" fn(&mut jpeg_common_struct, *mut u8);
    const MAX_MESSAGE: usize = 200; // JMSG_LENGTH_MAX
    // SAFETY: as above.
    let (code, format) = unsafe { ((*jpeg.err).msg_code, (*jpeg.err).format_message) };
    if [JERR_FILE_READ, JWRN_JPEG_EOF].contains(&code) {
        return "the JPEG is cut: its end mark is missing".into();
    }
    let Some(format) = format else { return format!("libjpeg error {code}") };
    let mut text = [0; MAX_MESSAGE];
    // SAFETY: this is jpeg_std_error's function; in C it takes a char pointer, and writes at most JMSG_LENGTH_MAX
    // bytes with the 0 at their end.
    unsafe {
        let format = mem::transmute::<unsafe extern "C-unwind" fn(&mut jpeg_common_struct, &[u8; 80]), Format>(format);
        format(jpeg, text.as_mut_ptr());
    }
    String::from_utf8_lossy(text.split(|&byte| byte == 0).next().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use image::codecs::png::PngEncoder;
    use image::{ExtendedColorType, ImageEncoder};
    use mozjpeg::Compress;

    use super::*;

    fn png(values: &[u8], width: u32, height: u32, color: ExtendedColorType) -> Vec<u8> {
        let mut bytes = Vec::new();
        PngEncoder::new(&mut bytes).write_image(values, width, height, color).unwrap();
        bytes
    }

    fn jpeg(values: &[u8], width: usize, height: usize, color: ColorSpace) -> Vec<u8> {
        let mut settings = Compress::new(color);
        settings.set_size(width, height);
        settings.set_fastest_defaults();
        settings.set_quality(100.0);
        let mut started = settings.start_compress(Vec::new()).unwrap();
        started.write_scanlines(values).unwrap();
        started.finish().unwrap()
    }

    fn hex(digits: &str) -> Vec<u8> {
        let digits = digits.as_bytes().chunks_exact(2).map(|pair| std::str::from_utf8(pair).unwrap());
        digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    fn decode(uri: &str, bytes: &[u8]) -> Result<Pixels> {
        super::decode(uri, bytes, Orientation::Stored)
    }

    /// What PIL gave of pictures of every format, and of every kind of each (`tests/goldens/formats.py`).
    #[test]
    fn every_format_becomes_rgb_as_in_pil() {
        let packed = include_bytes!("../../tests/goldens/formats.tar.gz");
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&packed[..]));
        let mut files: std::collections::BTreeMap<String, Vec<u8>> = Default::default();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut entry, &mut bytes).unwrap();
            files.insert(entry.path().unwrap().to_str().unwrap().into(), bytes);
        }
        let expected = files.remove("expected.json").unwrap();
        let expected: std::collections::HashMap<String, (u32, u32, String)> =
            serde_json::from_slice(&expected).unwrap();
        assert!(expected.len() == files.len() && files.len() > 100, "{}", files.len());
        for (name, bytes) in &files {
            let is_turned = name.starts_with("exif");
            let orientation = if is_turned { Orientation::Exif } else { Orientation::Stored };
            let pixels = super::decode(name, bytes, orientation).unwrap();
            assert_eq!((pixels.width, pixels.height, content_hash(&pixels.rgb)), expected[name], "{name}");
            // cut anywhere it is an error or a picture, and no more than that
            for kept in [bytes.len() / 3, bytes.len() / 2, bytes.len() - 1] {
                if let Ok(pixels) = decode(name, &bytes[..kept]) {
                    assert_eq!(
                        pixels.rgb.len() as u64,
                        3 * u64::from(pixels.width) * u64::from(pixels.height),
                        "{name}"
                    );
                }
            }
        }
        // a transparent colour changes no grey of 16 bits
        assert_eq!(expected["grey-16.png"], expected["grey-16-transparent.png"]);
        let stored = decode("x", &files["exif-6.jpe"]).unwrap();
        assert_eq!((stored.width, stored.height, expected["exif-6.jpe"].0), (29, 23, 23));
    }

    /// A few bytes that claim a hundred million pixels would cost their room in every thread.
    #[test]
    fn small_files_of_any_format_that_claim_large_pictures_are_refused() {
        let le = |value: u32| value.to_le_bytes();
        let side = |side: u16| side.to_le_bytes();
        let frame = [&[b','][..], &[0; 4], &side(1), &side(1), &[0, 2, 0, b';']].concat();
        let palette = [&[0x80, 0, 0][..], &[9; 6]].concat();
        let gif = [&b"GIF89a"[..], &side(10_000), &side(10_000), &palette, &frame].concat();
        let mut tga = vec![0; 40];
        (tga[2], tga[16]) = (10, 24);
        tga[12..14].copy_from_slice(&side(10_000));
        tga[14..16].copy_from_slice(&side(10_000));
        let bmp = |compression: u32| {
            let head = [
                &b"BM"[..],
                &le(0),
                &le(0),
                &le(54),
                &le(40),
                &le(10_000),
                &le(10_000),
                &[1, 0, 8, 0],
                &le(compression),
            ];
            [&head.concat()[..], &[0; 20], &[0; 1024]].concat()
        };
        let entry = |tag: u16, value: u32| [&tag.to_le_bytes()[..], &[4, 0], &le(1), &le(value)].concat();
        let tiff = [
            &b"II*\0"[..],
            &le(8),
            &[7, 0],
            &entry(256, 10_000),
            &entry(257, 10_000),
            &entry(258, 8),
            &entry(259, 32773),
            &entry(262, 1),
            &entry(273, 8),
            &entry(279, 8),
            &le(0),
        ]
        .concat();
        // 2 f: a chunk of lossless data, its sides less one in 14 bits each
        let sides = 9_999u32 | 9_999 << 14;
        let webp = [&b"RIFF"[..], &le(22), b"WEBPVP8L", &le(10), &[0x2f], &le(sides), &[0; 5]].concat();
        for (name, bytes) in
            [("gif", &gif), ("tga", &tga), ("bmp", &bmp(0)), ("runs", &bmp(1)), ("tiff", &tiff), ("webp", &webp)]
        {
            let reason = reason(bytes);
            assert!(reason.contains("bytes cannot hold the 10000 x 10000 pixels"), "{name}: {reason}");
        }
        let mut huge = bmp(0);
        huge[18..22].copy_from_slice(&le(60_000));
        assert!(reason(&huge).contains("it has 60000 x 10000 pixels, and at most 100000000"), "{}", reason(&huge));
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
        let dark = 0x80u16.to_ne_bytes();
        let cases: [(&[u8], ExtendedColorType, &[u8]); 7] = [
            (&[1, 2, 3], ExtendedColorType::Rgb8, &[1, 2, 3]),
            (&[1, 2, 3, 0], ExtendedColorType::Rgba8, &[1, 2, 3]),
            (&[9], ExtendedColorType::L8, &[9, 9, 9]),
            (&[9, 0], ExtendedColorType::La8, &[9, 9, 9]),
            (&wide, ExtendedColorType::Rgb16, &[0x12, 0x56, 0x9a]),
            (&wide[2..4], ExtendedColorType::L16, &[255, 255, 255]),
            (&dark, ExtendedColorType::L16, &[0x80, 0x80, 0x80]),
        ];
        for (values, color, rgb) in cases {
            let pixels = decode("x", &png(values, 1, 1, color)).unwrap();
            assert_eq!(pixels, Pixels { width: 1, height: 1, rgb: rgb.to_vec() }, "{color:?}");
        }
    }

    #[test]
    fn netpbm_files_are_read_and_others_say_why_not() {
        let pixels = decode("x", b"P6\n# by hand\n2 1\n255\n\x01\x02\x03\x04\x05\x06").unwrap();
        assert_eq!(pixels, Pixels { width: 2, height: 1, rgb: vec![1, 2, 3, 4, 5, 6] });
        assert_eq!(decode("x", b"P5 1 2 255\n\x0a\x09").unwrap().rgb, [10, 10, 10, 9, 9, 9]);
        for (bytes, why) in [
            (&b"P5 1 2 255\n\x0a"[..], "cut"),
            (b"P5 1 2", "header"),
            (b"P5 0 2 255\n", "no pixels"),
            (b"P5 1 1 65536\n\0\0", "65536"),
            (b"P5 1 1 0\n\0\0", "up to 0"),
            (b"P5 2 1 65535\n\0\0\0", "cut"),
            (b"P3 1 1 255\n1 2", "cut"),
            (b"P3 1 1 255\n1 2 256", "is 256"),
            (b"P1 2 1\n1 2", "neither 0 nor 1"),
            (b"P7\nWIDTH 1\n", "P1 to P6"),
            (b"P5 99999 99999 255\n", "at most"),
            (b"P5 #", "header"),
        ] {
            assert!(reason(bytes).contains(why), "{}", reason(bytes));
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
        let pixels = decode("called.png", &jpeg(&[77; 30], 6, 5, ColorSpace::JCS_GRAYSCALE)).unwrap();
        assert_eq!(pixels, Pixels { width: 6, height: 5, rgb: vec![77; 90] });
        let pixels = decode("x", &jpeg(&[50; 3 * 17 * 9], 17, 9, ColorSpace::JCS_RGB)).unwrap();
        assert_eq!(pixels, Pixels { width: 17, height: 9, rgb: vec![50; 3 * 17 * 9] });
    }

    /// 19 x 13 pixels, colour planes halved both ways; written by PIL.
    const HALVED: &str = "ffd8ffe000104a46494600010100000100010000ffdb004300100b0c0e0c0a100e0d0e1211101318281a181616183123251d283a\
        333d3c3933383740485c4e404457453738506d51575f626768673e4d71797064785c656763ffdb0043011112121815182f1a1a2f\
        63423842636363636363636363636363636363636363636363636363636363636363636363636363636363636363636363636363\
        6363ffc0001108000d001303012200021101031101ffc40017000003010000000000000000000000000000040506ffc4001f1000\
        020202010500000000000000000000010200040311310512213261ffc400160101010100000000000000000000000000050304ff\
        c4001e11000104010500000000000000000000000400010211051213212251ffda000c03010002110311003f0088b48635db08d5\
        4aab949ed5e25d4a7898699411f4472bd2c29e88abbe7435349474f55df0a609f0dbaaedea883a7f8e2134e2aa6a1097c83a6d8e\
        7a5fffd9";

    /// 19 x 13 pixels, progressive, colour planes halved one way; written by PIL.
    const PROGRESSIVE: &str = "ffd8ffe000104a46494600010100000100010000ffdb004300100b0c0e0c0a100e0d0e1211101318281a181616183123251d283a\
        333d3c3933383740485c4e404457453738506d51575f626768673e4d71797064785c656763ffdb0043011112121815182f1a1a2f\
        63423842636363636363636363636363636363636363636363636363636363636363636363636363636363636363636363636363\
        6363ffc2001108000d001303012100021101031101ffc400160001010100000000000000000000000000030004ffc40017010100\
        030000000000000000000000000004020305ffda000c03010002100310000001c2abb9e2b343430da1bfffc40019100002030100\
        0000000000000000000000000201111213ffda0008010100010502c50ab6733102a4193fffc4001a110002020300000000000000\
        000000000000031112021332ffda0008010301013f01471736086651058fffc4001b110002010500000000000000000000000000\
        03010211121322ffda0008010201013f016bbab1b06d46527fffc40014100100000000000000000000000000000020ffda000801\
        0100063f025fffc400191001000301010000000000000000000000010011311021ffda0008010100013f2128f61e0e04d2070095\
        9fffda000c03010002000300000010cc01ffc400191100030101010000000000000000000000000111213151ffda000801030101\
        3f1047d058205e782787ffc40017110101010100000000000000000000000000011131ffda0008010201013f10bf1569baabffc4\
        001a100100020301000000000000000000000001001121314161ffda0008010100013f101b0465e10c350aa04f49d5cdd150a67f\
        ffd9";

    /// 19 x 13 pixels, CMYK; written by PIL.
    const CMYK: &str = "ffd8ffee000e41646f626500640000000000ffdb004300140e0f120f0d14121012171514181e32211e1c1c1e3d2c2e243249404c\
        4b47404645505a736250556d5645466488656d777b8182814e608d978c7d96737e817cffc0001408000d0013044311004d110059\
        11004b1100ffc4001a000100020301000000000000000000000005020601030407ffc40028100001040201030304030000000000\
        00000100020311041205142131133241152242d1616271ffda000e0443004d0059004b00003f005f9fcbe8e20fd37d9dad5d7c1f\
        d27b1b3dd9321635f440b42f11c6f5b318cbfd3a6ed7adfc8fdab2e4c9e555e6c9ea5af3a6b5fcda96566bb1b5d9f7b5a527e306\
        198c0937daff001aaa4464c9e50f27bcae7fabff0065b1b0f61d91ce93ee2bd1f958d928224635e01b01c2d52a3e4b22276d1bdc\
        c3556d7108ec4da2371bdcc2455b4d27f25c7baab6746c6070631adff052cc9c9e4cb5eac8f7d78d9c4d24e22e92bd47b9f5e363\
        689c971ee8193de543ae9576b631411ce71d8affd9";

    #[test]
    fn jpegs_are_decoded_to_the_bit_as_in_pil() {
        let cases = [
            (HALVED, "97550991455f8b8a9277b639ab9505b6d54e837221c3c27c129313578ccaa22f"),
            (PROGRESSIVE, "63f915502fab3a072cbde7e948cc341c11a025834549e0c3aa4fb3e70fbf1323"),
            (CMYK, "75d6f0f51d72149d91d2c134fd3037e5153962c40d8dbda3d62cf29ca089f742"),
        ];
        for (digits, hash_in_pil) in cases {
            let pixels = decode("x", &hex(digits)).unwrap();
            assert_eq!((pixels.width, pixels.height), (19, 13));
            assert_eq!(content_hash(&pixels.rgb), hash_in_pil);
        }
    }

    #[test]
    fn a_jpeg_that_lost_pixels_is_refused_though_it_has_its_end_mark() {
        let whole = hex(HALVED);
        let cut = [&whole[..whole.len() - 30], &[0xff, 0xd9]].concat();
        assert!(reason(&cut).contains("premature end"), "{}", reason(&cut));
        // the stray bytes before the end mark cost none
        let stray = [&whole[..whole.len() - 2], &[0, 0, 0, 0xff, 0xd9]].concat();
        assert_eq!(decode("x", &stray).unwrap(), decode("x", &whole).unwrap());
    }

    #[test]
    fn no_damage_to_a_jpeg_ends_in_more_than_an_error() {
        let (mut state, mut decoded, mut refused) = (1u64, 0, 0);
        let mut below = |bound: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % bound
        };
        for whole in [HALVED, PROGRESSIVE, CMYK].map(hex) {
            let frame = whole.windows(2).position(|pair| matches!(pair, [0xff, 0xc0 | 0xc2])).unwrap();
            for round in 0..3000 {
                let mut bytes = whole.clone();
                for _ in 0..below(4) {
                    let at = below(bytes.len());
                    bytes[at] = if round % 2 == 0 { bytes[at] ^ 1 << below(8) } else { below(256) as u8 };
                }
                if round % 3 == 0 {
                    bytes.truncate(below(whole.len()));
                }
                // a side of thousands is allowed and slow
                if let Some(sides) = bytes.get_mut(frame + 5..frame + 9) {
                    (sides[0], sides[2]) = (0, 0);
                }
                match decode("x", &bytes) {
                    Ok(pixels) => {
                        assert_eq!(pixels.rgb.len() as u64, 3 * u64::from(pixels.width) * u64::from(pixels.height));
                        decoded += 1;
                    }
                    Err(Error::BadImage { reason, .. }) => {
                        assert!(!reason.is_empty() && reason != DECODER_PANICKED, "{bytes:?}");
                        refused += 1;
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
        }
        assert!(decoded > 1000 && refused > 1000, "{decoded} {refused}");
    }

    #[test]
    fn cut_pictures_are_refused_and_bytes_after_the_end_are_not() {
        let noise: Vec<u8> = (0..3 * 32 * 32u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let whole = jpeg(&noise, 32, 32, ColorSpace::JCS_RGB);
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
        assert!(reason(b"<html>").contains("its contents are none of PNG, JPEG, WebP"));
        for (head, name) in [
            (&b"\0\0\0\x1cftypavif\0\0\0\0"[..], "it is AVIF, and only PNG"),
            (b"\0\0\0\x18ftypheic\0\0\0\0", "it is HEIC"),
            (b"\0\0\0\x0cJXL \r\n\x87\n", "it is JPEG XL"),
            (b"\xff\x0a\0\0", "it is JPEG XL"),
            (b"\0\0\0\x0cjP  \r\n", "it is JPEG 2000"),
            (b"8BPS\0\x01", "it is a Photoshop document"),
            (b"<svg xmlns=", "it is SVG"),
        ] {
            assert!(reason(head).contains(name), "{}", reason(head));
        }
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

    #[test]
    fn a_jpeg_bomb_is_refused_by_its_header() {
        let mut bytes = hex(HALVED);
        let frame = bytes.windows(2).position(|pair| pair == [0xff, 0xc0]).unwrap();
        bytes[frame + 5..frame + 9].copy_from_slice(&[0xf0, 0, 0xf0, 0]);
        assert!(reason(&bytes).contains("61440 x 61440"), "{}", reason(&bytes));
    }

    /// A hundred bytes that claim a hundred million pixels would cost their room in every thread.
    #[test]
    fn a_small_file_that_claims_a_large_picture_is_refused_before_there_is_room_for_it() {
        let mut bytes = png(&[0; 3], 1, 1, ExtendedColorType::Rgb8);
        bytes[16..20].copy_from_slice(&10_000u32.to_be_bytes());
        bytes[20..24].copy_from_slice(&10_000u32.to_be_bytes());
        let sum = crc32(&bytes[12..29]);
        bytes[29..33].copy_from_slice(&sum.to_be_bytes());
        assert!(reason(&bytes).contains("bytes cannot hold the 10000 x 10000 pixels"), "{}", reason(&bytes));
        for whole in [HALVED, PROGRESSIVE, CMYK].map(hex) {
            let mut bytes = whole.clone();
            let frame = bytes.windows(2).position(|pair| matches!(pair, [0xff, 0xc0 | 0xc2])).unwrap();
            bytes[frame + 5..frame + 9].copy_from_slice(&[0x27, 0x10, 0x27, 0x10]);
            assert!(reason(&bytes).contains("bytes cannot hold the 10000 x 10000 pixels"), "{}", reason(&bytes));
        }
        // what compresses best is whole: 4,000 x 4,000 pixels of one colour
        let blank = vec![255; 16_000_000];
        let decoded = decode("x", &png(&blank, 4000, 4000, ExtendedColorType::L8)).unwrap();
        assert!(decoded.rgb.len() == 48_000_000 && decoded.rgb.iter().all(|&value| value == 255));
        for progressive in [false, true] {
            let mut settings = Compress::new(ColorSpace::JCS_GRAYSCALE);
            settings.set_size(4000, 4000);
            settings.set_quality(1.0);
            if progressive {
                settings.set_progressive_mode();
            }
            settings.set_optimize_coding(true);
            let mut started = settings.start_compress(Vec::new()).unwrap();
            started.write_scanlines(&blank).unwrap();
            let decoded = decode("x", &started.finish().unwrap()).unwrap();
            assert!(decoded.rgb.iter().all(|&value| value == decoded.rgb[0]), "{progressive}");
        }
    }

    #[test]
    fn a_jpeg_of_a_thousand_scans_is_refused_and_one_of_as_many_as_are_written_is_read() {
        let whole = hex(PROGRESSIVE);
        let first = whole.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
        let is_marker = |pair: &[u8]| pair[0] == 0xff && pair[1] != 0;
        let length = 2 + whole[first + 2..].windows(2).position(is_marker).unwrap();
        // the first scan again and again: it gives the same values each time
        let with = |times: usize| {
            let scan = whole[first..first + length].repeat(times);
            [&whole[..first], &scan, &whole[first + length..]].concat()
        };
        assert_eq!((scans(&whole), scans(&hex(HALVED)), scans(&[])), (10, 1, 0));
        assert_eq!(with(1), whole);
        let scanned = MAX_SCANS - 9;
        assert_eq!(decode("x", &with(scanned)).unwrap(), decode("x", &whole).unwrap());
        assert!(reason(&with(scanned + 1)).contains("more than 100 scans"), "{}", reason(&with(scanned + 1)));
        assert!(reason(&with(1000)).contains("more than 100 scans"));
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
