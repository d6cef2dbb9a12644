//! What a session knows, for listings and completion: tables, columns, functions, settings. Banks: [`Session::banks`].

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, LazyLock};

use arrow::array::AsArray;
use arrow::datatypes::{Field, Int64Type};
use datafusion::catalog::TableProvider;
use datafusion::common::TableReference;
use datafusion::common::utils::quote_identifier;
use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::Documentation;

use crate::error::{Error, Result};
use crate::schema;
use crate::sql::session::Session;

/// A table or a view.
#[derive(Debug, Clone)]
pub struct Relation {
    /// As it is written in SQL.
    pub name: String,
    /// Its schema, its kind and its rows.
    pub provider: Arc<dyn TableProvider>,
}

/// Every table and view but those of the information schema, by name.
pub async fn relations(session: &Session) -> Result<Vec<Relation>> {
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

/// The number of rows of a relation, where Lance knows it: of the database's own tables.
pub async fn count(session: &Session, relation: &Relation) -> Result<Option<usize>> {
    if !schema::TABLES.contains(&relation.name.as_str()) {
        return Ok(None);
    }
    let batches = session.sql(&format!("SELECT count(*) FROM {}", relation.name)).await?.collect().await?;
    Ok(batches.first().map(|batch| batch.column(0).as_primitive::<Int64Type>().value(0) as usize))
}

/// A table or view by its name in SQL, or a file by its path in single quotes.
///
/// Errors: [`Error::UnknownTable`] with the names there are; a file that cannot be read.
pub async fn relation(session: &Session, name: &str) -> Result<Arc<dyn TableProvider>> {
    if let Some(file) = name.strip_prefix('\'').and_then(|name| name.strip_suffix('\'')) {
        return Ok(session.context().table_provider(TableReference::bare(file)).await?);
    }
    match session.context().table_provider(name).await {
        Ok(provider) => Ok(provider),
        Err(_) => {
            let known = relations(session).await?.into_iter().map(|relation| relation.name).collect();
            Err(Error::UnknownTable { name: name.into(), known })
        }
    }
}

/// What a column of `images` holds that Outskirt computed: `embeddings of resnet20_cifar10`.
pub fn computed(field: &Field) -> Option<String> {
    let of = |key, what| field.metadata().get(key).map(|backbone| format!("{what} of {backbone}"));
    of(schema::BACKBONE_KEY, "embeddings").or_else(|| of(schema::LOGITS_KEY, "logits"))
}

/// A function under one of its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// `scalar`, `aggregate`, `window` or `table`.
    pub kind: &'static str,
    /// How it is called.
    pub call: String,
    /// The first line of its description.
    pub description: String,
    /// Whether it is Outskirt's, rather than one that every DataFusion session has.
    pub own: bool,
}

/// Every function under each of its names. An aggregate that is also a window function is listed as an aggregate.
pub fn functions(session: &Session) -> BTreeMap<String, Function> {
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

/// The names of all settings, such as `outskirt.search`.
pub fn settings(session: &Session) -> Vec<String> {
    let state = session.context().state();
    let mut names: Vec<String> = state.config_options().entries().into_iter().map(|entry| entry.key).collect();
    names.sort();
    names
}
