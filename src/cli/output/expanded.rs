//! Rows for people one below the other: a line for each column, for tables that are wider than the terminal.

use std::fmt::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::util::display::ArrayFormatter;
use unicode_width::UnicodeWidthStr;

use super::grid::{lines, options, shortened};
use super::writer::RowWriter;
use crate::error::Result;

/// Columns of a rule between two rows.
const RULE: usize = 40;

/// Rows under way.
pub(super) struct Expanded {
    names: Vec<String>,
    /// Of the longest name.
    width: usize,
    rows: usize,
}

impl Expanded {
    pub(super) fn new(schema: &SchemaRef) -> Self {
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().replace('\n', " ")).collect();
        let width = names.iter().map(|name| name.width()).max().unwrap_or(0);
        Self { names, width, rows: 0 }
    }
}

impl RowWriter for Expanded {
    fn rows(&mut self, batch: &RecordBatch) -> Result<Vec<u8>> {
        let (mut text, options) = (String::new(), options());
        let columns: Vec<_> = batch.columns().iter().map(shortened).collect();
        let columns =
            columns.iter().map(|column| ArrayFormatter::try_new(column, &options)).collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            self.rows += 1;
            let title = format!("-[ row {} ]", self.rows);
            let _ = writeln!(text, "{title:-<RULE$}");
            for (name, column) in self.names.iter().zip(&columns) {
                let mut name = name.as_str();
                for line in lines(&column.value(row).to_string()) {
                    let gap = " ".repeat(self.width - name.width());
                    let _ = writeln!(text, "{name}{gap} | {line}");
                    name = "";
                }
            }
        }
        Ok(text.into_bytes())
    }

    fn end(&mut self) -> Result<Vec<u8>> {
        Ok(if self.rows == 0 { b"(no rows)\n".to_vec() } else { Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, StringArray, UInt64Array};

    use super::*;

    #[test]
    fn a_line_for_each_column() {
        let id: ArrayRef = Arc::new(UInt64Array::from(vec![7, 8]));
        let label: ArrayRef = Arc::new(StringArray::from(vec![Some("two\nlines"), None]));
        let batch = RecordBatch::try_from_iter([("id", id), ("a label", label)]).unwrap();
        let mut expanded = Expanded::new(&batch.schema());
        let text = String::from_utf8(expanded.rows(&batch).unwrap()).unwrap();
        let expected = "\
-[ row 1 ]------------------------------
id      | 7
a label | two
        | lines
-[ row 2 ]------------------------------
id      | 8
a label | NULL
";
        assert_eq!(text, expected);
        assert!(expanded.end().unwrap().is_empty());
        assert_eq!(Expanded::new(&batch.schema()).end().unwrap(), b"(no rows)\n");
    }
}
