//! Collections against the slow twin, bit for bit: every metric, every path, shapes and sizes that break things.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::principal::Random;
use crate::tests::paths;
use crate::{Bitmap, Collection, Error, Exact, Given, Layout, Metric, Neighbor, Path, Rows, Vectors, nearest_brute};

/// What rows look like.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Cloud,
    Clusters,
    /// Far from the origin, and near each other.
    Offset,
    /// Few different rows.
    Copies,
    AllEqual,
    AllZero,
    /// Norms from 1e-30 to 1e30.
    Scales,
    /// As small as floats are, and as large.
    Denormal,
    Largest,
    /// One row that is far from all others.
    Outlier,
    /// Whole numbers: many ties.
    Grid,
}

const KINDS: [Kind; 11] = [
    Kind::Cloud,
    Kind::Clusters,
    Kind::Offset,
    Kind::Copies,
    Kind::AllEqual,
    Kind::AllZero,
    Kind::Scales,
    Kind::Denormal,
    Kind::Largest,
    Kind::Outlier,
    Kind::Grid,
];

fn normal(random: &mut Random) -> f32 {
    (0..6).map(|_| random.unit() - 0.5).sum::<f32>() * 1.414
}

fn drawn(random: &mut Random, kind: Kind, n: usize, d: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(n * d);
    let mut centres = Random(99);
    let centres: Vec<f32> = (0..8 * d).map(|_| 3.0 * normal(&mut centres)).collect();
    for row in 0..n {
        let (cluster, scale) = (random.below(8), 10f32.powf(60.0 * random.unit() - 30.0));
        let value = |at: usize, random: &mut Random| match kind {
            Kind::Cloud => normal(random),
            Kind::Clusters => centres[cluster * d + at] + 0.1 * normal(random),
            Kind::Offset => 1000.0 + centres[at] + 0.01 * normal(random),
            Kind::Copies => centres[cluster * d + at],
            Kind::AllEqual => 0.3 + at as f32,
            Kind::AllZero => 0.0,
            Kind::Scales => normal(random) * scale,
            Kind::Denormal => normal(random) * 1e-43,
            Kind::Largest => (normal(random) * 1e38).clamp(-f32::MAX, f32::MAX),
            Kind::Outlier => normal(random) * if row == n / 2 { 1e20 } else { 1.0 },
            Kind::Grid => (random.unit() * 3.0).floor() - 1.0,
        };
        (0..d).for_each(|at| values.push(value(at, random)));
    }
    values
}

/// Rows, and queries of the same kind, of other kinds, and one that is a row.
fn case(random: &mut Random, metric: Metric, kind: Kind, n: usize, d: usize, m: usize) -> (Vec<f32>, Vec<f32>) {
    let mut rows = drawn(random, kind, n, d);
    let mut queries = drawn(random, kind, m, d);
    queries.extend(drawn(random, Kind::Cloud, 2, d));
    queries.extend(drawn(random, Kind::Scales, 2, d));
    queries.extend(vec![0.0; d]);
    queries.extend_from_slice(&rows[n / 2 * d..][..d]);
    if metric == Metric::Cosine {
        for vector in rows.chunks_exact_mut(d).chain(queries.chunks_exact_mut(d)) {
            if vector.iter().all(|&value| value == 0.0) {
                vector[0] = 1.0;
            }
        }
    }
    (rows, queries)
}

fn bits(found: &[Vec<Neighbor>]) -> Vec<Vec<(usize, u64)>> {
    found.iter().map(|of| of.iter().map(|one| (one.row, one.value.to_bits())).collect()).collect()
}

fn truth(metric: Metric, rows: &[f32], queries: &[f32], d: usize, k: usize) -> Vec<Vec<(usize, u64)>> {
    let found = nearest_brute(metric, Vectors::new(rows, d), Vectors::new(queries, d), k);
    found.iter().map(|of| of.iter().map(|&(row, value)| (row, value.to_bits())).collect()).collect()
}

/// Layouts that lead through different code.
fn layouts(n: usize) -> Vec<Layout> {
    let mut all: Vec<Layout> = paths().into_iter().map(|path| Layout { path, ..Layout::default() }).collect();
    let many = |path: Path| Layout { path, cells: Some(n / 5), head: Some(16), ..Layout::default() };
    all.extend(paths().into_iter().map(many));
    all
}

/// Of values that were found, some to take as bounds: at one of them, beside it, and beyond all.
fn bounds(truth: &[(usize, u64)]) -> Vec<f64> {
    let values: Vec<f64> = truth.iter().map(|&(_, value)| f64::from_bits(value)).collect();
    let some = [values[0], values[values.len() / 3], values[values.len() - 1]];
    let around = some.into_iter().flat_map(|value| [value, value.next_up(), value.next_down()]);
    around.chain([0.0, -0.5, 0.7, f64::INFINITY, f64::NEG_INFINITY]).collect()
}

#[test]
fn the_nearest_are_those_of_the_slow_twin() {
    let mut random = Random(20);
    for metric in Metric::ALL {
        for kind in KINDS {
            for (n, d) in [(1, 1), (2, 3), (7, 1), (40, 5), (300, 17), (700, 40), (500, 129)] {
                let (rows, queries) = case(&mut random, metric, kind, n, d, 9);
                for layout in layouts(n) {
                    let collection = Collection::with_layout(rows.clone(), d, metric, layout).expect("a collection");
                    for k in [1, 3, n / 2 + 1, n, n + 10, usize::MAX] {
                        let found = collection.search().nearest(&queries, k).expect("an answer");
                        let truth = truth(metric, &rows, &queries, d, k);
                        assert!(bits(&found) == truth, "{metric:?} {kind:?} n {n} d {d} k {k} {layout:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn ranges_are_those_of_the_slow_twin() {
    let mut random = Random(21);
    for metric in Metric::ALL {
        for kind in KINDS {
            for (n, d) in [(1, 2), (60, 1), (400, 33)] {
                let (rows, queries) = case(&mut random, metric, kind, n, d, 3);
                let truth = truth(metric, &rows, &queries, d, n);
                for layout in layouts(n) {
                    let collection = Collection::with_layout(rows.clone(), d, metric, layout).expect("a collection");
                    for bound in bounds(&truth[0]).into_iter().chain(bounds(&truth[3])) {
                        let is_within = |&&(_, value): &&(usize, u64)| match metric {
                            Metric::Euclidean => f64::from_bits(value) <= bound,
                            Metric::InnerProduct | Metric::Cosine => f64::from_bits(value) >= bound,
                        };
                        let truth: Vec<Vec<(usize, u64)>> =
                            truth.iter().map(|all| all.iter().filter(is_within).copied().collect()).collect();
                        let label = format!("{metric:?} {kind:?} n {n} d {d} bound {bound:e} {layout:?}");
                        let found = collection.search().within(&queries, bound).expect("an answer");
                        assert!(bits(&found) == truth, "{label}");
                        let counted = collection.search().count_within(&queries, bound).expect("an answer");
                        assert_eq!(counted, truth.iter().map(Vec::len).collect::<Vec<_>>(), "{label}");
                    }
                }
            }
        }
    }
}

#[test]
fn many_queries_and_few_threads_or_many_change_nothing() {
    let mut random = Random(22);
    let (n, d) = (6000, 48);
    for metric in Metric::ALL {
        for kind in [Kind::Clusters, Kind::Cloud] {
            let (rows, queries) = case(&mut random, metric, kind, n, d, 150);
            let truth = truth(metric, &rows, &queries, d, 20);
            let bound = f64::from_bits(truth[0][19].1);
            let mut counts = Vec::new();
            for path in paths() {
                let layout = Layout { path, ..Layout::default() };
                let collection = Collection::with_layout(rows.clone(), d, metric, layout).expect("a collection");
                for threads in [1, 3] {
                    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool");
                    let search = collection.search().pool(&pool);
                    assert_eq!(bits(&search.nearest(&queries, 20).expect("an answer")), truth, "{metric:?} {path:?}");
                    // few queries are shared out by cells
                    let some = &queries[..50 * d];
                    let few = search.nearest(some, 20).expect("an answer");
                    assert_eq!(bits(&few), truth[..50], "{metric:?} {path:?}");
                    let within = search.within(&queries, bound).expect("an answer");
                    assert_eq!(bits(&within)[0], truth[0], "{metric:?} {path:?}");
                    let few = search.count_within(some, bound).expect("an answer");
                    counts.push(search.count_within(&queries, bound).expect("an answer"));
                    assert_eq!(counts[0], counts[counts.len() - 1]);
                    assert_eq!(counts[0], within.iter().map(Vec::len).collect::<Vec<_>>());
                    assert_eq!(counts[0][..50], few);
                }
            }
        }
    }
}

#[test]
fn rows_that_are_not_allowed_are_not_found() {
    let mut random = Random(23);
    for metric in Metric::ALL {
        for (n, d) in [(1, 3), (70, 4), (900, 24)] {
            let (rows, queries) = case(&mut random, metric, Kind::Clusters, n, d, 5);
            for one_of in [1, 2, 10, 29, 100, usize::MAX] {
                let allowed = Bitmap::of(n, |row| one_of < usize::MAX && (row * 7919) % one_of == 0);
                let all = truth(metric, &rows, &queries, d, n);
                let of_allowed = |of: &Vec<(usize, u64)>| {
                    of.iter().filter(|one| allowed.contains(one.0)).copied().collect::<Vec<(usize, u64)>>()
                };
                let all: Vec<Vec<(usize, u64)>> = all.iter().map(of_allowed).collect();
                for layout in layouts(n) {
                    let collection = Collection::with_layout(rows.clone(), d, metric, layout).expect("a collection");
                    let search = collection.search().allowed(&allowed);
                    for k in [1, 5, n] {
                        let found = search.nearest(&queries, k).expect("an answer");
                        let truth: Vec<_> = all.iter().map(|of| of[..k.min(of.len())].to_vec()).collect();
                        assert_eq!(bits(&found), truth, "{metric:?} n {n} one of {one_of} k {k} {layout:?}");
                    }
                    let Some(&(_, middle)) = all[0].get(all[0].len() / 2) else { continue };
                    let bound = f64::from_bits(middle);
                    let found = search.within(&queries[..d], bound).expect("an answer");
                    let key = |value: f64| if metric == Metric::Euclidean { value } else { -value };
                    let truth = all[0].iter().filter(|one| key(f64::from_bits(one.1)) <= key(bound)).count();
                    assert_eq!(bits(&found)[0], all[0][..truth]);
                    assert_eq!(search.count_within(&queries[..d], bound), Ok(vec![truth]));
                }
            }
        }
    }
}

#[test]
fn ids_name_rows_and_rows_break_ties() {
    let rows = vec![1.0, 0.0, 0.0, 2.0, 1.0, 0.0];
    let collection = Collection::new(rows, 2, Metric::Euclidean).expect("a collection");
    assert_eq!((collection.id(2), collection.id(3)), (Some(2), None));
    let collection = collection.with_ids(vec![900, u64::MAX, 7]).expect("ids");
    let found = collection.search().nearest(&[1.0, 0.0], 3).expect("an answer");
    let named: Vec<(usize, u64)> = found[0].iter().map(|one| (one.row, one.id)).collect();
    assert_eq!(named, [(0, 900), (2, 7), (1, u64::MAX)]);
    assert_eq!(collection.with_ids(vec![1]).err(), Some(Error::Ids { ids: 1, rows: 3 }));
}

#[test]
fn a_search_ends_when_it_is_cancelled() {
    let mut random = Random(24);
    for (metric, layout) in Metric::ALL.into_iter().zip(layouts(3000)) {
        let (rows, queries) = case(&mut random, metric, Kind::Clusters, 3000, 16, 100);
        let collection = Collection::with_layout(rows, 16, metric, layout).expect("a collection");
        let whole = collection.search().nearest(&queries, 3).expect("an answer");
        for after in [0, 1, 5] {
            let asked = AtomicUsize::new(0);
            // asks to end once, and not again: it was heard
            let cancelled = || asked.fetch_add(1, Ordering::Relaxed) == after;
            let search = collection.search().cancelled(&cancelled);
            assert_eq!(search.nearest(&queries, 3), Err(Error::Cancelled));
            asked.store(0, Ordering::Relaxed);
            assert_eq!(search.count_within(&queries, 0.1), Err(Error::Cancelled));
            // compared one by one
            let few = Bitmap::of(3000, |row| row < 40);
            asked.store(0, Ordering::Relaxed);
            assert_eq!(search.allowed(&few).nearest(&queries, 3), Err(Error::Cancelled));
        }
        let asked = AtomicUsize::new(0);
        let never = || asked.fetch_add(1, Ordering::Relaxed) == usize::MAX;
        assert_eq!(collection.search().cancelled(&never).nearest(&queries, 3), Ok(whole));
        assert!(asked.into_inner() > 1, "asked more than once");
    }
}

#[test]
fn what_is_wrong_is_an_error() {
    let new = |values: &[f32], d, metric| Collection::new(values.to_vec(), d, metric).err();
    let most = crate::MOST_NUMBERS;
    for metric in Metric::ALL {
        assert_eq!(new(&[], 0, metric), Some(Error::Dimension { given: 0, most }));
        assert_eq!(new(&[], most + 1, metric), Some(Error::Dimension { given: most + 1, most }));
        assert_eq!(new(&[1.0, 2.0, 3.0], 2, metric), Some(Error::Length { numbers: 3, dimension: 2 }));
        assert_eq!(new(&[1.0, 2.0, f32::NAN, 0.0], 2, metric), Some(Error::NotFinite(Given::Row(1))));
        assert_eq!(new(&[1.0, f32::INFINITY], 2, metric), Some(Error::NotFinite(Given::Row(0))));
        let zero = (metric == Metric::Cosine).then_some(Error::Zero(Given::Row(1)));
        assert_eq!(new(&[1.0, 2.0, 0.0, -0.0], 2, metric), zero);

        let empty = Collection::new(Vec::new(), 3, metric).expect("a collection without rows");
        assert_eq!(empty.search().nearest(&[1.0; 6], 4), Ok(vec![Vec::new(), Vec::new()]));
        assert_eq!(empty.search().count_within(&[1.0; 3], 1.0), Ok(vec![0]));

        let collection = Collection::new(vec![1.0, 2.0, 3.0, 4.0], 2, metric).expect("a collection");
        let search = collection.search();
        assert_eq!(search.nearest(&[], 1), Ok(Vec::new()));
        assert_eq!(search.nearest(&[1.0, 1.0], 0), Err(Error::K { k: 0, most: usize::MAX }));
        assert_eq!(search.nearest(&[1.0], 1), Err(Error::Length { numbers: 1, dimension: 2 }));
        assert_eq!(search.nearest(&[1.0, f32::NAN], 1), Err(Error::NotFinite(Given::Query(0))));
        let zero = (metric == Metric::Cosine).then_some(Error::Zero(Given::Query(1)));
        assert_eq!(search.nearest(&[1.0, 1.0, 0.0, 0.0], 1).err(), zero);
        assert_eq!(search.within(&[1.0, 1.0], f64::NAN), Err(Error::Bound));
        let other = Bitmap::new(3);
        assert_eq!(search.allowed(&other).nearest(&[1.0, 1.0], 1), Err(Error::Bitmap { bits: 3, rows: 2 }));
    }
}

#[test]
fn any_layout_will_do() {
    let mut random = Random(25);
    let (rows, queries) = case(&mut random, Metric::Euclidean, Kind::Cloud, 200, 40, 2);
    let truth = truth(Metric::Euclidean, &rows, &queries, 40, 5);
    for (k, some) in [0, 1, usize::MAX].into_iter().flat_map(|k| [(k, 0), (k, 1), (k, usize::MAX)]) {
        let layout = Layout { k, cells: Some(some), head: Some(some), ..Layout::default() };
        let collection = Collection::with_layout(rows.clone(), 40, Metric::Euclidean, layout).expect("a collection");
        assert_eq!(bits(&collection.search().nearest(&queries, 5).expect("an answer")), truth, "{layout:?}");
    }
    let all = [Path::Avx512Vnni, Path::Avx2, Path::Portable];
    for path in all.into_iter().filter(|path| !path.is_available()) {
        let layout = Layout { path, ..Layout::default() };
        let refused = Collection::with_layout(rows.clone(), 40, Metric::Cosine, layout);
        assert_eq!(refused.err(), Some(Error::Path(path.name())));
    }
}

#[test]
fn checked_banks_of_unit_vectors_say_what_is_wrong() {
    let bank = |values: &[f32]| Exact::checked(Rows::from(Vectors::new(values, 2)), Layout::default());
    assert_eq!(bank(&[]).err(), Some(Error::Empty));
    assert_eq!(bank(&[1.0, 0.0, 0.6, 0.9]).err(), Some(Error::NotUnit(Given::Row(1))));
    assert_eq!(bank(&[1.0, 0.0, f32::NAN, 0.0]).err(), Some(Error::NotFinite(Given::Row(1))));
    let bank = bank(&[1.0, 0.0, 0.0, -1.0]).expect("a bank");
    let (one, far) = ([1.0, 0.0], [2.0, 0.0]);
    let (query, question) = (Vectors::new(&one, 2), crate::Question::all(2));
    assert_eq!(bank.accepts(query, question), Ok(()));
    assert_eq!(bank.kth_distances(query, 2), [2f32.sqrt()]);
    assert_eq!(bank.accepts(query, crate::Question::all(3)), Err(Error::K { k: 3, most: 2 }));
    assert_eq!(bank.accepts(Vectors::new(&far, 2), question), Err(Error::NotUnit(Given::Query(0))));
    assert_eq!(bank.accepts(Vectors::new(&one, 1), question), Err(Error::OtherDimension { given: 1, wanted: 2 }));
    let bounds = crate::Question::within(1, crate::Bound::Each(&[0.5, 0.5]));
    assert_eq!(bank.accepts(query, bounds), Err(Error::PerQuery));
}

#[test]
fn errors_say_what_and_what_to_do() {
    let said = |error: Error| error.to_string();
    assert_eq!(
        said(Error::NotFinite(Given::Query(4))),
        "query 4 has a number that is NaN or infinite: leave that vector out"
    );
    assert_eq!(said(Error::K { k: 3, most: 2 }), "k = 3: 1 to 2 is possible");
    assert_eq!(said(Error::K { k: 0, most: usize::MAX }), "k = 0: 1 or more is possible");
}
