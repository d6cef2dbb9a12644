"""What outskirt raises. Every message is one line that says what is wrong, with the facts, and what to do."""


class Error(Exception):
    """Anything that outskirt refuses or that failed; the classes below are the ones worth telling apart."""


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
