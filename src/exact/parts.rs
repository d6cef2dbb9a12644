//! A bank that lies in several: what each gives, together.

use crate::principal::Random;
use crate::tests::{hard, paths, rows};
use crate::{Bound, Exact, Layout, Question, RowNumber, Vectors};

/// The k nearest of all are among those that each gives, also of parts that have fewer than k rows.
#[test]
fn the_nearest_of_parts_together_are_the_nearest_of_all() {
    for (name, bank, queries, d) in hard(&mut Random(23)) {
        let (asked, n) = (Vectors::new(&queries, d), bank.len() / d);
        let (m, parts) = (asked.len(), 7);
        let plain = Exact::new(rows(&bank, d), Layout::default());
        let of_part = |part: usize| -> Vec<usize> { (0..n).filter(|row| row % 11 % parts == part).collect() };
        let excluded: Vec<Option<RowNumber>> =
            plain.nearest(asked, 1, None).iter().enumerate().map(|(i, near)| (i % 2 == 0).then(|| near[0].0)).collect();
        for path in paths() {
            let layout = Layout { path, ..Layout::default() };
            let parts: Vec<(Vec<usize>, Exact)> = (0..parts)
                .map(|part| {
                    let own = of_part(part);
                    let values: Vec<f32> = own.iter().flat_map(|&row| bank[row * d..(row + 1) * d].to_vec()).collect();
                    let exact = Exact::new(rows(&values, d), layout);
                    (own, exact)
                })
                .collect();
            for k in [1, 50, n / 2, n - 1] {
                let whole = plain.nearest(asked, k, Some(&excluded));
                let ceilings: Vec<f32> = whole.iter().map(|near| near[k - 1].1).collect();
                for ceiling in [None, Some(Bound::Each(&ceilings))] {
                    let mut all: Vec<Vec<(f64, RowNumber)>> = vec![Vec::new(); m];
                    for (own, part) in &parts {
                        let number = |row: &Option<RowNumber>| {
                            let at = own.binary_search(&(row.as_ref()?.0 as usize)).ok()?;
                            Some(RowNumber(at as u32))
                        };
                        let excluded: Vec<Option<RowNumber>> = excluded.iter().map(number).collect();
                        let question = Question { k, floor: None, ceiling, excluded: Some(&excluded) };
                        let (near, work) = part.nearest_within(asked, question);
                        assert!(work.queries > 0 && near.iter().all(|near| near.len() <= k));
                        for (all, near) in all.iter_mut().zip(near) {
                            all.extend(near.into_iter().map(|(to, row)| (to, RowNumber(own[row.0 as usize] as u32))));
                        }
                    }
                    for (mut all, whole) in all.into_iter().zip(&whole) {
                        all.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
                        all.truncate(k);
                        let all: Vec<_> = all.into_iter().map(|(to, row)| (row, to as f32)).collect();
                        assert!(all == *whole, "{name}: k {k}, {path:?}, {}", ceiling.is_some());
                    }
                }
            }
        }
    }
}
