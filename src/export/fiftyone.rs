//! FiftyOne's `CSVDataset`: `labels.csv`, the pictures in `data/`, and `load.py`, for the loader takes every column for a text unless it is
//! told its type.

use std::fmt::Write;

use arrow::array::StringArray;
use arrow::datatypes::DataType;

use super::csv::Table;
use super::files::{Place, Placed};
use super::folder::Folder;
use super::rows::{Page, Rows};
use super::values;
use crate::error::Result;

/// What a sample of FiftyOne has of its own, fields and methods: a field of that name would hide it.
pub(super) const TAKEN: [&str; 47] = [
    "id",
    "filepath",
    "tags",
    "metadata",
    "created_at",
    "last_modified_at",
    "media_type",
    "dataset",
    "dataset_id",
    "filename",
    "field_names",
    "in_dataset",
    "add_labels",
    "clear_field",
    "compute_metadata",
    "copy",
    "excluded_field_names",
    "filtered_field_names",
    "from_dict",
    "from_doc",
    "from_frame",
    "from_json",
    "get_field",
    "get_media_key",
    "has_field",
    "iter_fields",
    "media_reference",
    "merge",
    "reload",
    "save",
    "selected_field_names",
    "set_field",
    "to_dict",
    "to_json",
    "to_mongo_dict",
    "update_fields",
    "frames",
    "group",
    "rand",
    "sample_id",
    "frame_number",
    "support",
    "name",
    "keys",
    "values",
    "items",
    "pk",
];

/// `labels.csv`, `data/` and `load.py`.
pub(super) struct FiftyOne {
    table: Table,
    parsers: String,
}

impl FiftyOne {
    pub(super) fn begin(folder: &Folder, rows: &Rows) -> Result<Self> {
        folder.inside("data")?;
        let mut parsers = String::new();
        for field in rows.columns.fields() {
            // names of columns are of small letters, digits and _
            let _ = writeln!(parsers, "    \"{}\": {},", field.name(), parser(field.data_type()));
        }
        Ok(Self { table: Table::begin(folder.path(), "labels.csv")?, parsers })
    }

    pub(super) fn rows(&mut self, page: &Page, placed: &[Placed]) -> Result<()> {
        let files = placed.iter().map(|one| match &one.place {
            // relative to data/, wherever the folder goes
            Place::Inside(file) => Some(file.trim_start_matches("data/")),
            Place::Outside(file) => Some(file.as_str()),
            Place::InArchive | Place::Missing(_) => None,
        });
        self.table.rows(&values::led_by("filepath", files.collect::<StringArray>(), &page.facts)?)
    }

    pub(super) fn end(self, folder: &Folder) -> Result<Vec<String>> {
        self.table.end()?;
        folder.write("load.py", LOAD.replace("PARSERS", &self.parsers))?;
        let script = folder.target().join("load.py");
        Ok(vec![format!("python {} opens it in FiftyOne; the image's id is the field image_id", script.display())])
    }
}

/// How the text of a column becomes a value.
fn parser(kind: &DataType) -> &'static str {
    match kind {
        DataType::Boolean => "is_true",
        kind if kind.is_integer() => "int",
        kind if kind.is_floating() => "float",
        kind if kind.is_nested() => "json.loads",
        _ => "str",
    }
}

const LOAD: &str = r#"""" Load this folder into FiftyOne: `python load.py`, or `from load import load`. """
import json
import os

HERE = os.path.dirname(os.path.abspath(__file__))


def is_true(text):
    return text == "true"


# without these every column is loaded as text
FIELDS = {
PARSERS}


def load(name=None):
    import fiftyone as fo

    return fo.Dataset.from_dir(dataset_dir=HERE, dataset_type=fo.types.CSVDataset, fields=dict(FIELDS), name=name)


if __name__ == "__main__":
    import fiftyone as fo

    fo.launch_app(load()).wait()
"#;
