//! Values in the places of a statement: `$1`, `$2`, … by their order, `$name` by name.

use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{self, Expr, Value, VisitMut};

use super::walk::walk_expressions;
use crate::error::{Error, Result};

/// A value that takes a place.
#[derive(Debug, Clone, PartialEq)]
pub enum Parameter {
    /// NULL.
    Null,
    /// TRUE or FALSE.
    Boolean(bool),
    /// A whole number.
    Integer(i128),
    /// Any other.
    Float(f64),
    /// A text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
    /// An array: a vector, above all.
    List(Vec<Parameter>),
}

/// Values for a statement's places; by default there are none.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parameters {
    /// Of `$1`, `$2`, ….
    pub positional: Vec<Parameter>,
    /// Of `$name`, without the dollar sign.
    pub named: Vec<(String, Parameter)>,
}

impl Parameters {
    /// The statement with its places taken, as literals: k and a bank's name may be given so. What PREPARE has places for
    /// is given by EXECUTE.
    ///
    /// Errors: a place without a value, a value without a place.
    pub fn bind(&self, mut statement: Statement) -> Result<Statement> {
        let mut used = vec![false; self.positional.len() + self.named.len()];
        self.put(&mut statement, &mut used)?;
        match used.iter().position(|used| !used) {
            Some(at) if at < self.positional.len() => Err(Error::UnusedParameter { place: format!("${}", at + 1) }),
            Some(at) => Err(Error::UnusedParameter { place: format!("${}", self.named[at - self.positional.len()].0) }),
            None => Ok(statement),
        }
    }

    fn put(&self, statement: &mut Statement, used: &mut [bool]) -> Result<()> {
        match statement {
            Statement::Explain(explain) => self.put(&mut explain.statement, used),
            Statement::CopyTo(copy) => match &mut copy.source {
                CopyToSource::Query(query) => self.put_in(query.as_mut(), used),
                CopyToSource::Relation(_) => Ok(()),
            },
            Statement::Statement(parsed) if matches!(parsed.as_ref(), ast::Statement::Prepare { .. }) => Ok(()),
            Statement::Statement(parsed) => self.put_in(parsed.as_mut(), used),
            _ => Ok(()),
        }
    }

    fn put_in<T: VisitMut>(&self, part: &mut T, used: &mut [bool]) -> Result<()> {
        walk_expressions(part, |part| {
            let Expr::Value(value) = part else { return Ok(()) };
            let Value::Placeholder(place) = &value.value else { return Ok(()) };
            let name = place.trim_start_matches(['$', ':']);
            let found = match name.parse::<usize>() {
                Ok(number) => number.checked_sub(1).filter(|at| *at < self.positional.len()),
                Err(_) => {
                    let named = self.named.iter().position(|(given, _)| given == name);
                    named.map(|at| at + self.positional.len())
                }
            };
            let Some(at) = found else { return Err(Error::NoParameter { place: place.clone() }) };
            used[at] = true;
            let given = self.positional.get(at).unwrap_or_else(|| &self.named[at - self.positional.len()].1);
            // in parentheses: ORDER BY 2 would be the second column
            *part = Expr::Nested(Box::new(given.literal()));
            Ok(())
        })
    }
}

impl Parameter {
    fn literal(&self) -> Expr {
        let value = |value: Value| Expr::Value(value.with_empty_span());
        let number = |digits: String| match digits.strip_prefix('-') {
            Some(digits) => Expr::UnaryOp {
                op: ast::UnaryOperator::Minus,
                expr: Box::new(value(Value::Number(digits.to_owned(), false))),
            },
            None => value(Value::Number(digits, false)),
        };
        match self {
            Self::Null => value(Value::Null),
            Self::Boolean(truth) => value(Value::Boolean(*truth)),
            Self::Integer(whole) => number(whole.to_string()),
            Self::Float(float) if float.is_finite() => number(format!("{float:?}")),
            Self::Float(float) => Expr::Cast {
                kind: ast::CastKind::Cast,
                expr: Box::new(value(Value::SingleQuotedString(float.to_string()))),
                data_type: ast::DataType::Double(ast::ExactNumberInfo::None),
                array: false,
                format: None,
            },
            Self::Text(text) => value(Value::SingleQuotedString(text.clone())),
            Self::Binary(bytes) => {
                value(Value::HexStringLiteral(bytes.iter().map(|byte| format!("{byte:02x}")).collect()))
            }
            Self::List(items) => {
                Expr::Array(ast::Array { elem: items.iter().map(Self::literal).collect(), named: false })
            }
        }
    }
}
