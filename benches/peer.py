"""faiss and NumPy behind the same commands as the Rust side (exact/serve.rs): lines with tabs in, lines of JSON out.

Each is given the best of its forms, by trial on the queries that are measured: a peer's users would choose it too.
"""

import itertools
import json
import sys
import time

import faiss
import numpy as np
import threadpoolctl

# queries on which forms are tried
TRIED = 2000


def peak_memory():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))


def matrix(path, dimension):
    return np.fromfile(path, dtype="<f4").reshape(-1, dimension)


def sgemm():
    """GFLOPS of NumPy's matrix product in f32, the best of five."""
    side = 4096
    a, b = np.ones((side, side), np.float32), np.ones((side, side), np.float32)
    out = np.empty((side, side), np.float32)
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        np.matmul(a, b, out=out)
        seconds.append(time.perf_counter() - start)
    return 2 * side**3 / min(seconds[1:]) / 1e9


def kernels():
    """What each copy of BLAS in this process took the processor for."""
    found = {}
    for pool in threadpoolctl.threadpool_info():
        if "architecture" in pool:
            package = next((part.removesuffix(".libs") for part in pool["filepath"].split("/") if part.endswith(".libs")), pool["prefix"])
            found[package] = pool["architecture"]
    return found


def trial(threads):
    """Queries a second of a flat index without structure, in one go: bound by faiss's own copy of BLAS. The best of three."""
    faiss.omp_set_num_threads(threads)
    random = np.random.default_rng(0)
    index = faiss.IndexFlatL2(512)
    index.add(random.standard_normal((20_000, 512), dtype=np.float32))
    queries = random.standard_normal((2048, 512), dtype=np.float32)
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        index.search(queries, 1)
        seconds.append(time.perf_counter() - start)
    return {"queries_per_second": len(queries) / min(seconds[1:]), "kernels": kernels(), "sgemm_gflops": sgemm()}


# what faiss lets its users set of a flat index: at which k it keeps candidates in a reservoir rather than a heap, and how many queries and
# rows one product of matrices has
RESERVOIRS, ROWS, QUERIES = (100, 1), (1024, 4096), (4096, 1024)


def set_form(reservoir, rows, queries):
    faiss.cvar.distance_compute_min_k_reservoir = reservoir
    faiss.cvar.distance_compute_blas_database_bs = rows
    faiss.cvar.distance_compute_blas_query_bs = queries


class Flat:
    def __init__(self, path, dimension, k, threads, large):
        self.dimension, self.k = dimension, k
        faiss.omp_set_num_threads(threads)
        start = time.perf_counter()
        self.index = faiss.IndexFlatL2(dimension)
        if large:  # read straight into the index: add() would hold the rows twice
            with open(path, "rb") as source:
                size = source.seek(0, 2)
                source.seek(0)
                self.index.codes.resize(size)
                source.readinto(faiss.rev_swig_ptr(self.index.codes.data(), size))
                self.index.ntotal = size // (4 * dimension)
        else:
            self.index.add(matrix(path, dimension))
        self.seconds = time.perf_counter() - start
        self.large, self.batch, self.how = large, self.index, "flat"
        # one query uses one thread of a flat index; parts of the bank, one per thread, use them all
        self.parts = None
        if threads > 1 and not large:
            self.parts = faiss.IndexShards(dimension, True, True)
            self.kept = [faiss.IndexFlatL2(dimension) for _ in range(threads)]
            for part, rows in zip(self.kept, np.array_split(matrix(path, dimension), threads)):
                part.add(rows)
                self.parts.add_shard(part)

    def distances(self, index, queries):
        squares = index.search(queries, self.k)[0][:, -1]
        return np.sqrt(np.maximum(squares, 0))

    def timed(self, queries, search):
        start = time.perf_counter()
        found = search()
        return {"seconds": time.perf_counter() - start, "queries": queries}, found

    def choose(self):
        """The best form for many queries at once, by trial on some of them."""
        queries = self.queries[:TRIED]
        forms = []
        for reservoir, rows, at_once in itertools.product(RESERVOIRS, ROWS, QUERIES):
            name = f"flat, {'reservoir' if self.k >= reservoir else 'heap'}, {at_once} × {rows}"
            if all(name != known for _, known, _, _ in forms):
                set_form(reservoir, rows, at_once)
                forms.append((self.best_of(2, self.index, queries), name, self.index, (reservoir, rows, at_once)))
        if not self.large:
            forms += [(self.best_of(2, index, queries), name, index, (100, 1024, 4096)) for name, index in self.panoramas()]
        _, self.how, self.batch, form = min(forms, key=lambda form: form[0])
        set_form(*form)
        return {"how": self.how, "forms": {name: len(queries) / seconds for seconds, name, _, _ in forms}}

    def panoramas(self):
        """faiss's index that leaves rows out by the first numbers of a vector: as it is, and along principal directions."""
        if not hasattr(faiss, "IndexFlatL2Panorama"):
            return
        rows = faiss.rev_swig_ptr(self.index.get_xb(), self.index.ntotal * self.dimension).reshape(-1, self.dimension)
        levels = max(1, self.dimension // 64)
        plain = faiss.IndexFlatL2Panorama(self.dimension, levels)
        plain.add(rows)
        yield f"Panorama, {levels} levels", plain
        turned = faiss.IndexPreTransform(faiss.PCAMatrix(self.dimension, self.dimension), faiss.IndexFlatL2Panorama(self.dimension, levels))
        turned.train(rows)
        turned.add(rows)
        yield f"Panorama along principal directions, {levels} levels", turned

    def best_of(self, times, index, queries):
        return min(self.timed(len(queries), lambda: self.distances(index, queries))[0]["seconds"] for _ in range(times))

    def by_product(self, query):
        """The k-th distance as NumPy's users find it: rows are of norm one."""
        squares = np.float32(2) - np.float32(2) * (self.rows @ query[0])
        return np.sqrt(max(np.partition(squares, self.k - 1)[self.k - 1], 0))

    def single(self, count):
        queries = [self.queries[i:i + 1] for i in range(min(count, len(self.queries)))]
        self.rows = faiss.rev_swig_ptr(self.index.get_xb(), self.index.ntotal * self.dimension).reshape(-1, self.dimension)
        ways = [("flat", lambda query: self.distances(self.index, query)), ("NumPy", self.by_product)]
        if self.parts is not None:
            ways.append(("in parts", lambda query: self.distances(self.parts, query)))
        best = None
        for how, find in ways:
            for query in queries[:5]:
                find(query)
            reply, _ = self.timed(len(queries), lambda: [find(query) for query in queries])
            if best is None or reply["seconds"] < best["seconds"]:
                best = {**reply, "how": how}
        return best

    def within(self, cutoff):
        """Whether k rows are within a distance: a search for k of them, or all rows within it counted."""
        search = self.timed(len(self.queries), lambda: self.distances(self.batch, self.queries) <= cutoff)[0]
        square = float(cutoff) ** 2
        counted = self.timed(len(self.queries), lambda: np.diff(self.index.range_search(self.queries, square)[0].astype(np.int64)) >= self.k)[0]
        return min({**search, "how": "search, compare"}, {**counted, "how": "range_search"}, key=lambda reply: reply["seconds"])

    def answer(self, command, *words):
        if command == "queries":
            self.queries = matrix(words[0], self.dimension)
            return {"queries": len(self.queries)}
        if command == "choose":
            return self.choose()
        if command == "batch":
            reply, self.found = self.timed(len(self.queries), lambda: self.distances(self.batch, self.queries))
            return {**reply, "how": self.how}
        if command == "single":
            return self.single(int(words[0]))
        if command == "within":
            return self.within(np.float32(words[0]))
        if command == "save":
            self.found.astype("<f4").tofile(words[0])
            return {}
        if command == "memory":
            return {"peak_bytes": peak_memory()}
        sys.exit(f"no such command: {command}")


def main():
    mode, *words = sys.argv[1:]
    if mode == "peaks":
        reply = {"sgemm_gflops": sgemm(), "numpy": np.__version__, "faiss": faiss.__version__,
                 "faiss_options": faiss.get_compile_options().split(), "kernels": kernels()}
        print(json.dumps(reply), flush=True)
        return
    if mode == "trial":
        print(json.dumps(trial(int(words[0]))), flush=True)
        return
    path, dimension, k, threads = words
    flat = Flat(path, int(dimension), int(k), int(threads), mode == "large")
    print(json.dumps({"seconds": flat.seconds, "rows": flat.index.ntotal}), flush=True)
    for line in sys.stdin:
        print(json.dumps(flat.answer(*line.rstrip("\n").split("\t"))), flush=True)


if __name__ == "__main__":
    main()
