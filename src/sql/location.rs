//! What SQL means by the name of a file: the path as it is written, where something lies there; else what its wildcards match.
//!
//! DataFusion takes `[`, `*` and `?` for wildcards whatever lies there, and an address for a path; whoever checks a file and
//! whoever reads it ask here, so that both mean the same.

use std::path::{Component, Path, PathBuf};

use url::Url;

use crate::error::{Error, Result};
use crate::image;

const WILDCARDS: [char; 3] = ['*', '?', '['];

/// A place on this machine that SQL names, absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Location {
    /// A file or folder, there or not.
    Path(PathBuf),
    /// Files that wildcards match, at least one, by name, and the folder above all of them.
    Matches { folder: PathBuf, files: Vec<PathBuf> },
}

impl Location {
    /// Of something to be read.
    ///
    /// Errors: [`Error::FileAddress`] for an address, [`Error::BadPattern`] for wildcards that match nothing.
    pub(super) fn of(name: &str) -> Result<Self> {
        let path = path(name)?;
        let folder = literal(&path);
        let rest = path.strip_prefix(&folder).unwrap_or(&path).to_string_lossy();
        if image::file(name).is_some() || !rest.contains(WILDCARDS) || path.exists() {
            return Ok(Self::Path(path));
        }
        let bad = |reason: String| Error::BadPattern { pattern: name.into(), reason };
        let pattern = format!("{}/{rest}", glob::Pattern::escape(&folder.to_string_lossy()));
        let options = glob::MatchOptions { require_literal_leading_dot: true, ..Default::default() };
        let found = glob::glob_with(&pattern, options).map_err(|error| bad(error.to_string()))?;
        let files = found.collect::<Result<Vec<_>, _>>().map_err(|error| bad(error.to_string()))?;
        let files: Vec<PathBuf> = files.into_iter().filter(|path| path.is_file()).collect();
        match files.is_empty() {
            true => Err(bad("no file there matches it".into())),
            false => Ok(Self::Matches { folder, files }),
        }
    }

    /// All that is read.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let (one, several): (&[PathBuf], &[PathBuf]) = match self {
            Self::Path(path) => (std::slice::from_ref(path), &[]),
            Self::Matches { folder, files } => (std::slice::from_ref(folder), files),
        };
        one.iter().chain(several).map(PathBuf::as_path)
    }
}

/// Where something is written: nothing in a name is a wildcard there.
///
/// Errors: [`Error::FileAddress`], [`Error::ForeignFile`].
pub(super) fn path(name: &str) -> Result<PathBuf> {
    if let Some(path) = image::file(name) {
        return path.map(|path| by_letters(&path));
    }
    if image::scheme(name).is_some() && !Path::new(name).is_absolute() {
        return Err(Error::FileAddress { address: image::bare(name) });
    }
    Ok(by_letters(&std::path::absolute(name).unwrap_or_else(|_| name.into())))
}

/// As DataFusion takes a path, with each space and bracket encoded.
///
/// Errors: [`Error::NotUtf8`] for what no address can name.
pub(super) fn url(path: &Path, is_folder: bool) -> Result<Url> {
    let url = if is_folder { Url::from_directory_path(path) } else { Url::from_file_path(path) };
    url.map_err(|()| Error::NotUtf8 { path: path.into() })
}

/// A path without `..`, each of which takes the name before it away, as DataFusion has it.
fn by_letters(path: &Path) -> PathBuf {
    let mut whole = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(whole.pop()),
            part => whole.push(part),
        }
    }
    whole
}

/// The folders at a path's beginning that are there or have no wildcard.
fn literal(path: &Path) -> PathBuf {
    let mut above = PathBuf::new();
    for part in path.components() {
        let next = above.join(part);
        if part.as_os_str().to_string_lossy().contains(WILDCARDS) && !next.is_dir() {
            break;
        }
        above = next;
    }
    above
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_itself_where_it_is_there_and_a_pattern_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("in [v1]")).unwrap();
        for name in ["in [v1]/a.csv", "in [v1]/b*.csv", "in [v1]/c.csv", "in [v1]/100%.csv"] {
            std::fs::write(root.join(name), "a\n1\n").unwrap();
        }
        let at = |name: &str| root.join("in [v1]").join(name);
        let of = |name: &str| Location::of(at(name).to_str().unwrap());
        assert_eq!(of("b*.csv").unwrap(), Location::Path(at("b*.csv")));
        assert_eq!(of("nothing.csv").unwrap(), Location::Path(at("nothing.csv")));
        let matches =
            Location::Matches { folder: at("").components().collect(), files: vec![at("a.csv"), at("c.csv")] };
        assert_eq!(of("[ac].csv").unwrap(), matches);
        assert!(of("x*.csv").unwrap_err().to_string().ends_with("no file there matches it"));
        let url = format!("file://localhost{}/in%20%5Bv1%5D/100%25.csv", root.display());
        assert_eq!(Location::of(&url).unwrap(), Location::Path(at("100%.csv")));
        assert_eq!(path("/a/b/../c//d.csv").unwrap(), Path::new("/a/c/d.csv"));
        assert!(
            matches!(path("s3://me:secret@bucket/x?key=1"), Err(Error::FileAddress { address }) if address == "s3://bucket/x")
        );
        assert!(matches!(path("gs://bucket/x"), Err(Error::FileAddress { .. })));
        assert!(matches!(path("file://host/x"), Err(Error::ForeignFile { .. })));
    }
}
