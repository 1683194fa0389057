"""Functions of Python that searches and builds call: whatever these call in turn, nothing hangs."""

from __future__ import annotations

import numpy as np
import pytest
from test_processes import run

import spinney

# They run in a Python of their own, which is killed if it hangs.
PROLOGUE = """
import sys, numpy as np, spinney
store = spinney.Store(sys.argv[1], durability="none")
index = store.index("a", 4, "euclidean")
documents = store.collection("c", 4, "euclidean", keys="int")
rows = np.random.default_rng(5).random((600, 4))
index.add(range(600), rows)
documents.put_many(range(50), rows[:50])
few, busy = range(5), 0
def refused(call):
    global busy
    try:
        call()
    except spinney.BusyError:
        busy += 1
    return True
"""
NESTED = {
    "a batch in a batch": """
def inner(_):
    return len(index.search(rows[:3], 2, threads=2)) == 3
hits = index.search(rows[:30], 2, predicate=inner, threads=2, allowed=few)
assert hits.counts.tolist() == [2] * 30
""",
    "batches three deep": """
def innermost(_):
    return len(index.search(rows[:2], 2, threads=3)) == 2
def inner(_):
    return len(index.search(rows[:2], 2, threads=2, predicate=innermost, allowed=few)) == 2
hits = index.search(rows[:4], 2, predicate=inner, threads=2, allowed=few)
assert hits.counts.tolist() == [2] * 4
""",
    "a batch of documents in a batch of them": """
def inner(_):
    return len(documents.search(rows[:3], 2, threads=2)) == 3
assert len(documents.search(rows[:9], 2, predicate=inner, threads=2)) == 9
hits = index.search(rows[:9], 2, predicate=inner, threads=2, allowed=few)
assert hits.counts.tolist() == [2] * 9
""",
    "a build in a batch": """
def inner(_):
    return index.build(rebuild=True).items == 600
assert index.search(rows[:4], 2, predicate=inner, threads=2, allowed=few).counts.tolist() == [2] * 4
""",
    "a write in a batch": """
def inner(i):
    return index.add([1000 + i], rows[:1]).tolist() == [1000 + i]
assert index.search(rows[:4], 2, predicate=inner, threads=2, allowed=few).counts.tolist() == [2] * 4
assert all(1000 + i in index for i in few)
""",
    "the transaction in a search in it": """
with store.write() as txn:
    calls = (lambda: txn.len(index), txn.commit, txn.abort, store.write,
             lambda: index.add([7], rows[:1]), lambda: txn.search(index, rows[0]))
    hits = txn.search(index, rows[0], 5, predicate=lambda _: all(map(refused, calls)), allowed=few)
    assert len(hits) == 5 and busy >= 5 * len(calls)
    assert txn.delete(index, [1]) == 1
assert 1 not in index
""",
    "the transaction in a build in it": """
with store.write() as txn:
    calls = (lambda: txn.len(index), txn.commit, store.write, lambda: index.delete([7]))
    def progress(*_):
        all(map(refused, calls))
    txn.build(index, rebuild=True, progress=progress)
    assert busy and txn.delete(index, [1]) == 1
assert 1 not in index
""",
    "a write in a build": """
calls = (store.write, lambda: index.add([7], rows[:1]), lambda: documents.delete(1), index.build)
def progress(*_):
    all(map(refused, calls))
index.build(rebuild=True, progress=progress)
documents.build(rebuild=True, progress=progress)
assert busy and len(documents) == 50
index.add([7], rows[:1])
""",
}


@pytest.mark.parametrize("case", NESTED)
def test_what_functions_call_never_hangs(tmp_path, case):
    process = run(PROLOGUE + NESTED[case], tmp_path / "s")
    try:
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err


@pytest.mark.parametrize("items", [1, 5, 200, 1000])
@pytest.mark.parametrize("ending", ["an exception", "False"])
def test_progress_can_end_a_build_at_each_step(tmp_path, rng, items, ending):
    class Own(Exception):
        pass

    # With more threads, the number of steps is not the same each time.
    store = spinney.Store(tmp_path / "s", threads=1, durability="none")
    index = store.index("a", 4, "euclidean")
    rows = rng.random((items, 4))
    told: list[object] = []
    index.add(range(items), rows, progress=lambda *at: told.append(at))
    index.delete(range(items))
    for step in range(len(told)):
        left = step

        def progress(*_: object) -> bool:
            nonlocal left
            left -= 1
            if left < 0 and ending == "an exception":
                raise Own
            return left >= 0

        with pytest.raises(Own if ending == "an exception" else spinney.CancelledError):
            index.add(range(items), rows, progress=progress)
        assert left == -1, "it was called after it had ended the build"
        assert len(index) == 0, f"ended at step {step} of {told}"
    index.add(range(items), rows)
    assert len(index) == items and store.verify() == []


def test_functions_may_keep_what_they_get(store, rng):
    index = store.index("a", 4, "euclidean")
    index.add(range(100), rng.random((100, 4)))
    kept: list[int] = []
    index.search(np.zeros((9, 4)), 3, predicate=lambda i: kept.append(i) or True)
    assert set(kept) <= set(range(100)) and all(type(i) is int for i in kept)
