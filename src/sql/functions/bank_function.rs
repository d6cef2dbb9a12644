//! SQL functions of a bank: a description of each in plain values, and DataFusion's interface to all of them.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float32Array, new_null_array};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::ptr_eq::PtrEq;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::arguments::{self, BankCall, Parameter};
use super::logits;
use super::query_vectors::QueryVectors;
use super::settings;
use crate::bank::{Bank, Banks};
use crate::index::SearchOptions;

/// A function of a bank.
#[derive(Debug)]
pub(crate) struct BankFunction {
    /// As SQL calls it.
    pub(crate) name: &'static str,
    pub(super) parameters: &'static [Parameter],
    pub(super) documentation: fn() -> Option<&'static Documentation>,
    /// The result's field. What a call lacks is refused here, while the query is planned.
    pub(super) plan: fn(&BankCall<'_>) -> Result<Field>,
    pub(super) compute: Compute,
}

/// What a function computes. An embedding that is NULL gives NULL.
#[derive(Debug)]
pub(super) enum Compute {
    /// A FLOAT for each row.
    Score(Score),
    /// A value for each row.
    Column(fn(&BankCall<'_>, &QueryVectors, SearchOptions) -> Result<ArrayRef>),
    /// A value that does not depend on the row.
    Constant(fn(&BankCall<'_>) -> Result<ScalarValue>),
}

/// A score of each query, at a k; `None` where it is not defined.
pub(super) type Score = fn(&Bank, &QueryVectors, usize) -> crate::error::Result<Vec<Option<f32>>>;

impl BankFunction {
    /// The function over these banks.
    pub(super) fn udf(&'static self, banks: &Arc<Banks>) -> ScalarUDF {
        let signature = Signature::user_defined(Volatility::Stable);
        BankUdf { function: self, signature, banks: Arc::clone(banks).into() }.into()
    }

    /// The function of a bank that DataFusion knows as this one.
    pub(crate) fn of(udf: &ScalarUDF) -> Option<&'static Self> {
        udf.inner().downcast_ref::<BankUdf>().map(|udf| udf.function)
    }

    /// The banks of a function that is one of a bank.
    #[cfg(feature = "cluster")]
    pub(crate) fn banks(udf: &ScalarUDF) -> Option<&Arc<Banks>> {
        udf.inner().downcast_ref::<BankUdf>().map(|udf| &*udf.banks)
    }

    /// Whether it compares every row with a bank.
    pub(crate) fn searches(&self) -> bool {
        self.parameters.contains(&Parameter::Embedding)
    }

    /// Resolve a call of it from the types of its arguments, and from those that are literals.
    pub(crate) fn resolve<'a>(
        &self,
        banks: &'a Banks,
        types: &[DataType],
        literals: &[Option<&ScalarValue>],
    ) -> Result<BankCall<'a>> {
        arguments::resolve(self.name, self.parameters, banks, types, literals)
    }
}

/// What DataFusion calls.
#[derive(Debug)]
struct BankUdf {
    function: &'static BankFunction,
    signature: Signature,
    banks: PtrEq<Arc<Banks>>,
}

impl PartialEq for BankUdf {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name && self.banks == other.banks
    }
}

impl Eq for BankUdf {}

impl Hash for BankUdf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
        self.banks.hash(state);
    }
}

impl ScalarUDFImpl for BankUdf {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let takes = arguments::takes(self.function.name, self.documentation());
        arguments::coerce(self.function.name, takes, self.function.parameters, types)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        plan_err!("{}: planned by its arguments, see return_field_from_args", self.function.name)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let call = self.function.resolve(&self.banks, &types(args.arg_fields), args.scalar_arguments)?;
        if self.function.searches() {
            call.check_embedding(&args.arg_fields[0])?;
        }
        if let Some(at) = call.logits {
            logits::check(self.function.name, &args.arg_fields[at])?;
            call.check_logits(&args.arg_fields[at])?;
        }
        Ok(Arc::new((self.function.plan)(&call)?))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let literals = arguments::literals(&args.args);
        let call = self.function.resolve(&self.banks, &types(&args.arg_fields), &literals)?;
        match self.function.compute {
            Compute::Score(score) => each_row(&call, &args, |queries, options| {
                let scores = score(&*call.open(options)?, queries, call.k)?;
                Ok(Arc::new(queries.scatter(scores).collect::<Float32Array>()))
            }),
            Compute::Column(column) => each_row(&call, &args, |queries, options| column(&call, queries, options)),
            Compute::Constant(value) => Ok(ColumnarValue::Scalar(value(&call)?)),
        }
    }

    fn documentation(&self) -> Option<&Documentation> {
        (self.function.documentation)()
    }
}

fn types(fields: &[FieldRef]) -> Vec<DataType> {
    fields.iter().map(|field| field.data_type().clone()).collect()
}

/// Evaluate a call for every row of a batch: its embedding is the first argument.
fn each_row(
    call: &BankCall<'_>,
    args: &ScalarFunctionArgs,
    compute: impl FnOnce(&QueryVectors, SearchOptions) -> Result<ArrayRef>,
) -> Result<ColumnarValue> {
    let options = settings::search(&args.config_options)?;
    let (embedding, ids) = (&args.args[0], call.id.map(|id| &args.args[id]));
    let logits = call.logits.map(|logits| &args.args[logits]);
    let scalar =
        [Some(embedding), ids, logits].into_iter().flatten().all(|value| matches!(value, ColumnarValue::Scalar(_)));
    let rows = if scalar { 1 } else { args.number_rows };
    let mut queries = QueryVectors::with_capacity(call.bank.dimension, rows);
    let ids = ids.map(|ids| ids.to_array(rows)).transpose()?;
    queries.push(&call.bank.name, &embedding.to_array(rows)?, ids.as_ref())?;
    if let Some(logits) = logits {
        queries.push_logits(&logits.to_array(rows)?)?;
    }
    let found = match queries.vectors().is_empty() {
        // nothing but NULL: the bank need not be read
        true => new_null_array(args.return_field.data_type(), rows),
        false => compute(&queries, options)?,
    };
    arguments::value(found, scalar)
}
