//! PREPARE, EXECUTE and DEALLOCATE: a statement is kept as it was written, and planned when it is executed.
//!
//! DataFusion 54 keeps a plan, optimised before its types are settled and over the tables of that moment: it would give
//! another table's rows after a change, panic in functions whose arguments were not coerced, and know no bound of a score.

use std::collections::hash_map::Entry;

use datafusion::sql::parser::{ExplainStatement, Statement};
use datafusion::sql::planner::IdentNormalizer;
use datafusion::sql::sqlparser::ast::{self, Expr, Value};

use super::catalog::Session;
use super::prepared::{Prepared, PreparedStatements};
use super::walk::walk_expressions;
use crate::error::{Error, Result};

impl Session {
    /// Keep a statement under a name.
    pub(super) fn prepare(&self, name: &ast::Ident, types: &[ast::DataType], statement: &ast::Statement) -> Result<()> {
        if matches!(statement, ast::Statement::Copy { .. }) {
            return Err(Error::UnsupportedChange {
                what: "PREPARE of COPY".into(),
                instead: "write the COPY where it is run, or PREPARE its query and print that with --format csv, json or parquet",
            });
        }
        let (mut statement, mut values) = (statement.clone(), 0);
        walk_expressions(&mut statement, |part| match place(part) {
            Some(Ok(at)) => {
                values = values.max(at + 1);
                Ok(())
            }
            Some(Err(written)) => Err(Error::BadPlaceholder { place: written.to_owned() }),
            None => Ok(()),
        })?;
        if !types.is_empty() && types.len() != values {
            return Err(Error::PreparedValues { name: name.value.clone(), wanted: values, given: types.len() });
        }
        let prepared = Prepared { types: types.to_vec(), statement, values };
        match self.lock_prepared().entry(normalized(name)) {
            Entry::Occupied(there) => Err(Error::PreparedExists { name: there.key().clone() }),
            Entry::Vacant(free) => {
                free.insert(prepared);
                Ok(())
            }
        }
    }

    /// What a statement does to data, such as `UPDATE`; `None` for one that asks, sets or defines. EXECUTE does what was
    /// prepared.
    pub fn change_of(&self, statement: &Statement) -> Option<&'static str> {
        match statement {
            Statement::CopyTo(_) => Some("COPY"),
            Statement::Statement(parsed) => match parsed.as_ref() {
                ast::Statement::Execute { name: Some(name), .. } => {
                    let name = name.0.last().and_then(|part| part.as_ident()).map(normalized)?;
                    change_of(&self.lock_prepared().get(&name)?.statement)
                }
                other => change_of(other),
            },
            _ => None,
        }
    }

    /// Forget a prepared statement, or ALL.
    pub(super) fn deallocate(&self, name: &ast::Ident) -> Result<()> {
        let mut prepared = self.lock_prepared();
        let name = normalized(name);
        if name == "all" && !prepared.contains_key(&name) {
            prepared.clear();
            return Ok(());
        }
        match prepared.remove(&name) {
            Some(_) => Ok(()),
            None => Err(unknown(&name, &prepared)),
        }
    }

    /// What EXECUTE stands for: the prepared statement with the values in their places. Any other statement is itself.
    pub(super) fn executed(&self, statement: Statement) -> Result<Statement> {
        if let Statement::Explain(explain) = statement {
            if let Statement::Statement(inner) = explain.statement.as_ref()
                && matches!(inner.as_ref(), ast::Statement::Prepare { .. } | ast::Statement::Deallocate { .. })
            {
                return Err(Error::UnsupportedChange {
                    what: "EXPLAIN of PREPARE or DEALLOCATE".into(),
                    instead: "PREPARE the statement, then EXPLAIN EXECUTE it",
                });
            }
            let inner = Box::new(self.executed(*explain.statement)?);
            return Ok(Statement::Explain(ExplainStatement { statement: inner, ..explain }));
        }
        let Statement::Statement(parsed) = &statement else { return Ok(statement) };
        let ast::Statement::Execute { name: Some(name), parameters, using, immediate: false, .. } = parsed.as_ref()
        else {
            return Ok(statement);
        };
        let name = name.0.last().and_then(|part| part.as_ident()).map(normalized).unwrap_or_default();
        let prepared = self.lock_prepared();
        let Some(Prepared { types, statement, values }) = prepared.get(&name).cloned() else {
            return Err(unknown(&name, &prepared));
        };
        drop(prepared);
        let given: Vec<&Expr> = parameters.iter().chain(using.iter().map(|using| &using.expr)).collect();
        if given.len() != values {
            return Err(Error::PreparedValues { name, wanted: values, given: given.len() });
        }
        for (at, (value, data_type)) in given.iter().zip(&types).enumerate() {
            if !fits(value, data_type) {
                let (value, data_type) = (value.to_string(), data_type.to_string());
                return Err(Error::PreparedType { name, at: at + 1, value, data_type });
            }
        }
        let given: Vec<Expr> = given.into_iter().enumerate().map(|(at, value)| typed(value, types.get(at))).collect();
        let mut statement = statement;
        walk_expressions(&mut statement, |part| {
            if let Some(Ok(at)) = place(part) {
                // in parentheses: ORDER BY 2 would be the second column
                *part = Expr::Nested(Box::new(given[at].clone()));
            }
            Ok(())
        })?;
        Ok(Statement::Statement(Box::new(statement)))
    }
}

fn change_of(statement: &ast::Statement) -> Option<&'static str> {
    match statement {
        ast::Statement::Insert(_) => Some("INSERT"),
        ast::Statement::Update(_) => Some("UPDATE"),
        ast::Statement::Delete(_) => Some("DELETE"),
        ast::Statement::Truncate(_) => Some("TRUNCATE"),
        _ => None,
    }
}

/// A name in lower case, unless it is quoted.
fn normalized(name: &ast::Ident) -> String {
    IdentNormalizer::default().normalize(name.clone())
}

fn unknown(name: &str, prepared: &PreparedStatements) -> Error {
    let mut known: Vec<String> = prepared.keys().cloned().collect();
    known.sort();
    Error::UnknownPrepared { name: name.into(), known }
}

/// Which value stands in an expression's place, from 0; `Err` where its name is no number.
fn place(part: &Expr) -> Option<Result<usize, &str>> {
    let Expr::Value(value) = part else { return None };
    let Value::Placeholder(written) = &value.value else { return None };
    let at = written.strip_prefix('$').and_then(|number| number.parse::<usize>().ok()).and_then(|at| at.checked_sub(1));
    Some(at.ok_or(written))
}

/// The least and the largest whole number of a type.
fn range(data_type: &ast::DataType) -> Option<(i128, i128)> {
    use ast::DataType as T;
    Some(match data_type {
        T::TinyInt(_) => (i8::MIN.into(), i8::MAX.into()),
        T::SmallInt(_) | T::Int2(_) => (i16::MIN.into(), i16::MAX.into()),
        T::Int(_) | T::Integer(_) | T::Int4(_) => (i32::MIN.into(), i32::MAX.into()),
        T::BigInt(_) | T::Int8(_) => (i64::MIN.into(), i64::MAX.into()),
        T::TinyIntUnsigned(_) => (0, u8::MAX.into()),
        T::SmallIntUnsigned(_) => (0, u16::MAX.into()),
        T::IntUnsigned(_) | T::IntegerUnsigned(_) | T::UnsignedInteger => (0, u32::MAX.into()),
        T::BigIntUnsigned(_) => (0, u64::MAX.into()),
        _ => return None,
    })
}

/// Whether a literal is of a type; of what is computed, CAST says so.
fn fits(value: &Expr, data_type: &ast::DataType) -> bool {
    let (literal, sign) = match value {
        Expr::UnaryOp { op: ast::UnaryOperator::Minus, expr } => (expr.as_ref(), -1),
        other => (other, 1),
    };
    let Expr::Value(literal) = literal else { return true };
    let range = range(data_type);
    let is_float = matches!(data_type, ast::DataType::Float(_) | ast::DataType::Double(_) | ast::DataType::Real);
    match &literal.value {
        Value::Number(digits, _) => match (range, digits.parse::<i128>()) {
            (Some((least, most)), Ok(number)) => (least..=most).contains(&(sign * number)),
            (Some(_), Err(_)) => false,
            (None, _) => *data_type != ast::DataType::Boolean,
        },
        Value::SingleQuotedString(text) if range.is_some() || is_float => text.trim().parse::<f64>().is_ok(),
        Value::Boolean(_) => range.is_none() && !is_float,
        _ => true,
    }
}

/// A value as PREPARE names its type. A literal of that kind stays a literal: k and a bank's name must be one.
fn typed(value: &Expr, data_type: Option<&ast::DataType>) -> Expr {
    let Some(data_type) = data_type else { return value.clone() };
    let is_text = matches!(
        data_type,
        ast::DataType::Text | ast::DataType::String(_) | ast::DataType::Varchar(_) | ast::DataType::Char(_)
    );
    let is_whole = matches!(
        data_type,
        ast::DataType::Int(_) | ast::DataType::Integer(_) | ast::DataType::BigInt(_) | ast::DataType::SmallInt(_)
    );
    let fits = match value {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => is_whole && digits.bytes().all(|byte| byte.is_ascii_digit()),
            Value::SingleQuotedString(_) => is_text,
            _ => false,
        },
        _ => false,
    };
    if fits {
        return value.clone();
    }
    Expr::Cast {
        kind: ast::CastKind::Cast,
        expr: Box::new(value.clone()),
        data_type: data_type.clone(),
        array: false,
        format: None,
    }
}
