"""Exports from Python."""

import csv

import pytest

import outskirt


def test_an_export_is_a_folder_and_what_came_of_it(db, tmp_path):
    told = []
    out = tmp_path / "out"
    found = db.export(
        out, as_="csv", where="split = 'test'", bank="shop", tpr=0.9, neighbors=2, columns="net", progress=lambda *done: told.append(done)
    )
    rows, outside = db.sql("SELECT count(*), count(*) FILTER (WHERE is_ood(net, 'shop', 0.9)) FROM images WHERE split = 'test'").fetchone()
    assert (found.rows, found.missing, found.folder) == (rows, rows, out.resolve())
    assert told[-1] == (rows, rows) and len(found.examples) == 3
    with open(out / "images.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == rows and sum(line["is_ood"] == "true" for line in lines) == outside
    assert all(line["file"] == "" and line["net"].startswith("[") for line in lines)


def test_what_cannot_be_exported_is_an_error_of_its_class(db, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(outskirt.ParameterError, match="there are huggingface, coco"):
        db.export(out, as_="zip")
    with pytest.raises(outskirt.ParameterError, match="neighbors -1"):
        db.export(out, as_="csv", neighbors=-1)
    with pytest.raises(outskirt.UnknownBankError):
        db.export(out, as_="csv", bank="shops")
    with pytest.raises(outskirt.Error, match="of none of the images there is a picture"):
        db.export(out, as_="coco")
    with pytest.raises(outskirt.Error, match="is missing"):
        db.export(out, as_="csv", strict=True)
    assert not out.exists() and not [path for path in tmp_path.iterdir() if "export" in path.name]
