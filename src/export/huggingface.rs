//! Hugging Face's `datasets`: Parquet files with a column of pictures, and Croissant's metadata with the files' checksums.
//!
//! The rows of a page come with their pictures in a folder of the export, from which they go into the file one after the other:
//! pictures are never all in memory, not even those of a page.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, BinaryBuilder, RecordBatch, StringBuilder, StructArray, UInt64Array};
use arrow::buffer::NullBuffer;
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use serde_json::{Value, json};

use super::files::{Place, Placed};
use super::folder::Folder;
use super::imagefolder::{ALL_IN_ONE, card};
use super::names::splits;
use super::options::{ExportFiles, ExportOptions};
use super::parquet::{Parquet, Written};
use super::rows::{Page, Rows};
use crate::error::{Error, Result};

/// The column of pictures.
pub(super) const IMAGE: &str = "image";
/// Where the pictures of a page wait; it is gone in the end.
pub(super) const STAGED: &str = ".staged";
/// Bytes of a file about, as the Hub likes them.
const FILE_BYTES: usize = 500 << 20;
/// Bytes of pictures that are in memory together.
const AT_ONCE: usize = 16 << 20;
/// Bytes of row groups that are in memory together.
const GROUPS: usize = 64 << 20;

/// `data/SPLIT-00000-of-00001.parquet`, README.md and croissant.json.
pub(super) struct HuggingFace {
    /// The name of each split; none where all are in one.
    splits: BTreeMap<String, String>,
    open: BTreeMap<String, Parquet>,
    written: BTreeMap<String, Vec<Written>>,
    schema: SchemaRef,
    predicate: String,
    name: String,
}

impl HuggingFace {
    pub(super) fn begin(
        folder: &Folder,
        options: &ExportOptions,
        rows: &Rows,
        found: BTreeSet<String>,
    ) -> Result<Self> {
        folder.inside("data")?;
        if options.files == ExportFiles::Copy {
            folder.inside(STAGED)?;
        }
        let image = Field::new(IMAGE, DataType::Struct(image_fields()), true);
        let fields: Vec<_> = std::iter::once(Arc::new(image)).chain(rows.columns.fields().iter().cloned()).collect();
        // what makes of the struct a picture
        let features = json!({"info": {"features": {IMAGE: {"_type": "Image"}}}}).to_string();
        let schema = Schema::new(fields).with_metadata([("huggingface".to_owned(), features)].into());
        let name = folder.target().file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self {
            splits: splits(&found),
            open: BTreeMap::new(),
            written: BTreeMap::new(),
            schema: Arc::new(schema),
            predicate: rows.predicate.clone(),
            name,
        })
    }

    pub(super) fn rows(&mut self, page: &Page, placed: &[Placed], folder: &Folder) -> Result<()> {
        let mut members: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for row in 0..placed.len() {
            let split = self.splits.get(&page.splits[row]).map_or(ALL_IN_ONE, String::as_str);
            members.entry(split).or_default().push(row);
        }
        let members: Vec<(String, Vec<usize>)> =
            members.into_iter().map(|(split, rows)| (split.to_owned(), rows)).collect();
        for (split, rows) in members {
            let mut begin = 0;
            while begin < rows.len() {
                let (images, taken) = images(folder, &rows[begin..], placed)?;
                let some = rows[begin..begin + taken].iter().map(|row| *row as u64);
                let facts = take_record_batch(&page.facts, &UInt64Array::from_iter_values(some))?;
                let columns = std::iter::once(images).chain(facts.columns().iter().cloned()).collect();
                self.write(&split, &RecordBatch::try_new(self.schema.clone(), columns)?, folder)?;
                begin += taken;
            }
        }
        Ok(())
    }

    fn write(&mut self, split: &str, rows: &RecordBatch, folder: &Folder) -> Result<()> {
        let done = self.written.entry(split.to_owned()).or_default();
        if !self.open.contains_key(split) {
            // how many there will be is told in the end
            let path = folder.path().join("data").join(format!("{split}-{:05}", done.len()));
            let group = GROUPS / self.splits.len().max(1);
            self.open
                .insert(split.to_owned(), Parquet::begin(&path, self.schema.clone(), group, Some(&[IMAGE, "bytes"]))?);
        }
        let Some(file) = self.open.get_mut(split) else { return Ok(()) };
        file.rows(rows)?;
        if file.bytes() >= FILE_BYTES
            && let Some(file) = self.open.remove(split)
        {
            done.push(file.end()?);
        }
        Ok(())
    }

    pub(super) fn end(mut self, folder: &Folder) -> Result<Vec<String>> {
        for (split, file) in std::mem::take(&mut self.open) {
            self.written.entry(split).or_default().push(file.end()?);
        }
        let staged = folder.path().join(STAGED);
        if staged.is_dir() {
            std::fs::remove_dir(&staged).map_err(Error::io("remove", &staged))?;
        }
        let mut files = Vec::new();
        for (split, written) in &self.written {
            for (number, file) in written.iter().enumerate() {
                let name = format!("data/{split}-{number:05}-of-{:05}.parquet", written.len());
                let path = folder.path().join(&name);
                std::fs::rename(&file.path, &path).map_err(Error::io("create", &path))?;
                files.push((name, file));
            }
        }
        let patterns = self.written.keys().map(|split| (split.clone(), format!("data/{split}-*")));
        folder.write("README.md", card(patterns, "Pictures, and what is known of each."))?;
        let croissant = croissant(&self.name, &self.predicate, &self.schema, &files);
        let text = serde_json::to_string_pretty(&croissant).map_err(|error| Error::Output { source: error.into() })?;
        folder.write("croissant.json", text + "\n")?;
        let mut notes = vec![format!("load_dataset(\"{}\") opens it in Python", folder.target().display())];
        if self.splits.is_empty() {
            notes.push(format!("there are too many splits for files of their own: all are in {ALL_IN_ONE}, and the column split says which"));
        }
        Ok(notes)
    }
}

fn image_fields() -> Fields {
    [Field::new("bytes", DataType::Binary, true), Field::new("path", DataType::Utf8, true)].into_iter().collect()
}

/// The pictures of some rows, up to so many bytes, and how many rows these are. What was staged for them is removed.
fn images(folder: &Folder, rows: &[usize], placed: &[Placed]) -> Result<(ArrayRef, usize)> {
    let (mut bytes, mut paths, mut valid) = (BinaryBuilder::new(), StringBuilder::new(), Vec::new());
    let mut sum = 0;
    for row in rows {
        if sum >= AT_ONCE {
            break;
        }
        let is_picture = match &placed[*row].place {
            Place::Inside(file) => {
                let path: PathBuf = folder.path().join(file);
                let read = std::fs::read(&path).map_err(Error::io("read", &path))?;
                std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
                sum += read.len();
                bytes.append_value(read);
                // its name, which tells its format
                paths.append_option(Path::new(file).file_name().and_then(|name| name.to_str()));
                true
            }
            Place::Outside(at) => {
                bytes.append_null();
                paths.append_value(at);
                true
            }
            Place::InArchive | Place::Missing(_) => {
                bytes.append_null();
                paths.append_null();
                false
            }
        };
        valid.push(is_picture);
    }
    let taken = valid.len();
    let columns: Vec<ArrayRef> = vec![Arc::new(bytes.finish()), Arc::new(paths.finish())];
    Ok((Arc::new(StructArray::try_new(image_fields(), columns, Some(NullBuffer::from(valid)))?), taken))
}

/// Croissant 1.1: the files with their checksums, and a set of records of each.
fn croissant(name: &str, predicate: &str, schema: &Schema, files: &[(String, &Written)]) -> Value {
    let distribution = files.iter().map(|(path, file)| {
        json!({
            "@type": "cr:FileObject",
            "@id": path,
            "name": path,
            "contentUrl": path,
            "contentSize": format!("{} B", file.bytes),
            "encodingFormat": "application/x-parquet",
            "sha256": file.sha256,
        })
    });
    let records = files.iter().map(|(path, _)| {
        let set = path.trim_start_matches("data/").trim_end_matches(".parquet");
        let fields = schema.fields().iter().filter_map(|field| {
            let (kind, within) = croissant_type(field)?;
            let mut source = json!({"fileObject": {"@id": path}, "extract": {"column": field.name()}});
            if let Some(within) = within {
                source["transform"] = json!({"jsonPath": within});
            }
            Some(json!({
                "@type": "cr:Field",
                "@id": format!("{set}/{}", field.name()),
                "name": field.name(),
                "dataType": kind,
                "source": source,
            }))
        });
        json!({"@type": "cr:RecordSet", "@id": set, "name": set, "field": fields.collect::<Vec<_>>()})
    });
    let made = chrono::Utc::now();
    json!({
        "@context": context(),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.1",
        "name": name,
        "description": format!("Images of an Outskirt database, WHERE {predicate}"),
        "version": "1.0.0",
        "datePublished": made.format("%Y-%m-%d").to_string(),
        "dateCreated": made.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        "distribution": distribution.collect::<Vec<_>>(),
        "recordSet": records.collect::<Vec<_>>(),
    })
}

/// A column's type, and where in it the value is; lists are left out.
fn croissant_type(field: &Field) -> Option<(&'static str, Option<&'static str>)> {
    Some(match field.data_type() {
        DataType::Struct(_) if field.name() == IMAGE => ("sc:ImageObject", Some("bytes")),
        DataType::Boolean => ("sc:Boolean", None),
        kind if kind.is_integer() => ("sc:Integer", None),
        kind if kind.is_floating() => ("sc:Float", None),
        DataType::Timestamp(..) | DataType::Date32 | DataType::Date64 => ("sc:Date", None),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => ("sc:Text", None),
        _ => return None,
    })
}

/// The words of Croissant 1.1.
fn context() -> Value {
    json!({
        "@language": "en",
        "@vocab": "https://schema.org/",
        "citeAs": "cr:citeAs",
        "column": "cr:column",
        "conformsTo": "dct:conformsTo",
        "containedIn": "cr:containedIn",
        "cr": "http://mlcommons.org/croissant/",
        "data": {"@id": "cr:data", "@type": "@json"},
        "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
        "dct": "http://purl.org/dc/terms/",
        "equivalentProperty": "cr:equivalentProperty",
        "examples": {"@id": "cr:examples", "@type": "@json"},
        "extract": "cr:extract",
        "field": "cr:field",
        "fileObject": "cr:fileObject",
        "fileProperty": "cr:fileProperty",
        "fileSet": "cr:fileSet",
        "format": "cr:format",
        "includes": "cr:includes",
        "isLiveDataset": "cr:isLiveDataset",
        "jsonPath": "cr:jsonPath",
        "key": "cr:key",
        "md5": "cr:md5",
        "parentField": "cr:parentField",
        "path": "cr:path",
        "rai": "http://mlcommons.org/croissant/RAI/",
        "recordSet": "cr:recordSet",
        "references": "cr:references",
        "regex": "cr:regex",
        "repeated": "cr:repeated",
        "replace": "cr:replace",
        "samplingRate": "cr:samplingRate",
        "sc": "https://schema.org/",
        "separator": "cr:separator",
        "source": "cr:source",
        "subField": "cr:subField",
        "transform": "cr:transform",
    })
}
