"""A bank: the ID rows of a database that scores are distances to."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import _native
from ._arrays import vectors
from .progress import Progress, Telling
from .report import Report
from .result import Result

if TYPE_CHECKING:
    from .database import Database

__all__ = ["Bank", "Calibration", "Kept", "Refreshed"]


class Calibration(NamedTuple):
    """What :meth:`Bank.calibrate` did."""

    bank: str
    where: str
    k: int
    rows: int
    """Held-out ID rows that were scored."""
    is_unlike: bool
    """Most of them are further from the bank than nearly all of its own rows: hardly in-distribution."""


class Refreshed(NamedTuple):
    """What :meth:`Bank.refresh` did."""

    added: int
    removed: int
    changed: int
    rows: int
    """Rows that the bank has now."""
    rebuilt: bool
    """Whether its index files were made anew."""


class Kept(NamedTuple):
    """What :meth:`Bank.keep_scores` did."""

    column: str
    computed: int
    fresh: int
    """Rows whose score was there already."""


def quoted(text: str) -> str:
    """A text as SQL has it."""
    return "'" + text.replace("'", "''") + "'"


class Bank:
    """ID embeddings of one version of the table, and what is asked of them; made by :meth:`Database.create_bank`.

    Vectors are n×d: NumPy arrays, torch tensors, lists, or columns of Arrow, pandas or polars; other types than float32 are
    cast. They are normalised, so their length does not matter. Errors of all methods that take vectors:
    :class:`DimensionError`, and :class:`VectorError` for a row that is all zero, NaN or infinite.
    """

    def __init__(self, database: Database, facts: dict[str, Any]) -> None:
        self._database = database
        self._facts = facts

    @property
    def name(self) -> str:
        """Its name."""
        return str(self._facts["name"])

    @property
    def backbone(self) -> str:
        """The backbone whose embeddings it holds, a column of ``images``."""
        return str(self._facts["backbone"])

    @property
    def where(self) -> str:
        """SQL over ``images``: which rows are its own."""
        return str(self._facts["where"])

    @property
    def k(self) -> int:
        """Neighbours counted where nothing else is said."""
        return int(self._facts["k"])

    @property
    def dimension(self) -> int:
        """Numbers per vector."""
        return int(self._facts["dimension"])

    @property
    def version(self) -> int:
        """The version of ``images`` that it stands for."""
        return int(self._now()["version"])

    def __len__(self) -> int:
        """Rows that it has."""
        return int(self._now()["rows"])

    def _now(self) -> dict[str, Any]:
        self._facts = self._database._native_open.bank(self.name)
        return self._facts

    def _call(self, function: str, values: Any, *arguments: str) -> NDArray[Any]:
        call = f"{function}({', '.join(['v', quoted(self.name), *arguments])})"
        data, kind = self._database._native_open.of_vectors(vectors(values), call)
        self._database._warn()
        return np.frombuffer(data, dtype=kind)

    def score(self, values: Any, k: int | None = None) -> NDArray[np.float32]:
        """Distance of each vector to its k-th nearest row of the bank, in [0, 2]; larger is more OOD.

        Those of SQL's ``knn_ood_score``, bit for bit.
        """
        return self._call("knn_ood_score", values, *([] if k is None else [str(int(k))]))

    def is_ood(self, values: Any, tpr: float = 0.95) -> NDArray[np.bool_]:
        """Whether each vector's score is above the threshold that a share `tpr` of the calibration's rows does not exceed.

        Errors: :class:`CalibrationError` without a calibration, or where it is too small for this rate.
        """
        return self._call("is_ood", values, repr(float(tpr)))

    def pvalue(self, values: Any) -> NDArray[np.float64]:
        """Conformal p-value of each vector, in (0, 1]: the share of the calibration's rows that are as far away or further.

        Errors: :class:`CalibrationError` without a calibration.
        """
        return self._call("knn_ood_pvalue", values)

    def neighbors(self, values: Any, k: int = 5) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
        """The k nearest rows of the bank for each vector, nearest first: their ids in ``images`` and distances, each n×k."""
        call = f"knn_neighbors(v, {quoted(self.name)}, {int(k)})"
        found = self._database._native_open.apply(vectors(values), call).tuples()
        self._database._warn()
        lists = [row for (row,) in found]
        ids = np.array([[one["id"] for one in row] for row in lists], dtype=np.uint64).reshape(len(lists), k)
        distances = np.array([[one["distance"] for one in row] for row in lists], dtype=np.float32).reshape(len(lists), k)
        return ids, distances

    def threshold(self, tpr: float = 0.95, confidence: float | None = None, k: int | None = None) -> float:
        """The score that a share `tpr` of the calibration's rows does not exceed.

        With `confidence`, the one that at least that share of *all* ID rows does not exceed, with this confidence.

        Errors: :class:`CalibrationError` without a calibration, or where it is too small.
        """
        found = self._database._native_open.threshold(self.name, tpr, confidence, k)
        self._database._warn()
        return found

    def calibrate(self, where: str, k: int | None = None) -> Calibration:
        """Score held-out ID rows, those of ``images`` for which `where` holds: thresholds and p-values come from them."""
        return Calibration(**self._database._native_open.calibrate(self.name, where, k))

    def refresh(self, calibrate: bool = False) -> Refreshed:
        """Follow ``images`` to its latest version. :meth:`Database.append` does so by itself, changes in SQL do not.

        With `calibrate`, calibrations are measured again, with the rows that their predicates find now.
        """
        return Refreshed(**self._database._native_open.refresh(self.name, calibrate))

    def keep_scores(self, where: str | None = None, column: str | None = None, progress: Progress = False) -> Kept:
        """Write the scores of ``images`` into a column of it, NAME_score; those that are missing or stale."""
        with Telling(progress, "scoring") as telling:
            return Kept(**self._database._native_open.keep_scores(self.name, where, column, telling.call))

    def evaluate(self, id: str, ood: str | list[str], k: int | None = None, baselines: bool = False) -> Result:
        """The table of the paper: FPR95, AUROC with intervals of 95 %, AUPR and detection error, as fractions.

        `id` and `ood` are SQL over ``images``. What might make the numbers wrong is told as a warning.
        """
        return self._database._evaluate(self.name, id, [ood] if isinstance(ood, str) else list(ood), k, baselines)

    def report(self, **question: Any) -> Report:
        """A page of what lies outside this bank: see :meth:`Database.report`."""
        return self._database.report(self, **question)

    def tune(self, id: str, ood: str, ks: list[int] | None = None) -> dict[int, float]:
        """AUROC by k (the usual ones, up to the bank's rows), of ID and *validation* OOD rows; the best k comes first."""
        found = self._database._native_open.tune(self.name, id, ood, ks)
        by_k = {int(tried["k"]): float(tried["auroc"]) for tried in found["tried"]}
        return {found["best"]: by_k.pop(found["best"]), **by_k}

    def drop(self) -> None:
        """Remove the bank, its calibrations and index files. No row of ``images`` goes."""
        self._database._native_open.drop_bank(self.name)

    def __repr__(self) -> str:
        facts = self._facts
        return f"Bank({facts['name']!r}, backbone={facts['backbone']!r}, where={facts['where']!r}, k={facts['k']}, rows={facts['rows']})"

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{html.escape(name)}</th><td>{html.escape(str(value))}</td></tr>" for name, value in self._facts.items())
        return f"<table><tbody>{rows}</tbody></table>"
