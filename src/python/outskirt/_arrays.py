"""Arrays of whatever library as NumPy's: float32, contiguous, without a copy where they are so already."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import DimensionError


def numpy_of(values: Any) -> NDArray[Any]:
    """A NumPy array of an array, tensor, list or Arrow column."""
    if isinstance(values, np.ma.MaskedArray):
        raise DimensionError("masked arrays are not taken: leave masked rows out (np.ma.compress_rows), or fill them")
    if isinstance(values, np.ndarray):
        return values
    if hasattr(values, "detach"):  # torch: off its graph and its device; bfloat16 has no NumPy type
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":
            values = values.float()
        return np.asarray(values.numpy())
    if hasattr(values, "to_numpy"):  # pandas, polars, pyarrow
        try:
            return np.asarray(values.to_numpy(zero_copy_only=False))
        except TypeError:
            return np.asarray(values.to_numpy())
    return np.asarray(values)


def vectors(values: Any) -> NDArray[np.float32]:
    """Vectors as an n×d array of float32."""
    try:
        array = numpy_of(values)
        if array.dtype == object and array.ndim == 1 and len(array):  # a column of lists
            array = np.stack([np.asarray(row, dtype=np.float32) for row in array])
        if array.dtype.kind not in "fiubO":
            raise TypeError(f"numbers are wanted, not {array.dtype}")
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused as such
            result = np.require(array, np.dtype("=f4"), ["C_CONTIGUOUS", "ALIGNED"])
    except (TypeError, ValueError) as error:
        raise DimensionError(f"vectors are the rows of an array of numbers (n×d): {error}") from None
    if result.ndim != 2:
        hint = ". Reshape your data: one vector is x.reshape(1, -1)" if result.ndim == 1 else ""
        raise DimensionError(f"vectors are the rows of an array (n×d), not one of shape {result.shape}{hint}")
    return result


def numbers(values: Any, dtype: Any, what: str) -> NDArray[Any]:
    """Numbers as a one-dimensional contiguous array."""
    try:
        array = numpy_of(values)
        if array.dtype.kind not in "fiubO":
            raise TypeError(f"numbers are wanted, not {array.dtype}")
        array = np.require(array, dtype, ["C_CONTIGUOUS", "ALIGNED"])
    except (TypeError, ValueError) as error:
        raise DimensionError(f"{what}: {error}") from None
    if array.ndim != 1:
        raise DimensionError(f"{what}: a list or one-dimensional array of numbers, not one of shape {array.shape}")
    return array


def texts(values: Any, rows: int, what: str) -> list[str | None]:
    """One text per row; None, NaN and pandas' NA are NULL, and a whole number has no point."""
    if isinstance(values, (str, bytes)) or not hasattr(values, "__iter__"):
        raise DimensionError(f"{what}: one for each of the {rows} rows, not a single value")
    if getattr(values, "ndim", 1) != 1:
        raise DimensionError(f"{what}: one for each of the {rows} rows, not an array of shape {tuple(values.shape)}")
    given = values.tolist() if hasattr(values, "tolist") else values.to_pylist() if hasattr(values, "to_pylist") else list(values)
    if len(given) != rows:
        raise DimensionError(f"{what}: {len(given)} are given for {rows} rows")
    return [_text(value) for value in given]


def _text(value: Any) -> str | None:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, float):
        # labels among which some are missing are floats in NumPy and pandas
        return None if value != value else str(int(value)) if value.is_integer() else str(value)
    return value.decode() if isinstance(value, bytes) else str(value)
