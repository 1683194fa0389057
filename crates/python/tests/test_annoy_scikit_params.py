"""``spinney.annoy.Index``, the index of scikit-plots: a test for each parameter."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from spinney.annoy import Index

ALIASES = {
    "angular": ("angular", "cosine"),
    "euclidean": ("euclidean", "l2", "lstsq"),
    "manhattan": ("manhattan", "l1", "cityblock", "taxicab"),
    "dot": ("dot", "@", ".", "dotproduct", "inner", "innerproduct"),
    "hamming": ("hamming",),
}


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


# Parameters


@pytest.mark.parametrize("f", [None, 0])
def test_f_is_taken_from_the_first_vector(f: int | None) -> None:
    index = Index(f, "dot")
    assert (index.f, index._f_valid, index._index_constructed) == (0, False, False)
    index.add_item(0, [1, 2, 3])
    assert (index.f, index._f_valid, index._index_constructed) == (3, True, True)
    with pytest.raises(ValueError, match="3 numbers"):
        index.add_item(1, [1, 2])


def test_f_negative() -> None:
    with pytest.raises(ValueError, match="f takes"):
        Index(-1, "dot")


@pytest.mark.parametrize(("name", "alias"), [(n, a) for n, some in ALIASES.items() for a in some])
def test_metric_aliases_are_reported_by_their_first_name(name: str, alias: str) -> None:
    index = Index(2, alias)
    assert (index.metric, index.get_params()["metric"], index._metric_valid) == (name, name, True)


def test_metric_none_with_f_warns_and_is_angular() -> None:
    with pytest.warns(FutureWarning, match="metric"):
        index = Index(2)
    assert index.metric == "angular"


def test_metric_unknown() -> None:
    with pytest.raises(ValueError, match="banana"):
        Index(2, "banana")


def test_metric_cosine_has_the_distances_of_annoy() -> None:
    index = Index(2, "cosine")
    index.add_item(0, [1, 0])
    index.add_item(1, [1, 1])
    assert index.get_distance(0, 1) == pytest.approx(math.sqrt(2 * (1 - math.sqrt(0.5))))


def test_metric_dot_returns_the_product_and_the_largest_first() -> None:
    index = Index(2, "@")
    for item, vector in enumerate(([1, 1], [3, 3], [2, 2])):
        index.add_item(item, vector)
    index.build()
    found = index.get_nns_by_vector([1, 1], 3, include_distances=True)
    assert found == ([1, 2, 0], [6.0, 4.0, 2.0])


def test_n_neighbors() -> None:
    index = built()
    assert index.n_neighbors == 5
    distances, ids = index.kneighbors(rows(3, seed=4))
    assert distances.shape == ids.shape == (3, 5)
    index.n_neighbors = 2
    assert index.kneighbors(rows(3, seed=4), return_distance=False).tolist() == ids[:, :2].tolist()
    for bad in (0, -1):
        with pytest.raises(ValueError, match="n_neighbors"):
            Index(n_neighbors=bad)
        with pytest.raises(ValueError, match="n_neighbors"):
            index.n_neighbors = bad


def test_on_disk_path_waits_for_f(tmp_path: Path) -> None:
    index = built(on_disk_path=tmp_path / "index")
    assert (tmp_path / "index").exists()
    other = Index(4, "euclidean")
    other.load(tmp_path / "index")
    assert other.get_nns_by_item(3, 5) == index.get_nns_by_item(3, 5)
    with pytest.raises(OSError):
        Index(4, "euclidean", on_disk_path=tmp_path / "none" / "index")


def test_prefault_is_the_default_of_load_and_save(tmp_path: Path, monkeypatch) -> None:
    told = []

    class Spy:
        def load(self, filename: object, prefault: bool) -> None:
            told.append(prefault)

        save = load

    index = built(prefault=True)
    monkeypatch.setattr(index, "_core", Spy())
    monkeypatch.setattr(index, "is_built", lambda: True)
    for call in (index.load, index.save):
        call("file")
        call("file", prefault=False)
    assert told == [True, False, True, False]


def hasty(index: Index) -> list[object]:
    """What searches find that look at little: it shows the forest."""
    return [index.get_nns_by_vector(row, 10, 1) for row in rows(100, seed=4)]


def large(**params: object) -> Index:
    index = Index(metric="euclidean", **params)
    for item, row in enumerate(rows(3000)):
        index.add_item(item, row)
    return index


def test_seed_decides_and_0_is_the_default() -> None:
    found = {}
    for seed in (None, 1, 2**33, 2**64 - 2):
        index = large(seed=seed)
        index.build()
        found[seed] = hasty(index)
    assert len({str(one) for one in found.values()}) == 4
    with pytest.warns(UserWarning, match="seed"):
        index = large(seed=0)
    index.build()
    assert hasty(index) == found[None]
    for bad in (-1, 2**64):
        with pytest.raises(ValueError, match="seed takes"):
            Index(seed=bad)


def test_verbose_is_clamped_and_tells_from_1_on(capfd: pytest.CaptureFixture[str]) -> None:
    for given, kept in ((None, None), (-9, -2), (0, 0), (1, 1), (7, 2)):
        index = built(verbose=given)
        assert index.get_params()["verbose"] == kept
        assert ("30 items" in capfd.readouterr().err) == (kept is not None and kept >= 1)


def test_schema_version_is_kept_in_states_and_newer_ones_are_refused() -> None:
    state = filled().get_state()
    assert state["schema_version"] == 0
    index = Index()
    with pytest.raises(ValueError, match="form 1"):
        index.set_state({**state, "schema_version": 1})
    with pytest.raises(ValueError, match="schema_version"):
        Index(schema_version=-1)
    assert Index(schema_version=3).get_state()["schema_version"] == 3


def test_dtype_is_stored_as_float32() -> None:
    for dtype in ("float16", "float32", np.float32):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Index(dtype=dtype)
    for dtype in ("float64", "float80", "float128"):
        with pytest.warns(UserWarning, match="stored as float32"):
            assert Index(dtype=dtype).get_params()["dtype"] == dtype
    with pytest.raises(ValueError, match="dtype takes"):
        Index(dtype="int8")


def test_index_dtype_limits_ids() -> None:
    index = Index(2, "euclidean")
    with pytest.raises(OverflowError, match="int32"):
        index.add_item(2**31, [1, 2])
    wide = Index(2, "euclidean", index_dtype="int64")
    wide.add_item(2**32 - 1, [1, 2])
    with pytest.raises(OverflowError, match="int64"):
        wide.add_item(2**32, [1, 2])
    wide.build()
    assert wide.get_n_items() == 2**32
    assert wide.get_nns_by_vector([1, 2], 1) == [2**32 - 1]
    assert wide.get_nns_by_item(2**32 - 1, 1) == [2**32 - 1]
    assert wide.get_item(2**32 - 1) == [1.0, 2.0]
    assert wide.get_distance(2**32 - 1, 2**32 - 1) == 0.0
    with pytest.raises(ValueError, match="index_dtype"):
        Index(index_dtype="int16")


@pytest.mark.parametrize("name", ["wrapper_dtype", "random_dtype"])
def test_wrapper_dtype_and_random_dtype_are_checked(name: str) -> None:
    for dtype in ("uint32", "uint64"):
        assert Index(**{name: dtype}).get_params()[name] == dtype
    with pytest.raises(ValueError, match=name):
        Index(**{name: "int32"})


def test_unknown_parameters_are_type_errors() -> None:
    with pytest.raises(TypeError, match="n_tree"):
        Index(n_tree=3)  # type: ignore[call-arg]
