//! The formats that SQL reads, by what files' names end in.

use std::collections::HashMap;
use std::path::Path;

/// What a name may end in, for messages.
pub(super) const READ: &str = ".csv, .tsv, .json, .jsonl and .ndjson files (with .gz or .zst behind it as well), .parquet, .arrow and \
                               .feather files, folders of files of one of these kinds, and .lance tables";

/// A file's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Format {
    Csv,
    Tsv,
    Json,
    Parquet,
    Arrow,
}

/// What names end in.
const ENDINGS: [(&str, Format); 9] = [
    ("csv", Format::Csv),
    ("tsv", Format::Tsv),
    ("json", Format::Json),
    ("jsonl", Format::Json),
    ("ndjson", Format::Json),
    ("parquet", Format::Parquet),
    ("arrow", Format::Arrow),
    ("feather", Format::Arrow),
    ("ipc", Format::Arrow),
];

impl Format {
    /// What a name says, and whether the file is compressed (`.gz`, `.zst`).
    pub(super) fn of(path: &Path) -> Option<(Self, bool)> {
        let name = path.file_name()?.to_string_lossy().to_ascii_lowercase();
        let (name, is_compressed) = match [".gz", ".zst"].iter().find_map(|end| name.strip_suffix(end)) {
            Some(name) => (name, true),
            None => (name.as_str(), false),
        };
        let (_, ending) = name.rsplit_once('.')?;
        let format = ENDINGS.iter().find(|(known, _)| *known == ending)?.1;
        (!is_compressed || format.is_text()).then_some((format, is_compressed))
    }

    pub(super) fn is_text(self) -> bool {
        matches!(self, Self::Csv | Self::Tsv | Self::Json)
    }

    /// DataFusion's name of it, and what is told about it beside; CSV files are apart by `delimiter`.
    pub(super) fn listed(self, delimiter: u8) -> (&'static str, HashMap<String, String>) {
        let options = |name: &str, value: &str| HashMap::from([(format!("format.{name}"), value.to_owned())]);
        match self {
            Self::Csv | Self::Tsv => {
                let mut told = options("has_header", "true");
                told.extend(options("delimiter", &char::from(delimiter).to_string()));
                ("csv", told)
            }
            Self::Json => ("json", HashMap::new()),
            Self::Parquet => ("parquet", HashMap::new()),
            Self::Arrow => ("arrow", HashMap::new()),
        }
    }
}
