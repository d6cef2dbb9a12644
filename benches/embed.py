#!/usr/bin/env python3
"""`outskirt ingest` beside PyTorch, on the same files, networks and cores, in turns: `make bench-embed`.

PyTorch: a DataLoader over the files, PIL, torchvision's transforms done with PIL, torch.inference_mode, at the best of
0 to 2 workers and two memory formats, found by trying. Outskirt's time is the whole ingest, rows written included. The
features of both are compared. Weights come from tests/goldens, pictures from OUTSKIRT_DATA or, where there are none,
from a seed. Files and Python packages are kept in the cache folder, as those of `make bench`.
"""

import argparse
import importlib.util
import itertools
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import run as bench  # noqa: E402

BEGIN, END = "<!-- bench-embed:begin -->", "<!-- bench-embed:end -->"
CACHE = bench.CACHE
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ALLOWED = 1e-3
FORMATS = ("contiguous", "channels_last")


class Case:
    def __init__(self, name, label, architecture, folder, pixels, shorter, batch, make):
        self.name, self.label, self.architecture, self.folder = name, label, architecture, folder
        self.pixels, self.shorter, self.batch, self.make = pixels, shorter, batch, make


def cases(goldens, pngs, jpegs):
    wide = [64, 128, 256, 512]
    return [
        Case("resnet20", "ResNet-20, 32-px PNG", "resnet20-cifar", pngs, 32, 0, 128,
             lambda: goldens.ResNet([16, 32, 64], [3] * 3, "pad", "linear", 10)),
        Case("resnet18", "ResNet-18 (CIFAR form), 32-px PNG", "resnet18-cifar", pngs, 32, 0, 64,
             lambda: goldens.ResNet(wide, [2] * 4, "shortcut", "linear", 10)),
        Case("densenet", "DenseNet-BC-100-12, 32-px PNG", "densenet-bc-100-12", pngs, 32, 0, 64,
             lambda: goldens.DenseNet()),
        Case("resnet50", "ResNet-50, 256–500-px JPEG", "resnet50", jpegs, 224, 256, 16,
             lambda: goldens.ResNet(wide, [3, 4, 6, 3], "downsample", "fc", 1000, stem="imagenet", bottleneck=True)),
    ]


def limited(files, count, folder):
    """A folder of links to the first files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for number, file in enumerate(files[:count]):
        (folder / f"{number:06}{file.suffix}").symlink_to(file)
    return folder


def pngs(data, count):
    folder = CACHE / "png32"
    if len(list(folder.glob("*.png"))) < count:
        folder.mkdir(parents=True, exist_ok=True)
        archive = data / "cifar10/test.tar.gz"
        if archive.exists():
            with tarfile.open(archive) as entries:
                for number, entry in enumerate(entry for entry in entries if entry.isfile()):
                    (folder / f"{number:06}.png").write_bytes(entries.extractfile(entry).read())
        else:
            for number in range(count):
                drawn(number, 32, 32).save(folder / f"{number:06}.png")
    return sorted(folder.glob("*.png"))


def jpegs(count):
    """Smooth shapes with some noise, so that a file has about the size of a photograph's."""
    folder = CACHE / "jpeg256-500"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        file = folder / f"{number:06}.jpg"
        if not file.exists():
            sides = (256 + number * 7919 % 245, 256 + number * 104729 % 245)
            drawn(number, *sides).save(file, quality=90)
    return sorted(folder.glob("*.jpg"))


def drawn(seed, width, height):
    import numpy
    from PIL import Image

    random = numpy.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (12, 12, 3), dtype=numpy.uint8)).resize((width, height), Image.BICUBIC)
    noise = random.normal(0, 8, (height, width, 3))
    return Image.fromarray((numpy.asarray(coarse) + noise).clip(0, 255).astype(numpy.uint8))


class Files:
    """What a DataLoader takes: decoded, resized as torchvision does on PIL pictures, normalised."""

    def __init__(self, files, case):
        self.files, self.pixels, self.shorter = files, case.pixels, case.shorter

    def __len__(self):
        return len(self.files)

    def __getitem__(self, at):
        import numpy
        import torch
        from PIL import Image

        with Image.open(self.files[at]) as opened:
            picture = opened.convert("RGB")
        if self.shorter:
            (w, h), side = picture.size, self.shorter
            size = (side, side * h // w) if w <= h else (side * w // h, side)
            picture = picture.resize(size, Image.BILINEAR)
            left, top = (round((s - self.pixels) / 2.0) for s in size)
            picture = picture.crop((left, top, left + self.pixels, top + self.pixels))
        elif picture.size != (self.pixels, self.pixels):
            picture = picture.resize((self.pixels, self.pixels), Image.BILINEAR)
        tensor = torch.from_numpy(numpy.array(picture)).permute(2, 0, 1).contiguous().float().div_(255)
        return tensor.sub_(torch.tensor(MEAN).view(3, 1, 1)).div_(torch.tensor(STD).view(3, 1, 1))


class Torch:
    def __init__(self, case, model, precision):
        import torch

        self.case, self.precision = case, precision
        self.model = {name: model for name in FORMATS}
        import copy
        self.model["channels_last"] = copy.deepcopy(model).to(memory_format=torch.channels_last)
        self.setting = None

    def run(self, files, setting):
        """Images per second, and the features."""
        import torch

        workers, memory = setting
        layout = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}[memory]
        start, out = time.perf_counter(), []
        loader = torch.utils.data.DataLoader(Files(files, self.case), batch_size=self.case.batch, num_workers=workers)
        half = self.precision == "bf16"
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            for batch in loader:
                out.append(self.model[memory].embed(batch.contiguous(memory_format=layout)).float())
        return len(files) / (time.perf_counter() - start), torch.cat(out).numpy()

    def choose(self, files):
        self.run(files[:2 * self.case.batch], (0, "contiguous"))
        rates = {setting: self.run(files, setting)[0] for setting in itertools.product((0, 1, 2), FORMATS)}
        self.setting = max(rates, key=rates.get)
        return rates


class Ours:
    def __init__(self, program, case, model, threads, precision):
        import torch

        self.program, self.threads, self.precision = program, threads, precision
        self.folder = CACHE / "embed" / case.name
        self.folder.mkdir(parents=True, exist_ok=True)
        weights, self.manifest = self.folder / "weights.pth", self.folder / "net.toml"
        torch.save(model.state_dict(), weights)
        self.manifest.unlink(missing_ok=True)
        size = ["--input-size", str(case.pixels), "--shorter-side", str(case.shorter)]
        channels = ["--mean", ",".join(map(str, MEAN)), "--std", ",".join(map(str, STD))]
        self.call("backbone", "add", weights, "--arch", case.architecture, "--name", "net", "--out", self.manifest,
                  *size, *channels)

    def call(self, *arguments):
        done = subprocess.run([self.program, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, cwd=self.folder)
        if done.returncode != 0:
            bench.stop(f"outskirt {arguments[0]}: {done.stderr.strip()}")
        return done.stdout, done.stderr

    def run(self, folder):
        """Images per second, and what the ingest says of its stages."""
        shutil.rmtree(self.folder / "ours.db", ignore_errors=True)
        extra = ["--precision", self.precision] if self.precision != "f32" else []
        out, notices = self.call("ingest", folder, "--db", "ours.db", "--dataset", "b", "--backbone", self.manifest,
                                 "--threads", self.threads, "--times", *extra)
        return float(re.search(r"([\d.]+) images/s", out)[1]), notices

    def features(self):
        import numpy

        rows, _ = self.call("sql", "SELECT net FROM images ORDER BY uri", "--db", "ours.db", "--format", "json")
        return numpy.array([json.loads(line)["net"] for line in rows.splitlines()], dtype=numpy.float32)


def measure(case, program, options, precision, goldens):
    import numpy

    count = options.jpegs if case.shorter else options.pngs
    if case.name in ("resnet18", "densenet"):
        count = min(count, options.pngs_wide)
    files = case.folder[:count]
    folder = limited(files, count, CACHE / "embed" / case.name / "files")
    model = goldens.fill(case.make())
    theirs, ours = Torch(case, model, precision), Ours(program, case, model, options.threads, precision)
    tried = theirs.choose(files[:max(count // 3, 2 * case.batch)])
    bench.say(f"{case.label}, {precision}: PyTorch tried (workers, memory format): "
              + ", ".join(f"{workers} {memory} {rate:.0f}/s" for (workers, memory), rate in tried.items()))
    rates = ([], [])
    for _ in range(options.rounds):
        rate, notices = ours.run(folder)
        rates[0].append(rate)
        time.sleep(bench.PAUSE)
        rate, expected = theirs.run(files, theirs.setting)
        rates[1].append(rate)
        bench.say(f"  ours {rates[0][-1]:.1f}, PyTorch {rates[1][-1]:.1f} images/s")
    found = ours.features()
    off = float((numpy.linalg.norm(found - expected, axis=1) / numpy.linalg.norm(expected, axis=1)).max())
    stages = next((line for line in notices.splitlines() if line.startswith("busy")), "")
    bench.say(f"  {stages}; features differ by at most {off:.1e}")
    if off > (ALLOWED if precision == "f32" else 0.1):
        bench.stop(f"{case.label}: features differ by {off:.1e}, relative to their norm")
    mine, peer = (statistics.median(each) for each in rates)
    pairs = [a / b for a, b in zip(*rates)]
    workers, memory = theirs.setting
    return [f"{case.label}, {precision}", f"{count:,}", bench.number(mine), bench.number(peer),
            f"{mine / peer:.2f} ({min(pairs):.2f}–{max(pairs):.2f})", f"{workers} workers, {memory}",
            stages.removeprefix("busy: "), f"{off:.0e}"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few images, printed, to see that it works")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--pngs", type=int, default=5000)
    parser.add_argument("--pngs-wide", type=int, default=1000, help="images for ResNet-18 and DenseNet")
    parser.add_argument("--jpegs", type=int, default=160)
    parser.add_argument("--only", default="", help="resnet20, resnet18, densenet or resnet50; printed, no file is written")
    parser.add_argument("--precision", default="f32,bf16")
    data = os.environ.get("OUTSKIRT_DATA") or HERE.parent.parent / "shared/data"
    parser.add_argument("--data", type=Path, default=data, help="real images (OUTSKIRT_DATA)")
    parser.add_argument("--program", type=Path, required=True, help="the program outskirt")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.pngs, options.pngs_wide, options.jpegs = 1, 600, 200, 24
    tools = bench.Tools(options.program, options.threads)
    tools.install({**bench.FEATURE_PACKAGES, "numpy": bench.PACKAGES["numpy"]})
    sys.path.insert(0, str(CACHE / "packages"))
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    load = os.getloadavg()[0]
    import torch

    torch.set_num_threads(options.threads)
    spec = importlib.util.spec_from_file_location("goldens", HERE.parent / "tests/goldens/generate.py")
    goldens = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(goldens)
    all_cases = cases(goldens, pngs(options.data, options.pngs), jpegs(options.jpegs))
    rows = [measure(case, options.program.resolve(), options, precision, goldens)
            for case in all_cases if options.only in case.name for precision in options.precision.split(",")]
    with open("/proc/cpuinfo") as source:
        model = next((line.split(":")[1].strip() for line in source if line.startswith("model name")), "?")
    text = "\n".join([
        BEGIN, "", f"- {model}; {options.threads} cores and threads on both sides; load of the machine before the run "
        f"{load:.1f}; PyTorch {torch.__version__}", f"- Medians of {options.rounds} rounds; in brackets the least and the "
        "largest ratio of a round", "",
        *bench.table(["network and files, precision", "images", "ours, images/s", "PyTorch, images/s", "ratio",
                      "PyTorch's best setting", "ours, busy seconds of all threads", "features differ"], rows), END])
    print(text)
    out = HERE.parent / "BENCHMARKS.md"
    if not (options.quick or options.only) and BEGIN in out.read_text():
        before, rest = out.read_text().split(BEGIN)
        out.write_text(before + text + rest.split(END)[1])
        bench.say(f"{out.name} is written")


if __name__ == "__main__":
    main()
