//! Where pictures come from: folders, files, archives, and the files in which data sets are distributed.
//!
//! Every format is a [`Source`]: a list of entries, made before anything is read so that the number of images is known
//! and a selection can be drawn, and a [`Reader`] that gives the contents of one entry after the other. An archive is
//! streamed: for a compressed one that means decompressing it twice, about a second for 100 MB, and in exchange only
//! one member is ever in memory. At an address it is downloaded twice in the same way (CIFAR's three times): nothing is
//! put on the disk. Formats that hold bare pixels give each picture as a netpbm file (PPM or PGM), which
//! [`decode`](super::decode) takes, so that every picture has bytes that can be hashed and stored.

mod address;
mod archive;
mod cifar;
mod files;
mod idx;
mod kept;
mod lance;
mod list;
mod place;
mod remote;
mod select;
mod svhn;
mod table;
mod tarball;
#[cfg(test)]
mod tests;
mod wait;
mod zipped;

use std::fs;
use std::io::{self, Read};
use std::iter::{self, FusedIterator};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec;

pub use address::shown;
use arrow::array::RecordBatch;
pub use kept::Opened;
pub use list::absolute;
pub use select::Selection;
pub use table::read as read_table;

use crate::error::{Error, Result};

/// A file or archive member above this many bytes is refused instead of read: no picture is so large, and its header
/// may lie.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// What a name may end in, for messages.
const READ: &str = "folders; .png, .jpg, .jpeg, .ppm and .pgm files; .tar, .tar.gz, .tgz and .zip archives; the CIFAR, SVHN \
                    (.mat) and MNIST (idx) files; .parquet, .csv and .jsonl tables; .lance tables with image bytes; and .txt \
                    lists of paths; on this machine or at http://, https:// and s3:// addresses";

/// The bytes of one picture, not decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFile {
    /// Where it is: the absolute path with symbolic links kept, or the address without what gives access to it; of an
    /// image inside a file, that file's, `!/` and the name there.
    pub uri: String,
    /// Its class; see [`open`].
    pub label: Option<String>,
    /// The file's bytes, as stored; of bare pixels a netpbm file.
    pub bytes: Vec<u8>,
}

/// Find the images in `paths`, which may be addresses.
///
/// | path | images | label |
/// | --- | --- | --- |
/// | folder | `.png`, `.jpg`, `.jpeg`, `.ppm`, `.pgm` at any depth, and the data set files below | the folder that directly holds it, if that lies below the folder given |
/// | image file | itself | none |
/// | `.tar`, `.tar.gz`, `.tgz`, `.zip` | members with these extensions, or the CIFAR batches in it | the member's folder; see below |
/// | CIFAR-10 and CIFAR-100, binary or Python version, a batch, the folder or the archive | all rows | the class's name, or its number where the file of names is not beside it; of CIFAR-100 the fine one |
/// | SVHN, `*_32x32.mat` | all | the digit |
/// | MNIST and its kin, `*-images-idx3-ubyte`, `.gz` too | all | the number in the labels file beside it |
/// | `.parquet` with image bytes, as Hugging Face lays it out | all rows | column `label`, by its class's name where the file has them |
/// | `.parquet`, `.csv`, `.jsonl` with a column `uri` | the files named, relative to the table's folder, and addresses | column `label` |
/// | `.lance`, a Lance table with image bytes (blobs too), on this machine | all rows | as `.parquet` |
/// | `.txt` | a path and maybe a label per line, relative to the list's folder | that |
///
/// **Addresses**: `http://`, `https://` and `s3://` ones are read as files are, and are the uris of their images, without
/// what signs them. Only S3 has folders and wildcards. Archives are streamed, other files are read by parts (or whole,
/// up to 256 MiB, where a server gives none), pictures some at a time.
///
/// Extensions count in any case; `*`, `?` and `[…]` in a path that does not exist are wildcards.
///
/// **Order**: the paths as given; inside a folder by name, bytewise, files and folders alike; an archive's own order.
///
/// **Skipped without a word**: other files, hidden ones (`.x`, so also macOS's `._x`), `__MACOSX`, archives inside
/// folders, and folders that a symbolic link turns into a circle. Other symbolic links are followed.
///
/// **Broken**: a data set's file in a folder that cannot be listed or read on is one image that cannot be read, with the
/// file's uri, and the rest goes on; one that is given by itself is an error.
///
/// **Archives**: one whose images all lie in one top folder has that folder as its root (`places/1.jpg` has no label,
/// `test/cat/1.png` has `cat`), any other starts at its top (`cat/1.png` beside `dog/1.png` has `cat`).
///
/// **More of them**: what tables say of images beside, [`ImageFiles::told`] gives.
///
/// **Parts**: of a folder or archive that holds several parts of a data set, the one that [`Selection::part`] names.
///
/// Errors: [`Error::MissingPath`], [`Error::UnknownFile`] for other files, [`Error::Io`] and [`Error::BadArchive`] for
/// what cannot be listed, [`Error::Unreachable`] where no host answers, [`Error::DatasetPart`], [`Error::NoImages`]. What the iterator refuses later is described at
/// [`ImageFiles`].
pub fn open(paths: &[PathBuf], selection: &Selection) -> Result<ImageFiles> {
    let mut sources = Vec::new();
    for given in paths {
        for path in files::expand(given)? {
            let found = plan(&path)?;
            let is_several = is_folder(&path) || archive::is_archive(&path);
            let path = PathBuf::from(shown(&path.to_string_lossy()));
            sources.extend(if is_several { selection.of_parts(&path, found)? } else { found });
        }
    }
    selection.apply(&mut sources);
    let single = sources.iter().filter(|source| source.root.is_empty()).flat_map(|source| &source.entries);
    remote::probe(single.map(|entry| &*entry.name).filter(|name| address::is_address(name)))?;
    let files = ImageFiles::new(sources);
    // an archive that is cut before its first image is a broken one, which the iterator says, and not an empty one
    if files.total == 0 && !files.sources.as_slice().iter().any(|source| source.cut.is_some()) {
        let paths = paths.iter().map(|path| shown(&path.to_string_lossy())).collect::<Vec<_>>().join(", ");
        return Err(Error::NoImages { paths });
    }
    Ok(files)
}

/// What one path holds, whichever part of a data set it is.
fn plan(given: &Path) -> Result<Vec<Source>> {
    if let Some(address) = address::of(given) {
        return plan_address(address);
    }
    let found = fs::metadata(given).map_err(Error::io("read", given))?;
    let path = std::path::absolute(given).map_err(Error::io("find", given))?;
    if !found.is_dir() {
        plan_file(&path)
    } else if lance::is_table(&path) {
        Ok(vec![lance::plan(&path)?])
    } else {
        files::folder(&path)
    }
}

/// What lies at an address; what gives access to it stays out of uris and errors.
fn plan_address(address: &str) -> Result<Vec<Source>> {
    let (path, shown) = (PathBuf::from(address), PathBuf::from(shown(address)));
    if let Some(reason) = address::refusal(address) {
        return Err(Error::BadArchive { path: shown, reason });
    }
    if lance::is_table(&path) {
        let reason = "Lance tables are read from folders of this machine: copy it to one".into();
        return Err(Error::BadArchive { path: shown, reason });
    }
    if is_folder(&path) {
        let found = remote::list(address).map_err(Error::io("list", &shown))?;
        return if found.is_empty() { Err(Error::MissingPath { path: shown }) } else { files::listed(address, found) };
    }
    let sources = plan_file(&path).map_err(|error| error.at(&shown))?;
    let as_shown = |source: Source| {
        if source.path != path || path == shown {
            return source;
        }
        let (open, root, named) = (source.open, format!("{}!/", shown.display()), shown.clone());
        let table = source.table.map(|table| table.at(&shown));
        let open = Arc::new(move || open().map_err(|error| error.at(&named)));
        Source { path: shown.clone(), root, table, open, ..source }
    };
    Ok(sources.into_iter().map(as_shown).collect())
}

/// Whether a path is a folder, which in S3 is what its name does not say to be a file.
fn is_folder(path: &Path) -> bool {
    let Some(address) = address::of(path) else { return path.is_dir() };
    let name = address::name(address);
    let is_file = archive::is_image(name.as_ref())
        || archive::is_archive(path)
        || idx::is_images(&name)
        || idx::is_labels(&name)
        || svhn::is_mat(&name)
        || table::is_table(&name)
        || list::is_list(&name)
        || cifar::is_binary(&name);
    address::is_s3(address) && (address.ends_with('/') || !is_file)
}

/// What a file holds.
fn plan_file(path: &Path) -> Result<Vec<Source>> {
    let text = place::name(path);
    if archive::is_image(text.as_ref()) {
        Ok(vec![files::one(path)])
    } else if tarball::is_tar(&text) {
        tarball::plan(path)
    } else if zipped::is_zip(&text) {
        Ok(vec![zipped::plan(path)?])
    } else if idx::is_images(&text) {
        Ok(vec![idx::plan(path)?])
    } else if idx::is_labels(&text) {
        Ok(Vec::new()) // read with its images
    } else if svhn::is_mat(&text) {
        Ok(vec![svhn::plan(path)?])
    } else if table::is_table(&text) {
        table::plan(path)
    } else if list::is_list(&text) {
        list::plan(path)
    } else if let Some(source) = cifar::file(path)? {
        Ok(vec![source])
    } else {
        Err(Error::UnknownFile { path: path.into(), read: READ })
    }
}

/// A file or folder that holds images, and how they are read.
struct Source {
    path: PathBuf,
    /// What stands before an entry's name in its uri.
    root: String,
    entries: Vec<Entry>,
    /// `train`, `test`, …, where it is a part of a data set.
    part: Option<String>,
    /// Why it could not be listed to its end.
    cut: Option<String>,
    /// It was found in a folder: where it breaks, the rest of the folder goes on.
    in_folder: bool,
    /// The table that it is, or that named it, where that says more of its images.
    table: Option<Table>,
    open: Arc<Open>,
}

/// Gives a reader of a source from its beginning.
type Open = dyn Fn() -> Result<Box<dyn Reader>> + Send + Sync;

/// What says more of images than their labels.
enum Table {
    /// One that holds them: gives its further columns.
    Holds(Arc<Tell>),
    /// One that names them, as it was given.
    Names(PathBuf, RecordBatch),
}

/// Gives the columns of a table.
type Tell = dyn Fn() -> Result<RecordBatch> + Send + Sync;

impl Table {
    /// The same under another name, for messages.
    fn at(self, other: &Path) -> Self {
        match self {
            Self::Holds(tell) => {
                let other = other.to_path_buf();
                Self::Holds(Arc::new(move || tell().map_err(|error| error.at(&other))))
            }
            names => names,
        }
    }
}

/// What a table says of images, beside their bytes.
#[derive(Debug)]
pub enum Told {
    /// It holds them: its columns of plain types, without the one that is the label, row by row.
    Held {
        /// The table, as the uris of its images name it.
        path: PathBuf,
        /// The columns.
        rows: RecordBatch,
    },
    /// It names them in its column `uri`.
    Named {
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
    fn inside(
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
        Self { path, root, entries, part: None, cut: None, in_folder: false, table: None, open }
    }

    /// A container in a folder that cannot be listed.
    fn broken(path: &Path, reason: String) -> Self {
        let (file, cut) = (path.to_path_buf(), Some(reason.clone()));
        let open = move || Err(Error::BadArchive { path: file.clone(), reason: reason.clone() });
        Self { cut, in_folder: true, ..Self::inside(path, Vec::new(), open) }
    }

    /// With what gives further columns of its rows.
    fn with_table(self, tell: Option<impl Fn() -> Result<RecordBatch> + Send + Sync + 'static>) -> Self {
        Self { table: tell.map(|tell| Table::Holds(Arc::new(tell))), ..self }
    }

    fn with_part(self, part: Option<&str>) -> Self {
        Self { part: part.map(String::from), ..self }
    }
}

/// One image of a source.
#[derive(Clone)]
struct Entry {
    name: Box<str>,
    label: Option<Arc<str>>,
    /// Where it is: what its reader makes of that.
    at: u64,
    /// Bytes; or the row in what lies there.
    size: u64,
    refused: Option<String>,
}

impl Entry {
    fn new(name: impl Into<Box<str>>, at: u64, size: u64) -> Self {
        Self { name: name.into(), label: None, at, size, refused: None }
    }

    /// The row of a file that has no names for them.
    fn row(row: usize) -> Self {
        Self::new(row_name(row), row as u64, 0)
    }
}

/// Rows sort by name as they lie.
fn row_name(row: usize) -> String {
    format!("{row:08}")
}

/// Reads the entries of a source, in their order; some may be left out.
trait Reader: Send {
    /// The entries that come next, as far as they are known: what answers slowly is asked for several at a time.
    fn ahead(&mut self, _next: &[Entry]) {}

    fn read(&mut self, entry: &Entry) -> Result<Vec<u8>, Fault>;

    /// Say what is wrong with the whole, once the last entry was read.
    fn end(&mut self) -> Result<(), String> {
        Ok(())
    }
}

/// Why an entry cannot be read.
enum Fault {
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

/// The images that [`open`] found, read one at a time.
///
/// An [`Error::BadImage`] stands for one image (unreadable, over [`MAX_FILE_BYTES`], a link inside an archive, a name
/// that is not UTF-8), or for what a broken file of a folder still holds, and the next item is the next image. Any other
/// error is the last item: it is an
/// [`Error::BadArchive`], after all that could be read of the archive, or an [`Error::Io`] or [`Error::MissingPath`]
/// for an archive that went away, or an [`Error::Unreachable`] when the network is gone. An archive cut exactly between two members cannot be told from one that was written
/// without an end mark, and is read as a whole one.
pub struct ImageFiles {
    sources: vec::IntoIter<Source>,
    current: Option<Current>,
    total: usize,
}

/// The source being read.
struct Current {
    path: PathBuf,
    root: String,
    entries: vec::IntoIter<Entry>,
    cut: Option<String>,
    in_folder: bool,
    reader: Box<dyn Reader>,
}

impl ImageFiles {
    fn new(sources: Vec<Source>) -> Self {
        let total = total(&sources);
        Self { sources: sources.into_iter(), current: None, total }
    }

    /// What the tables say that hold or name the images, in their order; once, and before the first image. A broken one
    /// in a folder is one image that cannot be read.
    ///
    /// Errors: those of [`open`].
    pub fn told(&mut self) -> Result<Vec<Told>> {
        let mut told = Vec::new();
        for source in self.sources.as_mut_slice() {
            match source.table.take() {
                Some(Table::Names(path, rows)) => told.push(Told::Named { path, rows }),
                Some(Table::Holds(tell)) if !source.entries.is_empty() => match tell() {
                    Ok(rows) => told.push(Told::Held { path: source.path.clone(), rows }),
                    Err(error) if source.in_folder => match refused(&source.path, error) {
                        Error::BadImage { reason, .. } => *source = Source::broken(&source.path, reason),
                        error => return Err(error),
                    },
                    Err(error) => return Err(error),
                },
                _ => {}
            }
        }
        self.total = total(self.sources.as_slice());
        Ok(told)
    }

    /// Number of images found by [`open`], those that will be refused included: the length of a progress bar.
    pub fn total(&self) -> usize {
        self.total
    }

    fn advance(&mut self) -> Option<Result<ImageFile>> {
        loop {
            if let Some(current) = &mut self.current {
                current.reader.ahead(current.entries.as_slice());
                let (read, is_over) = match current.entries.next() {
                    Some(entry) => (Some(current.read(entry)), false),
                    None => (current.end().err().map(Err), true),
                };
                let breaks = matches!(&read, Some(Err(Error::BadArchive { .. })));
                let is_refused = breaks && current.in_folder;
                let path = if is_refused { std::mem::take(&mut current.path) } else { PathBuf::new() };
                if is_over || is_refused {
                    self.current = None;
                }
                match read {
                    Some(Err(error)) if is_refused => return Some(Err(refused(&path, error))),
                    Some(read) => return Some(read),
                    None => {}
                }
            }
            let Source { path, root, entries, cut, in_folder, open, .. } = self.sources.next()?;
            if entries.is_empty() && cut.is_none() {
                continue; // nothing of it was selected
            }
            match open() {
                Ok(reader) => {
                    self.current = Some(Current { path, root, entries: entries.into_iter(), cut, in_folder, reader });
                }
                Err(error) if in_folder => return Some(Err(refused(&path, error))),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Current {
    /// Say what is wrong with the whole, once all of it was read.
    fn end(&mut self) -> Result<()> {
        let ended = self.cut.take().map_or_else(|| self.reader.end(), Err);
        ended.map_err(|reason| Error::BadArchive { path: self.path.clone(), reason })
    }

    fn read(&mut self, entry: Entry) -> Result<ImageFile> {
        let uri = format!("{}{}", self.root, entry.name);
        let bad_image = |reason| Error::BadImage { uri: uri.clone(), reason };
        if let Some(reason) = entry.refused {
            return Err(bad_image(reason));
        }
        match self.reader.read(&entry) {
            Ok(bytes) => Ok(ImageFile { uri, label: entry.label.map(|label| label.to_string()), bytes }),
            Err(Fault::Image(reason)) => Err(bad_image(reason)),
            Err(Fault::Container(reason)) => {
                let reason = format!("it breaks off in {}: {reason}", entry.name);
                Err(Error::BadArchive { path: self.path.clone(), reason })
            }
            Err(Fault::Lost(reason)) => Err(Error::Unreachable { address: uri, reason }),
        }
    }
}

fn total(sources: &[Source]) -> usize {
    let is_broken = |source: &&Source| source.in_folder && source.cut.is_some();
    sources.iter().map(|source| source.entries.len()).sum::<usize>() + sources.iter().filter(is_broken).count()
}

/// What a container in a folder is that cannot be read: one image that cannot, as long as its host answers.
fn refused(path: &Path, error: Error) -> Error {
    if let Some(address) = address::of(path)
        && let Err(lost) = remote::probe(iter::once(address))
    {
        return lost;
    }
    let reason = match error {
        Error::Unreachable { .. } => return error,
        Error::BadArchive { path: named, reason } if named == path => reason,
        Error::Io { action, path: named, source } if named == path => format!("cannot {action} it: {source}"),
        Error::MissingPath { path: named } if named == path => "there is no such file".into(),
        other => other.to_string(),
    };
    Error::BadImage { uri: path.display().to_string(), reason }
}

impl Iterator for ImageFiles {
    type Item = Result<ImageFile>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.advance();
        if let Some(Err(error)) = &item
            && !matches!(error, Error::BadImage { .. })
        {
            self.current = None;
            self.sources = Vec::new().into_iter();
        }
        item
    }
}

impl FusedIterator for ImageFiles {}

impl std::fmt::Debug for ImageFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageFiles").field("total", &self.total).finish_non_exhaustive()
    }
}

fn too_large(bytes: u64) -> String {
    format!("it is {bytes} bytes long, and at most {MAX_FILE_BYTES} are read")
}

const NOT_UTF8: &str = "its name is not UTF-8: rename it";

/// Bytes that can only be read forwards, by their place.
struct Forward<R> {
    body: R,
    /// Bytes read so far.
    at: u64,
}

impl<R: Read> Forward<R> {
    fn new(body: R) -> Self {
        Self { body, at: 0 }
    }

    fn contents(&mut self, start: u64, size: u64) -> io::Result<Vec<u8>> {
        let before = start.checked_sub(self.at).ok_or(io::ErrorKind::InvalidInput)?;
        self.at += io::copy(&mut self.body.by_ref().take(before), &mut io::sink())?;
        // grown while reading: a header may promise more than there is
        let mut bytes = Vec::new();
        if self.at == start {
            self.at += self.body.by_ref().take(size).read_to_end(&mut bytes)? as u64;
        }
        if bytes.len() as u64 == size { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// A picture of bare pixels as a PPM file.
fn ppm(width: usize, height: usize, value: impl Fn(usize, usize, usize) -> u8) -> Vec<u8> {
    let mut bytes = format!("P6 {width} {height} 255\n").into_bytes();
    bytes.reserve_exact(3 * width * height);
    for row in 0..height {
        for column in 0..width {
            bytes.extend([0, 1, 2].map(|channel| value(channel, row, column)));
        }
    }
    bytes
}

/// A grey picture of bare pixels, row by row, as a PGM file.
fn pgm(width: usize, height: usize, values: &[u8]) -> Vec<u8> {
    let mut bytes = format!("P5 {width} {height} 255\n").into_bytes();
    bytes.extend_from_slice(values);
    bytes
}
