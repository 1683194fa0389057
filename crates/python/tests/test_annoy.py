"""``AnnoyIndex``: each promise of Annoy 1.17.3, and what is new. One test for each row."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from spinney.annoy import AnnoyIndex

METRICS = ("angular", "euclidean", "manhattan", "hamming", "dot")


@pytest.fixture(params=METRICS)
def metric(request: pytest.FixtureRequest) -> str:
    return request.param


def rows(metric: str, count: int, f: int = 8, seed: int = 5) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(count, f)).astype(np.float32)
    return (drawn > 0).astype(np.float32) if metric == "hamming" else drawn


def filled(metric: str, count: int = 50, f: int = 8, **options: bool) -> AnnoyIndex:
    index = AnnoyIndex(f, metric, **options)
    for item, row in enumerate(rows(metric, count, f)):
        index.add_item(item, row)
    return index


def built(metric: str, count: int = 50, f: int = 8, **options: bool) -> AnnoyIndex:
    index = filled(metric, count, f, **options)
    assert index.build(10) is True
    return index


def true_distances(metric: str, x: np.ndarray, q: np.ndarray) -> np.ndarray:
    x, q = x.astype(float), q.astype(float)
    if metric == "angular":
        norms = np.linalg.norm(x, axis=-1) * np.linalg.norm(q)
        cos = np.divide(x @ q, norms, out=np.zeros_like(norms), where=norms > 0)
        return np.sqrt(np.maximum(0, 2 - 2 * cos))
    if metric == "dot":
        return x @ q
    if metric == "euclidean":
        return np.linalg.norm(x - q, axis=-1)
    return np.abs(x - q).sum(axis=-1)


# AnnoyIndex(f, metric)


def test_constructor_without_a_metric_warns_and_is_angular() -> None:
    with pytest.warns(FutureWarning, match="Please pass metric='angular' explicitly"):
        index = AnnoyIndex(2)
    index.add_item(0, [1, 0])
    index.add_item(1, [0, 3])
    assert index.get_distance(0, 1) == pytest.approx(math.sqrt(2))


def test_constructor_refuses_unknown_metrics_and_lengths() -> None:
    with pytest.raises(ValueError, match="^No such metric$"):
        AnnoyIndex(2, "banana")
    for f in (0, -1, 65_537):
        with pytest.raises(ValueError, match="65536"):
            AnnoyIndex(f, "dot")
    with pytest.raises(OverflowError, match="signed integer is greater than maximum"):
        AnnoyIndex(2**31, "dot")
    for arguments in ((2.5, "dot"), ("2", "dot"), (2, None), (2, 3), ()):
        with pytest.raises(TypeError):
            AnnoyIndex(*arguments)
    assert AnnoyIndex(f=3, metric="dot").f == 3


# add_item


def test_add_item_returns_none_and_replaces(metric: str) -> None:
    index, row = filled(metric), rows(metric, 1, seed=9)[0]
    assert index.add_item(i=3, vector=row) is None
    assert index.get_item_vector(3) == row.tolist()
    assert index.get_n_items() == 50


def test_add_item_errors_of_ids() -> None:
    index = AnnoyIndex(2, "euclidean")
    with pytest.raises(IndexError, match="^Item index can not be negative$"):
        index.add_item(-1, [1, 2])
    with pytest.raises(OverflowError, match="signed integer is greater than maximum"):
        index.add_item(2**31, [1, 2])
    with pytest.raises(TypeError):
        index.add_item(1.5, [1, 2])  # type: ignore[arg-type]


def test_add_item_errors_of_vectors() -> None:
    class Sized:
        def __len__(self) -> int:
            return 3

    index = AnnoyIndex(3, "euclidean")
    for vector in ([1, 2], np.ones(2, np.float32), np.ones(2), (1.0, 2.0)):
        text = r"^Vector has wrong length \(expected 3, got 2\)$"
        with pytest.raises(IndexError, match=text):
            index.add_item(0, vector)
    with pytest.raises(TypeError, match=r"^object of type 'int' has no len\(\)$"):
        index.add_item(0, 5)
    with pytest.raises(TypeError, match="^'Sized' object is not subscriptable$"):
        index.add_item(0, Sized())
    with pytest.raises(TypeError, match="^must be real number, not str$"):
        index.add_item(0, ["1", "2", "3"])
    with pytest.raises(KeyError):
        index.add_item(0, {0: 1.0, 1: 2.0, 3: 3.0})
    for number in (math.nan, math.inf, 1e300):
        with pytest.raises(ValueError, match="finite"):
            index.add_item(0, [number, 0, 0])
    with pytest.raises(ValueError, match="length of the vector"):
        index.add_item(0, [1e30, 0, 0])
    assert index.get_n_items() == 0


def test_add_item_takes_all_that_has_numbers() -> None:
    index = AnnoyIndex(4, "euclidean")
    wide = np.arange(16, dtype=np.float32).reshape(4, 4)
    base = np.zeros(17, np.uint8)
    misaligned = base[1:].view(np.float32)
    misaligned[:] = [0, 4, 8, 12]
    given = [
        [0, 4, 8, 12],
        [0.0, 4, np.float32(8), True * 12],
        (0, 4, 8, 12),
        wide[:, 0],
        np.array([0, 4, 8, 12], np.float16),
        np.array([0, 4, 8, 12], np.float64),
        np.array([12, 8, 4, 0], np.float64)[::-1],
        np.array([0, 4, 8, 12], np.uint8),
        np.array([0, 4, 8, 12], ">f4"),
        misaligned,
        {0: 0, 1: 4, 2: 8, 3: 12},
    ]
    for item, vector in enumerate(given):
        index.add_item(item, vector)
        assert index.get_item_vector(item) == [0.0, 4.0, 8.0, 12.0], vector


def test_add_item_after_build_save_and_load_is_refused(metric: str, tmp_path: Path) -> None:
    index = built(metric)
    for _ in range(2):
        with pytest.raises(Exception, match="^You can't add an item to a loaded index$") as error:
            index.add_item(60, [1.0] * 8)
        assert error.type is Exception
        index.save(tmp_path / "index")


# build, unbuild


def test_build_twice_or_loaded_is_refused(metric: str, tmp_path: Path) -> None:
    index = built(metric)
    with pytest.raises(Exception, match="^You can't build a built index$"):
        index.build(10)
    index.save(tmp_path / "index")
    with pytest.raises(Exception, match="^You can't build a loaded index$"):
        index.build(10)


def test_build_records_its_trees() -> None:
    for n_trees, recorded in ((1, 1), (7, 7), (-1, 10), (0, 0)):
        index = filled("euclidean")
        assert index.get_n_trees() == 0
        index.build(n_trees)
        assert index.get_n_trees() == recorded
    with pytest.raises(TypeError):
        filled("euclidean").build()  # type: ignore[call-arg]
    for arguments in ((-2,), (1, 0), (1, -2)):
        with pytest.raises(ValueError, match="takes -1"):
            filled("euclidean").build(*arguments)


def test_no_trees_and_no_items_answer_nothing(metric: str) -> None:
    index = filled(metric)
    index.build(0)
    assert index.get_nns_by_item(0, 3) == index.get_nns_by_vector([1.0] * 8, 3) == []
    empty = AnnoyIndex(8, metric)
    empty.build(2)
    assert (empty.get_n_items(), empty.get_n_trees()) == (0, 2)
    assert empty.get_nns_by_vector([1.0] * 8, 3, include_distances=True) == ([], [])


def hasty(index: AnnoyIndex) -> list[list[int]]:
    """What searches find that look at little: it shows the forest."""
    return [index.get_nns_by_vector(q, 10, 1) for q in rows(index.metric, 100, seed=6)]


def test_any_number_of_threads_builds_the_same(metric: str) -> None:
    found = []
    for n_jobs in (1, 2, 4, -1):
        index = filled(metric, 3000)
        index.set_seed(3)
        index.build(5, n_jobs=n_jobs)
        found.append(hasty(index))
    assert found[1:] == found[:1] * 3


def test_unbuild_makes_it_fillable_again(metric: str, tmp_path: Path) -> None:
    index = built(metric)
    assert index.unbuild() is True
    assert index.unbuild() is True
    assert index.get_n_trees() == 0
    assert index.get_nns_by_item(0, 3) == []
    assert index.get_item_vector(7) == rows(metric, 50)[7].tolist()
    other = rows(metric, 1, seed=9)[0]
    index.add_item(7, other)
    index.add_item(60, other)
    index.build(4)
    assert (index.get_n_items(), index.get_n_trees()) == (61, 4)
    assert index.get_item_vector(7) == index.get_item_vector(60) == other.tolist()
    index.save(tmp_path / "index")
    with pytest.raises(Exception, match="^You can't unbuild a loaded index$"):
        index.unbuild()


# save, load, unload, on_disk_build


def test_save_and_load_keep_everything(metric: str, tmp_path: Path) -> None:
    index, path = built(metric, 3000), tmp_path / "index"
    queries = rows(metric, 20, seed=6)
    before = [index.get_nns_by_vector(q, 10, include_distances=True) for q in queries]
    assert index.save(fn=str(path), prefault=False) is True
    other = AnnoyIndex(8, metric)
    assert other.load(fn=path, prefault=True) is True
    for one in (index, other):
        assert (one.get_n_items(), one.get_n_trees()) == (3000, 10)
        assert before == [one.get_nns_by_vector(q, 10, include_distances=True) for q in queries]
    assert os.listdir(tmp_path) == ["index"], "no lock file, no link, no part"


def test_save_unbuilt_or_nowhere_is_an_os_error(metric: str, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="^You can't save an index that hasn't been built$"):
        filled(metric).save(tmp_path / "index")
    index = built(metric)
    for path in (tmp_path / "none" / "index", tmp_path):
        with pytest.raises(OSError):
            index.save(path)
    assert index.get_nns_by_item(3, 1), "it is as it was"


def test_save_does_not_disturb_who_has_the_old_file_open(metric: str, tmp_path: Path) -> None:
    path = tmp_path / "index"
    built(metric, 500).save(path)
    reader = AnnoyIndex(8, metric)
    reader.load(path)
    before = [reader.get_nns_by_item(i, 10, include_distances=True) for i in range(50)]
    for count in (20, 700):
        built(metric, count).save(path)
        fresh = AnnoyIndex(8, metric)
        fresh.load(path)
        assert (fresh.get_n_items(), reader.get_n_items()) == (count, 500)
        assert before == [reader.get_nns_by_item(i, 10, include_distances=True) for i in range(50)]


def test_save_twice_and_over_itself(metric: str, tmp_path: Path) -> None:
    index = built(metric)
    for name in ("a", "a", "b", "a"):
        assert index.save(tmp_path / name)
    assert index.get_n_items() == 50
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_load_errors(metric: str, tmp_path: Path) -> None:
    index = AnnoyIndex(8, metric)
    with pytest.raises(
        OSError, match=r"^Unable to open: No such file or directory \(2\)$"
    ) as error:
        index.load(tmp_path / "none")
    assert error.value.errno == 2
    (tmp_path / "empty").touch()
    with pytest.raises(OSError, match="Size of file is zero"):
        index.load(tmp_path / "empty")
    (tmp_path / "odd").write_bytes(b"x" * 7)
    with pytest.raises(OSError, match="Index size is not a multiple of vector size"):
        index.load(tmp_path / "odd")
    built(metric).save(tmp_path / "index")
    with pytest.raises(OSError, match="8 numbers"):
        AnnoyIndex(9, metric).load(tmp_path / "index")
    other = METRICS[METRICS.index(metric) - 1]
    with pytest.raises(OSError, match="it holds vectors of 8 numbers under"):
        AnnoyIndex(8, other).load(tmp_path / "index")
    for path in (3, None):
        with pytest.raises(TypeError):
            index.load(path)  # type: ignore[arg-type]


def test_a_cut_file_of_ours_is_an_os_error(tmp_path: Path) -> None:
    built("euclidean", 500).save(tmp_path / "index")
    whole = (tmp_path / "index").read_bytes()
    for length in (21, 4096, 8192, len(whole) // 2):
        (tmp_path / "cut").write_bytes(whole[:length])
        with pytest.raises(OSError):
            AnnoyIndex(8, "euclidean").load(tmp_path / "cut")


def test_a_failed_load_leaves_what_was_there(tmp_path: Path) -> None:
    index = built("euclidean")
    with pytest.raises(OSError):
        index.load(tmp_path / "none")
    assert index.get_n_items() == 50


def test_load_through_a_link_and_a_relative_path(tmp_path: Path, monkeypatch) -> None:
    built("euclidean").save(tmp_path / "index")
    (tmp_path / "link").symlink_to("index")
    monkeypatch.chdir(tmp_path)
    for path in ("link", "index", "./index"):
        index = AnnoyIndex(8, "euclidean")
        index.load(path)
        assert index.get_n_items() == 50


def test_many_loads_of_one_file(tmp_path: Path) -> None:
    built("euclidean").save(tmp_path / "index")
    many = [AnnoyIndex(8, "euclidean") for _ in range(500)]
    for index in many:
        index.load(tmp_path / "index")
    for index in many:
        assert index.get_nns_by_item(3, 1) == [3]
        index.unload()
        index.load(tmp_path / "index")
        index.load(tmp_path / "index")
        assert index.get_nns_by_item(3, 1) == [3]


def test_unload_forgets_all_and_twice(metric: str) -> None:
    index = built(metric)
    assert index.unload() is True
    assert index.unload() is True
    assert (index.get_n_items(), index.get_n_trees()) == (0, 0)
    index.add_item(0, [1.0] * 8)
    index.build(1)
    assert index.get_nns_by_item(0, 1) == [0]


def test_on_disk_build(metric: str, tmp_path: Path) -> None:
    path, index = tmp_path / "index", AnnoyIndex(8, metric)
    assert index.on_disk_build(fn=path) is True
    for item, row in enumerate(rows(metric, 300)):
        index.add_item(item, row)
    assert index.get_item_vector(5) == rows(metric, 300)[5].tolist()
    index.build(10)
    assert os.listdir(tmp_path) == ["index"]
    assert index.save(tmp_path / "not written") is True
    assert os.listdir(tmp_path) == ["index"]
    want = built(metric, 300).get_nns_by_item(7, 9, include_distances=True)
    assert index.get_nns_by_item(7, 9, include_distances=True) == want
    index.unload()
    index.load(path)
    assert index.get_nns_by_item(7, 9, include_distances=True) == want


def test_on_disk_build_nowhere_is_an_os_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none" / "index", tmp_path):
        with pytest.raises(OSError, match="^Unable to open: "):
            AnnoyIndex(8, "dot").on_disk_build(path)


def test_on_disk_build_of_more_than_is_kept_in_memory(tmp_path: Path) -> None:
    f, index = 4096, AnnoyIndex(4096, "euclidean")
    index.on_disk_build(tmp_path / "index")
    drawn = np.random.default_rng(1).normal(size=(4500, f)).astype(np.float32)
    for item, row in enumerate(drawn):
        index.add_item(item, row)
    for item in (0, 4095, 4499):
        assert index.get_item_vector(item) == drawn[item].tolist()
    index.build(1)
    for item in (0, 4095, 4499):
        assert index.get_nns_by_item(item, 1, include_distances=True) == ([item], [0.0])
    index.unload()


# Searches


def test_recall_and_distances(metric: str) -> None:
    x, queries = rows(metric, 3000), rows(metric, 40, seed=6)
    index = built(metric, 3000)
    found = 0
    for query in queries:
        true = true_distances(metric, x, query)
        ids, distances = index.get_nns_by_vector(query, 10, -1, True)
        assert distances == pytest.approx(true[ids].tolist(), rel=1e-5, abs=1e-3)
        order = sorted(distances, reverse=metric == "dot")
        assert distances == order
        last = np.sort(-true if metric == "dot" else true)[9]
        worst = -true[ids] if metric == "dot" else true[ids]
        found += int((worst <= last + 1e-5).sum())
    assert found >= 0.99 * 400


def test_beyond_a_hundred_hits_the_trees_count(metric: str) -> None:
    index, query = built(metric, 3000), rows(metric, 1, seed=6)[0]
    ids, distances = index.get_nns_by_vector(query, 1000, -1, True)
    assert len(ids) == len(set(ids)) == 1000
    true = np.sort(true_distances(metric, rows(metric, 3000), query))
    true = true[::-1][:1000] if metric == "dot" else true[:1000]
    last = true[-1] + (-1e-5 if metric == "dot" else 1e-5)
    near = [d >= last if metric == "dot" else d <= last for d in distances]
    assert sum(near) >= 950


def test_search_k(metric: str) -> None:
    index, query = built(metric, 3000), rows(metric, 1, seed=6)[0]
    assert index.get_nns_by_vector(query, 3, 0) == []
    exact = index.get_nns_by_vector(query, 10, -2)
    assert index.get_nns_by_vector(query, 10, 100_000) == exact
    assert len(index.get_nns_by_vector(query, 10, 1)) == 10
    assert len(index.get_nns_by_vector(vector=query, n=10, search_k=50)) == 10


def test_how_many_hits(metric: str) -> None:
    index, query = built(metric), rows(metric, 1, seed=6)[0]
    assert index.get_nns_by_vector(query, 0) == []
    for n in (50, 51, 999_999_999, -1):
        assert sorted(index.get_nns_by_vector(query, n)) == list(range(50))
    with pytest.raises(TypeError):
        index.get_nns_by_vector(query, "a")  # type: ignore[arg-type]
    with pytest.raises(IndexError, match=r"^Vector has wrong length \(expected 8, got 2\)$"):
        index.get_nns_by_vector([1, 2], 1)
    with pytest.raises(ValueError, match="finite"):
        index.get_nns_by_vector([math.nan] * 8, 1)


def test_an_item_is_its_own_neighbour(metric: str) -> None:
    index = built(metric, 3000, f=40)
    for item in range(0, 3000, 100):
        if metric != "dot":
            ids, distances = index.get_nns_by_item(item, 1, include_distances=True)
            assert (ids, distances[0]) == ([item], pytest.approx(0, abs=1e-3))
        low = index.get_nns_by_item(item, 3, search_k=1)
        assert len(low) == len(set(low)) == 3
        assert metric == "dot" or low[0] == item, "whether the search found it or not"


def test_twins_are_found_together(metric: str) -> None:
    index = AnnoyIndex(8, metric)
    near = rows(metric, 1000) + (0 if metric == "hamming" else 1e-4)
    for item, (row, twin) in enumerate(zip(rows(metric, 1000), near, strict=True)):
        index.add_item(2 * item, row)
        index.add_item(2 * item + 1, twin)
    index.build(10)
    if metric in ("angular", "euclidean", "manhattan"):
        for item in range(0, 1000, 10):
            assert set(index.get_nns_by_item(2 * item, 2)) == {2 * item, 2 * item + 1}


def test_ids_of_items_and_errors_of_ranges(metric: str) -> None:
    for index in (filled(metric), built(metric)):
        for bad in (50, 1000):
            text = "^Item index larger than the largest item index$"
            for call in (
                lambda i: index.get_nns_by_item(i, 1),
                lambda i: index.get_item_vector(i),
                lambda i: index.get_distance(0, i),
                lambda i: index.get_distance(i, 0),
            ):
                with pytest.raises(IndexError, match=text):
                    call(bad)
                with pytest.raises(IndexError, match="^Item index can not be negative$"):
                    call(-bad)
        for method in (index.get_item_vector, index.get_distance, index.verbose, index.set_seed):
            with pytest.raises(TypeError):
                method(i=1)  # type: ignore[call-arg]


def test_before_the_build_nothing_is_found(metric: str) -> None:
    index = filled(metric)
    assert index.get_nns_by_item(0, 3) == []
    assert index.get_nns_by_vector([1.0] * 8, 3, include_distances=True) == ([], [])


def test_distances_in_double_precision_before_and_after_the_build(metric: str) -> None:
    x = rows(metric, 50)
    index = filled(metric)
    for _ in range(2):
        for i, j in ((0, 1), (7, 33), (4, 4)):
            true = true_distances(metric, x[j : j + 1], x[i])[0]
            assert index.get_distance(i, j) == pytest.approx(true, rel=1e-12, abs=1e-7)
        if index.get_n_trees() == 0:
            index.build(2)
    same = 0.0 if metric != "dot" else pytest.approx(float(x[4].astype(float) @ x[4]))
    assert index.get_distance(4, 4) == same


def test_holes_read_as_zeros_and_are_not_found(metric: str) -> None:
    index = AnnoyIndex(8, metric)
    for item, row in enumerate(rows(metric, 20)):
        index.add_item(100_000 + 7 * item, row)
    index.build(10)
    assert index.get_n_items() == 100_000 + 7 * 19 + 1
    assert index.get_item_vector(5) == [0.0] * 8
    ids = {100_000 + 7 * item for item in range(20)}
    assert set(index.get_nns_by_vector([1.0] * 8, 1000)) == ids
    assert set(index.get_nns_by_item(5, 1000)) <= ids


def test_vectors_of_zeros_are_at_a_right_angle_to_all(tmp_path: Path) -> None:
    index, right = filled("angular", 10), math.sqrt(2)
    for item in (10, 12, 4):
        index.add_item(item, [0.0] * 8)
    assert index.get_distance(10, 3) == pytest.approx(right)
    index.build(10)
    index.save(tmp_path / "index")
    assert index.get_item_vector(12) == [0.0] * 8
    for query in ([0.0] * 8,):
        ids, distances = index.get_nns_by_vector(query, 12, include_distances=True)
        assert ids == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12]
        assert distances == pytest.approx([right] * 12)
    assert index.get_nns_by_item(12, 3) == [0, 1, 2]
    query = rows("angular", 10)[2]
    ids, distances = index.get_nns_by_vector(query, 100, include_distances=True)
    assert sorted(ids) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12]
    assert distances == sorted(distances)
    assert [i for i, d in zip(ids, distances, strict=True) if d == right] == [4, 10, 12]


def test_only_zeros(tmp_path: Path) -> None:
    index = AnnoyIndex(3, "angular")
    index.add_item(0, [0, 0, 0])
    index.add_item(2, [0, 0, 0])
    index.build(1)
    assert index.get_nns_by_vector([1, 2, 3], 5) == index.get_nns_by_item(0, 5) == [0, 2]


def test_dot_is_the_product_largest_first() -> None:
    index = AnnoyIndex(2, "dot")
    for item, vector in enumerate(([2, 2], [3, 2], [3, 3], [0, 0])):
        index.add_item(item, vector)
    index.build(10)
    found = index.get_nns_by_vector([4, 4], 4, include_distances=True)
    assert found == ([2, 1, 0, 3], [24.0, 20.0, 16.0, 0.0])
    assert index.get_distance(0, 1) == 10.0


def test_hamming_takes_more_than_a_half_for_a_one() -> None:
    index = AnnoyIndex(3, "hamming")
    index.add_item(0, [0.5, 0.6, 7])
    assert index.get_item_vector(0) == [0.0, 1.0, 1.0]
    index.add_item(1, [1, 0, -3])
    index.build(1)
    assert index.get_nns_by_vector([0.4, 0.9, 1], 2, include_distances=True) == ([0, 1], [0.0, 3.0])


# The rest


def test_verbose_seed_and_f(capfd: pytest.CaptureFixture[str]) -> None:
    index = filled("euclidean")
    assert index.verbose(True) is True
    assert index.set_seed(42) is None
    index.build(2)
    assert "50 items" in capfd.readouterr().err
    assert index.f == 8
    with pytest.raises(AttributeError):
        index.f = 9  # type: ignore[misc]
    quiet = filled("euclidean")
    assert quiet.verbose(0) is True
    quiet.build(2)
    assert capfd.readouterr().err == ""


def test_the_seed_decides_and_unload_resets_it() -> None:
    def found(seed: int | None, forget: bool = False) -> list[list[int]]:
        index = AnnoyIndex(8, "euclidean")
        if seed is not None:
            index.set_seed(seed)
        if forget:
            index.unload()
        for item, row in enumerate(rows("euclidean", 3000)):
            index.add_item(item, row)
        index.build(1)
        return hasty(index)

    default = found(None)
    assert found(1) == found(1) != default
    assert found(1, forget=True) == found(0) == default
    assert found(-4) not in (default, found(4))


def test_subclasses() -> None:
    class Named(AnnoyIndex):
        def __init__(self, f: int, metric: str) -> None:
            super().__init__(f, metric)
            self.name = "mine"

    index = Named(2, "euclidean")
    index.add_item(0, [1, 2])
    assert (index.name, index.f, index.get_n_items()) == ("mine", 2, 1)


def test_pickles_by_path_when_loaded(metric: str, tmp_path: Path) -> None:
    index = built(metric, updatable=True)
    index.recall = 0.5
    with pytest.raises(TypeError, match="cannot pickle an AnnoyIndex that is not loaded"):
        pickle.dumps(index)
    index.save(tmp_path / "index")
    copy = pickle.loads(pickle.dumps(index))
    assert copy.get_nns_by_item(3, 5) == index.get_nns_by_item(3, 5)
    assert (copy.metric, copy.updatable, copy.recall) == (metric, True, 0.5)
    index.add_item(3, [1.0] * 8)
    with pytest.raises(TypeError, match="save it first"):
        pickle.dumps(index)


def test_recall_attribute() -> None:
    index = built("euclidean", 3000)
    assert index.recall == pytest.approx(0.999)
    index.recall = 0.9
    assert index.recall == pytest.approx(0.9)
    assert len(index.get_nns_by_vector([0.1] * 8, 10)) == 10
    index.recall = 1
    exact = index.get_nns_by_vector([0.1] * 8, 200, -2)
    assert index.get_nns_by_vector([0.1] * 8, 200) == exact
    for recall in (0, -1, 1.01, math.nan):
        with pytest.raises(ValueError, match="recall takes"):
            index.recall = recall


def test_a_batch_is_its_searches_one_by_one(metric: str) -> None:
    index, queries = built(metric, 2000), rows(metric, 100, seed=6)
    ids, distances = index.nns_batch(queries, 7)
    assert (ids.shape, ids.dtype, distances.dtype) == ((100, 7), np.int64, np.float64)
    for query, row, far in zip(queries, ids, distances, strict=True):
        one = index.get_nns_by_vector(query, 7, include_distances=True)
        assert one == (row.tolist(), far.tolist())
    ids, _ = filled(metric).nns_batch(queries, 3)
    assert ids.shape == (100, 0)
    few = built(metric, 5)
    few.unbuild()
    few.add_item(9, [1.0] * 8)
    few.build(1)
    ids, distances = few.nns_batch(queries[:2], 100)
    assert ids.shape == (2, 10) and (ids[:, 6:] == -1).all() and np.isnan(distances[:, 6:]).all()
    assert few.nns_batch(np.empty((0, 8), np.float32), 3)[0].shape == (0, 3)


# updatable=True


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


# Threads and processes


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
            code = 0 if same and index.nns_batch(queries, 5)[0].tolist() == batch else 2
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
