//! Pictures of a folder by themselves, for whoever looks at it again and again: archives, tables and the files of data sets in it are
//! not opened.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive::{is_hidden, is_image};
use super::files;
use super::folder::{MOST_DEEP, entries};
use super::format::{Entry, Source};
use super::images::ImageFiles;
use super::lance;

/// What [`look`] meets.
#[derive(Debug)]
pub enum Seen<'a> {
    /// A picture by its name: where it really is, and the folder below the one that was given which holds it.
    Picture(&'a Path, Option<&'a str>),
    /// A file that is none by its name, or a table.
    Other(&'a Path),
    /// A folder that cannot be listed.
    Closed(&'a Path, io::Error),
}

/// Go through a folder at any depth, in the order, with the names and the labels that [`open`](super::open) gives its pictures. Hidden
/// files, pipes and circles of links are passed over.
///
/// Errors: the folder itself cannot be listed.
pub fn look(folder: &Path, see: &mut dyn FnMut(Seen<'_>)) -> io::Result<()> {
    let real = fs::canonicalize(folder)?;
    let found = entries(&real)?;
    enter(&mut vec![real], found, None, see);
    Ok(())
}

/// `above` are the folders that led here, links resolved, this one the last.
fn enter(above: &mut Vec<PathBuf>, found: Vec<fs::DirEntry>, label: Option<&str>, see: &mut dyn FnMut(Seen<'_>)) {
    for entry in found {
        let (name, path) = (entry.file_name(), entry.path());
        if is_hidden(&name) {
            continue;
        }
        let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
        let kind = if is_link { fs::metadata(&path).map(|target| target.file_type()) } else { entry.file_type() };
        match kind {
            Ok(kind) if kind.is_dir() && lance::is_table(&path) => see(Seen::Other(&path)),
            Ok(kind) if kind.is_dir() => {
                // only behind a link a folder is another than its name says
                let real = if is_link { fs::canonicalize(&path) } else { Ok(path.clone()) };
                match real.and_then(|real| entries(&real).map(|found| (real, found))) {
                    Ok((real, _)) if above.contains(&real) => {}
                    Ok(_) if above.len() > MOST_DEEP => {
                        let reason = format!("it lies {MOST_DEEP} folders down, and no deeper ones are read");
                        see(Seen::Closed(&path, io::Error::other(reason)));
                    }
                    Ok((real, found)) => {
                        above.push(real);
                        enter(above, found, name.to_str(), see);
                        above.pop();
                    }
                    // what has gone meanwhile is not there
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => see(Seen::Closed(&path, error)),
                }
            }
            Ok(kind) if !kind.is_file() => {}
            _ if is_image(&name) => see(Seen::Picture(&path, label)),
            _ => see(Seen::Other(&path)),
        }
    }
}

/// The pictures of these absolute paths, in this order, with the folders that stand for their classes.
pub fn pictures(paths: Vec<(PathBuf, Option<String>)>) -> ImageFiles {
    let entry = |(path, label): (PathBuf, Option<String>)| -> Entry {
        Entry { label: label.map(Arc::from), ..files::entry(&path) }
    };
    let files = files::source(paths.into_iter().map(entry).collect(), Vec::new());
    ImageFiles::new(vec![Source { by_folder: true, ..files }])
}

#[cfg(test)]
mod tests {
    use super::super::{Selection, open};
    use super::*;

    #[test]
    fn pictures_are_those_of_an_ingest_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("b/cat/.hidden")).unwrap();
        fs::create_dir_all(root.join("b/dog")).unwrap();
        for name in
            ["2.png", "a.jpg", "b/cat/1.PNG", "b/cat/.x.png", "b/cat/.hidden/1.png", "b/dog/1.tif", "b/notes.txt"]
        {
            fs::write(root.join(name), name).unwrap();
        }
        std::os::unix::fs::symlink(root, root.join("b/circle")).unwrap();
        std::os::unix::fs::symlink(root.join("b/dog"), root.join("c")).unwrap();
        let (mut seen, mut others) = (Vec::new(), 0);
        look(root, &mut |met| match met {
            Seen::Picture(path, label) => seen.push((path.to_path_buf(), label.map(str::to_owned))),
            Seen::Other(_) => others += 1,
            Seen::Closed(path, error) => panic!("{}: {error}", path.display()),
        })
        .unwrap();
        let named = |files: ImageFiles| -> Vec<_> {
            files.map(|file| file.map(|file| (file.uri, file.label, file.is_labelled)).unwrap()).collect()
        };
        let of_ingest = named(open(&[root.into()], &Selection::default()).unwrap());
        assert_eq!((named(pictures(seen)), others), (of_ingest, 1));
        assert!(look(&root.join("missing"), &mut |_| ()).is_err());
    }
}
