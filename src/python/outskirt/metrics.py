"""How well scores tell ID from OOD. Scores are such that larger is more OOD; ID is the positive class of the paper's table.

Each function takes the scores of ID rows and of OOD rows, in any order: lists, arrays or tensors of numbers. Values are those
of the SQL functions of the same name, and of the paper's code.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _native
from ._arrays import numbers
from .errors import CalibrationError, DimensionError, Error

__all__ = ["aupr_in", "aupr_out", "auroc", "auroc_interval", "bh_reject", "detection_error", "fpr_at_tpr", "fpr_at_tpr_interval"]


def _sides(id_scores: Any, ood_scores: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    sides = []
    for name, values in (("id_scores", id_scores), ("ood_scores", ood_scores)):
        array = numbers(values, np.float64, name)
        if not len(array):
            raise DimensionError(f"{name}: there are none")
        if np.isnan(array).any():
            raise Error(f"{name}: number {int(np.isnan(array).argmax())} is NaN")
        sides.append(array)
    return sides[0], sides[1]


def _metric(name: str, id_scores: Any, ood_scores: Any) -> float:
    found = _native.metric(name, *_sides(id_scores, ood_scores))
    assert found is not None  # neither side is empty
    return found


def _rate(name: str, value: float) -> float:
    if not 0 < value < 1:
        raise Error(f"{name} {value} is not between 0 and 1")
    return value


def auroc(id_scores: Any, ood_scores: Any) -> float:
    """Area under the ROC curve, in [0, 1]: how often an OOD row has the larger score than an ID row; ties count half."""
    return _metric("auroc", id_scores, ood_scores)


def aupr_in(id_scores: Any, ood_scores: Any) -> float:
    """Area under the precision-recall curve, in [0, 1], with ID as the positive class, by the steps of the paper's code.

    With few rows, or equal scores, it differs from scikit-learn's ``average_precision_score``.
    """
    return _metric("aupr_in", id_scores, ood_scores)


def aupr_out(id_scores: Any, ood_scores: Any) -> float:
    """Area under the precision-recall curve, in [0, 1], with OOD as the positive class; as :func:`aupr_in`."""
    return _metric("aupr_out", id_scores, ood_scores)


def detection_error(id_scores: Any, ood_scores: Any) -> float:
    """The least mean of both error rates over all thresholds, in [0, 0.5]."""
    return _metric("detection_error", id_scores, ood_scores)


def fpr_at_tpr(id_scores: Any, ood_scores: Any, tpr: float = 0.95) -> float:
    """Share of OOD rows, in [0, 1], that pass as ID where a share `tpr` of the ID rows does: FPR95, as the paper's code has it.

    An OOD row passes whose score is *below* the threshold: with many equal scores (all of them, say) it is too good.
    """
    found = _native.fpr_at_tpr(*_sides(id_scores, ood_scores), _rate("tpr", tpr))
    assert found is not None
    return found


def auroc_interval(id_scores: Any, ood_scores: Any, confidence: float = 0.95) -> tuple[float, float]:
    """Between what AUROC lies with this confidence (DeLong, on the logit scale)."""
    found = _native.interval(*_sides(id_scores, ood_scores), None, _rate("confidence", confidence))
    assert found is not None
    return found


def fpr_at_tpr_interval(
    id_scores: Any, ood_scores: Any, tpr: float = 0.95, confidence: float = 0.95
) -> tuple[float, float]:
    """Between what FPR at a TPR lies with this confidence, the threshold's own uncertainty included."""
    found = _native.interval(*_sides(id_scores, ood_scores), _rate("tpr", tpr), _rate("confidence", confidence))
    if found is None:
        raise CalibrationError(f"too few ID scores for a threshold at TPR {tpr} with a confidence of {confidence}")
    return found


def bh_reject(pvalues: Any, fdr: float = 0.05) -> NDArray[np.bool_]:
    """Which rows are OOD where a share `fdr` of those found may be wrong (Benjamini and Hochberg, JRSS B 1995).

    `pvalues` are those of :meth:`Bank.pvalue` or :meth:`KNN.pvalue`, of all rows that are tested together.
    """
    given = numbers(pvalues, np.float64, "pvalues")
    if not np.isfinite(given).all() or ((given < 0) | (given > 1)).any():
        raise Error("pvalues: they lie in [0, 1]")
    limit = _native.bh_limit(given, _rate("fdr", fdr))
    rejected: NDArray[np.bool_] = np.zeros(len(given), dtype=bool) if limit is None else given <= limit
    return rejected
