//! The formats that rows are printed in, by name.

use crate::error::{Error, Result};

/// How rows are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Aligned columns, for people
    Table,
    /// Comma-separated, with a header
    Csv,
    /// One JSON object a line
    Json,
    /// A Parquet file
    Parquet,
    /// An Arrow IPC stream
    Arrow,
}

impl Format {
    /// The formats that a terminal can show.
    pub(super) const TEXT: [Self; 3] = [Self::Table, Self::Csv, Self::Json];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Csv => "csv",
            Self::Json => "json",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
        }
    }

    /// Whether it is a file of one result rather than text.
    pub(super) fn is_binary(self) -> bool {
        !Self::TEXT.contains(&self)
    }

    /// Refuse a binary format on a terminal.
    pub(super) fn check(self, on_terminal: bool) -> Result<()> {
        if self.is_binary() && on_terminal {
            return Err(Error::BinaryOnTerminal { format: self.name() });
        }
        Ok(())
    }
}

/// How many rows of a table are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// However many there are.
    All,
    /// The first of them.
    AtMost(usize),
}

impl std::str::FromStr for Rows {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            number => number.parse().map(Self::AtMost).map_err(|_| "write a number, or 'all'".into()),
        }
    }
}
