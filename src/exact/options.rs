//! How to lay a bank out.

use crate::path::Path;

/// How to lay a bank out; none of it changes a result.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// The k most searches will ask for.
    pub k: usize,
    /// Number of cells; `None`: chosen from the number of rows.
    pub cells: Option<usize>,
    /// Numbers per row that are coded in 8 bits; `None`: what pays on a sample of the rows. The whole row where that is 0, or
    /// more than there are directions.
    pub head: Option<usize>,
    /// Instructions to use.
    pub path: Path,
}

impl Default for Layout {
    fn default() -> Self {
        Self { k: 50, cells: None, head: None, path: Path::detect() }
    }
}
