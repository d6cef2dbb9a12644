//! SQL as it is parsed: statements and expressions from text, and what they name.

use std::path::Path;

use datafusion::sql::parser::{CopyToSource, CopyToStatement, DFParser, Statement};
use datafusion::sql::planner::IdentNormalizer;
use datafusion::sql::sqlparser::ast::{self, Value};

use super::walk::{Part, walk};
use crate::error::{Error, Result};
use crate::image;

/// What an error offers in place of a change that there is not.
pub(super) const SUPPORTED_CHANGES: &str = "INSERT INTO adds images, UPDATE changes them, DELETE FROM removes them";

/// The table whose rows a statement changes.
pub(super) fn target(statement: &ast::Statement) -> Option<&ast::ObjectName> {
    fn named(table: &ast::TableWithJoins) -> Option<&ast::ObjectName> {
        match &table.relation {
            ast::TableFactor::Table { name, .. } => Some(name),
            _ => None,
        }
    }
    match statement {
        ast::Statement::Insert(ast::Insert { table: ast::TableObject::TableName(name), .. }) => Some(name),
        ast::Statement::Update(update) => named(&update.table),
        ast::Statement::Delete(delete) => match &delete.from {
            ast::FromTable::WithFromKeyword(tables) | ast::FromTable::WithoutKeyword(tables) => {
                tables.first().and_then(named)
            }
        },
        ast::Statement::Truncate(truncate) => truncate.table_names.first().map(|table| &table.name),
        _ => None,
    }
}

/// The last part of a column's name, in lower case unless it is quoted.
pub(super) fn column_name(name: &ast::ObjectName) -> Option<String> {
    name.0.last()?.as_ident().cloned().map(|ident| IdentNormalizer::default().normalize(ident))
}

/// One SQL expression, and nothing behind it that an alias or a comment would swallow.
pub(crate) fn expression(text: &str) -> Result<ast::Expr, String> {
    match DFParser::parse_sql_into_expr(text) {
        Ok(parsed) if parsed.alias.is_none() => Ok(parsed.expr),
        Ok(_) => Err("it has an alias".into()),
        Err(error) => Err(Error::from(error).to_string()),
    }
}

/// A statement from text of our own, to be filled in.
pub(super) fn parsed(text: &str) -> Result<ast::Statement> {
    match DFParser::parse_sql(text)?.pop_front() {
        Some(Statement::Statement(statement)) => Ok(*statement),
        _ => Err(Error::EmptyQuery),
    }
}

/// A statement without what DataFusion would read over or take otherwise than it is meant: TABLESAMPLE is refused, and
/// -0.0, which Arrow orders before 0.0, is 0.0; IS DISTINCT FROM ends before AND and OR; and FROM without SELECT has all columns.
pub(super) fn settled(mut statement: Statement) -> Result<Statement> {
    settle(&mut statement)?;
    Ok(statement)
}

fn settle(statement: &mut Statement) -> Result<()> {
    match statement {
        Statement::Statement(parsed) => walk(parsed.as_mut(), settle_part),
        Statement::CopyTo(copy) => {
            settle_copy(copy)?;
            match &mut copy.source {
                CopyToSource::Query(query) => walk(query.as_mut(), settle_part),
                CopyToSource::Relation(_) => Ok(()),
            }
        }
        Statement::Explain(explained) => settle(&mut explained.statement),
        _ => Ok(()),
    }
}

/// Formats that COPY writes, by what names end in; DataFusion knows the others.
const WRITTEN: [(&str, &str); 5] =
    [("jsonl", "JSON"), ("ndjson", "JSON"), ("feather", "ARROW"), ("ipc", "ARROW"), ("tsv", "CSV")];
const KNOWN: [&str; 4] = ["csv", "json", "parquet", "arrow"];

/// A COPY whose format its target's name says, as far as DataFusion does not know that itself.
///
/// Errors: [`Error::UnknownCopyFormat`].
fn settle_copy(copy: &mut CopyToStatement) -> Result<()> {
    if copy.stored_as.is_some() {
        return Ok(());
    }
    if image::scheme(&copy.target).is_some() && image::file(&copy.target).is_none() {
        return Err(Error::FileAddress { address: image::bare(&copy.target) });
    }
    let ending = Path::new(&copy.target).extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if KNOWN.contains(&ending.as_str()) {
        return Ok(());
    }
    let Some((_, format)) = WRITTEN.iter().find(|(known, _)| *known == ending) else {
        return Err(Error::UnknownCopyFormat { target: copy.target.clone() });
    };
    copy.stored_as = Some((*format).into());
    let names_delimiter = copy.options.iter().any(|(name, _)| name.to_ascii_lowercase().ends_with("delimiter"));
    if ending == "tsv" && !names_delimiter {
        copy.options.push(("format.delimiter".into(), Value::SingleQuotedString("\t".into())));
    }
    Ok(())
}

/// The query of a statement, or what INSERT takes, its values with names of their own: `SELECT 'a', 'a'` would have one twice.
pub(super) fn numbered(mut statement: ast::Statement) -> ast::Statement {
    fn number(body: &mut ast::SetExpr) {
        match body {
            ast::SetExpr::Select(select) => {
                for (at, item) in select.projection.iter_mut().enumerate() {
                    if let ast::SelectItem::UnnamedExpr(value) = item {
                        let alias = ast::Ident::with_quote('"', format!("value {}", at + 1));
                        *item = ast::SelectItem::ExprWithAlias { expr: value.clone(), alias };
                    }
                }
            }
            ast::SetExpr::SetOperation { left, right, .. } => {
                number(left);
                number(right);
            }
            ast::SetExpr::Query(query) => number(&mut query.body),
            _ => {}
        }
    }
    match &mut statement {
        ast::Statement::Query(query) => number(&mut query.body),
        ast::Statement::Insert(ast::Insert { source: Some(query), .. }) => number(&mut query.body),
        _ => {}
    }
    statement
}

fn settle_part(part: Part<'_>) -> Result<()> {
    match part {
        Part::Table(table) => return refuse_sample(table),
        Part::Query(query) => select_all(query),
        Part::Expression(part) => settle_expression(part),
    }
    Ok(())
}

fn refuse_sample(table: &ast::TableFactor) -> Result<()> {
    let sample = match table {
        ast::TableFactor::Table { sample, .. } | ast::TableFactor::Derived { sample, .. } => sample,
        _ => return Ok(()),
    };
    let Some(ast::TableSampleKind::BeforeTableAlias(sample) | ast::TableSampleKind::AfterTableAlias(sample)) = sample
    else {
        return Ok(());
    };
    Err(Error::TableSample { clause: sample.to_string().trim().to_owned() })
}

/// `FROM t` alone is all of it.
fn select_all(query: &mut ast::Query) {
    if let ast::SetExpr::Select(select) = query.body.as_mut()
        && select.flavor == ast::SelectFlavor::FromFirstNoSelect
        && select.projection.is_empty()
    {
        select.flavor = ast::SelectFlavor::Standard;
        select.projection.push(ast::SelectItem::Wildcard(ast::WildcardAdditionalOptions::default()));
    }
}

fn settle_expression(part: &mut ast::Expr) {
    if let ast::Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } = part
        && let ast::Expr::Value(value) = expr.as_ref()
        && let Value::Number(digits, _) = &value.value
        && digits.parse::<f64>() == Ok(0.0)
    {
        *part = ast::Expr::clone(expr);
    }
    if matches!(part, ast::Expr::IsDistinctFrom(..) | ast::Expr::IsNotDistinctFrom(..)) {
        *part = without_conjunction(part);
    }
}

/// `a IS DISTINCT FROM b AND c` as `(a IS DISTINCT FROM b) AND c`: the parser takes all that follows for what `a` is compared
/// with (`tests/suite/guards.rs` tells when this can go).
fn without_conjunction(compared: &ast::Expr) -> ast::Expr {
    let (one, other, is_distinct) = match compared {
        ast::Expr::IsDistinctFrom(one, other) => (one, other, true),
        ast::Expr::IsNotDistinctFrom(one, other) => (one, other, false),
        other => return other.clone(),
    };
    let over = |other: &ast::Expr| match is_distinct {
        true => ast::Expr::IsDistinctFrom(one.clone(), Box::new(other.clone())),
        false => ast::Expr::IsNotDistinctFrom(one.clone(), Box::new(other.clone())),
    };
    match other.as_ref() {
        ast::Expr::BinaryOp { left, op: op @ (ast::BinaryOperator::And | ast::BinaryOperator::Or), right } => {
            let left = Box::new(without_conjunction(&over(left)));
            ast::Expr::BinaryOp { left, op: op.clone(), right: right.clone() }
        }
        _ => compared.clone(),
    }
}
