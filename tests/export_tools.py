#!/usr/bin/env python3
"""Exports read back by the tools that they are for: `make export-tools` runs it where they are installed.

    tests/export_tools.py PROGRAM TOOL …

Draws pictures of several formats, some in an archive, some stored in the table and one that goes away; ingests them with made-up
embeddings, labels and splits that file systems and readers trip over; exports them for each tool, and compares what the tool reads with
what `outskirt sql` and Pillow say.
"""
import csv
import importlib.util
import io
import json
import math
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.parse
from pathlib import Path

from PIL import Image

COUNT = 60
LABELS = ["cat", "Cat", "../../up", "a/b", "", "train", "caf\u00e9", 'q"uote,\nline', "unlabelled", "=1+1"]
SPLITS = ["train", "val", "test", "camera 7"]
KINDS = ["png", "jpeg", "webp", "tiff", "ppm", "bmp"]


class World:
    """A database of drawn pictures."""

    def __init__(self, program, folder):
        self.program, self.folder, self.db = program, folder, folder / "db"
        pictures = folder / "pictures with space"
        pictures.mkdir()
        rows, packed = [], []
        for row in range(COUNT):
            picture = Image.new("RGB", (20 + row, 15), (4 * row, 90, 255 - 4 * row))
            picture.putpixel((row % 20, 3), (255, 255, 255))
            kind = KINDS[row % len(KINDS)]
            bytes_ = io.BytesIO()
            picture.save(bytes_, kind)
            name = f"{row}.{kind}"
            if row % 5 == 4:
                packed.append((name, bytes_.getvalue()))
                uri = f"packed.tar.gz!/{name}"
            else:
                (pictures / name).write_bytes(bytes_.getvalue())
                uri = name
            angle = row / 40 + (2 if row >= 52 else 0)
            label = LABELS[row % len(LABELS)]
            rows.append([uri, label, SPLITS[row % len(SPLITS)], f"cam{row % 3}", row, f"t{row}", f"[{math.cos(angle)}, {math.sin(angle)}]"])
        with tarfile.open(pictures / "packed.tar.gz", "w:gz") as archive:
            for name, bytes_ in packed:
                member = tarfile.TarInfo(name)
                member.size = len(bytes_)
                archive.addfile(member, io.BytesIO(bytes_))
        with open(pictures / "rows.csv", "w", newline="") as file:
            writer = csv.writer(file)
            # names that readers have a meaning for
            writer.writerow(["uri", "label", "split", "camera", "score_file_name", "tags", "v"])
            writer.writerows(rows)
        self.run("ingest", pictures / "rows.csv", "--embedding-column", "v", "--backbone", "m", "--model-version", "1", "--dataset", "drawn")
        self.run("bank", "create", "b", "--backbone", "m", "--where", "split = 'train'", "--k", "3")
        self.run("bank", "calibrate", "b", "--where", "split = 'val'")
        (pictures / "0.png").unlink()
        self.pictures = pictures
        near = "knn_ood_score(m, 'b', 3, id)"
        rows = self.sql(f"SELECT id, uri, label, split, camera, {near} AS score FROM images ORDER BY id")
        self.rows = {int(row["id"]): row for row in rows}
        assert len(self.rows) == COUNT

    def run(self, *arguments):
        line = [str(self.program), "--db", str(self.db), *map(str, arguments)]
        done = subprocess.run(line, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"export: {' '.join(line)}: {done.stderr}")
        return done.stdout, done.stderr

    def sql(self, query):
        return [json.loads(line) for line in self.run("sql", query, "--format", "json")[0].splitlines()]

    def export(self, form, *more, to=None):
        out = self.folder / (to or f"out {form} {'-'.join(more)}".replace("/", "_"))
        said = self.run("export", "--as", form, "--to", out, "--bank", "b", "--tpr", "0.9", "--neighbors", "2", *more)
        return out, said

    def pixels(self, uri):
        """A picture as it was drawn."""
        name = uri.rsplit("/", 1)[1]
        if "!/" not in uri:
            return Image.open(self.pictures / name).convert("RGB")
        with tarfile.open(self.pictures / "packed.tar.gz") as archive:
            return Image.open(io.BytesIO(archive.extractfile(name).read())).convert("RGB")

    def missing(self):
        return [id for id, row in self.rows.items() if row["uri"].endswith("/0.png")]


def same(one, other):
    assert one.size == other.size, (one.size, other.size)
    assert one.convert("RGB").tobytes() == other.tobytes()


def close(one, other):
    assert abs(one - other) < 1e-6, (one, other)


def of_datasets(world):
    import datasets

    datasets.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    os.environ["HF_HUB_OFFLINE"] = "1"

    def opened(path, *more, **options):
        return datasets.load_dataset(str(path), *more, cache_dir=str(world.folder / "cache"), **options)

    # Parquet with the pictures in it
    out, said = world.export("huggingface", "--column", "m")
    assert "pictures missing: 1" in said[1], said
    found = opened(out)
    assert sorted(found) == ["camera_7", "test", "train", "val"], found
    assert isinstance(found["train"].features["image"], datasets.Image)
    seen = 0
    for split, rows in found.items():
        for row in rows:
            known = world.rows[row["id"]]
            assert row["split"].replace(" ", "_") == split
            assert (row["uri"], row["label"], row["camera"]) == (known["uri"], known.get("label"), known["camera"])
            close(row["ood_score"], known["score"])
            assert 0 < row["pvalue"] <= 1 and isinstance(row["is_ood"], bool) and len(row["m"]) == 2
            assert len(row["neighbors"]) == 2 and row["neighbors"][0]["uri"] == world.rows[row["neighbors"][0]["id"]]["uri"]
            assert row["id"] not in [near["id"] for near in row["neighbors"]], "its own neighbour"
            if row["id"] in world.missing():
                assert row["image"] is None
            else:
                same(row["image"], world.pixels(row["uri"]))
            seen += 1
    assert seen == COUNT
    assert list(found["train"]["id"]) == sorted(found["train"]["id"])
    streamed = datasets.load_dataset(str(out), split="test", streaming=True)
    same(next(iter(streamed))["image"], world.pixels(next(iter(found["test"]))["uri"]))

    # the same, named where they are
    out, said = world.export("huggingface", "--files", "none")
    for row in opened(out)["test"]:
        if row["image"] is None:
            assert "!/" in row["uri"] or row["id"] in world.missing()
        else:
            same(row["image"], world.pixels(row["uri"]))

    # folders
    for more in ([], ["--files", "link"]):
        out, said = world.export("imagefolder", *more)
        found = opened(out)
        assert sorted(found) == ["camera_7", "test", "train", "val"], found
        rows = [row for split in found.values() for row in split]
        assert len(rows) == COUNT - 1, len(rows)
        for row in rows:
            known = world.rows[row["id"]]
            assert (row["uri"], row["label"]) == (known["uri"], known.get("label"))
            close(row["ood_score"], known["score"])
            same(row["image"], world.pixels(row["uri"]))
            assert "score_file_name_" in row and "score_file_name" not in row
    # as torchvision's ImageFolder looks: classes are folders, and every file is in one
    classes = {}
    for split in (path for path in out.iterdir() if path.is_dir()):
        for folder in (path for path in split.iterdir() if path.is_dir()):
            for file in folder.iterdir():
                classes[int(file.stem)] = urllib.parse.unquote(folder.name)
    for id, folder in classes.items():
        label = world.rows[id].get("label") or ""
        assert folder == label or (not label and folder == "unlabelled"), (folder, label)
    return f"{COUNT} rows in {len(SPLITS)} splits, pixels equal; streaming; --files none; imagefolder copied and linked"


def of_pycocotools(world):
    from pycocotools.coco import COCO

    out, said = world.export("coco")
    stdout, sys.stdout = sys.stdout, io.StringIO()
    try:
        coco = COCO(str(out / "annotations.json"))
    finally:
        sys.stdout = stdout
    assert "left out for want of a picture: 1" in said[1], said
    assert sorted(coco.getImgIds()) == sorted(set(world.rows) - set(world.missing()))
    names = {category["name"] for category in coco.loadCats(coco.getCatIds())}
    assert names == {label for label in LABELS if label}, names
    assert coco.getAnnIds() == []
    for image in coco.loadImgs(coco.getImgIds()):
        picture = Image.open(out / "images" / image["file_name"])
        assert (image["width"], image["height"]) == picture.size
        same(picture, world.pixels(image["uri"]))
        close(image["ood_score"], world.rows[image["id"]]["score"])
    return f"{COUNT - 1} images, {len(names)} categories, sizes and pixels equal"


def of_label_studio(world):
    from label_studio_sdk.label_interface import LabelInterface

    read = 0
    for more in ([], ["--files", "none"]):
        out, said = world.export("label-studio", *more)
        config = (out / "config.xml").read_text()
        assert config.strip() in said[1]
        interface = LabelInterface(config)
        interface.validate()
        root = next(line for line in said[1].splitlines() if "DOCUMENT_ROOT=" in line).split("DOCUMENT_ROOT=")[1]
        served = next(line for line in said[1].splitlines() if "with the path " in line).split("with the path ")[1]
        assert Path(served) != Path(root) and Path(served).is_relative_to(root)
        tasks = json.loads((out / "tasks-00000.json").read_text())
        ids = set()
        for task in tasks:
            data = task["data"]
            ids.add(data["id"])
            assert interface.validate_task({"data": data})
            for prediction in task["predictions"]:
                assert interface.validate_prediction(prediction, return_errors=True) == [], prediction
                close(prediction["score"], data["pvalue"])
                decision = prediction["result"][0]["value"]["choices"][0]
                assert decision == ("out of distribution" if data["is_ood"] else "in distribution")
            address = urllib.parse.urlsplit(data["image"])
            assert address.path == "/data/local-files/"
            below = urllib.parse.parse_qs(address.query, strict_parsing=True)["d"][0]
            path = (Path(root) / below).resolve()
            assert path.is_relative_to(Path(served).resolve()), (path, served)
            picture = Image.open(path)
            if not more:
                assert picture.format in ("PNG", "JPEG", "WEBP", "GIF", "BMP"), picture.format
            same(picture, world.pixels(data["uri"]))
            read += 1
        in_archives = {id for id, row in world.rows.items() if "!/" in row["uri"]} if more else set()
        assert ids == set(world.rows) - set(world.missing()) - in_archives
    return f"{read} tasks and their predictions valid for the configuration, their pictures under the printed folder"


def of_mlcroissant(world):
    import logging

    import mlcroissant

    out, said = world.export("huggingface", to="croissant")
    logging.disable(logging.WARNING)
    croissant = mlcroissant.Dataset(out / "croissant.json")
    issues = croissant.metadata.ctx.issues
    assert not issues.errors, issues.errors
    seen = 0
    for record_set in croissant.metadata.record_sets:
        for record in croissant.records(record_set.id):
            row = {key.split("/")[-1]: value for key, value in record.items()}
            known = world.rows[int(row["id"])]
            uri = row["uri"].decode() if isinstance(row["uri"], bytes) else row["uri"]
            assert uri == known["uri"]
            if int(row["id"]) not in world.missing():
                same(row["image"], world.pixels(uri))
            seen += 1
    assert seen == COUNT, seen
    warned = "; ".join(sorted(issues.warnings)) or "none"
    return f"no errors, {seen} records with their pictures; warnings: {warned}"


def of_fiftyone(world):
    from fiftyone.utils.csv import CSVDatasetImporter

    for more in ([], ["--files", "link"], ["--files", "none"]):
        out, said = world.export("fiftyone", *more)
        spec = importlib.util.spec_from_file_location("load", out / "load.py")
        load = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(load)
        importer = CSVDatasetImporter(dataset_dir=str(out), fields=dict(load.FIELDS))
        importer.setup()
        ids = set()
        for sample in importer:
            known = world.rows[sample["image_id"]]
            ids.add(sample["image_id"])
            assert (sample["uri"], sample["dataset_name"], sample["split"]) == (known["uri"], "drawn", known["split"])
            assert known.get("label", "") in ("", sample["label"] if known.get("label") else "")
            close(sample["ood_score"], known["score"])
            assert isinstance(sample["is_ood"], bool) and isinstance(sample["tags_"], str) and sample["tags"] == []
            assert [near["id"] for near in sample["neighbors"]]
            same(Image.open(sample.filepath), world.pixels(known["uri"]))
        in_archives = {id for id, row in world.rows.items() if "!/" in row["uri"]} if more == ["--files", "none"] else set()
        assert ids == set(world.rows) - set(world.missing()) - in_archives, ids
    try:
        dataset = load.load("outskirt-export")
    except Exception as error:  # its database is downloaded, or a service of its own
        return f"its parser reads every sample; its database cannot be had here ({str(error).splitlines()[0][:60]}…)"
    count = len(dataset)
    dataset.delete()
    return f"its parser reads every sample, and its database takes {count}"


TOOLS = {
    "datasets": of_datasets,
    "pycocotools": of_pycocotools,
    "label-studio-sdk": of_label_studio,
    "mlcroissant": of_mlcroissant,
    "fiftyone": of_fiftyone,
}


def main():
    program, *tools = sys.argv[1:]
    folder = Path(tempfile.mkdtemp())
    os.environ.update(HF_HOME=str(folder / "hf"), FIFTYONE_DATABASE_DIR=str(folder / "fiftyone"), FIFTYONE_DO_NOT_TRACK="true")
    try:
        world = World(program, folder)
        for tool in tools:
            from importlib.metadata import version

            print(f"export: {tool} {version(tool)}: {TOOLS[tool](world)}", flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
