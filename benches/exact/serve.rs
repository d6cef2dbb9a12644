//! One bank in memory, searched on request: a line with tabs comes in, a line of JSON goes out.

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use outskirt_exact::{Exact, Layout, Sampling, Stored, Vectors, Work, distance};
use rayon::prelude::*;

use crate::data;

struct Server {
    exact: Exact,
    file: PathBuf,
    k: usize,
    queries: Vec<f32>,
    /// k-th distances of the last batch.
    found: Vec<f32>,
}

/// Load a bank, say so, and answer until the input ends. Paths are numbered as `paths` lists them. `stored`: the bank is
/// written into an index file beside its own, and its rows stay there.
pub(crate) fn serve(file: &Path, dimension: usize, k: usize, path: usize, stored: bool) -> Result<(), Box<dyn Error>> {
    let path = *outskirt_exact::Path::available().get(path).ok_or("this processor has no such path")?;
    let layout = Layout { k, path, ..Layout::default() };
    let rows = if stored { None } else { Some(data::rows(file, dimension)?) };
    let start = Instant::now();
    let exact = match rows {
        Some(rows) => Exact::new(rows, layout),
        None => {
            // the file is read three times, and that is part of laying out
            let to = file.with_extension("exact");
            let mut sampling = Sampling::new(data::count(file, dimension)?, dimension, layout);
            data::stream(file, dimension, |rows| rows.chunks_exact(dimension).for_each(|row| sampling.see(row)))?;
            let (mut placing, mut ids) = (sampling.placing(), 0..);
            data::stream(file, dimension, |rows| {
                rows.chunks_exact(dimension).zip(&mut ids).for_each(|(row, id)| placing.place(id, row));
            })?;
            let (mut filing, mut written) = (placing.filing(&to, "")?, Ok(()));
            data::stream(file, dimension, |rows| {
                for row in rows.chunks_exact(dimension) {
                    written = std::mem::replace(&mut written, Ok(())).and_then(|()| filing.add(row));
                }
            })?;
            written?;
            filing.finish()?;
            let exact = Stored::open(&to)?.search_in_place(path)?.0;
            // open files stay, and nothing is left behind
            std::fs::remove_file(&to)?;
            exact
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    let mut out = std::io::stdout();
    writeln!(
        out,
        "{{\"seconds\": {seconds}, \"rows\": {}, \"describe\": {:?}, \"path\": {:?}, \"threads\": {}}}",
        exact.len(),
        exact.describe(),
        path.name(),
        rayon::current_num_threads()
    )?;
    let mut server = Server { exact, file: file.to_owned(), k, queries: Vec::new(), found: Vec::new() };
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split('\t').collect();
        writeln!(out, "{}", server.answer(&words)?)?;
    }
    Ok(())
}

impl Server {
    fn answer(&mut self, words: &[&str]) -> Result<String, Box<dyn Error>> {
        let (k, dimension) = (self.k, self.exact.dimension());
        Ok(match *words {
            ["queries", file] => {
                self.queries = data::read(Path::new(file))?;
                format!("{{\"queries\": {}}}", self.queries.len() / dimension)
            }
            ["batch"] => {
                let queries = Vectors::new(&self.queries, dimension);
                let (reply, found) = self.timed(queries.len(), || self.exact.kth_distances(queries, k));
                self.found = found;
                reply
            }
            ["single", count] => {
                let queries = Vectors::new(&self.queries, dimension);
                let count = count.parse::<usize>()?.min(queries.len());
                let one = |i: usize| self.exact.kth_distances(queries.rows(i, i + 1), k);
                let (reply, found) = self.timed(count, || (0..count).flat_map(one).collect::<Vec<f32>>());
                if !self.found.starts_with(&found) {
                    return Err("one query at a time gives other distances than all at once".into());
                }
                reply
            }
            ["within", cutoff] => {
                let cutoff: f32 = cutoff.parse()?;
                let queries = Vectors::new(&self.queries, dimension);
                let cutoffs = vec![cutoff; queries.len()];
                let (reply, within) = self.timed(queries.len(), || self.exact.within(queries, k, &cutoffs));
                if self.found.len() != within.len()
                    || !self.found.iter().zip(&within).all(|(&r, &w)| w == (r <= cutoff))
                {
                    return Err("stopping early gives another answer than the distances".into());
                }
                reply
            }
            ["save", file] => {
                std::fs::write(file, bytemuck::cast_slice(&self.found))?;
                "{}".to_owned()
            }
            ["recheck", count] => self.recheck(count.parse()?)?,
            ["memory"] => format!("{{\"peak_bytes\": {}}}", peak_memory()),
            _ => return Err(format!("no such command: {words:?}").into()),
        })
    }

    /// Seconds of a search, and what it did meanwhile.
    fn timed<T>(&self, queries: usize, search: impl FnOnce() -> T) -> (String, T) {
        let before = self.exact.work();
        let start = Instant::now();
        let answer = search();
        let seconds = start.elapsed().as_secs_f64();
        let Work { visits, estimated, computed, .. } = self.exact.work();
        assert!(self.exact.failure().is_none(), "{:?}", self.exact.failure());
        let reply = format!(
            "{{\"seconds\": {seconds}, \"queries\": {queries}, \"visits\": {}, \"estimated\": {}, \"computed\": {}}}",
            visits - before.visits,
            estimated - before.estimated,
            computed - before.computed
        );
        (reply, answer)
    }

    /// Every distance of some queries in f64, from the file: the largest difference to what was found.
    fn recheck(&self, count: usize) -> Result<String, Box<dyn Error>> {
        let dimension = self.exact.dimension();
        let queries = Vectors::new(&self.queries, dimension);
        let count = count.min(self.found.len());
        let chosen: Vec<usize> = (0..count).map(|i| i * self.found.len() / count).collect();
        let mut all: Vec<Vec<f64>> = vec![Vec::with_capacity(self.exact.len()); count];
        data::stream(&self.file, dimension, |rows| {
            all.par_iter_mut().zip(&chosen).for_each(|(all, &query)| {
                all.extend(rows.chunks_exact(dimension).map(|row| distance(queries.row(query), row)));
            });
        })?;
        let differences = all.iter_mut().zip(&chosen).map(|(all, &query)| {
            let (_, kth, _) = all.select_nth_unstable_by(self.k - 1, f64::total_cmp);
            (*kth - f64::from(self.found[query])).abs()
        });
        // a NaN is not to pass
        let largest = differences.map(|value| if value.is_nan() { f64::MAX } else { value }).fold(0.0, f64::max);
        Ok(format!("{{\"queries\": {count}, \"difference\": {largest:e}}}"))
    }
}

/// Most memory that this process has held, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap_or_default() * 1024
}
