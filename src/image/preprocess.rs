//! From a decoded picture to a network's input, as torchvision does it on PIL pictures: resize, crop, normalise.

use outskirt_kernels::{Taps, resample, spread, taps};

use super::Pixels;
use crate::error::{Error, Result};

/// What a network expects of a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocess {
    /// How the picture gets the input's size.
    pub resize: Resize,
    /// Subtracted from red, green and blue, which lie in [0, 1].
    pub mean: [f32; 3],
    /// What red, green and blue are then divided by; not 0.
    pub std: [f32; 3],
}

/// How a picture gets the input's size, in pixels. Bilinear, and where it shrinks each value is a weighted mean of all
/// the pixels that it covers (antialias), as PIL's `BILINEAR`. A picture that has the size is not resampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// Scale both sides, whatever the aspect ratio: torchvision's `Resize((height, width))`.
    Exact {
        /// Pixels per row of the input.
        width: u32,
        /// Rows of the input.
        height: u32,
    },
    /// Scale the shorter side to `side`, keep the aspect ratio, then cut `width` × `height` out of the middle:
    /// torchvision's `Resize(side)` and `CenterCrop((height, width))`, rounded as there.
    ShorterSide {
        /// The shorter side after scaling, at least `width` and `height`.
        side: u32,
        /// Pixels per row of the input.
        width: u32,
        /// Rows of the input.
        height: u32,
    },
}

impl Preprocess {
    /// Pixels per row and rows of the network's input.
    pub fn size(&self) -> (u32, u32) {
        match self.resize {
            Resize::Exact { width, height } | Resize::ShorterSide { width, height, .. } => (width, height),
        }
    }

    /// Number of values of the network's input: 3 × height × width.
    pub fn input_len(&self) -> usize {
        let (width, height) = self.size();
        3 * width as usize * height as usize
    }
}

/// A [`Preprocess`] with its buffers: one for each thread, used for many pictures.
#[derive(Debug, Clone)]
pub struct Preprocessor {
    plan: Preprocess,
    /// The normalised value of each byte in each channel. Computed once in f32 in torchvision's order, so the values
    /// are the same bits.
    table: [[f32; 256]; 3],
    /// The picture after the horizontal and after the vertical pass.
    narrow: Vec<u8>,
    small: Vec<u8>,
}

impl Preprocessor {
    /// A worker for one thread.
    pub fn new(plan: &Preprocess) -> Self {
        let table = [0, 1, 2]
            .map(|channel| std::array::from_fn(|byte| (byte as f32 / 255.0 - plan.mean[channel]) / plan.std[channel]));
        Self { plan: plan.clone(), table, narrow: Vec::new(), small: Vec::new() }
    }

    /// Resize and normalise `pixels` into `out`, [`Preprocess::input_len`] values: channel × height × width, planar,
    /// each (v / 255 − mean) / std.
    ///
    /// Errors: [`Error::Preprocess`] when `pixels` or `out` is empty or has another length than its size says, or
    /// the crop is larger than the scaled picture.
    pub fn run(&mut self, pixels: &Pixels, out: &mut [f32]) -> Result<()> {
        let (width, height) = self.plan.size();
        let bad = |reason| Error::Preprocess { width: pixels.width, height: pixels.height, reason };
        if out.is_empty() || out.len() != self.plan.input_len() {
            return Err(bad(format!("the input takes {} values, not {}", self.plan.input_len(), out.len())));
        }
        if pixels.rgb.len() != 3 * pixels.width as usize * pixels.height as usize || pixels.rgb.is_empty() {
            return Err(bad(format!("its RGB is {} bytes long", pixels.rgb.len())));
        }
        let (scaled_width, scaled_height) = match self.plan.resize {
            Resize::Exact { .. } => (u64::from(width), u64::from(height)),
            Resize::ShorterSide { side, .. } => shorter_side(pixels.width, pixels.height, side),
        };
        if scaled_width < u64::from(width) || scaled_height < u64::from(height) {
            let crop = format!("{width} x {height} cannot be cut out of {scaled_width} x {scaled_height}");
            return Err(bad(crop));
        }
        let picture = if (width, height) == (pixels.width, pixels.height)
            && (scaled_width, scaled_height) == (u64::from(width), u64::from(height))
        {
            &pixels.rgb
        } else {
            let columns = centre(pixels.width, scaled_width, width);
            let rows = centre(pixels.height, scaled_height, height);
            resample((&pixels.rgb, pixels.width as usize), &columns, &rows, &mut self.narrow, &mut self.small);
            &self.small
        };
        spread(picture, &self.table, out);
        Ok(())
    }
}

/// Width and height after torchvision's `Resize(side)`: the longer side is rounded down.
fn shorter_side(width: u32, height: u32, side: u32) -> (u64, u64) {
    let (width, height, side) = (u64::from(width), u64::from(height), u64::from(side));
    if width <= height { (side, side * height / width) } else { (side * width / height, side) }
}

/// n / 2 as Python rounds it, and torchvision's `CenterCrop` with it: a half goes to the even neighbour.
fn half_to_even(n: u64) -> u64 {
    n / 2 + u64::from(n % 4 == 3)
}

/// The taps of the middle `count` of `scaled` pixels, where `scaled` is what `side` becomes.
fn centre(side: u32, scaled: u64, count: u32) -> Vec<Taps> {
    taps(side, scaled, half_to_even(scaled - u64::from(count)), count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Channel c of the pixel at (x, y) is (37x + 61y + 89c) mod 256. The expected numbers below are those of
    /// `PIL.Image.resize(size, BILINEAR)` (Pillow 13.0) on the same picture.
    fn picture(width: u32, height: u32) -> Pixels {
        let rgb = (0..height)
            .flat_map(|y| (0..width).flat_map(move |x| [0, 1, 2].map(|c| ((37 * x + 61 * y + 89 * c) % 256) as u8)))
            .collect();
        Pixels { width, height, rgb }
    }

    /// The picture as bytes, interleaved, after `resize`.
    fn resized(pixels: &Pixels, resize: Resize) -> Vec<u8> {
        let plan = Preprocess { resize, mean: [0.0; 3], std: [1.0; 3] };
        let mut out = vec![f32::NAN; plan.input_len()];
        Preprocessor::new(&plan).run(pixels, &mut out).unwrap();
        let area = out.len() / 3;
        (0..out.len()).map(|i| (out[i % 3 * area + i / 3] * 255.0).round() as u8).collect()
    }

    #[test]
    fn shrinking_and_growing_give_pils_bytes() {
        let shrunk = resized(&picture(7, 5), Resize::Exact { width: 3, height: 2 });
        assert_eq!(shrunk, [91, 158, 134, 144, 116, 117, 144, 101, 143, 140, 105, 141, 97, 129, 152, 124, 142, 111]);

        let grown = resized(&picture(2, 2), Resize::Exact { width: 3, height: 3 });
        #[rustfmt::skip]
        assert_eq!(grown, [
            0, 89, 178, 19, 108, 197, 37, 126, 215,
            31, 120, 209, 50, 139, 164, 68, 157, 118,
            61, 150, 239, 80, 169, 130, 98, 187, 20,
        ]);

        // a simple ratio, where many weighted means lie halfway between two bytes
        let ties = resized(&picture(5, 5), Resize::Exact { width: 4, height: 4 });
        #[rustfmt::skip]
        assert_eq!(ties, [
            24, 113, 186, 67, 156, 181, 111, 163, 113, 154, 179, 76,
            95, 184, 129, 138, 183, 60, 182, 77, 104, 145, 58, 147,
            167, 106, 89, 148, 105, 132, 104, 87, 176, 67, 130, 219,
            190, 71, 160, 62, 114, 203, 69, 158, 134, 112, 201, 98,
        ]);
    }

    #[test]
    fn the_shorter_side_and_the_crop_are_rounded_as_in_torchvision() {
        // 10 x 7 becomes 5 x 4, int(4 * 10 / 7); offsets round(3 / 2) = 2 and round(3 / 2) = 2
        let cut = resized(&picture(10, 7), Resize::ShorterSide { side: 4, width: 2, height: 1 });
        assert_eq!(cut, [144, 128, 108, 163, 93, 140]);
        assert_eq!(shorter_side(500, 375, 256), (341, 256));
        assert_eq!(shorter_side(375, 500, 256), (256, 341));
        // Python: [round(n / 2.0) for n in range(8)]
        assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(half_to_even), [0, 0, 1, 2, 2, 2, 3, 4]);
    }

    #[test]
    fn a_picture_of_the_right_size_is_not_resampled() {
        let pixels = picture(4, 3);
        assert_eq!(resized(&pixels, Resize::Exact { width: 4, height: 3 }), pixels.rgb);
        assert_eq!(resized(&pixels, Resize::ShorterSide { side: 3, width: 4, height: 3 }), pixels.rgb);
        // the short cut and the long way agree
        let (mut narrow, mut small) = (Vec::new(), Vec::new());
        resample((&pixels.rgb, 4), &centre(4, 4, 4), &centre(3, 3, 3), &mut narrow, &mut small);
        assert_eq!(small, pixels.rgb);
    }

    #[test]
    fn a_very_long_picture_costs_only_what_is_kept_of_it() {
        let pixels = Pixels { width: 60_000, height: 1, rgb: vec![200; 180_000] };
        let mut plan = Preprocess {
            resize: Resize::ShorterSide { side: 256, width: 224, height: 224 },
            mean: [0.0; 3],
            std: [1.0; 3],
        };
        assert_eq!(resized(&pixels, plan.resize), vec![200; 3 * 224 * 224]);
        plan.resize = Resize::Exact { width: 1, height: 1 };
        assert_eq!(resized(&pixels, plan.resize), [200; 3]);
    }

    #[test]
    fn values_are_planar_and_normalised_to_the_bit() {
        let plan = Preprocess {
            resize: Resize::Exact { width: 2, height: 1 },
            mean: [0.485, 0.456, 0.4465],
            std: [0.229, 0.224, 0.2010],
        };
        let pixels = Pixels { width: 2, height: 1, rgb: vec![200, 7, 255, 0, 0, 0] };
        let mut preprocessor = Preprocessor::new(&plan);
        for _ in 0..2 {
            let mut out = [0.0f32; 6];
            preprocessor.run(&pixels, &mut out).unwrap();
            // numpy, float32: (v / 255 - mean) / std
            assert_eq!([out[0], out[2], out[4]].map(f32::to_bits), [0x3fa7_4d4f, 0xbff4_e299, 0x4030_3d22]);
        }
    }

    #[test]
    fn lengths_that_do_not_fit_are_errors() {
        let plan = Preprocess { resize: Resize::Exact { width: 2, height: 2 }, mean: [0.0; 3], std: [1.0; 3] };
        let mut preprocessor = Preprocessor::new(&plan);
        let refused = |result| matches!(result, Err(Error::Preprocess { .. }));
        assert!(refused(preprocessor.run(&picture(3, 3), &mut [0.0; 11])));
        assert!(refused(preprocessor.run(&Pixels { width: 3, height: 3, rgb: vec![0; 26] }, &mut [0.0; 12])));
        assert!(refused(preprocessor.run(&Pixels { width: 0, height: 3, rgb: vec![] }, &mut [0.0; 12])));
        let small_side = Preprocess { resize: Resize::ShorterSide { side: 2, width: 2, height: 3 }, ..plan };
        assert!(refused(Preprocessor::new(&small_side).run(&picture(3, 3), &mut [0.0; 18])));
    }
}
