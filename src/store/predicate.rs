//! SQL expressions over `images` that users write: checked before they are kept or run.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchema, DataFusionError};
use datafusion::logical_expr::{Expr, Volatility};
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
        let mut changing = None;
        parsed
            .apply(|part| {
                if let Expr::ScalarFunction(call) = part
                    && call.func.signature().volatility != Volatility::Immutable
                {
                    changing = Some(call.name().to_string());
                }
                Ok(TreeNodeRecursion::Continue)
            })
            .map_err(explain)?;
        match changing {
            Some(name) => Err(bad(format!("{name}() gives another answer each time: write the value instead"))),
            None => Ok(()),
        }
    }
}

/// `text` as a SQL string literal.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
