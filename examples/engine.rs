//! The engine alone, on arrays: `cargo run -p outskirt-exact --example engine`.

use outskirt_exact::{Bitmap, Collection, Error, Metric};

fn main() -> Result<(), Error> {
    // six articles of a shop, three numbers each; any f32 will do, and nothing has to be normalised
    #[rustfmt::skip]
    let values = vec![
        5.0, 0.0, 1.0,
        4.0, 1.0, 0.0,
        0.0, 8.0, 2.0,
        0.5, 7.0, 3.0,
        9.0, 9.0, 9.0,
        4.0, 1.0, 0.0,
    ];
    let ids = vec![101, 102, 203, 204, 900, 105];
    let articles = Collection::new(values, 3, Metric::Euclidean)?.with_ids(ids)?;

    // the three nearest of two queries; 102 and 105 are equal, and 102 came first
    let found = articles.search().nearest(&[4.5, 0.5, 0.5, 0.0, 7.0, 2.0], 3)?;
    let named: Vec<Vec<u64>> = found.iter().map(|near| near.iter().map(|one| one.id).collect()).collect();
    assert_eq!(named, [[101, 102, 105], [203, 204, 102]]);
    assert_eq!(found[1][0].value, 1.0);

    // how many lie within 1.5 of a query, and which of these are in stock (bits are rows, not ids)
    let query = [4.0, 1.0, 0.0];
    assert_eq!(articles.search().count_within(&query, 1.5)?, [2]);
    let in_stock = Bitmap::of(articles.len(), |row| row != 1);
    let near = articles.search().allowed(&in_stock).within(&query, 1.5)?;
    assert_eq!(near[0].iter().map(|one| one.id).collect::<Vec<_>>(), [105]);

    // what is wrong is an error that says what
    let refused = articles.search().nearest(&[1.0, f32::NAN, 0.0], 1);
    assert_eq!(refused.map_err(|error| error.to_string()).err().as_deref(), Some(NAN));
    Ok(())
}

const NAN: &str = "query 0 has a number that is NaN or infinite: leave that vector out";

#[cfg(test)]
mod tests {
    #[test]
    fn it_runs() {
        assert_eq!(super::main(), Ok(()));
    }
}
