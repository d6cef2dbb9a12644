//! Where a statement ends: the tokens of SQL decide, so a semicolon in quotes or in a comment does not count.

use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Location, Token, TokenWithSpan, Tokenizer};

/// The length of the first statement of `text` with its semicolon, if it has come.
pub(crate) fn end(text: &str) -> Option<usize> {
    let (tokens, _) = tokens(text);
    let semicolon = tokens.into_iter().find(|token| token.token == Token::SemiColon)?;
    offset(text, semicolon.span.end)
}

/// Whether `text` ends within quotes or a comment.
pub(crate) fn is_open(text: &str) -> bool {
    !tokens(text).1
}

/// Whether there is nothing to run in `text`: spaces, comments, semicolons.
pub(crate) fn is_blank(text: &str) -> bool {
    let (tokens, whole) = tokens(text);
    whole && tokens.iter().all(|token| matches!(token.token, Token::Whitespace(_) | Token::SemiColon))
}

/// The tokens, and whether they are all of the text: they stop before a quote or a comment that does not end.
fn tokens(text: &str) -> (Vec<TokenWithSpan>, bool) {
    let mut tokens = Vec::new();
    let whole = Tokenizer::new(&GenericDialect, text).tokenize_with_location_into_buf(&mut tokens).is_ok();
    (tokens, whole)
}

/// Bytes before a place that is given in lines and characters, both counted from 1.
fn offset(text: &str, place: Location) -> Option<usize> {
    let line = usize::try_from(place.line).ok()?.checked_sub(1)?;
    let column = usize::try_from(place.column).ok()?.checked_sub(1)?;
    let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = &text[start..];
    Some(start + rest.char_indices().nth(column).map_or(rest.len(), |(at, _)| at))
}

#[cfg(test)]
mod tests {
    use super::{end, is_blank, is_open};

    /// The statements of a text, and what is left of it.
    fn split(mut text: &str) -> (Vec<&str>, &str) {
        let mut statements = Vec::new();
        while let Some(at) = end(text) {
            statements.push(&text[..at]);
            text = &text[at..];
        }
        (statements, text)
    }

    #[test]
    fn a_semicolon_ends_a_statement() {
        assert_eq!(split("SELECT 1"), (vec![], "SELECT 1"));
        assert_eq!(split("SELECT 1;"), (vec!["SELECT 1;"], ""));
        assert_eq!(split("SELECT 1; SELECT\n 2 ;\nSEL"), (vec!["SELECT 1;", " SELECT\n 2 ;"], "\nSEL"));
        assert_eq!(
            split("SELECT 'größer' AS ü,\n'日本'; SELECT 2"),
            (vec!["SELECT 'größer' AS ü,\n'日本';"], " SELECT 2")
        );
    }

    #[test]
    fn quotes_comments_and_dollars_hide_it() {
        for hidden in [
            "SELECT 'a;b'",
            "SELECT 'it''s; so'",
            "SELECT \"a;b\"",
            "SELECT `a;b`",
            "SELECT 1 -- one; two",
            "SELECT 1 /* one; /* two; */ three; */",
            "SELECT $$a;b$$",
            "SELECT $tag$a;$$;b$tag$",
            "SELECT E'\\';'",
        ] {
            assert_eq!(end(hidden), None, "{hidden}");
            let ended = format!("{hidden}\n;");
            assert_eq!(end(&ended), Some(ended.len()), "{hidden}");
            assert!(!is_open(&ended), "{hidden}");
        }
    }

    #[test]
    fn what_is_open_goes_on() {
        for open in ["SELECT 'a;", "SELECT \"a;", "SELECT /* a;", "SELECT $$a;", "SELECT 'a'; SELECT 'b;"] {
            assert!(is_open(open), "{open}");
        }
        assert_eq!(split("SELECT 'a'; SELECT 'b;"), (vec!["SELECT 'a';"], " SELECT 'b;"));
    }

    #[test]
    fn blank_is_what_has_nothing_to_run() {
        for blank in ["", " \n", "-- a comment\n", "/* one */ ;", ";;"] {
            assert!(is_blank(blank), "{blank:?}");
        }
        for text in ["SELECT", "/* open", "'"] {
            assert!(!is_blank(text), "{text:?}");
        }
    }
}
