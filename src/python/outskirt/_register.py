"""Outskirt's functions in a session of the package ``datafusion``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import _native
from .errors import Error

if TYPE_CHECKING:
    from .database import Database

MAJOR = 54


def register(ctx: Any, database: Database) -> None:
    """Give a ``datafusion.SessionContext`` the functions over a database: ``knn_ood_score(v, 'bank')`` over tables of your own.

    Scores are those of :meth:`Database.sql`, bit for bit. There is no pruning: ``datafusion`` has no interface for the rules that skip
    rows below a threshold, so every row is scored, and large queries are faster in :meth:`Database.sql`. Banks are those of
    the moment; call it again after a change. Settings such as ``outskirt.search`` are there where the session was made with
    ``SessionConfig().with_extension(outskirt.Settings())``.

    Errors: another major version of ``datafusion`` than the one whose C interface this is built for.
    """
    import datafusion

    check(datafusion.__version__)
    for function in database._native_open.functions():
        if function.kind == "scalar":
            ctx.register_udf(datafusion.udf(_Scalar(function)))
        elif function.kind == "aggregate":
            ctx.register_udaf(datafusion.udaf(_Aggregate(function)))
        else:
            ctx.register_udwf(datafusion.udwf(_Window(function)))


def check(version: str) -> None:
    """Refuse a version of ``datafusion`` that this one cannot be called by."""
    if version.split(".")[0] != str(MAJOR):
        raise Error(f"datafusion {version} has another C interface: pip install 'datafusion>={MAJOR},<{MAJOR + 1}'")


class Settings:
    """Outskirt's settings in a session of ``datafusion``: ``SessionConfig().with_extension(outskirt.Settings())``."""

    def __datafusion_extension_options__(self) -> object:
        return _native.settings()


class _Scalar:
    def __init__(self, function: _native.Function) -> None:
        self.__datafusion_scalar_udf__ = function.capsule


class _Aggregate:
    def __init__(self, function: _native.Function) -> None:
        self.__datafusion_aggregate_udf__ = function.capsule


class _Window:
    def __init__(self, function: _native.Function) -> None:
        self.__datafusion_window_udf__ = function.capsule
