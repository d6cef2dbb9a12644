//! Where pictures come from: folders, single files, tar archives.
//!
//! [`open`] plans first: it walks the folders and reads the archives' headers, so that the number of images is known
//! ([`ImageFiles::total`]) and an archive's labels can depend on all of its entries. For a compressed archive that
//! means decompressing it twice, about a second for 100 MB; in exchange only one member is ever in memory.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::iter::FusedIterator;
use std::path::{Path, PathBuf};
use std::vec;

use flate2::read::MultiGzDecoder;

use crate::error::{Error, Result};

/// A file or archive member above this many bytes is refused instead of read: no picture is so large, and its header
/// may lie.
pub const MAX_FILE_BYTES: u64 = 1 << 30;

/// The bytes of one picture, not decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFile {
    /// Where it is: the absolute path with symbolic links kept, or `<archive's absolute path>!/<member's name>`.
    pub uri: String,
    /// The class that the folder it lies in stands for; see [`open`].
    pub label: Option<String>,
    /// The file's bytes, as stored.
    pub bytes: Vec<u8>,
}

/// Find the images in `paths`: folders (any depth), `.png`, `.jpg` and `.jpeg` files, and `.tar`, `.tar.gz` and `.tgz`
/// archives; extensions in any case.
///
/// **Order**: the paths as given; inside a folder by name, bytewise, files and folders alike; an archive's own order.
///
/// **Skipped without a word**: other files, hidden ones (`.x`, so also macOS's `._x`), `__MACOSX`, archives inside
/// folders, and folders that a symbolic link turns into a circle. Other symbolic links are followed.
///
/// **Label**: the name of the folder that directly holds the image, if that folder lies below the root; else none.
/// A folder's root is the folder given; a file given by itself has no label. An archive whose images all lie in one
/// top folder has that folder as its root (`places/1.jpg` has none, `test/cat/1.png` has `cat`), any other archive
/// starts at its top (`cat/1.png` beside `dog/1.png` has `cat`).
///
/// Errors: [`Error::MissingPath`], [`Error::UnknownFile`] for another extension, [`Error::Io`] for a folder or archive
/// that cannot be read, [`Error::NoImages`]. What the iterator refuses later is described at [`ImageFiles`].
pub fn open(paths: &[PathBuf]) -> Result<ImageFiles> {
    let mut steps = Vec::new();
    for given in paths {
        let found = fs::metadata(given).map_err(Error::io("read", given))?;
        let path = std::path::absolute(given).map_err(Error::io("find", given))?;
        if found.is_dir() {
            walk(&path, None, &mut Vec::new(), &mut steps)?;
        } else if path.file_name().is_some_and(is_image) {
            steps.push(Step::File { path, label: None });
        } else if path.file_name().is_some_and(is_archive) {
            steps.push(Step::Archive(Listing::read(&path)?));
        } else {
            return Err(Error::UnknownFile { path: given.clone() });
        }
    }
    let total = steps.iter().map(Step::images).sum();
    // an archive that is cut before its first image is a broken one, which the iterator says, and not an empty one
    if total == 0 && !steps.iter().any(|step| matches!(step, Step::Archive(Listing { cut: Some(_), .. }))) {
        let paths = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
        return Err(Error::NoImages { paths });
    }
    Ok(ImageFiles { steps: steps.into_iter(), members: None, total })
}

/// The images that [`open`] found, read one at a time.
///
/// An [`Error::BadImage`] stands for one image (unreadable, over [`MAX_FILE_BYTES`], a link inside an archive, a name
/// that is not UTF-8), and the next item is the next image. Any other error is the last item: it is an
/// [`Error::BadArchive`], after all that could be read of the archive, or an [`Error::Io`] or [`Error::MissingPath`]
/// for an archive that went away. An archive cut exactly between two members cannot be told from one that was written
/// without an end mark, and is read as a whole one.
pub struct ImageFiles {
    steps: vec::IntoIter<Step>,
    /// The archive being read.
    members: Option<Members>,
    total: usize,
}

impl ImageFiles {
    /// Number of images found by [`open`], those that will be refused included: the length of a progress bar.
    pub fn total(&self) -> usize {
        self.total
    }

    fn advance(&mut self) -> Option<Result<ImageFile>> {
        loop {
            if let Some(members) = &mut self.members {
                match members.next() {
                    Some(item) => return Some(item),
                    None => self.members = None,
                }
            }
            match self.steps.next()? {
                Step::File { path, label } => return Some(read_file(&path, label)),
                Step::Archive(listing) => match listing.reopen() {
                    Ok(members) => self.members = Some(members),
                    Err(error) => return Some(Err(error)),
                },
            }
        }
    }
}

impl Iterator for ImageFiles {
    type Item = Result<ImageFile>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.advance();
        if let Some(Err(error)) = &item
            && !matches!(error, Error::BadImage { .. })
        {
            self.members = None;
            self.steps = Vec::new().into_iter();
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

enum Step {
    File { path: PathBuf, label: Option<String> },
    Archive(Listing),
}

impl Step {
    fn images(&self) -> usize {
        match self {
            Self::File { .. } => 1,
            Self::Archive(listing) => listing.members.len(),
        }
    }
}

fn bad_image(uri: impl Into<String>, reason: impl Into<String>) -> Error {
    Error::BadImage { uri: uri.into(), reason: reason.into() }
}

fn too_large(bytes: u64) -> String {
    format!("it is {bytes} bytes long, and at most {MAX_FILE_BYTES} are read")
}

const NOT_UTF8: &str = "its name is not UTF-8: rename it";

// ---- files and folders ----

fn is_image(name: &OsStr) -> bool {
    let extension = Path::new(name).extension().unwrap_or_default();
    ["png", "jpg", "jpeg"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

fn is_archive(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_ascii_lowercase();
    [".tar", ".tar.gz", ".tgz"].iter().any(|end| name.ends_with(end))
}

fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".") || name == "__MACOSX"
}

/// Append the images below `folder`. `above` holds the folders that led here, links resolved: meeting one again is a
/// circle.
fn walk(folder: &Path, label: Option<&str>, above: &mut Vec<PathBuf>, steps: &mut Vec<Step>) -> Result<()> {
    let real = fs::canonicalize(folder).map_err(Error::io("read", folder))?;
    if above.contains(&real) {
        return Ok(());
    }
    above.push(real);
    let mut entries =
        fs::read_dir(folder).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(Error::io("list", folder))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let (name, path) = (entry.file_name(), entry.path());
        if is_hidden(&name) {
            continue;
        }
        let mut kind = entry.file_type();
        if kind.as_ref().is_ok_and(fs::FileType::is_symlink) {
            kind = fs::metadata(&path).map(|target| target.file_type());
        }
        match kind {
            Ok(kind) if kind.is_dir() => walk(&path, Some(&name.to_string_lossy()), above, steps)?,
            // a dangling link is an image that cannot be read, and reading it says so; pipes and devices are neither
            Ok(kind) if !kind.is_file() => {}
            _ if is_image(&name) => steps.push(Step::File { path, label: label.map(String::from) }),
            _ => {}
        }
    }
    above.pop();
    Ok(())
}

fn read_file(path: &Path, label: Option<String>) -> Result<ImageFile> {
    let Some(uri) = path.to_str() else {
        return Err(bad_image(path.to_string_lossy(), NOT_UTF8));
    };
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        if length > MAX_FILE_BYTES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, too_large(length)));
        }
        let mut bytes = Vec::with_capacity(length as usize);
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(ImageFile { uri: uri.into(), label, bytes }),
        Err(error) => Err(bad_image(uri, error.to_string())),
    }
}

// ---- archives ----

/// The images of an archive, found by reading its headers.
struct Listing {
    path: PathBuf,
    /// Told by the first two bytes: a `.tar` that is compressed is read as well.
    gzip: bool,
    members: Vec<Member>,
    /// Why the headers could not be read to the end.
    cut: Option<String>,
}

struct Member {
    /// Its path with `/` between the parts, without `.` and `..`.
    name: String,
    label: Option<String>,
    /// First byte of the contents, counted from the start of the (decompressed) archive.
    start: u64,
    size: u64,
    refused: Option<String>,
}

impl Listing {
    fn read(path: &Path) -> Result<Self> {
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        let mut magic = Vec::new();
        file.by_ref().take(2).read_to_end(&mut magic).map_err(Error::io("read", path))?;
        let gzip = magic == [0x1f, 0x8b];
        let file = File::open(path).map_err(Error::io("open", path))?;
        let length = file.metadata().map_err(Error::io("read", path))?.len();
        let file = BufReader::new(file);
        let mut members = Vec::new();
        let ended = if gzip {
            // a cut in compressed data shows by itself, so there is no length to compare with
            let mut archive = tar::Archive::new(MultiGzDecoder::new(file));
            archive.entries().and_then(|entries| list(entries, u64::MAX, &mut members))
        } else {
            let mut archive = tar::Archive::new(file);
            archive.entries_with_seek().and_then(|entries| list(entries, length, &mut members))
        };
        label(&mut members);
        Ok(Self { path: path.into(), gzip, members, cut: ended.err().map(|error| error.to_string()) })
    }

    fn reopen(self) -> Result<Members> {
        let file = BufReader::new(File::open(&self.path).map_err(Error::io("open", &self.path))?);
        let body: Box<dyn Read + Send> = if self.gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        Ok(Members {
            path: self.path,
            gzip: self.gzip,
            members: self.members.into_iter(),
            cut: self.cut,
            body,
            at: 0,
            ended: false,
        })
    }
}

/// Append the images among `entries`, in an archive of `length` bytes; an error is where the archive breaks off.
fn list<R: Read>(entries: tar::Entries<'_, R>, length: u64, members: &mut Vec<Member>) -> io::Result<()> {
    for entry in entries {
        let entry = entry?;
        let (start, size) = (entry.raw_file_position(), entry.size());
        let kind = entry.header().entry_type();
        let raw = entry.path_bytes();
        let text = String::from_utf8_lossy(&raw);
        let parts: Vec<_> = text.split('/').filter(|part| !matches!(*part, "" | "." | "..")).collect();
        let name = parts.join("/");
        let is_plain = kind.is_file() || kind.is_contiguous();
        if is_plain && start.saturating_add(size) > length {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("it ends in the middle of {name}")));
        }
        if parts.iter().any(|part| is_hidden(OsStr::new(part))) || !is_image(OsStr::new(&name)) {
            continue;
        }
        let refused = if kind.is_hard_link() || kind.is_symlink() {
            Some(
                "it is a link inside the archive, and those are not followed: pack with 'tar -h --hard-dereference'"
                    .into(),
            )
        } else if kind.is_gnu_sparse() {
            Some("it is stored as a sparse file: pack without --sparse".into())
        } else if !is_plain {
            continue;
        } else if std::str::from_utf8(&raw).is_err() {
            Some(NOT_UTF8.into())
        } else {
            (size > MAX_FILE_BYTES).then(|| too_large(size))
        };
        members.push(Member { name, label: None, start, size, refused });
    }
    Ok(())
}

fn label(members: &mut [Member]) {
    fn top(member: &Member) -> Option<&str> {
        member.name.split_once('/').map(|(top, _)| top)
    }
    let root = members.first().and_then(top).filter(|first| members.iter().all(|other| top(other) == Some(first)));
    let below = root.map_or(0, |root| root.len() + 1);
    for member in members {
        member.label = member.name[below..].rsplit('/').nth(1).map(String::from);
    }
}

/// The second pass over an archive: contents in the order of the listing.
struct Members {
    path: PathBuf,
    gzip: bool,
    members: vec::IntoIter<Member>,
    cut: Option<String>,
    body: Box<dyn Read + Send>,
    /// Bytes of `body` read so far.
    at: u64,
    ended: bool,
}

impl Members {
    fn next(&mut self) -> Option<Result<ImageFile>> {
        let Some(member) = self.members.next() else {
            if std::mem::replace(&mut self.ended, true) {
                return None;
            }
            return self.end().err().map(|reason| Err(Error::BadArchive { path: self.path.clone(), reason }));
        };
        let Some(path) = self.path.to_str() else {
            let uri = format!("{}!/{}", self.path.display(), member.name);
            return Some(Err(bad_image(uri, "its archive's path is not UTF-8: rename it")));
        };
        let uri = format!("{path}!/{}", member.name);
        if let Some(reason) = member.refused {
            return Some(Err(bad_image(uri, reason)));
        }
        Some(match self.contents(member.start, member.size) {
            Ok(bytes) => Ok(ImageFile { uri, label: member.label, bytes }),
            Err(error) => {
                let reason = format!("it breaks off in {}: {error}", member.name);
                Err(Error::BadArchive { path: self.path.clone(), reason })
            }
        })
    }

    fn contents(&mut self, start: u64, size: u64) -> io::Result<Vec<u8>> {
        self.at += io::copy(&mut self.body.by_ref().take(start - self.at), &mut io::sink())?;
        // grown while reading: a header may promise more than there is
        let mut bytes = Vec::new();
        if self.at == start {
            self.at += self.body.by_ref().take(size).read_to_end(&mut bytes)? as u64;
        }
        if bytes.len() as u64 == size { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Say what is wrong with the archive as a whole. A compressed one ends in a checksum of all its members, which is
    /// compared when it is read to the end.
    fn end(&mut self) -> Result<(), String> {
        if let Some(reason) = self.cut.take() {
            return Err(reason);
        }
        if self.gzip {
            io::copy(&mut self.body, &mut io::sink()).map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn write(path: &Path, bytes: &[u8]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn tar_of(names: &[&str]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for name in names {
            let mut header = tar::Header::new_ustar();
            header.set_size(name.len() as u64);
            header.set_mode(0o644);
            header.set_cksum();
            let mut entry = header.clone();
            builder.append_data(&mut entry, name, name.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// (uri below `root`, label) of each image; panics on an error.
    fn found(root: &Path, paths: &[PathBuf]) -> Vec<(String, Option<String>)> {
        let files = open(paths).unwrap();
        let total = files.total();
        let root = format!("{}/", root.to_str().unwrap());
        let found: Vec<_> = files
            .map(|item| item.unwrap())
            .map(|image| (image.uri.strip_prefix(&root).unwrap().to_string(), image.label))
            .collect();
        assert_eq!(total, found.len());
        found
    }

    fn pairs(expected: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
        expected.iter().map(|(uri, label)| (uri.to_string(), label.map(String::from))).collect()
    }

    #[test]
    fn a_folder_is_read_by_name_and_its_subfolders_are_labels() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("train");
        for name in
            ["b.png", "a/2.JPG", "a/10.png", "a.png", "c/d/deep.jpeg", "notes.txt", ".hidden/x.png", "__MACOSX/x.png"]
        {
            write(&root.join(name), name.as_bytes());
        }
        write(&root.join("c/._x.png"), b"");
        write(&root.join("inner.tar"), &tar_of(&["x.png"]));
        let expected = pairs(&[
            ("train/a/10.png", Some("a")),
            ("train/a/2.JPG", Some("a")),
            ("train/a.png", None),
            ("train/b.png", None),
            ("train/c/d/deep.jpeg", Some("d")),
        ]);
        assert_eq!(found(dir.path(), std::slice::from_ref(&root)), expected);

        let both = [root.join("c"), root.join("a.png")];
        let expected = pairs(&[("train/c/d/deep.jpeg", Some("d")), ("train/a.png", None)]);
        assert_eq!(found(dir.path(), &both), expected, "arguments keep their order");
    }

    #[cfg(unix)]
    #[test]
    fn links_are_followed_but_not_in_circles_and_a_dangling_one_is_one_bad_image() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(&root.join("cat/1.png"), b"1");
        write(&root.join("cat/3.png"), b"3");
        std::os::unix::fs::symlink(root, root.join("cat/circle")).unwrap();
        std::os::unix::fs::symlink(root.join("cat"), root.join("dog")).unwrap();
        std::os::unix::fs::symlink(root.join("nowhere"), root.join("cat/2.png")).unwrap();
        let items: Vec<_> = open(&[root.into()]).unwrap().collect();
        let labels: Vec<_> = items.iter().flatten().map(|image| image.label.as_deref().unwrap()).collect();
        assert_eq!(labels, ["cat", "cat", "dog", "dog"]);
        assert!(matches!(&items[1], Err(Error::BadImage { uri, .. }) if uri.ends_with("cat/2.png")));
        assert_eq!(items.len(), 6);
    }

    #[test]
    fn an_archive_with_one_top_folder_starts_below_it_and_others_at_their_top() {
        let dir = tempfile::tempdir().unwrap();
        for (entries, labels) in [
            (["places/2.jpg", "places/1.jpg"], [None, None]),
            (["./test/cat/1.png", "./test/dog/x/1.png"], [Some("cat"), Some("x")]),
            (["cat/1.png", "dog/1.png"], [Some("cat"), Some("dog")]),
            (["1.png", "dog/1.png"], [None, Some("dog")]),
        ] {
            for (file, bytes) in [("a.tar", tar_of(&entries)), ("a.TGZ", gzip(&tar_of(&entries)))] {
                let path = dir.path().join(file);
                write(&path, &bytes);
                let expected: Vec<_> = entries
                    .iter()
                    .zip(labels)
                    .map(|(name, label)| {
                        (format!("{file}!/{}", name.trim_start_matches("./")), label.map(String::from))
                    })
                    .collect();
                assert_eq!(found(dir.path(), &[path]), expected);
            }
        }
    }

    #[test]
    fn archives_give_the_contents_and_skip_what_is_no_image() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.tar.gz");
        let names = ["t/README.txt", "t/a/1.png", "t/a/._1.png", "__MACOSX/t/1.png", "t/a/inner.tar", "t/b/2.jpeg"];
        write(&path, &gzip(&tar_of(&names)));
        let images: Vec<_> = open(&[path]).unwrap().map(|item| item.unwrap()).collect();
        let texts: Vec<_> = images.iter().map(|image| std::str::from_utf8(&image.bytes).unwrap()).collect();
        assert_eq!(texts, ["t/a/1.png", "t/b/2.jpeg"]);
    }

    #[test]
    fn a_link_and_an_absurd_size_are_bad_images_and_a_cut_ends_the_archive() {
        let dir = tempfile::tempdir().unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "t/link.png", "1.png").unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_size(1);
        builder.append_data(&mut header, "t/1.png", &b"1"[..]).unwrap();
        let mut header = tar::Header::new_ustar();
        header.set_size(MAX_FILE_BYTES + 1);
        header.set_path("t/huge.png").unwrap();
        header.set_cksum();
        let mut bytes = builder.into_inner().unwrap();
        bytes.truncate(bytes.len() - 1024);
        bytes.extend_from_slice(header.as_bytes());
        let path = dir.path().join("a.tar");
        write(&path, &gzip(&bytes));
        let items: Vec<_> = open(&[path]).unwrap().collect();
        assert_eq!(items.len(), 4, "{items:?}");
        assert!(matches!(&items[0], Err(Error::BadImage { reason, .. }) if reason.contains("link")));
        assert!(matches!(&items[1], Ok(image) if image.bytes == b"1"));
        assert!(matches!(&items[2], Err(Error::BadImage { reason, .. }) if reason.contains("1073741825 bytes")));
        assert!(matches!(&items[3], Err(Error::BadArchive { .. })), "the promised gigabyte is not there");
    }

    #[test]
    fn what_a_cut_archive_still_holds_is_read_and_then_the_cut_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let whole = tar_of(&["a/1.png", "a/2.png", "a/3.png"]);
        let path = dir.path().join("cut.tar");
        let next = dir.path().join("next.png");
        write(&next, b"n");
        // 512 bytes of header and 512 of contents each
        let zipped = gzip(&whole);
        for (bytes, readable) in [
            (&whole[..1024 + 512 + 3], 1),
            (&whole[..1024 + 100], 1),
            (&whole[..100], 0),
            (&zipped[..zipped.len() - 4], 3),
            (&b"this is no archive at all"[..], 0),
        ] {
            write(&path, bytes);
            let items: Vec<_> = open(&[path.clone(), next.clone()]).unwrap().collect();
            assert_eq!(items.iter().filter(|item| item.is_ok()).count(), readable);
            assert_eq!(items.len(), readable + 1, "{items:?}");
            assert!(matches!(items.last(), Some(Err(Error::BadArchive { path: named, .. })) if *named == path));
        }
    }

    #[test]
    fn compressed_contents_are_checked_by_their_checksum() {
        let dir = tempfile::tempdir().unwrap();
        let mut bytes = gzip(&tar_of(&["a/1.png"]));
        let crc = bytes.len() - 8;
        bytes[crc] ^= 1;
        let path = dir.path().join("a.tgz");
        write(&path, &bytes);
        assert!(matches!(open(&[path]).unwrap().last(), Some(Err(Error::BadArchive { .. }))));
    }

    #[test]
    fn wrong_paths_are_refused_before_anything_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing");
        assert!(matches!(open(std::slice::from_ref(&missing)), Err(Error::MissingPath { path }) if path == missing));
        let text = dir.path().join("notes.txt");
        write(&text, b"");
        assert!(matches!(open(&[text]), Err(Error::UnknownFile { .. })));
        assert!(matches!(open(&[dir.path().into()]), Err(Error::NoImages { .. })));
        fn is_send<T: Send>() {}
        is_send::<ImageFiles>();
    }
}
