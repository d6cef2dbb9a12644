"""What a statement gave."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, Iterator

import numpy as np
from numpy.typing import NDArray

from . import _native
from .errors import Error

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

    from .database import Database

__all__ = ["Result"]

_SHOWN = 20
_LETTERS = 60


class Result:
    """Rows of a statement: of a query, computed when they are asked for; of a change, its count.

    It has Arrow's stream interface (``__arrow_c_stream__``), so that ``pyarrow.table(result)``, ``polars.DataFrame(result)``,
    ``duckdb.sql("FROM result")`` and ``datafusion`` take it as it is, batch by batch. A query may be read again: it is computed
    again, over the versions of the tables with which it began.
    """

    def __init__(self, native: _native.Query | _native.Rows, database: Database | None = None) -> None:
        self._native = native
        self._database = database
        self._warn()

    def _warn(self) -> None:
        if self._database is not None:
            self._database._warn()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        return self._native.__arrow_c_stream__(requested_schema)

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return self._native.names

    @property
    def types(self) -> list[str]:
        """Arrow types of the columns."""
        return self._native.types

    def _rows(self, most: int | None = None) -> _native.Rows:
        if not isinstance(self._native, _native.Query):
            return self._native
        rows = self._native.collect(most)
        self._warn()
        return rows

    def _by_name(self) -> _native.Rows:
        twice = sorted({name for name in self.columns if self.columns.count(name) > 1})
        if twice:
            raise Error(f"two columns are called '{twice[0]}': name them apart with AS")
        return self._rows()

    def to_arrow(self) -> pyarrow.Table:
        """All rows as a ``pyarrow.Table``."""
        import pyarrow

        return pyarrow.table(self._rows())

    def to_pandas(self) -> pandas.DataFrame:
        """All rows as a ``pandas.DataFrame``; needs pyarrow as well."""
        frame: pandas.DataFrame = self.to_arrow().to_pandas()
        return frame

    def to_polars(self) -> polars.DataFrame:
        """All rows as a ``polars.DataFrame``."""
        import polars

        return polars.DataFrame(self._rows())

    def to_numpy(self) -> dict[str, NDArray[Any]]:
        """All rows as an array for each column: embeddings n×d, NULL among numbers is NaN, other types are objects."""
        rows = self._by_name()
        return dict(zip(rows.names, (_array(column) for column in rows.columns())))

    def to_pylist(self) -> list[dict[str, Any]]:
        """All rows as dictionaries."""
        return self._by_name().dictionaries()

    def fetchall(self) -> list[tuple[Any, ...]]:
        """All rows as tuples."""
        return self._rows().tuples()

    def fetchone(self) -> tuple[Any, ...] | None:
        """The first row; None where there is none."""
        rows = self._rows(1).tuples()
        return rows[0] if rows else None

    def __getitem__(self, column: str) -> NDArray[Any]:
        """A column as an array."""
        found = self.to_numpy()
        if column not in found:
            raise KeyError(f"there is no column {column!r}: there are {', '.join(found)}")
        return found[column]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The only column: vectors n×d, above all."""
        columns = list(self.to_numpy().values())
        if len(columns) != 1:
            raise Error(f"an array is of one column, and there are {', '.join(self.columns)}: result['name'] gives one")
        return np.asarray(columns[0], dtype=dtype)

    def __iter__(self) -> Iterator[Result]:
        """Batch by batch, each as a result of its own."""
        if isinstance(self._native, _native.Rows):
            yield from (Result(batch) for batch in self._native.split())
            return
        for batch in _native.Batch.stream(self._native):
            yield Result(batch.rows())

    def __repr__(self) -> str:
        names, cells, more = self._shown()
        widths = [max(map(len, column)) for column in zip(names, *cells)]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in [names, *cells]]
        return "\n".join([*lines, *(["… (more rows)"] if more else [])]) or "(no columns)"

    def _repr_html_(self) -> str:
        names, cells, more = self._shown()
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>" for line in cells)
        end = "<p>… (more rows)</p>" if more else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{end}"

    def _shown(self) -> tuple[list[str], list[list[str]], bool]:
        rows = self._rows(_SHOWN + 1)
        table = rows.tuples()
        cells = [[_cell(value) for value in row] for row in table[:_SHOWN]]
        return self.columns, cells, len(table) > _SHOWN


def _array(column: tuple[bytearray, str, tuple[int, ...]] | list[Any]) -> NDArray[Any]:
    if isinstance(column, list):
        array = np.empty(len(column), dtype=object)
        array[:] = column
        return array
    data, kind, shape = column
    return np.frombuffer(data, dtype=kind).reshape(shape)


def _cell(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = "[" + ", ".join(_cell(item) for item in value[:4]) + (", …]" if len(value) > 4 else "]") if isinstance(value, list) else str(value)
    return text if len(text) <= _LETTERS else text[: _LETTERS - 1] + "…"
