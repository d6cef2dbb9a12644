//! # Exact nearest neighbours, without comparing everything
//!
//! Vectors of f32, tens of thousands to some million of them, in memory. Which are nearest to a query, by Euclidean
//! distance, inner product or cosine; which lie within a bound, and how many? A scan answers that, and so does this:
//! with the same rows in the same order, and the same values to the last bit, at several times the speed of a scan. Not
//! an approximate index: there is no recall to tune, and nothing to train.
//!
//! ```
//! use std::sync::atomic::{AtomicBool, Ordering};
//! use outskirt_exact::{Bitmap, Collection, Error, Metric, Vectors, nearest_brute};
//!
//! // 500 rows of 8 numbers, n×d, row after row: any finite f32, normalised or not
//! let number = |i: usize| ((i * 7919 + 13) % 1009) as f32 / 97.0 - 5.0;
//! let values: Vec<f32> = (0..500 * 8).map(number).collect();
//! let ids = (0..500).map(|row| 1_000_000 + row).collect();
//! let rows = Collection::new(values, 8, Metric::Euclidean)?.with_ids(ids)?;
//!
//! // three queries at once; nearest first, and of equally near rows the one that was given first
//! let queries: Vec<f32> = (0..3 * 8).map(|i| number(3 * i + 1)).collect();
//! let found = rows.search().nearest(&queries, 10)?;
//! assert_eq!((found.len(), found[0].len()), (3, 10));
//! assert_eq!(found[0][0].id, 1_000_000 + found[0][0].row as u64);
//!
//! // that is what comparing every row gives, bit for bit
//! let plain = nearest_brute(Metric::Euclidean, rows.rows(), Vectors::checked(&queries, 8)?, 10);
//! assert!(found[2].iter().zip(&plain[2]).all(|(fast, slow)| (fast.row, fast.value) == *slow));
//!
//! // all within a distance, or how many; rows that are allowed; threads of one's own; a way to stop
//! let radius = found[0][4].value;
//! assert_eq!(rows.search().count_within(&queries, radius)?[0], 5);
//! let even = Bitmap::of(500, |row| row % 2 == 0);
//! let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("two threads");
//! let stop = AtomicBool::new(false);
//! let is_over = || stop.load(Ordering::Relaxed);
//! let search = rows.search().allowed(&even).pool(&pool).cancelled(&is_over);
//! assert!(search.within(&queries, radius)?[0].iter().all(|one| one.row % 2 == 0));
//! stop.store(true, Ordering::Relaxed);
//! assert_eq!(search.nearest(&queries, 10), Err(Error::Cancelled));
//! # Ok::<(), Error>(())
//! ```
//!
//! ## What is promised
//!
//! - *Exactness.* [`Lookup::nearest`] gives what [`nearest_brute`] gives: rows in the order of [`Metric::value`], which
//!   is computed in f64, ties by place. [`Lookup::within`] gives the rows whose value is within the bound, and
//!   [`Lookup::count_within`] counts them. It holds for any finite f32: rows that are equal, norms from 1e-45 to 1e38
//!   in one collection, denormal numbers.
//! - *The same everywhere.* Results depend on the rows, the query and what is asked, not on threads, batches,
//!   [`Layout`] or processor.
//! - *Errors, not panics.* Whatever a caller of [`Collection`] can get wrong is an [`Error`] that names the row and
//!   says what to do.
//!
//! Not promised: that every search is faster than a scan. Rows that only the low bits of f32 tell apart are compared
//! one by one, as are queries more than four times as far from the rows' mean as the farthest row (Euclidean), and
//! searches that allow fewer than a 32nd of the rows. The farthest row sets the scale: one that lies a thousand times as
//! far out as the others makes searches by Euclidean distance ten times as slow, one 10⁸ times as far makes them, and
//! those by inner product, scans in f64; leave such rows out. Nor that rows can be added or taken out: a collection is
//! made once. Making it is not cancelled.
//!
//! ## What it takes
//!
//! Making a collection is k-means and principal components of a sample, and one pass that finds each row's cell of c =
//! n/192, at most 4096: O(n·c·min(d, 128)), which for 50,000 × 256 is 0.7 s on two cores. A search looks at every
//! cell's centroid, n/192 of them, and then at the cells that it cannot leave out, at a byte a number or less: O(n·d)
//! at worst, and far less where rows lie in groups. 50,000 × 256, k = 50, two cores with AVX-512 VNNI: 20,000 queries a
//! second by any metric where rows lie in a hundred groups, 8,000 where they lie anywhere; faiss's `IndexFlatL2` and
//! `IndexFlatIP`, in f32, answer 2,250.
//!
//! Memory: the rows (4·d bytes each), their surrogates (4·d, rounded up to 64), and with AVX-512 VNNI up to d bytes
//! more. A search takes 16 bytes for each row that it gives, and some kilobytes for each of its queries.
//!
//! ## Unit vectors
//!
//! What Outskirt asks is narrower, and has more ways: [`Exact`] holds n vectors of norm one and answers how far the
//! k-th nearest is ([`Exact::kth_distances`]), or whether it lies within a cutoff ([`Exact::within`]):
//! [`kth_distances_brute`] is its twin. A bank can be written into a file ([`Sampling`]) and found there again
//! ([`Stored`]) in the time that reading takes: all of it, or its codes alone, and rows are read as searches want them.
//! Rows are taken out and added without laying out the others anew ([`Exact::change`]). One that is larger still is
//! shown block by block to a [`Running`] search. [`Exact::checked`] and [`Exact::accepts`] say what is wrong with rows
//! and questions; the other calls panic over it.
//!
//! ```
//! use outskirt_exact::{Exact, Layout, Rows, Vectors};
//!
//! let mut rows = Rows::with_capacity(3, 2);
//! [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]].iter().for_each(|row| rows.push(row));
//! let bank = Exact::checked(rows, Layout::default())?;
//! let queries = Vectors::new(&[1.0, 0.0], 2);
//! assert_eq!(bank.kth_distances(queries, 2), [2f32.sqrt()]);
//! assert_eq!(bank.within(queries, 2, &[1.5]), [true]);
//! # Ok::<(), outskirt_exact::Error>(())
//! ```
//!
//! ## How
//!
//! 1. *Surrogates.* Rows become vectors in the unit ball whose Euclidean distances are in the order of the metric:
//!    normalised for cosines; moved and scaled for distances; for inner products one number longer, which makes all
//!    norms equal. In f32 they are a little off, and by how much at most is known: they choose, and the rows as they
//!    were given decide. Unit vectors stand for themselves.
//! 2. *Cells.* k-means groups the rows; a cell has a centroid c and radii [low, high]. A query q with k rows found
//!    within τ needs a cell only where low − τ ≤ ‖q − c‖ ≤ high + τ: the triangle inequality. Rows of a cell are sorted
//!    by radius, so inside it whole panels of sixteen are skipped the same way.
//! 3. *Rounds.* Each query first sees its nearest cells, as many as hold 2k rows: τ is finite from then on. Then the
//!    cells that may hold a row within τ/2, then within τ, while τ shrinks. A cell is shown to all queries that need it
//!    at once, so its rows are read once and the work stays a matrix product.
//! 4. *8 bits.* q and x − c are coded in 8 bits, along the first principal directions where those hold most of the
//!    distance (the *head*; the rest, the *tail*, enters by its norm), and multiplied as integers. What the codes miss
//!    is known: no row within τ is lost. On a processor without AVX-512 VNNI this is a matrix product in f32
//!    ([`Path`]).
//! 5. *f32.* Rows that pass are compared in f32, and the rounding of that is bounded too (`slack`).
//! 6. *f64.* Rows that f32 cannot tell from the k-th are compared in f64, as they were given.
//!
//! A range is the same search with a τ that stands from the start. `tests.rs` and `lookup/tests.rs` hold every path,
//! metric and layout against the slow twins. Unsafe code is confined to intrinsics' loads and stores and calls of
//! functions whose instructions were detected; `make sanitize` runs the tests under AddressSanitizer.
//!
//! ## Rooms
//!
//! `collection` is what comes in, `lookup` what is asked of it, `metric`, `bitmap` and `error` their words; `surrogate`
//! takes rows into the unit ball, `originals` decides by the rows as they were given, `stop` hears that a search is to
//! end. `frame` learns from a sample where rows lie: `principal` (directions), `kmeans` (cells), `head` (how many
//! directions pay). `options` are the caller's choices, `storage` keeps the rows; `layout` puts them where they lie,
//! and `code` has them in 8 bits; `file` says how both lie in a file, and `filing` writes one. `question` is what is
//! asked of unit vectors and answered, `numbers` are the two ways to say which row. `queries` prepares queries,
//! `search` takes them through the bank, `scan` shows one cell to its visitors, `best` keeps what one query has found,
//! `running` goes block by block. `slack` has every constant on which the proof rests, in a table with what it covers;
//! its tests say how much of it is used. None imports another that imports it. `vectors`, `lanes`, `wide` and `product`
//! are arithmetic.
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
#[cfg(test)]
mod parts;
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
pub use vectors::{MOST_NUMBERS, Vectors, distance, normalize, normalized};
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
