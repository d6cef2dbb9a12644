"""What outskirt raises. Every message is one line that says what is wrong, with the facts, and what to do."""

from __future__ import annotations

import re

# what the command line is told, as calls: the library's messages are for both
_COMMANDS = [
    (r"'outskirt bank calibrate (\w+) --where SQL'", r"db.bank('\1').calibrate(where)"),
    (r"'outskirt bank (refresh|drop) (\w+)'", r"db.bank('\2').\1()"),
    (r"'outskirt bank create'", "db.create_bank"),
    (r"'outskirt verify --repair'", "db.verify(repair=True)"),
    (r"'outskirt (verify|optimize|history|undo)'", r"db.\1()"),
    (r"'outskirt restore( --version N)?( --dry-run)?'", "db.restore(version)"),
    (r"'outskirt sql'", "db.sql"),
    (r"'outskirt ingest' creates one, --db or OUTSKIRT_DB names another", "outskirt.connect(path) makes one"),
    (r"'outskirt ingest FILE[^']*'", "db.append"),
    (r"'outskirt ingest'", "db.append or db.ingest"),
    (r"--wait SECONDS waits longer", "outskirt.connect(path, wait=SECONDS) waits longer"),
]
_NAMES = {"embedding-column": "column", "logits-column": "logits", "into": "column"}
_FLAGS = {"again", "strict", "with-logits", "store-images"}


def _option(found: re.Match[str]) -> str:
    name = found[1]
    return _NAMES.get(name, name.replace("-", "_")) + ("=True" if name in _FLAGS else "=")


def _in_python(message: str) -> str:
    for command, call in _COMMANDS:
        message = re.sub(command, call, message)
    # what is left in quotes are commands that there is no call for
    return "".join(
        part if part.startswith("'outskirt ") else re.sub(r"--([a-z][a-z-]+)(?: (?:NAME|TEXT|COLUMN|SQL|FILE)\b)?", _option, part)
        for part in re.split(r"('outskirt [^']*')", message)
    )


class Error(Exception):
    """Anything that outskirt refuses or that failed; the classes below are the ones worth telling apart."""

    def __init__(self, message: str = "") -> None:
        super().__init__(_in_python(message))


class NotFoundError(Error):
    """A path or database that is not there."""


class UnknownBankError(Error):
    """A bank, or a version of one, that the database does not have."""


class UnknownBackboneError(Error):
    """A backbone that is not known."""


class BusyError(Error):
    """Another process is writing, and went on longer than `wait` allows."""


class VectorError(Error, ValueError):
    """A vector that is no direction: all zero, NaN or infinite."""


class DimensionError(Error, ValueError):
    """Vectors of another number of dimensions, or an array of another shape, than is wanted."""


class ParameterError(Error, ValueError):
    """A k, rate, metric or other parameter that cannot be."""


class CalibrationError(Error):
    """A threshold or p-value of a bank that is not calibrated, or not with enough rows."""


class ForkError(Error):
    """A process that was forked from one that had begun to use outskirt."""


class NotFittedError(Error, ValueError, AttributeError):
    """An estimator that was not fitted."""
