"""Searches that go on, page by page or one by one: in indexes and in collections."""

from __future__ import annotations

import numpy as np
import pytest

import spinney


def test_pages_come_without_repeats_and_without_gaps(store, rng, clustered):
    index = store.index("a", 8, "euclidean")
    index.add(range(3000), clustered(rng, 3000, 8))
    pages = index.pages(np.zeros(8), 7)
    first = next(pages)
    index.delete(range(3000))
    rest = list(pages)
    assert [len(page) for page in (first, *rest)] == [7] * (3000 // 7) + [3000 % 7]
    ids = np.concatenate([page.ids for page in (first, *rest)])
    assert np.sort(ids).tolist() == list(range(3000))
    assert all((np.diff(page.distances) >= 0).all() for page in (first, *rest))


def test_pages_take_what_suits_them(store, rng):
    index = store.index("a", 4, "euclidean")
    rows = rng.random((100, 4)).astype(np.float32)
    index.add(range(100), rows)
    documents = store.collection("c", 4, "euclidean", keys="int")
    documents.put_many(range(100), rows, labels=[["even"] if i % 2 == 0 else [] for i in range(100)])
    for of in (index, documents):
        for call in (of.pages, of.neighbours):
            for wrong, error in (({"group": [0] * 100}, TypeError), ({"per_group": 2}, TypeError),
                                 ({"report": True}, TypeError), ({"threads": 2}, TypeError),
                                 ({"foo": 1}, TypeError), ({"recall": 2}, ValueError)):
                # At the call, and not when the first page is asked for.
                with pytest.raises(error):
                    call(rows[0], **wrong)
            with pytest.raises(TypeError):
                call(rows[:2])
            with pytest.raises(spinney.InvalidVectorError):
                call(rows[0, :2])
        with pytest.raises(spinney.InvalidOptionError):
            of.pages(rows[0], 0)
        with pytest.raises(OverflowError):
            of.pages(rows[0], -1)
    # What is given may be changed, or used up, before the last page.
    query = rows[3].copy()
    expected = index.search(query, 100, exact=True, allowed=range(50)).ids.tolist()
    walk = index.neighbours(query, exact=True, allowed=(i for i in range(50)))
    first = next(walk)
    query[:] = 9
    assert [first[0], *(i for i, _ in walk)] == expected


def test_pages_of_documents(store, rng):
    documents = store.collection("c", 4, "euclidean", keys="int")
    rows = rng.random((100, 4)).astype(np.float32)
    documents.put_many(range(100), rows, [str(i) for i in range(100)],
                       [["even"] if i % 2 == 0 else [] for i in range(100)])
    expected = documents.search(rows[0], 100, labelled="even", payload=True)
    pages = documents.pages(rows[0], 7, labelled="even", payload=True, exact=True)
    first = next(pages)
    documents.delete_where("even")
    pages = [first, *pages]
    assert [len(page) for page in pages] == [7] * 7 + [1]
    assert [hit for page in pages for hit in page] == expected
    assert [hit.key for hit in documents.neighbours(rows[1], within=0.0)] == [1]
    with store.read() as snapshot:
        assert len(list(snapshot[documents].neighbours(rows[1]))) == 50
