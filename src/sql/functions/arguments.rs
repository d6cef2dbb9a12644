//! What a call of a score function may look like, and the embeddings of a column as queries.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, new_null_array};
use arrow::datatypes::{DataType, Field, FieldRef, UInt64Type};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs};

use crate::bank::{Bank, Banks, Definition};
use crate::error::Error;
use crate::index::SearchOptions;
use crate::index::vectors::{Vectors, embedding, normalize, numbers};
use crate::schema;

/// Argument types of `name(embedding, bank [, k] [, id])`. Of three arguments the last is an id where it is UINT64, as
/// `images.id` is, else k.
pub(super) fn coerce_scored(name: &str, types: &[DataType]) -> Result<Vec<DataType>> {
    let whole = |what: &str, given: &DataType, wanted: DataType| match given {
        given if given.is_integer() => Ok(wanted),
        given => plan_err!("{name}: {what} must be a whole number, got {given}"),
    };
    let (Some(given), Some(bank)) = (types.first(), types.get(1)) else {
        return plan_err!("{name} takes (embedding, bank [, k] [, id]), got {} arguments", types.len());
    };
    let mut coerced = vec![embedding_type(name, given)?, bank_type(name, bank)?];
    match &types[2..] {
        [] => {}
        [DataType::UInt64] => coerced.push(DataType::UInt64),
        [k] => coerced.push(whole("k", k, DataType::Int64)?),
        [k, id] => {
            coerced.push(whole("k", k, DataType::Int64)?);
            coerced.push(whole("id", id, DataType::UInt64)?);
        }
        _ => return plan_err!("{name} takes (embedding, bank [, k] [, id]), got {} arguments", types.len()),
    }
    Ok(coerced)
}

/// Where k and id stand among arguments of these types, as [`coerce_scored`] leaves them.
pub(crate) fn places(types: &[DataType]) -> (Option<usize>, Option<usize>) {
    match types {
        [_, _, DataType::UInt64] => (None, Some(2)),
        [_, _, _] => (Some(2), None),
        [_, _, _, _] => (Some(2), Some(3)),
        _ => (None, None),
    }
}

/// Embeddings stay FixedSizeList<Float32> without a copy.
pub(super) fn embedding_type(name: &str, given: &DataType) -> Result<DataType> {
    let item = || Arc::new(Field::new("item", DataType::Float32, true));
    Ok(match given {
        DataType::Null => DataType::Null,
        DataType::FixedSizeList(field, _) if *field.data_type() == DataType::Float32 => given.clone(),
        DataType::FixedSizeList(field, d) if field.data_type().is_numeric() => DataType::FixedSizeList(item(), *d),
        DataType::List(field) | DataType::LargeList(field) if field.data_type().is_numeric() => DataType::List(item()),
        other => return plan_err!("{name}: the first argument must be an embedding (FLOAT[d]), got {other}"),
    })
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

/// The definition of the bank that a literal names.
pub(crate) fn bank(name: &str, banks: &Banks, literal: Option<&ScalarValue>) -> Result<Arc<Definition>> {
    match literal {
        Some(
            ScalarValue::Utf8(Some(bank)) | ScalarValue::Utf8View(Some(bank)) | ScalarValue::LargeUtf8(Some(bank)),
        ) => Ok(banks.definition(bank)?),
        _ => plan_err!("{name}: bank must be a literal, such as 'cifar10'"),
    }
}

/// k: the literal, or the bank's own where it is left out. `leaves_out`: an id is given as well.
pub(crate) fn k(
    name: &str,
    bank: &Definition,
    given: bool,
    literal: Option<&ScalarValue>,
    leaves_out: bool,
) -> Result<usize> {
    let k = match (given, literal.map(|value| value.cast_to(&DataType::Int64)).transpose()?) {
        (false, _) => bank.k as i128,
        (true, Some(ScalarValue::Int64(Some(k)))) => i128::from(k),
        _ => return plan_err!("{name}: k must be a literal whole number; a row's id is UINT64, as images.id is"),
    };
    Ok(bank.check_k_of(k, leaves_out)?)
}

/// tpr: the literal, or 0.95 where it is left out.
pub(crate) fn tpr(name: &str, given: bool, literal: Option<&ScalarValue>) -> Result<f64> {
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

/// The bank of a call, as planning sees it; the embedding must fit it.
pub(super) fn planned(name: &str, banks: &Banks, args: &ReturnFieldArgs<'_>) -> Result<Arc<Definition>> {
    let bank = bank(name, banks, args.scalar_arguments[1])?;
    check_embedding(&args.arg_fields[0], &bank)?;
    Ok(bank)
}

/// What a call of `name(embedding, bank [, k] [, id])` asks for.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) bank: Arc<Definition>,
    pub(crate) k: usize,
}

/// The same for `name(embedding, bank [, k] [, id])`.
pub(super) fn planned_scored(name: &str, banks: &Banks, args: &ReturnFieldArgs<'_>) -> Result<Call> {
    let bank = planned(name, banks, args)?;
    let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
    let (at, id) = places(&types);
    let k = k(name, &bank, at.is_some(), at.and_then(|at| args.scalar_arguments[at]), id.is_some())?;
    Ok(Call { bank, k })
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

/// Embeddings of a column that are not NULL, normalised, and what is asked about them.
pub(crate) struct Asked<'a> {
    /// Queries, m×d.
    pub(crate) queries: Vectors<'a>,
    /// Which neighbour.
    pub(crate) k: usize,
    /// Per query, the id that is left out.
    pub(crate) own: Option<&'a [Option<u64>]>,
    valid: &'a [bool],
}

impl Asked<'_> {
    /// One value per row of the column, from one per query: `None` where the embedding is NULL.
    pub(crate) fn spread<T>(&self, found: Vec<Option<T>>) -> impl Iterator<Item = Option<T>> {
        let mut found = found.into_iter();
        self.valid.iter().map(move |&valid| if valid { found.next().flatten() } else { None })
    }
}

/// Evaluate `name(embedding, bank [, k] [, id])` for every row: `answer` gives a column for what is asked.
pub(super) fn each_row(
    name: &str,
    banks: &Banks,
    args: &ScalarFunctionArgs,
    options: SearchOptions,
    answer: impl Fn(&Bank, &Asked<'_>) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    let bank = bank(name, banks, literal(&args.args, 1))?;
    let types: Vec<DataType> = args.arg_fields.iter().map(|field| field.data_type().clone()).collect();
    let (at, id) = places(&types);
    let k = k(name, &bank, at.is_some(), at.and_then(|at| literal(&args.args, at)), id.is_some())?;
    evaluate(banks, Call { bank, k }, id, args, options, answer)
}

/// Evaluate a function of embedding and bank, at the bank's k.
pub(super) fn each_embedding(
    name: &str,
    banks: &Banks,
    args: &ScalarFunctionArgs,
    options: SearchOptions,
    answer: impl Fn(&Bank, &Asked<'_>) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    let bank = bank(name, banks, literal(&args.args, 1))?;
    let k = bank.k;
    evaluate(banks, Call { bank, k }, None, args, options, answer)
}

fn evaluate(
    banks: &Banks,
    Call { bank, k }: Call,
    id: Option<usize>,
    args: &ScalarFunctionArgs,
    options: SearchOptions,
    answer: impl Fn(&Bank, &Asked<'_>) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    let (embedding, id) = (&args.args[0], id.map(|id| &args.args[id]));
    let scalar = [Some(embedding), id].into_iter().flatten().all(|value| matches!(value, ColumnarValue::Scalar(_)));
    let rows = if scalar { 1 } else { args.number_rows };
    let column = embedding.to_array(rows)?;
    let ids = id.map(|id| id.to_array(rows)).transpose()?;
    let mut batch = Queries::with_capacity(bank.dimension, rows);
    batch.push(&bank.name, &column, ids.as_ref())?;
    let found = batch.ask(k, |asked| match asked.queries.is_empty() {
        // nothing but NULL: the bank need not be read
        true => Ok(new_null_array(args.return_field.data_type(), rows)),
        false => answer(&*banks.open(&bank, options)?, asked),
    })?;
    if scalar {
        Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&found, 0)?))
    } else {
        Ok(ColumnarValue::Array(found))
    }
}

/// Embeddings of one or more columns as queries: those that are not NULL, normalised, n×d, and which those are.
#[derive(Debug)]
pub(crate) struct Queries {
    dimension: usize,
    values: Vec<f32>,
    valid: Vec<bool>,
    own: Option<Vec<Option<u64>>>,
}

impl Queries {
    pub(crate) fn with_capacity(dimension: usize, rows: usize) -> Self {
        let (values, valid) = (Vec::with_capacity(dimension * rows), Vec::with_capacity(rows));
        Self { dimension, values, valid, own: None }
    }

    pub(crate) fn ask<T>(&self, k: usize, answer: impl FnOnce(&Asked<'_>) -> T) -> T {
        let (queries, own) = (Vectors::new(&self.values, self.dimension), self.own.as_deref());
        answer(&Asked { queries, k, own, valid: &self.valid })
    }

    /// The next column, with ids where rows leave their own entry out.
    pub(crate) fn push(&mut self, bank: &str, column: &ArrayRef, ids: Option<&ArrayRef>) -> Result<()> {
        match column.data_type() {
            DataType::FixedSizeList(..) => {
                let lists = column.as_fixed_size_list();
                for row in 0..lists.len() {
                    self.push_row(bank, row, embedding(lists, row))?;
                }
            }
            DataType::List(_) => {
                let lists = column.as_list::<i32>();
                for (row, ends) in lists.value_offsets().windows(2).enumerate() {
                    let (from, to) = (ends[0] as usize, ends[1] as usize);
                    let values = lists.is_valid(row).then(|| numbers(lists.values(), from, to)).transpose();
                    self.push_row(bank, row, values)?;
                }
            }
            _ => self.valid.resize(self.valid.len() + column.len(), false),
        }
        if let Some(ids) = ids {
            let valid = &self.valid[self.valid.len() - column.len()..];
            let ids = ids.as_primitive::<UInt64Type>().iter().zip(valid).filter(|&(_, &valid)| valid);
            self.own.get_or_insert_default().extend(ids.map(|(id, _)| id));
        }
        Ok(())
    }

    fn push_row(&mut self, bank: &str, row: usize, values: Result<Option<&[f32]>, &'static str>) -> Result<()> {
        let bad = |problem| Error::BadVector { what: "the query's batch".into(), row, problem };
        let values = values.map_err(bad)?;
        self.valid.push(values.is_some());
        let Some(values) = values else { return Ok(()) };
        if values.len() != self.dimension {
            let (what, found) = (format!("the embedding of row {row}"), values.len());
            return Err(Error::WrongDimension { what, bank: bank.into(), expected: self.dimension, found }.into());
        }
        Ok(normalize(values, &mut self.values).map_err(bad)?)
    }
}
