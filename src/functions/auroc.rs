//! `auroc(score, is_ood)`: the chance that an OOD row scores above an ID row.

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};

use super::samples::{self, Samples};
use crate::metrics;

const NAME: &str = "auroc";

/// DOUBLE in [0, 1], ties counting half; NULL where one class has no rows.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Auroc {
    signature: Signature,
}

impl Auroc {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for Auroc {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        samples::coerce(NAME, types)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(samples::state_fields(&args))
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        samples::refuse_distinct(NAME, &args)?;
        Ok(Box::new(Samples::new(NAME, metrics::auroc)))
    }
}
