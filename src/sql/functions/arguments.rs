//! What functions of a bank are called with: their parameters, and a call with its literals resolved.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{ColumnarValue, Documentation};

use crate::bank::{Bank, Banks, Calibration, Classes, Definition};
use crate::error::Error;
use crate::index::SearchOptions;
use crate::schema;
use crate::statistics::gaussian::Gaussian;
use crate::statistics::guidance::Guide;

/// A parameter of a function of a bank. Those after the bank may be left out of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parameter {
    /// FLOAT[d], or a list of d numbers.
    Embedding,
    /// FLOAT[classes], or a list of numbers: the same row's class logits.
    Logits,
    /// A literal: the bank's name, with a version or without.
    Bank,
    /// A literal from 1 to the bank's rows; the bank's own k where it is left out.
    K,
    /// UINT64: the row's own entry in the bank is excluded.
    Id,
    /// A literal; 0.95 where it is left out.
    Tpr,
    /// A literal; without it a threshold promises nothing.
    Confidence,
}

/// Those of a score: `(embedding, bank [, k] [, id])`.
pub(super) const OF_SCORE: &[Parameter] = &[Parameter::Embedding, Parameter::Bank, Parameter::K, Parameter::Id];

impl Parameter {
    fn coerce(self, name: &str, given: &DataType) -> Result<DataType> {
        let whole = |what: &str, wanted: DataType| match given.is_integer() {
            true => Ok(wanted),
            false => plan_err!("{name}: {what} must be a whole number, got {given}"),
        };
        match self {
            Self::Embedding => embedding_type(name, given),
            Self::Logits => match vector_type(given) {
                Some(wanted) => Ok(wanted),
                None => plan_err!("{name}: logits must be class logits (FLOAT[classes]), got {given}"),
            },
            Self::Bank => match given {
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Ok(DataType::Utf8),
                other => plan_err!("{name}: bank must be a bank's name in quotes, got {other}"),
            },
            Self::K => whole("k", DataType::Int64),
            Self::Id => whole("id", DataType::UInt64),
            Self::Tpr => number_type(name, "tpr", given),
            Self::Confidence => number_type(name, "confidence", given),
        }
    }

    /// The parameter of each argument; `None` where there are too few arguments or too many.
    fn assign(parameters: &[Self], types: &[DataType]) -> Option<Vec<Self>> {
        let mut assigned = parameters.get(..types.len())?.to_vec();
        // k is left out where what stands in its place is an id, which is UINT64 as images.id is
        if let (Some(Self::Id), Some(DataType::UInt64)) = (parameters.get(types.len()), types.last()) {
            assigned.pop();
            assigned.push(Self::Id);
        }
        assigned.contains(&Self::Bank).then_some(assigned)
    }
}

/// Argument types as the parameters want them. `takes` is what an error says of the parameters.
pub(super) fn coerce(name: &str, takes: &str, parameters: &[Parameter], types: &[DataType]) -> Result<Vec<DataType>> {
    match Parameter::assign(parameters, types) {
        Some(assigned) => assigned.iter().zip(types).map(|(parameter, given)| parameter.coerce(name, given)).collect(),
        None => plan_err!("{name} takes {takes}, got {} arguments", types.len()),
    }
}

/// The parameters of a function as its documentation shows them: `(embedding, bank [, tpr])`.
pub(super) fn takes<'a>(name: &str, documentation: Option<&'a Documentation>) -> &'a str {
    documentation.map_or("", |documentation| documentation.syntax_example.trim_start_matches(name))
}

/// An embedding stays FixedSizeList<Float32> without a copy.
pub(super) fn embedding_type(name: &str, given: &DataType) -> Result<DataType> {
    match vector_type(given) {
        Some(wanted) => Ok(wanted),
        None => plan_err!("{name}: the first argument must be an embedding (FLOAT[d]), got {given}"),
    }
}

fn vector_type(given: &DataType) -> Option<DataType> {
    let item = || Arc::new(Field::new("item", DataType::Float32, true));
    Some(match given {
        DataType::Null => DataType::Null,
        DataType::FixedSizeList(field, _) if *field.data_type() == DataType::Float32 => given.clone(),
        DataType::FixedSizeList(field, d) if field.data_type().is_numeric() => DataType::FixedSizeList(item(), *d),
        DataType::List(field) | DataType::LargeList(field) if field.data_type().is_numeric() => DataType::List(item()),
        _ => return None,
    })
}

/// The type of a parameter that is a number.
pub(super) fn number_type(name: &str, what: &str, given: &DataType) -> Result<DataType> {
    if given.is_numeric() { Ok(DataType::Float64) } else { plan_err!("{name}: {what} must be a number, got {given}") }
}

/// The value of such a parameter, which must be a literal.
pub(super) fn number(name: &str, what: &str, such: &str, literal: Option<&ScalarValue>) -> Result<f64> {
    match literal.map(|value| value.cast_to(&DataType::Float64)).transpose()? {
        Some(ScalarValue::Float64(Some(value))) => Ok(value),
        _ => plan_err!("{name}: {what} must be a literal number, such as {such}"),
    }
}

/// Each argument that is a literal.
pub(super) fn literals(args: &[ColumnarValue]) -> Vec<Option<&ScalarValue>> {
    args.iter().map(|arg| if let ColumnarValue::Scalar(value) = arg { Some(value) } else { None }).collect()
}

/// What a function returns: a column, or the one value in it where the arguments are single values.
pub(super) fn value(column: ArrayRef, scalar: bool) -> Result<ColumnarValue> {
    match scalar {
        true => Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&column, 0)?)),
        false => Ok(ColumnarValue::Array(column)),
    }
}

/// A call of a function of a bank, its literals resolved.
#[derive(Debug)]
pub(crate) struct BankCall<'a> {
    banks: &'a Banks,
    pub(crate) bank: Arc<Definition>,
    /// Which neighbour.
    pub(crate) k: usize,
    /// The position of the argument whose id is excluded from the bank.
    pub(crate) id: Option<usize>,
    /// The position of the argument that has the row's class logits.
    pub(super) logits: Option<usize>,
    /// The share of in-distribution images that a threshold accepts.
    pub(super) tpr: f64,
    /// With which confidence.
    pub(super) confidence: Option<f64>,
}

/// Resolve a call from its arguments' types, as [`coerce`] gives them, and from those arguments that are literals.
pub(super) fn resolve<'a>(
    name: &str,
    parameters: &[Parameter],
    banks: &'a Banks,
    types: &[DataType],
    literals: &[Option<&ScalarValue>],
) -> Result<BankCall<'a>> {
    let assigned = Parameter::assign(parameters, types).unwrap_or_default();
    let position = |wanted| assigned.iter().position(|&parameter| parameter == wanted);
    let bank = match position(Parameter::Bank).and_then(|at| literals[at]).and_then(ScalarValue::try_as_str) {
        Some(Some(bank)) => banks.definition(bank)?,
        _ => return plan_err!("{name}: bank must be a literal, such as 'cifar10'"),
    };
    let id = position(Parameter::Id);
    let mut k = bank.k;
    if parameters.contains(&Parameter::K) {
        let given = match position(Parameter::K).map(|at| literals[at]) {
            None => bank.k as i128,
            Some(literal) => match literal.map(|value| value.cast_to(&DataType::Int64)).transpose()? {
                Some(ScalarValue::Int64(Some(k))) => i128::from(k),
                _ => {
                    return plan_err!(
                        "{name}: k must be a literal whole number; a row's id is UINT64, as images.id is"
                    );
                }
            },
        };
        k = bank.check_k_of(given, id.is_some())?;
    }
    let tpr = position(Parameter::Tpr).map_or(Ok(0.95), |at| number(name, "tpr", "0.95", literals[at]))?;
    let confidence =
        position(Parameter::Confidence).map(|at| number(name, "confidence", "0.9", literals[at])).transpose()?;
    Ok(BankCall { banks, bank, k, id, logits: position(Parameter::Logits), tpr, confidence })
}

impl BankCall<'_> {
    /// The bank, ready to be searched.
    pub(super) fn open(&self, options: SearchOptions) -> Result<Arc<Bank>> {
        Ok(self.banks.open(&self.bank, options)?)
    }

    /// The Gaussians of the bank's rows.
    pub(super) fn gaussian(&self, by: Classes, options: SearchOptions) -> Result<Arc<Gaussian>> {
        Ok(self.banks.gaussian(&self.bank, by, options)?)
    }

    /// The bank's rows, weighed by their logits.
    pub(super) fn guide(&self, options: SearchOptions) -> Result<Arc<Guide>> {
        Ok(self.banks.guide(&self.bank, options)?)
    }

    /// The scores of the bank's calibration images at k.
    pub(crate) fn calibration(&self) -> Result<&Calibration> {
        Ok(self.banks.calibration(&self.bank, self.k)?)
    }

    /// Refuse an embedding column that cannot be measured against the bank: another dimension, or other weights.
    pub(super) fn check_embedding(&self, field: &Field) -> Result<()> {
        let bank = &self.bank;
        if let DataType::FixedSizeList(_, found) = field.data_type()
            && *found as usize != bank.dimension
        {
            let (what, found) = (format!("embedding {}", field.name()), *found as usize);
            return Err(Error::WrongDimension { what, bank: bank.name.clone(), expected: bank.dimension, found }.into());
        }
        self.check_network(field, schema::BACKBONE_KEY)
    }

    /// Refuse logits of another network than the bank's.
    pub(super) fn check_logits(&self, field: &Field) -> Result<()> {
        self.check_network(field, schema::LOGITS_KEY)
    }

    /// `key` is the metadata that names a column's network.
    fn check_network(&self, field: &Field, key: &str) -> Result<()> {
        let (bank, metadata) = (&self.bank, field.metadata());
        match (metadata.get(key), metadata.get(schema::SHA256_KEY)) {
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
}
