//! Text tables for people: columns padded, numbers to the right.

use std::borrow::Cow;

/// Lay out rows under a header. A column is right-aligned where `right` has its index.
pub(super) fn render(header: &[&str], rows: &[Vec<String>], right: &[usize]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| on_one_line(cell).into_owned()).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().enumerate().map(|(column, cell)| {
            let gap = " ".repeat(widths[column] - cell.chars().count());
            if right.contains(&column) { format!("{gap}{cell}") } else { format!("{cell}{gap}") }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_string()
    };
    let mut lines = vec![line(header.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

/// A text of somebody's, without what a terminal would obey or break a line at.
pub(super) fn on_one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let of = |character: char| match character.is_control() {
        true => character.escape_default().to_string(),
        false => character.to_string(),
    };
    Cow::Owned(text.chars().map(of).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_a_terminal_would_obey_is_written_out() {
        assert_eq!(super::on_one_line("a\u{1b}[31mé\n"), "a\\u{1b}[31mé\\n");
        assert_eq!(super::render(&["x"], &[vec!["a\nb".into()]], &[]), "x\na\\nb");
    }

    #[test]
    fn columns_align() {
        let rows = vec![vec!["a".to_string(), "1.5".into()], vec!["bb".into(), "10.25".into()]];
        assert_eq!(super::render(&["set", "FPR95"], &rows, &[1]), "set  FPR95\na      1.5\nbb   10.25");
    }
}
