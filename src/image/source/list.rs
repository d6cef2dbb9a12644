//! Images named one by one: lists of paths, and uris as a table keeps them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::archive::is_image;
use super::{Entry, Opened, Source, address, files, place};
use crate::error::{Error, Result};

pub(super) type Label = Option<Arc<str>>;

pub(super) fn is_list(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".txt")
}

/// A text file with a path per line, and maybe a label after it; empty lines and such that begin with # are skipped.
pub(super) fn plan(path: &Path) -> Result<Vec<Source>> {
    let bytes = place::read(path).map_err(Error::io("read", path))?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Error::BadArchive { path: path.into(), reason: "it is no text in UTF-8".into() })?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(named(lines.map(split).map(|(name, label)| (absolute(path, name), label)).collect(), &Opened::default()))
}

/// A line's path and label: what follows the last tab or blank, where what stands before is an image's name.
fn split(line: &str) -> (&str, Label) {
    match line.rsplit_once(['\t', ' ']) {
        Some((name, label)) if is_image(name.trim_end().as_ref()) => (name.trim_end(), Some(label.into())),
        _ => (line, None),
    }
}

/// A path in a list or table, which is relative to that file's folder, as its image's uri begins; an address is itself,
/// with all that it carries.
pub fn absolute(list: &Path, name: &str) -> String {
    if let Some(list) = address::of(list) {
        return address::join(list, name);
    }
    if address::is_address(name) {
        return name.into();
    }
    let path = list.parent().unwrap_or(list).join(name);
    // without `.` and doubled slashes, as the path of a file that is given by itself
    std::path::absolute(&path).unwrap_or(path).to_string_lossy().into_owned()
}

/// Sources of these uris: files in the order given, then what lies inside other files, together for each of those.
pub(super) fn named(uris: Vec<(String, Label)>, opened: &Opened) -> Vec<Source> {
    let mut plain = Vec::new();
    let mut inside: Vec<(PathBuf, HashMap<String, Label>)> = Vec::new();
    let mut places: HashMap<PathBuf, usize> = HashMap::new();
    for (uri, label) in uris {
        match container(&uri) {
            None => plain.push((uri, label)),
            Some(path) => {
                let place = *places.entry(path.clone()).or_insert_with(|| {
                    inside.push((path, HashMap::new()));
                    inside.len() - 1
                });
                inside[place].1.insert(address::shown(&uri), label);
            }
        }
    }
    let mut sources = Vec::new();
    if !plain.is_empty() {
        sources.push(files::named(plain));
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
            sources.push(files::source(missing.into_iter().map(refused).collect(), HashMap::new()));
        }
    }
    sources
}

/// The file that holds the image of a uri, where it is no file itself.
fn container(uri: &str) -> Option<PathBuf> {
    if address::is_address(uri) {
        return uri.split_once("!/").map(|(address, _)| address.into());
    }
    uri.match_indices("!/")
        .map(|(at, _)| PathBuf::from(&uri[..at]))
        .find(|path| path.is_file())
        .or_else(|| uri.split_once("!/").map(|(path, _)| PathBuf::from(path)))
}
