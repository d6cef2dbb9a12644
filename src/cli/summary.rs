//! Ingesting under a progress bar, and what is printed of it afterwards.

use super::console::Console;
use super::counts::describe_counts;
use crate::backbone::Backbone;
use crate::error::Result;
use crate::image::ImageFiles;
use crate::ingest::{IngestOptions, IngestSummary, Metadata, StageTimes, ingest};
use crate::statistics::deviation::Deviation;
use crate::store::Store;

/// Ingest under a progress bar.
pub(super) async fn ingest_with_progress(
    store: &Store,
    backbone: &Backbone,
    files: ImageFiles,
    options: &IngestOptions,
    metadata: Option<&Metadata>,
    console: &Console<'_>,
) -> Result<IngestSummary> {
    // the first time in a large table this is most of it
    let looking = console.spinner("looking up which images are there");
    let bar = console.progress("embedding images", files.total() as u64);
    let progress = |done| {
        looking.finish_and_clear();
        bar.set_position(done as u64);
    };
    let summary = ingest(store, backbone, files, options, metadata, progress).await;
    looking.finish_and_clear();
    bar.finish_and_clear();
    summary
}

/// What became of the files of an ingest, in a line.
pub(super) fn describe_ingest(options: &IngestOptions, summary: &IngestSummary) -> String {
    describe_counts(&options.dataset, &options.split, summary, "images")
}

/// What the user should know beside the counts.
pub(super) fn report_ingest(options: &IngestOptions, summary: &IngestSummary, console: &mut Console<'_>) -> Result<()> {
    let dataset = &options.dataset;
    if let Some(first) = &summary.first_clash {
        let count = summary.clashed;
        console.notice(format!(
            "{count} left out: another file of this run has the same uri and holds something else; the first: {first}"
        ))?;
    }
    if summary.in_other_splits > 0 {
        let count = summary.in_other_splits;
        console.notice(format!(
            "{count} of them are in another split of {dataset}, where they stay: UPDATE images SET split = '{}' WHERE … moves them",
            options.split
        ))?;
    }
    if summary.copies > 0 {
        let count = summary.copies;
        console.notice(format!(
            "{count} of those added hold the same bytes as images of {dataset} under other uris: were they moved or copied? SELECT content_hash, count(*) FROM images GROUP BY 1 HAVING count(*) > 1 shows them"
        ))?;
    }
    Ok(())
}

/// What a precision does to embeddings and to the distances between them.
pub(super) fn describe_deviation(precision: &str, deviation: &Deviation) -> String {
    let Deviation { images, embedding, k, score } = deviation;
    format!(
        "{precision} beside f32, on {images} images: unit embeddings are {:.1e} apart (median; at most {:.1e}), distances to \
         the {k}th neighbour among them differ by {:.2} % (median; at most {:.2} %)",
        embedding.0,
        embedding.1,
        100.0 * score.0,
        100.0 * score.1,
    )
}

/// Seconds, summed over threads; those of the network are what a faster one would save.
pub(super) fn describe_times(summary: &IngestSummary) -> String {
    let StageTimes { read, decode, preprocess, forward } = summary.stages;
    let stages = [("read", read), ("decode", decode), ("preprocess", preprocess), ("forward", forward)];
    let stages = stages.into_iter().chain([("write", summary.write)]);
    let parts: Vec<String> = stages.map(|(stage, time)| format!("{stage} {:.2} s", time.as_secs_f64())).collect();
    format!("busy: {}", parts.join(", "))
}
