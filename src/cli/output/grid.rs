//! Rows as a table for people, printed in blocks as they come.
//!
//! Widths come from the first block. A later block that needs more goes on under a new rule, at its own widths. Up to
//! one block, the table is what [`arrow::util::pretty`] prints of it, but for embeddings: of those the first numbers
//! and their count are shown.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, FixedSizeListArray, RecordBatch, StringArray};
use arrow::datatypes::SchemaRef;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use unicode_width::UnicodeWidthStr;

use super::writer::RowWriter;
use crate::error::Result;

/// Rows that widths are made of, and at most so many are held.
const BLOCK: usize = 1000;
/// Lists of more numbers than this are embeddings, which nobody reads to the end.
const LONG: i32 = 16;
/// Numbers shown of those.
const SHOWN: usize = 3;

/// The lines of a cell.
type Cell = Vec<String>;

/// A table under way.
pub(super) struct Grid {
    header: Option<Vec<Cell>>,
    widths: Vec<usize>,
    block: Vec<Vec<Cell>>,
}

impl Grid {
    pub(super) fn new(schema: &SchemaRef) -> Self {
        let header: Vec<Cell> = schema.fields().iter().map(|field| lines(field.name())).collect();
        let widths = header.iter().map(width).collect();
        Self { header: Some(header), widths, block: Vec::new() }
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
        if let Some(header) = self.header.take() {
            self.rule(text);
            self.row(&header, text);
            self.rule(text);
        } else if widened {
            self.rule(text);
        }
        for row in &self.block {
            self.row(row, text);
        }
        self.block.clear();
    }

    fn rule(&self, text: &mut String) {
        for width in &self.widths {
            text.push('+');
            text.extend(std::iter::repeat_n('-', width + 2));
        }
        text.push_str("+\n");
    }

    fn row(&self, cells: &[Cell], text: &mut String) {
        let height = cells.iter().map(Vec::len).max().unwrap_or(0);
        for line in 0..height {
            for (cell, width) in cells.iter().zip(&self.widths) {
                let part = cell.get(line).map_or("", String::as_str);
                text.push_str("| ");
                text.push_str(part);
                text.extend(std::iter::repeat_n(' ', width - part.width() + 1));
            }
            text.push_str("|\n");
        }
    }
}

impl RowWriter for Grid {
    fn rows(&mut self, batch: &RecordBatch) -> Result<Vec<u8>> {
        let mut text = String::new();
        let options = FormatOptions::default();
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
}

fn lines(text: &str) -> Cell {
    text.split('\n').map(str::to_owned).collect()
}

fn width(cell: &Cell) -> usize {
    cell.iter().map(|line| line.width()).max().unwrap_or(0)
}

/// Embeddings as a text of their first numbers; every other column as it is.
fn shortened(column: &ArrayRef) -> ArrayRef {
    let list = column.as_any().downcast_ref::<FixedSizeListArray>();
    let Some(list) = list.filter(|list| list.value_length() > LONG && list.value_type().is_floating()) else {
        return Arc::clone(column);
    };
    let options = FormatOptions::default();
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
    use arrow::util::pretty::pretty_format_batches;

    use super::*;

    fn printed(batches: &[RecordBatch]) -> Vec<String> {
        let mut grid = Grid::new(&batches[0].schema());
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
    fn one_block_is_what_arrow_prints() {
        let plain = batch(vec![Some("a"), None, Some("two\nlines"), Some("日本"), Some("")]);
        for batches in [vec![plain.clone()], vec![plain.slice(0, 0)], vec![plain.slice(0, 2), plain.slice(2, 3)]] {
            let expected = format!("{}\n", pretty_format_batches(&batches).unwrap());
            assert_eq!(printed(&batches).concat(), expected);
        }
    }

    #[test]
    fn blocks_leave_before_the_last_row_and_widen_under_a_rule() {
        let first = batch(vec![Some("ab"); BLOCK]);
        let parts = printed(&[first.slice(0, 999), first.slice(0, 1), first.slice(0, 2), batch(vec![Some("abcdefg")])]);
        let lines: Vec<usize> = parts.iter().map(|part| part.lines().count()).collect();
        assert_eq!(lines, [0, 3 + BLOCK, 2, 2, 1]);
        assert_eq!(parts[2], "| 0   | ab   | 0.0     |\n| 1   | ab   | 0.125   |\n");
        assert_eq!(parts[3], "+-----+---------+---------+\n| 0   | abcdefg | 0.0     |\n");
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
        assert!(text.contains("|                                |\n| [0.0, 1.0, 2.0, … 512 numbers] |"), "{text}");
        let pairs = RecordBatch::try_from_iter([("e", lists(2))]).unwrap();
        assert_eq!(
            printed(std::slice::from_ref(&pairs)).concat(),
            format!("{}\n", pretty_format_batches(&[pairs]).unwrap())
        );
        let numbers: ArrayRef = Arc::new(Float32Array::from(vec![0.1]));
        assert_eq!(shortened(&numbers).data_type(), numbers.data_type());
    }
}
