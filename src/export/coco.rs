//! COCO's JSON, for pycocotools and what reads the same: COCO knows no classes of whole images, so there are `images` and
//! `categories`, and no annotations.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::files::{Place, Placed};
use super::folder::Folder;
use super::rows::{Page, Rows};
use super::values::{LARGEST_IN_JSON, object};
use crate::error::{Error, Result};

/// What an entry of `images` has of its own.
pub(super) const TAKEN: [&str; 6] = ["file_name", "license", "flickr_url", "coco_url", "date_captured", "outskirt_id"];

/// `annotations.json`, and `images/`.
pub(super) struct Coco {
    path: PathBuf,
    file: BufWriter<File>,
    written: u64,
    /// An id is beyond what readers of JSON tell apart, so entries are counted.
    are_counted: bool,
}

impl Coco {
    pub(super) fn begin(folder: &Folder, rows: &Rows, labels: BTreeSet<String>) -> Result<Self> {
        folder.inside("images")?;
        let path = folder.path().join("annotations.json");
        let file = File::create(&path).map_err(Error::io("write", &path))?;
        let are_counted = rows.largest_id > LARGEST_IN_JSON;
        let mut coco = Self { path, file: BufWriter::new(file), written: 0, are_counted };
        let made = chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        let info = json!({
            "description": format!("images WHERE {}", rows.predicate),
            "version": env!("CARGO_PKG_VERSION"),
            "contributor": "outskirt export",
            "date_created": made,
        });
        let categories = labels.iter().zip(1..).map(|(name, id)| json!({"id": id, "name": name, "supercategory": ""}));
        let categories = Value::Array(categories.collect());
        coco.write(format!("{{\"info\": {info},\n\"licenses\": [],\n\"categories\": {categories},\n\"images\": ["))?;
        Ok(coco)
    }

    pub(super) fn rows(&mut self, page: &Page, placed: &[Placed]) -> Result<()> {
        for (row, one) in placed.iter().enumerate() {
            let file: &str = match &one.place {
                // beside what loaders are told is the folder of pictures
                Place::Inside(file) => file.trim_start_matches("images/"),
                Place::Outside(file) => file,
                Place::InArchive | Place::Missing(_) => &page.uris[row],
            };
            self.written += 1;
            let id = if self.are_counted { self.written } else { page.ids[row] };
            let mut entry = Map::from_iter([("id".into(), id.into()), ("file_name".into(), file.into())]);
            let mut facts = object(&page.facts, row)?;
            if let Some((width, height)) = one.size {
                facts.insert("width".into(), width.into());
                facts.insert("height".into(), height.into());
            }
            if let (Some(own), true) = (facts.remove("id"), self.are_counted) {
                entry.insert("outskirt_id".into(), own);
            }
            entry.append(&mut facts);
            let comma = if self.written > 1 { ",\n" } else { "\n" };
            self.write(format!("{comma}{}", Value::Object(entry)))?;
        }
        Ok(())
    }

    pub(super) fn end(mut self) -> Result<Vec<String>> {
        self.write("\n],\n\"annotations\": []}\n".into())?;
        self.file.flush().map_err(Error::io("write", &self.path))?;
        let counted = "ids are counted from 1, for one is beyond 2^53, which readers of JSON round; outskirt_id is the image's own";
        Ok(if self.are_counted { vec![counted.into()] } else { Vec::new() })
    }

    fn write(&mut self, text: String) -> Result<()> {
        self.file.write_all(text.as_bytes()).map_err(Error::io("write", &self.path))
    }
}
