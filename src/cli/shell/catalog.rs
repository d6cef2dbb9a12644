//! What a session knows, for listings and completion: tables, functions, banks, settings.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, LazyLock};

use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::catalog::TableProvider;
use datafusion::common::utils::quote_identifier;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::Documentation;

use crate::error::Result;
use crate::sql::session::Session;

/// A table or a view.
pub(super) struct Relation {
    /// As it is written in SQL.
    pub name: String,
    pub provider: Arc<dyn TableProvider>,
}

/// Every table and view but those of the information schema, by name.
pub(super) async fn relations(session: &Session) -> Result<Vec<Relation>> {
    let state = session.context().state();
    let defaults = &state.config_options().catalog;
    let mut relations = Vec::new();
    for catalog_name in state.catalog_list().catalog_names() {
        let Some(catalog) = state.catalog_list().catalog(&catalog_name) else { continue };
        for schema_name in catalog.schema_names() {
            let Some(schema) = catalog.schema(&schema_name) else { continue };
            if schema_name == "information_schema" {
                continue;
            }
            for table in schema.table_names() {
                let Some(provider) = schema.table(&table).await? else { continue };
                let mut parts = vec![table];
                if (&catalog_name, &schema_name) != (&defaults.default_catalog, &defaults.default_schema) {
                    parts = [vec![catalog_name.clone(), schema_name.clone()], parts].concat();
                }
                let name = parts.iter().map(|part| quote_identifier(part)).collect::<Vec<_>>().join(".");
                relations.push(Relation { name, provider });
            }
        }
    }
    relations.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(relations)
}

/// A function, as `\df` lists it.
pub(super) struct Function {
    pub kind: &'static str,
    /// How it is called.
    pub call: String,
    /// The first line of its description.
    pub description: String,
    /// Whether it is Outskirt's, rather than one that every DataFusion session has.
    pub own: bool,
}

/// Every function under each of its names. An aggregate that is also a window function is listed as an aggregate.
pub(super) fn functions(session: &Session) -> BTreeMap<String, Function> {
    let state = session.context().state();
    let mut functions = BTreeMap::new();
    let mut add = |kind, name: &String, documentation: Option<&Documentation>| {
        let call = documentation.map_or_else(|| format!("{name}(…)"), |text| one_line(&text.syntax_example));
        let description = documentation.map_or_else(String::new, |text| one_line(&text.description));
        let own = !SHIPPED.contains(name);
        functions.insert(name.clone(), Function { kind, call, description, own });
    };
    for name in state.table_functions().keys() {
        add("table", name, None);
    }
    for (name, function) in state.window_functions() {
        add("window", name, function.documentation());
    }
    for (name, function) in state.higher_order_functions() {
        add("scalar", name, function.documentation());
    }
    for (name, function) in state.scalar_functions() {
        add("scalar", name, function.documentation());
    }
    for (name, function) in state.aggregate_functions() {
        add("aggregate", name, function.documentation());
    }
    functions
}

/// The names of DataFusion's own functions.
static SHIPPED: LazyLock<HashSet<String>> = LazyLock::new(|| {
    let mut names = HashSet::new();
    let mut add = |name: &str, aliases: &[String]| {
        names.insert(name.to_owned());
        names.extend(aliases.iter().cloned());
    };
    SessionStateDefaults::default_scalar_functions().iter().for_each(|f| add(f.name(), f.aliases()));
    SessionStateDefaults::default_higher_order_functions().iter().for_each(|f| add(f.name(), f.aliases()));
    SessionStateDefaults::default_aggregate_functions().iter().for_each(|f| add(f.name(), f.aliases()));
    SessionStateDefaults::default_window_functions().iter().for_each(|f| add(f.name(), f.aliases()));
    SessionStateDefaults::default_table_functions().iter().for_each(|f| add(f.name(), &[]));
    names
});

fn one_line(text: &str) -> String {
    text.trim().lines().next().unwrap_or_default().trim_end().to_owned()
}

/// The rows of a small query as text.
pub(super) async fn rows(session: &Session, query: &str) -> Result<Vec<Vec<String>>> {
    let options = FormatOptions::default();
    let mut rows = Vec::new();
    for batch in session.sql(query).await?.collect().await? {
        let columns: Vec<ArrayFormatter<'_>> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options)).collect::<Result<_, _>>()?;
        rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|cell| cell.value(row).to_string()).collect()));
    }
    Ok(rows)
}

/// The banks: name, backbone, k, rows, version of `images`.
pub(super) async fn banks(session: &Session) -> Result<Vec<Vec<String>>> {
    rows(session, "SELECT name, backbone, k, row_count, table_version FROM banks ORDER BY name").await
}

/// The names of all settings, such as `outskirt.search`.
pub(super) fn settings(session: &Session) -> Vec<String> {
    let state = session.context().state();
    let mut names: Vec<String> = state.config_options().entries().into_iter().map(|entry| entry.key).collect();
    names.sort();
    names
}
