"""Libraries that hold everything in memory and are built once, for libraries.py.

Each has the parameters that its authors recommend, and a tiny index for what an empty call takes.
"""

import importlib.metadata
import os

THREADS = os.cpu_count() or 1


def doubling(first, last):
    knobs = []
    while first <= last:
        knobs.append(str(first))
        first *= 2
    return knobs


class InMemory:
    """One that takes a row at a time, and whose knob is the width of its search."""

    def load(self, path, is_mapped):
        if is_mapped:
            raise ValueError("it cannot search a file that is mapped")
        self.index = self.read(path)

    def prepare(self, queries, k):
        return [queries[i : i + 1] for i in range(len(queries))]

    def ids(self, answers):
        return [answer[0][0] for answer in answers]


class Symqg(InMemory):
    """SymphonyQG: a graph whose links carry RaBitQ codes (doi:10.1145/3709730)."""

    DEGREE, CONSTRUCTION = 32, 200

    def __init__(self, job):
        import rabitqlib

        self.library, self.dims, self.width = rabitqlib, job.dims, None
        self.unit = job.metric == "cosine"
        version = importlib.metadata.version("rabitqlib")
        self.params = f"rabitqlib {version}, SymphonyQG, degree {self.DEGREE}, ef_construction {self.CONSTRUCTION}"
        self.knob_name, self.knobs = "ef", [ef for ef in doubling(10, 1280) if int(ef) >= job.k]

    def make(self, items):
        index = self.library.SymqgIndex(self.dims, self.DEGREE)
        index.build(items, self.CONSTRUCTION, num_threads=THREADS)
        return index

    def build(self, items):
        self.index = self.make(items)

    def save(self, path):
        self.index.save(path)

    def read(self, path):
        return self.library.SymqgIndex.load(path)

    def build_tiny(self, items):
        # It refuses to build of one item, so that an empty call is one without a query.
        return NoQuery(self.make(items.repeat(self.DEGREE + 1, axis=0)), items[:0])

    def turn(self, knob):
        self.width = int(knob)

    def search(self, index, k):
        search, width = index.search, self.width or k
        return lambda query: search(query, k, width)

    def batch(self, queries, k, threads):
        return lambda: self.index.search_batch(queries, k, self.width, num_threads=threads)[0]


class NoQuery:
    def __init__(self, index, none):
        self.search = lambda query, k, width: index.search(none, k, width)


class RabitqIvf(InMemory):
    """An inverted file of RaBitQ codes (doi:10.1145/3725413)."""

    ITEMS_PER_LIST, BITS = 250, 7

    def __init__(self, job):
        import rabitqlib

        self.library, self.dims, self.probes = rabitqlib, job.dims, 1
        self.unit = job.metric == "cosine"
        self.lists = max(1, job.item_count // self.ITEMS_PER_LIST)
        version = importlib.metadata.version("rabitqlib")
        self.params = f"rabitqlib {version}, IVF, {self.lists} lists, {self.BITS} bits"
        self.knob_name, self.knobs = "nprobe", [probe for probe in doubling(1, 512) if int(probe) <= self.lists]

    def make(self, items, lists):
        means = self.library.RaBitQKMeans(self.dims, lists, num_threads=THREADS, seed=1)
        means.train(items)
        index = self.library.IvfIndex(self.dims, len(items), lists, self.BITS)
        index.build(items, means.centroids, means.assignments, num_threads=THREADS)
        return index

    def build(self, items):
        self.index = self.make(items, self.lists)

    def save(self, path):
        self.index.save(path)

    def read(self, path):
        return self.library.IvfIndex.load(path)

    def build_tiny(self, items):
        return self.make(items, 1)

    def turn(self, knob):
        self.probes = int(knob)

    def search(self, index, k):
        search, probes = index.search, self.probes
        return lambda query: search(query, k, probes)

    def batch(self, queries, k, threads):
        return lambda: self.index.search(queries, k, self.probes, num_threads=threads)[0]


class Scann(InMemory):
    """A tree of clusters with anisotropic codes (arXiv:1908.10396), spilled by SOAR (arXiv:2404.00774).

    SOAR is for products alone.
    """

    def __init__(self, job):
        from scann import scann_ops_pybind

        self.library, self.unit, self.k = scann_ops_pybind, job.metric == "cosine", job.k
        # As its authors advise: as many leaves as the root of the items.
        self.leaves = max(1, round(job.item_count**0.5))
        self.leaves_searched, self.reordered = 1, job.k
        spill = ", SOAR 1.5" if self.unit else ""
        version = importlib.metadata.version("scann")
        self.params = f"scann {version}, {self.leaves} leaves, 2 dimensions a code{spill}"
        self.knob_name = "leaves/reordered"
        leaves = [number for number in doubling(1, 512) if int(number) <= self.leaves]
        self.knobs = [f"{number}/{reordered}" for reordered in (5 * job.k, 20 * job.k) for number in leaves]

    def make(self, items, leaves):
        builder = self.library.builder(items, self.k, "dot_product" if self.unit else "squared_l2")
        spill = {"soar_lambda": 1.5, "overretrieve_factor": 2.0} if self.unit and leaves > 1 else {}
        builder = builder.tree(leaves, 1, training_sample_size=min(len(items), 250_000), **spill)
        builder = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(5 * self.k)
        builder.set_n_training_threads(THREADS)
        return builder.build()

    def build(self, items):
        self.index = self.make(items, self.leaves)

    def save(self, path):
        os.makedirs(path, exist_ok=True)
        self.index.serialize(path)

    def read(self, path):
        return self.library.load_searcher(path)

    def build_tiny(self, items):
        # Its codes are trained by some items at least.
        return self.make(items.repeat(32, axis=0), 1)

    def turn(self, knob):
        self.leaves_searched, self.reordered = map(int, knob.split("/"))

    def prepare(self, queries, k):
        return list(queries)

    def search(self, index, k):
        search, reordered, leaves = index.search, self.reordered, self.leaves_searched
        return lambda query: search(query, k, reordered, leaves)

    def batch(self, queries, k, threads):
        search = self.index.search_batched
        if threads > 1:
            # The thread that calls works beside those of the pool.
            self.index.set_num_threads(threads - 1)
            search = self.index.search_batched_parallel
        return lambda: search(queries, k, self.reordered, self.leaves_searched)[0]

    def ids(self, answers):
        return [answer[0] for answer in answers]


class Svs(InMemory):
    """Vamana over vectors compressed by LVQ (arXiv:2304.04759) where its codes run, else as f16."""

    DEGREE, CONSTRUCTION = 64, 200

    def __init__(self, job):
        import numpy
        import svs

        self.library, self.numpy, self.unit = svs, numpy, job.metric == "cosine"
        # For products, a factor below 1 makes long links.
        self.alpha, self.distance = (0.95, svs.DistanceType.MIP) if self.unit else (1.2, svs.DistanceType.L2)
        self.folder, self.has_lvq = job.folder, runs_lvq()
        version = importlib.metadata.version("scalable-vs")
        stored = "LVQ4x8" if self.has_lvq else "f16 (LVQ is for processors of Intel)"
        self.params = f"svs {version}, Vamana, {stored}, degree {self.DEGREE}, window {self.CONSTRUCTION}"
        self.knob_name, self.knobs = "window", [width for width in doubling(10, 1280) if int(width) >= job.k]

    def make(self, items, path=None):
        svs = self.library
        parameters = svs.VamanaBuildParameters(
            alpha=self.alpha, graph_max_degree=self.DEGREE, window_size=self.CONSTRUCTION
        )
        if not self.has_lvq:
            return svs.Vamana.build(parameters, items.astype(self.numpy.float16), self.distance, num_threads=THREADS)
        path = path or os.path.join(self.folder, "tiny")
        os.makedirs(self.folder, exist_ok=True)
        svs.write_vecs(items, path + ".fvecs")
        rows = svs.VectorDataLoader(path + ".fvecs", svs.DataType.float32)
        index = svs.Vamana.build(parameters, svs.LVQLoader(rows, 4, 8), self.distance, num_threads=THREADS)
        os.remove(path + ".fvecs")
        return index

    def build(self, items):
        self.index = self.make(items, os.path.join(self.folder, "items"))

    def save(self, path):
        self.index.save(*(f"{path}.{part}" for part in ("config", "graph", "data")))

    def read(self, path):
        svs = self.library
        data = svs.LVQLoader(f"{path}.data") if self.has_lvq else svs.VectorDataLoader(f"{path}.data", svs.DataType.float16)
        return svs.Vamana(f"{path}.config", svs.GraphLoader(f"{path}.graph"), data, self.distance, num_threads=1)

    def build_tiny(self, items):
        return self.make(items)

    def turn(self, knob):
        self.index.search_window_size = int(knob)

    def search(self, index, k):
        search, index.num_threads = index.search, 1
        return lambda query: search(query, k)

    def batch(self, queries, k, threads):
        self.index.num_threads = threads
        return lambda: self.index.search(queries, k)[0]


def runs_lvq():
    """Elsewhere it ends the process, without a word that could be caught."""
    try:
        with open("/proc/cpuinfo") as processors:
            return "GenuineIntel" in processors.read()
    except OSError:
        return False


class Lorann(InMemory):
    """Clusters whose scores are computed at a lower rank (arXiv:2410.18926)."""

    RANK, TRAIN = 32, 5

    def __init__(self, job):
        import lorann

        self.library, self.dims, self.unit = lorann, job.dims, job.metric == "cosine"
        self.clusters = max(1, round(job.item_count**0.5))
        # As its documentation advises.
        self.global_dim = None if job.dims < 200 else 128
        self.searched, self.reranked = 1, job.k
        version = importlib.metadata.version("lorann")
        self.params = f"lorann {version}, {self.clusters} clusters, rank {self.RANK}, 8 bits"
        self.knob_name = "clusters/reranked"
        clusters = [number for number in doubling(1, 512) if int(number) <= self.clusters]
        self.knobs = [f"{number}/{reranked}" for reranked in (5 * job.k, 20 * job.k, 80 * job.k) for number in clusters]

    def make(self, items, clusters):
        distance = self.library.IP if self.unit else self.library.L2
        index = self.library.LorannIndex(
            items, clusters, self.global_dim, 8, rank=self.RANK, train_size=self.TRAIN, distance=distance
        )
        index.build(n_threads=THREADS)
        return index

    def build(self, items):
        self.index = self.make(items, self.clusters)

    def save(self, path):
        self.index.save(path)

    def read(self, path):
        return self.library.LorannIndex.load(path)

    def build_tiny(self, items):
        return self.make(items.repeat(256, axis=0), 1)

    def turn(self, knob):
        self.searched, self.reranked = map(int, knob.split("/"))

    def prepare(self, queries, k):
        return list(queries)

    def search(self, index, k):
        search, searched, reranked = index.search, self.searched, self.reranked
        return lambda query: search(query, k, searched, reranked, n_threads=1)

    def batch(self, queries, k, threads):
        return lambda: self.index.search(queries, k, self.searched, self.reranked, n_threads=threads)

    def ids(self, answers):
        return list(answers)


STORES = {
    "symqg": Symqg,
    "rabitq-ivf": RabitqIvf,
    "scann": Scann,
    "svs": Svs,
    "lorann": Lorann,
}
