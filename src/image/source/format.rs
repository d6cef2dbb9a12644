//! What every format gives: a [`Source`], whose entries are known before anything is read, and a [`Reader`] of their contents.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;

use super::beside::Beside;
use crate::error::{Error, Result};
use crate::image::decode::{HEAD, refusal};

/// A picture's file, or member of an archive, above this many bytes is refused instead of read: none of
/// [`MAX_PIXELS`](crate::image::MAX_PIXELS) need be so large, and its header may lie.
pub const MAX_FILE_BYTES: u64 = 512 << 20;

/// Rows that a file may promise in any case; above, each must have [`ROW_BYTES`] in it.
const FREE_ROWS: u64 = 1_000_000;
const ROW_BYTES: u64 = 8;

/// The bytes of one picture, not decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFile {
    /// Where it is: the absolute path, its folder without symbolic links, or the address without its query, of which only what
    /// [`KeptQuery`](super::KeptQuery) says is kept; of an image inside a file, that file's, `!/` and the name there.
    pub uri: String,
    /// Its class; see [`open`](super::open).
    pub label: Option<String>,
    /// Whether a list, a table or the data set itself says the class, and not the name of its folder.
    pub is_labelled: bool,
    /// The file's bytes, as stored; of bare pixels a netpbm file.
    pub bytes: Vec<u8>,
}

/// An image's class.
pub(super) type Label = Option<Arc<str>>;

/// A file or folder that holds images, and how they are read.
pub(super) struct Source {
    /// Where it lies, for messages: of an address nothing that gives access.
    pub(super) path: PathBuf,
    /// What stands before an entry's name in its uri.
    pub(super) root: String,
    /// The addresses of which the uris keep less: the container's own, or those that its entries count (from 1).
    pub(super) asked: Arc<[String]>,
    pub(super) entries: Vec<Entry>,
    /// Entries that were left out because a later one of the same name counts.
    pub(super) superseded: usize,
    /// Whether the labels are the names of folders.
    pub(super) by_folder: bool,
    /// `train`, `test`, …, where it is a part of a data set.
    pub(super) part: Option<String>,
    /// What lies beside its entries and is left alone.
    pub(super) beside: Beside,
    /// What else there is to say of it.
    pub(super) note: Option<String>,
    /// Why it could not be listed to its end.
    pub(super) cut: Option<String>,
    /// It was found in a folder: where it breaks, the rest of the folder goes on.
    pub(super) in_folder: bool,
    /// The table that it is, or that named it, where that says more of its images.
    pub(super) table: Option<Table>,
    pub(super) open: Arc<Open>,
}

/// Gives a reader of a source from its beginning.
pub(super) type Open = dyn Fn() -> Result<Box<dyn Reader>> + Send + Sync;

/// What says more of images than their labels.
pub(super) enum Table {
    /// One that holds them: gives its further columns.
    Embedded(Arc<ReadColumns>),
    /// One that names them, as it was given.
    Listed(PathBuf, RecordBatch),
}

/// Gives the columns of a table.
pub(super) type ReadColumns = dyn Fn() -> Result<RecordBatch> + Send + Sync;

impl Table {
    /// The same under another name, for messages.
    pub(super) fn at(self, other: &Path) -> Self {
        match self {
            Self::Embedded(tell) => {
                let other = other.to_path_buf();
                Self::Embedded(Arc::new(move || tell().map_err(|error| error.at(&other))))
            }
            names => names,
        }
    }
}

/// What a table says of images, beside their bytes.
#[derive(Debug)]
pub enum TableColumns {
    /// It holds them: its columns of plain types, without the one that is the label, row by row.
    Embedded {
        /// The table, as the uris of its images name it.
        path: PathBuf,
        /// The columns.
        rows: RecordBatch,
    },
    /// It names them in its column `uri`.
    Listed {
        /// The table, as it was given.
        path: PathBuf,
        /// All of it.
        rows: RecordBatch,
    },
}

/// The file that holds an image, and its row there, by the image's uri.
pub fn held_row(uri: &str) -> Option<(&str, u32)> {
    let (file, row) = uri.rsplit_once("!/")?;
    row.bytes().all(|byte| byte.is_ascii_digit()).then(|| Some((file, row.parse().ok()?)))?
}

impl Source {
    /// A container whose entries are named inside it.
    pub(super) fn inside(
        path: &Path,
        mut entries: Vec<Entry>,
        open: impl Fn() -> Result<Box<dyn Reader>> + Send + Sync + 'static,
    ) -> Self {
        let root = format!("{}!/", path.display());
        if path.to_str().is_none() {
            entries.iter_mut().for_each(|entry| {
                entry.refused = Some("the path of the file that holds it is not UTF-8: rename it".into());
            });
        }
        let (path, open) = (path.into(), Arc::new(open));
        let asked = Arc::default();
        Self {
            path,
            root,
            asked,
            entries,
            superseded: 0,
            by_folder: false,
            part: None,
            beside: Beside::default(),
            note: None,
            cut: None,
            in_folder: false,
            table: None,
            open,
        }
    }

    /// A container in a folder that cannot be listed.
    pub(super) fn broken(path: &Path, reason: String) -> Self {
        let (file, cut) = (path.to_path_buf(), Some(reason.clone()));
        let open = move || Err(Error::BadArchive { path: file.clone(), reason: reason.clone() });
        Self { cut, in_folder: true, ..Self::inside(path, Vec::new(), open) }
    }

    /// With what gives further columns of its rows.
    pub(super) fn with_table(self, tell: Option<impl Fn() -> Result<RecordBatch> + Send + Sync + 'static>) -> Self {
        Self { table: tell.map(|tell| Table::Embedded(Arc::new(tell))), ..self }
    }

    /// The container as its uris and its messages name it.
    pub(super) fn named(&self) -> PathBuf {
        self.root.strip_suffix("!/").map_or_else(|| self.path.clone(), PathBuf::from)
    }

    pub(super) fn with_part(self, part: Option<&str>) -> Self {
        Self { part: part.map(String::from), ..self }
    }
}

/// One image of a source.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) name: Box<str>,
    pub(super) label: Option<Arc<str>>,
    /// Where it is: what its reader makes of that.
    pub(super) at: u64,
    /// Bytes; or the row in what lies there.
    pub(super) size: u64,
    pub(super) refused: Option<String>,
}

impl Entry {
    pub(super) fn new(name: impl Into<Box<str>>, at: u64, size: u64) -> Self {
        Self { name: name.into(), label: None, at, size, refused: None }
    }

    /// The row of a file that has no names for them.
    pub(super) fn row(row: usize) -> Self {
        Self::new(row_name(row), row as u64, 0)
    }
}

/// Rows sort by name as they lie.
pub(super) fn row_name(row: usize) -> String {
    format!("{row:08}")
}

/// Reads the entries of a source, in their order; some may be left out.
pub(super) trait Reader: Send {
    /// The entries that come next, as far as they are known: what answers slowly is asked for several at a time.
    fn ahead(&mut self, _next: &[Entry]) {}

    fn read(&mut self, entry: &Entry) -> Result<Vec<u8>, Fault>;

    /// Say what is wrong with the whole, once the last entry was read.
    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// Why an entry cannot be read.
pub(super) enum Fault {
    /// It alone.
    Image(String),
    /// And nothing after it.
    Container(String),
    /// Nor anything else at addresses.
    Lost(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Container(error.to_string())
    }
}

pub(super) fn too_large(bytes: u64) -> String {
    format!("it is {bytes} bytes long, and at most {MAX_FILE_BYTES} are read")
}

/// The bytes of a picture, of which the first tell whether it is one before the rest is read; or why it is none.
pub(super) fn picture(from: &mut impl Read) -> io::Result<Result<Vec<u8>, String>> {
    let mut bytes = Vec::new();
    from.take(HEAD as u64).read_to_end(&mut bytes)?;
    if bytes.len() < HEAD {
        return Ok(Ok(bytes)); // so small a one is for its decoder to judge
    }
    if let Some(reason) = refusal(&bytes) {
        return Ok(Err(reason));
    }
    from.take(MAX_FILE_BYTES + 1 - HEAD as u64).read_to_end(&mut bytes)?;
    let length = bytes.len() as u64;
    Ok(if length > MAX_FILE_BYTES { Err(too_large(length)) } else { Ok(bytes) })
}

/// Refuse to list more rows than a file of `length` bytes has reason to promise: compressed, a few bytes stand for
/// any number.
pub(super) fn check_rows(rows: u64, length: u64) -> Result<(), String> {
    if rows > FREE_ROWS.max(length / ROW_BYTES) {
        return Err(format!(
            "it promises {rows} rows in {length} bytes, and a row in at least {ROW_BYTES} bytes is read"
        ));
    }
    Ok(())
}

pub(super) const NOT_UTF8: &str = "its name is not UTF-8: rename it";
