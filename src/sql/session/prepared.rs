//! What a session keeps of prepared statements.

use std::collections::HashMap;

use datafusion::sql::sqlparser::ast;

/// A statement with places for values.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    /// Of the values, where PREPARE names them.
    pub(super) types: Vec<ast::DataType>,
    pub(super) statement: ast::Statement,
    /// How many values it takes.
    pub(super) values: usize,
}

/// By name.
pub(super) type PreparedStatements = HashMap<String, Prepared>;
