"""``AnnoyIndex``: updates, threads and processes."""

from __future__ import annotations

import doctest
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import spinney.annoy
from annoy_rows import METRICS, built, filled, rows, true_distances
from spinney.annoy import AnnoyIndex


@pytest.fixture(params=METRICS)
def metric(request: pytest.FixtureRequest) -> str:
    return request.param


def test_updatable_is_off_by_default() -> None:
    index = filled("euclidean")
    assert not index.updatable
    with pytest.raises(Exception, match="updatable=True"):
        index.delete_item(0)


@pytest.mark.parametrize("seed", range(4))
def test_updates_after_build_save_and_load_are_as_in_a_dictionary(
    metric: str, seed: int, tmp_path: Path
) -> None:
    rng = np.random.default_rng([seed, *metric.encode()])
    index, model, path = AnnoyIndex(4, metric, updatable=True), {}, tmp_path / "index"
    for step in range(150):
        action = rng.choice(["add", "add", "add", "delete", "build", "save", "load"])
        item = int(rng.integers(0, 40))
        if action == "add":
            row = rows(metric, 1, 4, seed=step)[0] * (rng.random() > 0.1)
            index.add_item(item, row)
            model[item] = row.astype(np.float32)
        elif action == "delete" and item < index.get_n_items():
            assert index.delete_item(item) is (model.pop(item, None) is not None)
        elif action == "build":
            index.build(int(rng.integers(1, 9)))
        elif action in ("save", "load") and index.get_n_trees() > 0:
            index.save(path)
            if action == "load":
                index = AnnoyIndex(4, metric, updatable=True)
                index.load(path)
        for known in range(index.get_n_items()):
            vector = model.get(known, np.zeros(4, np.float32))
            assert index.get_item_vector(known) == vector.tolist()
        if index.get_n_trees() > 0:
            query = rows(metric, 1, 4, seed=1000 + step)[0]
            ids, distances = index.get_nns_by_vector(query, 100, -1, True)
            assert sorted(ids) == sorted(model), (action, step)
            true = [true_distances(metric, model[i][None], query)[0] for i in ids]
            assert distances == pytest.approx(true, rel=1e-5, abs=1e-3)


def test_updates_stay_with_the_index_until_they_are_saved(metric: str, tmp_path: Path) -> None:
    path = tmp_path / "index"
    index = built(metric, updatable=True)
    index.save(path)
    before = path.read_bytes()
    index.add_item(99, [1.0] * 8)
    assert index.delete_item(0) is True
    assert path.read_bytes() == before
    other = AnnoyIndex(8, metric)
    other.load(path)
    assert (other.get_n_items(), index.get_n_items()) == (50, 100)
    index.save(path)
    other.load(path)
    assert other.get_n_items() == 100
    assert sorted(other.get_nns_by_vector([1.0] * 8, 100)) == [*range(1, 50), 99]


def test_updatable_in_a_file_of_its_own(tmp_path: Path) -> None:
    index = AnnoyIndex(8, "euclidean", updatable=True)
    index.on_disk_build(tmp_path / "index")
    index.add_item(0, [1.0] * 8)
    index.build(1)
    index.add_item(1, [2.0] * 8)
    assert index.save(tmp_path / "index")
    other = AnnoyIndex(8, "euclidean")
    other.load(tmp_path / "index")
    assert other.get_nns_by_vector([2.0] * 8, 2) == [1, 0]


def test_threads_search_while_one_updates() -> None:
    index, query = built("euclidean", 500, updatable=True), [0.1] * 8
    wrong: list[BaseException] = []
    ended = threading.Event()

    def search() -> None:
        try:
            while not ended.is_set():
                assert len(index.get_nns_by_vector(query, 20)) == 20
        except BaseException as error:
            wrong.append(error)

    def update(first: int) -> None:
        try:
            for item in range(first, first + 40):
                index.add_item(item, [item / 100] * 8)
            index.build(3)
        except BaseException as error:
            wrong.append(error)

    searching = [threading.Thread(target=search) for _ in range(3)]
    updating = [threading.Thread(target=update, args=(first,)) for first in (500, 600)]
    for thread in searching + updating:
        thread.start()
    for thread in updating:
        thread.join()
    ended.set()
    for thread in searching:
        thread.join()
    assert wrong == []
    assert index.get_n_items() == 640
    assert len(index.get_nns_by_vector(query, 1000)) == 580


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kind", ["built", "loaded"])
def test_forked_children_search_alike(kind: str, metric: str, tmp_path: Path) -> None:
    index, queries = built(metric, 2000), rows(metric, 5, seed=6)
    if kind == "loaded":
        index.save(tmp_path / "index")
    want = index.get_nns_by_item(3, 10, include_distances=True)
    batch = index.nns_batch(queries, 5)[0].tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            same = index.get_nns_by_item(3, 10, include_distances=True) == want
            same &= index.nns_batch(queries, 5)[0].tolist() == batch
            same &= index.save(tmp_path / "copy") and index.get_nns_by_item(3, 10) == want[0]
            code = 0 if same else 2
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert index.get_nns_by_item(3, 10, include_distances=True) == want


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_change_what_its_parent_changes() -> None:
    from spinney import ForkedError

    index = built("euclidean", updatable=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        code = 1
        try:
            index.add_item(0, [1.0] * 8)
        except ForkedError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert index.get_n_items() == 50


def test_nothing_is_left_in_the_temporary_folder(tmp_path: Path) -> None:
    program = """
import sys
from spinney.annoy import AnnoyIndex
index = AnnoyIndex(2, "euclidean", updatable=True)
index.add_item(0, [1, 2]); index.build(1); index.save(sys.argv[1]); index.add_item(1, [2, 1])
"""
    (tmp_path / "temporary").mkdir()
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    arguments = [sys.executable, "-c", program, str(tmp_path / "index")]
    subprocess.run(arguments, check=True, env=environment)
    assert sorted(os.listdir(tmp_path)) == ["index", "temporary"]
    assert os.listdir(tmp_path / "temporary") == []


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_nothing_leaks(tmp_path: Path) -> None:
    def used() -> tuple[int, int]:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd"))

    index, annoys = built("angular", 2000, updatable=True), AnnoyIndex(6, "angular")
    index.save(tmp_path / "index")
    annoys_file = Path(__file__).parent / "annoy_files" / "angular.ann"
    annoys.load(annoys_file)

    def work(count: int) -> None:
        for item in range(count):
            index.get_nns_by_item(item % 2000, 10, include_distances=True)
            index.get_item_vector(item % 2000)
            index.get_distance(item % 2000, 1)
            annoys.get_nns_by_item(3, 10)
        for _ in range(count // 100):
            for path, other in ((tmp_path / "index", 8), (annoys_file, 6)):
                loaded = AnnoyIndex(other, "angular")
                loaded.load(path)
                loaded.nns_batch(np.ones((3, other), np.float32), 2)
            again = filled("angular", 10)
            again.build(1)
            again.unbuild()
            again.build(1)
            again.save(tmp_path / "again")

    work(10_000)
    bytes_before, files_before = used()
    work(10_000)
    bytes_after, files_after = used()
    assert files_after == files_before
    assert bytes_after - bytes_before < 16 << 20


def test_an_interrupted_build_loses_nothing() -> None:
    program = """
import numpy as np
from spinney.annoy import AnnoyIndex
index, rows = AnnoyIndex(64, "euclidean"), np.random.default_rng(1).normal(size=(60_000, 64))
for item, row in enumerate(rows):
    index.add_item(item, row)
try:
    print("begun", flush=True)
    index.build(10)
except KeyboardInterrupt:
    assert index.get_n_items() == 60_000 and index.get_n_trees() == 0
    assert index.get_item_vector(59_999) == rows[-1].astype("f4").tolist()
    index.add_item(60_000, rows[0])
    print("interrupted", flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    # By then it builds, as a rule; and whenever the signal comes, nothing is lost.
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "interrupted\n"
    assert process.wait() == 0
    process.stdout.close()


def test_the_programs_in_the_documentation_run() -> None:
    assert doctest.testmod(spinney.annoy) == (0, 6)
