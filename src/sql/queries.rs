//! Named queries: SQL texts with a question, a word on when to ask it, and typed parameters.
//!
//! A text begins with comments: the first line is the question, `-- param NAME TYPE [= DEFAULT]: what it is` names a
//! parameter, and what lies between says when to use it. `$NAME` in the SQL below, outside of quotes and comments, stands
//! for the value, written as its type asks; a parameter of type `bank` also gives `$embedding`, the column of the bank's backbone, and where the database
//! has one bank only, that is its value.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use datafusion::sql::sqlparser::tokenizer::Token;

use crate::bank::Banks;
use crate::error::{Error, Result};
use crate::regular;
use crate::sql::session::expression;
use crate::sql::tokens;
use crate::store::quote;

/// The queries of `sql/`.
const SHIPPED: [(&str, &str); 8] = [
    ("top_outliers", include_str!("../../sql/top_outliers.sql")),
    ("outliers_by_month", include_str!("../../sql/outliers_by_month.sql")),
    ("reference_table", include_str!("../../sql/reference_table.sql")),
    ("score_histogram", include_str!("../../sql/score_histogram.sql")),
    ("neighbors_of", include_str!("../../sql/neighbors_of.sql")),
    ("calibration_check", include_str!("../../sql/calibration_check.sql")),
    ("drift", include_str!("../../sql/drift.sql")),
    ("near_duplicates", include_str!("../../sql/near_duplicates.sql")),
];

/// No query is longer.
const MAX_QUERY_BYTES: u64 = 16 << 20;

/// What a value is, and so how it is written into the SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// A bank's name, with a version or without.
    Bank,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A number above 0.
    Positive,
    /// A condition over `images`: one SQL expression.
    Predicate,
    /// Any text.
    Text,
}

/// The one table of their names.
const TYPES: [(&str, Type); 6] = [
    ("bank", Type::Bank),
    ("integer", Type::Integer),
    ("number", Type::Number),
    ("positive", Type::Positive),
    ("predicate", Type::Predicate),
    ("text", Type::Text),
];

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(TYPES.iter().find(|(_, known)| known == self).map_or("", |(name, _)| name))
    }
}

/// One parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// As `$name` in the SQL.
    pub name: String,
    /// What its value is.
    pub kind: Type,
    /// Its value where none is given.
    pub default: Option<String>,
    /// In words.
    pub what: String,
}

impl Parameter {
    /// What it stands for: the value given last, its default, or the only bank, for a database with one can mean no other.
    fn value<'v>(&'v self, values: &'v [(String, String)], banks: &'v [String]) -> Option<&'v String> {
        let given = values.iter().rev().find(|(name, _)| *name == self.name).map(|(_, value)| value);
        let only = banks.first().filter(|_| self.kind == Type::Bank && banks.len() == 1);
        given.or(self.default.as_ref()).or(only)
    }
}

/// A query by name.
#[derive(Debug, Clone)]
pub struct NamedQuery {
    /// The file's name, without `.sql`.
    pub name: String,
    /// The question that it answers.
    pub question: String,
    /// When to ask it.
    pub when: String,
    /// In the order of the file.
    pub parameters: Vec<Parameter>,
    /// The whole text.
    pub text: String,
}

/// The queries that Outskirt brings.
pub fn shipped() -> Result<Vec<NamedQuery>> {
    SHIPPED.iter().map(|(name, text)| NamedQuery::parse(name, text)).collect()
}

impl NamedQuery {
    /// One that Outskirt brings, or a file of one's own: anything that ends in `.sql`.
    ///
    /// Errors: an unknown name, with the known ones; a file that cannot be read or whose head makes no sense.
    pub fn find(name: &str) -> Result<Self> {
        if let Some((_, text)) = SHIPPED.iter().find(|(known, _)| *known == name) {
            return Self::parse(name, text);
        }
        if !name.ends_with(".sql") {
            let known = SHIPPED.iter().map(|(name, _)| (*name).to_owned()).collect();
            return Err(Error::UnknownQuery { name: name.into(), known });
        }
        let path = Path::new(name);
        let text = regular::read_text(path, MAX_QUERY_BYTES).map_err(Error::io("read", path))?;
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or(name);
        Self::parse(stem, &text)
    }

    fn parse(name: &str, text: &str) -> Result<Self> {
        let mut head = text.lines().map_while(|line| line.trim().strip_prefix("--")).map(str::trim);
        let question = head.next().unwrap_or_default().to_owned();
        let (mut when, mut parameters) = (Vec::new(), Vec::new());
        for line in head {
            match line.strip_prefix("param ") {
                Some(parameter) => parameters.push(Self::parameter(name, parameter)?),
                None => when.push(line),
            }
        }
        Ok(Self { name: name.into(), question, when: when.join(" "), parameters, text: text.into() })
    }

    /// `NAME TYPE [= DEFAULT]: what it is`.
    fn parameter(query: &str, line: &str) -> Result<Parameter> {
        let bad = || Error::BadQueryHead { query: query.into(), line: line.into() };
        let (head, what) = line.split_once(": ").ok_or_else(bad)?;
        let (head, default) = match head.split_once('=') {
            Some((head, default)) => (head, Some(default.trim().to_owned())),
            None => (head, None),
        };
        let mut words = head.split_whitespace();
        let (Some(name), Some(kind), None) = (words.next(), words.next(), words.next()) else { return Err(bad()) };
        let kind = TYPES.iter().find(|(known, _)| *known == kind).ok_or_else(bad)?.1;
        Ok(Parameter { name: name.into(), kind, default, what: what.into() })
    }

    /// The bank that it asks about, with these values; `None` where none is given, or it asks about none.
    pub fn bank(&self, values: &[(String, String)], banks: &Banks) -> Option<String> {
        let parameter = self.parameters.iter().find(|parameter| parameter.kind == Type::Bank)?;
        parameter.value(values, &banks.names()).cloned()
    }

    /// Its conditions over `images`, as they are given.
    pub fn conditions<'v>(&'v self, values: &'v [(String, String)]) -> impl Iterator<Item = &'v str> {
        let conditions = self.parameters.iter().filter(|parameter| parameter.kind == Type::Predicate);
        conditions.filter_map(|parameter| parameter.value(values, &[]).map(String::as_str))
    }

    /// The SQL with values in it. Errors: a parameter that is missing, unknown or not of its type.
    pub fn render(&self, values: &[(String, String)], banks: &Banks) -> Result<String> {
        let known = || self.parameters.iter().map(|parameter| parameter.name.clone()).collect();
        for (name, _) in values {
            if !self.parameters.iter().any(|parameter| parameter.name == *name) {
                return Err(Error::UnknownParameter { query: self.name.clone(), name: name.clone(), known: known() });
            }
        }
        let mut rendered: Vec<(&str, String)> = Vec::new();
        for parameter in &self.parameters {
            let names = banks.names();
            let value = parameter.value(values, &names).ok_or_else(|| Error::MissingParameter {
                query: self.name.clone(),
                name: parameter.name.clone(),
                kind: parameter.kind.to_string(),
                what: match parameter.kind {
                    Type::Bank if !names.is_empty() => format!("{}: {}", parameter.what, names.join(", ")),
                    _ => parameter.what.clone(),
                },
            })?;
            rendered.push((&parameter.name, self.write(parameter, value)?));
            if parameter.kind == Type::Bank {
                rendered.push(("embedding", banks.definition(value)?.backbone.clone()));
            }
        }
        self.fill(&rendered)
    }

    /// A value as SQL.
    fn write(&self, parameter: &Parameter, value: &str) -> Result<String> {
        let bad = |reason: String| Error::BadParameter {
            query: self.name.clone(),
            name: parameter.name.clone(),
            kind: match parameter.kind {
                Type::Positive => "positive number".into(),
                kind => kind.to_string(),
            },
            value: value.into(),
            reason,
        };
        match parameter.kind {
            Type::Bank | Type::Text => Ok(quote(value)),
            Type::Integer => {
                value.parse::<u64>().map(|value| value.to_string()).map_err(|error| bad(error.to_string()))
            }
            Type::Number | Type::Positive => match value.parse::<f64>() {
                Ok(number) if !number.is_finite() => Err(bad("not finite".into())),
                Ok(number) if parameter.kind == Type::Positive && number <= 0.0 => Err(bad("not above 0".into())),
                Ok(_) => Ok(value.trim().into()),
                Err(error) => Err(bad(error.to_string())),
            },
            // it must be one expression, or its parentheses could close those around it; it is written as it was
            // parsed, without what follows a comment or an AS
            Type::Predicate => expression(value).map(|parsed| format!("({parsed})")).map_err(bad),
        }
    }

    /// The text with values for its `$names`; what stands in quotes or in a comment is as it is.
    fn fill(&self, rendered: &[(&str, String)]) -> Result<String> {
        let (mut filled, mut done) = (String::new(), 0);
        for (name, place) in placeholders(&self.text) {
            let name = &name[1..];
            let value = rendered.iter().find(|(known, _)| *known == name).ok_or_else(|| Error::UnknownParameter {
                query: self.name.clone(),
                name: name.into(),
                known: rendered.iter().map(|(name, _)| (*name).to_owned()).collect(),
            })?;
            filled += &self.text[done..place.start];
            filled += &value.1;
            done = place.end;
        }
        filled += &self.text[done..];
        Ok(filled)
    }
}

/// The `$names` of a text, and the bytes where each stands.
fn placeholders(text: &str) -> impl Iterator<Item = (String, Range<usize>)> {
    // what comes after quotes that do not end, parsing will say
    tokens::of(text).0.into_iter().filter_map(|(token, place)| match token {
        Token::Placeholder(name) if name.starts_with('$') => Some((name, place)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_query_says_what_it_answers_and_when() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sql");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut files: Vec<String> = files.filter_map(|file| file.strip_suffix(".sql").map(str::to_owned)).collect();
        let mut names: Vec<&str> = SHIPPED.iter().map(|(name, _)| *name).collect();
        files.sort();
        names.sort_unstable();
        assert_eq!(files, names);
        for query in shipped().unwrap() {
            assert!(query.question.ends_with('?'), "{}: {}", query.name, query.question);
            assert!(!query.when.is_empty() && query.parameters.iter().any(|p| p.kind == Type::Bank), "{}", query.name);
        }
    }

    #[test]
    fn values_are_written_as_their_types_ask() {
        let text = "-- Which?\n-- param a text = it's: a text\n-- param n integer: a number\n-- param w predicate = true: rows\n\
                    SELECT $a, $n -- $a\nFROM t WHERE ($w);";
        let query = NamedQuery::parse("q", text).unwrap();
        let render = |values: &[(&str, &str)]| {
            let values: Vec<_> = values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            query.render(&values, &Banks::none()).map_err(|error| error.to_string())
        };
        let head = text.split_once("SELECT").unwrap().0;
        assert_eq!(
            render(&[("n", "7")]).unwrap(),
            format!("{head}SELECT 'it''s', 7 -- $a\nFROM t WHERE ((true));"),
            "its lines are those of the file"
        );
        assert!(render(&[]).unwrap_err().contains("needs --param n=INTEGER (a number)"), "{:?}", render(&[]));
        assert!(render(&[("n", "7; DROP TABLE t")]).unwrap_err().contains("n = '7; DROP TABLE t' is no integer"));
        assert!(render(&[("n", "7"), ("w", "true) OR (true")]).unwrap_err().contains("is no predicate"));
        assert!(render(&[("n", "7"), ("x", "1")]).unwrap_err().contains("has no parameter 'x': it has a, n, w"));
        assert!(NamedQuery::parse("q", "-- Which?\n-- param a colour: x\nSELECT 1").is_err());
    }

    #[test]
    fn a_dollar_in_quotes_or_a_comment_is_itself() {
        let body = "SELECT '$5', 'it''s $n', \"a $n\", $$n $n$$, $t$ $n $t$, E'\\'$n', n -- costs $5\n\
                    /* $5, -- $n */ , 'a\n-- $n\nb' FROM t;\n";
        let query = NamedQuery::parse("q", &format!("-- Which?\n-- param n integer = 7: a number\n{body}")).unwrap();
        let rendered = query.render(&[], &Banks::none()).unwrap();
        assert!(rendered.ends_with(body), "{rendered}");
        let query =
            NamedQuery::parse("q", "-- W?\n-- param n integer = 7: it's\nSELECT 'größer$n', $n+$n, a[$n];").unwrap();
        assert!(query.render(&[], &Banks::none()).unwrap().ends_with("\nSELECT 'größer$n', 7+7, a[7];"));
        let unknown = NamedQuery::parse("q", "-- W?\nSELECT $5").unwrap().render(&[], &Banks::none());
        assert!(unknown.unwrap_err().to_string().contains("has no parameter '5'"));
    }
}
