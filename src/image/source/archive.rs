//! What archives have in common: which members count, and what their folders mean.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use super::format::{Entry, Source};
use super::parts;

/// What the name of a picture ends in.
const IMAGES: [&str; 15] =
    ["png", "jpg", "jpeg", "jpe", "jfif", "webp", "tif", "tiff", "gif", "bmp", "tga", "ppm", "pgm", "pbm", "pnm"];

pub(super) fn is_image(name: &OsStr) -> bool {
    let extension = Path::new(name).extension().unwrap_or_default();
    IMAGES.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".") || name == "__MACOSX"
}

/// A member's path with `/` between the parts, without `.` and `..`; `None` for hidden ones.
pub(super) fn member_name(path: &str) -> Option<String> {
    let parts: Vec<_> = path.split('/').filter(|part| !matches!(*part, "" | "." | "..")).collect();
    (!parts.iter().any(|part| is_hidden(OsStr::new(part)))).then(|| parts.join("/"))
}

/// Take out the members that a later one of the same name replaces, as whoever unpacks the archive does, and count them.
pub(super) fn superseded(images: &mut Vec<Entry>) -> usize {
    let before = images.len();
    let mut seen = HashSet::with_capacity(before);
    let last: Vec<bool> = images.iter().rev().map(|image| seen.insert(image.name.clone())).collect();
    let mut last = last.into_iter().rev();
    images.retain(|_| last.next().unwrap_or(true));
    before - images.len()
}

/// Label the members of an archive by their folders; see [`super::open`].
pub(super) fn label(members: &mut [Entry]) {
    fn top(member: &Entry) -> Option<&str> {
        member.name.split_once('/').map(|(top, _)| top)
    }
    let root = members.first().and_then(top).filter(|first| members.iter().all(|other| top(other) == Some(first)));
    let below = root.map_or(0, |root| root.len() + 1);
    let mut last: Option<Arc<str>> = None;
    for member in members {
        let label = member.name[below..].rsplit('/').nth(1);
        member.label = label.map(|label| share(&mut last, label));
    }
}

/// An archive's images, apart by the parts of the data set that its folders stand for, each in the archive's order.
pub(super) fn by_part(archive: Source) -> Vec<Source> {
    let parts = parts::of_members(&archive.entries);
    let mut found: Vec<Option<&'static str>> = Vec::new();
    parts.iter().for_each(|part| {
        if !found.contains(part) {
            found.push(*part)
        }
    });
    if found.len() < 2 {
        return vec![archive.with_part(found.first().copied().flatten())];
    }
    let Source { path, root, asked, entries, superseded, by_folder, beside, cut, open, .. } = archive;
    let mut sources: Vec<Source> = found
        .iter()
        .map(|part| {
            let of_part = entries.iter().zip(&parts).filter(|(_, of)| *of == part).map(|(entry, _)| entry.clone());
            let open = Arc::clone(&open);
            let source = Source::inside(&path, of_part.collect(), move || open());
            let (root, asked, cut) = (root.clone(), Arc::clone(&asked), cut.clone());
            Source { root, asked, by_folder, cut, ..source }.with_part(*part)
        })
        .collect();
    // what is said of all of it is of no part
    let whole = Source::inside(&path, Vec::new(), move || open());
    sources.push(Source { superseded, beside, ..whole });
    sources
}

/// `label`, kept once where the next is the same as the last.
pub(super) fn share(last: &mut Option<Arc<str>>, label: &str) -> Arc<str> {
    match last {
        Some(last) if **last == *label => Arc::clone(last),
        _ => Arc::clone(last.insert(label.into())),
    }
}
