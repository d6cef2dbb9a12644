//! Where a statement ends: the tokens of SQL decide, so a semicolon in quotes or in a comment does not count.

use datafusion::sql::sqlparser::tokenizer::Token;

use crate::sql::tokens;

/// The length of the first statement of `text` with its semicolon, if it has come.
pub(crate) fn end(text: &str) -> Option<usize> {
    let semicolon = tokens::of(text).0.into_iter().find(|(token, _)| *token == Token::SemiColon)?;
    Some(semicolon.1.end)
}

/// Whether `text` ends within quotes or a comment.
pub(crate) fn is_open(text: &str) -> bool {
    !tokens::of(text).1
}

/// Whether there is nothing to run in `text`: spaces, comments, semicolons.
pub(crate) fn is_blank(text: &str) -> bool {
    let (tokens, whole) = tokens::of(text);
    whole && tokens.iter().all(|(token, _)| matches!(token, Token::Whitespace(_) | Token::SemiColon))
}

/// The statements of a text, with their semicolons, and the bytes before the first word of each; what does not end is the last
/// of them.
pub(crate) fn all(text: &str) -> Vec<(&str, usize)> {
    let (tokens, whole) = tokens::of(text);
    let (mut all, mut begins, mut word) = (Vec::new(), 0, None);
    for (token, place) in tokens {
        match token {
            Token::SemiColon => {
                if let Some(word) = word.take() {
                    all.push((&text[begins..place.end], word));
                }
                begins = place.end;
            }
            Token::Whitespace(_) => {}
            _ => drop(word.get_or_insert(place.start)),
        }
    }
    if word.is_some() || !whole {
        let blank = text[begins..].len() - text[begins..].trim_start().len();
        all.push((&text[begins..], word.unwrap_or(begins + blank)));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::{all, end, is_blank, is_open};

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
    fn all_statements_of_a_text_have_a_place() {
        let text = "-- one\nSELECT 1;;\n /* two */ SELECT\n';' ; \n-- end";
        let at = |word: &str, from: usize| from + text[from..].find(word).unwrap();
        let second = at("SELECT", 10);
        assert_eq!(all(text), [("-- one\nSELECT 1;", at("SELECT", 0)), ("\n /* two */ SELECT\n';' ;", second)]);
        assert_eq!(all("SELECT 1;\nSELECT 'a"), [("SELECT 1;", 0), ("\nSELECT 'a", 10)]);
        assert!(all(" -- nothing\n;").is_empty());
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
