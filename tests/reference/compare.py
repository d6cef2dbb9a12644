#!/usr/bin/env python3
"""Run Outskirt on real CIFAR-10 images and compare with reference numbers; see README.md beside this file."""

import argparse
import array
import ast
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

KS = (1, 10, 50, 200, 1000)
SETS = ("textures", "cifar100", "tinyimagenet32", "places")
POINTS, ABSOLUTE = 0.05, 1e-4  # allowed in metrics (percent), and in features and k-th distances
BACKBONE = "resnet20_cifar10"


def npz(path):
    """The arrays of a NumPy archive, without NumPy: name → flat list."""
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            raw = archive.read(member)
            size = int.from_bytes(raw[8:10], "little")
            kind = ast.literal_eval(raw[10:10 + size].decode().strip())["descr"]
            body = raw[10 + size:]
            if kind.startswith("<U"):
                width = 4 * int(kind[2:])
                values = [body[i:i + width].decode("utf-32-le").rstrip("\0") for i in range(0, len(body), width)]
            else:
                values = array.array({"<f4": "f", "<f8": "d", "<i4": "i", "<i8": "q"}[kind], body).tolist()
            arrays[member.removesuffix(".npy")] = values
    return arrays


class Outskirt:
    def __init__(self, program, db):
        self.command = [program, "--db", db]

    def run(self, *arguments):
        start = time.time()
        done = subprocess.run([*self.command, *arguments], stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            sys.exit(f"failed: outskirt {' '.join(arguments)}")
        return done.stdout, time.time() - start

    def show(self, *arguments):
        text, seconds = self.run(*arguments)
        print(f"{text.rstrip()}   [{seconds:.1f} s]", flush=True)


def compare_rows(outskirt, known, failures):
    print("\nfeatures and k-th distances against PyTorch and faiss, largest absolute difference:")
    for dataset in ("cifar10", *SETS):
        prefix = "" if dataset == "cifar10" else f"ood_{dataset}_"
        names, features, squares = (known[prefix + name] for name in ("names", "features", "d2"))
        scores = ", ".join(f"knn_ood_score({BACKBONE}, 'cifar10', {k}) AS k{k}" for k in KS)
        wanted = " OR ".join(f"uri LIKE '%{name}'" for name in names)
        text, _ = outskirt.run("sql", f"SELECT uri, {BACKBONE} AS e, {scores} FROM images "
                               f"WHERE dataset = '{dataset}' AND split = 'test' AND ({wanted})", "--format", "json")
        found = {}
        for line in text.splitlines():
            row = json.loads(line)
            found[next(name for name in names if row["uri"].endswith(name))] = row
        width = len(features) // len(names)
        off_feature = off_distance = 0.0
        for at, name in enumerate(names):
            row = found[name]
            expected = features[at * width:(at + 1) * width]
            off_feature = max(off_feature, max(abs(a - b) for a, b in zip(row["e"], expected)))
            for column, k in enumerate(KS):
                r_k = squares[at * len(KS) + column] ** 0.5
                off_distance = max(off_distance, abs(row[f"k{k}"] - r_k))
        print(f"  {dataset:15} {len(names):4} images   features {off_feature:.2e}   r_k {off_distance:.2e}")
        if max(off_feature, off_distance) > ABSOLUTE:
            failures.append(f"rows of {dataset}")


def compare_tables(outskirt, reference, failures):
    print("\nmetrics in percent (difference to the reference in points):")
    for k in KS:
        arguments = ["evaluate", "cifar10", "--id", "dataset = 'cifar10' AND split = 'test'", "--k", str(k)]
        for dataset in SETS:
            arguments += ["--ood", f"dataset = '{dataset}'"]
        text, seconds = outskirt.run(*arguments, "--format", "json")
        print(f"k = {k}   [{seconds:.1f} s]")
        found = {row["ood_set"]: row for row in map(json.loads, text.splitlines())}
        for dataset in SETS:
            expected = reference[f"k={k}"]["per_set"][dataset]["seed"]
            line = f"  {dataset:15}"
            for ours, theirs in (("fpr95", "FPR"), ("auroc", "AUROC"), ("auin", "AUIN"), ("auout", "AUOUT")):
                off = 100 * (found[dataset][ours] - expected[theirs])
                line += f"  {theirs} {100 * found[dataset][ours]:6.2f} ({off:+.3f})"
                if abs(off) > POINTS:
                    failures.append(f"{theirs} of {dataset} at k = {k}")
            print(line, flush=True)


def time_queries(outskirt):
    """What the planner saves, as whole commands: starting and reading the bank included."""
    score = f"knn_ood_score({BACKBONE}, 'cifar10')"
    print("\nwhole commands over all images, median of three:")
    for what, query in (
        ("count the rows", f"SELECT count(*) FROM images WHERE {BACKBONE} IS NOT NULL"),
        ("score every image", f"SELECT avg({score}) FROM images"),
        ("WHERE is_ood", f"SELECT count(*) FROM images WHERE is_ood({BACKBONE}, 'cifar10')"),
        ("ORDER BY score LIMIT 20", f"SELECT uri, {score} AS score FROM images ORDER BY score DESC LIMIT 20"),
    ):
        seconds = sorted(outskirt.run("sql", query, "--format", "csv")[1] for _ in range(3))[1]
        print(f"  {what:24} {seconds:5.2f} s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--outskirt", required=True)
    parser.add_argument("--db", help="keep the database here")
    options = parser.parse_args()
    data = options.data
    if not (data / "reference.json").exists():
        sys.exit(f"no reference data at {data}: set OUTSKIRT_DATA (tests/reference/README.md says what it holds)")
    failures = []
    with tempfile.TemporaryDirectory() as scratch:
        outskirt = Outskirt(options.outskirt, options.db or f"{scratch}/reference.db")
        common = ["--backbone", BACKBONE, "--weights", str(data / "checkpoints/resnet20-12fca82f.th")]
        train = [str(data / f"cifar10/train-{part}.tar.gz") for part in (0, 1)]
        outskirt.show("ingest", *train, "--dataset", "cifar10", "--split", "train", *common)
        outskirt.show("ingest", str(data / "cifar10/test.tar.gz"), "--dataset", "cifar10", "--split", "test", *common)
        for dataset in SETS:
            archive = str(data / f"ood/{dataset}.tar")
            outskirt.show("ingest", archive, "--dataset", dataset, "--split", "test", *common)
        outskirt.show("bank", "create", "cifar10", "--backbone", BACKBONE, "--k", "50",
                      "--where", "dataset = 'cifar10' AND split = 'train'")
        compare_rows(outskirt, npz(data / "rows-last256-resnet20.npz"), failures)
        outskirt.show("bank", "calibrate", "cifar10", "--where", "dataset = 'cifar10' AND split = 'test' AND id % 2 = 0")
        time_queries(outskirt)
        compare_tables(outskirt, json.loads((data / "reference.json").read_text())["models"]["resnet20"]["knn"], failures)
    if failures:
        sys.exit("differs by more than allowed: " + "; ".join(failures))
    print("\nall within the allowed differences")


if __name__ == "__main__":
    main()
