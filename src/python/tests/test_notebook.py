"""The notebook of examples/, cell by cell."""

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).resolve().parents[3] / "examples" / "digits.ipynb"


def test_the_notebook_runs(tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn")
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    names = {}
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)  # noqa: S102
    said = capsys.readouterr().out
    assert "AUROC 0.9" in said and not said.splitlines()[-1].startswith("0 found")
    assert names["frame"]["score"].is_monotonic_decreasing and len(names["frame"]) == 5
