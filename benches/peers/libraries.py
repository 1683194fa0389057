"""Serves one library to the comparisons of searches.

    python3 libraries.py STORE FOLDER METRIC DIMS K

FOLDER has items.f32 and queries.f32 (rows of DIMS singles); FOLDER/STORE is the library's own. Says
{"ready": true}, then answers lines on standard input, each with one JSON object on a line:

    items                           reads the items
    build                           builds of them, and leaves files in FOLDER/STORE
    open load|map|map-at-random     opens them: by default, mapped, mapped without read-ahead
    warm KNOB                       searches for items for up to a second
    ask KNOB FIRST COUNT SECONDS    searches for queries: what each took, and the ids
    batch KNOB THREADS              searches for all queries in one call, on so many threads

src/search/serve.rs does the same for the stores that are written in Rust.
"""

import ctypes
import gc
import importlib.metadata
import json
import os
import statistics
import sys
import time

# Searches run on one thread; builds and batches ask for more where they run.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

try:
    import numpy as np
except ImportError as missing:
    sys.exit(print(json.dumps({"error": str(missing)})))

import in_memory
from in_memory import THREADS, doubling

# The graphs get the same parameters, where they can be set.
LINKS, CONSTRUCTION = 16, 200
# Searches to warm up: for so many items at most, spread evenly, for so many seconds.
WARM_UP, WARM_UP_S = 10_000, 1.0
# Calls whose times show what an empty one takes.
EMPTY_CALLS = 100
# Calls of a batch: so many at least, for so many seconds at least.
BATCH_CALLS, BATCH_S = 3, 1.0


class Hnswlib:
    def __init__(self, job):
        import hnswlib

        self.make = lambda: hnswlib.Index("l2" if job.metric == "euclidean" else "cosine", job.dims)
        self.params = f"hnswlib {importlib.metadata.version('hnswlib')}, M {LINKS}, ef_construction {CONSTRUCTION}"
        self.knob_name, self.knobs = "ef", [ef for ef in doubling(10, 1280) if int(ef) >= job.k]

    def build(self, items):
        self.index = self.make()
        self.index.init_index(len(items), M=LINKS, ef_construction=CONSTRUCTION, random_seed=1)
        self.index.add_items(items, num_threads=THREADS)

    def save(self, path):
        self.index.save_index(path)

    def load(self, path, is_mapped):
        not_mapped(is_mapped)
        self.index = self.make()
        self.index.load_index(path)

    def build_tiny(self, items):
        tiny = self.make()
        tiny.init_index(1)
        tiny.add_items(items[:1])
        return tiny

    def turn(self, knob):
        self.index.set_ef(int(knob))

    def prepare(self, queries, k):
        return [queries[i : i + 1] for i in range(len(queries))]

    def search(self, index, k):
        query_by = index.knn_query
        return lambda query: query_by(query, k=k, num_threads=1)

    def batch(self, queries, k, threads):
        return lambda: self.index.knn_query(queries, k=k, num_threads=threads)[0]

    def ids(self, answers):
        return [answer[0][0] for answer in answers]


class Usearch:
    def __init__(self, job, dtype):
        from usearch.index import Index

        self.make = lambda: Index(
            ndim=job.dims,
            metric="l2sq" if job.metric == "euclidean" else "cos",
            dtype=dtype,
            connectivity=LINKS,
            expansion_add=CONSTRUCTION,
        )
        version = importlib.metadata.version("usearch")
        self.params = f"usearch {version}, {dtype}, connectivity {LINKS}, expansion_add {CONSTRUCTION}"
        self.knob_name, self.knobs = "expansion", [ef for ef in doubling(10, 1280) if int(ef) >= job.k]

    def build(self, items):
        self.index = self.make()
        self.index.add(np.arange(len(items), dtype=np.uint64), items, threads=THREADS)

    def save(self, path):
        self.index.save(path)

    def load(self, path, is_mapped):
        self.index = self.make()
        if is_mapped:
            self.index.view(path)
        else:
            self.index.load(path)

    def build_tiny(self, items):
        tiny = self.make()
        tiny.add(np.arange(1, dtype=np.uint64), items[:1])
        return tiny

    def turn(self, knob):
        self.index.expansion_search = int(knob)

    def prepare(self, queries, k):
        return [queries[i : i + 1] for i in range(len(queries))]

    def search(self, index, k):
        # What Index.search() calls, without the objects that it wraps around it: they take longer
        # than a fast search.
        search_many = index._compiled.search_many
        return lambda query: search_many(query, count=k, exact=False, threads=1)

    def batch(self, queries, k, threads):
        def call():
            found = self.index.search(queries, k, threads=threads)
            return (keys[:count] for keys, count in zip(found.keys, found.counts))

        return call

    def ids(self, answers):
        return [keys[0][: counts[0]] for keys, _, counts, *_ in answers]


class Faiss:
    """An inverted file with a list for so many items, or a graph if that is 0."""

    FLAGS = 0

    def __init__(self, job, items_per_list):
        import faiss

        self.faiss, self.dims, self.is_ivf = faiss, job.dims, items_per_list > 0
        self.unit = job.metric == "cosine"
        self.metric = faiss.METRIC_INNER_PRODUCT if self.unit else faiss.METRIC_L2
        if self.is_ivf:
            lists = max(1, job.item_count // items_per_list)
            self.factory = f"IVF{lists},PQ{job.dims // 2}x4fs,RFlat"
            probes = [probe for probe in doubling(1, 512) if int(probe) <= lists]
            self.knob_name = "nprobe/k_factor"
            self.knobs = [f"{probe}/{factor}" for factor in (4, 10) for probe in probes]
            more = ""
        else:
            self.factory = f"HNSW{LINKS},Flat"
            self.knob_name, self.knobs = "efSearch", [ef for ef in doubling(10, 1280) if int(ef) >= job.k]
            more = f", efConstruction {CONSTRUCTION}"
        level = faiss.SIMDConfig.get_level_name() if hasattr(faiss, "SIMDConfig") else faiss.get_compile_options()
        self.params = f"faiss {importlib.metadata.version('faiss-cpu')} ({level}), {self.factory}{more}"

    def build(self, items):
        self.faiss.omp_set_num_threads(THREADS)
        self.index = self.faiss.index_factory(self.dims, self.factory, self.metric)
        if self.is_ivf:
            # No warning: there are as many items as there are.
            self.faiss.extract_index_ivf(self.index).cp.min_points_per_centroid = 1
            self.index.train(items)
        else:
            self.index.hnsw.efConstruction = CONSTRUCTION
        self.index.add(items)

    def save(self, path):
        self.faiss.write_index(self.index, path)

    def load(self, path, is_mapped):
        not_mapped(is_mapped and not self.FLAGS)
        self.index = self.faiss.read_index(path, self.FLAGS)
        if self.is_ivf:
            self.lists = self.faiss.extract_index_ivf(self.index)

    def build_tiny(self, items):
        tiny = self.faiss.IndexFlat(self.dims, self.metric) if self.is_ivf else self.faiss.IndexHNSWFlat(self.dims, 2)
        tiny.add(items[:1])
        return tiny

    def turn(self, knob):
        if not self.is_ivf:
            self.index.hnsw.efSearch = int(knob)
            return
        probes, factor = knob.split("/")
        self.lists.nprobe = int(probes)
        self.index.k_factor = float(factor)

    def prepare(self, queries, k):
        # Each row and the place of its answer, as pointers: what search() makes of its arrays at
        # every call.
        self.queries, pointer = queries, self.faiss.swig_ptr
        self.distances = np.empty((len(queries), k), dtype=np.float32)
        self.labels = np.empty((len(queries), k), dtype=np.int64)
        rows = range(len(queries))
        return [(pointer(queries[i]), pointer(self.distances[i]), pointer(self.labels[i]), i) for i in rows]

    def search(self, index, k):
        search = index.search_c
        self.faiss.omp_set_num_threads(1)

        def call(query):
            row, distances, labels, number = query
            search(1, row, k, distances, labels)
            return number

        return call

    def batch(self, queries, k, threads):
        self.faiss.omp_set_num_threads(threads)
        return lambda: self.index.search(queries, k)[1]

    def ids(self, answers):
        return [self.labels[number][self.labels[number] >= 0] for number in answers]


class FaissDisk(Faiss):
    """An inverted file whose lists, of whole vectors, lie in a file that is mapped."""

    def __init__(self, job, items_per_list):
        super().__init__(job, items_per_list)
        lists = max(1, job.item_count // items_per_list)
        self.params = self.params.replace(self.factory, f"IVF{lists},Flat, lists on disk")
        self.factory = f"IVF{lists},Flat"
        self.knob_name, self.knobs = "nprobe", [probe for probe in doubling(1, 512) if int(probe) <= lists]
        self.FLAGS = self.faiss.IO_FLAG_ONDISK_SAME_DIR | self.faiss.IO_FLAG_READ_ONLY

    def save(self, path):
        on_disk = self.faiss.OnDiskInvertedLists(self.index.nlist, self.index.code_size, path + ".lists")
        built = self.faiss.InvertedListsPtrVector()
        built.push_back(self.index.invlists)
        on_disk.merge_from_multiple(built.data(), built.size())
        self.index.replace_invlists(on_disk)
        super().save(path)

    def turn(self, knob):
        self.lists.nprobe = int(knob)


class Annoy:
    TREES = 100

    def __init__(self, job):
        import annoy

        self.make = lambda: annoy.AnnoyIndex(job.dims, "euclidean" if job.metric == "euclidean" else "angular")
        self.params = f"annoy {importlib.metadata.version('annoy')}, {self.TREES} trees"
        self.knob_name, self.knobs = "search_k", doubling(100, self.TREES * job.item_count)

    def build(self, items):
        self.index = self.make()
        self.index.set_seed(1)
        for number, item in enumerate(items):
            self.index.add_item(number, item.tolist())
        self.index.build(self.TREES, n_jobs=-1)

    def save(self, path):
        self.index.save(path)

    def load(self, path, is_mapped):
        # It always maps the file.
        self.index = self.make()
        self.index.load(path, prefault=False)

    def build_tiny(self, items):
        tiny = self.make()
        tiny.add_item(0, items[0])
        tiny.build(1)
        return tiny

    def turn(self, knob):
        self.search_k = int(knob)

    def prepare(self, queries, k):
        # It reads lists faster than arrays.
        return [query.tolist() for query in queries]

    def search(self, index, k):
        query_by, search_k = index.get_nns_by_vector, getattr(self, "search_k", -1)
        return lambda query: query_by(query, k, search_k)

    def batch(self, queries, k, threads):
        raise ValueError("it has no call for a batch of vectors")

    def ids(self, answers):
        return [np.array(answer, dtype=np.int64) for answer in answers]


STORES = {
    "hnswlib": Hnswlib,
    "usearch-f32": lambda job: Usearch(job, "f32"),
    "usearch-bf16": lambda job: Usearch(job, "bf16"),
    "faiss-ivf": lambda job: Faiss(job, 25),
    "faiss-ivf-few": lambda job: Faiss(job, 100),
    "faiss-hnsw": lambda job: Faiss(job, 0),
    "faiss-disk": lambda job: FaissDisk(job, 100),
    "annoy": Annoy,
    **in_memory.STORES,
}


class Job:
    def __init__(self, name, folder, metric, dims, k):
        self.metric, self.dims, self.k = metric, int(dims), int(k)
        # Mapped, so that the rows of the file do not count as the library's memory.
        self.items, self.queries = (
            np.memmap(os.path.join(folder, name), dtype="<f4", mode="r").reshape(-1, self.dims)
            for name in ("items.f32", "queries.f32")
        )
        self.item_count = len(self.items)
        self.folder = os.path.join(folder, name)
        self.path = os.path.join(self.folder, "index")
        self.store = STORES[name](self)

    def rows(self, rows):
        """A copy, of unit length where the library needs that."""
        rows = np.array(rows)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True) if getattr(self.store, "unit", False) else rows

    def read(self):
        self.read_items = self.rows(self.items)
        say(items=self.item_count)

    def build(self):
        os.makedirs(self.folder, exist_ok=True)
        start = time.perf_counter()
        self.store.build(self.read_items)
        build_s = time.perf_counter() - start
        self.store.save(self.path)
        say(params=self.store.params, build_s=build_s)

    def open(self, way):
        start = time.perf_counter()
        self.store.load(self.path, way != "load")
        if way == "map-at-random":
            advise_random(self.folder)
        open_ms = 1e3 * (time.perf_counter() - start)
        say(
            open_ms=open_ms,
            overhead_us=self.overhead_us,
            knob_name=self.store.knob_name,
            knobs=" ".join(self.store.knobs),
        )

    def measure_overhead(self):
        # A search for one item among one is a call and little else.
        call = self.store.search(self.store.build_tiny(self.rows(self.items[:1])), 1)
        prepared = self.store.prepare(self.rows(self.queries[:EMPTY_CALLS]), 1)
        times = [time for _ in range(20) for time in timed(call, prepared)[0]]
        self.overhead_us = statistics.median(times) / 1e3

    def warm(self, knob):
        self.store.turn(knob)
        call = self.store.search(self.store.index, self.k)
        others = self.rows(self.items[:: max(self.item_count // WARM_UP, 1)][:WARM_UP])
        timed(call, self.store.prepare(others, self.k), WARM_UP_S)
        say(warm=True)

    def ask(self, knob, first, count, seconds):
        self.store.turn(knob)
        call = self.store.search(self.store.index, self.k)
        queries = self.rows(self.queries[int(first) : int(first) + int(count)])
        prepared = self.store.prepare(queries, self.k)
        gc.disable()
        times, answers = timed(call, prepared, float(seconds))
        gc.enable()
        ids = (" ".join(map(str, answer)) for answer in self.store.ids(answers))
        say(us=" ".join(str(time / 1e3) for time in times), ids=",".join(ids))

    def batch(self, knob, threads):
        self.store.turn(knob)
        queries = self.rows(self.queries)
        call = self.store.batch(queries, self.k, int(threads))
        call()
        calls, start, busy = 0, time.perf_counter(), time.process_time()
        while calls < BATCH_CALLS or time.perf_counter() - start < BATCH_S:
            answers = call()
            calls += 1
        seconds, busy = time.perf_counter() - start, time.process_time() - busy
        # Where some find fewer, they put the largest number of their type, or -1.
        answers = (np.asarray(answer).astype(np.int64) for answer in answers)
        ids = (" ".join(map(str, answer[(answer >= 0) & (answer < self.item_count)])) for answer in answers)
        say(us=1e6 * seconds / (calls * len(queries)), busy=busy / seconds, ids=",".join(ids))


def not_mapped(is_mapped):
    if is_mapped:
        raise ValueError("it cannot search a file that is mapped")


def advise_random(folder):
    """Tells the system to read nothing ahead in the files of a folder that are mapped."""
    advise, random = ctypes.CDLL(None, use_errno=True).madvise, 1
    advise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    advised = 0
    with open("/proc/self/maps") as maps:
        for line in maps:
            if line.rstrip().rpartition(" ")[2].startswith(os.path.realpath(folder) + os.sep):
                start, end = (int(address, 16) for address in line.split()[0].split("-"))
                advised += advise(start, end - start, random) == 0
    if not advised:
        raise OSError("no file of the index is mapped")


def timed(call, queries, seconds=float("inf")):
    """Answers, and what each took in nanoseconds; none begins after so many seconds."""
    clock = time.perf_counter_ns
    times, answers = [], []
    end = clock() + seconds * 1e9
    for query in queries:
        start = clock()
        answer = call(query)
        now = clock()
        times.append(now - start)
        answers.append(answer)
        if now > end:
            break
    return times, answers


def say(**fields):
    print(json.dumps(fields), flush=True)


def main():
    job = Job(*sys.argv[1:])
    job.measure_overhead()
    say(ready=True)
    for line in sys.stdin:
        command, *words = line.split()
        calls = {"items": job.read, "build": job.build, "open": job.open, "warm": job.warm, "ask": job.ask}
        calls["batch"] = job.batch
        calls[command](*words)


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # whatever it is, the comparison goes on without this library
        say(error=f"{type(error).__name__}: {error}".replace('"', "'").replace("\n", " "))
