//! Embeddings as Arrow holds them, as the vectors that are searched.

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray};
use arrow::datatypes::Float32Type;

pub use outskirt_exact::{Rows, Vectors, distance, normalize};

/// Row `row` of a column of embeddings, `None` where it is NULL.
///
/// Errors: a NULL among the numbers.
pub fn embedding(column: &FixedSizeListArray, row: usize) -> Result<Option<&[f32]>, &'static str> {
    if column.is_null(row) {
        return Ok(None);
    }
    let start = column.value_offset(row) as usize;
    numbers(column.values(), start, start + column.value_length() as usize).map(Some)
}

/// `values[from..to]` of an array of Float32.
///
/// Errors: a NULL among the numbers.
pub fn numbers(values: &ArrayRef, from: usize, to: usize) -> Result<&[f32], &'static str> {
    let values = values.as_primitive::<Float32Type>();
    if values.nulls().is_some_and(|nulls| nulls.slice(from, to - from).null_count() > 0) {
        return Err("NULL in places (it holds a NULL number)");
    }
    Ok(&values.values()[from..to])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalized_vectors_have_length_one_at_any_scale() {
        for scale in [1e-30f32, 1.0, 1e30] {
            let mut out = vec![];
            normalize(&[3.0 * scale, 4.0 * scale], &mut out).unwrap();
            assert!((out[0] - 0.6).abs() < 1e-6 && (out[1] - 0.8).abs() < 1e-6, "{out:?}");
        }
    }

    #[test]
    fn zero_and_non_finite_vectors_are_refused() {
        let mut out = vec![];
        assert_eq!(normalize(&[0.0, 0.0], &mut out), Err("all zero"));
        assert_eq!(normalize(&[0.0, f32::NAN], &mut out), Err("not finite"));
        assert_eq!(normalize(&[f32::INFINITY, 1.0], &mut out), Err("not finite"));
        assert!(out.is_empty());
    }

    #[test]
    fn distance_covers_lengths_that_are_no_multiple_of_four() {
        let a: Vec<f32> = (0..7).map(|i| i as f32).collect();
        assert_eq!(distance(&a, &[0.0; 7]), 91f64.sqrt());
    }
}
