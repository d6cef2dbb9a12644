//! Conditions over `images` that users write.

use super::catalog::Session;
use super::statement::expression;
use crate::error::{Error, Result};
use crate::store::no_condition;

impl Session {
    /// Refuse what is not one SQL expression over `images` that is true or false. It may call any function.
    ///
    /// Errors: [`Error::BadPredicate`], with what is wrong.
    pub async fn check_condition(&self, text: &str) -> Result<()> {
        let bad = |reason| Error::BadPredicate { predicate: text.into(), reason };
        // one expression, or its parentheses could close ours
        expression(text).map_err(bad)?;
        if expression(&format!("({text})")).is_err() {
            return Err(bad("a comment at its end would swallow what follows: leave it out".into()));
        }
        let planned =
            self.sql(&format!("SELECT ({text}) FROM images")).await.map_err(|error| bad(error.to_string()))?;
        no_condition(planned.schema().field(0).data_type()).map_or(Ok(()), |reason| Err(bad(reason)))
    }
}
