//! Outskirt's part of a physical plan as bytes: scans as recipes, scores by bank and version, functions by name and banks.
//!
//! Decoding reads nothing: the scheduler decodes plans too, and has no database. What is decoded finds tables and banks in the
//! [`Here`] of its process when it runs.

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use ballista_core::serde::BallistaPhysicalExtensionCodec;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use datafusion::common::{DataFusionError, Result, internal_datafusion_err, plan_err};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{AggregateUDF, Expr, ScalarUDF, WindowUDF};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion_proto::bytes::Serializeable;
use datafusion_proto::physical_plan::PhysicalExtensionCodec;
use datafusion_proto::physical_plan::from_proto::parse_physical_expr;
use datafusion_proto::physical_plan::to_proto::serialize_physical_expr;
use datafusion_proto::protobuf;
use prost::Message;
use serde::{Deserialize, Serialize};

use super::here::Here;
use super::shards::{MergeExec, Merged, Searched, ShardExec};
use crate::bank::{Banks, Snapshot};
use crate::sql::functions::bank_function::BankFunction;
use crate::sql::functions::{aggregates, embed, scalar, windows};
use crate::sql::planner::{BatchRowsExec, Bounds, Score, ScoreExec, Spec, Top};
use crate::store::{Recipe, RecipeScan, Slice};

/// What is ours begins so, which no other message of a plan does.
const MAGIC: &[u8] = b"OSK1";

/// Between Outskirt's plans and bytes; what is not ours is Ballista's.
#[derive(Debug)]
pub(crate) struct Codec {
    here: Arc<Here>,
    ballista: BallistaPhysicalExtensionCodec,
}

impl Codec {
    pub(crate) fn new(here: &Arc<Here>) -> Self {
        Self { here: Arc::clone(here), ballista: BallistaPhysicalExtensionCodec::default() }
    }

    fn expression(&self, expression: &Arc<dyn PhysicalExpr>) -> Result<String> {
        Ok(text(&serialize_physical_expr(expression, self)?.encode_to_vec()))
    }

    fn read_expression(&self, said: &str, schema: &Schema, context: &TaskContext) -> Result<Arc<dyn PhysicalExpr>> {
        let node = protobuf::PhysicalExprNode::decode(&*bytes(said)?).map_err(damaged)?;
        parse_physical_expr(&node, context, schema, self)
    }
}

/// A node of ours.
#[derive(Debug, Serialize, Deserialize)]
enum Node {
    Scan(Scan),
    Score(Scores),
    Shard { scores: Scores, shards: usize, kept: Vec<usize> },
    Merge(Merge),
    Batch { rows: usize },
}

/// A [`Recipe`].
#[derive(Debug, Serialize, Deserialize)]
struct Scan {
    place: std::path::PathBuf,
    table: String,
    version: u64,
    /// A protobuf of DataFusion's, as all texts of bytes here.
    schema: String,
    filter: Option<String>,
    limit: Option<usize>,
    batch_rows: usize,
    rows: Option<usize>,
    parts: Vec<Vec<Slice>>,
}

/// A [`Spec`], and what it is computed of.
#[derive(Debug, Serialize, Deserialize)]
struct Scores {
    banks: Snapshot,
    bank: String,
    version: u64,
    k: usize,
    /// Bits of f32: they may be infinite.
    lower: Option<u32>,
    upper: Option<u32>,
    needed: bool,
    top: Option<(usize, bool)>,
    column: String,
    embedding: String,
    id: Option<String>,
}

/// A [`Merged`].
#[derive(Debug, Serialize, Deserialize)]
struct Merge {
    shards: usize,
    k: usize,
    lower: Option<u32>,
    upper: Option<u32>,
    kept: Vec<usize>,
    schema: String,
}

fn text(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

fn bytes(text: &str) -> Result<Vec<u8>> {
    BASE64_STANDARD.decode(text).map_err(damaged)
}

fn damaged(error: impl std::fmt::Display) -> DataFusionError {
    internal_datafusion_err!("a plan of another version of outskirt, or a damaged one: {error}")
}

fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| internal_datafusion_err!("a plan that is no JSON: {error}"))
}

fn scan(recipe: &Recipe) -> Result<Node> {
    Ok(Node::Scan(Scan {
        place: recipe.place.clone(),
        table: recipe.table.clone(),
        version: recipe.version,
        schema: schema_text(&recipe.schema)?,
        filter: recipe.filter.as_ref().map(|filter| Ok::<_, DataFusionError>(text(&filter.to_bytes()?))).transpose()?,
        limit: recipe.limit,
        batch_rows: recipe.batch_rows,
        rows: recipe.rows,
        parts: recipe.parts.clone(),
    }))
}

fn read_scan(scan: Scan, context: &TaskContext) -> Result<Recipe> {
    let schema = read_schema(&scan.schema)?;
    let filter = scan.filter.map(|filter| Expr::from_bytes_with_ctx(&bytes(&filter)?, context)).transpose()?;
    Ok(Recipe {
        place: scan.place,
        table: scan.table,
        version: scan.version,
        schema,
        filter,
        limit: scan.limit,
        batch_rows: scan.batch_rows,
        rows: scan.rows,
        parts: scan.parts,
    })
}

/// Bits of bounds.
fn bits(Bounds { lower, upper }: Bounds) -> (Option<u32>, Option<u32>) {
    let bits = |score: Option<Score>| score.map(|Score(value)| value.to_bits());
    (bits(lower), bits(upper))
}

fn bounds(lower: Option<u32>, upper: Option<u32>) -> Bounds {
    let score = |bits: Option<u32>| bits.map(|bits| Score(f32::from_bits(bits)));
    Bounds { lower: score(lower), upper: score(upper) }
}

fn schema_text(schema: &SchemaRef) -> Result<String> {
    let schema: protobuf::Schema = schema.as_ref().try_into().map_err(damaged)?;
    Ok(text(&schema.encode_to_vec()))
}

fn read_schema(said: &str) -> Result<SchemaRef> {
    let schema = protobuf::Schema::decode(&*bytes(said)?).map_err(damaged)?;
    Ok(Arc::new((&schema).try_into().map_err(damaged)?))
}

impl Codec {
    fn scores(
        &self,
        spec: &Spec,
        (embedding, id): (&Arc<dyn PhysicalExpr>, Option<&Arc<dyn PhysicalExpr>>),
        banks: &Banks,
    ) -> Result<Scores> {
        let (lower, upper) = bits(spec.bounds);
        Ok(Scores {
            banks: banks.snapshot(),
            bank: spec.bank.clone(),
            version: spec.version,
            k: spec.k,
            lower,
            upper,
            needed: spec.needed,
            top: spec.top.map(|Top { rows, largest }| (rows, largest)),
            column: spec.column.clone(),
            embedding: self.expression(embedding)?,
            id: id.map(|id| self.expression(id)).transpose()?,
        })
    }

    fn read_scores(&self, said: Scores, schema: &Schema, context: &TaskContext) -> Result<Read> {
        let spec = Spec {
            bank: said.bank,
            version: said.version,
            k: said.k,
            bounds: bounds(said.lower, said.upper),
            needed: said.needed,
            top: said.top.map(|(rows, largest)| Top { rows, largest }),
            column: said.column,
        };
        let embedding = self.read_expression(&said.embedding, schema, context)?;
        let id = said.id.map(|id| self.read_expression(&id, schema, context)).transpose()?;
        Ok(Read { spec, embedding, id, banks: self.here.banks(said.banks) })
    }
}

/// What [`Scores`] say.
struct Read {
    spec: Spec,
    embedding: Arc<dyn PhysicalExpr>,
    id: Option<Arc<dyn PhysicalExpr>>,
    banks: Arc<Banks>,
}

impl PhysicalExtensionCodec for Codec {
    fn try_encode(&self, node: Arc<dyn ExecutionPlan>, buffer: &mut Vec<u8>) -> Result<()> {
        let ours = if let Some(plan) = node.downcast_ref::<RecipeScan>() {
            scan(plan.recipe())?
        } else if let Some(plan) = node.downcast_ref::<ScoreExec>() {
            Node::Score(self.scores(plan.spec(), plan.expressions(), plan.banks())?)
        } else if let Some(plan) = node.downcast_ref::<ShardExec>() {
            let Searched { spec, embedding, id, banks, shards, kept } = plan.searched();
            let scores = self.scores(spec, (embedding, id.as_ref()), banks)?;
            Node::Shard { scores, shards: *shards, kept: kept.clone() }
        } else if let Some(plan) = node.downcast_ref::<MergeExec>() {
            let Merged { shards, k, bounds, kept, schema } = plan.merged();
            let (lower, upper) = bits(*bounds);
            let (shards, k, kept, schema) = (*shards, *k, kept.clone(), schema_text(schema)?);
            Node::Merge(Merge { shards, k, lower, upper, kept, schema })
        } else if let Some(plan) = node.downcast_ref::<BatchRowsExec>() {
            Node::Batch { rows: plan.rows() }
        } else {
            return self.ballista.try_encode(node, buffer);
        };
        buffer.extend_from_slice(MAGIC);
        buffer.extend(json(&ours)?);
        Ok(())
    }

    fn try_decode(
        &self,
        buffer: &[u8],
        inputs: &[Arc<dyn ExecutionPlan>],
        context: &TaskContext,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let Some(ours) = buffer.strip_prefix(MAGIC) else { return self.ballista.try_decode(buffer, inputs, context) };
        let input = || inputs.first().ok_or_else(|| damaged("a node without its input"));
        Ok(match serde_json::from_slice(ours).map_err(damaged)? {
            Node::Scan(said) => Arc::new(RecipeScan::new(read_scan(said, context)?, Here::opens(&self.here))),
            Node::Score(said) => {
                let Read { spec, embedding, id, banks } = self.read_scores(said, &input()?.schema(), context)?;
                Arc::new(ScoreExec::new(Arc::clone(input()?), spec, embedding, id, banks))
            }
            Node::Shard { scores, shards, kept } => {
                let Read { spec, embedding, id, banks } = self.read_scores(scores, &input()?.schema(), context)?;
                let searched = Searched { spec, embedding, id, banks, shards, kept };
                Arc::new(ShardExec::new(Arc::clone(input()?), searched))
            }
            Node::Merge(Merge { shards, k, lower, upper, kept, schema }) => {
                let (bounds, schema) = (bounds(lower, upper), read_schema(&schema)?);
                Arc::new(MergeExec::new(Arc::clone(input()?), Merged { shards, k, bounds, kept, schema }))
            }
            Node::Batch { rows } => Arc::new(BatchRowsExec::new(Arc::clone(input()?), rows)),
        })
    }

    fn try_encode_udf(&self, node: &ScalarUDF, buffer: &mut Vec<u8>) -> Result<()> {
        if node.name() == embed::NAME {
            return plan_err!("embed(…) computes with networks of this machine: a cluster has none");
        }
        if let Some(banks) = BankFunction::banks(node) {
            buffer.extend(json(&banks.snapshot())?);
        }
        Ok(())
    }

    fn try_decode_udf(&self, name: &str, buffer: &[u8]) -> Result<Arc<ScalarUDF>> {
        let banks = match buffer {
            [] => self.here.no_banks(),
            said => self.here.banks(serde_json::from_slice(said).map_err(damaged)?),
        };
        scalar(name, &banks).map(Arc::new).ok_or_else(|| damaged(format!("no function {name}")))
    }

    fn try_decode_udaf(&self, name: &str, _buffer: &[u8]) -> Result<Arc<AggregateUDF>> {
        let found = aggregates().into_iter().find(|function| function.name() == name);
        found.map(Arc::new).ok_or_else(|| damaged(format!("no aggregate {name}")))
    }

    fn try_decode_udwf(&self, name: &str, _buffer: &[u8]) -> Result<Arc<WindowUDF>> {
        let found = windows().into_iter().find(|function| function.name() == name);
        found.map(Arc::new).ok_or_else(|| damaged(format!("no window function {name}")))
    }
}
