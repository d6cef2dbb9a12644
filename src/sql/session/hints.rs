//! What is wrong with a statement, in the words of whoever typed it: DataFusion's errors of planning, with the next step, and
//! what it would find out row by row, or not at all.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::utils::datafusion_strsim::levenshtein;
use datafusion::common::{DFSchema, DataFusionError, SchemaError};
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement;

use crate::error::{Error, Result};
use crate::store::compared_with_numbers;

/// Columns that are listed where none has a name like the one that is not there.
const LISTED: usize = 20;

/// An error of planning a statement, with a hint where there is one.
pub(super) fn explained(context: &SessionContext, statement: &Statement, error: DataFusionError) -> Error {
    if let Some(function) = given_booleans(&error.to_string()) {
        return Error::NumbersOfBooleans { function: function.into() };
    }
    match error.find_root() {
        DataFusionError::SchemaError(found, _) => match found.as_ref() {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let names: Vec<String> = valid_fields.iter().map(|column| column.name.clone()).collect();
                if let Some(table) = field.relation.as_ref().filter(|_| names.contains(&field.name)) {
                    let tables =
                        valid_fields.iter().filter_map(|column| Some(column.relation.as_ref()?.table().into()));
                    return no_table(table.table(), tables.collect());
                }
                unknown_column(statement, &field.name, names)
            }
            // a subquery's column beside one of a table; without a table it is a name that two tables have
            SchemaError::AmbiguousReference { field } if field.relation.is_some() => {
                Error::SameColumnName { name: field.name.clone() }
            }
            _ => Error::from(error),
        },
        DataFusionError::Plan(message) => {
            if let Some(table) = message.strip_prefix("table '").and_then(|rest| rest.strip_suffix("' not found")) {
                let name = table.rsplit('.').next().unwrap_or(table);
                return unknown_table(context, name);
            }
            if let Some(rest) = message.strip_prefix("Projections require unique expression names")
                && let Some(name) = rest.split('"').nth(1)
            {
                return Error::SameColumnName { name: name.into() };
            }
            Error::from(error)
        }
        _ => Error::from(error),
    }
}

/// A column is said to be of a table that the query does not read.
fn no_table(name: &str, mut tables: Vec<String>) -> Error {
    tables.sort();
    tables.dedup();
    let meant = nearest(name, &tables).unwrap_or_else(|| tables.join(" or "));
    Error::NoTableInQuery { name: name.into(), meant }
}

fn unknown_table(context: &SessionContext, name: &str) -> Error {
    let state = context.state();
    let defaults = &state.config_options().catalog;
    let provider = state.catalog_list().catalog(&defaults.default_catalog);
    let schema = provider.and_then(|catalog| catalog.schema(&defaults.default_schema));
    let mut known = schema.map(|schema| schema.table_names()).unwrap_or_default();
    known.retain(|known| !known.contains('@'));
    known.sort();
    match nearest(name, &known) {
        Some(meant) => Error::MisspelledTable { name: name.into(), meant },
        None => Error::UnknownTable { name: name.into(), known },
    }
}

/// The aggregate that was given truth values and takes numbers.
fn given_booleans(message: &str) -> Option<&str> {
    let (before, after) = message.split_once("' requires ")?;
    after.contains("but received Boolean").then(|| before.rsplit_once('\'').map_or(before, |(_, function)| function))
}

fn unknown_column(statement: &Statement, name: &str, mut names: Vec<String>) -> Error {
    let name = name.to_owned();
    let alias = format!(" as {} ", name.to_lowercase());
    let text = statement.to_string().to_lowercase().replace([',', ')', ';', '\n'], " ");
    if format!("{text} ").contains(&alias) {
        return Error::AliasInWhere { name };
    }
    names.sort();
    names.dedup();
    match nearest(&name, &names) {
        Some(meant) => Error::MisspelledColumn { name, meant },
        None => {
            let more = names.len().saturating_sub(LISTED);
            names.truncate(LISTED);
            Error::NoSuchColumn { name, known: names, more }
        }
    }
}

/// The known name that is spelled most alike, where one is.
pub(super) fn nearest(name: &str, known: &[String]) -> Option<String> {
    let name = name.to_lowercase();
    let distance = |known: &String| levenshtein(&name, &known.to_lowercase());
    // two letters in the wrong order are two changes
    let most = ((name.chars().count() + 1) / 3).clamp(1, 3);
    let nearest = known.iter().map(|known| (distance(known), known)).filter(|(distance, _)| *distance <= most).min();
    nearest.map(|(_, known)| known.clone())
}

/// Refuse what DataFusion would find out row by row, or not at all: texts compared with numbers, and window functions in
/// WHERE.
pub(super) fn check(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        check_node(node).map_err(DataFusionError::from)?;
        Ok(TreeNodeRecursion::Continue)
    })?;
    Ok(())
}

fn check_node(node: &LogicalPlan) -> Result<()> {
    let schema: DFSchema = merge_schema(&node.inputs());
    if let LogicalPlan::Filter(filter) = node {
        let window = first(&filter.predicate, |part| match part {
            Expr::WindowFunction(call) => Some(call.fun.name().to_owned()),
            _ => None,
        });
        if let Some(function) = window {
            return Err(Error::WindowInWhere { function });
        }
    }
    for expression in node.expressions() {
        if let Some((text, number)) = first(&expression, |part| compared_with_numbers(part, &schema)) {
            return Err(Error::TextAndNumber { text, number });
        }
    }
    Ok(())
}

/// What is found first in an expression.
fn first<T>(expression: &Expr, mut find: impl FnMut(&Expr) -> Option<T>) -> Option<T> {
    let mut found = None;
    let _ = expression.apply(|part| {
        found = find(part);
        Ok(if found.is_some() { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}
