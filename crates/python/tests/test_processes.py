"""Threads, forks, signals and kills: nothing hangs, nothing is lost."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import spinney


def run(code: str, *args: object, **how: object) -> subprocess.Popen[str]:
    """A Python of its own with this program."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, args)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            **how)


def test_threads_see_one_of_two_commits(store, rng, clustered):
    index = store.index("a", 8, "euclidean")
    rows = [clustered(rng, 2000, 8), clustered(rng, 2000, 8)]
    index.add(range(2000), rows[0])
    queries = rng.standard_normal((4, 8)).astype(np.float32)
    truth = [np.sort(np.linalg.norm(rows[i][:, None] - queries, axis=2), axis=0)[:5].T
             for i in (0, 1)]
    stop, wrong, answered = threading.Event(), [], [0] * 8

    def search(n: int) -> None:
        while not stop.is_set():
            hits = index.search(queries, 5, exact=True, threads=1 + n % 2)
            if not any(np.allclose(hits.distances, one, rtol=1e-4) for one in truth):
                wrong.append(hits)
                return
            answered[n] += 1

    threads = [threading.Thread(target=search, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for turn in range(4):
        with store.write() as txn:
            txn.delete(index, range(2000))
            txn.add(index, range(2000), rows[(turn + 1) % 2])
            txn.build(index)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong and all(answered)


def test_a_transaction_can_be_used_by_any_thread(store):
    index = store.index("a", 1, "euclidean")
    txn = store.write()
    threads = [threading.Thread(target=txn.add, args=(index, [i], [[float(i)]])) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other = threading.Thread(target=txn.commit)
    other.start()
    other.join()
    assert len(index) == 8
    index.add([9], [[9.0]])


def test_writers_wait_in_turn(store):
    index = store.index("a", 1, "euclidean")
    txn = store.write()
    with pytest.raises(spinney.BusyError):
        raised = []

        def other() -> None:
            try:
                store.write(timeout=0.05)
            except spinney.BusyError as error:
                raised.append(error)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        raise raised[0]
    threads = [threading.Thread(target=index.add, args=([i], [[float(i)]])) for i in range(5)]
    for thread in threads:
        thread.start()
    txn.commit()
    for thread in threads:
        thread.join()
    assert len(index) == 5


def test_searches_go_on_during_a_build(store, rng, clustered):
    index = store.index("a", 16, "euclidean")
    store.set_build_after("a", None)
    index.add(range(20_000), clustered(rng, 20_000, 16), build=False)
    begun, steps = threading.Event(), 0
    build = threading.Thread(
        target=lambda: index.build(threads=1, progress=lambda *_: begun.set()))
    build.start()
    begun.wait(60)
    while build.is_alive():
        assert len(index.search(np.zeros(16), 3)) == 3
        steps += 1
    build.join()
    assert steps > 0


# Five cases: a search, a batch, a snapshot of the parent, a write, and an open in a forked child.
FORKED = {
    "search": "index.search([0.0], 1)",
    "batch": "index.search([[0.0]] * 100, 1, threads=2)",
    "snapshot": "held.search([0.0], 1)",
    "write": "store.write()",
    "own write": "index.add([1], [[1.0]])",
    "transaction": "txn.add(index, [1], [[1.0]])",
    "close": "store.close()",
}


@pytest.mark.parametrize("case", FORKED)
def test_a_forked_child_gets_an_error_and_never_hangs(tmp_path, case):
    process = run("""
        import os, signal, sys, warnings
        import spinney
        warnings.simplefilter("ignore")
        store = spinney.Store(sys.argv[1])
        index = store.index("a", 1, "euclidean")
        index.add(range(100), [[float(i)] for i in range(100)])
        index.search([[0.0]] * 100, 1, threads=2)
        snapshot = store.read()
        held = snapshot[index]
        txn = store.write()
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            try:
                exec(sys.argv[2])
            except spinney.ForkedError as error:
                assert "fork" in str(error) or "child" in str(error)
                del held, snapshot, txn, index, store
                os._exit(7)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 7, status
        # What the child did has not harmed the parent.
        txn.add(index, [500], [[5.0]])
        txn.commit()
        assert held.search([0.0], 1).ids.tolist() == [0] and 500 not in held.ids()
        assert 500 in index and store.verify() == []
    """, tmp_path / "s", FORKED[case])
    out, err = process.communicate(timeout=90)
    assert process.returncode == 0, out + err


def test_spawned_processes_open_the_store_by_its_pickle(store, tmp_path):
    import multiprocessing

    index = store.index("a", 1, "euclidean")
    index.add(range(100), [[float(i)] for i in range(100)])
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        found = pool.map(_nearest, [(index, float(i)) for i in range(10)])
    assert found == list(range(10))


def _nearest(asked: tuple[spinney.Index, float]) -> int:
    index, value = asked
    return int(index.search([value], 1).ids[0])


@pytest.mark.parametrize("work", ["build", "own build", "batch", "documents", "waiting"])
def test_control_c_ends_work_and_loses_nothing(tmp_path, work):
    process = run("""
        import sys, threading, numpy as np
        import spinney
        store = spinney.Store(sys.argv[1], durability="none")
        index = store.index("a", 64, "euclidean")
        rows = np.random.default_rng(1).standard_normal((60_000, 64)).astype("f4")
        store.set_build_after("a", None)
        index.add(range(60_000), rows, build=False)
        txn = None
        def ready(*_):
            print("ready", flush=True)
        try:
            if sys.argv[2] == "build":
                index.build(threads=1, progress=ready)
            elif sys.argv[2] == "own build":
                with store.write() as txn:
                    txn.add(index, [70_000], rows[:1])
                    txn.build(index, threads=1, progress=ready)
            elif sys.argv[2] == "batch":
                ready()
                index.search(np.tile(rows, (20, 1)), 10, exact=True)
            elif sys.argv[2] == "documents":
                documents = store.collection("c", 64, "euclidean", keys="int")
                documents.put_many(range(5000), rows[:5000])
                ready()
                documents.search(np.tile(rows, (20, 1)), 10, exact=True)
            else:
                thread = threading.Thread(target=lambda: globals().update(txn=store.write()))
                thread.start()
                thread.join()
                ready()
                index.add([70_000], rows[:1])
        except KeyboardInterrupt:
            if sys.argv[2] == "waiting":
                txn.abort()
            assert index.pending == 60_000 and 70_000 not in index, index.pending
            assert store.verify() == []
            index.add([80_000], rows[:1], build=False)
            sys.exit(7)
        sys.exit(1)
    """, tmp_path / "s", work)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 7, out + err


def test_a_killed_writer_loses_nothing_that_was_committed(tmp_path, rng):
    for _ in range(4):
        process = run("""
            import sys, spinney
            store = spinney.Store(sys.argv[1])
            index = store.index("a", 1, "euclidean")
            documents = store.collection("c", 1, "euclidean", keys="int")
            first = len(index)
            for i in range(first, first + 10_000):
                with store.write() as txn:
                    txn.add(index, [i], [[float(i)]])
                    txn.put(documents, i, [float(i)], labels=["even" if i % 2 == 0 else "odd"])
                print(i, flush=True)
        """, tmp_path / "s")
        assert process.stdout is not None
        acknowledged = int(process.stdout.readline())
        for _ in range(int(rng.integers(5, 60))):
            acknowledged = int(process.stdout.readline())
        process.kill()
        # To the end by the same buffer: communicate() would leave out what is in it.
        rest = process.stdout.read().split()
        process.wait()
        acknowledged = max([acknowledged, *map(int, rest)])
        store = spinney.Store(tmp_path / "s")
        index, documents = store.index("a"), store.collection("c", keys="int")
        assert len(index) in (acknowledged + 1, acknowledged + 2)
        assert list(documents) == list(range(len(index))) == index.ids().to_array().tolist()
        assert documents.count("even") == (len(index) + 1) // 2
        assert store.verify() == []
        store.close()


def resident() -> int:
    """Bytes of memory that this process has, without files."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise AssertionError


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("call", ["search", "batch", "write", "error", "set", "document"])
def test_calls_leak_nothing(store, call):
    index = store.index("a", 4, "euclidean")
    index.add(range(20), np.ones((20, 4)))
    documents = store.collection("c", 4, "euclidean")
    documents.put("a", [1, 1, 1, 1], b"x" * 100, ["l"])
    one, many = np.ones(4, np.float32), np.ones((16, 4), np.float32)

    def error() -> None:
        try:
            index.search(one[:3])
        except ValueError:
            pass

    def write() -> None:
        with store.write() as txn:
            txn.add(index, [3], one)

    calls = {
        "search": (lambda: index.search(one, 5), 200_000),
        "batch": (lambda: index.search(many, 5, threads=2), 3_000),
        "write": (write, 1_000),
        "error": (error, 20_000),
        "set": (lambda: index.search(one, 5, allowed=spinney.IdSet(range(1000))), 20_000),
        "document": (lambda: (documents["a"], documents.search(one, 1, labelled="l")), 10_000),
    }
    work, count = calls[call]
    for _ in range(count // 4):
        work()
    gc.collect()
    before = resident()
    for _ in range(count):
        work()
    gc.collect()
    assert resident() - before < 8 << 20


def test_an_idle_process_does_not_pin_pages(store):
    index = store.index("a", 1, "euclidean")
    index.add([1], [[1.0]])
    index.search([1.0], 1)
    index.add([2], [[1.0]])
    end = time.monotonic() + 60
    while store.stats().oldest_reader_lag and time.monotonic() < end:
        time.sleep(0.1)
    assert not store.stats().oldest_reader_lag
