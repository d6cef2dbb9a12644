"""outskirt.KNN, without a database."""

import pickle
import re

import numpy as np
import pytest
from conftest import brute, far, near

import outskirt


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_scores_are_those_of_comparing_every_row(rng, metric):
    bank, queries = near(rng, 400)[0], np.vstack([near(rng, 50)[0], 3 * far(rng, 50)])
    knn = outskirt.KNN(k=7, metric=metric).fit(bank)
    expected = brute(bank, queries, 7, metric == "cosine")
    assert knn.score(queries).dtype == np.float32
    np.testing.assert_allclose(knn.score(queries), expected, atol=2e-7, rtol=2e-7)
    np.testing.assert_array_equal(knn.score_samples(queries), -knn.score(queries))
    distances, places = knn.kneighbors(queries, 7)
    assert distances.shape == places.shape == (100, 7)
    np.testing.assert_allclose(distances[:, -1], expected, atol=2e-7, rtol=2e-7)
    assert (np.diff(distances, axis=1) >= 0).all()


def test_what_is_near_is_in_and_what_is_far_is_out(rng):
    knn = outskirt.KNN(k=10).fit(near(rng, 500)[0]).calibrate(near(rng, 400)[0])
    inside, outside = near(rng, 400)[0], far(rng, 400)
    assert abs((knn.predict(inside) == 1).mean() - 0.95) < 0.04
    assert (knn.predict(outside) == -1).mean() > 0.99
    assert ((knn.decision_function(outside) < 0) == (knn.predict(outside) == -1)).all()
    assert knn.offset_ == -knn.threshold_
    assert outskirt.metrics.auroc(knn.score(inside), knn.score(outside)) > 0.99
    p = knn.pvalue(inside)
    assert p.min() >= 1 / 401 and p.max() <= 1 and abs(p.mean() - 0.5) < 0.06
    assert outskirt.metrics.bh_reject(knn.pvalue(np.vstack([inside, outside])), 0.1)[400:].mean() > 0.9


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_own_rows_stand_for_held_out_ones(rng, metric):
    bank = near(rng, 300)[0]
    knn = outskirt.KNN(k=5, metric=metric).fit(bank)
    others = [brute(np.delete(bank, row, 0), bank[row : row + 1], 5, metric == "cosine")[0] for row in range(300)]
    assert knn.threshold_ == pytest.approx(np.sort(others)[int(np.ceil(0.95 * 300)) - 1], abs=2e-7)
    assert (knn.fit_predict(bank) == knn.predict(bank)).all()


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_more_rows_are_as_if_all_had_come_at_once(rng, metric):
    first, second, queries = near(rng, 200)[0], far(rng, 100), near(rng, 40)[0]
    at_once = outskirt.KNN(3, metric).fit(np.vstack([first, second]))
    by_parts = outskirt.KNN(3, metric).partial_fit(first).partial_fit(second)
    np.testing.assert_array_equal(at_once.score(queries), by_parts.score(queries))
    np.testing.assert_array_equal(at_once.kneighbors(queries)[1], by_parts.kneighbors(queries)[1])
    assert by_parts.n_samples_fit_ == 300 and by_parts.n_features_in_ == first.shape[1]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("calibrated", [False, True])
def test_saved_and_loaded_it_is_the_same(rng, tmp_path, metric, calibrated):
    queries = near(rng, 40)[0]
    knn = outskirt.KNN(4, metric, tpr=0.9).fit(near(rng, 300)[0])
    if calibrated:
        knn.calibrate(near(rng, 100)[0])
    knn.save(tmp_path / "knn.index")
    for again in (outskirt.KNN.load(tmp_path / "knn.index"), pickle.loads(pickle.dumps(knn))):
        assert again.get_params() == knn.get_params()
        np.testing.assert_array_equal(again.score(queries), knn.score(queries))
        np.testing.assert_array_equal(again.kneighbors(queries)[1], knn.kneighbors(queries)[1])
        np.testing.assert_array_equal(again.pvalue(queries), knn.pvalue(queries))
        assert again.threshold_ == knn.threshold_
    assert [file.name for file in tmp_path.iterdir()] == ["knn.index"]


def test_what_is_no_file_of_ours_is_refused(tmp_path):
    with pytest.raises(outskirt.NotFoundError, match="none.index"):
        outskirt.KNN.load(tmp_path / "none.index")
    (tmp_path / "junk").write_bytes(b"PK\x03\x04 no zip")
    (tmp_path / "noise").write_bytes(bytes(range(256)) * 40)
    for name in ("junk", "noise"):
        with pytest.raises(outskirt.Error, match=name):
            outskirt.KNN.load(tmp_path / name)


def test_other_types_of_numbers_and_orders(rng):
    bank, queries = near(rng, 100)[0], near(rng, 10)[0]
    expected = outskirt.KNN(3).fit(bank).score(queries)
    for other in (bank.astype(np.float64), np.asfortranarray(bank), bank.tolist(), bank[:, ::-1][:, ::-1], bank.astype(">f4")):
        np.testing.assert_array_equal(outskirt.KNN(3).fit(other).score(queries), expected)
    half = outskirt.KNN(3).fit(bank.astype(np.float16)).score(queries)
    np.testing.assert_allclose(half, expected, atol=1e-3)


def test_bad_input_is_one_line_with_the_facts(rng):
    bank = near(rng, 30)[0]
    knn = outskirt.KNN(3).fit(bank)
    broken = bank.copy()
    broken[4, 2] = np.nan
    zero = bank.copy()
    zero[9] = 0
    cases = [
        (lambda: knn.score(broken), outskirt.VectorError, "row 4 is not finite"),
        (lambda: knn.score(zero), outskirt.VectorError, "row 9 is all zero"),
        (lambda: outskirt.KNN().fit(broken), outskirt.VectorError, "row 4 is not finite"),
        (lambda: outskirt.KNN(metric="euclidean").fit(broken), outskirt.VectorError, "row 4 is not finite"),
        (lambda: knn.score(bank[:, :-1]), outskirt.DimensionError, "X has 23 features, but KNN is expecting 24"),
        (lambda: knn.score(bank[0]), outskirt.DimensionError, r"reshape\(1, -1\)"),
        (lambda: knn.score([["a"]]), outskirt.DimensionError, "numbers"),
        (lambda: outskirt.KNN(31).fit(bank).score(bank), outskirt.Error, "k is 31, and the fit has 30 rows"),
        (lambda: outskirt.KNN(0).fit(bank), outskirt.Error, "at least 1"),
        (lambda: outskirt.KNN(metric="manhattan").fit(bank), outskirt.Error, "cosine, euclidean"),
        (lambda: outskirt.KNN(tpr=95).fit(bank), outskirt.Error, "between 0 and 1"),
        (lambda: outskirt.KNN().score(bank), outskirt.NotFittedError, "fit"),
        (lambda: knn.threshold(0.999), outskirt.CalibrationError, "takes"),
        (lambda: knn.partial_fit(bank[:, :3]), outskirt.Error, "3"),
    ]
    for number, (call, kind, words) in enumerate(cases):
        with pytest.raises(kind, match=words) as refused:
            call()
        assert "\n" not in str(refused.value), number
    np.testing.assert_array_equal(outskirt.KNN(metric="euclidean", k=1).fit(zero).score(zero[9:10]), [0])


def test_scikit_learn_takes_it_for_one_of_its_own(rng):
    pytest.importorskip("sklearn")
    from sklearn.base import clone
    from sklearn.neighbors import NearestNeighbors
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.utils.validation import check_is_fitted

    bank, queries = near(rng, 200)[0], near(rng, 30)[0]
    knn = clone(outskirt.KNN(k=4, metric="euclidean"))
    piped = make_pipeline(StandardScaler(), knn).fit(bank)
    assert set(piped.predict(queries)) <= {1, -1}
    check_is_fitted(knn)
    scaled = StandardScaler().fit(bank)
    theirs = NearestNeighbors(n_neighbors=4, algorithm="brute").fit(scaled.transform(bank)).kneighbors(scaled.transform(queries))[0]
    np.testing.assert_allclose(-piped.score_samples(queries), theirs[:, -1], rtol=1e-5)


def test_another_k_after_calibrating_is_refused_and_not_answered_with_the_old_scores(rng):
    knn = outskirt.KNN(5).fit(near(rng, 300)[0]).calibrate(near(rng, 100)[0])
    knn.set_params(k=20)
    for ask in (lambda: knn.threshold_, lambda: knn.pvalue(near(rng, 3)[0]), lambda: knn.predict(near(rng, 3)[0])):
        with pytest.raises(outskirt.CalibrationError, match="calibrated with k = 5, and k is 20"):
            ask()
    assert knn.set_params(k=5).threshold_ > 0


@pytest.mark.parametrize(("metric", "other"), [("cosine", "euclidean"), ("euclidean", "cosine")])
def test_another_metric_holds_with_the_next_fit_wherever_the_fitted_one_goes(rng, tmp_path, metric, other):
    queries = 2 * near(rng, 20)[0]
    knn = outskirt.KNN(5, metric).fit(3 * near(rng, 100)[0])
    expected = knn.score(queries)
    knn.set_params(metric=other)
    knn.save(tmp_path / "a")
    for one in (knn, pickle.loads(pickle.dumps(knn)), outskirt.KNN.load(tmp_path / "a")):
        np.testing.assert_array_equal(one.score(queries), expected)


def test_own_rows_are_too_few_where_k_takes_all_of_them(rng):
    for rows, k in ((5, 5), (1, 1)):
        with pytest.raises(outskirt.CalibrationError, match="held-out"):
            outskirt.KNN(k).fit(near(rng, rows)[0]).threshold_  # noqa: B018


def test_arrays_that_are_not_aligned_masked_or_ragged(rng):
    bank = near(rng, 30)[0]
    odd = np.frombuffer(b"x" + bank.tobytes(), "f4", offset=1).reshape(bank.shape)
    np.testing.assert_array_equal(outskirt.KNN(3).fit(odd).score(odd), outskirt.KNN(3).fit(bank).score(bank))
    with pytest.raises(outskirt.DimensionError, match="masked"):
        outskirt.KNN(1).fit(np.ma.masked_array(bank, mask=bank > 0))
    with pytest.raises(outskirt.DimensionError, match="n×d"):
        outskirt.KNN(1).fit([[1, 2], [3]])
    for parameters in ({"k": 2.5}, {"k": True}, {"tpr": "0.95"}, {"metric": np.array(["cosine"])}):
        with pytest.raises(outskirt.ParameterError):
            outskirt.KNN(**parameters).fit(bank)
    with pytest.raises(outskirt.ParameterError, match="whole number"):
        outskirt.KNN(1).fit(bank).kneighbors(bank, 2.7)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_many_writers_of_one_file_leave_a_whole_one_and_nothing_else(rng, tmp_path, metric):
    import threading

    knn, failed = outskirt.KNN(3, metric, tpr=np.float32(0.9)).fit(near(rng, 200)[0]), []

    def write():
        try:
            for _ in range(10):
                knn.save(tmp_path / "one")
                outskirt.KNN.load(tmp_path / "one").score(near(np.random.default_rng(1), 2)[0])
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=write) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not failed, failed
    with pytest.raises(outskirt.Error, match="cannot write"):
        knn.save(tmp_path)
    with pytest.raises(outskirt.Error, match="cannot write"):
        knn.save(tmp_path / "no" / "folder")
    assert [file.name for file in tmp_path.iterdir()] == ["one"]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_damaged_files_are_errors_of_ours(rng, tmp_path, metric):
    outskirt.KNN(3, metric).fit(near(rng, 60)[0]).save(tmp_path / "a")
    whole = (tmp_path / "a").read_bytes()
    for length in (0, 1, 2, 30, len(whole) // 2, len(whole) - 1):
        (tmp_path / "b").write_bytes(whole[:length])
        with pytest.raises(outskirt.Error, match=re.escape(str(tmp_path / "b"))):
            outskirt.KNN.load(tmp_path / "b")
    for place in rng.integers(0, len(whole), 60):
        (tmp_path / "b").write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            outskirt.KNN.load(tmp_path / "b").score(near(rng, 2)[0])
        except outskirt.Error:
            pass


def test_an_error_can_be_sent_to_another_process():
    import sklearn.exceptions  # noqa: F401

    with pytest.raises(outskirt.NotFittedError) as refused:
        outskirt.KNN().score([[1.0]])
    again = pickle.loads(pickle.dumps(refused.value))
    assert isinstance(again, outskirt.NotFittedError) and str(again) == str(refused.value)
