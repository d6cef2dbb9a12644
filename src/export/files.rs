//! The pictures of an export: copied, linked or named, a page of rows at a time.
//!
//! What is copied comes from where the report's pictures come from: the bytes in the table, else the file, archive or address that the uri
//! names, as it was ingested. The name of a file is the image's id, and its ending is what its bytes say.

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, UInt64Type};
use futures::StreamExt;

use super::options::ExportFiles;
use super::rows::Page;
use crate::error::{Error, Result};
use crate::image::{Opened, Orientation, content_hash, decode, extension, is_address, png};
use crate::ingest::{names_picture, reread};
use crate::regular;
use crate::sql::session::Session;

/// By so many bytes a picture's kind is told.
const HEAD: u64 = 1 << 16;
/// How the pictures of an export are written.
#[derive(Debug, Clone)]
pub(super) struct Manner {
    pub(super) files: ExportFiles,
    /// Endings of what the format's reader opens: all else becomes PNG. None: it opens anything.
    pub(super) reads: Option<&'static [&'static str]>,
    /// Sizes that the table does not know are taken from the pictures.
    pub(super) sizes: bool,
    /// The export's folder.
    pub(super) root: PathBuf,
}

impl Manner {
    fn is_read(&self, kind: &str) -> bool {
        self.reads.is_none_or(|kinds| kinds.contains(&kind))
    }
}

/// Where the picture of a row is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// In the export's folder, by its path there.
    Inside(String),
    /// Where it was: an absolute path or an address.
    Outside(String),
    /// In an archive, so that it has no name.
    InArchive,
    /// Nowhere, and why.
    Missing(String),
}

/// What became of the picture of a row.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) place: Place,
    pub(super) is_link: bool,
    /// Its size in pixels, where it was asked for and could be told.
    pub(super) size: Option<(u32, u32)>,
    /// Bytes that were written.
    pub(super) bytes: u64,
    pub(super) is_changed: bool,
    pub(super) is_converted: bool,
}

impl Placed {
    fn at(place: Place) -> Self {
        Self { place, is_link: false, size: None, bytes: 0, is_changed: false, is_converted: false }
    }

    fn missing(reason: impl Into<String>) -> Self {
        Self::at(Place::Missing(reason.into()))
    }
}

/// A picture to be placed.
#[derive(Debug, Clone)]
struct Wanted {
    row: usize,
    id: u64,
    uri: String,
    /// The folder for it, by its path in the export's.
    within: String,
    hash: Option<String>,
    size: Option<(u32, u32)>,
}

/// Place the pictures of a page, each in the folder of the export that `within` says of its row. Archives go on from where the last page left them.
pub(super) async fn place(
    session: &Session,
    manner: &Manner,
    opened: &Arc<Opened>,
    page: &Page,
    are_stored: bool,
    within: Vec<String>,
) -> Result<Vec<Placed>> {
    let wanted = within.into_iter().enumerate().map(|(row, within)| Wanted {
        row,
        id: page.ids[row],
        uri: page.uris[row].clone(),
        within,
        hash: page.hashes[row].clone(),
        size: page.sizes[row],
    });
    let mut placed: Vec<Option<Placed>> = vec![None; page.ids.len()];
    let wanted: Vec<Wanted> = wanted.collect();
    let left = match manner.files {
        ExportFiles::Copy => wanted,
        ExportFiles::Link | ExportFiles::None => {
            let manner = manner.clone();
            let (done, left) = waited(move || where_they_are(&manner, wanted)).await??;
            done.into_iter().for_each(|(row, found)| placed[row] = Some(found));
            left
        }
    };
    let left = if are_stored && !left.is_empty() { stored(session, manner, left, &mut placed).await? } else { left };
    if !left.is_empty() {
        let (manner, opened) = (manner.clone(), Arc::clone(opened));
        for (row, found) in waited(move || read(&manner, &opened, left)).await?? {
            placed[row] = Some(found);
        }
    }
    Ok(placed.into_iter().map(|found| found.unwrap_or_else(|| Placed::missing("it is not where it was"))).collect())
}

/// Files and addresses are read on a thread that may wait.
async fn waited<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::ReadPanicked)
}

/// Rows whose pictures are placed, and those that are to be copied.
type Divided = (Vec<(usize, Placed)>, Vec<Wanted>);

/// Link or name what can be.
fn where_they_are(manner: &Manner, wanted: Vec<Wanted>) -> Result<Divided> {
    let (mut done, mut left) = (Vec::new(), Vec::new());
    for one in wanted {
        let path = Path::new(&one.uri);
        let is_file = path.is_absolute() && path.is_file();
        match manner.files {
            ExportFiles::Link if is_file => match kind(path) {
                Ok(kind) if manner.is_read(kind) => match linked(manner, &one, kind) {
                    Some(found) => done.push((one.row, found)),
                    None => left.push(one),
                },
                _ => left.push(one),
            },
            ExportFiles::None => {
                let place = if is_file || is_address(&one.uri) && !one.uri.contains("!/") {
                    Place::Outside(one.uri.clone())
                } else if one.uri.contains("!/") {
                    Place::InArchive
                } else if names_picture(&one.uri, one.size.is_some()) {
                    Place::Missing("there is no such file".into())
                } else {
                    Place::Missing("it came as numbers".into())
                };
                let size = if is_file && manner.sizes { one.size.or_else(|| measured(path)) } else { one.size };
                let is_unknown = manner.sizes && size.is_none() && !matches!(place, Place::Missing(_));
                let place =
                    if is_unknown { Place::Missing("its width and height are not known".into()) } else { place };
                done.push((one.row, Placed { size, ..Placed::at(place) }));
            }
            _ => left.push(one),
        }
    }
    Ok((done, left))
}

/// What a file is by its beginning.
fn kind(path: &Path) -> Result<&'static str, String> {
    let mut head = Vec::new();
    let read = regular::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    read.map_err(|error| error.to_string())?;
    extension(&head)
}

/// The size of a picture whose row does not have it.
fn measured(path: &Path) -> Option<(u32, u32)> {
    let bytes = regular::read(path).ok()?;
    let pixels = decode("", &bytes, Orientation::Stored).ok()?;
    Some((pixels.width, pixels.height))
}

/// A link to a file, where the system has such.
fn linked(manner: &Manner, wanted: &Wanted, kind: &str) -> Option<Placed> {
    let name = named(wanted, kind);
    let size = if manner.sizes { Some(wanted.size.or_else(|| measured(Path::new(&wanted.uri)))?) } else { wanted.size };
    link(Path::new(&wanted.uri), &manner.root.join(&name)).ok()?;
    Some(Placed { is_link: true, size, ..Placed::at(Place::Inside(name)) })
}

#[cfg(unix)]
fn link(to: &Path, at: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(to, at)
}

#[cfg(not(unix))]
fn link(_: &Path, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Write the pictures whose bytes the table holds; the others are given back.
async fn stored(
    session: &Session,
    manner: &Manner,
    wanted: Vec<Wanted>,
    placed: &mut [Option<Placed>],
) -> Result<Vec<Wanted>> {
    let ids: Vec<String> = wanted.iter().map(|one| one.id.to_string()).collect();
    let mut wanted: HashMap<u64, Wanted> = wanted.into_iter().map(|one| (one.id, one)).collect();
    let query = format!("SELECT id, bytes FROM images WHERE id IN ({}) AND bytes IS NOT NULL", ids.join(", "));
    let mut batches = session.sql(&query).await?.execute_stream().await?;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        let ids = batch.column(0).as_primitive::<UInt64Type>().values();
        // what the table holds is what was embedded
        let some: Vec<Option<Wanted>> =
            ids.iter().map(|id| Some(Wanted { hash: None, ..wanted.remove(id)? })).collect();
        let (manner, bytes) = (manner.clone(), cast(batch.column(1), &DataType::LargeBinary)?);
        let written = waited(move || {
            let bytes = bytes.as_binary::<i64>();
            let some = some.into_iter().enumerate().filter_map(|(at, one)| Some((at, one?)));
            some.map(|(at, one)| Ok((one.row, written(&manner, &one, bytes.value(at))?))).collect::<Result<Vec<_>>>()
        });
        for (row, found) in written.await?? {
            placed[row] = Some(found);
        }
    }
    let mut left: Vec<Wanted> = wanted.into_values().collect();
    left.sort_unstable_by_key(|one| one.row);
    Ok(left)
}

/// Write the pictures that lie in files, archives and at addresses.
fn read(manner: &Manner, opened: &Arc<Opened>, wanted: Vec<Wanted>) -> Result<Vec<(usize, Placed)>> {
    let mut done = Vec::with_capacity(wanted.len());
    let mut named = Vec::new();
    for one in wanted {
        if names_picture(&one.uri, one.size.is_some()) {
            named.push((one.uri.clone(), one));
        } else {
            done.push((one.row, Placed::missing("it came as numbers")));
        }
    }
    for (whom, file) in reread(named, opened) {
        for one in whom {
            let found = match &file {
                Ok(file) => written(manner, &one, &file.bytes)?,
                Err(Error::BadImage { reason, .. }) => Placed::missing(reason),
                Err(error) => Placed::missing(error.to_string()),
            };
            done.push((one.row, found));
        }
    }
    Ok(done)
}

/// Write a picture.
///
/// Errors: those of the disk. What is no picture is missing.
fn written(manner: &Manner, wanted: &Wanted, bytes: &[u8]) -> Result<Placed> {
    let mut kind = match extension(bytes) {
        Ok(kind) => kind,
        Err(reason) => return Ok(Placed::missing(reason)),
    };
    let is_changed = wanted.hash.as_ref().is_some_and(|hash| *hash != content_hash(bytes));
    let is_converted = !manner.is_read(kind);
    let mut converted = Vec::new();
    if is_converted {
        // browsers turn what says that it lies on its side
        match decode(&wanted.uri, bytes, Orientation::Exif).and_then(|pixels| png(&wanted.uri, &pixels)) {
            Ok(made) => (converted, kind) = (made, "png"),
            Err(error) => return Ok(Placed::missing(error.to_string())),
        }
    }
    // a file that was changed may have another size than the row
    let mut size = wanted.size.filter(|_| !is_changed);
    if manner.sizes && size.is_none() {
        match decode(&wanted.uri, bytes, Orientation::Stored) {
            Ok(pixels) => size = Some((pixels.width, pixels.height)),
            Err(Error::BadImage { reason, .. }) => return Ok(Placed::missing(reason)),
            Err(error) => return Ok(Placed::missing(error.to_string())),
        }
    }
    let bytes: &[u8] = if is_converted { &converted } else { bytes };
    let name = named(wanted, kind);
    let path = manner.root.join(&name);
    fs::write(&path, bytes).map_err(Error::io("write", &path))?;
    Ok(Placed { size, bytes: bytes.len() as u64, is_changed, is_converted, ..Placed::at(Place::Inside(name)) })
}

/// The path in the folder: of an id there is one, and nothing that a user wrote is in it.
fn named(wanted: &Wanted, kind: &str) -> String {
    format!("{}/{}.{kind}", wanted.within, wanted.id)
}
