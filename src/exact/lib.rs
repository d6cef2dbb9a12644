//! # Exact k-th-nearest-neighbour distances among unit vectors
//!
//! [`Exact`] holds n vectors of norm one and answers, for queries of norm one, how far the k-th nearest is
//! ([`Exact::kth_distances`]), or whether it lies within a cutoff ([`Exact::within`]). The answers are those of
//! [`kth_distances_brute`], bit for bit: what is skipped or estimated is first proven not to matter.
//!
//! ```
//! use outskirt_exact::{Exact, Layout, Rows, Vectors};
//!
//! let mut rows = Rows::with_capacity(3, 2);
//! [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]].iter().for_each(|row| rows.push(row));
//! let bank = Exact::new(rows, Layout::default());
//! let queries = Vectors::new(&[1.0, 0.0], 2);
//! assert_eq!(bank.kth_distances(queries, 2), [2f32.sqrt()]);
//! assert_eq!(bank.within(queries, 2, &[1.5]), [true]);
//! ```
//!
//! ## How
//!
//! 1. *Cells.* k-means groups the rows; a cell has a centroid c and radii [low, high]. A query q with k rows found
//!    within τ needs a cell only where low − τ ≤ ‖q − c‖ ≤ high + τ: the triangle inequality. Rows of a cell are sorted
//!    by radius, so inside it whole panels of sixteen are skipped the same way.
//! 2. *Rounds.* Each query first sees its nearest cells, as many as hold 2k rows: τ is finite from then on. Then the
//!    cells that may hold a row within τ/2, then within τ, while τ shrinks. A cell is shown to all queries that need it
//!    at once, so its rows are read once and the work stays a matrix product.
//! 3. *8 bits.* q and x − c are coded in 8 bits, along the first principal directions where those hold most of the
//!    distance (the *head*; the rest, the *tail*, enters by its norm), and multiplied as integers. What the codes miss
//!    is known: no row within τ is lost.
//! 4. *f32.* Rows that pass are compared in f32, and the rounding of that is bounded too (`slack`).
//! 5. *f64.* Rows that f32 cannot tell from the k-th are compared in f64.
//!
//! On a processor without AVX-512 VNNI, step 3 is a matrix product in f32 ([`Path`]).
//!
//! A bank can be written into a file ([`Sampling`]) and found there again ([`Stored`]) in the time that reading takes: all
//! of it, or its codes alone, and rows are read as steps 4 and 5 want them. Rows are taken out and added without laying
//! out the others anew ([`Exact::change`]). One that is larger still is shown block by block to a [`Running`] search. The
//! results are the same.
//!
//! ## What results depend on
//!
//! The vectors, k, and nothing else: not threads, batches, blocks, [`Layout`] or processor. `tests.rs` holds each of them
//! against the slow twin. Unsafe code is confined to intrinsics' loads and stores and calls of functions whose
//! instructions were detected; `make sanitize` runs the tests under AddressSanitizer.
//!
//! ## Rooms
//!
//! `frame` learns from a sample where rows lie: `principal` (directions), `kmeans` (cells), `head` (how many directions
//! pay). `options` are the caller's choices, `storage` keeps the rows; `layout` puts them where they lie, and `code` has
//! them in 8 bits; `file` says how both lie in a file, and `filing` writes one. `question` is what is asked and answered,
//! `numbers` are the two ways to say which row. `queries` prepares queries, `search` takes them through the bank, `scan`
//! shows one cell to its visitors, `best` keeps what one query has found, `running` goes block by block. `slack` has every
//! constant on which the proof rests, in a table with what it covers; its tests say how much of it is used. None imports
//! another that imports it.
//! `vectors`, `lanes`, `wide` and `product` are arithmetic.
mod best;
mod bitmap;
mod code;
mod collection;
mod error;
mod file;
mod filing;
mod frame;
mod head;
mod kmeans;
mod lanes;
mod layout;
mod lookup;
mod metric;
mod numbers;
mod options;
mod originals;
mod path;
mod principal;
mod product;
mod queries;
mod question;
mod running;
mod scan;
mod search;
mod slack;
mod stop;
mod storage;
mod surrogate;
#[cfg(test)]
mod tests;
mod vectors;
#[cfg(target_arch = "x86_64")]
mod wide;
mod work;

pub use bitmap::Bitmap;
pub use collection::Collection;
pub use error::{Error, Given};
pub use file::Stored;
pub use filing::{Filing, Placing, Sampling};
pub use lanes::Rows;
pub use layout::Exact;
pub use lookup::{Lookup, Neighbor};
pub use metric::Metric;
pub use numbers::RowNumber;
pub use options::Layout;
pub use path::Path;
pub use question::{Bound, Kth, Question};
pub use running::Running;
pub use vectors::{MOST_NUMBERS, Vectors, distance, normalize};
pub use work::Work;

/// The slow twin: every distance of every query in f64, row by row, and the k-th of them. Tests and benches compare
/// with it. Panics where k is not in 1..=n.
pub fn kth_distances_brute(bank: Vectors<'_>, queries: Vectors<'_>, k: usize) -> Vec<f32> {
    (0..queries.len())
        .map(|query| {
            let mut all: Vec<f64> = (0..bank.len()).map(|row| distance(queries.row(query), bank.row(row))).collect();
            all.sort_unstable_by(f64::total_cmp);
            all[k - 1] as f32
        })
        .collect()
}

/// The slow twin of [`Collection`]: the value of every row for every query, row by row, and the k nearest of them with
/// their places, nearest first; of equal ones those of lower places.
pub fn nearest_brute(metric: Metric, rows: Vectors<'_>, queries: Vectors<'_>, k: usize) -> Vec<Vec<(usize, f64)>> {
    (0..queries.len())
        .map(|query| {
            let value = |row: usize| (row, metric.value(queries.row(query), rows.row(row)));
            let mut all: Vec<(usize, f64)> = (0..rows.len()).map(value).collect();
            // sorting is stable: of equal ones the first stays first
            match metric {
                Metric::Euclidean => all.sort_by(|a, b| a.1.total_cmp(&b.1)),
                Metric::InnerProduct | Metric::Cosine => all.sort_by(|a, b| b.1.total_cmp(&a.1)),
            }
            all.truncate(k);
            all
        })
        .collect()
}
