"""Forked children with stores of their own: nothing hangs, and nothing is the parent's."""

from __future__ import annotations

import pytest
from test_processes import run

CHILD = {
    "builds": """
        own = spinney.Store(sys.argv[1] + "-own")
        index = own.index("a", 4, "euclidean")
        index.add(range(400), rows[:400])
        index.search(rows[:50], 3, threads=2)
        own.close()
    """,
    "builds at a commit": """
        own = spinney.Store(sys.argv[1] + "-own")
        index = own.index("a", 4, "euclidean")
        index.add(range(400), rows[:400], build=False)
        assert index.pending == 0
        with own.write() as txn:
            txn.add(index, range(400), rows[400:800])
        assert index.pending == 0
    """,
    "documents, repairs and copies": """
        own = spinney.Store(sys.argv[1] + "-own")
        documents = own.collection("c", 4, "euclidean", keys="int")
        documents.put_many(range(400), rows[:400])
        documents.build(rebuild=True)
        assert own.repair("c", 4, "euclidean") == ([], []) and own.verify() == []
        own.warm()
        own.backup(sys.argv[1] + "-copy", compact=True)
    """,
    "a function that searches in its transaction": """
        own = spinney.Store(sys.argv[1] + "-own")
        index = own.index("a", 4, "euclidean")
        index.add(range(40), rows[:40])
        with own.write() as txn:
            try:
                txn.search(index, rows[0], predicate=lambda _: txn.len(index))
            except spinney.BusyError:
                pass
            else:
                raise AssertionError
    """,
}


@pytest.mark.parametrize("while_building", [False, True])
@pytest.mark.parametrize("case", CHILD)
def test_a_child_uses_stores_of_its_own(tmp_path, case, while_building):
    process = run("""
        import os, signal, sys, textwrap, threading, warnings
        import numpy as np
        import spinney
        warnings.simplefilter("ignore")
        rows = np.random.default_rng(3).random((20_000, 4))
        store = spinney.Store(sys.argv[1], durability="none")
        parents = store.index("a", 4, "euclidean")
        parents.add(range(20_000), rows)
        begun = threading.Event()
        build = threading.Thread(
            target=lambda: parents.build(rebuild=True, progress=lambda *_: begun.set()))
        build.start()
        begun.wait()
        if sys.argv[3] == "False":
            build.join()
        child = os.fork()
        if child == 0:
            signal.alarm(40)
            try:
                exec(textwrap.dedent(sys.argv[2]))
            except BaseException as error:
                os.write(2, repr(error).encode())
                os._exit(1)
            os._exit(7)
        _, status = os.waitpid(child, 0)
        build.join()
        assert os.waitstatus_to_exitcode(status) == 7, status
        assert store.verify() == []
    """, tmp_path / "s", CHILD[case], while_building)
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, out + err


def test_a_transaction_of_the_parent_is_none_of_the_child(tmp_path):
    process = run("""
        import os, signal, sys, warnings
        import spinney
        warnings.simplefilter("ignore")
        store = spinney.Store(sys.argv[1])
        txn = store.write()
        child = os.fork()
        if child == 0:
            signal.alarm(40)
            del txn
            try:
                spinney.Store(sys.argv[1]).write(timeout=20)
            except spinney.ForkedError:
                os._exit(7)
            os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 7, status
        txn.commit()
    """, tmp_path / "s")
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, out + err
