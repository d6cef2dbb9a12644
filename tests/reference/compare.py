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
MAIN = 50  # the bank's own
# the reference's names → ours
SETS = {"textures": "textures", "cifar100": "cifar100", "tinyimagenet32": "tinyimagenet", "places": "places",
        "mnist": "mnist"}
POINTS, ABSOLUTE = 0.05, 1e-4  # allowed in metrics (percent), and in features and k-th distances
NETWORKS = {"resnet20_cifar10": "resnet20", "densenet_cifar10": "densenet"}


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


def compare_rows(outskirt, backbone, known, failures):
    print(f"\n{backbone}: features and k-th distances against PyTorch and faiss, largest difference:")
    for theirs, dataset in (("cifar10", "cifar10"), *SETS.items()):
        prefix = "" if dataset == "cifar10" else f"ood_{theirs}_"
        names, features, squares = (known[prefix + name] for name in ("names", "features", "d2"))
        names = [name.replace("idx/", "/000") for name in names]  # rows of MNIST's file, which has no names
        scores = ", ".join(f"knn_ood_score({backbone}, 'cifar10_{backbone}', {k}) AS k{k}" for k in KS)
        wanted = " OR ".join(f"uri LIKE '%{name}'" for name in names)
        text, _ = outskirt.run("sql", f"SELECT uri, {backbone} AS e, {scores} FROM images "
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
            off_feature = max(off_feature, max(abs(a - b) / max(abs(b), 1) for a, b in zip(row["e"], expected)))
            for column, k in enumerate(KS):
                r_k = squares[at * len(KS) + column] ** 0.5
                off_distance = max(off_distance, abs(row[f"k{k}"] - r_k))
        print(f"  {dataset:15} {len(names):4} images   features {off_feature:.2e}   r_k {off_distance:.2e}")
        if max(off_feature, off_distance) > ABSOLUTE:
            failures.append(f"rows of {dataset}, {backbone}")


def compare_tables(rows, backbone, reference, failures):
    print(f"\n{backbone}: metrics in percent (difference to the reference in points):")
    found = {(int(row["k"]), row["ood_set"]): row for row in rows if row["backbone"] == backbone}
    for k in KS:
        print(f"k = {k}")
        for theirs_set, dataset in SETS.items():
            expected = reference[f"k={k}"]["per_set"][theirs_set]["seed"]
            line = f"  {dataset:15}"
            for ours, theirs in (("fpr95", "FPR"), ("auroc", "AUROC"), ("auin", "AUIN"), ("auout", "AUOUT")):
                off = 100 * (found[k, dataset][ours] - expected[theirs])
                line += f"  {theirs} {100 * found[k, dataset][ours]:6.2f} ({off:+.3f})"
                if abs(off) > POINTS:
                    failures.append(f"{theirs} of {dataset} at k = {k}, {backbone}")
            print(line, flush=True)


def time_queries(outskirt, backbone):
    """What the planner saves, as whole commands: starting and reading the bank included."""
    bank = f"cifar10_{backbone}"
    score = f"knn_ood_score({backbone}, '{bank}')"
    print("\nwhole commands over all images, median of three:")
    for what, query in (
        ("count the rows", f"SELECT count(*) FROM images WHERE {backbone} IS NOT NULL"),
        ("score every image", f"SELECT avg({score}) FROM images"),
        ("WHERE is_ood", f"SELECT count(*) FROM images WHERE is_ood({backbone}, '{bank}')"),
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
        text, seconds = outskirt.run("benchmark", "cifar10", "--data", str(data), "--format", "json",
                                     "--k", ",".join(map(str, sorted(KS, key=lambda k: k != MAIN))))
        print(f"outskirt benchmark cifar10   [{seconds:.1f} s]", flush=True)
        rows = [json.loads(line) for line in text.splitlines()]
        models = json.loads((data / "reference.json").read_text())["models"]
        for backbone, name in NETWORKS.items():
            compare_rows(outskirt, backbone, npz(data / f"rows-last256-{name}.npz"), failures)
            compare_tables(rows, backbone, models[name]["knn"], failures)
        held_out = "dataset = 'cifar10' AND split = 'test' AND id % 2 = 0"
        outskirt.show("bank", "calibrate", "cifar10_resnet20_cifar10", "--where", held_out)
        time_queries(outskirt, "resnet20_cifar10")
    if failures:
        sys.exit("differs by more than allowed: " + "; ".join(failures))
    print("\nall within the allowed differences")


if __name__ == "__main__":
    main()
