//! `hamming_distance(a, b)`: in how many bits two words differ.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int32Array};
use arrow::compute::binary;
use arrow::datatypes::{DataType, UInt64Type};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion_macros::user_doc;

use super::arguments;

const NAME: &str = "hamming_distance";

/// INTEGER, of two whole numbers.
#[user_doc(
    doc_section(label = "Copies"),
    description = "INTEGER, 0 to 64: in how many bits two whole numbers differ. Of the column `dhash`, which `outskirt curate dedup` fills: JPEG and resizing change up to 4 bits, unrelated pictures differ in 32 on average; a picture of one shade has the hash 0 and is like any other such. Krawetz, *Kind of Like That*, The Hacker Factor Blog, 2013. NULL where one of them is. It compares what it is given: a join by it compares each image with each, `outskirt curate dedup` does not.",
    syntax_example = "hamming_distance(a, b)",
    sql_example = "```sql
SELECT b.uri, hamming_distance(a.dhash, b.dhash) AS bits
FROM images a JOIN images b ON b.id <> a.id
WHERE a.uri LIKE '%/cat_17.jpg' ORDER BY bits LIMIT 10;
```",
    argument(name = "a", description = "BIGINT UNSIGNED, or any whole number that is not negative."),
    argument(name = "b", description = "The same.")
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct HammingDistance {
    signature: Signature,
}

impl HammingDistance {
    pub(super) fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for HammingDistance {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [a, b] if [a, b].iter().all(|kind| kind.is_integer() || kind.is_null()) => Ok(vec![DataType::UInt64; 2]),
            [a, b] => plan_err!("{NAME} takes (a, b), two whole numbers such as dhash, got {a} and {b}"),
            _ => plan_err!("{NAME} takes (a, b), got {} arguments", types.len()),
        }
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let scalar = args.args.iter().all(|given| matches!(given, ColumnarValue::Scalar(_)));
        let rows = if scalar { 1 } else { args.number_rows };
        let [a, b] = [&args.args[0], &args.args[1]].map(|given| given.to_array(rows));
        let (a, b): (ArrayRef, ArrayRef) = (a?, b?);
        let (a, b) = (a.as_primitive::<UInt64Type>(), b.as_primitive::<UInt64Type>());
        let bits: Int32Array = binary(a, b, |a, b| (a ^ b).count_ones() as i32)?;
        arguments::value(Arc::new(bits), scalar)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}
