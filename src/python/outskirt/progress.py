"""How far something is: tqdm's bar where it is installed, a line on stderr where it is not, or a callback."""

from __future__ import annotations

import sys
from typing import Any, Callable, Union

Progress = Union[bool, Callable[[int, Union[int, None]], object]]


class _Bar:
    def __init__(self, what: str) -> None:
        self._what = what
        self._bar: Any = None
        self._lines = False

    def __call__(self, done: int, total: int | None) -> None:
        if self._bar is None and not self._lines:
            try:
                from tqdm.auto import tqdm

                self._bar = tqdm(total=total, desc=self._what, unit=" rows")
            except ImportError:
                self._lines = True
        if self._bar is not None:
            self._bar.total = total
            self._bar.update(done - self._bar.n)
        else:
            of = "" if total is None else f" of {total:,}"
            print(f"\r{self._what}: {done:,}{of} rows", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        elif self._lines:
            print(file=sys.stderr)


class Telling:
    """Gives what the library calls, and closes a bar at the end."""

    def __init__(self, progress: Progress, what: str) -> None:
        self._bar = _Bar(what) if progress is True else None
        self.call = self._bar or (progress if callable(progress) else None)

    def __enter__(self) -> Telling:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
