//! Images named one by one, by their uris.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use unicode_normalization::UnicodeNormalization;

use super::format::{Entry, Label, Source};
use super::images::ImageFiles;
use super::kept::Opened;
use super::real::Folders;
use super::{address, files};

impl Opened {
    /// The images of these uris, as they are given: those of one container file together, in its order. An address is
    /// asked for with all that its uri carries. One that is there no more is an
    /// [`Error::BadImage`](crate::error::Error::BadImage) of that uri.
    pub fn images(&self, uris: impl IntoIterator<Item = String>) -> ImageFiles {
        ImageFiles::new(named(uris.into_iter().map(|uri| (uri, None)).collect(), self))
    }
}

/// A path in a list or table, which is relative to that file's folder, as its image's uri begins; an address is itself,
/// with all that it carries.
pub fn absolute(list: &Path, name: &str, folders: &mut Folders) -> String {
    if let Some(list) = address::of(list) {
        return address::join(list, name);
    }
    if let Some(Ok(path)) = address::file(name) {
        return folders.uri(&path.to_string_lossy());
    }
    if address::scheme(name).is_some() {
        return name.into();
    }
    let folder = list.parent().unwrap_or(list);
    let beside = |name: &str| std::path::absolute(folder.join(name)).unwrap_or_else(|_| folder.join(name));
    let is_there = |name: &&String| beside(name).exists();
    if !name.is_ascii() && !beside(name).exists() {
        // a file is the same however the accents of its name are encoded
        let forms = [name.nfc().collect::<String>(), name.nfd().collect()];
        if let Some(form) = forms.iter().find(is_there) {
            return folders.uri(&beside(form).to_string_lossy());
        }
    }
    folders.uri(&beside(name).to_string_lossy())
}

/// The uri that a table gives a row of numbers: of a file that is there, where that really is; any other text is a name of the
/// user's, and stays.
pub fn row_uri(table: &Path, name: &str, folders: &mut Folders) -> String {
    if address::is_address(name) || name.starts_with('/') {
        return folders.uri(name);
    }
    let found = absolute(table, name, folders);
    let is_there = |path: &str| Path::new(path).exists() || container(path).is_some_and(|path| path.is_file());
    if !address::is_address(&found) && is_there(&found) { found } else { name.into() }
}

/// Sources of these uris: files in the order given, then what lies inside other files, together for each of those.
pub(super) fn named(uris: Vec<(String, Label)>, opened: &Opened) -> Vec<Source> {
    let mut plain = Vec::new();
    let mut inside: Vec<(PathBuf, HashMap<String, Label>)> = Vec::new();
    let mut places: HashMap<PathBuf, usize> = HashMap::new();
    for (uri, label) in uris {
        match container(&uri).filter(|_| address::refused_entry(&uri).is_none()) {
            None => plain.push((uri, label)),
            Some(path) => {
                let place = *places.entry(path.clone()).or_insert_with(|| {
                    inside.push((path, HashMap::new()));
                    inside.len() - 1
                });
                inside[place].1.insert(opened.query.uri(&uri), label);
            }
        }
    }
    let mut sources = Vec::new();
    if !plain.is_empty() {
        sources.push(files::named(plain, &opened.query));
    }
    for (path, mut wanted) in inside {
        let reason = match opened.some(&path, &mut wanted) {
            Ok(found) => {
                sources.extend(found);
                format!("it is not in {} any more", address::shown(&path.to_string_lossy()))
            }
            Err(error) => error.to_string(),
        };
        if !wanted.is_empty() {
            let mut missing: Vec<_> = wanted.into_keys().collect();
            missing.sort();
            let refused = |uri: String| Entry { refused: Some(reason.clone()), ..Entry::new(uri, 0, 0) };
            sources.push(files::source(missing.into_iter().map(refused).collect(), Vec::new()));
        }
    }
    sources
}

/// The file that holds the image of a uri, where it is no file itself.
fn container(uri: &str) -> Option<PathBuf> {
    if address::is_address(uri) {
        return address::inside(uri).map(|at| uri[..at].into());
    }
    uri.match_indices("!/")
        .map(|(at, _)| PathBuf::from(&uri[..at]))
        .find(|path| path.is_file())
        .or_else(|| uri.split_once("!/").map(|(path, _)| PathBuf::from(path)))
}
