//! Functions that give each row a FLOAT from its nearest neighbours: `name(embedding, bank [, k] [, id])`.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::Float32Array;
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::ptr_eq::PtrEq;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::arguments::{self, Asked};
use super::settings;
use crate::bank::{Bank, Banks};

/// What is computed for queries, at some k; `None` where it is not defined.
pub(super) type Compute = fn(&Bank, &Asked<'_>) -> crate::error::Result<Vec<Option<f32>>>;

/// What `compute` makes of each query's k nearest distances, nearest first.
pub(super) fn of_distances(
    bank: &Bank,
    asked: &Asked<'_>,
    compute: impl Fn(&[f32]) -> Option<f32>,
) -> crate::error::Result<Vec<Option<f32>>> {
    let nearest = bank.nearest(asked.queries, asked.k, asked.own)?;
    Ok(nearest.iter().map(|of| compute(&of.iter().map(|neighbor| neighbor.distance).collect::<Vec<_>>())).collect())
}

/// One of those functions.
pub(super) struct RowScore {
    name: &'static str,
    signature: Signature,
    banks: PtrEq<Arc<Banks>>,
    documentation: Option<&'static Documentation>,
    compute: Compute,
}

impl RowScore {
    pub(super) fn udf(
        name: &'static str,
        banks: &Arc<Banks>,
        documentation: Option<&'static Documentation>,
        compute: Compute,
    ) -> ScalarUDF {
        let signature = Signature::user_defined(Volatility::Stable);
        Self { name, signature, banks: Arc::clone(banks).into(), documentation, compute }.into()
    }
}

impl std::fmt::Debug for RowScore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for RowScore {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.banks == other.banks
    }
}

impl Eq for RowScore {}

impl Hash for RowScore {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
        self.banks.hash(state);
    }
}

impl ScalarUDFImpl for RowScore {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        arguments::coerce_scored(self.name, types)
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        plan_err!("{}: planned by its arguments, see return_field_from_args", self.name)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        arguments::planned_scored(self.name, &self.banks, &args)?;
        Ok(arguments::result_field(self.name, DataType::Float32))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let options = settings::search(&args.config_options)?;
        arguments::each_row(self.name, &self.banks, &args, options, |bank, asked| {
            let found = (self.compute)(bank, asked)?;
            Ok(Arc::new(asked.spread(found).collect::<Float32Array>()))
        })
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.documentation
    }
}
