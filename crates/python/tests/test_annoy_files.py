"""Files that Annoy saved: its very answers, and nothing worse than an error from a stranger's."""

from __future__ import annotations

import json
import os
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from spinney.annoy import AnnoyIndex, convert

FOLDER = Path(__file__).parent / "annoy_files"
ANSWERS = json.loads((FOLDER / "answers.json").read_text())
METRICS = sorted(ANSWERS)


@pytest.fixture(params=METRICS)
def metric(request: pytest.FixtureRequest) -> str:
    return request.param


def loaded(metric: str, path: Path | None = None, **options: bool) -> AnnoyIndex:
    index = AnnoyIndex(ANSWERS[metric]["f"], metric, **options)
    assert index.load(path or FOLDER / f"{metric}.ann") is True
    return index


def is_same(found: tuple, ids: list[int], distances: list[float], metric: str) -> bool:
    # Annoy rounds as the machine that it was compiled for.
    room = 1e-3 if metric == "angular" else 1e-5
    return found[0] == ids and found[1] == pytest.approx(distances, rel=1e-5, abs=room)


def test_counts_and_vectors_are_those_of_the_file(metric: str) -> None:
    index, answers = loaded(metric), ANSWERS[metric]
    assert index.get_n_items() == answers["n_items"] == 100
    assert index.get_n_trees() == answers["n_trees"]
    for item, vector in answers["vectors"].items():
        assert index.get_item_vector(int(item)) == pytest.approx(vector, rel=1e-6)
    assert index.get_item_vector(85) == [0.0] * index.f, "holes read as zeros"


def test_searches_by_vector_are_annoys(metric: str) -> None:
    index = loaded(metric)
    for query, n, search_k, ids, distances in ANSWERS[metric]["by_vector"]:
        found = index.get_nns_by_vector(query, n, search_k, True)
        assert is_same(found, ids, distances, metric), (n, search_k)
        assert index.get_nns_by_vector(query, n, search_k) == ids


def test_searches_by_item_are_annoys(metric: str) -> None:
    index = loaded(metric)
    for item, ids, distances in ANSWERS[metric]["by_item"]:
        found = index.get_nns_by_item(item, 6, include_distances=True)
        assert is_same(found, ids, distances, metric), item


def test_distances_of_items_are_annoys(metric: str) -> None:
    index = loaded(metric)
    for i, j, distance in ANSWERS[metric]["distances"]:
        assert index.get_distance(i, j) == pytest.approx(distance, rel=1e-5, abs=1e-3)


def test_a_batch_is_its_searches_one_by_one(metric: str) -> None:
    index = loaded(metric)
    queries = np.array([asked[0] for asked in ANSWERS[metric]["by_vector"]], np.float32)
    ids, distances = index.nns_batch(queries, 7)
    for query, row, far in zip(queries, ids, distances, strict=True):
        one = index.get_nns_by_vector(query, 7, include_distances=True)
        assert [one[0], one[1]] == [row[row >= 0].tolist(), far[row >= 0].tolist()]


def test_it_saves_a_copy_and_over_itself(metric: str, tmp_path: Path) -> None:
    original = (FOLDER / f"{metric}.ann").read_bytes()
    index, path = loaded(metric), tmp_path / "copy.ann"
    assert index.save(path) and path.read_bytes() == original
    assert index.save(path) and path.read_bytes() == original
    assert os.listdir(tmp_path) == ["copy.ann"]
    assert loaded(metric, path).get_n_items() == 100


def test_prefault_reads_the_same(metric: str) -> None:
    index = AnnoyIndex(ANSWERS[metric]["f"], metric)
    assert index.load(FOLDER / f"{metric}.ann", prefault=True)
    query, n, search_k, ids, _ = ANSWERS[metric]["by_vector"][0]
    assert index.get_nns_by_vector(query, n, search_k) == ids


def test_it_is_a_loaded_index(metric: str) -> None:
    index = loaded(metric)
    vector = [0.0] * index.f
    with pytest.raises(Exception, match="You can't add an item to a loaded index"):
        index.add_item(0, vector)
    with pytest.raises(Exception, match="You can't build a loaded index"):
        index.build(1)
    with pytest.raises(Exception, match="You can't unbuild a loaded index"):
        index.unbuild()
    assert index.unload() and index.get_n_items() == index.get_n_trees() == 0


def test_one_that_is_updatable_says_to_convert_it(metric: str) -> None:
    index = loaded(metric, updatable=True)
    with pytest.raises(Exception, match="convert"):
        index.add_item(0, [1.0] * index.f)


def test_convert_makes_a_file_of_ours(metric: str, tmp_path: Path) -> None:
    old, new = loaded(metric), tmp_path / "new"
    index = convert(FOLDER / f"{metric}.ann", new, old.f, metric)
    assert (index.get_n_items(), index.get_n_trees()) == (100, 3)
    for item in range(100):
        assert index.get_item_vector(item) == old.get_item_vector(item)
    for query, *_ in ANSWERS[metric]["by_vector"]:
        ours, annoys = (i.get_nns_by_vector(query, 99, -2, True) for i in (index, old))
        assert sorted(ours[0]) == sorted(annoys[0]), "all items, and no hole"
        assert ours[1] == pytest.approx(annoys[1], rel=1e-5, abs=1e-3)
    index.add_item(100, [1.0] * index.f)
    assert index.get_n_items() == 101
    assert os.listdir(tmp_path) == ["new"]


def test_convert_in_place(metric: str, tmp_path: Path) -> None:
    path = tmp_path / "index"
    path.write_bytes((FOLDER / f"{metric}.ann").read_bytes())
    old = loaded(metric, path)
    convert(path, path, old.f, metric)
    assert loaded(metric, path).get_item_vector(5) == old.get_item_vector(5)


def test_a_file_of_other_vectors_is_an_os_error(metric: str) -> None:
    index = AnnoyIndex(ANSWERS[metric]["f"] + 65, metric)
    with pytest.raises(OSError, match="Index size is not a multiple of vector size"):
        index.load(FOLDER / f"{metric}.ann")
    assert index.get_n_items() == 0


def use(metric: str, path: Path) -> None:
    """Everything that reads: an ``OSError`` or an answer."""
    index = AnnoyIndex(ANSWERS[metric]["f"], metric)
    try:
        index.load(path)
    except OSError:
        return
    items = index.get_n_items()
    for n, search_k in ((5, -1), (1000, 10_000), (-1, -2)):
        query = ANSWERS[metric]["by_vector"][0][0]
        found = index.get_nns_by_vector(query, n, search_k)
        assert len(found) == len(set(found)) and all(0 <= item < items for item in found)
    for item in {0, items // 2, items - 1} & set(range(items)):
        index.get_nns_by_item(item, 3, include_distances=True)
        assert len(index.get_item_vector(item)) == index.f
        index.get_distance(item, 0)


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_file_gives_an_error_or_an_answer(metric: str, seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    whole = (FOLDER / f"{metric}.ann").read_bytes()
    path = tmp_path / "damaged.ann"
    for _ in range(25):
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 10, 200))):
            at = rng.randrange(0, len(whole), 4)
            number = rng.choice(
                (0, 1, -1, 2, 50, 99, 130, 2**31 - 1, -(2**31), rng.getrandbits(31))
            )
            damaged[at : at + 4] = struct.pack("<i", number)
        if rng.random() < 0.3:
            del damaged[rng.randrange(len(damaged)) :]
        path.unlink(missing_ok=True)
        path.write_bytes(damaged)
        use(metric, path)


def node(descendants: int, children: tuple[int, int], f: int) -> bytes:
    """A split under angular."""
    return struct.pack(f"<iii{f}f", descendants, *children, *([0.5] * f))


@pytest.mark.parametrize("kind", ["itself", "each other", "doubling", "beyond", "negative"])
def test_trees_that_never_end_do(kind: str, tmp_path: Path) -> None:
    f, items = ANSWERS["angular"]["f"], 40
    leaves = b"".join(node(1, (0, 0), f) for _ in range(items))
    count = 60
    children = {
        "itself": lambda at: (at, at),
        "each other": lambda at: (at + 1 if at + 1 < items + count else items, at),
        "doubling": lambda at: (at - 1, at - 1),
        "beyond": lambda at: (2**31 - 1, 10**6),
        "negative": lambda at: (-1, -(2**31)),
    }[kind]
    nodes = b"".join(node(items, children(at), f) for at in range(items, items + count))
    path = tmp_path / "endless.ann"
    path.write_bytes(leaves + nodes)
    use("angular", path)
    index = AnnoyIndex(f, "angular")
    index.load(path)
    assert index.get_n_items() == items


def test_under_dot_both_layouts_are_read(tmp_path: Path) -> None:
    """Later Annoys keep a norm and a mark beside the vector: (i, 2i, f, f, ?, 3x, v)."""
    f, rng = 6, np.random.default_rng(1)
    rows = rng.normal(size=(4, f)).astype(np.float32)
    layout = f"<i2iff?3x{f}f"
    items = [struct.pack(layout, 1, 0, 0, 0.0, 1.0, True, *row) for row in rows]
    # A root that lists its four items over children, factor and norm.
    root = struct.pack("<5i", 4, 0, 1, 2, 3) + bytes(4 + 4 * f)
    path = tmp_path / "main.ann"
    path.write_bytes(b"".join([*items, root, root]))
    index = AnnoyIndex(f, "dot")
    index.load(path)
    assert (index.get_n_items(), index.get_n_trees()) == (4, 1)
    ids, products = index.get_nns_by_vector(rows[0], 4, include_distances=True)
    expected = rows @ rows[0]
    assert ids == np.argsort(-expected).tolist()
    assert products == pytest.approx(expected[ids].tolist(), rel=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_as_annoy_itself_where_it_is_installed(metric: str, seed: int, tmp_path: Path) -> None:
    annoy = pytest.importorskip("annoy")
    rng = np.random.default_rng([seed, *metric.encode()])
    f, count = int(rng.integers(1, 80)), int(rng.integers(1, 400))
    theirs = annoy.AnnoyIndex(f, metric)
    for item, row in zip(rng.permutation(2 * count), rng.normal(size=(count, f)), strict=False):
        theirs.add_item(int(item), row)
    theirs.build(int(rng.integers(1, 6)))
    theirs.save(str(tmp_path / "theirs.ann"))
    ours = AnnoyIndex(f, metric)
    ours.load(tmp_path / "theirs.ann")
    assert ours.get_n_trees() == theirs.get_n_trees()
    for query in rng.normal(size=(10, f)):
        for n, search_k in ((1, -1), (10, -1), (10, 500)):
            found = ours.get_nns_by_vector(query, n, search_k, True)
            assert is_same(found, *theirs.get_nns_by_vector(query, n, search_k, True), metric)
