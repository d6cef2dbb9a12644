//! Formats that crates of their own decode: WebP, GIF and TIFF, each as PIL gives it.

use std::io::Cursor;

use gif::{ColorOutput, DecodeOptions, MemoryLimit};
use image_webp::WebPDecoder;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError};

use super::pixels::{MAX_PIXELS, Pixels, check_compressed, oriented, to_rgb};

/// Pixels that a byte of WebP or GIF stands for at most, above those that are free.
const PIXELS_PER_BYTE: u64 = 4096;
/// A byte of a fax of blank paper is eight rows.
const PIXELS_PER_FAX_BYTE: u64 = 1 << 16;
/// What a file's profiles and texts may take.
const MAX_EXTRAS: usize = 64 << 20;

/// A WebP, lossy or not; of an animated one the first picture.
pub(super) fn webp(bytes: &[u8]) -> Result<Pixels, String> {
    caught(|| {
        let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(text)?;
        decoder.set_memory_limit(MAX_EXTRAS);
        let (width, height) = decoder.dimensions();
        check_compressed(bytes, width, height, PIXELS_PER_BYTE)?;
        let channels = if decoder.has_alpha() { 4 } else { 3 };
        let mut values = vec![0; channels * width as usize * height as usize];
        decoder.read_image(&mut values).map_err(text)?;
        Ok(Pixels { width, height, rgb: to_rgb(values, channels) })
    })
}

/// The orientation that a WebP's EXIF data ask for.
pub(super) fn webp_exif(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).ok()?;
    decoder.set_memory_limit(MAX_EXTRAS);
    decoder.exif_metadata().ok()?
}

/// The first picture of a GIF, on its canvas: where it leaves that free, there is the colour that it calls transparent.
pub(super) fn gif(bytes: &[u8]) -> Result<Pixels, String> {
    caught(|| {
        let mut options = DecodeOptions::new();
        options.set_color_output(ColorOutput::Indexed);
        options.set_memory_limit(MemoryLimit::Unlimited); // of a frame, whose size is checked below
        options.check_lzw_end_code(false);
        let mut decoder = options.read_info(Cursor::new(bytes)).map_err(text)?;
        let (canvas_width, canvas_height) = (decoder.width(), decoder.height());
        let frame = decoder.next_frame_info().map_err(text)?.ok_or("it holds no picture")?;
        let (left, top, columns, rows) = (frame.left, frame.top, frame.width, frame.height);
        let (transparent, own) = (frame.transparent, frame.palette.clone());
        let width = u32::from(canvas_width).max(u32::from(left) + u32::from(columns));
        let height = u32::from(canvas_height).max(u32::from(top) + u32::from(rows));
        check_compressed(bytes, width, height, PIXELS_PER_BYTE)?;
        let mut indexes = vec![0; decoder.buffer_size()];
        decoder.read_into_buffer(&mut indexes).map_err(text)?;
        // without a palette, and beyond a short one, an index is a grey
        let mut palette: Vec<[u8; 3]> = (0..=255).map(|grey| [grey; 3]).collect();
        let colours = own.as_deref().or(decoder.global_palette()).unwrap_or_default();
        palette.iter_mut().zip(colours.as_chunks().0).for_each(|(to, from)| *to = *from);
        let free = palette[usize::from(transparent.unwrap_or(0))];
        let mut rgb = free.repeat(width as usize * height as usize);
        for (row, indexes) in indexes.chunks_exact(usize::from(columns).max(1)).enumerate() {
            let start = 3 * ((usize::from(top) + row) * width as usize + usize::from(left));
            let colours = indexes.iter().flat_map(|&index| palette[usize::from(index)]);
            rgb[start..].iter_mut().zip(colours).for_each(|(to, from)| *to = from);
        }
        Ok(Pixels { width, height, rgb })
    })
}

/// The first page of a TIFF: grey, RGB, CMYK or a palette, turned as its orientation says. Of colours in 16 bits the high byte
/// is kept, greys of more than 8 bits are cut at 255, alpha is dropped and, where the colour was multiplied by it, divided out.
pub(super) fn tiff(bytes: &[u8]) -> Result<Pixels, String> {
    caught(|| {
        let mut limits = Limits::default();
        limits.decoding_buffer_size = 16 * MAX_PIXELS as usize;
        limits.intermediate_buffer_size = limits.decoding_buffer_size;
        let as_grey = palette_as_grey(bytes);
        let is_palette = as_grey.is_some();
        let bytes = as_grey.as_deref().unwrap_or(bytes);
        let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(of_tiff)?.with_limits(limits);
        let (width, height) = decoder.dimensions().map_err(of_tiff)?;
        check_compressed(bytes, width, height, PIXELS_PER_FAX_BYTE)?;
        let color = decoder.colortype().map_err(of_tiff)?;
        let mut numbers = |tag| decoder.find_tag_unsigned_vec::<u16>(tag).ok().flatten().unwrap_or_default();
        let first = |numbers: Vec<u16>, default| numbers.first().copied().unwrap_or(default);
        let is_planar = first(numbers(Tag::PlanarConfiguration), 1) == 2;
        let is_multiplied = first(numbers(Tag::ExtraSamples), 0) == 1;
        let orientation = first(numbers(Tag::Orientation), 1) as u8;
        let palette = if is_palette { numbers(Tag::ColorMap) } else { Vec::new() };
        let channels = usize::from(color.num_samples());
        if is_planar && channels > 1 {
            return Err("it is a TIFF whose channels lie apart (planar), which is not read: convert it".into());
        }
        let bits = color.bit_depth();
        let values = narrowed(decoder.read_image().map_err(of_tiff)?, channels);
        let values = match bits {
            1 | 2 | 4 => unpacked(&values, width as usize * channels, bits, !is_palette),
            _ => values,
        };
        let count = width as usize * height as usize;
        if values.len() < channels * count {
            return Err("it is cut".into());
        }
        let rgb = match color {
            ColorType::Gray(bits) if is_palette => {
                let colours = 1 << bits.min(16);
                let colour = |index: u8| {
                    [0, 1, 2].map(|channel| {
                        palette.get(channel * colours + usize::from(index)).map_or(0, |value| (value >> 8) as u8)
                    })
                };
                values.iter().flat_map(|&index| colour(index)).collect()
            }
            ColorType::Gray(_) | ColorType::GrayA(_) | ColorType::RGB(_) => to_rgb(values, channels),
            ColorType::RGBA(_) if is_multiplied => to_rgb(divided(values), channels),
            ColorType::RGBA(_) => to_rgb(values, channels),
            ColorType::Multiband { num_samples: 2, .. } => to_rgb(values, channels),
            ColorType::CMYK(_) => {
                let ink = |ink: u8, black: u8| super::pixels::inverted_cmyk_to_rgb(255 - ink, 255 - black);
                values.chunks_exact(4).flat_map(|pixel| [0, 1, 2].map(|at| ink(pixel[at], pixel[3]))).collect()
            }
            other => return Err(format!("it is a TIFF of colours in {other:?}, which is not read: convert it")),
        };
        Ok(oriented(Pixels { width, height, rgb }, orientation))
    })
}

/// A TIFF whose pixels are places in a palette, with the note that says so changed to grey: the decoder refuses palettes, and
/// the places are what is wanted of it. `None` for any other, and for a BigTIFF.
fn palette_as_grey(bytes: &[u8]) -> Option<Vec<u8>> {
    const PHOTOMETRIC: u16 = 262;
    const PALETTE: u16 = 3;
    const GREY: u16 = 1;
    let is_big_endian = bytes.starts_with(b"MM\0*");
    if !is_big_endian && !bytes.starts_with(b"II*\0") {
        return None;
    }
    let u16_at = |at: usize| -> Option<u16> {
        let two = *bytes.get(at..at.checked_add(2)?)?.first_chunk()?;
        Some(if is_big_endian { u16::from_be_bytes(two) } else { u16::from_le_bytes(two) })
    };
    let four = *bytes.get(4..8)?.first_chunk()?;
    let directory = if is_big_endian { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) } as usize;
    let entries = usize::from(u16_at(directory)?);
    let entry = (0..entries).map(|entry| directory + 2 + 12 * entry).find(|&at| u16_at(at) == Some(PHOTOMETRIC))?;
    (u16_at(entry + 8)? == PALETTE).then(|| {
        let grey = if is_big_endian { GREY.to_be_bytes() } else { GREY.to_le_bytes() };
        let mut changed = bytes.to_vec();
        changed[entry + 8..entry + 10].copy_from_slice(&grey);
        changed
    })
}

/// Values as 8 bits: the high byte of colours; greys of more bits are cut, as PIL does it.
fn narrowed(values: DecodingResult, channels: usize) -> Vec<u8> {
    use DecodingResult as D;
    let is_grey = channels == 1;
    match values {
        D::U8(values) => values,
        D::U16(values) if is_grey => values.into_iter().map(|value| value.min(255) as u8).collect(),
        D::U16(values) => values.into_iter().map(|value| (value >> 8) as u8).collect(),
        D::U32(values) if is_grey => values.into_iter().map(|value| (value as i32).clamp(0, 255) as u8).collect(),
        D::I16(values) if is_grey => values.into_iter().map(|value| value.clamp(0, 255) as u8).collect(),
        D::I32(values) if is_grey => values.into_iter().map(|value| value.clamp(0, 255) as u8).collect(),
        // `as` cuts off at both ends, and makes 0 of NaN
        D::F32(values) if is_grey => values.into_iter().map(|value| value as u8).collect(),
        D::F64(values) if is_grey => values.into_iter().map(|value| value as u8).collect(),
        _ => Vec::new(),
    }
}

/// Values of fewer than 8 bits, each row of which begins with a byte of its own; greys spread over 8 bits.
fn unpacked(bytes: &[u8], row: usize, bits: u8, spread: bool) -> Vec<u8> {
    let (each, most) = (8 / usize::from(bits), (1u8 << bits) - 1);
    let factor = if spread { 255 / most } else { 1 };
    let rows = bytes.chunks_exact(row.div_ceil(each));
    let value = |row: &[u8], at: usize| row[at / each] >> (8 - usize::from(bits) * (at % each + 1)) & most;
    rows.flat_map(|bytes| (0..row).map(move |at| value(bytes, at) * factor)).collect()
}

/// Colours divided by their alpha.
fn divided(mut rgba: Vec<u8>) -> Vec<u8> {
    for pixel in rgba.chunks_exact_mut(4) {
        let alpha = u32::from(pixel[3]);
        for value in &mut pixel[..3] {
            *value = (255 * u32::from(*value)).checked_div(alpha).map_or(0, |divided| divided.min(255) as u8);
        }
    }
    rgba
}

/// These decoders are safe, and may panic on damage.
fn caught(decode: impl FnOnce() -> Result<Pixels, String>) -> Result<Pixels, String> {
    crate::caught::caught(decode).unwrap_or_else(|| Err("it is damaged".into()))
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn of_tiff(error: TiffError) -> String {
    match error {
        TiffError::UnsupportedError(what) => {
            format!("it is a TIFF of a kind that is not read ({}): convert it", text(what))
        }
        other => text(other),
    }
}
