#!/usr/bin/env python3
"""The Python package beside faiss, scikit-learn and pytorch-ood, lancedb and DuckDB: `make bench-python`.

All in one process, the same threads and data, in turns, on a machine that does nothing else; each figure is the median. Scores are of
50,000 bank rows and 10,000 queries of FEATURES (an .npz with `bank` and `queries`; without it, vectors in a hundred groups), k = 50,
after the same normalisation. Peers that are not installed are left out. Whether faiss runs the kernel that this processor deserves is
printed: its ratio means nothing otherwise.

    python3 benches/python.py [--features FILE.npz] [--rows N] [--rounds N]
"""
import argparse
import importlib.util
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

import outskirt

K = 50


def features(path):
    if path:
        with np.load(path) as file:
            return file["bank"].astype(np.float32), file["queries"].astype(np.float32)
    random = np.random.default_rng(0)
    centres = random.standard_normal((100, 256))
    make = lambda rows: (centres[random.integers(0, 100, rows)] + 0.5 * random.standard_normal((rows, 256))).astype(np.float32)
    return make(50_000), make(10_000)


def has(name):
    return importlib.util.find_spec(name) is not None


def timed(call):
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


def table(rows, ours, unit):
    """Medians, and how many times as fast ours is."""
    least = statistics.median(rows[ours])
    for name, seconds in rows.items():
        median = statistics.median(seconds)
        ratio = "" if name == ours else f", {ours} is {median / least:.2f} times as fast"
        print(f"  {name}: {median:.3f} s{unit(median)}{ratio}", flush=True)


def scores(bank, queries, rounds):
    unit = lambda x: x / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
    normal, asked = unit(bank).astype(np.float32), unit(queries).astype(np.float32)
    searches = {"outskirt.KNN": (lambda knn=outskirt.KNN(K).fit(bank): knn.score(queries))}
    if has("faiss"):
        import faiss

        print(f"faiss {faiss.__version__}: {faiss.get_compile_options().strip()}")
        index = faiss.IndexFlatL2(bank.shape[1])
        index.add(normal)
        searches["faiss IndexFlatL2"] = lambda: np.sqrt(np.maximum(index.search(asked, K)[0][:, -1], 0))
    if has("sklearn"):
        from sklearn.neighbors import NearestNeighbors

        neighbors = NearestNeighbors(n_neighbors=K, algorithm="brute", n_jobs=-1).fit(normal)
        searches["scikit-learn NearestNeighbors(brute)"] = lambda: neighbors.kneighbors(asked)[0][:, -1]
    if has("pytorch_ood"):
        import torch
        from pytorch_ood.detector import KNN

        detector = KNN(None, k=K).fit_features(torch.tensor(bank), torch.zeros(len(bank), dtype=torch.long))
        given = torch.tensor(queries)
        searches["pytorch-ood KNN"] = lambda: detector.predict_features(given).numpy()
    seconds, expected = {name: [] for name in searches}, None
    for _ in range(rounds):
        for name, search in searches.items():
            took, found = timed(search)
            seconds[name].append(took)
            expected = found if expected is None else expected
            if not np.allclose(found, expected, atol=2e-3):
                raise SystemExit(f"{name} has other scores")
    print(f"{len(queries):,} scores beside {len(bank):,} × {bank.shape[1]}, k = {K}, {os.cpu_count()} threads:")
    table(seconds, "outskirt.KNN", lambda median: f", {len(queries) / median:,.0f} queries/s")


def append(rows, rounds):
    random = np.random.default_rng(1)
    vectors = random.standard_normal((rows, 512), dtype=np.float32)
    names = [f"images/{row:08d}.jpg" for row in range(rows)]
    seconds = {"db.append": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(rounds):
            with outskirt.connect(Path(folder) / f"ours{number}") as db:
                took, done = timed(lambda: db.append(vectors, backbone="m", model_version="1", dataset="d", uri=names))
                assert done.added == rows
            seconds["db.append"].append(took)
            if has("lancedb"):
                import lancedb
                import pyarrow

                made = lambda: pyarrow.table({"uri": names, "v": pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(vectors.ravel()), 512)})
                peer = lancedb.connect(Path(folder) / f"theirs{number}")
                took, _ = timed(lambda: peer.create_table("t", made()))
                seconds.setdefault("lancedb create_table", []).append(took)
    print(f"append of {rows:,} × 512 from NumPy:")
    table(seconds, "db.append", lambda median: f", {rows / median:,.0f} rows/s")


def fetch(rows, rounds):
    random = np.random.default_rng(2)
    vectors = random.standard_normal((rows, 8), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder, outskirt.connect(Path(folder) / "db") as db:
        db.append(vectors, backbone="m", model_version="1", dataset="d")
        db.create_bank("b", backbone="m", where="id <= 1000", k=10).keep_scores()
        seconds = {"db.sql(…).to_pandas()": []}
        for _ in range(rounds):
            took, frame = timed(lambda: db.sql("SELECT b_score FROM images").to_pandas())
            seconds["db.sql(…).to_pandas()"].append(took)
            if has("duckdb"):
                import duckdb

                connection = duckdb.connect()
                connection.register("frame", frame)
                connection.sql("CREATE TABLE scores AS SELECT b_score::DOUBLE AS b_score FROM frame")
                took, _ = timed(lambda: connection.sql("SELECT b_score FROM scores").df())
                seconds.setdefault("duckdb.sql(…).df()", []).append(took)
    print(f"{rows:,} kept scores into pandas (ours out of a Lance table on the disk, DuckDB's out of its memory):")
    table(seconds, "db.sql(…).to_pandas()", lambda _: "")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--features")
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    scores(*features(given.features), given.rounds)
    append(given.rows, min(given.rounds, 3))
    fetch(given.rows, given.rounds)


if __name__ == "__main__":
    main()
