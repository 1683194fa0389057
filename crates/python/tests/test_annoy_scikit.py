"""``spinney.annoy.Index``, the index of scikit-plots: a test for each attribute and method."""

from __future__ import annotations

import copy
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from spinney.annoy import AnnoyIndex, Index

FILE = Path(__file__).parent / "annoy_files" / "euclidean.ann"


def rows(count: int = 30, f: int = 4, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, f)).astype(np.float32)


def filled(metric: str = "euclidean", **params: object) -> Index:
    index = Index(metric=metric, **params)
    for item, row in enumerate(rows()):
        index.add_item(item, row)
    return index


def built(metric: str = "euclidean", **params: object) -> Index:
    index = filled(metric, **params)
    assert index.build() is None
    return index


def hasty(index: Index) -> list[object]:
    """What searches find that look at little: it shows the forest."""
    return [index.get_nns_by_vector(row, 10, 1) for row in rows(100, seed=4)]


def large(**params: object) -> Index:
    index = Index(metric="euclidean", **params)
    for item, row in enumerate(rows(3000)):
        index.add_item(item, row)
    return index


# Attributes


def test_f_and_metric_can_be_set_until_the_index_is_constructed() -> None:
    index = Index()
    assert (index.f, index.metric) == (0, None)
    assert (index._f_valid, index._metric_valid, index._index_constructed) == (False, False, False)
    index.metric = "l2"
    index.f = 0
    assert (index._metric_valid, index._index_constructed) == (True, False)
    index.f = 3
    assert index._index_constructed
    for value in (4, 0):
        with pytest.raises(ValueError, match="f cannot change"):
            index.f = value
    with pytest.raises(ValueError, match="metric cannot change"):
        index.metric = "dot"
    for name in ("_f_valid", "_metric_valid", "_index_constructed"):
        with pytest.raises(AttributeError):
            setattr(index, name, True)
    assert not hasattr(index, "ptr")


def test_states() -> None:
    index = Index(metric="euclidean")
    assert (index._state, index.is_empty(), index.is_built()) == ("EMPTY", True, False)
    index.add_item(0, [1, 2])
    assert (index._state, index.is_empty(), index.is_built()) == ("BUILDING", False, False)
    index.build()
    assert (index._state, index.is_empty(), index.is_built()) == ("BUILT", False, True)


# Methods


def test_add_item() -> None:
    index = Index()
    with pytest.raises(RuntimeError, match="not constructed"):
        index.add_item(0, [1, 2])
    index = filled()
    assert index.add_item(3, [0.0] * 4) is None
    with pytest.raises(ValueError, match="4 numbers"):
        index.add_item(0, [1, 2])
    with pytest.raises(ValueError, match="finite"):
        index.add_item(0, [math.nan] * 4)
    with pytest.raises(IndexError):
        index.add_item(-1, [1.0] * 4)
    with pytest.raises(RuntimeError, match="is built"):
        built().add_item(0, [1.0] * 4)


def test_build() -> None:
    with pytest.raises(RuntimeError, match="no items"):
        Index(4, "dot").build()
    with pytest.raises(RuntimeError, match="not constructed"):
        Index().build()
    assert built().get_n_trees() == 10
    wide = Index(12, "dot")
    wide.add_item(0, [1.0] * 12)
    wide.build()
    assert wide.get_n_trees() == 24
    index = filled()
    index.build(n_trees=3, n_jobs=2)
    assert index.get_n_trees() == 3
    with pytest.raises(RuntimeError, match="is built"):
        index.build()


def test_clone() -> None:
    index = built(n_neighbors=3)
    clone = index.clone(seed=5)
    assert clone.is_empty() and clone.get_params() == {**index.get_params(), "seed": 5}
    assert index.get_n_items() == 30
    with pytest.raises(ValueError, match="banana"):
        index.clone(banana=1)


@pytest.mark.parametrize("make", [Index, filled, built])
@pytest.mark.parametrize("names", [("serialize", "deserialize"), ("to_dict", "from_dict")])
def test_serialize_and_deserialize(make, names: tuple[str, str]) -> None:
    index = make()
    data = json.loads(json.dumps(getattr(index, names[0])()))
    again = getattr(Index, names[1])(data)
    same(index, again)


def same(index: Index, again: Index) -> None:
    assert again.get_params() == index.get_params()
    assert (again._state, again.get_n_items()) == (index._state, index.get_n_items())
    for item in range(index.get_n_items()):
        assert again.get_item(item) == index.get_item(item)
    if index.is_built():
        query = rows(1, seed=4)[0]
        found = index.get_nns_by_vector(query, 9, include_distances=True)
        assert again.get_nns_by_vector(query, 9, include_distances=True) == found
        assert again.get_n_trees() == index.get_n_trees()


def test_deserialize_of_what_is_malformed() -> None:
    with pytest.raises(TypeError):
        Index.deserialize([1, 2])  # type: ignore[arg-type]
    data = built().serialize()
    damaged = [
        {},
        {**data, "params": None},
        {**data, "params": {"banana": 1}},
        {**data, "kind": "BROKEN"},
        {**data, "data": "***"},
        {**data, "data": 5},
        {**data, "data": data["data"][:400]},
        {**data, "params": {**data["params"], "f": 9}},
        {**data, "params": {**data["params"], "f": 0}},
        {**data, "kind": "BUILDING"},
        {**filled().serialize(), "ids": [1, 2, 3]},
        {**filled().serialize(), "ids": [-1] * 30},
    ]
    for one in damaged:
        with pytest.raises(ValueError):
            Index.deserialize(one)


@pytest.mark.parametrize("make", [Index, filled, built])
def test_get_state_and_set_state_pickles_and_copies(make) -> None:
    index = make()
    other = Index(9, "hamming")
    other.set_state(index.get_state())
    copies = [other, pickle.loads(pickle.dumps(index)), copy.copy(index), copy.deepcopy(index)]
    for again in copies:
        same(index, again)
    with pytest.raises(TypeError):
        other.set_state("banana")  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        other.set_state({"schema_version": 0})
    same(index, other)


def test_a_copy_is_independent() -> None:
    index = filled()
    other = copy.deepcopy(index)
    other.add_item(99, [1.0] * 4)
    assert (index.get_n_items(), other.get_n_items()) == (30, 100)


def test_a_loaded_file_of_annoys_is_copied_whole() -> None:
    index = Index(6, "euclidean")
    index.load(FILE)
    again = pickle.loads(pickle.dumps(index))
    assert again.get_nns_by_item(3, 9) == index.get_nns_by_item(3, 9)


def test_get_distance_needs_no_build() -> None:
    with pytest.raises(RuntimeError, match="not constructed"):
        Index().get_distance(0, 1)
    x = rows().astype(float)
    for index in (filled(), built()):
        assert index.get_distance(3, 7) == pytest.approx(float(np.linalg.norm(x[3] - x[7])))
        for bad in ((0, 30), (-1, 0)):
            with pytest.raises(IndexError):
                index.get_distance(*bad)


def test_get_item() -> None:
    with pytest.raises(RuntimeError, match="not constructed"):
        Index().get_item(0)
    index = filled()
    index.add_item(40, [1, 2, 3, 4])
    assert index.get_item(40) == [1.0, 2.0, 3.0, 4.0]
    assert index.get_item(35) == [0.0] * 4, "holes read as zeros"
    for bad in (41, -1):
        with pytest.raises(IndexError):
            index.get_item(bad)


def test_get_n_items_and_get_n_trees() -> None:
    assert (Index().get_n_items(), Index().get_n_trees()) == (0, 0)
    assert (filled().get_n_items(), filled().get_n_trees()) == (30, 0)
    assert (built().get_n_items(), built().get_n_trees()) == (30, 10)


def test_get_nns_by_item_and_by_vector() -> None:
    x, index = rows(), built()
    true = np.argsort(np.linalg.norm(x - x[3], axis=1))[:5].tolist()
    assert index.get_nns_by_item(3, 5) == index.get_nns_by_vector(x[3], 5) == true
    ids, distances = index.get_nns_by_item(3, 5, search_k=100, include_distances=True)
    assert (ids, distances[0]) == (true, 0.0)
    for one in (Index(), filled()):
        with pytest.raises(RuntimeError, match="not built"):
            one.get_nns_by_item(0, 1)
        with pytest.raises(RuntimeError, match="not built"):
            one.get_nns_by_vector([1.0] * 4, 1)
    for bad in (30, -1):
        with pytest.raises(IndexError):
            index.get_nns_by_item(bad, 1)
    with pytest.raises(ValueError, match="4 numbers"):
        index.get_nns_by_vector([1, 2], 1)


def test_get_params_and_set_params() -> None:
    index = Index()
    assert index.get_params(deep=True)["n_neighbors"] == 5
    assert index.set_params(f=4, metric="cosine", n_neighbors=7) is index
    assert (index.f, index.metric, index.n_neighbors) == (4, "angular", 7)
    for params in ({"f": 5}, {"metric": "dot"}, {"banana": 1}, {"n_neighbors": 0, "seed": 3}):
        before = index.get_params()
        with pytest.raises(ValueError):
            index.set_params(**params)
        assert index.get_params() == before
    assert Index(**index.get_params()).get_params() == index.get_params()


def test_load_and_save(tmp_path: Path) -> None:
    index, path = built(), tmp_path / "index"
    want = index.get_nns_by_item(3, 5)
    assert index.save(path, prefault=True) is None
    other = Index(4, "euclidean")
    assert other.load(str(path)) is None
    assert index.get_nns_by_item(3, 5) == other.get_nns_by_item(3, 5) == want
    for wrong in (Index(5, "euclidean"), Index(4, "dot")):
        with pytest.raises(RuntimeError, match="it holds vectors of 4 numbers"):
            wrong.load(path)
    with pytest.raises(RuntimeError, match="Index size is not a multiple"):
        Index(77, "euclidean").load(FILE)
    with pytest.raises(RuntimeError, match="not constructed"):
        Index().load(path)
    with pytest.raises(RuntimeError, match="not built"):
        filled().save(path)
    with pytest.raises(OSError):
        other.load(tmp_path / "none")
    with pytest.raises(OSError):
        index.save(tmp_path / "none" / "index")


def test_repr_info() -> None:
    text = built().repr_info()
    assert text.startswith("Annoy(**{") and text.endswith("})")
    info = eval(text.removeprefix("Annoy(**").removesuffix(")"))  # noqa: S307
    assert (info["f"], info["n_items"], info["n_trees"]) == (4, 30, 10)
    assert info["memory_usage_bytes"] > 0
    short = built().repr_info(include_n_items=False, include_n_trees=False, include_memory=False)
    assert not any(name in short for name in ("n_items", "n_trees", "memory"))
    assert "memory" not in filled().repr_info(include_memory=True)
    assert repr(Index()) == Index().repr_info()


def test_set_seed_and_set_verbose(capfd: pytest.CaptureFixture[str]) -> None:
    one, two = large(seed=7), large()
    assert two.set_seed(7) is None
    assert two.set_verbose(1) is None
    for index in (one, two):
        index.build()
    assert hasty(one) == hasty(two)
    assert "3000 items" in capfd.readouterr().err
    with pytest.warns(UserWarning, match="seed"):
        two.set_seed(0)
    assert two.get_params()["seed"] is None


def test_unbuild_and_unload(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="not built"):
        filled().unbuild()
    index = built()
    assert index.unbuild() is None
    index.add_item(30, [1.0] * 4)
    index.build()
    assert index.get_n_items() == 31
    index.save(tmp_path / "index")
    with pytest.raises(RuntimeError, match="loaded"):
        index.unbuild()
    assert Index().unload() is None
    for _ in range(2):
        assert index.unload() is None
        assert (index._state, index.f) == ("EMPTY", 4)
    index.load(tmp_path / "index")
    assert index.get_n_items() == 31


def test_on_disk_build_comes_before_items(tmp_path: Path) -> None:
    index = Index(metric="euclidean")
    index.on_disk_build(tmp_path / "index")
    index.add_item(0, [1, 2])
    with pytest.raises(RuntimeError, match="there are items"):
        index.on_disk_build(tmp_path / "other")
    index.build()
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    with pytest.raises(OSError):
        Index(4, "dot").on_disk_build(tmp_path / "none" / "index")


def test_it_is_no_annoy_index() -> None:
    assert not isinstance(Index(), AnnoyIndex)
