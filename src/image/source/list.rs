//! Lists of paths.

use std::path::Path;

use super::archive::is_image;
use super::format::{Label, Source};
use super::kept::Opened;
use super::place;
use super::real::Folders;
use super::uris::{absolute, named};
use crate::error::{Error, Result};
use crate::regular;

pub(super) fn is_list(name: &str) -> bool {
    name.to_ascii_lowercase().ends_with(".txt")
}

/// A text file with a path per line, and maybe a label after it; empty lines and such that begin with # are skipped.
pub(super) fn plan(path: &Path, opened: &Opened) -> Result<Vec<Source>> {
    let bytes = place::read(path).map_err(Error::io("read", path))?;
    let text = regular::text(bytes).map_err(Error::io("read", path))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut folders = Folders::default();
    let named_there = lines.map(split).map(|(name, label)| (absolute(path, name, &mut folders), label)).collect();
    Ok(named(named_there, opened))
}

/// A line's path and label: what follows the last tab or blank, where what stands before is an image's name.
fn split(line: &str) -> (&str, Label) {
    match line.rsplit_once(['\t', ' ']) {
        Some((name, label)) if is_image(name.trim_end().as_ref()) => (name.trim_end(), Some(label.into())),
        _ => (line, None),
    }
}
