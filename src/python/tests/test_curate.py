"""The verbs of a curator from Python."""

import numpy as np
import pytest

import outskirt


def test_one_image_is_explained_as_sql_scores_it(db):
    id, score = db.sql("SELECT id, knn_ood_score(net, 'shop') FROM images WHERE split = 'test' ORDER BY id LIMIT 1").fetchone()
    found = db.explain(id, "shop", neighbors=3)
    assert found.score == pytest.approx(score, abs=1e-6)
    assert len(found.facts["neighbors"]) == 3 and found.is_ood in (True, False)
    assert repr(found).startswith("Explanation(") and f"score {score:.4f}" in repr(found)
    assert found.html.startswith("<!DOCTYPE html>")
    uri = found.facts["uri"]
    assert db.explain(uri, db.bank("shop")).score == found.score
    with pytest.raises(outskirt.Error, match="no image has id 123456"):
        db.explain(123456, "shop")


def test_samples_are_rows(db):
    found = db.sample(4, "outlier", bank="shop", where="split = 'test'").fetchall()
    by_sql = db.sql("SELECT id FROM images WHERE split = 'test' ORDER BY knn_ood_score(net, 'shop') DESC, id LIMIT 4").fetchall()
    assert [row[0] for row in found] == [row[0] for row in by_sql]
    diverse = db.sample(3, "diverse", backbone="net")
    assert diverse.columns[-1] == "stands_for" and len(diverse.fetchall()) == 3
    with pytest.raises(outskirt.ParameterError, match="strategy is \"best\""):
        db.sample(3, "best")


def test_copies_are_found_deleted_and_taken_back(db):
    before = db.sql("SELECT count(*) FROM images").fetchone()[0]
    with pytest.warns(UserWarning, match="compared by their bytes alone"):
        assert db.duplicates().fetchall() == []
    vectors = np.asarray(db.sql("SELECT net FROM images WHERE split = 'test' ORDER BY id LIMIT 5").to_arrow()["net"].to_pylist(), dtype=np.float32)
    db.append(3 * vectors, backbone="net", model_version="1", dataset="again", uri=[f"again/{row}" for row in range(5)])
    found = db.duplicates(by="embedding", backbone="net", within=1e-4, where="dataset = 'again'", against="split = 'test'")
    assert sorted(row[5] for row in found.fetchall()) == [f"again/{row}" for row in range(5)]
    assert db.tag("uri = 'again/0'", "curation", "keep") == 1
    assert db.tag("uri = 'again/0'", "curation", "keep") == 0
    gone = db.duplicates(by="embedding", backbone="net", within=1e-4, delete=True, where="dataset = 'again'", against="split = 'test'")
    assert len(gone.fetchall()) == 4
    assert db.sql("SELECT count(*) FROM images").fetchone()[0] == before + 1
    db.undo()
    assert db.sql("SELECT count(*) FROM images").fetchone()[0] == before + 5
    for wrong in (dict(by="eyes"), dict(by="embedding"), dict(stays="mine")):
        with pytest.raises(outskirt.ParameterError):
            db.duplicates(**wrong)
    with pytest.raises(outskirt.Error, match="0 to 10 of 64"):
        db.duplicates(bits=20)
