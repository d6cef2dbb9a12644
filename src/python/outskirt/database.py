"""A database: embeddings, what is known of them, and banks, in a folder of Lance tables."""

from __future__ import annotations

import hashlib
import os
import secrets
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, Sequence, Union

import numpy as np

from . import _native
from ._arrays import texts, vectors
from .bank import Bank
from .errors import DimensionError, Error, ParameterError
from .progress import Progress, Telling
from .report import Explanation, Report
from .result import Result

__all__ = ["Database", "Exported", "Ingested", "connect"]

PathLike = Union[str, "os.PathLike[str]"]

# rows that go over at once: bounded memory, whatever is appended
_AT_ONCE = 16_384
_COLUMN = "embedding"


@dataclass(frozen=True)
class Exported:
    """What :meth:`Database.export` wrote, in images."""

    folder: Path
    rows: int
    copied: int
    linked: int
    referenced: int
    """Pictures that are named where they are."""
    missing: int
    """Pictures that could not be found or read."""
    in_archives: int
    """Images inside of archives, which `files="none"` cannot name."""
    left_out: int
    """Images that are not there for want of a picture."""
    changed: int
    """Copied files that are no longer what was embedded."""
    converted: int
    """Pictures that became PNG, for browsers show no other format of theirs."""
    bytes: int
    examples: list[tuple[str, str]]
    """The first of those that are missing, and why."""
    notes: list[str]
    """What there is to know of the files."""


@dataclass(frozen=True)
class Ingested:
    """What :meth:`Database.append` or :meth:`Database.ingest` did, in rows."""

    added: int
    replaced: int
    """Rows that were there with other vectors."""
    filled: int
    """Rows that were there without this backbone's vectors."""
    unchanged: int
    amended: int
    """Rows that were there and got another label or other columns."""
    deleted: int
    """Rows that were deleted before, and stay so; `again=True` takes them."""
    in_other_splits: int
    """Rows that were there in another split, where they stay."""
    repeated: int
    clashed: int
    """Left out: another row of this run has the same uri and other numbers."""
    unmatched: int
    """With `key`: belong to no row of ``images``."""
    refused: int
    """Vectors that are no direction, pictures that cannot be read; the table ``rejects`` names them."""
    first_rejects: list[dict[str, str]]
    seconds: float
    notices: list[str] = field(default_factory=list)


def connect(path: PathLike, *, create: bool = True, wait: float = 10.0) -> Database:
    """Open the database in the folder `path`, or at ``s3://bucket/path``; it is made where there is none, unless `create` is False.

    A call that writes waits up to `wait` seconds for another process that does.

    Errors: :class:`NotFoundError`, a schema that another version of outskirt made.
    """
    folder = os.fsdecode(os.fspath(path))
    if create and os.path.isdir(folder):
        there = set(os.listdir(folder))
        if there and not there & {"images.lance", "write.lock"}:
            raise Error(f"the folder {folder} is not empty, and holds no database: name another one, or the database's own")
    return Database(_native.Database.open(folder, create, wait))


class Database:
    """A folder of Lance tables: ``images`` (rows, whether or not they are pictures), ``banks``, ``calibrations`` and others.

    Made by :func:`connect`. Threads may share one. Queries see what was committed before they began, by whatever process; one
    process writes at a time (:class:`BusyError`). A ``with`` block closes it at its end; so does nobody's holding it.
    """

    def __init__(self, native: _native.Database) -> None:
        self._native: _native.Database | None = native

    @property
    def _native_open(self) -> _native.Database:
        if self._native is None:
            raise Error("the database is closed: outskirt.connect opens it again")
        return self._native

    @property
    def path(self) -> Path:
        """Its folder."""
        return Path(self._native_open.path)

    def close(self) -> None:
        """Let go of it. Nothing is lost: what was written is committed already."""
        self._native = None

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Rows of ``images``."""
        return self._native_open.count()

    # rows

    def append(
        self,
        features: Any,
        *,
        backbone: str,
        model_version: str | None = None,
        dataset: str | None = None,
        split: str | None = None,
        uri: Sequence[Any] | Any | None = None,
        label: Sequence[Any] | Any | None = None,
        logits: Any | None = None,
        metadata: Any | None = None,
        column: str = _COLUMN,
        key: str | None = None,
        name: str | None = None,
        strict: bool = False,
        again: bool = False,
        refresh: bool = True,
        progress: Progress = False,
    ) -> Ingested:
        """Add embeddings that a model of yours made, in commits of some ten thousand rows.

        `features`: vectors n×d (NumPy, torch, lists, a column of pandas or polars); or a table with the vectors in `column`
        and more columns (pyarrow, pandas, polars, or anything with ``__arrow_c_stream__``); or an iterable of either, which
        is read as it goes, so that what does not fit into memory can be appended.

        `backbone` is your name for the model, and the name of the column of ``images``; `model_version` is a text that tells
        its versions apart, needed once. `dataset` and `split` are of all rows, and count before columns of those names. `uri`
        and `label` are one for each row; `metadata` is a table or dictionary of columns with as many rows. A row is known by
        its dataset and uri: one that is there keeps its id and its split, and gets the new vector, label and columns. Without
        `uri` a row is called ``name!/number``, where `name` stands for the vectors themselves unless you give one: the same
        vectors again are the same rows. Of an iterator, which is not read twice, each call's rows are new ones then.

        `logits` (n×classes, or the name of a column of a table) fills ``BACKBONE_logits``. `key` names a column of ``images``
        by which rows are matched in place of uri: vectors are filled in then, and no row is added. Rows that were deleted stay
        so, unless `again` is True. `strict` stops at a row that is refused, and keeps those before it, where otherwise it is
        counted and named in the table ``rejects``. Banks follow, unless `refresh` is False; their calibrations do not:
        :meth:`Bank.calibrate`, or :meth:`Bank.refresh` with ``calibrate=True``, measures them again.

        Errors: :class:`DimensionError`, :class:`VectorError` (with `strict`, or where no row is left), :class:`BusyError`.
        """
        features = _natural(features)
        is_table = hasattr(features, "__arrow_c_stream__") and not _is_column(features)
        if is_table or _is_pieces(features):
            given = {"uri": uri, "label": label, "metadata": metadata, "logits": None if isinstance(logits, str) else logits}
            beside = [said for said, value in given.items() if value is not None]
            if beside and (not is_table or {"metadata", "logits"} & set(beside)):
                of = "table" if is_table else "an iterator of pieces"
                raise DimensionError(f"{', '.join(beside)}: of {of} these are columns of the tables: put them there")
            if is_table and hasattr(features, "read_next_batch"):  # a reader, which is read once
                is_table, features = False, iter([features])
            if is_table:
                whole = _native.Batch.read(features)
                texts_of = [(said, texts(given[said], len(whole), said)) for said in beside]
                whole = _native.Batch.of([], texts_of, whole)
                called = name or _digest(whole, column)
                batches: Iterator[_native.Batch] = (whole.slice(first, min(_AT_ONCE, len(whole) - first)) for first in range(0, max(len(whole), 1), _AT_ONCE))
            else:
                called = name or f"append-{secrets.token_hex(8)}"
                batches = _pieces(iter(features), column)
        else:
            array = vectors(features)
            names = None if uri is None else texts(uri, len(array), "uri")
            is_named = names is not None and None not in names
            called = name or ("append" if is_named else hashlib.sha256(array.data).hexdigest()[:16])
            batches = _chunks(array, column, names, label, logits, metadata)
        options = {
            "column": column,
            "logits": logits if isinstance(logits, str) else None if logits is None else "logits",
            "backbone": backbone,
            "version": model_version or "",
            "dataset": dataset,
            "split": split,
            "key": key,
            "strict": strict,
            "again": again,
            "refresh": refresh,
        }
        with Telling(progress, "appending") as telling:
            return _told(self._native_open.append(batches, called, options, telling.call))

    def ingest(
        self,
        paths: PathLike | Sequence[PathLike],
        *,
        backbone: str,
        dataset: str,
        split: str = "",
        weights: PathLike | None = None,
        with_logits: bool = False,
        part: str | None = None,
        per_class: int | None = None,
        sample: int | None = None,
        seed: int = 0,
        metadata: PathLike | None = None,
        store_images: bool = False,
        strict: bool = False,
        again: bool = False,
        refresh: bool = True,
        progress: Progress = False,
    ) -> Ingested:
        """Embed pictures with a network that needs no libtorch (ResNets and DenseNet), and add them.

        `paths` are folders, pictures, archives, data sets and tables, here and at addresses, as for ``outskirt ingest``;
        `backbone` is a manifest or the name of a known one. Folders of classes give the column label.
        """
        several = [os.fspath(paths)] if isinstance(paths, (str, os.PathLike)) else [os.fspath(path) for path in paths]
        options = {
            "backbone": backbone,
            "weights": None if weights is None else os.fspath(weights),
            "with_logits": with_logits,
            "dataset": dataset,
            "split": split,
            "part": part,
            "per_class": per_class,
            "sample": sample,
            "seed": seed,
            "metadata": None if metadata is None else os.fspath(metadata),
            "store_images": store_images,
            "strict": strict,
            "again": again,
            "refresh": refresh,
        }
        with Telling(progress, "ingesting") as telling:
            return _told(self._native_open.ingest(several, options, telling.call))

    def delete(self, where: str, *, dry_run: bool = False, refresh: bool = True) -> int:
        """Delete the rows of ``images`` for which `where` holds (SQL, any function), in one commit; how many they were."""
        count, notices = self._native_open.delete(where, dry_run, refresh)
        for notice in notices:
            warnings.warn(notice, stacklevel=2)
        return count

    # banks

    def create_bank(
        self,
        name: str,
        *,
        backbone: str,
        where: str = "true",
        k: int = 50,
        fraction: float = 1.0,
        seed: int = 0,
        index: str = "exact",
    ) -> Bank:
        """Make a bank of the rows for which `where` holds: the ID rows that scores are distances to.

        `k` is how many neighbours are counted, `fraction` the share of the rows that is kept, in (0, 1], drawn by `seed`.
        `index` is ``exact``; ``hnsw``, ``hnsw-bf16`` or ``hnsw-i8`` for a graph beside it; or ``sharded-2`` to ``sharded-4096`` for the
        exact index in so many files, of a bank that is larger than a machine.

        Errors: a name that is taken, a backbone without vectors, no rows, k above their number.
        """
        if not isinstance(k, (int, np.integer)) or isinstance(k, bool) or k < 1:
            raise ParameterError(f"k {k!r}: a whole number of neighbours, at least 1")
        if not 0 < fraction <= 1:
            raise ParameterError(f"fraction {fraction!r}: the share of the rows that is kept, above 0 and at most 1")
        return Bank(self, self._native_open.create_bank(name, backbone, where, k, fraction, seed, index))

    def bank(self, name: str) -> Bank:
        """A bank by its name. Errors: :class:`UnknownBankError`."""
        return Bank(self, self._native_open.bank(name))

    def banks(self) -> list[Bank]:
        """All banks, by name."""
        return [Bank(self, facts) for facts in self._native_open.banks()]

    def add_backbone(self, name: str, *, dimension: int, model_version: str) -> None:
        """Declare a model of yours; the first :meth:`append` does so by itself."""
        self._native_open.add_backbone(name, dimension, model_version)

    # SQL

    def sql(self, text: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> Result:
        """Run SQL: queries, INSERT, UPDATE, DELETE, SET, COPY, views.

        Of several statements, separated by semicolons, the last one's rows are given, and each is a commit of its own: where
        one fails, those before it stay done. Banks follow changes by :meth:`Bank.refresh`.

        `parameters`: a list for ``$1``, ``$2``, …, or a dictionary for ``$name``, of a single statement: numbers, texts, bytes,
        truth values, dates and times (as texts), None, and lists or arrays of numbers for vectors.
        """
        if isinstance(parameters, (str, bytes)):
            raise Error("parameters: a list such as [value], or a dictionary, not a single text")
        return Result(self._native_open.sql(text, parameters), self)

    def query(self, name: str, **values: Any) -> Result:
        """Run a named query, as ``outskirt query NAME --param`` does."""
        return Result(self._native_open.query(name, [(key, str(value)) for key, value in values.items()]), self)

    def report(
        self,
        bank: str | Bank,
        *,
        where: str | None = None,
        id: str | None = None,
        ood: str | Sequence[str] = (),
        tpr: float = 0.95,
        title: str | None = None,
        max_images: int = 200,
    ) -> Report:
        """A page of what lies outside a calibrated bank: how much, how sure that is, and the pictures.

        `where`, `id` and `ood` are SQL over ``images``: which rows are measured (all but the bank's own where it is left out); ID rows that
        neither the bank nor its calibration has seen, which check the calibration; sets that do not belong, which get ROC curves, AUROC
        and FPR95. Threshold and p-values are those of the calibration, of which a share `tpr` lies below the threshold. A notebook shows
        the page in place; :meth:`Report.save` writes it.
        """
        name = bank.name if isinstance(bank, Bank) else bank
        sets = [ood] if isinstance(ood, str) else list(ood)
        if not 0 < tpr < 1:
            raise ParameterError(f"tpr is {tpr}, and is a share of ID rows between 0 and 1")
        if max_images < 0:
            raise ParameterError(f"max_images is {max_images}, and is a number of pictures")
        question = dict(bank=name, predicate=where, id=id, ood=sets, tpr=tpr, title=title, max_images=max_images)
        return Report(*self._native_open.report(question))

    def export(
        self,
        to: PathLike,
        *,
        as_: str,
        where: str | None = None,
        limit: int | None = None,
        bank: str | Bank | None = None,
        tpr: float = 0.95,
        neighbors: int = 0,
        columns: str | Sequence[str] = (),
        files: str = "copy",
        strict: bool = False,
        progress: Progress = False,
    ) -> Exported:
        """Images, pictures and scores for other programs, in the folder `to`, which must be empty or not be there.

        `as_` is ``huggingface``, ``imagefolder``, ``coco``, ``label-studio``, ``fiftyone`` or ``csv``. `where` is SQL over ``images``; with a
        `bank` each image has its score, p-value, decision at `tpr` and its `neighbors` nearest images of the bank, and `limit` takes those with
        the largest scores. `columns` are further columns, such as embeddings. `files` are a ``copy`` of each picture, a ``link``, or ``none``
        but its name. A picture that is missing is counted, and an error where `strict` says so.
        """
        name = bank.name if isinstance(bank, Bank) else bank
        if limit is not None and limit < 0 or neighbors < 0:
            raise ParameterError(f"limit is {limit} and neighbors {neighbors}, and both are numbers of images")
        asked = dict(
            to=os.fspath(to),
            format=as_,
            predicate=where,
            limit=limit,
            bank=name,
            tpr=tpr,
            neighbors=neighbors,
            columns=[columns] if isinstance(columns, str) else list(columns),
            files=files,
            strict=strict,
        )
        with Telling(progress, "exporting") as telling:
            found = self._native_open.export(asked, telling.call)
        examples = [(uri, reason) for uri, reason in found.pop("examples")]
        return Exported(folder=Path(found.pop("folder")), examples=examples, **found)

    def explain(self, image: int | PathLike, bank: str | Bank, *, neighbors: int = 5, tpr: float = 0.95) -> Explanation:
        """One image beside a bank: its score, what that means, and the `neighbors` images of the bank that are nearest to it.

        `image` is an id of ``images``, or the path, address or uri of one; a file that is not in the database is embedded. The facts are
        in :attr:`Explanation.facts`: ``score``, ``decision`` (``None`` without a calibration), ``neighbors``.
        """
        name = bank.name if isinstance(bank, Bank) else bank
        id, uri = (image, None) if isinstance(image, int) else (None, os.fspath(image))
        question = dict(bank=name, id=id, uri=uri, neighbors=neighbors, tpr=tpr)
        return Explanation(*self._native_open.explain(question))

    # curation

    def sample(
        self,
        n: int,
        strategy: str,
        *,
        bank: str | Bank | None = None,
        backbone: str | None = None,
        where: str | None = None,
        per: str | None = None,
        tpr: float = 0.95,
        seed: int = 0,
    ) -> Result:
        """A few images to look at or to label, the first ones first: ``id``, ``dataset``, ``split``, ``label``, ``uri`` …

        `strategy` is ``outlier`` (largest scores), ``borderline`` (nearest to the threshold at `tpr`), ``diverse`` (farthest-point selection:
        all are like one of them; ``stands_for`` says how many) or ``random``. `where` is SQL over ``images``; with `per`, such as a column,
        `n` of each of its values.
        """
        name = bank.name if isinstance(bank, Bank) else bank
        choice = dict(strategy=strategy, n=n, predicate=where, per=per, bank=name, backbone=backbone, tpr=tpr, seed=seed)
        return Result(self._native_open.sample(choice), self)

    def duplicates(
        self,
        *,
        where: str | None = None,
        by: str = "dhash",
        bits: int = 4,
        within: float = 0.1,
        backbone: str | None = None,
        against: str | None = None,
        stays: str = "largest",
        delete: bool = False,
        refresh: bool = True,
        progress: Progress = False,
    ) -> Result:
        """Images that are copies of others, each once: ``id``, ``copy_of`` (the id of what stays), ``apart``, ``because``, ``stays``, ``uri``, ``of_uri`` …

        Files of the same bytes are, and `by` ``dhash`` pictures whose difference hashes differ in at most `bits` (0 to 10) of 64, by
        ``embedding`` images whose L2-normalised vectors of `backbone` are at most `within` apart (0 to 2), by ``content`` nothing else.
        `against` is SQL over ``images``: those that stay, and with which alone the others are compared, as for leakage of training into
        test images. `stays` is ``largest`` (of more pixels, else the first) or ``first``. With `delete` the copies are deleted in one commit,
        which :meth:`undo` takes back; rows whose column ``curation`` is ``keep`` never are. Hashes are kept in the column ``dhash``.
        """
        compared = dict(by=by, bits=bits, within=within, backbone=backbone, predicate=where, against=against)
        compared |= dict(stays=stays, delete=delete, refresh=refresh)
        with Telling(progress, "comparing") as telling:
            rows, notices = self._native_open.copies(compared, telling.call)
        for notice in notices:
            warnings.warn(notice, stacklevel=2)
        return Result(rows, self)

    def tag(self, where: str, column: str, value: str | None, *, refresh: bool = True) -> int:
        """Set a column of your own (added as TEXT where it is not there), ``label`` or ``split`` where `where` holds, in one entry of the history.

        ``None`` is NULL. How many rows have it now that had another value. ``db.tag(where, "curation", "keep")`` keeps them from being deleted by
        :meth:`duplicates`, ``"ignore"`` leaves them out of :meth:`sample` and :meth:`duplicates`, and passes over what is kept. Banks follow,
        unless `refresh` is false.
        """
        count, notices = self._native_open.tag(where, column, value, refresh)
        for notice in notices:
            warnings.warn(notice, stacklevel=2)
        return count

    # upkeep

    def history(self) -> list[dict[str, Any]]:
        """What changed ``images``, the latest first."""
        return self._native_open.history()[::-1]

    def undo(self, *, refresh: bool = True) -> dict[str, Any]:
        """Take the last change back."""
        return self._native_open.undo(refresh)

    def restore(self, version: int, *, refresh: bool = True) -> dict[str, Any]:
        """Bring ``images`` back to a version."""
        return self._native_open.restore(version, refresh)

    def optimize(self, *, keep: float = 7 * 86_400.0) -> dict[str, Any]:
        """Merge small files, and prune versions older than `keep` seconds that no bank stands for."""
        return self._native_open.optimize(keep)

    def verify(self, *, sample: int = 64, repair: bool = False) -> list[dict[str, str]]:
        """Check every row, bank and index file: a list of what was looked at, with its state and facts."""
        return self._native_open.verify(sample, repair)

    def _evaluate(self, bank: str, id: str, ood: list[str], k: int | None, baselines: bool) -> Result:
        rows, notices = self._native_open.evaluate(bank, id, ood, k, baselines)
        for notice in notices:
            warnings.warn(notice, stacklevel=3)
        return Result(rows)

    def _warn(self) -> None:
        """Tell what is to be known of the banks that were used: that they, or their calibrations, are behind."""
        if self._native is not None:
            for notice in self._native.notices():
                warnings.warn(notice, stacklevel=4)

    def __reduce__(self) -> tuple[Any, ...]:
        return connect, (str(self.path),)

    def __repr__(self) -> str:
        if self._native is None:
            return "Database(closed)"
        banks = ", ".join(bank.name for bank in self.banks()) or "none"
        return f"Database({str(self.path)!r}: {len(self):,} rows; banks: {banks})"

    def _repr_html_(self) -> str:
        import html

        if self._native is None:
            return "<p>a closed database</p>"
        banks = "".join(f"<li>{html.escape(repr(bank))}</li>" for bank in self.banks())
        return f"<p><b>{html.escape(str(self.path))}</b>: {len(self):,} rows</p><ul>{banks}</ul>"


def _told(found: dict[str, Any]) -> Ingested:
    done = Ingested(**found)
    for notice in done.notices:
        warnings.warn(notice, stacklevel=3)
    if done.refused:
        first = done.first_rejects[0]
        warnings.warn(
            f"{done.refused} rows were refused, and are named in the table rejects; the first: {first['uri']}: {first['reason']}",
            stacklevel=3,
        )
    if done.deleted:
        warnings.warn(f"{done.deleted} rows were deleted before and stay so: again=True takes them", stacklevel=3)
    if done.in_other_splits:
        warnings.warn(
            f"{done.in_other_splits} rows are there in another split, where they stay: UPDATE images SET split = … moves them",
            stacklevel=3,
        )
    if done.clashed:
        warnings.warn(f"{done.clashed} rows were left out: another one has the same uri and other numbers", stacklevel=3)
    if done.unmatched:
        warnings.warn(f"{done.unmatched} rows were left out: they belong to no row of images", stacklevel=3)
    return done


def _is_column(values: Any) -> bool:
    """A single column: pandas' and polars' have the stream interface, too."""
    return hasattr(values, "__array__") and getattr(values, "ndim", 2) == 1 or type(values).__name__ in ("Series", "ChunkedArray")


def _is_pieces(values: Any) -> bool:
    """Something that gives pieces one after the other: an iterator, or a loader of batches."""
    if hasattr(values, "__next__"):
        return True
    if isinstance(values, (list, tuple)):  # of tables or arrays, not of vectors
        return bool(values) and all(_is_table(value) or getattr(value, "ndim", 0) == 2 for value in values)
    return hasattr(values, "__iter__") and not hasattr(values, "__array__") and not _is_column(values)


def _is_table(value: Any) -> bool:
    return hasattr(value, "__arrow_c_stream__") or hasattr(value, "__arrow_c_array__")


def _natural(features: Any) -> Any:
    """Dictionaries of columns, rows as dictionaries, and tables that have yet to be read, as tables."""
    if isinstance(features, Mapping):
        return _arrow(features)
    if isinstance(features, (list, tuple)) and features and isinstance(features[0], Mapping):
        return _pyarrow().Table.from_pylist(list(features))
    for name in ("to_arrow", "collect", "to_reader", "to_table"):  # lancedb, polars' lazy frames, datafusion, pyarrow's scanners
        if not _is_table(features) and not hasattr(features, "__array__") and hasattr(features, name):
            return getattr(features, name)()
    return features


def _digest(table: _native.Batch, column: str) -> str:
    """Stands for the vectors of a table."""
    digest = hashlib.sha256()
    if column in table.names:
        found = table.rows().columns()[table.names.index(column)]
        digest.update(found[0] if isinstance(found, tuple) else repr(found).encode())
    return digest.hexdigest()[:16]


def _chunks(array: Any, column: str, uri: Any, label: Any, logits: Any, metadata: Any) -> Iterator[_native.Batch]:
    rows = len(array)
    named = [(name, texts(values, rows, name)) for name, values in (("uri", uri), ("label", label)) if values is not None]
    of_logits = None if logits is None or isinstance(logits, str) else vectors(logits)
    if of_logits is not None and len(of_logits) != rows:
        raise DimensionError(f"logits: {len(of_logits)} rows are given for {rows}")
    beside = None if metadata is None else _table(metadata)
    if beside is not None and len(beside) != rows:
        raise DimensionError(f"metadata: {len(beside)} rows are given for {rows}")
    if beside is not None:
        taken = {column, "logits", *(name for name, _ in named)} & set(beside.names)
        if taken:
            raise Error(f"metadata: its column '{sorted(taken)[0]}' is given twice: leave it out, or rename it")
    for first in range(0, max(rows, 1), _AT_ONCE):
        end = min(first + _AT_ONCE, rows)
        lists = [(column, array[first:end])] + ([] if of_logits is None else [("logits", of_logits[first:end])])
        parts = [(name, values[first:end]) for name, values in named]
        yield _native.Batch.of(lists, parts, None if beside is None else beside.slice(first, end - first))


def _pieces(pieces: Iterable[Any], column: str) -> Iterator[_native.Batch]:
    for piece in pieces:
        if hasattr(piece, "__arrow_c_stream__") and not _is_column(piece):
            yield from _native.Batch.stream(piece)
        elif hasattr(piece, "__arrow_c_array__") and not _is_column(piece):
            yield _native.Batch.read(_stream_of(piece))
        else:
            yield _native.Batch.of([(column, vectors(piece))], [], None)


def _stream_of(batch: Any) -> Any:
    """A record batch as a stream of one."""
    pyarrow = _pyarrow()
    return pyarrow.Table.from_batches([batch]) if isinstance(batch, pyarrow.RecordBatch) else pyarrow.table(batch)


def _pyarrow() -> Any:
    try:
        import pyarrow
    except ImportError:
        raise Error("dictionaries and record batches need pyarrow: pip install pyarrow, or give a table of polars") from None
    return pyarrow


def _arrow(columns: Mapping[str, Any]) -> Any:
    """Columns by name as a table: arrays and lists of values, or of vectors; NaN is NULL."""
    pyarrow, made = _pyarrow(), {}
    for name, values in columns.items():
        if getattr(values, "ndim", 1) == 2:
            array = vectors(values)
            made[name] = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(array.ravel()), array.shape[1])
        else:
            made[name] = pyarrow.array(values, from_pandas=True)
    return pyarrow.table(made)


def _table(metadata: Any) -> _native.Batch:
    if isinstance(metadata, Mapping):
        metadata = _arrow(metadata)
    elif isinstance(metadata, (list, tuple)) and metadata and isinstance(metadata[0], Mapping):
        metadata = _pyarrow().Table.from_pylist(list(metadata))
    elif not hasattr(metadata, "__arrow_c_stream__"):
        raise Error(f"metadata: a table of pyarrow, pandas or polars, or a dictionary of columns, not {type(metadata).__name__}")
    return _native.Batch.read(metadata)
