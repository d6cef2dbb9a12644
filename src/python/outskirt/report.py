"""A report: a page for people, and its facts for programs."""

from __future__ import annotations

import html as markup
import os
from pathlib import Path
from typing import Any, Union

__all__ = ["Report"]


class Report:
    """What :meth:`Database.report` found. A notebook shows the page; it asks nothing of any network."""

    html: str
    """The page: one file, in UTF-8."""
    facts: dict[str, Any]
    """The same as plain values: ``images``, ``ood``, ``threshold``, ``verdicts``, ``datasets``, ``pictures`` and the rest."""

    def __init__(self, html: str, facts: dict[str, Any]) -> None:
        self.html = html
        self.facts = facts

    @property
    def verdicts(self) -> list[str]:
        """What the numbers mean, in sentences."""
        return [verdict["text"] for verdict in self.facts["verdicts"]]

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

    def __repr__(self) -> str:
        facts = self.facts
        return f"Report({facts['ood']} of {facts['images']} rows lie outside bank {facts['bank']['name']!r}, {len(facts['pictures'])} are shown)"

    def _repr_html_(self) -> str:
        # of its own origin: its script reaches nothing of the notebook's
        page = markup.escape(self.html, quote=True)
        return f'<iframe srcdoc="{page}" sandbox="allow-scripts" title="report" style="width: 100%; height: 800px; border: 0"></iframe>'
