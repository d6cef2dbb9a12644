//! A CSV file (RFC 4180, UTF-8, a header) beside a folder of pictures.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow::array::{RecordBatch, StringArray};

use super::files::{Place, Placed};
use super::folder::Folder;
use super::rows::Page;
use super::values;
use crate::error::{Error, Result};

/// `images.csv`, and `images/`.
pub(super) struct Csv {
    table: Table,
}

impl Csv {
    pub(super) fn begin(folder: &Folder) -> Result<Self> {
        folder.inside("images")?;
        Ok(Self { table: Table::begin(folder.path(), "images.csv")? })
    }

    pub(super) fn rows(&mut self, page: &Page, placed: &[Placed]) -> Result<()> {
        let files = placed.iter().map(|one| match &one.place {
            Place::Inside(file) | Place::Outside(file) => Some(file.as_str()),
            Place::InArchive | Place::Missing(_) => None,
        });
        self.table.rows(&values::led_by("file", files.collect::<StringArray>(), &page.facts)?)
    }

    pub(super) fn end(self) -> Result<Vec<String>> {
        self.table.end()?;
        Ok(Vec::new())
    }
}

/// A CSV file while it is written.
pub(super) struct Table {
    path: PathBuf,
    file: BufWriter<File>,
    has_header: bool,
}

impl Table {
    pub(super) fn begin(folder: &Path, name: &str) -> Result<Self> {
        let path = folder.join(name);
        let file = File::create(&path).map_err(Error::io("write", &path))?;
        Ok(Self { path, file: BufWriter::new(file), has_header: false })
    }

    pub(super) fn rows(&mut self, rows: &RecordBatch) -> Result<()> {
        let text = values::csv(rows, !std::mem::replace(&mut self.has_header, true))?;
        self.file.write_all(&text).map_err(Error::io("write", &self.path))
    }

    pub(super) fn end(mut self) -> Result<()> {
        self.file.flush().map_err(Error::io("write", &self.path))
    }
}
