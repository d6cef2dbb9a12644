"""The k-nearest-neighbour OOD score of Sun et al. (ICML 2022) on arrays: exact, without a database."""

from __future__ import annotations

import json
import operator
import os
import secrets
import sys
import zipfile
from typing import Any, Callable

import numpy as np
from numpy.typing import NDArray

from . import _native
from ._arrays import numpy_of, vectors
from .errors import CalibrationError, DimensionError, Error, NotFittedError, NotFoundError, ParameterError

__all__ = ["KNN"]

_METRICS = ("cosine", "euclidean")
# own rows that stand for held-out ones where nothing was calibrated
_OWN_ROWS = 10_000


class KNN:
    """Scores are distances to the k-th nearest ID vector; larger is more OOD. Exact, on all cores.

    `k`: neighbours counted. `metric`: ``"cosine"`` compares directions, as the paper does: vectors are normalised, the score
    is their Euclidean distance, in [0, 2], and that of SQL's ``knn_ood_score``, bit for bit. ``"euclidean"`` compares
    vectors as they are. `tpr`: the share of ID rows that :meth:`predict` calls inliers. Vectors are kept and compared as float32.

    It follows scikit-learn's conventions for outlier detectors: :meth:`score_samples` is *minus* the score, so that lower is more
    abnormal, ``decision_function`` is that moved so that it is negative for outliers, and :meth:`predict` gives 1 for inliers and −1
    for outliers. :meth:`score` is the paper's: larger is more OOD.

    After :meth:`fit`: ``n_features_in_``, ``n_samples_fit_``, ``threshold_`` and ``offset_`` (minus it).

    Example::

        knn = outskirt.KNN(k=10).fit(train)
        knn.score(test)                    # the larger, the more OOD
        knn.calibrate(validation)          # thresholds and p-values from held-out ID vectors
        knn.predict(test), knn.pvalue(test)
    """

    n_features_in_: int
    n_samples_fit_: int

    def __init__(self, k: int = 50, metric: str = "cosine", tpr: float = 0.95) -> None:
        self.k = k
        self.metric = metric
        self.tpr = tpr

    # fitting

    def fit(self, X: Any, y: Any = None) -> KNN:
        """Take the ID vectors, n×d; `y` is ignored.

        Errors: :class:`DimensionError`; :class:`VectorError` for a row that is NaN, infinite or (cosine) all zero.
        """
        self._check_parameters()
        array = self._vectors(X)
        self._searcher = _native.Searcher(array, self.metric == "euclidean", self.k)
        self._metric = self.metric
        self._fitted(array.shape[1])
        return self

    def partial_fit(self, X: Any, y: Any = None) -> KNN:
        """Take more ID vectors; what is searched is laid out anew, so add many at once. Calibrate again afterwards."""
        if getattr(self, "_searcher", None) is None:
            return self.fit(X)
        self._searcher = self._searcher.with_more(self._queries(X), self.k)
        self._fitted(self._searcher.shape[1])
        return self

    def _fitted(self, width: int) -> None:
        rows, _ = self._searcher.shape
        self.n_features_in_ = width
        self.n_samples_fit_ = rows
        # beside the attributes: what is asked changes none of them
        self._own: dict[int, NDArray[np.float32]] = {}
        self._held_out: NDArray[np.float32] | None = None
        self._held_out_k = 0

    def _check_parameters(self) -> None:
        if not isinstance(self.metric, str) or self.metric not in _METRICS:
            raise ParameterError(f"metric {self.metric!r} is not known: there are {', '.join(_METRICS)}")
        if not isinstance(self.k, (int, np.integer)) or isinstance(self.k, bool) or self.k < 1:
            raise ParameterError(f"k {self.k!r}: a whole number of neighbours, at least 1")
        if not _is_rate(self.tpr):
            raise ParameterError(f"tpr {self.tpr!r} is not between 0 and 1")

    def _vectors(self, X: Any) -> NDArray[np.float32]:
        if hasattr(X, "toarray"):
            raise TypeError("sparse vectors are not taken: give X.toarray() (a dense array)")
        try:
            given = numpy_of(X)
        except ValueError as error:
            raise DimensionError(f"vectors are the rows of an array of numbers (n×d): {error}") from None
        if given.dtype.kind == "c":
            raise DimensionError("Complex data not supported: vectors are real numbers")
        if given.dtype == object and given.ndim == 2:  # a TypeError names what is no number
            given = given.astype(np.float64)
        array = vectors(given)
        if not len(array):
            raise DimensionError(f"Found array with 0 sample(s) (shape={array.shape}) while a minimum of 1 is required.")
        if not array.shape[1]:
            raise DimensionError(f"Found array with 0 feature(s) (shape={array.shape}) while a minimum of 1 is required.")
        return array

    def _queries(self, X: Any) -> NDArray[np.float32]:
        self._found()
        array = self._vectors(X)
        if array.shape[1] != self.n_features_in_:
            raise DimensionError(
                f"X has {array.shape[1]} features, but KNN is expecting {self.n_features_in_} features as input, as many as those of fit"
            )
        return array

    def _found(self) -> _native.Searcher:
        searcher: _native.Searcher | None = getattr(self, "_searcher", None)
        if searcher is None:
            raise _not_fitted("this KNN is not fitted: call fit with ID vectors first")
        return searcher

    def _asked(self) -> int:
        """k, where there are as many rows."""
        self._check_parameters()
        rows = self._found().shape[0]
        if self.k > rows:
            raise ParameterError(f"k is {self.k}, and the fit has {rows} rows: lower k (set_params(k=…)), or fit more")
        return int(self.k)

    # scores

    def score(self, X: Any, y: Any = None) -> NDArray[np.float32]:
        """How far each vector is from its k-th nearest ID vector; larger is more OOD. `y` is ignored."""
        return np.frombuffer(self._found().kth(self._queries(X), self._asked()), dtype=np.float32)

    def score_samples(self, X: Any) -> NDArray[np.float64]:
        """Minus :meth:`score`: scikit-learn's convention, in which lower is more abnormal."""
        return -self.score(X).astype(np.float64)

    def decision_function(self, X: Any) -> NDArray[np.float64]:
        """:meth:`score_samples` minus ``offset_``: negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> NDArray[np.int64]:
        """1 for inliers (ID), −1 for outliers (OOD): those whose score is above ``threshold_``."""
        return np.where(self.score(X) > np.float32(self.threshold_), -1, 1)

    def fit_predict(self, X: Any, y: Any = None) -> NDArray[np.int64]:
        """Fit, and :meth:`predict` the same vectors; each is among its own neighbours then, at distance 0."""
        return self.fit(X).predict(X)

    def kneighbors(self, X: Any, n_neighbors: int | None = None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Distances and places (in the order of the fit) of the nearest ID vectors, each n×k, nearest first."""
        try:
            k = self._asked() if n_neighbors is None else operator.index(n_neighbors)
        except TypeError:
            raise ParameterError(f"n_neighbors is {n_neighbors!r}: a whole number of neighbours") from None
        rows = self._found().shape[0]
        if not 1 <= k <= rows:
            raise ParameterError(f"n_neighbors is {k}: between 1 and the {rows} rows of the fit")
        array = self._queries(X)
        places, distances = self._found().nearest(array, k)
        return np.frombuffer(distances, np.float32).reshape(-1, k), np.frombuffer(places, np.int64).reshape(-1, k)

    # thresholds

    def calibrate(self, X: Any) -> KNN:
        """Score held-out ID vectors, which are not in the fit: ``threshold_`` and :meth:`pvalue` come from them.

        Without it they come from the fit's own vectors (of more than 10,000, every n-th), each scored by the others.
        """
        self._held_out, self._held_out_k = np.sort(self.score(X)), int(self.k)
        return self

    def _leave_one_out(self, places: NDArray[Any]) -> NDArray[np.float32]:
        k = self._asked()
        if k >= self.n_samples_fit_:
            raise CalibrationError(f"own rows have {self.n_samples_fit_ - 1} others, and k is {k}: calibrate with held-out vectors")
        return np.frombuffer(self._found().leave_one_out(places.tolist(), k), dtype=np.float32)

    def _calibration(self) -> NDArray[np.float32]:
        self._found()
        if self._held_out is not None:
            if self._held_out_k != self.k:
                raise CalibrationError(f"it was calibrated with k = {self._held_out_k}, and k is {self.k}: calibrate it again")
            return self._held_out
        k = self._asked()
        if k not in self._own:
            step = -(-self.n_samples_fit_ // _OWN_ROWS)
            self._own[k] = np.sort(self._leave_one_out(np.arange(0, self.n_samples_fit_, step)))
        return self._own[k]

    def threshold(self, tpr: float) -> float:
        """The score that a share `tpr` of the ID vectors does not exceed: held-out ones, or the fit's own.

        Errors: :class:`CalibrationError` where they are too few to tell.
        """
        if not _is_rate(tpr):
            raise ParameterError(f"tpr {tpr!r} is not between 0 and 1")
        scores = self._calibration()
        found, needed = _native.threshold(scores, tpr)
        if found is None:
            raise CalibrationError(f"a threshold at TPR {tpr} takes {needed} ID vectors, and there are {len(scores)}")
        return found

    @property
    def threshold_(self) -> float:
        """The threshold at `tpr`; with fewer vectors than that rate takes, the largest of their scores."""
        scores = self._calibration()
        self._check_parameters()
        found, _ = _native.threshold(scores, self.tpr)
        return float(scores[-1]) if found is None else found

    @property
    def offset_(self) -> float:
        """Minus ``threshold_``, as scikit-learn has it."""
        return -self.threshold_

    def pvalue(self, X: Any) -> NDArray[np.float64]:
        """Conformal p-value of each vector, in (0, 1]: the share of ID vectors that are as far away or further."""
        return np.frombuffer(_native.pvalues(self._calibration(), self.score(X)), dtype=np.float64)

    # files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it into a file: the exact index (cosine), or the rows (euclidean); a file of that name is replaced at once."""
        searcher = self._found()
        self._asked()
        held_out = None if self._held_out is None else self._held_out.tolist()
        note: dict[str, Any] = {"outskirt": 1, "k": int(self.k), "metric": self._metric, "tpr": float(self.tpr)}
        note.update(held_out=held_out, held_out_k=self._held_out_k)
        if self._metric == "cosine":
            _written(path, lambda beside: searcher.write(beside, json.dumps(note)))
        else:
            rows = np.frombuffer(searcher.rows(), dtype=np.float32).reshape(searcher.shape)
            _written(path, lambda beside: _write_rows(beside, json.dumps(note), rows))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> KNN:
        """Read what :meth:`save` wrote. Nothing in the file is run. Errors: :class:`NotFoundError`, a file that is damaged."""
        source = os.fsdecode(os.fspath(path))
        if not os.path.exists(source):
            raise NotFoundError(f"there is no file {source}")
        try:
            if _is_zip(source):
                with open(source, "rb") as file, np.load(file, allow_pickle=False) as arrays:
                    note, rows = json.loads(str(arrays["note"])), arrays["rows"]
                made = cls(note["k"], note["metric"], note["tpr"]).fit(rows)
            else:
                text, searcher = _native.Searcher.open(source)
                note = json.loads(text)
                made = cls(note["k"], note["metric"], note["tpr"])
                made._searcher, made._metric = searcher, "cosine"
                made._fitted(searcher.shape[1])
            held_out = note["held_out"]
            made._held_out = None if held_out is None else np.array(held_out, dtype=np.float32)
            made._held_out_k = note["held_out_k"]
        except Error:
            raise
        except (OSError, EOFError, ValueError, KeyError, TypeError, NotImplementedError, zipfile.BadZipFile) as error:
            raise Error(f"{source} is no file that KNN.save made, or is damaged: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from None
        return made

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        searcher: _native.Searcher | None = state.pop("_searcher", None)
        if searcher is not None:
            state["_rows"] = np.frombuffer(searcher.rows(), dtype=np.float32).reshape(searcher.shape)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        rows = state.pop("_rows", None)
        self.__dict__.update(state)
        if rows is not None:
            is_cosine = self._metric == "cosine"
            self._searcher = _native.Searcher.of_units(rows, self.k) if is_cosine else _native.Searcher(rows, True, self.k)

    # scikit-learn's interface, without needing it

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters of the constructor."""
        return {"k": self.k, "metric": self.metric, "tpr": self.tpr}

    def set_params(self, **parameters: Any) -> KNN:
        """Change parameters; k and tpr hold at once, metric with the next fit."""
        for name, value in parameters.items():
            if name not in self.get_params():
                raise ValueError(f"KNN has no parameter {name!r}: there are {', '.join(self.get_params())}")
            setattr(self, name, value)
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return getattr(self, "_searcher", None) is not None

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags

        return Tags(
            estimator_type="outlier_detector",
            target_tags=TargetTags(required=False),
            input_tags=InputTags(allow_nan=False),
        )

    def __repr__(self) -> str:
        fitted = f" fitted with {self.n_samples_fit_:,} × {self.n_features_in_}" if self.__sklearn_is_fitted__() else ""
        return f"KNN(k={self.k!r}, metric={self.metric!r}, tpr={self.tpr!r}){fitted}"


def _is_rate(value: Any) -> bool:
    return isinstance(value, (int, float, np.number)) and bool(0 < value < 1)


def _written(path: str | os.PathLike[str], write: Callable[[str], object]) -> None:
    """Write beside a name first, under one that nobody else has: a file of that name is whole."""
    target = os.fsdecode(os.fspath(path))
    beside = f"{target}.{secrets.token_hex(8)}.partial"
    try:
        if not os.path.basename(target) or os.path.isdir(target):
            raise Error(f"cannot write {target!r}: it is no name of a file")
        write(beside)
        os.replace(beside, target)
    except OSError as error:
        raise Error(f"cannot write {target}: {error.strerror or error}") from None
    finally:
        if os.path.exists(beside):
            os.unlink(beside)


def _write_rows(path: str, note: str, rows: NDArray[np.float32]) -> None:
    with open(path, "wb") as file:
        np.savez(file, note=np.array(note), rows=rows)
        file.flush()
        os.fsync(file.fileno())


def _not_fitted(message: str) -> NotFittedError:
    """Where scikit-learn is loaded, an error that is its own as well."""
    exceptions = sys.modules.get("sklearn.exceptions")
    if exceptions is None:
        return NotFittedError(message)
    made = {"__reduce__": lambda error: (_not_fitted, error.args)}
    both: type[NotFittedError] = type("NotFittedError", (NotFittedError, exceptions.NotFittedError), made)
    return both(message)


def _is_zip(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"PK"
    except OSError:
        return False
