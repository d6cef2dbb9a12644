#!/usr/bin/env python3
"""Features that PyTorch wrote, ingested without libtorch, beside the reference numbers; see README.md beside this file.

    tests/reference/own.py --data FOLDER --outskirt PROGRAM [--model NAME] [--keep FOLDER]

Each of the two networks embeds CIFAR-10 and the five OOD sets in PyTorch, as it is. The features, not normalised, are written as
Parquet, as NumPy's .npy with the other columns in a CSV file, and as a table of LanceDB; each form goes into a database of its
own, and `outskirt evaluate` must give the metrics of reference.json.
"""

import argparse
import csv
import gzip
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import lancedb
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[2] / "benches"))
import features as networks  # noqa: E402
from compare import KS, SETS  # noqa: E402

# dataset, split, archives
PARTS = [
    ("cifar10", "train", ["cifar10/train-0.tar.gz", "cifar10/train-1.tar.gz"]),
    ("cifar10", "test", ["cifar10/test.tar.gz"]),
    *((name, "test", [f"ood/{name}.tar"]) for name in SETS if name != "mnist"),
    ("mnist", "test", []),
]
# allowed in AUROC, AUIN and AUOUT, percent; and in FPR95, images: the reference's distances are faiss's, in f32, and two that differ
# in their last bits may change places at the threshold
POINTS, IMAGES = 0.001, 1


def mnist(data):
    """The digits as a network for colour images is given them."""
    raw = gzip.decompress((data / "ood/mnist/t10k-images-idx3-ubyte.gz").read_bytes())
    digits = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28)
    return np.stack([np.asarray(Image.fromarray(digit).convert("RGB").resize((32, 32), Image.BILINEAR)) for digit in digits])


def names(data, archives):
    """The names of an archive's images, in the order in which `networks.images` yields them."""
    for archive in archives:
        with tarfile.open(data / archive) as members:
            yield from (member.name for member in members if member.isfile())


def table(model, data):
    """All features as an Arrow table: uri, dataset, split, label, embedding."""
    rows = {name: [] for name in ("uri", "dataset", "split", "label")}
    found = []
    for dataset, split, archives in PARTS:
        if archives:
            pixels = np.stack([image for archive in archives for image in networks.images(data / archive)])
            uris = list(names(data, archives))
        else:
            pixels = mnist(data)
            uris = [f"mnist/{at:05}" for at in range(len(pixels))]
        found.append(networks.features(model, data, pixels))
        rows["uri"] += uris
        rows["dataset"] += [dataset] * len(uris)
        rows["split"] += [split] * len(uris)
        rows["label"] += [uri.split("/")[1] if dataset == "cifar10" else None for uri in uris]
    found = np.concatenate(found)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(found.ravel()), found.shape[1])
    columns = {name: pa.array(values, pa.string()) for name, values in rows.items()}
    return pa.table({**columns, "embedding": vectors})


def write(model, rows, folder):
    """The three forms, and for each what `outskirt ingest` is told."""
    parquet, array, others = folder / f"{model}.parquet", folder / f"{model}.npy", folder / f"{model}.csv"
    pyarrow.parquet.write_table(rows, parquet)
    vectors = rows["embedding"].combine_chunks()
    np.save(array, vectors.flatten().to_numpy().reshape(len(vectors), -1))
    with others.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(rows.column_names[:-1])
        writer.writerows(zip(*(rows[name].to_pylist() for name in rows.column_names[:-1])))
    lancedb.connect(folder / "lancedb").create_table(model, rows, mode="overwrite")
    return {
        "Parquet": [parquet, "--embedding-column", "embedding"],
        ".npy": [array, "--metadata", others],
        "LanceDB": [folder / "lancedb" / f"{model}.lance", "--embedding-column", "embedding"],
    }


def outskirt(program, db, *arguments):
    """Run it where there is no libtorch; its output and seconds."""
    start = time.time()
    without = {**os.environ, "LIBTORCH": str(db / "no-libtorch"), "LD_LIBRARY_PATH": ""}
    done = subprocess.run([program, "--db", db, *arguments], stdout=subprocess.PIPE, text=True, env=without)
    if done.returncode:
        sys.exit(f"failed: outskirt {' '.join(map(str, arguments))}")
    return done.stdout, time.time() - start


def compare(program, db, source, backbone, expected):
    """Ingest one form and evaluate it: seconds, and the largest differences over all k and sets, of FPR95 in images and of the other
    metrics in points, each with where it is."""
    version = f"PyTorch {torch.__version__}"
    _, seconds = outskirt(program, db, "ingest", *source, "--backbone", backbone, "--model-version", version)
    outskirt(program, db, "bank", "create", "train", "--backbone", backbone, "--k", "50",
             "--where", "dataset = 'cifar10' AND split = 'train'")
    images, points = (0, "none"), (0.0, "none")
    sets = [option for name in SETS for option in ("--ood", f"dataset = '{name}'")]
    for k in KS:
        text, _ = outskirt(program, db, "evaluate", "train", "--k", str(k), "--id", "dataset = 'cifar10' AND split = 'test'",
                           *sets, "--format", "json")
        for line in text.splitlines():
            row = json.loads(line)
            theirs = next((expected[f"k={k}"]["per_set"][name]["seed"] for name in SETS if name in row["ood_set"]), None)
            if theirs is None:
                continue  # the average
            where = f"{row['ood_set']} at k = {k}"
            images = max(images, (round(abs(row["fpr95"] - theirs["FPR"]) * row["images"]), where))
            for ours, name in (("auroc", "AUROC"), ("auin", "AUIN"), ("auout", "AUOUT")):
                points = max(points, (abs(100 * (row[ours] - theirs[name])), f"{name} of {where}"))
    return seconds, images, points


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--outskirt", required=True)
    parser.add_argument("--model", choices=networks.MODELS, action="append", help="one of the networks alone")
    parser.add_argument("--keep", type=Path, help="write features and databases here, and use those that are there")
    options = parser.parse_args()
    if not (options.data / "reference.json").exists():
        sys.exit(f"no reference data at {options.data}: set OUTSKIRT_DATA (tests/reference/README.md says what it holds)")
    reference = json.loads((options.data / "reference.json").read_text())["models"]
    wrong = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        for model in options.model or networks.MODELS:
            kept = folder / f"{model}.parquet"
            rows = pyarrow.parquet.read_table(kept) if kept.exists() else table(model, options.data)
            for form, source in write(model, rows, folder).items():
                db = Path(tempfile.mkdtemp(dir=scratch)) / "db"
                seconds, images, points = compare(options.outskirt, db, source, model, reference[model]["knn"])
                print(f"{model:9} {form:8} {rows.num_rows} rows in {seconds:.1f} s; largest differences: {images[0]} images in FPR95 "
                      f"({images[1]}), {points[0]:.6f} points ({points[1]})", flush=True)
                if images[0] > IMAGES or points[0] > POINTS:
                    wrong.append(f"{model} from {form}")
    if wrong:
        sys.exit(f"differs by more than allowed: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
