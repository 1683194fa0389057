"""The interface of async-annoy: readers and writers of named indexes, for asyncio.

A reader sees one commit for as long as it is open. A writer never waits for readers, nor they for
it, in this process or in others.

>>> import asyncio, tempfile
>>> from spinney.async_annoy import AsyncAnnoy
>>> async def main() -> list[int]:
...     annoy = AsyncAnnoy("words", dimensions=2, directory=tempfile.mkdtemp())
...     async with annoy.writer() as writer:
...         await writer.add_item(index=0, vector=[1.0, 0.0])
...         await writer.add_item(index=1, vector=[0.0, 1.0])
...     async with annoy.reader() as reader:
...         return await reader.get_neighbours_for(vector=[0.1, 0.9], n=1)
>>> asyncio.run(main())
[1]

Where the arguments leave it open, the environment decides: ``ASYNC_ANNOY_DIMENSIONS`` (384),
``ASYNC_ANNOY_METRIC`` (angular) and ``ASYNC_ANNOY_INDICES_DIRECTORY`` (async_annoy_indices). It is
read when an object is made.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

import spinney
import spinney.aio

__all__ = ["AnnoyReader", "AnnoyWriter", "AsyncAnnoy"]

_METRICS = {
    "angular": "cosine",
    "euclidean": "euclidean",
    "manhattan": "manhattan",
    "hamming": "hamming",
    "dot": "dot",
}
_INDEX = "annoy"


class AsyncAnnoy:
    """A named index: where it is, and what it holds.

    Args:
        name: the name, which is that of a file or folder in ``directory``.
        dimensions: numbers of a vector.
        metric: "angular", "euclidean", "manhattan", "hamming" or "dot".
        directory: where the indexes are.

    Raises:
        ValueError: for an unknown metric, or dimensions that are no number.
    """

    def __init__(
        self,
        name: str,
        *,
        dimensions: int | None = None,
        metric: str | None = None,
        directory: str | os.PathLike[str] | None = None,
    ) -> None:
        env = os.environ.get
        self.name = name
        self.dimensions = (
            int(env("ASYNC_ANNOY_DIMENSIONS", "384")) if dimensions is None else dimensions
        )
        self.metric = metric or env("ASYNC_ANNOY_METRIC", "angular")
        if self.metric not in _METRICS:
            raise ValueError(f"metric takes one of {', '.join(_METRICS)}, got {self.metric!r}")
        self.directory = Path(
            directory or env("ASYNC_ANNOY_INDICES_DIRECTORY") or "async_annoy_indices"
        )

    @property
    def path(self) -> Path:
        """The folder of the index."""
        return self.directory / self.name

    def reader(self) -> AnnoyReader:
        """A reader of what was committed last."""
        return AnnoyReader(self)

    def writer(self, *, keep: bool = False) -> AnnoyWriter:
        """A writer, which begins with an empty index unless ``keep`` says otherwise."""
        return AnnoyWriter(self, keep=keep)


class _Session:
    def __init__(self, name: str | AsyncAnnoy, **options: Any) -> None:
        self.annoy = name if isinstance(name, AsyncAnnoy) else AsyncAnnoy(name, **options)
        self._store: spinney.aio.Store | None = None

    async def _open(self, *, create: bool) -> tuple[spinney.aio.Store, spinney.aio.Index]:
        store = spinney.aio.open(self.annoy.path, create=create)
        await store.__aenter__()
        self._store = store
        try:
            what = (self.annoy.dimensions, _METRICS[self.annoy.metric])
            is_there = _INDEX in store.store.indexes()
            # Without what it is to be, none is made.
            return store, await store.index(_INDEX, *(what if is_there or create else ()))
        except BaseException:
            await store.close()
            raise


class AnnoyReader(_Session):
    """Searches one commit: an async context manager.

    Raises:
        ValueError: on entering, if the index was never written.
        spinney.MismatchError: on entering, if it was written with other dimensions or another
            metric.
    """

    async def __aenter__(self) -> Self:
        try:
            store, index = await self._open(create=False)
        except (spinney.StoreNotFoundError, spinney.NotFoundError):
            raise ValueError(
                f"there is no index {self.annoy.name!r} in {self.annoy.directory}: write it first"
            ) from None
        self._snapshot = store.read()
        try:
            await self._snapshot.__aenter__()
        except BaseException:
            await asyncio.shield(store.close())
            raise
        self._index = self._snapshot[index]
        return self

    async def __aexit__(
        self,
        raised: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._snapshot.__aexit__(raised, error, trace)
        if self._store is not None:
            await self._store.close()

    async def get_neighbours_for(
        self, vector: Sequence[float] | NDArray[Any], n: int = 3
    ) -> list[int]:
        """The ids of the ``n`` items nearest to ``vector``, the nearest first."""
        hits = await self._index.search(vector, n)
        ids: list[int] = hits.ids.tolist()
        return ids

    async def get_vector_by(self, index: int) -> NDArray[np.float32]:
        """The vector of an item: float32, (dimensions,)."""
        return await self._index.vector(index)


class AnnoyWriter(_Session):
    """Writes in one transaction, which commits at the end of its block: an async context manager.

    An exception in the block leaves the index as it was.
    """

    def __init__(self, name: str | AsyncAnnoy, *, keep: bool = False, **options: Any) -> None:
        super().__init__(name, **options)
        self._keep = keep

    async def __aenter__(self) -> Self:
        store, self._index = await self._open(create=True)
        self._txn = store.write()
        try:
            await self._txn.__aenter__()
            if not self._keep:
                await self._txn.clear(self._index)
        except BaseException:
            await asyncio.shield(store.close())
            raise
        return self

    async def __aexit__(
        self,
        raised: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if raised is None:
                await self._txn.build(self._index)
        except BaseException as failed:
            await self._txn.__aexit__(type(failed), failed, None)
            raise
        else:
            await self._txn.__aexit__(raised, error, trace)
        finally:
            if self._store is not None:
                await self._store.close()

    async def add_item(self, index: int, vector: Sequence[float] | NDArray[Any]) -> None:
        """Adds an item, or overwrites it."""
        await self._txn.add(self._index, index, vector)

    async def delete_item(self, index: int) -> bool:
        """Deletes an item. Whether it was there."""
        return bool(await self._txn.delete(self._index, index))
