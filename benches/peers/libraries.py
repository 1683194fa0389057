"""Serves one library to the search comparison.

Builds its index, then answers all queries, a pass at a time.

    python3 libraries.py STORE FOLDER METRIC DIMS K

FOLDER has items.f32 and queries.f32 (rows of DIMS singles), and limits.f64 (for each query the
largest distance that counts as right). Says {"ready": true}. At the line "build" on standard input
it builds, and says what came of it. It takes any other line for a knob setting, makes one pass over
the queries with it, and says recall and times. One JSON object a line. src/search/serve.rs does the
same for the stores that are written in Rust.
"""

import ctypes
import gc
import importlib.metadata
import json
import os
import statistics
import sys
import time

# Searches run on one thread; builds ask for more where they run.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

try:
    import numpy as np
except ImportError as missing:
    sys.exit(print(json.dumps({"error": str(missing)})))

THREADS = os.cpu_count() or 1
# The graphs get the same parameters, where they can be set.
LINKS, CONSTRUCTION = 16, 200
# What comes before the clock starts, at each pass: searches for so many items at most, spread
# evenly, for so many seconds.
WARM_UP, WARM_UP_S = 10_000, 1.0
# Calls whose times show what an empty one takes.
EMPTY_CALLS = 100


def doubling(first, last):
    knobs = []
    while first <= last:
        knobs.append(str(first))
        first *= 2
    return knobs


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

    def ids(self, answers):
        return [keys[0][: counts[0]] for keys, _, counts, *_ in answers]


class Faiss:
    """An inverted file with a list for so many items, or a graph if that is 0."""

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
        faiss.omp_set_num_threads(1)

    def build(self, items):
        self.faiss.omp_set_num_threads(THREADS)
        self.index = self.faiss.index_factory(self.dims, self.factory, self.metric)
        if self.is_ivf:
            self.lists = self.faiss.extract_index_ivf(self.index)
            # No warning: there are as many items as there are.
            self.lists.cp.min_points_per_centroid = 1
            self.index.train(items)
        else:
            self.index.hnsw.efConstruction = CONSTRUCTION
        self.index.add(items)
        self.faiss.omp_set_num_threads(1)

    def save(self, path):
        self.faiss.write_index(self.index, path)

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

        def call(query):
            row, distances, labels, number = query
            search(1, row, k, distances, labels)
            return number

        return call

    def ids(self, answers):
        return [self.labels[number][self.labels[number] >= 0] for number in answers]


class Annoy:
    TREES = 100

    def __init__(self, job):
        import annoy

        self.make = lambda: annoy.AnnoyIndex(job.dims, "euclidean" if job.metric == "euclidean" else "angular")
        self.params = f"annoy {importlib.metadata.version('annoy')}, {self.TREES} trees"
        self.path = os.path.join(job.folder, "annoy.index")
        self.knob_name, self.knobs = "search_k", doubling(100, self.TREES * job.item_count)

    def build(self, items):
        self.index = self.make()
        self.index.set_seed(1)
        for number, item in enumerate(items):
            self.index.add_item(number, item.tolist())
        self.index.build(self.TREES, n_jobs=-1)

    def save(self, path):
        # From here on it searches the file, which it maps.
        self.index.save(path)

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

    def ids(self, answers):
        return [np.array(answer, dtype=np.int64) for answer in answers]


STORES = {
    "hnswlib": Hnswlib,
    "usearch-f32": lambda job: Usearch(job, "f32"),
    "usearch-bf16": lambda job: Usearch(job, "bf16"),
    "faiss-ivf": lambda job: Faiss(job, 25),
    "faiss-ivf-few": lambda job: Faiss(job, 100),
    "faiss-hnsw": lambda job: Faiss(job, 0),
    "annoy": Annoy,
}


class Job:
    def __init__(self, folder, metric, dims, k):
        self.folder, self.metric, self.dims, self.k = folder, metric, int(dims), int(k)
        self.items = self.rows("items.f32")
        self.queries = np.array(self.rows("queries.f32"))
        self.limits = np.fromfile(os.path.join(folder, "limits.f64"), dtype="<f8")
        self.item_count = len(self.items)

    def rows(self, name):
        # Mapped, so that the rows of the file do not count as the library's memory.
        return np.memmap(os.path.join(self.folder, name), dtype="<f4", mode="r").reshape(-1, self.dims)

    def right(self, number, ids):
        """How many of these items are near enough to a query, by their exact distances."""
        items = np.asarray(self.items[np.unique(ids)], dtype=np.float64)
        query = self.queries[number].astype(np.float64)
        if self.metric == "euclidean":
            distances = np.sqrt(((items - query) ** 2).sum(axis=1))
        else:
            distances = 1 - items @ query / (np.linalg.norm(items, axis=1) * np.linalg.norm(query))
        return min(int((distances <= self.limits[number]).sum()), self.k)


def timed(call, queries):
    """Answers, and what each took in nanoseconds."""
    clock = time.perf_counter_ns
    times, answers = [], []
    for query in queries:
        start = clock()
        answer = call(query)
        times.append(clock() - start)
        answers.append(answer)
    return times, answers


def say(**fields):
    print(json.dumps(fields), flush=True)


def trim():
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except AttributeError:
        pass


def build(name, store, job, items, queries):
    start = time.perf_counter()
    store.build(items)
    build_s = time.perf_counter() - start
    path = os.path.join(job.folder, name + ".index")
    store.save(path)
    file_bytes = os.path.getsize(path)
    if name != "annoy":
        os.remove(path)
    # A search for one item among one is a call and little else.
    call = store.search(store.build_tiny(items), 1)
    prepared = store.prepare(queries[:EMPTY_CALLS], 1)
    times = [time for _ in range(20) for time in timed(call, prepared)[0]]
    trim()
    say(
        store=name,
        params=store.params,
        build_s=build_s,
        file_bytes=file_bytes,
        overhead_us=statistics.median(times) / 1e3,
        knob_name=store.knob_name,
        knobs=" ".join(store.knobs),
    )


def measure(name, store, job, prepared, knob):
    """`prepared`: the queries, then the items of the warm-up."""
    store.turn(knob)
    call = store.search(store.index, job.k)
    prepared, others = prepared[: len(job.queries)], prepared[len(job.queries) :]
    end = time.perf_counter() + WARM_UP_S
    for other in others:
        call(other)
        if time.perf_counter() > end:
            break
    gc.disable()
    times, answers = timed(call, prepared)
    gc.enable()
    right = sum(job.right(number, ids) for number, ids in enumerate(store.ids(answers)))
    mean = sum(times) / len(times) / 1e3
    times.sort()
    p99 = times[max(-(-len(times) * 99 // 100), 1) - 1] / 1e3
    recall = right / (len(times) * job.k)
    say(store=name, knob=knob, recall=recall, mean_us=mean, p99_us=p99, qps=1e6 / mean)


def main():
    name = sys.argv[1]
    job = Job(*sys.argv[2:])
    store = STORES[name](job)
    queries, items = job.queries, np.array(job.items)
    if getattr(store, "unit", False):
        queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        items /= np.linalg.norm(items, axis=1, keepdims=True)
    say(ready=True)
    prepared = None
    for line in sys.stdin:
        if line.strip() == "build":
            build(name, store, job, items, queries)
            others = items[:: max(len(items) // WARM_UP, 1)][:WARM_UP]
            prepared = store.prepare(np.concatenate([queries, others]), job.k)
        else:
            measure(name, store, job, prepared, line.strip())


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # whatever it is, the comparison goes on without this library
        say(error=f"{type(error).__name__}: {error}".replace('"', "'").replace("\n", " "))
