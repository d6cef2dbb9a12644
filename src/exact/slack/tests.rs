//! How much of each bound hard inputs use, and that results are wrong where a term is that much less.
//!
//! What rounds worst is one large number, after which each further one is just below or just above half a unit in the last
//! place of the sum: all are lost, or all count twice.

use super::{Blur, NORM, RADIUS, Slack, code_norm_up, code_square_down};
use crate::best::Best;
use crate::lanes::{Line, U, floats, to_lines};
use crate::layout::{Cell, Exact, Head, Parts};
use crate::numbers::Position;
use crate::path::Path;
use crate::principal::{Random, defect};
use crate::product::Directions;
use crate::storage::Kept;
use crate::surrogate::Surrogates;
use crate::tests::{normalise, paths, rows, sorted};
use crate::vectors::{Vectors, product, squared};
use crate::{Bound, Collection, Kth, Layout, Metric, Question, nearest_brute};

/// A little less, and a little more, than half a unit in the last place.
const LOST: f64 = 1.0 - 1e-5;
const TWICE: f64 = 1.0 + 1e-5;

/// Rows in cells, and centroids, that a test has chosen: what is found depends on neither.
#[derive(Clone)]
struct Chosen {
    path: Path,
    d: usize,
    directions: Option<Vec<f32>>,
    /// Of each cell: centroid, and rows.
    cells: Vec<(Vec<f32>, Vec<f32>)>,
}

impl Chosen {
    /// The bank, with bounds as they are or less; and its rows by number.
    fn bank(&self, less: impl Fn(&mut Slack)) -> (Exact, Vec<f32>) {
        let (d, mut all, mut squares, mut cells) = (self.d, Vec::new(), Vec::new(), Vec::new());
        for (centroid, rows) in &self.cells {
            let mut by_radius: Vec<(f32, &[f32])> =
                rows.chunks_exact(d).map(|row| (squared(row, centroid) as f32, row)).collect();
            by_radius.sort_by(|a, b| a.0.total_cmp(&b.0));
            let cell = Cell { first_row: all.len() / d, rows: by_radius.len(), low: 0.0, high: 0.0 };
            cells.push(cell.between(by_radius[0].0, by_radius[by_radius.len() - 1].0));
            squares.extend(by_radius.iter().map(|row| row.0));
            by_radius.iter().for_each(|row| all.extend_from_slice(row.1));
        }
        let centroids: Vec<f32> = self.cells.iter().flat_map(|(centroid, _)| centroid).copied().collect();
        let head = self.directions.as_ref().map(|directions| Head {
            directions: directions.clone(),
            count: directions.len() / d,
            defect: defect(directions, d),
        });
        let (centroids, kept) = (to_lines(Vectors::new(&centroids, d)), Kept::Memory(rows(&all, d)));
        let mut bank =
            Exact::framed(Parts { path: self.path, dimension: d, head, centroids, cells, rows: kept, heads: None });
        less(&mut bank.slack);
        bank.code(&squares);
        (bank, all)
    }

    /// Whether a bank with such bounds finds the k-th distances that there are.
    fn is_right(&self, queries: &[f32], k: usize, less: impl Fn(&mut Slack)) -> bool {
        let (bank, all) = self.bank(less);
        finds(&bank, &all, queries, k)
    }
}

fn finds(bank: &Exact, all: &[f32], queries: &[f32], k: usize) -> bool {
    let d = bank.dimension();
    let truth = sorted(all, queries, d);
    let found = bank.kth_distances(Vectors::new(queries, d), k);
    found.iter().zip(truth).all(|(found, truth)| found.to_bits() == (truth[k - 1] as f32).to_bits())
}

/// The largest of some shares of a bound is what is stated, or a little more; so none exceeds the bound.
fn share(term: &str, shares: impl IntoIterator<Item = f64>, stated: f64) {
    let largest = shares.into_iter().fold(f64::NEG_INFINITY, f64::max);
    assert!(largest <= 1.0, "{term}: rounding is {largest:.3} times its bound");
    let said = stated..stated + 0.03;
    assert!(said.contains(&largest), "{term}: hard inputs use {largest:.3} of the bound, {stated} was stated");
}

/// One, and at some places numbers whose squares are about half a unit in the last place of one.
fn one_and_halves(d: usize, places: impl Iterator<Item = usize>, times: f64) -> Vec<f32> {
    let mut row = vec![0.0; d];
    row[0] = 1.0;
    places.filter(|&place| place > 0 && place < d).for_each(|place| row[place] = (U * times).sqrt() as f32);
    row
}

/// ‖a − b‖² as a search on a path computes it.
fn squared_f32(path: Path, a: &[Line], b: &[Line]) -> f32 {
    match path {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: paths are those of this processor.
        Path::Avx512Vnni => unsafe { crate::wide::squared_distance(a, b) },
        Path::Avx2 => crate::lanes::squared_distance::<true>(a, b),
        _ => crate::lanes::squared_distance::<false>(a, b),
    }
}

#[test]
fn squared_distances_use_their_bound() {
    for path in paths() {
        let mut shares = Vec::new();
        for d in [1, 5, 16, 48, 64, 700, 4096] {
            let bound = f64::from(Slack::new(path, d, None).distance);
            for every in [16, 32, 64] {
                for times in [LOST, TWICE] {
                    let places = (0..d).step_by(every).chain([1, 2, 4, 8, 16, 32]);
                    let a = one_and_halves(d, places, times);
                    // the difference of the first numbers is half a unit in the last place too much
                    let mut b = vec![0.0; d];
                    b[0] = -(U * times) as f32;
                    let (lines, other) = (to_lines(Vectors::new(&a, d)), to_lines(Vectors::new(&b, d)));
                    let (found, truth) = (f64::from(squared_f32(path, &lines, &other)), squared(&a, &b));
                    shares.push((found / truth - 1.0).abs() / bound);
                }
            }
        }
        share(&format!("distance, {}", path.name()), shares, if path == Path::Avx512Vnni { 0.92 } else { 0.95 });
    }
}

/// Squared distances between queries and centroids that round alike.
#[test]
fn distances_to_centroids_use_their_bound() {
    for path in paths() {
        let mut shares = Vec::new();
        for (d, times) in [(32, LOST), (32, TWICE), (3, LOST), (16, TWICE)] {
            let vector = one_and_halves(d, 1..d, times);
            let chosen = Chosen { path, d, directions: None, cells: vec![(vector.clone(), vector.clone())] };
            let (bank, _) = chosen.bank(|_| {});
            for count in [1, 5] {
                let queries = vector.repeat(count);
                let found = bank.to_centroids(&bank.prepare(Vectors::new(&queries, d), 0));
                shares.extend(found.iter().map(|square| f64::from(square.abs() / bank.slack.centroid)));
            }
        }
        share(&format!("centroid, {}", path.name()), shares, 0.72);
        // a query that is the centroid of the second cell and its only row, and seems to be farther away
        let (d, query) = (32, one_and_halves(32, 1..32, LOST));
        let mut first = vec![0.0; d];
        first[0] = 1.0;
        let rivals = as_far(&query, 7, 1e-9).repeat(2);
        let cells = vec![(first, rivals), (query.clone(), query.clone())];
        let chosen = Chosen { path, d, directions: None, cells };
        assert!(chosen.is_right(&query.repeat(5), 1, |_| {}));
        assert!(!chosen.is_right(&query.repeat(5), 1, |slack| slack.centroid *= 0.7), "{path:?}: 0.7 are enough");
    }
}

/// Directions whose first numbers are orthonormal, and vectors whose products with all of them round alike.
#[test]
fn projections_use_their_bound() {
    let (d, small) = (64, 1.0 / f64::from(1 << 13));
    let directions: Vec<f32> = (0..16 * d).map(|i| if i % d == 0 { 0.25 } else { small as f32 }).collect();
    let vector =
        |times: f64| -> Vec<f32> { (0..d).map(|j| if j == 0 { 1.0 } else { (small * times) as f32 }).collect() };
    let (up, down) = (vector(TWICE), vector(LOST));
    let bound = f64::from(Slack::new(Path::Avx512Vnni, d, Some(0.0)).head);
    for path in paths() {
        let mut shares = Vec::new();
        for count in [1, 16] {
            let along = |vector: &[f32]| {
                let lines = to_lines(Vectors::new(&vector.repeat(count), d));
                Directions::new(path, &directions, d).project(path, &lines)[..1].to_vec()
            };
            let (a, b) = (along(&up), along(&down));
            let off = |j: usize| {
                let direction = &directions[j * d..][..d];
                let truth = product(direction, &up) - product(direction, &down);
                f64::from(floats(&a)[j]) - f64::from(floats(&b)[j]) - truth
            };
            shares.push((0..16).map(|j| off(j).powi(2)).sum::<f64>().sqrt() / bound);
        }
        share(&format!("head, {}", path.name()), shares, 0.77);
    }
}

/// Radii of cells and τ.
#[test]
fn radii_use_their_bound() {
    let mut random = Random(31);
    let (mut radii, mut taus) = (Vec::new(), Vec::new());
    let cell = Cell { first_row: 0, rows: 1, low: 0.0, high: 0.0 };
    for _ in 0..100_000 {
        let square = 4.0 * f64::from(random.unit()) * f64::from(random.unit()) + f64::from(random.unit()) * 1e-9;
        let cell = cell.between(square as f32, square as f32);
        let (low, high) = (f64::from(cell.low) / square.sqrt() - 1.0, f64::from(cell.high) / square.sqrt() - 1.0);
        // what is left of the bound after what was added and taken away
        radii.extend([1.0 + low / f64::from(RADIUS), 1.0 - high / f64::from(RADIUS)]);
        let mut best = Best::new(1, None, None, Position::NONE, 0.0);
        best.limit = square as f32;
        taus.push(1.0 - (f64::from(best.tau()) / f64::from(best.limit).sqrt() - 1.0) / f64::from(RADIUS));
    }
    share("radius", radii, 0.33);
    share("radius, of τ", taus, 0.28);
}

/// By how much a rival is farther than the nearest, squared.
const HAIR: f64 = 1.0 + 2e-6;

/// A vector of norm one, and a step from it.
fn turned(from: &[f32], towards: usize, by: f32) -> Vec<f32> {
    let mut row = from.to_vec();
    row[towards] += by;
    normalise(&mut row, from.len());
    row
}

/// A step so long that its squared distance is just this one, or a little more.
fn as_far(from: &[f32], towards: usize, square: f64) -> Vec<f32> {
    let (mut near, mut far) = (0.0f32, 1.0f32);
    while near.next_up() < far {
        let middle = (near + far) / 2.0;
        *(if squared(from, &turned(from, towards, middle)) < square { &mut near } else { &mut far }) = middle;
    }
    turned(from, towards, far)
}

/// Rows and queries that are as short as they may be: their products say that they are farther than they are.
#[test]
fn norms_use_their_bound() {
    for path in paths().into_iter().filter(|&path| path != Path::Avx512Vnni) {
        let d = 3;
        let short = |mut row: Vec<f32>| {
            row.iter_mut().for_each(|v| *v = (f64::from(*v) * (1.0 - NORM + 2.0 * U)) as f32);
            row
        };
        let query = short(vec![0.0, 0.0, 1.0]);
        let nearest = short(turned(&query, 0, 0.05));
        let rival = as_far(&query, 1, squared(&query, &nearest) * HAIR);
        let cells = vec![(query.clone(), rival.repeat(2)), (vec![0.0, 0.1, 0.9], nearest.clone())];
        let chosen = Chosen { path, d, directions: None, cells };
        let slack = f64::from(chosen.bank(|_| {}).0.slack.estimate);
        let estimate = 2.0 - 2.0 * product(&query, &nearest);
        share("estimate by product", [(estimate - squared(&query, &nearest)) / slack], 0.68);
        assert!(chosen.is_right(&query, 1, |_| {}));
        assert!(!chosen.is_right(&query, 1, |slack| slack.estimate *= 0.6), "{path:?}: six tenths are enough");
    }
}

/// A row at the inner or the outer radius of its cell, just towards the query, and a rival in the query's own cell that is
/// farther by a hair: the cell is left out as soon as its radius, or τ, is a little less.
#[test]
fn radii_are_reached() {
    let point = |a: f64, b: f64| [a as f32, b as f32, (1.0 - a * a - b * b).sqrt() as f32];
    let (radius, d) = (0.05f64, 3);
    for path in paths() {
        for (at, inner) in [(0.5 * radius, true), (2.0 * radius, false)] {
            let query = point(at, 0.0);
            let ring: Vec<f32> = (0..16)
                .flat_map(|i| {
                    let angle = f64::from(i) * std::f64::consts::TAU / 16.0;
                    point(radius * angle.cos(), radius * angle.sin())
                })
                .collect();
            let rival = as_far(&query, 1, squared(&query, &ring[..3]) * HAIR);
            let centroid = vec![0.0, 0.0, (1.0 - radius * radius).sqrt() as f32];
            let chosen =
                Chosen { path, d, directions: None, cells: vec![(query.to_vec(), rival.repeat(2)), (centroid, ring)] };
            assert!(chosen.is_right(&query, 1, |_| {}), "{path:?}, inner {inner}");
            let (mut bank, all) = chosen.bank(|_| {});
            let (cell, tau) = (&mut bank.cells[1], at.abs() - radius);
            // as much as 1 % of τ
            *(if inner { &mut cell.low } else { &mut cell.high }) +=
                0.01 * tau.abs() as f32 * if inner { 1.0 } else { -1.0 };
            assert!(!finds(&bank, &all, &query, 1), "{path:?}, inner {inner}: less than τ is enough");
        }
    }
}

/// A row that f32 says is farther than it is, and one that it says is nearer.
#[test]
fn limits_use_their_bound() {
    for path in paths() {
        let (d, every) = (2048, if path == Path::Avx512Vnni { 64 } else { 32 });
        // differences of one in the first number, and of half a unit's root in every so many; the others are equal
        let places = || (every..d).step_by(every);
        let count = places().count() as f64;
        let row = |first: f64, times: f64| -> Vec<f32> {
            let mut row = vec![0.0f32; d];
            row[0] = -first as f32;
            row[1] = (0.75 - count * U * times).sqrt() as f32;
            places().for_each(|place| row[place] = (U * times).sqrt() as f32);
            row
        };
        let mut query = vec![0.0f32; d];
        (query[0], query[1]) = (0.5, 0.75f32.sqrt());
        let (nearest, rival) = (row(0.5, TWICE), row(0.5 + 2.0 * U, LOST));
        let (near, far) = (squared(&query, &nearest), squared(&query, &rival));
        assert!(near < far, "{near:e} {far:e}");
        let lines = |row: &[f32]| to_lines(Vectors::new(row, d));
        let [said_near, said_far] = [&nearest, &rival].map(|row| squared_f32(path, &lines(&query), &lines(row)));
        let chosen = Chosen {
            path,
            d,
            directions: None,
            cells: vec![(query.clone(), [nearest.clone(), rival.clone()].concat())],
        };
        let bound = f64::from(chosen.bank(|_| {}).0.slack.distance);
        share(
            &format!("limit, {}", path.name()),
            [f64::from(said_near / said_far - 1.0) / (2.0 * bound)],
            if path == Path::Avx512Vnni { 0.65 } else { 0.8 },
        );
        for k in [1, 2] {
            assert!(chosen.is_right(&query, k, |_| {}), "{path:?}, k {k}");
        }
        assert!(!chosen.is_right(&query, 1, |slack| slack.distance *= 0.5), "{path:?}: half of the bound is enough");
        // a floor that the rival is beyond, and a ceiling that the nearest is within
        let (floor, ceiling) = ((far.sqrt() as f32).next_down(), near.sqrt() as f32);
        let answer = |row: &[f32], less: f32, floor: f32, ceiling: f32| {
            let chosen = Chosen { path, d, directions: None, cells: vec![(query.clone(), row.to_vec())] };
            let (bank, _) = chosen.bank(|slack| slack.distance *= less);
            let (floor, ceiling) = (Some(Bound::All(floor)), Some(Bound::All(ceiling)));
            bank.find(Vectors::new(&query, d), Question { k: 1, floor, ceiling, excluded: None })[0]
        };
        for (less, is_right) in [(1.0, true), (0.5, false)] {
            let found = answer(&rival, less, floor, f32::INFINITY);
            assert_eq!(
                found == Kth::At(far.sqrt() as f32),
                is_right,
                "{path:?}, floor, {less} of the bound: {found:?}"
            );
            let found = answer(&nearest, less, 0.0, ceiling);
            assert_eq!(found == Kth::At(ceiling), is_right, "{path:?}, ceiling, {less} of the bound: {found:?}");
        }
    }
}

/// What is found is compared with ceilings in f32: distances may be half a unit in the last place beyond.
#[test]
fn limits_cover_what_rounds_to_a_ceiling() {
    let mut random = Random(33);
    for _ in 0..10_000 {
        let ceiling = 2.0 * random.unit();
        let beyond = (f64::from(ceiling) + f64::from(ceiling.next_up())) / 2.0;
        let limit = f64::from(Best::limit_of(ceiling, 0.0));
        assert!(limit >= beyond * beyond, "{ceiling:e}");
    }
}

/// A row of equal numbers that all round the same way, by as much as there is, and a query that points the other way.
#[test]
fn blurs_use_their_bound() {
    for (metric, stated) in [(Metric::Euclidean, 0.86), (Metric::Cosine, 0.96), (Metric::InnerProduct, 0.92)] {
        let mut shares = Vec::new();
        for d in (900..1024).chain([1, 2, 3]) {
            for times in [1.0f32, 3.1, 3.5, 3.9, 3.98, 3.99] {
                let row = vec![1.0f32; d];
                let rows = [row.clone(), row.iter().map(|v| -v).collect()].concat();
                let query: Vec<f32> = row.iter().map(|v| -times * v).collect();
                let surrogates = Surrogates::new(metric, Vectors::new(&rows, d));
                let (mut q, bank) = (Vec::new(), surrogates.rows(Vectors::new(&rows, d)));
                let scaled = surrogates.query(&query, &mut q).expect("inside of the unit ball");
                let figure = surrogates.figure(scaled, metric.value(&query, &row));
                let (square, blur) = (squared(&q, bank.row(0)), surrogates.blur);
                shares.push(match metric {
                    Metric::InnerProduct => (square - figure).abs() / blur.flat,
                    _ => (square.sqrt() - figure.sqrt()).abs() / blur.root,
                });
            }
        }
        share(&format!("blur, {metric:?}"), shares, stated);
    }
}

/// Rows that are about as near as each other, so that their surrogates are in another order.
#[test]
fn blurs_are_needed() {
    let mut random = Random(34);
    let mut axis = || f64::from(random.unit()) - 0.5;
    let (query, n) = ([0.3f32, -0.7, 0.6], 600);
    let unit = |v: [f64; 3]| v.map(|x| x / (v[0] * v[0] + v[1] * v[1] + v[2] * v[2]).sqrt());
    let along = unit(query.map(f64::from));
    for metric in Metric::ALL {
        let mut rows = Vec::new();
        for row in 0..n {
            let any = unit([axis(), axis(), axis()]);
            let part: f64 = any.iter().zip(&along).map(|(a, b)| a * b).sum();
            // across the query
            let across = unit([0, 1, 2].map(|i| any[i] - part * along[i]));
            let away = 0.01 * axis();
            let place = |i: usize| match metric {
                Metric::Euclidean if row % 2 == 0 => f64::from(query[i]) + 1e-4 * any[i],
                Metric::Euclidean => -f64::from(query[i]) + 1e-4 * any[i],
                Metric::Cosine => f64::from(query[i]) + 1e-4 * across[i],
                Metric::InnerProduct => f64::from(query[i]) + away * across[i],
            };
            rows.extend([place(0), place(1), place(2)].map(|v| v as f32));
        }
        let truth = nearest_brute(metric, Vectors::new(&rows, 3), Vectors::new(&query, 3), 50);
        for path in paths() {
            let layout = Layout { path, ..Layout::default() };
            let mut collection = Collection::with_layout(rows.clone(), 3, metric, layout).expect("a collection");
            let mut is_right = |times: f64| {
                let whole = Blur::of(metric, 3);
                collection.surrogates.blur = Blur { root: whole.root * times, flat: whole.flat * times };
                let found = collection.search().nearest(&query, 50).expect("an answer");
                found[0].iter().zip(&truth[0]).all(|(found, truth)| found.row == truth.0)
            };
            assert!(is_right(1.0), "{metric:?} {path:?}");
            assert!(!is_right(0.02), "{metric:?} {path:?}: a fiftieth of the blur is enough");
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod codes {
    use super::*;
    use crate::code::{CellRows, cell, queries};
    use crate::scan::avx512::lower_bound;

    fn is_there() -> bool {
        Path::Avx512Vnni.is_available()
    }

    #[test]
    fn norms_use_their_bound() {
        if !is_there() {
            return;
        }
        let mut shares = Vec::new();
        for d in [16usize, 333, 4096] {
            let lines = d.div_ceil(16);
            let places = (0..d).step_by(16).chain([1, 2, 4, 8]);
            let head = one_and_halves(d, places, LOST);
            let (heads, zero) = (to_lines(Vectors::new(&head, d)), vec![Line([0.0; 16]); lines]);
            let rows = CellRows { head: d, heads: &heads, offset: &zero, squares: &[1.0], tail: None };
            // SAFETY: the path is there.
            let coded = unsafe { cell(rows) };
            // SAFETY: as above.
            let (codes, of_query) = unsafe { queries(&heads, &zero) };
            assert_eq!(codes[0] & 0xff, 127);
            let truth = product(&head, &head).sqrt();
            let up = f64::from(code_norm_up(lines)) - 1.0;
            shares.push(1.0 - (f64::from(coded.head_norm) / truth - 1.0) / up);
            // what a code of the largest number says of the others is nothing
            let missed = product(&head[1..], &head[1..]).sqrt();
            let found = [f64::from(of_query[0].residual), f64::from(coded.residual)];
            shares.extend(found.map(|found| 1.0 - (found / missed - 1.0) / up));
        }
        share("norms of codes", shares, 0.92);
    }

    /// What heads leave of rows, where their norm is computed too large.
    #[test]
    fn squared_norms_use_their_bound() {
        if !is_there() {
            return;
        }
        let (d, none) =
            (4096usize, Slack { centroid: 0.0, head: 0.0, defect: 0.0, tail: 0.0, estimate: 0.0, distance: 0.0 });
        let lines = d.div_ceil(16);
        let head = one_and_halves(d, (0..d).step_by(16), TWICE);
        let (heads, zero) = (to_lines(Vectors::new(&head, d)), vec![Line([0.0; 16]); lines]);
        let (norm, square) = (product(&head, &head), 1.0005f32);
        let rows = CellRows { head: d, heads: &heads, offset: &zero, squares: &[square], tail: Some(&none) };
        // SAFETY: the path is there.
        let left = f64::from(unsafe { cell(rows) }.tails[0].0[0]);
        assert!(left >= (f64::from(square) - norm).sqrt(), "{left}");
        let down = f64::from(code_square_down(lines));
        let computed = (f64::from(square) - (left / (1.0 + f64::from(RADIUS))).powi(2)) / down;
        share("squared norms of codes", [(computed / norm - 1.0) / (1.0 - down)], 0.95);
    }

    /// Largest overshoot of estimates: above 0, a row nearer than its estimate says would be lost. And of tails, below.
    fn overshoot(bank: &Exact, all: &[f32], asked: &[f32]) -> (f64, f64) {
        let d = bank.dimension();
        let asked = bank.prepare(Vectors::new(asked, d), 0);
        let (mut estimate, mut tail) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        for query in 0..asked.values.len() {
            let q = asked.values.row(query);
            for (number, cell) in bank.cells.iter().enumerate() {
                for index in 0..cell.rows {
                    let row = &all[(cell.first_row + index) * d..][..d];
                    // SAFETY: the path is there.
                    let (bound, found) = unsafe { lower_bound(bank, &asked, query, number, index) };
                    estimate = estimate.max(bound - squared(q, row));
                    if let Some(directions) = &bank.directions {
                        let centroid = &floats(&bank.centroids[number * bank.stride..][..bank.stride])[..d];
                        let y: Vec<f64> = q.iter().zip(centroid).map(|(&q, &c)| f64::from(q) - f64::from(c)).collect();
                        let along: f64 = directions.rows().map(|v| dot(&y, &v).powi(2)).sum();
                        tail = tail.max(dot(&y, &y) - along - found);
                    }
                }
            }
        }
        (estimate, tail)
    }

    fn no(_: &mut Slack) {}

    /// A query beside the centroid of the second cell, from which it seems to be farther than it is, or nearer, and whose
    /// nearest row lies there. The first cell has two that are farther by a hair.
    fn beside_a_centroid(times: f64, tail: f32, directions: Option<Vec<f32>>) -> (Chosen, Vec<f32>) {
        let d = 32;
        let centroid = one_and_halves(d, 1..d - 1, times);
        let mut query = centroid.clone();
        query[d - 1] = tail;
        let nearest = turned(&query, d - 1, if tail > 0.0 { 0.5 } else { 0.05 });
        let farther = [7, 9].map(|towards| as_far(&query, towards, squared(&query, &nearest) * HAIR)).concat();
        let mut first = vec![0.0; d];
        (first[0], first[d - 1]) = (1.0, tail);
        let cells = vec![(first, farther), (centroid, nearest)];
        (Chosen { path: Path::Avx512Vnni, d, directions, cells }, query.repeat(5))
    }

    #[test]
    fn estimates_use_their_bound() {
        if !is_there() {
            return;
        }
        let (chosen, asked) = beside_a_centroid(LOST, 0.0, None);
        let (bank, all) = chosen.bank(no);
        let left = -overshoot(&bank, &all, &asked).0;
        share("estimate", [1.0 - left / f64::from(bank.slack.estimate)], 0.5);
        assert!(chosen.is_right(&asked, 1, no));
        assert!(!chosen.is_right(&asked, 1, |slack| slack.estimate *= 0.45), "less than half of the bound is enough");
    }

    /// Estimates without codes' errors and those of ‖y‖²: what is left is the arithmetic of products of codes.
    #[test]
    fn products_of_codes_use_their_bound() {
        if !is_there() {
            return;
        }
        let mut random = Random(32);
        let mut shares = Vec::new();
        for count in 1..=48 {
            for _ in 0..20 {
                // codes of numbers of one size miss nothing but what the rounding of their step leaves
                let (d, share) = (48, random.unit());
                let size = (1.0 / f64::from(count).sqrt()) as f32;
                let row: Vec<f32> =
                    (0..d).map(|i| if i >= count { 0.0 } else { [size, -size][random.below(2)] }).collect();
                let other: Vec<f32> = row.iter().map(|v| -v).collect();
                let centroid: Vec<f32> = row.iter().map(|v| -share * v).collect();
                let (d, asked) = (d as usize, [row.clone(), other.clone()].concat());
                let cells = vec![(centroid, [row.clone(), other, row].concat())];
                let chosen = Chosen { path: Path::Avx512Vnni, d, directions: None, cells };
                let (bank, all) = chosen.bank(no);
                let queries = bank.prepare(Vectors::new(&asked, d), 0);
                let squares = bank.to_centroids(&queries);
                for (query, &square) in squares.iter().enumerate() {
                    let q = queries.values.row(query);
                    let y = squared(q, &chosen.cells[0].0);
                    for index in 0..3 {
                        // SAFETY: the path is there.
                        let (bound, _) = unsafe { lower_bound(&bank, &queries, query, 0, index) };
                        let (coded, of_query) = (&bank.coded[0], &queries.coded.1[query]);
                        let missed = of_query.residual * coded.head_norm + of_query.coded * coded.residual;
                        let off = f64::from(square) - y;
                        let left = squared(q, &all[index * d..][..d]) - (bound + 2.0 * f64::from(missed) - off);
                        let terms = bank.slack.estimate - bank.slack.centroid
                            + 2.0 * bank.slack.product_of(y.sqrt() as f32, coded.head_norm);
                        shares.push(1.0 - (left - f64::from(bank.slack.centroid)) / f64::from(terms));
                    }
                }
            }
        }
        share("products of codes", shares, 0.08);
    }

    #[test]
    fn tails_use_their_bound() {
        if !is_there() {
            return;
        }
        let d = 32;
        let (chosen, asked) = beside_a_centroid(TWICE, 0.0024, Some(axes(16, d, 1.0)));
        let (bank, all) = chosen.bank(no);
        let left = -overshoot(&bank, &all, &asked).1;
        share("tail", [1.0 - left / f64::from(bank.slack.tail_of(0.0024))], 0.63);
        assert!(chosen.is_right(&asked, 1, no));
        assert!(
            !chosen.is_right(&asked, 1, |slack| slack.tail *= 0.55),
            "little more than half of the bound is enough"
        );
    }

    /// Directions that are longer than one, and a query and a row on opposite sides of their centroid, along them.
    #[test]
    fn defects_use_their_bound() {
        if !is_there() {
            return;
        }
        let d = 32;
        let mut centroid = vec![0.0; d];
        centroid[0] = 0.99;
        let mut query = centroid.clone();
        (query[0], query[3]) = (1.0, 0.1);
        normalise(&mut query, d);
        let nearest = turned(&query, 3, -0.2);
        let farther = [7, 9].map(|towards| as_far(&query, towards, squared(&query, &nearest) * HAIR)).concat();
        let cells = vec![(query.clone(), farther), (centroid, nearest)];
        let chosen = Chosen { path: Path::Avx512Vnni, d, directions: Some(axes(16, d, 1.01)), cells };
        let asked = query.repeat(5);
        assert!(chosen.is_right(&asked, 1, no));
        let wrong = (1..100).map(|less| less as f32 / 100.0).filter(|less| {
            let (bank, all) = chosen.bank(|slack| slack.defect *= less);
            overshoot(&bank, &all, &asked).0 > 0.0
        });
        share("defect", [f64::from(wrong.fold(0.0, f32::max))], 0.2);
        assert!(!chosen.is_right(&asked, 1, |slack| slack.defect *= 0.05), "a twentieth of the bound is enough");
    }

    /// The first directions of space, of this length.
    fn axes(count: usize, d: usize, length: f32) -> Vec<f32> {
        (0..count * d).map(|i| if i / d == i % d { length } else { 0.0 }).collect()
    }
}
