//! The parts of a statement, one after the other.
//!
//! sqlparser compiles its walk anew for each kind of visitor, some 770 functions: this is the only one.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Query, TableFactor, VisitMut, VisitorMut};

use crate::error::{Error, Result};

/// A part that a walk comes by.
pub(super) enum Part<'p> {
    /// Before what is in it.
    Table(&'p mut TableFactor),
    /// Before what is in it.
    Query(&'p mut Query),
    /// After what is in it.
    Expression(&'p mut Expr),
}

/// Do something with each part, until there is an error.
pub(super) fn walk<T: VisitMut>(statement: &mut T, mut each: impl FnMut(Part<'_>) -> Result<()>) -> Result<()> {
    match statement.visit(&mut Walk(&mut each)) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// The same of the expressions alone.
pub(super) fn walk_expressions<T: VisitMut>(
    statement: &mut T,
    mut each: impl FnMut(&mut Expr) -> Result<()>,
) -> Result<()> {
    walk(statement, |part| match part {
        Part::Expression(part) => each(part),
        Part::Table(_) | Part::Query(_) => Ok(()),
    })
}

struct Walk<'w>(&'w mut dyn FnMut(Part<'_>) -> Result<()>);

impl Walk<'_> {
    fn of(&mut self, part: Part<'_>) -> ControlFlow<Box<Error>> {
        (self.0)(part).map_or_else(|error| ControlFlow::Break(Box::new(error)), ControlFlow::Continue)
    }
}

impl VisitorMut for Walk<'_> {
    /// Boxed: each level of a walk has room for it on the stack.
    type Break = Box<Error>;

    fn pre_visit_table_factor(&mut self, table: &mut TableFactor) -> ControlFlow<Self::Break> {
        self.of(Part::Table(table))
    }

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        self.of(Part::Query(query))
    }

    fn post_visit_expr(&mut self, part: &mut Expr) -> ControlFlow<Self::Break> {
        self.of(Part::Expression(part))
    }
}
