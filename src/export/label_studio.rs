//! Label Studio's tasks, the labelling configuration for them, and what a bank says as predictions.
//!
//! A file of tasks is as large as an import takes. The score of a prediction is the p-value: Label Studio shows the least confident first,
//! and so the images that are furthest outside.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::files::{Place, Placed};
use super::folder::Folder;
use super::options::{ExportFiles, ExportOptions};
use super::rows::{Page, Rows, texts};
use super::values::object;
use crate::error::{Error, Result};
use crate::image::is_address;
use crate::sql::session::Session;

/// What a task's data have of their own.
pub(super) const TAKEN: [&str; 2] = ["image", "about"];
/// Labels that are offered: beyond, a text is typed.
pub(super) const MOST_LABELS: usize = 200;
/// Tasks of a file at most.
const MOST_TASKS: usize = 250_000;
/// Bytes of a file at most: 200 MB, with room to spare.
const MOST_BYTES: u64 = 190_000_000;
/// What a reviewer decides.
const DECISIONS: [&str; 3] = ["in distribution", "out of distribution", "cannot tell"];

/// `tasks-00000.json`, …, `images/` and `config.xml`.
pub(super) struct LabelStudio {
    folder: PathBuf,
    /// The folder that the server must be told of, and the one below it that the project is.
    root: PathBuf,
    served: PathBuf,
    /// What stands before the names of copied and linked files, relative to it.
    prefix: String,
    labels: BTreeSet<String>,
    bank: Option<String>,
    has_local: bool,
    has_s3: bool,
    file: Option<Tasks>,
    files: usize,
}

/// A file of tasks while it is written.
struct Tasks {
    path: PathBuf,
    file: BufWriter<File>,
    tasks: usize,
    bytes: u64,
}

/// The folder that all files of this machine lie in, where they are named and not copied.
pub(super) async fn common_folder(session: &Session, options: &ExportOptions, rows: &Rows) -> Result<Option<PathBuf>> {
    if options.files != ExportFiles::None {
        return Ok(None);
    }
    // what the first and the last of all have in common, all have
    let query = format!(
        "SELECT min(uri), max(uri) FROM images WHERE ({}) AND starts_with(uri, '/') AND strpos(uri, '!/') = 0",
        rows.predicate
    );
    let batches = session.sql(&query).await?.collect().await?;
    let Some(batch) = batches.first() else { return Ok(None) };
    let (Some(Some(first)), Some(Some(last))) = (texts(batch.column(0))?.pop(), texts(batch.column(1))?.pop()) else {
        return Ok(None);
    };
    let same = first.bytes().zip(last.bytes()).take_while(|(one, other)| one == other).count();
    let end = first.as_bytes()[..same].iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    Ok(Some(PathBuf::from(if end == 0 { "/" } else { &first[..end] })))
}

impl LabelStudio {
    pub(super) fn begin(
        folder: &Folder,
        options: &ExportOptions,
        labels: BTreeSet<String>,
        common: Option<PathBuf>,
    ) -> Result<Self> {
        if options.files != ExportFiles::None {
            folder.inside("images")?;
        }
        let target = folder.target();
        let name = target.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let served = common.unwrap_or_else(|| target.to_owned());
        let labels: BTreeSet<String> = labels.into_iter().filter(|label| is_offered(label)).collect();
        Ok(Self {
            folder: folder.path().to_owned(),
            // a source storage lies below it
            root: served.parent().unwrap_or(&served).to_owned(),
            served,
            prefix: name,
            labels,
            bank: options.bank.clone(),
            has_local: false,
            has_s3: false,
            file: None,
            files: 0,
        })
    }

    pub(super) fn rows(&mut self, page: &Page, placed: &[Placed]) -> Result<()> {
        for (row, one) in placed.iter().enumerate() {
            let image = match &one.place {
                Place::Inside(file) => self.local(&format!("{}/{file}", self.prefix)),
                Place::Outside(address) if is_address(address) => {
                    self.has_s3 |= address.starts_with("s3:");
                    address.clone()
                }
                Place::Outside(path) => {
                    let path = Path::new(path);
                    let below = path.strip_prefix(&self.root).unwrap_or(path).to_string_lossy().into_owned();
                    self.local(below.trim_start_matches('/'))
                }
                Place::InArchive | Place::Missing(_) => continue,
            };
            let mut data = object(&page.facts, row)?;
            let about = about(&data, self.bank.as_deref());
            let mut result = Vec::new();
            let choice = |name: &str, choice: &str| json!({"from_name": name, "to_name": "image", "type": "choices", "value": {"choices": [choice]}});
            if let Some(is_ood) = data.get("is_ood").and_then(Value::as_bool).filter(|_| self.bank.is_some()) {
                result.push(choice("decision", DECISIONS[usize::from(is_ood)]));
            }
            if let Some(label) = page.labels[row].as_ref().filter(|label| self.offers(label)) {
                result.push(choice("label", label));
            }
            let score = data.get("pvalue").filter(|_| self.bank.is_some()).cloned().unwrap_or(Value::Null);
            data.insert("image".into(), image.into());
            data.insert("about".into(), about.into());
            let mut task = json!({"data": data});
            if !result.is_empty() {
                let version = self.bank.clone().unwrap_or_else(|| "outskirt".into());
                let mut prediction = json!({"model_version": version, "result": result});
                if !score.is_null() {
                    prediction["score"] = score;
                }
                task["predictions"] = json!([prediction]);
            }
            self.task(&task.to_string())?;
        }
        Ok(())
    }

    /// Whether a label is among the choices.
    fn offers(&self, label: &str) -> bool {
        self.labels.len() <= MOST_LABELS && self.labels.contains(label)
    }

    /// What Label Studio serves a file of this machine under.
    fn local(&mut self, below: &str) -> String {
        self.has_local = true;
        let mut address = String::from("/data/local-files/?d=");
        for byte in below.bytes() {
            if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
                address.push(byte.into());
            } else {
                let _ = write!(address, "%{byte:02X}");
            }
        }
        address
    }

    fn task(&mut self, text: &str) -> Result<()> {
        let is_full = |file: &Tasks| file.tasks >= MOST_TASKS || file.bytes + text.len() as u64 > MOST_BYTES;
        if self.file.as_ref().is_some_and(is_full) {
            self.close()?;
        }
        if self.file.is_none() {
            let path = self.folder.join(format!("tasks-{:05}.json", self.files));
            self.files += 1;
            let file = BufWriter::new(File::create(&path).map_err(Error::io("write", &path))?);
            self.file = Some(Tasks { path, file, tasks: 0, bytes: 0 });
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let before = if file.tasks == 0 { "[\n" } else { ",\n" };
        file.tasks += 1;
        file.bytes += (before.len() + text.len()) as u64;
        file.file
            .write_all(before.as_bytes())
            .and_then(|()| file.file.write_all(text.as_bytes()))
            .map_err(Error::io("write", &file.path))
    }

    fn close(&mut self) -> Result<()> {
        let Some(mut file) = self.file.take() else { return Ok(()) };
        file.file.write_all(b"\n]\n").and_then(|()| file.file.flush()).map_err(Error::io("write", &file.path))
    }

    pub(super) fn end(mut self, folder: &Folder) -> Result<Vec<String>> {
        self.close()?;
        let config = self.config();
        folder.write("config.xml", &config)?;
        let mut notes = Vec::new();
        if self.has_local {
            let served = match self.served.parent() {
                Some(_) => format!("the path {}", self.served.display()),
                None => "the path of each folder of / that they lie in".into(),
            };
            notes.push(format!(
                "the pictures are files of this machine: start Label Studio with\n  LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true \
                 LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={}\nand add to the project (Settings, Cloud Storage) a source storage of local \
                 files with {served}",
                self.root.display()
            ));
        }
        if self.has_s3 {
            notes.push(
                "pictures at s3:// addresses are shown where the project has a source storage of that bucket".into(),
            );
        }
        if self.files > 1 {
            notes.push(format!(
                "an import takes {MOST_TASKS} tasks: there are {} files, to be imported one after the other",
                self.files
            ));
        }
        notes.push(format!(
            "the labelling configuration, also in {}:\n{config}",
            folder.target().join("config.xml").display()
        ));
        Ok(notes)
    }

    /// What a project is told of its tasks.
    fn config(&self) -> String {
        let mut text = String::from(
            "<View>\n  <Image name=\"image\" value=\"$image\" zoom=\"true\"/>\n  <Text name=\"about\" value=\"$about\"/>\n",
        );
        choices(&mut text, "decision", DECISIONS.into_iter());
        let mut labels = self.labels.iter().map(String::as_str).peekable();
        if self.labels.len() > MOST_LABELS {
            text += "  <TextArea name=\"label\" toName=\"image\" maxSubmissions=\"1\"/>\n";
        } else if labels.peek().is_some() {
            choices(&mut text, "label", labels);
        }
        text + "</View>\n"
    }
}

/// A question with one answer.
fn choices<'t>(text: &mut String, name: &str, choices: impl Iterator<Item = &'t str>) {
    let _ = writeln!(text, "  <Choices name=\"{name}\" toName=\"image\" choice=\"single\" showInline=\"true\">");
    for choice in choices {
        let _ = writeln!(text, "    <Choice value=\"{}\"/>", escaped(choice));
    }
    text.push_str("  </Choices>\n");
}

/// What a reviewer reads beside a picture.
fn about(data: &serde_json::Map<String, Value>, bank: Option<&str>) -> String {
    let text = |name: &str| data.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut about = format!("{} / {}", text("dataset"), text("split"));
    if !text("label").is_empty() {
        let _ = write!(about, ", label {}", text("label"));
    }
    let Some(bank) = bank else { return about };
    let number = |name: &str| data.get(name).and_then(Value::as_f64);
    match (number("ood_score"), number("pvalue"), data.get("is_ood").and_then(Value::as_bool)) {
        (Some(score), Some(pvalue), Some(is_ood)) => {
            let side = if is_ood { "outside" } else { "inside" };
            let _ = write!(about, "; {side} bank {bank}: score {score:.4}, p-value {pvalue:.4}");
        }
        _ => about += "; without a score",
    }
    about
}

/// Whether a label can be a choice: XML has no way to write other control characters.
fn is_offered(label: &str) -> bool {
    !label.is_empty() && label.chars().all(|letter| !letter.is_control() || "\n\r\t".contains(letter))
}

/// As an attribute of XML, with line ends that a reader would make blanks of.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\n' | '\r' | '\t' => drop(write!(safe, "&#{};", u32::from(letter))),
            letter => safe.push(letter),
        }
    }
    safe
}
