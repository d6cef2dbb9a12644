//! The functions' part of the SQL reference, written from their documentation.

use std::sync::Arc;

use datafusion::logical_expr::Documentation;

use super::register::{aggregates, scalars, windows};
use crate::bank::Banks;
use crate::sql::networks::Networks;

/// Markdown: a table of all functions, then a section each, grouped as their documentation says.
pub fn reference() -> String {
    let (banks, networks) = (Arc::new(Banks::none()), Arc::new(Networks::built_in()));
    let (scalars, aggregates, windows) = (scalars(&banks, &networks), aggregates(), windows());
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

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = "<!-- written by `make sql-reference` from the functions' documentation: begin -->\n";
    const END: &str = "<!-- end -->\n";

    /// With OUTSKIRT_WRITE_REFERENCE set, the page is written instead of compared.
    #[test]
    fn the_page_says_what_the_functions_say() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("sql/REFERENCE.md");
        let page = std::fs::read_to_string(&path).unwrap();
        let begin = page.find(BEGIN).unwrap() + BEGIN.len();
        let end = page.find(END).unwrap();
        let fresh = format!("{}\n{}\n{}", &page[..begin], reference(), &page[end..]);
        if std::env::var_os("OUTSKIRT_WRITE_REFERENCE").is_some() {
            std::fs::write(&path, fresh).unwrap();
        } else {
            assert!(page == fresh, "sql/REFERENCE.md is behind the functions: run `make sql-reference`");
        }
    }

    #[test]
    fn every_function_is_documented_and_tested() {
        let (banks, networks) = (Arc::new(Banks::none()), Arc::new(Networks::built_in()));
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt");
        let mut names: Vec<String> =
            scalars(&banks, &networks).iter().map(|function| function.name().to_owned()).collect();
        names.extend(aggregates().iter().map(|function| function.name().to_owned()));
        names.extend(windows().iter().map(|function| function.name().to_owned()));
        for name in names {
            let tests = std::fs::read_to_string(folder.join(format!("{name}.slt"))).unwrap_or_default();
            assert!(tests.contains("query") && tests.contains("statement error"), "tests/slt/{name}.slt");
            assert!(reference().contains(&format!("\n### {name}\n")), "{name} is not documented");
        }
    }
}
