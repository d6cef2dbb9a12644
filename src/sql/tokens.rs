//! The tokens of SQL and where they stand: what is in quotes or in a comment is one of them.

use std::ops::Range;

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, Tokenizer};

/// The tokens of a text, each with its bytes, and whether they are all of it: they stop before a quote or a comment that does
/// not end.
pub(crate) fn of(text: &str) -> (Vec<(Token, Range<usize>)>, bool) {
    let mut tokens = Vec::new();
    let whole = Tokenizer::new(&GenericDialect, text).tokenize_with_location_into_buf(&mut tokens).is_ok();
    let mut at = Place { byte: 0, line: 1, column: 1 };
    let placed = tokens.into_iter().map(|token| {
        let start = at.reach(text, token.span.start);
        (token.token, start..at.reach(text, token.span.end))
    });
    (placed.collect(), whole)
}

/// A place in a text, in bytes and in the lines and characters that tokens count, from 1.
struct Place {
    byte: usize,
    line: u64,
    column: u64,
}

impl Place {
    /// Go on to a later place; its byte.
    fn reach(&mut self, text: &str, place: Location) -> usize {
        for letter in text[self.byte..].chars() {
            if (self.line, self.column) >= (place.line, place.column) {
                break;
            }
            self.byte += letter.len_utf8();
            (self.line, self.column) = if letter == '\n' { (self.line + 1, 1) } else { (self.line, self.column + 1) };
        }
        self.byte
    }
}
