//! The aggregates that compare the embeddings of two groups of rows, `name(embedding, group)`. Their state is a sample of each
//! group, mergeable across partitions and bounded: of more rows than a test takes, a random part is kept. Which one follows from the
//! rows themselves, so that it is the same however they are divided among threads or machines, but for copies of one row that lie in
//! different parts: these have the same places there.

use std::collections::hash_map::Entry;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float32Array, ListArray, UInt64Array};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, UInt64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::format_state_name;
use datafusion::logical_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, Signature, Volatility};
use outskirt_exact::Vectors;

use super::arguments;
use super::structs::{doubles, of_doubles};
use crate::error::Error;
use crate::index::vectors::{embedding, normalize, numbers};
use crate::statistics::sampling::mixed;

/// Of the rows that are kept.
const SEED: u64 = 1;
/// Rows whose copies are told from them, in a partition: of more, copies stand at the place of the first.
const TOLD_APART: usize = 1 << 20;

/// An aggregate of embeddings, some of one group and some of another.
#[derive(Debug)]
pub(super) struct EmbeddingTest {
    /// As SQL calls it.
    pub(super) name: &'static str,
    pub(super) documentation: fn() -> Option<&'static Documentation>,
    /// Of each group.
    pub(super) most_rows: usize,
    pub(super) test: Test,
}

/// A STRUCT of DOUBLEs, of the normalised rows of the groups FALSE and TRUE; NULL where these are too few.
#[derive(Debug, Clone, Copy)]
pub(super) enum Test {
    Three([&'static str; 3], Of<3>),
    Four([&'static str; 4], Of<4>),
}

type Of<const N: usize> = fn(Vectors<'_>, Vectors<'_>) -> Option<[f64; N]>;

impl EmbeddingTest {
    pub(super) fn udf(&'static self) -> AggregateUDF {
        TestUdf { function: self, signature: Signature::user_defined(Volatility::Immutable) }.into()
    }
}

/// What DataFusion calls.
#[derive(Debug)]
struct TestUdf {
    function: &'static EmbeddingTest,
    signature: Signature,
}

impl PartialEq for TestUdf {
    fn eq(&self, other: &Self) -> bool {
        self.function.name == other.function.name
    }
}

impl Eq for TestUdf {}

impl Hash for TestUdf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.name.hash(state);
    }
}

impl AggregateUDFImpl for TestUdf {
    fn name(&self) -> &str {
        self.function.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.function.name;
        match types {
            [embedding, DataType::Boolean | DataType::Null] => {
                Ok(vec![arguments::embedding_type(name, embedding)?, DataType::Boolean])
            }
            [_, group] => plan_err!("{name}: group must be a boolean, such as dataset = 'x', got {group}"),
            _ => {
                let takes = arguments::takes(name, self.documentation());
                plan_err!("{name} takes {takes}, got {} arguments", types.len())
            }
        }
    }

    fn return_type(&self, _types: &[DataType]) -> Result<DataType> {
        Ok(match self.function.test {
            Test::Three(names, _) => doubles(&names),
            Test::Four(names, _) => doubles(&names),
        })
    }

    /// Of each group: the numbers of its rows, one after the other, and a place in the order of rows for each.
    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let list = |(side, kind)| {
            let list = DataType::List(Arc::new(Field::new("item", kind, true)));
            Arc::new(Field::new(format_state_name(args.name, side), list, true))
        };
        let fields = [
            ("one", DataType::Float32),
            ("one_order", DataType::UInt64),
            ("other", DataType::Float32),
            ("other_order", DataType::UInt64),
        ];
        Ok(fields.map(list).to_vec())
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let name = self.function.name;
        if args.is_distinct {
            return plan_err!("{name} takes no DISTINCT: every row counts");
        }
        Ok(Box::new(Groups { function: self.function, dimension: 0, one: Sample::default(), other: Sample::default() }))
    }

    fn documentation(&self) -> Option<&Documentation> {
        (self.function.documentation)()
    }
}

/// Samples of both groups. Rows with a NULL are left out.
#[derive(Debug)]
struct Groups {
    function: &'static EmbeddingTest,
    /// Numbers per row, once there is one.
    dimension: usize,
    one: Sample,
    other: Sample,
}

/// The rows of a group that come first in a random order, at most as many as are asked for.
#[derive(Debug, Default)]
struct Sample {
    /// How often a row was there, by what it is: its copies have places of their own.
    copies: HashMap<u64, u32>,
    /// The last one first.
    kept: BinaryHeap<Row>,
}

/// A normalised row, by its place in a random order; of equal places by its bits, so that samples of partitions are merged to the
/// same one in any order.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    order: u64,
    bits: Vec<u32>,
}

impl Sample {
    fn add(&mut self, unit: &[f32], most: usize) {
        let content = unit.iter().fold(0, |hash, x| mixed(hash ^ u64::from(x.to_bits()), SEED));
        let is_full = self.copies.len() >= TOLD_APART;
        let copy = match self.copies.entry(content) {
            Entry::Occupied(mut known) => {
                *known.get_mut() += 1;
                *known.get()
            }
            Entry::Vacant(new) => {
                if !is_full {
                    new.insert(0);
                }
                0
            }
        };
        let order = mixed(content, SEED ^ (u64::from(copy) << 1));
        // most rows go nowhere once there are many
        if self.kept.len() < most || self.kept.peek().is_some_and(|last| order <= last.order) {
            self.keep(Row { order, bits: unit.iter().map(|x| x.to_bits()).collect() }, most);
        }
    }

    fn keep(&mut self, row: Row, most: usize) {
        self.kept.push(row);
        if self.kept.len() > most {
            self.kept.pop();
        }
    }

    /// The rows' numbers, one row after the other, and their places.
    fn take(&mut self) -> (Vec<f32>, Vec<u64>) {
        let mut rows = std::mem::take(&mut self.kept).into_vec();
        // by their numbers: a test must not depend on the order in which partitions were read
        rows.sort_unstable_by(|a, b| a.bits.cmp(&b.bits));
        let values = rows.iter().flat_map(|row| &row.bits).map(|&bits| f32::from_bits(bits)).collect();
        (values, rows.iter().map(|row| row.order).collect())
    }
}

impl Groups {
    fn add(&mut self, row: usize, values: &[f32], is_other: bool) -> Result<()> {
        self.check_dimension(values.len())?;
        let bad = |problem| Error::BadVector { what: format!("the batch of {}", self.function.name), row, problem };
        let mut unit = Vec::with_capacity(values.len());
        normalize(values, &mut unit).map_err(bad)?;
        let sample = if is_other { &mut self.other } else { &mut self.one };
        sample.add(&unit, self.function.most_rows);
        Ok(())
    }

    fn check_dimension(&mut self, found: usize) -> Result<()> {
        if self.dimension == 0 {
            self.dimension = found;
        }
        if found == 0 || found != self.dimension {
            return exec_err!(
                "{}: an embedding of {found} numbers stands beside one of {}",
                self.function.name,
                self.dimension
            );
        }
        Ok(())
    }
}

impl Accumulator for Groups {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (column, name) = (&values[0], self.function.name);
        let bad = |row| move |problem| Error::BadVector { what: format!("the batch of {name}"), row, problem };
        for (row, is_other) in values[1].as_boolean().iter().enumerate() {
            let Some(is_other) = is_other else { continue };
            let found = match column.data_type() {
                DataType::FixedSizeList(..) => embedding(column.as_fixed_size_list(), row).map_err(bad(row))?,
                DataType::List(_) if column.is_valid(row) => {
                    let (lists, at) = (column.as_list::<i32>(), row);
                    let ends = lists.value_offsets();
                    Some(numbers(lists.values(), ends[at] as usize, ends[at + 1] as usize).map_err(bad(row))?)
                }
                _ => None,
            };
            if let Some(found) = found {
                self.add(row, found, is_other)?;
            }
        }
        Ok(())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let most = self.function.most_rows;
        for (side, of_side) in states.chunks(2).enumerate() {
            let (values, orders) = (of_side[0].as_list::<i32>(), of_side[1].as_list::<i32>());
            for (values, orders) in values.iter().flatten().zip(orders.iter().flatten()) {
                let (values, orders) = (values.as_primitive::<Float32Type>(), orders.as_primitive::<UInt64Type>());
                if orders.is_empty() {
                    continue;
                }
                let dimension = values.len() / orders.len();
                self.check_dimension(dimension)?;
                let sample = if side == 0 { &mut self.one } else { &mut self.other };
                for (row, &order) in values.values().chunks(dimension).zip(orders.values()) {
                    sample.keep(Row { order, bits: row.iter().map(|x| x.to_bits()).collect() }, most);
                }
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let list = |kind: DataType, values: ArrayRef| {
            let ends = OffsetBuffer::from_lengths([values.len()]);
            ScalarValue::List(Arc::new(ListArray::new(Arc::new(Field::new("item", kind, true)), ends, values, None)))
        };
        let of = |sample: &mut Sample| {
            let (values, orders) = sample.take();
            [
                list(DataType::Float32, Arc::new(Float32Array::from(values))),
                list(DataType::UInt64, Arc::new(UInt64Array::from(orders))),
            ]
        };
        Ok([of(&mut self.one), of(&mut self.other)].concat())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let ((one, _), (other, _)) = (self.one.take(), self.other.take());
        // without a row any dimension does
        let d = self.dimension.max(1);
        let (one, other) = (Vectors::new(&one, d), Vectors::new(&other, d));
        Ok(match self.function.test {
            Test::Three(names, test) => of_doubles(names, test(one, other)),
            Test::Four(names, test) => of_doubles(names, test(one, other)),
        })
    }

    fn size(&self) -> usize {
        let rows = self.one.kept.capacity() + self.other.kept.capacity();
        let copies = self.one.copies.capacity() + self.other.copies.capacity();
        size_of_val(self)
            + copies * size_of::<(u64, u64)>()
            + rows * (size_of::<Row>() + self.dimension * size_of::<u32>())
    }
}
