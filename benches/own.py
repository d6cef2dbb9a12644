#!/usr/bin/env python3
"""Own embeddings into a database beside lancedb's own create_table, and the program's start beside DuckDB's: `make bench-own`.

Both sides take the same Parquet file (ROWS × 512 f32, a uri and a label), in turns, on a machine that does nothing else; lancedb once
batch by batch, once whole, and syncs nothing. The start is `SELECT 1` over a database of a thousand rows, beside Python with DuckDB.
Needs the Python packages pyarrow, numpy, lancedb and duckdb; without them their side is left out.

    python3 benches/own.py --program PROGRAM [--rows ROWS] [--rounds N]
"""
import argparse
import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

DIMENSION = 512
# without its imports, which take a second
LANCEDB = """
import sys, time, lancedb, pyarrow.parquet as pq
start = time.monotonic()
file = pq.ParquetFile(sys.argv[1])
if sys.argv[3] == "batches":
    lancedb.connect(sys.argv[2]).create_table("t", file.iter_batches(), schema=file.schema_arrow)
else:
    lancedb.connect(sys.argv[2]).create_table("t", file.read())
print(time.monotonic() - start)
"""
DUCKDB = "import duckdb; duckdb.sql('SELECT 1').fetchall()"


def write(path, rows):
    import numpy
    import pyarrow
    import pyarrow.parquet

    random = numpy.random.default_rng(0)
    schema = pyarrow.schema([("uri", pyarrow.string()), ("label", pyarrow.string()), ("emb", pyarrow.list_(pyarrow.float32(), DIMENSION))])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, 16384):
            count = min(16384, rows - first)
            numbers = random.standard_normal(count * DIMENSION, dtype=numpy.float32)
            embeddings = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(numbers), DIMENSION)
            uris = [f"images/{row:08d}.jpg" for row in range(first, first + count)]
            writer.write_table(pyarrow.table([uris, [f"class {row % 100}" for row in range(count)], embeddings], schema=schema))


def timed(command, says=False):
    """Seconds, of the process or as it says them, and the most memory in MiB."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    output = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(map(str, command))}: {output}")
    seconds = float(output.split()[-1]) if says else time.monotonic() - start
    return seconds, used.ru_maxrss / 1024


def said(name, rounds, rows=None):
    seconds = statistics.median(second for second, _ in rounds)
    memory = max(memory for _, memory in rounds)
    rate = f", {rows / seconds:,.0f} rows/s" if rows else ""
    print(f"{name}: {seconds:.2f} s{rate}, {memory:,.0f} MiB (median of {len(rounds)})", flush=True)
    return seconds


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--program", required=True)
    arguments.add_argument("--rows", type=int, default=300_000)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--write", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.write:
        return write(given.write, given.rows)
    program = Path(given.program).resolve()
    has = {name for name in ("pyarrow", "numpy", "lancedb", "duckdb") if importlib.util.find_spec(name)}
    if not {"pyarrow", "numpy"} <= has:
        sys.exit("pip install pyarrow numpy (and lancedb, duckdb, to compare with)")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        # a process begins with its parent's memory, as the system counts: this one stays small
        made = lambda path, rows: timed([sys.executable, __file__, "--program", program, "--write", path, "--rows", str(rows)])
        ours, theirs = [], {"batches": [], "whole": []}
        file, db, peer = folder / "all.parquet", folder / "db", folder / "peer"
        made(file, given.rows)
        options = ["--embedding-column", "emb", "--dataset", "d", "--backbone", "model", "--model-version", "1"]
        for _ in range(given.rounds):
            shutil.rmtree(db, ignore_errors=True)
            ours.append(timed([program, "--db", db, "ingest", file, *options]))
            for form, rounds in theirs.items() if "lancedb" in has else []:
                shutil.rmtree(peer, ignore_errors=True)
                rounds.append(timed([sys.executable, "-c", LANCEDB, file, peer, form], says=True))
        seconds = said(f"outskirt ingest of {given.rows:,} × {DIMENSION}", ours, given.rows)
        for form, rounds in theirs.items() if "lancedb" in has else []:
            ratio = said(f"lancedb create_table, {form}", rounds, given.rows) / seconds
            print(f"  {ratio:.2f} of lancedb's rows per second")
        small = folder / "small.parquet"
        made(small, 1000)
        shutil.rmtree(db)
        timed([program, "--db", db, "ingest", small, *options])
        starts = [timed([program, "--db", db, "sql", "SELECT 1"]) for _ in range(10)]
        said("outskirt sql 'SELECT 1'", starts)
        if "duckdb" in has:
            said("python with duckdb, SELECT 1", [timed([sys.executable, "-c", DUCKDB]) for _ in range(10)])


if __name__ == "__main__":
    main()
