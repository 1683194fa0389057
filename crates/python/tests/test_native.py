"""The native API: what it stores, finds and refuses."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import spinney


def test_random_operations_agree_with_a_dict(store, rng):
    index = store.index("a", 3, "euclidean")
    model: dict[int, np.ndarray] = {}

    def check(read):
        ids = np.array(sorted(model), np.int64)
        assert read.ids().to_array().tolist() == ids.tolist() and len(read) == len(model)
        query = rng.standard_normal(3).astype(np.float32)
        hits = read.search(query, 5, exact=True)
        rows = np.array([model[i] for i in ids.tolist()], np.float64).reshape(-1, 3)
        distances = np.sort(np.sqrt(((rows - query) ** 2).sum(1)))[:5]
        np.testing.assert_allclose(hits.distances, distances, rtol=1e-5)
        for i, distance in zip(*hits, strict=True):
            np.testing.assert_allclose(np.linalg.norm(model[int(i)] - query), distance, rtol=1e-5)

    for step in range(150):
        before = dict(model)
        txn = store.write()
        for _ in range(rng.integers(1, 5)):
            ids = rng.integers(0, 200, rng.integers(1, 20))
            if rng.random() < 0.7:
                ids = np.unique(ids)
                rows = rng.standard_normal((len(ids), 3)).astype(np.float32)
                txn.add(index, ids, rows)
                model.update(zip(ids.tolist(), rows, strict=True))
            else:
                there = sum(i in model for i in set(ids.tolist()))
                assert txn.delete(index, ids) == there
                for i in ids.tolist():
                    model.pop(i, None)
        if rng.random() < 0.3:
            txn.build(index, threads=2)
        assert txn.len(index) == len(model)
        if rng.random() < 0.25:
            txn.abort()
            model.clear()
            model.update(before)
        else:
            txn.commit()
        check(index)
        if step % 10 == 0:
            with store.read() as snapshot:
                held = snapshot[index]
                index.add([999], [[0.0, 0.0, 0.0]])
                check(held)
                index.delete([999])
    assert store.verify() == []


def test_a_block_commits_or_aborts(store):
    index = store.index("a", 1, "euclidean")
    with store.write() as txn:
        txn.add(index, [1], [[1.0]])
        assert 1 not in index
    assert 1 in index
    with pytest.raises(KeyError):
        with store.write() as txn:
            txn.add(index, [2], [[2.0]])
            raise KeyError
    assert 2 not in index
    with store.write() as txn:
        txn.add(index, [3], [[3.0]])
        txn.abort()
    assert 3 not in index
    with pytest.raises(spinney.ClosedError):
        txn.commit()
    with pytest.raises(spinney.ClosedError):
        txn.add(index, [3], [[3.0]])


def test_a_failed_call_leaves_the_transaction_as_it_was(store):
    index = store.index("a", 1, "euclidean")
    with store.write() as txn:
        txn.add(index, [1], [[1.0]])
        with pytest.raises(spinney.InvalidVectorError):
            txn.add(index, [2, 3], [[2.0], [np.inf]])
        assert txn.len(index) == 1
    assert index.ids().to_array().tolist() == [1]


def test_a_transaction_without_an_owner_aborts(store):
    index = store.index("a", 1, "euclidean")
    txn = store.write()
    txn.add(index, [1], [[1.0]])
    del txn
    with store.write(timeout=60) as txn:
        assert txn.len(index) == 0


def test_one_transaction_a_thread(store):
    index = store.index("a", 1, "euclidean")
    again = spinney.Store(store.path, durability="none")
    with store.write():
        for call in (store.write, again.write, lambda: index.add([1], [[1.0]]),
                     lambda: index.delete([1]), index.build, lambda: store.drop("a"),
                     lambda: again.index("a").add([1], [[1.0]])):
            with pytest.raises(spinney.BusyError):
                call()
    index.add([1], [[1.0]])


def test_a_second_open_is_the_same_store(store, tmp_path):
    index = store.index("a", 1, "euclidean")
    (tmp_path / "link").symlink_to(store.path)
    other = spinney.Store(tmp_path / "link", durability="none").index("a")
    index.add([5], [[1.0]])
    assert 5 in other
    with pytest.raises(spinney.MismatchError):
        spinney.Store(store.path, read_only=True)


def test_closing(tmp_path):
    with spinney.Store(tmp_path / "s") as store:
        index = store.index("a", 1, "euclidean")
        index.add([1], [[1.0]])
        snapshot = store.read()
        held = snapshot[index]
        for open_thing in (snapshot.close, store.write().abort):
            with pytest.raises(spinney.ClosedError):
                store.close()
            open_thing()
        with pytest.raises(spinney.ClosedError):
            held.search([1.0])
        snapshot.close()
        assert not store.closed
    assert store.closed
    store.close()
    for call in (lambda: index.search([1.0]), store.stats, store.write, store.read, lambda: len(index)):
        with pytest.raises(spinney.ClosedError):
            call()
    with spinney.Store(tmp_path / "s", read_only=True) as store:
        assert len(store.index("a")) == 1
        with pytest.raises(spinney.StorageError):
            store.index("b", 1, "euclidean")


def test_a_store_is_closed_when_close_returns(tmp_path):
    for i in range(100):
        with spinney.Store(tmp_path / "s", durability="none") as store:
            index = store.index("a", 1, "euclidean")
            with store.write() as txn:
                txn.add(index, [i], [1.0])
        with spinney.Store(tmp_path / "s", read_only=True) as store:
            assert i in store.index("a")


def test_a_transaction_that_goes_away_has_ended(tmp_path):
    for i in range(50):
        with spinney.Store(tmp_path / "s", durability="none") as store:
            index = store.index("a", 1, "euclidean")
            txn = store.write()
            txn.add(index, [i], [1.0])
            del txn
        with spinney.Store(tmp_path / "s", read_only=True) as store:
            assert i not in store.index("a")


def test_an_exception_goes_on_when_the_store_cannot_be_closed(tmp_path):
    with pytest.raises(KeyError):
        with spinney.Store(tmp_path / "s") as store:
            snapshot = store.read()
            raise KeyError
    assert not store.closed
    snapshot.close()
    store.close()


def test_a_thousand_opens_and_closes(tmp_path):
    for i in range(1000):
        with spinney.Store(tmp_path / "s", durability="none") as store:
            index = store.index("a", 1, "euclidean")
            if i % 100 == 0:
                index.add([i], [[float(i)]], build=False)
            assert index.search([0.0], 1).ids.tolist() == [0]


def test_errors_are_of_both_families(store, tmp_path):
    index = store.index("a", 2, "cosine")
    index.add([1], [[1.0, 0.0]])
    cases = [
        (lambda: index.search([1.0]), spinney.InvalidVectorError, ValueError),
        (lambda: index.search([0.0, 0.0]), spinney.InvalidVectorError, ValueError),
        (lambda: index.search([1.0, 0.0], recall=7), spinney.InvalidOptionError, ValueError),
        (lambda: index.search([1.0, 0.0], timeout=-1), spinney.InvalidOptionError, ValueError),
        (lambda: store.index("a", 3), spinney.MismatchError, ValueError),
        (lambda: store.index("a", metric="dot"), spinney.MismatchError, ValueError),
        (lambda: store.index("b", 3, "l7"), spinney.InvalidOptionError, ValueError),
        (lambda: store.index("b", 3), spinney.InvalidOptionError, ValueError),
        (lambda: store.index("b", 0, "dot"), spinney.InvalidOptionError, ValueError),
        (lambda: store.index("b", 3, "dot", storage="f8"), spinney.InvalidOptionError, ValueError),
        (lambda: store.index("b"), spinney.NotFoundError, LookupError),
        (lambda: index[7], spinney.NotFoundError, LookupError),
        (lambda: store.rename("x", "y"), spinney.NotFoundError, LookupError),
        (lambda: store.backup(store.path / "data.mdb"), spinney.StorageError, OSError),
        (lambda: spinney.Store(tmp_path / "none", create=False), spinney.StoreNotFoundError,
         FileNotFoundError),
        (lambda: spinney.Store(tmp_path / "x", durability="some"), spinney.InvalidOptionError,
         ValueError),
        (lambda: index.build(trees=0), spinney.InvalidOptionError, ValueError),
        (lambda: index.build(trees=1, tree=1), TypeError, TypeError),
        (lambda: index.search([1.0, 0.0], foo=1), TypeError, TypeError),
        (lambda: index.search([1.0, 0.0], labelled="a"), TypeError, TypeError),
        (lambda: index.search([1.0, 0.0], predicate=3), TypeError, TypeError),
    ]
    for call, own, family in cases:
        with pytest.raises(own) as raised:
            call()
        assert isinstance(raised.value, family)
        assert own is TypeError or isinstance(raised.value, spinney.Error)


def test_a_full_map_is_an_error_and_loses_nothing(tmp_path):
    store = spinney.Store(tmp_path / "s", map_size=1 << 20)
    index = store.index("a", 100, "euclidean")
    index.add(range(10), np.ones((10, 100)))
    with pytest.raises(spinney.MapFullError):
        index.add(range(10_000), np.ones((10_000, 100)))
    with pytest.raises(spinney.MapFullError):
        with store.write() as txn:
            txn.add(index, range(10_000), np.ones((10_000, 100)))
    assert len(index) == 10 and store.verify() == []
    index.add([11], np.ones((1, 100)))


def test_a_damaged_file_is_an_error(tmp_path):
    store = spinney.Store(tmp_path / "s")
    store.index("a", 100, "euclidean").add(range(100), np.ones((100, 100)))
    store.close()
    data = tmp_path / "s" / "data.mdb"
    data.write_bytes(data.read_bytes()[: 3 * 4096])
    with pytest.raises(spinney.CorruptedError) as raised:
        spinney.Store(tmp_path / "s")
    assert isinstance(raised.value, RuntimeError)


def test_exceptions_of_functions_come_back(store):
    index = store.index("a", 1, "euclidean")
    index.add(range(9), np.arange(9.0).reshape(-1, 1))

    class Own(Exception):
        pass

    def fails(*_):
        raise Own

    for how in ({"predicate": fails}, {"group": fails}):
        with pytest.raises(Own):
            index.search([0.0], 3, **how)
    with pytest.raises(Own):
        index.search(np.zeros((40, 1)), 3, predicate=fails)
    with pytest.raises(Own):
        index.add(range(5000), np.random.default_rng(1).random((5000, 1)), progress=fails)
    assert len(index) == 9
    with pytest.raises(spinney.CancelledError):
        index.add(range(5000), np.random.default_rng(1).random((5000, 1)), progress=lambda *_: False)
    assert len(index) == 9


def test_groups(store):
    index = store.index("a", 1, "euclidean")
    index.add(range(9), np.arange(9.0).reshape(-1, 1))
    by_array = index.search([0.0], 3, group=np.arange(9) // 3)
    by_function = index.search([0.0], 3, group=lambda i: i // 3)
    assert by_array.ids.tolist() == by_function.ids.tolist() == [0, 3, 6]
    assert index.search([0.0], 4, group=np.arange(9) // 3, per_group=2).ids.tolist() == [0, 1, 3, 4]
    with pytest.raises(spinney.InvalidOptionError):
        index.search([0.0], 3, group=[1])


def test_forms_of_searches(store):
    index = store.index("a", 2, "euclidean")
    index.add(range(4), [[0, 0], [1, 0], [0, 2], [9, 9]])
    assert index.search_items(0, 2).ids.tolist() == [1, 2]
    assert index.search_any([0, [9.0, 8.0]], 2).ids.tolist() == [1, 3]
    assert index.search_like([1], [[2.0, 0.0]], 1).ids.tolist() == [0]
    assert index.search([0, 0], 9, within=1.5).ids.tolist() == [0, 1]
    assert index.search([0, 0], 9, beyond=1.5).ids.tolist() == [2, 3]
    assert [page.ids.tolist() for page in index.pages([0, 0], 3)] == [[0, 1, 2], [3]]
    assert [i for i, _ in index.neighbours([0, 0])] == [0, 1, 2, 3]
    hits = index.search([0, 0], 2, report=True)
    assert hits.report.plan == "exact" and hits.report.scanned_exactly == 4
    assert index.search([0, 0], 2).report is None
    with pytest.raises(spinney.NotFoundError):
        index.search_any([77], 2)


def test_an_index_iterates_over_its_ids(store):
    index = store.index("a", 1, "euclidean")
    index.add([7, 3, 2**32 - 1], [[1.0], [2.0], [3.0]])
    assert list(index) == [3, 7, 2**32 - 1] and sorted(index) == list(index)


def test_builds_keep_to_the_threads_of_the_store(tmp_path, rng):
    store = spinney.Store(tmp_path / "s", threads=1, durability="none")
    index, steps = store.index("a", 4, "euclidean"), []
    rows = rng.random((3000, 4))
    for _ in range(3):
        told: list[object] = []
        index.add(range(3000), rows, progress=lambda *at: told.append(at))
        index.delete(range(3000))
        steps.append(told)
    # One thread does the same steps in the same order each time.
    assert steps[0] == steps[1] == steps[2]


def test_pickles(store):
    index = store.index("a", 1, "euclidean")
    index.add([7], [[1.0]])
    documents = store.collection("c", 1, "euclidean", keys="int")
    documents.put(7, [1.0], labels=["x"])
    for again in (pickle.loads(pickle.dumps(index)), copy.deepcopy(index)):
        assert again.search([1.0], 1).ids.tolist() == [7]
        assert again == index and hash(again) == hash(index)
    assert pickle.loads(pickle.dumps(store)).path == store.path
    scoped = pickle.loads(pickle.dumps(documents.scoped("x")))
    assert list(scoped) == [7] and scoped.scope == ("x",)
    hits = pickle.loads(pickle.dumps(index.search([1.0], 1)))
    assert hits.ids.tolist() == [7] and hits.counts.tolist() == [1]
    ids = spinney.IdSet([1, 9])
    assert pickle.loads(pickle.dumps(ids)) == ids
    store.close()
    moved = pickle.dumps(store)
    store.path.rename(store.path.with_name("moved"))
    with pytest.raises(spinney.StoreNotFoundError):
        pickle.loads(moved)
    assert not store.path.exists()
    store.path.with_name("moved").rename(store.path)
    store = pickle.loads(moved)
    index, documents = store.index("a"), store.collection("c", keys="int")
    snapshot, txn = store.read(), store.write()
    for what in (snapshot, snapshot[index], snapshot[documents], txn):
        with pytest.raises(TypeError):
            pickle.dumps(what)
    txn.abort()


def test_storage_types(store, rng):
    rows = rng.standard_normal((200, 32)).astype(np.float32)
    for storage in ("f32", "f16", "i8", "bits"):
        index = store.index(storage, 32, "cosine", storage=storage)
        index.add(range(200), rows)
        assert index.storage == storage
    with store.write() as txn:
        assert txn.convert(store.index("f32"), "f16") == 200
    assert store.index("f32").storage == "f16"
    np.testing.assert_allclose(store.index("f32")[5], rows[5], rtol=1e-3)


def test_progress(store, rng, clustered):
    index = store.index("a", 8, "euclidean")
    told = []
    index.add(range(4000), clustered(rng, 4000, 8), progress=lambda *at: told.append(at))
    assert {"sampling", "routing", "encoding"} <= {phase for phase, _, _ in told}
    assert all(0 <= done <= total for _, done, total in told)
    bars = pytest.importorskip("tqdm")
    with bars.tqdm(disable=False, file=open("/dev/null", "w")) as bar:
        index.build(rebuild=True, progress=spinney.tqdm(bar))
        assert bar.n == bar.total > 0


def test_backup_and_restore(store, tmp_path, rng):
    index = store.index("a", 4, "euclidean")
    index.add(range(100), rng.standard_normal((100, 4)))
    expected = index.search(np.zeros(4), 10)
    backup = store.backup(tmp_path / "copy", compact=True)
    assert backup.bytes == (tmp_path / "copy").stat().st_size
    with pytest.raises(spinney.StorageError):
        store.backup(tmp_path / "copy")
    store.backup(tmp_path / "copy", overwrite=True)
    again = spinney.Store.restore(tmp_path / "copy", tmp_path / "again")
    found = again.index("a").search(np.zeros(4), 10)
    assert found.ids.tolist() == expected.ids.tolist()
    sealed = spinney.Store(tmp_path / "copy", single_file=True, sealed=True)
    assert sealed.index("a").search(np.zeros(4), 10).ids.tolist() == expected.ids.tolist()


def test_names(store):
    store.index("a", 1, "euclidean")
    store.collection("c", 1, "euclidean")
    assert (store.indexes(), store.collections()) == (["a"], ["c"])
    store.rename("a", "b")
    with pytest.raises(spinney.InvalidOptionError):
        store.index("c", 1, "euclidean")
    assert store.drop("b") and store.drop("c") and not store.drop("b")
    assert (store.indexes(), store.collections()) == ([], [])


def test_stats(store):
    index = store.index("a", 1, "euclidean")
    index.add([1], [[1.0]], build=False)
    stats = store.stats()
    assert stats.pending == index.pending == 1 and stats.file_bytes > 0
    snapshot = store.read()
    index.add([2], [[1.0]])
    stats = store.stats()
    assert stats.oldest_reader_lag >= 1 and stats.oldest_reader_age >= 0
    assert snapshot.txn_id < store.last_txn_id and snapshot.age >= 0
    assert index.build().method in ("nothing", "bulk", "incremental")
    assert store.warm() > 0


def test_audit(store):
    store.set_audit(True)
    assert store.is_audited
    ann = store.acting_as("ann")
    ann.index("a", 1, "euclidean").add([1, 2], [[1.0], [2.0]])
    last = ann.audit_log()[-1]
    assert last.actor == "ann" and last.time > 1.6e9
    assert any(count == 2 and set(keys) == {1, 2} for _, _, count, keys in last.changes)
    assert store.trim_audit(3600) == 0


def test_a_stop_ends_a_search(store, rng):
    index = store.index("a", 2, "euclidean")
    store.set_build_after("a", None)
    index.add(range(5000), rng.random((5000, 2)), build=False)
    stop = spinney.Stop()
    stop.set()
    assert index.search(np.zeros(2), 5, stop=stop).is_partial
    assert index.search(np.zeros(2), 5, timeout=0).is_partial
    assert not index.search(np.zeros(2), 5, timeout=1e9).is_partial


def test_doctests():
    import doctest

    import spinney.aio
    import spinney.async_annoy

    for module in (spinney, spinney.aio, spinney.async_annoy):
        failed, tried = doctest.testmod(module)
        assert tried and not failed
