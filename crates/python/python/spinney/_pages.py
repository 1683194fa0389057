"""Searches that go on: page by page, or one by one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from typing import Any, TypeVar

import numpy as np

from spinney import _arrays
from spinney._errors import InvalidOptionError
from spinney._native import Hits, IdSet
from spinney._records import Document, DocumentHit

T = TypeVar("T")

_OF_ONE_SEARCH = ("group", "per_group", "report", "threads")


def pages(index: Any, query: Any, page: int, **how: Any) -> Iterator[Hits]:
    """Pages of ``page`` hits, the nearest first, each item once. See ``_pages`` for the cost."""
    query = _checked(index, query, page, how)
    if how.get("allowed") is not None:
        how["allowed"] = IdSet(how["allowed"])
    is_partial = False

    def search(k: int) -> list[tuple[int, float]]:
        nonlocal is_partial
        hits = index.search(query, k, **how)
        is_partial = hits.is_partial
        return list(zip(hits.ids.tolist(), hits.distances.tolist(), strict=True))

    def page_of(hits: list[tuple[int, float]]) -> Hits:
        ids = np.array([id for id, _ in hits], np.int64)
        distances = np.array([distance for _, distance in hits], np.float32)
        return Hits(ids, distances, [len(hits)], is_partial)

    return map(page_of, _pages(search, search(page), lambda hit: hit[0], page))


def neighbours(index: Any, query: Any, **how: Any) -> Iterator[tuple[int, float]]:
    """Neighbours one by one, the nearest first: (id, distance)."""
    found = pages(index, query, 8, **how)
    return (hit for hits in found for hit in zip(hits.ids.tolist(), hits.distances.tolist()))


def document_pages(
    collection: Any, query: Any, page: int, **how: Any
) -> Iterator[list[DocumentHit]]:
    """As ``pages``, for the documents of a collection."""
    query = _checked(collection, query, page, how)

    def search(k: int) -> list[DocumentHit]:
        found: list[DocumentHit] = collection.search(query, k, **how)
        return found

    return _pages(search, search(page), lambda hit: hit.key, page)


def document_neighbours(collection: Any, query: Any, **how: Any) -> Iterator[DocumentHit]:
    """Documents one by one, the nearest first."""
    return (hit for hits in document_pages(collection, query, 8, **how) for hit in hits)


def _checked(of: Any, query: Any, page: int, how: dict[str, Any]) -> np.ndarray:
    """A copy of the query: the caller may change it before the next page."""
    if page < 1:
        raise InvalidOptionError(f"page takes 1 or more, got {page}")
    for name in _OF_ONE_SEARCH:
        if how.get(name) is not None:
            raise TypeError(f"pages and neighbours take no {name}: see search")
    row = _arrays.rows(query, of.dims, bool(how.pop("packed", False)))
    if row.ndim != 1:
        raise TypeError(f"pages and neighbours take one vector, got an array of {row.ndim} axes")
    return row.copy()


def _pages(
    search: Callable[[int], list[T]], found: list[T], key: Callable[[T], Hashable], page: int
) -> Iterator[list[T]]:
    """When the hits of one search have run out, a new one finds twice as many.

    So all of them together take about twice as long as the last one. What the first searches miss
    comes with a later page.
    """
    given: set[Hashable] = set()
    k = page
    while True:
        hits = [hit for hit in found if key(hit) not in given]
        is_last = len(found) < k
        end = len(hits) if is_last else len(hits) // page * page
        for start in range(0, end, page):
            yield hits[start : min(start + page, end)]
        if is_last:
            return
        given.update(map(key, hits[:end]))
        k *= 2
        found = search(k)


def documents(collection: Any, prefix: str | bytes | None) -> Iterator[Document]:
    """The documents whose keys begin with ``prefix``, in order."""
    keys = collection.keys(prefix)
    return (
        document
        for start in range(0, len(keys), 256)
        for document in collection.get_many(keys[start : start + 256])
        if document is not None
    )
