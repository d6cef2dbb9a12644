//! What the columns of people's tables are called in `images`.

use deunicode::deunicode;

use crate::schema;

/// Names are at most so long.
const LONGEST: usize = 63;

/// A column's name in `images`, and why it is another than the table's; upper and lower case are the same.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) name: String,
    pub(super) because: Option<String>,
}

/// Names for the columns of a table, in its order: each once, none that `images` has of its own, none that SQL would need
/// quotes for. `label` is itself.
pub(super) fn taken<'n>(columns: impl Iterator<Item = &'n str>) -> Vec<Taken> {
    let columns: Vec<&str> = columns.map(str::trim).collect();
    let mut taken: Vec<Taken> = Vec::with_capacity(columns.len());
    for (at, column) in columns.iter().enumerate() {
        let (mut name, mut because) = usable(column, at + 1);
        // a name that is another column's as it stands is that one's
        let is_there = |name: &str, taken: &[Taken]| {
            taken.iter().any(|taken| taken.name == name)
                || columns[at + 1..].iter().any(|later| *later == name && *column != name)
        };
        if is_there(&name, &taken) {
            because = Some(format!("there is another {name}"));
            let stem = name;
            name = (2..)
                .map(|count| cut(&stem, &format!("_{count}")))
                .find(|name| !is_there(name, &taken))
                .unwrap_or(stem);
        }
        taken.push(Taken { name, because });
    }
    taken
}

/// What a column of this name is called here, where no other is in the way.
pub(super) fn usable_name(column: &str) -> String {
    usable(column.trim(), 1).0
}

fn usable(column: &str, place: usize) -> (String, Option<String>) {
    let lower = column.to_lowercase();
    if column.is_empty() {
        return (format!("column_{place}"), Some("it has no name".into()));
    }
    if !schema::is_name(&lower) {
        let letters = deunicode(column).to_lowercase();
        let parts = letters.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let mut name = parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("_").trim_matches('_').to_owned();
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            name = format!("column_{}", if name.is_empty() { place.to_string() } else { name });
        }
        let (name, _) = usable_word(cut(&name, ""));
        return (name, Some("names here are of a-z, 0-9 and _, a letter first, at most 63".into()));
    }
    usable_word(lower)
}

/// With a `_` behind what means something else.
fn usable_word(name: String) -> (String, Option<String>) {
    let because = if schema::IMAGE_COLUMNS.contains(&name.as_str()) && name != schema::LABEL {
        "images has a column of that name itself"
    } else if schema::needs_quotes(&name) {
        "SQL has a meaning of its own for that word"
    } else {
        return (name, None);
    };
    (cut(&name, "_"), Some(because.into()))
}

/// A name with this behind it, no longer than names are.
fn cut(name: &str, end: &str) -> String {
    format!("{}{end}", &name[..name.len().min(LONGEST - end.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_has_a_usable_name() {
        let of = |columns: &[&'static str]| {
            taken(columns.iter().copied()).into_iter().map(|taken| taken.name).collect::<Vec<_>>()
        };
        for word in ["date", "location", "name", "source", "year", "size", "type", "order", "time", "region", "label"] {
            assert_eq!(taken([word].into_iter()), [Taken { name: word.into(), because: None }]);
        }
        assert_eq!(of(&["", "Camera", "id", "split", "from"]), ["column_1", "camera", "id_", "split_", "from_"]);
        assert_eq!(
            of(&["Größe (cm)", "2020", "北京", "a b", "__x__"]),
            ["grosse_cm", "column_2020", "bei_jing", "a_b", "x"]
        );
        assert_eq!(of(&["a", "A", "a_2", "a"]), ["a", "a_3", "a_2", "a_4"]);
        assert_eq!(of(&["A b", "a_b"]), ["a_b_2", "a_b"]);
        assert!(schema::is_name(&of(&["😀?!"])[0]), "{:?}", of(&["😀?!"]));
        let long = of(&["x".repeat(80).leak(), "x".repeat(81).leak()]);
        assert_eq!((long[0].len(), long[1].len(), long[0] == long[1]), (63, 63, false));
        let because = |column: &'static str| taken([column].into_iter()).remove(0).because.unwrap();
        assert!(
            because("from").contains("SQL")
                && because("width").contains("images has")
                && because("a b").contains("a-z")
        );
    }
}
