//! The table that a query names by a file or folder: what it is read as, its name's ending tells, and of JSON its beginning.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::catalog::TableProvider;
use datafusion::common::DataFusionError;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::execution::SessionState;

use super::format::{Format, READ};
use super::streamed;
use crate::error::{Error, Result};
use crate::image;
use crate::regular;
use crate::sql::location::{Location, url};

/// Rows of CSV that DataFusion reads to tell types.
const INFERRED_FROM: usize = 1_000;
/// Files that are looked at in a folder, to tell what it holds.
const LOOKED_AT: usize = 10_000;
/// The first line of a JSON file, up to here.
const FIRST_LINE: u64 = 1 << 20;

/// The table that a query names.
pub(super) async fn table(state: &SessionState, name: &str, location: &Location) -> Result<Arc<dyn TableProvider>> {
    match location {
        Location::Path(path) if image::is_lance_table(path) => image::lance_table(path).await,
        Location::Path(path) if path.is_dir() => {
            let (format, ending, first) = of_folder(name, path)?;
            check_text(format, &first)?;
            listed(state, vec![url(path, true)?], &first, format, &ending).await
        }
        Location::Path(path) => of_files(state, name, std::slice::from_ref(path)).await,
        Location::Matches { files, .. } => of_files(state, name, files).await,
    }
}

/// Files of one format, as one table.
async fn of_files(state: &SessionState, name: &str, files: &[PathBuf]) -> Result<Arc<dyn TableProvider>> {
    let mut found = BTreeMap::new();
    for file in files {
        let format = Format::of(file).ok_or_else(|| Error::UnknownTableFile {
            path: if files.len() == 1 { name.into() } else { file.clone() },
            reason: "its name does not end in what tells its format".into(),
            read: READ,
        })?;
        found.entry(format.0).or_insert(file);
        check_text(format.0, file)?;
    }
    let (Some((&format, _)), true) = (found.first_key_value(), found.len() == 1) else {
        let reason = format!("it names files of several formats, such as {}", shown(found.values()));
        return Err(Error::UnknownTableFile { path: name.into(), reason, read: READ });
    };
    let streams = files.iter().any(|file| is_compressed(file) || format == Format::Json && !is_of_lines(file));
    if streams {
        return streamed::table(format, files);
    }
    let urls = files.iter().map(|file| url(file, false)).collect::<Result<Vec<_>>>()?;
    listed(state, urls, &files[0], format, "").await
}

fn shown<'p>(files: impl Iterator<Item = &'p &'p PathBuf>) -> String {
    let names = files.map(|file| file.file_name().unwrap_or_default().to_string_lossy().into_owned());
    names.collect::<Vec<_>>().join(" and ")
}

fn is_compressed(file: &Path) -> bool {
    Format::of(file).is_some_and(|(_, is_compressed)| is_compressed)
}

/// DataFusion's table over files or a folder.
async fn listed(
    state: &SessionState,
    urls: Vec<::url::Url>,
    first: &Path,
    format: Format,
    ending: &str,
) -> Result<Arc<dyn TableProvider>> {
    let delimiter = match format {
        Format::Csv => image::delimiter(first).map_err(Error::io("read", first))?,
        _ => b'\t',
    };
    let (factory, told) = format.listed(delimiter);
    let factory = state.get_file_format_factory(factory);
    let factory = factory.ok_or_else(|| DataFusionError::Plan(format!("there is no format {format:?}")))?;
    let options = ListingOptions::new(factory.create(state, &told)?)
        .with_file_extension(ending)
        .with_target_partitions(state.config().target_partitions())
        .with_collect_stat(state.config().collect_statistics());
    // no wildcards: they are files that are there
    let urls = urls.into_iter().map(|url| ListingTableUrl::try_new(url, None)).collect::<Result<Vec<_>, _>>()?;
    let config = ListingTableConfig::new_with_multi_paths(urls).with_listing_options(options);
    let mut config = config.infer_partitions_from_path(state).await?.infer_schema(state).await?;
    if let (Format::Csv | Format::Tsv, Some(schema)) = (format, config.file_schema.clone()) {
        // 007 is no 7
        let texts = image::changed_by_types(first, &schema, delimiter, INFERRED_FROM)?;
        if !texts.is_empty() {
            let as_text = |field: &FieldRef| match texts.contains(field.name()) {
                true => Arc::new(Field::new(field.name(), DataType::Utf8, true)),
                false => Arc::clone(field),
            };
            config = config.with_schema(Arc::new(Schema::new(schema.fields().iter().map(as_text).collect::<Vec<_>>())));
        }
    }
    Ok(Arc::new(ListingTable::try_new(config)?))
}

/// What the files of a folder, at any depth, are: their format, the ending that they share, and the first of them.
fn of_folder(name: &str, folder: &Path) -> Result<(Format, String, PathBuf)> {
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    let (mut folders, mut left) = (vec![folder.to_path_buf()], LOOKED_AT);
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(Error::io("list", &folder))?;
        let mut entries = entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>();
        entries.sort();
        for path in entries {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if left == 0 || name.starts_with(['.', '_']) {
                continue;
            }
            left -= 1;
            if path.is_dir() {
                folders.push(path);
            } else if let Some((_, ending)) = Format::of(&path).and(name.rsplit_once('.')) {
                found.entry(ending.to_owned()).or_insert(path);
            }
        }
    }
    let refused = |reason: String| Error::UnknownTableFile { path: name.into(), reason, read: READ };
    let mut endings = found.into_iter();
    match (endings.next(), endings.next()) {
        (None, _) => Err(refused("it is a folder without files of these".into())),
        (Some((ending, first)), None) if !["gz", "zst"].contains(&ending.as_str()) => match Format::of(&first) {
            Some((Format::Json, _)) if !is_of_lines(&first) => {
                Err(refused(format!("in a folder, JSON is one object a line, which {} is not", first.display())))
            }
            Some((format, _)) => Ok((format, format!(".{ending}"), first)),
            None => Err(refused("it is a folder without files of these".into())),
        },
        (Some(_), None) => {
            Err(refused("it is a folder of compressed files: name them by wildcards, as in 'folder/*.csv.gz'".into()))
        }
        (Some((one, _)), Some((other, _))) => Err(refused(format!(
            "it is a folder of .{one} and .{other} files: name those that are meant by wildcards, as in 'folder/*.{one}'"
        ))),
    }
}

/// Refuse a text in UTF-16.
fn check_text(format: Format, path: &Path) -> Result<()> {
    if !format.is_text() {
        return Ok(());
    }
    let mut begins = Vec::new();
    let read = regular::open(path).and_then(|file| file.take(4).read_to_end(&mut begins));
    read.and_then(|_| regular::check_encoding(&begins)).map_err(Error::io("read", path))
}

/// Whether a JSON file is an object a line, which DataFusion reads in parts.
fn is_of_lines(path: &Path) -> bool {
    let first = || -> std::io::Result<Vec<u8>> {
        let mut line = Vec::new();
        BufReader::new(File::open(path)?.take(FIRST_LINE)).read_until(b'\n', &mut line)?;
        Ok(line)
    };
    let line = first().unwrap_or_default();
    let is_long = line.len() as u64 == FIRST_LINE;
    line.starts_with(b"{") && (is_long || serde_json::from_slice::<serde::de::IgnoredAny>(&line).is_ok())
}
