//! What other crates say, for people: one line, without the places in their sources and without what is for their makers.
//!
//! Everything that an error passes on of DataFusion, Lance or object_store goes through [`plain`].

/// Characters of a foreign message: what is longer is a plan or a list, of which the beginning tells.
const LONGEST: usize = 700;

/// What stands before a message and says only which crate it is of.
const LAYERS: [&str; 15] = [
    "Arrow error: ",
    "Parquet error: ",
    "Query Execution error: ",
    "Execution error: ",
    "External error: ",
    "External: ",
    "Object Store error: ",
    "Internal error: ",
    "Invalid or Unsupported Configuration: ",
    "Error applying filter expression to batch: ",
    "Generic LocalFileSystem error: ",
    "lance error: ",
    "LanceError(IO): ",
    "LanceError(Arrow): ",
    "Encountered internal error. Please file a bug report at https://github.com/lance-format/lance/issues. ",
];

/// A message of another crate in one line.
pub(crate) fn plain(message: &str) -> String {
    let message = message.split("This issue was likely caused by a bug in").next().unwrap_or_default();
    let line = without_location(message);
    let mut text = line.as_str();
    while let Some(rest) = LAYERS.iter().find_map(|layer| text.strip_prefix(layer)) {
        text = rest;
    }
    // the catalog and the schema that a session names everything in
    let text = text.replace("'datafusion.public.", "'");
    let known = exhausted(&text).or_else(|| unplanned(&text)).or_else(|| correlated(&text)).unwrap_or(text);
    match known.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &known[..at]),
        None => known,
    }
}

/// The source file and line that Lance's messages end in, left out; all in one line.
pub(crate) fn without_location(message: &str) -> String {
    let mut text = message.to_string();
    while let Some(ending) = text.find(".rs:") {
        let start = text[..ending].rfind(", ").unwrap_or(ending);
        let rest = &text[ending + ".rs:".len()..];
        let length = rest.find(|c: char| !c.is_ascii_digit() && c != ':').unwrap_or(rest.len());
        text.replace_range(start..ending + ".rs:".len() + length, "");
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// DataFusion's list of who has how much memory, as who wanted some.
fn exhausted(text: &str) -> Option<String> {
    let rest = text.strip_prefix("Resources exhausted: ")?;
    if !rest.starts_with("Additional allocation failed") {
        return Some(rest.into());
    }
    let wanted = rest.rsplit("Error: ").next()?.split(" for the total memory pool").next()?;
    Some(format!(
        "not enough memory for this query: {wanted}; SET datafusion.runtime.memory_limit higher, or ask for fewer rows or groups"
    ))
}

/// What DataFusion plans and cannot run, whose message is the inside of its plan.
fn unplanned(text: &str) -> Option<String> {
    let what = text.split("Physical plan does not support logical expression ").nth(1)?;
    let kind = what.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    Some(match kind {
        "ScalarSubquery" | "OuterReferenceColumn" | "Exists" | "InSubquery" | "SetComparison" => CORRELATED.into(),
        other => format!("{other} cannot stand here in a query"),
    })
}

/// What DataFusion refuses about subqueries while it plans.
fn correlated(text: &str) -> Option<String> {
    let is_refused =
        ["Correlated scalar subquery", "Accessing outer reference columns", "subquery can only be used in"];
    is_refused.iter().any(|begins| text.contains(begins)).then(|| CORRELATED.into())
}

const CORRELATED: &str = "a subquery that names columns of the query around it cannot stand here: write it as a JOIN, such as \
                          … FROM a LEFT JOIN (SELECT key, max(x) AS most FROM b GROUP BY key) b ON b.key = a.key";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_other_crates_say_is_one_plain_line() {
        let lance = "LanceError(IO): Generic LocalFileSystem error: failed to fill whole buffer, \
                     /rustc/59807616/library/core/src/ops/function.rs:250:5";
        assert_eq!(plain(lance), "failed to fill whole buffer");
        let cast = "Query Execution error: Error applying filter expression to batch: Arrow error: Cast error: Cannot cast \
                    string 'a' to value of Int64 type, /home/me/.cargo/registry/src/x/lance-14.0.2/src/io/exec/a.rs:1666:33";
        assert_eq!(plain(cast), "Cast error: Cannot cast string 'a' to value of Int64 type");
        let bug = "Internal error: Failed to parse Arrow file. File format error: no footer.\nThis issue was likely caused by \
                   a bug in DataFusion's code. Please help us to resolve this by filing a bug report in our issue tracker";
        assert_eq!(plain(bug), "Failed to parse Arrow file. File format error: no footer.");
        assert_eq!(plain("table 'datafusion.public.imagess' not found"), "table 'imagess' not found");
        assert_eq!(
            plain("regex parse error:\n    (\n    ^\nerror: unclosed group"),
            "regex parse error: ( ^ error: unclosed group"
        );
    }

    #[test]
    fn memory_that_is_refused_says_who_wanted_how_much() {
        let text = "Resources exhausted: Additional allocation failed for TopK[0] with top memory consumers (across \
                    reservations) as:\n  TopK[0]#0(can spill: false) consumed 681.3 KB, peak 681.3 KB.\nError: Failed to \
                    allocate additional 456.0 KB for TopK[0] with 681.3 KB already allocated for this reservation - 342.7 KB \
                    remain available for the total memory pool: greedy(used: 681.3 KB, pool_size: 1024.0 KB)";
        assert_eq!(
            plain(text),
            "not enough memory for this query: Failed to allocate additional 456.0 KB for TopK[0] with 681.3 KB already \
             allocated for this reservation - 342.7 KB remain available; SET datafusion.runtime.memory_limit higher, or ask \
             for fewer rows or groups"
        );
    }

    #[test]
    fn the_inside_of_a_plan_is_not_shown() {
        let text = |kind: &str| {
            format!("This feature is not implemented: Physical plan does not support logical expression {kind}")
        };
        assert!(plain(&text("OuterReferenceColumn(Field { name")).contains("write it as a JOIN"));
        assert_eq!(plain(&text("GroupingSet(…)")), "GroupingSet cannot stand here in a query");
        assert_eq!(plain(&"x".repeat(30_000)).chars().count(), LONGEST + 1);
    }
}
