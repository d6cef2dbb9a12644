//! Raw vectors by every metric: the engine beside its slow twin, on all threads.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use outskirt_exact::{Collection, Layout, Metric, Vectors, nearest_brute};
use rayon::prelude::*;

/// Queries that the slow twin answers.
const TWIN: usize = 200;

/// Rows and queries are files of f32, little-endian; paths are numbered as `paths` lists them. Prints a line of JSON for
/// each metric: seconds to lay out, queries per second of both.
pub(crate) fn measure(rows: &Path, queries: &Path, d: usize, k: usize, path: usize) -> Result<(), Box<dyn Error>> {
    let read = |path: &Path| -> std::io::Result<Vec<f32>> {
        let bytes = std::fs::read(path)?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
    };
    let (rows, queries) = (read(rows)?, read(queries)?);
    let m = queries.len() / d;
    let path = *outskirt_exact::Path::available().get(path).ok_or("this processor has no such path")?;
    let layout = Layout { k, path, ..Layout::default() };
    let mut out = std::io::stdout();
    for metric in Metric::ALL {
        let start = Instant::now();
        let collection = Collection::with_layout(rows.clone(), d, metric, layout)?;
        let built = start.elapsed().as_secs_f64();
        let mut best = f64::INFINITY;
        let mut found = Vec::new();
        for _ in 0..3 {
            let start = Instant::now();
            found = collection.search().nearest(&queries, k)?;
            best = best.min(start.elapsed().as_secs_f64());
        }
        let few = &queries[..TWIN.min(m) * d];
        let start = Instant::now();
        let twin: Vec<_> = few
            .par_chunks(d)
            .flat_map_iter(|query| nearest_brute(metric, collection.rows(), Vectors::new(query, d), k))
            .collect();
        let slow = start.elapsed().as_secs_f64();
        let are_equal = twin.iter().zip(&found).all(|(twin, found)| {
            let found: Vec<(usize, f64)> = found.iter().map(|one| (one.row, one.value)).collect();
            *twin == found
        });
        let (fast, slow) = (m as f64 / best, TWIN.min(m) as f64 / slow);
        let line = format!(
            "{{\"metric\": \"{metric:?}\", \"built_s\": {built:.2}, \"per_s\": {fast:.0}, \"twin_per_s\": {slow:.0}, \
             \"equal\": {are_equal}}}"
        );
        writeln!(out, "{line}")?;
    }
    Ok(())
}
