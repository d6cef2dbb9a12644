//! Outskirt's part of a physical plan as bytes: scans as recipes, scores by bank and version, functions by name and banks.
//!
//! Decoding reads nothing: the scheduler decodes plans too, and has no database. What is decoded finds tables and banks in the
//! [`Here`] of its process when it runs.

use std::sync::Arc;

use arrow::datatypes::Schema;
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
use crate::bank::Snapshot;
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
    let schema: protobuf::Schema = recipe.schema.as_ref().try_into().map_err(damaged)?;
    Ok(Node::Scan(Scan {
        place: recipe.place.clone(),
        table: recipe.table.clone(),
        version: recipe.version,
        schema: text(&schema.encode_to_vec()),
        filter: recipe.filter.as_ref().map(|filter| Ok::<_, DataFusionError>(text(&filter.to_bytes()?))).transpose()?,
        limit: recipe.limit,
        batch_rows: recipe.batch_rows,
        rows: recipe.rows,
        parts: recipe.parts.clone(),
    }))
}

fn read_scan(scan: Scan, context: &TaskContext) -> Result<Recipe> {
    let schema = protobuf::Schema::decode(&*bytes(&scan.schema)?).map_err(damaged)?;
    let filter = scan.filter.map(|filter| Expr::from_bytes_with_ctx(&bytes(&filter)?, context)).transpose()?;
    Ok(Recipe {
        place: scan.place,
        table: scan.table,
        version: scan.version,
        schema: Arc::new((&schema).try_into().map_err(damaged)?),
        filter,
        limit: scan.limit,
        batch_rows: scan.batch_rows,
        rows: scan.rows,
        parts: scan.parts,
    })
}

impl Codec {
    fn scores(&self, plan: &ScoreExec) -> Result<Node> {
        let (spec, (embedding, id)) = (plan.spec(), plan.expressions());
        let Bounds { lower, upper } = spec.bounds;
        let bits = |score: Option<Score>| score.map(|Score(value)| value.to_bits());
        Ok(Node::Score(Scores {
            banks: plan.banks().snapshot(),
            bank: spec.bank.clone(),
            version: spec.version,
            k: spec.k,
            lower: bits(lower),
            upper: bits(upper),
            needed: spec.needed,
            top: spec.top.map(|Top { rows, largest }| (rows, largest)),
            column: spec.column.clone(),
            embedding: self.expression(embedding)?,
            id: id.map(|id| self.expression(id)).transpose()?,
        }))
    }

    fn read_scores(&self, said: Scores, input: &Arc<dyn ExecutionPlan>, context: &TaskContext) -> Result<ScoreExec> {
        let schema = input.schema();
        let score = |bits: Option<u32>| bits.map(|bits| Score(f32::from_bits(bits)));
        let spec = Spec {
            bank: said.bank,
            version: said.version,
            k: said.k,
            bounds: Bounds { lower: score(said.lower), upper: score(said.upper) },
            needed: said.needed,
            top: said.top.map(|(rows, largest)| Top { rows, largest }),
            column: said.column,
        };
        let embedding = self.read_expression(&said.embedding, &schema, context)?;
        let id = said.id.map(|id| self.read_expression(&id, &schema, context)).transpose()?;
        Ok(ScoreExec::new(Arc::clone(input), spec, embedding, id, self.here.banks(said.banks)))
    }
}

impl PhysicalExtensionCodec for Codec {
    fn try_encode(&self, node: Arc<dyn ExecutionPlan>, buffer: &mut Vec<u8>) -> Result<()> {
        let ours = if let Some(plan) = node.downcast_ref::<RecipeScan>() {
            scan(plan.recipe())?
        } else if let Some(plan) = node.downcast_ref::<ScoreExec>() {
            self.scores(plan)?
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
            Node::Score(said) => Arc::new(self.read_scores(said, input()?, context)?),
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
