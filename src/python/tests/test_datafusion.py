"""Outskirt's functions in a session of the package datafusion."""

import numpy as np
import pytest
from conftest import far, near

import outskirt
from outskirt._register import check

datafusion = pytest.importorskip("datafusion")
pyarrow = pytest.importorskip("pyarrow")


@pytest.fixture
def session(db, rng):
    ctx = datafusion.SessionContext(datafusion.SessionConfig().with_extension(outskirt.Settings()))
    outskirt.register(ctx, db)
    vectors = np.vstack([near(rng, 3000)[0], far(rng, 3000)])
    column = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), vectors.shape[1])
    ctx.from_arrow(pyarrow.table({"n": np.arange(6000), "v": column, "ood": np.arange(6000) >= 3000}), name="mine")
    return ctx, vectors


def test_scores_are_those_of_the_bank(session, db):
    ctx, vectors = session
    found = ctx.sql("SELECT n, knn_ood_score(v, 'shop') AS s, knn_ood_score(v, 'shop', 3) AS s3, is_ood(v, 'shop', 0.9) AS o, knn_ood_pvalue(v, 'shop') AS p FROM mine ORDER BY n").to_pydict()
    bank = db.bank("shop")
    assert found["s"] == bank.score(vectors).tolist()
    assert found["s3"] == bank.score(vectors, k=3).tolist()
    assert found["o"] == bank.is_ood(vectors, 0.9).tolist()
    assert found["p"] == bank.pvalue(vectors).tolist()


def test_filters_aggregates_and_windows(session, db):
    ctx, vectors = session
    scores = db.bank("shop").score(vectors)
    one = ctx.sql("SELECT auroc(knn_ood_score(v, 'shop'), ood) AS a FROM mine").to_pydict()["a"][0]
    assert one == pytest.approx(outskirt.metrics.auroc(scores[:3000], scores[3000:]), abs=1e-12)
    count = ctx.sql("SELECT count(*) AS c FROM mine WHERE knn_ood_score(v, 'shop') > 0.5").to_pydict()["c"][0]
    assert count == (scores > 0.5).sum()
    rejected = ctx.sql("SELECT n, bh_reject(knn_ood_pvalue(v, 'shop'), 0.1) OVER () AS r FROM mine ORDER BY n").to_pydict()["r"]
    assert rejected == outskirt.metrics.bh_reject(db.bank("shop").pvalue(vectors), 0.1).tolist()


def test_settings_arrive(session, db):
    ctx, _ = session
    ctx.sql("SET outskirt.search = 'hnsw'").collect()
    with pytest.raises(Exception, match="shop.*hnsw|graph"):
        ctx.sql("SELECT knn_ood_score(v, 'shop') FROM mine").collect()
    ctx.sql("SET outskirt.search = 'exact'").collect()
    assert len(ctx.sql("SELECT knn_ood_score(v, 'shop') FROM mine").to_pydict()) == 1


def test_what_is_wrong_is_said(session):
    ctx, _ = session
    for call, words in [("knn_ood_score(v, 'nobody')", "nobody"), ("knn_ood_score(v, 'shop', 1000)", "1000"), ("is_ood(v, 'shop', 95)", "95")]:
        with pytest.raises(Exception, match=words):
            ctx.sql(f"SELECT {call} FROM mine").collect()


def test_another_major_is_refused_with_the_version_to_install():
    check("54.1.0")
    for version in ("53.0.0", "55.0.0"):
        with pytest.raises(outskirt.Error, match="pip install 'datafusion>=54,<55'"):
            check(version)
