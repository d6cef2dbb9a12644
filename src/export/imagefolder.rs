//! Folders of pictures: `split/label/id.png`, as torchvision's `ImageFolder` and Keras read them, with a table in each split
//! that `datasets` reads along with them.
//!
//! `datasets` wants the same columns of the same types in the tables of all splits, so they are Parquet files; and beside such a table it takes
//! no labels from folders, so the label is a column.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{StringArray, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Field, Schema, SchemaRef};

use super::files::{Place, Placed};
use super::folder::Folder;
use super::names::{UNLABELLED, folders, splits};
use super::parquet::Parquet;
use super::rows::{Page, Rows};
use super::values;
use crate::error::Result;

/// The one split where there are too many.
pub(super) const ALL_IN_ONE: &str = "train";
/// Bytes of row groups that are in memory together.
const GROUPS: usize = 64 << 20;

/// Whether a column would be taken for the names of pictures.
pub(super) fn is_taken(column: &str) -> bool {
    column == "image"
        || ["file_name", "file_names"].iter().any(|end| column == *end || column.ends_with(&format!("_{end}")))
}

/// `SPLIT/LABEL/`, and `SPLIT/metadata.parquet`.
pub(super) struct ImageFolder {
    /// The folder of each split; none where all are in one.
    splits: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    made: BTreeSet<String>,
    tables: BTreeMap<String, Parquet>,
    schema: SchemaRef,
}

impl ImageFolder {
    pub(super) fn begin(
        folder: &Folder,
        rows: &Rows,
        labels: &BTreeSet<String>,
        found: BTreeSet<String>,
    ) -> Result<Self> {
        let first = Field::new("file_name", arrow::datatypes::DataType::Utf8, true);
        let fields: Vec<_> =
            std::iter::once(std::sync::Arc::new(first)).chain(rows.columns.fields().iter().cloned()).collect();
        let (splits, labels) = (splits(&found), folders(labels));
        let mut made = BTreeSet::new();
        // a table lies in each
        let names: BTreeSet<&str> =
            if splits.is_empty() { [ALL_IN_ONE].into() } else { splits.values().map(String::as_str).collect() };
        for split in names {
            folder.inside(split)?;
            made.insert(split.to_owned());
        }
        Ok(Self { splits, labels, made, tables: BTreeMap::new(), schema: std::sync::Arc::new(Schema::new(fields)) })
    }

    fn split(&self, page: &Page, row: usize) -> &str {
        self.splits.get(&page.splits[row]).map_or(ALL_IN_ONE, String::as_str)
    }

    /// The folder for a row's picture.
    pub(super) fn within(&self, page: &Page, row: usize) -> String {
        let label = page.labels[row].as_ref().and_then(|label| self.labels.get(label));
        format!("{}/{}", self.split(page, row), label.map_or(UNLABELLED, String::as_str))
    }

    /// Make the folders of a page's pictures.
    pub(super) fn prepare(&mut self, within: &[String], folder: &Folder) -> Result<()> {
        for name in within {
            if !self.made.contains(name) {
                folder.inside(name)?;
                self.made.insert(name.clone());
            }
        }
        Ok(())
    }

    pub(super) fn rows(&mut self, page: &Page, placed: &[Placed], folder: &Folder) -> Result<()> {
        let mut members: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for row in 0..placed.len() {
            members.entry(self.split(page, row).to_owned()).or_default().push(row as u64);
        }
        for (split, rows) in members {
            let files = rows.iter().map(|row| match &placed[*row as usize].place {
                Place::Inside(file) => file.strip_prefix(&format!("{split}/")),
                _ => None,
            });
            let files: StringArray = files.collect();
            let facts = take_record_batch(&page.facts, &UInt64Array::from(rows))?;
            let all = values::led_by("file_name", files, &facts)?;
            let table = match self.tables.entry(split) {
                std::collections::btree_map::Entry::Occupied(open) => open.into_mut(),
                std::collections::btree_map::Entry::Vacant(new) => {
                    let path = folder.path().join(new.key()).join("metadata.parquet");
                    let group = GROUPS / self.splits.len().max(1);
                    new.insert(Parquet::begin(&path, self.schema.clone(), group, None)?)
                }
            };
            table.rows(&all.with_schema(self.schema.clone())?)?;
        }
        Ok(())
    }

    pub(super) fn end(self, folder: &Folder) -> Result<Vec<String>> {
        // of labels none of whose pictures are there: torchvision refuses folders without one
        for name in self.made.iter().filter(|name| name.contains('/')) {
            let _ = std::fs::remove_dir(folder.path().join(name));
        }
        let mut notes = vec![format!("load_dataset(\"{}\") opens it in Python", folder.target().display())];
        let names: Vec<String> = self.tables.keys().cloned().collect();
        for table in self.tables.into_values() {
            table.end()?;
        }
        let patterns = names.iter().map(|split| (split.clone(), format!("{split}/**")));
        folder.write(
            "README.md",
            card(patterns, "Pictures by split and label, with what is known of each in `SPLIT/metadata.parquet`."),
        )?;
        let other: Vec<(&String, &String)> = self.labels.iter().filter(|(label, name)| label != name).collect();
        if !other.is_empty() {
            let (labels, names): (Vec<&str>, Vec<&str>) =
                other.iter().map(|(label, name)| (label.as_str(), name.as_str())).unzip();
            let mapping =
                values::led_by("folder", StringArray::from(names), &single("label", StringArray::from(labels))?)?;
            folder.write("folders.csv", values::csv(&mapping, true)?)?;
            notes.push(format!(
                "{} labels cannot name folders as they are: folders.csv has the folder of each",
                other.len()
            ));
        }
        if self.splits.is_empty() {
            notes.push(format!(
                "there are too many splits for a folder each: all are in {ALL_IN_ONE}, and the column split says which"
            ));
        }
        Ok(notes)
    }
}

fn single(name: &str, values: StringArray) -> Result<arrow::array::RecordBatch> {
    let column: arrow::array::ArrayRef = std::sync::Arc::new(values);
    Ok(arrow::array::RecordBatch::try_from_iter([(name, column)])?)
}

/// The card of a data set, which tells `datasets` which files are which split.
pub(super) fn card(patterns: impl Iterator<Item = (String, String)>, about: &str) -> String {
    let files: String = patterns.map(|(split, path)| format!("  - split: {split}\n    path: \"{path}\"\n")).collect();
    format!(
        "---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n\n{about} Written by `outskirt export`.\n"
    )
}
