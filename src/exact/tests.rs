//! The fast searches against the slow twin, bit for bit, on easy and on adversarial data; every path of this processor.

use std::os::unix::fs::FileExt;

use rayon::ThreadPoolBuilder;

use crate::file::Header;
use crate::principal::Random;
use crate::{
    Bound, Exact, Kth, Layout, Path, Question, RowNumber, Rows, Running, Sampling, Stored, Vectors, distance,
    kth_distances_brute,
};

/// Normally distributed enough: the sum of a few uniform numbers.
fn normal(random: &mut Random) -> f32 {
    (0..6).map(|_| random.unit() - 0.5).sum::<f32>() * 1.414
}

fn normals(random: &mut Random, count: usize) -> Vec<f32> {
    (0..count).map(|_| normal(random)).collect()
}

/// Rows to norm one in f64, then to f32: norms a little above and a little below one.
pub(crate) fn normalise(values: &mut [f32], d: usize) {
    for row in values.chunks_exact_mut(d) {
        let norm = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        if norm > 0.0 {
            row.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
        } else {
            row[0] = 1.0;
        }
    }
}

fn units(random: &mut Random, n: usize, d: usize) -> Vec<f32> {
    let mut values = normals(random, n * d);
    normalise(&mut values, d);
    values
}

/// Unit vectors around `centres` of spread `noise` per coordinate.
fn around(random: &mut Random, centres: &[f32], n: usize, d: usize, noise: f32) -> Vec<f32> {
    let count = centres.len() / d;
    let mut values = Vec::with_capacity(n * d);
    for _ in 0..n {
        let centre = random.below(count);
        values.extend(centres[centre * d..][..d].iter().map(|&c| c + noise * normal(random)));
    }
    normalise(&mut values, d);
    values
}

pub(crate) fn rows(values: &[f32], d: usize) -> Rows {
    Vectors::new(values, d).into()
}

/// A bank in blocks of so many rows, the last ones first: in which order they are shown plays no part.
fn blocks(bank: &[f32], d: usize, length: usize, path: Path) -> Vec<Exact> {
    let block = |(first, block): (usize, &[f32])| {
        let numbers =
            (first * length..first * length + block.len() / d).map(|number| RowNumber(number as u32)).collect();
        Exact::block(rows(block, d), numbers, path)
    };
    bank.chunks(length * d).enumerate().map(block).rev().collect()
}

fn row(values: &[f32], d: usize, i: usize) -> &[f32] {
    &values[i * d..(i + 1) * d]
}

/// Every path to test, the one without special instructions always.
pub(crate) fn paths() -> Vec<Path> {
    let mut paths = Path::available();
    if !paths.contains(&Path::Portable) {
        paths.push(Path::Portable);
    }
    paths
}

/// Layouts that lead through different code, for each path.
fn layouts(cells: &[Option<usize>], heads: &[Option<usize>]) -> Vec<Layout> {
    let mut all = Vec::new();
    for path in paths() {
        // without codes of 8 bits the length of a head plays no part: one is enough
        let heads = if path == Path::Avx512Vnni { heads } else { &heads[..1] };
        for &cells in cells {
            for &head in heads {
                all.push(Layout { k: 50, cells, head, path });
            }
        }
    }
    all
}

const WHOLE: Option<usize> = Some(usize::MAX);
const HEADS: [Option<usize>; 5] = [None, Some(16), Some(32), Some(64), WHOLE];

/// All distances of each query, ascending, in f64.
pub(crate) fn sorted(bank: &[f32], queries: &[f32], d: usize) -> Vec<Vec<f64>> {
    let mut all = Vec::new();
    for query in queries.chunks_exact(d) {
        let mut to: Vec<f64> = bank.chunks_exact(d).map(|row| distance(query, row)).collect();
        to.sort_unstable_by(f64::total_cmp);
        all.push(to);
    }
    all
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// k-th distances for each k, with each layout, against the truth.
fn check(name: &str, bank: &[f32], queries: &[f32], d: usize, ks: &[usize], layouts: &[Layout]) {
    let truth = sorted(bank, queries, d);
    let n = bank.len() / d;
    for &layout in layouts {
        let exact = Exact::new(rows(bank, d), layout);
        for &k in ks {
            let k = k.clamp(1, n);
            let found = exact.kth_distances(Vectors::new(queries, d), k);
            assert_eq!(found.len(), truth.len());
            for (i, (found, truth)) in found.iter().zip(&truth).enumerate() {
                let truth = truth[k - 1] as f32;
                assert!(
                    found.to_bits() == truth.to_bits(),
                    "{name}: n {n}, d {d}, k {k}, query {i}, {layout:?}, {}: found {found:e}, true {truth:e}",
                    exact.describe()
                );
            }
        }
    }
}

/// `within` for cutoffs at, next to and far from the k-th distance, against the truth.
fn check_within(name: &str, bank: &[f32], queries: &[f32], d: usize, ks: &[usize], layouts: &[Layout]) {
    let truth = sorted(bank, queries, d);
    let n = bank.len() / d;
    for &layout in layouts {
        let exact = Exact::new(rows(bank, d), layout);
        for &k in ks {
            let k = k.clamp(1, n);
            let kth: Vec<f32> = truth.iter().map(|all| all[k - 1] as f32).collect();
            let cutoffs: [&dyn Fn(f32) -> f32; 14] = [
                &|kth| kth,
                &|kth| kth.next_up(),
                &|kth| kth.next_down(),
                &|kth| kth * 0.99,
                &|kth| kth * 1.01,
                &|kth| kth * (1.0 - 3e-6),
                &|kth| kth * (1.0 + 3e-6),
                &|_| 0.0,
                &|_| -0.5,
                &|_| 0.3,
                &|_| 2.0,
                &|_| f32::INFINITY,
                &|_| f32::NEG_INFINITY,
                &|_| f32::NAN,
            ];
            for (number, cutoff) in cutoffs.iter().enumerate() {
                let asked: Vec<f32> = kth.iter().map(|&kth| cutoff(kth)).collect();
                let found = exact.within(Vectors::new(queries, d), k, &asked);
                // comparing with NaN is false, as with any distance
                let expected: Vec<bool> = kth.iter().zip(&asked).map(|(kth, cutoff)| kth <= cutoff).collect();
                assert_eq!(found, expected, "{name}: cutoff {number}, n {n}, d {d}, k {k}, {layout:?}");
            }
        }
    }
}

#[test]
fn shapes() {
    let mut random = Random(1);
    for d in [1, 2, 3, 15, 16, 17, 31, 33, 63, 65, 100, 257, 1025, 4096] {
        for n in [1, 7, 300, 2500] {
            // long rows with one n each: directions take their time in a test
            if d == 4096 && n != 300 || d > 100 && n > 300 {
                continue;
            }
            let m = 7;
            let bank = units(&mut random, n, d);
            let mut queries = units(&mut random, m - 1, d);
            queries.extend(row(&bank, d, n / 2));
            let many = if d < 1000 { vec![None, Some(1), Some(n / 5)] } else { vec![Some(9)] };
            let heads: &[Option<usize>] = if d < 1000 { &HEADS } else { &[Some(64), WHOLE] };
            let ks = [1, 2, 50, n / 2, n.saturating_sub(1), n];
            // all of them where they are quick to lay out, else one after the other
            let mut layouts = layouts(&many, heads);
            if n * d > 50_000 {
                let keep = d % 4;
                layouts = layouts.into_iter().enumerate().filter(|(i, _)| i % 4 == keep).map(|(_, l)| l).collect();
                layouts.extend(paths().into_iter().map(|path| Layout { path, ..Layout::default() }));
            }
            check("shapes", &bank, &queries, d, &ks, &layouts);
        }
    }
}

/// Banks that are hard in one way or another, with queries: (name, bank, queries, d).
pub(crate) fn hard(random: &mut Random) -> Vec<(&'static str, Vec<f32>, Vec<f32>, usize)> {
    let mut all = Vec::new();
    let (n, d) = (1500, 64);

    let few = units(random, 5, d);
    let ties: Vec<f32> = (0..n).flat_map(|i| row(&few, d, i * i % 5).to_vec()).collect();
    let mut queries = units(random, 6, d);
    queries.extend(row(&few, d, 0));
    all.push(("ties", ties, queries.clone(), d));
    all.push(("copies", row(&few, d, 0).repeat(n), queries, d));

    for (name, noise) in [("near 1e-4", 1e-4), ("near 1e-6", 1e-6), ("near 1e-7", 1e-7)] {
        // collapsed features: a few coordinates differ
        let base = units(random, 1, d);
        let mut bank = base.repeat(n);
        for row in bank.chunks_exact_mut(d) {
            for _ in 0..3 {
                row[random.below(d)] += noise * normal(random);
            }
        }
        normalise(&mut bank, d);
        let mut queries = bank[..3 * d].to_vec();
        queries.extend(around(random, &base, 3, d, noise));
        queries.extend(&base);
        queries.extend(units(random, 3, d));
        all.push((name, bank, queries, d));
    }
    for (name, noise) in [("cluster 1e-3", 1e-3), ("cluster 1e-5", 1e-5)] {
        let centres = units(random, 8, d);
        let bank = around(random, &centres, n, d, noise);
        let mut queries = around(random, &centres, 4, d, noise);
        queries.extend(&centres[..2 * d]);
        queries.extend(around(random, &centres, 3, d, 0.1));
        queries.extend(row(&bank, d, 17));
        all.push((name, bank, queries, d));
    }

    let mut one_hot: Vec<f32> = normals(random, n * d).iter().map(|v| 0.01 * v).collect();
    one_hot.chunks_exact_mut(d).enumerate().for_each(|(i, row)| row[i * 7 % d] = if i % 3 == 0 { -1.0 } else { 1.0 });
    normalise(&mut one_hot, d);
    let mut queries = one_hot[5 * d..8 * d].to_vec();
    queries.extend(units(random, 3, d));
    queries.extend((0..d).map(|i| if i == 3 { 1.0 } else { 0.0 }));
    all.push(("one-hot", one_hot, queries, d));

    let axes: Vec<f32> =
        (0..2 * d * d).map(|i| if i / d % d == i % d { [1.0, -1.0][i / (d * d)] } else { 0.0 }).collect();
    let mut queries = axes[..4 * d].to_vec();
    queries.extend(units(random, 2, d));
    all.push(("axes", axes, queries, d));

    let corners: Vec<f32> = (0..n * d).map(|_| if random.below(2) == 0 { 0.125 } else { -0.125 }).collect();
    let mut queries = corners[..4 * d].to_vec();
    queries.extend(units(random, 2, d));
    all.push(("corners", corners, queries, d));

    let bank = units(random, n, d);
    let mut queries: Vec<f32> = bank[..6 * d].iter().map(|v| -v).collect();
    queries.extend(&bank[10 * d..14 * d]);
    all.push(("antipodes and bank rows", bank, queries, d));

    let mut heavy: Vec<f32> = normals(random, n * d).iter().map(|v| v.powi(5)).collect();
    normalise(&mut heavy, d);
    let mut queries = heavy[..2 * d].to_vec();
    let mut more: Vec<f32> = normals(random, 5 * d).iter().map(|v| v.powi(5)).collect();
    normalise(&mut more, d);
    queries.extend(more);
    all.push(("heavy tails", heavy, queries, d));

    let d = 128;
    let rank = 5;
    let basis = normals(random, rank * d);
    let combine = |random: &mut Random, count: usize| -> Vec<f32> {
        let mut values = Vec::new();
        for _ in 0..count {
            let weights = normals(random, rank);
            values.extend((0..d).map(|j| (0..rank).map(|i| weights[i] * basis[i * d + j]).sum::<f32>()));
        }
        normalise(&mut values, d);
        values
    };
    let bank = combine(random, n);
    let mut queries = combine(random, 4);
    queries.extend(units(random, 4, d));
    all.push(("rank 5, some queries far outside", bank, queries, d));

    // few directions and a little noise: heads and tails both matter
    let centres = combine(random, 40);
    let bank = around(random, &centres, n, d, 0.02);
    let mut queries = around(random, &centres, 5, d, 0.02);
    queries.extend(around(random, &centres, 3, d, 0.2));
    all.push(("rank 5 and noise", bank, queries, d));

    // a far group has the neighbours, a nearer one the rows
    let d = 33;
    let centre = units(random, 1, d);
    let mut bank = around(random, &centre, n - 60, d, 0.001);
    bank.extend(units(random, 60, d));
    let queries = units(random, 8, d);
    all.push(("one dense cell", bank, queries, d));
    all
}

#[test]
fn hard_banks() {
    for (name, bank, queries, d) in hard(&mut Random(2)) {
        let n = bank.len() / d;
        let layouts = layouts(&[None, Some(1), Some(40)], &HEADS);
        check(name, &bank, &queries, d, &[1, 2, 50, n / 2, n], &layouts);
    }
}

#[test]
fn within_is_kth_at_most_the_cutoff() {
    for (name, bank, queries, d) in hard(&mut Random(3)) {
        let n = bank.len() / d;
        check_within(name, &bank, &queries, d, &[1, 50, n / 2], &layouts(&[None, Some(1)], &[None, Some(32), WHOLE]));
    }
    let mut random = Random(4);
    let bank = units(&mut random, 7, 3);
    let queries = units(&mut random, 5, 3);
    check_within("small", &bank, &queries, 3, &[1, 7], &layouts(&[None], &[None]));
}

#[test]
fn one_row_and_no_queries() {
    let mut random = Random(5);
    for d in [1, 16, 40] {
        let bank = units(&mut random, 1, d);
        let queries = units(&mut random, 70, d);
        check("one row", &bank, &queries, d, &[1], &layouts(&[None, Some(0), Some(3)], &[None, Some(0), Some(16)]));
        for layout in layouts(&[None], &HEADS) {
            let exact = Exact::new(rows(&bank, d), layout);
            assert_eq!((exact.len(), exact.dimension(), exact.is_empty()), (1, d, false));
            assert!(exact.kth_distances(Vectors::new(&[], d), 1).is_empty());
            assert!(exact.within(Vectors::new(&[], d), 1, &[]).is_empty());
        }
    }
}

/// Numbers of queries, threads and batches, cells, heads and paths: one result. Banks large enough that all threads
/// work on few queries, and that many queries are split.
#[test]
fn nothing_but_the_data_matters() {
    let mut random = Random(6);
    let (n, d, m) = (2500, 64, 500);
    let centres = units(&mut random, 20, d);
    let mut bank = around(&mut random, &centres, n - 100, d, 0.07);
    bank.extend(row(&centres, d, 0).repeat(100));
    let mut queries = around(&mut random, &centres, m - 40, d, 0.1);
    queries.extend(units(&mut random, 30, d));
    queries.extend(&bank[(n - 10) * d..]);
    let asked = Vectors::new(&queries, d);
    let truth = sorted(&bank, &queries, d);
    for k in [1, 50, 120] {
        let kth: Vec<f32> = truth.iter().map(|all| all[k - 1] as f32).collect();
        let cutoffs: Vec<f32> =
            (0..m).map(|i| [kth[i], kth[i].next_down(), kth[i].next_up(), kth[0], 0.5][i % 5]).collect();
        let inside: Vec<bool> = kth.iter().zip(&cutoffs).map(|(kth, cutoff)| kth <= cutoff).collect();
        for layout in layouts(&[None, Some(70)], &[None, Some(16), WHOLE]) {
            let exact = Exact::new(rows(&bank, d), layout);
            for threads in [1, 2, 3, 7] {
                let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| {
                    assert_eq!(
                        bits(&exact.kth_distances(asked, k)),
                        bits(&kth),
                        "k {k}, {threads} threads, {layout:?}"
                    );
                    assert_eq!(exact.within(asked, k, &cutoffs), inside, "k {k}, {threads} threads, {layout:?}");
                    for count in [1, 5, 64, 65] {
                        let from = 7 * count;
                        let some = asked.rows(from, from + count.min(m - from));
                        let to = from + some.len();
                        assert_eq!(
                            bits(&exact.kth_distances(some, k)),
                            bits(&kth[from..to]),
                            "{count} queries, {layout:?}"
                        );
                        assert_eq!(exact.within(some, k, &cutoffs[from..to]), inside[from..to], "{count}, {layout:?}");
                    }
                });
            }
        }
    }
}

/// Few queries, many numbers: cells are shared among threads.
#[test]
fn few_queries_many_threads() {
    let mut random = Random(7);
    let (n, d) = (2600, 1030);
    let centres = units(&mut random, 12, d);
    let bank = around(&mut random, &centres, n, d, 0.01);
    let queries = around(&mut random, &centres, 5, d, 0.02);
    let truth = sorted(&bank, &queries, d);
    for layout in layouts(&[Some(30)], &[WHOLE]) {
        let exact = Exact::new(rows(&bank, d), layout);
        for threads in [1, 3] {
            let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                for (k, count) in [(1, 1), (1, 4), (50, 5), (700, 4), (n, 5)] {
                    let kth: Vec<f32> = truth[..count].iter().map(|all| all[k - 1] as f32).collect();
                    let asked = Vectors::new(&queries[..count * d], d);
                    assert_eq!(bits(&exact.kth_distances(asked, k)), bits(&kth), "k {k}, {layout:?}");
                    assert!(exact.within(asked, k, &kth).iter().all(|&near| near));
                    let less: Vec<f32> = kth.iter().map(|v| v.next_down()).collect();
                    assert!(!exact.within(asked, k, &less).iter().any(|&near| near));
                }
            });
        }
    }
}

/// Rows whose codes miss them entirely: one row with a large coordinate sets the scale of the cell, and half a step
/// of it is all that the others have. Codes alone say that they are √2 times their distance from the centroid away.
#[test]
fn codes_of_rows_that_miss_everything() {
    let d = 256;
    let mut random = Random(8);
    let mut bank = Vec::new();
    for i in 0..600 {
        // coordinate 0 is one; the others ±0.45 of a step where a step is about 1/127
        let size = 0.0030 + 0.0005 * (i as f32 / 600.0);
        bank.extend((0..d).map(|j| {
            if j == 0 {
                1.0
            } else if random.below(2) == 0 {
                size
            } else {
                -size
            }
        }));
    }
    normalise(&mut bank, d);
    for _ in 0..4 {
        let mut far = vec![0.0; d];
        far[0] = -1.0;
        bank.extend(far);
    }
    let mut queries = bank[..8 * d].to_vec();
    queries.extend(&bank[590 * d..600 * d]);
    let between: Vec<f32> = (0..8)
        .flat_map(|i| (0..d).map(move |j| (i, j)))
        .map(|(i, j)| bank[i * d + j] + bank[(599 - i) * d + j])
        .collect();
    queries.extend(between);
    let from = 18 * d;
    normalise(&mut queries[from..], d);
    check("missed rows", &bank, &queries, d, &[1, 2, 3, 100], &layouts(&[Some(1)], &[WHOLE, Some(16), None]));
}

/// A query whose codes miss what matters: one large coordinate that no row shares sets its scale, and what it has in
/// common with its nearest rows is below half a step.
#[test]
fn codes_of_queries_that_miss_everything() {
    let d = 256;
    let mut random = Random(9);
    let small: Vec<f32> = (0..d).map(|j| if j < 2 || random.below(2) == 0 { 0.0034 } else { -0.0034 }).collect();
    let mut bank = Vec::new();
    for i in 0..900 {
        // coordinate 1 is one; most rows lie nearer to the centre, a few point where the query points
        let mut x: Vec<f32> = (0..d).map(|_| 0.0002 * normal(&mut random)).collect();
        let share = if i >= 860 { 0.5 + 0.0001 * i as f32 } else { 0.02 * random.unit() };
        x.iter_mut().zip(&small).for_each(|(x, small)| *x += share * small);
        (x[0], x[1]) = (0.0, 1.0);
        bank.extend(x);
    }
    normalise(&mut bank, d);
    let mut queries = Vec::new();
    for i in 0..10 {
        let mut q = small.clone();
        (q[0], q[1]) = (0.9 + 0.01 * i as f32, 1.0);
        queries.extend(q);
    }
    normalise(&mut queries, d);
    check("missed queries", &bank, &queries, d, &[1, 2, 10, 40], &layouts(&[Some(1)], &[WHOLE, Some(16), None]));
}

/// Tails that decide: heads are equal, what they leave out is not.
#[test]
fn tails_decide() {
    let (n, d) = (1500, 128);
    let mut random = Random(10);
    let basis = normals(&mut random, 16 * d);
    let mut bank = Vec::new();
    for _ in 0..n {
        let weights = normals(&mut random, 16);
        let tail = normals(&mut random, d);
        bank.extend((0..d).map(|j| (0..16).map(|i| weights[i] * basis[i * d + j]).sum::<f32>() + 0.4 * tail[j]));
    }
    normalise(&mut bank, d);
    let mut queries = bank[..4 * d].to_vec();
    // heads of rows with tails turned round, and with none
    let mut more = around(&mut random, &bank[..30 * d], 8, d, 0.05);
    normalise(&mut more, d);
    queries.extend(more);
    check("tails", &bank, &queries, d, &[1, 5, 50], &layouts(&[None, Some(1)], &HEADS));
}

/// More rows than a query keeps, all as far away as f32 can tell, and none a copy.
#[test]
fn more_near_ties_than_are_kept() {
    let (n, d) = (9000, 17);
    let mut random = Random(11);
    let base = units(&mut random, 1, d);
    let mut bank = base.repeat(n);
    for row in bank.chunks_exact_mut(d) {
        for value in row.iter_mut() {
            *value += 2e-7 * normal(&mut random);
        }
    }
    let queries = units(&mut random, 4, d);
    check("near ties", &bank, &queries, d, &[1, 2, 50, 3000], &layouts(&[None, Some(1)], &[None]));
}

/// Normalised in f32 with a plain sum: norms differ from one by far more than half a unit in the last place.
#[test]
fn norms_as_f32_leaves_them() {
    let mut random = Random(12);
    for (n, d) in [(700, 48), (210, 1024)] {
        let mut values = normals(&mut random, n * d);
        for row in values.chunks_exact_mut(d) {
            let norm = row.iter().fold(0.0f32, |sum, v| sum + v * v).sqrt();
            row.iter_mut().for_each(|v| *v *= 1.0 / norm);
        }
        let norms = |values: &[f32]| -> Vec<f64> {
            values.chunks_exact(d).map(|row| row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>()).collect()
        };
        assert!(
            norms(&values).iter().any(|&norm| norm > 1.0 + 1e-7)
                && norms(&values).iter().any(|&norm| norm < 1.0 - 1e-7)
        );
        let queries = values.split_off((n - 10) * d);
        check("norms", &values, &queries, d, &[1, 50, n], &layouts(&[Some(4), Some(1)], &[None, Some(16), WHOLE]));
    }
    // as long as the bounds allow: all of one side
    let d = 40;
    for factor in [1.0 + 8e-7, 1.0 - 8e-7] {
        let centres = units(&mut random, 6, d);
        let mut bank = around(&mut random, &centres, 900, d, 1e-4);
        let mut queries = around(&mut random, &centres, 10, d, 1e-4);
        bank.iter_mut().chain(&mut queries).for_each(|v| *v = (f64::from(*v) * factor) as f32);
        check("long", &bank, &queries, d, &[1, 50, 900], &layouts(&[None, Some(1)], &[None, Some(16), WHOLE]));
    }
}

/// Tiny numbers: squares that underflow must neither hide a row nor make one nearer.
#[test]
fn numbers_that_underflow() {
    let d = 20;
    let mut random = Random(13);
    let mut bank = Vec::new();
    for i in 0..400 {
        let mut x = vec![0.0f32; d];
        x[0] = 1.0;
        x[1 + random.below(d - 1)] =
            [1e-18, 1e-20, 1e-22, 1e-23, 1e-30, f32::MIN_POSITIVE, 1e-44, 0.0][i % 8] * normal(&mut random);
        bank.extend(x);
    }
    let queries = bank[..16 * d].to_vec();
    let layouts = layouts(&[None, Some(1)], &[None, WHOLE]);
    check("underflow", &bank, &queries, d, &[1, 2, 50, 200, 400], &layouts);
    check_within("underflow", &bank, &queries, d, &[1, 2, 50, 200, 400], &layouts);
}

/// A bank shown block by block, in blocks of any length, gives what the bank in memory gives.
#[test]
fn banks_in_blocks() {
    for (name, bank, queries, d) in hard(&mut Random(17)) {
        let (n, m) = (bank.len() / d, queries.len() / d);
        let truth = sorted(&bank, &queries, d);
        let asked = Vectors::new(&queries, d);
        for path in paths() {
            for length in [n, 600, 130] {
                let blocks = blocks(&bank, d, length, path);
                for k in [1, 50, n / 2, n] {
                    let mut running = Running::new(m, Question::all(k));
                    assert!(running.found().iter().all(|&kth| kth == Kth::Beyond));
                    blocks.iter().for_each(|block| running.visit(block, asked));
                    let kth: Vec<f32> = truth.iter().map(|all| all[k - 1] as f32).collect();
                    let found: Vec<f32> = running.found().into_iter().map(Kth::distance).collect();
                    assert_eq!(bits(&found), bits(&kth), "{name}: k {k}, blocks of {length}, {path:?}");
                    let cutoffs: [&dyn Fn(f32) -> f32; 9] = [
                        &|kth| kth,
                        &|kth| kth.next_up(),
                        &|kth| kth.next_down(),
                        &|kth| kth * 1.01,
                        &|_| 0.0,
                        &|_| -0.5,
                        &|_| 2.0,
                        &|_| f32::INFINITY,
                        &|_| f32::NAN,
                    ];
                    for (number, cutoff) in cutoffs.iter().enumerate() {
                        let cutoffs: Vec<f32> = kth.iter().map(|&kth| cutoff(kth)).collect();
                        let mut running = Running::new(m, Question::within(k, Bound::Each(&cutoffs)));
                        blocks.iter().for_each(|block| running.visit(block, asked));
                        let expected: Vec<bool> = kth.iter().zip(&cutoffs).map(|(kth, cutoff)| kth <= cutoff).collect();
                        let found: Vec<bool> = running.found().iter().map(|&kth| kth == Kth::Within).collect();
                        assert_eq!(found, expected, "{name}: k {k}, blocks of {length}, cutoff {number}, {path:?}");
                    }
                }
            }
        }
    }
}

/// Floors, ceilings and vectors that are left out, whatever holds the bank; and the nearest vectors themselves.
#[test]
fn questions() {
    for (name, bank, queries, d) in hard(&mut Random(23)) {
        let (n, m) = (bank.len() / d, queries.len() / d);
        let asked = Vectors::new(&queries, d);
        // every third query leaves out the vector nearest to it, every third another one
        let all: Vec<Vec<(f64, RowNumber)>> = (0..m)
            .map(|query| {
                let to = |i: usize| (distance(row(&queries, d, query), row(&bank, d, i)), RowNumber(i as u32));
                let mut all: Vec<(f64, RowNumber)> = (0..n).map(to).collect();
                all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                all
            })
            .collect();
        let excluded: Vec<Option<RowNumber>> =
            (0..m).map(|i| [Some(all[i][0].1), None, Some(RowNumber((i * 7 % n) as u32))][i % 3]).collect();
        for path in paths() {
            let layout = Layout { path, ..Layout::default() };
            let exact = Exact::new(rows(&bank, d), layout);
            let blocks = blocks(&bank, d, 600, path);
            for k in [1, 50, n / 2, n - 1] {
                let left: Vec<Vec<(RowNumber, f32)>> = (0..m)
                    .map(|i| {
                        let others = all[i].iter().filter(|&&(_, number)| Some(number) != excluded[i]).take(k);
                        others.map(|&(distance, number)| (number, distance as f32)).collect()
                    })
                    .collect();
                let label = format!("{name}: k {k}, {path:?}");
                assert!(exact.nearest(asked, k, Some(&excluded)) == left, "{label}");
                let mut running = Running::new(m, Question { excluded: Some(&excluded), ..Question::all(k) });
                blocks.iter().for_each(|block| running.visit(block, asked));
                let shown: Vec<Vec<(RowNumber, f32)>> = running
                    .nearest()
                    .iter()
                    .map(|near| near.iter().map(|&(distance, number)| (number, distance as f32)).collect())
                    .collect();
                assert!(shown == left, "{label}, blocks");
                let kth: Vec<f32> = left.iter().map(|left| left[k - 1].1).collect();
                let some = |share: f32| -> Vec<f32> {
                    kth.iter().enumerate().map(|(i, kth)| [*kth, kth * share, f32::NAN, -1.0][i % 4]).collect()
                };
                let (low, high) = (some(0.9), some(1.1));
                for (number, (floors, ceilings)) in [
                    (None, None),
                    (Some(&low[..]), None),
                    (Some(&high[..]), None),
                    (None, Some(&low[..])),
                    (None, Some(&high[..])),
                    (Some(&low[..]), Some(&high[..])),
                    (Some(&high[..]), Some(&low[..])),
                ]
                .into_iter()
                .enumerate()
                {
                    let (floor, ceiling) = (floors.map(Bound::Each), ceilings.map(Bound::Each));
                    let question = Question { k, floor, ceiling, excluded: Some(&excluded) };
                    let expected: Vec<Kth> = kth
                        .iter()
                        .enumerate()
                        .map(|(i, &kth)| match (floors, ceilings) {
                            (Some(floors), _) if kth <= floors[i] => Kth::Within,
                            (_, Some(ceilings)) if kth <= ceilings[i] => Kth::At(kth),
                            (_, Some(_)) => Kth::Beyond,
                            _ => Kth::At(kth),
                        })
                        .collect();
                    // below a ceiling that is lower than the floor, either is an answer
                    let agrees = |(found, expected): (&Kth, &Kth)| found == expected || *found == Kth::Beyond;
                    let crossed = number == 6;
                    let same = |found: Vec<Kth>| {
                        if crossed { found.iter().zip(&expected).all(agrees) } else { found == expected }
                    };
                    let found = exact.find(asked, question);
                    let first = found.iter().zip(&expected).position(|(found, expected)| found != expected);
                    assert!(same(found), "{label}: query {first:?} of {question:?}");
                    let mut running = Running::new(m, question);
                    blocks.iter().for_each(|block| running.visit(block, asked));
                    assert!(same(running.found()), "{label}, blocks");
                }
            }
        }
    }
}

/// A path that the processor lacks is refused before anything is computed by it (once, cells were found first, and the
/// process died of an instruction that it has not): its instructions would be undefined behaviour.
#[test]
fn missing_paths_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("bank");
    let mut random = Random(35);
    for (n, d) in [(1, 1), (300, 70)] {
        let bank = units(&mut random, n, d);
        let ids: Vec<u64> = (0..n as u64).collect();
        file(&bank, d, &ids, Layout::default(), &at);
        for path in [Path::Avx512Vnni, Path::Avx2, Path::Portable] {
            let there = path == Path::Portable || Path::available().contains(&path);
            let layout = Layout { path, ..Layout::default() };
            let made = |make: &(dyn Fn() + std::panic::RefUnwindSafe)| std::panic::catch_unwind(make).is_ok();
            let numbers = || (0..n as u32).map(RowNumber).collect();
            assert_eq!(made(&|| drop(Exact::new(rows(&bank, d), layout))), there, "{path:?}");
            assert_eq!(made(&|| drop(Exact::block(rows(&bank, d), numbers(), path))), there, "{path:?}");
            assert_eq!(made(&|| drop(Stored::open(&at).unwrap().load(path, 0))), there, "{path:?}");
            let other = folder.path().join("other");
            assert_eq!(made(&|| file(&bank, d, &ids, layout, &other)), there, "{path:?}");
            assert_eq!(Exact::checked(rows(&bank, d), layout).is_ok(), there, "{path:?}");
        }
    }
}

#[test]
fn brute_force_is_the_sorted_truth() {
    let mut random = Random(14);
    let bank = units(&mut random, 50, 19);
    let queries = units(&mut random, 4, 19);
    let truth: Vec<f32> = sorted(&bank, &queries, 19).iter().map(|all| all[6] as f32).collect();
    assert_eq!(kth_distances_brute(Vectors::new(&bank, 19), Vectors::new(&queries, 19), 7), truth);
}

#[test]
fn work_is_counted_and_less_than_everything() {
    let mut random = Random(15);
    let (n, d) = (4000, 48);
    let centres = units(&mut random, 40, d);
    let bank = around(&mut random, &centres, n, d, 0.01);
    let queries = around(&mut random, &centres, 100, d, 0.01);
    for layout in layouts(&[Some(40)], &[WHOLE]) {
        let exact = Exact::new(rows(&bank, d), layout);
        exact.kth_distances(Vectors::new(&queries, d), 10);
        let work = exact.work();
        assert_eq!(work.queries, 100);
        assert!(work.visits >= 100 && work.visits < 100 * 20, "{work:?}");
        assert!(work.estimated < (100 * n / 2) as u64, "{work:?}");
        assert!(work.computed >= 100 * 10 && work.computed <= work.estimated + 100 * 16, "{work:?}");
    }
}

/// Sums of products are off by no more than is said, whatever the path, the number of rows and the number of vectors.
#[test]
fn products_keep_their_bound() {
    use crate::lanes::{Line, floats, to_lines};
    use crate::product::{Table, dots, panel, products};
    use crate::slack::{gamma, product_roundings};
    let mut random = Random(18);
    for (n, d) in [(1, 1), (5, 17), (13, 64), (30, 65), (25, 700), (7, 4096)] {
        let (rows, vectors) = (units(&mut random, n, d), units(&mut random, 16, d));
        let truth = |i: usize, j: usize| -> f64 {
            row(&rows, d, i).iter().zip(row(&vectors, d, j)).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        for path in paths() {
            for count in [1, 3, 16] {
                let (mut lines, mut sums) = (Vec::new(), vec![Line([f32::NAN; 16]); n]);
                panel(vectors.chunks_exact(d).take(count), d, &mut lines);
                products(path, &Table::new(path, rows.chunks_exact(d), d), &lines, &mut sums);
                let (in_lines, vector) = (to_lines(Vectors::new(&rows, d)), to_lines(Vectors::new(&vectors[..d], d)));
                let mut one = vec![f32::NAN; n];
                dots(path, &in_lines, &vector, &mut one);
                for (i, &one) in one.iter().enumerate() {
                    for j in 0..16 {
                        let expected = if j < count { truth(i, j) } else { 0.0 };
                        let found = f64::from(floats(&sums)[i * 16 + j]);
                        assert!(
                            (found - expected).abs() <= gamma(product_roundings(d)),
                            "{n}×{d}, {path:?}, row {i}, vector {j}"
                        );
                    }
                    assert!(
                        (f64::from(one) - truth(i, 0)).abs() <= gamma(product_roundings(d)),
                        "{n}×{d}, {path:?}, row {i}"
                    );
                }
            }
        }
    }
}

/// Write a bank into a file, its rows' ids as given.
fn file(bank: &[f32], d: usize, ids: &[u64], layout: Layout, to: &std::path::Path) {
    let mut sampling = Sampling::new(bank.len() / d, d, layout);
    bank.chunks_exact(d).for_each(|row| sampling.see(row));
    let mut placing = sampling.placing();
    bank.chunks_exact(d).zip(ids).for_each(|(row, &id)| placing.place(id, row));
    let mut filing = placing.filing(to, "a note").unwrap();
    bank.chunks_exact(d).for_each(|row| filing.add(row).unwrap());
    filing.finish().unwrap();
}

/// Banks out of a file: in memory, and where the path allows it with rows left there.
fn opened(from: &std::path::Path, path: Path, more: usize) -> Vec<(Exact, Vec<u64>)> {
    let mut all = vec![Stored::open(from).unwrap().load(path, more).unwrap()];
    if path == Path::Avx512Vnni && Stored::open(from).unwrap().search_in_place(path).is_ok() {
        all.push(Stored::open(from).unwrap().search_in_place(path).unwrap());
    }
    all
}

/// A bank out of its file, changed or not, is searched as one that never was in a file, whoever wrote it.
#[test]
fn files() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("bank");
    let mut banks = hard(&mut Random(19));
    let mut random = Random(20);
    for (n, d) in [(1, 1), (3, 5), (40, 17), (300, 100), (700, 31)] {
        let queries = units(&mut random, 4, d);
        banks.push(("shapes", units(&mut random, n, d), queries, d));
    }
    let centres = units(&mut random, 9, 600);
    let bank = around(&mut random, &centres, 500, 600, 0.02);
    let queries = around(&mut random, &centres, 5, 600, 0.03);
    banks.push(("wide", bank, queries, 600));
    for (name, bank, queries, d) in banks {
        let n = bank.len() / d;
        // ids that do not ascend: row i has number n − 1 − i
        let ids: Vec<u64> = (0..n as u64).rev().map(|id| 10 * id).collect();
        let reversed: Vec<f32> = bank.chunks_exact(d).rev().flatten().copied().collect();
        let asked = Vectors::new(&queries, d);
        for layout in layouts(&[None, Some(1), Some(40)], &[None, Some(16), WHOLE]) {
            file(&bank, d, &ids, layout, &at);
            assert_eq!(Stored::open(&at).unwrap().note(), "a note");
            // every path reads what another wrote
            for path in paths() {
                for (mut exact, read) in opened(&at, path, 3) {
                    let label = format!("{name}, n {n}, {layout:?}, {path:?}, in file {}", exact.is_in_file());
                    assert!(read.iter().copied().eq((0..n as u64).map(|id| 10 * id)), "{label}");
                    check_opened(&label, &exact, &reversed, asked);
                    // every third row goes, two come, among them one again; then all but one go
                    let gone = |number: usize| number % 3 == 2;
                    let kept: Vec<usize> = (0..n).filter(|&number| !gone(number)).collect();
                    let mut numbers = vec![None; n + 2];
                    (1..).zip(&kept).for_each(|(number, &old)| numbers[old] = Some(RowNumber(number)));
                    numbers[n] = Some(RowNumber(kept.len() as u32 + 1));
                    numbers[n + 1] = Some(RowNumber(0));
                    let added = [units(&mut random, 1, d), row(&bank, d, 0).to_vec()].concat();
                    exact.change(&rows(&added, d), &numbers);
                    let mut now = row(&added, d, 1).to_vec();
                    kept.iter().for_each(|&number| now.extend_from_slice(row(&reversed, d, number)));
                    now.extend_from_slice(row(&added, d, 0));
                    check_opened(&format!("{label}, changed"), &exact, &now, asked);
                    let left = kept.len() + 1;
                    let mut numbers = vec![None; left + 1];
                    numbers[left] = Some(RowNumber(0));
                    exact.change(&Rows::with_capacity(0, d), &numbers);
                    check_opened(&format!("{label}, changed again"), &exact, row(&now, d, left), asked);
                    assert_eq!(exact.failures(), 0, "{label}");
                }
            }
        }
    }
}

/// k-th distances, decisions, neighbours and distances among themselves of a bank whose rows are given by number.
fn check_opened(label: &str, exact: &Exact, bank: &[f32], asked: Vectors<'_>) {
    let d = asked.dimension();
    let n = bank.len() / d;
    let truth = sorted(bank, asked.values(), d);
    assert_eq!(exact.len(), n, "{label}");
    for k in [1, 2, 50, n / 2, n].map(|k| k.clamp(1, n)) {
        let kth: Vec<f32> = truth.iter().map(|all| all[k - 1] as f32).collect();
        assert_eq!(bits(&exact.kth_distances(asked, k)), bits(&kth), "{label}: k {k}, {}", exact.describe());
        assert!(exact.within(asked, k, &kth).into_iter().all(|near| near), "{label}: k {k}");
        for (i, near) in exact.nearest(asked, k, None).into_iter().enumerate() {
            let to = |number: usize| (distance(asked.row(i), row(bank, d, number)), RowNumber(number as u32));
            let mut all: Vec<(f64, RowNumber)> = (0..n).map(to).collect();
            all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            let expected: Vec<(RowNumber, f32)> = all[..k].iter().map(|&(to, number)| (number, to as f32)).collect();
            assert_eq!(near, expected, "{label}: k {k}, query {i}");
        }
    }
    if n > 1 && n < 100 {
        let own = |number: usize| {
            let others: Vec<f32> =
                (0..n).filter(|&other| other != number).flat_map(|other| row(bank, d, other)).copied().collect();
            sorted(&others, row(bank, d, number), d)[0][0] as f32
        };
        let expected: Vec<f32> = (0..n).map(own).collect();
        assert_eq!(bits(&exact.leave_one_out_distances(1)), bits(&expected), "{label}");
    }
}

/// Whatever byte of a file is changed, wherever it is cut off: it is refused, or what was found is said to be worthless.
#[test]
fn damaged_files() {
    let folder = tempfile::tempdir().unwrap();
    let (at, damaged) = (folder.path().join("bank"), folder.path().join("damaged"));
    let (n, d) = (90, 70);
    let mut random = Random(23);
    let (bank, queries) = (units(&mut random, n, d), units(&mut random, 3, d));
    let ids: Vec<u64> = (0..n as u64).collect();
    for head in [Some(16), WHOLE] {
        file(&bank, d, &ids, Layout { cells: Some(4), head, ..Layout::default() }, &at);
        let bytes = std::fs::read(&at).unwrap();
        let path = Path::detect();
        let truth = Stored::open(&at).unwrap().load(path, 0).unwrap().0.kth_distances(Vectors::new(&queries, d), 5);
        let check = |bytes: &[u8], label: String| {
            std::fs::write(&damaged, bytes).unwrap();
            let Ok(stored) = Stored::open(&damaged) else { return };
            // nobody reads what lies between the note and the rows
            match stored.load(path, 0) {
                Ok((exact, _)) => assert_eq!(exact.kth_distances(Vectors::new(&queries, d), 5), truth, "{label}"),
                Err(error) => assert!(!error.to_string().is_empty(), "{label}"),
            }
            let Ok((exact, _)) = Stored::open(&damaged).unwrap().search_in_place(path) else { return };
            let found = exact.kth_distances(Vectors::new(&queries, d), 5);
            assert!(exact.failures() > 0 || found == truth, "{label}");
        };
        for place in (0..bytes.len()).step_by(37).chain(0..200) {
            let mut bytes = bytes.clone();
            bytes[place] ^= 1 << (place % 8);
            check(&bytes, format!("byte {place} of {}", bytes.len()));
        }
        for length in (0..bytes.len()).step_by(509).chain([bytes.len() - 1]) {
            check(&bytes[..length], format!("cut off at {length}"));
        }
        let mut more = bytes.clone();
        more.push(0);
        check(&more, "a byte more".into());
    }
    assert!(Stored::open(&folder.path().join("none")).is_err());
}

/// The file with some of its bytes changed by whoever can make checksums: those of header and index are right again.
fn forged(bytes: &[u8], note: usize, forge: impl FnOnce(&mut Header, &mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut header: Header = bytemuck::pod_read_unaligned(&bytes[..size_of::<Header>()]);
    forge(&mut header, &mut bytes);
    if let Some(index) = bytes.get(header.index as usize..) {
        header.index_check = crc32fast::hash(index).into();
    }
    header.check = header.checked(&bytes[size_of::<Header>()..][..note]);
    bytes[..size_of::<Header>()].copy_from_slice(bytemuck::bytes_of(&header));
    bytes
}

/// A checksum tells chance from what was written, and not who wrote it: what cannot be is refused, without a panic and without
/// taking the memory that it asks for.
#[test]
fn index_files_that_lie_under_right_checksums_are_refused() {
    type Forge<'a> = Box<dyn Fn(&mut Header, &mut Vec<u8>) + 'a>;
    let folder = tempfile::tempdir().unwrap();
    let (at, lying) = (folder.path().join("bank"), folder.path().join("lying"));
    let (n, d, cells, note) = (90, 70, 4, "a note".len());
    let mut random = Random(29);
    let bank = units(&mut random, n, d);
    let ids: Vec<u64> = (0..n as u64).map(|id| 10 * id).collect();
    let path = Path::detect();
    for head in [Some(16), WHOLE] {
        file(&bank, d, &ids, Layout { cells: Some(cells), head, ..Layout::default() }, &at);
        let bytes = std::fs::read(&at).unwrap();
        let same = forged(&bytes, note, |_, _| ());
        assert!(same == bytes, "a file forged by nothing is the same");
        let header: Header = bytemuck::pod_read_unaligned(&bytes[..size_of::<Header>()]);
        let (heads, cells, stride) = (header.head as usize, header.cells as usize, d.div_ceil(16) * 64);
        let width = if heads == 0 { stride } else { heads.div_ceil(16) * 64 };
        // places in the index
        let centroids = header.index as usize + heads * d * 4;
        let mean = centroids + cells * stride + if heads == 0 { 0 } else { cells * width };
        let entries = mean + width;
        let numbers = entries + cells * 24;
        let read_ids = numbers + n * 8;
        let put = |at: usize, value: [u8; 4]| -> Forge<'_> {
            Box::new(move |_: &mut Header, bytes: &mut Vec<u8>| bytes[at..at + 4].copy_from_slice(&value))
        };
        let float = |at: usize, value: f32| put(at, value.to_le_bytes());
        let int = |at: usize, value: u32| put(at, value.to_le_bytes());
        let mut lies: Vec<(&str, Forge<'_>)> = vec![
            ("dimension 0", Box::new(|header, _| header.dimension = 0)),
            ("a larger dimension", Box::new(|header, _| header.dimension += 16)),
            ("a dimension of 2⁶²", Box::new(|header, _| header.dimension = 1 << 62)),
            ("no rows", Box::new(|header, _| header.rows = 0)),
            ("fewer rows", Box::new(|header, _| header.rows -= 1)),
            ("2³¹ rows", Box::new(|header, _| header.rows = 1 << 31)),
            ("2⁶² rows", Box::new(|header, _| header.rows = 1 << 62)),
            ("no cells", Box::new(|header, _| header.cells = 0)),
            ("more cells", Box::new(|header, _| header.cells += 1)),
            ("2⁶² cells", Box::new(|header, _| header.cells = 1 << 62)),
            ("a head of 2⁶²", Box::new(|header, _| header.head = 1 << 62)),
            ("another head", Box::new(|header, _| header.head += 3)),
            ("a defect that is no number", Box::new(|header, _| header.defect = f64::NAN.to_bits())),
            ("a negative defect", Box::new(|header, _| header.defect = (-1.0f64).to_bits())),
            ("another kind of codes", Box::new(|header, _| header.coded = 7)),
            ("an index before the rows", Box::new(|header, _| header.index = 0)),
            ("an index beyond the end", Box::new(|header, _| header.index = 1 << 50)),
            ("an index at 2⁶³", Box::new(|header, _| header.index = 1 << 63)),
            ("an index that is a byte longer", Box::new(|_, bytes| bytes.push(0))),
            ("a centroid that is no number", float(centroids, f32::NAN)),
            ("a mean that is not finite", float(mean, f32::INFINITY)),
            ("a cell of 2³² − 1 rows", int(entries, u32::MAX)),
            ("a cell without rows", int(entries, 0)),
            ("a radius that is no number", float(entries + 4, f32::NAN)),
            ("a negative radius", float(entries + 4, -1.0)),
            ("radii in the wrong order", float(entries + 4, 1e9)),
            ("a radius that is not finite", float(entries + 8, f32::INFINITY)),
            ("a norm that is no number", float(entries + 12, f32::NAN)),
            ("a negative residual", float(entries + 16, -0.5)),
            ("a number twice", int(numbers, bytemuck::pod_read_unaligned(&bytes[numbers + 4..numbers + 8]))),
            ("a number beyond the last", int(numbers, n as u32)),
            ("no number", int(numbers, u32::MAX)),
            ("ids that do not ascend", int(read_ids, 1000)),
            ("an id twice", int(read_ids, 10)),
        ];
        if heads > 0 {
            lies.push(("a direction that is no number", float(header.index as usize, f32::NAN)));
        }
        for (lie, forge) in lies {
            std::fs::write(&lying, forged(&bytes, note, forge)).unwrap();
            type Opens = fn(Stored, Path) -> std::io::Result<(Exact, Vec<u64>)>;
            let opened = |open: Opens| {
                Stored::open(&lying).and_then(|stored| {
                    // asked before it is opened: no sum of it may be too large
                    assert!(stored.bytes_in_memory(3) > stored.bytes_in_file(3));
                    open(stored, path).map(|_| ())
                })
            };
            let in_memory = opened(|stored, path| stored.load(path, 0)).map_err(|error| error.to_string());
            assert!(in_memory.is_err(), "{lie}, head {heads}");
            assert!(opened(|stored, path| stored.search_in_place(path)).is_err(), "{lie}, head {heads}, in place");
        }
        // a row that is no number, with its own checksum, and codes that are none
        let rows_at = (size_of::<Header>() + note).next_multiple_of(4096);
        let checks = numbers + n * 4;
        let row = forged(&bytes, note, |_, bytes| {
            bytes[rows_at..rows_at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
            let check = crc32fast::hash(&bytes[rows_at..rows_at + stride]);
            bytes[checks..checks + 4].copy_from_slice(&check.to_le_bytes());
        });
        std::fs::write(&lying, row).unwrap();
        assert!(Stored::open(&lying).unwrap().load(path, 0).is_err(), "a row that is no number");
        if header.coded == 1 {
            let codes_at = rows_at + n * stride;
            let rows: u32 = bytemuck::pod_read_unaligned(&bytes[entries..entries + 4]);
            let panels = (rows as usize).div_ceil(16);
            let steps = if heads == 0 { d } else { heads }.div_ceil(4);
            let codes = forged(&bytes, note, |_, bytes| {
                let scales = codes_at + panels * steps * 64;
                bytes[scales..scales + 4].copy_from_slice(&f32::INFINITY.to_le_bytes());
                let check = crc32fast::hash(&bytes[codes_at..codes_at + panels * (64 * (steps + 3) + 8)]);
                bytes[entries + 20..entries + 24].copy_from_slice(&check.to_le_bytes());
            });
            std::fs::write(&lying, codes).unwrap();
            assert!(Stored::open(&lying).unwrap().load(path, 0).is_err(), "codes that are not finite");
        }
    }
}

/// Rows that could not be read once are read again by the next search.
#[test]
fn a_read_error_that_passes_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("bank");
    let (n, d, path) = (90, 70, Path::detect());
    let mut random = Random(31);
    let (bank, queries) = (units(&mut random, n, d), units(&mut random, 3, d));
    let asked = Vectors::new(&queries, d);
    file(&bank, d, &(0..n as u64).collect::<Vec<u64>>(), Layout { cells: Some(4), ..Layout::default() }, &at);
    // only codes in 8 bits leave rows in their file
    let Ok((exact, _)) = Stored::open(&at).unwrap().search_in_place(path) else { return };
    let truth = kth_distances_brute(Vectors::new(&bank, d), asked, 5);
    assert_eq!((exact.kth_distances(asked, 5), exact.failures()), (truth.clone(), 0));
    let whole = std::fs::read(&at).unwrap();
    // the same file, its rows not there for a while
    let rewrite =
        |bytes: &[u8]| std::fs::OpenOptions::new().write(true).open(&at).unwrap().write_all_at(bytes, 0).unwrap();
    rewrite(&whole.iter().map(|byte| byte ^ 1).collect::<Vec<u8>>());
    exact.kth_distances(asked, 5);
    let failed = exact.failures();
    assert!(failed > 0 && exact.failure().is_some());
    rewrite(&whole);
    assert_eq!((exact.kth_distances(asked, 5), exact.failures()), (truth, failed));
}

/// What was taken out counts for nothing: a search beside a cell of which one row is left does not go through all others.
#[test]
fn rows_that_are_gone_are_not_counted_by_a_search() {
    let (n, d, near) = (2000, 32, 400);
    let mut random = Random(37);
    let centres = units(&mut random, 40, d);
    // the first ones around one point, which is asked about
    let mut bank = around(&mut random, &centres[..d], near, d, 0.01);
    bank.extend(around(&mut random, &centres[d..], n - near, d, 0.05));
    for path in paths() {
        let layout = Layout { cells: Some(40), path, ..Layout::default() };
        let mut exact = Exact::new(rows(&bank, d), layout);
        let numbers: Vec<Option<RowNumber>> =
            (0..n).map(|row| (row >= near).then(|| RowNumber((row - near) as u32))).collect();
        exact.change(&Rows::with_capacity(0, d), &numbers);
        let fresh = Exact::new(rows(&bank[near * d..], d), layout);
        let asked = Vectors::new(&centres[..d], d);
        let (found, work) = exact.find_counted(asked, Question::all(5));
        let (expected, least) = fresh.find_counted(asked, Question::all(5));
        assert_eq!(found, expected, "{path:?}");
        assert!(
            work.visits <= least.visits + 5,
            "{path:?}: {} cells, {} in a bank made from scratch",
            work.visits,
            least.visits
        );
    }
}

#[test]
fn the_smallest_banks_and_heads() {
    let mut random = Random(41);
    let (bank, queries) = (units(&mut random, 50, 64), units(&mut random, 3, 64));
    let asked = Vectors::new(&queries, 64);
    let truth = kth_distances_brute(Vectors::new(&bank, 64), asked, 3);
    for path in paths() {
        // a head of no numbers is none
        let exact = Exact::new(rows(&bank, 64), Layout { head: Some(0), path, ..Layout::default() });
        assert_eq!(bits(&exact.kth_distances(asked, 3)), bits(&truth), "{path:?}");
        // an empty block is shown, and changes nothing
        let mut running = Running::new(3, Question::all(3));
        let empty = || Exact::block(Rows::with_capacity(0, 64), Vec::new(), path);
        running.visit(&empty(), asked);
        assert!(running.found().iter().all(|kth| *kth == Kth::Beyond) && empty().is_empty(), "{path:?}");
        running.visit(&Exact::block(rows(&bank, 64), (0..50).map(RowNumber).collect(), path), asked);
        running.visit(&empty(), asked);
        let found: Vec<f32> = running.found().into_iter().map(Kth::distance).collect();
        assert_eq!(bits(&found), bits(&truth), "{path:?}");
        // of a bank from which all was taken out nothing can be asked, and it says so
        let mut none = Exact::new(rows(&bank, 64), Layout { path, ..Layout::default() });
        none.change(&Rows::with_capacity(0, 64), &[None; 50]);
        assert!(none.is_empty() && none.leave_one_out_distances(3).is_empty(), "{path:?}");
        let excluded = [None; 3];
        let question = Question { excluded: Some(&excluded), ..Question::all(1) };
        let refused = std::panic::catch_unwind(|| none.find(asked, question)).unwrap_err();
        assert_eq!(refused.downcast_ref::<&str>(), Some(&"1 ≤ k ≤ n"), "{path:?}");
    }
}

#[test]
fn vectors_that_are_not_of_norm_one_are_refused() {
    let good = [0.6f32, 0.8, 1.0, 0.0];
    let said = |run: &(dyn Fn() + std::panic::RefUnwindSafe)| {
        let refused = std::panic::catch_unwind(run).unwrap_err();
        refused.downcast_ref::<String>().cloned().unwrap_or_default()
    };
    for bad in [[0.6f32, 0.9], [f32::NAN, 1.0], [f32::INFINITY, 0.0], [0.0, 0.0], [1.0 + 2e-6, 0.0]] {
        let with = [good.as_slice(), &bad].concat();
        let bank = || Exact::new(rows(&good, 2), Layout::default());
        let numbers = || (0..3).map(RowNumber).collect::<Vec<_>>();
        assert_eq!(said(&|| drop(Exact::new(rows(&with, 2), Layout::default()))), "vectors of norm one: row 2 is not");
        assert_eq!(
            said(&|| drop(Exact::block(rows(&with, 2), numbers(), Path::detect()))),
            "vectors of norm one: row 2 is not"
        );
        let added = || bank().change(&rows(&bad, 2), &[Some(RowNumber(0)), Some(RowNumber(1)), Some(RowNumber(2))]);
        assert_eq!(said(&added), "vectors of norm one: row 0 is not");
        if (bad[0] - 1.0).abs() > 1e-5 {
            let asked = || drop(bank().kth_distances(Vectors::new(&with, 2), 1));
            assert_eq!(said(&asked), "queries of norm one: 2 is not");
        }
    }
}

#[test]
fn rows_come_back_in_the_order_in_which_they_were_given() {
    let mut random = Random(17);
    let values = units(&mut random, 700, 19);
    let rows = |values: &[f32]| {
        let mut rows = Rows::with_capacity(values.len() / 19, 19);
        values.chunks_exact(19).for_each(|row| rows.push(row));
        rows
    };
    let mut bank = Exact::new(rows(&values), Layout::default());
    assert_eq!(bank.to_rows().to_values(), values);
    // the first 100 go, and 50 come
    let added = units(&mut random, 50, 19);
    let gone = std::iter::repeat_n(None, 100);
    let numbers: Vec<Option<RowNumber>> = gone.chain((0..650).map(|number| Some(RowNumber(number)))).collect();
    bank.change(&rows(&added), &numbers);
    assert_eq!(bank.to_rows().to_values(), [&values[100 * 19..], &added].concat());
}
