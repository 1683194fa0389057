"""Searches that go on: page by page, or one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from spinney._native import Hits
from spinney._records import Document


def pages(index: Any, query: Any, page: int, **how: Any) -> Iterator[Hits]:
    """Pages of ``page`` hits, the nearest first, each item once.

    When the hits of one search have run out, a new one finds twice as many, so that all of them
    together take about twice as long as the last one. An item that the first searches miss comes
    with a later page.
    """
    if page < 1:
        raise ValueError(f"page takes 1 or more, got {page}")
    if how.get("group") is not None:
        raise TypeError("pages have no groups: count the hits of each group as they come")
    given = np.empty(0, np.int64)
    k = page
    while True:
        hits = index.search(query, k, **how)
        is_new = np.isin(hits.ids, given, invert=True)
        ids, distances = hits.ids[is_new], hits.distances[is_new]
        is_last = len(hits) < k
        ends = len(ids) if is_last else len(ids) // page * page
        for start in range(0, ends, page):
            part = slice(start, min(start + page, ends))
            counts = [part.stop - part.start]
            yield Hits(ids[part], distances[part], counts, hits.is_partial)
        given = np.concatenate([given, ids[:ends]])
        if is_last:
            return
        k *= 2


def neighbours(index: Any, query: Any, **how: Any) -> Iterator[tuple[int, float]]:
    """Neighbours one by one, the nearest first: (id, distance)."""
    for hits in pages(index, query, 8, **how):
        yield from zip(hits.ids.tolist(), hits.distances.tolist(), strict=True)


def documents(collection: Any, prefix: str | bytes | None) -> Iterator[Document]:
    """The documents whose keys begin with ``prefix``, in order."""
    keys = collection.keys(prefix)
    for start in range(0, len(keys), 256):
        for document in collection.get_many(keys[start : start + 256]):
            if document is not None:
                yield document
