"""Programs as users write them, for the type checker alone."""

from typing import assert_type

import numpy as np
from numpy.typing import NDArray

import spinney
import spinney.aio
import spinney.annoy
import spinney.async_annoy


def native(store: spinney.Store) -> None:
    index = store.index("a", 3, "cosine", storage="f16")
    assert_type(index.add([1, 2], np.zeros((2, 3))), NDArray[np.int64])
    hits = index.search([1.0, 0.0, 0.0], 5, recall=0.99, allowed={1, 2}, timeout=1.5)
    assert_type(hits.ids, NDArray[np.int64])
    assert_type(hits.distances, NDArray[np.float32])
    ids, distances = hits
    del ids, distances
    assert_type(index.ids() & [1, 2], spinney.IdSet)
    assert_type(index[1], NDArray[np.float32])
    with store.write() as txn:
        txn.add(index, None, [[1.0, 0.0, 0.0]])
        assert_type(txn.build(index, seed=3), spinney.BuildStats)
    with store.read() as snapshot:
        assert_type(snapshot[index], spinney.Index)
    for page in index.pages([1.0, 0.0, 0.0], 3, exact=True):
        assert_type(page, spinney.Hits)
    documents = store.collection("c", 3, "cosine", keys="int")
    documents.put(7, [1.0, 0.0, 0.0], {"title": "x"}, ["lang:en"])
    finished = spinney.Labels("lang:en") & ~spinney.Labels("draft")
    for hit in documents.search_key(7, labelled=finished, payload=True):
        assert_type(hit, spinney.DocumentHit)
    assert_type(documents.get(7), spinney.Document | None)
    assert_type(store.stats(), spinney.StoreStats)
    assert_type(store.backup("x", compact=True), spinney.Backup)


async def loops(path: str) -> None:
    async with spinney.aio.open(path) as store:
        index = await store.index("a", 3, "cosine")
        assert_type(await index.search([1.0, 0.0, 0.0]), spinney.Hits)
        async with store.read() as snapshot:
            assert_type(snapshot[index], spinney.aio.Index)
    async with spinney.async_annoy.AnnoyReader("x") as reader:
        assert_type(await reader.get_neighbours_for(vector=[1.0]), list[int])


def annoy(path: str) -> None:
    index = spinney.annoy.AnnoyIndex(3, "angular", updatable=True)
    index.add_item(0, [1.0, 0.0, 0.0])
    assert_type(index.delete_item(0), bool)
    index.build(10, n_jobs=2)
    assert_type(index.get_nns_by_item(0, 3), list[int])
    found = index.get_nns_by_vector([1.0, 0.0, 0.0], 3, include_distances=True)
    assert_type(found, tuple[list[int], list[float]])
    assert_type(index.nns_batch(np.zeros((2, 3)), 3)[0], NDArray[np.int64])
    assert_type(spinney.annoy.convert(path, path, 3, "dot"), spinney.annoy.AnnoyIndex)
    assert_type(spinney.annoy.Index(metric="cosine").clone(f=3), spinney.annoy.Index)
