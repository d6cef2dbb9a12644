//! The demo's pictures: ten classes of simple shapes that are in distribution (ID) and five sets that are not (OOD).
//!
//! Promises that a picture is a function of (class or set, seed, index) and nothing else: the same bytes on every
//! platform, in any order, on any number of threads. Every random number comes from a keyed stream, and only float
//! operations that IEEE 754 makes exact are used (no sin, ln or powi of the platform).
//!
//! An ID picture is one shape, anti-aliased, of random place, size, rotation and colours, under light noise. Colours
//! are random, so a plain inversion would be ID again; two rules that every ID picture keeps make it OOD:
//! * the shape is much brighter than its ground (luma above 0.6 against below 0.4, before noise), and
//! * the light comes from above: the ground darkens downwards.
//!
//! | OOD set | what is new | what stays |
//! |---|---|---|
//! | `shapes` | the shape | colours, light, noise: the hardest, for only the outline tells |
//! | `textures` | no shape at all: clouds, checkers, wood, bricks, plaid | colours |
//! | `noise` | no structure at all: uniform, Gaussian or two-valued pixels | nothing |
//! | `inverted` | both rules above are broken | the shape of an ID class |
//! | `blends` | two classes at once, half and half, so at half the contrast | light from above |
//!
//! It is *not* a benchmark: numbers on these pictures show that the tool works, not how it does on photographs.

use std::path::{Path, PathBuf};
use std::thread;

use image::ImageEncoder;
use image::codecs::png::PngEncoder;

use super::rng::Rng;
use super::shapes::{FAMILIAR, REACH, Shape, UNSEEN, cosine, sine};
use crate::error::{Error, Result};

/// Width and height of every picture, in pixels.
pub const SIDE: u32 = 32;

/// Names of the ID classes, in class order; each is the name of its folder too.
pub const CLASSES: [&str; 10] = {
    let mut names = [""; 10];
    let mut class = 0;
    while class < names.len() {
        names[class] = FAMILIAR[class].name;
        class += 1;
    }
    names
};

/// Names of the OOD sets, in set order; each is the name of its folder too.
pub const OOD: [&str; 5] = ["shapes", "textures", "noise", "inverted", "blends"];

const PIXELS: usize = (SIDE * SIDE) as usize;

/// Red, green and blue, each in [0, 1].
type Colour = [f64; 3];

/// An RGB picture of [`SIDE`] × [`SIDE`] pixels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture([u8; PIXELS * 3]);

impl Picture {
    /// The bytes, row by row from the top, three (red, green, blue) a pixel.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Colour every pixel by its column and row; what lies outside [0, 1] is clipped.
    fn paint(mut colour: impl FnMut(u32, u32) -> Colour) -> Self {
        let mut bytes = [0; PIXELS * 3];
        for (pixel, place) in bytes.chunks_exact_mut(3).zip(0..) {
            let levels = colour(place % SIDE, place / SIDE);
            pixel.copy_from_slice(&levels.map(|level| (level.clamp(0.0, 1.0) * 255.0 + 0.5) as u8));
        }
        Self(bytes)
    }
}

/// How many pictures [`write_pictures`] writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Training pictures of each class.
    pub train: u32,
    /// Calibration pictures of each class: held out, to set the threshold.
    pub calibration: u32,
    /// Test pictures of each class.
    pub test: u32,
    /// Pictures of each OOD set.
    pub ood: u32,
}

/// Picture number `index` of a class, 0..[`CLASSES`]`.len()`.
///
/// # Panics
/// If there is no such class.
pub fn draw_class(class: usize, seed: u64, index: u64) -> Picture {
    draw_shape(&FAMILIAR[class], &mut Rng::of(&[seed, 0, class as u64, index]))
}

/// Picture number `index` of an OOD set, 0..[`OOD`]`.len()`. Kinds within a set take turns by index.
///
/// # Panics
/// If there is no such set.
pub fn draw_ood(set: usize, seed: u64, index: u64) -> Picture {
    let rng = &mut Rng::of(&[seed, 1, set as u64, index]);
    match OOD[set] {
        "shapes" => draw_shape(&UNSEEN[turn(index, UNSEEN.len())], rng),
        "textures" => TEXTURES[turn(index, TEXTURES.len())](rng),
        "noise" => NOISES[turn(index, NOISES.len())](rng),
        "inverted" => Picture(draw_class(turn(index, CLASSES.len()), seed, INVERTED | index).0.map(|level| !level)),
        "blends" => {
            let (classes, first) = (CLASSES.len(), turn(index, CLASSES.len()));
            let second = (first + 1 + rng.below(classes as u64 - 1) as usize) % classes;
            let [a, b] =
                [(first, BLENDED), (second, BLENDED_WITH)].map(|(class, part)| draw_class(class, seed, part | index).0);
            Picture(std::array::from_fn(|i| u8::midpoint(a[i], b[i])))
        }
        other => unreachable!("OOD set {other} has no drawing"),
    }
}

/// Write all pictures as PNG, and return how many there are:
/// `folder/id/{train,calibration,test}/<class>/<nnnn>.png` and `folder/ood/<set>/<nnnn>.png`, numbered from 0000.
///
/// No ID picture is in two places, and what `inverted` and `blends` are made of is in none. Folders are made; files of
/// the same names are replaced, others are left, so a folder of earlier and larger counts keeps its surplus.
///
/// # Errors
/// A folder or file that cannot be written.
pub fn write_pictures(folder: &Path, seed: u64, counts: Counts) -> Result<usize> {
    type Job = (PathBuf, fn(usize, u64, u64) -> Picture, usize, u64);
    let mut jobs: Vec<Job> = Vec::new();
    let mut plan = |place: PathBuf, draw, which, part: u64, count: u32| -> Result<()> {
        std::fs::create_dir_all(&place).map_err(Error::io("create the folder", &place))?;
        jobs.extend((0..count).map(|i| (place.join(format!("{i:04}.png")), draw, which, part | u64::from(i))));
        Ok(())
    };
    for (name, part, count) in
        [("train", TRAIN, counts.train), ("calibration", CALIBRATION, counts.calibration), ("test", TEST, counts.test)]
    {
        for (class, class_name) in CLASSES.iter().enumerate() {
            plan(folder.join("id").join(name).join(class_name), draw_class, class, part, count)?;
        }
    }
    for (set, set_name) in OOD.iter().enumerate() {
        plan(folder.join("ood").join(set_name), draw_ood, set, 0, counts.ood)?;
    }

    let threads = thread::available_parallelism().map_or(2, |n| n.get().max(2));
    let write_all = |share: &[Job]| {
        share.iter().try_for_each(|(path, draw, which, index)| write_png(path, &draw(*which, seed, *index)))
    };
    thread::scope(|scope| {
        let shares = jobs.chunks(jobs.len().div_ceil(threads).max(1));
        let running: Vec<_> = shares.map(|share| scope.spawn(move || write_all(share))).collect();
        running.into_iter().try_for_each(|share| share.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })?;
    Ok(jobs.len())
}

// Every use of ID pictures owns a range of 2³² indices, so no two can share a picture whatever the counts are.
const TRAIN: u64 = 0;
const CALIBRATION: u64 = 1 << 32;
const TEST: u64 = 2 << 32;
const INVERTED: u64 = 3 << 32;
const BLENDED: u64 = 4 << 32;
const BLENDED_WITH: u64 = 5 << 32;

const TEXTURES: [fn(&mut Rng) -> Picture; 5] = [clouds, checkers, wood, bricks, plaid];

const NOISES: [fn(&mut Rng) -> Picture; 3] = [
    |rng| Picture::paint(|_, _| std::array::from_fn(|_| rng.unit())),
    |rng| {
        let (mean, deviation) = (any_colour(rng, 0.4, 0.6), rng.between(0.1, 0.25));
        Picture::paint(|_, _| mean.map(|level| level + deviation * rng.normal()))
    },
    |rng| {
        let (dark, light) = (any_colour(rng, 0.0, 0.3), any_colour(rng, 0.7, 1.0));
        Picture::paint(|_, _| if rng.below(2) == 0 { dark } else { light })
    },
];

fn write_png(path: &Path, picture: &Picture) -> Result<()> {
    let mut png = Vec::new();
    PngEncoder::new(&mut png)
        .write_image(picture.bytes(), SIDE, SIDE, image::ExtendedColorType::Rgb8)
        .map_err(|error| Error::Demo { path: path.to_path_buf(), reason: format!("cannot encode as PNG: {error}") })?;
    std::fs::write(path, png).map_err(Error::io("write", path))
}

fn turn(index: u64, kinds: usize) -> usize {
    (index % kinds as u64) as usize
}

/// One bright shape on a dark ground that is lit from above.
fn draw_shape(shape: &Shape, rng: &mut Rng) -> Picture {
    // Sub-samples along each side of a pixel: nine a pixel give ten steps of coverage, enough at this size.
    const STEPS: u32 = 3;
    let outline = (shape.outline)();
    let side = f64::from(SIDE);
    let radius = rng.between(8.0, 13.0);
    let [x, y] = [0, 1].map(|_| rng.between(radius + 1.0, side - radius - 1.0));
    let turned = rng.between(-shape.swing, shape.swing);
    let (sin, cos) = (sine(turned), cosine(turned));
    let (above, below) = (any_colour(rng, 0.22, 0.36), any_colour(rng, 0.06, 0.16));
    let lean = rng.between(-0.3, 0.3);
    let ink = any_colour(rng, 0.68, 0.92);
    let grain = rng.between(0.01, 0.03);

    let coverage = |column: u32, row: u32| {
        let (left, top) = (f64::from(column) - x, f64::from(row) - y);
        let at = |step: u32| (f64::from(step) + 0.5) / f64::from(STEPS);
        let inside = |sample: &u32| {
            let (dx, dy) = ((left + at(sample % STEPS)) / radius, (top + at(sample / STEPS)) / radius);
            dx * dx + dy * dy < REACH * REACH && outline.contains([dx * cos + dy * sin, dy * cos - dx * sin])
        };
        (0..STEPS * STEPS).filter(inside).count() as f64 / f64::from(STEPS * STEPS)
    };
    Picture::paint(|column, row| {
        let depth = (f64::from(row) + lean * (f64::from(column) - side / 2.0)) / side;
        let ground = mix(above, below, depth.clamp(0.0, 1.0));
        mix(ground, ink, coverage(column, row)).map(|level| level + grain * rng.normal())
    })
}

/// A random hue whose luma is in [low, high).
fn any_colour(rng: &mut Rng, low: f64, high: f64) -> Colour {
    let colour: Colour = std::array::from_fn(|_| rng.unit());
    let wanted = rng.between(low, high);
    let luma = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2];
    // Towards black or towards white, whichever leads to the luma; both keep every part in [0, 1].
    if wanted <= luma {
        mix([0.0; 3], colour, wanted / luma)
    } else {
        mix(colour, [1.0; 3], (wanted - luma) / (1.0 - luma))
    }
}

fn mix(from: Colour, to: Colour, share: f64) -> Colour {
    std::array::from_fn(|i| from[i] + (to[i] - from[i]) * share)
}

/// A dark and a light colour that a texture is made of.
fn two_colours(rng: &mut Rng) -> (Colour, Colour) {
    (any_colour(rng, 0.05, 0.4), any_colour(rng, 0.5, 0.9))
}

/// Random values in [0, 1) on a lattice of 16 × 16, smoothly interpolated and repeated.
fn lattice(rng: &mut Rng) -> impl Fn(f64, f64) -> f64 + use<> {
    let values: [f64; 256] = std::array::from_fn(|_| rng.unit());
    move |x, y| {
        let at = |column: f64, row: f64| values[(row.rem_euclid(16.0) * 16.0 + column.rem_euclid(16.0)) as usize];
        let (left, top) = (x.floor(), y.floor());
        let [across, down] = [x - left, y - top].map(|t| t * t * (3.0 - 2.0 * t));
        let upper = at(left, top) + (at(left + 1.0, top) - at(left, top)) * across;
        let lower = at(left, top + 1.0) + (at(left + 1.0, top + 1.0) - at(left, top + 1.0)) * across;
        upper + (lower - upper) * down
    }
}

fn clouds(rng: &mut Rng) -> Picture {
    let ((dark, light), value, scale) = (two_colours(rng), lattice(rng), rng.between(0.1, 0.22));
    Picture::paint(|column, row| {
        let (x, y) = (f64::from(column) * scale, f64::from(row) * scale);
        let sum = value(x, y) + value(2.0 * x + 5.3, 2.0 * y + 1.7) / 2.0 + value(4.0 * x + 9.1, 4.0 * y + 7.9) / 4.0;
        mix(dark, light, (sum / 1.75 * 2.0 - 0.5).clamp(0.0, 1.0))
    })
}

fn checkers(rng: &mut Rng) -> Picture {
    let ((dark, light), size) = (two_colours(rng), 3 + rng.below(4) as u32);
    let (across, down) = (rng.below(8) as u32, rng.below(8) as u32);
    Picture::paint(
        |column, row| {
            if ((column + across) / size + (row + down) / size).is_multiple_of(2) { dark } else { light }
        },
    )
}

fn wood(rng: &mut Rng) -> Picture {
    let ((dark, light), value) = (two_colours(rng), lattice(rng));
    let (turned, rings) = (rng.between(-0.5, 0.5), rng.between(0.1, 0.2));
    let (sin, cos) = (sine(turned), cosine(turned));
    Picture::paint(|column, row| {
        let (x, y) = (f64::from(column) * cos + f64::from(row) * sin, f64::from(row) * cos - f64::from(column) * sin);
        let bent = x * rings + 1.6 * value(x * 0.12, y * 0.05);
        mix(dark, light, 0.5 + 0.5 * sine(bent) + 0.15 * (value(x, y * 0.15) - 0.5))
    })
}

fn bricks(rng: &mut Rng) -> Picture {
    let ((brick, mortar), tint) = (two_colours(rng), lattice(rng));
    let (width, height) = (8 + rng.below(5) as u32, 4 + rng.below(3) as u32);
    let (across, down) = (rng.below(12) as u32, rng.below(6) as u32);
    Picture::paint(|column, row| {
        let course = (row + down) / height;
        let along = column + across + course % 2 * (width / 2);
        if along % width == 0 || (row + down) % height == 0 {
            mortar
        } else {
            mix(brick, mortar, 0.35 * tint(f64::from(along / width), f64::from(course)))
        }
    })
}

fn plaid(rng: &mut Rng) -> Picture {
    let (ground, period) = (any_colour(rng, 0.1, 0.8), 8 + rng.below(7) as u32);
    let bands: [(Colour, u32, u32); 4] =
        std::array::from_fn(|_| (any_colour(rng, 0.05, 0.9), rng.below(14) as u32, 1 + rng.below(4) as u32));
    Picture::paint(|column, row| {
        bands.iter().enumerate().fold(ground, |under, (band, &(colour, start, width))| {
            let place = if band % 2 == 0 { column } else { row };
            mix(under, colour, if (place + start) % period < width { 0.55 } else { 0.0 })
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FNV-1a, 64 bits.
    fn hash<'a>(pictures: impl IntoIterator<Item = &'a Picture>) -> u64 {
        let bytes = pictures.into_iter().flat_map(Picture::bytes);
        bytes.fold(0xCBF2_9CE4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
    }

    fn luma(pixel: &[u8]) -> f64 {
        (0.299 * f64::from(pixel[0]) + 0.587 * f64::from(pixel[1]) + 0.114 * f64::from(pixel[2])) / 255.0
    }

    /// A few of every class and set.
    fn sample(seed: u64) -> Vec<Picture> {
        let id = (0..CLASSES.len()).flat_map(|class| (0..3).map(move |i| draw_class(class, seed, i)));
        id.chain((0..OOD.len()).flat_map(|set| (0..10).map(move |i| draw_ood(set, seed, i)))).collect()
    }

    #[test]
    fn pictures_are_the_same_bytes_everywhere() {
        const PINNED: u64 = 13_834_402_014_159_738_770;
        assert_eq!(hash(&sample(7)), PINNED, "a change here changes the demo's pictures, and so its weights");
    }

    #[test]
    fn every_seed_and_index_is_another_picture() {
        let pictures: Vec<Picture> = sample(1).into_iter().chain(sample(2)).collect();
        let hashes: std::collections::HashSet<u64> = pictures.iter().map(|picture| hash([picture])).collect();
        assert_eq!(hashes.len(), pictures.len());
    }

    #[test]
    fn id_pictures_keep_both_rules_and_inverted_ones_break_them() {
        for (class, name) in CLASSES.iter().enumerate() {
            for index in 0..20 {
                let picture = draw_class(class, 3, index);
                let lumas: Vec<f64> = picture.bytes().chunks_exact(3).map(luma).collect();
                let border = |row: usize| lumas[row * 32..][..32].iter().sum::<f64>() / 32.0;
                let brightest = lumas.iter().copied().fold(0.0, f64::max);
                assert!(brightest > 0.6, "{name} {index}: brightest {brightest}");
                assert!(border(0) < 0.4 && border(31) < border(0), "{name} {index}");
            }
        }
        for index in 0..20 {
            let source = draw_class((index % 10) as usize, 3, INVERTED | index);
            let inverted = draw_ood(3, 3, index);
            assert!(source.bytes().iter().zip(inverted.bytes()).all(|(a, b)| a + b == 255));
            assert!(inverted.bytes().chunks_exact(3).map(luma).sum::<f64>() / 1024.0 > 0.5);
        }
    }

    #[test]
    fn files_are_written_where_and_as_promised() {
        let folder = std::env::temp_dir().join(format!("outskirt-draw-{}", std::process::id()));
        let counts = Counts { train: 3, calibration: 2, test: 1, ood: 2 };
        assert_eq!(write_pictures(&folder, 5, counts).unwrap(), 10 * 6 + 5 * 2);

        let read = |name: &str| std::fs::read(folder.join(name)).map(|png| image::load_from_memory(&png).unwrap());
        let same = |name: &str, picture: Picture| assert_eq!(read(name).unwrap().as_bytes(), picture.bytes(), "{name}");
        same("id/train/circle/0002.png", draw_class(0, 5, 2));
        same("id/calibration/bars/0001.png", draw_class(9, 5, CALIBRATION | 1));
        same("id/test/heart/0000.png", draw_class(6, 5, TEST));
        same("ood/blends/0001.png", draw_ood(4, 5, 1));
        assert_eq!(read("ood/noise/0000.png").unwrap().color(), image::ColorType::Rgb8);
        assert!(read("id/train/circle/0003.png").is_err() && read("id/test/circle/0001.png").is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error_that_names_it() {
        let file = std::env::temp_dir().join(format!("outskirt-draw-file-{}", std::process::id()));
        std::fs::write(&file, "in the way").unwrap();
        let error = write_pictures(&file, 1, Counts { train: 1, calibration: 0, test: 0, ood: 0 }).unwrap_err();
        std::fs::remove_file(&file).unwrap();
        assert!(matches!(error, Error::Io { action: "create the folder", .. }), "{error:?}");
    }
}
