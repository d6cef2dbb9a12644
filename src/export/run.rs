//! An export from its beginning to its end.

use std::sync::Arc;

use super::files::{Manner, Place, Placed, place};
use super::folder::Folder;
use super::options::{ExportFiles, ExportFormat, ExportOptions, Exported};
use super::rows::{Page, Rows};
use super::writer::{Writer, renamed};
use crate::error::{Error, Result};
use crate::image::{Opened, shown};
use crate::sql::session::Session;

/// Missing pictures that are named.
const EXAMPLES: usize = 3;

/// Write images, their pictures and what a bank says of them into a folder. `tell` hears how many rows are done, of how many.
///
/// Errors: a folder that is not empty; what the format cannot hold; an unknown or uncalibrated bank; a condition that fails or holds for
/// nothing; those of the disk; a missing picture where [`ExportOptions::strict`] says so. Whatever the error, there is no folder then.
pub async fn export(
    session: &Session,
    options: &ExportOptions,
    mut tell: impl FnMut(usize, usize),
) -> Result<Exported> {
    options.check()?;
    let rows = Rows::of(session, options, |column| renamed(options.format, column)).await?;
    let folder = Folder::begin(&options.to)?;
    let mut writer = Writer::begin(session, options, &rows, &folder).await?;
    let manner = Manner {
        files: options.files,
        reads: options.format.reads(),
        sizes: options.format == ExportFormat::Coco,
        root: folder.path().to_owned(),
    };
    let are_stored = options.files != ExportFiles::None && rows.are_stored(session).await?;
    let opened = Arc::new(Opened::default());
    let mut found = Exported::default();
    let mut pages = rows.pages(session).await?;
    let mut done = 0; // rows that were looked at
    while let Some(page) = pages.next().await? {
        let within: Vec<String> = (0..page.ids.len()).map(|row| writer.within(&page, row)).collect();
        writer.prepare(&within, &folder)?;
        let placed = place(session, &manner, &opened, &page, are_stored, within).await?;
        done += placed.len();
        count(&mut found, options, &page, &placed)?;
        let (page, placed) = with_a_place(page, placed, options.format)?;
        found.rows += placed.len();
        if !placed.is_empty() {
            writer.rows(&page, &placed, &folder)?;
        }
        tell(done, rows.total);
    }
    found.left_out = done - found.rows;
    if found.rows == 0 {
        let reason = match found.examples.first() {
            Some((uri, reason)) => format!("{uri}: {reason}"),
            None => "they are inside archives, out of which --files copy takes them".into(),
        };
        return Err(Error::NoPictureToExport { reason });
    }
    let renamed = rows.renamed.iter().filter(|(from, _)| from != "id" && from != "dataset");
    found.notes.extend(
        renamed.map(|(from, to)| format!("column {from} is called {to} there: the format has one of that name")),
    );
    found.notes.extend(writer.end(&folder)?);
    found.folder = folder.finish()?;
    Ok(found)
}

/// Count what became of the pictures.
fn count(found: &mut Exported, options: &ExportOptions, page: &Page, placed: &[Placed]) -> Result<()> {
    for (row, one) in placed.iter().enumerate() {
        match &one.place {
            Place::Inside(_) if one.is_link => found.linked += 1,
            Place::Inside(_) => found.copied += 1,
            Place::Outside(_) => found.referenced += 1,
            Place::InArchive => found.in_archives += 1,
            Place::Missing(reason) => {
                let uri = shown(&page.uris[row]);
                if options.strict {
                    return Err(Error::MissingPicture { uri, reason: reason.clone() });
                }
                found.missing += 1;
                if found.examples.len() < EXAMPLES {
                    found.examples.push((uri, reason.clone()));
                }
            }
        }
        found.bytes += one.bytes;
        found.changed += usize::from(one.is_changed);
        found.converted += usize::from(one.is_converted);
    }
    Ok(())
}

/// The rows that a format has a place for.
fn with_a_place(page: Page, placed: Vec<Placed>, format: ExportFormat) -> Result<(Page, Vec<Placed>)> {
    let has_place = |one: &Placed| match one.place {
        Place::Inside(_) | Place::Outside(_) => true,
        Place::InArchive | Place::Missing(_) => !format.needs_pictures(),
    };
    let kept: Vec<bool> = placed.iter().map(has_place).collect();
    if kept.iter().all(|kept| *kept) {
        return Ok((page, placed));
    }
    let placed = placed.into_iter().zip(&kept).filter_map(|(one, kept)| kept.then_some(one)).collect();
    Ok((page.only(&kept)?, placed))
}
