"""``AnnoyIndex``: each promise of Annoy 1.17.3 about methods and errors, and what is new."""

from __future__ import annotations

import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from annoy_rows import METRICS, built, filled, hasty, rows
from spinney.annoy import AnnoyIndex


@pytest.fixture(params=METRICS)
def metric(request: pytest.FixtureRequest) -> str:
    return request.param


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
    ids, distances = few.nns_batch(queries[:2], 100)
    assert ids.shape == distances.shape == (2, 5)
    assert few.nns_batch(queries[:2], 0)[0].shape == (2, 0)
    assert few.nns_batch(np.empty((0, 8), np.float32), 3)[0].shape == (0, 0)
