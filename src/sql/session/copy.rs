//! COPY … TO a file of this machine: what was there stays until the whole result can take its place.
//!
//! DataFusion writes where the plan says, so the plan is given another place: a file beside the one that is meant, renamed
//! once the query has ended. Of a link the target is replaced. A pipe or a device gets its bytes then.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::LogicalPlan;
use datafusion::logical_expr::dml::CopyTo;
use datafusion::physical_plan::EmptyRecordBatchStream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::TryStreamExt;

use super::catalog::Session;
use crate::error::{Error, Result};
use crate::sql::location::{self, url};

/// The option of COPY that says whether a file or a folder is written.
const SINGLE_FILE: &str = "single_file_output";

/// Links that are followed before it is taken for a circle, as Linux has it.
const MOST_LINKS: usize = 40;

/// What a plan writes, and where that goes once it is whole. What is left of it when this is dropped is removed.
pub(super) struct Written {
    part: PathBuf,
    target: Target,
}

enum Target {
    File(PathBuf),
    /// Its files go there, beside those that are there already.
    Folder {
        path: PathBuf,
        is_new: bool,
    },
    /// A pipe or a device.
    Stream(PathBuf),
}

impl Drop for Written {
    fn drop(&mut self) {
        match &self.target {
            Target::Folder { path, is_new } => {
                let _ = fs::remove_dir_all(&self.part);
                if *is_new {
                    // not where anything is in it
                    let _ = fs::remove_dir(path);
                }
            }
            Target::File(_) | Target::Stream(_) => drop(fs::remove_file(&self.part)),
        }
    }
}

impl Session {
    /// The plan with its COPYs to files of this machine sent elsewhere, and what is to be done when it has run.
    pub(super) fn redirected(&self, plan: LogicalPlan) -> Result<(LogicalPlan, Vec<Written>)> {
        let mut all = Vec::new();
        let plan = plan
            .transform_down(|node| {
                let LogicalPlan::Copy(copy) = &node else { return Ok(Transformed::no(node)) };
                let Some(written) = self.place(copy)? else { return Ok(Transformed::no(node)) };
                let is_folder = matches!(written.target, Target::Folder { .. });
                let options = copy.options.iter().map(|(name, value)| (name.clone(), value.clone()));
                let options = options.chain([(SINGLE_FILE.into(), (!is_folder).to_string())]);
                let copy = CopyTo {
                    output_url: url(&written.part, is_folder)?.into(),
                    options: options.collect::<HashMap<_, _>>(),
                    ..copy.clone()
                };
                all.push(written);
                Ok(Transformed::yes(LogicalPlan::Copy(copy)))
            })
            .data()?;
        Ok((plan, all))
    }

    /// Where a COPY is written first; `None` for one that goes elsewhere than to this machine's files.
    fn place(&self, copy: &CopyTo) -> DataFusionResult<Option<Written>> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let named = location::path(&copy.output_url)?;
        let own = format!(".outskirt-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let found = fs::metadata(&named).ok();
        let is_folder = !copy.partition_by.is_empty()
            || found.as_ref().is_some_and(fs::Metadata::is_dir)
            || copy.output_url.ends_with('/')
            || match copy.options.get(SINGLE_FILE).map(|chosen| chosen.trim()) {
                Some("true") => false,
                Some("false") => true,
                // DataFusion's refusal of it
                Some(_) => return Ok(None),
                None => !has_extension(&named) && found.as_ref().is_none_or(fs::Metadata::is_file),
            };
        let is_stream =
            found.as_ref().is_some_and(|found| !found.is_file() && !found.is_dir()) || is_descriptor(&named);
        if is_stream {
            let folder = self.context.runtime_env().disk_manager.temp_dir_paths().into_iter().next();
            let Some(folder) = folder else { return Ok(None) };
            return Ok(Some(Written { part: folder.join(own), target: Target::Stream(named) }));
        }
        // a mistyped path would leave folders behind
        let parent = named.parent().filter(|parent| !parent.as_os_str().is_empty());
        if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
            return Err(Error::MissingPath { path: parent.into() }.into());
        }
        if is_folder {
            self.refuse_path_inside(named.clone())?;
            let target = Target::Folder { path: named.clone(), is_new: found.is_none() };
            return Ok(Some(Written { part: named.join(own), target }));
        }
        let target = followed(named).map_err(DataFusionError::from)?;
        // the guard saw the link
        self.policy.check_write(url(&target, false)?.as_str())?;
        self.refuse_path_inside(target.clone())?;
        let part = target.with_file_name(own);
        Ok(Some(Written { part, target: Target::File(target) }))
    }
}

/// Read a plan's rows to their end, then put what it wrote in its place. The rows are few: a count, or a plan's text.
pub(super) async fn finished(rows: SendableRecordBatchStream, all: Vec<Written>) -> Result<SendableRecordBatchStream> {
    let schema: SchemaRef = rows.schema();
    let batches: Vec<RecordBatch> = rows.try_collect().await?;
    let to_stdout = all.iter().any(|written| matches!(&written.target, Target::Stream(path) if is_stdout(path)));
    let placed = tokio::task::spawn_blocking(move || all.iter().try_for_each(Written::put));
    placed.await.map_err(|_| Error::WorkerDied)??;
    if to_stdout {
        // the count would be printed among the rows
        return Ok(Box::pin(EmptyRecordBatchStream::new(Arc::new(Schema::empty()))));
    }
    Ok(Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(batches.into_iter().map(Ok)))))
}

impl Written {
    fn put(&self) -> Result<()> {
        match &self.target {
            Target::File(target) => {
                let replaced = || -> io::Result<()> {
                    if let Ok(before) = fs::metadata(target) {
                        fs::set_permissions(&self.part, before.permissions())?;
                    }
                    // else a power cut may leave an empty file under the name
                    File::open(&self.part)?.sync_all()?;
                    fs::rename(&self.part, target)
                };
                replaced().map_err(Error::io("write", target))
            }
            Target::Folder { path: target, .. } => merge(&self.part, target).map_err(Error::io("write", target)),
            Target::Stream(target) => {
                let copied = || -> io::Result<u64> {
                    let mut stream = match is_stdout(target) {
                        // its own place in the file that it leads to: another one's bytes would be written over
                        true => File::from(io::stdout().as_fd().try_clone_to_owned()?),
                        false => OpenOptions::new().append(true).open(target)?,
                    };
                    io::copy(&mut File::open(&self.part)?, &mut stream)
                };
                copied().map(|_| ()).map_err(Error::io("write", target))
            }
        }
    }
}

/// Move what is in a folder into another, folder by folder.
fn merge(from: &Path, into: &Path) -> io::Result<()> {
    fs::create_dir_all(into)?;
    // a query without rows writes no file
    if !from.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), into.join(entry.file_name()));
        if path.is_dir() { merge(&path, &target)? } else { fs::rename(&path, &target)? }
    }
    Ok(())
}

/// DataFusion takes a name without one for a folder.
fn has_extension(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.contains('.') && !name.ends_with('.')
}

/// Whether a path stands for what this process has open, which a file in its place would not be.
fn is_descriptor(path: &Path) -> bool {
    let path = path.to_string_lossy();
    path == "/dev/stdout" || path == "/dev/stderr" || path.starts_with("/dev/fd/") || path.starts_with("/proc/")
}

fn is_stdout(path: &Path) -> bool {
    ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"].iter().any(|own| path == Path::new(own))
}

/// The file that a chain of links ends at, there or not.
fn followed(mut path: PathBuf) -> Result<PathBuf> {
    for _ in 0..MOST_LINKS {
        match fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("/")).join(target),
            Err(_) => return Ok(path),
        }
    }
    let circle = io::Error::other("its links lead round in a circle");
    Err(Error::Io { action: "write", path, source: circle })
}
