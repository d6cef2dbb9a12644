//! Rows as a table for people, printed in blocks as they come.
//!
//! Widths come from the first block. A later block that needs more goes on under a new rule, at its own widths. Numbers stand
//! to the right; NULL is written, so that it is told from an empty text. Of embeddings the first numbers and their count are
//! shown. Where a line has only so many columns, texts are cut, of paths the beginning, which `…` shows, and if that is not
//! enough columns are left out.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, FixedSizeListArray, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::writer::RowWriter;
use crate::error::Result;

/// Rows that widths are made of, and at most so many are held.
const BLOCK: usize = 1000;
/// Lists of more numbers than this are embeddings, which nobody reads to the end.
const LONG: i32 = 16;
/// Numbers shown of those.
const SHOWN: usize = 3;
/// Texts are cut to this, and not shorter.
const NARROWEST: usize = 12;
/// What is cut off, and the columns that are left out.
const CUT: &str = "…";

/// How values are written.
pub(super) fn options() -> FormatOptions<'static> {
    FormatOptions::default().with_null("NULL")
}

/// The lines of a cell.
pub(super) type Cell = Vec<String>;

/// A table under way.
pub(super) struct Grid {
    header: Option<Vec<Cell>>,
    /// Whether a column's values are numbers, and stand to the right.
    numbers: Vec<bool>,
    widths: Vec<usize>,
    /// Columns of a line, where it has only so many.
    line: Option<usize>,
    /// Columns of the table that are printed; the others are left out.
    printed: usize,
    block: Vec<Vec<Cell>>,
}

impl Grid {
    pub(super) fn new(schema: &SchemaRef, line: Option<usize>) -> Self {
        let header: Vec<Cell> = schema.fields().iter().map(|field| lines(field.name())).collect();
        let numbers = schema.fields().iter().map(|field| field.data_type().is_numeric()).collect();
        let (widths, printed) = (header.iter().map(width).collect(), header.len());
        Self { header: Some(header), numbers, widths, line, printed, block: Vec::new() }
    }

    /// Make the widths fit the line: numbers are never cut.
    fn fit(&mut self) {
        let Some(line) = self.line else { return };
        let needed = |widths: &[usize]| widths.iter().map(|width| width + 3).sum::<usize>() + 1;
        if needed(&self.widths) <= line {
            return;
        }
        let natural = self.widths.clone();
        let cut_to = |most: usize| -> Vec<usize> {
            let cut = |(width, &is_number): (&usize, &bool)| if is_number { *width } else { (*width).min(most) };
            natural.iter().zip(&self.numbers).map(cut).collect()
        };
        let longest = natural.iter().copied().max().unwrap_or(0);
        let most = (NARROWEST..=longest).rev().find(|&most| needed(&cut_to(most)) <= line);
        self.widths = cut_to(most.unwrap_or(NARROWEST));
        while self.printed > 1 && needed(&self.widths[..self.printed]) + 4 > line && most.is_none() {
            self.printed -= 1;
        }
    }

    /// Print the rows that are held.
    fn flush(&mut self, text: &mut String) {
        let mut widened = false;
        for row in &self.block {
            for (known, cell) in self.widths.iter_mut().zip(row) {
                let needed = width(cell);
                widened |= needed > *known;
                *known = needed.max(*known);
            }
        }
        self.fit();
        if let Some(header) = self.header.take() {
            self.rule(text);
            self.row(&header, text);
            self.rule(text);
        } else if widened && self.line.is_none() {
            self.rule(text);
        }
        for row in &self.block {
            self.row(row, text);
        }
        self.block.clear();
    }

    fn rule(&self, text: &mut String) {
        for width in &self.widths[..self.printed] {
            text.push('+');
            text.extend(std::iter::repeat_n('-', width + 2));
        }
        text.push_str(if self.is_whole() { "+\n" } else { "+---+\n" });
    }

    fn row(&self, cells: &[Cell], text: &mut String) {
        let printed = || cells.iter().zip(&self.widths).zip(&self.numbers).take(self.printed);
        let height = printed().map(|((cell, _), _)| cell.len()).max().unwrap_or(0);
        for line in 0..height {
            for ((cell, &width), &is_number) in printed() {
                let part = cut(cell.get(line).map_or("", String::as_str), width);
                let gap = std::iter::repeat_n(' ', width - part.width());
                text.push_str("| ");
                if is_number {
                    text.extend(gap);
                    text.push_str(&part);
                } else {
                    text.push_str(&part);
                    text.extend(gap);
                }
                text.push(' ');
            }
            text.push_str(if self.is_whole() { "|\n" } else { "| … |\n" });
        }
    }

    fn is_whole(&self) -> bool {
        self.printed == self.widths.len()
    }
}

/// A text that is no wider than this: its beginning, or, of a path, its end.
fn cut(text: &str, width: usize) -> std::borrow::Cow<'_, str> {
    if text.width() <= width {
        return text.into();
    }
    let mut left = width.saturating_sub(CUT.width());
    let fits = |c: &char| {
        let needed = c.width().unwrap_or(0);
        let fits = needed <= left;
        left = left.saturating_sub(needed);
        fits
    };
    let is_path = text.contains('/') && !text.contains(char::is_whitespace);
    if is_path {
        let end: Vec<char> = text.chars().rev().take_while(fits).collect();
        return CUT.chars().chain(end.into_iter().rev()).collect::<String>().into();
    }
    let mut short: String = text.chars().take_while(fits).collect();
    short.push_str(CUT);
    short.into()
}

impl RowWriter for Grid {
    fn rows(&mut self, batch: &RecordBatch) -> Result<Vec<u8>> {
        let mut text = String::new();
        let options = options();
        let columns: Vec<ArrayRef> = batch.columns().iter().map(shortened).collect();
        let formatters: Vec<ArrayFormatter<'_>> =
            columns.iter().map(|column| ArrayFormatter::try_new(column, &options)).collect::<Result<_, _>>()?;
        for row in 0..batch.num_rows() {
            self.block.push(formatters.iter().map(|column| lines(&column.value(row).to_string())).collect());
            if self.block.len() == BLOCK {
                self.flush(&mut text);
            }
        }
        // the widths are known: nothing to wait for
        if self.header.is_none() {
            self.flush(&mut text);
        }
        Ok(text.into_bytes())
    }

    fn end(&mut self) -> Result<Vec<u8>> {
        let mut text = String::new();
        self.flush(&mut text);
        self.rule(&mut text);
        Ok(text.into_bytes())
    }

    fn left_out(&self) -> Option<String> {
        (!self.is_whole()).then(|| format!("{} of {} columns fit the line", self.printed, self.widths.len()))
    }
}

pub(super) fn lines(text: &str) -> Cell {
    text.split('\n').map(str::to_owned).collect()
}

fn width(cell: &Cell) -> usize {
    cell.iter().map(|line| line.width()).max().unwrap_or(0)
}

/// Embeddings as a text of their first numbers; every other column as it is.
pub(super) fn shortened(column: &ArrayRef) -> ArrayRef {
    let list = column.as_any().downcast_ref::<FixedSizeListArray>();
    let Some(list) = list.filter(|list| list.value_length() > LONG && list.value_type().is_floating()) else {
        return Arc::clone(column);
    };
    let options = options();
    let short = |row: usize| {
        let numbers = list.value(row);
        let numbers = ArrayFormatter::try_new(&numbers, &options).ok()?;
        let mut text = String::from("[");
        for at in 0..SHOWN {
            let _ = write!(text, "{}, ", numbers.value(at));
        }
        let _ = write!(text, "… {} numbers]", list.value_length());
        Some(text)
    };
    let texts: StringArray = (0..list.len()).map(|row| if list.is_null(row) { None } else { short(row) }).collect();
    Arc::new(texts)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        ArrayRef, FixedSizeListArray, Float32Array, Float64Array, RecordBatch, StringArray, UInt64Array,
    };
    use arrow::datatypes::Float32Type;

    use super::*;

    fn printed(batches: &[RecordBatch]) -> Vec<String> {
        let mut grid = Grid::new(&batches[0].schema(), None);
        let mut parts: Vec<Vec<u8>> = batches.iter().map(|batch| grid.rows(batch).unwrap()).collect();
        parts.push(grid.end().unwrap());
        parts.into_iter().map(|part| String::from_utf8(part).unwrap()).collect()
    }

    fn batch(names: Vec<Option<&str>>) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(UInt64Array::from_iter_values(0..names.len() as u64));
        let scores: ArrayRef = Arc::new(Float64Array::from_iter_values((0..names.len()).map(|at| at as f64 / 8.0)));
        let names: ArrayRef = Arc::new(StringArray::from(names));
        RecordBatch::try_from_iter_with_nullable([("n", numbers, false), ("name", names, true), ("s", scores, false)])
            .unwrap()
    }

    #[test]
    fn numbers_stand_to_the_right_and_null_is_no_empty_text() {
        let plain = batch(vec![Some("a"), None, Some("two\nlines"), Some("日本"), Some("")]);
        let expected = "\
+---+-------+-------+
| n | name  |     s |
+---+-------+-------+
| 0 | a     |   0.0 |
| 1 | NULL  | 0.125 |
| 2 | two   |  0.25 |
|   | lines |       |
| 3 | 日本  | 0.375 |
| 4 |       |   0.5 |
+---+-------+-------+
";
        for batches in [vec![plain.clone()], vec![plain.slice(0, 2), plain.slice(2, 3)]] {
            assert_eq!(printed(&batches).concat(), expected);
        }
        assert_eq!(
            printed(&[plain.slice(0, 0)]).concat(),
            "+---+------+---+\n| n | name | s |\n+---+------+---+\n+---+------+---+\n"
        );
    }

    #[test]
    fn a_table_fits_the_line() {
        let long =
            batch(vec![Some("/a/long/path/of/a/picture/that/lies/deep.png"), Some("日本日本日本日本日本日本日本")]);
        let of = |line: usize| {
            let mut grid = Grid::new(&long.schema(), Some(line));
            let mut text = grid.rows(&long).unwrap();
            text.extend(grid.end().unwrap());
            (String::from_utf8(text).unwrap(), grid.left_out())
        };
        let (whole, left_out) = of(70);
        assert!(whole.contains("| /a/long/path/of/a/picture/that/lies/deep.png |") && left_out.is_none(), "{whole}");
        let (text, left_out) = of(40);
        assert_eq!(left_out, None);
        assert!(text.lines().all(|line| line.width() == 40), "{text}");
        assert!(text.contains("| …ture/that/lies/deep.png |") && text.contains("| 日本日本日本日本日本日… "), "{text}");
        // numbers are never cut
        let (text, left_out) = of(24);
        assert_eq!(left_out.as_deref(), Some("2 of 3 columns fit the line"));
        assert!(text.contains("| 0 | …es/deep.png | … |") && text.lines().all(|line| line.width() <= 24), "{text}");
    }

    #[test]
    fn blocks_leave_before_the_last_row_and_widen_under_a_rule() {
        let first = batch(vec![Some("ab"); BLOCK]);
        let parts = printed(&[first.slice(0, 999), first.slice(0, 1), first.slice(0, 2), batch(vec![Some("abcdefg")])]);
        let lines: Vec<usize> = parts.iter().map(|part| part.lines().count()).collect();
        assert_eq!(lines, [0, 3 + BLOCK, 2, 2, 1]);
        assert_eq!(parts[2], "|   0 | ab   |     0.0 |\n|   1 | ab   |   0.125 |\n");
        assert_eq!(parts[3], "+-----+---------+---------+\n|   0 | abcdefg |     0.0 |\n");
        assert_eq!(parts[4], "+-----+---------+---------+\n");
    }

    #[test]
    fn embeddings_are_shortened_short_lists_are_not() {
        let lists = |width: i32| -> ArrayRef {
            let row = |scale: f32| Some((0..width).map(|at| Some(at as f32 * scale)).collect::<Vec<_>>());
            Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>([row(0.5), None, row(1.0)], width))
        };
        let embeddings = RecordBatch::try_from_iter([("e", lists(512))]).unwrap().slice(1, 2);
        let text = printed(&[embeddings]).concat();
        assert!(text.contains("| NULL                           |\n| [0.0, 1.0, 2.0, … 512 numbers] |"), "{text}");
        let pairs = RecordBatch::try_from_iter([("e", lists(2))]).unwrap();
        assert!(printed(&[pairs]).concat().contains("| [0.0, 0.5] |\n| NULL       |\n| [0.0, 1.0] |"));
        let numbers: ArrayRef = Arc::new(Float32Array::from(vec![0.1]));
        assert_eq!(shortened(&numbers).data_type(), numbers.data_type());
    }
}
