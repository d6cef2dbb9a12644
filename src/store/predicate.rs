//! SQL expressions over `images` that users write: checked before they are kept or run.

use arrow::datatypes::DataType;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::logical_expr::{Expr, ExprSchemable, Volatility};
use datafusion::prelude::SessionContext;

use super::database::Store;
use crate::error::{Error, Result};
use crate::schema;

impl Store {
    /// Refuse a predicate over `images` that is not one SQL expression, names what is not there, or would hold for
    /// other rows tomorrow (`random()`, `now()`).
    pub async fn check_predicate(&self, predicate: &str) -> Result<()> {
        let bad = |reason: String| Error::BadPredicate { predicate: predicate.into(), reason };
        let explain = |error: DataFusionError| bad(Error::from(error).to_string());
        let columns = DFSchema::try_from(self.schema(schema::IMAGES).await?).map_err(explain)?;
        let parse = |text: &str| SessionContext::new().parse_sql_expr(text, &columns).map_err(explain);
        let parsed = parse(predicate)?;
        // as it will stand in a filter: a comment or an AS at its end would swallow what follows
        parse(&format!("({predicate})"))?;
        if let Some(reason) = no_condition(&parsed.get_type(&columns).map_err(explain)?) {
            return Err(bad(reason));
        }
        let (mut changing, mut compared) = (None, None);
        parsed
            .apply(|part| {
                compared = compared.take().or_else(|| compared_with_numbers(part, &columns));
                if let Expr::ScalarFunction(call) = part
                    && call.func.signature().volatility != Volatility::Immutable
                {
                    changing = Some(call.name().to_string());
                }
                Ok(TreeNodeRecursion::Continue)
            })
            .map_err(explain)?;
        if let Some((text, number)) = compared {
            return Err(bad(Error::TextAndNumber { text, number }.to_string()));
        }
        match changing {
            Some(name) => Err(bad(format!("{name}() gives another answer each time: write the value instead"))),
            None => Ok(()),
        }
    }
}

/// Why values of a type are no condition.
pub fn no_condition(kind: &DataType) -> Option<String> {
    let what = match kind {
        DataType::Boolean | DataType::Null => return None,
        kind if kind.is_numeric() => "a number",
        kind if kind.is_string() => "a text",
        kind if kind.is_nested() => "a list",
        _ => "a value",
    };
    Some(format!("it is {what}, where a condition is true or false: compare it with something"))
}

/// A text that is compared with a number, and the number: each value would be read as one, and the first that is none would
/// be an error, or not, depending on which rows are read. A text that is written out stands for whatever it is compared with.
pub fn compared_with_numbers(part: &Expr, columns: &DFSchema) -> Option<(String, String)> {
    let is_text = |part: &Expr| {
        let written = matches!(part, Expr::Literal(..) | Expr::Placeholder(_));
        !written && part.get_type(columns).is_ok_and(|kind| kind.is_string())
    };
    let is_number = |part: &Expr| part.get_type(columns).is_ok_and(|kind| kind.is_numeric());
    let (one, others): (&Expr, Vec<&Expr>) = match part {
        Expr::BinaryExpr(both) if both.op.supports_propagation() => (&both.left, vec![&both.right]),
        Expr::InList(list) => (&list.expr, list.list.iter().collect()),
        Expr::Between(between) => (&between.expr, vec![&between.low, &between.high]),
        Expr::Case(case) => {
            (case.expr.as_deref()?, case.when_then_expr.iter().map(|(when, _)| when.as_ref()).collect())
        }
        _ => return None,
    };
    let pair = |other: &&Expr| {
        let (text, number) = if is_text(one) { (one, *other) } else { (*other, one) };
        (is_text(text) && is_number(number))
            .then(|| (text.human_display().to_string(), number.human_display().to_string()))
    };
    others.iter().find_map(pair)
}

/// `text` as a SQL string literal.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
