//! Types of the columns that people's tables give.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::compute::{cast, kernels::cmp::distinct};
use arrow::datatypes::DataType;

use crate::error::Result;

/// Values as a table of the store has them.
pub(super) fn plain(column: &ArrayRef) -> Result<ArrayRef> {
    Ok(match column.data_type() {
        DataType::Utf8View => cast(column, &DataType::Utf8)?,
        DataType::Dictionary(_, values) => plain(&cast(column, values)?)?,
        _ => Arc::clone(column),
    })
}

/// The type of a new column: what holds the values of all tables. A file without any value says nothing of it.
pub(super) fn common<'t>(mut kinds: impl Iterator<Item = &'t DataType>) -> DataType {
    use DataType::{Date32, Float64, Int64, Null, Timestamp, Utf8};
    let first = kinds.next().cloned().unwrap_or(Null);
    let kind = kinds.fold(first, |one, other| match (&one, other) {
        (one, other) if one == other => one.clone(),
        (_, Null) => one,
        (Null, other) => other.clone(),
        (one, other) if one.is_integer() && other.is_integer() => Int64,
        (one, other) if [one, other].iter().all(|kind| kind.is_integer() || kind.is_floating()) => Float64,
        (Date32, Timestamp(unit, zone)) | (Timestamp(unit, zone), Date32) => Timestamp(*unit, zone.clone()),
        (Timestamp(one, zone), Timestamp(other, same)) if zone == same => Timestamp(*one.max(other), zone.clone()),
        _ => Utf8,
    });
    if kind == Null { Utf8 } else { kind }
}

/// Whether a type holds all values of a column.
pub(super) fn fits(column: &ArrayRef, kind: &DataType) -> bool {
    if column.data_type() == kind {
        return true;
    }
    let nulls = column.logical_null_count();
    let Ok(there) = cast(column, kind) else { return false };
    // a cast cuts fractions off
    let is_cut = || {
        let back = cast(&there, column.data_type()).and_then(|back| distinct(&back, column));
        back.map_or(true, |differs| differs.true_count() > 0)
    };
    there.logical_null_count() <= nulls && !(column.data_type().is_floating() && kind.is_integer() && is_cut())
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, new_null_array};

    use super::*;

    #[test]
    fn a_new_column_has_a_type_for_the_values_of_all_tables() {
        use DataType::{Boolean, Date32, Float32, Float64, Int16, Int64, Null, Timestamp, Utf8};
        use arrow::datatypes::TimeUnit::{Microsecond, Second};
        for (kinds, kind) in [
            (vec![Null], Utf8),
            (vec![Null, Int64, Null], Int64),
            (vec![Int16, Int64], Int64),
            (vec![Int64, Float32], Float64),
            (vec![Int64, Utf8], Utf8),
            (vec![Boolean, Int64], Utf8),
            (vec![Date32, Timestamp(Second, None), Timestamp(Microsecond, None)], Timestamp(Microsecond, None)),
        ] {
            assert_eq!(common(kinds.iter()), kind, "{kinds:?}");
        }
        let column: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), None]));
        assert!(fits(&column, &Int64));
        let column: ArrayRef = Arc::new(Float64Array::from(vec![1.5]));
        assert!(!fits(&column, &Int64) && fits(&column, &Utf8), "no fraction is cut off");
        assert!(fits(&new_null_array(&Null, 2), &Int64));
    }
}
