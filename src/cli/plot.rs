//! Plots as text, as wide as the terminal: scores as histograms over one axis, and bars behind the lines of a table.
//!
//! Drawn here, because no crate draws what is needed. kuva, which draws the report, has a terminal backend: it gives each character a
//! 24-bit colour behind an escape, by which alone its histograms are told apart, fills whole characters only, and has none for a
//! terminal that has but ASCII. Others draw lines of braille, and no bars.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::console::Console;
use super::format::Format;
use super::table;
use crate::error::{Error, Result};
use crate::report::{count, percent};

/// Columns where the output is no terminal.
const USUAL: usize = 80;
/// A histogram is not drawn on more columns.
const WIDEST: usize = 120;
/// Nor on fewer: a number must have room.
const NARROWEST: usize = 12;
/// Lines of a histogram.
const HEIGHT: usize = 6;
/// Columns that names in a table of bars keep, and those of the shortest bar.
const NAME: usize = 10;

/// The option of commands that draw.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Plots {
    /// Draw the scores as text as well: on a terminal, with each table also elsewhere (80 columns), in ASCII (as on terminals whose
    /// locale is not UTF-8), or never
    #[arg(long, value_enum, default_value_t = When::Auto, value_name = "WHEN")]
    plot: When,
}

/// When plots are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum When {
    /// On a terminal
    Auto,
    /// Also where the output is no terminal
    Always,
    /// The same, of ASCII characters alone
    Ascii,
    /// Never
    Never,
}

impl Plots {
    /// Whether it was said that there shall be plots.
    pub(super) fn is_asked(self) -> bool {
        matches!(self.plot, When::Always | When::Ascii)
    }

    /// How a command draws that prints in this format; `None` where it does not. Formats for programs have no plots.
    ///
    /// Errors: a plot that is asked for in such a format.
    pub(super) fn drawing(self, format: Format, console: &Console<'_>) -> Result<Option<Drawing>> {
        if format != Format::Table {
            return if self.is_asked() { Err(Error::PlotOfRows { format: format.name() }) } else { Ok(None) };
        }
        let columns = console.line_width();
        Ok(match self.plot {
            When::Never => None,
            When::Auto => columns.map(|columns| Drawing { columns, ascii: !has_unicode() }),
            When::Always => Some(Drawing { columns: columns.unwrap_or(USUAL), ascii: !has_unicode() }),
            When::Ascii => Some(Drawing { columns: columns.unwrap_or(USUAL), ascii: true }),
        })
    }
}

/// Whether the locale says that the terminal has Unicode.
fn has_unicode() -> bool {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(|name| std::env::var(name).ok());
    is_utf8(set.into_iter())
}

/// The first that is set decides.
fn is_utf8(mut locales: impl Iterator<Item = String>) -> bool {
    let decides = locales.find(|locale| !locale.is_empty()).unwrap_or_default().to_ascii_lowercase();
    decides.contains("utf-8") || decides.contains("utf8")
}

/// Where plots go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drawing {
    /// Of a line.
    columns: usize,
    /// Only such characters.
    ascii: bool,
}

/// Scores that one histogram shows, in any order.
pub(super) struct Strip<'s> {
    pub(super) name: String,
    pub(super) scores: &'s [f64],
}

impl Drawing {
    /// Histograms one above the other over the same axis, each as high as its own largest bin, and a line at the threshold: what lies
    /// right of it is above it, to the image. A bin that holds anything is seen.
    pub(super) fn histograms(self, strips: &[Strip<'_>], threshold: Option<f64>, what: &str) -> String {
        let columns = self.columns.clamp(NARROWEST, WIDEST);
        let scores = || strips.iter().flat_map(|strip| strip.scores.iter().copied());
        let Some(largest) = scores().max_by(f64::total_cmp) else { return String::new() };
        let at = threshold.unwrap_or(largest);
        let (low, high) = scores().fold((at, at), |(low, high), score| (low.min(score), high.max(score)));
        // the bins of both sides begin at the threshold, and each side may have one that is not full
        let width = if high > low { (high - low) / (columns - 3) as f64 } else { 1.0 };
        let bins = |length: f64, most: usize| ((length / width).ceil().max(0.0) as usize).min(most);
        let left = bins(at - low, columns - 1).max(1);
        let right = bins(high - at, columns - 1 - left);
        let bin = |score: f64| {
            if score <= at {
                left - 1 - (((at - score) / width) as usize).min(left - 1)
            } else {
                left + ((((score - at) / width).ceil() as usize).max(1) - 1).min(right.max(1) - 1)
            }
        };
        let mut lines = Vec::new();
        for Strip { name, scores } in strips {
            let above = scores.iter().filter(|score| **score > at).count();
            let images = if scores.len() == 1 { "image" } else { "images" };
            let mut said = format!(": {} {images}", count(scores.len()));
            if threshold.is_some() {
                said += &format!(", {} % above", percent(above as f64 / scores.len().max(1) as f64));
            }
            lines.push(cut(
                &format!("{}{said}", cut(&plain(name), columns.saturating_sub(said.width()).max(4))),
                columns,
            ));
            let mut counts = vec![0_usize; left + right.max(1)];
            scores.iter().for_each(|score| counts[bin(*score)] += 1);
            lines.extend(self.rows(&counts, left, threshold.is_some()));
        }
        if let Some(threshold) = threshold {
            lines.push(axis(&[(0, low), (left, threshold), (left + right, high)], columns));
            lines.push(cut(&format!("{} {what}", self.line()), columns));
        } else {
            lines.push(axis(&[(0, low), (left + right, high)], columns));
        }
        lines.join("\n")
    }

    /// The lines of one histogram, the topmost first; the threshold's stands left of the bin `left`.
    fn rows(self, counts: &[usize], left: usize, has_line: bool) -> Vec<String> {
        let peak = counts.iter().copied().max().unwrap_or(0).max(1);
        let level = |count: usize| match count {
            0 => 0,
            count => (8 * HEIGHT * count).div_ceil(peak),
        };
        let row = |row: usize| {
            let below = 8 * (HEIGHT - 1 - row);
            let filled = |count: &usize| self.block(level(*count).saturating_sub(below).min(8));
            let (one, other) = counts.split_at(left);
            let mut line: String = one.iter().map(filled).collect();
            line.push(if has_line { self.line() } else { ' ' });
            line.extend(other.iter().map(filled));
            line.trim_end().to_owned()
        };
        (0..HEIGHT).map(row).collect()
    }

    /// A character that is filled from below, in eighths.
    fn block(self, eighths: usize) -> char {
        if self.ascii {
            return [' ', '.', '.', '.', ':', ':', ':', '#', '#'][eighths];
        }
        [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'][eighths]
    }

    fn line(self) -> char {
        if self.ascii { '|' } else { '│' }
    }

    /// A table whose lines end in bars of these lengths, in [0, 1] of the room that is left. Its first column may be cut.
    pub(super) fn bars(self, header: &[&str], rows: &[Vec<String>], right: &[usize], lengths: &[f64]) -> String {
        let shown = |most: usize| -> Vec<Vec<String>> {
            let mut rows = rows.to_vec();
            rows.iter_mut().filter_map(|row| row.first_mut()).for_each(|name| *name = cut(&plain(name), most));
            rows
        };
        let widest = |text: &str| text.lines().map(UnicodeWidthStr::width).max().unwrap_or(0);
        let mut text = table::render(header, &shown(self.columns), right);
        if widest(&text) + 2 + NAME > self.columns {
            text = table::render(header, &shown(NAME), right);
        }
        let (before, mut lines) = (widest(&text), Vec::new());
        let room = self.columns.saturating_sub(before + 2);
        for (line, length) in text.lines().zip(std::iter::once(None).chain(lengths.iter().map(Some))) {
            let bar = length.map(|length| self.bar(*length, room)).unwrap_or_default();
            let gap = " ".repeat(before - line.width());
            lines.push(format!("{line}{gap}  {bar}").trim_end().to_owned());
        }
        lines.join("\n")
    }

    /// A bar from the left, of eighths of a character.
    fn bar(self, length: f64, room: usize) -> String {
        let eighths = (length * 8.0 * room as f64).ceil() as usize;
        if self.ascii {
            return "#".repeat(eighths.div_ceil(8).min(room));
        }
        let rest = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
        if eighths / 8 >= room { "█".repeat(room) } else { format!("{}{rest}", "█".repeat(eighths / 8)) }
    }
}

/// Numbers under the columns that they belong to: the middle ones first, the others where there is room left.
fn axis(marks: &[(usize, f64)], columns: usize) -> String {
    let mut line = vec![' '; columns];
    let mut order: Vec<usize> = (0..marks.len()).collect();
    order.sort_by_key(|&at| at == 0 || at + 1 == marks.len());
    for at in order {
        let (column, number) = marks[at];
        let text = format!("{number:.4}");
        let begins = match at {
            0 => column,
            at if at + 1 == marks.len() => (column + 1).saturating_sub(text.len()),
            _ => column.saturating_sub(text.len() / 2),
        };
        let begins = begins.min(columns.saturating_sub(text.len()));
        let taken = begins.saturating_sub(1)..(begins + text.len() + 1).min(columns);
        if line[taken].iter().all(|character| *character == ' ') {
            text.chars().enumerate().for_each(|(at, character)| line[begins + at] = character);
        }
    }
    line.into_iter().collect::<String>().trim_end().to_owned()
}

/// A text that a terminal only shows.
fn plain(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

/// The beginning of a text that is no wider than this.
fn cut(text: &str, most: usize) -> String {
    if text.width() <= most {
        return text.into();
    }
    let (mut kept, mut width) = (String::new(), 0);
    for character in text.chars() {
        width += character.width().unwrap_or(0);
        if width + 2 > most {
            break;
        }
        kept.push(character);
    }
    kept + ".."
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(columns: usize, ascii: bool, strips: &[(&str, &[f64])], threshold: Option<f64>) -> Vec<String> {
        let strips: Vec<Strip<'_>> =
            strips.iter().map(|(name, scores)| Strip { name: (*name).into(), scores }).collect();
        let text = Drawing { columns, ascii }.histograms(&strips, threshold, "threshold at 95 % TPR");
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn what_is_right_of_the_line_is_above_the_threshold() {
        // the threshold itself is not above it
        let scores = [0.1, 0.2, 0.3, 0.3000001, 0.9];
        let lines = drawn(20, true, &[("a", &scores)], Some(0.3));
        assert_eq!(lines.len(), 1 + HEIGHT + 2);
        assert_eq!(lines[0], "a: 5 images, 40.0 ..");
        let ground = &lines[HEIGHT];
        let (left, right) = ground.split_once('|').unwrap();
        let filled = |side: &str| side.chars().filter(|character| *character != ' ').count();
        assert_eq!((filled(left), filled(right)), (3, 2), "{ground}");
        assert!(lines[HEIGHT + 1].contains("0.3000"), "{lines:?}");
    }

    #[test]
    fn a_plot_is_no_wider_than_its_terminal() {
        let scores: Vec<f64> = (0..5000_u32).map(|i| f64::from(i.wrapping_mul(2_654_435_761) >> 8) / 1e7).collect();
        let name = "ein überaus langer Name 名前名前名前名前名前名前";
        for columns in [1, 12, 13, 40, 41, 79, 120, 500] {
            for threshold in [None, Some(0.0), Some(0.7), Some(1.3), Some(99.0)] {
                for scores in [&scores[..], &scores[..1], &[0.5; 30], &[0.0, 1e-300], &[]] {
                    for line in drawn(columns, false, &[(name, scores), ("b", &[0.2])], threshold) {
                        assert!(line.width() <= columns.clamp(NARROWEST, WIDEST), "{columns}: {line}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_bin_of_one_image_is_seen_beside_one_of_thousands() {
        let mut scores = vec![0.0; 10_000];
        scores.push(1.0);
        for ascii in [true, false] {
            let lines = drawn(40, ascii, &[("a", &scores)], Some(0.5));
            let right = lines[HEIGHT].chars().rev().take_while(|c| !"|│".contains(*c)).filter(|c| *c != ' ').count();
            assert_eq!(right, 1, "{lines:?}");
            assert!(!ascii || lines.iter().all(|line| line.is_ascii()), "{lines:?}");
        }
    }

    #[test]
    fn bars_take_the_room_that_is_left() {
        let rows: Vec<Vec<String>> = ["first", "second"].map(|name| vec![name.into(), "12".into()]).into();
        let text = Drawing { columns: 40, ascii: true }.bars(&["dataset", "images"], &rows, &[1], &[1.0, 0.01]);
        assert_eq!(
            text,
            format!("dataset  images\nfirst        12  {}\nsecond       12  #", "#".repeat(23)),
            "a bar that is there is seen"
        );
        let narrow = Drawing { columns: 24, ascii: false }.bars(&["dataset", "images"], &rows, &[1], &[1.0, 0.5]);
        assert!(narrow.lines().all(|line| line.width() <= 24), "{narrow}");
    }

    #[test]
    fn the_locale_says_whether_there_is_unicode() {
        let set = |locales: &[&str]| is_utf8(locales.iter().map(|locale| (*locale).to_owned()));
        assert!(set(&["", "C.UTF-8", "C"]) && set(&["de_DE.utf8"]));
        assert!(!set(&[]) && !set(&["C", "en_US.UTF-8"]) && !set(&["POSIX"]));
    }
}
