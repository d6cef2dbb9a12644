//! A small picture on a terminal: by the protocol of kitty or of iTerm2 where it has one, else of half blocks in colours.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::Result;
use crate::image::{Orientation, decode};
use crate::report::Thumbnail;

/// Columns that a picture of half blocks takes.
const COLUMNS: usize = 32;
/// Bytes of base64 that a command of kitty's carries at most.
const CHUNK: usize = 4096;

/// How pictures are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    /// kitty's graphics protocol.
    Kitty,
    /// iTerm2's inline images, which WezTerm has too.
    Iterm,
    /// Two pixels a character, in 24-bit colours.
    Blocks,
    /// Not at all.
    Nothing,
}

impl Manner {
    /// What the terminal says of itself.
    pub(super) fn of_environment() -> Self {
        Self::of(|name| std::env::var(name).unwrap_or_default())
    }

    fn of(variable: impl Fn(&str) -> String) -> Self {
        let (term, program) = (variable("TERM"), variable("TERM_PROGRAM"));
        if !variable("NO_COLOR").is_empty() || term == "dumb" {
            Self::Nothing
        } else if term.contains("kitty") || !variable("KITTY_WINDOW_ID").is_empty() || program == "ghostty" {
            Self::Kitty
        } else if program == "iTerm.app" || program == "WezTerm" {
            Self::Iterm
        } else {
            Self::Blocks
        }
    }

    /// A picture and the line's end behind it, on lines of so many columns.
    pub(super) fn shown(self, picture: &Thumbnail, columns: usize) -> Result<Vec<u8>> {
        Ok(match self {
            Self::Nothing => Vec::new(),
            Self::Iterm => {
                let data = STANDARD.encode(&picture.jpeg);
                format!("\x1b]1337;File=inline=1;size={}:{data}\x07\n", picture.jpeg.len()).into_bytes()
            }
            Self::Kitty => kitty(picture)?.into_bytes(),
            Self::Blocks => blocks(picture, columns.min(COLUMNS))?.into_bytes(),
        })
    }
}

/// Its pixels, in parts of which each but the last says that more follow.
fn kitty(picture: &Thumbnail) -> Result<String> {
    let pixels = decode("thumbnail", &picture.jpeg, Orientation::Stored)?;
    let data = STANDARD.encode(&pixels.rgb);
    let mut text = String::new();
    let mut rest = data.as_str();
    let mut about = format!("a=T,f=24,s={},v={},", pixels.width, pixels.height);
    while !rest.is_empty() {
        let (part, left) = rest.split_at(CHUNK.min(rest.len()));
        text += &format!("\x1b_G{about}m={};{part}\x1b\\", u8::from(!left.is_empty()));
        (rest, about) = (left, String::new());
    }
    Ok(text + "\n")
}

/// Upper halves of blocks: their colour is the upper pixel, that behind them the lower one.
fn blocks(picture: &Thumbnail, columns: usize) -> Result<String> {
    let pixels = decode("thumbnail", &picture.jpeg, Orientation::Stored)?;
    let (wide, high) = (pixels.width as usize, pixels.height as usize);
    let across = columns.min(wide).max(1);
    let down = (high * across / wide).max(1).next_multiple_of(2);
    // the mean of the pixels that a half block stands for
    let colour = |x: usize, y: usize| -> [u64; 3] {
        let part =
            |at: usize, of: usize, all: usize| (at * all / of, ((at + 1) * all / of).max(at * all / of + 1).min(all));
        let ((left, right), (top, bottom)) = (part(x, across, wide), part(y, down, high));
        let mut sum = [0u64; 3];
        for row in top..bottom {
            for column in left..right {
                let at = 3 * (row * wide + column);
                sum.iter_mut().zip(&pixels.rgb[at..at + 3]).for_each(|(sum, value)| *sum += u64::from(*value));
            }
        }
        sum.map(|sum| sum / ((right - left) * (bottom - top)).max(1) as u64)
    };
    let mut text = String::new();
    for y in (0..down).step_by(2) {
        for x in 0..across {
            let ([r, g, b], [red, green, blue]) = (colour(x, y), colour(x, y + 1));
            text += &format!("\x1b[38;2;{r};{g};{b};48;2;{red};{green};{blue}m▀");
        }
        text += "\x1b[0m\n";
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Pixels, thumbnail};

    fn red(width: u32, height: u32) -> Thumbnail {
        let pixels = Pixels { width, height, rgb: [255, 0, 0].repeat((width * height) as usize) };
        let (jpeg, width, height) = thumbnail("x", &pixels, 128).unwrap();
        Thumbnail { jpeg, width, height }
    }

    #[test]
    fn a_terminal_is_known_by_its_variables() {
        let of = |name: &'static str, value: &'static str| {
            Manner::of(move |asked| if asked == name { value.into() } else { String::new() })
        };
        assert_eq!(of("TERM", "xterm-kitty"), Manner::Kitty);
        assert_eq!(of("TERM_PROGRAM", "iTerm.app"), Manner::Iterm);
        assert_eq!(of("TERM", "xterm-256color"), Manner::Blocks);
        assert_eq!(of("NO_COLOR", "1"), Manner::Nothing);
    }

    #[test]
    fn blocks_are_two_pixels_high_and_fit_the_line() {
        for ((width, height), columns, lines) in
            [((100, 50), 20, 5), ((4, 4), 80, 2), ((50, 100), 10, 10), ((128, 1), 80, 1)]
        {
            let text = String::from_utf8(Manner::Blocks.shown(&red(width, height), columns).unwrap()).unwrap();
            assert_eq!(text.lines().count(), lines, "{width} x {height}");
            for line in text.lines() {
                assert_eq!(line.matches('▀').count(), columns.min(width as usize).min(COLUMNS));
                assert!(line.starts_with("\x1b[38;2;254;0;0;48;2;254;0;0m▀") && line.ends_with("\x1b[0m"), "{line:?}");
            }
        }
    }

    #[test]
    fn kitty_gets_all_pixels_in_parts() {
        let text = String::from_utf8(Manner::Kitty.shown(&red(64, 48), 80).unwrap()).unwrap();
        assert!(text.starts_with("\x1b_Ga=T,f=24,s=64,v=48,m=1;"));
        let parts: Vec<&str> = text.trim_end().split("\x1b\\").filter(|part| !part.is_empty()).collect();
        assert!(parts.iter().all(|part| part.split(';').nth(1).unwrap().len() <= CHUNK));
        assert!(parts[..parts.len() - 1].iter().all(|part| part.contains("m=1;")));
        assert!(parts.last().unwrap().contains("m=0;"));
        let data: String = parts.iter().map(|part| part.split(';').nth(1).unwrap()).collect();
        assert_eq!(STANDARD.decode(data).unwrap().len(), 3 * 64 * 48);
        let shown = String::from_utf8(Manner::Iterm.shown(&red(64, 48), 80).unwrap()).unwrap();
        assert!(shown.starts_with("\x1b]1337;File=inline=1;size=") && shown.ends_with("\x07\n"));
    }
}
