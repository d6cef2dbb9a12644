//! Formats that hold rows of pixels as they are, or in runs: netpbm, BMP and TGA.

use super::pixels::{Pixels, check_compressed, check_length, check_size, to_rgb};

/// Pixels that two bytes of BMP's runs stand for at most, more or less; skipped ones cost less.
const PIXELS_PER_RUN_BYTE: u64 = 4096;

/// A file that is read from its beginning to its end.
struct Bytes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let taken = self.at.checked_add(count).and_then(|end| self.bytes.get(self.at..end)).ok_or("it is cut")?;
        self.at += count;
        Ok(taken)
    }

    fn u8(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16, String> {
        let two = self.take(2)?;
        Ok(u16::from_le_bytes([two[0], two[1]]))
    }

    fn u32(&mut self) -> Result<u32, String> {
        Ok(u32::from(self.u16()?) | u32::from(self.u16()?) << 16)
    }
}

/// A netpbm file, binary or plain: magic number, width, height and, but for bitmaps, the largest value, separated by
/// blanks and comments; one blank; then the values. They are spread over 8 bits as PIL does it, and so grey ones of more
/// than 8 bits are spread over 16 and cut at 255.
pub(super) fn netpbm(bytes: &[u8]) -> Result<Pixels, String> {
    let (channels, is_plain, is_bitmap) = match bytes.first_chunk() {
        Some(b"P1") => (1, true, true),
        Some(b"P2") => (1, true, false),
        Some(b"P3") => (3, true, false),
        Some(b"P4") => (1, false, true),
        Some(b"P5") => (1, false, false),
        Some(b"P6") => (3, false, false),
        _ => return Err("it is a netpbm file, of which PBM, PGM and PPM (P1 to P6) are read: convert it".into()),
    };
    let mut at = 2;
    let header = number(bytes, &mut at).zip(number(bytes, &mut at));
    let most = if is_bitmap { Some(1) } else { number(bytes, &mut at) };
    let Some(((width, height), most)) = header.zip(most) else { return Err("its header is broken".into()) };
    check_size(width, height)?;
    if !(1..=65535).contains(&most) {
        return Err(format!("its values go up to {most}, and a netpbm file's go up to 1 to 65535"));
    }
    let count = channels * width as usize * height as usize;
    let wide = usize::from(most > 255);
    let needed = match (is_plain, is_bitmap) {
        (true, true) => count,
        (true, false) => 2 * count - 1,
        (false, true) => width.div_ceil(8) as usize * height as usize,
        (false, false) => count << wide,
    };
    let rest = bytes.get(at + usize::from(!is_plain)..).unwrap_or_default();
    if rest.len() < needed {
        return Err("it is cut".into());
    }
    let scaled = |value: u32| {
        let top = if channels == 1 && wide == 1 { 65535.0 } else { 255.0 };
        // what is beyond is cut, in PIL's mode I as well
        (f64::from(value) / f64::from(most) * top).round_ties_even().min(255.0) as u8
    };
    let values: Vec<u8> = match (is_plain, is_bitmap) {
        (false, true) => {
            let row = |row: &[u8]| -> Vec<u8> {
                (0..width as usize).map(|x| if row[x / 8] & 0x80 >> (x % 8) == 0 { 255 } else { 0 }).collect()
            };
            rest.chunks_exact(width.div_ceil(8) as usize).take(height as usize).flat_map(row).collect()
        }
        (false, false) if most == 255 => rest[..count].to_vec(),
        (false, false) if wide == 0 => rest[..count].iter().map(|&value| scaled(u32::from(value))).collect(),
        (false, false) => {
            rest.as_chunks().0[..count].iter().map(|&pair| scaled(u32::from(u16::from_be_bytes(pair)))).collect()
        }
        (true, true) => {
            let mut values = Vec::with_capacity(count);
            let mut at = 0;
            while values.len() < count {
                blanks(rest, &mut at);
                values.push(match rest.get(at) {
                    Some(b'0') => 255,
                    Some(b'1') => 0,
                    Some(_) => return Err("one of its values is neither 0 nor 1".into()),
                    None => return Err("it is cut".into()),
                });
                at += 1;
            }
            values
        }
        (true, false) => {
            let (mut values, mut at) = (Vec::with_capacity(count), 0);
            while values.len() < count {
                let value = number(rest, &mut at).ok_or("it is cut, or holds what is no number")?;
                if value > most {
                    return Err(format!("one of its values is {value}, and they go up to {most}"));
                }
                values.push(scaled(value));
            }
            values
        }
    };
    Ok(Pixels { width, height, rgb: to_rgb(values, channels) })
}

/// Pass over blanks and comments.
fn blanks(bytes: &[u8], at: &mut usize) {
    while let Some(byte) = bytes.get(*at).filter(|byte| byte.is_ascii_whitespace() || **byte == b'#') {
        let rest = &bytes[*at..];
        let comment = || rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(rest.len());
        *at += if *byte == b'#' { comment() } else { 1 };
    }
}

/// The number that comes next.
fn number(bytes: &[u8], at: &mut usize) -> Option<u32> {
    blanks(bytes, at);
    let digits = bytes.get(*at..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = std::str::from_utf8(&bytes[*at..*at + digits]).ok()?.parse().ok();
    *at += digits;
    number
}

/// A BMP of 1, 4, 8, 16, 24 or 32 bits, in runs too. Fewer than 8 bits of a colour are spread by division without a rest,
/// alpha is dropped.
pub(super) fn bmp(bytes: &[u8]) -> Result<Pixels, String> {
    let mut file = Bytes { bytes, at: 10 };
    let offset = file.u32()? as usize;
    let header = file.u32()?;
    let (width, height, is_flipped, bits, compression, mut colours);
    match header {
        12 => {
            (width, height, is_flipped) = (u32::from(file.u16()?), u32::from(file.u16()?), false);
            file.u16()?;
            (bits, compression, colours) = (file.u16()?, 0, 0);
        }
        40 | 52 | 56 | 64 | 108 | 124 => {
            width = file.u32()?;
            let rows = file.u32()? as i32;
            (height, is_flipped) = (rows.unsigned_abs(), rows < 0);
            file.u16()?;
            (bits, compression) = (file.u16()?, file.u32()?);
            file.take(12)?;
            colours = file.u32()?;
            file.u32()?;
        }
        other => return Err(format!("its header has {other} bytes, which is none of BMP's: convert it")),
    }
    check_size(width, height)?;
    if colours == 0 {
        colours = if bits <= 8 { 1 << bits } else { 0 };
    }
    let masks = match (compression, bits) {
        // they stand in the header, or right behind a short one
        (3 | 6, 16 | 24 | 32) => [file.u32()?, file.u32()?, file.u32()?],
        (0, 16) => [0x7c00, 0x3e0, 0x1f],
        (0, _) | (1, 8) | (2, 4) => [0xff_0000, 0xff00, 0xff],
        _ => return Err(format!("its compression {compression} at {bits} bits is not read: convert it")),
    };
    let palette = match bits {
        1 | 4 | 8 if colours <= 256 => {
            let entry = if header == 12 { 3 } else { 4 };
            file.at = 14 + header as usize;
            let entries = file.take(entry * colours as usize)?;
            // what is beyond a short one is black, as PIL has it
            let mut palette = [[0; 3]; 256];
            palette
                .iter_mut()
                .zip(entries.chunks_exact(entry))
                .for_each(|(to, from)| *to = [from[2], from[1], from[0]]);
            Some(palette)
        }
        1 | 4 | 8 => return Err(format!("its palette has {colours} colours")),
        16 | 24 | 32 => None,
        other => return Err(format!("it has {other} bits per pixel, and 1, 4, 8, 16, 24 and 32 are read")),
    };
    file.at = if offset > 0 { offset } else { file.at };
    let (columns, count) = (width as usize, width as usize * height as usize);
    let row_bytes = (columns * usize::from(bits)).div_ceil(32) * 4;
    if compression == 1 || compression == 2 {
        check_compressed(bytes, width, height, PIXELS_PER_RUN_BYTE)?;
    } else {
        // the last row's padding may be missing
        let needed = row_bytes * (height as usize - 1) + (columns * usize::from(bits)).div_ceil(8);
        check_length(bytes.get(file.at..).unwrap_or_default(), width, height, needed as u64)?;
    }
    let rgb = if let Some(palette) = palette {
        let indexes = match compression {
            0 => {
                let rows = bytes[file.at..].chunks(row_bytes).take(height as usize);
                let pixel = |row: &[u8], x: usize| match bits {
                    8 => row[x],
                    4 => row[x / 2] >> (4 * (1 - x % 2)) & 15,
                    _ => row[x / 8] >> (7 - x % 8) & 1,
                };
                rows.flat_map(|row| (0..columns).map(move |x| pixel(row, x))).collect()
            }
            _ => bmp_runs(&mut file, columns, count, bits == 4)?,
        };
        indexes.iter().flat_map(|&index| palette[usize::from(index)]).collect::<Vec<u8>>()
    } else {
        let channel = |mask: u32, pixel: u32| {
            let most = mask.checked_shr(mask.trailing_zeros()).unwrap_or(0);
            let value = u64::from((pixel & mask).checked_shr(mask.trailing_zeros()).unwrap_or(0));
            if most == 0 { 0 } else { (value * 255 / u64::from(most)) as u8 }
        };
        let rows = bytes[file.at..].chunks(row_bytes).take(height as usize);
        let size = usize::from(bits) / 8;
        let are_bytes = size >= 3 && masks == [0xff_0000, 0xff00, 0xff];
        let pixel = |pixel: &[u8]| {
            if are_bytes {
                return [pixel[2], pixel[1], pixel[0]];
            }
            let value = pixel.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte));
            masks.map(|mask| channel(mask, value))
        };
        rows.flat_map(|row| row[..columns * size].chunks_exact(size).flat_map(pixel)).collect()
    };
    Ok(Pixels { width, height, rgb: if is_flipped { rgb } else { upside_down(rgb, 3 * columns) } })
}

/// BMP's runs: a count and a colour (two of 4 bits, in turns), or 0 and: the end of the row, the end, a place to go on, or how
/// many colours follow. What is left out is colour 0.
fn bmp_runs(file: &mut Bytes<'_>, columns: usize, count: usize, is_half: bool) -> Result<Vec<u8>, String> {
    let mut pixels: Vec<u8> = Vec::with_capacity(count);
    while pixels.len() < count {
        let (first, second) = (file.u8()?, file.u8()?);
        let room = count - pixels.len();
        match (first, second) {
            (0, 0) => {
                // a row that is full ends by itself
                let started = pixels.len() % columns;
                if started > 0 {
                    pixels.resize(pixels.len() + columns - started, 0);
                }
            }
            (0, 1) => break,
            (0, 2) => {
                let (right, up) = (usize::from(file.u8()?), usize::from(file.u8()?));
                pixels.resize((pixels.len() + right + up * columns).min(count), 0);
            }
            (0, length) if is_half => {
                let bytes = file.take(usize::from(length).div_ceil(2))?;
                let colours = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).take(usize::from(length));
                pixels.extend(colours.take(room));
                file.at += bytes.len() % 2;
            }
            (0, length) => {
                let bytes = file.take(usize::from(length))?;
                pixels.extend(bytes.iter().take(room));
                file.at += bytes.len() % 2;
            }
            // a run ends with its row
            (length, colour) => {
                let length = usize::from(length).min(columns - pixels.len() % columns);
                let colours = if is_half { [colour >> 4, colour & 15] } else { [colour; 2] };
                pixels.extend(colours.iter().cycle().take(length));
            }
        }
    }
    pixels.resize(count, 0);
    Ok(pixels)
}

/// Whether a file begins as a TGA does, which has no mark of its own.
pub(super) fn may_be_tga(head: &[u8]) -> bool {
    let Some(head) = head.first_chunk::<18>() else { return false };
    let (map, kind, map_bits, bits) = (head[1], head[2], head[7], head[16]);
    let fits = match kind {
        1 | 9 => map == 1 && bits == 8 && matches!(map_bits, 16 | 24 | 32),
        2 | 10 => matches!(bits, 16 | 24 | 32),
        3 | 11 => matches!(bits, 8 | 16),
        _ => false,
    };
    map <= 1 && fits && head[12..14] != [0, 0] && head[14..16] != [0, 0] && head[17] & 0xc0 == 0
}

/// A TGA: grey of 8 bits, a palette, or 16, 24 or 32 bits, in runs too; alpha is dropped.
pub(super) fn tga(bytes: &[u8]) -> Result<Pixels, String> {
    let mut file = Bytes { bytes, at: 0 };
    let (id, map, kind) = (file.u8()?, file.u8()?, file.u8()?);
    let (first, entries, entry_bits) = (file.u16()?, file.u16()?, file.u8()?);
    file.take(4)?;
    let (width, height, bits, flags) = (u32::from(file.u16()?), u32::from(file.u16()?), file.u8()?, file.u8()?);
    check_size(width, height)?;
    file.take(usize::from(id))?;
    let mut palette = vec![[0; 3]; 256];
    if map == 1 {
        let size = usize::from(entry_bits / 8);
        let entries = file.take(size * usize::from(entries))?;
        let places = palette.iter_mut().skip(usize::from(first));
        places.zip(entries.chunks_exact(size.max(1))).for_each(|(to, from)| *to = tga_colour(from));
    }
    let (columns, count) = (width as usize, width as usize * height as usize);
    let size = usize::from(bits / 8);
    let values = if kind & 8 == 0 {
        check_length(&bytes[file.at..], width, height, (count * size) as u64)?;
        file.take(count * size)?.to_vec()
    } else {
        // a byte and a pixel stand for up to 128
        check_length(&bytes[file.at..], width, height, (count / 128 * (1 + size)) as u64)?;
        let mut values = Vec::with_capacity(count * size);
        while values.len() < count * size {
            let head = file.u8()?;
            // no more than there are
            let length = (usize::from(head & 0x7f) + 1).min(count - values.len() / size);
            match head & 0x80 {
                0 => values.extend(file.take(length * size)?),
                _ => values.extend(file.take(size)?.repeat(length)),
            }
        }
        values
    };
    let rgb: Vec<u8> = match kind & 7 {
        1 => values.iter().flat_map(|&index| palette[usize::from(index)]).collect(),
        2 => values.chunks_exact(size).flat_map(tga_colour).collect(),
        _ => to_rgb(values, size),
    };
    let rgb = if flags & 0x20 == 0 { upside_down(rgb, 3 * columns) } else { rgb };
    if flags & 0x10 == 0 {
        return Ok(Pixels { width, height, rgb });
    }
    let mirrored = rgb.chunks_exact(3 * columns).flat_map(|row| row.chunks_exact(3).rev().flatten().copied());
    let rgb = mirrored.collect();
    Ok(Pixels { width, height, rgb })
}

/// Blue, green, red; or five bits of each.
fn tga_colour(pixel: &[u8]) -> [u8; 3] {
    match pixel {
        [low, high] => {
            let pixel = u32::from(u16::from_le_bytes([*low, *high]));
            [10, 5, 0].map(|shift| ((pixel >> shift & 31) * 255 / 31) as u8)
        }
        [blue, green, red, ..] => [*red, *green, *blue],
        _ => [0; 3],
    }
}

fn upside_down(rgb: Vec<u8>, row: usize) -> Vec<u8> {
    rgb.chunks_exact(row).rev().flatten().copied().collect()
}
