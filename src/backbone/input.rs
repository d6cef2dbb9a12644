//! What a network wants as input.

use serde::{Deserialize, Serialize};

use crate::image::{Orientation, Preprocess, Resize};

/// The network's input: size in pixels, resize rule, and normalisation of RGB in [0, 1].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Pixels.
    pub width: u32,
    /// Pixels.
    pub height: u32,
    /// Scale the shorter side to this many pixels, then crop the centre; without it both sides are scaled and
    /// the aspect ratio is ignored. Bilinear with antialiasing in both cases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shorter_side: Option<u32>,
    /// Whether pictures are turned as their EXIF data ask for; else they stay as they are stored.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exif_orientation: bool,
    /// Subtracted per channel.
    pub mean: [f32; 3],
    /// Divided by per channel.
    pub std: [f32; 3],
}

impl Input {
    pub(super) fn preprocess(&self) -> Preprocess {
        let resize = match self.shorter_side {
            Some(side) => Resize::ShorterSide { side, width: self.width, height: self.height },
            None => Resize::Exact { width: self.width, height: self.height },
        };
        Preprocess { resize, mean: self.mean, std: self.std }
    }

    pub(super) fn orientation(&self) -> Orientation {
        if self.exif_orientation { Orientation::Exif } else { Orientation::Stored }
    }
}

/// Pictures that are run together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pictures<'p> {
    /// n × 3 × height × width.
    pub(super) values: &'p [f32],
    pub(super) height: usize,
    pub(super) width: usize,
}
