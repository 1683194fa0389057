"""Collections: documents under keys, with payload and labels."""

from __future__ import annotations

import numpy as np
import pytest

import spinney
from spinney import Labels


@pytest.fixture
def docs(store):
    docs = store.collection("docs", 2, "euclidean")
    docs.put("a", [1, 0], {"title": "A"}, ["lang:en"])
    docs.put_many(["b", "c"], np.array([[2, 0], [3, 0]], "f4"), ["text", b"\x00"],
                  [["lang:de"], ["lang:en", "draft"]])
    return docs


def test_what_is_put_is_read(docs):
    assert len(docs) == 3 and list(docs) == ["a", "b", "c"] and "a" in docs and "x" not in docs
    assert docs["a"].json() == {"title": "A"} and docs["a"].labels == ("lang:en",)
    assert docs["b"].payload == b"text" and docs.get("x") is None
    assert docs.vectors("c").tolist() == [[3, 0]]
    assert docs.labels() == {"draft": 1, "lang:de": 1, "lang:en": 2}
    assert docs.delete("a") and not docs.delete("a")
    with pytest.raises(spinney.NotFoundError):
        docs["a"]
    assert docs.keys("b") == ["b"]


def test_searches(docs):
    keys = lambda hits: [hit.key for hit in hits]  # noqa: E731
    assert keys(docs.search([0, 0], 2)) == ["a", "b"]
    assert keys(docs.search([0, 0], 3, labelled="lang:en")) == ["a", "c"]
    finished = Labels.all("lang:en", Labels.not_("draft"))
    assert keys(docs.search([0, 0], 3, labelled=finished)) == ["a"]
    assert keys(docs.search([0, 0], 3, labelled=Labels("draft") | "lang:de")) == ["b", "c"]
    assert keys(docs.search([0, 0], 3, labelled=~Labels("draft") & "lang:en")) == ["a"]
    assert docs.count(Labels.any("draft", "lang:de")) == 2
    hit = docs.search([0, 0], 1, payload=True)[0]
    assert hit.json() == {"title": "A"} and hit.distance == 1.0
    assert docs.search([0, 0], 1)[0].payload is None
    assert [keys(hits) for hits in docs.search([[0, 0], [9, 0]], 1)] == [["a"], ["c"]]
    assert keys(docs.search_key("a", 2)) == ["b", "c"]
    assert keys(docs.search_any(["a", [3.0, 0.5]], 3)) == ["c", "b"]
    assert keys(docs.search_like(["b"], [[1.0, 0.0]], 1)) == ["c"]
    assert keys(docs.search([0, 0], 3, predicate=lambda key: key > "a")) == ["b", "c"]
    with pytest.raises(spinney.NotFoundError):
        docs.search_key("x")
    with pytest.raises(TypeError):
        docs.search([0, 0], 1, allowed=[1])
    with pytest.raises(TypeError):
        docs.search([0, 0], 1, report=True)


def test_several_vectors_count_once(store):
    docs = store.collection("many", 1, "euclidean")
    docs.put("near", [[1.0], [2.0], [3.0]])
    docs.put("far", [9.0])
    assert [(hit.key, hit.distance) for hit in docs.search([0.0], 5)] == [("near", 1.0), ("far", 9.0)]
    assert docs["near"].vectors == 3 and docs.vectors("near").shape == (3, 1)


def test_scopes_hide_and_protect(docs):
    german = docs.scoped("lang:de")
    assert list(german) == ["b"] and len(german) == 1 and german.scope == ("lang:de",)
    assert german.get("a") is None and not german.delete("a")
    assert [hit.key for hit in german.search([0, 0], 5)] == ["b"]
    with pytest.raises(spinney.Error):
        german.put("a", [0, 0])
    german.put("d", [4, 0])
    assert docs["d"].labels == ("lang:de",)
    assert german.delete_where(Labels.all()) == 2 and len(docs) == 2


def test_in_transactions(docs, store):
    with pytest.raises(KeyError):
        with store.write() as txn:
            txn.put(docs, "z", [5, 5])
            txn.delete(docs, "a")
            txn.delete_where(docs, "lang:de")
            raise KeyError
    assert list(docs) == ["a", "b", "c"]
    with store.write() as txn:
        txn.put_many(docs, ["y", "z"], [[5, 5], [6, 6]], labels=[["new"], ["new"]])
        assert txn.delete(docs, "a") == 1 and txn.delete(docs, "a") == 0
        txn.build(docs)
    assert list(docs) == ["b", "c", "y", "z"] and store.verify() == []
    with store.read() as snapshot:
        docs.delete("b")
        assert "b" in snapshot[docs] and "b" not in docs
        for write in (lambda of: of.put("x", [1, 1]), lambda of: of.delete("a"), lambda of: of.build()):
            with pytest.raises(spinney.InvalidOptionError):
                write(snapshot[docs])


@pytest.mark.parametrize(("kind", "keys", "wrong"), [
    ("int", [0, 7, 2**64 - 1], "a"), ("bytes", [b"\x00", b"a", b"\xff" * 511], "a"),
    ("str", ["a", "z", "\N{SNOWMAN}"], 7),
])
def test_kinds_of_keys(store, kind, keys, wrong):
    docs = store.collection("k", 1, "euclidean", keys=kind)
    docs.put_many(keys, np.arange(3.0).reshape(-1, 1))
    assert list(docs) == keys
    assert [hit.key for hit in docs.search([0.0], 3)] == keys
    assert docs[keys[1]].key == keys[1]
    for other in (wrong, None, 1.5, True, [1]):
        with pytest.raises(TypeError):
            docs.put(other, [0.0])
    for prefix in (5, {"a": 1}, ["a"]):
        with pytest.raises(TypeError):
            docs.keys(prefix)
    assert docs.search_any(keys[0], 1) == docs.search_any([keys[0]], 1)
    with pytest.raises(spinney.InvalidOptionError):
        store.collection("k", keys="float")


def test_numbers_of_numpy_are_keys(store):
    docs = store.collection("k", 1, "euclidean", keys="int")
    docs.put_many(np.arange(3, dtype=np.uint64), np.arange(3.0).reshape(-1, 1))
    assert list(docs) == [0, 1, 2] and np.int64(1) in docs and docs[np.int8(2)].key == 2
    assert docs.delete(np.array(1)) and list(docs) == [0, 2]


def test_labels_compose_from_both_sides(docs):
    assert docs.count("lang:de" | Labels("draft")) == 2 and docs.count("lang:en" & Labels("draft")) == 1


def test_what_is_refused(docs, store):
    with pytest.raises(spinney.InvalidVectorError) as raised:
        docs.put_many(["x", "y"], [[1, 1], [1, float("nan")]])
    assert "y" in str(raised.value)
    with pytest.raises(ValueError):
        docs.put_many(["x"], [[1, 1], [2, 2]])
    with pytest.raises(TypeError):
        docs.put("x", [1, 1], labels="abc")
    with pytest.raises(spinney.InvalidOptionError):
        docs.put("", [1, 1])
    with pytest.raises(spinney.InvalidOptionError):
        docs.put("x" * 512, [1, 1])
    with pytest.raises(TypeError):
        docs.put("x", [1, 1], payload=object())
    assert list(docs) == ["a", "b", "c"]


def test_documents_in_the_order_of_their_keys(store, rng):
    docs = store.collection("many", 1, "euclidean")
    keys = [f"{letter}/{i:04}" for letter in "ab" for i in range(600)]
    order = rng.permutation(len(keys))
    docs.put_many([keys[i] for i in order], np.arange(1200.0).reshape(-1, 1)[order],
                  [keys[i] for i in order])
    walk = docs.documents()
    assert next(walk).key == keys[0]
    docs.delete_where(Labels.all())
    assert [document.payload.decode() for document in walk] == keys[1:]
    docs.put_many(keys, np.arange(1200.0).reshape(-1, 1))
    assert docs.keys("b/") == keys[600:] and docs.keys(b"c") == []
    assert [document.key for document in docs.documents("b/")] == keys[600:]
    assert [found and found.key for found in docs.get_many(["b/0007", "x", "a/0001"])] == \
        ["b/0007", None, "a/0001"]


def test_batches_answer_as_single_searches_do(store, rng):
    docs = store.collection("many", 8, "euclidean", keys="int")
    docs.put_many(range(3000), rng.standard_normal((3000, 8)),
                  labels=[["even" if i % 2 == 0 else "odd"] for i in range(3000)])
    docs.build()
    queries = rng.standard_normal((40, 8)).astype(np.float32)
    for how in ({}, {"labelled": "even"}, {"exact": True, "payload": True},
                {"predicate": lambda key: key % 3 == 0}):
        single = [docs.search(query, 5, **how) for query in queries]
        for threads in (1, 2, 3):
            assert docs.search(queries, 5, threads=threads, **how) == single
    assert docs.search(queries[:0], 5) == []
    with pytest.raises(spinney.InvalidOptionError):
        docs.search(queries[:0], 5, recall=2)
    grouped = docs.search(queries[0], 6, group=lambda key: key % 3, per_group=2)
    assert sorted(hit.key % 3 for hit in grouped) == [0, 0, 1, 1, 2, 2]
    with pytest.raises(TypeError):
        docs.search(queries[0], 6, group=np.zeros(3000, int))


def test_a_sound_collection_is_left_as_it_is_by_a_repair(docs, store):
    assert store.repair("docs", 2, "euclidean") == ([], [])
    assert list(docs) == ["a", "b", "c"] and docs["a"].json() == {"title": "A"}
