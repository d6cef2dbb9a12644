#!/usr/bin/env python3
"""Queries on a cluster beside the same program alone, on the same cores: `make cluster-bench`.

A bucket (moto, from PyPI), a scheduler and two executors on loopback; synthetic rows are ingested into the bucket and scored against a
bank, in one piece and in shards, by the cluster and by one process. Scores are compared row by row, to the bit. Then an executor is killed
in the midst of a query, once of each bank, and the scheduler; everything that was started is stopped. Both sides are given the same cores in all.

    python3 benches/cluster.py PROGRAM [--rows N] [--bank N] [--dimension N] [--rounds N]
"""
import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

DATABASE = "s3://pets/bench.db"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Bench:
    def __init__(self, program, folder):
        self.program, self.folder, self.started = program, Path(folder), []
        self.environment = os.environ | {
            "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1",
            "OUTSKIRT_CACHE": str(self.folder / "cache"), "NO_PROXY": "127.0.0.1",
        }

    def start(self, *command, waits_for=None, **options):
        child = subprocess.Popen(command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options)
        self.started.append(child)
        if waits_for:
            for line in child.stderr:
                if waits_for in line:
                    return child, line
            raise SystemExit(f"{command[0]} ended before it said '{waits_for}'")
        return child, ""

    def run(self, *line, fails=False):
        begun = time.monotonic()
        done = subprocess.run([self.program, "--db", DATABASE, *line], env=self.environment, capture_output=True, text=True)
        if (done.returncode != 0) != fails:
            raise SystemExit(f"{line}: {done.stderr}")
        return time.monotonic() - begun, done.stderr if fails else done.stdout

    def bucket(self):
        port = free_port()
        self.environment["AWS_ENDPOINT"] = f"http://127.0.0.1:{port}"
        # it logs each request: nobody must have to read that
        child = subprocess.Popen([sys.executable, "-m", "moto.server", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.started.append(child)
        import urllib.request
        for _ in range(100):
            try:
                urllib.request.urlopen(urllib.request.Request(self.environment["AWS_ENDPOINT"] + "/pets", method="PUT")).read()
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit("moto does not start: pip install 'moto[server]'")

    def executor(self, scheduler):
        child, _ = self.start(
            self.program, "cluster", "executor", "--scheduler", scheduler, "--slots", "1", "--memory", "2GB",
            "--cache", str(self.folder / "executors"), waits_for="the executor listens")
        return child

    def stop(self):
        for child in self.started:
            if child.poll() is None:
                child.terminate()
        for child in self.started:
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("program")
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--bank", type=int, default=50_000)
    arguments.add_argument("--dimension", type=int, default=64)
    arguments.add_argument("--rounds", type=int, default=3)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(os.path.abspath(given.program), folder)
        try:
            measured(bench, given)
        finally:
            bench.stop()


def rows_of(given, folder):
    random = np.random.default_rng(0)
    centres = random.standard_normal((100, given.dimension))
    count = given.rows + given.bank
    vectors = (centres[random.integers(0, 100, count)] + 0.5 * random.standard_normal((count, given.dimension))).astype(np.float32)
    table = pa.table({
        "uri": [f"/{row}.png" for row in range(count)],
        "split": ["train"] * given.bank + ["test"] * given.rows,
        "v": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), given.dimension),
    })
    pyarrow.parquet.write_table(table, folder / "rows.parquet")
    return folder / "rows.parquet"


def measured(bench, given):
    bench.bucket()
    took, _ = bench.run("ingest", str(rows_of(given, bench.folder)), "--embedding-column", "v", "--dataset", "d", "--backbone", "net", "--model-version", "1")
    print(f"ingested {given.rows + given.bank:,} × {given.dimension} into a bucket on loopback in {took:.1f} s", flush=True)
    for bank, index in [("b", "exact"), ("pieces", "sharded-2")]:
        bench.run("bank", "create", bank, "--backbone", "net", "--where", "split = 'train'", "--k", "50", "--index", index)
    scheduler_process, listening = bench.start(bench.program, "cluster", "scheduler", "--listen", "127.0.0.1:0", waits_for="the scheduler listens at")
    scheduler = listening.split()[-1]
    executors = [bench.executor(scheduler) for _ in range(2)]
    score = "SELECT id, knn_ood_score(net, 'b') AS s FROM images WHERE split = 'test' ORDER BY id"
    means = "SELECT sum(knn_ood_score(net, 'b')) AS s, count(*) AS n FROM images WHERE split = 'test'"
    top = "SELECT id, knn_ood_score(net, 'b') AS s FROM images WHERE split = 'test' ORDER BY s DESC, id LIMIT 100"
    in_shards = top.replace("'b'", "'pieces'")
    on_cluster = ("--cluster", scheduler, "--tasks", "8")
    queries = [("every score, fetched", score), ("an aggregate", means), ("the 100 largest", top), ("the 100 largest, a bank in two shards", in_shards)]
    answers = {}
    for name, query in queries:
        times = {"alone": [], "cluster": []}
        for _ in range(given.rounds):
            took, alone = bench.run("sql", query, "--format", "csv")
            times["alone"].append(took)
            took, answers[query] = bench.run("sql", *on_cluster, query, "--format", "csv")
            times["cluster"].append(took)
            if not same(alone, answers[query], query is means):
                raise SystemExit(f"{name}: the cluster has other rows")
        alone, together = (statistics.median(times[side]) for side in ("alone", "cluster"))
        print(f"{name}: alone {alone:.2f} s, cluster {together:.2f} s, {together / alone - 1:+.0%}; the rows are the same", flush=True)
    if answers[top] != answers[in_shards]:
        raise SystemExit("a bank in shards has other rows than one in one piece")

    def asked_and_killed(query, victim):
        """What a query says, and how long it takes, from the moment when somebody dies."""
        asked = subprocess.Popen([bench.program, "--db", DATABASE, "sql", *on_cluster, query, "--format", "csv"], env=bench.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(1.5)
        if asked.poll() is not None:
            raise SystemExit("the query was done before anybody was killed: give more --rows")
        victim.send_signal(signal.SIGKILL)
        begun = time.monotonic()
        out, err = asked.communicate(timeout=300)
        return asked.returncode, out, err.strip().splitlines()[-1] if err.strip() else "", time.monotonic() - begun

    for name, query in [("an aggregate", means), ("the 100 largest, a bank in two shards", in_shards)]:
        code, out, err, took = asked_and_killed(query, executors.pop(0))
        if code == 0 and not same(out, answers[query], query is means):
            raise SystemExit(f"{name}, an executor killed: other rows")
        print(f"{name}, an executor killed in the midst: {'the same rows' if code == 0 else 'refused: ' + err} after {took:.1f} s", flush=True)
        took, _ = bench.run("sql", *on_cluster, query, "--format", "csv")
        print(f"the next query, on one executor: {took:.1f} s", flush=True)
        executors.append(bench.executor(scheduler))
    code, _, err, took = asked_and_killed(means, scheduler_process)
    if code == 0:
        raise SystemExit("the scheduler was killed, and the query went on")
    print(f"the scheduler killed in the midst: {err!r} after {took:.1f} s", flush=True)
    _, err = bench.run("sql", *on_cluster, means, fails=True)
    print(f"and then: {err.strip()!r}", flush=True)


def same(one, other, sums):
    """Whether two answers are the same rows; of a sum, which is added up in another order, nearly."""
    if not sums:
        return one == other
    of = [[float(field) for field in answer.split()[1].split(",")] for answer in (one, other)]
    return of[0][1] == of[1][1] and abs(of[0][0] - of[1][0]) <= 1e-6 * abs(of[0][0])


if __name__ == "__main__":
    main()
