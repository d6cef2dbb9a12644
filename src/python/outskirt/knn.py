"""The k-nearest-neighbour OOD score of Sun et al. (ICML 2022) on arrays: exact, without a database."""

from __future__ import annotations

import json
import os
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import _native
from ._arrays import numpy_of, vectors
from .errors import CalibrationError, DimensionError, Error, NotFittedError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["KNN"]

_METRICS = ("cosine", "euclidean")
# own rows that stand for held-out ones where nothing was calibrated
_OWN_ROWS = 10_000


class KNN:
    """Scores are distances to the k-th nearest ID vector; larger is more OOD. Exact, on all cores.

    `k`: neighbours counted. `metric`: ``"cosine"`` compares directions, as the paper does: vectors are normalised, the score
    is their Euclidean distance, in [0, 2], and that of SQL's ``knn_ood_score``, bit for bit. ``"euclidean"`` compares
    vectors as they are. `tpr`: the share of ID rows that :meth:`predict` calls inliers.

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

    def fit(self, X: Any, y: Any = None) -> Self:
        """Take the ID vectors, n×d; `y` is ignored.

        Errors: :class:`DimensionError`; :class:`VectorError` for a row that is NaN, infinite or (cosine) all zero.
        """
        self._check_parameters()
        array = self._vectors(X)
        self._searcher = _native.Searcher(array, self.metric == "euclidean", self.k)
        self._fitted(array.shape[1])
        return self

    def partial_fit(self, X: Any, y: Any = None) -> Self:
        """Take more ID vectors; what is searched is laid out anew, so add many at once."""
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

    def _check_parameters(self) -> None:
        if self.metric not in _METRICS:
            raise Error(f"metric {self.metric!r} is not known: there are {', '.join(_METRICS)}")
        if not isinstance(self.k, (int, np.integer)) or isinstance(self.k, bool) or self.k < 1:
            raise Error(f"k {self.k!r}: a whole number of neighbours, at least 1")
        if not 0 < self.tpr < 1:
            raise Error(f"tpr {self.tpr!r} is not between 0 and 1")

    def _vectors(self, X: Any) -> NDArray[np.float32]:
        if hasattr(X, "toarray"):
            raise TypeError("sparse vectors are not taken: give X.toarray() (a dense array)")
        given = numpy_of(X)
        if given.dtype.kind == "c":
            raise ValueError("Complex data not supported: vectors are real numbers")
        if given.dtype == object and given.ndim == 2:  # a TypeError names what is no number
            given = given.astype(np.float64)
        array = vectors(given)
        if not len(array):
            raise ValueError(f"Found array with 0 sample(s) (shape={array.shape}) while a minimum of 1 is required.")
        if not array.shape[1]:
            raise ValueError(f"Found array with 0 feature(s) (shape={array.shape}) while a minimum of 1 is required.")
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
            raise Error(f"k is {self.k}, and the fit has {rows} rows: lower k (set_params(k=…)), or fit more")
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
        k = self._asked() if n_neighbors is None else int(n_neighbors)
        rows = self._found().shape[0]
        if not 1 <= k <= rows:
            raise Error(f"n_neighbors is {k}: between 1 and the {rows} rows of the fit")
        array = self._queries(X)
        places, distances = self._found().nearest(array, k)
        return np.frombuffer(distances, np.float32).reshape(-1, k), np.frombuffer(places, np.int64).reshape(-1, k)

    # thresholds

    def calibrate(self, X: Any) -> Self:
        """Score held-out ID vectors, which are not in the fit: ``threshold_`` and :meth:`pvalue` come from them.

        Without it they come from the fit's own vectors (of more than 10,000, every n-th), each scored by the others.
        """
        self._held_out = self.score(X)
        return self

    def _leave_one_out(self, places: NDArray[Any]) -> NDArray[np.float32]:
        k = min(self._asked(), self.n_samples_fit_ - 1)
        if k < 1:
            return np.zeros(len(places), dtype=np.float32)
        return np.frombuffer(self._found().leave_one_out(places.tolist(), k), dtype=np.float32)

    def _calibration(self) -> NDArray[np.float32]:
        self._found()
        if self._held_out is not None:
            return self._held_out
        k = self._asked()
        if k not in self._own:
            step = -(-self.n_samples_fit_ // _OWN_ROWS)
            self._own[k] = self._leave_one_out(np.arange(0, self.n_samples_fit_, step))
        return self._own[k]

    def threshold(self, tpr: float) -> float:
        """The score that a share `tpr` of the ID vectors does not exceed: held-out ones, or the fit's own.

        Errors: :class:`CalibrationError` where they are too few to tell.
        """
        if not 0 < tpr < 1:
            raise Error(f"tpr {tpr!r} is not between 0 and 1")
        scores = np.ascontiguousarray(self._calibration())
        found, needed = _native.threshold(scores, tpr)
        if found is None:
            raise CalibrationError(f"a threshold at TPR {tpr} takes {needed} ID vectors, and there are {len(scores)}")
        return found

    @property
    def threshold_(self) -> float:
        """The threshold at `tpr`; with fewer vectors than that rate takes, the largest of their scores."""
        try:
            return self.threshold(self.tpr)
        except CalibrationError:
            return float(self._calibration().max())

    @property
    def offset_(self) -> float:
        """Minus ``threshold_``, as scikit-learn has it."""
        return -self.threshold_

    def pvalue(self, X: Any) -> NDArray[np.float64]:
        """Conformal p-value of each vector, in (0, 1]: the share of ID vectors that are as far away or further."""
        scores = np.ascontiguousarray(self.score(X))
        return np.frombuffer(_native.pvalues(np.ascontiguousarray(self._calibration()), scores), dtype=np.float64)

    # files

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it into a file: the exact index (cosine), or the rows (euclidean); a file of that name is replaced at once."""
        searcher, target = self._found(), os.fspath(path)
        note = json.dumps({"outskirt": 1, "k": int(self.k), "metric": self.metric, "tpr": self.tpr})
        held_out = None if self._held_out is None else self._held_out.tolist()
        if self.metric == "cosine":
            searcher.write(target, json.dumps({**json.loads(note), "held_out": held_out}))
            return
        beside = target + ".partial"
        with open(beside, "wb") as file:
            rows = np.frombuffer(searcher.rows(), dtype=np.float32).reshape(searcher.shape)
            np.savez(file, note=np.array(note), rows=rows, held_out=np.array([] if held_out is None else held_out, dtype=np.float32))
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, target)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> KNN:
        """Read what :meth:`save` wrote. Nothing in the file is run. Errors: :class:`NotFoundError`, a file that is damaged."""
        source = os.fspath(path)
        if _is_zip(source):
            try:
                with np.load(source, allow_pickle=False) as file:
                    note, rows, held = json.loads(str(file["note"])), file["rows"], file["held_out"]
            except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
                raise Error(f"{source} is no file that KNN.save made: {error}") from None
            made = cls(note["k"], note["metric"], note["tpr"]).fit(rows)
            made._held_out = held if len(held) else None
            return made
        text, searcher = _native.Searcher.open(source)
        try:
            note = json.loads(text)
            made = cls(note["k"], note["metric"], note["tpr"])
            held_out = note["held_out"]
        except (ValueError, KeyError, TypeError):
            raise Error(f"{source} is an index, but none that KNN.save made") from None
        made._searcher = searcher
        made._fitted(searcher.shape[1])
        made._held_out = None if held_out is None else np.array(held_out, dtype=np.float32)
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
            is_cosine = self.metric == "cosine"
            self._searcher = _native.Searcher.of_units(rows, self.k) if is_cosine else _native.Searcher(rows, True, self.k)

    # scikit-learn's interface, without needing it

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters of the constructor."""
        return {"k": self.k, "metric": self.metric, "tpr": self.tpr}

    def set_params(self, **parameters: Any) -> Self:
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


def _not_fitted(message: str) -> NotFittedError:
    """Where scikit-learn is loaded, an error that is its own as well."""
    exceptions = sys.modules.get("sklearn.exceptions")
    if exceptions is None:
        return NotFittedError(message)
    both: type[NotFittedError] = type("NotFittedError", (NotFittedError, exceptions.NotFittedError), {})
    return both(message)


def _is_zip(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"PK"
    except OSError:
        return False
