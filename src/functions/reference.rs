//! The functions' part of the SQL reference, written from their documentation.

use std::sync::Arc;

use datafusion::logical_expr::Documentation;

use super::{aggregates, scalars, windows};
use crate::bank::Banks;

/// Markdown: a table of all functions, then a section each, grouped as their documentation says.
pub fn reference() -> String {
    let banks = Arc::new(Banks::none());
    let (scalars, aggregates, windows) = (scalars(&banks), aggregates(), windows());
    let documented = scalars.iter().map(|function| (function.name(), function.documentation()));
    let documented = documented.chain(windows.iter().map(|function| (function.name(), function.documentation())));
    let documented = documented.chain(aggregates.iter().map(|function| (function.name(), function.documentation())));
    let documented: Vec<(&str, &Documentation)> = documented.filter_map(|(name, doc)| Some((name, doc?))).collect();

    let mut page = String::from("| function | gives |\n| --- | --- |\n");
    for (name, doc) in &documented {
        let gives = doc.description.split_once(". ").map_or(doc.description.as_str(), |(first, _)| first);
        page += &format!("| [`{}`](#{name}) | {} |\n", doc.syntax_example, gives.trim_end_matches('.'));
    }
    let mut section = "";
    for (name, doc) in &documented {
        if section != doc.doc_section.label {
            section = doc.doc_section.label;
            page += &format!("\n## {section}\n");
        }
        page += &format!("\n### {name}\n\n`{}`: {}\n", doc.syntax_example, doc.description);
        for (position, (argument, what)) in doc.arguments.iter().flatten().enumerate() {
            let gap = if position == 0 { "\n" } else { "" };
            page += &format!("{gap}- `{argument}`: {what}\n");
        }
        if let Some(example) = &doc.sql_example {
            page += &format!("\n{example}\n");
        }
    }
    page
}
