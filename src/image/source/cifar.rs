//! CIFAR-10 and CIFAR-100 as their authors distribute them: the binary and the Python version, as an archive, a folder
//! or a single batch.
//!
//! A row is 32 × 32 pixels, planar RGB. Binary: a byte of label (CIFAR-100: coarse, then fine) and 3,072 of pixels.
//! Python: a pickled dict with an array `data` and a list `labels` or `fine_labels`, read without executing anything.
//! One batch at a time is in memory (31 MB; 155 MB for the training part of CIFAR-100).

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use super::format::{Entry, Fault, Reader, Source, row_name};
use super::forward::Forward;
use super::netpbm::ppm;
use super::{forward, place};
use crate::error::{Error, Result};
use crate::formats::pickle::{Value, unpickle};

/// Files that name the classes.
const NAMES: [&str; 4] = ["batches.meta.txt", "fine_label_names.txt", "batches.meta", "meta"];
const SIDE: usize = 32;
const PIXELS: usize = 3 * SIDE * SIDE;

/// How rows lie in a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// This many bytes of labels, of which the last counts, before the pixels.
    Binary(usize),
    Python,
}

/// What a file is by its name: its form, its part, and the file beside it that names the classes.
fn batch(name: &str) -> Option<(Form, &'static str, &'static str)> {
    let (stem, is_binary) = name.strip_suffix(".bin").map_or((name, false), |stem| (stem, true));
    let is_numbered =
        stem.strip_prefix("data_batch_").is_some_and(|n| n.len() == 1 && n.as_bytes()[0].is_ascii_digit());
    let (part, is_ten) = match stem {
        "test_batch" => ("test", true),
        _ if is_numbered => ("train", true),
        "train" => ("train", false),
        "test" => ("test", false),
        _ => return None,
    };
    Some(match (is_binary, is_ten) {
        (true, true) => (Form::Binary(1), part, "batches.meta.txt"),
        (true, false) => (Form::Binary(2), part, "fine_label_names.txt"),
        (false, true) => (Form::Python, part, "batches.meta"),
        (false, false) => (Form::Python, part, "meta"),
    })
}

/// The part of the data set that a batch is by its name.
pub(super) fn part(path: &Path) -> Option<&'static str> {
    batch(&place::name(path)).map(|(_, part, _)| part)
}

/// A batch of the binary version, whose name says that it is a file.
pub(super) fn is_binary(name: &str) -> bool {
    name.ends_with(".bin")
}

fn file_name(member: &str) -> &str {
    member.rsplit('/').next().unwrap_or(member)
}

/// Whether a file is a batch, by its name and those beside it: `train` alone says nothing.
pub(super) fn is_batch_among(name: &str, has_sibling: impl Fn(&str) -> bool) -> bool {
    batch(name).is_some_and(|(_, _, names)| has_sibling(names))
}

/// Whether a member of an archive is a batch, or the names of its classes.
pub(super) fn is_part_of_distribution(member: &str) -> bool {
    let name = file_name(member);
    batch(name).is_some() || NAMES.contains(&name)
}

/// A single batch; `None` where the name is not one.
pub(super) fn file(path: &Path) -> Result<Option<Source>> {
    let Some((form, part, names)) = batch(&place::name(path)) else {
        return Ok(None);
    };
    let bad = |reason: String| Error::BadArchive { path: path.into(), reason };
    let names = match place::read(&path.with_file_name(names)) {
        Ok(bytes) => class_names(form, &bytes).map_err(|reason| bad(format!("{names} beside it: {reason}")))?,
        Err(_) => Vec::new(),
    };
    let bytes = place::read(path).map_err(Error::io("read", path))?;
    let rows = Rows::of(form, &bytes).map_err(bad)?;
    let entries = rows.entries(&names, 0, row_name);
    let batch = path.to_path_buf();
    let open = move || {
        let batch = batch.clone();
        let load = move |_: &Entry| place::read(&batch);
        Ok(Box::new(Batches { form, load, loaded: None }) as Box<dyn Reader>)
    };
    Ok(Some(Source::inside(path, entries, open).with_part(Some(part))))
}

/// The parts of a distribution in an archive with these members, in its order; nothing where there are no batches.
pub(super) fn archive(
    path: &Path,
    members: &[Entry],
    open: impl Fn() -> Result<Box<dyn Read + Send>>,
) -> Result<Vec<Source>> {
    let has = |folder: &str, name: &str| members.iter().any(|member| *member.name == format!("{folder}{name}"));
    let mut labels: BTreeMap<&str, Vec<Arc<str>>> = BTreeMap::new();
    let mut batches = Vec::new();
    let mut body = None;
    for member in members {
        let folder = &member.name[..member.name.len() - file_name(&member.name).len()];
        let found = batch(file_name(&member.name)).filter(|(_, _, names)| has(folder, names));
        let is_names = NAMES.contains(&file_name(&member.name));
        if found.is_none() && !is_names {
            continue;
        }
        let bad =
            |reason: String| Error::BadArchive { path: path.into(), reason: format!("{}: {reason}", member.name) };
        let body = match &mut body {
            Some(body) => body,
            none => none.insert(Forward::new(open()?)),
        };
        let bytes = body.contents(member.at, member.size).map_err(|error| bad(error.to_string()))?;
        match found {
            Some((form, part, names)) => {
                batches.push((member, folder, form, part, names, Rows::of(form, &bytes).map_err(bad)?))
            }
            None => {
                let form = if member.name.ends_with(".txt") { Form::Binary(1) } else { Form::Python };
                // what else is called 'meta' names no classes
                labels.insert(&member.name, class_names(form, &bytes).unwrap_or_default());
            }
        }
    }
    let mut sources: Vec<Source> = Vec::new();
    for (member, folder, form, part, names, rows) in batches {
        let names = labels.get(format!("{folder}{names}").as_str()).map_or(&[][..], Vec::as_slice);
        let mut entries = rows.entries(names, member.at, |row| format!("{}/{}", member.name, row_name(row)));
        if let Some(source) = sources.iter_mut().find(|source| source.part.as_deref() == Some(part)) {
            source.entries.append(&mut entries);
            continue;
        }
        let sizes: BTreeMap<u64, u64> = members.iter().map(|member| (member.at, member.size)).collect();
        let file = path.to_path_buf();
        let read = move || {
            let gzip = forward::is_gzip(&file)?;
            let mut body = Forward::new(forward::open(&file, gzip)?);
            let sizes = sizes.clone();
            let load = move |entry: &Entry| body.contents(entry.at, sizes.get(&entry.at).copied().unwrap_or(0));
            Ok(Box::new(Batches { form, load, loaded: None }) as Box<dyn Reader>)
        };
        sources.push(Source::inside(path, entries, read).with_part(Some(part)));
    }
    Ok(sources)
}

/// The rows of a batch.
struct Rows {
    labels: Vec<usize>,
    /// Rows × 3,072.
    pixels: Vec<u8>,
}

impl Rows {
    fn of(form: Form, bytes: &[u8]) -> Result<Self, String> {
        let Form::Binary(label_bytes) = form else { return Self::of_pickle(bytes) };
        let row = label_bytes + PIXELS;
        if bytes.is_empty() || !bytes.len().is_multiple_of(row) {
            return Err(format!("{} bytes are no whole rows of {row}: it is no CIFAR batch, or cut", bytes.len()));
        }
        let rows = bytes.chunks_exact(row);
        Ok(Self {
            labels: rows.clone().map(|row| usize::from(row[label_bytes - 1])).collect(),
            pixels: rows.flat_map(|row| &row[label_bytes..]).copied().collect(),
        })
    }

    fn of_pickle(bytes: &[u8]) -> Result<Self, String> {
        let pickle = unpickle(bytes, 0).map_err(|error| error.to_string())?;
        let root = pickle.root();
        let data = pickle.entry(root, "data").and_then(|data| pickle.array(data));
        let Some((shape, pixels)) = data else { return Err("it holds no array 'data': it is no CIFAR batch".into()) };
        let labels = pickle.entry(root, "labels").or_else(|| pickle.entry(root, "fine_labels"));
        let labels =
            labels.and_then(|labels| pickle.sequence(labels)).ok_or("it holds no list 'labels' or 'fine_labels'")?;
        let labels: Vec<usize> = labels
            .iter()
            .map(|label| match label {
                Value::Int(label) => usize::try_from(*label).ok(),
                _ => None,
            })
            .collect::<Option<_>>()
            .ok_or("a label is no number from 0")?;
        if shape != [labels.len(), PIXELS] || pixels.len() != labels.len() * PIXELS {
            let found = pixels.len();
            return Err(format!("its array has shape {shape:?} and {found} bytes, for {} labels", labels.len()));
        }
        Ok(Self { labels, pixels: pixels.into_owned() })
    }

    /// One entry per row: where its batch lies, and its row there.
    fn entries(&self, names: &[Arc<str>], at: u64, name: impl Fn(usize) -> String) -> Vec<Entry> {
        let label = |&label: &usize| names.get(label).cloned().unwrap_or_else(|| label.to_string().into());
        let rows = self.labels.iter().enumerate();
        rows.map(|(row, class)| Entry { label: Some(label(class)), ..Entry::new(name(row), at, row as u64) }).collect()
    }
}

/// The names of the classes, in order.
fn class_names(form: Form, bytes: &[u8]) -> Result<Vec<Arc<str>>, String> {
    if form != Form::Python {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is no text")?;
        return Ok(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(Arc::from).collect());
    }
    let pickle = unpickle(bytes, 0).map_err(|error| error.to_string())?;
    let root = pickle.root();
    let names = pickle.entry(root, "label_names").or_else(|| pickle.entry(root, "fine_label_names"));
    let names = names.and_then(|names| pickle.sequence(names)).ok_or("it holds no list 'label_names'")?;
    let name = |name: &Value<'_>| if let Value::Text(name) = name { Some(Arc::from(*name)) } else { None };
    names.iter().map(name).collect::<Option<_>>().ok_or_else(|| "a name of a class is no text".into())
}

/// Reads row by row, one batch in memory.
struct Batches<L> {
    form: Form,
    load: L,
    /// The batch that lies there.
    loaded: Option<(u64, Rows)>,
}

impl<L: FnMut(&Entry) -> io::Result<Vec<u8>> + Send> Reader for Batches<L> {
    fn read(&mut self, entry: &Entry) -> Result<Vec<u8>, Fault> {
        if self.loaded.as_ref().is_none_or(|(at, _)| *at != entry.at) {
            self.loaded = None;
            let rows = Rows::of(self.form, &(self.load)(entry)?).map_err(Fault::Container)?;
            self.loaded = Some((entry.at, rows));
        }
        let row = entry.size as usize * PIXELS;
        let pixels = self.loaded.as_ref().and_then(|(_, rows)| rows.pixels.get(row..row + PIXELS));
        let pixels = pixels.ok_or_else(|| Fault::Container("it became shorter".into()))?;
        Ok(ppm(SIDE, SIDE, |channel, row, column| pixels[(channel * SIDE + row) * SIDE + column]))
    }
}
