//! What a call of a score function may look like, and the scores of a column of embeddings.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float32Array};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs};
use std::sync::Arc;

use crate::bank::{Bank, Banks, Definition};
use crate::error::Error;
use crate::index::SearchOptions;
use crate::schema;
use crate::vectors::{Vectors, embedding, normalize, numbers};

/// The third argument of a score function.
#[derive(Clone, Copy)]
pub(super) enum Third {
    /// A whole number, as k.
    Integer,
    /// A rate, as tpr.
    Rate,
}

/// Argument types of `name(embedding, bank [, third])`: embeddings stay FixedSizeList<Float32> without a copy.
pub(super) fn coerce(name: &str, third: Third, types: &[DataType]) -> Result<Vec<DataType>> {
    if !(2..=3).contains(&types.len()) {
        let third = if matches!(third, Third::Integer) { "k" } else { "tpr" };
        return plan_err!("{name} takes (embedding, bank [, {third}]), got {} arguments", types.len());
    }
    let item = || Arc::new(Field::new("item", DataType::Float32, true));
    let embedding = match &types[0] {
        DataType::Null => DataType::Null,
        DataType::FixedSizeList(field, _) if *field.data_type() == DataType::Float32 => types[0].clone(),
        DataType::FixedSizeList(field, d) if field.data_type().is_numeric() => DataType::FixedSizeList(item(), *d),
        DataType::List(field) | DataType::LargeList(field) if field.data_type().is_numeric() => DataType::List(item()),
        other => return plan_err!("{name}: the first argument must be an embedding (FLOAT[d]), got {other}"),
    };
    let mut coerced = vec![embedding, bank_type(name, &types[1])?];
    if let Some(given) = types.get(2) {
        coerced.push(match third {
            Third::Integer if given.is_integer() => DataType::Int64,
            Third::Integer => return plan_err!("{name}: k must be a whole number, got {given}"),
            Third::Rate => rate_type(name, given)?,
        });
    }
    Ok(coerced)
}

pub(super) fn bank_type(name: &str, given: &DataType) -> Result<DataType> {
    match given {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(DataType::Utf8),
        other => plan_err!("{name}: bank must be a bank's name in quotes, got {other}"),
    }
}

pub(super) fn rate_type(name: &str, given: &DataType) -> Result<DataType> {
    if given.is_numeric() { Ok(DataType::Float64) } else { plan_err!("{name}: tpr must be a number, got {given}") }
}

/// The definition of the bank that the literal at `position` names.
pub(super) fn bank<'a>(name: &str, banks: &'a Banks, literal: Option<&ScalarValue>) -> Result<&'a Definition> {
    match literal {
        Some(
            ScalarValue::Utf8(Some(bank)) | ScalarValue::Utf8View(Some(bank)) | ScalarValue::LargeUtf8(Some(bank)),
        ) => Ok(banks.definition(bank)?),
        _ => plan_err!("{name}: bank must be a literal, such as 'cifar10'"),
    }
}

/// k: the literal, or the bank's own where it is left out.
pub(super) fn k(name: &str, bank: &Definition, given: bool, literal: Option<&ScalarValue>) -> Result<usize> {
    match (given, literal) {
        (false, _) => Ok(bank.k),
        (true, Some(ScalarValue::Int64(Some(k)))) => Ok(bank.check_k(i128::from(*k))?),
        (true, Some(other)) if other.data_type().is_integer() && !other.is_null() => {
            match other.cast_to(&DataType::Int64)? {
                ScalarValue::Int64(Some(k)) => Ok(bank.check_k(i128::from(k))?),
                _ => plan_err!("{name}: k must be a literal whole number"),
            }
        }
        _ => plan_err!("{name}: k must be a literal whole number"),
    }
}

/// tpr: the literal, or 0.95 where it is left out.
pub(super) fn tpr(name: &str, given: bool, literal: Option<&ScalarValue>) -> Result<f64> {
    if !given {
        return Ok(0.95);
    }
    match literal.map(|value| value.cast_to(&DataType::Float64)).transpose()? {
        Some(ScalarValue::Float64(Some(tpr))) => Ok(tpr),
        _ => plan_err!("{name}: tpr must be a literal number, such as 0.95"),
    }
}

/// Refuse an embedding column that cannot be measured against the bank: another dimension, or other weights.
pub(super) fn check_embedding(field: &Field, bank: &Definition) -> Result<()> {
    if let DataType::FixedSizeList(_, found) = field.data_type()
        && *found as usize != bank.dimension
    {
        let (what, found) = (format!("embedding {}", field.name()), *found as usize);
        return Err(Error::WrongDimension { what, bank: bank.name.clone(), expected: bank.dimension, found }.into());
    }
    let metadata = field.metadata();
    match (metadata.get(schema::BACKBONE_KEY), metadata.get(schema::SHA256_KEY)) {
        (Some(backbone), Some(sha256)) if *sha256 != bank.sha256 => Err(Error::OtherBackbone {
            column: field.name().clone(),
            found: backbone.clone(),
            bank: bank.name.clone(),
            expected: bank.backbone.clone(),
        }
        .into()),
        _ => Ok(()),
    }
}

/// Bank, literal of the third argument, and the embedding's check, as planning sees a call.
pub(super) fn planned<'a>(
    name: &str,
    banks: &'a Banks,
    args: &'a ReturnFieldArgs<'_>,
) -> Result<(&'a Definition, Option<&'a ScalarValue>)> {
    let bank = bank(name, banks, args.scalar_arguments[1])?;
    check_embedding(&args.arg_fields[0], bank)?;
    Ok((bank, args.scalar_arguments.get(2).copied().flatten()))
}

/// The literal of an evaluated argument.
pub(super) fn literal(args: &[ColumnarValue], position: usize) -> Option<&ScalarValue> {
    match args.get(position) {
        Some(ColumnarValue::Scalar(value)) => Some(value),
        _ => None,
    }
}

/// The result's field: named after the function, NULL where the embedding is.
pub(super) fn result_field(name: &str, data_type: DataType) -> FieldRef {
    Arc::new(Field::new(name, data_type, true))
}

/// Scores of a column of embeddings; NULL gives NULL.
pub(super) fn scores(
    banks: &Banks,
    bank: &Definition,
    k: usize,
    options: SearchOptions,
    column: &ArrayRef,
) -> Result<Float32Array> {
    each(banks, bank, options, column, |opened, queries| opened.kth_distances(queries, k))
}

/// Whether the score of each embedding of a column is above `threshold`; NULL gives NULL.
pub(super) fn above(
    banks: &Banks,
    bank: &Definition,
    threshold: f32,
    options: SearchOptions,
    column: &ArrayRef,
) -> Result<BooleanArray> {
    each(banks, bank, options, column, |opened, queries| {
        let within = opened.within(queries, bank.k, threshold)?;
        Ok(within.into_iter().map(|within| !within).collect())
    })
}

/// What `ask` finds for the embeddings of a column that are not NULL, in an array with NULL for the others.
fn each<T, A: FromIterator<Option<T>>>(
    banks: &Banks,
    bank: &Definition,
    options: SearchOptions,
    column: &ArrayRef,
    ask: impl Fn(&Bank, Vectors<'_>) -> crate::error::Result<Vec<T>>,
) -> Result<A> {
    let (queries, valid) = queries(bank, column)?;
    let found = if queries.is_empty() {
        Vec::new()
    } else {
        ask(&*banks.open(&bank.name, options)?, Vectors::new(&queries, bank.dimension))?
    };
    let mut found = found.into_iter();
    Ok(valid.into_iter().map(|valid| if valid { found.next() } else { None }).collect())
}

/// The non-null rows normalised, n×d, and which rows those are.
fn queries(bank: &Definition, column: &ArrayRef) -> Result<(Vec<f32>, Vec<bool>)> {
    let mut queries = Vec::with_capacity(column.len() * bank.dimension);
    let mut valid = Vec::with_capacity(column.len());
    let mut push = |row: usize, values: Result<Option<&[f32]>, &'static str>| -> Result<()> {
        let bad = |problem| Error::BadVector { what: "the query's batch".into(), row, problem };
        let values = values.map_err(bad)?;
        valid.push(values.is_some());
        let Some(values) = values else { return Ok(()) };
        if values.len() != bank.dimension {
            let (what, found) = (format!("the embedding of row {row}"), values.len());
            return Err(Error::WrongDimension { what, bank: bank.name.clone(), expected: bank.dimension, found }.into());
        }
        Ok(normalize(values, &mut queries).map_err(bad)?)
    };
    match column.data_type() {
        DataType::FixedSizeList(..) => {
            let lists = column.as_fixed_size_list();
            for row in 0..lists.len() {
                push(row, embedding(lists, row))?;
            }
        }
        DataType::List(_) => {
            let lists = column.as_list::<i32>();
            for (row, ends) in lists.value_offsets().windows(2).enumerate() {
                let (from, to) = (ends[0] as usize, ends[1] as usize);
                push(row, lists.is_valid(row).then(|| numbers(lists.values(), from, to)).transpose())?;
            }
        }
        _ => valid.resize(column.len(), false),
    }
    Ok((queries, valid))
}
