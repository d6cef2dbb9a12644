"""A database from Python: what goes in, what is asked, what is refused."""

import datetime
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
from conftest import DIMENSION, brute, far, near

import outskirt


def test_scores_are_those_of_comparing_every_row_and_of_sql(db, rng):
    bank = db.bank("shop")
    assert len(bank) == 300 and bank.k == 10 and bank.dimension == DIMENSION
    train = db.sql("SELECT net FROM images WHERE split = 'train'").to_numpy()["net"]
    queries = np.vstack([near(rng, 30)[0], far(rng, 30)])
    scores = bank.score(queries)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, brute(train, queries, 10), atol=2e-7)
    np.testing.assert_allclose(bank.score(queries, k=3), brute(train, queries, 3), atol=2e-7)
    by_sql = [db.sql("SELECT knn_ood_score($1, 'shop')", [query]).fetchone()[0] for query in queries[:5]]
    assert by_sql == scores[:5].tolist()
    np.testing.assert_array_equal(outskirt.KNN(10).fit(train).score(queries), scores)


def test_many_vectors_stay_in_order(db, rng):
    bank, queries = db.bank("shop"), near(rng, 20_000)[0]
    scores = bank.score(queries)
    np.testing.assert_array_equal(scores[19_990:], bank.score(queries[19_990:]))
    np.testing.assert_array_equal(scores[::997], bank.score(queries[::997]))


def test_thresholds_p_values_and_neighbours(db, rng):
    bank, inside, outside = db.bank("shop"), near(rng, 200)[0], far(rng, 200)
    threshold = bank.threshold(0.9)
    assert (bank.is_ood(inside, tpr=0.9) == (bank.score(inside) > np.float32(threshold))).all()
    assert bank.is_ood(outside).mean() > 0.99
    assert bank.threshold(0.9, confidence=0.95) >= threshold
    p = bank.pvalue(inside)
    assert p.dtype == np.float64 and p.min() >= 1 / 121 and p.max() <= 1
    ids, distances = bank.neighbors(inside, k=4)
    assert ids.shape == distances.shape == (200, 4) and ids.dtype == np.uint64
    np.testing.assert_array_equal(distances[:, 3], bank.score(inside, k=4))
    train = set(db.sql("SELECT id FROM images WHERE split = 'train'").to_numpy()["id"].tolist())
    assert set(ids.ravel().tolist()) <= train
    empty = np.empty((0, DIMENSION), np.float32)
    assert bank.score(empty).shape == (0,) and bank.is_ood(empty).dtype == bool


def test_the_same_again_adds_nothing_and_other_vectors_replace(tmp_path, rng):
    with outskirt.connect(tmp_path / "a.db") as db:
        vectors, names = near(rng, 50)[0], [f"{row}.png" for row in range(50)]
        first = db.append(vectors, backbone="net", model_version="1", dataset="d", uri=names)
        assert (first.added, len(db)) == (50, 50)
        again = db.append(vectors, backbone="net", dataset="d", uri=names)
        assert (again.added, again.unchanged) == (0, 50)
        vectors[3] += 1
        assert db.append(vectors, backbone="net", dataset="d", uri=names).replaced == 1
        # without names a row is known by what all of them are
        assert db.append(vectors, backbone="net", dataset="e").added == 50
        assert db.append(vectors, backbone="net", dataset="e").unchanged == 50
        assert db.append(vectors[:10] * 2, backbone="net", dataset="e").added == 10
        with pytest.raises(outskirt.Error, match="other"):
            db.append(vectors, backbone="net", model_version="2", dataset="d", uri=names)
    with pytest.raises(outskirt.Error, match="closed"):
        len(db)


def test_tables_of_all_kinds_columns_and_pieces(tmp_path, rng):
    pyarrow = pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    vectors, of = near(rng, 40)[0], np.arange(40)
    db = outskirt.connect(tmp_path / "a.db")
    keep = dict(backbone="net", model_version="1")
    column = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), DIMENSION)
    table = pyarrow.table({"uri": [f"{row}" for row in of], "weight": of / 2, "embedding": column})
    assert db.append(table, dataset="arrow", **keep).added == 40
    assert db.append(iter(table.to_batches(max_chunksize=7)), dataset="batches", **keep).added == 40
    assert db.append(table.to_reader(max_chunksize=9), dataset="reader", **keep).added == 40
    assert db.append(polars.from_arrow(table), dataset="polars", **keep).added == 40
    assert db.append(table.to_pandas(), dataset="pandas", **keep).added == 40
    assert db.append(pandas.Series(list(vectors)), dataset="series", uri=pandas.Series(of), **keep).added == 40
    frame = pandas.DataFrame({"price": of * 1.5, "shop": ["x"] * 40})
    assert db.append(vectors, dataset="beside", uri=of, metadata=frame, **keep).added == 40
    assert db.append(vectors, dataset="dictionary", uri=of, metadata={"price": of * 1.5}, **keep).added == 40
    assert db.append((vectors[start : start + 8] for start in range(0, 40, 8)), dataset="pieces", name="p", **keep).added == 40
    found = db.sql(
        "SELECT dataset, count(*) AS n, min(array_to_string(net, ',')) AS least, sum(price) AS price, sum(weight) AS weight "
        "FROM images GROUP BY dataset ORDER BY dataset"
    ).to_pylist()
    assert len(found) == 9 and {row["n"] for row in found} == {40} and len({row["least"] for row in found}) == 1
    assert {row["dataset"]: row["price"] for row in found}["beside"] == (of * 1.5).sum()
    assert {row["dataset"]: row["weight"] for row in found}["polars"] == (of / 2).sum()


def test_a_torch_tensor_is_taken_and_asked(tmp_path, rng):
    torch = pytest.importorskip("torch")
    vectors = near(rng, 60)[0]
    db = outskirt.connect(tmp_path / "a.db")
    tensor = torch.tensor(vectors, requires_grad=True)
    db.append(tensor, backbone="net", model_version="1", dataset="d", label=torch.arange(60))
    bank = db.create_bank("b", backbone="net", k=3)
    np.testing.assert_array_equal(bank.score(tensor), bank.score(vectors))
    np.testing.assert_array_equal(outskirt.KNN(3).fit(tensor).score(tensor), bank.score(vectors))
    assert bank.score(torch.tensor(vectors).bfloat16()).shape == (60,)
    assert db.sql("SELECT max(label) FROM images").fetchone() == ("9",)


def test_logits_go_along(tmp_path, rng):
    vectors = near(rng, 50)[0]
    logits = rng.standard_normal((50, 3)).astype(np.float32)
    db = outskirt.connect(tmp_path / "a.db")
    db.append(vectors, backbone="net", model_version="1", dataset="d", logits=logits)
    found = db.sql("SELECT net_logits, energy_score(net_logits) AS e FROM images ORDER BY id").to_numpy()
    np.testing.assert_array_equal(found["net_logits"], logits)
    np.testing.assert_allclose(found["e"], -np.log(np.exp(logits.astype(float)).sum(axis=1)), rtol=1e-6)


def test_a_result_is_whatever_is_asked_for(db):
    pyarrow = pytest.importorskip("pyarrow")
    text = "SELECT id, uri, label, knn_ood_score(net, 'shop') AS s, net FROM images ORDER BY s DESC LIMIT 40"
    result = db.sql(text)
    assert result.columns == ["id", "uri", "label", "s", "net"]
    arrow, numpy = result.to_arrow(), result.to_numpy()
    assert arrow.num_rows == 40 and arrow["s"].to_pylist() == numpy["s"].tolist()
    assert numpy["net"].shape == (40, DIMENSION) and numpy["label"].dtype == object
    assert pyarrow.table(result).equals(arrow)
    assert sum(len(batch.to_pylist()) for batch in result) == 40
    assert result.to_pandas()["s"].tolist() == arrow["s"].to_pylist()
    assert result.to_polars()["uri"].to_list() == arrow["uri"].to_pylist()
    assert result.fetchone()[0] == arrow["id"][0].as_py()
    assert result.to_pylist()[0]["label"] is None
    duckdb = pytest.importorskip("duckdb")
    assert duckdb.sql("SELECT count(*), max(s) FROM result").fetchall()[0] == (40, max(arrow["s"].to_pylist()))
    shown, page = repr(result), result._repr_html_()
    assert shown.splitlines()[0].split() == result.columns and "more rows" in shown
    assert page.startswith("<table>") and page.count("<tr>") == 21
    db.sql("UPDATE images SET label = '<script>' WHERE id = 1")
    assert "<script>" not in db.sql("SELECT label FROM images WHERE id = 1")._repr_html_()


def test_a_query_read_twice_is_the_same_whatever_was_written_between(db, rng):
    result = db.sql("SELECT count(*) AS n FROM images")
    before = result.fetchone()
    db.append(near(rng, 5)[0], backbone="net", dataset="more")
    assert result.fetchone() == before and db.sql("SELECT count(*) AS n FROM images").fetchone() == (before[0] + 5,)


def test_values_take_the_places_of_a_statement(db):
    assert db.sql("SELECT $1 + $2 AS a, $3 AS b", [1, 2.5, "it's"]).to_pylist() == [{"a": 3.5, "b": "it's"}]
    assert db.sql("SELECT $a AS a, $b IS NULL AS b, $c AS c", {"a": -3, "b": None, "c": True}).fetchone() == (-3, True, True)
    when = datetime.datetime(2026, 1, 2, 3, 4, 5)
    assert db.sql("SELECT CAST($1 AS TIMESTAMP) > '2026-01-02' AS later", [when]).fetchone() == (True,)
    found = db.sql("SELECT count(*) FROM images WHERE dataset = $dataset AND split IN ($split, 'val')", {"dataset": "shop", "split": "test"})
    assert found.fetchone() == (180,)
    k = db.sql("SELECT max(knn_ood_score(net, $bank, $k)) FROM images", {"bank": "shop", "k": np.int64(3)}).fetchone()[0]
    assert k == db.sql("SELECT max(knn_ood_score(net, 'shop', 3)) FROM images").fetchone()[0]
    assert len(db.sql("SELECT uri FROM images ORDER BY knn_ood_score(net, 'shop') LIMIT $1", [3]).to_pylist()) == 3
    assert db.sql("UPDATE images SET label = $1 WHERE uri = $2", ["x", "junk/3"]).fetchone() == (1,)
    for text, values, words in [
        ("SELECT $2", [1], r"\$2 has no value"),
        ("SELECT 1", [1], r"\$1, and the statement has no such place"),
        ("SELECT $a", {"b": 1}, r"\$a has no value"),
        ("SELECT $1", [object()], "type object"),
        ("SELECT $1", "text", "not a single text"),
    ]:
        with pytest.raises(outskirt.Error, match=words):
            db.sql(text, values).to_pylist()


def test_several_statements_and_settings_that_stay(db, rng):
    assert db.sql("SET outskirt.memory_limit = '1GiB'; SELECT 1 AS one").to_pylist() == [{"one": 1}]
    db.append(near(rng, 5)[0], backbone="net", dataset="more")
    assert db.sql("SHOW outskirt.memory_limit").to_pylist()[0]["value"] == "1GiB"
    assert db.sql("CREATE VIEW more AS SELECT uri FROM images WHERE dataset = 'more'").to_pylist() == []
    assert len(db.sql("SELECT * FROM more").to_pylist()) == 5


def test_changes_banks_and_upkeep(db, rng):
    bank = db.bank("shop")
    assert db.append(near(rng, 20)[0], backbone="net", dataset="shop", split="train", uri=[f"n{i}" for i in range(20)]).added == 20
    assert len(bank) == 320
    assert db.append(near(rng, 20)[0], backbone="net", dataset="shop", split="train", refresh=False).added == 20
    refreshed = bank.refresh()
    assert (refreshed.added, refreshed.rows, len(bank)) == (20, 340, 340)
    kept = bank.keep_scores(where="split = 'test'")
    assert kept.column == "shop_score" and kept.computed == 120 and bank.keep_scores(where="split = 'test'").fresh == 120
    assert db.delete("dataset = 'junk' AND uri LIKE 'junk/1%'", dry_run=True) == 11
    assert db.delete("dataset = 'junk' AND uri LIKE 'junk/1%'") == 11
    assert db.sql("SELECT count(*) FROM images WHERE dataset = 'junk'").fetchone() == (49,)
    assert db.undo()["back"] == 11
    assert "delete" in [event["verb"] for event in db.history()]
    assert {finding["state"] for finding in db.verify()} <= {"ok", "behind", "leftover"}
    assert db.optimize()["bytes_after"] > 0
    table = bank.evaluate("dataset = 'shop' AND split = 'test'", "dataset = 'junk'").to_pylist()
    assert table[0]["ood"] == "junk" and table[0]["auroc"] > 0.99 and table[0]["auroc_lower"] <= table[0]["auroc"]
    assert list(bank.tune("dataset = 'shop' AND split = 'val'", "dataset = 'junk'", [1, 5, 20]))[0] in (1, 5, 20)
    assert len(db.query("top_outliers", bank="shop", limit=3).to_pylist()) == 3
    assert [one.name for one in db.banks()] == ["shop"]
    bank.drop()
    with pytest.raises(outskirt.UnknownBankError, match="shop"):
        db.bank("shop")


def test_what_is_wrong_is_an_error_of_its_own_in_one_line(db, rng, tmp_path):
    vectors = near(rng, 10)[0]
    broken = vectors.copy()
    broken[4, 0] = np.nan
    bank = db.bank("shop")
    db.create_bank("bare", backbone="net", where="split = 'train'", k=3)
    cases = [
        (lambda: db.bank("nobody"), outskirt.UnknownBankError, "shop"),
        (lambda: db.sql("SELECT knn_ood_score(net, 'nobody') FROM images").to_pylist(), outskirt.UnknownBankError, "nobody"),
        (lambda: bank.score(broken), outskirt.VectorError, "not finite"),
        (lambda: bank.score(vectors[:, :5]), outskirt.DimensionError, "5"),
        (lambda: bank.score(vectors[0]), outskirt.DimensionError, r"reshape\(1, -1\)"),
        (lambda: db.bank("bare").is_ood(vectors), outskirt.CalibrationError, "calibrate"),
        (lambda: bank.threshold(0.999), outskirt.CalibrationError, "0.999"),
        (lambda: bank.score(vectors, k=1000), outskirt.Error, "1000"),
        (lambda: outskirt.connect(tmp_path / "none.db", create=False), outskirt.NotFoundError, "none.db"),
        (lambda: db.append(vectors[:, :5], backbone="net", dataset="d"), outskirt.DimensionError, "24"),
        (lambda: db.append(vectors, backbone="other", dataset="d"), outskirt.Error, "model"),
        (lambda: db.append(vectors, backbone="net"), outskirt.Error, "dataset"),
        (lambda: db.append(vectors, backbone="net", dataset="d", uri=["a"]), outskirt.DimensionError, "1 are given for 10 rows"),
        (lambda: db.append(vectors, backbone="net", dataset="d", metadata={"x": [1]}), outskirt.DimensionError, "1 rows are given for 10"),
        (lambda: db.append(broken, backbone="net", dataset="d", strict=True), outskirt.VectorError, "finite"),
        (lambda: db.sql("SELEC 1"), outskirt.Error, "SELEC"),
        (lambda: db.sql("SELECT nothing FROM images"), outskirt.Error, "nothing"),
        (lambda: db.create_bank("shop", backbone="net"), outskirt.Error, "shop"),
        (lambda: db.create_bank("b", backbone="net", index="tree"), outskirt.Error, "tree"),
        (lambda: db.ingest(tmp_path / "no_pictures", backbone="x.toml", dataset="d"), outskirt.Error, "no_pictures"),
    ]
    for number, (call, kind, words) in enumerate(cases):
        with pytest.raises(kind, match=words) as refused:
            call()
        assert "\n" not in str(refused.value), number
    with pytest.warns(UserWarning, match="1 rows were refused"):
        assert db.append(broken, backbone="net", dataset="d").refused == 1


def test_a_generator_that_raises_ends_the_append_and_is_heard(tmp_path, rng):
    db = outskirt.connect(tmp_path / "a.db")

    def pieces():
        yield near(rng, 10)[0]
        raise RuntimeError("the loader broke")

    with pytest.raises(RuntimeError, match="the loader broke"):
        db.append(pieces(), backbone="net", model_version="1", dataset="d", name="p")
    assert db.append(near(rng, 10)[0], backbone="net", model_version="1", dataset="d").added == 10


def test_progress_is_told_and_what_it_raises_is_heard(tmp_path, rng):
    db, heard = outskirt.connect(tmp_path / "a.db"), []
    vectors = near(rng, 40_000)[0]
    db.append(vectors, backbone="net", model_version="1", dataset="d", progress=lambda done, all: heard.append(done))
    assert heard[-1] == 40_000 and heard == sorted(heard)

    def stop(done, all):
        raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        db.append(vectors + 1, backbone="net", model_version="1", dataset="d", progress=stop)


def test_threads_share_a_database(db, rng):
    queries = near(rng, 500)[0]
    expected, found, failed = db.bank("shop").score(queries), [], []

    def ask():
        try:
            found.append(db.bank("shop").score(queries))
        except Exception as error:  # noqa: BLE001
            failed.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed and len(found) == 8 and all((one == expected).all() for one in found)


SLOW = """
import sys, threading, time
import outskirt
db = outskirt.connect(sys.argv[1])
print("ready", flush=True)
started = time.monotonic()
try:
    db.sql("SELECT sum(a.value * b.value) FROM generate_series(1, 200000) a, generate_series(1, 200000) b").to_pylist()
except KeyboardInterrupt:
    print("interrupted", flush=True)
print(db.sql("SELECT 1 AS one").to_pylist(), flush=True)
"""


def test_ctrl_c_ends_a_query_within_a_second(db):
    child = subprocess.Popen([sys.executable, "-c", SLOW, str(db.path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    time.sleep(1)
    pressed = time.monotonic()
    child.send_signal(signal.SIGINT)
    assert child.stdout.readline() == "interrupted\n"
    assert time.monotonic() - pressed < 1.5
    assert child.stdout.readline() == "[{'one': 1}]\n"
    assert child.wait() == 0


WRITER = """
import sys, time
import numpy as np, outskirt
db = outskirt.connect(sys.argv[1])
def pieces():
    yield np.eye(24, dtype=np.float32)
    print("writing", flush=True)
    time.sleep(5)
db.append(pieces(), backbone="net", dataset="slow", name="slow")
"""


def test_a_second_process_that_writes_is_named(db, rng):
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(db.path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "writing\n"
    with outskirt.connect(db.path, wait=0.2) as other:
        with pytest.raises(outskirt.BusyError, match=str(child.pid)):
            other.append(near(rng, 5)[0], backbone="net", dataset="d")
        assert other.sql("SELECT 1 AS one").fetchone() == (1,)  # readers do not wait
    assert db.append(near(rng, 5)[0], backbone="net", dataset="d").added == 5
    assert child.wait() == 0
    assert db.sql("SELECT count(*) FROM images WHERE dataset = 'slow'").fetchone() == (24,)


def _forked(path, answers):
    try:
        outskirt.connect(path)
        answers.put("no error")
    except outskirt.ForkError as error:
        answers.put(str(error))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_is_noticed_and_named(db):
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_forked, args=(db.path, answers))
    child.start()
    assert "spawn" in answers.get(timeout=20)
    child.join()


def test_how_it_looks_in_a_notebook(db):
    assert repr(db).startswith("Database(") and "540 rows" in repr(db) and "shop" in repr(db)
    assert "540" in db._repr_html_() and "shop" in db._repr_html_()
    bank = db.bank("shop")
    assert repr(bank) == "Bank('shop', backbone='net', where=\"dataset = 'shop' AND split = 'train'\", k=10, rows=300)"
    assert "<table>" in bank._repr_html_()
    assert repr(outskirt.KNN()) == "KNN(k=50, metric='cosine', tpr=0.95)"


def test_the_command_line_is_there(db, tmp_path):
    asked = subprocess.run(
        [sys.executable, "-m", "outskirt", "--db", str(db.path), "sql", "SELECT count(*) AS n FROM images", "--format", "json"],
        capture_output=True, text=True,
    )
    assert asked.returncode == 0 and "540" in asked.stdout
    refused = subprocess.run([sys.executable, "-m", "outskirt", "--db", str(tmp_path / "no"), "sql", "SELECT 1"], capture_output=True, text=True)
    assert refused.returncode == 2 and refused.stderr.startswith("error: ")


def test_nothing_warns_without_a_reason(tmp_path, rng):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        db = outskirt.connect(tmp_path / "a.db")
        db.append(near(rng, 40)[0], backbone="net", model_version="1", dataset="d")
        db.create_bank("b", backbone="net", k=3).score(near(rng, 4)[0])


def test_tables_without_uris_do_not_take_each_others_place(tmp_path, rng):
    pandas = pytest.importorskip("pandas")
    db, keep = outskirt.connect(tmp_path / "a.db"), dict(backbone="net", model_version="1", dataset="d")
    frame = lambda: pandas.DataFrame({"embedding": list(near(rng, 5)[0])})  # noqa: E731
    first = frame()
    assert db.append(first, **keep).added == 5
    assert db.append(frame(), **keep).added == 5
    assert db.append(first, **keep).unchanged == 5
    for name in ("a", "b"):
        assert db.append(near(rng, 2)[0], uri=[name, None], **keep).added == 2
    assert len(db) == 14


def test_a_bank_and_a_calibration_that_are_behind_are_told(db, rng):
    bank, more = db.bank("shop"), near(rng, 30)[0]
    db.append(more, backbone="net", dataset="shop", split="train")
    with pytest.warns(UserWarning, match="calibrated at version"):
        bank.pvalue(more)
    bank.refresh(calibrate=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bank.pvalue(more)
    db.sql("DELETE FROM images WHERE split = 'train' AND id < 50")
    with pytest.warns(UserWarning, match="follows images up to version"):
        bank.score(more)
    with pytest.warns(UserWarning, match="was not refreshed"):
        db.delete("split = 'train'")


def test_values_come_as_pythons(db):
    import decimal

    found = db.sql(
        "SELECT 1.5::decimal(5,2) AS d, timestamp '2024-01-02T03:04:05' AS t, date '2024-01-02' AS day, time '03:04:05' AS clock, "
        "NULL AS n, 1::bigint AS i, 'x' AS s, [1, 2] AS l, x'00ff' AS b, true AS y"
    ).fetchone()
    day, clock = datetime.date(2024, 1, 2), datetime.time(3, 4, 5)
    assert found == (decimal.Decimal("1.50"), datetime.datetime.combine(day, clock), day, clock, None, 1, "x", [1, 2], b"\x00\xff", True)
    when = db.sql("SELECT ingested_at FROM images LIMIT 1").fetchone()[0]
    assert abs((datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None) - when.replace(tzinfo=None)).total_seconds()) < 3600
    both = db.sql("SELECT a.id, b.id FROM images a JOIN images b ON a.id = b.id ORDER BY a.id LIMIT 1")
    (first,) = db.sql("SELECT min(id) FROM images").fetchone()
    assert both.fetchone() == (first, first)
    with pytest.raises(outskirt.Error, match="two columns are called 'id'"):
        both.to_pylist()
    assert db.sql("SELECT net FROM images LIMIT 3").to_numpy()["net"].shape == np.asarray(db.sql("SELECT net FROM images LIMIT 3")).shape
    assert db.sql("SELECT id, uri FROM images ORDER BY id LIMIT 2")["uri"].tolist() == ["train/0.jpg", "train/1.jpg"]


def test_what_is_left_out_or_stays_is_told(db, rng):
    vectors, names = near(rng, 3)[0], ["train/0.jpg", "train/1.jpg", "train/2.jpg"]
    with pytest.warns(UserWarning, match="3 rows are there in another split"):
        assert db.append(vectors, backbone="net", dataset="shop", split="val", uri=names).in_other_splits == 3
    db.delete("uri = 'train/0.jpg'")
    with pytest.warns(UserWarning, match="again=True"):
        assert db.append(vectors, backbone="net", dataset="shop", split="train", uri=names).deleted == 1
    assert db.append(vectors, backbone="net", dataset="shop", split="train", uri=names, again=True).added == 1


def test_labels_and_uris_of_all_kinds(tmp_path, rng):
    pandas = pytest.importorskip("pandas")
    db, keep = outskirt.connect(tmp_path / "a.db"), dict(backbone="net", model_version="1")
    vectors = near(rng, 3)[0]
    for number, label in enumerate([pandas.Series([1, None, 3]), pandas.Series([1, None, 3], dtype="Int64"), [1, None, 3.0], np.array([b"1", None, b"3"])]):
        db.append(vectors, dataset=f"d{number}", uri=[7.0, "b", pandas.NaT or None][:2] + ["c"], label=label, **keep)
        found = db.sql("SELECT uri, label FROM images WHERE dataset = $1 ORDER BY id", [f"d{number}"]).to_pylist()
        assert [row["label"] for row in found] == ["1", None, "3"] and found[0]["uri"] == "7"
    with pytest.raises(outskirt.DimensionError, match="shape"):
        db.append(vectors, dataset="e", label=np.eye(3), **keep)
    when = np.array(["2024-01-02", "2024-01-03", "NaT"], "datetime64[ns]")
    db.append(vectors, dataset="times", metadata={"taken": when, "price": np.array([1.5, np.nan, 2])}, **keep)
    found = db.sql("SELECT taken, price FROM images WHERE dataset = 'times' ORDER BY id").to_pylist()
    assert found[0]["taken"] == datetime.datetime(2024, 1, 2) and found[1]["price"] is None and found[2]["taken"] is None


def test_natural_forms_are_taken(tmp_path, rng):
    pyarrow = pytest.importorskip("pyarrow")
    pandas = pytest.importorskip("pandas")
    polars = pytest.importorskip("polars")
    db, keep = outskirt.connect(tmp_path / "a.db"), dict(backbone="net", model_version="1")
    vectors = near(rng, 6)[0]
    frame = pandas.DataFrame({"uri": list("abcdef"), "embedding": list(vectors)})
    forms = {
        "dictionary": {"embedding": vectors, "price": [1.0] * 6},
        "rows": [{"embedding": list(map(float, row)), "price": 1.0} for row in vectors],
        "tables": [pyarrow.table({"embedding": vectors[:3].tolist()}), pyarrow.table({"embedding": vectors[3:].tolist()})],
        "arrays": [vectors[:3], vectors[3:]],
        "lazy": polars.DataFrame({"embedding": vectors.tolist()}).lazy(),
        "slices": (frame.iloc[first : first + 2] for first in (0, 2, 4)),
    }
    for name, form in forms.items():
        assert db.append(form, dataset=name, **keep).added == 6, name
    assert db.append(frame[["embedding"]], dataset="beside", uri=frame.uri, label=range(6), **keep).added == 6
    assert db.sql("SELECT max(label) FROM images WHERE dataset = 'beside'").fetchone() == ("5",)
    pieces = iter([pyarrow.table({"embedding": vectors[:3].tolist(), "x": [1, 2, 3]}), pyarrow.table({"embedding": vectors[3:].tolist(), "x": [1.5, 2, 3]})])
    with pytest.raises(outskirt.DimensionError, match="'x' was Int64, and is Float64"):
        db.append(pieces, dataset="differs", **keep)


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(outskirt.Error, match="is not empty, and holds no database"):
        outskirt.connect(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


def test_ctrl_c_ends_a_command(db):
    query = "SELECT sum(a.value * b.value) FROM generate_series(1, 200000) a, generate_series(1, 200000) b"
    child = subprocess.Popen([sys.executable, "-m", "outskirt", "--db", str(db.path), "sql", query], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(3)
    child.send_signal(signal.SIGINT)
    pressed = time.monotonic()
    assert child.wait(timeout=20) != 0 and time.monotonic() - pressed < 3


STREAM = """
import sys, outskirt, pyarrow
db = outskirt.connect(sys.argv[1])
result = db.sql("SELECT a.id FROM images a, images b, images c, images d WHERE a.id + b.id * c.id % 7 = 3")
print("ready", flush=True)
try:
    pyarrow.table(result)
except (KeyboardInterrupt, pyarrow.lib.ArrowException):
    print("interrupted", flush=True)
"""

FEED = """
import sys, time, numpy as np, outskirt
db = outskirt.connect(sys.argv[1])
def pieces():
    print("ready", flush=True)
    while True:
        time.sleep(0.05)
        yield np.eye(24, dtype="f4")
try:
    db.append(pieces(), backbone="net", dataset="endless")
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.parametrize("script", [STREAM, FEED])
def test_ctrl_c_is_heard_where_others_read_and_where_others_feed(db, script):
    pytest.importorskip("pyarrow")
    child = subprocess.Popen([sys.executable, "-c", script, str(db.path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "ready\n"
    time.sleep(1)
    child.send_signal(signal.SIGINT)
    pressed = time.monotonic()
    assert child.stdout.readline() == "interrupted\n"
    assert time.monotonic() - pressed < 2
    assert child.wait(timeout=10) in (0, 1, -signal.SIGINT), child.stderr.read()
