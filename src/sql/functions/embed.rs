//! `embed(image, backbone)`: the embedding of a picture, computed inside a query.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::exec_err;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::ptr_eq::PtrEq;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};
use datafusion_macros::user_doc;

use super::{arguments, settings};
use crate::schema;
use crate::sql::networks::Networks;

/// As SQL calls it; the optimiser knows it by this name.
pub(crate) const NAME: &str = "embed";

/// FLOAT[d].
#[user_doc(
    doc_section(label = "Embeddings"),
    description = "FLOAT[d]: the embedding of a picture by a network, computed while the query runs, on all cores. The numbers are those that `outskirt ingest` and `outskirt embed` keep in the backbone's column, up to rounding, and belong to their network as that column does: another network's bank refuses it. NULL gives NULL; a picture that cannot be embedded is an error that names it.",
    syntax_example = "embed(image, backbone)",
    sql_example = "```sql
SELECT uri, knn_ood_score(embed(uri, 'resnet18_cifar10'), 'cifar10') AS score
FROM 'new_pictures.csv' ORDER BY score DESC LIMIT 20;
```",
    argument(
        name = "image",
        description = "TEXT: where the picture is, such as `images.uri`: a path, an `http://`, `https://`, `s3://` or `file://` address, or `archive!/name` of one. Rows in the order of an archive read it once; in any other, batch by batch (up to 8,192 rows) anew: `outskirt embed` is faster there. Or BINARY: a picture file's bytes, such as `images.bytes`."
    ),
    argument(
        name = "backbone",
        description = "A literal: the name of a backbone that is built in or has embedded images of this database (`outskirt backbone list`); `outskirt embed` brings a manifest's into the database. A TorchScript module must be trusted (`outskirt backbone trust`). Its weights must lie where the manifest says, or where `--weights` named them. It is loaded once in a session."
    )
)]
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Embed {
    signature: Signature,
    networks: PtrEq<Arc<Networks>>,
}

impl Embed {
    pub(super) fn new(networks: &Arc<Networks>) -> Self {
        // what lies at a uri may change between two queries
        Self { signature: Signature::user_defined(Volatility::Stable), networks: Arc::clone(networks).into() }
    }
}

fn backbone(literal: Option<&ScalarValue>) -> Result<&str> {
    match literal.and_then(ScalarValue::try_as_str) {
        Some(Some(name)) => Ok(name),
        _ => plan_err!("{NAME}: backbone must be a literal, such as 'resnet18_cifar10'"),
    }
}

impl ScalarUDFImpl for Embed {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        use DataType::*;
        let [image, backbone] = types else {
            return plan_err!("{NAME} takes (image, backbone), got {} arguments", types.len());
        };
        let image = match image {
            Utf8 | LargeUtf8 | Utf8View | Null => Utf8,
            Binary | LargeBinary | BinaryView | FixedSizeBinary(_) => Binary,
            other => {
                return plan_err!("{NAME}: the image must be its uri (TEXT) or a file's bytes (BINARY), got {other}");
            }
        };
        match backbone {
            Utf8 | LargeUtf8 | Utf8View => Ok(vec![image, Utf8]),
            other => plan_err!("{NAME}: backbone must be a backbone's name in quotes, got {other}"),
        }
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        plan_err!("{NAME}: planned by its arguments, see return_field_from_args")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let checkpoint = self.networks.find(backbone(args.scalar_arguments[1])?)?;
        let manifest = &checkpoint.manifest;
        let sha256 = manifest.sha256.to_ascii_lowercase();
        Ok(Arc::new(schema::embedding_field(&manifest.name, manifest.dimension, &sha256).with_name(NAME)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if settings::explains(&args.config_options) {
            // a constant would be computed while it is planned: an error leaves the call in the plan
            return exec_err!("{NAME} computes nothing for EXPLAIN");
        }
        let name = backbone(arguments::literals(&args.args)[1])?;
        let scalar = matches!(args.args[0], ColumnarValue::Scalar(_));
        let column = args.args[0].to_array(if scalar { 1 } else { args.number_rows })?;
        arguments::value(run::column(&self.networks, name, &column, args.return_field.data_type())?, scalar)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.doc()
    }
}

mod run {
    use std::sync::Arc;

    use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, new_null_array};
    use arrow::datatypes::DataType;

    use crate::error::Result;
    use crate::image::{ImageFile, here};
    use crate::ingest::reread;
    use crate::sql::networks::Networks;

    /// The embeddings of a column of uris or of bytes.
    pub(super) fn column(networks: &Networks, name: &str, images: &ArrayRef, gives: &DataType) -> Result<ArrayRef> {
        let (rows, nulls) = (images.len(), images.nulls().cloned());
        let DataType::FixedSizeList(item, dimension) = gives else {
            unreachable!("planned as a list of so many numbers")
        };
        if images.null_count() == rows {
            // the network need not be loaded
            return Ok(new_null_array(gives, rows));
        }
        let embeddings = match images.as_binary_opt::<i32>() {
            Some(files) => {
                let files = files.clone();
                let valid: Vec<usize> = (0..rows).filter(|&row| files.is_valid(row)).collect();
                let file = move |row| {
                    let uri = format!("the bytes of row {row} of the query's batch");
                    (
                        vec![row],
                        Ok(ImageFile { uri, label: None, is_labelled: false, bytes: files.value(row).to_vec() }),
                    )
                };
                networks.embed(name, valid.into_iter().map(file), rows)?
            }
            None => {
                let uris = images.as_string::<i32>().iter().enumerate();
                let uris = uris.filter_map(|(row, uri)| uri.map(|uri| Ok((here(uri)?, row))));
                let uris = uris.collect::<Result<Vec<_>>>()?;
                networks.check_pictures(uris.iter().map(|(uri, _)| uri.as_str()))?;
                networks.embed(name, reread(uris, networks.opened()), rows)?
            }
        };
        let values = Arc::new(Float32Array::from(embeddings));
        Ok(Arc::new(FixedSizeListArray::try_new(Arc::clone(item), *dimension, values, nulls)?))
    }
}
