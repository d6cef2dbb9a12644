"""The report from Python."""

import pytest

import outskirt


def test_a_report_is_a_page_and_its_facts(db, tmp_path):
    report = db.report("shop", id="split = 'test'", max_images=8, title="<mine>")
    outside, rows = db.sql(
        "SELECT count(*) FILTER (WHERE is_ood(net, 'shop')), count(*) FROM images WHERE (split IN ('train', 'val')) IS NOT TRUE AND net IS NOT NULL"
    ).fetchone()
    assert (report.facts["ood"], report.facts["images"]) == (outside, rows)
    assert repr(report) == f"Report({outside} of {rows} rows lie outside bank 'shop', {len(report.facts['pictures'])} are shown)"
    assert report.verdicts[0].startswith(f"{outside} of {rows} images (")
    assert report.html.startswith("<!DOCTYPE html>") and "&lt;mine&gt;" in report.html and "<mine>" not in report.html
    path = report.save(tmp_path / "r.html")
    assert path.read_text(encoding="utf-8") == report.html
    assert [file.name for file in tmp_path.iterdir() if "html" in file.name] == ["r.html"]
    assert db.bank("shop").report(id="split = 'test'", max_images=8).facts["ood"] == outside


def test_a_notebook_shows_the_page_in_a_frame_of_its_own(db):
    shown = db.report("shop", max_images=0)._repr_html_()
    assert shown.startswith('<iframe srcdoc="&lt;!DOCTYPE html&gt;') and shown.count("<") == 2


def test_what_cannot_be_reported_is_an_error_of_its_class(db):
    with pytest.raises(outskirt.UnknownBankError):
        db.report("shops")
    with pytest.raises(outskirt.ParameterError, match="max_images is -1"):
        db.report("shop", max_images=-1)
    with pytest.raises(outskirt.ParameterError, match="tpr is 2"):
        db.report("shop", tpr=2)
    with pytest.raises(outskirt.Error, match="nothing to report"):
        db.report("shop", where="false")
    db.create_bank("new", backbone="net", where="split = 'train'", k=3)
    with pytest.raises(outskirt.CalibrationError):
        db.report("new")
