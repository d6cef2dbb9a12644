"""Pages for people, and their facts for programs."""

from __future__ import annotations

import html as markup
import os
from pathlib import Path
from typing import Any, Union

__all__ = ["Explanation", "Report"]


class Page:
    """A page that a notebook shows; it asks nothing of any network."""

    html: str
    """The page: one file, in UTF-8."""
    facts: dict[str, Any]
    """The same as plain values."""

    def __init__(self, html: str, facts: dict[str, Any]) -> None:
        self.html = html
        self.facts = facts

    def save(self, path: Union[str, "os.PathLike[str]"]) -> Path:
        """Write the page; a file that is there is replaced, whole or not at all."""
        out = Path(path)
        if out.exists() and not out.is_file():
            # a pipe or a device; a folder is an error of the system
            out.write_text(self.html, encoding="utf-8")
            return out
        out = out.resolve()
        beside = out.with_name(f".{out.name}.{os.getpid()}")
        try:
            beside.write_text(self.html, encoding="utf-8")
            beside.replace(out)
        finally:
            beside.unlink(missing_ok=True)
        return out

    def _repr_html_(self) -> str:
        # of its own origin: its script reaches nothing of the notebook's
        page = markup.escape(self.html, quote=True)
        return f'<iframe srcdoc="{page}" sandbox="allow-scripts" title="report" style="width: 100%; height: 800px; border: 0"></iframe>'


class Report(Page):
    """What :meth:`Database.report` found. Its facts: ``images``, ``ood``, ``threshold``, ``verdicts``, ``datasets``, ``pictures`` and the rest."""

    @property
    def verdicts(self) -> list[str]:
        """What the numbers mean, in sentences."""
        return [verdict["text"] for verdict in self.facts["verdicts"]]

    def __repr__(self) -> str:
        facts = self.facts
        return f"Report({facts['ood']} of {facts['images']} rows lie outside bank {facts['bank']['name']!r}, {len(facts['pictures'])} are shown)"


class Explanation(Page):
    """What :meth:`Database.explain` found. Its facts: ``score``, ``decision`` (``None`` without a calibration), ``neighbors`` and the rest."""

    @property
    def score(self) -> float:
        """The distance to the k-th nearest image of the bank."""
        return float(self.facts["score"])

    @property
    def is_ood(self) -> Union[bool, None]:
        """Whether it lies outside; ``None`` where the bank is not calibrated."""
        decision = self.facts["decision"]
        return None if decision is None else bool(decision["is_ood"])

    def __repr__(self) -> str:
        where = {True: "outside", False: "within", None: "score beside"}[self.is_ood]
        return f"Explanation({self.facts['uri']!r}: score {self.score:.4f}, {where} bank {self.facts['bank']['name']!r})"
