"""scikit-learn's own checks of an estimator."""

import pytest

import outskirt

pytest.importorskip("sklearn")

# vectors of which one is all zero: it has no direction, and is refused
NO_DIRECTION = {"check_estimators_dtypes"}


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.filterwarnings("ignore")
def test_scikit_learn_checks_the_estimator(metric):
    from sklearn.utils.estimator_checks import check_estimator

    done = check_estimator(outskirt.KNN(k=2, metric=metric), on_fail=None, on_skip=None)
    failed = {one["check_name"]: str(one["exception"]) for one in done if one["status"] == "failed"}
    assert set(failed) == (NO_DIRECTION if metric == "cosine" else set()), failed
    assert all("all zero" in failed[name] for name in failed)
    assert sum(one["status"] == "passed" for one in done) > 40
