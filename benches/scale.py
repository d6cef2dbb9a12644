#!/usr/bin/env python3
"""What a row costs on a cluster, by rows, bank, numbers and executors: `make scale-bench`. docs/scale.md has its tables.

A bucket (moto, from PyPI) behind a counting proxy, a scheduler and executors of one slot each on loopback; synthetic rows. Of each
setting: seconds, processor seconds of all executors for a million rows (/proc), bytes that the bucket gave to executors for each row, and
bytes that tasks wrote for others (their /metrics). A row's cost in processor time does not depend on how many cores this machine has.

    python3 benches/scale.py PROGRAM [--rows N] [--rounds N] [--quick]
"""
import argparse
import os
import socket
import statistics
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from cluster import Bench, free_port

TICKS = os.sysconf("SC_CLK_TCK")


class Counting:
    """Passes bytes on, and counts those that come back."""

    def __init__(self, to):
        self.to, self.given, self.port = to, 0, free_port()
        listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, args=(listener,), daemon=True).start()

    def accept(self, listener):
        while True:
            near, _ = listener.accept()
            far = socket.create_connection(("127.0.0.1", self.to))
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.pass_on, args=(near, far, False), daemon=True).start()
            threading.Thread(target=self.pass_on, args=(far, near, True), daemon=True).start()

    def pass_on(self, source, target, counts):
        try:
            while chunk := source.recv(1 << 20):
                if counts:
                    self.given += len(chunk)
                target.sendall(chunk)
        except OSError:
            pass
        finally:
            for one in (source, target):
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


def processor_seconds(processes):
    def of(process):
        fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS
    return sum(of(process) for process in processes)


def metric(address, name):
    text = urllib.request.urlopen(f"http://{address}/metrics").read().decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


def vectors(count, dimension, seed):
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((100, dimension))
    return (centres[random.integers(0, 100, count)] + 0.5 * random.standard_normal((count, dimension))).astype(np.float32)


class Cluster:
    def __init__(self, bench, executors, slots=1):
        self.bench = bench
        self.scheduler_process, line = bench.start(bench.program, "cluster", "scheduler", "--listen", "127.0.0.1:0", waits_for="the scheduler listens at")
        self.scheduler = line.split()[-1]
        self.executors, self.addresses = [], []
        for _ in range(executors):
            process, line = bench.start(
                bench.program, "cluster", "executor", "--scheduler", self.scheduler, "--slots", str(slots), "--memory", "6GB",
                "--cache", str(bench.folder / "executors"), waits_for="the executor listens at")
            self.executors.append(process)
            self.addresses.append(line.split("listens at ")[1].split(",")[0])

    def stop(self):
        for process in [*self.executors, self.scheduler_process]:
            process.terminate()
            process.wait(10)


def ingest(bench, name, rows, bank, dimension, indexes):
    values = vectors(rows + bank, dimension, 1)
    table = pa.table({
        "uri": [f"/{name}/{row}.png" for row in range(len(values))],
        "split": ["train"] * bank + ["test"] * rows,
        "v": pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), dimension),
    })
    path = bench.folder / f"{name}.parquet"
    pyarrow.parquet.write_table(table, path)
    bench.run("ingest", str(path), "--embedding-column", "v", "--dataset", name, "--backbone", name, "--model-version", "1")
    path.unlink()
    for index in indexes:
        suffix = "" if index == "exact" else "_s"
        bench.run("bank", "create", name + suffix, "--backbone", name, "--where", f"dataset = '{name}' AND split = 'train'", "--k", "50", "--index", index)


def measured(bench, proxy, executors, name, bank, rows, rounds, cores=1):
    cluster = Cluster(bench, executors, cores)
    query = f"SELECT sum(knn_ood_score({name}, '{bank}')) AS s, count(*) AS n FROM images WHERE dataset = '{name}' AND split = 'test'"
    asked = ("sql", "--cluster", cluster.scheduler, "--tasks", "16", query, "--format", "csv")
    try:
        took, _ = bench.run(*asked)
        walls, seconds, bucket, given = [], [], [], []
        for _ in range(rounds):
            before = processor_seconds(cluster.executors), proxy.given, sum(metric(address, "outskirt_given_bytes_total") for address in cluster.addresses)
            took, _ = bench.run(*asked)
            after = processor_seconds(cluster.executors), proxy.given, sum(metric(address, "outskirt_given_bytes_total") for address in cluster.addresses)
            walls.append(took)
            seconds.append(1e6 * (after[0] - before[0]) / rows)
            bucket.append((after[1] - before[1]) / rows)
            given.append((after[2] - before[2]) / rows)
        return [statistics.median(one) for one in (walls, seconds, bucket, given)]
    finally:
        cluster.stop()


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("program")
    arguments.add_argument("--rows", type=int, default=100_000)
    arguments.add_argument("--rounds", type=int, default=2)
    arguments.add_argument("--quick", action="store_true", help="small, to see whether it runs")
    given = arguments.parse_args()
    if given.quick:
        given.rows, given.rounds = 20_000, 1
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(os.path.abspath(given.program), folder)
        try:
            run(bench, given)
        finally:
            bench.stop()


def run(bench, given):
    bench.bucket()
    moto = int(bench.environment["AWS_ENDPOINT"].rsplit(":", 1)[1])
    proxy = Counting(moto)
    bench.environment["AWS_ENDPOINT"] = f"http://127.0.0.1:{proxy.port}"
    rows, small = given.rows, given.quick
    settings = [  # rows, bank, dimension, executors, indexes
        (rows, 12_500, 64, 1, ["exact"]), (rows, 50_000, 64, 1, ["exact", "sharded-4"]), (rows, 200_000, 64, 1, ["exact"]),
        (rows, 12_500, 512, 1, ["exact"]), (rows, 50_000, 512, 1, ["exact"]), (rows, 200_000, 512, 1, ["exact", "sharded-4"]),
    ]
    if small:
        settings = [(rows, 5_000, 64, 1, ["exact", "sharded-4"])]
    print("| rows | bank | numbers | executors | index | seconds | processor seconds per million rows | bytes of the bucket per row | bytes between tasks per row |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)

    def line(rows, bank, dimension, executors, index, name, cores=1):
        suffix = "" if index == "exact" else "_s"
        wall, seconds, bucket, between = measured(bench, proxy, executors, name, name + suffix, rows, given.rounds, cores)
        print(f"| {rows:,} | {bank:,} | {dimension} | {executors} | {index} | {wall:.2f} | {seconds:.1f} | {bucket:,.0f} | {between:,.1f} |", flush=True)

    for rows, bank, dimension, executors, indexes in settings:
        name = f"n{bank}d{dimension}"
        begun = time.monotonic()
        ingest(bench, name, rows, bank, dimension, indexes)
        for index in indexes:
            line(rows, bank, dimension, executors, index, name)
        if (bank, dimension) == (50_000, 64):
            line(rows, bank, dimension, 2, "exact", name)
    # rows alone: what a million more cost
    name = "more"
    ingest(bench, name, 4 * rows, settings[0][1], 64, ["exact"])
    line(4 * rows, settings[0][1], 64, 1, "exact", name)


if __name__ == "__main__":
    main()
