"""The adapters for ann-benchmarks and VIBE, on the passages that come with the project."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import sys
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHES = Path(__file__).parent.parent / "benches"
DATA = Path(__file__).parents[3] / "examples" / "data"


class BaseANN:
    """What both frameworks' base class does, as far as an adapter can tell."""

    def batch_query(self, X, n):  # noqa: N803
        with ThreadPool(2) as pool:
            self.res = pool.map(lambda q: self.query(q, n), X)

    def get_batch_results(self):
        return self.res

    def get_additional(self):
        return {}

    def done(self):
        pass


def rows_of(name: str) -> np.ndarray:
    row = np.dtype([("scale", "<f4"), ("codes", "i1", 384)])
    rows = np.fromfile(DATA / name, row, offset=8)
    return rows["scale"][:, None] * rows["codes"]


@pytest.fixture(scope="module")
def passages() -> np.ndarray:
    return rows_of("passages.i8bin")


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return rows_of("queries.i8bin")


@pytest.fixture
def adapter(request, monkeypatch) -> type:
    """The class of an adapter, at its place in the framework or in one like it."""
    root = request.param
    base = f"{root}.algorithms.base.module"
    try:
        importlib.import_module(base)
    except ImportError:
        for name in (root, f"{root}.algorithms", f"{root}.algorithms.base", base):
            module = ModuleType(name)
            module.__path__ = []
            monkeypatch.setitem(sys.modules, name, module)
        sys.modules[base].BaseANN = BaseANN
    name = f"{root}.algorithms.spinney"
    package = ModuleType(name)
    package.__path__ = [str(BENCHES / root / "spinney")]
    monkeypatch.setitem(sys.modules, name, package)
    spec = importlib.util.spec_from_file_location(
        f"{name}.module", BENCHES / root / "spinney" / "module.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Spinney


ann_benchmarks = pytest.mark.parametrize("adapter", ["ann_benchmarks"], indirect=True)
vibe = pytest.mark.parametrize("adapter", ["vibe"], indirect=True)
DISTANCES = {
    "angular": lambda a, b: 1 - a @ b.T,
    "euclidean": lambda a, b: (b**2).sum(axis=1) - 2 * a @ b.T,
    "ip": lambda a, b: -a @ b.T,
    "hamming": lambda a, b: (a != b[:, None]).sum(axis=2).T,
}


def recall(found: list[np.ndarray], distances: np.ndarray, n: int) -> float:
    """The share of the ids found that are as near as the true neighbours."""
    for ids in found:
        assert np.issubdtype(np.asarray(ids).dtype, np.integer)
        assert len(set(ids)) == len(ids) == n
    limit = np.sort(distances, axis=1)[:, n - 1:n]
    return float((np.take_along_axis(distances, np.array(found), axis=1) <= limit + 1e-6).mean())


@ann_benchmarks
@pytest.mark.parametrize("metric", ["angular", "euclidean", "hamming"])
def test_ann_benchmarks(adapter, metric, passages, queries):
    rows = passages if metric != "hamming" else (passages > 0)[:3000]
    asked = queries[:100] if metric != "hamming" else queries[:100] > 0
    distances = DISTANCES[metric](asked, rows)
    algorithm = adapter(metric, None, None)
    algorithm.fit(rows)
    reached = []
    for how in ((0.5,), (0.95,), (0.999,), (None, 400)):
        algorithm.set_query_arguments(*how)
        single = [algorithm.query(query, 10) for query in asked]
        algorithm.batch_query(asked, 10)
        assert np.array_equal(algorithm.get_batch_results(), single)
        reached.append(recall(single, distances, 10))
    assert reached[1] >= 0.9 and reached[2] >= 0.98 and reached[0] <= reached[2], reached
    assert str(algorithm) == "Spinney(search_k=400)"
    assert algorithm.get_additional()["file_bytes"] > 0
    folder = Path(algorithm.folder.name)
    algorithm.done()
    assert not folder.exists()
    with pytest.raises(NotImplementedError):
        adapter("jaccard", None, None)


@ann_benchmarks
def test_ann_benchmarks_with_vectors_of_zeros(adapter, passages):
    rows = passages[:500].copy()
    rows[::7] = 0
    algorithm = adapter("angular", True, 4)
    algorithm.fit(rows)
    algorithm.set_query_arguments(0.9)
    assert set(algorithm.query(rows[1], 400)) <= set(np.flatnonzero(rows.any(axis=1)))
    assert algorithm.query(rows[1], 10)[0] == 1
    algorithm.batch_query(rows[:3], 5)
    assert [len(ids) for ids in algorithm.get_batch_results()] == [5, 5, 5]
    assert str(algorithm) == "Spinney(spill=True, sketch_bits=4, recall=0.9)"


def as_type(rows: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "float32":
        return rows
    bounds = np.iinfo(dtype)
    middle = (bounds.min + bounds.max + 1) // 2
    return np.rint(rows * 400 + middle).clip(bounds.min, bounds.max).astype(dtype)


@vibe
@pytest.mark.parametrize(("metric", "dtype"), [
    ("cosine", "float32"), ("normalized", "float32"), ("ip", "float32"), ("euclidean", "float32"),
    ("euclidean", "int8"), ("euclidean", "uint8"),
])
def test_vibe(adapter, metric, dtype, passages, queries):
    rows, asked = (as_type(some, dtype) for some in (passages[:4000], queries[:100]))
    before = rows.copy()
    distances = DISTANCES["euclidean" if metric == "euclidean" else "ip"](
        asked.astype(np.float64), rows.astype(np.float64))
    algorithm = adapter(metric, None, None)
    algorithm.fit(rows)
    assert np.array_equal(rows, before)
    algorithm.set_query_arguments(0.95)
    assert recall([algorithm.query(query, 100) for query in asked], distances, 100) >= 0.9
    assert str(algorithm) == "Spinney(recall=0.95)"


@vibe
def test_vibe_with_bits(adapter, passages, queries):
    rows, asked = np.packbits(passages[:3000] > 0, axis=1), np.packbits(queries[:50] > 0, axis=1)
    distances = np.unpackbits(rows ^ asked[:, None], axis=2).sum(axis=2, dtype=int)
    algorithm = adapter("hamming", None, None)
    algorithm.fit(rows)
    algorithm.set_query_arguments(0.95)
    assert recall([algorithm.query(query, 10) for query in asked], distances, 10) >= 0.9


@vibe
def test_vibe_learns_from_queries(adapter, passages, queries):
    rows, learn, asked = passages[:6000], queries[:100], queries[100:]
    distances = DISTANCES["ip"](asked, rows)
    near = np.argsort(DISTANCES["ip"](learn, rows), axis=1)[:, :100]
    algorithm = adapter("normalized", False, 2)
    algorithm.fit_ood(rows, learn, near)
    algorithm.set_query_arguments(0.95)
    assert recall([algorithm.query(query, 10) for query in asked], distances, 10) >= 0.9


@pytest.mark.parametrize(("root", "adapter"), [
    ("ann_benchmarks", "ann_benchmarks"), ("vibe", "vibe"),
], indirect=["adapter"])
def test_every_combination_of_the_configuration_is_taken(root, adapter, passages):
    yaml = pytest.importorskip("yaml")
    config = yaml.safe_load((BENCHES / root / "spinney" / "config.yml").read_text())
    values = lambda given: given.values() if isinstance(given, dict) else given
    count = 0
    for dtype, metrics in config.items():
        for definition in (one for some in metrics.values() for one in some):
            assert definition["constructor"] == "Spinney"
            assert definition["module"] == f"{root}.algorithms.spinney"
            rows = passages[:300]
            if dtype in ("bit", "binary"):
                metric, rows = "hamming", np.packbits(rows > 0, axis=1)
                rows = rows if dtype == "binary" else np.unpackbits(rows, axis=1).astype(bool)
            else:
                metric = "euclidean"
            for group in definition["run_groups"].values():
                for args in itertools.product(*values(group["args"])):
                    algorithm = adapter(metric, *args)
                    algorithm.fit(rows)
                    for query_args in itertools.product(*values(group["query_args"])):
                        algorithm.set_query_arguments(*query_args)
                        assert len(algorithm.query(rows[5], 10)) == 10
                        count += 1
    assert count > 50
