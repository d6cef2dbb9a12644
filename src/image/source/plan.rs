//! What a path holds: which format reads it, on this machine or at an address.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::address::{KeptQuery, differing, shown};
use super::beside::Beside;
use super::format::Source;
use super::images::ImageFiles;
use super::kept::Opened;
use super::real::Folders;
use super::select::Selection;
use super::{address, archive, cifar, files, folder, idx, lance, list, place, remote, svhn, table, tarball, zipped};
use crate::error::{Error, Result};
use crate::regular;

/// What a name may end in, for messages.
const READ: &str = "folders; .png, .jpg (.jpeg, .jpe, .jfif), .webp, .tif, .gif, .bmp, .tga, .ppm, .pgm, .pbm and .pnm files; .tar, .tar.gz, .tgz and .zip archives; the CIFAR, SVHN \
                    (.mat) and MNIST (idx) files; .parquet, .csv and .jsonl tables; .lance tables with image bytes; and .txt \
                    lists of paths; on this machine or at http://, https:// and s3:// addresses";

/// Find the images in `paths`, which may be addresses.
///
/// | path | images | label |
/// | --- | --- | --- |
/// | folder | `.png`, `.jpg`, `.jpeg`, `.jpe`, `.jfif`, `.webp`, `.tif`, `.tiff`, `.gif`, `.bmp`, `.tga`, `.ppm`, `.pgm`, `.pbm`, `.pnm` at any depth, and the data set files below | the folder that directly holds it, if that lies below the folder given |
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
/// their queries, of which [`Selection::query`] says what is kept. Only S3 has folders and wildcards. Archives are streamed, other files are read by parts (or whole,
/// up to 256 MiB, where a server gives none), pictures some at a time.
///
/// Extensions count in any case; `*`, `?` and `[…]` in a path that does not exist are wildcards.
///
/// **Order**: the paths as given; inside a folder by name, bytewise, files and folders alike; an archive's own order.
///
/// **Skipped without a word**: hidden files (`.x`, so also macOS's `._x`), `__MACOSX`, and folders that a symbolic link turns
/// into a circle. Other symbolic links are followed. Other files are counted ([`ImageFiles::notes`]).
///
/// **Broken**: a data set's file in a folder that cannot be listed or read on is one image that cannot be read, with the
/// file's uri, and the rest goes on; one that is given by itself is an error.
///
/// **Archives**: one whose images all lie in one top folder has that folder as its root (`places/1.jpg` has no label,
/// `test/cat/1.png` has `cat`), any other starts at its top (`cat/1.png` beside `dog/1.png` has `cat`).
///
/// **More of them**: what tables say of images beside, [`ImageFiles::table_columns`] gives.
///
/// **Parts**: of a folder or archive that holds several parts of a data set, the one that [`Selection::part`] names. Files are
/// parts by a word of their names (`mnist-train.parquet`), folders where two of them side by side are different parts (`train`,
/// `val2017`).
///
/// Errors: [`Error::MissingPath`], [`Error::UnknownFile`] for other files, [`Error::Io`] and [`Error::BadArchive`] for
/// what cannot be listed, [`Error::Unreachable`] where no host answers, [`Error::SameUri`] for two addresses of one uri,
/// [`Error::DatasetPart`], [`Error::NoImages`]. What the iterator refuses later is described at [`ImageFiles`].
pub fn open(paths: &[PathBuf], selection: &Selection) -> Result<ImageFiles> {
    let mut sources = Vec::new();
    for given in paths {
        for path in expand(given)? {
            let found = plan(&path, &selection.query)?;
            let is_several = is_folder(&path) || is_archive(&path);
            let path = PathBuf::from(shown(&path.to_string_lossy()));
            sources.extend(if is_several { selection.of_parts(&path, found)? } else { found });
        }
    }
    selection.apply(&mut sources);
    let single = sources.iter().filter(|source| source.root.is_empty()).flat_map(|source| &source.entries);
    remote::probe(single.map(|entry| &*entry.name).filter(|name| address::is_address(name)))?;
    let left_out = left_out_of_uris(&sources)?;
    let mut beside = Beside::default();
    sources.iter().for_each(|source| beside.add(&source.beside));
    let mut notes: Vec<String> = sources.iter().filter_map(|source| source.note.clone()).collect();
    let beside = beside.describe();
    notes.extend(beside.iter().map(|beside| format!("left alone beside the pictures: {beside}")));
    let files = ImageFiles::new(sources).leaving_out(left_out).noting(notes);
    // an archive that is cut before its first image is a broken one, which the iterator says, and not an empty one
    if files.total() == 0 && !files.are_cut() {
        let paths = paths.iter().map(|path| shown(&path.to_string_lossy())).collect::<Vec<_>>().join(", ");
        return Err(Error::NoImages { paths, beside });
    }
    Ok(files)
}

/// The parameters that the uris of these sources do not keep, by name.
///
/// Errors: [`Error::SameUri`] where two addresses that differ have one uri.
fn left_out_of_uris(sources: &[Source]) -> Result<Vec<String>> {
    let mut names = BTreeSet::new();
    let mut asked: HashMap<&str, &str> = HashMap::new();
    let mut see = |uri, address| {
        if address::refusal(address).is_some() {
            return Ok(()); // it is not asked for
        }
        match asked.insert(uri, address).filter(|before| *before != address) {
            Some(before) => Err(Error::SameUri { uri: shown(address), parameters: differing(before, address) }),
            None => Ok(()),
        }
    };
    for source in sources.iter().filter(|source| !source.asked.is_empty()) {
        if !source.root.is_empty() {
            names.extend(differing(&source.asked[0], &source.named().to_string_lossy()));
            see(&source.root, &source.asked[0])?;
            continue;
        }
        for entry in &source.entries {
            if let Some(at) = (entry.at as usize).checked_sub(1) {
                names.extend(differing(&source.asked[at], &entry.name));
                see(&entry.name, &source.asked[at])?;
            }
        }
    }
    if !asked.is_empty() {
        // one without a query beside one that has lost it
        for entry in sources.iter().filter(|source| source.root.is_empty()).flat_map(|source| &source.entries) {
            if let Some(before) = asked.get(&*entry.name).filter(|_| entry.at == 0) {
                let parameters = differing(before, &entry.name);
                return Err(Error::SameUri { uri: entry.name.to_string(), parameters });
            }
        }
    }
    Ok(names.into_iter().collect())
}

/// What one path holds, whichever part of a data set it is.
fn plan(given: &Path, query: &KeptQuery) -> Result<Vec<Source>> {
    if let Some(address) = address::of(given) {
        return plan_address(address, query);
    }
    let found = fs::metadata(given).map_err(Error::io("read", given))?;
    let path = match found.is_dir() {
        true => fs::canonicalize(given).map_err(Error::io("find", given))?,
        false => Folders::default().path(given),
    };
    if !found.is_dir() && !found.is_file() {
        let reason = regular::check(&found).err().map(|error| error.to_string()).unwrap_or_default();
        Err(Error::BadImage { uri: path.display().to_string(), reason })
    } else if !found.is_dir() {
        plan_file(&path, query)
    } else if lance::is_table(&path) {
        Ok(vec![lance::plan(&path)?])
    } else {
        folder::folder(&path)
    }
}

/// What lies at an address; what gives access to it stays out of uris and errors.
fn plan_address(address: &str, query: &KeptQuery) -> Result<Vec<Source>> {
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
        return if found.is_empty() { Err(Error::MissingPath { path: shown }) } else { folder::listed(address, found) };
    }
    let sources = plan_file(&path, query).map_err(|error| error.at(&shown))?;
    let uri = query.uri(address);
    let as_shown = |source: Source| {
        // the file there, or one in the archive that it is
        let inside = source.path.to_str().and_then(|of| of.strip_prefix(address)).map(String::from);
        let Some(inside) = inside.filter(|_| path != shown) else { return source };
        let named = PathBuf::from(format!("{}{inside}", shown.display()));
        let (open, root, shown) = (source.open, format!("{uri}{inside}!/"), named.clone());
        let table = source.table.map(|table| table.at(&named));
        let note = source.note.map(|note| note.replace(address, &shown.to_string_lossy()));
        let open = Arc::new(move || open().map_err(|error| error.at(&named)));
        let asked = if uri == address { Arc::default() } else { Arc::from([address.to_owned()]) };
        Source { path: shown, root, asked, table, note, open, ..source }
    };
    Ok(sources.into_iter().map(as_shown).collect())
}

/// Whether a path is a folder, which in S3 is what its name does not say to be a file.
fn is_folder(path: &Path) -> bool {
    let Some(address) = address::of(path) else { return path.is_dir() };
    let name = address::name(address);
    let is_file = archive::is_image(name.as_ref())
        || is_archive(path)
        || idx::is_images(&name)
        || idx::is_labels(&name)
        || svhn::is_mat(&name)
        || table::is_table(&name)
        || list::is_list(&name)
        || cifar::is_binary(&name);
    address::is_s3(address) && (address.ends_with('/') || !is_file)
}

/// What a file holds.
fn plan_file(path: &Path, query: &KeptQuery) -> Result<Vec<Source>> {
    let text = place::name(path);
    if archive::is_image(text.as_ref()) {
        Ok(vec![files::one(path, query)])
    } else if tarball::is_tar(&text) {
        tarball::plan(path)
    } else if zipped::is_zip(&text) {
        zipped::plan(path)
    } else if idx::is_images(&text) {
        Ok(vec![idx::plan(path)?])
    } else if idx::is_labels(&text) {
        Ok(Vec::new()) // read with its images
    } else if svhn::is_mat(&text) {
        Ok(vec![svhn::plan(path)?])
    } else if query.is_of_a_table() && (list::is_list(&text) || table::is_table(&text)) {
        // what lists name has uris of its own: no uri is of an image inside one
        Ok(if table::is_parquet(&text) { table::images(path)?.into_iter().collect() } else { Vec::new() })
    } else if table::is_table(&text) {
        table::plan(path, &Opened::listed_by(plan, query.clone()))
    } else if list::is_list(&text) {
        list::plan(path, &Opened::listed_by(plan, query.clone()))
    } else if let Some(source) = cifar::file(path)? {
        Ok(vec![source])
    } else {
        Err(Error::UnknownFile { path: path.into(), read: READ })
    }
}

fn is_archive(path: &Path) -> bool {
    let name = place::name(path);
    tarball::is_tar(&name) || zipped::is_zip(&name)
}

/// The paths that `given` stands for: itself, or what its wildcards match, by name.
pub(super) fn expand(given: &Path) -> Result<Vec<PathBuf>> {
    let Some(text) = given.to_str() else { return Ok(vec![given.into()]) };
    if address::is_address(text) {
        return remote::expand(text);
    }
    if let Some(path) = address::file(text) {
        return expand(&path?);
    }
    if let Some(refused) = address::of_unknown_kind(text).filter(|_| !given.exists()) {
        return Err(refused);
    }
    if given.exists() || !text.contains(['*', '?', '[']) {
        return Ok(vec![given.into()]);
    }
    let bad = |reason: String| Error::BadPattern { pattern: text.into(), reason };
    let matches = glob::glob(text).map_err(|error| bad(error.to_string()))?;
    let mut found = matches.collect::<Result<Vec<_>, _>>().map_err(|error| bad(error.to_string()))?;
    // hidden files and folders are found where the pattern says so itself
    let named = text.split('/').filter(|part| archive::is_hidden(part.as_ref()));
    let named: Vec<glob::Pattern> = named.filter_map(|part| glob::Pattern::new(part).ok()).collect();
    let is_named = |part: Component<'_>| match part {
        Component::Normal(part) if archive::is_hidden(part) => {
            part.to_str().is_some_and(|part| named.iter().any(|pattern| pattern.matches(part)))
        }
        _ => true,
    };
    found.retain(|path| path.components().all(is_named));
    if found.is_empty() { Err(bad("nothing there matches it".into())) } else { Ok(found) }
}

impl Default for Opened {
    fn default() -> Self {
        Self::listed_by(plan, KeptQuery::all())
    }
}
