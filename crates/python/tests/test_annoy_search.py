"""``AnnoyIndex``: what searches find, and how far away it is."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from annoy_rows import METRICS, built, filled, rows, true_distances
from spinney.annoy import AnnoyIndex


@pytest.fixture(params=METRICS)
def metric(request: pytest.FixtureRequest) -> str:
    return request.param


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
        calls = [
            (index.get_nns_by_item, lambda i: (i, 1)),
            (index.get_item_vector, lambda i: (i,)),
            (index.get_distance, lambda i: (0, i)),
            (index.get_distance, lambda i: (i, 0)),
        ]
        for method, arguments in calls:
            for bad in (50, 1000):
                with pytest.raises(IndexError, match="^Item index larger than the largest item"):
                    method(*arguments(bad))
                with pytest.raises(IndexError, match="^Item index can not be negative$"):
                    method(*arguments(-bad))
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
