"""Options of stores, searches and builds, and the classes of errors: each has its effect."""

from __future__ import annotations

import multiprocessing

import numpy as np
import pytest
from test_processes import _nearest, run

import spinney

FAMILIES = {
    "InvalidVectorError": ValueError, "InvalidOptionError": ValueError, "MismatchError": ValueError,
    "NotFoundError": LookupError, "StorageError": OSError, "StoreNotFoundError": FileNotFoundError,
    "MapFullError": OSError, "CorruptedError": RuntimeError, "FormatError": RuntimeError,
    "CancelledError": spinney.Error, "BusyError": TimeoutError, "ForkedError": RuntimeError,
    "ClosedError": ValueError,
}


def test_each_error_is_of_two_families():
    errors = {name for name in spinney.__all__ if name.endswith("Error")} - {"Error"}
    assert errors == set(FAMILIES)
    for name, family in FAMILIES.items():
        assert issubclass(getattr(spinney, name), (family,))
        assert issubclass(getattr(spinney, name), spinney.Error)
    assert str(spinney.NotFoundError("as it is")) == "as it is"


def test_a_full_disk_is_an_error_with_its_number(tmp_path):
    process = run("""
        import errno, os, resource, signal, sys, numpy as np
        import spinney
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        rows = np.random.default_rng(1).random((30_000, 4))
        store = spinney.Store(sys.argv[1])
        index = store.index("a", 4, "euclidean")
        index.add(range(100), rows[:100])
        size = os.path.getsize(os.path.join(sys.argv[1], "data.mdb"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50_000, resource.RLIM_INFINITY))
        for turn in range(4):
            try:
                index.add(range(30_000), rows, build=bool(turn % 2))
            except spinney.StorageError as error:
                assert error.errno in (errno.EFBIG, errno.EIO), error.errno
            else:
                raise AssertionError
        assert len(index) == 100 and store.verify() == []
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        index.add(range(30_000), rows)
        assert len(index) == 30_000 and store.verify() == []
    """, tmp_path / "s")
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err


def test_options_of_builds(store, rng, clustered, tmp_path):
    index = store.index("a", 8, "euclidean")
    index.add(range(3000), clustered(rng, 3000, 8), build=False)
    leaves = [index.build(rebuild=True, leaf_size=size).leaves for size in (32, 128)]
    assert leaves[0] > leaves[1]
    assert [index.build(rebuild=True, trees=n).trees for n in (1, 3)] == [1, 3]
    folder = tmp_path / "temporary"
    folder.mkdir()
    built = index.build(rebuild=True, memory=1, temp_dir=folder, sketch_bits=2, spill=False, seed=9,
                        threads=2)
    assert built.items == 3000 and list(folder.iterdir()) == []
    for wrong in ({"trees": 0}, {"leaf_size": 0}, {"sketch_bits": 99}):
        with pytest.raises(spinney.InvalidOptionError):
            index.build(rebuild=True, **wrong)
    for wrong in ({"seed": "x"}, {"rebuild": 3.5}, {"spill": "yes"}, {"threads": 1.5}):
        with pytest.raises(TypeError):
            index.build(**wrong)
    assert store.verify() == []


def test_options_of_searches(store, rng, clustered):
    index = store.index("a", 8, "euclidean")
    rows = clustered(rng, 5000, 8)
    index.add(range(5000), rows)
    queries = clustered(rng, 50, 8)
    truth = index.search(queries, 10, exact=True)

    def found(**how):
        hits = index.search(queries, 10, report=True, **how)
        share = np.mean([np.isin(a, b).mean() for a, b in zip(truth.ids, hits.ids, strict=True)])
        return share, hits.report

    few, little = found(search_k=10)
    many, much = found(search_k=5000)
    assert few < many and little.sketches < much.sketches
    assert found(recall=0.5)[1].sketches <= found(recall=0.999)[1].sketches
    assert found(recall=0.999)[0] > 0.95
    assert found(oversampling=1)[1].reranked <= found(oversampling=8)[1].reranked
    with store.write() as txn:
        assert txn.calibrate(index, queries)
    assert found()[0] > 0.8
    for wrong in (float("nan"), 0, -1, 1.1):
        with pytest.raises(spinney.InvalidOptionError):
            index.search(queries[0], recall=wrong)
    for name in ("within", "beyond", "oversampling", "timeout"):
        with pytest.raises(spinney.InvalidOptionError):
            index.search(queries[0], **{name: float("nan")})
    for k in (np.int64(3), np.uint8(3), np.array(3)):
        assert len(index.search(queries[0], k)) == 3
    for k in (3.0, "3", [3], float("nan")):
        with pytest.raises(TypeError):
            index.search(queries[0], k)
    assert len(index.search(queries[0], 2**62, allowed=range(7))) == 7
    with pytest.raises(OverflowError):
        index.search(queries[0], 10**30)
    longer = np.ones(10**6, bool)
    assert len(index.search(queries[0], 9, allowed=longer)) == 9
    assert len(index.search(queries[0], 9, allowed=spinney.IdSet())) == 0


def test_clearing_and_actors(store):
    index = store.index("a", 1, "euclidean")
    index.add(range(9), np.arange(9.0).reshape(-1, 1))
    store.set_audit(True)
    with store.write() as txn:
        txn.set_actor("bob")
        txn.clear(index)
        assert txn.len(index) == 0 and len(index) == 9
    assert len(index) == 0 and store.audit_log()[-1].actor == "bob"


def test_options_of_stores(tmp_path):
    with spinney.Store(tmp_path / "s", max_readers=2, threads=1,
                       durability="lose-last") as store:
        index = store.index("a", 1, "euclidean")
        index.add([1], [1.0])
        assert len(index.search([[1.0]] * 40, 1)) == 40
        held = []
        with pytest.raises(spinney.BusyError):
            for i in range(2, 9):
                index.add([i], [1.0])
                held.append(store.read())
        for snapshot in held:
            snapshot.close()
        assert 1 in index and store.verify() == []
    for wrong in ({"map_size": 1}, {"max_readers": 0}, {"threads": 0}):
        with pytest.raises(spinney.InvalidOptionError):
            spinney.Store(tmp_path / "none", **wrong)
    assert not (tmp_path / "none").exists()
    for wrong in (b"bytes", None, 5):
        with pytest.raises(TypeError):
            spinney.Store(wrong)
    (tmp_path / "file").write_text("no store")
    for path, how in ((tmp_path / "file", {}), (tmp_path / "file", {"single_file": True}),
                      (tmp_path / "a\0b", {}), (tmp_path / ("x" * 300), {}), ("", {})):
        with pytest.raises(spinney.StorageError):
            spinney.Store(path, **how)
    assert (tmp_path / "file").read_text() == "no store"


def test_processes_of_a_forkserver(store):
    index = store.index("a", 1, "euclidean")
    index.add(range(100), [[float(i)] for i in range(100)])
    with multiprocessing.get_context("forkserver").Pool(2) as pool:
        assert pool.map(_nearest, [(index, float(i)) for i in range(10)]) == list(range(10))
