//! Images of a table's rows again: read from where they were, and embedded for everybody who asks for them.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use super::pipeline::{Embedding, embed};
use crate::backbone::Backbone;
use crate::error::{Error, Result};
use crate::image::{ImageFile, ImageFiles, Opened, held_row, is_address, shown};

/// An image, and whom it is for.
pub(crate) type For<T> = (Vec<T>, Result<ImageFile>);

/// The images of some uris, each once: those inside one file together, else in no order that means something.
///
/// What cannot be read is an [`Error::BadImage`] of each uri concerned, a whole archive that is damaged or gone as well.
pub(crate) struct Reread<T> {
    wanted: HashMap<String, Vec<T>>,
    files: ImageFiles,
    opened: Arc<Opened>,
    /// Uris of a container that cannot be read, and why.
    lost: Vec<(String, String)>,
}

/// Whether the uri of a row names a picture. A row that came as numbers (without a width) may name one, or have a name of its own.
pub(crate) fn names_picture(uri: &str, has_width: bool) -> bool {
    has_width || (uri.starts_with('/') || is_address(uri)) && held_row(uri).is_none()
}

/// Read the images of these uris again; one that is named several times is read once. Archives go on from where the last
/// reading by the same `opened` left them.
pub(crate) fn reread<T>(uris: impl IntoIterator<Item = (String, T)>, opened: &Arc<Opened>) -> Reread<T> {
    let mut wanted: HashMap<String, Vec<T>> = HashMap::new();
    let mut order = Vec::new();
    for (uri, whom) in uris {
        let whose = wanted.entry(uri.clone()).or_insert_with(|| {
            order.push(uri);
            Vec::new()
        });
        whose.push(whom);
    }
    Reread { wanted, files: opened.images(order), opened: Arc::clone(opened), lost: Vec::new() }
}

impl<T> Iterator for Reread<T> {
    type Item = For<T>;

    fn next(&mut self) -> Option<For<T>> {
        loop {
            if let Some((uri, reason)) = self.lost.pop() {
                return Some((self.wanted.remove(&uri).unwrap_or_default(), Err(Error::BadImage { uri, reason })));
            }
            let (uri, file) = match self.files.next() {
                Some(Ok(file)) => (file.uri.clone(), Ok(file)),
                Some(Err(Error::BadImage { uri, reason })) => (uri.clone(), Err(Error::BadImage { uri, reason })),
                Some(Err(Error::BadArchive { path, reason })) => {
                    self.lose(Some(within(&path)), &format!("its file is damaged: {reason}"));
                    continue;
                }
                Some(Err(other)) => {
                    let begins = match &other {
                        Error::Io { path, .. } | Error::MissingPath { path } => Some(within(path)),
                        Error::Unreachable { address, .. } => Some(of_host(address)),
                        _ => None,
                    };
                    self.lose(begins, &other.to_string());
                    continue;
                }
                None if self.wanted.is_empty() => return None,
                None => {
                    self.lose(None, "it is not where it was");
                    continue;
                }
            };
            // one that was not asked for is nobody's
            if let Some(whom) = self.wanted.remove(&uri) {
                return Some((whom, file));
            }
        }
    }
}

impl<T> Reread<T> {
    /// A container or host ends the reading of all that comes after it: give up what it holds, whose uris, as messages
    /// show them, begin with its name, and begin again with the rest. Where that would change nothing, everything is given up.
    fn lose(&mut self, begins: Option<String>, reason: &str) {
        let within = |uri: &&String| begins.as_ref().is_some_and(|begins| shown(uri).starts_with(begins));
        let (mut lost, mut rest): (Vec<String>, Vec<String>) =
            self.wanted.keys().cloned().partition(|uri| within(&uri));
        let read_to_its_end = begins.is_some() && self.files.total() > self.wanted.len();
        if lost.is_empty() && !read_to_its_end {
            lost = std::mem::take(&mut rest);
        }
        rest.sort_unstable();
        self.lost = lost.into_iter().map(|uri| (uri, reason.to_owned())).collect();
        self.files = self.opened.images(rest);
    }
}

/// What the uris of a container's images begin with.
fn within(path: &Path) -> String {
    format!("{}!/", path.display())
}

/// What the addresses of a host begin with.
fn of_host(address: &str) -> String {
    address.match_indices('/').nth(2).map_or(address, |(at, _)| &address[..=at]).into()
}

/// Start embedding images for everybody who wants them. `check` sees each image's uri, its content hash and whom it is
/// for, and may leave some out.
pub(crate) fn embed_for<T: Send + 'static>(
    images: impl Iterator<Item = For<T>> + Send + 'static,
    backbone: &Backbone,
    workers: usize,
    check: impl Fn(&mut Vec<T>, &str, &str) + Send + 'static,
) -> Embedding<Vec<T>> {
    // the pipeline asks what a file is for right after it has read it, on the same thread
    let current = Arc::new(Mutex::new(Vec::new()));
    let next = Arc::clone(&current);
    let files = images.map(move |(whom, file)| {
        *next.lock().unwrap_or_else(PoisonError::into_inner) = whom;
        file
    });
    embed(files, backbone, workers, false, move |file, hash| {
        let mut whom = std::mem::take(&mut *current.lock().unwrap_or_else(PoisonError::into_inner));
        check(&mut whom, &file.uri, hash);
        Ok((!whom.is_empty()).then_some(whom))
    })
}
