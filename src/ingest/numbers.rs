//! Columns of numbers, as people's tables have them, as vectors of one length.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, OffsetSizeTrait};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float32Type};
use arrow::error::ArrowError;

use crate::index::vectors::{normalize, numbers};
use crate::schema;

/// The vectors of some rows, and what is wrong with those of others.
#[derive(Debug)]
pub(super) struct Vectors {
    /// A list of `width` numbers per row; NULL where it is refused.
    pub(super) column: FixedSizeListArray,
    /// By row: why it is refused.
    pub(super) refused: Vec<(usize, String)>,
}

/// What numbers are stored as, where that is not f32; why a column holds no vectors.
pub(super) fn stored_as(kind: &DataType) -> Result<Option<&'static str>, String> {
    let item = match kind {
        DataType::FixedSizeList(item, _) | DataType::List(item) | DataType::LargeList(item) => item.data_type(),
        // as CSV has them
        DataType::Utf8 => &DataType::Float32,
        other => return Err(format!("it is of type {other}, and not a list of numbers")),
    };
    match item {
        DataType::Float32 => Ok(None),
        DataType::Float16 => Ok(Some("f16")),
        DataType::Float64 => Ok(Some("f64")),
        item if item.is_integer() => Ok(Some("integers")),
        other => Err(format!("its lists are of type {other}, and not of numbers")),
    }
}

/// Whether a type is lists of numbers.
pub(crate) fn is_list_of_numbers(kind: &DataType) -> bool {
    *kind != DataType::Utf8 && stored_as(kind).is_ok()
}

/// Lists of numbers as a column of `images` that holds embeddings or logits; NULL where they are.
///
/// Errors: what the first row is that is no embedding, or no logits.
pub(crate) fn checked_numbers(column: &ArrayRef, field: &Field) -> Result<ArrayRef, String> {
    let DataType::FixedSizeList(_, width) = field.data_type() else { return Ok(Arc::clone(column)) };
    let check = if schema::is_logits(field) { logits } else { vectors };
    let found = check(column, *width as usize).map_err(|error| error.to_string())?;
    match found.refused.into_iter().find(|(row, _)| column.is_valid(*row)) {
        Some((_, reason)) => Err(reason),
        None => Ok(Arc::new(found.column)),
    }
}

/// How many numbers the vectors of a column have: of lists of any length what most of them have.
pub(super) fn width(column: &ArrayRef) -> Option<usize> {
    fn lengths<O: OffsetSizeTrait>(column: &ArrayRef) -> Vec<usize> {
        let lists = column.as_list::<O>();
        (0..lists.len()).filter(|&row| lists.is_valid(row)).map(|row| lists.value_length(row).as_usize()).collect()
    }
    let most = |lengths: Vec<usize>| {
        let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
        lengths.into_iter().for_each(|length| *counts.entry(length).or_default() += 1);
        counts.into_iter().max_by_key(|(_, count)| *count).map(|(length, _)| length)
    };
    match column.data_type() {
        DataType::FixedSizeList(_, width) => Some(*width as usize),
        DataType::List(_) => most(lengths::<i32>(column)),
        DataType::LargeList(_) => most(lengths::<i64>(column)),
        DataType::Utf8 => {
            let lists = column.as_string::<i32>().iter().flatten().filter_map(parsed);
            most(lists.map(|numbers| numbers.len()).collect())
        }
        _ => None,
    }
}

/// The numbers of a text: `[0.5, 1]`, as JSON and Python write lists, also of NumPy 2's numbers (`np.float32(0.5)`), `[0.5 1]`, as
/// NumPy prints arrays, or a tensor as torch prints it.
fn parsed(text: &str) -> Option<Vec<f32>> {
    let text = text.trim();
    let text = text.strip_prefix("tensor(").and_then(|text| text.strip_suffix(')')).unwrap_or(text);
    let inside = text.strip_prefix('[')?.strip_suffix(']')?;
    let parts = inside.split([',', ' ', '\n', '\t', '\r']).filter(|part| !part.is_empty());
    let number = |part: &str| {
        let bare =
            part.strip_suffix(')').and_then(|part| part.strip_prefix("np.float")).and_then(|part| part.split_once('('));
        bare.map_or(part, |(_, number)| number).parse().ok()
    };
    parts.map(number).collect()
}

/// The embeddings of a column, of `width` numbers each: what can be normalised.
pub(super) fn vectors(column: &ArrayRef, width: usize) -> Result<Vectors, ArrowError> {
    let mut unit = Vec::with_capacity(width);
    checked(column, width, |found| {
        unit.clear();
        normalize(found, &mut unit).map_err(|problem| format!("it is {problem}"))
    })
}

/// The logits of a column, of `width` numbers each: all finite.
pub(super) fn logits(column: &ArrayRef, width: usize) -> Result<Vectors, ArrowError> {
    checked(column, width, |found| match found.iter().position(|number| !number.is_finite()) {
        Some(at) => Err(format!("it is {} at place {at}", found[at])),
        None => Ok(()),
    })
}

fn checked(
    column: &ArrayRef,
    width: usize,
    mut check: impl FnMut(&[f32]) -> Result<(), String>,
) -> Result<Vectors, ArrowError> {
    if let Some(column) = as_stored(column, width, &mut check) {
        return Ok(Vectors { column, refused: Vec::new() });
    }
    let rows = column.len();
    let mut values = Vec::with_capacity(rows * width);
    let (mut refused, mut whole) = (Vec::new(), Vec::with_capacity(rows));
    let mut take = |row: usize, found: Result<&[f32], String>| {
        let fitting = found.and_then(|found| match found.len() {
            length if length == width => Ok(found),
            length => Err(format!("it has {length} numbers, and the others {width}")),
        });
        let fitting = fitting.and_then(|found| check(found).map(|()| found));
        whole.push(fitting.is_ok());
        match fitting {
            Ok(found) => values.extend_from_slice(found),
            Err(reason) => {
                values.resize(values.len() + width, 0.0);
                refused.push((row, reason));
            }
        }
    };
    const NULL: &str = "it is NULL";
    if let Some(texts) = column.as_string_opt::<i32>() {
        for row in 0..rows {
            let numbers = texts.is_valid(row).then(|| parsed(texts.value(row)));
            match numbers {
                None => take(row, Err(NULL.into())),
                Some(None) => take(row, Err("it is no list of numbers".into())),
                Some(Some(numbers)) => take(row, Ok(&numbers)),
            }
        }
    } else {
        let (all, range): (ArrayRef, Ranges) = match column.data_type() {
            DataType::FixedSizeList(..) => {
                let lists = column.as_fixed_size_list().clone();
                let all = Arc::clone(lists.values());
                let length = lists.value_length() as usize;
                (
                    all,
                    Box::new(move |row| (lists.value_offset(row) as usize, lists.value_offset(row) as usize + length)),
                )
            }
            DataType::LargeList(_) => of_lists::<i64>(column),
            _ => of_lists::<i32>(column),
        };
        let all = cast(&all, &DataType::Float32)?;
        for row in 0..rows {
            let (from, to) = range(row);
            take(
                row,
                match column.is_valid(row) {
                    true => numbers(&all, from, to).map_err(|problem| format!("it is {problem}")),
                    false => Err(NULL.into()),
                },
            );
        }
    }
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    let values: ArrayRef = Arc::new(Float32Array::from(values));
    let nulls = Some(NullBuffer::from(whole)).filter(|nulls| nulls.null_count() > 0);
    Ok(Vectors { column: FixedSizeListArray::try_new(item, width as i32, values, nulls)?, refused })
}

/// A column that is stored as it is wanted, and of which no row is refused, is not copied.
fn as_stored(
    column: &ArrayRef,
    width: usize,
    check: &mut impl FnMut(&[f32]) -> Result<(), String>,
) -> Option<FixedSizeListArray> {
    let lists = column.as_fixed_size_list_opt().filter(|lists| lists.null_count() == 0 && !lists.is_empty())?;
    let numbers = lists.values().as_primitive_opt::<Float32Type>().filter(|numbers| numbers.null_count() == 0)?;
    if lists.value_length() as usize != width || width == 0 {
        return None;
    }
    let numbers = numbers.slice(lists.value_offset(0) as usize, lists.len() * width);
    if !numbers.values().chunks_exact(width).all(|row| check(row).is_ok()) {
        return None;
    }
    let item = Arc::new(Field::new("item", DataType::Float32, true));
    FixedSizeListArray::try_new(item, width as i32, Arc::new(numbers), None).ok()
}

type Ranges = Box<dyn Fn(usize) -> (usize, usize)>;

/// The numbers of all lists, and where those of each are.
fn of_lists<O: OffsetSizeTrait>(column: &ArrayRef) -> (ArrayRef, Ranges) {
    let lists = column.as_list::<O>().clone();
    let all = Arc::clone(lists.values());
    (all, Box::new(move |row| (lists.value_offsets()[row].as_usize(), lists.value_offsets()[row + 1].as_usize())))
}

/// Whether two vectors are the same numbers.
pub(super) fn same(one: &FixedSizeListArray, at: usize, other: &FixedSizeListArray, there: usize) -> bool {
    let row = |lists: &FixedSizeListArray, row: usize| {
        let from = lists.value_offset(row) as usize;
        (lists.values().as_primitive::<Float32Type>().clone(), from, from + lists.value_length() as usize)
    };
    let ((one, from, to), (other, begin, end)) = (row(one, at), row(other, there));
    one.values()[from..to] == other.values()[begin..end]
}

#[cfg(test)]
mod tests {
    use arrow::array::{LargeListArray, ListArray, StringArray};
    use arrow::datatypes::{Float16Type, Float64Type};

    use super::*;

    /// By row: the vector, where it is one; and why others are refused.
    type Found = (Vec<Option<Vec<f32>>>, Vec<(usize, String)>);

    fn found(column: ArrayRef, width: usize) -> Found {
        let Vectors { column, refused } = vectors(&column, width).unwrap();
        let row = |row: usize| {
            column.is_valid(row).then(|| column.value(row).as_primitive::<Float32Type>().values().to_vec())
        };
        ((0..column.len()).map(row).collect(), refused)
    }

    #[test]
    fn lists_of_every_kind_are_vectors_and_what_is_none_is_named() {
        let rows = [Some(vec![Some(3.0), Some(4.0)]), None, Some(vec![Some(1.0)]), Some(vec![Some(0.0), Some(0.0)])];
        let more =
            [Some(vec![Some(f64::NAN), Some(1.0)]), Some(vec![None, Some(1.0)]), Some(vec![Some(1e300), Some(1.0)])];
        let lists: ArrayRef =
            Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>([&rows[..], &more].concat()));
        assert_eq!(width(&lists), Some(2));
        let (vectors, refused) = found(lists, 2);
        assert_eq!(vectors[0], Some(vec![3.0, 4.0]));
        assert!(vectors[1..].iter().all(Option::is_none));
        let reasons: Vec<&str> = refused.iter().map(|(_, reason)| reason.as_str()).collect();
        assert_eq!(refused.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
        assert_eq!(reasons[..2], ["it is NULL", "it has 1 numbers, and the others 2"]);
        assert!(reasons[2].contains("zero") && reasons[4].contains("NULL number"), "{reasons:?}");
        assert!(reasons[3] == reasons[5] || reasons[3].contains("finite"), "{reasons:?}");

        let half = |number: f32| Some(half::f16::from_f32(number));
        let lists = LargeListArray::from_iter_primitive::<Float16Type, _, _>([Some(vec![half(0.5), half(-1.5)])]);
        assert_eq!(stored_as(lists.data_type()), Ok(Some("f16")));
        assert_eq!(found(Arc::new(lists), 2).0, [Some(vec![0.5, -1.5])]);

        let good = ["[0.5, 1]", "[ 0.5  1.\n]", "[np.float32(0.5), np.float64(1)]", "tensor([0.5000, 1.0000])"];
        let texts =
            StringArray::from([&good.map(Some)[..], &[Some("0.5"), Some("[a]"), Some("[0.5 ... 1]"), None]].concat());
        let (vectors, refused) = found(Arc::new(texts), 2);
        assert!(vectors[..4].iter().all(|vector| *vector == Some(vec![0.5, 1.0])), "{vectors:?}");
        assert_eq!(refused.len(), 4);
        let lists =
            ListArray::from_iter_primitive::<Float64Type, _, _>([1, 3, 3].map(|length| Some(vec![Some(1.0); length])));
        assert_eq!(width(&(Arc::new(lists) as ArrayRef)), Some(3), "a stray row does not decide");
        assert!(stored_as(&DataType::Int64).unwrap_err().contains("not a list of numbers"));
    }

    #[test]
    fn parts_of_columns_are_their_own_rows() {
        let rows = (0..6u8).map(|row| Some([Some(f64::from(row) + 1.0), Some(1.0)]));
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(rows.clone()));
        let fixed: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(rows, 2));
        let stored: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
            (0..6u8).map(|row| Some([Some(f32::from(row) + 1.0), Some(1.0)])),
            2,
        ));
        for column in [lists, fixed, Arc::clone(&stored)] {
            assert_eq!(found(column.slice(2, 2), 2).0, [Some(vec![3.0, 1.0]), Some(vec![4.0, 1.0])]);
        }
        // not copied where there is nothing to change
        let whole = vectors(&stored, 2).unwrap().column;
        let start = |lists: &FixedSizeListArray| lists.values().as_primitive::<Float32Type>().values().as_ptr();
        assert_eq!(start(&whole), start(stored.as_fixed_size_list()));
        let zero: ArrayRef = Arc::new(FixedSizeListArray::from_iter_primitive::<Float32Type, _, _>(
            [Some([Some(0.0), Some(0.0)]), Some([Some(1.0), Some(0.0)])],
            2,
        ));
        let (vectors, refused) = found(zero, 2);
        assert_eq!((vectors[0].is_none(), vectors[1].clone(), refused.len()), (true, Some(vec![1.0, 0.0]), 1));
    }
}
