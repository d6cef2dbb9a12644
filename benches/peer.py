"""faiss behind the same commands as the Rust side (exact/serve.rs): lines with tabs in, lines of JSON out."""

import json
import sys
import time

import faiss
import numpy as np


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

    def single(self, count):
        queries = [self.queries[i:i + 1] for i in range(min(count, len(self.queries)))]
        best = None
        for how, index in (("flat", self.index), ("in parts", self.parts)):
            if index is None:
                continue
            for query in queries[:5]:
                self.distances(index, query)
            reply, _ = self.timed(len(queries), lambda: [self.distances(index, query) for query in queries])
            if best is None or reply["seconds"] < best["seconds"]:
                best = {**reply, "how": how}
        return best

    def answer(self, command, *words):
        if command == "queries":
            self.queries = matrix(words[0], self.dimension)
            return {"queries": len(self.queries)}
        if command == "batch":
            reply, self.found = self.timed(len(self.queries), lambda: self.distances(self.index, self.queries))
            return reply
        if command == "single":
            return self.single(int(words[0]))
        if command == "within":  # no search with a cutoff stops at k rows: search, then compare
            cutoff = np.float32(words[0])
            return self.timed(len(self.queries), lambda: self.distances(self.index, self.queries) <= cutoff)[0]
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
                 "faiss_options": faiss.get_compile_options().split()}
        print(json.dumps(reply), flush=True)
        return
    path, dimension, k, threads = words
    flat = Flat(path, int(dimension), int(k), int(threads), mode == "large")
    print(json.dumps({"seconds": flat.seconds, "rows": flat.index.ntotal}), flush=True)
    for line in sys.stdin:
        print(json.dumps(flat.answer(*line.rstrip("\n").split("\t"))), flush=True)


if __name__ == "__main__":
    main()
