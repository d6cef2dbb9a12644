//! NumPy's arrays: read where they lie, by the protocol `__array_interface__`, and given back as bytes.

use std::panic::AssertUnwindSafe;
use std::ptr::NonNull;
use std::sync::Arc;

use arrow::buffer::Buffer;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyDict};

use crate::errors::raised;

/// A contiguous array, which its owner keeps.
pub(crate) struct Numbers<T> {
    owner: Arc<Owner>,
    pointer: NonNull<T>,
    shape: Vec<usize>,
}

struct Owner(#[expect(dead_code, reason = "what is kept is not looked at")] Py<PyAny>);

// SAFETY: the pointer is read only, and what it leads to lives as long as the owner, a reference that may be dropped on
// any thread
unsafe impl<T> Send for Numbers<T> {}
// SAFETY: as above
unsafe impl<T> Sync for Numbers<T> {}

impl<T: Number> Numbers<T> {
    /// The array of an object that has this dtype, and whose rows are contiguous and aligned: the Python side sees to that.
    pub(crate) fn of(array: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = array.py();
        let interface = array.getattr("__array_interface__")?.cast_into::<PyDict>()?;
        let part = |name: &str| {
            interface.get_item(name)?.ok_or_else(|| raised(py, "Error", &format!("an array without '{name}'")))
        };
        let kind: String = part("typestr")?.extract()?;
        let shape: Vec<usize> = part("shape")?.extract()?;
        let is_plain = interface.get_item("strides")?.is_none_or(|strides| strides.is_none());
        let (address, _): (usize, bool) = part("data")?.extract()?;
        if kind != T::KIND || !is_plain || !address.is_multiple_of(align_of::<T>()) {
            let message = format!("a contiguous array of '{}' is wanted, not one of '{kind}'", T::KIND);
            return Err(raised(py, "Error", &message));
        }
        let pointer = NonNull::new(address as *mut T).unwrap_or(NonNull::dangling());
        Ok(Self { owner: Arc::new(Owner(array.clone().unbind())), pointer, shape })
    }

    /// All numbers, row after row.
    pub(crate) fn values(&self) -> &[T] {
        // SAFETY: the array is contiguous and aligned, has as many numbers as its shape says, and its owner is held
        unsafe { std::slice::from_raw_parts(self.pointer.as_ptr(), self.shape.iter().product()) }
    }
}

/// Vectors: n×d numbers.
pub(crate) struct Floats {
    numbers: Numbers<f32>,
    pub(crate) rows: usize,
    pub(crate) width: usize,
}

impl Floats {
    /// Of a two-dimensional array.
    pub(crate) fn of(array: &Bound<'_, PyAny>) -> PyResult<Self> {
        let numbers = Numbers::of(array)?;
        match numbers.shape[..] {
            [rows, width] => Ok(Self { rows, width, numbers }),
            _ => {
                let message = format!("vectors are the rows of an array (n×d), not one of shape {:?}", numbers.shape);
                Err(raised(array.py(), "DimensionError", &message))
            }
        }
    }

    /// All numbers, row after row.
    pub(crate) fn values(&self) -> &[f32] {
        self.numbers.values()
    }

    /// The same as an Arrow buffer, without a copy.
    pub(crate) fn buffer(&self) -> Buffer {
        let values = self.values();
        let pointer = self.numbers.pointer.cast::<u8>();
        let owner = Arc::new(AssertUnwindSafe(Arc::clone(&self.numbers.owner)));
        // SAFETY: the buffer holds the owner of what the pointer leads to
        unsafe { Buffer::from_custom_allocation(pointer, size_of_val(values), owner) }
    }
}

/// Numbers as bytes that NumPy takes over.
pub(crate) fn bytes<'py, T: Number>(py: Python<'py>, values: &[T]) -> PyResult<Bound<'py, PyByteArray>> {
    PyByteArray::new_with(py, size_of_val(values), |out| {
        for (out, value) in out.chunks_exact_mut(size_of::<T>()).zip(values) {
            value.write(out);
        }
        Ok(())
    })
}

/// Numbers as the machine has them.
pub(crate) trait Number {
    /// What NumPy calls it.
    const KIND: &'static str;

    fn write(&self, out: &mut [u8]);
}

macro_rules! numbers {
    ($($kind:ty: $name:literal),*) => {
        $(impl Number for $kind {
            const KIND: &'static str = $name;

            fn write(&self, out: &mut [u8]) {
                out.copy_from_slice(&self.to_ne_bytes());
            }
        })*
    };
}
numbers!(f32: "<f4", f64: "<f8", i64: "<i8", u64: "<u8", u8: "|u1");
