"""Out-of-distribution detection on embeddings: exact k-nearest-neighbour scores, and SQL over them.

The score of a vector is its distance to the k-th nearest in-distribution (ID) vector (Sun, Ming, Zhu, Li: *Out-of-distribution
Detection with Deep Nearest Neighbors*, ICML 2022); larger is more OOD. :class:`KNN` does it on arrays; :func:`connect` opens a
database, where rows stay, banks follow them, and scores are SQL. :mod:`outskirt.metrics` tells how good scores are.
"""

from . import metrics
from ._native import __version__
from ._register import Settings, register
from .bank import Bank, Calibration, Kept, Refreshed
from .database import Database, Exported, Ingested, connect
from .errors import (
    BusyError,
    CalibrationError,
    DimensionError,
    Error,
    ForkError,
    NotFittedError,
    NotFoundError,
    ParameterError,
    UnknownBackboneError,
    UnknownBankError,
    VectorError,
)
from .knn import KNN
from .report import Explanation, Report
from .result import Result

__all__ = [
    "KNN",
    "Bank",
    "BusyError",
    "Calibration",
    "CalibrationError",
    "Database",
    "DimensionError",
    "Error",
    "Explanation",
    "Exported",
    "ForkError",
    "Ingested",
    "Kept",
    "NotFittedError",
    "NotFoundError",
    "ParameterError",
    "Refreshed",
    "Report",
    "Result",
    "Settings",
    "UnknownBackboneError",
    "UnknownBankError",
    "VectorError",
    "__version__",
    "connect",
    "metrics",
    "register",
]


def __dir__() -> list[str]:
    return __all__
