#!/usr/bin/env python3
"""Exact search beside faiss, on one machine, the same data, threads and run: `make bench`. Fills the table of BENCHMARKS.md.

Both sides are processes that hold the bank and answer one request at a time, in turns. Data, and Python packages that
this Python lacks, go to the cache folder (XDG_CACHE_HOME or ~/.cache, in outskirt-bench). Nothing but Python 3.11, pip
and cargo is needed.
"""

import argparse
import array
import datetime
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "outskirt-bench"
PACKAGES = {"numpy": "2.4.6", "faiss-cpu": "1.15.1", "threadpoolctl": "3.6.0"}
FEATURE_PACKAGES = {"torch": "2.11.0", "pillow": "13.0.0", "safetensors": "0.8.0"}
MAIN, SCALE = "bench", "bench-scale"  # what the markers in BENCHMARKS.md are called
LAYERS = ["row", "queries, or rows built", "Outskirt", "beside", "times as fast", "its products at the peak of 8-bit ones"]
K, SINGLE, RECHECKED = 50, 200, 100
ALLOWED = 1e-5  # between our k-th distances and f64's
# what a copy of OpenBLAS may be told that the processor is, by the flag that it takes (`/proc/cpuinfo`)
CORES = {"Sapphirerapids": "amx_tile", "Cooperlake": "avx512_bf16", "SkylakeX": "avx512f", "Zen": "avx2", "Haswell": "avx2"}
LEAST_SHARE = 60  # percent of the machine's peak in f32 that a flat index of many numbers must reach, or something is wrong with it
QUIET = {"load": 0.5, "stolen": 2.0, "spread": 1.5}  # programs, percent, and the largest round over the least: above, nothing is written
PAUSE = 0.05  # seconds, until the threads of the side that was just measured sleep


def say(message):
    print(f"bench: {message}", flush=True)


def stop(message):
    sys.exit(f"bench: {message}")


class Tools:
    """What the processes of a run share: the program, an environment, and how many threads."""

    def __init__(self, program, threads):
        self.program, self.threads = program, threads
        count = str(threads)
        self.environment = {**os.environ, "RAYON_NUM_THREADS": count, "OMP_NUM_THREADS": count,
                            "OPENBLAS_NUM_THREADS": count, "PYTHONPATH": str(CACHE / "packages")}

    def output(self, *command):
        return json.loads(subprocess.run(command, env=self.environment, stdout=subprocess.PIPE, check=True).stdout)

    def lacks(self, packages):
        ask = "import importlib.metadata as m, sys\n" \
              "for p in sys.argv[1:]:\n try: print(p, m.version(p))\n except m.PackageNotFoundError: pass"
        command = [sys.executable, "-c", ask, *packages]
        done = subprocess.run(command, env=self.environment, stdout=subprocess.PIPE, text=True)
        found = dict(line.split() for line in done.stdout.splitlines())
        return [name for name, version in packages.items() if found.get(name, "").split("+")[0] != version]

    def install(self, packages):
        if not self.lacks(packages):
            return
        wanted = [f"{name}=={version}" for name, version in packages.items()]
        say(f"installing {', '.join(wanted)} into the cache folder")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--upgrade"]
        done = subprocess.run([*command, "--target", str(CACHE / "packages"), *wanted])
        if done.returncode != 0:
            stop("pip could not install what the peers need: see the lines above")


    def choose_kernel(self):
        """Let the peers' BLAS take the processor for whichever of the fitting ones is fastest; the f32 peak that was seen."""
        flags = Path("/proc/cpuinfo").read_text().split("flags", 1)[-1].split("\n", 1)[0].split()
        tried = {}
        for core in [None, *(core for core, flag in CORES.items() if flag in flags)]:
            environment = {name: value for name, value in self.environment.items() if name != "OPENBLAS_CORETYPE"}
            environment |= {"OPENBLAS_CORETYPE": core} if core else {}
            command = [sys.executable, str(HERE / "peer.py"), "trial", str(self.threads)]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
            if done.returncode == 0:
                tried[core] = json.loads(done.stdout)
                taken = ", ".join(f"{package}: {kernel}" for package, kernel in tried[core]["kernels"].items())
                say(f"{f'OPENBLAS_CORETYPE={core}' if core else 'as they choose themselves'} ({taken}): "
                    f"faiss {tried[core]['queries_per_second']:.0f} queries/s, NumPy {tried[core]['sgemm_gflops']:.0f} GFLOPS")
        best = max(tried, key=lambda core: tried[core]["queries_per_second"])
        # a hair faster is no reason to overrule what it chose
        if None in tried and tried[best]["queries_per_second"] < 1.05 * tried[None]["queries_per_second"]:
            best = None
        if best:
            self.environment["OPENBLAS_CORETYPE"] = best
        else:
            self.environment.pop("OPENBLAS_CORETYPE", None)
        own = tried[best]["queries_per_second"] / tried[None]["queries_per_second"] if None in tried else None
        taken = ", ".join(f"{package} {kernel}" for package, kernel in tried[best]["kernels"].items())
        self.kernel = f"BLAS of the peers: {taken}" + (
            f" (OPENBLAS_CORETYPE={best}, by trial; {own:.1f} times what they choose themselves)" if best else ", as they choose themselves")
        return max(found["sgemm_gflops"] for found in tried.values())


class Quiet:
    """Whether nobody else uses the machine, from the start of a run to its end."""

    def __init__(self):
        self.load, self.start, self.spreads = os.getloadavg()[0], self.ticks(), []

    @staticmethod
    def ticks():
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(fields), fields[7]

    def rounds(self, label, rates):
        self.spreads.append((max(rates) / min(rates), label))

    def stolen(self):
        now = self.ticks()
        return 100 * (now[1] - self.start[1]) / max(now[0] - self.start[0], 1)

    def reasons(self):
        """Why its numbers are not worth a table."""
        spread, label = max(self.spreads, default=(1.0, ""))
        found = [
            (self.load > QUIET["load"], f"other programs used the processor before the run (load {self.load:.1f})"),
            (self.stolen() > QUIET["stolen"], f"{self.stolen():.1f} % of the processors' time went to other machines of this host"),
            (spread > QUIET["spread"], f"rounds of {label} differ by a factor of {spread:.1f}"),
        ]
        return [reason for is_so, reason in found if is_so]


class Side:
    """One process that holds a bank."""

    def __init__(self, tools, command):
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, env=tools.environment, stdin=pipe, stdout=pipe, text=True)
        self.ready = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            stop(f"a process ended early ({self.process.wait()})")
        return json.loads(line)

    def ask(self, *words):
        self.process.stdin.write("\t".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        reply = self.read()
        time.sleep(PAUSE)
        return reply

    def distances(self, scratch):
        self.ask("save", scratch)
        values = array.array("f")
        with open(scratch, "rb") as source:
            values.frombytes(source.read())
        return values

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def ours(tools, bank, k, path=0, form="memory"):
    return Side(tools, [tools.program, "serve", str(bank.file), str(bank.dimension), str(k), str(path), form])


def faiss(tools, bank, k, mode="flat"):
    numbers = map(str, (bank.dimension, k, tools.threads))
    return Side(tools, [sys.executable, str(HERE / "peer.py"), mode, str(bank.file), *numbers])


class Bank:
    """A file of unit vectors, and files of queries."""

    def __init__(self, label, file, rows, dimension, queries, single=None, within=None):
        self.label, self.file, self.rows, self.dimension = label, file, rows, dimension
        self.queries, self.single, self.within = queries, single, within


def drawn(tools, label, rows, dimension, clusters, sigma, queries):
    files = []
    for count, stream in ((rows, 1), (queries, 2)):
        file = CACHE / f"drawn-{count}x{dimension}-{clusters}-{sigma}-{stream}.f32"
        if not file.exists():
            part = Path(f"{file}.part")
            CACHE.mkdir(parents=True, exist_ok=True)
            subprocess.run([tools.program, "draw", part, *map(str, (count, dimension, clusters, sigma, 1, stream))],
                           env=tools.environment, check=True)
            part.rename(file)
        files.append(file)
    return Bank(label, files[0], rows, dimension, {"": files[1]}, single="")


def real(tools, model, label, data):
    """Features of real images; None where there are none."""
    folder = CACHE / model
    if not (folder / "shape.json").exists():
        if not (data / "cifar10").is_dir():
            say(f"no images at OUTSKIRT_DATA: {label} is skipped")
            return None
        tools.install(FEATURE_PACKAGES)
        say(f"computing features: {label} (once; DenseNet takes long)")
        subprocess.run([sys.executable, str(HERE / "features.py"), model, str(data), str(folder), str(tools.threads)],
                       env=tools.environment, check=True)
    shape = json.loads((folder / "shape.json").read_text())
    queries = {name: folder / f"{name}.f32" for name in ("mixed", "id", "ood")}
    rows, dimension = shape["rows"]["bank"], shape["dimension"]
    return Bank(label, folder / "bank.f32", rows, dimension, queries, single="mixed", within="mixed")


QUERIES = {"": "", "mixed": ", 90 % ID 10 % OOD", "id": ", ID only", "ood": ", OOD only"}


class Row:
    """The rounds of one piece of work: ours and the peer's."""

    def __init__(self, bank, queries, describe):
        self.bank, self.label = bank, bank.label + QUERIES[queries]
        found = re.search(r"(\d+) cells, head (\d+) of", describe)
        self.cells, self.head = (int(found[1]), int(found[2])) if found else (0, bank.dimension)
        self.ours, self.peer = [], []

    def rates(self, rounds):
        return [reply["queries"] / reply["seconds"] for reply in rounds]

    def rate(self, rounds):
        return statistics.median(self.rates(rounds))

    def ratio(self):
        pairs = [a / b for a, b in zip(self.rates(self.ours), self.rates(self.peer))]
        return f"{self.rate(self.ours) / self.rate(self.peer):.1f} ({min(pairs):.1f}–{max(pairs):.1f})"

    def per_query(self, what):
        return self.ours[-1][what] / self.ours[-1]["queries"]

    def skipped(self):
        return max(0.0, 100 * (1 - self.per_query("estimated") / self.bank.rows))  # panels are padded to sixteen rows

    def shares(self, peaks, int8):
        """Time that the products of centroids, of estimates, and of ranking would take at the peaks, in percent."""
        rate, d = self.rate(self.ours), self.bank.dimension
        f32 = peaks["sgemm"] * 1e9
        along = self.head * d if int8 and self.head < d else 0
        estimates = self.per_query("estimated") * 2 * (-(-self.head // 4) * 4 if int8 else d)
        per_query = (2 * (self.cells * d + along) / f32, estimates / ((peaks["int8"] if int8 else peaks["sgemm"]) * 1e9),
                     self.per_query("computed") * 2 * d / f32)
        return [100 * seconds * rate for seconds in per_query]

    def peer_share(self, peaks):
        return 100 * self.rate(self.peer) * 2 * self.bank.rows * self.bank.dimension / (peaks["sgemm"] * 1e9)

    def traffic(self):
        """Bytes that one query reads: ours, the peer's."""
        d = self.bank.dimension
        return (4 * d * self.cells + self.per_query("estimated") * self.head + 4 * d * self.per_query("computed"),
                4 * d * self.bank.rows)


class Report:
    def __init__(self, peaks, quiet):
        self.peaks, self.quiet = peaks, quiet
        self.batch, self.paths, self.single, self.within, self.large, self.layers, self.agreement = ([] for _ in range(7))


def largest(a, b):
    if len(a) != len(b):
        stop("the two sides give different numbers of distances")
    return max(abs(x - y) for x, y in zip(a, b))


def measure(tools, bank, names, rounds, report):
    say(f"{bank.label}: loading")
    paths = [ours(tools, bank, K, path) for path in range(len(names))]
    peer, scratch = faiss(tools, bank, K), CACHE / "distances.f32"
    us = paths[0]
    id_distances = None
    for name, file in bank.queries.items():
        main_queries = name == bank.single
        sides = paths if main_queries else paths[:1]
        for side in (*sides, peer):
            side.ask("queries", file)
        form = peer.ask("choose")
        tried = ", ".join(f"{how} {rate:.0f}" for how, rate in sorted(form["forms"].items(), key=lambda one: -one[1]))
        say(f"{bank.label}{QUERIES[name]}: faiss is asked as {form['how']} (queries/s: {tried})")
        for side in (*sides, peer):
            side.ask("batch")  # not measured: threads start, pages and caches fill
        row = Row(bank, name, us.ready["describe"])
        found = us.distances(scratch)
        if name == "id":
            id_distances = found
        recheck = us.ask("recheck", RECHECKED)["difference"]
        between = max([0.0, *(largest(found, side.distances(scratch)) for side in sides[1:])])
        report.agreement.append((row.label, largest(found, peer.distances(scratch)), recheck, between))
        if recheck > ALLOWED or between > ALLOWED:
            stop(f"{row.label}: k-th distances are off by {recheck:.1e} from f64's, {between:.1e} between our paths")
        others = [[] for _ in sides[1:]]
        for _ in range(rounds):
            row.ours.append(us.ask("batch"))
            row.peer.append(peer.ask("batch"))
            for side, replies in zip(sides[1:], others):
                if len(replies) < 3:
                    replies.append(side.ask("batch"))
        report.batch.append(row)
        report.quiet.rounds(f"{row.label} (ours)", row.rates(row.ours))
        report.quiet.rounds(f"{row.label} (faiss)", row.rates(row.peer))
        share = row.peer_share(report.peaks)
        if bank.dimension >= 342 and form["how"].startswith("flat") and share < LEAST_SHARE:
            stop(f"{row.label}: faiss reaches {share:.0f} % of the peak in f32 ({report.peaks['sgemm']:.0f} GFLOPS): its BLAS does not use this "
                 f"processor as it could, or somebody else does. {tools.kernel}")
        say(f"{row.label}: {row.rate(row.ours):.0f} and {row.rate(row.peer):.0f} queries/s, ratio {row.ratio()}")
        if main_queries:
            report.paths.append((names[0], row))
            for number, replies in enumerate(others, start=1):
                other = Row(bank, name, paths[number].ready["describe"])
                other.ours, other.peer = replies, row.peer
                report.paths.append((names[number], other))
            one = Row(bank, name, us.ready["describe"])
            for _ in range(rounds):
                one.ours.append(us.ask("single", SINGLE))
                one.peer.append(peer.ask("single", SINGLE))
            report.single.append(one)
            say(f"{row.label}, one at a time: {one.rate(one.ours):.0f} and {one.rate(one.peer):.0f} queries/s")
    if bank.within:
        cutoff = sorted(id_distances)[int(0.95 * len(id_distances))]
        early = Row(bank, bank.within, us.ready["describe"])
        for side in (us, peer):
            side.ask("queries", bank.queries[bank.within])
            side.ask("batch")
        for _ in range(rounds):
            early.ours.append(us.ask("within", cutoff))
            early.peer.append(peer.ask("within", cutoff))
        report.within.append(early)
        say(f"{early.label}, stopping early: {early.rate(early.ours):.0f} and {early.rate(early.peer):.0f} queries/s")
    for side in (*paths, peer):
        side.close()


def memory(what):
    with open("/proc/meminfo") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:"))


def measure_large(tools, options, report):
    """One side after the other: two banks of this size need not fit into memory."""
    rows, d, k = options.large_rows, options.large_dimension, min(1000, options.large_rows)
    size = 4 * rows * d
    need, have = int(1.1 * size) + (1 << 28), memory("MemAvailable")
    if need > have:
        stop(f"--large needs {need / 1e9:.0f} GB of memory, {have / 1e9:.0f} are free: scale it down with --large-rows")
    CACHE.mkdir(parents=True, exist_ok=True)
    label = f"{rows:,} × {d}, {options.large_clusters} clusters, σ = 1, k = {k}"
    if shutil.disk_usage(CACHE).free < 2.4 * size:
        stop(f"--large needs {2.4 * size / 1e9:.0f} GB in the cache folder")
    say(f"large: drawing {rows} vectors of {d} numbers")
    bank = drawn(tools, label, rows, d, options.large_clusters, 1.0, 1000)

    def measured(process):
        process.ask("queries", bank.queries[""])
        process.ask("batch")
        found = process.distances(CACHE / "distances.f32")
        replies = [process.ask("batch") for _ in range(options.large_rounds)]
        return found, replies, process.ask("memory")["peak_bytes"]

    peer = faiss(tools, bank, k, "large")
    theirs, peer_replies, peer_memory = measured(peer)
    peer.close()
    for form, name in (("file", "rows in a file"), ("memory", "all in memory")):
        if form == "memory" and 1.45 * size > have:
            say(f"{label}, {name}: skipped, it takes {1.45 * size / 1e9:.0f} GB of memory")
            continue
        process = ours(tools, bank, k, form=form)
        row = Row(bank, "", process.ready["describe"])
        row.label = f"{label}, {name}"
        found, row.ours, peak = measured(process)
        row.peer = peer_replies
        recheck = process.ask("recheck", 20)["difference"]
        process.close()
        report.large.append((row, (peak, peer_memory), size, (process.ready["seconds"], peer.ready["seconds"])))
        report.agreement.append((row.label, largest(found, theirs), recheck, 0.0))
        say(f"{row.label}: {row.rate(row.ours):.1f} and {row.rate(row.peer):.1f} queries/s, ratio {row.ratio()}")
        if recheck > ALLOWED:
            stop(f"{row.label}: k-th distances are off by {recheck:.1e} from f64's")
    bank.file.unlink()


def measure_layers(tools, bank, k, rounds, peaks, what="all", *limit):
    """SQL, streaming, refreshing and the graph beside what they stand on; one process does both sides. Rows of a table."""
    say(f"{bank.label}: Outskirt's layers, {what}")
    command = [tools.layers, what, bank.file, bank.queries[""], *map(str, (bank.dimension, k, rounds, *limit))]
    done = subprocess.run(command, env=tools.environment, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        stop("the layers could not be measured: see the lines above")
    rows = []
    for line in done.stdout.splitlines():
        found = json.loads(line)
        pairs = [b / a for a, b in zip(found["ours"], found["peer"])]
        ours_s, peer_s = statistics.median(found["ours"]), statistics.median(found["peer"])
        share = 2 * found["products"] / (peaks["int8"] * 1e9 * ours_s) if found["products"] and peaks["int8"] else None
        rows.append([found["row"], f"{found['queries']:,}", duration(ours_s), duration(peer_s),
                     f"{ratio(peer_s / ours_s)} ({ratio(min(pairs))}–{ratio(max(pairs))})",
                     f"{100 * share:.0f} % of the time" if share else ""])
        say(", ".join(rows[-1]))
    return rows


def measure_scale(tools, options, peaks):
    """What the layers do on banks that are large: each drawn, measured, and its file removed."""
    rows = []
    growing = (options.scale_rows, 512, 100, 0.5, max(1000, options.scale_rows // 100))
    streamed = (options.large_rows, options.large_dimension, options.large_clusters, 1.0, 1000)
    limit = options.scale_limit or min(2_000_000_000, 4 * options.large_rows * options.large_dimension // 4)
    for (count, d, clusters, sigma, queries), k, work in (
        (growing, K, ("growing",)), (streamed, min(1000, options.large_rows), ("streamed", limit)),
    ):
        if options.only not in work[0]:
            continue
        size = 4 * count * d
        need, have = 2.3 * size, memory("MemAvailable")
        if work[0] == "growing" and need > have:
            stop(f"--scale needs {need / 1e9:.0f} GB of memory, {have / 1e9:.0f} are free: scale it down with --scale-rows")
        if shutil.disk_usage(CACHE if CACHE.exists() else CACHE.parent).free < 3.5 * size:
            stop(f"--scale needs {3.5 * size / 1e9:.0f} GB in the cache folder")
        bank = drawn(tools, f"{count:,} × {d}, σ = {sigma:g}, k = {k}", count, d, clusters, sigma, queries)
        rows += [[bank.label, *row] for row in measure_layers(tools, bank, k, options.large_rounds, peaks, *work)]
        bank.file.unlink()
    return rows


def ratio(value):
    return f"{value:.2f}" if value < 10 else number(value)


def duration(seconds):
    return f"{1e3 * seconds:,.0f} ms" if seconds < 10 else f"{seconds:,.0f} s"


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    return lines + ["| " + " | ".join(cells) + " |" for cells in rows] + [""]


def machine(tools, peaks, versions, quiet):
    with open("/proc/cpuinfo") as source:
        lines = source.read().splitlines()
    field = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in reversed(lines))}
    flags = field.get("flags", "").split()
    has = ", ".join(f"{name} {'yes' if flag in flags else 'no'}" for name, flag in
                    (("AVX2", "avx2"), ("AVX-512", "avx512f"), ("VNNI", "avx512_vnni"), ("AMX int8", "amx_int8")))
    system = dict(line.split("=", 1) for line in Path("/etc/os-release").read_text().splitlines() if "=" in line)
    model = ", ".join((field.get("model name", platform.machine()),
                       f"family {field.get('cpu family', '?')} model {field.get('model', '?')}, microcode {field.get('microcode', '?')}"))
    int8 = f"{number(peaks['int8'])} GOPS of 8-bit products" if peaks["int8"] else "no 8-bit products"
    rust = subprocess.run(["rustc", "--version"], stdout=subprocess.PIPE, text=True).stdout.split()[1:2]
    return [
        f"- {datetime.date.today()}; {model}; {len(os.sched_getaffinity(0))} cores; {has}; "
        f"{memory('MemTotal') / 2**30:.0f} GiB of memory; {system.get('PRETTY_NAME', 'Linux').strip(chr(34))}",
        f"- {tools.threads} threads on both sides; load of the machine before the run {quiet.load:.1f}, {quiet.stolen():.1f} % of its time stolen meanwhile; "
        f"Rust {' '.join(rust)}, cargo's profile {tools.profile}; faiss-cpu {versions['faiss']} ({' '.join(versions['faiss_options'])}); "
        f"NumPy {versions['numpy']}; Python {platform.python_version()}",
        f"- {tools.kernel}",
        f"- Peaks in the same run: {number(peaks['sgemm'])} GFLOPS of f32 matrix product (NumPy), {int8}, "
        f"{peaks['memory']:.1f} GB/s from memory",
        "",
    ]


def in_int8(path):
    """Whether this path estimates in 8 bits."""
    return re.search("int8|vnni|amx", path.lower()) is not None


def rates(row):
    return [row.label, number(row.rate(row.ours)), number(row.rate(row.peer)), row.ratio()]


def render(tools, report, peaks, versions, rounds, names, quiet):
    int8 = in_int8(names[0]) and peaks["int8"] is not None
    shares = f"of our time at the peaks: cells, {'int8' if int8 else 'f32'} estimates, ranking"
    heads = ["bank and queries", "ours, queries/s", "faiss, queries/s", "ratio"]
    out = machine(tools, peaks, versions, quiet)
    out += [f"Medians of {rounds} rounds; in brackets the least and the largest ratio of a round.", ""]

    def bounds(row):
        return [", ".join(f"{share:.0f} %" for share in row.shares(peaks, int8)), f"{row.peer_share(peaks):.0f} %"]

    def section(title, heads, cells):
        if cells:
            out.extend([f"### {title}", "", *table(heads, cells)])

    section(f"All queries at once, k = {K}",
            [*heads, "faiss, asked as", "rows not estimated", "rows ranked per query", shares, "faiss, of the peak"],
            [[*rates(row), row.peer[-1]["how"], f"{row.skipped():.0f} %", number(row.per_query("computed")), *bounds(row)]
             for row in report.batch])
    section(f"Each path of this processor, k = {K}",
            ["bank and queries", "path", "queries/s", "times faiss", "layout", "rows not estimated",
             "estimates, of their peak"],
            [[row.label, name, number(row.rate(row.ours)), f"{row.rate(row.ours) / row.rate(row.peer):.1f}",
              f"{row.cells} cells, " + (f"head {row.head} of {row.bank.dimension}" if in_int8(name) else "no codes"),
              f"{row.skipped():.0f} %", f"{row.shares(peaks, in_int8(name))[1]:.0f} %"] for name, row in report.paths])
    cells = []
    for row in report.single:
        mine, theirs = (f"{rate * size / 1e9:.1f} GB/s" for rate, size in
                        zip((row.rate(row.ours), row.rate(row.peer)), row.traffic()))
        cells.append([*rates(row), f"{1e6 / row.rate(row.ours):,.0f} µs", mine, f"{theirs}, {row.peer[-1]['how']}"])
    section(f"One query at a time, k = {K}, {SINGLE} queries",
            ["bank and queries", "ours, queries/s", "the best peer, queries/s", "ratio", "ours, one query", "ours reads", "the peer reads"],
            cells)
    section(f"Is it OOD? The threshold of 95 % of the ID queries, k = {K}",
            ["bank and queries", "ours (`within`), queries/s", "faiss, queries/s", "ratio", "faiss, asked as",
             "rows not estimated"], [[*rates(row), row.peer[-1]["how"], f"{row.skipped():.0f} %"] for row in report.within])
    section("Large",
            [*heads, "head", "rows not estimated", "most memory, of the f32 data: ours, faiss",
             "time to lay out, and to load into faiss", shares, "faiss, of its peak"],
            [[*rates(row), f"{row.head} of {row.bank.dimension}", f"{row.skipped():.0f} %",
              ", ".join(f"{most / size:.2f}" for most in peak), " and ".join(f"{s:.0f} s" for s in seconds), *bounds(row)]
             for row, peak, size, seconds in report.large])
    section(f"Outskirt's layers, 50,000 × 512, 100 clusters, σ = 0.5, k = {K}" if rounds > 2 else "Outskirt's layers",
            LAYERS, report.layers)
    section("Do they agree? Largest differences of k-th distances",
            ["bank and queries", "to faiss", f"to f64 ({RECHECKED} queries; large: 20)", "between our paths"],
            [[label, *(f"{value:.1e}" if value else "0" for value in differences)]
             for label, *differences in report.agreement])
    return "\n".join(out)


def write(out, text, marker):
    """Put the text between its two markers."""
    begin, end = f"<!-- {marker}:begin -->", f"<!-- {marker}:end -->"
    before, after = "# Benchmarks\n\n", "\n"
    if out.exists():
        parts = re.split(f"{begin}.*?{end}", out.read_text(), flags=re.DOTALL)
        if len(parts) != 2:
            stop(f"{out.name} should hold {begin} and {end} once")
        before, after = parts
    out.write_text(f"{before}{begin}\n\n{text}\n{end}{after}")


def build(package, bench, profile):
    """Build a bench program and say where it is."""
    command = [os.environ.get("CARGO", "cargo"), "bench", "--locked", "--profile", profile, "--package", package,
               "--bench", bench, "--no-run", "--message-format", "json-render-diagnostics"]
    done = subprocess.run(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        stop("the bench program does not build: see the lines above")
    messages = map(json.loads, done.stdout.splitlines())
    programs = [m["executable"] for m in messages if m.get("target", {}).get("name") == bench and m.get("executable")]
    return programs[-1]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke run in seconds: prints its table and writes no file")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    data = os.environ.get("OUTSKIRT_DATA") or HERE.parent.parent / "shared/data"
    parser.add_argument("--data", type=Path, default=data, help="real images (OUTSKIRT_DATA)")
    parser.add_argument("--only", default="", help="only banks whose name holds this (with --scale: growing or streamed); prints and writes no file without --out")
    parser.add_argument("--out", type=Path, help="the file with the two markers (BENCHMARKS.md)")
    parser.add_argument("--program", help="a bench program that is built already")
    parser.add_argument("--profile", default="dev", help="cargo's: with release planners and table formats are optimised too, and the build takes most of an hour on two cores")
    parser.add_argument("--large", action="store_true", help="the large bank too: 12 GB of memory (with 16 all of it in memory as well), 25 GB in the cache folder")
    parser.add_argument("--large-rows", type=int, default=1_281_167)
    parser.add_argument("--large-dimension", type=int, default=2048)
    parser.add_argument("--large-clusters", type=int, default=1000)
    parser.add_argument("--large-rounds", type=int, default=3)
    parser.add_argument("--scale", action="store_true", help="nothing else than a bank that grows and one that is streamed, both large: 37 GB in the cache folder")
    parser.add_argument("--scale-rows", type=int, default=1_000_000, help="rows of the bank that grows, of 512 numbers")
    parser.add_argument("--scale-limit", type=int, help="bytes of memory for the streamed bank, of --large-rows (2 GB, or a quarter of it)")
    options = parser.parse_args()
    if options.quick:
        options.rounds = 2
    start, quiet = time.time(), Quiet()  # before the build
    tools = Tools(options.program or build("outskirt-exact", "exact", options.profile), options.threads)
    tools.profile = options.profile
    tools.layers = build("outskirt", "layers", options.profile) if options.scale or not options.only else None
    tools.install(PACKAGES)
    names = tools.output(tools.program, "paths")
    say("measuring what the machine can do")
    rust = tools.output(tools.program, "peaks")
    quiet.start = quiet.ticks()
    sgemm = tools.choose_kernel()
    versions = tools.output(sys.executable, str(HERE / "peer.py"), "peaks")
    peaks = {"sgemm": max(sgemm, versions["sgemm_gflops"]), "int8": rust["int8_gops"], "memory": rust["memory_gbytes"]}

    if options.quick:
        makers = [lambda: drawn(tools, "5,000 × 128, 100 clusters, σ = 0.5", 5000, 128, 100, 0.5, 500)]
    else:
        makers = [
            lambda: drawn(tools, "50,000 × 512, 100 clusters, σ = 0.5", 50_000, 512, 100, 0.5, 10_000),
            lambda: drawn(tools, "50,000 × 512, 100 clusters, σ = 1", 50_000, 512, 100, 1.0, 10_000),
            lambda: drawn(tools, "50,000 × 512, no structure", 50_000, 512, 0, 1.0, 4000),
            lambda: real(tools, "resnet20", "CIFAR-10, ResNet-20, 50,000 × 64", options.data),
            lambda: real(tools, "densenet", "CIFAR-10, DenseNet, 50,000 × 342", options.data),
        ]
    labels = ["5,000", "σ = 0.5", "σ = 1", "no structure", "ResNet-20", "DenseNet"][0 if options.quick else 1:]
    report, marker = Report(peaks, quiet), MAIN
    if options.scale:
        marker = SCALE
        head = machine(tools, peaks, versions, quiet)
        text = "\n".join([*head, *table(["bank", *LAYERS], measure_scale(tools, options, peaks))])
    else:
        for label, make in zip(labels, makers):
            if options.only.lower() in label.lower():
                bank = make()
                if bank:
                    measure(tools, bank, names, options.rounds, report)
                    if tools.layers and not report.layers:
                        report.layers = measure_layers(tools, bank, K, options.rounds, peaks)
        if options.large:
            measure_large(tools, options, report)
        text = render(tools, report, peaks, versions, options.rounds, names, quiet)
    out = options.out or (None if options.quick or options.only else HERE.parent / "BENCHMARKS.md")
    reasons = [] if options.quick else quiet.reasons()
    if out and reasons:
        print(text)
        stop(f"{out.name} is not written, as the machine was not quiet: {'; '.join(reasons)}")
    if out:
        write(out, text, marker)
        say(f"{out.name} is written")
    else:
        print(text)
        for reason in reasons:
            say(f"not for a table: {reason}")
    say(f"done in {(time.time() - start) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
