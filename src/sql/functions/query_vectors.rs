//! Embeddings of a column as queries: normalised, without the rows that are NULL.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, UInt64Type};
use datafusion::common::{Result, internal_err};

use super::logits;
use crate::bank::Bank;
use crate::error::Error;
use crate::index::vectors::{Vectors, embedding, normalize, numbers};
use crate::statistics::guidance::log_sum_exp;

/// The embeddings of one or more columns that are not NULL, normalised, m×d, and which rows those are.
#[derive(Debug)]
pub(crate) struct QueryVectors {
    dimension: usize,
    values: Vec<f32>,
    valid: Vec<bool>,
    excluded: Option<Vec<Option<u64>>>,
    log_sum_exps: Vec<Option<f64>>,
    /// How many class logits rows have, each number once.
    classes: Vec<usize>,
}

impl QueryVectors {
    pub(crate) fn with_capacity(dimension: usize, rows: usize) -> Self {
        let (values, valid) = (Vec::with_capacity(dimension * rows), Vec::with_capacity(rows));
        Self { dimension, values, valid, excluded: None, log_sum_exps: Vec::new(), classes: Vec::new() }
    }

    /// The queries, m×d.
    pub(crate) fn vectors(&self) -> Vectors<'_> {
        Vectors::new(&self.values, self.dimension)
    }

    /// Per query, the id of the bank's row that is excluded.
    pub(crate) fn excluded(&self) -> Option<&[Option<u64>]> {
        self.excluded.as_deref()
    }

    /// Per query, the log-sum-exp of its class logits: none where a function does not take them, `None` where they are NULL.
    pub(super) fn log_sum_exps(&self) -> &[Option<f64>] {
        &self.log_sum_exps
    }

    /// How many class logits the rows have, each number once.
    pub(super) fn classes(&self) -> &[usize] {
        &self.classes
    }

    /// Append the class logits of the rows whose embeddings were pushed last.
    pub(super) fn push_logits(&mut self, column: &ArrayRef) -> Result<()> {
        let of_rows = logits::scores(column, |logits| log_sum_exp(logits, 1.0))?;
        let valid = &self.valid[self.valid.len() - of_rows.len()..];
        self.log_sum_exps.extend(of_rows.iter().zip(valid).filter(|&(_, &valid)| valid).map(|(value, _)| value));
        self.classes.extend(logits::lengths(column));
        self.classes.sort_unstable();
        self.classes.dedup();
        Ok(())
    }

    /// One value per row, from one per query: `None` where the embedding is NULL.
    pub(crate) fn scatter<T>(&self, found: Vec<Option<T>>) -> impl Iterator<Item = Option<T>> {
        let mut found = found.into_iter();
        self.valid.iter().map(move |&valid| if valid { found.next().flatten() } else { None })
    }

    /// The distances of each query to its k nearest rows, nearest first.
    pub(super) fn nearest_distances(&self, bank: &Bank, k: usize) -> crate::error::Result<Vec<Vec<f32>>> {
        let nearest = bank.nearest(self.vectors(), k, self.excluded())?;
        Ok(nearest.into_iter().map(|of| of.into_iter().map(|neighbor| neighbor.distance).collect()).collect())
    }

    /// Append a column, and a column of ids where rows exclude their own entry in the bank.
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
            DataType::Null => self.valid.resize(self.valid.len() + column.len(), false),
            other => return internal_err!("embeddings of type {other} were not coerced to lists of Float32"),
        }
        if let Some(ids) = ids {
            let valid = &self.valid[self.valid.len() - column.len()..];
            let ids = ids.as_primitive::<UInt64Type>().iter().zip(valid).filter(|&(_, &valid)| valid);
            self.excluded.get_or_insert_default().extend(ids.map(|(id, _)| id));
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
