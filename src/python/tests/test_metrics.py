"""outskirt.metrics beside scikit-learn's, and what is refused."""

import numpy as np
import pytest

import outskirt
from outskirt import metrics


@pytest.fixture
def scores(rng):
    return rng.normal(0, 1, 400).round(2), rng.normal(1, 1, 300).round(2)


def test_they_are_scikit_learns(scores):
    learn = pytest.importorskip("sklearn.metrics")
    known, novel = scores
    truth, both = np.r_[np.zeros(400), np.ones(300)], np.r_[known, novel]
    assert metrics.auroc(known, novel) == pytest.approx(learn.roc_auc_score(truth, both), abs=1e-12)
    low, high = metrics.auroc_interval(known, novel)
    assert low < metrics.auroc(known, novel) < high
    fpr, tpr, _ = learn.roc_curve(1 - truth, -both, drop_intermediate=False)
    assert metrics.fpr_at_tpr(known, novel) == pytest.approx(fpr[tpr >= 0.95 - 1e-9].min(), abs=0.01)
    assert 0 <= metrics.detection_error(known, novel) <= 0.5
    assert metrics.detection_error(known, novel) == pytest.approx((0.5 * (1 - tpr + fpr)).min(), abs=0.01)
    low, high = metrics.fpr_at_tpr_interval(known, novel)
    assert low <= metrics.fpr_at_tpr(known, novel) <= high


def test_what_is_told_apart_perfectly_is_1():
    known, novel = np.linspace(0, 0.4, 500), np.linspace(0.5, 1, 500)
    assert metrics.auroc(known, novel) == 1 and metrics.fpr_at_tpr(known, novel) == 0
    for metric in (metrics.aupr_in, metrics.aupr_out):
        assert metric(known, novel) == pytest.approx(1, abs=0.01)


def test_bh_reject_is_the_procedure_of_the_paper(rng):
    p = np.r_[rng.uniform(0, 1, 200), rng.uniform(0, 0.001, 20)]
    order = np.sort(p)
    holds = np.flatnonzero(order <= 0.1 * np.arange(1, 221) / 220)
    np.testing.assert_array_equal(metrics.bh_reject(p, 0.1), p <= order[holds.max()])
    assert not metrics.bh_reject(np.full(5, 0.9)).any()


def test_bad_input(scores):
    known, novel = scores
    for call, words in [
        (lambda: metrics.auroc([], novel), "id_scores: there are none"),
        (lambda: metrics.auroc(known, [1, np.nan]), "ood_scores: number 1 is NaN"),
        (lambda: metrics.auroc([[1, 2]], novel), "one-dimensional"),
        (lambda: metrics.fpr_at_tpr(known, novel, 95), "between 0 and 1"),
        (lambda: metrics.bh_reject([0.5, 1.5]), r"\[0, 1\]"),
    ]:
        with pytest.raises(outskirt.Error, match=words):
            call()
